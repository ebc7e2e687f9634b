//! State machine safety: if a server has applied a log entry at a given index to its state machine, no other
//! server will ever apply a different log entry for the same index (Raft, section 5.4.3, figure 3); and what it
//! amounts to is the same everywhere: equal positions have equal digests.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use quorate_raft::{Index, Term};
use quorate_storage::ShardId;

use super::{At, Violation};

/// What was applied, and what it made.
#[derive(Debug, Default)]
pub(crate) struct StateMachine {
    applied: HashMap<(ShardId, Index), (Term, u64)>,
    digests: HashMap<(ShardId, Index), (u64, usize)>,
}

impl StateMachine {
    /// Whether it is the first replica that applied the entry.
    pub(crate) fn applied(&mut self, at: At, index: Index, term: Term, hash: u64) -> Result<bool, Violation> {
        let first = match self.applied.entry((at.1, index)) {
            Entry::Vacant(entry) => {
                entry.insert((term, hash));
                return Ok(true);
            }
            Entry::Occupied(entry) => *entry.get(),
        };
        if first == (term, hash) {
            return Ok(false);
        }
        let detail = format!(
            "shard {}: node {} applied at {index} an entry of term {term}; another one of term {} was applied before",
            at.1,
            at.0 + 1,
            first.0
        );
        Err(Violation::new("state machine safety", detail))
    }

    /// What was applied from `first` on was given up with those who had applied it.
    pub(crate) fn give_up(&mut self, shard: ShardId, first: Index) {
        let is_kept = |(of, index): &(ShardId, Index)| *of != shard || *index < first;
        self.applied.retain(|place, _| is_kept(place));
        self.digests.retain(|place, _| is_kept(place));
    }

    /// A replica's content at a position.
    pub(crate) fn digest(&mut self, at: At, applied: Index, digest: u64) -> Result<(), Violation> {
        let (first, node) = *self.digests.entry((at.1, applied)).or_insert((digest, at.0));
        if first == digest {
            return Ok(());
        }
        let detail = format!(
            "shard {}: at {applied} the content of node {} is {digest:016x}, that of node {} was {first:016x}",
            at.1,
            at.0 + 1,
            node + 1
        );
        Err(Violation::new("equal positions have equal digests", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_entry_or_another_content_at_a_position_is_seen() {
        let shard = ShardId(1);
        let mut oracle = StateMachine::default();
        assert_eq!(oracle.applied((0, shard), Index(2), Term(2), 5), Ok(true));
        assert_eq!(oracle.applied((1, shard), Index(2), Term(2), 5), Ok(false));
        assert!(oracle.applied((2, shard), Index(2), Term(3), 5).is_err());
        assert!(oracle.applied((2, shard), Index(2), Term(2), 6).is_err());
        assert_eq!(oracle.digest((0, shard), Index(2), 9), Ok(()));
        assert!(oracle.digest((1, shard), Index(2), 8).is_err());
    }
}
