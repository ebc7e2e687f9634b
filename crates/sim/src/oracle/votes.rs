//! One vote per term: a member gives at most one vote in a term (Raft, section 5.2), whatever crashes lie
//! between. Election safety rests on it. So a vote that was given is durable: a process knows it when it starts, or
//! a later term, even if nobody asks it again.

use std::collections::HashMap;

use quorate_raft::{ReplicaId, Term};
use quorate_storage::ShardId;

use super::Violation;

/// Who voted for whom.
#[derive(Debug, Default)]
pub(crate) struct Votes {
    all: HashMap<(ShardId, ReplicaId, Term), ReplicaId>,
    newest: HashMap<(ShardId, ReplicaId), (Term, ReplicaId)>,
}

impl Votes {
    pub(crate) fn cast(
        &mut self,
        shard: ShardId,
        voter: ReplicaId,
        term: Term,
        candidate: ReplicaId,
    ) -> Result<(), Violation> {
        let first = *self.all.entry((shard, voter, term)).or_insert(candidate);
        if first != candidate {
            let detail =
                format!("shard {shard} term {term}: replica {voter} voted for {first} and for {candidate}");
            return Err(Violation::new("one vote per term", detail));
        }
        let newest = self.newest.entry((shard, voter)).or_insert((term, candidate));
        *newest = (*newest).max((term, candidate));
        Ok(())
    }

    /// A replica lost its log, and knows it: it gives no votes until its term is past what it may have lost (P3).
    pub(crate) fn forget(&mut self, shard: ShardId, voter: ReplicaId) {
        self.newest.remove(&(shard, voter));
    }

    /// A process started and knows this term and vote of a replica's.
    pub(crate) fn restarted(
        &self,
        shard: ShardId,
        voter: ReplicaId,
        (term, vote): (Term, Option<ReplicaId>),
    ) -> Result<(), Violation> {
        match self.newest.get(&(shard, voter)) {
            Some((given_in, candidate))
                if term < *given_in || term == *given_in && vote != Some(*candidate) =>
            {
                let vote = vote.map_or("nobody".to_owned(), |vote| vote.to_string());
                let detail = format!(
                    "shard {shard}: replica {voter} voted for {candidate} in term {given_in}; when it starts, it \
                     knows term {term} and a vote for {vote}"
                );
                Err(Violation::new("a vote is remembered", detail))
            }
            _ => Ok(()),
        }
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

    #[test]
    fn a_forgotten_vote_is_seen() {
        let mut votes = Votes::default();
        let (shard, voter) = (ShardId(1), ReplicaId(1));
        votes.cast(shard, voter, Term(5), ReplicaId(2)).unwrap();
        let starts = |votes: &Votes, term, vote: Option<u64>| {
            votes.restarted(shard, voter, (Term(term), vote.map(ReplicaId)))
        };
        assert_eq!(starts(&votes, 5, Some(2)), Ok(()));
        assert_eq!(starts(&votes, 6, None), Ok(()), "a later term");
        assert!(starts(&votes, 5, None).is_err());
        assert!(starts(&votes, 5, Some(3)).is_err());
        assert!(starts(&votes, 4, Some(2)).is_err());
        votes.forget(shard, voter);
        assert_eq!(starts(&votes, 0, None), Ok(()), "it knows that it lost its log");
    }
}
