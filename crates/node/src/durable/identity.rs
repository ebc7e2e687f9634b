//! Whose directory it is, and which incarnations of its peers it met (P7, P8).
//!
//! ```text
//! NODE    "QUORNODE" | version u32 | cluster u128 | node u64 | incarnation u128 | crc32c u32
//! PEERS   "QUORPEER" | the same fields | count u32 | node u64, incarnation u128 ... | crc32c u32
//! ```

use std::collections::BTreeMap;
use std::io;

use bytes::{Buf, BufMut};
use quorate_storage::disk::Disk;
use quorate_storage::{ClusterId, Identity, Incarnation, StoreId};

use super::file;
use crate::OpenError;

const NAME: &str = "NODE";
const MARKER: &str = "NODE.formatting";
pub(super) const BINDINGS: &str = "PEERS";
const NODE_MAGIC: &[u8; 8] = b"QUORNODE";
const PEERS_MAGIC: &[u8; 8] = b"QUORPEER";
const VERSION: u32 = 1;
/// Bytes of [`header`].
pub(super) const HEADER_BYTES: usize = 8 + 4 + 16 + 8 + 16;

fn failed(name: &str) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io {
        file: name.to_owned(),
        source,
    }
}

/// What every file of the directory begins with (P8).
pub(super) fn header(magic: &[u8; 8], version: u32, identity: Identity) -> Vec<u8> {
    let mut out = magic.to_vec();
    out.put_u32_le(version);
    out.put_u128_le(identity.cluster.0);
    out.put_u64_le(identity.store.0);
    out.put_u128_le(identity.incarnation.0);
    out
}

/// Checks magic and version, and takes the identity; the rest, checksum included, is the caller's.
pub(super) fn take_header(
    name: &str,
    bytes: &mut &[u8],
    magic: &[u8; 8],
    version: u32,
) -> Result<Identity, OpenError> {
    let damaged = |reason: String| OpenError::Damaged {
        file: name.to_owned(),
        reason,
    };
    if bytes.len() < HEADER_BYTES {
        return Err(damaged(format!("is only {} bytes long", bytes.len())));
    }
    if bytes[..8] != magic[..] {
        return Err(damaged("does not begin with its magic number".into()));
    }
    bytes.advance(8);
    let found = bytes.get_u32_le();
    if found > version {
        return Err(OpenError::NewerFormat {
            file: name.to_owned(),
            found,
            supported: version,
        });
    }
    Ok(Identity {
        cluster: ClusterId(bytes.get_u128_le()),
        store: StoreId(bytes.get_u64_le()),
        incarnation: Incarnation(bytes.get_u128_le()),
    })
}

/// Cuts the checksum off the end of a file and checks it. A newer version's may lie elsewhere, so the version
/// is looked at first.
fn check_sum<'a>(name: &str, bytes: &'a [u8], magic: &[u8; 8]) -> Result<(Identity, &'a [u8]), OpenError> {
    let mut rest = bytes;
    let identity = take_header(name, &mut rest, magic, VERSION)?;
    match rest.split_last_chunk::<4>() {
        Some((body, sum)) if crc32c::crc32c(&bytes[..bytes.len() - 4]) == u32::from_le_bytes(*sum) => {
            Ok((identity, body))
        }
        _ => Err(OpenError::Damaged {
            file: name.to_owned(),
            reason: "its checksum is wrong".into(),
        }),
    }
}

/// The identity; `None` if the directory is empty or its formatting was interrupted.
pub(super) fn read<D: Disk>(disk: &D) -> Result<Option<Identity>, OpenError> {
    if let Some(bytes) = file::read(disk, NAME).map_err(failed(NAME))? {
        let (identity, _) = check_sum(NAME, &bytes, NODE_MAGIC)?;
        // A crash may have left it; should NODE ever be lost, it must not say that nothing here is worth keeping.
        if disk
            .list()
            .map_err(failed(NAME))?
            .iter()
            .any(|name| name == MARKER)
        {
            file::remove(disk, MARKER)
                .and_then(|()| disk.sync_dir())
                .map_err(failed(MARKER))?;
        }
        return Ok(Some(identity));
    }
    let names = disk.list().map_err(failed(NAME))?;
    if names.is_empty() || names.iter().any(|name| name == MARKER) {
        return Ok(None);
    }
    Err(OpenError::NotANode(names.join(", ")))
}

/// Refuses another member's or another cluster's directory.
pub(super) fn check(found: Identity, cluster: ClusterId, store: StoreId) -> Result<(), OpenError> {
    if (found.cluster, found.store) == (cluster, store) {
        return Ok(());
    }
    let named = |store: StoreId, cluster: ClusterId| format!("member {store} of cluster {cluster}");
    Err(OpenError::WrongMember {
        file: NAME.into(),
        found: named(found.store, found.cluster),
        expected: named(store, cluster),
    })
}

/// Starts formatting; forgets what an interrupted formatting left.
pub(super) fn begin_format<D: Disk>(disk: &D) -> Result<(), OpenError> {
    // Created under its own name: under another one it would be a stranger's file after a crash.
    match disk.create(MARKER, 0) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(MARKER)(error)),
        _ => disk.sync_dir().map_err(failed(MARKER))?,
    }
    for name in disk.list().map_err(failed(MARKER))? {
        if name != MARKER {
            disk.remove(&name).map_err(failed(&name))?;
        }
    }
    disk.sync_dir().map_err(failed(MARKER))
}

/// Ends formatting: from here on the directory is the member's.
pub(super) fn end_format<D: Disk>(disk: &D, identity: Identity) -> Result<(), OpenError> {
    let mut bytes = header(NODE_MAGIC, VERSION, identity);
    bytes.put_u32_le(crc32c::crc32c(&bytes));
    file::replace(disk, NAME, &[&bytes]).map_err(failed(NAME))?;
    file::remove(disk, MARKER)
        .and_then(|()| disk.sync_dir())
        .map_err(failed(MARKER))
}

/// The peers' incarnations, as far as they are known.
pub(super) fn read_bindings<D: Disk>(
    disk: &D,
    own: Identity,
) -> Result<BTreeMap<StoreId, Incarnation>, OpenError> {
    let Some(bytes) = file::read(disk, BINDINGS).map_err(failed(BINDINGS))? else {
        return Ok(BTreeMap::new());
    };
    let (identity, mut body) = check_sum(BINDINGS, &bytes, PEERS_MAGIC)?;
    if identity != own {
        return Err(OpenError::WrongMember {
            file: BINDINGS.into(),
            found: format!("{identity:?}"),
            expected: format!("{own:?}"),
        });
    }
    let mut bindings = BTreeMap::new();
    let cut = |_| OpenError::Damaged {
        file: BINDINGS.into(),
        reason: "ends too early".into(),
    };
    for _ in 0..body.try_get_u32_le().map_err(cut)? {
        let store = StoreId(body.try_get_u64_le().map_err(cut)?);
        bindings.insert(store, Incarnation(body.try_get_u128_le().map_err(cut)?));
    }
    Ok(bindings)
}

/// Keeps the peers' incarnations.
pub(super) fn write_bindings<D: Disk>(
    disk: &D,
    own: Identity,
    bindings: &BTreeMap<StoreId, Incarnation>,
) -> io::Result<()> {
    let mut bytes = header(PEERS_MAGIC, VERSION, own);
    bytes.put_u32_le(bindings.len() as u32);
    for (store, incarnation) in bindings {
        bytes.put_u64_le(store.0);
        bytes.put_u128_le(incarnation.0);
    }
    bytes.put_u32_le(crc32c::crc32c(&bytes));
    file::replace(disk, BINDINGS, &[&bytes])
}
