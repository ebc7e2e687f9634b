//! EXPIRE, PERSIST, GETEX, and the sweep of what has expired.

use bytes::Bytes;
use quorate_proto::{Answer, ExpireCondition, Expiry};
use quorate_raft::mutant;
use quorate_storage::engine::{EngineError, View};

use super::{Shard, absolute_ms, bulk_or_nil, one_if};
use crate::kv::{
    layout::expiry_key,
    value::{Stored, encode},
};

impl<V: View + ?Sized> Shard<'_, '_, V> {
    pub(super) fn expire(
        &mut self,
        key: &[u8],
        expiry: Expiry,
        condition: ExpireCondition,
    ) -> Result<Answer, EngineError> {
        let at = self.at(key);
        let Some(stored) = self.load(key, &at)? else {
            return Ok(Answer::Int(0));
        };
        let at_ms = i128::from(absolute_ms(expiry, self.stamp_ms));
        let current_ms = stored.deadline_ms.map(i128::from);
        let holds = match condition {
            ExpireCondition::Always => true,
            ExpireCondition::IfNone => current_ms.is_none(),
            ExpireCondition::IfSome => current_ms.is_some(),
            ExpireCondition::IfLater => current_ms.is_some_and(|current| at_ms > current),
            ExpireCondition::IfEarlier => current_ms.is_none_or(|current| at_ms < current),
            ExpireCondition::IfSomeEarlier => current_ms.is_some_and(|current| at_ms < current),
        };
        if holds {
            self.set_deadline(key, at, &stored, expiry);
        }
        Ok(one_if(holds))
    }

    pub(super) fn get_expire(&mut self, key: &[u8], expiry: Expiry) -> Result<Answer, EngineError> {
        let at = self.at(key);
        let Some(stored) = self.load(key, &at)? else {
            return Ok(Answer::Nil);
        };
        self.set_deadline(key, at, &stored, expiry);
        Ok(Answer::Bulk(stored.payload))
    }

    pub(super) fn persist(&mut self, key: &[u8]) -> Result<Answer, EngineError> {
        let (had_deadline, _) = self.remove_deadline(key)?;
        Ok(one_if(had_deadline))
    }

    pub(super) fn get_persist(&mut self, key: &[u8]) -> Result<Answer, EngineError> {
        let (_, value) = self.remove_deadline(key)?;
        Ok(bulk_or_nil(value))
    }

    /// Removes what has expired among `due`, and its entries in the expiry index, which may be stale (T3). An entry
    /// whose time has not come stays: without it nothing would ever remove its key.
    pub(super) fn sweep(&mut self, due: &[(u64, Bytes)]) -> Result<Answer, EngineError> {
        let mut removed = 0;
        for (deadline_ms, key) in due {
            if *deadline_ms > self.stamp_ms {
                continue;
            }
            self.txn.delete(expiry_key(self.space, *deadline_ms, key));
            let at = self.at(key);
            // The key may have been written since, with a later deadline or none.
            if let Some(stored) = self.load_even_expired(&at)?
                && (stored.is_expired(self.stamp_ms) || mutant!("sweep-removes-rewritten-keys"))
            {
                self.erase(key, at, stored.deadline_ms);
                removed += 1;
            }
        }
        Ok(Answer::Int(removed))
    }

    /// The deadline is part of the value, so the value is written again.
    fn set_deadline(&mut self, key: &[u8], at: Bytes, stored: &Stored, expiry: Expiry) {
        match self.future_ms(expiry) {
            None => self.erase(key, at, stored.deadline_ms),
            deadline if deadline == stored.deadline_ms => {}
            deadline => {
                self.replace(
                    key,
                    at,
                    stored.deadline_ms,
                    deadline,
                    encode(deadline, &stored.payload),
                );
            }
        }
    }

    /// Whether there was a deadline to remove, and the key's value.
    fn remove_deadline(&mut self, key: &[u8]) -> Result<(bool, Option<Bytes>), EngineError> {
        let at = self.at(key);
        let Some(stored) = self.load(key, &at)? else {
            return Ok((false, None));
        };
        let had_deadline = stored.deadline_ms.is_some();
        if had_deadline {
            self.replace(key, at, stored.deadline_ms, None, encode(None, &stored.payload));
        }
        Ok((had_deadline, Some(stored.payload)))
    }
}
