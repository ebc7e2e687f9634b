//! Leader completeness: if a log entry is committed in a given term, then that entry is present in the logs of the
//! leaders of all higher terms (Raft, section 5.4, figure 3).
//!
//! With log matching it is enough to look at the newest entry that is known to be committed when a leader
//! appears, and at each entry that becomes known as committed while it leads.

use std::collections::HashMap;

use quorate_raft::{Index, Term};
use quorate_storage::ShardId;

use super::{At, Mirror, Violation};

/// What is known to be committed.
#[derive(Debug, Default)]
pub(crate) struct LeaderCompleteness {
    committed: HashMap<(ShardId, Index), Committed>,
    newest: HashMap<ShardId, Index>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Committed {
    /// The entry's term and its hash.
    entry: (Term, u64),
    /// The lowest term in which a replica knew that it is committed: not below the one that committed it. It may
    /// be above the entry's own: an entry of term 3 that term 5 commits can be missing from the log of a leader
    /// of term 4 that was cut off (seed 100205 of the profile lossy).
    in_term: Term,
}

impl LeaderCompleteness {
    pub(crate) fn committed(&self, shard: ShardId, index: Index) -> Option<(Term, u64)> {
        self.committed
            .get(&(shard, index))
            .map(|committed| committed.entry)
    }

    /// The lowest term known to have the entry committed.
    pub(crate) fn committed_in(&self, shard: ShardId, index: Index) -> Option<Term> {
        self.committed
            .get(&(shard, index))
            .map(|committed| committed.in_term)
    }

    pub(crate) fn newest(&self, shard: ShardId) -> Index {
        self.newest.get(&shard).copied().unwrap_or_default()
    }

    /// A replica regards an entry as committed; `in_term` is the replica's term, if it is known.
    pub(crate) fn commit(
        &mut self,
        shard: ShardId,
        index: Index,
        term: Term,
        hash: u64,
        in_term: Option<Term>,
    ) -> Result<(), Violation> {
        let in_term = in_term.unwrap_or(Term(u64::MAX));
        let committed = self.committed.entry((shard, index)).or_insert(Committed {
            entry: (term, hash),
            in_term,
        });
        committed.in_term = committed.in_term.min(in_term);
        let known = committed.entry;
        if known != (term, hash) {
            let detail = format!(
                "shard {shard}: entry {index} was committed with term {}, then with term {term}",
                known.0
            );
            return Err(Violation::new("a committed entry never changes", detail));
        }
        let newest = self.newest.entry(shard).or_default();
        *newest = index.max(*newest);
        Ok(())
    }

    /// From the first committed entry on that `log` has not, or has another one in its place, nothing counts as committed any
    /// more. Returns the positions.
    pub(crate) fn give_up(&mut self, shard: ShardId, log: &Mirror) -> Vec<Index> {
        let newest = self.newest(shard);
        let is_missing = |index: &Index| {
            let known = self.committed(shard, *index);
            known.is_some() && log.get(*index) != known
        };
        let behind = (log.base().0 + 1..=newest.0).map(Index);
        let Some(first) = behind.clone().find(is_missing) else {
            return Vec::new();
        };
        let given_up: Vec<Index> = behind.filter(|index| *index >= first).collect();
        for index in &given_up {
            self.committed.remove(&(shard, *index));
        }
        self.newest.insert(shard, first.prev());
        given_up
    }

    /// A replica leads in `term`; `index` is known to be committed.
    pub(crate) fn leads(&self, at: At, term: Term, log: &Mirror, index: Index) -> Result<(), Violation> {
        let Some(Committed {
            entry: (committed, hash),
            in_term,
        }) = self.committed.get(&(at.1, index)).copied()
        else {
            return Ok(());
        };
        if in_term > term || index <= log.base() || log.get(index) == Some((committed, hash)) {
            return Ok(());
        }
        let detail = format!(
            "shard {}: entry {index} of term {committed} is committed, the leader of term {term} on node {} has {}",
            at.1,
            at.0 + 1,
            log.get(index)
                .map_or("none there".into(), |(term, _)| format!("one of term {term}")),
        );
        Err(Violation::new("leader completeness", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_raft::{Entry, Payload};

    #[test]
    fn a_leader_without_a_committed_entry_is_seen() {
        let entry = |index, term| Entry {
            index: Index(index),
            term: Term(term),
            payload: Payload::Normal(Bytes::new()),
        };
        let shard = ShardId(1);
        let mut oracle = LeaderCompleteness::default();
        let hash = super::super::hash_of(&entry(2, 2));
        assert_eq!(
            oracle.commit(shard, Index(2), Term(2), hash, Some(Term(3))),
            Ok(())
        );
        let log = |entries: &[Entry]| Mirror::new(Index(1), Some(Term(1)), entries.iter());
        let leads = |log: &Mirror| oracle.leads((0, shard), Term(4), log, oracle.newest(shard));
        assert_eq!(leads(&log(&[entry(2, 2), entry(3, 2)])), Ok(()));
        assert!(leads(&log(&[])).is_err());
        assert!(leads(&log(&[entry(2, 3)])).is_err());
        let earlier = oracle.leads((0, shard), Term(2), &log(&[]), oracle.newest(shard));
        assert_eq!(
            earlier,
            Ok(()),
            "a leader of an earlier term than the committing one owes nothing"
        );
        assert!(
            oracle
                .commit(shard, Index(2), Term(3), hash, Some(Term(3)))
                .is_err()
        );
    }
}
