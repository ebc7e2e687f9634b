//! Roles and how they change: timeouts, campaigns, votes that are counted.

use crate::quorum::VoteResult;
use crate::raft::Raft;
use crate::{Config, Index, MessageBody, Payload, ReplicaId, Role, StepError, Storage, StorageError, Term};

/// Why a campaign starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Campaign {
    /// To learn whether an election could be won (thesis §9.6).
    PreElection,
    /// After a timeout.
    Election,
    /// The leader asked for it (thesis §3.10).
    Transfer,
}

impl<S: Storage> Raft<S> {
    /// A member of a later priority leaves the first elections after the loss of a leader to others. What it has
    /// waited already counts, or those who go first and cannot win would keep it waiting for ever.
    pub(crate) fn draw_election_timeout(&mut self) {
        let Config {
            election_ticks,
            priority,
            ..
        } = self.config;
        let deferred = (election_ticks * u32::from(priority)).saturating_sub(self.leaderless_ticks);
        self.election_timeout = election_ticks + self.rng.below(election_ticks) + deferred;
    }

    fn reset(&mut self, term: Term) {
        if term != self.term {
            assert!(term > self.term, "term fell from {} to {term}", self.term);
            self.term = term;
            self.vote = None;
        }
        self.leader = None;
        self.election_elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.draw_election_timeout();
        self.transferee = None;
        self.tracker.reset_votes();
        let last = self.log.last_index();
        let (own, inflights) = (self.id, self.tracker.inflights());
        for (id, progress) in self.tracker.progress.iter_mut() {
            let matched = if id == own { last } else { Index(0) };
            *progress =
                crate::progress::Progress::new(matched, last.next(), inflights.clone(), progress.is_learner);
        }
        self.pending_conf_index = Index(0);
        self.uncommitted_bytes = 0;
        self.read_only.clear();
        self.owes = false;
    }

    pub(crate) fn become_follower(&mut self, term: Term, leader: Option<ReplicaId>) {
        if leader.is_some() {
            self.leaderless_ticks = 0;
        }
        self.reset(term);
        self.leader = leader;
        self.role = Role::Follower;
        self.early_reads.clear();
    }

    pub(crate) fn become_candidate(&mut self) {
        assert_ne!(
            self.role,
            Role::Leader,
            "a leader of term {} cannot campaign",
            self.term
        );
        self.reset(self.term.next());
        self.vote = Some(self.id);
        self.role = Role::Candidate;
    }

    pub(crate) fn become_pre_candidate(&mut self) {
        assert_ne!(
            self.role,
            Role::Leader,
            "a leader of term {} cannot campaign",
            self.term
        );
        // Nothing durable changes: neither term nor vote.
        self.tracker.reset_votes();
        self.heartbeat_elapsed = 0;
        self.leader = None;
        self.role = Role::PreCandidate;
    }

    pub(crate) fn become_leader(&mut self) {
        assert_ne!(
            self.role,
            Role::Follower,
            "a follower of term {} cannot become the leader",
            self.term
        );
        self.leaderless_ticks = 0;
        self.reset(self.term);
        self.leader = Some(self.id);
        self.role = Role::Leader;
        if let Some(progress) = self.tracker.progress.get_mut(self.id) {
            progress.become_replicate();
            progress.recent_active = true;
        }
        // An unapplied membership change may stand anywhere in the log; none may be added before it is known.
        if !mutant!("new-leader-forgets-a-pending-change") {
            self.pending_conf_index = self.log.last_index();
        }
        // Committing it commits what earlier terms left (Raft paper §8).
        let taken = self.append_proposals([Payload::Normal(bytes::Bytes::new())]);
        assert!(taken, "an empty entry is never refused");
    }

    /// Whether it could lead: a voter that is not installing a snapshot.
    pub(crate) fn promotable(&self) -> bool {
        self.tracker
            .progress
            .get(self.id)
            .is_some_and(|progress| !progress.is_learner)
            && self.log.unstable.snapshot.is_none()
    }

    /// Starts an election, unless there is a reason not to.
    pub(crate) fn hup(&mut self, campaign: Campaign) -> Result<(), StepError> {
        if self.role == Role::Leader || !self.promotable() {
            return Ok(());
        }
        if self.has_unapplied_conf_change()? && !mutant!("campaign-with-an-unapplied-change") {
            return Ok(());
        }
        if self.term.next() >= Term::LIMIT {
            return Ok(()); // nobody would listen
        }
        self.campaign(campaign)
    }

    /// A committed membership change that is not applied yet may have changed who may vote.
    fn has_unapplied_conf_change(&self) -> Result<bool, StorageError> {
        let mut low = self.log.applied.next();
        let end = self.log.commit.next();
        while low < end {
            let entries = self.log.slice(low, end, 1 << 20)?;
            let Some(last) = entries.last() else {
                return Ok(false);
            };
            if entries
                .iter()
                .any(|entry| matches!(entry.payload, Payload::ConfChange(_)))
            {
                return Ok(true);
            }
            low = last.index.next();
        }
        Ok(false)
    }

    pub(crate) fn campaign(&mut self, campaign: Campaign) -> Result<(), StepError> {
        // Its own vote counts once it is durable, like everybody's.
        if campaign == Campaign::PreElection {
            self.become_pre_candidate();
            let granted = MessageBody::PreVoteResponse { reject: false };
            self.send_in(self.term.next(), self.id, granted);
        } else {
            self.become_candidate();
            self.send(self.id, MessageBody::VoteResponse { reject: false });
        }
        self.ask_for_votes(campaign == Campaign::Transfer)
    }

    /// Asks every other voter that has not answered yet.
    fn ask_for_votes(&mut self, transfer: bool) -> Result<(), StepError> {
        let pre = self.role == Role::PreCandidate;
        let term = if pre { self.term.next() } else { self.term };
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term()?);
        for id in self.tracker.config.voters.ids() {
            if id == self.id || self.tracker.has_voted(id) {
                continue;
            }
            let body = if pre {
                MessageBody::PreVote {
                    last_index,
                    last_term,
                    transfer,
                }
            } else {
                MessageBody::Vote {
                    last_index,
                    last_term,
                    transfer,
                }
            };
            self.send_in(term, id, body);
        }
        Ok(())
    }

    /// Counts a vote and acts on the result.
    pub(crate) fn count_vote(&mut self, from: ReplicaId, granted: bool) -> Result<(), StepError> {
        self.tracker.record_vote(from, granted);
        match self.tracker.vote_result() {
            VoteResult::Won if self.role == Role::PreCandidate => self.campaign(Campaign::Election),
            // Its own vote is its memory of the term. Elected by others before that is durable, it could forget the
            // term in a crash, be elected in it again by the same votes, and write other entries at the same places.
            VoteResult::Won if !self.tracker.has_voted(self.id) => Ok(()),
            VoteResult::Won => {
                self.become_leader();
                Ok(self.broadcast_append()?)
            }
            VoteResult::Lost => {
                // The term stays: a lost pre-vote was about the next one.
                self.become_follower(self.term, None);
                Ok(())
            }
            VoteResult::Pending => Ok(()),
        }
    }

    // ---- time ----

    pub(crate) fn tick(&mut self) -> Result<(), StepError> {
        self.election_elapsed += 1;
        self.heartbeat_elapsed += 1;
        if self.role == Role::Leader {
            if self.election_elapsed >= self.config.election_ticks {
                self.election_elapsed = 0;
                self.election_timeout_passed_as_leader()?;
            }
        } else {
            self.leaderless_ticks = self.leaderless_ticks.saturating_add(1);
            if self.promotable() && self.election_elapsed >= self.election_timeout {
                self.election_elapsed = 0;
                return self.start_election();
            }
        }
        if self.heartbeat_elapsed >= self.config.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            match self.role {
                Role::Leader => self.broadcast_heartbeat(self.read_only.newest()),
                // A request or its answer may be lost. Without another one, so would be the election (Raft paper §5.1).
                Role::Candidate | Role::PreCandidate => self.ask_for_votes(false)?,
                Role::Follower => {}
            }
        }
        Ok(())
    }

    fn election_timeout_passed_as_leader(&mut self) -> Result<(), StepError> {
        if self.config.check_quorum {
            self.check_quorum();
        }
        // A transfer that took this long failed; the leader goes on (thesis §3.10).
        if self.transferee.take().is_some() {
            self.leave_joint_if_due()?;
        }
        Ok(())
    }

    pub(crate) fn start_election(&mut self) -> Result<(), StepError> {
        self.hup(if self.config.pre_vote {
            Campaign::PreElection
        } else {
            Campaign::Election
        })
    }

    /// A leader that a quorum has not answered for an election timeout steps down (thesis §6.2).
    fn check_quorum(&mut self) {
        if !self.tracker.quorum_active() {
            self.become_follower(self.term, None);
        }
        let own = self.id;
        for (id, progress) in self.tracker.progress.iter_mut() {
            if id != own {
                progress.recent_active = false;
            }
        }
    }
}
