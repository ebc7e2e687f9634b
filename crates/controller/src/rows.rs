//! How the controller's state lies in rows.
//!
//! ```text
//! 'b'  ->  what the cluster began with: version:u8, FirstState
//! 'i'  ->  version:u8 next_id:u64 LE
//! ```

use bytes::{Buf, Bytes};
use quorate_proto::{FirstState, decode_first_state, encode_first_state};

/// The row of what the cluster began with.
pub(crate) const FIRST: &[u8] = b"b";
/// The row of the next id.
pub(crate) const NEXT_ID: &[u8] = b"i";

/// The newest version of a row of this module that is read, and the one that is written.
const VERSION: u8 = 1;

pub(crate) fn first_row(first: &FirstState) -> (Bytes, Bytes) {
    let mut value = Vec::new();
    encode_first_state(&mut value, first);
    (Bytes::from_static(FIRST), value.into())
}

pub(crate) fn read_first(value: &Bytes) -> Result<FirstState, String> {
    decode_first_state(value).map_err(|error| format!("the first state: {error}"))
}

pub(crate) fn next_id_row(next_id: u64) -> (Bytes, Bytes) {
    let mut value = vec![VERSION];
    value.extend_from_slice(&next_id.to_le_bytes());
    (Bytes::from_static(NEXT_ID), value.into())
}

pub(crate) fn read_next_id(value: &Bytes) -> Result<u64, String> {
    let mut from = value.clone();
    if from.len() != 9 || from.get_u8() != VERSION {
        return Err(format!(
            "the next id: {} bytes, not version {VERSION} and 8 bytes",
            value.len()
        ));
    }
    Ok(from.get_u64_le())
}
