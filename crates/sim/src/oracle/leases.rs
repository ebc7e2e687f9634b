//! Leases (rules L; Raft thesis, section 6.4.1): while a leader may answer reads alone, nobody else leads in a
//! higher term, let alone holds a lease of its own.

use std::collections::BTreeMap;

use quorate_raft::Term;
use quorate_storage::ShardId;

use super::{At, Violation};

/// How a replica stood when it was last looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Standing {
    pub(crate) term: Term,
    pub(crate) leads: bool,
    pub(crate) lease: bool,
}

/// Every replica's.
#[derive(Debug, Default)]
pub(crate) struct Leases(BTreeMap<(ShardId, usize), Standing>);

impl Leases {
    pub(crate) fn restarted(&mut self, at: At) {
        self.0.remove(&(at.1, at.0));
    }

    pub(crate) fn stopped(&mut self, node: usize) {
        self.0.retain(|(_, on), _| *on != node);
    }

    /// A replica stands so now. Returns the nodes that may be in conflict with it: their leases must be looked at
    /// now, by their own clocks, and given to [`Leases::check`].
    pub(crate) fn stands(&mut self, at: At, standing: Standing) -> Vec<usize> {
        let (node, shard) = at;
        self.0.insert((shard, node), standing);
        if !standing.leads {
            return Vec::new();
        }
        let others = self.0.range((shard, 0)..=(shard, usize::MAX));
        others
            .filter(|((_, other), theirs)| *other != node && theirs.leads && (theirs.lease || standing.lease))
            .map(|((_, other), _)| *other)
            .collect()
    }

    /// Two replicas of a shard at one moment.
    pub(crate) fn check(shard: ShardId, a: (usize, Standing), b: (usize, Standing)) -> Result<(), Violation> {
        for ((holder, held), (other, theirs)) in [(a, b), (b, a)] {
            if held.leads && held.lease && theirs.leads && (theirs.lease || theirs.term > held.term) {
                let detail = format!(
                    "shard {shard}: node {} holds a lease in term {} while node {} leads in term {}{}",
                    holder + 1,
                    held.term,
                    other + 1,
                    theirs.term,
                    if theirs.lease {
                        " and holds one as well"
                    } else {
                        ""
                    }
                );
                return Err(Violation::new("one lease at a time", detail));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_beside_another_lease_or_a_newer_leader_is_seen() {
        let stands = |term, leads, lease| Standing {
            term: Term(term),
            leads,
            lease,
        };
        let check = |a, b| Leases::check(ShardId(1), (0, a), (1, b));
        assert_eq!(check(stands(2, true, true), stands(2, false, false)), Ok(()));
        assert_eq!(
            check(stands(2, true, false), stands(3, true, true)),
            Ok(()),
            "the old one has none any more"
        );
        assert!(check(stands(2, true, true), stands(3, true, true)).is_err());
        assert!(check(stands(2, true, true), stands(3, true, false)).is_err());
    }

    #[test]
    fn only_those_that_may_be_in_conflict_are_looked_at() {
        let shard = ShardId(1);
        let mut leases = Leases::default();
        let stands = |lease| Standing {
            term: Term(2),
            leads: true,
            lease,
        };
        assert!(leases.stands((0, shard), stands(true)).is_empty());
        assert_eq!(leases.stands((1, shard), stands(false)), vec![0]);
        leases.stopped(0);
        assert!(leases.stands((1, shard), stands(true)).is_empty());
    }
}
