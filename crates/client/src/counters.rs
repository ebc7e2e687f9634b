//! What a client has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a client has done so far, over all its handles; see [`Client::counters`](crate::Client::counters).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[non_exhaustive]
pub struct Counters {
    /// Commands begun.
    pub commands: u64,
    /// Times that they were sent to a node, or were to be. As many as `commands`, while nothing fails and the client
    /// knows who leads.
    pub attempts: u64,
    /// Answers that named another node, because the client's map of the shards was old.
    pub hints: u64,
    /// Attempts at what the client asks for itself: the map, sessions.
    pub own_attempts: u64,
    /// Sessions opened.
    pub sessions_opened: u64,
}

/// The same while they count. Each counts for itself, so a reading may be between two of them.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    pub(crate) commands: AtomicU64,
    pub(crate) attempts: AtomicU64,
    pub(crate) hints: AtomicU64,
    pub(crate) own_attempts: AtomicU64,
    pub(crate) sessions_opened: AtomicU64,
}

pub(crate) fn count(one: &AtomicU64) {
    one.fetch_add(1, Ordering::Relaxed);
}

impl Counting {
    pub(crate) fn read(&self) -> Counters {
        let read = |one: &AtomicU64| one.load(Ordering::Relaxed);
        Counters {
            commands: read(&self.commands),
            attempts: read(&self.attempts),
            hints: read(&self.hints),
            own_attempts: read(&self.own_attempts),
            sessions_opened: read(&self.sessions_opened),
        }
    }
}
