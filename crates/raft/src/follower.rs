//! What followers and candidates do with messages.

use alloc::boxed::Box;

use crate::election::Campaign;
use crate::raft::Raft;
use crate::{
    Entry, Index, Message, MessageBody, ProposeError, ReadOnlyOption, ReadState, RejectHint, ReplicaId, Role,
    Snapshot, StepError, Storage, Term,
};

impl<S: Storage> Raft<S> {
    pub(crate) fn step_candidate(
        &mut self,
        from: ReplicaId,
        term: Term,
        body: MessageBody,
    ) -> Result<(), StepError> {
        match body {
            // Somebody else won this term (Raft paper §5.2).
            MessageBody::Append { .. } | MessageBody::Heartbeat { .. } | MessageBody::Snapshot(_) => {
                self.become_follower(term, Some(from));
                self.step_follower(from, body)
            }
            MessageBody::VoteResponse { reject } if self.role == Role::Candidate => {
                self.count_vote(from, !reject)
            }
            MessageBody::PreVoteResponse { reject }
                if self.role == Role::PreCandidate || mutant!("pre-vote-counted-as-vote") =>
            {
                self.count_vote(from, !reject)
            }
            MessageBody::Propose { .. } => Err(ProposeError::NotLeader { leader: None }.into()),
            MessageBody::VoteResponse { .. }
            | MessageBody::PreVoteResponse { .. }
            | MessageBody::AppendResponse { .. }
            | MessageBody::HeartbeatResponse { .. }
            | MessageBody::Vote { .. }
            | MessageBody::PreVote { .. }
            | MessageBody::TimeoutNow
            | MessageBody::TransferLeader { .. }
            | MessageBody::ReadIndex { .. }
            | MessageBody::ReadIndexResponse { .. } => Ok(()),
        }
    }

    pub(crate) fn step_follower(&mut self, from: ReplicaId, body: MessageBody) -> Result<(), StepError> {
        match body {
            MessageBody::Append {
                prev_index,
                prev_term,
                commit,
                entries,
            } => {
                self.hear(from);
                self.take_append(from, prev_index, prev_term, commit, entries)
            }
            MessageBody::Heartbeat { commit, context } => {
                self.hear(from);
                self.log.commit_to(commit)?;
                self.send(from, MessageBody::HeartbeatResponse { context });
                Ok(())
            }
            MessageBody::Snapshot(snapshot) => {
                self.hear(from);
                self.take_snapshot(from, snapshot)
            }
            MessageBody::Propose { payloads } => match self.leader {
                Some(leader) if !self.config.disable_proposal_forwarding => {
                    self.send(leader, MessageBody::Propose { payloads });
                    Ok(())
                }
                leader => Err(ProposeError::NotLeader { leader }.into()),
            },
            MessageBody::TransferLeader { .. } => {
                // Without a leader it is lost, and whoever asked will ask again.
                if let Some(leader) = self.leader {
                    self.send(leader, body);
                }
                Ok(())
            }
            MessageBody::ReadIndex { .. } => {
                // Likewise. It is passed on in the name of who asked first: the answer is for that member.
                if let Some(leader) = self.leader {
                    self.messages.push(Message {
                        from,
                        to: leader,
                        term: Term(0),
                        body,
                    });
                }
                Ok(())
            }
            // The leader wants this member to take over: no pre-vote, nothing to find out (thesis §3.10).
            MessageBody::TimeoutNow => self.hup(Campaign::Transfer),
            MessageBody::ReadIndexResponse { index, context } => {
                self.read_states.push(ReadState { index, context });
                Ok(())
            }
            MessageBody::AppendResponse { .. }
            | MessageBody::HeartbeatResponse { .. }
            | MessageBody::Vote { .. }
            | MessageBody::VoteResponse { .. }
            | MessageBody::PreVote { .. }
            | MessageBody::PreVoteResponse { .. } => Ok(()),
        }
    }

    fn hear(&mut self, leader: ReplicaId) {
        self.election_elapsed = 0;
        self.leaderless_ticks = 0;
        if self.leader.is_none() && self.config.priority > 0 {
            self.draw_election_timeout();
        }
        self.leader = Some(leader);
    }

    /// A follower forgets its leader, so that it can vote at once. Not with leases: they rest on its memory.
    pub(crate) fn forget_leader(&mut self) {
        if self.role == Role::Follower && self.config.read_only != ReadOnlyOption::LeaseBased {
            self.leader = None;
        }
    }

    fn take_append(
        &mut self,
        from: ReplicaId,
        prev: Index,
        prev_term: Term,
        commit: Index,
        entries: alloc::vec::Vec<Entry>,
    ) -> Result<(), StepError> {
        if !is_contiguous(prev, prev_term, self.term, &entries) {
            return Ok(()); // no leader sends that
        }
        if prev < self.log.commit {
            // Stale: what is committed matches already.
            let index = self.log.commit;
            self.send(from, MessageBody::AppendResponse { index, reject: None });
            return Ok(());
        }
        if let Some(index) = self.log.maybe_append(prev, prev_term, entries, commit)? {
            self.send(from, MessageBody::AppendResponse { index, reject: None });
            return Ok(());
        }
        // The hint skips whole terms: entries of a higher term than the leader has at `prev` cannot match.
        let (index, term) = self
            .log
            .find_conflict_by_term(prev.min(self.log.last_index()), prev_term)?;
        let reject = Some(RejectHint { index, term });
        self.send(from, MessageBody::AppendResponse { index: prev, reject });
        Ok(())
    }

    fn take_snapshot(&mut self, from: ReplicaId, snapshot: Box<Snapshot>) -> Result<(), StepError> {
        let meta = &snapshot.meta;
        if meta.term > self.term || meta.index >= Index::LIMIT || meta.conf_state.validate().is_err() {
            return Ok(()); // no leader sends that
        }
        let restored = self.restore(snapshot)?;
        let index = if restored {
            self.log.last_index()
        } else {
            self.log.commit
        };
        self.send(from, MessageBody::AppendResponse { index, reject: None });
        Ok(())
    }

    /// Replaces log and configuration by a snapshot's, if it is ahead of what is committed here.
    fn restore(&mut self, snapshot: Box<Snapshot>) -> Result<bool, StepError> {
        let meta = &snapshot.meta;
        let is_stale = meta.index <= self.log.commit && !mutant!("stale-snapshot-restored");
        if is_stale || self.role != Role::Follower {
            return Ok(false);
        }
        // A snapshot of a configuration without this member is not for it.
        let state = &meta.conf_state;
        let lists = [&state.voters, &state.learners, &state.voters_outgoing];
        if lists.iter().all(|list| !list.contains(&self.id)) {
            return Ok(false);
        }
        if self.log.matches(meta.index, meta.term)? {
            // The log has it all: only the commit index is news.
            self.log.commit_to(meta.index)?;
            return Ok(false);
        }
        // Membership changes on their way to be applied would be applied on top of the snapshot's configuration.
        // The leader hears that nothing moved, and sends one again.
        if self.log.is_applying() {
            return Ok(false);
        }
        let state = meta.conf_state.clone();
        self.log.restore(snapshot);
        let last = self.log.last_index();
        self.tracker = self.tracker.restore(&state, last);
        if let Some(progress) = self.tracker.progress.get_mut(self.id) {
            progress.maybe_update(last);
        }
        Ok(true)
    }
}

/// Whether entries follow `prev` without gaps, in terms that never fall and are not past the leader's.
fn is_contiguous(prev: Index, prev_term: Term, term: Term, entries: &[Entry]) -> bool {
    let mut last = (prev, prev_term);
    entries.iter().all(|entry| {
        let follows =
            last.0.0.checked_add(1) == Some(entry.index.0) && entry.term >= last.1 && entry.term <= term;
        last = (entry.index, entry.term);
        follows
    })
}
