//! Turns operations into one contiguous buffer, reused from batch to batch.

use std::io;

use quorate_raft::Index;

use super::frame;
use super::index::ShardState;
use super::op;
use super::segment::BEGIN_LEN;
use super::{LogBatch, LogOp};
use crate::ShardId;

/// A buffer that grew above this is given back after use.
const KEPT_BYTES: usize = 4 << 20;

/// One frame in the making, behind space for a begin record, so that both go out in one write.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    buf: Vec<u8>,
    /// Where each operation begins, from the frame's start.
    starts: Vec<usize>,
}

/// The shard of an operation.
pub(super) fn shard_of(op: &LogOp) -> ShardId {
    match op {
        LogOp::Append { shard, .. }
        | LogOp::HardState { shard, .. }
        | LogOp::Compact { shard, .. }
        | LogOp::Reset { shard, .. }
        | LogOp::Tombstone { shard, .. } => *shard,
    }
}

impl Encoder {
    fn reset(&mut self, table: impl Iterator<Item = ShardId>) {
        if self.buf.capacity() > KEPT_BYTES {
            self.buf = Vec::new();
        }
        self.buf.clear();
        self.buf.resize(BEGIN_LEN, 0);
        self.starts.clear();
        frame::start(&mut self.buf, table);
    }

    /// Encodes a batch. Neighbouring operations on one shard share its place in the table.
    pub(super) fn batch(&mut self, batch: &LogBatch) -> io::Result<()> {
        let mut previous = None;
        self.reset(
            batch
                .ops
                .iter()
                .map(shard_of)
                .filter(|shard| previous.replace(*shard) != Some(*shard)),
        );
        let (mut slot, mut previous) = (0, None);
        for op in &batch.ops {
            let shard = shard_of(op);
            if previous.replace(shard).is_some_and(|previous| previous != shard) {
                slot += 1;
            }
            self.starts.push(self.frame_len());
            op::put(&mut self.buf, slot, op).ok_or_else(too_long)?;
        }
        Ok(())
    }

    /// Encodes whole states of shards, and the note about damage if given.
    pub(super) fn states(
        &mut self,
        states: &[(ShardId, ShardState)],
        damage_known: Option<bool>,
    ) -> io::Result<()> {
        self.reset(states.iter().map(|(shard, _)| *shard));
        for (slot, (_, state)) in states.iter().enumerate() {
            op::put_state(&mut self.buf, u32::try_from(slot).map_err(|_| too_long())?, state);
        }
        if let Some(unlisted) = damage_known {
            op::put_damage_known(&mut self.buf, unlisted);
        }
        Ok(())
    }

    /// Encodes stored entries for their new place.
    pub(super) fn relocated(&mut self, runs: &[RelocatedRun], entries: &[u8]) -> io::Result<()> {
        self.reset(runs.iter().map(|run| run.shard));
        for (slot, run) in runs.iter().enumerate() {
            self.starts.push(self.frame_len());
            let slot = u32::try_from(slot).map_err(|_| too_long())?;
            let bytes = entries.get(run.start..run.end).unwrap_or_default();
            op::put_relocated(&mut self.buf, slot, run.first, run.count, bytes).ok_or_else(too_long)?;
        }
        Ok(())
    }

    /// Where operation `n` begins, from the frame's start.
    pub(super) fn start_of(&self, n: usize) -> u64 {
        self.starts.get(n).copied().unwrap_or_default() as u64
    }

    /// Bytes of the frame so far.
    fn frame_len(&self) -> usize {
        self.buf.len() - BEGIN_LEN
    }

    /// Bytes that the frame takes in a segment.
    pub(super) fn len(&self) -> u64 {
        frame::padded(self.frame_len()) as u64
    }

    /// Completes the frame for its place.
    pub(super) fn finish(&mut self, sequence: u64, offset: u64, synced: u64) -> io::Result<&[u8]> {
        frame::finish(&mut self.buf, BEGIN_LEN, sequence, offset, synced).ok_or_else(too_long)?;
        Ok(&self.buf[BEGIN_LEN..])
    }

    /// The frame with a begin record in front.
    pub(super) fn with_begin(&mut self, begin: &[u8; BEGIN_LEN]) -> &[u8] {
        self.buf[..BEGIN_LEN].copy_from_slice(begin);
        &self.buf
    }
}

/// Stored entries that move together.
#[derive(Clone, Copy, Debug)]
pub(super) struct RelocatedRun {
    pub(super) shard: ShardId,
    pub(super) first: Index,
    pub(super) count: u32,
    /// The range of the entries' bytes.
    pub(super) start: usize,
    pub(super) end: usize,
}

impl RelocatedRun {
    pub(super) fn last(&self) -> Index {
        Index(self.first.0 + u64::from(self.count) - 1)
    }
}

fn too_long() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "a batch is longer than 4 GiB or an append is empty",
    )
}
