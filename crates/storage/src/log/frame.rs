//! The frame: one batch as it lies in a segment, and how a valid one is told from everything else.
//!
//! Both checksums start from the segment's sequence number and the frame's offset (P3), so neither an old
//! frame in a recycled segment nor a frame that a device put in the wrong place is ever valid.

use crate::ShardId;
use quorate_raft::mutant;

/// First bytes of a frame; not zero, so that zero-filled space holds no frame.
const MARK: u32 = u32::from_le_bytes(*b"QLfr");
/// Bytes before the shard table.
pub(super) const FIXED_LEN: usize = 32;
/// Frames begin at multiples of this.
pub(super) const ALIGN: u64 = 8;

/// The starting value of every checksum at `offset` of segment `sequence`.
pub(super) fn seed(sequence: u64, offset: u64) -> u32 {
    if mutant!("record-seed-ignored") {
        return 0;
    }
    crc32c::crc32c_append(crc32c::crc32c(&sequence.to_le_bytes()), &offset.to_le_bytes())
}

/// What a frame's fixed part says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct FrameHeader {
    body_crc: u32,
    body_len: u32,
    /// Everything below this offset of the segment, the segment's begin record included, was synced when
    /// the frame was written. Zero: nothing was known to be.
    pub(super) synced: u64,
    shard_count: u32,
}

impl FrameHeader {
    /// Bytes from the frame's start to its body.
    pub(super) fn body_start(&self) -> u64 {
        FIXED_LEN as u64 + 8 * u64::from(self.shard_count)
    }
    /// Bytes from the frame's start to the next frame's.
    pub(super) fn len(&self) -> u64 {
        (self.body_start() + u64::from(self.body_len)).next_multiple_of(ALIGN)
    }
}

/// A frame whose checksums hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    /// Where it begins in its segment.
    pub(super) offset: u64,
    pub(super) header: FrameHeader,
    /// The shards that its operations are about, eight bytes each.
    pub(super) table: &'a [u8],
    /// The operations.
    pub(super) body: &'a [u8],
}

/// What lies at an offset.
#[derive(Debug)]
pub(super) enum Parsed<'a> {
    /// A valid frame.
    Whole(Frame<'a>),
    /// The header and the shard table hold, the body does not.
    BodyDamaged { len: u64, shards: Vec<ShardId> },
    /// No frame.
    Nothing,
}

/// Checks a frame's header and shard table; `bytes` begins with the frame, may end after the table.
pub(super) fn parse_header(bytes: &[u8], sequence: u64, offset: u64) -> Option<FrameHeader> {
    if u32_at(bytes, 0)? != MARK {
        return None;
    }
    let header = FrameHeader {
        body_crc: u32_at(bytes, 8)?,
        body_len: u32_at(bytes, 12)?,
        synced: u64_at(bytes, 16)?,
        shard_count: u32_at(bytes, 24)?,
    };
    let covered = bytes.get(8..usize::try_from(header.body_start()).ok()?)?;
    (crc32c::crc32c_append(seed(sequence, offset), covered) == u32_at(bytes, 4)?).then_some(header)
}

/// Bytes of the header and shard table of what may be a frame, unchecked; `bytes` holds the fixed part.
pub(super) fn claimed_header_len(bytes: &[u8]) -> Option<u64> {
    let count = u32_at(bytes, 24)?;
    (u32_at(bytes, 0)? == MARK).then(|| FIXED_LEN as u64 + 8 * u64::from(count))
}

/// Looks for a frame at the start of `bytes`, which lies at `offset` of segment `sequence`.
pub(super) fn parse(bytes: &[u8], sequence: u64, offset: u64) -> Parsed<'_> {
    let Some(header) = parse_header(bytes, sequence, offset) else {
        return Parsed::Nothing;
    };
    // In range: parse_header found the table inside `bytes`.
    let body_start = header.body_start() as usize;
    let table = &bytes[FIXED_LEN..body_start];
    match bytes.get(body_start..body_start + header.body_len as usize) {
        Some(body)
            if crc32c::crc32c_append(seed(sequence, offset), body) == header.body_crc
                || mutant!("torn-tail-accepted") =>
        {
            Parsed::Whole(Frame {
                offset,
                header,
                table,
                body,
            })
        }
        Some(_) => Parsed::BodyDamaged {
            len: header.len(),
            shards: shards(table).collect(),
        },
        None => Parsed::Nothing,
    }
}

/// The shards of a table.
pub(super) fn shards(table: &[u8]) -> impl Iterator<Item = ShardId> + '_ {
    table
        .chunks_exact(8)
        .map(|chunk| ShardId(u64::from_le_bytes(chunk.try_into().unwrap_or_default())))
}

/// Appends a frame header without checksums and the shard table; the body follows.
pub(super) fn start(buf: &mut Vec<u8>, table: impl Iterator<Item = ShardId>) {
    let at = buf.len();
    buf.resize(at + FIXED_LEN, 0);
    let mut count: u32 = 0;
    for shard in table {
        buf.extend_from_slice(&shard.0.to_le_bytes());
        count += 1;
    }
    buf[at + 24..at + 28].copy_from_slice(&count.to_le_bytes());
}

/// Completes the frame that begins at `at` of `buf` (and ends with it): lengths, checksums, padding. `None`
/// if the body is too long for the format.
pub(super) fn finish(buf: &mut Vec<u8>, at: usize, sequence: u64, offset: u64, synced: u64) -> Option<()> {
    let count = u32_at(buf, at + 24)?;
    let body_at = at + FIXED_LEN + 8 * count as usize;
    let body_len = u32::try_from(buf.len() - body_at).ok()?;
    let body_crc = crc32c::crc32c_append(seed(sequence, offset), &buf[body_at..]);
    buf[at..at + 4].copy_from_slice(&MARK.to_le_bytes());
    buf[at + 8..at + 12].copy_from_slice(&body_crc.to_le_bytes());
    buf[at + 12..at + 16].copy_from_slice(&body_len.to_le_bytes());
    buf[at + 16..at + 24].copy_from_slice(&synced.to_le_bytes());
    let header_crc = crc32c::crc32c_append(seed(sequence, offset), &buf[at + 8..body_at]);
    buf[at + 4..at + 8].copy_from_slice(&header_crc.to_le_bytes());
    buf.resize(at + padded(buf.len() - at), 0);
    Some(())
}

/// Appends a copy of `frame` for another place.
pub(super) fn copy(buf: &mut Vec<u8>, frame: &Frame<'_>, sequence: u64, offset: u64) -> Option<()> {
    let at = buf.len();
    start(buf, shards(frame.table));
    buf.extend_from_slice(frame.body);
    finish(buf, at, sequence, offset, 0)
}

/// The space that a frame of `len` bytes takes.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGN as usize)
}

/// A little-endian number, if `bytes` reaches that far.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A little-endian number, if `bytes` reaches that far.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(sequence: u64, offset: u64) -> Vec<u8> {
        let mut buf = Vec::new();
        start(&mut buf, [ShardId(7), ShardId(9)].into_iter());
        buf.extend_from_slice(b"the operations");
        finish(&mut buf, 0, sequence, offset, 1024).unwrap();
        buf
    }

    #[test]
    fn a_frame_is_read_back() {
        let buf = frame(3, 2048);
        let Parsed::Whole(frame) = parse(&buf, 3, 2048) else {
            panic!("not valid")
        };
        assert_eq!(frame.body, b"the operations");
        assert_eq!(shards(frame.table).collect::<Vec<_>>(), [ShardId(7), ShardId(9)]);
        assert_eq!(
            (frame.header.synced, frame.header.len()),
            (1024, buf.len() as u64)
        );
    }

    #[test]
    fn p3_a_frame_is_valid_only_in_its_segment_and_place() {
        let buf = frame(3, 2048);
        for (sequence, offset) in [(2, 2048), (4, 2048), (3 | 1 << 32, 2048), (3, 2056), (2048, 3)] {
            assert!(
                matches!(parse(&buf, sequence, offset), Parsed::Nothing),
                "{sequence} {offset}"
            );
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_one_in_the_body_leaves_the_shards_known() {
        let good = frame(3, 2048);
        for bit in 0..(FIXED_LEN + 16 + 14) * 8 {
            let mut buf = good.clone();
            buf[bit / 8] ^= 1 << (bit % 8);
            match parse(&buf, 3, 2048) {
                Parsed::Whole(_) => panic!("bit {bit} went unnoticed"),
                Parsed::BodyDamaged { shards, .. } => {
                    assert!(bit / 8 >= FIXED_LEN + 16);
                    assert_eq!(shards, [ShardId(7), ShardId(9)]);
                }
                Parsed::Nothing => assert!(bit / 8 < FIXED_LEN + 16),
            }
        }
    }
}
