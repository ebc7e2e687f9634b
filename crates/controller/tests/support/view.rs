//! Clusters as the schedulers see them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_controller::{ClusterView, Condition, MemberView, Operator, ShardView, StoreView, Task};
use quorate_proto::{Config, Epoch, GroupId, Place};
use quorate_storage::{ShardId, StoreId};

/// A cluster with one group of stores 1 to `stores`, all up, and no shards.
pub(crate) fn cluster(stores: u64, replicas: usize) -> ClusterView {
    let ids = 1..=stores;
    let store = StoreView {
        condition: Condition::Up,
        zone: Bytes::new(),
        controls: true,
    };
    ClusterView {
        config: Config {
            num: 1,
            groups: BTreeMap::from([(GroupId(1), ids.clone().map(StoreId).collect())]),
            shards: BTreeMap::new(),
        },
        replicas,
        stores: ids.map(|id| (StoreId(id), store.clone())).collect(),
        shards: BTreeMap::new(),
    }
}

/// One more shard, on these stores; the first leads.
pub(crate) fn add_shard(view: &mut ClusterView, stores: &[u64]) -> ShardId {
    let shard = ShardId(view.shards.len() as u64 + 1);
    let place = Place {
        start_slot: 0,
        end_slot: 0,
        group: Some(GroupId(1)),
    };
    let member = |id: &u64| MemberView {
        store: StoreId(*id),
        is_pending: false,
        is_joining: false,
    };
    let of = ShardView {
        epoch: Epoch {
            conf_ver: 1,
            version: 1,
        },
        leader: StoreId(stores[0]),
        members: stores.iter().map(member).collect(),
        is_changing: false,
        load: 0,
        is_resting: false,
        avoid: BTreeSet::new(),
    };
    view.config.shards.insert(shard, place);
    view.shards.insert(shard, of);
    shard
}

pub(crate) fn set_condition(view: &mut ClusterView, store: u64, state: Condition) {
    view.stores.get_mut(&StoreId(store)).unwrap().condition = state;
}

/// What the leaders make of the orders.
pub(crate) fn carry_out(view: &mut ClusterView, operators: Vec<Operator>) {
    for operator in operators {
        let of = view.shards.get_mut(&operator.shard).unwrap();
        assert_eq!(operator.epoch, of.epoch);
        match operator.task {
            Task::Members { add, remove } => {
                of.epoch.conf_ver += 1;
                of.members.retain(|member| !remove.contains(&member.store));
                of.members.extend(add.iter().map(|store| MemberView {
                    store: *store,
                    is_pending: false,
                    is_joining: false,
                }));
                assert!(!of.members.is_empty());
                if remove.contains(&of.leader) {
                    of.leader = of.members[0].store;
                }
            }
            Task::Leader { to } => {
                let mut members = of.members.iter();
                assert!(members.any(|member| member.store == to && !member.is_pending));
                of.leader = to;
            }
        }
    }
}

/// Replicas by store.
pub(crate) fn held(view: &ClusterView) -> BTreeMap<u64, usize> {
    let mut held: BTreeMap<u64, usize> = view.stores.keys().map(|store| (store.0, 0)).collect();
    for member in view.shards.values().flat_map(|shard| &shard.members) {
        *held.entry(member.store.0).or_default() += 1;
    }
    held
}

pub(crate) fn led(view: &ClusterView) -> BTreeMap<u64, usize> {
    let mut led: BTreeMap<u64, usize> = view.stores.keys().map(|store| (store.0, 0)).collect();
    for shard in view.shards.values() {
        *led.entry(shard.leader.0).or_default() += 1;
    }
    led
}
