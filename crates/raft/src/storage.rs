//! What the core reads from the application's stable storage.

use alloc::vec::Vec;

use crate::{ConfState, Entry, HardState, Index, Snapshot, StorageError, Term};

/// Read access to the stable part of the log: what the driver has stored of the [`crate::AppendWork`]s that it was
/// given. Positions are inclusive unless named `end`.
///
/// Every implementation should pass [`crate::storage_suite::check`]. Errors other than
/// [`StorageError::SnapshotTemporarilyUnavailable`], and [`StorageError::Compacted`] for a position that a lagging
/// follower needs, end the member.
pub trait Storage {
    /// What was durable when the process started: the hard state, and the configuration at the applied index with
    /// which the member starts. Read once.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError>;
    /// Adds to `found` the entries in `[low, end)`: at least one, then as many as fit `max_bytes` of payload.
    /// After an error `found` is of no use.
    ///
    /// # Errors
    ///
    /// [`StorageError::Compacted`] if `low` was removed, [`StorageError::Unavailable`] if `end - 1` is past the end.
    fn entries(
        &self,
        low: Index,
        end: Index,
        max_bytes: u64,
        found: &mut Vec<Entry>,
    ) -> Result<(), StorageError>;
    /// The term at `index`, in `[first_index - 1, last_index]`: the term before the first entry is known.
    ///
    /// # Errors
    ///
    /// [`StorageError::Compacted`] below that range, [`StorageError::Unavailable`] above it.
    fn term(&self, index: Index) -> Result<Term, StorageError>;
    /// The first position that is still available as an entry; 1 in a log that was never compacted.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn first_index(&self) -> Result<Index, StorageError>;
    /// The last position; `first_index - 1` when the log is empty.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    fn last_index(&self) -> Result<Index, StorageError>;
    /// A snapshot for a follower whose log position is compacted: of any applied index from `first_index - 1` on.
    ///
    /// # Errors
    ///
    /// [`StorageError::SnapshotTemporarilyUnavailable`] while it is being made; it is asked for again later.
    fn snapshot(&self) -> Result<Snapshot, StorageError>;
}
