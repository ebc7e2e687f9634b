//! Operations: a tag byte, then the fields in the order of the type.

use super::writer::{bytes_len, put_bytes, put_i64_le, put_list, put_option, put_varint};
use super::{Reader, Wire, wire_tags};
use quorate_storage::ShardId;

use crate::{
    ControlCommand, DecodeError, Epoch, ExpireCondition, Expiry, Op, SetCondition, SetExpiry, Split,
};

pub(super) const TAG_SET: u8 = 1;
const TAG_APPEND: u8 = 2;
const TAG_SET_RANGE: u8 = 3;
const TAG_INCREMENT: u8 = 4;
const TAG_INCREMENT_FLOAT: u8 = 5;
const TAG_GET_DELETE: u8 = 6;
const TAG_GET_EXPIRE: u8 = 7;
const TAG_DELETE: u8 = 8;
const TAG_EXPIRE: u8 = 9;
const TAG_PERSIST: u8 = 10;
const TAG_SET_ALL_IF_ABSENT: u8 = 11;
const TAG_FLUSH: u8 = 12;
const TAG_SWEEP: u8 = 13;
const TAG_NOOP: u8 = 14;
const TAG_EXPIRE_SESSIONS: u8 = 15;
const TAG_COMPARE_AND_SET: u8 = 18;
const TAG_SETTLE: u8 = 17;
const TAG_CONTROL: u8 = 32;
pub(super) const TAG_SPLIT: u8 = 16;

// A SET's flags byte: condition in bits 0 and 1, deadline in bits 2 and 3, `get` in bit 4.
const SET_IF_ABSENT: u8 = 0b01;
const SET_IF_PRESENT: u8 = 0b10;
const SET_CONDITION_MASK: u8 = 0b11;
const SET_KEEP: u8 = 0b01 << 2;
const SET_EXPIRY_IN: u8 = 0b10 << 2;
const SET_EXPIRY_AT: u8 = 0b11 << 2;
const SET_EXPIRY_MASK: u8 = 0b11 << 2;
const SET_GET: u8 = 1 << 4;
const SET_MASK: u8 = SET_CONDITION_MASK | SET_EXPIRY_MASK | SET_GET;

/// A SET without deadline, condition and old value.
pub(super) const SET_PLAIN_FLAGS: u8 = 0;

/// What to reserve for an operation's bytes: exact for a SET, enough for the rest's common case.
pub(super) fn op_len_hint(op: &Op) -> usize {
    match op {
        Op::Set {
            key, value, expiry, ..
        } => {
            let deadline = if matches!(expiry, SetExpiry::Set(_)) { 8 } else { 0 };
            2 + deadline + bytes_len(key) + bytes_len(value)
        }
        Op::Append { key, value } | Op::SetRange { key, value, .. } => 12 + bytes_len(key) + bytes_len(value),
        Op::Increment { key, .. }
        | Op::IncrementFloat { key, .. }
        | Op::GetDelete { key }
        | Op::GetExpire { key, .. }
        | Op::Delete { key }
        | Op::Expire { key, .. }
        | Op::Persist { key }
        | Op::Settle { key } => 12 + bytes_len(key),
        Op::CompareAndSet {
            key, expected, value, ..
        } => 12 + bytes_len(key) + bytes_len(expected) + bytes_len(value),
        Op::SetAllIfAbsent { pairs } => {
            6 + pairs
                .iter()
                .map(|(k, v)| bytes_len(k) + bytes_len(v))
                .sum::<usize>()
        }
        Op::Sweep { due } => 6 + due.iter().map(|(_, k)| 8 + bytes_len(k)).sum::<usize>(),
        Op::ExpireSessions { clients } => 6 + 16 * clients.len(),
        Op::Control(_) => 32,
        Op::Split(split) => 32 + 16 * split.replicas.len(),
        Op::Flush | Op::Noop => 1,
    }
}

impl Wire for Op {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Op::Set {
                key,
                value,
                expiry,
                condition,
                get,
            } => {
                out.extend_from_slice(&[TAG_SET, set_flags(*expiry, *condition, *get)]);
                if let SetExpiry::Set(Expiry::In(ms) | Expiry::At(ms)) = expiry {
                    put_i64_le(out, *ms);
                }
                put_bytes(out, key);
                put_bytes(out, value);
            }
            Op::Append { key, value } => {
                put_tag_key(out, TAG_APPEND, key);
                put_bytes(out, value);
            }
            Op::SetRange { key, offset, value } => {
                put_tag_key(out, TAG_SET_RANGE, key);
                put_varint(out, *offset);
                put_bytes(out, value);
            }
            Op::Increment { key, delta } => {
                put_tag_key(out, TAG_INCREMENT, key);
                put_i64_le(out, *delta);
            }
            Op::IncrementFloat { key, delta } => {
                put_tag_key(out, TAG_INCREMENT_FLOAT, key);
                out.extend_from_slice(&delta.to_bits().to_le_bytes());
            }
            Op::GetDelete { key } => put_tag_key(out, TAG_GET_DELETE, key),
            Op::GetExpire { key, expiry } => {
                put_tag_key(out, TAG_GET_EXPIRE, key);
                put_option(out, expiry.as_ref());
            }
            Op::Delete { key } => put_tag_key(out, TAG_DELETE, key),
            Op::Expire {
                key,
                expiry,
                condition,
            } => {
                put_tag_key(out, TAG_EXPIRE, key);
                expiry.put(out);
                condition.put(out);
            }
            Op::Persist { key } => put_tag_key(out, TAG_PERSIST, key),
            Op::SetAllIfAbsent { pairs } => {
                out.push(TAG_SET_ALL_IF_ABSENT);
                put_list(out, pairs);
            }
            Op::CompareAndSet {
                key,
                expected,
                value,
                expiry,
            } => {
                out.extend_from_slice(&[
                    TAG_COMPARE_AND_SET,
                    set_flags(*expiry, SetCondition::Always, false),
                ]);
                if let SetExpiry::Set(Expiry::In(ms) | Expiry::At(ms)) = expiry {
                    put_i64_le(out, *ms);
                }
                put_bytes(out, key);
                put_bytes(out, expected);
                put_bytes(out, value);
            }
            Op::Settle { key } => put_tag_key(out, TAG_SETTLE, key),
            Op::Flush => out.push(TAG_FLUSH),
            Op::Sweep { due } => {
                out.push(TAG_SWEEP);
                put_list(out, due);
            }
            Op::Noop => out.push(TAG_NOOP),
            Op::ExpireSessions { clients } => {
                out.push(TAG_EXPIRE_SESSIONS);
                put_list(out, clients);
            }
            Op::Control(command) => {
                out.push(TAG_CONTROL);
                command.put(out);
            }
            Op::Split(split) => {
                out.push(TAG_SPLIT);
                split.put(out);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("op")? {
            TAG_SET => take_set(reader)?,
            TAG_APPEND => Op::Append {
                key: reader.bytes("key")?,
                value: reader.bytes("value")?,
            },
            TAG_SET_RANGE => Op::SetRange {
                key: reader.bytes("key")?,
                offset: reader.varint("offset")?,
                value: reader.bytes("value")?,
            },
            TAG_INCREMENT => Op::Increment {
                key: reader.bytes("key")?,
                delta: reader.i64_le("delta")?,
            },
            TAG_INCREMENT_FLOAT => Op::IncrementFloat {
                key: reader.bytes("key")?,
                // Any bits are let through: a delta that is not finite is apply's to refuse, alike everywhere.
                delta: f64::from_bits(reader.u64_le("delta")?),
            },
            TAG_GET_DELETE => Op::GetDelete {
                key: reader.bytes("key")?,
            },
            TAG_GET_EXPIRE => Op::GetExpire {
                key: reader.bytes("key")?,
                expiry: reader.option("deadline")?,
            },
            TAG_DELETE => Op::Delete {
                key: reader.bytes("key")?,
            },
            TAG_EXPIRE => Op::Expire {
                key: reader.bytes("key")?,
                expiry: Expiry::take(reader)?,
                condition: ExpireCondition::take(reader)?,
            },
            TAG_PERSIST => Op::Persist {
                key: reader.bytes("key")?,
            },
            TAG_SET_ALL_IF_ABSENT => Op::SetAllIfAbsent {
                pairs: reader.list("pairs")?,
            },
            TAG_COMPARE_AND_SET => take_compare_and_set(reader)?,
            TAG_SETTLE => Op::Settle {
                key: reader.bytes("key")?,
            },
            TAG_FLUSH => Op::Flush,
            TAG_SWEEP => Op::Sweep {
                due: reader.list("due keys")?,
            },
            TAG_NOOP => Op::Noop,
            TAG_EXPIRE_SESSIONS => Op::ExpireSessions {
                clients: reader.list("clients")?,
            },
            TAG_CONTROL => Op::Control(Box::new(ControlCommand::take(reader)?)),
            TAG_SPLIT => Op::Split(Box::new(Split::take(reader)?)),
            tag => return Err(reader.unknown_tag("op", tag)),
        })
    }
}

impl Wire for Split {
    const BYTES_MIN: usize = 5;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.slot));
        self.child.put(out);
        put_list(out, &self.replicas);
        self.epoch.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Split {
            slot: reader.narrow("slot of a split")?,
            child: ShardId::take(reader)?,
            replicas: reader.list("replicas of the new shard")?,
            epoch: Epoch::take(reader)?,
        })
    }
}

fn put_tag_key(out: &mut Vec<u8>, tag: u8, key: &[u8]) {
    out.push(tag);
    put_bytes(out, key);
}

fn set_flags(expiry: SetExpiry, condition: SetCondition, get: bool) -> u8 {
    let condition = match condition {
        SetCondition::Always => 0,
        SetCondition::IfAbsent => SET_IF_ABSENT,
        SetCondition::IfPresent => SET_IF_PRESENT,
    };
    let expiry = match expiry {
        SetExpiry::Clear => 0,
        SetExpiry::Keep => SET_KEEP,
        SetExpiry::Set(Expiry::In(_)) => SET_EXPIRY_IN,
        SetExpiry::Set(Expiry::At(_)) => SET_EXPIRY_AT,
    };
    condition | expiry | if get { SET_GET } else { 0 }
}

fn take_set(reader: &mut Reader<'_>) -> Result<Op, DecodeError> {
    let flags = reader.u8("set flags")?;
    let condition = match flags & SET_CONDITION_MASK {
        0 => SetCondition::Always,
        SET_IF_ABSENT => SetCondition::IfAbsent,
        SET_IF_PRESENT => SetCondition::IfPresent,
        _ => return Err(reader.unknown_tag("set flags", flags)),
    };
    if flags & !SET_MASK != 0 {
        return Err(reader.unknown_tag("set flags", flags));
    }
    let expiry = take_set_expiry(reader, flags)?;
    let (key, value) = (reader.bytes("key")?, reader.bytes("value")?);
    Ok(Op::Set {
        key,
        value,
        expiry,
        condition,
        get: flags & SET_GET != 0,
    })
}

fn take_set_expiry(reader: &mut Reader<'_>, flags: u8) -> Result<SetExpiry, DecodeError> {
    Ok(match flags & SET_EXPIRY_MASK {
        SET_EXPIRY_IN => SetExpiry::Set(Expiry::In(reader.i64_le("deadline")?)),
        SET_EXPIRY_AT => SetExpiry::Set(Expiry::At(reader.i64_le("deadline")?)),
        SET_KEEP => SetExpiry::Keep,
        _ => SetExpiry::Clear,
    })
}

fn take_compare_and_set(reader: &mut Reader<'_>) -> Result<Op, DecodeError> {
    let flags = reader.u8("set flags")?;
    if flags & !SET_EXPIRY_MASK != 0 {
        return Err(reader.unknown_tag("set flags", flags));
    }
    let expiry = take_set_expiry(reader, flags)?;
    Ok(Op::CompareAndSet {
        key: reader.bytes("key")?,
        expected: reader.bytes("expected value")?,
        value: reader.bytes("value")?,
        expiry,
    })
}

impl Wire for Expiry {
    const BYTES_MIN: usize = 9;
    fn put(&self, out: &mut Vec<u8>) {
        let (tag, ms) = match *self {
            Expiry::In(ms) => (0, ms),
            Expiry::At(ms) => (1, ms),
        };
        out.push(tag);
        put_i64_le(out, ms);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = reader.bool("deadline kind")?;
        let ms = reader.i64_le("deadline")?;
        Ok(if at { Expiry::At(ms) } else { Expiry::In(ms) })
    }
}

wire_tags!(ExpireCondition, "expire condition", {
    Always = 0, IfNone = 1, IfSome = 2, IfLater = 3, IfEarlier = 4,
    IfSomeEarlier = 5,
});
