//! What the expiry index says is due.

use bytes::Bytes;
use quorate_storage::engine::{EngineError, View};

use super::{
    layout::{Space, expiry_key, expiry_range, split_expiry_key},
    value::malformed,
};

/// At most `limit` entries of the expiry index with deadlines up to and including `until_ms`, earliest first: what
/// the leader puts into a sweep (T3). Entries may be stale; the sweep looks at the keys themselves.
///
/// # Errors
///
/// The engine's, and damage found in it.
pub fn due<V: View + ?Sized>(
    view: &V,
    space: Space,
    until_ms: u64,
    limit: usize,
) -> Result<Vec<(u64, Bytes)>, EngineError> {
    let (start, end_of_index) = expiry_range(space);
    let end = match until_ms.checked_add(1) {
        Some(behind) => expiry_key(space, behind, b""),
        None => end_of_index,
    };
    view.scan(&start, &end)
        .take(limit)
        .map(|pair| split_expiry_key(&pair?.0).ok_or_else(|| malformed("expiry key is too short")))
        .collect()
}
