//! Finds the frames of a segment and the holes between them.

use std::ops::Range;

use super::frame::{self, ALIGN, Frame, Parsed};
use super::segment::{self, BEGIN_AT, FRAMES_AT};
use crate::ShardId;

/// What a segment is made of, in order and without space between.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    Frame(Frame<'a>),
    Hole(Hole),
}

/// Bytes that are no frame: damage, a torn tail or space never used.
#[derive(Debug)]
pub(super) struct Hole {
    pub(super) start: u64,
    pub(super) end: u64,
    /// The shards whose records it held, if their list can still be read.
    pub(super) shards: Option<Vec<ShardId>>,
}

/// Takes the whole segment apart, as far as `end`. Looks behind holes as well: a frame there may prove that
/// the hole was once synced (P3).
pub(super) fn scan(segment: &[u8], sequence: u64, end: u64) -> Vec<Piece<'_>> {
    let bytes = usize::try_from(end)
        .ok()
        .and_then(|end| segment.get(..end))
        .unwrap_or(segment);
    let end = bytes.len() as u64;
    let mut pieces = Vec::new();
    let mut at = FRAMES_AT;
    let mut hole_start = None;
    while at < end {
        // In range: at < bytes.len().
        let parsed = frame::parse(&bytes[at as usize..], sequence, at);
        if let (Parsed::Whole(_) | Parsed::BodyDamaged { .. }, Some(start)) = (&parsed, hole_start) {
            pieces.push(Piece::Hole(Hole {
                start,
                end: at,
                shards: None,
            }));
            hole_start = None;
        }
        match parsed {
            Parsed::Whole(frame) => {
                at += frame.header.len();
                pieces.push(Piece::Frame(frame));
            }
            Parsed::BodyDamaged { len, shards } => {
                pieces.push(Piece::Hole(Hole {
                    start: at,
                    end: at + len,
                    shards: Some(shards),
                }));
                at += len;
            }
            Parsed::Nothing => {
                hole_start.get_or_insert(at);
                at += ALIGN;
            }
        }
    }
    if let Some(start) = hole_start {
        pieces.push(Piece::Hole(Hole {
            start,
            end,
            shards: None,
        }));
    }
    pieces
}

/// The bytes of a segment file that its own records know to be synced. Damage there is recognised as damage, and
/// never taken for a torn tail (P3). Empty for anything but a segment that was begun.
#[must_use]
pub fn vouched(file: &[u8]) -> Range<u64> {
    let begin = BEGIN_AT as usize..FRAMES_AT as usize;
    let sequence = frame::u64_at(file, segment::SEQUENCE_AT);
    let begin = sequence.and_then(|sequence| segment::decode_begin(file.get(begin)?, sequence));
    let (Some(sequence), Some(begin)) = (sequence, begin) else {
        return 0..0;
    };
    let pieces = scan(file, sequence, file.len() as u64);
    FRAMES_AT..synced(&pieces).max(begin.synced).max(FRAMES_AT)
}

/// The highest offset that a frame of `pieces` knows to be synced; zero if none does.
pub(super) fn synced(pieces: &[Piece<'_>]) -> u64 {
    let known = pieces.iter().map(|piece| match piece {
        Piece::Frame(frame) => frame.header.synced,
        Piece::Hole(_) => 0,
    });
    known.max().unwrap_or_default()
}
