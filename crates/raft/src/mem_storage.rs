//! Stable storage in memory: for tests, simulations and examples.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::raft_log::payload_bytes;
use crate::{
    ConfState, Entry, HardState, Index, Payload, Snapshot, SnapshotMeta, Storage, StorageError, Term,
};

/// A log, a hard state and the newest snapshot, held in memory.
///
/// Invariants: `entries[0]` is a placeholder for the position before the first available entry (index zero,
/// or the last compacted position with its term), and `entries[i].index == entries[0].index + i`.
#[derive(Clone, Debug)]
pub struct MemStorage {
    hard_state: HardState,
    /// What a restart finds. Not the snapshot's: changes behind the snapshot may be applied.
    conf_state: ConfState,
    snapshot: Snapshot,
    entries: Vec<Entry>,
}

impl Default for MemStorage {
    fn default() -> Self {
        MemStorage {
            hard_state: HardState::default(),
            conf_state: ConfState::default(),
            snapshot: Snapshot::default(),
            entries: vec![placeholder(Index(0), Term(0))],
        }
    }
}

impl MemStorage {
    /// Storage of a member that never ran: no log, no configuration.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Storage of a member of a fresh group: no log, and the configuration that the group starts with.
    #[must_use]
    pub fn with_conf_state(conf_state: ConfState) -> Self {
        let mut storage = Self::default();
        storage.set_conf_state(conf_state);
        storage
    }

    /// Replaces the hard state.
    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// The hard state as last set.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Replaces the configuration that a restart finds: the one at the applied index that the restart is
    /// given.
    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// All available entries, in order.
    #[must_use]
    pub fn log(&self) -> &[Entry] {
        &self.entries[1..]
    }

    /// Appends `entries`; those at positions that exist replace them and cut everything behind. Positions
    /// already compacted are skipped.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when there is a gap before the first of `entries`. Nothing is changed.
    pub fn append(&mut self, entries: &[Entry]) -> Result<(), StorageError> {
        let skip = self.make_room(entries)?;
        self.entries.extend_from_slice(&entries[skip..]);
        Ok(())
    }

    /// [`MemStorage::append`], moving the entries out of the vector rather than copying them. It is left empty.
    ///
    /// # Errors
    /// As [`MemStorage::append`]; then neither log nor vector is changed.
    pub fn append_from(&mut self, entries: &mut Vec<Entry>) -> Result<(), StorageError> {
        let skip = self.make_room(entries)?;
        entries.drain(..skip);
        self.entries.append(entries);
        Ok(())
    }

    /// Cuts what `entries` replace. Returns how many of them are compacted already.
    fn make_room(&mut self, entries: &[Entry]) -> Result<usize, StorageError> {
        let offset = self.offset();
        let skip = entries.iter().take_while(|entry| entry.index <= offset).count();
        let fresh = &entries[skip..];
        let Some(first) = fresh.first() else {
            return Ok(skip);
        };
        let keep = self.slot(first.index)?;
        assert!(
            fresh
                .iter()
                .zip(first.index.0..)
                .all(|(entry, index)| entry.index.0 == index),
            "appended entries are not contiguous from {}",
            first.index
        );
        self.entries.truncate(keep);
        Ok(skip)
    }

    /// Replaces the log and the configuration by `snapshot`. The hard state stays: it arrives on its own.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] when the stored snapshot is as new. Nothing is changed.
    pub fn apply_snapshot(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        let stored = self.snapshot.meta.index;
        // A snapshot at zero only carries the configuration of a group that starts.
        if stored > Index(0) && stored >= snapshot.meta.index {
            return Err(StorageError::Compacted {
                first: stored.next(),
                asked: snapshot.meta.index,
            });
        }
        self.entries = vec![placeholder(snapshot.meta.index, snapshot.meta.term)];
        self.conf_state = snapshot.meta.conf_state.clone();
        self.snapshot = snapshot;
        Ok(())
    }

    /// Makes `data` the snapshot at `index`, with the configuration in effect there. The log stays; see
    /// [`MemStorage::compact`].
    ///
    /// # Errors
    /// [`StorageError::Compacted`] when the stored snapshot is as new, [`StorageError::Unavailable`] past the
    /// end of the log. Nothing is changed.
    pub fn create_snapshot(
        &mut self,
        index: Index,
        conf_state: ConfState,
        data: Bytes,
    ) -> Result<&Snapshot, StorageError> {
        if index <= self.snapshot.meta.index {
            return Err(StorageError::Compacted {
                first: self.snapshot.meta.index.next(),
                asked: index,
            });
        }
        let term = self.term(index)?;
        self.snapshot = Snapshot {
            meta: SnapshotMeta {
                index,
                term,
                conf_state,
            },
            data,
        };
        Ok(&self.snapshot)
    }

    /// Forgets the entries up to and including `index`, keeping its term. The caller does not compact above
    /// what it has applied, nor above its newest snapshot.
    ///
    /// # Errors
    /// [`StorageError::Compacted`] when that was done before, [`StorageError::Unavailable`] past the end of
    /// the log. Nothing is changed.
    pub fn compact(&mut self, index: Index) -> Result<(), StorageError> {
        let offset = self.offset();
        if index <= offset {
            return Err(StorageError::Compacted {
                first: offset.next(),
                asked: index,
            });
        }
        let term = self.term(index)?;
        let keep_from = self.slot(index)?;
        self.entries.drain(..keep_from);
        self.entries[0] = placeholder(index, term);
        Ok(())
    }

    /// The position of the placeholder.
    fn offset(&self) -> Index {
        self.entries[0].index
    }

    /// Where in `entries` the position `index`, not below the placeholder, is or would be appended.
    fn slot(&self, index: Index) -> Result<usize, StorageError> {
        usize::try_from(index.0 - self.offset().0)
            .ok()
            .filter(|slot| *slot <= self.entries.len())
            .ok_or(StorageError::Unavailable {
                last: self.last(),
                asked: index,
            })
    }

    fn last(&self) -> Index {
        Index(self.offset().0 + self.entries.len() as u64 - 1)
    }
}

impl Storage for MemStorage {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        Ok((self.hard_state, self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: Index,
        end: Index,
        max_bytes: u64,
        found: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        let offset = self.offset();
        if low <= offset {
            return Err(StorageError::Compacted {
                first: offset.next(),
                asked: low,
            });
        }
        if end.0 > self.last().0 + 1 {
            return Err(StorageError::Unavailable {
                last: self.last(),
                asked: end.prev(),
            });
        }
        if low > end {
            return Err(StorageError::Failed(String::from(
                "entries asked for end before they begin",
            )));
        }
        let range = &self.entries[self.slot(low)?..self.slot(end)?];
        let mut bytes = 0_u64;
        let fitting = range
            .iter()
            .take_while(|entry| {
                bytes = bytes.saturating_add(payload_bytes(entry));
                bytes <= max_bytes
            })
            .count();
        found.extend_from_slice(&range[..fitting.max(1).min(range.len())]);
        Ok(())
    }

    fn term(&self, index: Index) -> Result<Term, StorageError> {
        let offset = self.offset();
        if index < offset {
            return Err(StorageError::Compacted {
                first: offset.next(),
                asked: index,
            });
        }
        let slot = self.slot(index)?;
        match self.entries.get(slot) {
            Some(entry) => Ok(entry.term),
            None => Err(StorageError::Unavailable {
                last: self.last(),
                asked: index,
            }),
        }
    }

    fn first_index(&self) -> Result<Index, StorageError> {
        Ok(self.offset().next())
    }

    fn last_index(&self) -> Result<Index, StorageError> {
        Ok(self.last())
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Ok(self.snapshot.clone())
    }
}

fn placeholder(index: Index, term: Term) -> Entry {
    Entry {
        term,
        index,
        payload: Payload::Normal(Bytes::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            term: Term(term),
            index: Index(index),
            payload: Payload::Normal(Bytes::from_static(b"12345")),
        }
    }

    /// Entries 3, 4 and 5, of terms 3, 4 and 5, behind a snapshot at 2.
    fn storage() -> MemStorage {
        let mut storage = MemStorage::new();
        let meta = SnapshotMeta {
            index: Index(2),
            term: Term(2),
            conf_state: ConfState::default(),
        };
        storage
            .apply_snapshot(Snapshot {
                meta,
                data: Bytes::new(),
            })
            .unwrap();
        storage.append(&[entry(3, 3), entry(4, 4), entry(5, 5)]).unwrap();
        storage
    }

    fn entries(storage: &MemStorage, low: u64, end: u64, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        let mut found = Vec::new();
        storage
            .entries(Index(low), Index(end), max_bytes, &mut found)
            .map(|()| found)
    }

    #[test]
    fn positions_outside_are_told_apart() {
        let storage = storage();
        assert_eq!(
            (storage.first_index(), storage.last_index()),
            (Ok(Index(3)), Ok(Index(5)))
        );
        let compacted = |asked| StorageError::Compacted {
            first: Index(3),
            asked: Index(asked),
        };
        let unavailable = |asked| StorageError::Unavailable {
            last: Index(5),
            asked: Index(asked),
        };
        assert_eq!(storage.term(Index(1)), Err(compacted(1)));
        assert_eq!(storage.term(Index(2)), Ok(Term(2)));
        assert_eq!(storage.term(Index(5)), Ok(Term(5)));
        assert_eq!(storage.term(Index(6)), Err(unavailable(6)));
        assert_eq!(entries(&storage, 2, 4, u64::MAX), Err(compacted(2)));
        assert_eq!(entries(&storage, 3, 7, u64::MAX), Err(unavailable(6)));
    }

    #[test]
    fn at_least_one_entry_is_returned_then_what_fits() {
        let storage = storage();
        for (max_bytes, expected) in [(0, 1), (9, 1), (10, 2), (14, 2), (15, 3), (u64::MAX, 3)] {
            let found = entries(&storage, 3, 6, max_bytes).unwrap();
            assert_eq!(found.len(), expected, "{max_bytes} bytes");
        }
        assert_eq!(entries(&storage, 4, 4, 10), Ok(Vec::new()));
    }

    #[test]
    fn appending_cuts_what_it_replaces_and_skips_what_is_compacted() {
        let mut log = storage();
        log.append(&[entry(4, 6)]).unwrap();
        assert_eq!(log.log(), [entry(3, 3), entry(4, 6)]);
        let mut moved = vec![entry(1, 1), entry(2, 2), entry(3, 7)];
        log.append_from(&mut moved).unwrap();
        assert_eq!((log.log(), moved.len()), (&[entry(3, 7)][..], 0));
        let gap = Err(StorageError::Unavailable {
            last: Index(3),
            asked: Index(5),
        });
        let mut behind = vec![entry(5, 7)];
        assert_eq!(
            (log.append(&behind), log.append_from(&mut behind)),
            (gap.clone(), gap)
        );
        assert_eq!(behind.len(), 1, "refused, it stays with the caller");
        assert_eq!(log.log(), [entry(3, 7)]);
    }

    #[test]
    fn compaction_keeps_the_term_before_the_first_entry() {
        let mut storage = storage();
        storage.compact(Index(4)).unwrap();
        assert_eq!(
            (storage.log(), storage.term(Index(4))),
            (&[entry(5, 5)][..], Ok(Term(4)))
        );
        assert!(storage.compact(Index(4)).is_err());
        assert!(storage.compact(Index(6)).is_err());
    }

    #[test]
    fn snapshots_only_go_forward() {
        let mut storage = storage();
        let made = storage
            .create_snapshot(Index(4), ConfState::default(), Bytes::new())
            .unwrap()
            .clone();
        assert_eq!((made.meta.index, made.meta.term), (Index(4), Term(4)));
        assert!(
            storage
                .create_snapshot(Index(4), ConfState::default(), Bytes::new())
                .is_err()
        );
        assert!(storage.apply_snapshot(made).is_err());
        assert_eq!(storage.log().len(), 3, "the log stays until it is compacted");
    }
}
