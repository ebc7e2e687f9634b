//! Balance-shard: the stores of a group hold equally many replicas.

use std::cmp::Reverse;

use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::CONTROLLER;

use super::view::{ClusterView, Condition, Load, ShardView};
use super::{Operator, Reason, Task};

/// A replica moves only to a store that has at least so many fewer. With less the difference would change its sign.
pub(super) const DEAD_BAND: usize = 2;

/// Moves a replica of the shard from the fullest of its stores to the emptiest of its group, if that makes the two more
/// alike and puts no two replicas into a zone that were in different ones.
pub(super) fn check(view: &ClusterView, load: &Load, shard: ShardId, of: &ShardView) -> Option<Operator> {
    let group = load.group_of(view, shard)?;
    let most = of
        .members
        .iter()
        .map(|member| load.replicas(member.store))
        .max()?;
    if most < group.fewest.saturating_add(DEAD_BAND) {
        return None;
    }
    let members: Vec<StoreId> = of.members.iter().map(|member| member.store).collect();
    let is_sound = members
        .iter()
        .all(|store| view.condition(*store) == Condition::Up && group.has(*store));
    if members.len() != group.wanted(view, shard, members.len()) || !is_sound || shard == CONTROLLER {
        return None;
    }
    // One that lags behind is moved rather than another: it loses nothing, and two would be too few.
    let lagging: Vec<StoreId> = of
        .members
        .iter()
        .filter(|member| member.is_pending)
        .map(|member| member.store)
        .collect();
    let mut may_go = match lagging.len() {
        0 => members.clone(),
        1 => lagging,
        _ => return None,
    };
    may_go.sort_by_key(|store| Reverse((load.replicas(*store), *store)));
    may_go.into_iter().find_map(|from| {
        let others: Vec<StoreId> = members.iter().copied().filter(|store| *store != from).collect();
        let can = |store: &StoreId| {
            view.condition(*store) == Condition::Up
                && !members.contains(store)
                && !of.avoid.contains(store)
                && load.replicas(*store) + DEAD_BAND <= load.replicas(from)
                && view.same_zone(*store, &others) <= view.same_zone(from, &others)
        };
        let targets = group.stores.iter().copied().filter(can);
        let to = targets.min_by_key(|store| (load.replicas(*store), *store))?;
        Some(Operator {
            shard,
            epoch: of.epoch,
            task: Task::Members {
                add: vec![to],
                remove: vec![from],
            },
            reason: Reason::Balance,
        })
    })
}
