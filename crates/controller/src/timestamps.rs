//! The timestamp oracle: numbers that are unique and rise, over all who ask, restarts and changes of the leader.
//!
//! A timestamp is milliseconds since the Unix epoch, about, and a count ([`TIMESTAMP_COUNT_BITS`]). The log holds no
//! timestamp, only a *window* of those that the leader of one term may give: all below the window are given or lost, none
//! above it is given. The leader counts up in memory, so one write covers [`WINDOW_MS`] of timestamps, however many are
//! asked for. What the leader of another term has left of its window is lost.
//!
//! Unique: a term has one leader, and windows do not overlap. Rising: the leader is confirmed after a question has come and
//! before it is answered, as for any read; so whoever gave a higher one before has a lower term, or the same memory. The
//! wall clock comes in as the shard's time (T1), which never goes back, and within a window the monotonic one counts on; a
//! window never begins below the end of the one before it, whatever the clock says.

use quorate_proto::{Answer, CommandError, ControlCommand, TIMESTAMP_COUNT_BITS, TIMESTAMPS_MAX};
use quorate_raft::{Term, mutant};
use quorate_store::rsm::{Reign, RowChanges, Said};

use crate::rows;

/// How far ahead a window reaches, in milliseconds.
const WINDOW_MS: u64 = 3_000;
/// A window, in timestamps.
const WINDOW: u64 = WINDOW_MS << TIMESTAMP_COUNT_BITS;
/// No timestamp is at or above it: answers are signed. Far from any clock that is right.
const END: u64 = i64::MAX as u64;

/// Timestamps that the leader of one term may give.
///
/// Invariant: `start` < `end` <= [`END`], and both rise from one window to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Window {
    pub(crate) term: Term,
    pub(crate) start: u64,
    /// Exclusive.
    pub(crate) end: u64,
}

/// How far the leader has come in a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Given {
    window: Window,
    /// When it gave the window's first.
    since_us: u64,
    /// The least one that it has not given.
    next: u64,
}

/// The oracle's state: the newest window is replicated, what was given of it is not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Timestamps {
    window: Option<Window>,
    given: Option<Given>,
}

impl Timestamps {
    pub(crate) fn loaded(window: Window) -> Self {
        Self {
            window: Some(window),
            given: None,
        }
    }

    fn end(&self) -> u64 {
        self.window.map_or(0, |window| window.end)
    }

    /// Gives so many, one after the other, and answers the first; or says what must be applied before.
    pub(crate) fn give(&mut self, reign: Reign, count: u32) -> Said {
        if !(1..=TIMESTAMPS_MAX).contains(&count) {
            return Said::Answer(Answer::Error(CommandError::OutOfRange));
        }
        let more = match self.end() {
            END => Said::Answer(Answer::Error(CommandError::OutOfRange)),
            above => Said::After(ControlCommand::ReserveTimestamps {
                term: reign.term,
                above,
            }),
        };
        let is_own = |window: &Window| window.term == reign.term || mutant!("timestamps-of-an-earlier-term");
        let Some(window) = self.window.filter(is_own) else {
            return more;
        };
        let begun = Given {
            window,
            since_us: reign.now_us,
            next: window.start,
        };
        let given = self.given.filter(|given| given.window == window).unwrap_or(begun);
        let elapsed_ms = reign.now_us.saturating_sub(given.since_us) / 1000;
        let by_clock = window.start + (elapsed_ms.min(WINDOW_MS) << TIMESTAMP_COUNT_BITS);
        let first = given.next.max(by_clock);
        let next = first + u64::from(count);
        if next > window.end {
            return more;
        }
        self.given = Some(Given { next, ..given });
        Said::Answer(Answer::Int(first as i64))
    }

    /// The leader of a term gets the window above all that there were. Of several that were asked for at once, the first
    /// counts.
    pub(crate) fn reserve(&mut self, stamp_ms: u64, term: Term, above: u64, rows: &mut RowChanges) -> Answer {
        if above == self.end() {
            let by_clock = stamp_ms.min(END >> TIMESTAMP_COUNT_BITS) << TIMESTAMP_COUNT_BITS;
            let start = above.max(by_clock);
            let end = start.saturating_add(WINDOW).min(END);
            if start < end {
                let window = Window { term, start, end };
                let (row, value) = rows::timestamps_row(&window);
                rows.push((row, Some(value)));
                self.window = Some(window);
            }
        }
        Answer::Int(self.end() as i64)
    }
}
