//! The state engine: where applied state lives.
//!
//! Batches are atomic and ordered. Nothing is durable until [`Durability::make_durable`] has returned; after a
//! crash the engine holds an exact prefix of its batches, at least up to the last completed mark. The Raft log
//! replays the rest, so the contract assumes neither a journal nor that a batch reaches a file soon.
//!
//! [`FjallEngine`] is the real engine. [`ModelEngine`] is an in-memory one for the simulator that is as hostile
//! after a crash as the contract allows. [`suite`] checks the contract and runs on both.
//!
//! Keys are 1 to [`KEY_BYTES_MAX`] bytes, and not a single zero byte. After an error every later write fails: the engine
//! is in an unknown state, and the owner stops and reopens it.

mod buffered;
mod fjall;
mod fjall_background;
mod fjall_journal;
mod fjall_space;
mod fjall_writeback;
mod merge;
mod model;
pub mod suite;
mod worker;

use std::ops::Bound;

use bytes::Bytes;

pub use self::buffered::{BufferedEngine, BufferedSnapshot};
pub use self::fjall::{FjallDurability, FjallEngine, FjallOptions, FjallSnapshot};
pub use self::model::{FailedWrite, ModelDisk, ModelDurability, ModelEngine, ModelSnapshot};

/// The longest key.
pub const KEY_BYTES_MAX: usize = u16::MAX as usize;

/// A key that an engine may remove at any time, for its own purposes; so nobody else may use it.
const MARK: &[u8] = &[0];

/// Number of a batch, counted from 1 in the order of [`Engine::write`] since the engine was opened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct BatchSeq(pub u64);

/// An ordered list of changes, applied atomically. A later change to a key wins.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    /// `None` deletes.
    pub changes: Vec<(Bytes, Option<Bytes>)>,
}

/// Why the engine did not do as asked; the store stops.
#[derive(Debug, thiserror::Error)]
#[error("state engine: {action}: {reason}")]
pub struct EngineError {
    /// What was being done.
    pub action: &'static str,
    /// The engine's own words.
    pub reason: String,
}

impl EngineError {
    pub(crate) fn new(action: &'static str, reason: impl std::fmt::Display) -> Self {
        EngineError {
            action,
            reason: reason.to_string(),
        }
    }
}

/// One key and its value.
pub type Pair = (Bytes, Bytes);

/// Iteration over `[start, end)`; an empty `end` is the end of the key space.
pub type Pairs<'a> = Box<dyn Iterator<Item = Result<Pair, EngineError>> + 'a>;

/// Reads at one moment.
pub trait View {
    /// The value of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;
    /// Keys of `[start, end)` in ascending order.
    fn scan(&self, start: &[u8], end: &[u8]) -> Pairs<'_>;
    /// Keys of `[start, end)` in descending order.
    fn scan_reverse(&self, start: &[u8], end: &[u8]) -> Pairs<'_>;
}

/// Makes batches durable, away from the thread that writes them.
pub trait Durability: Send {
    /// Blocks until everything written before the call is durable: batches, loads and removals.
    ///
    /// What an engine shows right after it is opened may have been in memory only; call this once before
    /// vouching for it.
    fn make_durable(&mut self) -> Result<(), EngineError>;
}

/// A state engine. Reads through [`View`] see all batches written so far.
pub trait Engine: View {
    /// A consistent view that later writes do not change.
    type Snapshot: View + Send + 'static;
    /// Applies a batch. Not durable on return. An empty batch takes a number too.
    fn write(&mut self, batch: WriteBatch) -> Result<BatchSeq, EngineError>;
    /// The last batch written.
    fn last_batch(&self) -> BatchSeq;
    /// A consistent view of this moment.
    fn snapshot(&self) -> Self::Snapshot;
    /// Removes at most `limit` keys of `[start, end)`; returns whether any may be left. For ranges that nothing
    /// refers to any more; neither atomic nor ordered with batches. The engine may take its time, on another thread: whoever
    /// begins calls this until nothing is left, before anything is written to the range again.
    ///
    /// Until a later [`Durability::make_durable`] completes, a crash may undo the removal of any of the keys,
    /// or keep it although batches written before it are lost. So: make durable the batch that gives the range
    /// up before dropping it, and make the removal durable before loading into the range again.
    fn drop_range(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<bool, EngineError>;
    /// Loads pairs in ascending key order into a range that nothing refers to yet (snapshot staging).
    /// Ordered before every later batch: once such a batch is durable, so are the pairs. A crash before that
    /// may leave any of them.
    fn bulk_load(&mut self, pairs: Vec<Pair>) -> Result<(), EngineError>;
    /// Whether what was written waits in memory for a disk that does not keep up. Whoever loads pauses until that has
    /// passed; batches are taken all the same.
    fn is_behind(&self) -> bool {
        false
    }
    /// A handle that makes durable what was written before its call, usable from another thread.
    fn durability(&self) -> Box<dyn Durability>;
    /// Bytes on disk, or in memory for a model; an estimate.
    fn size_bytes(&self) -> u64;
}

/// Refuses keys that no engine is required to hold, so that the engines agree on what is an error.
fn check_key(action: &'static str, key: &[u8]) -> Result<(), EngineError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(EngineError::new(
            action,
            format!("a key of {} bytes; 1 to {KEY_BYTES_MAX} are allowed", key.len()),
        ));
    }
    if key == MARK {
        return Err(EngineError::new(
            action,
            "a key of a single zero byte is the engine's own",
        ));
    }
    Ok(())
}

fn check_ascending(action: &'static str, pairs: &[Pair]) -> Result<(), EngineError> {
    if pairs.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return Err(EngineError::new(action, "the keys do not ascend"));
    }
    Ok(())
}

type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// Bounds of `[start, end)` for an ordered map; `None` when the range is empty, which some maps refuse.
fn bounds<'a>(start: &'a [u8], end: &'a [u8]) -> Option<Bounds<'a>> {
    if end.is_empty() {
        return Some((Bound::Included(start), Bound::Unbounded));
    }
    (start < end).then_some((Bound::Included(start), Bound::Excluded(end)))
}
