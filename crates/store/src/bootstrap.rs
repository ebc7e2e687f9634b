//! The first state of a cluster whose members are listed: every member writes its part of the same shards, so that
//! their logs agree from the first entry on.
//!
//! All shards start as if a snapshot at [`FIRST`] had been installed: a replica that comes later starts
//! behind it and is therefore always fed a snapshot, never half a state.

use std::ops::Range;

use quorate_proto::{Answer, ControlCommand, Epoch, FirstState};
use quorate_raft::{ConfState, HardState, Index, ReplicaId, Term};
use quorate_storage::engine::{Engine, EngineError};
use quorate_storage::log::{LogBatch, LogOp};
use quorate_storage::{ClusterId, ShardId, StoreId};

use crate::descriptor::{Applied, Descriptor, formatted_record, members_only};
use crate::first_placement::first_placement;
use crate::kv::{Space, Txn};
use crate::rsm::{self, CONTROLLER, StateMachine};

/// Position of the initial state of every shard.
pub const FIRST: (Index, Term) = (Index(1), Term(1));

/// Slots of a hash keyspace.
pub const SLOTS: u16 = 16384;

/// The slots of a shard of a cluster that began with so many data shards, counted from 1; none for the controller's.
#[must_use]
pub fn first_slots(shard: ShardId, shards: u16) -> Range<u16> {
    let bound = |shard: u64| (shard * u64::from(SLOTS) / u64::from(shards)) as u16;
    match shard.0 {
        0 => 0..0,
        shard => bound(shard - 1)..bound(shard),
    }
}

/// The first membership of a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bootstrap {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its stores, in ascending order.
    pub stores: Vec<StoreId>,
    /// Data shards, 1 to 16384; shard 0, the controller's, comes on top.
    pub shards: u16,
    /// Replicas of each data shard, 1 to 9; fewer if there are fewer stores. Shard 0 has three, on the first stores.
    pub replicas: u8,
}

impl Bootstrap {
    /// Who holds which shard: the controller's first, then the others in the order of their slots. Replica ids count up
    /// from 1 over shards, then replicas.
    #[must_use]
    pub fn members(&self) -> Vec<Vec<(ReplicaId, StoreId)>> {
        let placed = first_placement(self.stores.len(), self.shards, usize::from(self.replicas));
        let mut last = 0;
        let mut member = |place: usize| {
            last += 1;
            (ReplicaId(last), self.stores[place])
        };
        let placed = placed.into_iter();
        placed
            .map(|places| places.into_iter().map(&mut member).collect())
            .collect()
    }

    /// The shards as `store` holds them.
    #[must_use]
    pub fn descriptors(&self, store: StoreId) -> Vec<Descriptor> {
        (0..)
            .zip(self.members())
            .filter_map(|(shard, members)| {
                let replica = members.iter().find(|(_, on)| *on == store)?.0;
                let slots = first_slots(ShardId(shard), self.shards);
                Some(Descriptor {
                    shard: ShardId(shard),
                    replica,
                    start_slot: slots.start,
                    end_slot: slots.end,
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
        let members = self.members();
        let replicas = members.iter().flatten().map(|(id, _)| id.0);
        let stores = self.stores.iter().map(|store| store.0);
        let greatest = replicas.chain(stores).fold(u64::from(self.shards), u64::max);
        FirstState {
            cluster: self.cluster,
            stores: self.stores.clone(),
            shards: self.shards,
            replicas: self.replicas,
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
        let (key, value) = formatted_record();
        txn.put(key, value);
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
