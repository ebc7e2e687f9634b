//! The entries of one shard while the log is replayed.
//!
//! Nearly always one contiguous run that grows at its end; a gap is there only between the replay of a
//! segment whose front was moved away and that of the records that moved.

use std::collections::VecDeque;

use quorate_raft::{Entry, mutant};

/// Contiguous runs by index, not overlapping, none of them empty.
#[derive(Debug, Default)]
pub(super) struct Entries {
    runs: Vec<VecDeque<Entry>>,
}

fn first(run: &VecDeque<Entry>) -> u64 {
    run.front().map_or(0, |entry| entry.index.0)
}

fn end(run: &VecDeque<Entry>) -> u64 {
    run.back().map_or(0, |entry| entry.index.0 + 1)
}

impl Entries {
    /// Appends contiguous entries; what was at their first index or behind it goes.
    pub(super) fn append(&mut self, entries: impl Iterator<Item = Entry>) {
        let mut entries = entries.peekable();
        let Some(at) = entries.peek().map(|entry| entry.index.0) else {
            return;
        };
        if !mutant!("overwritten-entries-come-back") {
            self.cut_from(at);
        }
        match self.runs.last_mut() {
            Some(last) if end(last) == at => last.extend(entries),
            _ => self.runs.push(entries.collect()),
        }
    }

    /// Puts contiguous entries in their place; what is in front of them or behind stays.
    pub(super) fn insert(&mut self, entries: impl Iterator<Item = Entry>) {
        let inserted: VecDeque<Entry> = entries.collect();
        let (start, stop) = (first(&inserted), end(&inserted));
        let mut behind = Vec::new();
        for run in &mut self.runs {
            let kept = stop.saturating_sub(first(run)).min(run.len() as u64);
            if end(run) > stop {
                behind.push(run.split_off(kept as usize));
            }
        }
        self.cut_from(start);
        self.runs.retain(|run| !run.is_empty());
        self.runs.extend((!inserted.is_empty()).then_some(inserted));
        self.runs.append(&mut behind);
    }

    /// Removes the entries at `index` and behind.
    pub(super) fn cut_from(&mut self, index: u64) {
        while let Some(last) = self.runs.last_mut() {
            if end(last) <= index && !last.is_empty() {
                return;
            }
            last.truncate(index.saturating_sub(first(last)) as usize);
            if !last.is_empty() {
                return;
            }
            self.runs.pop();
        }
    }

    /// Removes the entries up to and including `index`.
    pub(super) fn drop_through(&mut self, index: u64) {
        for run in &mut self.runs {
            let dropped = (index + 1).saturating_sub(first(run)).min(run.len() as u64);
            run.drain(..dropped as usize);
        }
        self.runs.retain(|run| !run.is_empty());
    }

    /// All of them, by index.
    pub(super) fn into_vec(self) -> Vec<Entry> {
        let mut runs = self.runs.into_iter();
        let mut all = Vec::from(runs.next().unwrap_or_default());
        runs.for_each(|run| all.extend(run));
        all
    }
}

#[cfg(test)]
mod tests {
    use quorate_raft::{Index, Payload, Term};

    use super::*;

    fn range(first: u64, last: u64, term: u64) -> impl Iterator<Item = Entry> {
        let payload = Payload::Normal(bytes::Bytes::new());
        (first..=last).map(move |index| Entry {
            term: Term(term),
            index: Index(index),
            payload: payload.clone(),
        })
    }

    fn shown(entries: Entries) -> Vec<(u64, u64)> {
        entries
            .into_vec()
            .iter()
            .map(|entry| (entry.index.0, entry.term.0))
            .collect()
    }

    #[test]
    fn an_append_cuts_what_is_behind_it() {
        let mut entries = Entries::default();
        entries.append(range(1, 4, 1));
        entries.append(range(3, 3, 2));
        entries.append(range(4, 4, 3));
        assert_eq!(entries.runs.len(), 1);
        assert_eq!(shown(entries), [(1, 1), (2, 1), (3, 2), (4, 3)]);
    }

    #[test]
    fn an_insertion_replaces_its_own_range_only() {
        let mut entries = Entries::default();
        entries.append(range(1, 9, 1));
        entries.insert(range(4, 6, 2));
        let terms: Vec<u64> = shown(entries).into_iter().map(|(_, term)| term).collect();
        assert_eq!(terms, [1, 1, 1, 2, 2, 2, 1, 1, 1]);
    }

    #[test]
    fn an_insertion_fills_a_gap_in_front() {
        let mut entries = Entries::default();
        entries.append(range(6, 7, 1));
        entries.insert(range(1, 2, 1));
        entries.insert(range(3, 5, 1));
        entries.drop_through(1);
        assert_eq!(
            shown(entries).iter().map(|entry| entry.0).collect::<Vec<_>>(),
            [2, 3, 4, 5, 6, 7]
        );
    }

    #[test]
    fn dropping_and_cutting_may_leave_nothing() {
        let mut entries = Entries::default();
        entries.append(range(5, 7, 1));
        entries.drop_through(3);
        entries.cut_from(9);
        assert_eq!(entries.runs.len(), 1);
        entries.drop_through(7);
        assert!(entries.runs.is_empty());
        entries.append(range(8, 9, 1));
        entries.cut_from(1);
        assert!(entries.runs.is_empty());
    }
}
