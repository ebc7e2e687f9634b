//! Heartbeats, and what is answered out of them.

use bytes::Bytes;
use quorate_raft::{ReplicaId, Term};
use quorate_storage::{Incarnation, ShardId, StoreId};

use super::writer::{put_list, put_option, put_u64_le, put_u128_le, put_varint};
use super::{META_VERSION, Reader, Wire, wire_tags};
use crate::{
    DecodeError, Epoch, HEARTBEAT_SHARDS_MAX, Heartbeat, HeartbeatAnswer, Manage, MemberRole, ORDERS_MAX,
    Order, Service, ShardHeartbeat, ShardMember, ShardRow, StoreCounts, StoreHeartbeat, StoreRecord,
    StoreRow, StoreState,
};

pub(super) fn put_number(out: &mut Vec<u8>, number: Option<u64>) {
    out.push(u8::from(number.is_some()));
    if let Some(number) = number {
        put_varint(out, number);
    }
}

pub(super) fn take_number(reader: &mut Reader<'_>, what: &'static str) -> Result<Option<u64>, DecodeError> {
    Ok(match reader.bool(what)? {
        true => Some(reader.varint(what)?),
        false => None,
    })
}

impl Wire for Heartbeat {
    const BYTES_MIN: usize = StoreHeartbeat::BYTES_MIN + 2;

    fn put(&self, out: &mut Vec<u8>) {
        debug_assert!(self.shards.len() <= HEARTBEAT_SHARDS_MAX);
        put_varint(out, self.seq);
        self.store.put(out);
        put_list(out, &self.shards);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Heartbeat {
            seq: reader.varint("heartbeat")?,
            store: StoreHeartbeat::take(reader)?,
            shards: reader.list("shard heartbeats")?,
        })
    }
}

impl Wire for StoreHeartbeat {
    const BYTES_MIN: usize = 31;

    fn put(&self, out: &mut Vec<u8>) {
        self.store.put(out);
        put_u128_le(out, self.incarnation.0);
        put_u64_le(out, self.process);
        put_varint(out, u64::from(self.replicas));
        put_varint(out, u64::from(self.leads));
        put_number(out, self.available_bytes);
        out.push(u8::from(self.is_full));
        out.push(u8::from(self.is_slow));
        put_varint(out, self.tells_after_ms);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(StoreHeartbeat {
            store: StoreId::take(reader)?,
            incarnation: Incarnation(reader.u128_le("incarnation")?),
            process: reader.u64_le("process")?,
            replicas: reader.narrow("number of replicas")?,
            leads: reader.narrow("number of shards led")?,
            available_bytes: take_number(reader, "available bytes")?,
            is_full: reader.bool("is full")?,
            is_slow: reader.bool("is slow")?,
            tells_after_ms: reader.varint("time until it tells")?,
        })
    }
}

impl Wire for ShardHeartbeat {
    const BYTES_MIN: usize = 10;

    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        put_varint(out, u64::from(self.start_slot));
        put_varint(out, u64::from(self.end_slot));
        self.epoch.put(out);
        self.term.put(out);
        self.leader.put(out);
        put_list(out, &self.members);
        put_number(out, self.bytes);
        put_number(out, self.load);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ShardHeartbeat {
            shard: ShardId::take(reader)?,
            start_slot: reader.narrow("first slot")?,
            end_slot: reader.narrow("end slot")?,
            epoch: Epoch::take(reader)?,
            term: Term::take(reader)?,
            leader: ReplicaId::take(reader)?,
            members: reader.list("members")?,
            bytes: take_number(reader, "bytes")?,
            load: take_number(reader, "load")?,
        })
    }
}

impl Wire for ShardMember {
    const BYTES_MIN: usize = 4;

    fn put(&self, out: &mut Vec<u8>) {
        self.replica.put(out);
        self.store.put(out);
        self.role.put(out);
        out.push(u8::from(self.is_pending));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ShardMember {
            replica: ReplicaId::take(reader)?,
            store: StoreId::take(reader)?,
            role: MemberRole::take(reader)?,
            is_pending: reader.bool("is pending")?,
        })
    }
}

wire_tags!(MemberRole, "member's role", { Voter = 1, Learner = 2, Incoming = 3, Outgoing = 4 });

impl Wire for HeartbeatAnswer {
    const BYTES_MIN: usize = 11;

    fn put(&self, out: &mut Vec<u8>) {
        debug_assert!(self.orders.len() <= ORDERS_MAX);
        put_u64_le(out, self.process);
        put_varint(out, self.seq);
        self.term.put(out);
        put_list(out, &self.orders);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(HeartbeatAnswer {
            process: reader.u64_le("process")?,
            seq: reader.varint("heartbeat")?,
            term: Term::take(reader)?,
            orders: reader.list("orders")?,
        })
    }
}

impl Wire for Order {
    const BYTES_MIN: usize = 1 + Epoch::BYTES_MIN + Manage::BYTES_MIN;

    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        self.epoch.put(out);
        self.wish.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Order {
            shard: ShardId::take(reader)?,
            epoch: Epoch::take(reader)?,
            wish: Manage::take(reader)?,
        })
    }
}

wire_tags!(StoreState, "store's state", { Up = 1, Unheard = 2, Down = 3 });

impl Wire for StoreCounts {
    const BYTES_MIN: usize = 5;

    fn put(&self, out: &mut Vec<u8>) {
        for count in [self.replicas, self.learners, self.pending, self.leads] {
            put_varint(out, u64::from(count));
        }
        put_varint(out, self.bytes);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(StoreCounts {
            replicas: reader.narrow("replicas")?,
            learners: reader.narrow("learners")?,
            pending: reader.narrow("pending replicas")?,
            leads: reader.narrow("shards led")?,
            bytes: reader.varint("bytes")?,
        })
    }
}

impl Wire for StoreRow {
    const BYTES_MIN: usize = StoreRecord::BYTES_MIN + StoreCounts::BYTES_MIN + 4;

    fn put(&self, out: &mut Vec<u8>) {
        self.record.put(out);
        self.service.put(out);
        self.state.put(out);
        put_varint(out, self.silent_ms);
        put_option(out, self.last.as_ref());
        self.counts.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(StoreRow {
            record: StoreRecord::take(reader)?,
            service: Service::take(reader)?,
            state: StoreState::take(reader)?,
            silent_ms: reader.varint("silence")?,
            last: reader.option("store's heartbeat")?,
            counts: StoreCounts::take(reader)?,
        })
    }
}

impl Wire for ShardRow {
    const BYTES_MIN: usize = ShardHeartbeat::BYTES_MIN + 1;

    fn put(&self, out: &mut Vec<u8>) {
        self.last.put(out);
        put_varint(out, self.age_ms);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ShardRow {
            last: ShardHeartbeat::take(reader)?,
            age_ms: reader.varint("age")?,
        })
    }
}

/// An answer to a [`ControlQuery`](crate::ControlQuery): a version byte and the list.
pub(super) fn encode_rows<T: Wire>(rows: &[T]) -> Bytes {
    let mut out = vec![META_VERSION];
    put_list(&mut out, rows);
    out.into()
}

pub(super) fn decode_rows<T: Wire>(source: &Bytes, what: &'static str) -> Result<Vec<T>, DecodeError> {
    let mut reader = Reader::new(source);
    reader.version("version of an answer", META_VERSION)?;
    let rows = reader.list(what)?;
    reader.finish(what)?;
    Ok(rows)
}

/// The bytes of an answer to [`ControlQuery::Stores`](crate::ControlQuery::Stores).
#[must_use]
pub fn encode_store_rows(stores: &[StoreRow]) -> Bytes {
    encode_rows(stores)
}

/// Reads what [`encode_store_rows`] wrote; byte strings in it are slices of `source`.
///
/// # Errors
/// Anything but exactly one list, of a version this build knows.
pub fn decode_store_rows(source: &Bytes) -> Result<Vec<StoreRow>, DecodeError> {
    decode_rows(source, "stores")
}

/// The bytes of an answer to [`ControlQuery::Shards`](crate::ControlQuery::Shards).
#[must_use]
pub fn encode_shards(shards: &[ShardRow]) -> Bytes {
    encode_rows(shards)
}

/// Reads what [`encode_shards`] wrote.
///
/// # Errors
/// Anything but exactly one list, of a version this build knows.
pub fn decode_shards(source: &Bytes) -> Result<Vec<ShardRow>, DecodeError> {
    decode_rows(source, "shards")
}
