//! What the core reads from the application's stable storage.

use alloc::vec::Vec;

use crate::{ConfState, Entry, HardState, Index, Snapshot, StorageError, Term};

/// Read access to the stable part of the log. Positions are inclusive unless named `end`.
pub trait Storage {
    /// What was durable when the process started.
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError>;
    /// Adds to `found` the entries in `[low, end)`: at least one, then as many as fit `max_bytes` of payload.
    /// After an error `found` is of no use.
    fn entries(
        &self,
        low: Index,
        end: Index,
        max_bytes: u64,
        found: &mut Vec<Entry>,
    ) -> Result<(), StorageError>;
    /// The term at `index`, in `[first_index - 1, last_index]`.
    fn term(&self, index: Index) -> Result<Term, StorageError>;
    /// The first position that is still available as an entry.
    fn first_index(&self) -> Result<Index, StorageError>;
    /// The last position; `first_index - 1` when the log is empty.
    fn last_index(&self) -> Result<Index, StorageError>;
    /// The newest snapshot, for a follower whose log position is compacted.
    fn snapshot(&self) -> Result<Snapshot, StorageError>;
}
