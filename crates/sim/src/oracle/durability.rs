//! What a replica vouched for survives (rules P): after a crash its log still holds every entry that it had
//! acknowledged to a leader and that nobody has replaced since.

use std::collections::BTreeMap;

use quorate_raft::{Index, Term};

use super::{At, Mirror, Violation};

/// Up to where each replica has vouched for what its log holds.
#[derive(Debug, Default)]
pub(crate) struct Durable(BTreeMap<At, Index>);

impl Durable {
    /// It acknowledged its log up to `index`.
    pub(crate) fn vouched(&mut self, at: At, index: Index) {
        let known = self.0.entry(at).or_default();
        *known = index.max(*known);
    }

    /// Its log was damaged, and it has noticed.
    pub(crate) fn forget(&mut self, at: At) {
        self.0.remove(&at);
    }

    /// Entries from `first` on are replaced; whether the new ones are durable it has not said yet.
    pub(crate) fn appended(&mut self, at: At, first: Index) {
        if let Some(known) = self.0.get_mut(&at) {
            *known = first.prev().min(*known);
        }
    }

    /// A snapshot took the place of what it had. What others had instead may be gone; behind an entry that they agree on,
    /// nothing may.
    pub(crate) fn reset(&mut self, at: At, before: &Mirror, (index, term): (Index, Term)) {
        if before.term(index) != Some(term) {
            self.appended(at, index.next());
        }
    }

    /// A process found `after` where `before` was written.
    pub(crate) fn restarted(&mut self, at: At, before: &Mirror, after: &Mirror) -> Result<(), Violation> {
        let vouched = self.0.get(&at).copied().unwrap_or_default();
        let violation = |what: String| {
            let detail = format!(
                "shard {} on node {}: {what}; it had vouched up to {vouched}",
                at.1,
                at.0 + 1
            );
            Err(Violation::new("what was vouched for survives", detail))
        };
        if after.last() < vouched {
            return violation(format!("the log ends at {} after a crash", after.last()));
        }
        for (index, term, hash) in before.range(after.base().next(), vouched) {
            if after.get(index) != Some((term, hash)) {
                return violation(format!(
                    "entry {index} of term {term} is another one after a crash"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_raft::{Entry, Payload};
    use quorate_storage::ShardId;

    #[test]
    fn a_lost_or_changed_entry_is_seen() {
        let at = (0, ShardId(1));
        let log = |terms: &[u64]| {
            let entries: Vec<Entry> = (2..)
                .zip(terms)
                .map(|(i, term)| Entry {
                    index: Index(i),
                    term: Term(*term),
                    payload: Payload::Normal(Bytes::new()),
                })
                .collect();
            Mirror::new(Index(1), None, entries.iter())
        };
        let mut oracle = Durable::default();
        oracle.vouched(at, Index(4));
        let before = log(&[2, 2, 3, 3]);
        assert_eq!(
            oracle.restarted(at, &before, &log(&[2, 2, 3])),
            Ok(()),
            "the last was not acknowledged"
        );
        assert!(oracle.restarted(at, &before, &log(&[2, 2])).is_err());
        assert!(oracle.restarted(at, &before, &log(&[2, 2, 2])).is_err());
        oracle.appended(at, Index(4));
        assert_eq!(
            oracle.restarted(at, &before, &log(&[2, 2])),
            Ok(()),
            "its replacement was not acknowledged"
        );
        oracle.reset(at, &before, (Index(2), Term(2)));
        assert!(
            oracle.restarted(at, &before, &log(&[2])).is_err(),
            "a snapshot of what it had itself excuses nothing behind that"
        );
        oracle.reset(at, &before, (Index(2), Term(5)));
        assert_eq!(
            oracle.restarted(at, &before, &log(&[2])),
            Ok(()),
            "a snapshot of what others had instead took its place"
        );
    }
}
