//! A shard's part of the Raft log in memory: what the consensus core reads.
//!
//! The entries kept here are exactly those that log GC retains (bounded by bytes and count), so the core
//! never waits for a read. What is on disk is a superset.

use std::collections::VecDeque;

use quorate_raft::{ConfState, Entry, HardState, Index, Snapshot, SnapshotMeta, Storage, StorageError, Term};

/// Bytes that an entry's bookkeeping counts beside its payload.
const ENTRY_OVERHEAD: u64 = 64;

/// The entries from `base + 1` on.
#[derive(Debug)]
pub(crate) struct ShardLog {
    /// What the process found when it started.
    initial: (HardState, ConfState),
    base: (Index, Term),
    entries: VecDeque<Entry>,
    bytes: u64,
    /// Position of the applied state, for the core's snapshot messages; the data travels separately.
    applied: SnapshotMeta,
}

pub(crate) fn entry_bytes(entry: &Entry) -> u64 {
    ENTRY_OVERHEAD + entry.payload.len() as u64
}

impl ShardLog {
    pub(crate) fn new(
        hard_state: HardState,
        applied: SnapshotMeta,
        base: (Index, Term),
        entries: Vec<Entry>,
    ) -> Self {
        let bytes = entries.iter().map(entry_bytes).sum();
        Self {
            initial: (hard_state, applied.conf_state.clone()),
            base,
            entries: entries.into(),
            bytes,
            applied,
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    pub(crate) fn base(&self) -> (Index, Term) {
        self.base
    }

    fn last(&self) -> Index {
        Index(self.base.0.0 + self.entries.len() as u64)
    }

    fn position(&self, index: Index) -> usize {
        (index.0 - self.base.0.0 - 1) as usize
    }

    /// Appends, replacing what stands at and behind the first new position.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.base.0 && first.index <= self.last().next(),
            "append at {} does not continue the log ({}, {}]",
            first.index,
            self.base.0,
            self.last()
        );
        let keep = self.position(first.index);
        while self.entries.len() > keep {
            if let Some(cut) = self.entries.pop_back() {
                self.bytes -= entry_bytes(&cut);
            }
        }
        for entry in entries {
            assert_eq!(entry.index, self.last().next(), "appended entries are contiguous");
            self.bytes += entry_bytes(entry);
            self.entries.push_back(entry.clone());
        }
    }

    /// Forgets entries up to and including `index`; returns the new base.
    pub(crate) fn compact(&mut self, index: Index) -> (Index, Term) {
        while self.base.0 < index {
            let Some(entry) = self.entries.pop_front() else {
                break;
            };
            self.bytes -= entry_bytes(&entry);
            self.base = (entry.index, entry.term);
        }
        self.base
    }

    /// Starts over behind a snapshot (P5).
    pub(crate) fn reset(&mut self, meta: &SnapshotMeta) {
        self.entries.clear();
        self.bytes = 0;
        self.base = (meta.index, meta.term);
        self.applied = meta.clone();
    }

    pub(crate) fn set_applied(&mut self, index: Index, term: Term) {
        self.applied.index = index;
        self.applied.term = term;
    }

    pub(crate) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.applied.conf_state = conf_state;
    }

    pub(crate) fn applied(&self) -> &SnapshotMeta {
        &self.applied
    }

    /// The position up to which entries may go so that at most `bytes` and `count` are left.
    pub(crate) fn excess(&self, bytes: u64, count: u64) -> Index {
        let (mut left_bytes, mut left_count, mut index) =
            (self.bytes, self.entries.len() as u64, self.base.0);
        for entry in &self.entries {
            if left_bytes <= bytes && left_count <= count {
                break;
            }
            left_bytes -= entry_bytes(entry);
            left_count -= 1;
            index = entry.index;
        }
        index
    }

    /// All entries kept, for inspection.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }
}

impl Storage for ShardLog {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: Index,
        end: Index,
        max_bytes: u64,
        found: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        if low <= self.base.0 {
            return Err(StorageError::Compacted {
                first: self.base.0.next(),
                asked: low,
            });
        }
        if end > self.last().next() {
            return Err(StorageError::Unavailable {
                last: self.last(),
                asked: end.prev(),
            });
        }
        let before = found.len();
        let mut size = 0u64;
        for entry in self.entries.range(self.position(low)..self.position(end)) {
            size = size.saturating_add(entry.payload.len() as u64);
            if found.len() > before && size > max_bytes {
                break;
            }
            found.push(entry.clone());
        }
        Ok(())
    }

    fn term(&self, index: Index) -> Result<Term, StorageError> {
        if index == self.base.0 {
            return Ok(self.base.1);
        }
        if index < self.base.0 {
            return Err(StorageError::Compacted {
                first: self.base.0.next(),
                asked: index,
            });
        }
        self.entries
            .get(self.position(index))
            .map(|entry| entry.term)
            .ok_or(StorageError::Unavailable {
                last: self.last(),
                asked: index,
            })
    }

    fn first_index(&self) -> Result<Index, StorageError> {
        Ok(self.base.0.next())
    }

    fn last_index(&self) -> Result<Index, StorageError> {
        Ok(self.last())
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Ok(Snapshot {
            meta: self.applied.clone(),
            data: bytes::Bytes::new(),
        })
    }
}

#[cfg(test)]
mod tests;
