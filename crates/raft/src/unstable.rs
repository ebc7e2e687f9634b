//! The part of the log that is not known to be durable yet.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::{Entry, Index, Payload, Snapshot, Term};

/// Entries from `offset` on, and a snapshot that is being installed. Work that was handed out but is not done
/// is "in progress".
#[derive(Clone, Debug)]
pub(crate) struct Unstable {
    pub(crate) snapshot: Option<Box<Snapshot>>,
    pub(crate) entries: Vec<Entry>,
    /// Index of the first of `entries`, or where it would stand.
    pub(crate) offset: Index,
    pub(crate) snapshot_in_progress: bool,
    /// Entries below it were handed out. In `[offset, offset + entries.len()]`.
    pub(crate) offset_in_progress: Index,
    /// The last entry that became durable, while it stands right before `offset`: what the next append is matched
    /// against, most of the time.
    stable_last: (Index, Term),
}

/// Room for this many entries is kept when all are durable; more is given back, so that idle groups stay small.
const IDLE_ENTRIES: usize = 64;

impl Unstable {
    pub(crate) fn new(offset: Index) -> Self {
        Self {
            snapshot: None,
            entries: Vec::new(),
            offset,
            snapshot_in_progress: false,
            offset_in_progress: offset,
            stable_last: (Index(0), Term(0)),
        }
    }

    /// Behind the last entry.
    #[inline]
    pub(crate) fn end(&self) -> Index {
        Index(self.offset.0 + self.entries.len() as u64)
    }

    pub(crate) fn first_index(&self) -> Option<Index> {
        self.snapshot.as_ref().map(|snapshot| snapshot.meta.index.next())
    }

    #[inline]
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index < self.offset {
            if index == self.stable_last.0 && index > Index(0) {
                return Some(self.stable_last.1);
            }
            return self
                .snapshot
                .as_ref()
                .filter(|s| s.meta.index == index)
                .map(|s| s.meta.term);
        }
        self.entries
            .get((index.0 - self.offset.0) as usize)
            .map(|entry| entry.term)
    }

    /// Entries that were not handed out yet.
    #[inline]
    pub(crate) fn next_entries(&self) -> &[Entry] {
        &self.entries[(self.offset_in_progress.0 - self.offset.0) as usize..]
    }

    /// The snapshot, if it was not handed out yet.
    #[inline]
    pub(crate) fn next_snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_deref().filter(|_| !self.snapshot_in_progress)
    }

    /// Everything there is was handed out.
    #[inline]
    pub(crate) fn accept_in_progress(&mut self) {
        self.offset_in_progress = self.end();
        self.snapshot_in_progress = self.snapshot.is_some();
    }

    /// Entries up to `index`, the last of `term`, are durable. An attestation that no longer fits (the entry
    /// was replaced meanwhile) is ignored.
    #[inline]
    pub(crate) fn stable_to(&mut self, index: Index, term: Term) {
        if index < self.offset || self.term(index) != Some(term) {
            return;
        }
        let count = (index.0 + 1 - self.offset.0) as usize;
        if count < self.entries.len() {
            self.entries.drain(..count);
        } else if self.entries.capacity() <= IDLE_ENTRIES {
            self.entries.clear();
        } else {
            self.entries = Vec::new();
        }
        self.offset = index.next();
        self.stable_last = (index, term);
        self.offset_in_progress = self.offset_in_progress.max(self.offset);
    }

    pub(crate) fn stable_snapshot_to(&mut self, index: Index) {
        if self
            .snapshot
            .as_ref()
            .is_some_and(|snapshot| snapshot.meta.index == index)
        {
            self.snapshot = None;
            self.snapshot_in_progress = false;
        }
    }

    pub(crate) fn restore(&mut self, snapshot: Box<Snapshot>) {
        *self = Self::new(snapshot.meta.index.next());
        self.snapshot = Some(snapshot);
    }

    /// Appends new entries of `term` behind the last.
    pub(crate) fn extend(&mut self, term: Term, payloads: impl IntoIterator<Item = Payload>) {
        let first = self.end().0;
        self.entries
            .extend((first..).zip(payloads).map(|(index, payload)| Entry {
                term,
                index: Index(index),
                payload,
            }));
    }

    /// Appends; what stands at and behind the first new index is replaced. `entries` is not empty.
    #[inline]
    pub(crate) fn truncate_and_append(&mut self, entries: Vec<Entry>) {
        let Some(from) = entries.first().map(|entry| entry.index) else {
            return;
        };
        if from == self.end() {
            if self.entries.is_empty() {
                self.entries = entries;
            } else {
                self.entries.extend(entries);
            }
        } else if from <= self.offset {
            self.entries = entries;
            self.offset = from;
            self.offset_in_progress = from;
        } else {
            self.entries.truncate((from.0 - self.offset.0) as usize);
            self.entries.extend(entries);
            // What was handed out behind `from` is void; its completion will not be recognised.
            self.offset_in_progress = self.offset_in_progress.min(from);
        }
    }
}
