//! What each command makes of a [`Config`]: the configuration service of the MIT labs (Join, Leave, Move), with splits.

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto::{CommandError, Config, Delta, FirstState, GroupId, Groups, Place, PlacementCommand};
use quorate_raft::mutant;
use quorate_storage::{ShardId, StoreId};
use quorate_store::first_slots;

use crate::balance::balance;
use crate::history::History;
use crate::shard_map::ShardMap;

/// Stores of a group, at most.
pub const GROUP_STORES_MAX: usize = 1_000;
/// Groups, at most.
pub const GROUPS_MAX: usize = 1_000;

/// The group that every store of a new cluster is in.
pub const DEFAULT_GROUP: GroupId = GroupId(1);

/// What a cluster begins with: config 0 has its shards, config 1 the one group that has every store.
pub(crate) fn first_configs(first: &FirstState) -> History {
    let shards = (1..=u64::from(first.shards)).map(ShardId).map(|shard| {
        let slots = first_slots(shard, first.shards);
        let place = Place {
            start_slot: slots.start,
            end_slot: slots.end,
            group: None,
        };
        (shard, place)
    });
    let mut history = History::new(Config {
        shards: shards.collect(),
        ..Config::default()
    });
    let group = BTreeMap::from([(DEFAULT_GROUP, first.stores.iter().copied().collect())]);
    history.push(grouped(history.newest(), &group));
    history
}

/// A node has come with the store role, got it or lost it.
///
/// With the role it is put into the group, if there is but one: whoever has no use for groups need not know of them. A group
/// is of nodes with the role; only while nobody else is there, those without it keep its place, as the first node of a
/// cluster may do.
pub(crate) fn by_role(config: &Config, store: StoreId, has_role: impl Fn(StoreId) -> bool) -> Option<Delta> {
    let mut own = config.groups.iter().filter(|(_, stores)| stores.contains(&store));
    let (group, before) = match (own.next(), config.groups.len()) {
        (Some(own), _) => own,
        (None, 1) if has_role(store) => config.groups.iter().next()?,
        (None, _) => return None,
    };
    let mut stores = before.clone();
    if has_role(store) {
        stores.insert(store);
    }
    if stores.iter().any(|store| has_role(*store)) {
        stores.retain(|store| has_role(*store));
    }
    (stores != *before).then(|| Delta {
        groups: BTreeMap::from([(*group, Some(stores))]),
        ..Delta::default()
    })
}

/// A store is gone for good: its group goes on without it. None if it is in no group.
///
/// # Errors
/// Nobody would be left in the group.
pub(crate) fn removal(config: &Config, store: StoreId) -> Result<Option<Delta>, CommandError> {
    let mut groups = config.groups.iter();
    let Some((group, stores)) = groups.find(|(_, stores)| stores.contains(&store)) else {
        return Ok(None);
    };
    let mut stores = stores.clone();
    stores.remove(&store);
    if stores.is_empty() {
        return Err(CommandError::GroupEmptied);
    }
    Ok(Some(Delta {
        groups: BTreeMap::from([(*group, Some(stores))]),
        ..Delta::default()
    }))
}

/// What the command changes of the config; none: nothing, because it holds already.
///
/// # Errors
/// A command that asks for what cannot be. Nothing changes then.
pub(crate) fn change(config: &Config, command: &PlacementCommand) -> Result<Option<Delta>, CommandError> {
    let delta = match command {
        PlacementCommand::Join(groups) => join(config, groups)?,
        PlacementCommand::Leave(groups) => leave(config, groups)?,
        PlacementCommand::Move { shard, group } => move_shard(config, *shard, *group)?,
        PlacementCommand::Regroup { group, add, remove } => regroup(config, *group, add, remove)?,
        PlacementCommand::Rebalance => Delta {
            shards: shared_out(config, &config.groups),
            ..Delta::default()
        },
        PlacementCommand::Split { parent, child, slot } => split(config, *parent, *child, *slot)?,
    };
    Ok((delta != Delta::default()).then_some(delta))
}

fn join(config: &Config, groups: &Groups) -> Result<Delta, CommandError> {
    if groups.is_empty() || groups.values().any(BTreeSet::is_empty) {
        return Err(CommandError::JoinsNothing);
    }
    if groups
        .iter()
        .all(|(group, stores)| config.groups.get(group) == Some(stores))
    {
        // Asked again.
        return Ok(Delta::default());
    }
    if groups.keys().any(|group| config.groups.contains_key(group)) {
        return Err(CommandError::GroupExists);
    }
    let too_many = groups.len() + config.groups.len() > GROUPS_MAX;
    if too_many
        || groups.keys().any(|group| group.0 == 0)
        || groups.values().any(|of| of.len() > GROUP_STORES_MAX)
    {
        return Err(CommandError::OutOfRange);
    }
    let mut placed: BTreeSet<StoreId> = config.groups.values().flatten().copied().collect();
    let is_free = |store: &StoreId| placed.insert(*store) || mutant!("store-in-two-groups");
    if !groups.values().flatten().all(is_free) {
        return Err(CommandError::StoreElsewhere);
    }
    Ok(grouped(config, groups))
}

/// These groups as well, and everybody gets a share.
fn grouped(config: &Config, groups: &Groups) -> Delta {
    let mut all = config.groups.clone();
    all.extend(groups.clone());
    let shards = if mutant!("join-shares-nothing-out") {
        BTreeMap::new()
    } else {
        shared_out(config, &all)
    };
    Delta {
        shards,
        groups: groups
            .iter()
            .map(|(group, stores)| (*group, Some(stores.clone())))
            .collect(),
    }
}

fn leave(config: &Config, groups: &BTreeSet<GroupId>) -> Result<Delta, CommandError> {
    if groups.is_empty() || !groups.iter().all(|group| config.groups.contains_key(group)) {
        return Err(CommandError::UnknownGroup);
    }
    let mut left = config.groups.clone();
    left.retain(|group, _| !groups.contains(group));
    let shards = if mutant!("leave-keeps-the-owners") {
        BTreeMap::new()
    } else {
        shared_out(config, &left)
    };
    Ok(Delta {
        shards,
        groups: groups.iter().map(|group| (*group, None)).collect(),
    })
}

fn regroup(
    config: &Config,
    group: GroupId,
    add: &BTreeSet<StoreId>,
    remove: &BTreeSet<StoreId>,
) -> Result<Delta, CommandError> {
    let before = config.groups.get(&group).ok_or(CommandError::UnknownGroup)?;
    let is_elsewhere = |store: &StoreId| {
        let mut others = config.groups.iter().filter(|(other, _)| **other != group);
        others.any(|(_, stores)| stores.contains(store))
    };
    if add.iter().any(is_elsewhere) {
        return Err(CommandError::StoreElsewhere);
    }
    if !add.is_disjoint(remove) || before.len() + add.len() > GROUP_STORES_MAX {
        return Err(CommandError::OutOfRange);
    }
    let stores: BTreeSet<StoreId> = before
        .union(add)
        .filter(|store| !remove.contains(store))
        .copied()
        .collect();
    if stores.is_empty() {
        return Err(CommandError::GroupEmptied);
    }
    let mut delta = Delta::default();
    if stores != *before {
        delta.groups.insert(group, Some(stores));
    }
    Ok(delta)
}

fn move_shard(config: &Config, shard: ShardId, group: GroupId) -> Result<Delta, CommandError> {
    let place = config.shards.get(&shard).ok_or(CommandError::UnknownShard)?;
    if !config.groups.contains_key(&group) {
        return Err(CommandError::UnknownGroup);
    }
    let mut delta = Delta::default();
    if place.group != Some(group) {
        let group = Some(group);
        delta.shards.insert(shard, Place { group, ..*place });
    }
    Ok(delta)
}

fn split(config: &Config, parent: ShardId, child: ShardId, slot: u16) -> Result<Delta, CommandError> {
    let place = config.shards.get(&parent).ok_or(CommandError::UnknownShard)?;
    if let Some(known) = config.shards.get(&child) {
        // Told again. The child may have been split since, the parent too.
        let is_told_again = known.start_slot == slot;
        return is_told_again
            .then(Delta::default)
            .ok_or(CommandError::SlotNotInside);
    }
    if slot <= place.start_slot || place.end_slot <= slot {
        return Err(CommandError::SlotNotInside);
    }
    let left = Place {
        end_slot: slot,
        ..*place
    };
    let right = Place {
        start_slot: slot,
        group: place.group.filter(|_| !mutant!("split-off-without-a-group")),
        ..*place
    };
    Ok(Delta {
        shards: BTreeMap::from([(parent, left), (child, right)]),
        ..Delta::default()
    })
}

/// Splits that were heard of and that the config does not know: what became of a part of a shard's slots.
///
/// In whatever order splits are heard, each takes its slots from the shard that has them by the config so far: what it
/// was split from, or what that was split from.
pub(crate) fn unrecorded(config: &Config, map: &ShardMap) -> Vec<PlacementCommand> {
    if mutant!("split-not-recorded") {
        return Vec::new();
    }
    let heard = map.all().map(|known| &known.last);
    let new =
        heard.filter(|last| last.start_slot < last.end_slot && !config.shards.contains_key(&last.shard));
    let split = |child: &quorate_proto::ShardHeartbeat| {
        let is_around =
            |place: &Place| place.start_slot < child.start_slot && child.end_slot <= place.end_slot;
        let mut parents = config.shards.iter();
        let (parent, _) = parents.find(|(_, place)| is_around(place))?;
        Some(PlacementCommand::Split {
            parent: *parent,
            child: child.shard,
            slot: child.start_slot,
        })
    };
    new.filter_map(split).collect()
}

/// The new places of the shards that change their group when these groups share them out.
fn shared_out(config: &Config, groups: &Groups) -> BTreeMap<ShardId, Place> {
    let ids: Vec<GroupId> = groups.keys().copied().collect();
    let owners = config
        .shards
        .iter()
        .map(|(shard, place)| (*shard, place.group))
        .collect();
    let mut moves: BTreeMap<ShardId, Option<GroupId>> = balance(&ids, &owners)
        .into_iter()
        .map(|(shard, group)| (shard, Some(group)))
        .collect();
    if ids.is_empty() {
        let owned = owners.iter().filter(|(_, group)| group.is_some());
        moves = owned.map(|(shard, _)| (*shard, None)).collect();
    }
    moves
        .into_iter()
        .filter_map(|(shard, group)| {
            Some((
                shard,
                Place {
                    group,
                    ..*config.shards.get(&shard)?
                },
            ))
        })
        .collect()
}
