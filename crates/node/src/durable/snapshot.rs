//! The newest snapshot's file, replaced as a whole.
//!
//! ```text
//! "QUORSNAP" | version u32 | cluster u128 | node u64 | incarnation u128
//! | length of the position u32 | length of the data u64 | crc32c of all before u32
//! | position (formats-wire.md: SnapshotMeta) | data | crc32c of position and data u32
//! ```

use std::io;

use bytes::{Buf, BufMut, Bytes};
use quorate_proto::{decode_snapshot_meta, encode_snapshot_meta};
use quorate_raft::Snapshot;
use quorate_storage::Identity;
use quorate_storage::disk::Disk;

use super::{file, identity};
use crate::OpenError;

pub(super) const NAME: &str = "snapshot";
const MAGIC: &[u8; 8] = b"QUORSNAP";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = identity::HEADER_BYTES + 4 + 8 + 4;

/// Makes `snapshot` the one that the next start finds; durable when this returns.
pub(super) fn write<D: Disk>(disk: &D, own: Identity, snapshot: &Snapshot) -> io::Result<()> {
    let mut meta = Vec::new();
    encode_snapshot_meta(&mut meta, &snapshot.meta);
    let mut header = identity::header(MAGIC, VERSION, own);
    header.put_u32_le(meta.len() as u32);
    header.put_u64_le(snapshot.data.len() as u64);
    header.put_u32_le(crc32c::crc32c(&header));
    let sum = crc32c::crc32c_append(crc32c::crc32c(&meta), &snapshot.data).to_le_bytes();
    file::replace(disk, NAME, &[&header, &meta, &snapshot.data, &sum])
}

/// The newest snapshot, if there is one.
pub(super) fn read<D: Disk>(disk: &D, own: Identity) -> Result<Option<Snapshot>, OpenError> {
    let Some(bytes) = file::read(disk, NAME).map_err(|source| OpenError::Io {
        file: NAME.into(),
        source,
    })?
    else {
        return Ok(None);
    };
    let damaged = |reason: &str| OpenError::Damaged {
        file: NAME.into(),
        reason: reason.into(),
    };
    let mut rest = &bytes[..];
    let found = identity::take_header(NAME, &mut rest, MAGIC, VERSION)?;
    if bytes.len() < HEADER_BYTES
        || crc32c::crc32c(&bytes[..HEADER_BYTES - 4]) != crc_at(&bytes, HEADER_BYTES - 4)
    {
        return Err(damaged("its header's checksum is wrong"));
    }
    if found != own {
        return Err(OpenError::WrongMember {
            file: NAME.into(),
            found: format!("{found:?}"),
            expected: format!("{own:?}"),
        });
    }
    let (meta_len, data_len) = (rest.get_u32_le() as usize, rest.get_u64_le() as usize);
    let meta_at = HEADER_BYTES;
    let data_at = meta_at + meta_len;
    if bytes.len() != data_at + data_len + 4 {
        return Err(damaged(&format!(
            "is {} bytes long and should be {}",
            bytes.len(),
            data_at + data_len + 4
        )));
    }
    let end = data_at + data_len;
    if crc32c::crc32c(&bytes[meta_at..end]) != crc_at(&bytes, end) {
        return Err(damaged("its checksum is wrong"));
    }
    let bytes = Bytes::from(bytes);
    let meta =
        decode_snapshot_meta(&bytes.slice(meta_at..data_at)).map_err(|error| damaged(&error.to_string()))?;
    Ok(Some(Snapshot {
        meta,
        data: bytes.slice(data_at..end),
    }))
}

fn crc_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |sum| u32::from_le_bytes(*sum))
}
