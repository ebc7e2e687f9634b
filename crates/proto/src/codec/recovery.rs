//! What is left of shards that lost their majority.

use bytes::Bytes;
use quorate_raft::{Index, ReplicaId, Term};
use quorate_storage::{ShardId, StoreId};

use super::heartbeat::{decode_rows, encode_rows, put_number, take_number};
use super::writer::{put_list, put_option, put_varint};
use super::{Reader, Wire};
use crate::{DecodeError, Epoch, Left, LossRow, Recovery, Survivor};

impl Wire for (Index, Term) {
    const BYTES_MIN: usize = 2;

    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((Index::take(reader)?, Term::take(reader)?))
    }
}

fn put_slots(out: &mut Vec<u8>, start_slot: u16, end_slot: u16) {
    put_varint(out, u64::from(start_slot));
    put_varint(out, u64::from(end_slot));
}

impl Wire for Survivor {
    const BYTES_MIN: usize = 20;

    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        self.replica.put(out);
        put_slots(out, self.start_slot, self.end_slot);
        self.epoch.put(out);
        self.known.put(out);
        put_list(out, &self.members);
        put_list(out, &self.removed);
        self.last_replica.put(out);
        self.term.put(out);
        self.commit.put(out);
        self.last.put(out);
        put_list(out, &self.runs);
        put_number(out, self.heard.map(|index| index.0));
        put_number(out, self.silent_ms);
        put_varint(out, self.sessions);
        out.push(u8::from(self.is_unfit));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Survivor {
            shard: ShardId::take(reader)?,
            replica: ReplicaId::take(reader)?,
            start_slot: reader.narrow("first slot")?,
            end_slot: reader.narrow("end slot")?,
            epoch: Epoch::take(reader)?,
            known: Epoch::take(reader)?,
            members: reader.list("members")?,
            removed: reader.list("removed members")?,
            last_replica: ReplicaId::take(reader)?,
            term: Term::take(reader)?,
            commit: Index::take(reader)?,
            last: Index::take(reader)?,
            runs: reader.list("runs of terms")?,
            heard: take_number(reader, "index heard of")?.map(Index),
            silent_ms: take_number(reader, "silence")?,
            sessions: reader.varint("sessions")?,
            is_unfit: reader.bool("is unfit")?,
        })
    }
}

impl Wire for Left {
    const BYTES_MIN: usize = 3;

    fn put(&self, out: &mut Vec<u8>) {
        self.commit.put(out);
        self.last.put(out);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Left {
            commit: Index::take(reader)?,
            last: Wire::take(reader)?,
        })
    }
}

impl Wire for Recovery {
    const BYTES_MIN: usize = 10;

    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        self.replica.put(out);
        self.store.put(out);
        put_slots(out, self.start_slot, self.end_slot);
        self.epoch.put(out);
        self.term.put(out);
        self.last_replica.put(out);
        put_option(out, self.left.as_ref());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Recovery {
            shard: ShardId::take(reader)?,
            replica: ReplicaId::take(reader)?,
            store: StoreId::take(reader)?,
            start_slot: reader.narrow("first slot")?,
            end_slot: reader.narrow("end slot")?,
            epoch: Epoch::take(reader)?,
            term: Term::take(reader)?,
            last_replica: ReplicaId::take(reader)?,
            left: reader.option("what is left")?,
        })
    }
}

impl Wire for LossRow {
    const BYTES_MIN: usize = 10;

    fn put(&self, out: &mut Vec<u8>) {
        put_option(out, self.recovery.as_ref());
        self.shard.put(out);
        put_slots(out, self.start_slot, self.end_slot);
        put_list(out, &self.survivors);
        put_number(out, self.heard.map(|index| index.0));
        put_number(out, self.silent_ms);
        put_varint(out, self.sessions);
        put_number(out, self.conf_ver);
        put_number(out, self.known_conf_ver);
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(LossRow {
            recovery: reader.option("recovery")?,
            shard: ShardId::take(reader)?,
            start_slot: reader.narrow("first slot")?,
            end_slot: reader.narrow("end slot")?,
            survivors: reader.list("survivors")?,
            heard: take_number(reader, "index heard of")?.map(Index),
            silent_ms: take_number(reader, "silence")?,
            sessions: reader.varint("sessions")?,
            conf_ver: take_number(reader, "applied membership version")?,
            known_conf_ver: take_number(reader, "known membership version")?,
        })
    }
}

/// The bytes of an answer to [`ControlQuery::Losses`](crate::ControlQuery::Losses).
#[must_use]
pub fn encode_losses(losses: &[LossRow]) -> Bytes {
    encode_rows(losses)
}

/// Reads what [`encode_losses`] wrote.
///
/// # Errors
/// Anything but exactly one list, of a version this build knows.
pub fn decode_losses(source: &Bytes) -> Result<Vec<LossRow>, DecodeError> {
    decode_rows(source, "losses")
}
