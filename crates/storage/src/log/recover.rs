//! Opening the log.
//!
//! Every open begins a new segment. What the newest segment holds above the last offset known to be synced
//! is copied there and synced before the new segment joins the chain (P1, P2): reading it back proves only
//! that it is in the page cache, and after a failed sync another sync of the old file would prove nothing.
//! A newest segment of which little is used, or nothing is known to be synced, is copied whole and drops out
//! of the chain, so that a process that keeps crashing does not pile up segments.

use quorate_raft::mutant;
use std::collections::{BTreeMap, VecDeque};
use std::io;

use super::encoder::Encoder;
use super::frame::{self, FIXED_LEN, Frame};
use super::index::{LogIndex, ShardState};
use super::pool::{Pool, SEGMENT_BYTES_MIN, Spare};
use super::raft_log::RaftLog;
use super::replay::Replay;
use super::scan::{self, Piece};
use super::segment::{self, BEGIN_AT, BEGIN_LEN, Begin, FRAMES_AT, HEADER_LEN, Kind, Link, Segment};
use super::{LogError, LogOptions, OpenError, Recovered};
use crate::disk::Disk;
use crate::{Identity, ShardId};

/// The newest segment is copied whole if at most this part of a segment is used.
const COPIED_WHOLE_PART: u64 = 4;

/// A segment file as it was found.
struct Found<F> {
    sequence: u64,
    file: F,
    len: u64,
    begin: Option<Begin>,
}

/// See [`RaftLog::open`].
pub(super) fn open<D: Disk>(
    disk: D,
    identity: Identity,
    mut options: LogOptions,
) -> Result<(RaftLog<D>, Recovered), OpenError> {
    options.segment_bytes = options
        .segment_bytes
        .max(SEGMENT_BYTES_MIN)
        .next_multiple_of(HEADER_LEN as u64);
    let mut pool = Pool {
        disk,
        identity,
        options,
        spares: Vec::new(),
        filling: None,
        next_sequence: 1,
    };
    let found = survey(&mut pool)?;
    // Spares are overwritten, so the renames that made them spares have to be durable first.
    pool.disk.sync_dir().map_err(io_at("the directory"))?;
    let Chain {
        segments: chain,
        unused,
    } = chain(&pool.disk, found)?;

    let mut replay = Replay::default();
    let mut segments = VecDeque::new();
    let mut newest = None;
    let mut chain = chain.into_iter().peekable();
    let mut bytes = Vec::new();
    while let Some((found, begin)) = chain.next() {
        read_all(&pool.disk, &found, &mut bytes)?;
        let Found {
            sequence, file, len, ..
        } = found;
        let end = chain.peek().map(|(_, begin)| begin.link.end);
        let end = end.map(|end| if mutant!("void-frames-replayed") { len } else { end });
        let mut segment = Segment {
            sequence,
            file,
            len,
            end: FRAMES_AT,
            link: begin.link,
            holes: Vec::new(),
        };
        match end {
            Some(end) => {
                segment.end = end;
                replay_closed(&mut replay, &mut segment, &bytes)?;
                segments.push_back(segment);
            }
            None => newest = Some(replay_newest(&mut replay, segment, begin, &bytes, &pool)?),
        }
    }

    let newest = newest.unwrap_or_default();
    let mut content = newest.content;
    let sequence = pool.next_sequence;
    replay.check_gaps(sequence);
    if replay.damage_unaccounted {
        account_for_damage(&mut replay, &mut content, sequence)?;
    }
    let segment = begin_segment(&mut pool, &content, newest.link)?;
    let synced = segment.end;

    // The new segment vouches for all that is needed of these, durably.
    segments.extend(newest.kept);
    let unused = unused
        .into_iter()
        .map(|found| (found.sequence, found.file, found.len));
    for (sequence, file, len) in newest.dropped.into_iter().chain(unused) {
        pool.retire(sequence, file, len).map_err(open_error)?;
    }
    pool.trim().map_err(open_error)?;
    segments.push_back(segment);
    let (index, recovered) = replay.finish();
    let log = RaftLog {
        pool,
        index,
        segments,
        next: None,
        synced,
        encoder: Encoder::default(),
        pass: None,
        // Processes before this one have written what there is: one pass is paid for.
        written_since_pass: u64::MAX,
        failed: None,
        disk_full: false,
    };
    Ok((log, recovered))
}

/// Checks every file in the directory; keeps the usable spares.
fn survey<D: Disk>(pool: &mut Pool<D>) -> Result<BTreeMap<u64, Found<D::File>>, OpenError> {
    let mut found = BTreeMap::new();
    for name in pool.disk.list().map_err(io_at("the directory"))? {
        let expected = match segment::kind(&name) {
            Kind::Segment(sequence) => Some(sequence),
            Kind::Spare => None,
            Kind::Other => continue,
        };
        let file = pool.disk.open(&name).map_err(io_at(&name))?;
        let len = pool.disk.len(&file).map_err(io_at(&name))?;
        let mut head = [0; HEADER_LEN + BEGIN_LEN];
        let header = if len < FRAMES_AT {
            Err(damaged(&name, "is shorter than a segment's header"))
        } else {
            pool.disk.read_at(&file, 0, &mut head).map_err(io_at(&name))?;
            // In range: the array is longer than a header.
            let header = head
                .first_chunk()
                .ok_or_else(|| damaged(&name, "is shorter than a header"))?;
            segment::decode_header(header, &pool.identity, &name)
        };
        match (expected, header) {
            (Some(expected), Ok(sequence)) if expected == sequence => {
                pool.next_sequence = pool.next_sequence.max(sequence.saturating_add(1));
                let begin = segment::decode_begin(&head[HEADER_LEN..], sequence);
                found.insert(
                    sequence,
                    Found {
                        sequence,
                        file,
                        len,
                        begin,
                    },
                );
            }
            (Some(_), Ok(sequence)) => {
                return Err(damaged(
                    &name,
                    &format!("the header says that this is segment {sequence:016x}"),
                ));
            }
            (None, Ok(sequence)) if len == pool.options.segment_bytes => {
                pool.next_sequence = pool.next_sequence.max(sequence.saturating_add(1));
                pool.spares.push(Spare { name, file });
            }
            // A spare without a whole header was not finished, or it lost the header that it had while
            // getting a new one; what it holds is unknown, so it is not used again.
            (None, Ok(_) | Err(OpenError::Damaged { .. })) => {
                drop(file);
                pool.disk.remove(&name).map_err(io_at(&name))?;
            }
            (_, Err(error)) => return Err(error),
        }
    }
    Ok(found)
}

/// The segments in order, and what is in the directory besides.
struct Chain<F> {
    segments: VecDeque<(Found<F>, Begin)>,
    /// Never begun, or copied whole into another.
    unused: Vec<Found<F>>,
}

/// Follows the begin records from the newest begun segment backwards; the rest is unused.
fn chain<D: Disk>(disk: &D, mut found: BTreeMap<u64, Found<D::File>>) -> Result<Chain<D::File>, OpenError> {
    let mut segments = VecDeque::new();
    let mut unused = Vec::new();
    while let Some((_, segment)) = found.pop_last() {
        if let Some(begin) = segment.begin {
            segments.push_front((segment, begin));
            break;
        }
        if frames_know_begin(disk, &segment)? {
            return Err(damaged(
                &segment::name(segment.sequence),
                "the segment's begin record is damaged",
            ));
        }
        unused.push(segment);
    }
    while let Some((front, begin)) = segments.front() {
        let before = begin.link.sequence;
        let Some(segment) = found.remove(&before) else {
            // Segments are freed from the front, so one that still has others in front of it was not freed.
            if let Some(older) = found.range(..before).map(|(sequence, _)| sequence).next_back() {
                let reason = format!("is missing, although {} is there", segment::name(*older));
                return Err(damaged(&segment::name(before), &reason));
            }
            break;
        };
        debug_assert!(before < front.sequence);
        let Some(begin) = segment.begin else {
            return Err(damaged(
                &segment::name(before),
                "the segment's begin record is damaged",
            ));
        };
        segments.push_front((segment, begin));
    }
    unused.extend(found.into_values());
    Ok(Chain { segments, unused })
}

/// Whether a segment without a begin record has frames that say that it had one.
fn frames_know_begin<D: Disk>(disk: &D, segment: &Found<D::File>) -> Result<bool, OpenError> {
    let name = segment::name(segment.sequence);
    let mut offset = FRAMES_AT;
    let mut buf = vec![0; FIXED_LEN];
    while offset + FIXED_LEN as u64 <= segment.len {
        buf.resize(FIXED_LEN, 0);
        disk.read_at(&segment.file, offset, &mut buf)
            .map_err(io_at(&name))?;
        let Some(len) = frame::claimed_header_len(&buf) else {
            break;
        };
        let Some(end) = offset.checked_add(len).filter(|end| *end <= segment.len) else {
            break;
        };
        buf.resize((end - offset) as usize, 0);
        disk.read_at(&segment.file, offset, &mut buf)
            .map_err(io_at(&name))?;
        let Some(header) = frame::parse_header(&buf, segment.sequence, offset) else {
            break;
        };
        if header.synced > 0 {
            return Ok(true);
        }
        offset += header.len();
    }
    Ok(false)
}

/// Replays a segment that was synced whole before the next was begun: any hole is damage (P3).
fn replay_closed<F>(replay: &mut Replay, segment: &mut Segment<F>, bytes: &[u8]) -> Result<(), OpenError> {
    for piece in scan::scan(bytes, segment.sequence, segment.end) {
        match piece {
            Piece::Frame(frame) => replay.frame(&frame, segment.sequence, frame.offset)?,
            Piece::Hole(hole) => {
                replay.damage(&hole, segment.sequence);
                segment.holes.push((hole.start, hole.end));
            }
        }
    }
    Ok(())
}

/// What becomes of the newest segment.
struct Newest<F> {
    /// It stays in the chain.
    kept: Option<Segment<F>>,
    /// It leaves the chain, its frames copied.
    dropped: Option<(u64, F, u64)>,
    /// What the new segment follows.
    link: Link,
    /// Frames for the new segment.
    content: Vec<u8>,
}

impl<F> Default for Newest<F> {
    fn default() -> Self {
        Self {
            kept: None,
            dropped: None,
            link: Link::default(),
            content: Vec::new(),
        }
    }
}

/// Replays the newest segment: in place what is known to be synced, the rest at its place in the new one.
fn replay_newest<D: Disk>(
    replay: &mut Replay,
    mut segment: Segment<D::File>,
    begin: Begin,
    bytes: &[u8],
    pool: &Pool<D>,
) -> Result<Newest<D::File>, OpenError> {
    let name = segment.name();
    let pieces = scan::scan(bytes, segment.sequence, segment.len);
    let synced = scan::synced(&pieces);
    let vouched = synced.max(begin.synced);
    let frames = |piece: &Piece<'_>| match piece {
        Piece::Frame(frame) => Some(frame.offset + frame.header.len()),
        Piece::Hole(hole) => (hole.start < vouched).then_some(hole.end.min(segment.len)),
    };
    // The tail is torn at the first hole that nothing vouches for.
    let end = pieces.iter().map_while(frames).last().unwrap_or(FRAMES_AT);
    let copy_whole = synced == 0 || end - FRAMES_AT <= pool.options.segment_bytes / COPIED_WHOLE_PART;
    let copied_from = if copy_whole { FRAMES_AT } else { synced };
    let mut content = Vec::new();
    let mut void = 0;
    for piece in pieces {
        match piece {
            Piece::Frame(frame) if frame.offset >= end => void += 1,
            Piece::Frame(frame) if frame.offset < copied_from => {
                replay.frame(&frame, segment.sequence, frame.offset)?;
            }
            Piece::Frame(frame) => copy_frame(replay, &mut content, &frame, pool.next_sequence)?,
            Piece::Hole(hole) if hole.start < vouched => {
                replay.damage(&hole, segment.sequence);
                segment.holes.push((hole.start, hole.end));
            }
            // With a whole header it was a frame; without one it may as well be space never used.
            Piece::Hole(hole) => void += u32::from(hole.shards.is_some()),
        }
    }
    if void > 0 {
        let note =
            format!("{name}: torn tail: {void} frames from offset {end} on were not synced and are void");
        replay.notes.push(note);
    }
    if copy_whole {
        let link = segment.link;
        let dropped = Some((segment.sequence, segment.file, segment.len));
        return Ok(Newest {
            kept: None,
            dropped,
            link,
            content,
        });
    }
    segment.end = synced;
    let link = Link {
        sequence: segment.sequence,
        end: synced,
    };
    Ok(Newest {
        kept: Some(segment),
        dropped: None,
        link,
        content,
    })
}

fn copy_frame(
    replay: &mut Replay,
    content: &mut Vec<u8>,
    frame: &Frame<'_>,
    sequence: u64,
) -> Result<(), OpenError> {
    let offset = FRAMES_AT + content.len() as u64;
    replay.frame(frame, sequence, offset)?;
    frame::copy(content, frame, sequence, offset)
        .ok_or_else(|| damaged(&segment::name(sequence), "a frame is too long to be copied"))
}

/// Adds a frame that says which shards are suspect, so that the segments with the damage may be freed, and
/// that shards born later are not.
fn account_for_damage(replay: &mut Replay, content: &mut Vec<u8>, sequence: u64) -> Result<(), OpenError> {
    let unlisted = replay.unlisted_suspect();
    let states = |index: &LogIndex| -> Vec<(ShardId, ShardState)> {
        let states = index.shards().map(|shard| (shard, index.state(shard)));
        states
            .filter(|(_, state)| state.suspect_entries || state.suspect_hard_state)
            .collect()
    };
    let offset = FRAMES_AT + content.len() as u64;
    let name = segment::name(sequence);
    let mut encoder = Encoder::default();
    encoder
        .states(&states(&replay.index), Some(unlisted))
        .map_err(io_at(&name))?;
    let bytes = encoder.finish(sequence, offset, 0).map_err(io_at(&name))?;
    let frame::Parsed::Whole(frame) = frame::parse(bytes, sequence, offset) else {
        return Err(damaged(&name, "a frame just made is not valid"));
    };
    replay.frame(&frame, sequence, offset)?;
    content.extend_from_slice(bytes);
    Ok(())
}

/// Makes the new segment: its frames are durable before the begin record is written, which is durable when
/// this returns. Until then the old chain is what counts.
fn begin_segment<D: Disk>(
    pool: &mut Pool<D>,
    content: &[u8],
    link: Link,
) -> Result<Segment<D::File>, OpenError> {
    let end = FRAMES_AT + content.len() as u64;
    let prepared = pool
        .prepare(pool.options.segment_bytes.max(end))
        .map_err(open_error)?;
    let (sequence, file, len) = (prepared.sequence, prepared.file, prepared.len);
    let name = segment::name(sequence);
    if !content.is_empty() {
        pool.disk
            .write_at(&file, FRAMES_AT, content)
            .map_err(io_at(&name))?;
        if !mutant!("begin-record-before-its-frames") {
            pool.disk.sync(&file).map_err(io_at(&name))?;
        }
    }
    let begin = segment::encode_begin(&Begin { link, synced: end }, sequence);
    pool.disk
        .write_at(&file, BEGIN_AT, &begin)
        .map_err(io_at(&name))?;
    if !mutant!("recovered-tail-not-synced") {
        pool.disk.sync(&file).map_err(io_at(&name))?;
    }
    Ok(Segment {
        sequence,
        file,
        len,
        end,
        link,
        holes: Vec::new(),
    })
}

fn read_all<D: Disk>(disk: &D, found: &Found<D::File>, bytes: &mut Vec<u8>) -> Result<(), OpenError> {
    let name = segment::name(found.sequence);
    let len = usize::try_from(found.len).map_err(|_| damaged(&name, "is too long for this machine"))?;
    bytes.resize(len, 0);
    disk.read_at(&found.file, 0, bytes).map_err(io_at(&name))
}

fn damaged(file: &str, reason: &str) -> OpenError {
    OpenError::Damaged {
        file: file.into(),
        reason: reason.into(),
    }
}

fn io_at(file: &str) -> impl FnOnce(io::Error) -> OpenError + '_ {
    move |source| OpenError::Io {
        file: file.into(),
        source,
    }
}

/// Keeps the action in the text.
fn open_error(error: LogError) -> OpenError {
    let LogError { file, action, source } = error;
    OpenError::Io {
        file,
        source: io::Error::new(source.kind(), format!("{action} failed: {source}")),
    }
}
