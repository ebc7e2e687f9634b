//! The log as the core sees it: stable entries in storage, unstable ones in memory, and the positions.
//!
//! Invariant: `applied <= applying <= commit <= last`.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use crate::unstable::Unstable;
use crate::{Entry, Index, Payload, Snapshot, StepError, Storage, StorageError, Term};

/// Payload bytes of an entry, as limits count them.
pub(crate) fn payload_bytes(entry: &Entry) -> u64 {
    entry.payload.len() as u64
}

/// What an entry counts beside its payload.
const ENTRY_OVERHEAD: u64 = 12;

/// Bytes of an entry on its way, as limits on messages and on applying count them: never zero.
fn entry_bytes(entry: &Entry) -> u64 {
    ENTRY_OVERHEAD + payload_bytes(entry)
}

/// See [`payload_bytes`] and [`entry_bytes`].
pub(crate) fn total_bytes(entries: &[Entry]) -> (u64, u64) {
    let payload = entries.iter().map(payload_bytes).sum();
    (payload, payload + ENTRY_OVERHEAD * entries.len() as u64)
}

pub(crate) struct RaftLog<S> {
    pub(crate) storage: S,
    pub(crate) unstable: Unstable,
    pub(crate) commit: Index,
    /// The last entry handed out to be applied.
    applying: Index,
    pub(crate) applied: Index,
    /// Limit on, and amount of, payload bytes handed out and not reported applied.
    applying_bytes_max: u64,
    applying_bytes: u64,
    /// No more is handed out until some of it is applied.
    applying_paused: bool,
}

impl<S: Storage> RaftLog<S> {
    pub(crate) fn new(storage: S, applying_bytes_max: u64) -> Result<Self, StorageError> {
        let first = storage.first_index()?;
        let last = storage.last_index()?;
        Ok(Self {
            storage,
            unstable: Unstable::new(last.next()),
            commit: first.prev(),
            applying: first.prev(),
            applied: first.prev(),
            // A limit of zero still lets one entry at a time through, like every limit below an entry's size.
            applying_bytes_max: applying_bytes_max.max(1),
            applying_bytes: 0,
            applying_paused: false,
        })
    }

    pub(crate) fn first_index(&self) -> Result<Index, StorageError> {
        match self.unstable.first_index() {
            Some(first) => Ok(first),
            None => self.storage.first_index(),
        }
    }

    /// Known without storage: the unstable part begins behind storage's last index.
    pub(crate) fn last_index(&self) -> Index {
        self.unstable.end().prev()
    }

    pub(crate) fn term(&self, index: Index) -> Result<Term, StorageError> {
        if let Some(term) = self.unstable.term(index) {
            return Ok(term);
        }
        let last = self.last_index();
        if index > last {
            return Err(StorageError::Unavailable { last, asked: index });
        }
        // The position before the first entry is known too: an append's previous entry may stand there.
        let first = self.first_index()?;
        if index.next() < first {
            return Err(StorageError::Compacted { first, asked: index });
        }
        self.storage.term(index).map_err(|error| self.lost(error))
    }

    /// What storage was told to keep and does not have is lost, not merely unavailable.
    fn lost(&self, error: StorageError) -> StorageError {
        match error {
            StorageError::Unavailable { last, .. } => StorageError::LostTail {
                last,
                stored: self.unstable.offset.prev(),
            },
            error => error,
        }
    }

    /// The term at `index`, if it is known.
    pub(crate) fn known_term(&self, index: Index) -> Result<Option<Term>, StorageError> {
        match self.term(index) {
            Ok(term) => Ok(Some(term)),
            Err(StorageError::Compacted { .. } | StorageError::Unavailable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn matches(&self, index: Index, term: Term) -> Result<bool, StorageError> {
        Ok(self.known_term(index)? == Some(term))
    }

    pub(crate) fn last_term(&self) -> Result<Term, StorageError> {
        self.term(self.last_index())
    }

    /// Whether a log that ends at `(index, term)` is at least as new as this one (Raft paper §5.4.1).
    pub(crate) fn is_up_to_date(&self, index: Index, term: Term) -> Result<bool, StorageError> {
        let (last, last_term) = (self.last_index(), self.last_term()?);
        if mutant!("log-comparison-reversed") {
            return Ok(index > last || (index == last && term >= last_term));
        }
        let is_long_enough = index >= last || mutant!("log-comparison-by-term-alone");
        Ok(term > last_term || (term == last_term && is_long_enough))
    }

    /// Appends new entries of a leader in `term`; returns the index of the last.
    pub(crate) fn append_new(&mut self, term: Term, payloads: impl IntoIterator<Item = Payload>) -> Index {
        self.unstable.extend(term, payloads);
        self.last_index()
    }

    /// Appends entries that a leader sent; replaces what stands there.
    fn append(&mut self, entries: Vec<Entry>) {
        if let Some(first) = entries.first() {
            assert!(
                first.index > self.commit,
                "append at {} would replace committed entries (commit {})",
                first.index,
                self.commit
            );
            self.unstable.truncate_and_append(entries);
        }
    }

    /// A follower takes a leader's append (Raft paper §5.3). Returns the last index that now matches, or `None`
    /// if the logs differ at `prev`.
    pub(crate) fn maybe_append(
        &mut self,
        prev: Index,
        prev_term: Term,
        mut entries: Vec<Entry>,
        commit: Index,
    ) -> Result<Option<Index>, StepError> {
        if !self.matches(prev, prev_term)? {
            if mutant!("commit-from-a-refused-append") {
                self.commit_to(commit.min(self.last_index()))?;
            }
            return Ok(None);
        }
        let last_new = Index(prev.0 + entries.len() as u64);
        // What this log does not reach yet need not be compared.
        let known = (self.last_index().0 - prev.0).min(entries.len() as u64) as usize;
        let mut agreed = 0;
        while agreed < known
            && (mutant!("conflicting-entries-kept")
                || self.matches(entries[agreed].index, entries[agreed].term)?)
        {
            agreed += 1;
        }
        if mutant!("old-append-cuts-newer-entries") && agreed == entries.len() {
            agreed = (self.commit.0.max(prev.0) - prev.0).min(agreed as u64) as usize;
        }
        if let Some(entry) = entries.get(agreed) {
            if entry.index <= self.commit {
                return Err(StepError::Contradiction(format!(
                    "an append has term {} at index {}, which is committed (commit {}) with another term",
                    entry.term, entry.index, self.commit
                )));
            }
            if agreed > 0 {
                entries.drain(..agreed);
            }
            if mutant!("conflict-tail-not-cut") {
                let end = self.last_index().next();
                entries.extend(self.slice(last_new.next(), end, u64::MAX)?);
            }
            self.append(entries);
        }
        self.commit_to(commit.min(last_new))?;
        Ok(Some(last_new))
    }

    pub(crate) fn commit_to(&mut self, commit: Index) -> Result<(), StepError> {
        if commit <= self.commit {
            return Ok(());
        }
        let last = self.last_index();
        if commit > last {
            return Err(StepError::Contradiction(format!(
                "commit index {commit} is past the last index {last}: the log lost entries that it acknowledged"
            )));
        }
        self.commit = commit;
        Ok(())
    }

    /// The highest index at or below `index` that may match a log whose entry there has `term`: entries of a
    /// higher term cannot be in it. Also that entry's term; zero if it is compacted.
    pub(crate) fn find_conflict_by_term(
        &self,
        index: Index,
        term: Term,
    ) -> Result<(Index, Term), StorageError> {
        let mut index = index;
        while index > Index(0) {
            match self.known_term(index)? {
                None => return Ok((index, Term(0))),
                Some(ours) if ours <= term => return Ok((index, ours)),
                Some(_) => index = index.prev(),
            }
        }
        Ok((index, Term(0)))
    }

    /// Entries in `[low, end)`, at least one, then as many as fit `max_bytes`.
    pub(crate) fn slice(&self, low: Index, end: Index, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
        self.slice_into(low, end, max_bytes, Vec::new())
    }

    /// [`RaftLog::slice`], in a vector that is empty now.
    pub(crate) fn slice_into(
        &self,
        low: Index,
        end: Index,
        max_bytes: u64,
        mut found: Vec<Entry>,
    ) -> Result<Vec<Entry>, StorageError> {
        if low >= end {
            return Ok(found);
        }
        let offset = self.unstable.offset;
        let mut bytes = 0;
        if low < offset {
            let first = self.first_index()?;
            if low < first {
                return Err(StorageError::Compacted { first, asked: low });
            }
            let stable_end = end.min(offset);
            self.storage
                .entries(low, stable_end, max_bytes, &mut found)
                .map_err(|error| self.lost(error))?;
            check_slice(&found, low, stable_end)?;
            // Storage may have stopped at the limit.
            if found.len() as u64 != stable_end.0 - low.0 || end <= offset {
                return Ok(found);
            }
            bytes = total_bytes(&found).1;
        }
        let from = (low.max(offset).0 - offset.0) as usize;
        let to = (end.0 - offset.0) as usize;
        let rest = &self.unstable.entries[from..to];
        let mut fitting = rest.len();
        for (at, entry) in rest.iter().enumerate() {
            bytes += entry_bytes(entry);
            if bytes > max_bytes && (at > 0 || !found.is_empty()) {
                fitting = at;
                break;
            }
        }
        found.extend_from_slice(&rest[..fitting]);
        Ok(found)
    }

    fn appliable(&self, allow_unstable: bool) -> Index {
        if allow_unstable {
            self.commit
        } else {
            self.commit.min(self.unstable.offset.prev())
        }
    }

    pub(crate) fn has_next_committed(&self, allow_unstable: bool) -> bool {
        !self.applying_paused
            && self.unstable.snapshot.is_none()
            && self.appliable(allow_unstable) > self.applying
    }

    /// Committed entries to be applied next, within the limit. A snapshot goes first.
    /// They come in `into`, which is empty now; to be asked for when there are some.
    pub(crate) fn next_committed(
        &self,
        allow_unstable: bool,
        into: Vec<Entry>,
    ) -> Result<Vec<Entry>, StorageError> {
        let room = self.applying_bytes_max.saturating_sub(self.applying_bytes);
        self.slice_into(
            self.applying.next(),
            self.appliable(allow_unstable).next(),
            room,
            into,
        )
    }

    /// Entries up to `last`, with `bytes` of payload, were handed out.
    pub(crate) fn accept_applying(&mut self, last: Index, bytes: u64, allow_unstable: bool) {
        assert!(
            last <= self.commit,
            "handed out {last}, committed is {}",
            self.commit
        );
        self.applying = last;
        self.applying_bytes += bytes;
        // A batch that was cut short used up the room.
        self.applying_paused =
            self.applying_bytes >= self.applying_bytes_max || last < self.appliable(allow_unstable);
    }

    pub(crate) fn applied_to(&mut self, index: Index, bytes: u64) {
        assert!(
            self.applied <= index && index <= self.commit,
            "applied {index} is outside [applied {}, commit {}]",
            self.applied,
            self.commit
        );
        self.applied = index;
        self.applying = self.applying.max(index);
        self.applying_bytes = self.applying_bytes.saturating_sub(bytes);
        self.applying_paused = self.applying_bytes >= self.applying_bytes_max;
    }

    /// Whether entries were handed out that are not reported applied.
    pub(crate) fn is_applying(&self) -> bool {
        self.applying > self.applied
    }

    pub(crate) fn restore(&mut self, snapshot: Box<Snapshot>) {
        self.commit = snapshot.meta.index;
        self.unstable.restore(snapshot);
    }
}

/// Storage answers a request for `[low, end)` with entries from `low` on, at least one, without gaps.
fn check_slice(found: &[Entry], low: Index, end: Index) -> Result<(), StorageError> {
    let fits = match (found.first(), found.last()) {
        (Some(first), Some(last)) => {
            let span = last.index.0.checked_sub(low.0);
            first.index == low && span == Some(found.len() as u64 - 1) && last.index < end
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    let positions: Vec<Index> = found.iter().map(|entry| entry.index).collect();
    Err(StorageError::Failed(format!(
        "entries in [{low}, {end}) were asked for, and storage gave {positions:?}"
    )))
}
