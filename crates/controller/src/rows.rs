//! How the controller's state lies in rows.
//!
//! ```text
//! 'b'  ->  what the cluster began with: version:u8, FirstState
//! 'c' num:u64 BE  ->  what the config of that number changed: version:u8, Delta; from the second on, as the first
//!         follows from what the cluster began with
//! 'd' store:u64 BE  ->  what the store is used for: version:u8, Service; none for an active one
//! 'i'  ->  version:u8 next_id:u64 LE
//! 'r' shard:u64 BE  ->  how the shard went on that lost its majority last: version:u8, Recovery
//! 's' store:u64  ->  how the store registered: version:u8, StoreRecord
//! 't'  ->  the newest window of timestamps: version:u8 term:u64 LE start:u64 LE end:u64 LE
//! ```

use std::fmt::Display;

use bytes::{Buf, Bytes};
use quorate_proto::{
    Delta, FirstState, Recovery, Service, StoreRecord, decode_delta, decode_first_state, decode_recovery,
    decode_service, decode_store_record, encode_delta, encode_first_state, encode_recovery, encode_service,
    encode_store_record,
};
use quorate_raft::Term;
use quorate_storage::StoreId;

use crate::timestamps::Window;

/// The row of what the cluster began with.
pub(crate) const FIRST: &[u8] = b"b";
/// The row of the next id.
pub(crate) const NEXT_ID: &[u8] = b"i";
/// The row of the newest window of timestamps.
pub(crate) const TIMESTAMPS: &[u8] = b"t";
/// First byte of the row of a store.
pub(crate) const STORE: u8 = b's';

/// First byte of the row of a config.
pub(crate) const CONFIG: u8 = b'c';

/// First byte of the row of what a store is used for.
pub(crate) const SERVICE: u8 = b'd';

/// First byte of the row of a shard's recovery.
pub(crate) const RECOVERY: u8 = b'r';

/// The newest version of a row of this module that is read, and the one that is written.
const VERSION: u8 = 1;

/// The row of what has this id, among those that begin with this byte.
fn row_of(kind: u8, id: u64, encode: impl FnOnce(&mut Vec<u8>)) -> (Bytes, Bytes) {
    let mut row = vec![kind];
    row.extend_from_slice(&id.to_be_bytes());
    let mut value = Vec::new();
    encode(&mut value);
    (row.into(), value.into())
}

/// What was read must be in its own row.
fn check_row(row: &Bytes, own: &[u8], what: impl Display) -> Result<(), String> {
    if row != own {
        return Err(format!("{what} in row \"{}\"", row.escape_ascii()));
    }
    Ok(())
}

pub(crate) fn first_row(first: &FirstState) -> (Bytes, Bytes) {
    let mut value = Vec::new();
    encode_first_state(&mut value, first);
    (Bytes::from_static(FIRST), value.into())
}

pub(crate) fn read_first(value: &Bytes) -> Result<FirstState, String> {
    decode_first_state(value).map_err(|error| format!("the first state: {error}"))
}

pub(crate) fn config_row(num: u64, delta: &Delta) -> (Bytes, Bytes) {
    row_of(CONFIG, num, |value| encode_delta(value, delta))
}

/// What the config changed; the row must be that of the number.
pub(crate) fn read_config(num: u64, row: &Bytes, value: &Bytes) -> Result<Delta, String> {
    let delta = decode_delta(value).map_err(|error| format!("config {num}: {error}"))?;
    if config_row(num, &delta).0 != row {
        return Err(format!(
            "config {num} is missing before row \"{}\"",
            row.escape_ascii()
        ));
    }
    Ok(delta)
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

pub(crate) fn timestamps_row(window: &Window) -> (Bytes, Bytes) {
    let mut value = vec![VERSION];
    for number in [window.term.0, window.start, window.end] {
        value.extend_from_slice(&number.to_le_bytes());
    }
    (Bytes::from_static(TIMESTAMPS), value.into())
}

pub(crate) fn read_timestamps(value: &Bytes) -> Result<Window, String> {
    let mut from = value.clone();
    if from.len() != 25 || from.get_u8() != VERSION {
        let bytes = value.len();
        return Err(format!(
            "timestamps: {bytes} bytes, not version {VERSION} and 24 bytes"
        ));
    }
    let (term, start, end) = (from.get_u64_le(), from.get_u64_le(), from.get_u64_le());
    if start >= end || end > i64::MAX as u64 {
        return Err(format!("timestamps from {start} to {end}"));
    }
    Ok(Window {
        term: Term(term),
        start,
        end,
    })
}

pub(crate) fn store_row(record: &StoreRecord) -> (Bytes, Bytes) {
    row_of(STORE, record.store.0, |value| encode_store_record(value, record))
}

/// The store's record; the row must be the one that it belongs in.
pub(crate) fn read_store(row: &Bytes, value: &Bytes) -> Result<StoreRecord, String> {
    let record = decode_store_record(value).map_err(|error| format!("a store: {error}"))?;
    check_row(row, &store_row(&record).0, format_args!("store {}", record.store))?;
    Ok(record)
}

pub(crate) fn service_row(store: StoreId, service: Service) -> (Bytes, Bytes) {
    row_of(SERVICE, store.0, |value| encode_service(value, &service))
}

/// The store and what it is used for, which is something else than nothing in particular.
pub(crate) fn read_service(row: &Bytes, value: &Bytes) -> Result<(StoreId, Service), String> {
    let service = decode_service(value).map_err(|error| format!("what a store is used for: {error}"))?;
    match (row.get(1..).and_then(|id| <[u8; 8]>::try_from(id).ok()), service) {
        (Some(id), Service::Draining | Service::Removed) => Ok((StoreId(u64::from_be_bytes(id)), service)),
        _ => Err(format!("{service:?} in row \"{}\"", row.escape_ascii())),
    }
}

pub(crate) fn recovery_row(recovery: &Recovery) -> (Bytes, Bytes) {
    row_of(RECOVERY, recovery.shard.0, |value| {
        encode_recovery(value, recovery)
    })
}

/// The recovery; the row must be that of its shard.
pub(crate) fn read_recovery(row: &Bytes, value: &Bytes) -> Result<Recovery, String> {
    let recovery = decode_recovery(value).map_err(|error| format!("a recovery: {error}"))?;
    let what = format_args!("the recovery of shard {}", recovery.shard);
    check_row(row, &recovery_row(&recovery).0, what)?;
    Ok(recovery)
}
