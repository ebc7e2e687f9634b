//! The configuration in effect, and what the leader knows of each member.

use alloc::vec::Vec;

use crate::inflights::Inflights;
use crate::progress::Progress;
use crate::quorum::{JointConfig, MajorityConfig, VoteResult};
use crate::{ConfState, Index, ReplicaId};

/// Who takes part, and how.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrackerConfig {
    /// Who votes.
    pub voters: JointConfig,
    /// A joint configuration is left without a proposal of the application.
    pub auto_leave: bool,
    /// Who only receives, ascending.
    pub learners: Vec<ReplicaId>,
    /// Outgoing voters that become learners on leaving, ascending.
    pub learners_next: Vec<ReplicaId>,
}

/// Members in ascending order with their progress. Few enough that a sorted list beats a map.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProgressMap(Vec<(ReplicaId, Progress)>);

impl ProgressMap {
    /// Where a member stands in ascending order.
    #[inline]
    pub(crate) fn position(&self, id: ReplicaId) -> Option<usize> {
        self.0.iter().position(|(member, _)| *member == id)
    }

    /// A member's progress.
    #[must_use]
    pub fn get(&self, id: ReplicaId) -> Option<&Progress> {
        self.position(id).map(|at| self.at(at))
    }

    pub(crate) fn get_mut(&mut self, id: ReplicaId) -> Option<&mut Progress> {
        self.position(id).map(|at| self.at_mut(at))
    }

    pub(crate) fn insert(&mut self, id: ReplicaId, progress: Progress) {
        match self.0.binary_search_by_key(&id, |(member, _)| *member) {
            Ok(at) => self.0[at].1 = progress,
            Err(at) => self.0.insert(at, (id, progress)),
        }
    }

    pub(crate) fn remove(&mut self, id: ReplicaId) {
        if let Some(at) = self.position(id) {
            self.0.remove(at);
        }
    }

    /// Members, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, &Progress)> {
        self.0.iter().map(|(id, progress)| (*id, progress))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ReplicaId, &mut Progress)> {
        self.0.iter_mut().map(|(id, progress)| (*id, progress))
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The member at a position in ascending order.
    #[inline]
    pub(crate) fn id_at(&self, at: usize) -> ReplicaId {
        self.0[at].0
    }

    /// The progress of the member at a position.
    #[inline]
    pub(crate) fn at(&self, at: usize) -> &Progress {
        &self.0[at].1
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, at: usize) -> &mut Progress {
        &mut self.0[at].1
    }
}

/// Configuration, progress and votes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tracker {
    /// The configuration.
    pub config: TrackerConfig,
    /// Every member's progress; meaningful on a leader.
    pub progress: ProgressMap,
    votes: Vec<(ReplicaId, bool)>,
    /// In-flight limits of each member.
    pub(crate) inflight_messages_max: usize,
    pub(crate) inflight_bytes_max: u64,
}

impl Tracker {
    /// No members yet.
    #[must_use]
    pub fn new(inflight_messages_max: usize, inflight_bytes_max: u64) -> Self {
        Self {
            config: TrackerConfig::default(),
            progress: ProgressMap::default(),
            votes: Vec::new(),
            inflight_messages_max,
            inflight_bytes_max,
        }
    }

    /// The members of a stored configuration, each to be probed from `last_index`.
    #[must_use]
    pub fn restore(&self, state: &ConfState, last_index: Index) -> Self {
        let mut restored = Self::new(self.inflight_messages_max, self.inflight_bytes_max);
        restored.config = TrackerConfig {
            voters: JointConfig {
                incoming: MajorityConfig::new(state.voters.iter().copied()),
                outgoing: MajorityConfig::new(state.voters_outgoing.iter().copied()),
            },
            auto_leave: state.auto_leave,
            learners: sorted(&state.learners),
            learners_next: sorted(&state.learners_next),
        };
        for id in restored.config.voters.ids() {
            restored.progress.insert(id, restored.fresh(last_index, false));
        }
        for id in &state.learners {
            restored.progress.insert(*id, restored.fresh(last_index, true));
        }
        restored
    }

    /// The progress of a new member. It is probed at the leader's last index; it counts as active, so that
    /// check-quorum does not depose the leader before it could speak.
    pub(crate) fn fresh(&self, last_index: Index, is_learner: bool) -> Progress {
        let inflights = self.inflights();
        let mut progress = Progress::new(Index(0), last_index.max(Index(1)), inflights, is_learner);
        progress.recent_active = true;
        progress
    }

    pub(crate) fn inflights(&self) -> Inflights {
        Inflights::new(self.inflight_messages_max, self.inflight_bytes_max)
    }

    /// The configuration as it is stored.
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        ConfState {
            voters: self.config.voters.incoming.ids().to_vec(),
            learners: self.config.learners.clone(),
            voters_outgoing: self.config.voters.outgoing.ids().to_vec(),
            learners_next: self.config.learners_next.clone(),
            auto_leave: self.config.auto_leave,
        }
    }

    /// The highest index that a quorum has stored.
    pub(crate) fn committed(&self) -> Index {
        if mutant!("learners-count-for-commit") && !self.config.voters.is_joint() {
            let voters = self.config.voters.incoming.ids().iter();
            let all = MajorityConfig::new(voters.chain(&self.config.learners).copied());
            return all.committed_index(|id| self.progress.get(id).map(|progress| progress.matched));
        }
        self.config
            .voters
            .committed_index(|id| self.progress.get(id).map(|progress| progress.matched))
    }

    /// Whether a quorum was heard from lately (thesis §6.2).
    pub(crate) fn quorum_active(&self) -> bool {
        let active = |id| {
            Some(
                self.progress
                    .get(id)
                    .is_some_and(|p| !p.is_learner && p.recent_active),
            )
        };
        self.config.voters.vote_result(active) == VoteResult::Won
    }

    pub(crate) fn reset_votes(&mut self) {
        self.votes.clear();
    }

    /// The first answer of a voter counts.
    pub(crate) fn record_vote(&mut self, id: ReplicaId, granted: bool) {
        if self.votes.iter().all(|(voter, _)| *voter != id) {
            self.votes.push((id, granted));
        }
    }

    /// Whether the vote of `id` is counted.
    pub(crate) fn has_voted(&self, id: ReplicaId) -> bool {
        self.votes.iter().any(|(voter, _)| *voter == id)
    }

    pub(crate) fn vote_result(&self) -> VoteResult {
        let vote = |id| {
            self.votes
                .iter()
                .find(|(voter, _)| *voter == id)
                .map(|(_, granted)| *granted)
        };
        self.config.voters.vote_result(vote)
    }
}

fn sorted(ids: &[ReplicaId]) -> Vec<ReplicaId> {
    MajorityConfig::new(ids.iter().copied()).ids().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> Vec<ReplicaId> {
        ids.iter().copied().map(ReplicaId).collect()
    }

    fn joint() -> Tracker {
        let state = ConfState {
            voters: ids(&[4, 2, 1]),
            learners: ids(&[6, 5]),
            voters_outgoing: ids(&[1, 2, 3]),
            learners_next: ids(&[3]),
            auto_leave: true,
        };
        Tracker::new(1, u64::MAX).restore(&state, Index(7))
    }

    #[test]
    fn a_configuration_is_restored_and_stored_again() {
        let tracker = joint();
        let state = ConfState {
            voters: ids(&[1, 2, 4]),
            learners: ids(&[5, 6]),
            voters_outgoing: ids(&[1, 2, 3]),
            learners_next: ids(&[3]),
            auto_leave: true,
        };
        assert_eq!(tracker.conf_state(), state);
        assert_eq!(state.validate(), Ok(()));
        let members: Vec<_> = tracker
            .progress
            .iter()
            .map(|(id, p)| (id.0, p.is_learner))
            .collect();
        let expected = [
            (1, false),
            (2, false),
            (3, false),
            (4, false),
            (5, true),
            (6, true),
        ];
        assert_eq!(members, expected);
        assert!(
            tracker
                .progress
                .iter()
                .all(|(_, p)| (p.matched, p.next) == (Index(0), Index(7)))
        );
    }

    #[test]
    fn learners_neither_commit_nor_keep_a_leader() {
        let mut tracker = joint();
        for (id, progress) in tracker.progress.iter_mut() {
            progress.matched = Index(if progress.is_learner { 100 } else { 10 * id.0 });
            progress.recent_active = progress.is_learner;
        }
        assert_eq!(tracker.committed(), Index(20));
        assert!(!tracker.quorum_active());
        for id in ids(&[2, 4, 3]) {
            tracker.progress.get_mut(id).expect("a member").recent_active = true;
        }
        assert!(tracker.quorum_active(), "two of each half");
    }

    #[test]
    fn the_first_answer_of_a_voter_counts() {
        let mut tracker = joint();
        for (voter, granted) in [(1, true), (1, false), (2, true), (9, true)] {
            tracker.record_vote(ReplicaId(voter), granted);
        }
        assert_eq!(tracker.vote_result(), VoteResult::Won);
        tracker.reset_votes();
        assert_eq!(tracker.vote_result(), VoteResult::Pending);
    }

    #[test]
    fn configurations_that_no_change_leads_to_are_named() {
        use crate::ConfStateError as E;
        let plain = |voters: &[u64], learners: &[u64]| ConfState {
            voters: ids(voters),
            learners: ids(learners),
            ..ConfState::default()
        };
        let good = joint().conf_state();
        let cases = [
            (plain(&[], &[]), Ok(())),
            (plain(&[0, 1], &[]), Err(E::ZeroId)),
            (plain(&[], &[1]), Err(E::NoVoters)),
            (plain(&[1, 2], &[2]), Err(E::VoterAndLearner(ReplicaId(2)))),
            (
                ConfState {
                    auto_leave: true,
                    ..plain(&[1], &[])
                },
                Err(E::NotJoint),
            ),
            (
                ConfState {
                    learners_next: ids(&[7]),
                    ..good.clone()
                },
                Err(E::NotOutgoing(ReplicaId(7))),
            ),
            (
                ConfState {
                    learners_next: ids(&[1]),
                    ..good.clone()
                },
                Err(E::NotOutgoing(ReplicaId(1))),
            ),
            (
                ConfState {
                    learners: ids(&[3]),
                    ..good
                },
                Err(E::VoterAndLearner(ReplicaId(3))),
            ),
        ];
        for (state, expected) in cases {
            assert_eq!(state.validate(), expected, "{state:?}");
        }
    }
}
