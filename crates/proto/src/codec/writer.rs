//! The primitives that append to the output.

use bytes::Bytes;
use quorate_raft::{Index, ReadContext, ReplicaId, Term};
use quorate_storage::{ShardId, StoreId};

use super::{Reader, Wire};
use crate::DecodeError;

#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes [`put_varint`] writes.
#[inline]
pub(super) const fn varint_len(value: u64) -> usize {
    // One byte per seven significant bits; `| 1` because zero takes a byte too.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

#[inline]
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes [`put_bytes`] writes.
#[inline]
pub(super) const fn bytes_len(bytes: &[u8]) -> usize {
    varint_len(bytes.len() as u64) + bytes.len()
}

#[inline]
pub(super) fn put_u64_le(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
pub(super) fn put_i64_le(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
pub(super) fn put_u128_le(out: &mut Vec<u8>, value: u128) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_list<T: Wire>(out: &mut Vec<u8>, list: &[T]) {
    put_varint(out, list.len() as u64);
    for item in list {
        item.put(out);
    }
}

pub(super) fn put_option<T: Wire>(out: &mut Vec<u8>, value: Option<&T>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        value.put(out);
    }
}

macro_rules! wire_id {
    ($($type:ident, $what:literal);+ $(;)?) => {$(
        impl Wire for $type {
            const BYTES_MIN: usize = 1;
            #[inline]
            fn put(&self, out: &mut Vec<u8>) {
                put_varint(out, self.0);
            }
            #[inline]
            fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
                reader.varint($what).map($type)
            }
        }
    )+};
}

wire_id! {
    ReplicaId, "replica id";
    Term, "term";
    Index, "index";
    ShardId, "shard id";
    StoreId, "store id";
}

impl Wire for ReadContext {
    const BYTES_MIN: usize = 16;
    fn put(&self, out: &mut Vec<u8>) {
        put_u128_le(out, self.0);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.u128_le("read context").map(ReadContext)
    }
}

impl Wire for Bytes {
    const BYTES_MIN: usize = 1;
    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self);
    }
    #[inline]
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.bytes("byte string")
    }
}

impl Wire for (Bytes, Bytes) {
    const BYTES_MIN: usize = 2;
    #[inline]
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, &self.0);
        put_bytes(out, &self.1);
    }
    #[inline]
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((reader.bytes("pair's key")?, reader.bytes("pair's value")?))
    }
}

/// A session's id.
impl Wire for u128 {
    const BYTES_MIN: usize = 16;
    fn put(&self, out: &mut Vec<u8>) {
        put_u128_le(out, *self);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.u128_le("session client")
    }
}

/// A deadline and a key of the expiry index.
impl Wire for (u64, Bytes) {
    const BYTES_MIN: usize = 9;
    fn put(&self, out: &mut Vec<u8>) {
        put_u64_le(out, self.0);
        put_bytes(out, &self.1);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((reader.u64_le("due deadline")?, reader.bytes("due key")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_len_is_what_is_written() {
        for shift in 0..64 {
            for value in [
                1u64 << shift,
                (1u64 << shift) - 1,
                (1u64 << shift) + 1,
                u64::MAX >> shift,
            ] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
                assert_eq!(Reader::new(&out.into()).varint("value").unwrap(), value);
            }
        }
    }
}
