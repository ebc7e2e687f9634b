//! The sessions under which a gateway forwards for clients that have none (S6), so that a forward may be repeated
//! (O2): a few for each shard, opened anew from time to time.
//!
//! A shard keeps the answers of a session from the oldest write under way on, and writes their list anew with each of
//! them. So a session is given few at a time, and the next one is used meanwhile: in turn, since the one that was left
//! longest ago is the likeliest to have ended its own.

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto::Session;
use quorate_storage::ShardId;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use crate::kv::sessions::{HELD_MAX, opened_ms, session_id};

/// From the oldest write under way on, a session is given so many numbers.
const SPAN: u64 = 16;
/// Sessions of a shard that are used in turn. When all are full, they are given more numbers,
const IN_TURN_MAX: usize = 256;
/// but never so many that the shard would drop an answer that is still wanted.
const SPAN_MAX: u64 = HELD_MAX as u64 / 4;

/// One session's writes under way.
#[derive(Debug, Default)]
struct Own {
    next_seq: u64,
    under_way: BTreeSet<u64>,
    /// It is given no more writes.
    is_closed: bool,
}

impl Own {
    /// Numbers that the shard keeps, or will keep, an answer for.
    fn span(&self) -> u64 {
        self.under_way
            .first()
            .map_or(0, |oldest| self.next_seq + 1 - oldest)
    }
}

/// A shard's sessions that are given writes.
#[derive(Debug, Default)]
struct Turn {
    clients: Vec<u128>,
    /// The one that is given the next write.
    at: usize,
}

/// A gateway's sessions. Invariant: each session has its turn on a shard, or is closed and has writes under way.
#[derive(Debug, Default)]
pub(crate) struct OwnSessions {
    /// No two processes have the same.
    seed: [u64; 3],
    opened: u64,
    turns: BTreeMap<ShardId, Turn>,
    sessions: BTreeMap<u128, Own>,
    /// Shards that called a session one from the future: this store's clock is ahead of theirs.
    behind: BTreeSet<ShardId>,
}

impl OwnSessions {
    pub(crate) fn new(seed: [u64; 3]) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    /// An identity for a write on a shard whose own time is at least `shard_ms`. A session is opened anew when it
    /// is `reopen_ms` old.
    pub(crate) fn assign(&mut self, shard: ShardId, wall_ms: u64, shard_ms: u64, reopen_ms: u64) -> Session {
        let now_ms = if self.behind.contains(&shard) {
            shard_ms
        } else {
            wall_ms.max(shard_ms)
        };
        let client = self
            .next_in_turn(shard, now_ms, reopen_ms)
            .unwrap_or_else(|| self.open(shard, now_ms));
        let own = self.sessions.entry(client).or_default();
        own.next_seq += 1;
        own.under_way.insert(own.next_seq);
        let seq = own.next_seq;
        Session {
            client,
            seq,
            lowest: self.lowest(client, seq),
            position: 0,
        }
    }

    /// The session that is given the next write; none if another is to be opened. Closes those that are too old.
    fn next_in_turn(&mut self, shard: ShardId, now_ms: u64, reopen_ms: u64) -> Option<u128> {
        let too_old = |client: &u128| opened_ms(*client).saturating_add(reopen_ms) <= now_ms;
        while let Some(client) = self.turns.get(&shard)?.current().filter(too_old) {
            self.close(shard, client);
        }
        let span_of = |client: &u128| self.sessions.get(client).map_or(0, Own::span);
        let turn = self.turns.get_mut(&shard)?;
        // If the next few are busy, so are probably all.
        for _ in 0..turn.clients.len().min(8) {
            let client = turn.current()?;
            if span_of(&client) < SPAN && !too_old(&client) {
                return Some(client);
            }
            turn.at = (turn.at + 1) % turn.clients.len();
        }
        if turn.clients.len() < IN_TURN_MAX {
            return None;
        }
        let idlest = turn.clients.iter().min_by_key(|client| span_of(client));
        idlest.copied().filter(|client| span_of(client) < SPAN_MAX)
    }

    fn open(&mut self, shard: ShardId, now_ms: u64) -> u128 {
        self.opened += 1;
        let mut hasher = SipHasher13::new_with_key(b"quorate/gateway1");
        for word in self.seed.into_iter().chain([self.opened]) {
            hasher.write_u64(word);
        }
        let client = session_id(now_ms, hasher.finish128().as_u128());
        let turn = self.turns.entry(shard).or_default();
        turn.clients.insert(turn.at, client);
        client
    }

    /// A session is given no more writes.
    fn close(&mut self, shard: ShardId, client: u128) {
        if let Some(turn) = self.turns.get_mut(&shard) {
            turn.remove(client);
        }
        if let Some(own) = self.sessions.get_mut(&client) {
            own.is_closed = true;
            if own.under_way.is_empty() {
                self.sessions.remove(&client);
            }
        }
    }

    /// The lowest number under way in a session, for an attempt at write `seq` of it.
    pub(crate) fn lowest(&self, client: u128, seq: u64) -> u64 {
        let own = self.sessions.get(&client);
        own.and_then(|own| own.under_way.first().copied())
            .map_or(seq, |lowest| lowest.min(seq))
    }

    /// Nobody waits for this write any more.
    pub(crate) fn ended(&mut self, session: &Session) {
        let Some(own) = self.sessions.get_mut(&session.client) else {
            return;
        };
        own.under_way.remove(&session.seq);
        if own.under_way.is_empty() && own.is_closed {
            self.sessions.remove(&session.client);
        }
    }

    /// The shard refused a write that certainly never ran: it has forgotten the session, or takes it for one from
    /// the future.
    pub(crate) fn refused(&mut self, shard: ShardId, session: &Session, from_future: bool) {
        if from_future {
            self.behind.insert(shard);
        }
        self.close(shard, session.client);
        self.ended(session);
    }
}

impl Turn {
    fn current(&self) -> Option<u128> {
        self.clients.get(self.at).copied()
    }

    fn remove(&mut self, client: u128) {
        let Some(at) = self.clients.iter().position(|other| *other == client) else {
            return;
        };
        self.clients.remove(at);
        if at < self.at {
            self.at -= 1;
        }
        if self.at >= self.clients.len() {
            self.at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(1);

    #[test]
    fn the_lowest_number_is_that_of_the_oldest_write_under_way() {
        let mut own = OwnSessions::new([1, 2, 3]);
        let [a, b, c] = [0; 3].map(|_| own.assign(SHARD, 1000, 0, 60));
        assert_eq!([a.seq, b.seq, c.seq], [1, 2, 3]);
        assert_eq!((a.client, c.lowest), (c.client, 1));
        own.ended(&b);
        assert_eq!(own.lowest(a.client, c.seq), 1);
        own.ended(&a);
        assert_eq!(own.assign(SHARD, 1000, 0, 60).lowest, 3);
    }

    #[test]
    fn sessions_are_opened_anew_when_old_full_or_refused_and_are_all_different() {
        let mut own = OwnSessions::new([1, 2, 3]);
        let first = own.assign(SHARD, 1000, 0, 60);
        assert_eq!(opened_ms(first.client), 1000);
        let other_shard = own.assign(ShardId(2), 1000, 0, 60);
        let old = own.assign(SHARD, 1060, 0, 60);
        own.refused(SHARD, &old, false);
        let refused = own.assign(SHARD, 1060, 0, 60);
        for _ in 1..SPAN {
            assert_eq!(own.assign(SHARD, 1060, 0, 60).client, refused.client);
        }
        let full = own.assign(SHARD, 1060, 0, 60);
        own.refused(SHARD, &full, true);
        let behind = own.assign(SHARD, 9000, 1055, 60);
        assert_eq!(opened_ms(behind.client), 1055, "by the shard's time");
        let all = [first, other_shard, old, refused, full, behind].map(|session| session.client);
        assert_eq!(BTreeSet::from(all).len(), all.len());
        let other_process = OwnSessions::new([1, 2, 4]).assign(SHARD, 1000, 0, 60);
        assert!(!all.contains(&other_process.client));
    }

    #[test]
    fn nothing_is_kept_of_a_session_that_ended() {
        let mut own = OwnSessions::new([1, 2, 3]);
        for n in 0..1000 {
            let session = own.assign(SHARD, n * 100, 0, 60);
            own.ended(&session);
        }
        assert_eq!((own.sessions.len(), own.turns[&SHARD].clients.len()), (1, 1));
    }

    #[test]
    fn sessions_take_turns_and_are_given_few_writes_at_a_time() {
        let mut own = OwnSessions::new([1, 2, 3]);
        let mut under_way = std::collections::VecDeque::new();
        for n in 0..10_000 {
            if n >= 100 {
                own.ended(&under_way.pop_front().unwrap());
            }
            let session = own.assign(SHARD, 1000, 0, 60);
            assert!(session.seq - session.lowest < SPAN, "{session:?}");
            under_way.push_back(session);
        }
        assert!(
            own.sessions.len() <= 9,
            "{} sessions for 100 writes",
            own.sessions.len()
        );
    }

    #[test]
    fn a_write_that_does_not_end_holds_up_its_session_and_no_other() {
        let mut own = OwnSessions::new([1, 2, 3]);
        let stuck = own.assign(SHARD, 1000, 0, 60);
        for _ in 0..1000 {
            let session = own.assign(SHARD, 1000, 0, 60);
            assert!(session.client != stuck.client || session.seq - stuck.seq < SPAN);
            own.ended(&session);
        }
        assert_eq!(own.sessions.len(), 2);
    }

    #[test]
    fn with_very_many_writes_under_way_sessions_are_given_more() {
        let mut own = OwnSessions::new([1, 2, 3]);
        for _ in 0..SPAN * IN_TURN_MAX as u64 + 1000 {
            own.assign(SHARD, 1000, 0, 60);
        }
        assert_eq!(own.sessions.len(), IN_TURN_MAX);
        let spans = own.sessions.values().map(Own::span);
        assert!(spans.max() <= Some(SPAN + 1000 / IN_TURN_MAX as u64 + 1));
    }
}
