//! Balance-leader: the stores of a group lead equally many shards, by number and not by size.
//!
//! What is asked of the shards goes before (`hot_shards.rs`), however many that makes.

use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::CONTROLLER;

use super::balance_shards::DEAD_BAND;
use super::hot_shards::is_bearable;
use super::view::{ClusterView, Condition, Load, ShardView};
use super::{Operator, Reason, Task};

/// Members that could lead the shard instead.
pub(super) fn targets(view: &ClusterView, of: &ShardView) -> impl Iterator<Item = StoreId> {
    let can = move |store: &StoreId| {
        view.condition(*store) == Condition::Up && *store != of.leader && !of.avoid.contains(store)
    };
    let members = of.members.iter().filter(|member| !member.is_pending);
    members.map(|member| member.store).filter(can)
}

/// Another member leads, if the leader's store leads more than that of another; or if it is to be emptied.
pub(super) fn check(view: &ClusterView, load: &Load, shard: ShardId, of: &ShardView) -> Option<Operator> {
    let to: StoreId = targets(view, of).min_by_key(|store| (load.leaders(*store), *store))?;
    let is_leaving = view.condition(of.leader) == Condition::Draining;
    // Whoever leads the controller next hears all anew: that is not worth a lead more or less.
    let is_uneven = load.leaders(to) + DEAD_BAND <= load.leaders(of.leader)
        && shard != CONTROLLER
        && is_bearable(load, of, to);
    (is_leaving || is_uneven).then_some(Operator {
        shard,
        epoch: of.epoch,
        task: Task::Leader { to },
        reason: if is_leaving {
            Reason::Draining
        } else {
            Reason::Balance
        },
    })
}
