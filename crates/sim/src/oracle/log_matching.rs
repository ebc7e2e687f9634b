//! Log matching: if two logs contain an entry with the same index and term, then the logs are identical in all
//! entries up through that index (Raft, section 5.3, figure 3).
//!
//! Checked by its induction step: wherever an entry of that index and term stands, it carries the same, and the
//! entry before it is of the same term.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use quorate_raft::{Index, Term};
use quorate_storage::ShardId;

use super::Violation;

/// What every entry ever stored carried, and the term before it as far as known.
#[derive(Debug, Default)]
pub(crate) struct LogMatching(HashMap<(ShardId, Index, Term), (u64, Option<Term>)>);

impl LogMatching {
    pub(crate) fn stored(
        &mut self,
        shard: ShardId,
        index: Index,
        term: Term,
        hash: u64,
        prev: Option<Term>,
    ) -> Result<(), Violation> {
        let violation = |what: String| {
            Err(Violation::new(
                "log matching",
                format!("shard {shard}: two logs hold entry {index} of term {term} {what}"),
            ))
        };
        match self.0.entry((shard, index, term)) {
            Entry::Vacant(vacant) => {
                vacant.insert((hash, prev));
                Ok(())
            }
            Entry::Occupied(mut known) => {
                let (known_hash, known_prev) = known.get_mut();
                if *known_hash != hash {
                    return violation("with different content".into());
                }
                match (*known_prev, prev) {
                    (Some(a), Some(b)) if a != b => violation(format!("behind entries of terms {a} and {b}")),
                    (None, prev) => {
                        *known_prev = prev;
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_that_differ_at_or_before_a_common_entry_are_seen() {
        let mut oracle = LogMatching::default();
        let mut stored =
            |index, term, hash, prev| oracle.stored(ShardId(1), Index(index), Term(term), hash, prev);
        assert_eq!(stored(5, 2, 77, None), Ok(()));
        assert_eq!(stored(5, 2, 77, Some(Term(2))), Ok(()));
        assert_eq!(stored(5, 3, 78, Some(Term(2))), Ok(()), "another term's");
        assert!(stored(5, 2, 79, Some(Term(2))).is_err(), "other content");
        assert!(
            stored(5, 2, 77, Some(Term(1))).is_err(),
            "another entry before it"
        );
    }
}
