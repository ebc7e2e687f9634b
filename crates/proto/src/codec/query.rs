//! Reads: a tag byte, then the fields in the order of the type.

use bytes::Bytes;

use super::writer::{put_bytes, put_i64_le, put_option, put_varint};
use super::{Reader, Wire};
use crate::{ControlQuery, DecodeError, Query, ScanPosition};

const TAG_GET: u8 = 1;
const TAG_EXISTS: u8 = 2;
const TAG_STR_LEN: u8 = 3;
const TAG_GET_RANGE: u8 = 4;
const TAG_DEADLINE: u8 = 5;
const TAG_SCAN: u8 = 6;
const TAG_BARRIER: u8 = 7;
const TAG_CONTROL: u8 = 32;
const TAG_TIMESTAMPS: u8 = 33;

impl Wire for Query {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        let mut key_only = |tag: u8, key: &Bytes| {
            out.push(tag);
            put_bytes(out, key);
        };
        match self {
            Query::Get { key } => key_only(TAG_GET, key),
            Query::Exists { key } => key_only(TAG_EXISTS, key),
            Query::StrLen { key } => key_only(TAG_STR_LEN, key),
            Query::Deadline { key } => key_only(TAG_DEADLINE, key),
            Query::GetRange { key, start, end } => {
                key_only(TAG_GET_RANGE, key);
                put_i64_le(out, *start);
                put_i64_le(out, *end);
            }
            Query::Scan {
                from,
                end_slot,
                limit,
                pattern,
                count_only,
            } => {
                out.push(TAG_SCAN);
                from.put(out);
                put_varint(out, u64::from(*end_slot));
                put_varint(out, u64::from(*limit));
                put_option(out, pattern.as_ref());
                out.push(u8::from(*count_only));
            }
            Query::Control(query) => {
                out.push(TAG_CONTROL);
                query.put(out);
            }
            Query::Timestamps { count } => {
                out.push(TAG_TIMESTAMPS);
                put_varint(out, u64::from(*count));
            }
            Query::Barrier => out.push(TAG_BARRIER),
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("query")? {
            TAG_GET => Query::Get {
                key: reader.bytes("key")?,
            },
            TAG_EXISTS => Query::Exists {
                key: reader.bytes("key")?,
            },
            TAG_STR_LEN => Query::StrLen {
                key: reader.bytes("key")?,
            },
            TAG_GET_RANGE => Query::GetRange {
                key: reader.bytes("key")?,
                start: reader.i64_le("range start")?,
                end: reader.i64_le("range end")?,
            },
            TAG_DEADLINE => Query::Deadline {
                key: reader.bytes("key")?,
            },
            TAG_SCAN => Query::Scan {
                from: ScanPosition::take(reader)?,
                end_slot: reader.narrow("end slot")?,
                limit: reader.narrow("scan limit")?,
                pattern: reader.option("pattern")?,
                count_only: reader.bool("count only")?,
            },
            TAG_CONTROL => Query::Control(ControlQuery::take(reader)?),
            TAG_TIMESTAMPS => Query::Timestamps {
                count: reader.narrow("number of timestamps")?,
            },
            TAG_BARRIER => Query::Barrier,
            tag => return Err(reader.unknown_tag("query", tag)),
        })
    }
}

impl Wire for ScanPosition {
    const BYTES_MIN: usize = 5;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.slot));
        out.extend_from_slice(&self.hash.to_le_bytes());
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ScanPosition {
            slot: reader.narrow("scan slot")?,
            hash: reader.u32_le("scan hash")?,
        })
    }
}
