//! A page of SCAN.

use quorate_proto::{Answer, ScanPosition};
use quorate_storage::engine::{EngineError, View};

use super::{
    glob::glob_match,
    layout::{Space, data_range, data_start, split_data_key},
    value::{Stored, malformed},
};

const SLOTS: u16 = 16384;

/// What is asked.
pub(super) struct Scan<'a> {
    /// Keys that ended by then are passed over.
    pub now_ms: u64,
    /// First position.
    pub from: ScanPosition,
    /// The slot behind the last.
    pub end_slot: u16,
    /// Keys to look at; at least one is, or a scan could stand still.
    pub limit: u32,
    /// `None` matches all.
    pub pattern: Option<&'a [u8]>,
    /// Leave the keys out.
    pub count_only: bool,
}

/// Looks at about `limit` keys, live or not. A run of keys at one position is never cut: the next page's cursor
/// is a position, so it could not go on in the middle of the run.
pub(super) fn scan<V: View + ?Sized>(
    view: &V,
    space: Space,
    asked: &Scan<'_>,
) -> Result<Answer, EngineError> {
    let start = data_start(space, asked.from);
    let end = match asked.end_slot {
        SLOTS.. => data_range(space).1,
        slot => data_start(space, ScanPosition { slot, hash: 0 }),
    };
    let mut page = Page::default();
    if start >= end {
        return Ok(page.into_answer(None));
    }
    let mut looked_at = 0u32;
    let mut last = None;
    for pair in view.scan(&start, &end) {
        let (encoded, value) = pair?;
        let (position, key) = split_data_key(&encoded).ok_or_else(|| malformed("data key is too short"))?;
        if looked_at >= asked.limit.max(1) && last != Some(position) {
            return Ok(page.into_answer(Some(position)));
        }
        looked_at = looked_at.saturating_add(1);
        last = Some(position);
        let wanted = !Stored::decode(&value)?.is_expired(asked.now_ms)
            && asked.pattern.is_none_or(|pattern| glob_match(pattern, &key));
        if wanted {
            page.count += 1;
            if !asked.count_only {
                page.keys.push(key);
            }
        }
    }
    Ok(page.into_answer(None))
}

#[derive(Default)]
struct Page {
    keys: Vec<bytes::Bytes>,
    count: u64,
}

impl Page {
    fn into_answer(self, next: Option<ScanPosition>) -> Answer {
        Answer::Page {
            next,
            keys: self.keys,
            count: self.count,
        }
    }
}
