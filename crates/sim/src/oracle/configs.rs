//! Configs (design, section 6): numbered without gaps and never changed, every slot in one shard and every shard in one
//! group, no store in two. What `Join` and `Leave` make is balanced, with the fewest moves. A store that was removed stays
//! so.
//!
//! The oracle sees the controller's state whenever a command that may change it was applied for the first time anywhere.

use std::collections::{BTreeMap, BTreeSet};

use quorate_controller::Controller;
use quorate_proto::{Command, Config, ControlCommand, Delta, GroupId, Op, Service};
use quorate_raft::{Entry, Payload};
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::{CONTROLLER, StateMachine as _};
use quorate_store::{Bootstrap, SLOTS};

use super::Violation;
use crate::placement::PlacementCounts;

const FIXED: &str = "a config never changes, and the next one has the next number";
const WHOLE: &str = "in a config every slot has one shard, every shard one group, every store at most one";
const BALANCED: &str = "join and leave balance, with the fewest moves";
const GONE: &str = "a store that was removed stays so";

/// What the controller decided so far.
#[derive(Debug, Default)]
pub(crate) struct Configs {
    known: Controller,
    /// By number.
    all: Vec<Config>,
}

/// Whether an entry of the controller's shard may change what is decided.
pub(crate) fn decides(shard: ShardId, entry: &Entry) -> bool {
    let Payload::Normal(data) = &entry.payload else {
        return false;
    };
    if shard != CONTROLLER || data.is_empty() {
        return false;
    }
    let command = Command::decode(data).map(|command| command.op);
    matches!(command, Ok(Op::Control(command)) if matches!(
        *command,
        ControlCommand::Place(_) | ControlCommand::Admit(_) | ControlCommand::SetStore { .. }
    ))
}

impl Configs {
    /// The cluster begins.
    pub(crate) fn begins(&mut self, bootstrap: &Bootstrap) {
        let begin = ControlCommand::Bootstrap(bootstrap.first_state());
        self.known.apply(0, &begin, &mut Vec::new());
        let history = self.known.history();
        self.all = (0..=history.newest().num)
            .map(|num| history.query(num as i64))
            .collect();
    }

    /// The config of a number, and the newest for any that there is none of.
    pub(crate) fn of(&self, num: i64) -> &Config {
        let known = usize::try_from(num).ok().and_then(|num| self.all.get(num));
        known.unwrap_or(self.newest())
    }

    /// The newest config.
    pub(crate) fn newest(&self) -> &Config {
        self.known.history().newest()
    }

    /// What a store is used for.
    pub(crate) fn service(&self, store: StoreId) -> Service {
        self.known.service(store)
    }

    /// What the controller's state is now. Returns the stores that were removed since.
    pub(crate) fn seen(
        &mut self,
        now: Controller,
        counts: &mut PlacementCounts,
    ) -> Result<Vec<StoreId>, Violation> {
        let (before, after) = (self.known.history().deltas(), now.history().deltas());
        if !after.starts_with(before) {
            let detail = format!("{after:?} after {before:?}");
            return Err(Violation::new(FIXED, detail));
        }
        let mut config = self.newest().clone();
        let mut all = Vec::new();
        for delta in &after[before.len()..] {
            let earlier = config.clone();
            config.change(delta);
            check_next(&earlier, delta, &config, counts)?;
            all.push(config.clone());
        }
        if config != *now.history().newest() {
            let detail = format!("{:?}, and the deltas come to {config:?}", now.history().newest());
            return Err(Violation::new(FIXED, detail));
        }
        for store in self.known.stores().keys().chain(now.stores().keys()) {
            let (was, is) = (self.known.service(*store), now.service(*store));
            if was == Service::Removed && is != was {
                return Err(Violation::new(GONE, format!("store {store} is {is:?}")));
            }
            if is == Service::Removed && config.groups.values().any(|stores| stores.contains(store)) {
                return Err(Violation::new(
                    GONE,
                    format!("store {store} is in a group: {config:?}"),
                ));
            }
        }
        let mut removed = Vec::new();
        for store in now.stores().keys() {
            match (self.known.service(*store), now.service(*store)) {
                (Service::Active, Service::Draining) => counts.drains += 1,
                (was, Service::Removed) if was != Service::Removed => {
                    counts.removals += 1;
                    removed.push(*store);
                }
                _ => {}
            }
        }
        self.known = now;
        self.all.append(&mut all);
        Ok(removed)
    }
}

/// A config and what it became.
fn check_next(
    earlier: &Config,
    delta: &Delta,
    config: &Config,
    counts: &mut PlacementCounts,
) -> Result<(), Violation> {
    if config.num != earlier.num + 1 {
        let detail = format!("{} after {}", config.num, earlier.num);
        return Err(Violation::new(FIXED, detail));
    }
    check_whole(config)?;
    let comes = |group: &&GroupId| !earlier.groups.contains_key(*group);
    let goes = |group: &&GroupId| !config.groups.contains_key(*group);
    let joins = config.groups.keys().filter(comes).count();
    let leaves = earlier.groups.keys().filter(goes).count();
    let moved = config.shards.iter().filter(|(shard, place)| {
        let before = earlier.shards.get(shard);
        before.is_some_and(|before| before.group != place.group)
    });
    let moved = moved.count();
    let is_split = config.shards.len() > earlier.shards.len();
    counts.joins += u64::from(joins > 0);
    counts.leaves += u64::from(leaves > 0);
    counts.moves += moved as u64;
    counts.regroups += u64::from(joins + leaves == 0 && !delta.groups.is_empty());
    // Several shards change their group at once only to be balanced.
    if (joins + leaves > 0 || moved > 1) && !is_split {
        return check_balanced(earlier, config, moved);
    }
    let is_one = usize::from(!delta.groups.is_empty()) + moved + usize::from(is_split) == 1;
    let inherits = |(shard, place): (&ShardId, &quorate_proto::Place)| {
        let mut parents = earlier.shards.values();
        earlier.shards.contains_key(shard)
            || parents.any(|parent| {
                let around = parent.start_slot..parent.end_slot;
                around.contains(&place.start_slot) && parent.group == place.group
            })
    };
    if is_one && config.shards.iter().all(inherits) {
        return Ok(());
    }
    let detail = format!("{delta:?} of {earlier:?}");
    Err(Violation::new("a config changes one thing", detail))
}

fn check_whole(config: &Config) -> Result<(), Violation> {
    let broken = |what: &str| Err(Violation::new(WHOLE, format!("{what}: {config:?}")));
    let mut runs: Vec<(u16, u16)> = config
        .shards
        .values()
        .map(|place| (place.start_slot, place.end_slot))
        .collect();
    runs.sort_unstable();
    let end = runs.iter().try_fold(0, |end, (start, next)| {
        (*start == end && next > start).then_some(*next)
    });
    if end != Some(SLOTS) {
        return broken("slots");
    }
    let owners = config.shards.values().map(|place| place.group);
    let is_owned = |group: Option<GroupId>| group.is_some_and(|group| config.groups.contains_key(&group));
    if !config.groups.is_empty() && !owners.clone().all(is_owned) {
        return broken("owners");
    }
    let mut placed = BTreeSet::new();
    let mut stores = config.groups.values().flatten();
    if !stores.all(|store| placed.insert(*store)) || config.groups.values().any(BTreeSet::is_empty) {
        return broken("stores");
    }
    Ok(())
}

/// `max - min <= 1`, and no shard moves that need not.
fn check_balanced(earlier: &Config, config: &Config, moved: usize) -> Result<(), Violation> {
    let count = |config: &Config| {
        let mut counts: BTreeMap<GroupId, usize> = BTreeMap::new();
        for group in config.shards.values().filter_map(|place| place.group) {
            *counts.entry(group).or_default() += 1;
        }
        counts
    };
    let (had, has) = (count(earlier), count(config));
    let of = |counts: &BTreeMap<GroupId, usize>, group: &GroupId| counts.get(group).copied().unwrap_or(0);
    let shares: Vec<usize> = config.groups.keys().map(|group| of(&has, group)).collect();
    let spread = shares.iter().max().unwrap_or(&0) - shares.iter().min().unwrap_or(&0);
    // Whoever had most keeps the larger shares.
    let mut before: Vec<usize> = config.groups.keys().map(|group| of(&had, group)).collect();
    before.sort_unstable_by(|a, b| b.cmp(a));
    let (shards, groups) = (config.shards.len(), before.len().max(1));
    let keeps = |(nth, had): (usize, &usize)| {
        let share = shards / groups + usize::from(nth < shards % groups);
        (*had).min(share)
    };
    let kept: usize = before.iter().enumerate().map(keeps).sum();
    if spread > 1 || moved != shards - kept {
        let detail = format!(
            "{had:?} became {has:?} with {moved} moves, {} would do",
            shards - kept
        );
        return Err(Violation::new(BALANCED, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use quorate_proto::{Place, PlacementCommand};
    use quorate_storage::ClusterId;

    use super::*;

    fn begun() -> Configs {
        let mut configs = Configs::default();
        configs.begins(&Bootstrap {
            cluster: ClusterId(1),
            stores: (1..=4).map(StoreId).collect(),
            shards: 4,
            replicas: 3,
        });
        configs
    }

    fn place(controller: &mut Controller, command: PlacementCommand) {
        let before = controller.history().newest().num;
        controller.apply(0, &ControlCommand::Place(command), &mut Vec::new());
        assert_eq!(controller.history().newest().num, before + 1);
    }

    fn parted() -> Controller {
        let mut controller = begun().known;
        let remove = BTreeSet::from([StoreId(3), StoreId(4)]);
        let group = GroupId(1);
        let add = BTreeSet::new();
        place(&mut controller, PlacementCommand::Regroup { group, add, remove });
        controller
    }

    #[test]
    fn what_the_controller_does_is_right_and_counted() {
        let mut controller = parted();
        let joins = BTreeMap::from([(GroupId(2), BTreeSet::from([StoreId(3)]))]);
        place(&mut controller, PlacementCommand::Join(joins));
        let (shard, group) = (ShardId(1), GroupId(2));
        let to = controller.history().newest().shards[&shard].group;
        let group = if to == Some(group) { GroupId(1) } else { group };
        place(&mut controller, PlacementCommand::Move { shard, group });
        place(
            &mut controller,
            PlacementCommand::Leave(BTreeSet::from([GroupId(1)])),
        );
        let mut counts = PlacementCounts::default();
        begun().seen(controller, &mut counts).unwrap();
        assert_eq!((counts.joins, counts.leaves, counts.regroups), (1, 1, 1));
        assert!(counts.moves >= 4, "{counts:?}");
    }

    #[test]
    fn a_config_that_is_replaced_is_found() {
        let mut configs = begun();
        configs.seen(parted(), &mut PlacementCounts::default()).unwrap();
        let found = configs.seen(begun().known, &mut PlacementCounts::default());
        assert_eq!(found.unwrap_err().property, FIXED);
    }

    #[test]
    fn uneven_shares_and_needless_moves_are_found() {
        let mut earlier = begun().newest().clone();
        let groups = [(GroupId(2), Some(BTreeSet::from([StoreId(9)])))];
        let to = |shards: &[u64]| Delta {
            groups: groups.clone().into(),
            shards: shards
                .iter()
                .map(|shard| {
                    let place = begun().newest().shards[&ShardId(*shard)];
                    let group = Some(GroupId(2));
                    (ShardId(*shard), Place { group, ..place })
                })
                .collect(),
        };
        for (shards, is_right) in [(&[1, 2][..], true), (&[1], false), (&[1, 2, 3], false)] {
            let mut config = earlier.clone();
            config.change(&to(shards));
            let found = check_next(&earlier, &to(shards), &config, &mut PlacementCounts::default());
            assert_eq!(found.is_ok(), is_right, "{shards:?}: {found:?}");
        }
        // Two are there already, and change places with the others.
        earlier.change(&to(&[1, 2]));
        let mut swapped = earlier.clone();
        for (shard, group) in [(1, 1), (3, 2)] {
            let place = swapped.shards.get_mut(&ShardId(shard)).unwrap();
            place.group = Some(GroupId(group));
        }
        assert_eq!(
            check_balanced(&earlier, &swapped, 2).unwrap_err().property,
            BALANCED
        );
    }

    #[test]
    fn a_shard_without_a_group_and_a_store_in_two_are_found() {
        let whole = begun().newest().clone();
        assert_eq!(check_whole(&whole), Ok(()));
        let mut unowned = whole.clone();
        unowned.shards.get_mut(&ShardId(2)).unwrap().group = None;
        let mut twice = whole.clone();
        twice.groups.insert(GroupId(7), BTreeSet::from([StoreId(1)]));
        let mut hole = whole.clone();
        hole.shards.remove(&ShardId(3));
        for wrong in [unowned, twice, hole] {
            assert_eq!(check_whole(&wrong).unwrap_err().property, WHOLE);
        }
    }
}
