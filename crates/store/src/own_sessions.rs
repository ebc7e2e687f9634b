//! The sessions under which a gateway forwards for clients that have none (S6), so that a forward may be repeated
//! (O2): one for each shard, opened anew from time to time.

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto::Session;
use quorate_storage::ShardId;
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

use crate::kv::sessions::{HELD_MAX, opened_ms, session_id};

/// With so many writes under way a session is full, and the next write opens another one. A shard keeps more
/// answers than that, so none is dropped that is still wanted.
const UNDER_WAY_MAX: usize = HELD_MAX / 4;

/// One session's writes under way.
#[derive(Debug, Default)]
struct Own {
    next_seq: u64,
    under_way: BTreeSet<u64>,
}

/// A gateway's sessions. Invariant: each session is a shard's current one or has writes under way.
#[derive(Debug, Default)]
pub(crate) struct OwnSessions {
    /// No two processes have the same.
    seed: [u64; 3],
    opened: u64,
    current: BTreeMap<ShardId, u128>,
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
        let usable = |client: &u128| {
            let is_full = || {
                self.sessions
                    .get(client)
                    .is_some_and(|own| own.under_way.len() >= UNDER_WAY_MAX)
            };
            opened_ms(*client).saturating_add(reopen_ms) > now_ms && !is_full()
        };
        let client = match self.current.get(&shard).copied().filter(usable) {
            Some(client) => client,
            None => self.open(shard, now_ms),
        };
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

    fn open(&mut self, shard: ShardId, now_ms: u64) -> u128 {
        self.close(shard);
        self.opened += 1;
        let mut hasher = SipHasher13::new_with_key(b"quorate/gateway1");
        for word in self.seed.into_iter().chain([self.opened]) {
            hasher.write_u64(word);
        }
        let client = session_id(now_ms, hasher.finish128().as_u128());
        self.current.insert(shard, client);
        client
    }

    /// The shard's next write opens another session.
    fn close(&mut self, shard: ShardId) {
        if let Some(client) = self.current.remove(&shard)
            && self
                .sessions
                .get(&client)
                .is_some_and(|own| own.under_way.is_empty())
        {
            self.sessions.remove(&client);
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
        let is_current = || self.current.values().any(|current| *current == session.client);
        if own.under_way.is_empty() && !is_current() {
            self.sessions.remove(&session.client);
        }
    }

    /// The shard refused a write that certainly never ran: it has forgotten the session, or takes it for one from
    /// the future.
    pub(crate) fn refused(&mut self, shard: ShardId, session: &Session, from_future: bool) {
        if from_future {
            self.behind.insert(shard);
        }
        if self.current.get(&shard) == Some(&session.client) {
            self.close(shard);
        }
        self.ended(session);
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
        for _ in 1..UNDER_WAY_MAX {
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
        assert_eq!((own.sessions.len(), own.current.len()), (1, 1));
    }
}
