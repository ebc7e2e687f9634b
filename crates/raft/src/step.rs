//! Taking a message: terms first, then votes, then what the role does with it.

use crate::raft::Raft;
use crate::{Message, MessageBody, ReplicaId, Role, StepError, Storage, Term};

impl<S: Storage> Raft<S> {
    /// Takes a message of a peer or, once it is durable, one of this member's own answers.
    pub(crate) fn step(&mut self, message: Message) -> Result<(), StepError> {
        // Nothing was asked of a stranger, so its answers mean nothing, not even their term: a removed member
        // must not depose the leader by them. Its requests are looked at: it may be a member whose addition
        // this one has not heard of.
        if message.body.is_response() && self.tracker.progress.get(message.from).is_none() {
            return Ok(());
        }
        if message.term == Term(0) && !message.body.may_lack_term() {
            return Ok(());
        }
        // From nobody, for another, or of a term that could not be counted on from.
        if message.from == ReplicaId(0) || message.to != self.id || message.term >= Term::LIMIT {
            return Ok(());
        }
        if message.term > self.term {
            if !self.higher_term(&message) {
                return Ok(());
            }
        } else if message.term < self.term
            && message.term != Term(0)
            && !(mutant!("stale-leader-obeyed") && matches!(message.body, MessageBody::Append { .. }))
        {
            self.lower_term(&message);
            return Ok(());
        }
        let Message { from, term, body, .. } = message;
        match body {
            MessageBody::Vote {
                last_index,
                last_term,
                ..
            } => self.vote_asked(from, term, last_index, last_term, false),
            MessageBody::PreVote {
                last_index,
                last_term,
                ..
            } => self.vote_asked(from, term, last_index, last_term, true),
            body => match self.role {
                Role::Leader => self.step_leader(from, body),
                Role::Candidate | Role::PreCandidate => self.step_candidate(from, term, body),
                Role::Follower => self.step_follower(from, body),
            },
        }
    }

    /// A message of a later term. Returns whether it is to be looked at further.
    fn higher_term(&mut self, message: &Message) -> bool {
        match message.body {
            MessageBody::Vote { transfer, .. } | MessageBody::PreVote { transfer, .. } => {
                // While a leader is heard its followers do not help to depose it (thesis §4.2.3, §6.4.1), unless
                // it wants to be.
                let hears_leader = self.config.check_quorum
                    && self.leader.is_some()
                    && self.election_elapsed < self.config.election_ticks;
                if hears_leader && !transfer {
                    return false;
                }
                if matches!(message.body, MessageBody::Vote { .. }) {
                    self.become_follower(message.term, None);
                }
            }
            // Granted pre-votes carry the term that was asked about; the campaign that follows moves to it.
            MessageBody::PreVoteResponse { reject: false } => {}
            MessageBody::Append { .. } | MessageBody::Heartbeat { .. } | MessageBody::Snapshot(_) => {
                self.become_follower(message.term, Some(message.from));
            }
            _ => self.become_follower(message.term, None),
        }
        true
    }

    /// A message of an earlier term.
    fn lower_term(&mut self, message: &Message) {
        match message.body {
            // With pre-vote or check-quorum this member may be stuck at a term that the leader has not heard of:
            // it neither follows that leader nor disturbs it by campaigning. Answering tells it the term.
            MessageBody::Heartbeat { .. } | MessageBody::Append { .. }
                if self.config.check_quorum || self.config.pre_vote =>
            {
                let body = MessageBody::AppendResponse {
                    index: crate::Index(0),
                    reject: None,
                };
                self.send(message.from, body);
            }
            // Before pre-vote a candidate of a low term could wait for ever for an answer.
            MessageBody::PreVote { .. } => {
                self.send(message.from, MessageBody::PreVoteResponse { reject: true })
            }
            _ => {}
        }
    }

    /// Grants a vote once per term, to a log at least as new as its own (Raft paper §5.2, §5.4.1).
    fn vote_asked(
        &mut self,
        from: ReplicaId,
        term: Term,
        last_index: crate::Index,
        last_term: Term,
        pre: bool,
    ) -> Result<(), StepError> {
        let can_vote = self.vote == Some(from)
            || (self.vote.is_none() && self.leader.is_none())
            || (pre && term > self.term)
            || mutant!("two-votes-in-a-term");
        let grant = can_vote && self.log.is_up_to_date(last_index, last_term)?;
        let answer = |reject| {
            if pre {
                MessageBody::PreVoteResponse { reject }
            } else {
                MessageBody::VoteResponse { reject }
            }
        };
        if grant {
            // The answer carries the asked term: a pre-vote does not raise this member's.
            self.send_in(term, from, answer(false));
            if !pre {
                self.election_elapsed = 0;
                self.vote = Some(from);
            }
        } else {
            self.send(from, answer(true));
        }
        Ok(())
    }
}
