//! What the host of a virtual machine takes of its processors: nobody's latency means anything meanwhile.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Seconds of processor time in a second that are taken as none.
const NONE: f64 = 0.02;

/// Seconds of processor time that a host has taken from this machine; 0 where the system does not say.
pub fn stolen() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = stat.split_whitespace().nth(8);
    ticks.and_then(|ticks| ticks.parse().ok()).unwrap_or(0.0) / 100.0
}

/// Looks each second.
pub struct Watch {
    end: Sender<()>,
    thread: JoinHandle<Vec<f64>>,
}

impl Watch {
    pub fn begin(started: Instant) -> Self {
        let (end, ended) = channel();
        let thread = std::thread::spawn(move || {
            let mut seconds = Vec::new();
            let mut before = stolen();
            loop {
                let next = started + Duration::from_secs(seconds.len() as u64 + 1);
                let rest = next.saturating_duration_since(Instant::now());
                if ended.recv_timeout(rest) != Err(RecvTimeoutError::Timeout) {
                    return seconds;
                }
                let now = stolen();
                seconds.push(now - before);
                before = now;
            }
        });
        Self { end, thread }
    }

    pub fn end(self) -> Taken {
        drop(self.end);
        Taken(self.thread.join().unwrap())
    }
}

/// What was taken in each second since the start.
pub struct Taken(Vec<f64>);

impl Taken {
    /// Whether nothing was taken in that second, nor right before and after it.
    pub fn is_nothing_at(&self, at: Duration) -> bool {
        let second = at.as_secs() as usize;
        let around = second.saturating_sub(1)..=second + 1;
        around
            .filter_map(|second| self.0.get(second))
            .all(|taken| *taken <= NONE)
    }
}
