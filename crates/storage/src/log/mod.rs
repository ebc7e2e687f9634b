//! The shared Raft log: one append-only, segmented, checksummed log for all the shards of a worker.
//!
//! A [`LogBatch`] is one frame in a segment, written by one call; a sync makes every frame so far durable.
//! At open the frames are replayed, and what they amount to is handed over as [`Recovered`]; after that the
//! log keeps no payloads, only which ranges are live in which segment. What survives a crash is a prefix of
//! the batches, at least up to the last sync that succeeded. The bytes are drawn in `docs/formats-log.md`.
//!
//! `frame`, `op` and `segment` are the format; `raft_log` with `encoder` writes, `recover` with `scan`,
//! `replay` and `entries` opens, `gc` with `pool` frees and prepares segments, `index` knows what is live.

use std::collections::BTreeMap;

use quorate_raft::{Entry, HardState, Index, ReplicaId, Term};

use crate::ShardId;

mod encoder;
mod entries;
mod frame;
mod gc;
mod index;
mod op;
mod pool;
mod raft_log;
mod recover;
mod replay;
mod scan;
mod segment;

pub use raft_log::RaftLog;
pub use scan::vouched;

/// One write: what all shards touched in a turn have to store, under one sync (group commit).
#[derive(Clone, Debug, Default)]
pub struct LogBatch {
    /// In order; later operations on a shard see the earlier ones.
    pub ops: Vec<LogOp>,
    /// Whether the write must be durable before it counts.
    pub sync: bool,
}

/// One operation on one shard's part of the log.
#[derive(Clone, Debug)]
pub enum LogOp {
    /// Appends entries; one at an index that exists replaces it and cuts all behind it.
    Append {
        /// The shard.
        shard: ShardId,
        /// Contiguous, not empty.
        entries: Vec<Entry>,
    },
    /// Replaces the hard state.
    HardState {
        /// The shard.
        shard: ShardId,
        /// The replica whose state this is.
        replica: ReplicaId,
        /// The state.
        state: HardState,
    },
    /// Entries up to and including `index` are no longer needed.
    Compact {
        /// The shard.
        shard: ShardId,
        /// The last one removed.
        index: Index,
        /// Its term.
        term: Term,
    },
    /// The log is empty and continues behind `(index, term)`; the hard state stays (P5).
    Reset {
        /// The shard.
        shard: ShardId,
        /// Where the snapshot ends.
        index: Index,
        /// The term there.
        term: Term,
    },
    /// The replica was destroyed (M4); all its records are void.
    Tombstone {
        /// The shard.
        shard: ShardId,
        /// The replica; ids are never reused (M3).
        replica: ReplicaId,
    },
}

/// What the log held for one shard at open.
#[derive(Clone, Debug, Default)]
pub struct RecoveredShard {
    /// The replica that wrote it, if a hard state was stored.
    pub replica: Option<ReplicaId>,
    /// The newest hard state.
    pub hard_state: HardState,
    /// The position before the first entry (compacted or reset to).
    pub base: (Index, Term),
    /// Contiguous, from `base + 1`.
    pub entries: Vec<Entry>,
    /// Damage below a synced offset may have hit this shard (P3): it must not vote or acknowledge until
    /// rebuilt from its peers. It stays so over restarts until both a reset and a hard state are written, or a
    /// tombstone. Votes may be among what was lost, so that hard state must be of a term above all that the
    /// replica may have voted in (docs/adr/0004).
    pub quarantined: bool,
    /// The replica was destroyed.
    pub tombstone: Option<ReplicaId>,
}

/// What the log held at open.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Per shard.
    pub shards: BTreeMap<ShardId, RecoveredShard>,
    /// One line for each thing that was found wrong and survived (damage, torn tail), naming the file.
    pub notes: Vec<String>,
    /// Damage below a synced offset may have hit shards that are not in `shards` as well (P3): one that the
    /// engine knows and the log does not is to be treated as quarantined. Stays so over restarts.
    pub unlisted_quarantined: bool,
}

/// Settings.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Bytes of one segment.
    pub segment_bytes: u64,
    /// Free segments kept for reuse.
    pub recycled_segments_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            recycled_segments_max: 2,
        }
    }
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The device failed.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file belongs to another store or cluster (P8).
    #[error("{file}: belongs to {found}, this is {expected}")]
    WrongStore {
        /// The file.
        file: String,
        /// Whose it is.
        found: String,
        /// Who opened it.
        expected: String,
    },
    /// The file was written by a newer version.
    #[error("{file}: format version {found} is newer than {supported}, the newest that this program reads")]
    NewerFormat {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// The file is not what its name says.
    #[error("{file}: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
}

/// Why a write failed. Nothing is retried, nothing more is acknowledged; the process stops (P2, H3).
#[derive(Debug, thiserror::Error)]
#[error("Raft log {file}: {action} failed: {source}")]
pub struct LogError {
    /// The segment.
    pub file: String,
    /// What was being done.
    pub action: &'static str,
    /// The cause.
    #[source]
    pub source: std::io::Error,
}
