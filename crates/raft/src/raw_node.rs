//! The core's surface.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::confchange::Changer;
use crate::progress::Progress;
use crate::quorum::VoteResult;
use crate::raft::Raft;
use crate::raft_log::total_bytes;
use crate::read_only::ReadRequest;
use crate::tracker::Tracker;
use crate::{
    AppendDone, AppendWork, ApplyWork, Buffers, ConfChange, ConfChangeError, ConfState, Config, Entry,
    HardState, Index, Message, MessageBody, ProgressState, ProgressView, ReadContext, Ready, ReplicaId, Role,
    SoftState, StartError, Status, StepError, Storage, StorageError, Term,
};

/// A member of a Raft group.
///
/// The driver's loop: give it messages, ticks and proposals; take a [`Ready`] while [`RawNode::has_ready`]; do
/// its work; report it done. See [`Ready`] for what must be durable before what may be sent.
pub struct RawNode<S: Storage> {
    pub(crate) raft: Raft<S>,
    seen_soft_state: SoftState,
    seen_hard_state: HardState,
    /// Synchronous driving: what [`RawNode::advance`] has to do.
    on_advance: OnAdvance,
    /// Batches handed out to be applied: last index, limit bytes, payload bytes.
    applying: VecDeque<(Index, u64, u64)>,
}

#[derive(Default)]
struct OnAdvance {
    own: Vec<Message>,
    done: Option<AppendDone>,
    applied: Option<Index>,
}

impl<S: Storage> RawNode<S> {
    /// A member as storage left it.
    ///
    /// # Errors
    ///
    /// [`StartError`] if the settings cannot work, or if storage fails or contradicts itself: a hard state or an
    /// applied index past the end of the log means that its tail was lost. Such a member must not run; it could
    /// take back what it acknowledged.
    pub fn new(config: Config, storage: S) -> Result<Self, StartError> {
        config.validate()?;
        let raft = Raft::new(config, storage)?;
        Ok(Self {
            seen_soft_state: raft.soft_state(),
            seen_hard_state: raft.hard_state(),
            raft,
            on_advance: OnAdvance::default(),
            applying: VecDeque::new(),
        })
    }

    /// The storage.
    pub fn storage(&self) -> &S {
        &self.raft.log.storage
    }

    /// The storage, to append what a Ready asked for.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.raft.log.storage
    }

    /// One tick of the application's clock.
    ///
    /// # Errors
    ///
    /// As [`RawNode::step`].
    pub fn tick(&mut self) -> Result<(), StepError> {
        self.raft.tick()
    }

    /// Starts an election now (a pre-vote first, if configured); nothing happens on a leader, on a learner, or
    /// while a membership change or a snapshot waits to be applied.
    ///
    /// # Errors
    ///
    /// As [`RawNode::step`].
    pub fn campaign(&mut self) -> Result<(), StepError> {
        self.raft.start_election()
    }

    /// Takes a message of a peer, or one of this member's own `responses`.
    ///
    /// # Errors
    ///
    /// [`StepError::Contradiction`] and [`StepError::Storage`] must stop the member: going on could lose
    /// committed entries. [`StepError::Propose`] refuses a proposal that a follower passed on.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        // Under its own name a member hears what it stored. What it asks of itself comes by the other methods,
        // so such a message from the network is nobody's.
        if message.from == self.raft.id && !message.body.may_be_own() {
            return Ok(());
        }
        self.raft.step(message)
    }

    /// Puts an applied membership change into effect and returns the configuration, to be stored. To be called for
    /// every [`crate::Payload::ConfChange`] that is applied, before [`RawNode::apply_done`] of its index. A change that
    /// the application decides to void is applied with every `replica` set to zero.
    ///
    /// The removal of the last member leaves nobody: the group has ended.
    ///
    /// # Errors
    ///
    /// [`StepError::Contradiction`] if the change does not fit the configuration: members disagree on it.
    pub fn apply_conf_change(&mut self, change: &ConfChange) -> Result<ConfState, StepError> {
        let changer = Changer {
            tracker: &self.raft.tracker,
            last_index: self.raft.log.last_index(),
        };
        let (config, progress) = match changer.change(change) {
            Err(ConfChangeError::NoVoters) if changer.ends_group(change) => Default::default(),
            changed => changed.map_err(|error| {
                StepError::Contradiction(alloc::format!("membership change {change:?}: {error}"))
            })?,
        };
        self.raft.switch_to(config, progress)
    }

    /// Asks for a read index; the answer is a [`crate::ReadState`] with this context. A follower asks its leader;
    /// without one the request is lost.
    ///
    /// # Errors
    ///
    /// As [`RawNode::step`].
    pub fn read_index(&mut self, context: ReadContext) -> Result<(), StepError> {
        if self.raft.role == Role::Leader {
            return self.raft.read_index(ReadRequest { from: None, context });
        }
        let body = MessageBody::ReadIndex { context };
        self.raft.step(Message {
            from: self.raft.id,
            to: self.raft.id,
            term: Term(0),
            body,
        })
    }

    /// Hands leadership to `target`; a follower passes the wish on to its leader.
    ///
    /// # Errors
    ///
    /// As [`RawNode::step`].
    pub fn transfer_leader(&mut self, target: ReplicaId) -> Result<(), StepError> {
        if self.raft.role == Role::Leader {
            return self.raft.transfer(target);
        }
        let body = MessageBody::TransferLeader { target };
        self.raft.step(Message {
            from: self.raft.id,
            to: self.raft.id,
            term: Term(0),
            body,
        })
    }

    /// Forgets the leader (a follower grants pre-votes at once). Ignored by leaders and with leases (L4).
    ///
    /// # Errors
    ///
    /// None today; kept for what a later version may check.
    pub fn forget_leader(&mut self) -> Result<(), StepError> {
        self.raft.forget_leader();
        Ok(())
    }

    /// Messages to `peer` may have been lost: it is probed instead of pipelined to.
    pub fn report_unreachable(&mut self, peer: ReplicaId) {
        if self.raft.role == Role::Leader
            && let Some(progress) = self.raft.tracker.progress.get_mut(peer)
            && progress.state == ProgressState::Replicate
        {
            progress.become_probe();
        }
    }

    /// The snapshot sent to `peer` arrived, or failed.
    pub fn report_snapshot(&mut self, peer: ReplicaId, ok: bool) {
        if self.raft.role != Role::Leader {
            return;
        }
        let Some(progress) = self.raft.tracker.progress.get_mut(peer) else {
            return;
        };
        if progress.state != ProgressState::Snapshot {
            return;
        }
        if !ok {
            // Probe from what it had before, not from where the snapshot would have put it.
            progress.pending_snapshot = Index(0);
        }
        progress.become_probe();
        // The next append waits for its answer (arrived) or for a heartbeat's (failed).
        progress.flow_paused = true;
    }

    /// Whether [`RawNode::ready`] has work.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        let raft = &self.raft;
        !raft.messages.is_empty()
            || !raft.after_append.is_empty()
            || raft.owes
            || !raft.read_states.is_empty()
            || raft.soft_state() != self.seen_soft_state
            || raft.hard_state() != self.seen_hard_state
            || !raft.log.unstable.next_entries().is_empty()
            || raft.log.unstable.next_snapshot().is_some()
            || raft.log.has_next_committed(self.allow_unstable())
    }

    /// With synchronous driving entries are durable before the same Ready's commits are applied.
    fn allow_unstable(&self) -> bool {
        !self.raft.config.async_storage_writes
    }

    /// Takes the turn's work.
    ///
    /// # Errors
    ///
    /// [`StepError::Storage`] if entries cannot be read; the member must stop.
    pub fn ready(&mut self) -> Result<Ready, StepError> {
        self.ready_with(&mut Buffers::default())
    }

    /// Takes the turn's work in vectors of `buffers`, as far as there are some.
    ///
    /// # Errors
    ///
    /// As [`RawNode::ready`].
    pub fn ready_with(&mut self, buffers: &mut Buffers) -> Result<Ready, StepError> {
        let on_advance = &self.on_advance;
        assert!(
            on_advance.own.is_empty() && on_advance.done.is_none() && on_advance.applied.is_none(),
            "a Ready was taken before the last one was reported done by advance()"
        );
        self.raft.send_owed(buffers)?;
        let allow_unstable = self.allow_unstable();
        let raft = &mut self.raft;
        let mut ready = Ready {
            read_states: core::mem::take(&mut raft.read_states),
            send_now: buffers.take_messages(&mut raft.messages),
            ..Ready::default()
        };
        let soft_state = raft.soft_state();
        if soft_state != self.seen_soft_state {
            ready.soft_state = Some(soft_state);
            self.seen_soft_state = soft_state;
        }
        if raft.log.has_next_committed(allow_unstable) {
            let entries = raft.log.next_committed(allow_unstable, buffers.entries())?;
            if let Some(last) = entries.last().map(|last| last.index) {
                let (payload_bytes, limit_bytes) = total_bytes(&entries);
                self.applying.push_back((last, limit_bytes, payload_bytes));
                raft.log.accept_applying(last, limit_bytes, allow_unstable);
                if allow_unstable {
                    self.on_advance.applied = Some(last);
                }
                ready.apply = Some(ApplyWork { entries });
            }
        }
        ready.append = self.append_work(buffers);
        self.raft.log.unstable.accept_in_progress();
        Ok(ready)
    }

    fn append_work(&mut self, buffers: &mut Buffers) -> Option<AppendWork> {
        let raft = &mut self.raft;
        let hard_state = raft.hard_state();
        let seen = core::mem::replace(&mut self.seen_hard_state, hard_state);
        let mut entries = Vec::new();
        if !raft.log.unstable.next_entries().is_empty() {
            entries = buffers.entries();
            entries.extend_from_slice(raft.log.unstable.next_entries());
        }
        let snapshot = raft.log.unstable.next_snapshot().cloned().map(Box::new);
        let responses = buffers.take_messages(&mut raft.after_append);
        // Everything in memory that is not known to be durable will be, once this work is done.
        let unstable = !raft.log.unstable.entries.is_empty();
        let installed = snapshot.as_ref().map(|snapshot| snapshot.meta.index);
        if entries.is_empty() && snapshot.is_none() && hard_state == seen && responses.is_empty() {
            return None;
        }
        let done = (unstable || installed.is_some()).then(|| AppendDone {
            term: raft.term,
            last: raft
                .log
                .unstable
                .entries
                .last()
                .map(|last| (last.index, last.term)),
            snapshot: installed,
        });
        let must_sync = !entries.is_empty() || hard_state.term != seen.term || hard_state.vote != seen.vote;
        let mut work = AppendWork {
            hard_state: (hard_state != seen).then_some(hard_state),
            entries,
            must_sync: must_sync || snapshot.is_some(),
            snapshot,
            responses,
            done,
        };
        if !raft.config.async_storage_writes {
            let own = raft.id;
            self.on_advance.own = work
                .responses
                .extract_if(.., |message| message.to == own)
                .collect();
            self.on_advance.done = work.done.take();
        }
        Some(work)
    }

    /// Synchronous driving: all of the last Ready is done (durable, sent, applied).
    ///
    /// # Errors
    ///
    /// As [`RawNode::step`].
    pub fn advance(&mut self) -> Result<(), StepError> {
        let OnAdvance { own, done, applied } = core::mem::take(&mut self.on_advance);
        for message in own {
            self.raft.step(message)?;
        }
        if let Some(done) = done {
            self.append_done(done)?;
        }
        if let Some(index) = applied {
            self.apply_done(index)?;
        }
        Ok(())
    }

    /// Asynchronous driving: an append is durable and its responses were handed on.
    ///
    /// # Errors
    ///
    /// As [`RawNode::step`].
    pub fn append_done(&mut self, done: AppendDone) -> Result<(), StepError> {
        // In a later term the entries may have been replaced by others of the same index and even, after a
        // round trip of leaders, be on their way again: only this term's attestation is sure to mean these.
        if done.term == self.raft.term
            && let Some((index, term)) = done.last
        {
            self.raft.log.unstable.stable_to(index, term);
            self.raft.own_append_done(index)?;
        }
        if let Some(index) = done.snapshot {
            self.raft.applied_snapshot(index)?;
        }
        Ok(())
    }

    /// Asynchronous driving: committed entries up to `index`, the end of a batch that was handed out, are
    /// applied.
    ///
    /// # Errors
    ///
    /// As [`RawNode::step`].
    pub fn apply_done(&mut self, index: Index) -> Result<(), StepError> {
        let (mut limit_bytes, mut payload_bytes) = (0, 0);
        while let Some((last, limit, payload)) = self.applying.front().copied()
            && last <= index
        {
            limit_bytes += limit;
            payload_bytes += payload;
            self.applying.pop_front();
        }
        self.raft.applied_to(index, limit_bytes)?;
        self.raft.uncommitted_bytes = self.raft.uncommitted_bytes.saturating_sub(payload_bytes);
        Ok(())
    }

    /// Everything that operators and tests like to see, at once.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(&self.raft)
    }

    /// Changes [`Config::priority`]; it counts from the next election timeout that is drawn. A value for which the
    /// longest timeout would not fit 32 bits is cut to the highest that does.
    pub fn set_priority(&mut self, priority: u8) {
        let config = &mut self.raft.config;
        let most = u32::MAX / config.election_ticks - 2;
        config.priority = u8::try_from(most).map_or(priority, |most| priority.min(most));
    }

    /// This member.
    #[must_use]
    pub fn id(&self) -> ReplicaId {
        self.raft.id
    }

    /// The current term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.raft.term
    }

    /// Whom this member voted for in the current term.
    #[must_use]
    pub fn vote(&self) -> Option<ReplicaId> {
        self.raft.vote
    }

    /// The role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.raft.role
    }

    /// The known leader.
    #[must_use]
    pub fn leader(&self) -> Option<ReplicaId> {
        self.raft.leader
    }

    /// The commit index.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.raft.log.commit
    }

    /// The applied index, as last reported.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.raft.log.applied
    }

    /// The first index that is still in the log: what is before it was compacted, or is in a snapshot that is being
    /// installed.
    ///
    /// # Errors
    ///
    /// If storage fails.
    pub fn first_index(&self) -> Result<Index, StorageError> {
        self.raft.log.first_index()
    }

    /// The last index of the log, unstable entries included.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.raft.log.last_index()
    }

    /// The term at `index`.
    ///
    /// # Errors
    ///
    /// If the index is compacted or not there yet.
    pub fn term_at(&self, index: Index) -> Result<Term, StorageError> {
        self.raft.log.term(index)
    }

    /// Entries in `[low, end)`, stable or not: at least one, then as many as fit `max_bytes` of payload.
    ///
    /// # Errors
    ///
    /// If an index is compacted or not there yet, or if storage fails.
    pub fn entries(&self, low: Index, end: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        let last = self.raft.log.last_index();
        if end > last.next() {
            return Err(StorageError::Unavailable {
                last,
                asked: end.prev(),
            });
        }
        self.raft.log.slice(low, end, max_bytes)
    }

    /// Whether an entry of the current term is committed.
    #[must_use]
    pub fn committed_in_term(&self) -> bool {
        self.raft.committed_in_term()
    }

    /// Who leadership is being handed to.
    #[must_use]
    pub fn transferring_to(&self) -> Option<ReplicaId> {
        self.raft.transferee
    }

    /// The leader's view of `peer`. `None` unless leader and `peer` a member.
    #[must_use]
    pub fn progress(&self, peer: ReplicaId) -> Option<ProgressView> {
        if self.raft.role != Role::Leader {
            return None;
        }
        self.raft.tracker.progress.get(peer).map(Progress::view)
    }

    /// Configuration, progress and votes, for inspection.
    #[must_use]
    pub fn tracker(&self) -> &Tracker {
        &self.raft.tracker
    }

    /// The configuration in effect.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        self.raft.tracker.conf_state()
    }

    /// Whether `acked` holds a quorum (of both halves when joint).
    #[must_use]
    pub fn is_quorum(&self, acked: &dyn Fn(ReplicaId) -> bool) -> bool {
        self.raft.tracker.config.voters.vote_result(|id| Some(acked(id))) == VoteResult::Won
    }

    /// Pins the randomized election timeout until the next change of role or term, for tests.
    pub fn set_randomized_election_ticks(&mut self, ticks: u32) {
        self.raft.election_timeout = ticks;
    }
}
