//! Under which identity a write is sent (rules S), so that it runs once however often.
//!
//! A shard keeps the answers of a session from the oldest write under way on, and writes their list anew with each
//! further one. So a session is given few writes at a time, and a further session is opened when all are busy. One
//! caller that waits for its answers uses one session.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::error::SessionId;

/// From the oldest write under way on, a session is given so many numbers.
const SPAN: u64 = 16;
/// So many sessions are used side by side. When all are full, they are given more numbers,
const SESSIONS_MAX: usize = 64;
/// but never so many that a shard would drop an answer that is still wanted.
const SPAN_MAX: u64 = 1024;

/// A write's identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) session: SessionId,
    pub(crate) seq: u64,
}

/// What a write is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Assigned {
    /// None: the caller waits until a session is opened or a write ends.
    pub(crate) identity: Option<Identity>,
    /// The caller sees to it that another session is opened; nobody else will.
    pub(crate) must_open: bool,
}

#[derive(Debug)]
struct Own {
    id: SessionId,
    opened_at: Instant,
    last_seq: u64,
    under_way: BTreeSet<u64>,
    /// The lowest write of unknown outcome: its answer stays wanted, so that it can be settled.
    unsettled: Option<u64>,
    /// It is given no more writes.
    is_closed: bool,
}

impl Own {
    fn lowest(&self) -> Option<u64> {
        let under_way = self.under_way.first().copied();
        match (under_way, self.unsettled) {
            (Some(under_way), Some(unsettled)) => Some(under_way.min(unsettled)),
            (under_way, unsettled) => under_way.or(unsettled),
        }
    }

    /// Numbers that a shard keeps an answer for, or will keep.
    fn span(&self) -> u64 {
        self.lowest().map_or(0, |lowest| self.last_seq + 1 - lowest)
    }
}

/// The client's sessions. Invariant: one that is closed has writes under way.
#[derive(Debug)]
pub(crate) struct Sessions {
    sessions: Vec<Own>,
    is_opening: bool,
    /// A session is given no more writes when it is so old.
    reopen: Duration,
}

impl Sessions {
    pub(crate) fn new(reopen: Duration) -> Self {
        Self {
            sessions: Vec::new(),
            is_opening: false,
            reopen,
        }
    }

    /// An identity for a new write.
    pub(crate) fn assign(&mut self, now: Instant) -> Assigned {
        let reopen = self.reopen;
        for own in &mut self.sessions {
            own.is_closed |= own.opened_at + reopen <= now;
        }
        self.forget_ended();
        let open = || self.sessions.iter().enumerate().filter(|(_, own)| !own.is_closed);
        let free = open().find(|(_, own)| own.span() < SPAN).map(|(at, _)| at);
        let must_open = free.is_none() && !self.is_opening && open().count() < SESSIONS_MAX;
        let idlest = || {
            open()
                .min_by_key(|(_, own)| own.span())
                .filter(|(_, own)| own.span() < SPAN_MAX)
        };
        let at = free.or_else(|| idlest().map(|(at, _)| at));
        self.is_opening |= must_open;
        let identity = at.map(|at| {
            let own = &mut self.sessions[at];
            own.last_seq += 1;
            own.under_way.insert(own.last_seq);
            Identity {
                session: own.id,
                seq: own.last_seq,
            }
        });
        Assigned { identity, must_open }
    }

    /// The session that was to be opened is, or could not be.
    pub(crate) fn opened(&mut self, id: Option<SessionId>, now: Instant) {
        self.is_opening = false;
        if let Some(id) = id {
            self.sessions.push(Own {
                id,
                opened_at: now,
                last_seq: 0,
                under_way: BTreeSet::new(),
                unsettled: None,
                is_closed: false,
            });
        }
    }

    /// The lowest number of the session that is still wanted, for an attempt at a write of it.
    pub(crate) fn lowest(&self, identity: Identity) -> u64 {
        let own = self.sessions.iter().find(|own| own.id == identity.session);
        own.and_then(Own::lowest)
            .map_or(identity.seq, |lowest| lowest.min(identity.seq))
    }

    /// Nobody waits for this write any more.
    pub(crate) fn ended(&mut self, identity: Identity) {
        if let Some(own) = self.of(identity.session) {
            own.under_way.remove(&identity.seq);
        }
        self.forget_ended();
    }

    /// It ended, and nobody knows how: its session is given no more writes, so that no acknowledgement can free the
    /// answer before somebody asks for it.
    pub(crate) fn unsettled(&mut self, identity: Identity) {
        if let Some(own) = self.of(identity.session) {
            own.unsettled = Some(
                own.unsettled
                    .map_or(identity.seq, |lowest| lowest.min(identity.seq)),
            );
            own.is_closed = true;
        }
        self.ended(identity);
    }

    /// A shard does not know the session, or takes it for one from the future: it is given no more writes.
    pub(crate) fn refused(&mut self, identity: Identity) {
        if let Some(own) = self.of(identity.session) {
            own.is_closed = true;
        }
        self.ended(identity);
    }

    fn of(&mut self, session: SessionId) -> Option<&mut Own> {
        self.sessions.iter_mut().find(|own| own.id == session)
    }

    fn forget_ended(&mut self) {
        self.sessions
            .retain(|own| !own.is_closed || !own.under_way.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn opened(now: Instant) -> Sessions {
        let mut sessions = Sessions::new(HOUR);
        let first = sessions.assign(now);
        assert_eq!(first.identity, None);
        assert!(first.must_open);
        assert!(!sessions.assign(now).must_open, "one opens it");
        sessions.opened(Some(SessionId(1)), now);
        sessions
    }

    fn next(sessions: &mut Sessions, now: Instant) -> Identity {
        sessions.assign(now).identity.unwrap()
    }

    #[test]
    fn one_after_the_other_uses_one_session_and_acknowledges_what_ended() {
        let now = Instant::now();
        let mut sessions = opened(now);
        for seq in 1..100 {
            let write = next(&mut sessions, now);
            assert_eq!(
                (write.session, write.seq, sessions.lowest(write)),
                (SessionId(1), seq, seq)
            );
            sessions.ended(write);
        }
        let [a, b, c] = [0; 3].map(|_| next(&mut sessions, now));
        sessions.ended(b);
        assert_eq!(sessions.lowest(c), a.seq);
        sessions.ended(a);
        assert_eq!(sessions.lowest(c), c.seq);
    }

    #[test]
    fn many_side_by_side_get_further_sessions() {
        let now = Instant::now();
        let mut sessions = opened(now);
        for _ in 0..SPAN {
            assert!(!sessions.assign(now).must_open);
        }
        let more = sessions.assign(now);
        assert!(
            more.must_open && more.identity.is_some(),
            "it does not wait for the next session"
        );
        assert!(!sessions.assign(now).must_open);
        sessions.opened(None, now);
        assert!(
            sessions.assign(now).must_open,
            "it could not be opened: the next one tries"
        );
        sessions.opened(Some(SessionId(2)), now);
        assert_eq!(next(&mut sessions, now).session, SessionId(2));
    }

    #[test]
    fn no_answer_that_is_wanted_is_dropped() {
        let now = Instant::now();
        let mut sessions = opened(now);
        sessions.is_opening = true; // and never opens
        let oldest = next(&mut sessions, now);
        for _ in 1..SPAN_MAX {
            let write = next(&mut sessions, now);
            sessions.ended(write);
            assert!(write.seq - sessions.lowest(write) < SPAN_MAX);
        }
        assert_eq!(sessions.assign(now).identity, None, "until the oldest ends");
        sessions.ended(oldest);
        assert_eq!(next(&mut sessions, now).seq, SPAN_MAX + 1);
    }

    #[test]
    fn old_refused_and_unsettled_sessions_are_given_no_more() {
        let now = Instant::now();
        let mut sessions = opened(now);
        let old = next(&mut sessions, now);
        let later = now + HOUR;
        assert!(sessions.assign(later).must_open, "too old");
        assert_eq!(sessions.lowest(old), old.seq, "what is under way goes on");
        sessions.opened(Some(SessionId(2)), later);
        let [unknown, beside] = [0; 2].map(|_| next(&mut sessions, later));
        sessions.unsettled(unknown);
        assert_eq!(sessions.lowest(beside), unknown.seq, "its answer stays wanted");
        sessions.ended(beside);
        assert!(sessions.assign(later).must_open);
        sessions.opened(Some(SessionId(3)), later);
        let refused = next(&mut sessions, later);
        sessions.refused(refused);
        assert!(sessions.assign(later).must_open);
        sessions.ended(old);
        assert!(sessions.sessions.is_empty());
    }
}
