//! Housekeeping: prepares the next segment, frees the oldest, moves what keeps it from being freed.
//!
//! Segments are freed from the front only. A record that makes others dead (an overwriting append, a
//! compaction, a reset, a tombstone) lies behind them, so it is never freed before they are, and nothing
//! dead comes back. What is alive in the oldest segment is moved to the newest when the live records are
//! less than half of the log, so a shard that rests does not pin the segments of those that work.
//!
//! Moving goes in passes. A pass moves each record at most once, namely out of the segments that are older
//! than the one that is written to when it begins, and it begins only after the callers have written at least
//! as much as is live since the last one began. So moving writes about as much as the callers do at most
//! (write amplification of two), and the housekeeping ends: every step frees a segment, moves the pass's
//! cursor on, moves states out of a segment of the pass, or prepares the one segment ahead. A pass has
//! finitely many segments and never gains one, a segment is prepared only after one was begun, which takes a
//! segment's worth of moved records, and without new writes no other pass begins. How much space a pass wins
//! does not matter for that: frames, headers and unused ends of segments may well keep the live records at
//! less than half of the log for ever.

use quorate_raft::mutant;
use std::io;

use super::LogError;
use super::encoder::RelocatedRun;
use super::frame::{self, FIXED_LEN, Frame, Parsed};
use super::index::Place;
use super::op::{self, Op};
use super::pool::at;
use super::raft_log::RaftLog;
use super::segment::{FRAMES_AT, Segment};
use crate::ShardId;
use crate::disk::Disk;

/// The next segment is prepared when the current one is full to this part.
const PREPARE_PART: u64 = 4;
/// With fewer segments than this nothing is moved.
const MOVE_SEGMENTS_MIN: usize = 3;
/// One step of moving reads at most about so much, or this part of the segment ...
const STEP_READ_BYTES: u64 = 1 << 20;
const STEP_READ_PART: u64 = 4;
/// ... and writes at most about so much, so that a batch that arrives meanwhile does not wait long.
const STEP_WRITE_BYTES: usize = 256 << 10;
/// States moved in one step.
const STEP_STATES: usize = 1024;

/// How far moving has come.
#[derive(Debug)]
pub(super) struct Pass {
    /// Only segments in front of this one are moved.
    end: u64,
    /// The segment that is being moved.
    sequence: u64,
    /// Its entries in frames in front of this offset are moved.
    cursor: u64,
}

impl<D: Disk> RaftLog<D> {
    /// Housekeeping outside the write path: frees or recycles segments without live records, prepares the
    /// next segment, rewrites the records of long-lived stragglers. Does one bounded step and returns whether
    /// there is more to do.
    ///
    /// A disk without room for the next segment is not an error here (see [`RaftLog::is_disk_full`]); any
    /// other failure is, and every further call fails (P2).
    pub fn maintain(&mut self) -> Result<bool, LogError> {
        self.check_usable()?;
        let result = self.maintain_step();
        self.poisoned_by(result)
    }

    fn maintain_step(&mut self) -> Result<bool, LogError> {
        if self.free_oldest()? {
            return Ok(true);
        }
        if self.next.is_none()
            && self.current().end >= self.current().len / PREPARE_PART
            && self.prepare_next()?
        {
            return Ok(true);
        }
        self.move_oldest()
    }

    /// One step towards the next segment; returns whether there is more to do.
    fn prepare_next(&mut self) -> Result<bool, LogError> {
        match self.pool.prepare_step() {
            Ok(next) => {
                self.disk_full &= next.is_none();
                self.next = next;
                Ok(true)
            }
            // Nothing was lost: the file is not part of the log yet, and the log has room left.
            Err(error) if error.source.kind() == io::ErrorKind::StorageFull => {
                self.disk_full = true;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Frees the oldest segment if nothing in it is live.
    fn free_oldest(&mut self) -> Result<bool, LogError> {
        if self.segments.len() < 2 || self.index.live(self.segments[0].sequence) > 0 {
            return Ok(false);
        }
        // What made its records dead, or their copies, must not be lost after them.
        if !mutant!("segment-freed-too-early") {
            self.sync_current()?;
        }
        if let Some(Segment {
            sequence, file, len, ..
        }) = self.segments.pop_front()
        {
            self.pool.retire(sequence, file, len)?;
        }
        Ok(true)
    }

    /// Moves live records out of the oldest segment, if that is worthwhile.
    fn move_oldest(&mut self) -> Result<bool, LogError> {
        let oldest = &self.segments[0];
        let (sequence, end, name) = (oldest.sequence, oldest.end, oldest.name());
        let (pass_end, mut cursor) = match &self.pass {
            Some(pass) if pass.sequence == sequence => (pass.end, pass.cursor),
            _ if !self.is_mostly_dead() => return Ok(false),
            Some(pass) if sequence < pass.end => (pass.end, FRAMES_AT),
            _ if self.written_since_pass < self.index.live_total() => return Ok(false),
            _ => {
                self.written_since_pass = 0;
                (self.current().sequence, FRAMES_AT)
            }
        };
        if cursor < end {
            self.move_entries(&mut cursor)?;
        } else {
            let mut states = self.index.states_in(sequence);
            states.truncate(STEP_STATES);
            let unlisted = self.index.unlisted_suspect_in(sequence);
            if states.is_empty() && !unlisted {
                // Live entries were not found where they should be.
                let source = io::Error::new(io::ErrorKind::InvalidData, "live records are damaged");
                return Err(LogError {
                    file: name,
                    action: "moving records",
                    source,
                });
            }
            self.move_states(&states, unlisted)?;
        }
        self.pass = Some(Pass {
            end: pass_end,
            sequence,
            cursor,
        });
        Ok(true)
    }

    /// The log is long enough, and less than half of it is live.
    fn is_mostly_dead(&self) -> bool {
        let closed: u64 = self
            .segments
            .iter()
            .rev()
            .skip(1)
            .map(|segment| segment.len)
            .sum();
        self.segments.len() >= MOVE_SEGMENTS_MIN && 2 * self.index.live_total() < closed + self.current().end
    }

    fn move_states(&mut self, states: &[ShardId], unlisted: bool) -> Result<(), LogError> {
        let states: Vec<_> = states
            .iter()
            .map(|shard| (*shard, self.index.state(*shard)))
            .collect();
        let name = self.current().name();
        self.encoder
            .states(&states, unlisted.then_some(true))
            .map_err(at(&name, "moving records"))?;
        let place = self.reserve(self.encoder.len())?;
        for (shard, state) in states {
            self.index.set_state(shard, state, place.segment);
        }
        if unlisted {
            self.index.set_unlisted_suspect(place.segment);
        }
        self.write_frame(place)
    }

    /// Moves the live entries of the next frames.
    fn move_entries(&mut self, cursor: &mut u64) -> Result<(), LogError> {
        let stop = *cursor + STEP_READ_BYTES.min(self.segments[0].len / STEP_READ_PART);
        let mut entries = Vec::new();
        let mut runs = Vec::new();
        let mut buf = Vec::new();
        while *cursor < stop.min(self.segments[0].end) && entries.len() < STEP_WRITE_BYTES {
            let oldest = &self.segments[0];
            if let Some((_, end)) = oldest
                .holes
                .iter()
                .find(|(start, end)| (*start..*end).contains(cursor))
            {
                *cursor = *end;
                continue;
            }
            read_frame(&self.pool.disk, oldest, *cursor, &mut buf)?;
            let Parsed::Whole(frame) = frame::parse(&buf, oldest.sequence, *cursor) else {
                return Err(damaged(oldest, *cursor));
            };
            *cursor += frame.header.len();
            self.collect_live(&frame, &mut runs, &mut entries);
        }
        if runs.is_empty() {
            return Ok(());
        }
        let name = self.current().name();
        self.encoder
            .relocated(&runs, &entries)
            .map_err(at(&name, "moving records"))?;
        let place = self.reserve(self.encoder.len())?;
        for (n, run) in runs.iter().enumerate() {
            let bytes = (run.end - run.start) as u64;
            let at = Place {
                offset: place.offset + self.encoder.start_of(n),
                ..place
            };
            self.index.relocated(run.shard, run.first, run.last(), bytes, at);
        }
        self.write_frame(place)
    }

    fn collect_live(&self, frame: &Frame<'_>, runs: &mut Vec<RelocatedRun>, entries: &mut Vec<u8>) {
        let segment = self.segments[0].sequence;
        for (offset, op) in op::ops(frame).flatten() {
            let (Op::Append(run) | Op::Relocated(run)) = op else {
                continue;
            };
            for (index, raw) in run.raw() {
                if !self.index.is_live(run.shard, index, Place { segment, offset }) {
                    continue;
                }
                let start = entries.len();
                entries.extend_from_slice(raw);
                let end = entries.len();
                match runs.last_mut() {
                    Some(last) if last.shard == run.shard && last.last().next() == index => {
                        last.count += 1;
                        last.end = end;
                    }
                    _ => runs.push(RelocatedRun {
                        shard: run.shard,
                        first: index,
                        count: 1,
                        start,
                        end,
                    }),
                }
            }
        }
    }
}

/// Reads the frame at `offset` into `buf`.
fn read_frame<D: Disk>(
    disk: &D,
    segment: &Segment<D::File>,
    offset: u64,
    buf: &mut Vec<u8>,
) -> Result<(), LogError> {
    let name = segment.name();
    let room = segment.end - offset;
    let read = |buf: &mut Vec<u8>, len: u64| {
        let len = usize::try_from(len)
            .ok()
            .filter(|_| len <= room)
            .ok_or_else(|| damaged(segment, offset))?;
        buf.resize(len, 0);
        disk.read_at(&segment.file, offset, buf)
            .map_err(at(&name, "reading"))
    };
    read(buf, FIXED_LEN as u64)?;
    let header_len = frame::claimed_header_len(buf).ok_or_else(|| damaged(segment, offset))?;
    read(buf, header_len)?;
    let header =
        frame::parse_header(buf, segment.sequence, offset).ok_or_else(|| damaged(segment, offset))?;
    read(buf, header.len())
}

fn damaged<F>(segment: &Segment<F>, offset: u64) -> LogError {
    let source = io::Error::new(
        io::ErrorKind::InvalidData,
        format!("no valid record at offset {offset}"),
    );
    LogError {
        file: segment.name(),
        action: "moving records",
        source,
    }
}
