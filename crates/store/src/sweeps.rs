//! What a leader removes because its time has come, through the log and in bounded batches: expired keys (T3) and sessions
//! (S3).
//!
//! A look scans the engine, which may wait for a sync of the engine's. So a leader remembers until when a look finds
//! nothing.

use quorate_proto::Op;
use quorate_raft::Term;
use quorate_storage::engine::Engine;

use crate::error::StoreError;
use crate::io::Times;
use crate::kv::sessions::HELD_MAX;
use crate::kv::{self, Space, sessions};
use crate::replica::{NewWrite, Waiter};
use crate::store::Store;

/// Keys removed by one sweep (T3).
const SWEEP_MAX: usize = 256;
/// Sessions, and roughly answers, removed by one entry (S3).
const EXPIRED_SESSIONS_MAX: usize = 1024;
const EXPIRED_ANSWERS_MAX: usize = 2 * HELD_MAX;
/// Milliseconds after which sessions are looked at again in any case: one that is opened may be older than those that are
/// there, by the word of its client.
const LOOKED_AFTER_MS: u64 = 10_000;

/// Nothing is due before this time, as the leader of this term knows of this space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct AtRest {
    term: Term,
    space: Space,
    until_ms: u64,
}

impl AtRest {
    /// Whether this moment is within what is known.
    fn is_within(&self, known: Option<Self>) -> bool {
        known.is_some_and(|known| {
            (known.term, known.space) == (self.term, self.space) && self.until_ms < known.until_ms
        })
    }
}

impl<E: Engine> Store<E> {
    /// T3: the leader removes expired keys through the log, in bounded batches.
    pub(crate) fn sweep(&mut self, times: Times, at: usize) -> Result<(), StoreError> {
        let replica = &self.replicas[at];
        if !replica.serves() || replica.sweep_pending || replica.raft.transferring_to().is_some() {
            return Ok(());
        }
        let until = times.wall_ms.max(replica.applied.stamp_ms);
        let spaces = replica.descriptor.spaces();
        let at_rest = AtRest {
            term: replica.raft.term(),
            space: spaces.data,
            until_ms: until,
        };
        if at_rest.is_within(replica.keys_at_rest) {
            return Ok(());
        }
        let after = replica.swept_through.as_deref();
        let kv::Due { entries: due, more } = kv::due(&self.engine, spaces, until, after, SWEEP_MAX)?;
        if due.is_empty() && more.is_none() {
            let until_ms = kv::first_deadline(&self.engine, spaces.data)?.unwrap_or(u64::MAX);
            self.replicas[at].keys_at_rest = Some(AtRest { until_ms, ..at_rest });
        }
        // What another shard has in the same space is passed over.
        self.replicas[at].swept_through = more.filter(|_| spaces.only.is_some());
        if !due.is_empty() {
            self.replicas[at].sweep_pending = true;
            let write = NewWrite {
                waiter: Waiter::Nobody,
                deadline_us: u64::MAX,
                request: None,
            };
            self.take_write(times, at, Op::Sweep { due }, None, write);
        }
        Ok(())
    }

    /// S3: the leader forgets sessions that are too old, or the oldest when there are too many, through the log and
    /// in bounded batches.
    pub(crate) fn expire_sessions(&mut self, times: Times, at: usize) -> Result<(), StoreError> {
        let replica = &self.replicas[at];
        let totals = &replica.sessions;
        if totals.sessions == 0
            || !replica.serves()
            || replica.session_sweep_pending
            || replica.raft.transferring_to().is_some()
        {
            return Ok(());
        }
        let space = replica.descriptor.sessions;
        let now_ms = times.wall_ms.max(replica.applied.stamp_ms);
        let young_since_ms = now_ms.saturating_sub(self.options.session_ttl_ms);
        let too_many = totals.sessions.saturating_sub(self.options.sessions_max) as usize;
        let too_large = totals.bytes.saturating_sub(self.options.session_bytes_max);
        let is_old = |client: u128| sessions::opened_ms(client) < young_since_ms;
        if too_many == 0 && too_large == 0 {
            let at_rest = AtRest {
                term: replica.raft.term(),
                space,
                until_ms: now_ms,
            };
            if at_rest.is_within(replica.sessions_at_rest) {
                return Ok(());
            }
            // Mostly, a look at the oldest one is enough.
            let oldest = sessions::oldest(&self.engine, space, 1, 1)?;
            let oldest = oldest.first().map(|oldest| oldest.client);
            if !oldest.is_some_and(is_old) {
                let opened_ms = oldest.map_or(now_ms, sessions::opened_ms);
                let last_ms = opened_ms.saturating_add(self.options.session_ttl_ms);
                let until_ms = last_ms
                    .saturating_add(1)
                    .min(now_ms.saturating_add(LOOKED_AFTER_MS));
                self.replicas[at].sessions_at_rest = Some(AtRest { until_ms, ..at_rest });
                return Ok(());
            }
        }
        let mut clients = Vec::new();
        let mut freed = 0;
        for oldest in sessions::oldest(&self.engine, space, EXPIRED_SESSIONS_MAX, EXPIRED_ANSWERS_MAX)? {
            if clients.len() >= too_many && freed >= too_large && !is_old(oldest.client) {
                break;
            }
            freed += oldest.bytes;
            clients.push(oldest.client);
        }
        if !clients.is_empty() {
            self.replicas[at].session_sweep_pending = true;
            self.take_own_write(times, at, Op::ExpireSessions { clients });
        }
        Ok(())
    }
}
