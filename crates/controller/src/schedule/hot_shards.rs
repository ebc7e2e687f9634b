//! Hot-shard: no store of a group serves much more than another, as far as that lies with who leads what.
//!
//! Shards are alike in number and not in what is asked of them. A shard that is asked for much goes to a store that has
//! clearly less to do even with it; the way back would then make it worse, so that nothing goes to and fro. A shard that
//! alone outweighs all others stays where it is: what helps there is a split.

use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::CONTROLLER;

use super::view::{ClusterView, Load, ShardView};
use super::{Operator, Reason, Task, balance_leaders};

/// Operations per second from which on a shard is placed by them.
const HOT: u64 = 500;
/// Below so many they do not matter.
const COLD: u64 = HOT / 2;
/// The difference that is left alone: an eighth of what the busier store serves.
const DEAD_BAND: u64 = 8;

/// Whether a store has clearly less to do with the shard than the leader's has now; or the shard makes no difference.
pub(super) fn is_bearable(load: &Load, of: &ShardView, to: StoreId) -> bool {
    let before = load.served(of.leader);
    let after = load.served(to).saturating_add(of.load);
    of.load < COLD || after <= before - before / DEAD_BAND
}

/// Another member leads, if that one can bear it.
pub(super) fn check(view: &ClusterView, load: &Load, shard: ShardId, of: &ShardView) -> Option<Operator> {
    if of.load < HOT || shard == CONTROLLER {
        return None;
    }
    let targets = balance_leaders::targets(view, of);
    let to: StoreId = targets.min_by_key(|store| (load.served(*store), *store))?;
    is_bearable(load, of, to).then_some(Operator {
        shard,
        epoch: of.epoch,
        task: Task::Leader { to },
        reason: Reason::Hot,
    })
}
