//! Vote and commit arithmetic of majorities and of joint configurations (Raft paper §6), alone.

use alloc::vec::Vec;

use crate::{Index, ReplicaId};

/// The outcome of a vote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VoteResult {
    /// Neither a majority of yes nor of no yet.
    Pending,
    /// Enough said no that yes can no longer win.
    Lost,
    /// A majority said yes.
    Won,
}

/// A set of voters, of which more than half decide.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MajorityConfig {
    /// Ascending, without repetition.
    ids: Vec<ReplicaId>,
}

/// Voters whose positions fit the stack when a commit index is computed.
const SMALL: usize = 7;

impl MajorityConfig {
    /// A configuration of these voters, in any order.
    #[must_use]
    pub fn new(ids: impl IntoIterator<Item = ReplicaId>) -> Self {
        let mut ids: Vec<_> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        Self { ids }
    }

    /// The voters, ascending.
    #[must_use]
    pub fn ids(&self) -> &[ReplicaId] {
        &self.ids
    }

    /// Whether there is no voter.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Whether `id` votes.
    #[must_use]
    pub fn contains(&self, id: ReplicaId) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    pub(crate) fn insert(&mut self, id: ReplicaId) {
        if let Err(at) = self.ids.binary_search(&id) {
            self.ids.insert(at, id);
        }
    }

    pub(crate) fn remove(&mut self, id: ReplicaId) {
        if let Ok(at) = self.ids.binary_search(&id) {
            self.ids.remove(at);
        }
    }

    fn majority(&self) -> usize {
        if mutant!("half-is-a-majority") {
            return self.ids.len().div_ceil(2);
        }
        self.ids.len() / 2 + 1
    }

    /// The highest position that a majority has acknowledged. Without voters it is unbounded, so that the
    /// empty half of a joint configuration decides nothing.
    pub fn committed_index(&self, acked: impl Fn(ReplicaId) -> Option<Index>) -> Index {
        let n = self.ids.len();
        if n == 0 {
            return Index(u64::MAX);
        }
        if let [a, b, c] = self.ids[..] {
            // The usual group: two of three have what the middle one has.
            let [a, b, c] = [a, b, c].map(|id| acked(id).unwrap_or_default());
            return a.min(b).max(a.max(b).min(c));
        }
        let mut small = [Index(0); SMALL];
        let mut large = Vec::new();
        let positions: &mut [Index] = if n <= SMALL {
            &mut small[..n]
        } else {
            large.resize(n, Index(0));
            &mut large
        };
        for (at, id) in self.ids.iter().enumerate() {
            // Into its place among those before it: for a handful cheaper than to sort.
            let position = acked(*id).unwrap_or_default();
            let mut to = at;
            while to > 0 && positions[to - 1] > position {
                positions[to] = positions[to - 1];
                to -= 1;
            }
            positions[to] = position;
        }
        positions[n - self.majority()]
    }

    /// The outcome of a vote; `None` has not answered. Without voters it is won.
    pub fn vote_result(&self, vote: impl Fn(ReplicaId) -> Option<bool>) -> VoteResult {
        if self.ids.is_empty() {
            return VoteResult::Won;
        }
        let (mut yes, mut missing) = (0, 0);
        for id in &self.ids {
            match vote(*id) {
                Some(true) => yes += 1,
                Some(false) => {}
                None => missing += 1,
            }
        }
        if yes >= self.majority() {
            VoteResult::Won
        } else if yes + missing >= self.majority() {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        }
    }
}

/// A configuration that may be joint: then both halves decide.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JointConfig {
    /// The voters, or the incoming half.
    pub incoming: MajorityConfig,
    /// The outgoing half; empty unless joint.
    pub outgoing: MajorityConfig,
}

impl JointConfig {
    /// Whether two halves decide.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `id` votes in either half.
    #[must_use]
    pub fn contains(&self, id: ReplicaId) -> bool {
        self.incoming.contains(id) || self.outgoing.contains(id)
    }

    /// The voters of both halves, ascending.
    #[must_use]
    pub fn ids(&self) -> Vec<ReplicaId> {
        MajorityConfig::new(self.incoming.ids.iter().chain(&self.outgoing.ids).copied()).ids
    }

    /// See [`MajorityConfig::committed_index`]: what both halves have acknowledged.
    pub fn committed_index(&self, acked: impl Fn(ReplicaId) -> Option<Index>) -> Index {
        if mutant!("joint-commit-by-the-incoming-half") {
            return self.incoming.committed_index(&acked);
        }
        self.incoming
            .committed_index(&acked)
            .min(self.outgoing.committed_index(&acked))
    }

    /// See [`MajorityConfig::vote_result`]: won if both halves say so, lost if either does.
    pub fn vote_result(&self, vote: impl Fn(ReplicaId) -> Option<bool>) -> VoteResult {
        if mutant!("joint-vote-by-the-incoming-half") {
            return self.incoming.vote_result(&vote);
        }
        match (self.incoming.vote_result(&vote), self.outgoing.vote_result(&vote)) {
            (a, b) if a == b => a,
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            _ => VoteResult::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn config(ids: impl IntoIterator<Item = u64>) -> MajorityConfig {
        MajorityConfig::new(ids.into_iter().map(ReplicaId))
    }

    /// By definition: the highest position that more than half have.
    fn committed_by_counting(acked: &[u64]) -> u64 {
        let has = |position: u64| acked.iter().filter(|at| **at >= position).count();
        let candidates = acked.iter().copied().filter(|at| 2 * has(*at) > acked.len());
        candidates.max().unwrap_or(0)
    }

    #[test]
    fn the_committed_index_is_what_a_majority_has() {
        let mut rng = Rng::new(1);
        for size in 1..=11_u64 {
            for _ in 0..200 {
                let acked: Vec<u64> = (0..size).map(|_| u64::from(rng.below(6))).collect();
                let found = config(1..=size).committed_index(|id| {
                    let at = acked[id.0 as usize - 1];
                    // Who has nothing need not say so.
                    (at > 0).then_some(Index(at))
                });
                assert_eq!(found, Index(committed_by_counting(&acked)), "{acked:?}");
            }
        }
        assert_eq!(config([]).committed_index(|_| None), Index(u64::MAX));
    }

    #[test]
    fn a_vote_is_won_by_a_majority_and_lost_when_none_is_left() {
        for size in 1..=6_u64 {
            // Each voter says yes, no or nothing.
            for case in 0..3_u64.pow(size as u32) {
                let votes: Vec<_> = (0..size)
                    .map(|at| [None, Some(false), Some(true)][(case / 3_u64.pow(at as u32) % 3) as usize])
                    .collect();
                let count = |answer| votes.iter().filter(|vote| **vote == answer).count();
                let more_than_half = |count: usize| 2 * count > votes.len();
                let expected = if more_than_half(count(Some(true))) {
                    VoteResult::Won
                } else if more_than_half(count(Some(true)) + count(None)) {
                    VoteResult::Pending
                } else {
                    VoteResult::Lost
                };
                let found = config(1..=size).vote_result(|id| votes[id.0 as usize - 1]);
                assert_eq!(found, expected, "{votes:?}");
            }
        }
    }

    #[test]
    fn a_joint_configuration_needs_both_halves() {
        let joint = JointConfig {
            incoming: config([1, 2, 3]),
            outgoing: config([3, 4, 5]),
        };
        assert_eq!(joint.ids(), [1, 2, 3, 4, 5].map(ReplicaId));
        let acked = |id: ReplicaId| Some(Index(10 * id.0));
        assert_eq!(joint.committed_index(acked), Index(20));
        let by = |yes: &[u64], no: &[u64]| {
            joint.vote_result(|id| match (yes.contains(&id.0), no.contains(&id.0)) {
                (true, _) => Some(true),
                (_, true) => Some(false),
                _ => None,
            })
        };
        assert_eq!(by(&[1, 2], &[]), VoteResult::Pending, "the incoming half alone");
        assert_eq!(by(&[1, 2, 4], &[]), VoteResult::Pending);
        assert_eq!(by(&[2, 3, 4], &[1]), VoteResult::Won);
        assert_eq!(
            by(&[1, 2, 3], &[4, 5]),
            VoteResult::Lost,
            "the outgoing half can no longer win"
        );
    }

    #[test]
    fn members_are_a_set() {
        let mut voters = config([3, 1, 3, 2, 1]);
        assert_eq!(voters.ids(), [1, 2, 3].map(ReplicaId));
        voters.insert(ReplicaId(2));
        voters.remove(ReplicaId(9));
        voters.remove(ReplicaId(1));
        assert_eq!(voters.ids(), [2, 3].map(ReplicaId));
        assert!(voters.contains(ReplicaId(2)) && !voters.contains(ReplicaId(1)));
    }
}
