//! A shard's session table: rows of the engine. Each begins with a version byte.

use bytes::Bytes;

use super::writer::{put_option, put_u64_le, put_varint};
use super::{Reader, Wire};
use crate::{Answer, AnswerRow, DecodeError, HeldAnswer, Kept, SessionRow, SessionTotals};

/// The newest version of these rows that this build reads, and the one it writes.
const ROW_VERSION: u8 = 1;

macro_rules! row {
    ($type:ident, $what:literal) => {
        impl $type {
            /// The row's bytes, version first.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                let mut out = vec![ROW_VERSION];
                self.put(&mut out);
                out
            }

            /// Reads a row.
            ///
            /// # Errors
            /// Anything but exactly one row, of a version this build knows.
            pub fn decode(source: &Bytes) -> Result<Self, DecodeError> {
                let mut reader = Reader::new(source);
                reader.version("row version", ROW_VERSION)?;
                let row = Self::take(&mut reader)?;
                reader.finish($what)?;
                Ok(row)
            }
        }
    };
}

row!(SessionRow, "session row");
row!(AnswerRow, "answer row");
row!(SessionTotals, "session totals");

impl Wire for SessionRow {
    const BYTES_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.lowest);
        put_varint(out, self.held.len() as u64);
        // Numbers as distances from the one before: most are 1.
        let mut before = self.lowest;
        for held in &self.held {
            put_varint(out, held.seq.wrapping_sub(before));
            put_varint(out, u64::from(held.position));
            put_kept(out, &held.kept);
            before = held.seq;
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let lowest = reader.varint("lowest")?;
        let mut held: Vec<HeldAnswer> = reader.list("held answers")?;
        let mut before = lowest;
        for answer in &mut held {
            answer.seq = answer.seq.wrapping_add(before);
            before = answer.seq;
        }
        Ok(SessionRow { lowest, held })
    }
}

/// Inside a row, where the number is a distance.
impl Wire for HeldAnswer {
    const BYTES_MIN: usize = 3;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.seq);
        put_varint(out, u64::from(self.position));
        put_kept(out, &self.kept);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(HeldAnswer {
            seq: reader.varint("seq")?,
            position: reader.narrow("position")?,
            kept: match reader.narrow("bytes")? {
                0 => Kept::Here(AnswerRow::take(reader)?),
                bytes => Kept::Apart { bytes },
            },
        })
    }
}

/// The bytes of a row of its own, or zero and the answer.
fn put_kept(out: &mut Vec<u8>, kept: &Kept) {
    match kept {
        Kept::Here(answer) => {
            put_varint(out, 0);
            answer.put(out);
        }
        Kept::Apart { bytes } => put_varint(out, u64::from(*bytes)),
    }
}

impl Wire for u16 {
    const BYTES_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(*self));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.narrow("slot")
    }
}

impl Wire for AnswerRow {
    const BYTES_MIN: usize = 10;
    fn put(&self, out: &mut Vec<u8>) {
        put_u64_le(out, self.fingerprint);
        put_option(out, self.slot.as_ref());
        self.answer.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(AnswerRow {
            fingerprint: reader.u64_le("fingerprint")?,
            slot: reader.option("slot")?,
            answer: Answer::take(reader)?,
        })
    }
}

impl Wire for SessionTotals {
    const BYTES_MIN: usize = 11;
    fn put(&self, out: &mut Vec<u8>) {
        put_u64_le(out, self.expired_through_ms);
        put_varint(out, self.sessions);
        put_varint(out, self.answers);
        put_varint(out, self.bytes);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(SessionTotals {
            expired_through_ms: reader.u64_le("expired through")?,
            sessions: reader.varint("sessions")?,
            answers: reader.varint("answers")?,
            bytes: reader.varint("bytes")?,
        })
    }
}
