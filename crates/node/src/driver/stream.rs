//! The ordered stream of what is applied, from the node's thread to the application's.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::reactor::Inbox;
use crate::Applied;

/// After so many things taken the node is told, or when there is nothing left.
const REPORT_EVERY: u64 = 64;

#[derive(Debug, Default)]
struct State {
    things: VecDeque<Applied>,
    taken: u64,
    /// The member has stopped.
    ended: bool,
    /// Nobody takes any more.
    abandoned: bool,
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing is half done when a thread panics in here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, things: Vec<Applied>) {
        if things.is_empty() {
            return;
        }
        let mut state = self.lock();
        if state.abandoned {
            state.taken += things.len() as u64;
        } else {
            state.things.extend(things);
            self.changed.notify_all();
        }
    }

    /// How many things were taken in all.
    pub(super) fn taken(&self) -> u64 {
        self.lock().taken
    }

    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }
}

/// What is applied, in order. The application takes one thing after the other; the node keeps only a bounded
/// number of bytes ahead of it ([`crate::Config::max_untaken_bytes`]), so a slow application slows the group's
/// leader down once it leads, and must not stop taking.
///
/// Dropping it means that the application wants no more: the member goes on without it, as a voter that keeps
/// no state.
#[derive(Debug)]
pub struct AppliedStream {
    pub(super) queue: Arc<Queue>,
    pub(super) inbox: Arc<Inbox>,
}

impl AppliedStream {
    /// Waits for the next thing; `None` when the member has stopped and everything is taken.
    pub fn recv(&mut self) -> Option<Applied> {
        self.wait(None)
    }

    /// As [`AppliedStream::recv`], for at most `timeout`; `None` also when that has passed.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Option<Applied> {
        self.wait(Instant::now().checked_add(timeout))
    }

    /// The next thing if there is one now.
    pub fn try_recv(&mut self) -> Option<Applied> {
        self.wait(Some(Instant::now()))
    }

    fn wait(&mut self, until: Option<Instant>) -> Option<Applied> {
        let mut state = self.queue.lock();
        loop {
            if let Some(thing) = state.things.pop_front() {
                state.taken += 1;
                let report = state.things.is_empty() || state.taken.is_multiple_of(REPORT_EVERY);
                drop(state);
                if report {
                    self.inbox.wake();
                }
                return Some(thing);
            }
            if state.ended {
                return None;
            }
            let changed = &self.queue.changed;
            state = match until {
                None => changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let left = until
                        .checked_duration_since(Instant::now())
                        .filter(|left| !left.is_zero())?;
                    changed
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
    }
}

impl Iterator for AppliedStream {
    type Item = Applied;

    fn next(&mut self) -> Option<Applied> {
        self.recv()
    }
}

impl Drop for AppliedStream {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.abandoned = true;
        state.taken += state.things.len() as u64;
        state.things.clear();
        drop(state);
        self.inbox.wake();
    }
}
