//! What the expiry index says is due.

use bytes::Bytes;
use quorate_storage::engine::{EngineError, View};

use super::{
    layout::{EXPIRY, Space, Spaces, expiry_key, expiry_range, split_expiry_key},
    value::malformed,
};

/// What is due of a shard's expiry index.
#[derive(Debug, Default)]
pub struct Due {
    /// Deadline and key, earliest first.
    pub entries: Vec<(u64, Bytes)>,
    /// The engine key behind which there may be more; none at the end.
    pub more: Option<Bytes>,
}

/// Entries of the expiry index with deadlines up to and including `until_ms`, earliest first: what the leader puts
/// into a sweep (T3). At most `limit` are looked at, those of other shards in the same space included, behind the
/// engine key `after`. Entries may be stale; the sweep looks at the keys themselves.
///
/// # Errors
///
/// The engine's, and damage found in it.
pub fn due<V: View + ?Sized>(
    view: &V,
    spaces: impl Into<Spaces>,
    until_ms: u64,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Due, EngineError> {
    let spaces = spaces.into();
    let (mut start, end_of_index) = expiry_range(spaces.data);
    if let Some(after) = after {
        // The least key behind it.
        start = [after, &[0]].concat();
    }
    let end = match until_ms.checked_add(1) {
        Some(behind) => expiry_key(spaces.data, behind, b""),
        None => end_of_index,
    };
    let mut due = Due::default();
    if start >= end {
        return Ok(due);
    }
    let mut last = None;
    for (at, pair) in view.scan(&start, &end).enumerate() {
        if at == limit {
            due.more = last;
            break;
        }
        let (encoded, _) = pair?;
        let (deadline_ms, key) =
            split_expiry_key(&encoded).ok_or_else(|| malformed("expiry key is too short"))?;
        if spaces.has(&key) {
            due.entries.push((deadline_ms, key));
        }
        last = Some(encoded);
    }
    Ok(due)
}

/// The earliest deadline in a space, if there is any.
///
/// # Errors
///
/// The engine's, and damage found in it.
pub(crate) fn first_deadline(view: &impl View, space: Space) -> Result<Option<u64>, EngineError> {
    let (start, end) = expiry_range(space);
    let first = view.scan(&start, &end).next();
    first
        .map(|pair| {
            let (deadline_ms, _) =
                split_expiry_key(&pair?.0).ok_or_else(|| malformed("expiry key is too short"))?;
            Ok(deadline_ms)
        })
        .transpose()
}

/// Whether a change gives a key a deadline.
pub(crate) fn sets_deadline((key, value): &(Bytes, Option<Bytes>)) -> bool {
    value.is_some() && key.first() == Some(&EXPIRY)
}
