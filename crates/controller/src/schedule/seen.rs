//! From what the controller's leader has decided and heard to what the schedulers look at.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_proto::{Config, MemberRole, ShardHeartbeat, StoreState};
use quorate_storage::StoreId;

use super::view::{ClusterView, Condition, MemberView, ShardView, StoreView};
use crate::liveness::Liveness;
use crate::shard_map::ShardMap;

/// A store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// It is to be emptied.
    pub is_draining: bool,
    /// What fails together with it; empty: a zone of its own.
    pub zone: Bytes,
    /// It may hold the controller's shard.
    pub controls: bool,
}

/// What is decided.
#[derive(Clone, Debug)]
pub struct Cluster<'a> {
    /// Which group is to hold which shard.
    pub config: &'a Config,
    /// Replicas that a shard is to have.
    pub replicas: usize,
    /// Every store with an id of the cluster, but for those that were removed.
    pub stores: BTreeMap<StoreId, Kept>,
    /// Microseconds of silence after which a store is replaced.
    pub replace_after_us: u64,
}

/// The cluster as it is decided and as it was heard.
#[must_use]
pub fn seen(now_us: u64, cluster: &Cluster<'_>, map: &ShardMap, liveness: &Liveness) -> ClusterView {
    let condition = |store: StoreId, kept: &Kept| {
        let is_fit = liveness
            .last(store)
            .is_some_and(|last| !last.is_full && !last.is_slow);
        match liveness.state(now_us, store) {
            _ if liveness.silent_us(now_us, store) >= cluster.replace_after_us => Condition::Down,
            _ if kept.is_draining => Condition::Draining,
            StoreState::Up if is_fit => Condition::Up,
            StoreState::Up | StoreState::Unheard | StoreState::Down => Condition::Away,
        }
    };
    let view = |(store, kept): (&StoreId, &Kept)| {
        let view = StoreView {
            condition: condition(*store, kept),
            zone: kept.zone.clone(),
            controls: kept.controls,
        };
        (*store, view)
    };
    let is_silent = |store: StoreId| liveness.state(now_us, store) != StoreState::Up;
    let shards = map.all().filter_map(|known| {
        let last = &known.last;
        let mut view = shard_view(last, known.load)?;
        view.is_resting = is_silent(view.leader);
        Some((last.shard, view))
    });
    ClusterView {
        config: cluster.config.clone(),
        replicas: cluster.replicas,
        stores: cluster.stores.iter().map(view).collect(),
        shards: shards.collect::<BTreeMap<_, _>>(),
    }
}

fn shard_view(last: &ShardHeartbeat, load: u64) -> Option<ShardView> {
    let stays = last
        .members
        .iter()
        .filter(|member| member.role != MemberRole::Outgoing);
    let member = |member: &quorate_proto::ShardMember| MemberView {
        store: member.store,
        is_pending: member.is_pending,
        is_joining: matches!(member.role, MemberRole::Learner | MemberRole::Incoming),
    };
    Some(ShardView {
        epoch: last.epoch,
        leader: last.leader_store()?,
        members: stays.map(member).collect(),
        is_changing: last.members.iter().any(|member| member.role != MemberRole::Voter),
        load,
        is_resting: false,
        avoid: BTreeSet::new(),
    })
}

/// Whether enough was heard in this reign to plan by: every slot and the controller's own shard. Who has been silent for
/// so long as to be taken for down had its chance, and a shard that lost its majority does not stop what can be done for
/// the others.
#[must_use]
pub(crate) fn is_warm(reigned_us: u64, map: &ShardMap) -> bool {
    reigned_us >= WARM_UP_US || map.is_complete()
}

/// Microseconds after which the controller's leader plans whatever it has not heard.
const WARM_UP_US: u64 = 3 * crate::liveness::DOWN_AFTER_US;
