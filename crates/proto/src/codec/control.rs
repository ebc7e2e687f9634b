//! Commands of the controller: a tag byte, then the fields in the order of the type.

use bytes::Bytes;
use quorate_storage::{ClusterId, Incarnation, ShardId, StoreId};

use super::writer::{put_bytes, put_i64_le, put_list, put_u128_le, put_varint};
use super::{META_VERSION, Reader, Wire, wire_tags};
use crate::{
    Admission, ControlCommand, ControlQuery, DecodeError, FirstState, Roles, Service, ShardLookup,
    StoreRecord,
};

const TAG_BOOTSTRAP: u8 = 1;
const TAG_ALLOCATE_IDS: u8 = 2;
const TAG_REGISTER: u8 = 3;
const TAG_ADMIT: u8 = 4;
const TAG_SET_STORE: u8 = 5;
const TAG_RESERVE_TIMESTAMPS: u8 = 8;
const TAG_PLACE: u8 = 16;
const TAG_NAME_SPLIT: u8 = 17;
const TAG_RECOVER: u8 = 18;

impl Wire for ControlCommand {
    const BYTES_MIN: usize = 2;

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            ControlCommand::Bootstrap(first) => {
                out.push(TAG_BOOTSTRAP);
                first.put(out);
            }
            ControlCommand::AllocateIds { count } => {
                out.push(TAG_ALLOCATE_IDS);
                put_varint(out, u64::from(*count));
            }
            ControlCommand::Register(record) => {
                out.push(TAG_REGISTER);
                record.put(out);
            }
            ControlCommand::Admit(record) => {
                out.push(TAG_ADMIT);
                record.put(out);
            }
            ControlCommand::SetStore { store, service } => {
                out.push(TAG_SET_STORE);
                store.put(out);
                service.put(out);
            }
            ControlCommand::ReserveTimestamps { term, above } => {
                out.push(TAG_RESERVE_TIMESTAMPS);
                term.put(out);
                put_varint(out, *above);
            }
            ControlCommand::Place(command) => {
                out.push(TAG_PLACE);
                command.put(out);
            }
            ControlCommand::Recover { lost, shards } => {
                out.push(TAG_RECOVER);
                lost.put(out);
                put_list(out, shards);
            }
            ControlCommand::NameSplit { shard, epoch, count } => {
                out.push(TAG_NAME_SPLIT);
                shard.put(out);
                epoch.put(out);
                put_varint(out, u64::from(*count));
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("controller command")? {
            TAG_BOOTSTRAP => ControlCommand::Bootstrap(FirstState::take(reader)?),
            TAG_ALLOCATE_IDS => ControlCommand::AllocateIds {
                count: reader.narrow("number of ids")?,
            },
            TAG_REGISTER => ControlCommand::Register(StoreRecord::take(reader)?),
            TAG_ADMIT => ControlCommand::Admit(StoreRecord::take(reader)?),
            TAG_SET_STORE => ControlCommand::SetStore {
                store: StoreId::take(reader)?,
                service: Service::take(reader)?,
            },
            TAG_RESERVE_TIMESTAMPS => ControlCommand::ReserveTimestamps {
                term: Wire::take(reader)?,
                above: reader.varint("end of the timestamps")?,
            },
            TAG_PLACE => ControlCommand::Place(Wire::take(reader)?),
            TAG_RECOVER => ControlCommand::Recover {
                lost: Wire::take(reader)?,
                shards: reader.list("recoveries")?,
            },
            TAG_NAME_SPLIT => ControlCommand::NameSplit {
                shard: ShardId::take(reader)?,
                epoch: Wire::take(reader)?,
                count: reader.narrow("number of ids")?,
            },
            tag => return Err(reader.unknown_tag("controller command", tag)),
        })
    }
}

impl Wire for FirstState {
    const BYTES_MIN: usize = 20;

    fn put(&self, out: &mut Vec<u8>) {
        put_u128_le(out, self.cluster.0);
        put_list(out, &self.stores);
        put_varint(out, u64::from(self.shards));
        put_varint(out, u64::from(self.replicas));
        put_varint(out, self.next_id);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(FirstState {
            cluster: ClusterId(reader.u128_le("cluster")?),
            stores: reader.list("stores")?,
            shards: reader.narrow("shards")?,
            replicas: reader.narrow("replicas")?,
            next_id: reader.varint("next id")?,
        })
    }
}

impl Wire for StoreRecord {
    const BYTES_MIN: usize = 22;

    fn put(&self, out: &mut Vec<u8>) {
        self.store.put(out);
        put_u128_le(out, self.incarnation.0);
        for address in [&self.client, &self.peer, &self.http] {
            put_bytes(out, address);
        }
        self.labels.put(out);
        self.roles.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(StoreRecord {
            store: StoreId::take(reader)?,
            incarnation: Incarnation(reader.u128_le("incarnation")?),
            client: reader.bytes("client address")?,
            peer: reader.bytes("peer address")?,
            http: reader.bytes("HTTP address")?,
            labels: Wire::take(reader)?,
            roles: Wire::take(reader)?,
        })
    }
}

const ROLE_CONTROLLER: u8 = 1;
const ROLE_STORE: u8 = 2;

impl Wire for Roles {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        let bit = |has: bool, role: u8| if has { role } else { 0 };
        out.push(bit(self.controller, ROLE_CONTROLLER) | bit(self.store, ROLE_STORE));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8("roles")? {
            bits @ 1..=3 => Ok(Roles {
                controller: bits & ROLE_CONTROLLER != 0,
                store: bits & ROLE_STORE != 0,
            }),
            bits => Err(reader.unknown_tag("roles", bits)),
        }
    }
}

impl Wire for Admission {
    const BYTES_MIN: usize = 18;

    fn put(&self, out: &mut Vec<u8>) {
        put_u128_le(out, self.cluster.0);
        self.store.put(out);
        put_list(out, &self.stores);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Admission {
            cluster: ClusterId(reader.u128_le("cluster")?),
            store: StoreId::take(reader)?,
            stores: reader.list("stores")?,
        })
    }
}

wire_tags!(Service, "store's service", { Active = 1, Draining = 2, Removed = 3 });

const TAG_STORES: u8 = 1;
const TAG_SHARDS: u8 = 2;
const TAG_CONFIG: u8 = 3;
const TAG_PLAN: u8 = 4;
const TAG_MOVES: u8 = 5;
const TAG_FIND_SHARDS: u8 = 6;
const TAG_FIND_STORE: u8 = 7;
const TAG_LOSSES: u8 = 8;

impl Wire for ControlQuery {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            ControlQuery::Stores => out.push(TAG_STORES),
            ControlQuery::Shards => out.push(TAG_SHARDS),
            ControlQuery::Config { num } => {
                out.push(TAG_CONFIG);
                put_i64_le(out, *num);
            }
            ControlQuery::Plan(command) => {
                out.push(TAG_PLAN);
                command.put(out);
            }
            ControlQuery::Moves => out.push(TAG_MOVES),
            ControlQuery::FindShards(lookup) => {
                out.push(TAG_FIND_SHARDS);
                lookup.put(out);
            }
            ControlQuery::Losses { lost } => {
                out.push(TAG_LOSSES);
                lost.put(out);
            }
            ControlQuery::FindStore(store) => {
                out.push(TAG_FIND_STORE);
                store.put(out);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("controller query")? {
            TAG_STORES => ControlQuery::Stores,
            TAG_SHARDS => ControlQuery::Shards,
            TAG_CONFIG => ControlQuery::Config {
                num: reader.i64_le("number of a config")?,
            },
            TAG_PLAN => ControlQuery::Plan(Wire::take(reader)?),
            TAG_MOVES => ControlQuery::Moves,
            TAG_FIND_SHARDS => ControlQuery::FindShards(Wire::take(reader)?),
            TAG_LOSSES => ControlQuery::Losses {
                lost: Wire::take(reader)?,
            },
            TAG_FIND_STORE => ControlQuery::FindStore(StoreId::take(reader)?),
            tag => return Err(reader.unknown_tag("controller query", tag)),
        })
    }
}

const TAG_ID: u8 = 1;
const TAG_AT: u8 = 2;
const TAG_BEFORE: u8 = 3;
const TAG_FROM: u8 = 4;

impl Wire for ShardLookup {
    const BYTES_MIN: usize = 2;

    fn put(&self, out: &mut Vec<u8>) {
        let (tag, slot) = match self {
            ShardLookup::Id(shard) => {
                out.push(TAG_ID);
                return shard.put(out);
            }
            ShardLookup::At { slot } => (TAG_AT, slot),
            ShardLookup::Before { slot } => (TAG_BEFORE, slot),
            ShardLookup::From { slot, .. } => (TAG_FROM, slot),
        };
        out.push(tag);
        put_varint(out, u64::from(*slot));
        if let ShardLookup::From { limit, .. } = self {
            put_varint(out, u64::from(*limit));
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const SLOT: &str = "slot";
        Ok(match reader.u8("shard lookup")? {
            TAG_ID => ShardLookup::Id(ShardId::take(reader)?),
            TAG_AT => ShardLookup::At {
                slot: reader.narrow(SLOT)?,
            },
            TAG_BEFORE => ShardLookup::Before {
                slot: reader.narrow(SLOT)?,
            },
            TAG_FROM => ShardLookup::From {
                slot: reader.narrow(SLOT)?,
                limit: reader.narrow("number of shards")?,
            },
            tag => return Err(reader.unknown_tag("shard lookup", tag)),
        })
    }
}

/// The bytes of an answer to [`ControlCommand::Register`]: a version byte and the list.
#[must_use]
pub fn encode_stores(stores: &[StoreRecord]) -> Bytes {
    let mut out = vec![META_VERSION];
    put_list(&mut out, stores);
    out.into()
}

/// Reads what [`encode_stores`] wrote; byte strings in it are slices of `source`.
///
/// # Errors
/// Anything but exactly one list, of a version this build knows.
pub fn decode_stores(source: &Bytes) -> Result<Vec<StoreRecord>, DecodeError> {
    let mut reader = Reader::new(source);
    reader.version("stores version", META_VERSION)?;
    let stores = reader.list("stores")?;
    reader.finish("stores")?;
    Ok(stores)
}
