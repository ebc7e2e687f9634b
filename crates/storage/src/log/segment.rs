//! A segment file: its name, its header (P8) and its begin record, which chains it to the one before.
//!
//! A segment is *prepared* when its header is durable and it has its name, and *begun* when its begin record
//! is valid. What precedes the begin record in the chain is durable before the begin record is written, so a
//! valid one vouches for everything up to `Link::end` of the segment before.

use super::OpenError;
use super::frame::{self, seed};
use crate::{ClusterId, Identity, Incarnation, StoreId};

const MAGIC: &[u8; 8] = b"QUORLOG\n";
/// The newest format version that this program reads, and the one that it writes.
pub(super) const VERSION: u32 = 1;
/// Bytes of the header; one sector, so that it is written whole or not at all.
pub(super) const HEADER_LEN: usize = 512;
/// Where the begin record lies; a sector of its own.
pub(super) const BEGIN_AT: u64 = HEADER_LEN as u64;
/// Bytes of the begin record's sector.
pub(super) const BEGIN_LEN: usize = 512;
/// Where the first frame lies.
pub(super) const FRAMES_AT: u64 = BEGIN_AT + BEGIN_LEN as u64;

/// Where the header keeps the sequence number.
pub(super) const SEQUENCE_AT: usize = 56;

const BEGIN_MARK: u32 = u32::from_le_bytes(*b"QLbg");

/// A begun segment.
#[derive(Debug)]
pub(super) struct Segment<F> {
    pub(super) sequence: u64,
    pub(super) file: F,
    /// Bytes of the file.
    pub(super) len: u64,
    /// Where the next frame goes, or would have gone.
    pub(super) end: u64,
    pub(super) link: Link,
    /// Damaged ranges that were found when the log was opened.
    pub(super) holes: Vec<(u64, u64)>,
}

impl<F> Segment<F> {
    /// The file's name.
    pub(super) fn name(&self) -> String {
        name(self.sequence)
    }
}

/// Where the chain goes on, from a segment to the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Link {
    /// The segment before; zero if this is the first.
    pub(super) sequence: u64,
    /// Where the segment before ends. What lies behind is void.
    pub(super) end: u64,
}

/// The record that makes a segment part of the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Begin {
    pub(super) link: Link,
    /// This much of the segment itself was synced before the begin record was written; zero if nothing.
    pub(super) synced: u64,
}

/// The name of a prepared or begun segment.
pub(super) fn name(sequence: u64) -> String {
    format!("raft-{sequence:016x}.log")
}

/// The name of a file that waits to become a segment.
pub(super) fn spare_name(sequence: u64) -> String {
    format!("spare-{sequence:016x}.log")
}

/// What a file's name says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Segment(u64),
    Spare,
    Other,
}

/// Reads a name.
pub(super) fn kind(file: &str) -> Kind {
    let sequence = |prefix| {
        let digits: &str = file.strip_prefix(prefix)?.strip_suffix(".log")?;
        let sequence = u64::from_str_radix(digits, 16).ok()?;
        (digits.len() == 16).then_some(sequence)
    };
    match (sequence("raft-"), sequence("spare-")) {
        (Some(sequence), _) => Kind::Segment(sequence),
        (None, Some(_)) => Kind::Spare,
        (None, None) => Kind::Other,
    }
}

/// The header's bytes.
pub(super) fn encode_header(identity: &Identity, sequence: u64) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..32].copy_from_slice(&identity.cluster.0.to_le_bytes());
    header[32..48].copy_from_slice(&identity.incarnation.0.to_le_bytes());
    header[48..56].copy_from_slice(&identity.store.0.to_le_bytes());
    header[SEQUENCE_AT..SEQUENCE_AT + 8].copy_from_slice(&sequence.to_le_bytes());
    let crc = header_crc(&header);
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Covers all but itself.
fn header_crc(header: &[u8; HEADER_LEN]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..])
}

/// Checks a header and returns the sequence number; `file` is named in the error.
pub(super) fn decode_header(
    header: &[u8; HEADER_LEN],
    identity: &Identity,
    file: &str,
) -> Result<u64, OpenError> {
    let damaged = |reason: &str| OpenError::Damaged {
        file: file.into(),
        reason: reason.into(),
    };
    if &header[..8] != MAGIC {
        return Err(damaged("is not a Raft log segment"));
    }
    if frame::u32_at(header, 12) != Some(header_crc(header)) {
        return Err(damaged("the segment's header is damaged"));
    }
    let number = |at: usize| u128::from_le_bytes(header[at..at + 16].try_into().unwrap_or_default());
    // Below zero is impossible: the array is long enough for both.
    let version = frame::u32_at(header, 8).unwrap_or_default();
    if version > VERSION {
        return Err(OpenError::NewerFormat {
            file: file.into(),
            found: version,
            supported: VERSION,
        });
    }
    if version == 0 {
        return Err(damaged("the segment's format version is zero"));
    }
    let found = Identity {
        cluster: ClusterId(number(16)),
        store: StoreId(frame::u64_at(header, 48).unwrap_or_default()),
        incarnation: Incarnation(number(32)),
    };
    if found != *identity {
        return Err(OpenError::WrongStore {
            file: file.into(),
            found: describe(&found),
            expected: describe(identity),
        });
    }
    Ok(frame::u64_at(header, SEQUENCE_AT).unwrap_or_default())
}

fn describe(identity: &Identity) -> String {
    let Identity {
        cluster,
        store,
        incarnation,
    } = identity;
    format!("store {store} of cluster {cluster} (incarnation {incarnation})")
}

/// The begin record's bytes.
pub(super) fn encode_begin(begin: &Begin, sequence: u64) -> [u8; BEGIN_LEN] {
    let mut bytes = [0; BEGIN_LEN];
    bytes[..4].copy_from_slice(&BEGIN_MARK.to_le_bytes());
    bytes[8..16].copy_from_slice(&begin.link.sequence.to_le_bytes());
    bytes[16..24].copy_from_slice(&begin.link.end.to_le_bytes());
    bytes[24..32].copy_from_slice(&begin.synced.to_le_bytes());
    let crc = crc32c::crc32c_append(seed(sequence, BEGIN_AT), &bytes[8..32]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Reads a begin record; `None` if there is no valid one.
pub(super) fn decode_begin(bytes: &[u8], sequence: u64) -> Option<Begin> {
    let crc = crc32c::crc32c_append(seed(sequence, BEGIN_AT), bytes.get(8..32)?);
    if frame::u32_at(bytes, 0)? != BEGIN_MARK || frame::u32_at(bytes, 4)? != crc {
        return None;
    }
    let link = Link {
        sequence: frame::u64_at(bytes, 8)?,
        end: frame::u64_at(bytes, 16)?,
    };
    Some(Begin {
        link,
        synced: frame::u64_at(bytes, 24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_left_alone() {
        assert_eq!(kind(&name(0x1f)), Kind::Segment(0x1f));
        assert_eq!(kind(&spare_name(3)), Kind::Spare);
        for other in [
            "LOCK",
            "raft-1.log",
            "raft-000000000000001f.log.old",
            "raft-00000000000000zz.log",
        ] {
            assert_eq!(kind(other), Kind::Other, "{other}");
        }
    }

    #[test]
    fn p3_a_begin_record_of_another_use_of_the_file_is_not_valid() {
        let begin = Begin {
            link: Link {
                sequence: 4,
                end: 4096,
            },
            synced: 0,
        };
        let bytes = encode_begin(&begin, 5);
        assert_eq!(decode_begin(&bytes, 5), Some(begin));
        assert_eq!(decode_begin(&bytes, 6), None);
    }
}
