//! What a check may cost, so that it ends with "unknown" rather than not at all.

use std::time::{Duration, Instant};

/// What a check may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Steps that the search may take for one key: points visited and transitions tried.
    pub steps: u64,
    /// Bytes that may be kept at a time, about.
    pub bytes: usize,
    /// Wall time, if any, for all keys together. A verdict then depends on the machine.
    pub time: Option<Duration>,
}

impl Default for Budget {
    /// Fifty million steps, half a gigabyte, any time.
    fn default() -> Self {
        Self {
            steps: 50_000_000,
            bytes: 512 << 20,
            time: None,
        }
    }
}

/// A budget that is being used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) steps: u64,
    pub(super) bytes: usize,
    pub(super) until: Option<(Instant, Duration)>,
    /// Steps of the first attempt, if not as many as the search finds right.
    pub(super) first_attempt: Option<u64>,
}

impl Budget {
    pub(super) fn start(&self) -> Limits {
        Limits {
            steps: self.steps,
            bytes: self.bytes,
            until: self.time.map(|time| (Instant::now() + time, time)),
            first_attempt: None,
        }
    }
}

impl Limits {
    /// The same with another number of steps.
    pub(super) fn with_steps(self, steps: u64) -> Self {
        Self {
            steps: steps.min(self.steps),
            ..self
        }
    }
}
