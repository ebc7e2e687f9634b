//! Groups, and changes of configs. Maps and sets are lists in strictly ascending order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_storage::ShardId;

use super::heartbeat::{decode_rows, encode_rows, put_number, take_number};
use super::writer::{put_list, put_varint};
use super::{Reader, Wire};
use crate::{Config, DecodeError, Delta, GroupId, MoveRow, Place, PlacementCommand, PlannedMove};

const TAG_JOIN: u8 = 1;
const TAG_LEAVE: u8 = 2;
const TAG_MOVE: u8 = 3;
const TAG_REBALANCE: u8 = 4;
const TAG_SPLIT: u8 = 5;
const TAG_REGROUP: u8 = 6;

impl Wire for PlacementCommand {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            PlacementCommand::Join(groups) => {
                out.push(TAG_JOIN);
                groups.put(out);
            }
            PlacementCommand::Leave(groups) => {
                out.push(TAG_LEAVE);
                groups.put(out);
            }
            PlacementCommand::Move { shard, group } => {
                out.push(TAG_MOVE);
                shard.put(out);
                group.put(out);
            }
            PlacementCommand::Regroup { group, add, remove } => {
                out.push(TAG_REGROUP);
                group.put(out);
                add.put(out);
                remove.put(out);
            }
            PlacementCommand::Rebalance => out.push(TAG_REBALANCE),
            PlacementCommand::Split { parent, child, slot } => {
                out.push(TAG_SPLIT);
                parent.put(out);
                child.put(out);
                put_varint(out, u64::from(*slot));
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("placement command")? {
            TAG_JOIN => PlacementCommand::Join(Wire::take(reader)?),
            TAG_LEAVE => PlacementCommand::Leave(Wire::take(reader)?),
            TAG_MOVE => PlacementCommand::Move {
                shard: Wire::take(reader)?,
                group: Wire::take(reader)?,
            },
            TAG_REBALANCE => PlacementCommand::Rebalance,
            TAG_SPLIT => PlacementCommand::Split {
                parent: ShardId::take(reader)?,
                child: ShardId::take(reader)?,
                slot: reader.narrow("slot")?,
            },
            TAG_REGROUP => PlacementCommand::Regroup {
                group: Wire::take(reader)?,
                add: Wire::take(reader)?,
                remove: Wire::take(reader)?,
            },
            tag => return Err(reader.unknown_tag("placement command", tag)),
        })
    }
}

impl Wire for GroupId {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.varint("group id").map(GroupId)
    }
}

impl Wire for Place {
    const BYTES_MIN: usize = 3;

    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.start_slot));
        put_varint(out, u64::from(self.end_slot));
        self.group.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Place {
            start_slot: reader.narrow("first slot")?,
            end_slot: reader.narrow("end slot")?,
            group: Wire::take(reader)?,
        })
    }
}

impl Wire for Config {
    const BYTES_MIN: usize = 3;

    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.num);
        self.groups.put(out);
        self.shards.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Config {
            num: reader.varint("number of a config")?,
            groups: Wire::take(reader)?,
            shards: Wire::take(reader)?,
        })
    }
}

impl Wire for PlannedMove {
    const BYTES_MIN: usize = 4;

    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        self.from.put(out);
        self.to.put(out);
        put_number(out, self.bytes);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(PlannedMove {
            shard: ShardId::take(reader)?,
            from: Wire::take(reader)?,
            to: Wire::take(reader)?,
            bytes: take_number(reader, "bytes")?,
        })
    }
}

impl Wire for MoveRow {
    const BYTES_MIN: usize = 6;

    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        self.group.put(out);
        for stores in [&self.from, &self.to, &self.ready] {
            put_list(out, stores);
        }
        put_number(out, self.bytes);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(MoveRow {
            shard: ShardId::take(reader)?,
            group: Wire::take(reader)?,
            from: reader.list("stores that go")?,
            to: reader.list("stores that come")?,
            ready: reader.list("stores that have come")?,
            bytes: take_number(reader, "bytes")?,
        })
    }
}

/// The bytes of an answer to [`ControlQuery::Plan`](crate::ControlQuery::Plan).
#[must_use]
pub fn encode_plan(moves: &[PlannedMove]) -> Bytes {
    encode_rows(moves)
}

/// Reads what [`encode_plan`] wrote.
///
/// # Errors
/// Anything but exactly one list, of a version this build knows.
pub fn decode_plan(source: &Bytes) -> Result<Vec<PlannedMove>, DecodeError> {
    decode_rows(source, "plan")
}

/// The bytes of an answer to [`ControlQuery::Moves`](crate::ControlQuery::Moves).
#[must_use]
pub fn encode_moves(moves: &[MoveRow]) -> Bytes {
    encode_rows(moves)
}

/// Reads what [`encode_moves`] wrote.
///
/// # Errors
/// Anything but exactly one list, of a version this build knows.
pub fn decode_moves(source: &Bytes) -> Result<Vec<MoveRow>, DecodeError> {
    decode_rows(source, "moves")
}

impl Wire for Delta {
    const BYTES_MIN: usize = 2;

    fn put(&self, out: &mut Vec<u8>) {
        self.groups.put(out);
        self.shards.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Delta {
            groups: Wire::take(reader)?,
            shards: Wire::take(reader)?,
        })
    }
}

impl<T: Wire> Wire for Option<T> {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        super::writer::put_option(out, self.as_ref());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.option("option")
    }
}

impl<T: Wire + Ord> Wire for BTreeSet<T> {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.len() as u64);
        self.iter().for_each(|item| item.put(out));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let items = reader.list("set")?;
        reader.ascending("set", &items, |item| item)?;
        Ok(items.into_iter().collect())
    }
}

impl<K: Wire + Ord, V: Wire> Wire for BTreeMap<K, V> {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.len() as u64);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let rows = reader.list::<Row<K, V>>("map")?;
        reader.ascending("map", &rows, |row| &row.0)?;
        Ok(rows.into_iter().map(|row| (row.0, row.1)).collect())
    }
}

/// A key and a value of a map.
struct Row<K, V>(K, V);

impl<K: Wire, V: Wire> Wire for Row<K, V> {
    const BYTES_MIN: usize = K::BYTES_MIN + V::BYTES_MIN;

    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Row(K::take(reader)?, V::take(reader)?))
    }
}
