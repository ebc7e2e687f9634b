//! One vote per term: a member gives at most one vote in a term (Raft, section 5.2), whatever crashes lie
//! between. Election safety rests on it.

use std::collections::HashMap;

use quorate_raft::{ReplicaId, Term};
use quorate_storage::ShardId;

use super::Violation;

/// Who voted for whom.
#[derive(Debug, Default)]
pub(crate) struct Votes(HashMap<(ShardId, ReplicaId, Term), ReplicaId>);

impl Votes {
    pub(crate) fn cast(
        &mut self,
        shard: ShardId,
        voter: ReplicaId,
        term: Term,
        candidate: ReplicaId,
    ) -> Result<(), Violation> {
        let first = *self.0.entry((shard, voter, term)).or_insert(candidate);
        if first == candidate {
            return Ok(());
        }
        let detail =
            format!("shard {shard} term {term}: replica {voter} voted for {first} and for {candidate}");
        Err(Violation::new("one vote per term", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_vote_is_seen() {
        let mut votes = Votes::default();
        let mut cast = |term, to| votes.cast(ShardId(1), ReplicaId(1), Term(term), ReplicaId(to));
        assert_eq!(cast(5, 2), Ok(()));
        assert_eq!(cast(5, 2), Ok(()), "the same answer again");
        assert_eq!(cast(6, 3), Ok(()), "another term");
        assert!(cast(5, 3).is_err());
    }
}
