//! Groups, and changes of configs. Maps and sets are lists in strictly ascending order.

use std::collections::{BTreeMap, BTreeSet};

use quorate_storage::ShardId;

use super::writer::put_varint;
use super::{Reader, Wire};
use crate::{DecodeError, Delta, GroupId, Place, PlacementCommand};

const TAG_JOIN: u8 = 1;
const TAG_LEAVE: u8 = 2;
const TAG_MOVE: u8 = 3;
const TAG_REBALANCE: u8 = 4;
const TAG_SPLIT: u8 = 5;

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
