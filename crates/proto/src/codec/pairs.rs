//! Key-value pairs one behind the other: what a snapshot chunk holds.

use bytes::Bytes;

use super::writer::put_bytes;
use super::{Reader, Wire};
use crate::DecodeError;

/// Appends a pair: the key's length as a varint, the key, the same of the value.
pub fn encode_pair(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    put_bytes(out, key);
    put_bytes(out, value);
}

/// Reads pairs written by [`encode_pair`]; keys and values are slices of `source`.
#[must_use]
pub fn decode_pairs(source: Bytes) -> Pairs {
    Pairs { source, at: 0 }
}

/// The pairs in a buffer, in order. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Pairs {
    source: Bytes,
    at: usize,
}

impl Iterator for Pairs {
    type Item = Result<(Bytes, Bytes), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.source.len() {
            return None;
        }
        let mut reader = Reader::starting_at(&self.source, self.at);
        let pair = <(Bytes, Bytes)>::take(&mut reader);
        self.at = if pair.is_ok() {
            reader.at()
        } else {
            self.source.len()
        };
        Some(pair)
    }
}
