//! The replica checker: every shard has as many replicas as it is to have, on stores of its group that are there.

use quorate_raft::mutant;
use quorate_storage::{ShardId, StoreId};

use super::view::{ClusterView, Condition, Load, ShardView};
use super::{Operator, Reason, Task};

/// What is to be done about a shard, if anything. A shard that is wrong in several ways is put right at once, as far as
/// there are stores for it; a replica goes only if another one is there or comes in its place.
pub(super) fn check(view: &ClusterView, load: &Load, shard: ShardId, of: &ShardView) -> Option<Operator> {
    let group = load.group_of(view, shard)?;
    let members: Vec<StoreId> = of.members.iter().map(|member| member.store).collect();
    let wanted = group.wanted(view, shard, members.len());
    let is_in_group = |store: StoreId| group.has(store);
    // What a member that is to go gives as the reason.
    let fault = |store: StoreId| match view.condition(store) {
        Condition::Down => Some(Reason::Down),
        Condition::Draining => Some(Reason::Draining),
        Condition::Up | Condition::Away => {
            (!is_in_group(store) && !mutant!("misplaced-replica-stays")).then_some(Reason::Misplaced)
        }
    };
    let (mut remove, mut stays): (Vec<StoreId>, Vec<StoreId>) =
        members.iter().partition(|store| fault(**store).is_some());
    let mut add = Vec::new();
    while stays.len() < wanted {
        let Some(best) = best_target(view, load, of, &group.stores, &stays) else {
            break;
        };
        stays.push(best);
        add.push(best);
    }
    let mut reason = remove.first().and_then(|store| fault(*store));
    // There are too few stores: what has to go but can still serve is kept in the place of what lacks. What is in the
    // wrong group goes last only if its place is taken.
    let lacks = wanted.saturating_sub(stays.len());
    let mut keep: Vec<StoreId> = remove.clone();
    keep.sort_by_key(|store| {
        (
            view.condition(*store) == Condition::Down,
            !is_in_group(*store),
            *store,
        )
    });
    keep.truncate(lacks);
    remove.retain(|store| !keep.contains(store));
    stays.extend(keep);
    while stays.len() > wanted {
        let worst = worst_member(view, load, &stays, of)?;
        stays.retain(|store| *store != worst);
        remove.push(worst);
        reason = reason.or(Some(Reason::Extra));
    }
    if add.is_empty() && remove.is_empty() {
        return None;
    }
    // Nothing comes in the place of what goes: those that stay must be able to do without it.
    let is_sound = |store: &StoreId| {
        !of.lags(*store) && matches!(view.condition(*store), Condition::Up | Condition::Draining)
    };
    if add.is_empty() && !stays.iter().all(is_sound) {
        return None;
    }
    Some(Operator {
        shard,
        epoch: of.epoch,
        task: Task::Members { add, remove },
        reason: reason.unwrap_or(Reason::Missing),
    })
}

/// The store of the group that takes another replica best: one that did not fail to lately, then in a zone of its own,
/// then with the fewest replicas.
fn best_target(
    view: &ClusterView,
    load: &Load,
    of: &ShardView,
    group: &[StoreId],
    stays: &[StoreId],
) -> Option<StoreId> {
    let can = |store: &StoreId| {
        let is_member = of.members.iter().any(|member| member.store == *store);
        let takes = view.condition(*store) == Condition::Up
            || view.condition(*store) == Condition::Draining && mutant!("replica-for-a-store-that-drains");
        takes && !is_member && !stays.contains(store)
    };
    let targets = group.iter().copied().filter(can);
    targets.min_by_key(|store| {
        (
            of.avoid.contains(store),
            view.same_zone(*store, stays),
            load.replicas(*store),
            *store,
        )
    })
}

/// The member that is missed least: one that is away, then one that lags behind, then one whose zone has others, then
/// one on the store with the most replicas; the leader last of all.
fn worst_member(view: &ClusterView, load: &Load, stays: &[StoreId], of: &ShardView) -> Option<StoreId> {
    stays.iter().copied().max_by_key(|store| {
        (
            *store != of.leader,
            view.condition(*store) != Condition::Up,
            of.lags(*store),
            view.same_zone(*store, stays),
            load.replicas(*store),
            *store,
        )
    })
}
