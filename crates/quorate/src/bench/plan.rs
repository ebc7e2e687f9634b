//! What the threads of the load generator share: the phases, and when each begins and ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

/// Bytes of every key.
pub(super) const KEY_BYTES: usize = 16;

/// Keys of a history at most: what fits into their names.
pub(super) const HISTORY_KEYS_MAX: u64 = 1_000_000;

/// What an operation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Warms a connection up; counts nowhere.
    Ping,
    /// GET.
    Read,
    /// SET.
    Write,
}

/// What a phase does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Work {
    /// One PING on each connection, so that no measured operation pays for connecting.
    Connect,
    /// Every key is written once; what fails is written again.
    Fill,
    /// The load.
    Mix,
}

/// When a phase ends for those who would begin another operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Limit {
    /// After this time.
    Time(Duration),
    /// After this many operations.
    Ops(u64),
}

/// One phase.
#[derive(Debug)]
pub(super) struct Phase {
    pub(super) work: Work,
    pub(super) limit: Limit,
    /// Its counts are the report.
    pub(super) measured: bool,
    /// Set by the first thread that enters.
    begun: OnceLock<Instant>,
    /// Operations begun, for `Limit::Ops`.
    taken: AtomicU64,
    /// Operations answered, for the progress bar.
    pub(super) done: AtomicU64,
}

impl Phase {
    pub(super) fn new(work: Work, limit: Limit, measured: bool) -> Self {
        Self {
            work,
            limit,
            measured,
            begun: OnceLock::new(),
            taken: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

    /// When it began, for all threads the same.
    pub(super) fn begin(&self) -> Instant {
        *self.begun.get_or_init(Instant::now)
    }

    /// When it began; `None` before.
    pub(super) fn begun(&self) -> Option<Instant> {
        self.begun.get().copied()
    }

    /// When it ends by time.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.limit {
            Limit::Time(length) => Some(self.begin() + length),
            Limit::Ops(_) => None,
        }
    }

    /// The number of the next operation, or `None` when there are no more.
    pub(super) fn take(&self, now: Instant) -> Option<u64> {
        match self.limit {
            Limit::Time(length) => (now < self.begin() + length).then_some(0),
            Limit::Ops(ops) => {
                let n = self.taken.fetch_add(1, Ordering::Relaxed);
                (n < ops).then_some(n)
            }
        }
    }
}

/// Shared by all threads.
pub(super) struct Plan {
    pub(super) endpoints: Vec<String>,
    pub(super) threads: usize,
    pub(super) clients: usize,
    pub(super) pipeline: usize,
    pub(super) value_size: usize,
    pub(super) read_share: f64,
    pub(super) keys: u64,
    pub(super) timeout: Duration,
    pub(super) seed: u64,
    /// Writes are sent by ONCE.
    pub(super) once: bool,
    /// A history is recorded. Its keys carry this tag: they must not exist before.
    pub(super) history: Option<u32>,
    /// From which a history counts its times.
    pub(super) epoch: Instant,
    pub(super) phases: Vec<Phase>,
    /// Threads enter each phase together.
    pub(super) gate: Barrier,
    /// Ctrl-C: no new operations.
    pub(super) stop: AtomicBool,
}

impl Plan {
    /// The key with this number.
    pub(super) fn key(&self, key: u64) -> [u8; KEY_BYTES] {
        match self.history {
            None => numbered(*b"key-000000000000", 4, key),
            Some(tag) => {
                let mut name = *b"h00000000-000000";
                for (at, digit) in (1..9).zip((0..8).rev()) {
                    name[at] = b"0123456789abcdef"[(tag >> (digit * 4)) as usize & 15];
                }
                numbered(name, 10, key)
            }
        }
    }
}

/// Writes the number to the end of the name, not before `from`.
fn numbered(mut out: [u8; KEY_BYTES], from: usize, number: u64) -> [u8; KEY_BYTES] {
    let (mut at, mut rest) = (KEY_BYTES, number);
    while rest > 0 && at > from {
        at -= 1;
        out[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_padded() {
        let key = |number| numbered(*b"key-000000000000", 4, number);
        assert_eq!(&key(0), b"key-000000000000");
        assert_eq!(&key(99_999), b"key-000000099999");
        let largest = numbered(*b"h00000000-000000", 10, HISTORY_KEYS_MAX - 1);
        assert_eq!(&largest, b"h00000000-999999");
    }

    #[test]
    fn a_phase_by_count_gives_each_number_once() {
        let phase = Phase::new(Work::Fill, Limit::Ops(2), false);
        let now = Instant::now();
        assert_eq!(
            [phase.take(now), phase.take(now), phase.take(now)],
            [Some(0), Some(1), None]
        );
    }
}
