//! What each read answers.

use bytes::Bytes;
use quorate_proto::{Answer, CommandError, Query};
use quorate_raft::mutant;
use quorate_storage::engine::{EngineError, View};

use super::{
    layout::{Space, data_key},
    scan::{Scan, scan},
    value::Stored,
};

/// The times a read is judged by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadTime {
    /// The shard's time: the last stamp applied, or the one a ReadIndex answer brought.
    pub shard_ms: u64,
    /// This node's wall clock. May be behind the shard's time.
    pub wall_ms: u64,
}

/// How a read ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Read {
    /// With an answer.
    Answer(Answer),
    /// The wall clock has passed the key's deadline and the shard's time has not: the caller has the shard's time
    /// moved on through the log and reads again (T2). Answering "absent" at once could be contradicted by a later
    /// read on a node whose clock is behind.
    ExpiredByWall,
}

/// Answers a read.
///
/// # Errors
///
/// The engine's, and damage found in it; they stop the replica.
pub fn query<V: View + ?Sized>(
    view: &V,
    space: Space,
    time: ReadTime,
    query: &Query,
) -> Result<Read, EngineError> {
    match query {
        Query::Get { key } => one_key(view, space, time, key, |stored| {
            stored.map_or(Answer::Nil, |stored| Answer::Bulk(stored.payload))
        }),
        Query::Exists { key } => one_key(view, space, time, key, |stored| {
            Answer::Int(i64::from(stored.is_some()))
        }),
        Query::StrLen { key } => one_key(view, space, time, key, |stored| {
            Answer::Int(stored.map_or(0, |stored| stored.payload.len() as i64))
        }),
        Query::GetRange { key, start, end } => one_key(view, space, time, key, |stored| {
            Answer::Bulk(stored.map_or_else(Bytes::new, |stored| sub_range(&stored.payload, *start, *end)))
        }),
        Query::Deadline { key } => one_key(view, space, time, key, |stored| Answer::Int(deadline(stored))),
        Query::Scan {
            from,
            end_slot,
            limit,
            pattern,
            count_only,
        } => scan(
            view,
            space,
            &Scan {
                // Unlike a read of one key, a page promises nothing about keys that come and go meanwhile, so it
                // may hide what only the wall clock has ended.
                now_ms: time.shard_ms.max(time.wall_ms),
                from: *from,
                end_slot: *end_slot,
                limit: *limit,
                pattern: pattern.as_deref(),
                count_only: *count_only,
            },
        )
        .map(Read::Answer),
        // The controller's are not answered from here.
        Query::Control(_) | Query::Timestamps { .. } => {
            Ok(Read::Answer(Answer::Error(CommandError::NotController)))
        }
        Query::Barrier => Ok(Read::Answer(Answer::Ok)),
    }
}

fn one_key<V: View + ?Sized>(
    view: &V,
    space: Space,
    time: ReadTime,
    key: &[u8],
    answer: impl FnOnce(Option<Stored>) -> Answer,
) -> Result<Read, EngineError> {
    let stored = match view.get(&data_key(space, key))? {
        Some(bytes) => Some(Stored::decode(&bytes)?),
        None => None,
    };
    let live = stored.filter(|stored| !stored.is_expired(time.shard_ms));
    if live
        .as_ref()
        .is_some_and(|stored| stored.is_expired(time.wall_ms))
    {
        return Ok(if mutant!("wall-clock-ends-a-key") {
            Read::Answer(answer(None))
        } else {
            Read::ExpiredByWall
        });
    }
    Ok(Read::Answer(answer(live)))
}

/// PEXPIRETIME: -2 without the key, -1 without a deadline.
fn deadline(stored: Option<Stored>) -> i64 {
    match stored.map(|stored| stored.deadline_ms) {
        None => -2,
        Some(None) => -1,
        // Deadlines come from `i64`s, so this never saturates.
        Some(Some(deadline_ms)) => i64::try_from(deadline_ms).unwrap_or(i64::MAX),
    }
}

/// GETRANGE: both ends inclusive, negative ones count from the end, and an end before the first byte means the
/// first byte, except when both are negative and in the wrong order.
fn sub_range(payload: &Bytes, start: i64, end: i64) -> Bytes {
    let length = payload.len() as i64;
    if length == 0 || (start < 0 && end < 0 && start > end) {
        return Bytes::new();
    }
    let from_end = |position: i64| {
        if position < 0 {
            (length + position).max(0)
        } else {
            position
        }
    };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if start > end {
        Bytes::new()
    } else {
        payload.slice(start as usize..=end as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_getrange() {
        let table = [
            (0, 3, "This"),
            (0, -1, "This is"),
            (-2, -1, "is"),
            (-1, -2, ""),
            (5, 4, ""),
            (3, 3, "s"),
            (0, 5000, "This is"),
            (-5000, 1, "Th"),
            (0, -5000, "T"),
            (-5000, -4999, "T"),
            (7, 9, ""),
            (i64::MIN, i64::MAX, "This is"),
            (i64::MIN, i64::MIN, "T"),
            (i64::MAX, i64::MAX, ""),
        ];
        let payload = Bytes::from_static(b"This is");
        for (start, end, part) in table {
            assert_eq!(sub_range(&payload, start, end), part, "{start}..={end}");
            assert_eq!(sub_range(&Bytes::new(), start, end), "");
        }
    }
}
