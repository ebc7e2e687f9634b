//! What a leader does with messages and proposals.

use crate::confchange::Changer;
use crate::quorum::VoteResult;
use crate::raft::{Proposed, Raft};
use crate::read_only::ReadRequest;
use crate::{
    Buffers, ConfChange, ConfChangeError, Index, MessageBody, Payload, ProgressState, ProposeError,
    ReadContext, ReadOnlyOption, ReadState, RejectHint, ReplicaId, Role, StepError, Storage, Term,
};

impl<S: Storage> Raft<S> {
    pub(crate) fn step_leader(&mut self, from: ReplicaId, body: MessageBody) -> Result<(), StepError> {
        match body {
            MessageBody::Propose { payloads } => {
                self.propose(payloads)?;
                return Ok(());
            }
            MessageBody::ReadIndex { context } => {
                let from = Some(from).filter(|from| *from != self.id);
                return self.read_index(ReadRequest { from, context });
            }
            _ => {}
        }
        // What follows speaks of a member's progress; others have none.
        let Some(at) = self.tracker.progress.position(from) else {
            return Ok(());
        };
        match body {
            MessageBody::AppendResponse { index, reject: None } => self.accepted(at, index),
            MessageBody::AppendResponse {
                index,
                reject: Some(hint),
            } => self.rejected(at, index, hint),
            MessageBody::HeartbeatResponse { context } => self.heartbeat_answered(at, context),
            MessageBody::TransferLeader { target } => self.transfer(target),
            MessageBody::Append { .. }
            | MessageBody::Heartbeat { .. }
            | MessageBody::Snapshot(_)
            | MessageBody::Vote { .. }
            | MessageBody::VoteResponse { .. }
            | MessageBody::PreVote { .. }
            | MessageBody::PreVoteResponse { .. }
            | MessageBody::TimeoutNow
            | MessageBody::ReadIndexResponse { .. }
            | MessageBody::Propose { .. }
            | MessageBody::ReadIndex { .. } => Ok(()),
        }
    }

    // ---- proposals ----

    /// Whether proposals are taken at all.
    pub(crate) fn may_propose(&self) -> Result<(), ProposeError> {
        if self.role != Role::Leader {
            return Err(ProposeError::NotLeader { leader: self.leader });
        }
        if self.tracker.progress.get(self.id).is_none() {
            // Removed, and still leading until it steps down: nothing new.
            return Err(ProposeError::NotLeader { leader: None });
        }
        match self.transferee {
            Some(target) => Err(ProposeError::TransferInProgress { target }),
            None => Ok(()),
        }
    }

    /// Whether a change appended now will fit when it is applied. One at a time, so that it meets the present
    /// configuration (thesis §4.1); in a joint configuration only the leaving, and the leaving only there.
    pub(crate) fn check_conf_change(&self, change: &ConfChange) -> Result<(), ProposeError> {
        if self.config.disable_conf_change_validation {
            return Ok(());
        }
        if self.pending_conf_index > self.log.applied && !mutant!("second-change-while-one-is-pending") {
            return Err(ProposeError::ConfChangePending {
                until: self.pending_conf_index,
            });
        }
        let joint = self.tracker.config.voters.is_joint();
        if joint && !change.changes.is_empty() {
            return Err(ProposeError::ConfChangeInJoint);
        }
        if !joint && change.changes.is_empty() {
            return Err(ProposeError::ConfChange(ConfChangeError::NotJoint));
        }
        let changer = Changer {
            tracker: &self.tracker,
            last_index: self.log.last_index(),
        };
        changer.change(change).map(drop).map_err(ProposeError::ConfChange)
    }

    /// Appends proposals; returns where the first stands.
    pub(crate) fn propose(&mut self, mut payloads: impl Proposed) -> Result<(Term, Index), StepError> {
        self.may_propose()?;
        let first = self.log.last_index().next();
        let pending_before = self.pending_conf_index;
        for (at, payload) in payloads.as_mut().iter_mut().enumerate() {
            let Payload::ConfChange(change) = payload else {
                continue;
            };
            if self.check_conf_change(change).is_ok() {
                self.pending_conf_index = Index(first.0 + at as u64);
            } else {
                *payload = Payload::Normal(bytes::Bytes::new());
            }
        }
        if !self.append_proposals(payloads) {
            self.pending_conf_index = pending_before;
            return Err(ProposeError::TooManyUncommittedBytes.into());
        }
        self.broadcast_append()?;
        Ok((self.term, first))
    }

    // ---- replication ----

    /// The member at a position has stored everything up to `index`.
    pub(crate) fn accepted(&mut self, at: usize, index: Index) -> Result<(), StepError> {
        let last = self.log.last_index();
        let from = self.tracker.progress.id_at(at);
        let own = from == self.id;
        let progress = self.tracker.progress.at_mut(at);
        progress.recent_active = true;
        if index > last {
            return Ok(()); // nobody can have more of this term than its leader
        }
        let index = if mutant!("sent-taken-for-stored") && !own {
            index.max(progress.next.prev())
        } else {
            index
        };
        // An answer that tells nothing new still ends probing.
        let probed = progress.matched == index && progress.state == ProgressState::Probe;
        if !progress.maybe_update(index) && !probed {
            return Ok(());
        }
        match progress.state {
            ProgressState::Probe => progress.become_replicate(),
            // Whichever snapshot it was that got it there, the log reaches it now.
            ProgressState::Snapshot if progress.matched.next() >= self.log.first_index()? => {
                progress.become_probe();
                progress.become_replicate();
            }
            ProgressState::Snapshot => {}
            ProgressState::Replicate => progress.inflights.free_up_to(index),
        }
        let can_bump_commit = progress.can_bump_commit(self.log.commit);
        let matched = progress.matched;
        // What was committed before needs no new count: only this member's position rose.
        if matched > self.log.commit && self.maybe_commit()? {
            self.release_early_reads()?;
            // Gathering: a commit index alone is not worth a message and its answer; it goes with the next
            // append or heartbeat (docs/adr/0002).
            if !self.config.gather_appends {
                self.broadcast_append()?;
            }
        } else if !own && can_bump_commit && !self.config.gather_appends {
            self.send_append(from)?;
        }
        if !own {
            if self.config.gather_appends {
                self.owe_news(at);
            } else {
                // The window may have room for several messages now.
                while self.maybe_send_append(at, false, &mut Buffers::default())? {}
            }
            if self.transferee == Some(from) && matched == self.log.last_index() {
                self.send(from, MessageBody::TimeoutNow);
            }
        }
        Ok(())
    }

    fn owe_news(&mut self, at: usize) {
        let last = self.log.last_index();
        let progress = self.tracker.progress.at_mut(at);
        if progress.next <= last {
            progress.owe(crate::progress::Owed::News);
            self.owes = true;
        }
    }

    fn rejected(&mut self, at: usize, rejected: Index, hint: RejectHint) -> Result<(), StepError> {
        // Entries here with a higher term than the follower has at the hint cannot be in its log: skip them,
        // a whole term at a time on both sides.
        let next_probe = if hint.term > Term(0) {
            self.log.find_conflict_by_term(hint.index, hint.term)?.0
        } else {
            hint.index
        };
        let from = self.tracker.progress.id_at(at);
        let progress = self.tracker.progress.at_mut(at);
        progress.recent_active = true;
        if progress.maybe_decrease(rejected, next_probe) {
            if progress.state == ProgressState::Replicate {
                progress.become_probe();
            }
            self.send_append(from)?;
        }
        Ok(())
    }

    fn heartbeat_answered(&mut self, at: usize, context: Option<ReadContext>) -> Result<(), StepError> {
        let last = self.log.last_index();
        let from = self.tracker.progress.id_at(at);
        let progress = self.tracker.progress.at_mut(at);
        progress.recent_active = true;
        progress.flow_paused = false;
        // It hears us and lacks something, or is probed: appends that were lost are sent again.
        if progress.matched < last || progress.state == ProgressState::Probe {
            self.send_append(from)?;
        }
        let Some(context) = context.filter(|_| self.config.read_only == ReadOnlyOption::Safe) else {
            return Ok(());
        };
        self.acknowledge_read(from, context);
        Ok(())
    }

    // ---- reads ----

    pub(crate) fn read_index(&mut self, request: ReadRequest) -> Result<(), StepError> {
        // Before an entry of its term is committed a leader does not know the commit index (Raft paper §8).
        if !self.committed_in_term() && !mutant!("read-before-the-terms-entry") {
            // Who asks again gets one answer.
            if !self.early_reads.contains(&request) {
                self.early_reads.push(request);
            }
            return Ok(());
        }
        if self.config.read_only == ReadOnlyOption::LeaseBased || mutant!("read-index-without-a-round") {
            self.answer_read(request, self.log.commit);
            return Ok(());
        }
        self.read_only.add(request, self.log.commit);
        // Its own acknowledgement is all that it needs if no other votes, in neither half.
        if !self.acknowledge_read(self.id, request.context) {
            self.broadcast_heartbeat(Some(request.context));
        }
        Ok(())
    }

    /// A member acknowledged a round of heartbeats. Returns whether that confirmed it.
    fn acknowledge_read(&mut self, from: ReplicaId, context: ReadContext) -> bool {
        let Some(acks) = self.read_only.acknowledge(from, context) else {
            return false;
        };
        let vote = |id| acks.contains(&id).then_some(true);
        let is_confirmed = self.tracker.config.voters.vote_result(vote) == VoteResult::Won;
        if is_confirmed {
            for (request, index) in self.read_only.confirm(context) {
                self.answer_read(request, index);
            }
        }
        is_confirmed
    }

    fn release_early_reads(&mut self) -> Result<(), StepError> {
        if !self.early_reads.is_empty() && self.committed_in_term() {
            for request in core::mem::take(&mut self.early_reads) {
                self.read_index(request)?;
            }
        }
        Ok(())
    }

    fn answer_read(&mut self, request: ReadRequest, index: Index) {
        let context = request.context;
        match request.from {
            None => self.read_states.push(ReadState { index, context }),
            Some(to) => self.send(to, MessageBody::ReadIndexResponse { index, context }),
        }
    }

    // ---- transfer ----

    /// Hands leadership to `target` once its log is complete (thesis §3.10).
    pub(crate) fn transfer(&mut self, target: ReplicaId) -> Result<(), StepError> {
        let last = self.log.last_index();
        let Some(progress) = self
            .tracker
            .progress
            .get(target)
            .filter(|progress| !progress.is_learner)
        else {
            return Ok(());
        };
        let up_to_date = progress.matched == last;
        if self.transferee == Some(target) {
            return Ok(()); // under way
        }
        // A newer wish replaces an older one; handing it to oneself takes it back.
        self.transferee = None;
        if target == self.id {
            return self.leave_joint_if_due();
        }
        self.election_elapsed = 0;
        self.transferee = Some(target);
        if up_to_date {
            self.send(target, MessageBody::TimeoutNow);
        } else {
            self.send_append(target)?;
        }
        Ok(())
    }
}
