//! What members of a `quorate-node` group say to each other.

use bytes::Bytes;
use quorate_raft::{Message, SnapshotMeta, Term};

/// A message between two members of one replicated log.
#[derive(Clone, PartialEq, Debug)]
pub enum NodeMessage {
    /// Consensus traffic. Never a bare snapshot: those travel in chunks.
    Raft(Message),
    /// A piece of a snapshot (bulk connection).
    SnapshotChunk(NodeSnapshotChunk),
    /// How much of a snapshot has arrived (bulk connection).
    SnapshotAck(NodeSnapshotAck),
    /// The receiver was removed from the group: it is told so by a member that has applied the removal, and
    /// takes no further part (M4).
    Removed,
}

/// A piece of a snapshot.
#[derive(Clone, PartialEq, Debug)]
pub struct NodeSnapshotChunk {
    /// Unique per sending process and snapshot sent.
    pub id: u64,
    /// The sending leader's term.
    pub term: Term,
    /// Position and configuration; repeated in every chunk.
    pub meta: SnapshotMeta,
    /// Bytes of the whole snapshot.
    pub bytes_total: u64,
    /// Where this piece begins.
    pub offset: u64,
    /// The piece.
    pub data: Bytes,
    /// CRC32C of `data`.
    pub crc: u32,
}

/// The receiver's progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeSnapshotAck {
    /// The snapshot's, as in [`NodeSnapshotChunk::id`].
    pub id: u64,
    /// Everything before this offset has arrived.
    pub next: u64,
    /// All of it has arrived and was handed to the receiver's consensus core.
    pub done: bool,
}
