//! The node: shards' replicas, driven by inputs, giving effects.
//!
//! A driver feeds inputs with [`Store::handle`], then ends its turn with [`Store::advance`] (messages and log
//! writes) and [`Store::apply`] (answers); it sends what the first gave before it calls the second, so that
//! followers work while the leader applies, and syncs the log after both.

use std::collections::{BTreeMap, VecDeque};

use quorate_proto::{Outcome, PeerMessage, RaftEnvelope, Response, UnknownReason};
use quorate_raft::{
    Buffers, Config, Entry, HardState, Index, MessageBody, RawNode, Ready, Role, SnapshotMeta, StartError,
    StepError, StorageError, Term, mutant,
};
use quorate_storage::engine::{BatchSeq, Engine, EngineError, WriteBatch};
use quorate_storage::log::{LogBatch, LogOp, Recovered, RecoveredShard};
use quorate_storage::{ClusterId, Identity, Incarnation, ShardId, StoreId};

use crate::counters::Counters;
use crate::descriptor::{self, Applied, Descriptor};
use crate::gateway::Gateway;
use crate::health::Health;
use crate::io::{Effects, Input, LogToken, PeerTable, StoreOptions, Times};
use crate::kv::Space;
use crate::rebuild::{self, Rebuild};
use crate::replica::{InflightAppend, Replica, Waiter};
use crate::router::Router;
use crate::shard_log::ShardLog;
use crate::snapshot::{Receiving, Sending};
use crate::{ClientOutcome, Refusal};

/// Why the node must stop. What it acknowledged before is safe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The state engine failed; an engine error never becomes an answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The consensus core refuses to go on.
    #[error("shard {shard}: {source}")]
    Raft {
        /// The shard.
        shard: ShardId,
        /// The cause.
        #[source]
        source: StepError,
    },
    /// The consensus core refuses to start on what the log holds.
    #[error("shard {shard}: {source}")]
    Start {
        /// The shard.
        shard: ShardId,
        /// The cause, with the positions that do not fit together.
        #[source]
        source: StartError,
    },
    /// An entry that a quorum stored cannot be read; another version may have written it.
    #[error("shard {shard}: entry {index} cannot be decoded: {reason}")]
    Entry {
        /// The shard.
        shard: ShardId,
        /// The entry.
        index: Index,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine is another store's.
    #[error(
        "shard {shard}: the state engine holds replica {replica}, which is not on store {store}; the data directory mixes files of different stores"
    )]
    WrongEngine {
        /// The shard.
        shard: ShardId,
        /// What the engine says.
        replica: quorate_raft::ReplicaId,
        /// Whose directory it is.
        store: StoreId,
    },
}

impl StoreError {
    pub(crate) fn raft(shard: ShardId) -> impl FnOnce(StepError) -> Self {
        move |source| Self::Raft { shard, source }
    }
}

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
    pub(crate) peers: PeerTable,
    pub(crate) health: Health,
    pub(crate) started_us: u64,
    pub(crate) ticks: u64,
    pub(crate) shutting_down: bool,
    pub(crate) next_read: u64,
    pub(crate) counters: Counters,

    dirty: Vec<usize>,
    /// Committed entries handed out by the cores in this turn.
    pub(crate) to_apply: Vec<(usize, Vec<Entry>)>,
    /// Vectors that the cores fill again.
    pub(crate) buffers: Buffers,
    last_token: u64,
    /// Log operations that a tick or an opening added; they go with the next write.
    pub(crate) log_ops: Vec<LogOp>,
    pub(crate) durable_batch: BatchSeq,
    pub(crate) durable_asked: BatchSeq,
    pub(crate) out: Effects,

    pub(crate) sending: BTreeMap<(ShardId, quorate_raft::ReplicaId), Sending<E::Snapshot>>,
    pub(crate) receiving: BTreeMap<ShardId, Receiving>,
    pub(crate) last_snapshot: u64,
    pub(crate) next_space: u32,
    /// Spaces that nothing refers to once the batch is durable.
    pub(crate) garbage: VecDeque<(Space, BatchSeq)>,
    routes_version: u64,
}

impl<E: Engine> Store<E> {
    /// Whether an engine holds no shard: it was never formatted, or it was lost.
    pub fn is_unformatted(engine: &E) -> Result<bool, StoreError> {
        Ok(Descriptor::load_all(engine)?.is_empty())
    }

    /// A store as the engine and the log left it. `process` must differ from that of every earlier process.
    ///
    /// The caller has made the engine durable since it opened it: what a killed process left in the page cache
    /// must not be vouched for (P1), and the log may be reset to it (P5).
    pub fn open(
        identity: Identity,
        process: u64,
        options: StoreOptions,
        engine: E,
        recovered: Recovered,
        times: Times,
    ) -> Result<Self, StoreError> {
        let descriptors = Descriptor::load_all(&engine)?;
        let garbage = crate::space::unreferenced(&engine, &descriptors)?;
        let next_space = descriptors
            .iter()
            .map(|d| d.space)
            .chain(garbage.iter().copied().filter(|_| !mutant!("space-used-again")))
            .max()
            .map_or(1, |s| s.0 + 1);
        let last_batch = engine.last_batch();
        let router = Router::new(&descriptors);
        let mut store = Self {
            identity,
            process,
            engine,
            replicas: Vec::with_capacity(descriptors.len()),
            router,
            gateway: Gateway::new(process),
            peers: PeerTable::default(),
            health: Health::default(),
            started_us: times.mono_us,
            ticks: 0,
            shutting_down: false,
            next_read: 0,
            counters: Counters::default(),
            dirty: Vec::new(),
            to_apply: Vec::new(),
            buffers: Buffers::new(),
            last_token: 0,
            log_ops: Vec::new(),
            durable_batch: BatchSeq(0),
            durable_asked: BatchSeq(0),
            out: Effects::default(),
            sending: BTreeMap::new(),
            receiving: BTreeMap::new(),
            last_snapshot: crate::gateway::spread(process),
            next_space,
            garbage: garbage.into_iter().map(|space| (space, last_batch)).collect(),
            routes_version: 0,
            options,
        };
        // What the engine knows was written to the log as well (P4): if it is not there, votes may have gone with
        // it (P3).
        let lost = RecoveredShard {
            quarantined: true,
            ..RecoveredShard::default()
        };
        let replicas = descriptors.len().max(1) as u64;
        store.options.log_retention_bytes = store
            .options
            .log_retention_bytes
            .min(store.options.log_retention_store_bytes / replicas);
        let mut recovered = recovered.shards;
        for descriptor in descriptors {
            let log = recovered
                .remove(&descriptor.shard)
                .unwrap_or_else(|| lost.clone());
            store.open_replica(descriptor, log)?;
        }
        // Records of shards that the engine does not know stay in the log untouched (P4).
        Ok(store)
    }

    fn open_replica(&mut self, descriptor: Descriptor, mut log: RecoveredShard) -> Result<(), StoreError> {
        let shard = descriptor.shard;
        let applied = Applied::load(&self.engine, shard)?;
        if descriptor.replica_on(self.identity.store) != Some(descriptor.replica) {
            return Err(StoreError::WrongEngine {
                shard,
                replica: descriptor.replica,
                store: self.identity.store,
            });
        }
        let at_applied = if log.base.0 == applied.index {
            Some(log.base.1)
        } else {
            log.entries
                .iter()
                .find(|entry| entry.index == applied.index)
                .map(|entry| entry.term)
        };
        let mark = rebuild::load_mark(&self.engine, shard)?;
        // The log begins behind what the engine has: the engine lost what it had made durable.
        let is_damaged = log.quarantined && !mutant!("damage-ignored") || log.base.0 > applied.index;
        let rebuild = Rebuild::at_open(is_damaged, mark, log.hard_state.term);
        if !rebuild.as_ref().is_none_or(Rebuild::is_following) {
            // What the log holds cannot be trusted, or is of no use (P3). The records stay as they are until it
            // is started over, so that the next start knows it too.
            log.entries.clear();
            log.base = (applied.index, applied.term);
        } else if at_applied != Some(applied.term) && !mutant!("log-reset-not-finished") {
            // The log does not reach, or contradicts, what the engine has applied: an installed snapshot whose
            // reset of the log was not written (P5).
            log.entries.clear();
            log.base = (applied.index, applied.term);
            self.log_ops.push(LogOp::Reset {
                shard,
                index: applied.index,
                term: applied.term,
            });
        }
        let mut hard_state = log.hard_state;
        if mutant!("vote-forgotten-at-open") {
            hard_state.vote = None;
        }
        hard_state.commit = hard_state.commit.max(applied.index);
        let last = log.entries.last().map_or(log.base.0, |entry| entry.index);
        // Commit-only updates are not written, but they are also never written ahead of the entries.
        hard_state.commit = hard_state.commit.min(last);
        hard_state.term = hard_state.term.max(applied.term);
        let raft = self.new_core(&descriptor, applied, hard_state, log.base, log.entries)?;
        self.replicas
            .push(Replica::new(raft, descriptor, applied, hard_state, rebuild));
        Ok(())
    }

    /// The consensus core of a replica whose log is as given.
    pub(crate) fn new_core(
        &self,
        descriptor: &Descriptor,
        applied: Applied,
        hard_state: HardState,
        base: (Index, Term),
        entries: Vec<Entry>,
    ) -> Result<RawNode<ShardLog>, StoreError> {
        let meta = SnapshotMeta {
            index: applied.index,
            term: applied.term,
            conf_state: descriptor.conf_state.clone(),
        };
        let storage = ShardLog::new(hard_state, meta, base, entries);
        let config = Config {
            id: descriptor.replica,
            election_ticks: self.options.election_ticks,
            heartbeat_ticks: self.options.heartbeat_ticks,
            priority: 0,
            applied: applied.index,
            max_bytes_per_message: self.options.append_bytes_max,
            max_committed_bytes_per_ready: 4 << 20,
            max_uncommitted_bytes: 64 << 20,
            max_inflight_messages: 256,
            max_inflight_bytes: 16 << 20,
            pre_vote: true,
            check_quorum: true,
            read_only: quorate_raft::ReadOnlyOption::Safe,
            async_storage_writes: true,
            gather_appends: true,
            disable_proposal_forwarding: true,
            disable_conf_change_validation: false,
            step_down_on_removal: true,
            seed: self.options.seed ^ descriptor.replica.0.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        };
        let shard = descriptor.shard;
        RawNode::new(config, storage).map_err(|source| StoreError::Start { shard, source })
    }

    /// Takes one input. `times` are read after the input was received.
    pub fn handle(&mut self, times: Times, input: Input) -> Result<(), StoreError> {
        match input {
            Input::Client(request) => self.client(times, request),
            Input::Peer { from, message } => self.peer(times, from, message),
            Input::PeerUp { store } => {
                self.peers.up(store, times.mono_us);
                self.greet(store);
                Ok(())
            }
            Input::PeerDown { store } => {
                self.peer_down(store);
                Ok(())
            }
            Input::Tick => self.tick(times),
            Input::TransferLeader { shard, to } => self.transfer_to(shard, to),
            Input::LogWritten { token } => self.log_written(token),
            Input::EngineDurable { up_to } => self.engine_durable(up_to),
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

    /// Ends a turn: what the cores want sent and stored.
    pub fn advance(&mut self, times: Times) -> Result<(), StoreError> {
        self.go_on(times)?;
        let mut batch = LogBatch {
            ops: std::mem::take(&mut self.log_ops),
            sync: false,
        };
        batch.sync = !batch.ops.is_empty();
        let token = LogToken(self.last_token + 1);
        let mut turn = std::mem::take(&mut self.dirty);
        for &at in &turn {
            self.replicas[at].dirty = false;
            self.start_log_over(at, &mut batch, token);
            self.reset_log(at, &mut batch, token)?;
            self.propose_new(times, at)?;
            self.start_round(at)?;
            while self.replicas[at].installing.is_none() && self.replicas[at].raft.has_ready() {
                let shard = self.replicas[at].descriptor.shard;
                let ready = self.replicas[at]
                    .raft
                    .ready_with(&mut self.buffers)
                    .map_err(StoreError::raft(shard))?;
                self.take_ready(times, at, ready, &mut batch, token)?;
            }
            self.notice_role(times, at)?;
        }
        turn.clear();
        if self.dirty.is_empty() {
            self.dirty = turn; // keeps its allocation
        }
        if !batch.ops.is_empty() {
            self.last_token = token.0;
            self.health.log_given(token, times.mono_us);
            self.out.log.push((token, batch));
        }
        Ok(())
    }

    fn take_ready(
        &mut self,
        times: Times,
        at: usize,
        mut ready: Ready,
        batch: &mut LogBatch,
        token: LogToken,
    ) -> Result<(), StoreError> {
        for message in ready.send_now.drain(..) {
            self.send_raft(times, at, message)?;
        }
        self.buffers.reuse_messages(ready.send_now);
        if !ready.read_states.is_empty() {
            self.confirmed(at, &ready.read_states);
            // What they wait for may be applied already, and then no later apply would answer them.
            self.serve_applied(times, at)?;
        }
        if let Some(work) = ready.append {
            if work.snapshot.is_some() {
                self.install(at, work)?;
            } else {
                self.append(at, work, batch, token)?;
            }
        }
        if let Some(work) = ready.apply
            && !work.entries.is_empty()
        {
            self.to_apply.push((at, work.entries));
        }
        Ok(())
    }

    /// Adds a replica's log work to the turn's write.
    pub(crate) fn append(
        &mut self,
        at: usize,
        work: quorate_raft::AppendWork,
        batch: &mut LogBatch,
        token: LogToken,
    ) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        let shard = replica.descriptor.shard;
        if let Some(state) = work.hard_state {
            let voted_for_itself = state.vote == Some(replica.descriptor.replica);
            self.counters.elections += u64::from(voted_for_itself && state.term > replica.hard_state.term);
            replica.hard_state = state;
        }
        let entries = !work.entries.is_empty();
        if entries {
            replica.raft.storage_mut().append(&work.entries);
            batch.ops.push(LogOp::Append {
                shard,
                entries: work.entries,
            });
        }
        // A commit index alone is not worth a record: the engine knows what was applied, and the leader tells
        // the rest again after a restart.
        let vote = |state: &quorate_raft::HardState| (state.term, state.vote);
        let state = replica.hard_state;
        let is_logged = vote(&state) == vote(&replica.logged_hard_state)
            || (mutant!("vote-not-persisted") && state.term == replica.logged_hard_state.term);
        if !is_logged {
            replica.logged_hard_state = state;
            batch.ops.push(LogOp::HardState {
                shard,
                replica: replica.descriptor.replica,
                state,
            });
        }
        let written = entries || work.must_sync;
        batch.sync |= written;
        let is_early = answers_early(&work.responses, replica.descriptor.replica)
            || (mutant!("leader-counts-itself-before-sync") && replica.is_leader());
        let waits_for = if is_early {
            None
        } else if written {
            Some(token)
        } else {
            replica.appends.back().map(|append| append.token)
        };
        if work.responses.is_empty() && work.done.is_none() {
            return Ok(());
        }
        match waits_for {
            Some(token) => {
                replica.appends.push_back(InflightAppend {
                    token,
                    responses: work.responses,
                    done: work.done,
                });
                Ok(())
            }
            None => self.release(at, work.responses, work.done),
        }
    }

    /// Hands on what waited for a log write.
    fn release(
        &mut self,
        at: usize,
        mut responses: Vec<quorate_raft::Message>,
        done: Option<quorate_raft::AppendDone>,
    ) -> Result<(), StoreError> {
        let own = self.replicas[at].descriptor.replica;
        let shard = self.replicas[at].descriptor.shard;
        for message in responses.drain(..) {
            if message.to == own {
                self.replicas[at]
                    .raft
                    .step(message)
                    .map_err(StoreError::raft(shard))?;
            } else {
                self.send_raft(Times::default(), at, message)?;
            }
        }
        self.buffers.reuse_messages(responses);
        if let Some(done) = done {
            self.replicas[at]
                .raft
                .append_done(done)
                .map_err(StoreError::raft(shard))?;
        }
        self.mark(at);
        Ok(())
    }

    fn log_written(&mut self, token: LogToken) -> Result<(), StoreError> {
        self.health.log_written(token);
        for at in 0..self.replicas.len() {
            while let Some(append) = self.replicas[at].appends.front()
                && append.token <= token
            {
                if let Some(append) = self.replicas[at].appends.pop_front() {
                    self.release(at, append.responses, append.done)?;
                }
            }
            self.log_started_over(at, token)?;
        }
        Ok(())
    }

    fn send_raft(
        &mut self,
        times: Times,
        at: usize,
        message: quorate_raft::Message,
    ) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        let Some(to) = replica.descriptor.store_of(message.to) else {
            return Ok(()); // a member that this replica has not heard of; it will be told again
        };
        let sent_at_us = match &message.body {
            MessageBody::Append { .. } | MessageBody::Heartbeat { .. } => times.mono_us,
            MessageBody::AppendResponse { .. } | MessageBody::HeartbeatResponse { .. } => {
                replica.lease.echo(message.term)
            }
            MessageBody::TimeoutNow => {
                replica.lease.switch_off(message.term); // L3
                0
            }
            MessageBody::Snapshot(_) => {
                let (peer, term) = (message.to, message.term);
                return self.send_snapshot(at, peer, to, term);
            }
            _ => 0,
        };
        let envelope = RaftEnvelope {
            shard: replica.descriptor.shard,
            sent_at_us,
            message,
        };
        self.out.sends.push((to, PeerMessage::Raft(envelope)));
        Ok(())
    }

    fn peer(&mut self, times: Times, from: StoreId, message: PeerMessage) -> Result<(), StoreError> {
        match message {
            PeerMessage::Raft(envelope) => self.step(times, from, envelope),
            PeerMessage::Request(request) => self.forwarded(times, from, request),
            PeerMessage::Response(response) => {
                self.answered(from, response);
                Ok(())
            }
            PeerMessage::SnapshotChunk(chunk) => self.snapshot_chunk(times, from, chunk),
            PeerMessage::SnapshotAck(ack) => self.snapshot_ack(from, ack),
            PeerMessage::TermQuery(query) => {
                self.term_query(from, query);
                Ok(())
            }
            PeerMessage::TermAnswer(answer) => self.term_answer(from, answer),
            PeerMessage::StoreHealth(health) => {
                self.health.told(from, health, self.ticks);
                Ok(())
            }
        }
    }

    fn step(&mut self, times: Times, from: StoreId, envelope: RaftEnvelope) -> Result<(), StoreError> {
        let Some(at) = self.router.replica_of(envelope.shard) else {
            return Ok(());
        };
        let replica = &mut self.replicas[at];
        let message = envelope.message;
        // A message for another replica, or in the name of one that is not on that store, is not for us.
        if message.to != replica.descriptor.replica
            || replica.descriptor.store_of(message.from) != Some(from)
            || !replica.takes_part()
        {
            return Ok(());
        }
        match &message.body {
            // P3: what it has lost may be what the candidate lacks.
            MessageBody::Vote { .. } | MessageBody::PreVote { .. } | MessageBody::TimeoutNow
                if replica.rebuild.is_some() && !mutant!("rebuilt-replica-votes-early") =>
            {
                return Ok(());
            }
            MessageBody::Vote { transfer: false, .. } | MessageBody::PreVote { transfer: false, .. }
                if self.options.leases
                    && replica.lease.refuses_votes(
                        self.started_us,
                        self.options.election_timeout_us(),
                        times.mono_us,
                    ) =>
            {
                return Ok(()); // L2
            }
            // Others like to give a shard back to its preferred store; not to one that is leaving or not well.
            // Two stopping nodes would hand leadership back and forth.
            MessageBody::TimeoutNow if self.shutting_down || self.health.is_unwell() => return Ok(()),
            // Snapshots come in chunks; a bare message carries no data.
            MessageBody::Snapshot(_) => return Ok(()),
            _ => {}
        }
        let (sender, term) = (message.from, message.term);
        let is_from_leader = matches!(
            message.body,
            MessageBody::Append { .. } | MessageBody::Heartbeat { .. }
        );
        let is_answer = matches!(
            message.body,
            MessageBody::AppendResponse { .. } | MessageBody::HeartbeatResponse { .. }
        );
        let shard = replica.descriptor.shard;
        replica.raft.step(message).map_err(StoreError::raft(shard))?;
        if is_from_leader && replica.raft.term() == term && replica.raft.leader() == Some(sender) {
            replica.lease.hear(term, envelope.sent_at_us, times.mono_us);
        }
        if is_answer && replica.raft.term() == term && replica.is_leader() {
            let (raft, own) = (&replica.raft, replica.descriptor.replica);
            let sent_at_us = if mutant!("lease-counted-from-the-answer") {
                times.mono_us
            } else {
                envelope.sent_at_us
            };
            replica
                .lease
                .echoed(term, sender, own, sent_at_us, |acked| raft.is_quorum(acked));
        }
        self.mark(at);
        Ok(())
    }

    /// The replica has something for the next turn.
    pub(crate) fn mark(&mut self, at: usize) {
        if !self.replicas[at].dirty {
            self.replicas[at].dirty = true;
            self.dirty.push(at);
        }
    }

    /// Reacts to a change of leader or role.
    fn notice_role(&mut self, times: Times, at: usize) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        let (leader, role) = (replica.raft.leader(), replica.raft.role());
        // It may have led for a part of the turn only, and taken reads then.
        let was_leader = replica.seen_role == Role::Leader || replica.has_reads();
        if leader == replica.seen_leader && role == replica.seen_role && (role == Role::Leader || !was_leader)
        {
            return Ok(());
        }
        replica.seen_leader = leader;
        replica.seen_role = role;
        self.routes_version += 1;
        if was_leader && role != Role::Leader {
            self.leadership_lost(times, at)?;
        }
        if leader.is_some() {
            self.unpark(self.replicas[at].descriptor.shard);
        }
        Ok(())
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
                    Outcome::Busy | Outcome::NotLeader { .. } | Outcome::StaleEpoch { .. } => {
                        ClientOutcome::NotApplied(Refusal::Busy)
                    }
                };
                self.finish(&ticket, outcome);
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
                    && (!replica.is_leader()
                        || replica
                            .descriptor
                            .members
                            .iter()
                            .all(|(_, on)| !self.peers.is_up(*on)))
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

/// Whether something is answered before it is durable (Raft 5.1): never, unless a mutant says so.
fn answers_early(responses: &[quorate_raft::Message], own: quorate_raft::ReplicaId) -> bool {
    let is_early = |message: &quorate_raft::Message| match &message.body {
        MessageBody::VoteResponse { .. } if message.to != own => mutant!("vote-before-sync"),
        MessageBody::AppendResponse { .. } if message.to != own => mutant!("acknowledged-before-sync"),
        _ => false,
    };
    responses.iter().any(is_early)
}

impl From<StorageError> for StoreError {
    fn from(source: StorageError) -> Self {
        Self::Raft {
            shard: ShardId(0),
            source: source.into(),
        }
    }
}
