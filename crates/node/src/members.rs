//! What a snapshot holds beside the application's bytes, and what a membership change carries: bytes of their
//! own, little-endian, behind a version byte.
//!
//! ```text
//! snapshot   version u8 | commands u64 | addresses | removed u32, id u64 ... | the application's bytes
//! change     version u8 | addresses
//! addresses  count u32 | id u64, length u32, host:port ...
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::NodeId;

const VERSION: u8 = 1;

/// The part of the membership that the core does not know: replicated, like its configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Book {
    /// Where members listen.
    pub(crate) addresses: BTreeMap<NodeId, String>,
    /// Ids that are used up (M3).
    pub(crate) removed: BTreeSet<NodeId>,
}

/// A snapshot's bytes, taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SnapshotBody {
    /// How many commands it covers.
    pub(crate) commands: u64,
    /// The book at its position.
    pub(crate) book: Book,
    /// What the application gave.
    pub(crate) data: Bytes,
}

impl SnapshotBody {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 + self.data.len());
        out.put_u8(VERSION);
        out.put_u64_le(self.commands);
        put_addresses(&mut out, &self.book.addresses);
        out.put_u32_le(self.book.removed.len() as u32);
        for id in &self.book.removed {
            out.put_u64_le(id.0);
        }
        out.put_slice(&self.data);
        out.freeze()
    }

    /// Reads it back; says what is wrong with it.
    pub(crate) fn decode(mut source: Bytes) -> Result<Self, String> {
        let cut = |_| "ends too early".to_owned();
        version(&mut source)?;
        let commands = source.try_get_u64_le().map_err(cut)?;
        let addresses = take_addresses(&mut source)?;
        let mut removed = BTreeSet::new();
        for _ in 0..source.try_get_u32_le().map_err(cut)? {
            removed.insert(NodeId(source.try_get_u64_le().map_err(cut)?));
        }
        Ok(Self {
            commands,
            book: Book { addresses, removed },
            data: source,
        })
    }
}

/// The context of a membership change: where those it adds listen.
pub(crate) fn encode_addresses(addresses: &BTreeMap<NodeId, String>) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(VERSION);
    put_addresses(&mut out, addresses);
    out.freeze()
}

/// Reads [`encode_addresses`] back; a change without context (the leaving of a joint configuration) has none.
pub(crate) fn decode_addresses(source: &Bytes) -> Result<BTreeMap<NodeId, String>, String> {
    if source.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut source = source.clone();
    version(&mut source)?;
    take_addresses(&mut source)
}

fn version(source: &mut Bytes) -> Result<(), String> {
    match source.try_get_u8() {
        Ok(VERSION) => Ok(()),
        Ok(found) => Err(format!(
            "version {found} is newer than {VERSION}, the newest known"
        )),
        Err(_) => Err("is empty".into()),
    }
}

fn put_addresses(out: &mut BytesMut, addresses: &BTreeMap<NodeId, String>) {
    out.put_u32_le(addresses.len() as u32);
    for (id, address) in addresses {
        out.put_u64_le(id.0);
        out.put_u32_le(address.len() as u32);
        out.put_slice(address.as_bytes());
    }
}

fn take_addresses(source: &mut Bytes) -> Result<BTreeMap<NodeId, String>, String> {
    let cut = |_| "ends too early".to_owned();
    let mut addresses = BTreeMap::new();
    for _ in 0..source.try_get_u32_le().map_err(cut)? {
        let id = NodeId(source.try_get_u64_le().map_err(cut)?);
        let length = source.try_get_u32_le().map_err(cut)? as usize;
        if length > source.len() {
            return Err("ends too early".into());
        }
        let text = source.split_to(length);
        let text = std::str::from_utf8(&text).map_err(|_| "address is not UTF-8".to_owned())?;
        addresses.insert(id, text.to_owned());
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_back_and_no_truncation_goes_unseen_or_panics() {
        let body = SnapshotBody {
            commands: 77,
            book: Book {
                addresses: BTreeMap::from([(NodeId(1), "a:1".into()), (NodeId(9), String::new())]),
                removed: BTreeSet::from([NodeId(4)]),
            },
            data: Bytes::new(),
        };
        let bytes = body.encode();
        assert_eq!(SnapshotBody::decode(bytes.clone()), Ok(body));
        for end in 0..bytes.len() {
            assert!(SnapshotBody::decode(bytes.slice(..end)).is_err(), "{end} bytes");
        }
        let mut newer = bytes.to_vec();
        newer[0] = 2;
        assert!(SnapshotBody::decode(newer.into()).unwrap_err().contains("newer"));
    }

    #[test]
    fn a_count_that_lies_costs_nothing() {
        let lie = Bytes::from_static(&[1, 0xff, 0xff, 0xff, 0xff]);
        assert!(decode_addresses(&lie).is_err());
    }
}
