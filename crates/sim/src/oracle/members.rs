//! Membership (rules M): a replica id stands for one replica on one store (M3), one that was erased never comes back
//! (M4), and whoever is made a voter has the shard's state (M1).

use std::collections::BTreeMap;

use quorate_raft::{ConfChange, ConfChangeKind, Index, ReplicaId};
use quorate_storage::ShardId;

use super::{At, Violation};

/// Where every replica was seen, and what was erased.
#[derive(Debug, Default)]
pub(crate) struct Members {
    seen: BTreeMap<(ShardId, ReplicaId), usize>,
    erased: BTreeMap<At, ReplicaId>,
    /// Changes that were looked at.
    judged: BTreeMap<ShardId, Index>,
}

impl Members {
    /// A replica is there.
    pub(crate) fn seen(&mut self, at: At, replica: ReplicaId) -> Result<(), Violation> {
        let first = *self.seen.entry((at.1, replica)).or_insert(at.0);
        if first != at.0 {
            let detail = format!(
                "shard {}: replica {replica} is on node {} and was on node {}",
                at.1,
                at.0 + 1,
                first + 1
            );
            return Err(Violation::new("a replica id stands for one replica", detail));
        }
        match self.erased.get(&at) {
            Some(erased) if replica <= *erased => {
                let detail = format!(
                    "shard {}: replica {replica} is on node {} again, where {erased} was erased",
                    at.1,
                    at.0 + 1
                );
                Err(Violation::new("what was erased never comes back", detail))
            }
            _ => Ok(()),
        }
    }

    /// Its tombstone is durable.
    pub(crate) fn erased(&mut self, at: At, replica: ReplicaId) {
        let known = self.erased.entry(at).or_default();
        *known = replica.max(*known);
    }

    /// A change was applied somewhere for the first time, as far as `has_state` is concerned: whether a node holds
    /// something of the shard.
    pub(crate) fn applied(
        &mut self,
        shard: ShardId,
        index: Index,
        change: &ConfChange,
        has_state: impl Fn(usize) -> bool,
    ) -> Result<(), Violation> {
        let judged = self.judged.entry(shard).or_default();
        if index <= *judged {
            return Ok(());
        }
        *judged = index;
        for single in &change.changes {
            let replica = single.replica;
            if single.kind != ConfChangeKind::AddVoter
                || self
                    .seen
                    .get(&(shard, replica))
                    .is_some_and(|node| has_state(*node))
            {
                continue;
            }
            let detail =
                format!("shard {shard}: replica {replica} becomes a voter at {index} without any of it");
            return Err(Violation::new("who becomes a voter has the state", detail));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::ConfChangeSingle;

    use super::*;

    #[test]
    fn an_id_in_two_places_and_one_that_comes_back_are_seen() {
        let shard = ShardId(1);
        let mut oracle = Members::default();
        assert_eq!(oracle.seen((0, shard), ReplicaId(4)), Ok(()));
        assert_eq!(oracle.seen((0, shard), ReplicaId(4)), Ok(()));
        assert!(oracle.seen((1, shard), ReplicaId(4)).is_err());
        oracle.erased((0, shard), ReplicaId(4));
        assert!(oracle.seen((0, shard), ReplicaId(4)).is_err());
        assert_eq!(oracle.seen((0, shard), ReplicaId(5)), Ok(()));
    }

    #[test]
    fn a_voter_without_state_is_seen() {
        let shard = ShardId(1);
        let mut oracle = Members::default();
        let change = ConfChange {
            changes: vec![ConfChangeSingle {
                kind: ConfChangeKind::AddVoter,
                replica: ReplicaId(4),
            }],
            ..ConfChange::default()
        };
        assert!(
            oracle.applied(shard, Index(3), &change, |_| true).is_err(),
            "nowhere"
        );
        assert_eq!(oracle.seen((2, shard), ReplicaId(4)), Ok(()));
        assert!(oracle.applied(shard, Index(4), &change, |_| false).is_err());
        assert_eq!(
            oracle.applied(shard, Index(4), &change, |_| false),
            Ok(()),
            "once"
        );
        assert_eq!(oracle.applied(shard, Index(5), &change, |node| node == 2), Ok(()));
    }
}
