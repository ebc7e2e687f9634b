//! The first state of a cluster with a static membership: every member writes the same shards, so that their
//! logs agree from the first entry on.
//!
//! All shards start as if a snapshot at [`FIRST`] had been installed: a replica that comes later starts
//! behind it and is therefore always fed a snapshot, never half a state.

use quorate_proto::{Answer, ControlCommand, Epoch, FirstState};
use quorate_raft::{ConfState, HardState, Index, ReplicaId, Term};
use quorate_storage::engine::{Engine, EngineError};
use quorate_storage::log::{LogBatch, LogOp};
use quorate_storage::{ClusterId, ShardId, StoreId};

use crate::descriptor::{Applied, Descriptor, members_only};
use crate::kv::{Space, Txn};
use crate::rsm::{self, CONTROLLER, StateMachine};

/// Position of the initial state of every shard.
pub const FIRST: (Index, Term) = (Index(1), Term(1));

/// Slots of a hash keyspace.
pub const SLOTS: u16 = 16384;

/// A static first membership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bootstrap {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its stores, in ascending order; every one holds a replica of every shard.
    pub stores: Vec<StoreId>,
    /// Data shards, 1 to 16384; shard 0, the controller's, comes on top.
    pub shards: u16,
}

impl Bootstrap {
    /// The shards as `store` holds them. Replica ids count up from 1 over shards, then stores.
    #[must_use]
    pub fn descriptors(&self, store: StoreId) -> Vec<Descriptor> {
        let count = self.stores.len() as u64;
        let bound = |shard: u64| (shard * u64::from(SLOTS) / u64::from(self.shards)) as u16;
        (0..=u64::from(self.shards))
            .filter_map(|shard| {
                let members: Vec<(ReplicaId, StoreId)> = self
                    .stores
                    .iter()
                    .enumerate()
                    .map(|(i, on)| (ReplicaId(shard * count + i as u64 + 1), *on))
                    .collect();
                let replica = members.iter().find(|(_, on)| *on == store)?.0;
                let (start_slot, end_slot) = if shard == 0 {
                    (0, 0)
                } else {
                    (bound(shard - 1), bound(shard))
                };
                Some(Descriptor {
                    shard: ShardId(shard),
                    replica,
                    start_slot,
                    end_slot,
                    epoch: Epoch {
                        conf_ver: 1,
                        version: 1,
                    },
                    conf_state: ConfState {
                        voters: members.iter().map(|(id, _)| *id).collect(),
                        ..ConfState::default()
                    },
                    membership: members_only(members),
                    space: Space(shard as u32 + 1),
                    sessions: Space(shard as u32 + 1),
                    is_shared: false,
                    is_new: false,
                })
            })
            .collect()
    }

    /// What the controller begins with.
    #[must_use]
    pub fn first_state(&self) -> FirstState {
        let replicas = (u64::from(self.shards) + 1) * self.stores.len() as u64;
        let stores = self.stores.iter().map(|store| store.0);
        let greatest = stores.fold(replicas.max(u64::from(self.shards)), u64::max);
        FirstState {
            cluster: self.cluster,
            stores: self.stores.clone(),
            shards: self.shards,
            next_id: greatest + 1,
        }
    }

    /// Writes the first state into an empty engine. The caller makes it durable, then writes
    /// [`Bootstrap::log_batch`] and syncs it, before the store sends its first message (P4). `machine` is the
    /// controller's, in the state before its first command.
    pub fn write<E: Engine>(
        &self,
        engine: &mut E,
        store: StoreId,
        machine: &mut dyn StateMachine,
    ) -> Result<(), EngineError> {
        let mut txn = Txn::new(engine);
        for descriptor in self.descriptors(store) {
            let applied = Applied {
                index: FIRST.0,
                term: FIRST.1,
                stamp_ms: 0,
            };
            for (key, value) in [descriptor.record(), applied.record(descriptor.shard)] {
                txn.put(key, value);
            }
            if descriptor.shard == CONTROLLER {
                let place = (descriptor.shard, descriptor.sessions);
                let begin = ControlCommand::Bootstrap(self.first_state());
                let answer = rsm::apply(&mut txn, machine, place, 0, &begin);
                assert_eq!(answer, Answer::Ok, "the machine's state is empty");
            }
        }
        let batch = txn.into_batch();
        engine.write(batch).map(|_| ())
    }

    /// What the Raft log holds at first.
    #[must_use]
    pub fn log_batch(&self, store: StoreId) -> LogBatch {
        let mut ops = Vec::new();
        for descriptor in self.descriptors(store) {
            let shard = descriptor.shard;
            ops.push(LogOp::Reset {
                shard,
                index: FIRST.0,
                term: FIRST.1,
            });
            ops.push(LogOp::HardState {
                shard,
                replica: descriptor.replica,
                state: HardState {
                    term: FIRST.1,
                    vote: None,
                    commit: FIRST.0,
                },
            });
        }
        LogBatch { ops, sync: true }
    }
}
