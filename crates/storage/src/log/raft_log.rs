//! The write path: a batch becomes one frame, written by one call; a sync makes all of it durable.

use quorate_raft::mutant;
use std::collections::VecDeque;
use std::io;

use super::encoder::{Encoder, shard_of};
use super::gc::Pass;
use super::index::{LogIndex, Place};
use super::pool::{Pool, Prepared};
use super::segment::{self, BEGIN_AT, Begin, FRAMES_AT, Link, Segment};
use super::{LogBatch, LogError, LogOp, LogOptions, OpenError, Recovered, recover};
use crate::Identity;
use crate::disk::Disk;

/// The log.
///
/// Invariants, of which recovery makes use:
/// - Frames lie in the segments in the order of the writes; a segment is begun only after everything in the
///   one before was synced.
/// - After an error nothing more is written, synced or freed (P2).
/// - Segments are freed from the front only, so a record never outlives the one that made it dead; and only
///   when everything that was written is synced.
pub struct RaftLog<D: Disk> {
    pub(super) pool: Pool<D>,
    pub(super) index: LogIndex,
    /// In order; the last one is written to. Never empty.
    pub(super) segments: VecDeque<Segment<D::File>>,
    /// The segment that will be begun next, prepared ahead.
    pub(super) next: Option<Prepared<D::File>>,
    /// Everything below this offset of the last segment is durable, its begin record included; zero if
    /// nothing in it is known to be.
    pub(super) synced: u64,
    pub(super) encoder: Encoder,
    pub(super) pass: Option<Pass>,
    /// Bytes that the callers wrote since the last pass of moving began.
    pub(super) written_since_pass: u64,
    /// What failed first (P2).
    pub(super) failed: Option<(String, &'static str)>,
    pub(super) disk_full: bool,
}

impl<D: Disk> RaftLog<D> {
    /// Opens or creates the log; the recovered tail is durable when this returns (P1).
    ///
    /// Fails when the device does, when a file belongs to another store, is of a newer format, or is not what
    /// its name says; damage to records is not a failure, but quarantines shards (P3).
    pub fn open(disk: D, identity: Identity, options: LogOptions) -> Result<(Self, Recovered), OpenError> {
        recover::open(disk, identity, options)
    }

    /// Writes a batch without syncing it. Its operations survive a crash together or not at all.
    ///
    /// A full segment is synced here before the batch goes to the next one, so what was written before it may
    /// become durable without a call of [`RaftLog::sync`]; the batch itself never does. After an error every
    /// further call fails (P2). A batch that leaves a gap in a shard's log is refused in the same way.
    pub fn write(&mut self, batch: &LogBatch) -> Result<(), LogError> {
        self.check_usable()?;
        if batch.ops.is_empty() {
            return Ok(());
        }
        let result = self.write_batch(batch);
        self.poisoned_by(result)
    }

    /// Makes all that was written durable. After an error every further call fails (P2).
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.check_usable()?;
        let result = self.sync_current();
        self.poisoned_by(result)
    }

    /// Bytes on disk in segments that hold live records, the one that is written to included.
    pub fn bytes_on_disk(&self) -> u64 {
        self.segments.iter().map(|segment| segment.len).sum()
    }

    /// Bytes that the disk has left, if it says (H1).
    pub fn available_bytes(&self) -> Option<u64> {
        self.pool.disk.available().ok()
    }

    /// The disk had no room for the next segment the last time that one was to be prepared ahead. The log
    /// still works: there is room in the segments that exist (H1).
    pub fn is_disk_full(&self) -> bool {
        self.disk_full
    }

    fn write_batch(&mut self, batch: &LogBatch) -> Result<(), LogError> {
        let sequence = self.current().sequence;
        self.encoder
            .batch(batch)
            .map_err(failing(sequence, "encoding a batch"))?;
        let len = self.encoder.len();
        self.written_since_pass = self.written_since_pass.saturating_add(len);
        let place = self.reserve(len)?;
        for (n, op) in batch.ops.iter().enumerate() {
            let end = if n + 1 < batch.ops.len() {
                self.encoder.start_of(n + 1)
            } else {
                self.encoder.len()
            };
            let start = self.encoder.start_of(n);
            self.index_op(
                op,
                end - start,
                Place {
                    offset: place.offset + start,
                    ..place
                },
            )?;
        }
        self.write_frame(place)
    }

    /// Checks one operation against the index and enters it. On an error nothing was written, and the log is
    /// poisoned, so the half-entered batch does not matter.
    fn index_op(&mut self, op: &LogOp, bytes: u64, place: Place) -> Result<(), LogError> {
        let shard = shard_of(op);
        match op {
            LogOp::Append { entries, .. } => {
                let contiguous = entries
                    .windows(2)
                    .all(|pair| pair[0].index.next() == pair[1].index);
                let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
                    return Ok(());
                };
                if !contiguous || !self.index.accepts(shard, first.index) {
                    let text = format!("shard {shard}: entries from {} leave a gap", first.index);
                    let source = io::Error::new(io::ErrorKind::InvalidInput, text);
                    return Err(LogError {
                        file: self.current().name(),
                        action: "checking a batch",
                        source,
                    });
                }
                self.index.append(shard, first.index, last.index, bytes, place);
            }
            LogOp::HardState { replica, state, .. } => {
                self.index.hard_state(shard, *replica, *state, place.segment);
            }
            LogOp::Compact { index, term, .. } => self.index.compact(shard, *index, *term, place.segment),
            LogOp::Reset { index, term, .. } => self.index.reset(shard, *index, *term, place.segment),
            LogOp::Tombstone { replica, .. } => self.index.tombstone(shard, *replica, place.segment),
        }
        Ok(())
    }

    pub(super) fn current(&self) -> &Segment<D::File> {
        // Not empty: recovery leaves one, and only those in front of it are freed.
        &self.segments[self.segments.len() - 1]
    }

    /// Finds room for a frame of `len` bytes, beginning another segment if need be.
    pub(super) fn reserve(&mut self, len: u64) -> Result<Place, LogError> {
        let current = self.current();
        if current.end + len > current.len {
            self.rotate(len)?;
        }
        let current = self.current();
        Ok(Place {
            segment: current.sequence,
            offset: current.end,
        })
    }

    /// Begins a segment with room for a frame of `len` bytes. The begin record itself goes out with the first
    /// frame; everything in front of it is durable from here on.
    fn rotate(&mut self, len: u64) -> Result<(), LogError> {
        if !mutant!("segment-begun-before-the-last-was-synced") {
            self.sync_current()?;
        }
        let needed = FRAMES_AT + len;
        let prepared = match self.next.take() {
            Some(prepared) if prepared.len >= needed => prepared,
            too_small => {
                // Segments are begun in the order of their numbers, so one that is passed over is not begun
                // under its number any more.
                if let Some(Prepared { sequence, file, len }) = too_small {
                    self.pool.retire(sequence, file, len)?;
                }
                self.pool.prepare(needed.max(self.pool.options.segment_bytes))?
            }
        };
        let link = Link {
            sequence: self.current().sequence,
            end: self.current().end,
        };
        let Prepared { sequence, file, len } = prepared;
        self.segments.push_back(Segment {
            sequence,
            file,
            len,
            end: FRAMES_AT,
            link,
            holes: Vec::new(),
        });
        self.synced = 0;
        Ok(())
    }

    /// Writes the encoded frame to the place that was reserved for it.
    pub(super) fn write_frame(&mut self, place: Place) -> Result<(), LogError> {
        let len = self.encoder.len();
        // Not empty, see `current`; spelled out because the encoder is borrowed beside it.
        let last = self.segments.len() - 1;
        let current = &mut self.segments[last];
        let encoded = self.encoder.finish(place.segment, place.offset, self.synced);
        let mut bytes = encoded.map_err(failing(place.segment, "encoding a batch"))?;
        let mut offset = place.offset;
        // A segment that recovery filled has its begin record already, and says that it is synced.
        if place.offset == FRAMES_AT && self.synced == 0 {
            let begin = Begin {
                link: current.link,
                synced: 0,
            };
            bytes = self
                .encoder
                .with_begin(&segment::encode_begin(&begin, place.segment));
            offset = BEGIN_AT;
        }
        let written = self.pool.disk.write_at(&current.file, offset, bytes);
        written.map_err(failing(place.segment, "writing"))?;
        current.end = place.offset + len;
        Ok(())
    }

    pub(super) fn is_synced(&self) -> bool {
        self.synced == self.current().end
    }

    pub(super) fn sync_current(&mut self) -> Result<(), LogError> {
        if self.is_synced() {
            return Ok(());
        }
        let current = self.current();
        self.pool
            .disk
            .sync(&current.file)
            .map_err(failing(current.sequence, "syncing"))?;
        self.synced = self.current().end;
        Ok(())
    }

    pub(super) fn check_usable(&self) -> Result<(), LogError> {
        let Some((file, action)) = &self.failed else {
            return Ok(());
        };
        let source = io::Error::other("an earlier operation failed and nothing is retried (P2)");
        Err(LogError {
            file: file.clone(),
            action,
            source,
        })
    }

    pub(super) fn poisoned_by<T>(&mut self, result: Result<T, LogError>) -> Result<T, LogError> {
        if let Err(error) = &result
            && !mutant!("failed-sync-forgotten")
        {
            self.failed = Some((error.file.clone(), error.action));
        }
        result
    }
}

/// Attaches the segment and the action to a device's error; the name is made only then.
fn failing(sequence: u64, action: &'static str) -> impl FnOnce(io::Error) -> LogError {
    move |source| LogError {
        file: segment::name(sequence),
        action,
        source,
    }
}
