//! What each write does to the state.

mod deadlines;
mod numbers;
mod strings;

use bytes::Bytes;
use quorate_proto::{Answer, Expiry, Op, SetCondition, SetExpiry};
use quorate_storage::engine::{EngineError, View};

use super::{
    layout::{Space, data_key, expiry_key},
    txn::Txn,
    value::Stored,
};

/// Turns relative deadlines into absolute ones, by the leader's time when it proposes (T1).
#[must_use]
pub fn resolve(mut op: Op, now_ms: u64) -> Op {
    match &mut op {
        Op::Set {
            expiry: SetExpiry::Set(expiry),
            ..
        }
        | Op::GetExpire {
            expiry: Some(expiry), ..
        }
        | Op::CompareAndSet {
            expiry: SetExpiry::Set(expiry),
            ..
        }
        | Op::Expire { expiry, .. } => *expiry = Expiry::At(absolute_ms(*expiry, now_ms)),
        Op::Set { .. }
        | Op::GetExpire { .. }
        | Op::Append { .. }
        | Op::SetRange { .. }
        | Op::Increment { .. }
        | Op::IncrementFloat { .. }
        | Op::GetDelete { .. }
        | Op::Delete { .. }
        | Op::Persist { .. }
        | Op::SetAllIfAbsent { .. }
        | Op::CompareAndSet { .. }
        | Op::Settle { .. }
        | Op::Flush
        | Op::Sweep { .. }
        | Op::Noop
        | Op::ExpireSessions { .. }
        | Op::Control(_)
        | Op::Split(_) => {}
    }
    op
}

fn absolute_ms(expiry: Expiry, now_ms: u64) -> i64 {
    match expiry {
        Expiry::At(at_ms) => at_ms,
        Expiry::In(in_ms) => in_ms.saturating_add_unsigned(now_ms),
    }
}

/// Applies a write at the shard's time `stamp_ms`: a pure function of the state, the stamp and the write.
///
/// [`Op::Flush`], [`Op::ExpireSessions`], [`Op::Control`] and [`Op::Split`] are the caller's: the first switches the
/// shard to an empty space, the second is the session table's, the third the controller's, the fourth concerns two
/// shards. Here they answer Ok and do nothing.
///
/// # Errors
///
/// The engine's, and damage found in it. They are the replica's own, so they stop it; what every replica refuses
/// alike is an [`Answer::Error`].
pub fn apply<V: View + ?Sized>(
    txn: &mut Txn<'_, V>,
    space: Space,
    stamp_ms: u64,
    op: &Op,
) -> Result<Answer, EngineError> {
    let mut shard = Shard { txn, space, stamp_ms };
    match op {
        Op::Set {
            key,
            value,
            expiry: SetExpiry::Clear,
            condition: SetCondition::Always,
            get: false,
        } => Ok(shard.set_unread(key, value, None)),
        Op::Set {
            key,
            value,
            expiry: SetExpiry::Set(at),
            condition: SetCondition::Always,
            get: false,
        } => Ok(shard.set_unread(key, value, Some(*at))),
        Op::Set {
            key,
            value,
            expiry,
            condition,
            get: false,
        } => {
            let (done, _) = shard.set(key, value, *expiry, *condition)?;
            Ok(done)
        }
        Op::Set {
            key,
            value,
            expiry,
            condition,
            get: true,
        } => {
            let (done, old) = shard.set(key, value, *expiry, *condition)?;
            Ok(if matches!(done, Answer::Error(_)) {
                done
            } else {
                bulk_or_nil(old)
            })
        }
        Op::Append { key, value } => shard.append(key, value),
        Op::SetRange { key, offset, value } => shard.set_range(key, *offset, value),
        Op::Increment { key, delta } => shard.increment(key, *delta),
        Op::IncrementFloat { key, delta } => shard.increment_float(key, *delta),
        Op::GetDelete { key } => Ok(bulk_or_nil(shard.delete(key)?)),
        Op::GetExpire {
            key,
            expiry: Some(expiry),
        } => shard.get_expire(key, *expiry),
        Op::GetExpire { key, expiry: None } => shard.get_persist(key),
        Op::Delete { key } => Ok(one_if(shard.delete(key)?.is_some())),
        Op::Expire {
            key,
            expiry,
            condition,
        } => shard.expire(key, *expiry, *condition),
        Op::Persist { key } => shard.persist(key),
        Op::SetAllIfAbsent { pairs } => shard.set_all_if_absent(pairs),
        Op::CompareAndSet {
            key,
            expected,
            value,
            expiry,
        } => shard.compare_and_set(key, expected, value, *expiry),
        Op::Sweep { due } => shard.sweep(due),
        // By the session table, which keeps this in place of the answer.
        Op::Settle { .. } => Ok(Answer::NeverRuns),
        Op::Flush | Op::Noop | Op::ExpireSessions { .. } | Op::Control(_) | Op::Split(_) => Ok(Answer::Ok),
    }
}

/// One shard's state, at the time of one entry.
struct Shard<'t, 'v, V: View + ?Sized> {
    txn: &'t mut Txn<'v, V>,
    space: Space,
    stamp_ms: u64,
}

impl<V: View + ?Sized> Shard<'_, '_, V> {
    /// The value, if the key exists at the entry's time. What is left of an expired one is removed on the way, so
    /// that the write that asked cannot leave a stale entry in the expiry index either.
    fn load(&mut self, key: &[u8], at: &Bytes) -> Result<Option<Stored>, EngineError> {
        let Some(stored) = self.load_even_expired(at)? else {
            return Ok(None);
        };
        if stored.is_expired(self.stamp_ms) {
            self.erase(key, at.clone(), stored.deadline_ms);
            return Ok(None);
        }
        Ok(Some(stored))
    }

    fn load_even_expired(&self, at: &[u8]) -> Result<Option<Stored>, EngineError> {
        self.txn.get(at)?.map(|bytes| Stored::decode(&bytes)).transpose()
    }

    /// Replaces a value that was read, keeping the expiry index exact. `encoded` holds `deadline_ms`.
    fn replace(
        &mut self,
        key: &[u8],
        at: Bytes,
        old_ms: Option<u64>,
        deadline_ms: Option<u64>,
        encoded: Vec<u8>,
    ) {
        if old_ms != deadline_ms {
            if let Some(old) = old_ms {
                self.txn.delete(expiry_key(self.space, old, key));
            }
            if let Some(deadline) = deadline_ms {
                self.txn.put(expiry_key(self.space, deadline, key), Bytes::new());
            }
        }
        self.txn.put(at, encoded);
    }

    /// Removes a value that was read, with its entry in the expiry index.
    fn erase(&mut self, key: &[u8], at: Bytes, deadline_ms: Option<u64>) {
        if let Some(deadline) = deadline_ms {
            self.txn.delete(expiry_key(self.space, deadline, key));
        }
        self.txn.delete(at);
    }

    /// DEL and GETDEL: the value that was there.
    fn delete(&mut self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let at = self.at(key);
        let Some(stored) = self.load(key, &at)? else {
            return Ok(None);
        };
        self.erase(key, at, stored.deadline_ms);
        Ok(Some(stored.payload))
    }

    fn at(&self, key: &[u8]) -> Bytes {
        Bytes::from(data_key(self.space, key))
    }

    /// The deadline as it is stored; `None` if it has passed, which a deadline before 1970 always has.
    fn future_ms(&self, expiry: Expiry) -> Option<u64> {
        let at_ms = absolute_ms(expiry, self.stamp_ms);
        u64::try_from(at_ms)
            .ok()
            .filter(|deadline| *deadline > self.stamp_ms)
    }
}

fn bulk_or_nil(value: Option<Bytes>) -> Answer {
    value.map_or(Answer::Nil, Answer::Bulk)
}

fn one_if(done: bool) -> Answer {
    Answer::Int(i64::from(done))
}
