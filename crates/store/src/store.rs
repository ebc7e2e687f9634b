//! The node: shards' replicas, driven by inputs, giving effects.
//!
//! A driver feeds inputs with [`Store::handle`], then ends its turn with [`Store::advance`] (messages and log
//! writes) and [`Store::apply`] (answers); it sends what the first gave before it calls the second, so that
//! followers work while the leader applies, and syncs the log after both.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_proto::{Outcome, PeerMessage, Response, SessionRefusal, ShardInfo, UnknownReason};
use quorate_raft::{Buffers, Entry, mutant};
use quorate_storage::engine::{BatchSeq, Engine, WriteBatch};
use quorate_storage::log::LogOp;
use quorate_storage::{ClusterId, Identity, Incarnation, ShardId, StoreId};

use crate::counters::Counters;
use crate::descriptor;
use crate::error::StoreError;
use crate::gateway::Gateway;
use crate::health::Health;
use crate::heartbeats::Heartbeats;
use crate::io::{Effects, Input, PeerTable, StoreOptions, Times};
use crate::lifecycle::Erasing;
use crate::replica::{Replica, Waiter};
use crate::router::Router;
use crate::rsm::StateMachine;
use crate::scheduler_worker::{Purpose, SchedulerWorker};
use crate::snapshot::Receiving;
use crate::snapshot_send::Sending;
use crate::snapshot_source::{Asked, Waiting};
use crate::space::Garbage;
use crate::survey::Survey;
use crate::tombstone::Tombstone;
use crate::{ClientOutcome, Refusal};

/// One node's shards.
pub struct Store<E: Engine> {
    pub(crate) identity: Identity,
    /// Unique per process, so that ids made by an earlier one are never mistaken for ours (R1).
    pub(crate) process: u64,
    pub(crate) options: StoreOptions,
    pub(crate) engine: E,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) router: Router,
    pub(crate) gateway: Gateway,
    /// The controller, if a replica of shard 0 is here.
    pub(crate) machine: Box<dyn StateMachine>,
    pub(crate) scheduler_worker: SchedulerWorker,
    pub(crate) peers: PeerTable,
    pub(crate) health: Health,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) survey: Option<Survey>,
    pub(crate) started_us: u64,
    pub(crate) ticks: u64,
    pub(crate) shutting_down: bool,
    pub(crate) next_read: u64,
    pub(crate) counters: Counters,

    pub(crate) dirty: Vec<usize>,
    /// Committed entries handed out by the cores in this turn.
    pub(crate) to_apply: Vec<(usize, Vec<Entry>)>,
    /// Vectors that the cores fill again.
    pub(crate) buffers: Buffers,
    pub(crate) last_token: u64,
    /// Log operations that a tick or an opening added; they go with the next write.
    pub(crate) log_ops: Vec<LogOp>,
    pub(crate) durable_batch: BatchSeq,
    pub(crate) durable_asked: BatchSeq,
    pub(crate) out: Effects,

    pub(crate) sending: BTreeMap<(ShardId, quorate_raft::ReplicaId), Sending<E::Snapshot>>,
    pub(crate) receiving: BTreeMap<ShardId, Receiving>,
    /// Snapshots that followers were asked for, and requests that wait here, by shard and receiver.
    pub(crate) asked: BTreeMap<(ShardId, quorate_raft::ReplicaId), Asked>,
    pub(crate) waiting_to_feed: BTreeMap<(ShardId, quorate_raft::ReplicaId), Waiting>,
    pub(crate) last_snapshot: u64,
    /// Bytes of snapshots that may be sent before the next tick; below zero after a chunk that was larger.
    pub(crate) snapshot_allowance: i64,
    /// Followers that were fed a snapshot and are not level with this leader so far.
    pub(crate) levelling: BTreeSet<(ShardId, quorate_raft::ReplicaId)>,
    /// Snapshots keep to no rate, because writes fill the log that is held for them.
    pub(crate) snapshots_hurry: bool,
    pub(crate) next_space: u32,
    /// What nothing refers to once the batch is durable.
    pub(crate) garbage: VecDeque<(Garbage, BatchSeq)>,
    pub(crate) routes_version: u64,
    /// What is left of replicas that were removed (M4).
    pub(crate) tombstones: BTreeMap<ShardId, Tombstone>,
    /// Shards whose replica goes at the end of the input or the batch under way.
    pub(crate) doomed: Vec<(ShardId, ShardInfo)>,
    /// Replicas that are gone but for their data and log.
    pub(crate) erasing: Vec<Erasing>,
    /// Replicas that the log knows and the engine does not; none up to these is made again (P4).
    pub(crate) orphans: BTreeMap<ShardId, quorate_raft::ReplicaId>,
    /// Shards without a replica here whose candidates ask for its vote, and the tick since which they do.
    pub(crate) strangers: BTreeMap<ShardId, u64>,
}

impl<E: Engine> Store<E> {
    /// Takes one input. `times` are read after the input was received.
    pub fn handle(&mut self, times: Times, input: Input) -> Result<(), StoreError> {
        match input {
            Input::Client(request) => self.client(times, request),
            Input::Peer { from, message } => {
                self.peer(times, from, message)?;
                self.erase_doomed(times)
            }
            Input::PeerUp { store } => {
                self.peers.up(store, times.mono_us);
                self.greet(store);
                self.tell_newcomer(store);
                self.resume_snapshots(store)
            }
            Input::PeerDown { store } => {
                self.peer_down(store);
                Ok(())
            }
            Input::Tick => self.tick(times),
            Input::TransferLeader { shard, to } => self.transfer_to(shard, to),
            Input::LogWritten { token } => self.log_written(token),
            Input::EngineDurable { up_to } => self.engine_durable(up_to),
            Input::Register(registration) => self.register_as(times, registration),
            Input::AskController { id, command } => self.ask_controller(times, command, Purpose::Driver(id)),
            Input::DiskSpace { available_bytes } => {
                self.disk_space(available_bytes);
                Ok(())
            }
            Input::Shutdown => {
                self.shutting_down = true;
                Ok(())
            }
        }
    }

    /// Gives an outcome to whoever waits for it.
    pub(crate) fn answer(&mut self, waiter: Waiter, outcome: Outcome) {
        match waiter {
            Waiter::Client(ticket) => {
                let outcome = match outcome {
                    Outcome::Done(answer) => ClientOutcome::Done(answer),
                    Outcome::Unknown(reason) => ClientOutcome::Unknown(reason),
                    Outcome::Superseded => ClientOutcome::NotApplied(Refusal::Superseded),
                    Outcome::DiskFull => ClientOutcome::NotApplied(Refusal::DiskFull),
                    Outcome::Session(SessionRefusal::FromFuture) => {
                        ClientOutcome::NotApplied(Refusal::SessionFromFuture)
                    }
                    Outcome::Session(SessionRefusal::NeverRuns) => {
                        ClientOutcome::NotApplied(Refusal::NeverRuns)
                    }
                    Outcome::Session(_) => ClientOutcome::NotApplied(Refusal::OtherCommand),
                    Outcome::Busy | Outcome::NotLeader { .. } | Outcome::StaleEpoch { .. } => {
                        ClientOutcome::NotApplied(Refusal::Busy)
                    }
                };
                self.finish(&ticket, outcome);
            }
            Waiter::Session(routed) => {
                let own = self.identity.store;
                self.attempt_ended(*routed, own, outcome);
            }
            Waiter::Peer { store, id } => {
                self.out
                    .sends
                    .push((store, PeerMessage::Response(Response { id, outcome })));
            }
            Waiter::Nobody => {}
        }
    }

    /// Whether another [`Store::advance`] has work now.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.dirty.is_empty()
            || !self.to_apply.is_empty()
            || !self.log_ops.is_empty()
            || self.gateway.lanes.has_ready()
            || self.scheduler_worker.has_answers()
    }

    /// What the driver has to do; emptied by the call.
    pub fn effects(&mut self) -> &mut Effects {
        &mut self.out
    }

    /// Writes made outside the turn (bindings) and the engine itself, for drivers.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// Records a peer's incarnation at first contact (P7). The caller makes the engine durable before it
    /// goes on with the handshake.
    pub fn bind_peer(&mut self, store: StoreId, incarnation: Incarnation) -> Result<(), StoreError> {
        let (key, value) = descriptor::binding_record(store, incarnation);
        self.engine.write(WriteBatch {
            changes: vec![(key, Some(value))],
        })?;
        Ok(())
    }

    /// Incarnations recorded so far (P7).
    pub fn bindings(&self) -> Result<BTreeMap<StoreId, Incarnation>, StoreError> {
        Ok(descriptor::load_bindings(&self.engine)?)
    }

    /// Raised whenever a leader changed.
    #[must_use]
    pub fn routes_version(&self) -> u64 {
        self.routes_version
    }

    /// This store.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.identity.store
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> ClusterId {
        self.identity.cluster
    }

    /// Totals since the store was opened.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Requests of this node's clients that are not answered yet.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.gateway.under_way
    }

    /// Whether a stopping node may exit: it leads nothing that another could lead, and nobody waits.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.gateway.under_way == 0
            && self.replicas.iter().all(|replica| {
                replica.pending_writes.is_empty()
                    && (!replica.is_leader() || replica.other_voters().all(|(_, on)| !self.peers.is_up(on)))
            })
    }

    /// The node stops without being drained: tells everybody who waits that nobody will know here.
    pub fn abandon(&mut self) {
        for at in 0..self.replicas.len() {
            self.abandon_led(at);
        }
        self.abandon_forwards();
    }

    pub(crate) fn times_out(deadline_us: u64, times: Times) -> bool {
        deadline_us <= times.mono_us
    }

    pub(crate) fn timeout_outcome() -> Outcome {
        if mutant!("late-write-said-not-applied") {
            return Outcome::Busy;
        }
        Outcome::Unknown(UnknownReason::Timeout)
    }
}
