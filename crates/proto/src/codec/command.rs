//! What a log entry carries: version, flags, time, session, operation.
//!
//! Written once, by the proposing leader; the same bytes go to the log, to the followers and to apply.

use bytes::Bytes;

use super::op::{SET_PLAIN_FLAGS, TAG_SET, TAG_SPLIT, op_len_hint};
use super::writer::{bytes_len, put_bytes, put_u64_le, put_u128_le, put_varint, varint_len};
use super::{Reader, Wire};
use crate::{Command, DecodeError, Op, Session, SessionWrite};

/// The newest version of a command's bytes that this build reads, and the one it writes.
pub const COMMAND_VERSION: u8 = 1;

/// Set in the flags byte when a session follows the time.
const FLAG_SESSION: u8 = 1;

/// Version, flags, time.
const HEADER_BYTES: usize = 10;

impl Op {
    /// Appends the operation's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.put(out);
    }
}

impl Command {
    /// Appends the command's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_header(out, self.stamp_ms, self.session.as_ref());
        self.op.put(out);
    }

    /// The command's bytes in a buffer of their own.
    #[must_use]
    pub fn encode_to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(header_len(self.session.as_ref()) + op_len_hint(&self.op));
        self.encode(&mut out);
        Bytes::from(out)
    }

    /// Reads a command. Keys and values are slices of `source`.
    ///
    /// # Errors
    /// Anything but exactly one command, of a version this build knows.
    pub fn decode(source: &Bytes) -> Result<Command, DecodeError> {
        let mut reader = Reader::new(source);
        reader.version("command version", COMMAND_VERSION)?;
        let flags = reader.u8("command flags")?;
        if flags & !FLAG_SESSION != 0 {
            return Err(reader.unknown_tag("command flags", flags));
        }
        let stamp_ms = reader.u64_le("command stamp")?;
        let session = if flags & FLAG_SESSION != 0 {
            Some(SessionWrite::take(&mut reader)?)
        } else {
            None
        };
        let op = Op::take(&mut reader)?;
        reader.finish("command")?;
        Ok(Command {
            stamp_ms,
            session,
            op,
        })
    }
}

/// Whether bytes of a [`Command`] hold a split, found without reading the rest.
#[must_use]
pub fn is_split(source: &[u8]) -> bool {
    // One without a session.
    source.get(1) == Some(&0) && source.get(HEADER_BYTES) == Some(&TAG_SPLIT)
}

/// Appends the bytes of a [`Command`] with a plain SET (no deadline, no condition, no old value) without
/// building it: the path that most writes take.
pub fn encode_set(
    out: &mut Vec<u8>,
    stamp_ms: u64,
    session: Option<&SessionWrite>,
    key: &[u8],
    value: &[u8],
) {
    out.reserve(set_len(session, key, value));
    put_header(out, stamp_ms, session);
    out.extend_from_slice(&[TAG_SET, SET_PLAIN_FLAGS]);
    put_bytes(out, key);
    put_bytes(out, value);
}

/// [`encode_set`] into a buffer of its own.
#[must_use]
pub fn encode_set_to_bytes(stamp_ms: u64, session: Option<&SessionWrite>, key: &[u8], value: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(set_len(session, key, value));
    encode_set(&mut out, stamp_ms, session, key, value);
    Bytes::from(out)
}

fn set_len(session: Option<&SessionWrite>, key: &[u8], value: &[u8]) -> usize {
    header_len(session) + 2 + bytes_len(key) + bytes_len(value)
}

fn header_len(session: Option<&SessionWrite>) -> usize {
    HEADER_BYTES
        + session.map_or(0, |write| {
            let s = &write.session;
            24 + varint_len(s.seq) + varint_len(s.lowest) + varint_len(u64::from(s.position))
        })
}

fn put_header(out: &mut Vec<u8>, stamp_ms: u64, session: Option<&SessionWrite>) {
    let flags = if session.is_some() { FLAG_SESSION } else { 0 };
    out.extend_from_slice(&[COMMAND_VERSION, flags]);
    put_u64_le(out, stamp_ms);
    if let Some(session) = session {
        session.put(out);
    }
}

impl Wire for Session {
    const BYTES_MIN: usize = 19;
    fn put(&self, out: &mut Vec<u8>) {
        put_u128_le(out, self.client);
        put_varint(out, self.seq);
        put_varint(out, self.lowest);
        put_varint(out, u64::from(self.position));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Session {
            client: reader.u128_le("session client")?,
            seq: reader.varint("session seq")?,
            lowest: reader.varint("session lowest")?,
            position: reader.narrow("session position")?,
        })
    }
}

impl Wire for SessionWrite {
    const BYTES_MIN: usize = 27;
    fn put(&self, out: &mut Vec<u8>) {
        self.session.put(out);
        put_u64_le(out, self.fingerprint);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(SessionWrite {
            session: Session::take(reader)?,
            fingerprint: reader.u64_le("fingerprint")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_set_is_reserved_exactly() {
        let session = SessionWrite {
            session: Session {
                client: 7,
                seq: 300,
                lowest: 2,
                position: 1,
            },
            fingerprint: 5,
        };
        for session in [None, Some(&session)] {
            for length in [0, 1, 127, 128, 20_000] {
                let value = vec![9; length];
                let mut out = Vec::new();
                encode_set(&mut out, 5, session, b"key", &value);
                assert_eq!(out.len(), set_len(session, b"key", &value));
                assert_eq!(
                    Command::decode(&out.clone().into()).unwrap().encode_to_bytes(),
                    out
                );
            }
        }
    }
}
