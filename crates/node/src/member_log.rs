//! The log in memory: what the consensus core reads, with a count of the commands up to each entry.
//!
//! What is on disk is the same, or about to be. Entries behind the newest snapshot are kept up to a bound.

use std::collections::VecDeque;

use quorate_raft::{ConfState, Entry, HardState, Index, Payload, Snapshot, Storage, StorageError, Term};

/// What an entry counts beside its payload: the log's own bytes on disk.
const ENTRY_OVERHEAD: u64 = 13;

/// The entries from `base + 1` on, and the newest durable snapshot.
///
/// Invariants: `snapshot.meta.index >= base.0`; `slots[i].entry.index == base.0 + 1 + i`; `slots[i].commands`
/// counts the commands of the group up to and including that entry.
#[derive(Debug)]
pub(crate) struct MemberLog {
    /// What the process found when it started.
    initial: (HardState, ConfState),
    base: (Index, Term),
    /// Commands up to and including `base`.
    base_commands: u64,
    slots: VecDeque<Slot>,
    bytes: u64,
    snapshot: Snapshot,
}

#[derive(Debug)]
struct Slot {
    entry: Entry,
    commands: u64,
}

/// Whether an entry holds a command: Raft's own entries are empty or membership changes.
pub(crate) fn is_command(entry: &Entry) -> bool {
    matches!(&entry.payload, Payload::Normal(data) if !data.is_empty())
}

fn bytes_of(entry: &Entry) -> u64 {
    ENTRY_OVERHEAD + entry.payload.len() as u64
}

impl MemberLog {
    /// A log as it was recovered: `snapshot` covers `snapshot_commands` commands and lies within the log.
    pub(crate) fn new(
        hard_state: HardState,
        snapshot: Snapshot,
        snapshot_commands: u64,
        base: (Index, Term),
        entries: Vec<Entry>,
    ) -> Self {
        let covered = |entry: &&Entry| entry.index <= snapshot.meta.index && is_command(entry);
        let mut log = Self {
            initial: (hard_state, snapshot.meta.conf_state.clone()),
            base,
            base_commands: snapshot_commands - entries.iter().filter(covered).count() as u64,
            slots: VecDeque::new(),
            bytes: 0,
            snapshot,
        };
        log.append(entries);
        log
    }

    pub(crate) fn base(&self) -> Index {
        self.base.0
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    fn last(&self) -> Index {
        Index(self.base.0.0 + self.slots.len() as u64)
    }

    fn slot(&self, index: Index) -> Option<&Slot> {
        let at = index.0.checked_sub(self.base.0.0 + 1)?;
        self.slots.get(usize::try_from(at).ok()?)
    }

    pub(crate) fn entry(&self, index: Index) -> Option<&Entry> {
        self.slot(index).map(|slot| &slot.entry)
    }

    /// Commands up to and including `index`, which is in the log or its base.
    pub(crate) fn commands_through(&self, index: Index) -> Option<u64> {
        if index == self.base.0 {
            return Some(self.base_commands);
        }
        self.slot(index).map(|slot| slot.commands)
    }

    /// Commands in all of the log.
    pub(crate) fn commands(&self) -> u64 {
        self.slots.back().map_or(self.base_commands, |slot| slot.commands)
    }

    /// Where command number `command` stands, if it is in the log.
    pub(crate) fn position_of(&self, command: u64) -> Option<Index> {
        if command <= self.base_commands {
            return None;
        }
        let at = self.slots.partition_point(|slot| slot.commands < command);
        self.slots.get(at).map(|slot| slot.entry.index)
    }

    /// Appends, replacing what stands at and behind the first new position.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.base.0 && first.index <= self.last().next(),
            "append at {} does not continue the log ({}, {}]",
            first.index,
            self.base.0,
            self.last()
        );
        while self.last() >= first.index {
            if let Some(cut) = self.slots.pop_back() {
                self.bytes -= bytes_of(&cut.entry);
            }
        }
        for entry in entries {
            assert_eq!(entry.index, self.last().next(), "appended entries are contiguous");
            self.bytes += bytes_of(&entry);
            let commands = self.commands() + u64::from(is_command(&entry));
            self.slots.push_back(Slot { entry, commands });
        }
    }

    /// Starts over behind a snapshot that was received (P5).
    pub(crate) fn reset(&mut self, snapshot: Snapshot, commands: u64) {
        self.slots.clear();
        self.bytes = 0;
        self.base = (snapshot.meta.index, snapshot.meta.term);
        self.base_commands = commands;
        self.snapshot = snapshot;
    }

    /// A snapshot made here has become durable; false if a newer one is there.
    pub(crate) fn set_snapshot(&mut self, snapshot: Snapshot) -> bool {
        if snapshot.meta.index <= self.snapshot.meta.index {
            return false;
        }
        self.snapshot = snapshot;
        true
    }

    /// Forgets entries that the snapshot covers, except the newest of them that fit `keep_bytes`. Returns the
    /// new base if it moved.
    pub(crate) fn compact(&mut self, keep_bytes: u64) -> Option<(Index, Term)> {
        let through = self.snapshot.meta.index;
        let mut covered: u64 = self
            .slots
            .iter()
            .take_while(|slot| slot.entry.index <= through)
            .map(|slot| bytes_of(&slot.entry))
            .sum();
        let before = self.base;
        while covered > keep_bytes
            && let Some(slot) = self.slots.pop_front()
        {
            let bytes = bytes_of(&slot.entry);
            covered -= bytes;
            self.bytes -= bytes;
            self.base = (slot.entry.index, slot.entry.term);
            self.base_commands = slot.commands;
        }
        (self.base != before).then_some(self.base)
    }

    /// The newest durable snapshot.
    pub(crate) fn durable_snapshot(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl Storage for MemberLog {
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
        let at = |index: Index| (index.0 - self.base.0.0 - 1) as usize;
        let before = found.len();
        let mut size = 0u64;
        for slot in self.slots.range(at(low)..at(end)) {
            size = size.saturating_add(slot.entry.payload.len() as u64);
            if found.len() > before && size > max_bytes {
                break;
            }
            found.push(slot.entry.clone());
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
        self.slot(index)
            .map(|slot| slot.entry.term)
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
        Ok(self.snapshot.clone())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_raft::SnapshotMeta;

    use super::*;

    fn entry(index: u64, term: u64, data: &'static [u8]) -> Entry {
        Entry {
            term: Term(term),
            index: Index(index),
            payload: Payload::Normal(Bytes::from_static(data)),
        }
    }

    fn snapshot(index: u64) -> Snapshot {
        Snapshot {
            meta: SnapshotMeta {
                index: Index(index),
                term: Term(1),
                conf_state: ConfState::default(),
            },
            data: Bytes::new(),
        }
    }

    /// Behind 10 commands at index 12: a command, an empty entry, two commands.
    fn log() -> MemberLog {
        let entries = vec![
            entry(13, 1, b"a"),
            entry(14, 2, b""),
            entry(15, 2, b"b"),
            entry(16, 2, b"c"),
        ];
        MemberLog::new(
            HardState::default(),
            snapshot(12),
            10,
            (Index(12), Term(1)),
            entries,
        )
    }

    #[test]
    fn commands_are_counted_over_entries_that_are_none() {
        let log = log();
        let counts: Vec<_> = (12..=16).map(|at| log.commands_through(Index(at))).collect();
        assert_eq!(counts, [10, 11, 11, 12, 13].map(Some));
        assert_eq!(log.position_of(11), Some(Index(13)));
        assert_eq!(log.position_of(12), Some(Index(15)));
        assert_eq!((log.position_of(10), log.position_of(14)), (None, None));
    }

    #[test]
    fn a_cut_takes_its_commands_with_it() {
        let mut log = log();
        log.append(vec![entry(14, 3, b"x")]);
        assert_eq!((log.commands(), log.last()), (12, Index(14)));
        assert_eq!(log.bytes(), 2 * (ENTRY_OVERHEAD + 1));
    }

    #[test]
    fn compaction_stays_below_the_snapshot_and_keeps_what_it_is_told_to() {
        let mut log = log();
        assert_eq!(log.compact(0), None, "the snapshot covers none of the entries");
        assert!(log.set_snapshot(snapshot(15)) && !log.set_snapshot(snapshot(14)));
        let one = ENTRY_OVERHEAD + 1;
        assert_eq!(log.compact(one), Some((Index(14), Term(2))));
        assert_eq!(log.compact(0), Some((Index(15), Term(2))));
        assert_eq!((log.bytes(), log.commands(), log.base_commands), (one, 13, 12));
    }

    #[test]
    fn a_base_in_front_of_the_snapshot_counts_back() {
        let entries = vec![entry(11, 1, b"a"), entry(12, 1, b"b"), entry(13, 1, b"c")];
        let log = MemberLog::new(
            HardState::default(),
            snapshot(12),
            10,
            (Index(10), Term(1)),
            entries,
        );
        assert_eq!((log.base_commands, log.commands()), (8, 11));
    }
}
