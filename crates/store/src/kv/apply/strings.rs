//! SET and its kin, APPEND, SETRANGE, MSETNX.

use bytes::Bytes;
use quorate_proto::{Answer, CommandError, Expiry, SetCondition, SetExpiry};
use quorate_raft::mutant;
use quorate_storage::engine::{EngineError, View};

use super::Shard;
use crate::kv::{
    layout::{data_key, expiry_key},
    value::{VALUE_BYTES_MAX, encode, encode_header},
};

const TOO_LONG: Answer = Answer::Error(CommandError::TooLong);

impl<V: View + ?Sized> Shard<'_, '_, V> {
    /// SET without conditions. Reads nothing: whatever was there is overwritten, and an entry of its deadline in
    /// the expiry index is left to the sweep.
    pub(super) fn set_unread(&mut self, key: &[u8], value: &[u8], expiry: Option<Expiry>) -> Answer {
        if !fits(value.len() as u64) {
            return TOO_LONG;
        }
        let at = data_key(self.space, key);
        let Some(expiry) = expiry else {
            self.txn.put(at, encode(None, value));
            return Answer::Ok;
        };
        match self.future_ms(expiry) {
            Some(deadline) => {
                self.txn.put(expiry_key(self.space, deadline, key), Bytes::new());
                self.txn.put(at, encode(Some(deadline), value));
            }
            None => self.txn.delete(at),
        }
        Answer::Ok
    }

    /// SET that depends on what is there. Also gives the old value, whether or not the condition held.
    pub(super) fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        expiry: SetExpiry,
        condition: SetCondition,
    ) -> Result<(Answer, Option<Bytes>), EngineError> {
        if !fits(value.len() as u64) {
            return Ok((TOO_LONG, None));
        }
        let at = self.at(key);
        let old = self.load(key, &at)?;
        let old_ms = old.as_ref().and_then(|stored| stored.deadline_ms);
        let holds = match condition {
            SetCondition::Always => true,
            SetCondition::IfAbsent => old.is_none(),
            SetCondition::IfPresent => old.is_some(),
        };
        let old = old.map(|stored| stored.payload);
        if !holds {
            return Ok((Answer::Nil, old));
        }
        self.overwrite(key, at, old.is_some(), old_ms, value, expiry);
        Ok((Answer::Ok, old))
    }

    /// Overwrites what was read.
    fn overwrite(
        &mut self,
        key: &[u8],
        at: Bytes,
        was_there: bool,
        old_ms: Option<u64>,
        value: &[u8],
        expiry: SetExpiry,
    ) {
        let deadline_ms = match expiry {
            SetExpiry::Clear => None,
            SetExpiry::Keep => old_ms,
            SetExpiry::Set(expiry) => match self.future_ms(expiry) {
                Some(deadline) => Some(deadline),
                None => {
                    // Set and expired at once.
                    if was_there {
                        self.erase(key, at, old_ms);
                    }
                    return;
                }
            },
        };
        self.replace(key, at, old_ms, deadline_ms, encode(deadline_ms, value));
    }

    pub(super) fn compare_and_set(
        &mut self,
        key: &[u8],
        expected: &[u8],
        value: &[u8],
        expiry: SetExpiry,
    ) -> Result<Answer, EngineError> {
        if !fits(value.len() as u64) {
            return Ok(TOO_LONG);
        }
        let at = self.at(key);
        let Some(old) = self.load(key, &at)? else {
            return Ok(Answer::Int(-1));
        };
        if old.payload != expected && !mutant!("compare-and-set-does-not-compare") {
            return Ok(Answer::Int(0));
        }
        self.overwrite(key, at, true, old.deadline_ms, value, expiry);
        Ok(Answer::Int(1))
    }

    pub(super) fn append(&mut self, key: &[u8], value: &[u8]) -> Result<Answer, EngineError> {
        let at = self.at(key);
        let (old, deadline_ms) = self.payload_and_deadline(key, &at)?;
        let length = old.len() as u64 + value.len() as u64;
        if !fits(length) {
            return Ok(TOO_LONG);
        }
        let mut encoded = encode_header(deadline_ms, length as usize);
        encoded.extend_from_slice(&old);
        encoded.extend_from_slice(value);
        self.replace(key, at, deadline_ms, deadline_ms, encoded);
        Ok(Answer::Int(length as i64))
    }

    pub(super) fn set_range(&mut self, key: &[u8], offset: u64, value: &[u8]) -> Result<Answer, EngineError> {
        let at = self.at(key);
        let (old, deadline_ms) = self.payload_and_deadline(key, &at)?;
        if value.is_empty() {
            return Ok(Answer::Int(old.len() as i64));
        }
        let end = offset.saturating_add(value.len() as u64);
        if !fits(end) {
            return Ok(TOO_LONG);
        }
        // Both fit `usize`: they are at most the longest value.
        let (offset, end) = (offset as usize, end as usize);
        let length = end.max(old.len());
        let mut encoded = encode_header(deadline_ms, length);
        let payload_at = encoded.len();
        encoded.extend_from_slice(&old[..offset.min(old.len())]);
        encoded.resize(payload_at + offset, 0);
        encoded.extend_from_slice(value);
        encoded.extend_from_slice(old.get(end..).unwrap_or_default());
        self.replace(key, at, deadline_ms, deadline_ms, encoded);
        Ok(Answer::Int(length as i64))
    }

    pub(super) fn set_all_if_absent(&mut self, pairs: &[(Bytes, Bytes)]) -> Result<Answer, EngineError> {
        if pairs.iter().any(|(_, value)| !fits(value.len() as u64)) {
            return Ok(TOO_LONG);
        }
        for (key, _) in pairs {
            let at = self.at(key);
            if self.load(key, &at)?.is_some() {
                return Ok(Answer::Int(0));
            }
        }
        for (key, value) in pairs {
            self.txn.put(data_key(self.space, key), encode(None, value));
        }
        Ok(Answer::Int(1))
    }

    /// An absent key counts as an empty value without a deadline.
    fn payload_and_deadline(&mut self, key: &[u8], at: &Bytes) -> Result<(Bytes, Option<u64>), EngineError> {
        Ok(self
            .load(key, at)?
            .map_or_else(Default::default, |stored| (stored.payload, stored.deadline_ms)))
    }
}

fn fits(value_bytes: u64) -> bool {
    value_bytes <= VALUE_BYTES_MAX
}
