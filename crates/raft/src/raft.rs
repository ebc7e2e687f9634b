//! The state of a member, and what it sends. Roles change in `election`; messages are taken in `step`, `leader` and
//! `follower`.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::progress::Owed;
use crate::raft_log::{RaftLog, payload_bytes};
use crate::read_only::{ReadOnly, ReadRequest};
use crate::rng::Rng;
use crate::tracker::{ProgressMap, Tracker, TrackerConfig};
use crate::{
    Buffers, ConfState, Config, HardState, Index, Message, MessageBody, Payload, ProgressState, ReadContext,
    ReadState, ReplicaId, Role, SoftState, StartError, StepError, Storage, StorageError, Term,
};

/// What is proposed: one payload or several.
pub(crate) trait Proposed: AsRef<[Payload]> + AsMut<[Payload]> + IntoIterator<Item = Payload> {}
impl Proposed for [Payload; 1] {}
impl Proposed for Vec<Payload> {}

pub(crate) struct Raft<S: Storage> {
    pub(crate) config: Config,
    pub(crate) id: ReplicaId,
    pub(crate) term: Term,
    pub(crate) vote: Option<ReplicaId>,
    pub(crate) role: Role,
    pub(crate) leader: Option<ReplicaId>,
    pub(crate) log: RaftLog<S>,
    pub(crate) tracker: Tracker,

    /// May be sent at once.
    pub(crate) messages: Vec<Message>,
    /// May be sent, or stepped into this member, once what the next Ready hands out is durable.
    pub(crate) after_append: Vec<Message>,
    pub(crate) read_states: Vec<ReadState>,

    // Leader.
    pub(crate) transferee: Option<ReplicaId>,
    /// A membership change may be proposed only when this index is applied.
    pub(crate) pending_conf_index: Index,
    /// Payload bytes proposed in this term and not yet applied.
    pub(crate) uncommitted_bytes: u64,
    pub(crate) read_only: ReadOnly,
    /// Reads that came before an entry of the term was committed.
    pub(crate) early_reads: Vec<ReadRequest>,
    /// Some member is owed an append (`gather_appends`).
    pub(crate) owes: bool,

    // Time, in ticks.
    pub(crate) election_elapsed: u32,
    pub(crate) heartbeat_elapsed: u32,
    pub(crate) election_timeout: u32,
    /// Since a leader was last heard of.
    pub(crate) leaderless_ticks: u32,
    pub(crate) rng: Rng,
}

impl<S: Storage> Raft<S> {
    pub(crate) fn new(config: Config, storage: S) -> Result<Self, StartError> {
        let (hard_state, conf_state) = storage.initial_state()?;
        conf_state.validate()?;
        let log = RaftLog::new(storage, config.max_committed_bytes_per_ready)?;
        let tracker = Tracker::new(config.max_inflight_messages, config.max_inflight_bytes)
            .restore(&conf_state, log.last_index());
        let mut raft = Self {
            id: config.id,
            term: hard_state.term,
            vote: hard_state.vote,
            role: Role::Follower,
            leader: None,
            log,
            tracker,
            messages: Vec::new(),
            after_append: Vec::new(),
            read_states: Vec::new(),
            transferee: None,
            pending_conf_index: Index(0),
            uncommitted_bytes: 0,
            read_only: ReadOnly::default(),
            early_reads: Vec::new(),
            owes: false,
            election_elapsed: 0,
            leaderless_ticks: 0,
            heartbeat_elapsed: 0,
            election_timeout: config.election_ticks,
            rng: Rng::new(config.seed),
            config,
        };
        let (commit, last) = (hard_state.commit, raft.log.last_index());
        if commit > last {
            return Err(StartError::CommitPastLog { commit, last });
        }
        // Who starts from a snapshot may have no hard state yet; who stored an entry has stored its term.
        let first = raft.log.first_index()?;
        if last >= first {
            let last_term = raft.log.last_term()?;
            if last_term > raft.term {
                let term = raft.term;
                return Err(StartError::HardStateBehindLog {
                    term,
                    last,
                    last_term,
                });
            }
        }
        // What is applied was committed. The stored commit index may lag behind it: it is not synced by itself.
        let applied = raft.config.applied;
        if applied > last {
            return Err(StartError::AppliedPastLog { applied, last });
        }
        if applied > Index(0) && applied < first.prev() {
            return Err(StartError::AppliedBeforeLog { applied, first });
        }
        raft.log.commit = raft.log.commit.max(commit).max(applied);
        if applied > raft.log.applied {
            raft.log.applied_to(applied, 0);
        }
        raft.become_follower(raft.term, None);
        Ok(raft)
    }

    pub(crate) fn hard_state(&self) -> HardState {
        HardState {
            term: self.term,
            vote: self.vote,
            commit: self.log.commit,
        }
    }

    pub(crate) fn soft_state(&self) -> SoftState {
        SoftState {
            leader: self.leader,
            role: self.role,
        }
    }

    // ---- messages ----

    /// Sends in the current term.
    pub(crate) fn send(&mut self, to: ReplicaId, body: MessageBody) {
        let term = match body {
            // What a follower passes on takes its term from the leader.
            MessageBody::Propose { .. } | MessageBody::ReadIndex { .. } => Term(0),
            _ => self.term,
        };
        self.send_in(term, to, body);
    }

    /// Sends in another term: a pre-vote is about the next one.
    pub(crate) fn send_in(&mut self, term: Term, to: ReplicaId, body: MessageBody) {
        // Answers that vouch for what this member stores must not overtake the storing (Raft paper §5.1: respond
        // after persisting); everything else may.
        let vouches = matches!(
            body,
            MessageBody::AppendResponse { .. }
                | MessageBody::VoteResponse { .. }
                | MessageBody::PreVoteResponse { .. }
        );
        let message = Message {
            from: self.id,
            to,
            term,
            body,
        };
        if vouches {
            self.after_append.push(message);
        } else {
            assert_ne!(
                to, self.id,
                "a message to oneself that vouches for nothing: {message:?}"
            );
            self.messages.push(message);
        }
    }

    // ---- replication ----

    /// Sends `to` an append, even an empty one.
    pub(crate) fn send_append(&mut self, to: ReplicaId) -> Result<(), StorageError> {
        if self.config.gather_appends {
            self.owe(to, Owed::Append);
            return Ok(());
        }
        if let Some(at) = self.tracker.progress.position(to) {
            self.maybe_send_append(at, true, &mut Buffers::default())?;
        }
        Ok(())
    }

    /// Sends every other member what it lacks.
    pub(crate) fn broadcast_append(&mut self) -> Result<(), StorageError> {
        if self.config.gather_appends {
            self.owes = true;
            for (_, progress) in self.tracker.progress.iter_mut() {
                progress.owe(Owed::News);
            }
            return Ok(());
        }
        for at in 0..self.tracker.progress.len() {
            if self.tracker.progress.id_at(at) != self.id {
                self.maybe_send_append(at, true, &mut Buffers::default())?;
            }
        }
        Ok(())
    }

    fn owe(&mut self, to: ReplicaId, owed: Owed) {
        if let Some(progress) = self.tracker.progress.get_mut(to) {
            progress.owe(owed);
            self.owes = true;
        }
    }

    /// Sends what was gathered: one message per follower, more only where limits cut.
    pub(crate) fn send_owed(&mut self, buffers: &mut Buffers) -> Result<(), StorageError> {
        if !core::mem::take(&mut self.owes) {
            return Ok(());
        }
        for at in 0..self.tracker.progress.len() {
            let to = self.tracker.progress.id_at(at);
            let progress = self.tracker.progress.at_mut(at);
            let owed = core::mem::take(&mut progress.owed);
            if to == self.id || owed == Owed::Nothing || self.role != Role::Leader {
                continue;
            }
            let even_empty = owed == Owed::Append || progress.can_bump_commit(self.log.commit);
            self.maybe_send_append(at, even_empty, buffers)?;
            while self.maybe_send_append(at, false, buffers)? {}
        }
        Ok(())
    }

    /// Sends the member at a position an append, or a snapshot if the entries are gone. Returns whether something
    /// was sent.
    pub(crate) fn maybe_send_append(
        &mut self,
        at: usize,
        even_empty: bool,
        buffers: &mut Buffers,
    ) -> Result<bool, StorageError> {
        let progress = self.tracker.progress.at(at);
        let (prev, next) = (progress.next.prev(), progress.next);
        let end = self.log.last_index().next();
        if progress.is_paused() || (next >= end && !even_empty) {
            return Ok(false);
        }
        let prev_term = match self.log.term(prev) {
            Ok(term) => term,
            Err(StorageError::Compacted { .. } | StorageError::Unavailable { .. }) => {
                return self.maybe_send_snapshot(at);
            }
            Err(error) => return Err(error),
        };
        // With a full window only empty appends go: if everything in flight was lost, their answers reopen it.
        let throttled = progress.state == ProgressState::Replicate && progress.inflights.is_full();
        let entries = if throttled || next >= end {
            Vec::new()
        } else {
            let into = buffers.entries();
            match self
                .log
                .slice_into(next, end, self.config.max_bytes_per_message, into)
            {
                Ok(entries) => entries,
                Err(StorageError::Compacted { .. } | StorageError::Unavailable { .. }) => {
                    return self.maybe_send_snapshot(at);
                }
                Err(error) => return Err(error),
            }
        };
        if entries.is_empty() && !even_empty {
            return Ok(false);
        }
        let commit = self.log.commit;
        let (count, bytes) = (entries.len(), entries.iter().map(payload_bytes).sum());
        let progress = self.tracker.progress.at_mut(at);
        progress.sent_entries(count, bytes);
        progress.sent_commit(commit);
        self.send(
            self.tracker.progress.id_at(at),
            MessageBody::Append {
                prev_index: prev,
                prev_term,
                commit,
                entries,
            },
        );
        Ok(true)
    }

    fn maybe_send_snapshot(&mut self, at: usize) -> Result<bool, StorageError> {
        let progress = self.tracker.progress.at_mut(at);
        if !progress.recent_active {
            return Ok(false); // nobody there to take it
        }
        let snapshot = match self.log.unstable.snapshot.clone() {
            Some(snapshot) => snapshot,
            None => match self.log.storage.snapshot() {
                Ok(snapshot) => Box::new(snapshot),
                Err(StorageError::SnapshotTemporarilyUnavailable) => return Ok(false),
                Err(error) => return Err(error),
            },
        };
        if snapshot.meta.index == Index(0) {
            return Err(StorageError::Failed(
                "a snapshot is needed, and storage gave an empty one".into(),
            ));
        }
        progress.become_snapshot(snapshot.meta.index);
        self.send(self.tracker.progress.id_at(at), MessageBody::Snapshot(snapshot));
        Ok(true)
    }

    pub(crate) fn send_heartbeat(&mut self, to: ReplicaId, context: Option<ReadContext>) {
        let Some(progress) = self.tracker.progress.get_mut(to) else {
            return;
        };
        // The member may lack entries behind `matched`; it must not commit what it does not have.
        let commit = if mutant!("heartbeat-commits-past-the-match") {
            self.log.commit
        } else {
            progress.matched.min(self.log.commit)
        };
        progress.sent_commit(commit);
        self.send(to, MessageBody::Heartbeat { commit, context });
    }

    pub(crate) fn broadcast_heartbeat(&mut self, context: Option<ReadContext>) {
        for at in 0..self.tracker.progress.len() {
            let to = self.tracker.progress.id_at(at);
            if to != self.id {
                self.send_heartbeat(to, context);
            }
        }
    }

    /// Moves the commit index to what a quorum has stored, if that entry is of this term (Raft paper §5.4.2).
    pub(crate) fn maybe_commit(&mut self) -> Result<bool, StepError> {
        let index = self.tracker.committed();
        if self.term == Term(0)
            || index <= self.log.commit
            || !(mutant!("old-term-committed-by-counting") || self.log.matches(index, self.term)?)
        {
            return Ok(false);
        }
        self.log.commit_to(index)?;
        Ok(true)
    }

    pub(crate) fn committed_in_term(&self) -> bool {
        self.log
            .known_term(self.log.commit)
            .is_ok_and(|term| term == Some(self.term))
    }

    /// Appends proposals. Returns whether they fit the limit on uncommitted bytes.
    pub(crate) fn append_proposals(&mut self, payloads: impl Proposed) -> bool {
        let bytes: u64 = payloads.as_ref().iter().map(|payload| payload.len() as u64).sum();
        // One proposal more than the limit allows is taken, and empty ones always: a leader's first entry and
        // the leaving of a joint configuration must not be stopped by it.
        if bytes > 0
            && self.uncommitted_bytes > 0
            && self.uncommitted_bytes.saturating_add(bytes) > self.config.max_uncommitted_bytes
        {
            return false;
        }
        self.uncommitted_bytes = self.uncommitted_bytes.saturating_add(bytes);
        let index = self.log.append_new(self.term, payloads);
        // The leader's own acknowledgement counts once its entries are durable, like everybody's (thesis §10.2.1).
        // Gathering: the report that they are is the acknowledgement of all of the turn.
        if !self.config.gather_appends {
            self.send(self.id, MessageBody::AppendResponse { index, reject: None });
        }
        true
    }

    /// Entries up to `index` that this member appended in its present term are durable.
    pub(crate) fn own_append_done(&mut self, index: Index) -> Result<(), StepError> {
        if self.config.gather_appends
            && self.role == Role::Leader
            && let Some(at) = self.tracker.progress.position(self.id)
        {
            self.accepted(at, index)?;
        }
        Ok(())
    }

    // ---- applying ----

    pub(crate) fn applied_to(&mut self, index: Index, bytes: u64) -> Result<(), StepError> {
        let index = index.max(self.log.applied);
        self.log.applied_to(index, bytes);
        self.leave_joint_if_due()
    }

    /// Leaving a joint configuration is any leader's duty once the entering is applied. It is refused while
    /// leadership is handed over; what ends the handing over tries again.
    pub(crate) fn leave_joint_if_due(&mut self) -> Result<(), StepError> {
        if !self.tracker.config.auto_leave
            || self.log.applied < self.pending_conf_index
            || self.role != Role::Leader
        {
            return Ok(());
        }
        match self.propose([Payload::ConfChange(Box::default())]) {
            Ok(_) | Err(StepError::Propose(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn applied_snapshot(&mut self, index: Index) -> Result<(), StepError> {
        self.log.unstable.stable_snapshot_to(index);
        self.applied_to(index, 0)
    }

    /// Puts a configuration into effect.
    pub(crate) fn switch_to(
        &mut self,
        config: TrackerConfig,
        progress: ProgressMap,
    ) -> Result<ConfState, StepError> {
        self.tracker.config = config;
        self.tracker.progress = progress;
        let state = self.tracker.conf_state();
        let votes = self
            .tracker
            .progress
            .get(self.id)
            .is_some_and(|progress| !progress.is_learner);
        if self.role != Role::Leader {
            return Ok(state);
        }
        if !votes {
            // Removed or demoted (Raft paper §6).
            if self.config.step_down_on_removal {
                self.become_follower(self.term, None);
            }
            return Ok(state);
        }
        if state.voters.is_empty() {
            return Ok(state);
        }
        if self.maybe_commit()? {
            // A smaller quorum commits more.
            self.broadcast_append()?;
        } else {
            // New members are probed at once.
            for at in 0..self.tracker.progress.len() {
                let to = self.tracker.progress.id_at(at);
                if to != self.id {
                    if self.config.gather_appends {
                        self.owe(to, Owed::News);
                    } else {
                        self.maybe_send_append(at, false, &mut Buffers::default())?;
                    }
                }
            }
        }
        if self
            .transferee
            .is_some_and(|target| !self.tracker.config.voters.contains(target))
        {
            self.transferee = None;
        }
        Ok(state)
    }
}
