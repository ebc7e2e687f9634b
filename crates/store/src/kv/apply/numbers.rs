//! INCR and its kin. They keep the deadline.

use std::io::Write as _;

use bytes::Bytes;
use quorate_proto::{Answer, CommandError};
use quorate_storage::engine::{EngineError, View};

use super::Shard;
use crate::kv::{
    decimal, integer,
    value::{encode, encode_header},
};

/// The longest 64-bit integer: a sign and 19 digits.
const INTEGER_BYTES_MAX: usize = 20;

impl<V: View + ?Sized> Shard<'_, '_, V> {
    pub(super) fn increment(&mut self, key: &[u8], delta: i64) -> Result<Answer, EngineError> {
        let at = self.at(key);
        let old = self.load(key, &at)?;
        let (value, deadline_ms) = match &old {
            Some(stored) => (integer::parse(&stored.payload), stored.deadline_ms),
            None => (Some(0), None),
        };
        let Some(value) = value else {
            return Ok(Answer::Error(CommandError::NotAnInteger));
        };
        let Some(sum) = value.checked_add(delta) else {
            return Ok(Answer::Error(CommandError::Overflow));
        };
        let mut encoded = encode_header(deadline_ms, INTEGER_BYTES_MAX);
        // Writing to a vector cannot fail.
        let _ = write!(encoded, "{sum}");
        self.replace(key, at, deadline_ms, deadline_ms, encoded);
        Ok(Answer::Int(sum))
    }

    pub(super) fn increment_float(&mut self, key: &[u8], delta: f64) -> Result<Answer, EngineError> {
        let at = self.at(key);
        let old = self.load(key, &at)?;
        let (stored, deadline_ms) = match &old {
            Some(stored) => (&stored.payload[..], stored.deadline_ms),
            None => (&b"0"[..], None),
        };
        match decimal::add(stored, delta) {
            Err(error) => Ok(Answer::Error(error)),
            Ok(sum) => {
                self.replace(
                    key,
                    at,
                    deadline_ms,
                    deadline_ms,
                    encode(deadline_ms, sum.as_bytes()),
                );
                Ok(Answer::Bulk(Bytes::from(sum)))
            }
        }
    }
}
