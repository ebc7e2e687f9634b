//! A shard's pairs without their local prefix: what snapshots carry.
//!
//! A relative key is a full one without the four bytes of the space: `'c' row`, `'d' slot hash key`, `'s' [client]`,
//! `'w' client seq position` or `'x' deadline key`. The order of relative keys is that of full ones.

use bytes::Bytes;
use quorate_storage::engine::{EngineError, Pair, View};

use quorate_raft::mutant;

use super::layout::{
    ANSWER, CONTROL, DATA, EXPIRY, HEADER_BYTES, SESSION, Space, Spaces, is_body, prefix_of, range_of,
    split_expiry_key,
};

/// A part of a shard's pairs.
#[derive(Debug)]
pub struct Exported {
    /// In ascending order of their relative keys.
    pub pairs: Vec<Pair>,
    /// The relative key behind which there may be more; none at the end.
    pub more: Option<Bytes>,
}

/// Pairs behind `after`, of about `max_bytes` together at most, counting what is passed over because it is another
/// shard's, and at least one unless that alone is more.
///
/// # Errors
///
/// The engine's.
pub fn export<V: View + ?Sized>(
    view: &V,
    spaces: impl Into<Spaces>,
    after: Option<&[u8]>,
    max_bytes: usize,
) -> Result<Exported, EngineError> {
    let spaces = spaces.into();
    let Spaces { data, sessions, .. } = spaces;
    let mut last = None;
    let mut pairs = Vec::new();
    let mut bytes = 0usize;
    for (kind, space) in [
        (CONTROL, sessions),
        (DATA, data),
        (SESSION, sessions),
        (ANSWER, sessions),
        (EXPIRY, data),
    ] {
        if matches!(kind, SESSION | ANSWER) && mutant!("snapshot-without-the-session-table") {
            continue;
        }
        let (mut start, end) = if kind == DATA {
            spaces.data_range()
        } else {
            range_of(kind, space)
        };
        match after.and_then(<[u8]>::split_first) {
            Some((done, _)) if *done > kind => continue,
            Some((done, body)) if *done == kind => {
                start = prefix_of(kind, space);
                start.extend_from_slice(body);
                // The least key behind this one.
                start.push(0);
            }
            _ => {}
        }
        for pair in view.scan(&start, &end) {
            let (key, value) = pair?;
            let body = &key[HEADER_BYTES..];
            bytes = bytes.saturating_add(1 + body.len() + value.len());
            if bytes > max_bytes && last.is_some() {
                return Ok(Exported { pairs, more: last });
            }
            let mut relative = Vec::with_capacity(1 + body.len());
            relative.push(kind);
            relative.extend_from_slice(body);
            let relative = Bytes::from(relative);
            last = Some(relative.clone());
            if kind != EXPIRY || split_expiry_key(&key).is_some_and(|(_, key)| spaces.has(&key)) {
                pairs.push((relative, value));
            }
        }
    }
    Ok(Exported { pairs, more: None })
}

/// The full key of a relative one; `None` if it is malformed, which includes a data key that does not stand where
/// its slot and hash belong: no read would ever find it.
#[must_use]
pub fn import_key(space: Space, relative: &[u8]) -> Option<Vec<u8>> {
    let (kind, body) = relative.split_first()?;
    if !is_body(*kind, body) {
        return None;
    }
    let mut full = prefix_of(*kind, space);
    full.extend_from_slice(body);
    Some(full)
}
