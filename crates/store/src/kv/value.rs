//! How values are stored: `[flags u8][deadline_ms u64 LE, if flag bit 0][payload]`.

use bytes::Bytes;
use quorate_storage::engine::EngineError;

/// The longest value. Redis allows 512 MiB; here a value travels in one message between nodes and is held whole.
pub const VALUE_BYTES_MAX: u64 = 64 << 20;

const HAS_DEADLINE: u8 = 1;
const FLAGS_BYTES: usize = 1;
const DEADLINE_BYTES: usize = 8;

/// A stored value, decoded without copying.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// When the key ends, in milliseconds since the Unix epoch. It is gone at that very millisecond.
    pub deadline_ms: Option<u64>,
    /// What the client stored; shares the engine's buffer.
    pub payload: Bytes,
}

impl Stored {
    /// Decodes what the engine gave.
    ///
    /// # Errors
    ///
    /// If these bytes are not what [`Stored::encode`] makes: the engine is damaged or newer than this program.
    pub fn decode(bytes: &Bytes) -> Result<Self, EngineError> {
        match bytes.first() {
            Some(0) => Ok(Self {
                deadline_ms: None,
                payload: bytes.slice(FLAGS_BYTES..),
            }),
            Some(&HAS_DEADLINE) => {
                let deadline = bytes[FLAGS_BYTES..]
                    .first_chunk::<DEADLINE_BYTES>()
                    .ok_or_else(|| malformed("value is shorter than its deadline"))?;
                let payload = bytes.slice(FLAGS_BYTES + DEADLINE_BYTES..);
                Ok(Self {
                    deadline_ms: Some(u64::from_le_bytes(*deadline)),
                    payload,
                })
            }
            Some(_) => Err(malformed("value has unknown flags")),
            None => Err(malformed("value without flags")),
        }
    }

    /// What [`Stored::decode`] takes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode(self.deadline_ms, &self.payload).into()
    }

    /// Whether the key is absent at this time.
    #[must_use]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.deadline_ms.is_some_and(|deadline| deadline <= now_ms)
    }
}

/// A value ready for the engine.
pub(super) fn encode(deadline_ms: Option<u64>, payload: &[u8]) -> Vec<u8> {
    let mut encoded = encode_header(deadline_ms, payload.len());
    encoded.extend_from_slice(payload);
    encoded
}

/// Everything before the payload, with room for one of exactly `payload_bytes`.
pub(super) fn encode_header(deadline_ms: Option<u64>, payload_bytes: usize) -> Vec<u8> {
    match deadline_ms {
        None => {
            let mut encoded = Vec::with_capacity(FLAGS_BYTES + payload_bytes);
            encoded.push(0);
            encoded
        }
        Some(deadline) => {
            let mut encoded = Vec::with_capacity(FLAGS_BYTES + DEADLINE_BYTES + payload_bytes);
            encoded.push(HAS_DEADLINE);
            encoded.extend_from_slice(&deadline.to_le_bytes());
            encoded
        }
    }
}

/// What the engine holds is not what this module wrote. Never an answer: it stops the replica.
pub(super) fn malformed(reason: &str) -> EngineError {
    EngineError {
        action: "decode",
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_and_share_the_buffer() {
        for deadline_ms in [None, Some(0), Some(u64::MAX)] {
            for payload in [&b""[..], b"v", &[0; 100]] {
                let bytes = Bytes::from(encode(deadline_ms, payload));
                let stored = Stored::decode(&bytes).unwrap();
                assert_eq!((stored.deadline_ms, &stored.payload[..]), (deadline_ms, payload));
                let shared = payload.is_empty() || bytes.as_ptr_range().contains(&stored.payload.as_ptr());
                assert!(shared);
                assert_eq!(stored.encode(), bytes);
            }
        }
    }

    #[test]
    fn damaged_values_are_errors_not_answers() {
        for bytes in [&b""[..], b"\x02v", b"\x01deadlin", b"\xff"] {
            assert!(Stored::decode(&Bytes::copy_from_slice(bytes)).is_err());
        }
    }

    #[test]
    fn a_key_is_gone_at_its_deadline() {
        let stored = Stored {
            deadline_ms: Some(10),
            payload: Bytes::new(),
        };
        assert!(!stored.is_expired(9) && stored.is_expired(10));
        assert!(
            !Stored {
                deadline_ms: None,
                payload: Bytes::new()
            }
            .is_expired(u64::MAX)
        );
    }
}
