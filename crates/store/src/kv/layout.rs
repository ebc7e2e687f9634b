//! How keys lie in the engine.

use bytes::Bytes;
use quorate_proto::{ForwardBody, Op, Query, ScanPosition};
use siphasher::sip::SipHasher13;

/// A local prefix under which one shard's data lies. A snapshot is staged under a fresh one and installed by
/// switching to it in one batch (P5); a flush switches to an empty one. Never leaves the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Space(pub u32);

/// Where the two parts of a shard's state lie. They part when a flush switches the data to an empty space: what
/// clients did before it stays known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spaces {
    /// Keys with their values, and the expiry index.
    pub data: Space,
    /// The session table (S2).
    pub sessions: Space,
    /// The data space holds keys of other shards as well, and only those of `[start, end)` are this one's: a split
    /// copies no data. The session table is always the shard's alone.
    pub only: Option<(u16, u16)>,
}

impl Spaces {
    /// Whether an entry of the data space's expiry index is this shard's.
    pub(super) fn has(&self, key: &[u8]) -> bool {
        self.only
            .is_none_or(|(start, end)| (start..end).contains(&slot_of(key)))
    }

    /// `[start, end)` of this shard's data keys.
    #[must_use]
    pub fn data_range(&self) -> (Vec<u8>, Vec<u8>) {
        match self.only {
            Some((start, end)) => data_slots(self.data, start, end),
            None => data_range(self.data),
        }
    }
}

impl From<Space> for Spaces {
    fn from(space: Space) -> Self {
        Self {
            data: space,
            sessions: space,
            only: None,
        }
    }
}

/// The longest key that a client may use: with what stands before it, it must fit the engine's own limit.
pub const KEY_BYTES_MAX: usize = 65_000;
const _: () = assert!(KEY_BYTES_MAX + 16 <= quorate_storage::engine::KEY_BYTES_MAX);

/// Length of the longest key in a request, 0 without any.
#[must_use]
pub fn longest_key(body: &ForwardBody) -> usize {
    match body {
        ForwardBody::Write(op) => op.keys().map(Bytes::len).max().unwrap_or(0),
        ForwardBody::Manage(_) => 0,
        ForwardBody::Read(query) => match query {
            Query::Get { key }
            | Query::Exists { key }
            | Query::StrLen { key }
            | Query::GetRange { key, .. }
            | Query::Deadline { key } => key.len(),
            Query::Scan { .. } | Query::Control(_) | Query::Timestamps { .. } | Query::Barrier => 0,
        },
    }
}

/// The slot that a write was routed by; `None` for one on the whole shard.
#[must_use]
pub fn slot_of_op(op: &Op) -> Option<u16> {
    if matches!(op, Op::Sweep { .. }) {
        return None;
    }
    op.keys().next().map(|key| slot_of(key))
}

/// The slot that a request was routed by; `None` for one on the whole shard.
#[must_use]
pub fn slot_of_body(body: &ForwardBody) -> Option<u16> {
    match body {
        ForwardBody::Write(op) => slot_of_op(op),
        ForwardBody::Read(query) => slot_of_query(query),
        ForwardBody::Manage(_) => None,
    }
}

/// The slot that a read was routed by; `None` for one on the whole shard.
#[must_use]
pub fn slot_of_query(query: &Query) -> Option<u16> {
    match query {
        Query::Get { key }
        | Query::Exists { key }
        | Query::StrLen { key }
        | Query::GetRange { key, .. }
        | Query::Deadline { key } => Some(slot_of(key)),
        Query::Scan { from, .. } => Some(from.slot),
        Query::Control(_) | Query::Timestamps { .. } | Query::Barrier => None,
    }
}

/// First byte of a row of the controller.
pub(super) const CONTROL: u8 = b'c';
/// First byte of a data key.
pub(super) const DATA: u8 = b'd';
/// First byte of an expiry-index key.
pub(super) const EXPIRY: u8 = b'x';
/// First byte of a session's row, and of the totals.
pub(super) const SESSION: u8 = b's';
/// First byte of an answer's row.
pub(super) const ANSWER: u8 = b'w';
/// Kind and space.
pub(super) const HEADER_BYTES: usize = 5;

const SLOTS: u16 = 16384;
const POSITION_BYTES: usize = 6;
const DEADLINE_BYTES: usize = 8;
const CLIENT_BYTES: usize = 16;
/// Client, number and position.
const ANSWER_BODY_BYTES: usize = CLIENT_BYTES + 8 + 4;

/// Fixed for ever: SCAN's cursors and the order of stored keys depend on it. It spreads keys, it hides nothing.
const HASH_KEY: [u8; 16] = *b"quorate/scan/v1\0";

/// CRC-16/XMODEM: polynomial 0x1021, most significant bit first, no inversion.
const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// `crc16(key or its {tag}) mod 16384`, as in Redis Cluster.
#[must_use]
pub fn slot_of(key: &[u8]) -> u16 {
    let crc = hashed_part(key).iter().fold(0u16, |crc, byte| {
        (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)]
    });
    crc % SLOTS
}

/// What lies between the first `{` and the first `}` behind it, unless that is empty; else the whole key.
fn hashed_part(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|byte| *byte == b'{') else {
        return key;
    };
    let rest = &key[open + 1..];
    match rest.iter().position(|byte| *byte == b'}') {
        None | Some(0) => key,
        Some(close) => &rest[..close],
    }
}

/// Where a key stands in SCAN's order: its slot, then the low 32 bits of a fixed SipHash-1-3.
#[must_use]
pub fn scan_position(key: &[u8]) -> ScanPosition {
    let hash = SipHasher13::new_with_key(&HASH_KEY).hash(key) as u32;
    ScanPosition {
        slot: slot_of(key),
        hash,
    }
}

/// The engine's key of a user's key. Inside a slot the order is by hash, so that SCAN's 64-bit cursor needs no
/// state even inside one huge slot.
#[must_use]
pub fn data_key(space: Space, key: &[u8]) -> Vec<u8> {
    let mut encoded = data_bound(space, scan_position(key), key.len());
    encoded.extend_from_slice(key);
    encoded
}

/// The least data key at `position`.
pub(super) fn data_start(space: Space, position: ScanPosition) -> Vec<u8> {
    data_bound(space, position, 0)
}

/// Exactly the capacity needed: `Bytes::from` a full vector moves nothing.
fn data_bound(space: Space, position: ScanPosition, key_bytes: usize) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(HEADER_BYTES + POSITION_BYTES + key_bytes);
    encoded.push(DATA);
    encoded.extend_from_slice(&space.0.to_be_bytes());
    encoded.extend_from_slice(&position.slot.to_be_bytes());
    encoded.extend_from_slice(&position.hash.to_be_bytes());
    encoded
}

/// The entry of the expiry index for a key with this deadline. Its value is empty.
#[must_use]
pub fn expiry_key(space: Space, deadline_ms: u64, key: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(HEADER_BYTES + DEADLINE_BYTES + key.len());
    encoded.push(EXPIRY);
    encoded.extend_from_slice(&space.0.to_be_bytes());
    encoded.extend_from_slice(&deadline_ms.to_be_bytes());
    encoded.extend_from_slice(key);
    encoded
}

/// A session's row. Ids begin with the opening time, so the oldest comes first.
pub(super) fn session_key(space: Space, client: u128) -> Vec<u8> {
    let mut encoded = prefix_of(SESSION, space);
    encoded.extend_from_slice(&client.to_be_bytes());
    encoded
}

/// The totals of the session table: before all of its rows.
pub(super) fn totals_key(space: Space) -> Vec<u8> {
    prefix_of(SESSION, space)
}

/// The answer to a session's write.
pub(super) fn answer_key(space: Space, client: u128, seq: u64, position: u32) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(HEADER_BYTES + ANSWER_BODY_BYTES);
    encoded.push(ANSWER);
    encoded.extend_from_slice(&space.0.to_be_bytes());
    encoded.extend_from_slice(&client.to_be_bytes());
    encoded.extend_from_slice(&seq.to_be_bytes());
    encoded.extend_from_slice(&position.to_be_bytes());
    encoded
}

/// The client of a session's row; `None` for the totals.
pub(super) fn client_of(encoded: &[u8]) -> Option<u128> {
    encoded
        .get(HEADER_BYTES..)?
        .try_into()
        .ok()
        .map(u128::from_be_bytes)
}

/// `[start, end)` of the sessions' rows and the totals.
#[must_use]
pub fn session_range(space: Space) -> (Vec<u8>, Vec<u8>) {
    range_of(SESSION, space)
}

/// `[start, end)` of the answers' rows.
#[must_use]
pub fn answer_range(space: Space) -> (Vec<u8>, Vec<u8>) {
    range_of(ANSWER, space)
}

/// The engine's key of a row of the controller.
#[must_use]
pub fn control_key(space: Space, row: &[u8]) -> Vec<u8> {
    let mut encoded = prefix_of(CONTROL, space);
    encoded.extend_from_slice(row);
    encoded
}

/// `[start, end)` of the controller's rows.
#[must_use]
pub fn control_range(space: Space) -> (Vec<u8>, Vec<u8>) {
    range_of(CONTROL, space)
}

/// `[start, end)` of the data keys of slots `[start, end)`.
#[must_use]
pub fn data_slots(space: Space, start: u16, end: u16) -> (Vec<u8>, Vec<u8>) {
    let bound = |slot: u16| data_start(space, ScanPosition { slot, hash: 0 });
    let end = if end >= SLOTS {
        data_range(space).1
    } else {
        bound(end)
    };
    (bound(start), end)
}

/// `[start, end)` of all data keys.
#[must_use]
pub fn data_range(space: Space) -> (Vec<u8>, Vec<u8>) {
    range_of(DATA, space)
}

/// `[start, end)` of the expiry index.
#[must_use]
pub fn expiry_range(space: Space) -> (Vec<u8>, Vec<u8>) {
    range_of(EXPIRY, space)
}

pub(super) fn range_of(kind: u8, space: Space) -> (Vec<u8>, Vec<u8>) {
    let end = match space.0.checked_add(1) {
        Some(next) => prefix_of(kind, Space(next)),
        None => vec![kind + 1],
    };
    (prefix_of(kind, space), end)
}

pub(super) fn prefix_of(kind: u8, space: Space) -> Vec<u8> {
    let mut prefix = Vec::with_capacity(HEADER_BYTES + CLIENT_BYTES);
    prefix.push(kind);
    prefix.extend_from_slice(&space.0.to_be_bytes());
    prefix
}

/// Position and user's key of a data key; `None` if it is not one. Copies nothing.
pub(super) fn split_data_key(encoded: &Bytes) -> Option<(ScanPosition, Bytes)> {
    let (position, _) = split_position(encoded.get(HEADER_BYTES..)?)?;
    Some((position, encoded.slice(HEADER_BYTES + POSITION_BYTES..)))
}

/// The slot of a data key; `None` if it is not one.
#[must_use]
pub fn slot_of_data_key(encoded: &[u8]) -> Option<u16> {
    split_position(encoded.get(HEADER_BYTES..)?).map(|(position, _)| position.slot)
}

/// Deadline and user's key of an expiry-index key; `None` if it is not one. Copies nothing.
pub(super) fn split_expiry_key(encoded: &Bytes) -> Option<(u64, Bytes)> {
    let deadline = encoded.get(HEADER_BYTES..)?.first_chunk::<DEADLINE_BYTES>()?;
    Some((
        u64::from_be_bytes(*deadline),
        encoded.slice(HEADER_BYTES + DEADLINE_BYTES..),
    ))
}

/// Whether this is what follows the header of some well-formed key of this kind.
pub(super) fn is_body(kind: u8, body: &[u8]) -> bool {
    match kind {
        DATA => split_position(body).is_some_and(|(position, key)| position == scan_position(key)),
        CONTROL => !body.is_empty(),
        EXPIRY => body.len() >= DEADLINE_BYTES,
        SESSION => body.is_empty() || body.len() == CLIENT_BYTES,
        ANSWER => body.len() == ANSWER_BODY_BYTES,
        _ => false,
    }
}

fn split_position(body: &[u8]) -> Option<(ScanPosition, &[u8])> {
    let (slot, rest) = body.split_first_chunk::<2>()?;
    let (hash, key) = rest.split_first_chunk::<4>()?;
    Some((
        ScanPosition {
            slot: u16::from_be_bytes(*slot),
            hash: u32::from_be_bytes(*hash),
        },
        key,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis_cluster() {
        let vectors: [(&[u8], u16); 10] = [
            (b"", 0),
            (b"123456789", 12739),
            (b"foo", 12182),
            (b"bar", 5061),
            (b"{user1000}.following", slot_of(b"user1000")),
            (b"{user1000}.followers", slot_of(b"user1000")),
            (b"foo{{bar}}zap", slot_of(b"{bar")),
            (b"foo{bar}{zap}", slot_of(b"bar")),
            (b"a}{foo}", slot_of(b"foo")),
            (b"{}.{foo}", slot_of(b"{}.{foo}")),
        ];
        for (key, slot) in vectors {
            assert_eq!(slot_of(key), slot, "{}", key.escape_ascii());
        }
        // An empty or unclosed tag is no tag.
        assert_ne!(slot_of(b"foo{}{bar}"), slot_of(b"bar"));
        assert_ne!(slot_of(b"foo{bar"), slot_of(b"bar"));
    }

    /// Stored keys and handed-out cursors depend on these numbers: a change of them is a change of format.
    #[test]
    fn scan_positions_never_change() {
        assert_eq!(
            scan_position(b"foo"),
            ScanPosition {
                slot: 12182,
                hash: 0x42c4_ec30
            }
        );
        assert_eq!(
            scan_position(b""),
            ScanPosition {
                slot: 0,
                hash: 0x28f7_5f65
            }
        );
        assert_eq!(scan_position(b"a longer key, of several words").hash, 0x0a45_3a5c);
    }

    #[test]
    fn ranges_hold_their_keys_and_no_others() {
        for space in [Space(0), Space(1), Space(255), Space(u32::MAX)] {
            let (start, end) = data_range(space);
            for key in [&b""[..], b"a", &[0xff; 40]] {
                assert!((&start..&end).contains(&&data_key(space, key)));
                assert!(!(&start..&end).contains(&&data_key(Space(space.0 ^ 1), key)));
                assert!(!(&start..&end).contains(&&expiry_key(space, 7, key)));
            }
            let (start, end) = expiry_range(space);
            for deadline in [0, u64::MAX] {
                assert!((&start..&end).contains(&&expiry_key(space, deadline, &[0xff; 3])));
                assert!(!(&start..&end).contains(&&expiry_key(Space(space.0 ^ 1), deadline, b"")));
            }
        }
    }

    #[test]
    fn keys_come_apart_as_they_were_put_together() {
        let encoded = Bytes::from(data_key(Space(3), b"k"));
        assert_eq!(
            split_data_key(&encoded),
            Some((scan_position(b"k"), Bytes::from_static(b"k")))
        );
        let encoded = Bytes::from(expiry_key(Space(3), 77, b""));
        assert_eq!(split_expiry_key(&encoded), Some((77, Bytes::new())));
        assert_eq!(split_data_key(&Bytes::from_static(b"d0000slhas")), None);
        assert_eq!(split_expiry_key(&Bytes::from_static(b"x0000deadlin")), None);
    }
}
