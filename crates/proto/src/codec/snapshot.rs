//! Snapshots: who sends them, chunks and their acknowledgements.

use quorate_raft::{Index, ReplicaId, SnapshotMeta, Term};
use quorate_storage::ShardId;

use super::writer::{put_bytes, put_u64_le, put_varint};
use super::{Reader, Wire};
use crate::{
    DecodeError, Epoch, Membership, SnapshotAck, SnapshotChunk, SnapshotHeader, SnapshotReport,
    SnapshotRequest, SnapshotState,
};

const STATE_FEEDING: u8 = 1;
const STATE_DELIVERED: u8 = 2;
const STATE_REFUSED: u8 = 3;

impl Wire for SnapshotHeader {
    const BYTES_MIN: usize = SnapshotMeta::BYTES_MIN + Epoch::BYTES_MIN + Membership::BYTES_MIN + 12;
    fn put(&self, out: &mut Vec<u8>) {
        self.meta.put(out);
        self.term.put(out);
        self.leader.put(out);
        self.epoch.put(out);
        put_varint(out, u64::from(self.start_slot));
        put_varint(out, u64::from(self.end_slot));
        put_u64_le(out, self.stamp_ms);
        self.membership.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(SnapshotHeader {
            meta: SnapshotMeta::take(reader)?,
            term: Term::take(reader)?,
            leader: ReplicaId::take(reader)?,
            epoch: Epoch::take(reader)?,
            start_slot: reader.narrow("start slot")?,
            end_slot: reader.narrow("end slot")?,
            stamp_ms: reader.u64_le("snapshot stamp")?,
            membership: Membership::take(reader)?,
        })
    }
}

impl Wire for SnapshotChunk {
    const BYTES_MIN: usize = SnapshotHeader::BYTES_MIN + 11;
    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        self.from.put(out);
        self.to.put(out);
        put_varint(out, self.id);
        put_varint(out, u64::from(self.seq));
        self.header.put(out);
        put_bytes(out, &self.pairs);
        out.extend_from_slice(&self.crc.to_le_bytes());
        out.push(u8::from(self.last));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(SnapshotChunk {
            shard: ShardId::take(reader)?,
            from: ReplicaId::take(reader)?,
            to: ReplicaId::take(reader)?,
            id: reader.varint("snapshot id")?,
            seq: reader.narrow("chunk seq")?,
            header: SnapshotHeader::take(reader)?,
            pairs: reader.bytes("chunk pairs")?,
            crc: reader.u32_le("chunk crc")?,
            last: reader.bool("chunk last")?,
        })
    }
}

impl Wire for SnapshotAck {
    const BYTES_MIN: usize = 6;
    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        self.from.put(out);
        self.to.put(out);
        put_varint(out, self.id);
        out.push(u8::from(self.next.is_some()));
        if let Some(next) = self.next {
            put_varint(out, u64::from(next));
        }
        out.push(u8::from(self.done));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(SnapshotAck {
            shard: ShardId::take(reader)?,
            from: ReplicaId::take(reader)?,
            to: ReplicaId::take(reader)?,
            id: reader.varint("snapshot id")?,
            next: if reader.bool("next chunk")? {
                Some(reader.narrow("next chunk")?)
            } else {
                None
            },
            done: reader.bool("snapshot done")?,
        })
    }
}

impl Wire for SnapshotRequest {
    const BYTES_MIN: usize = 7;
    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        self.from.put(out);
        self.to.put(out);
        self.target.put(out);
        put_varint(out, self.id);
        self.term.put(out);
        self.index.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(SnapshotRequest {
            shard: ShardId::take(reader)?,
            from: ReplicaId::take(reader)?,
            to: ReplicaId::take(reader)?,
            target: ReplicaId::take(reader)?,
            id: reader.varint("snapshot request id")?,
            term: Term::take(reader)?,
            index: Index::take(reader)?,
        })
    }
}

impl Wire for SnapshotReport {
    const BYTES_MIN: usize = 6;
    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        self.from.put(out);
        self.to.put(out);
        self.target.put(out);
        put_varint(out, self.id);
        out.push(match self.state {
            SnapshotState::Feeding => STATE_FEEDING,
            SnapshotState::Delivered => STATE_DELIVERED,
            SnapshotState::Refused => STATE_REFUSED,
        });
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(SnapshotReport {
            shard: ShardId::take(reader)?,
            from: ReplicaId::take(reader)?,
            to: ReplicaId::take(reader)?,
            target: ReplicaId::take(reader)?,
            id: reader.varint("snapshot request id")?,
            state: match reader.u8("snapshot state")? {
                STATE_FEEDING => SnapshotState::Feeding,
                STATE_DELIVERED => SnapshotState::Delivered,
                STATE_REFUSED => SnapshotState::Refused,
                tag => return Err(reader.unknown_tag("snapshot state", tag)),
            },
        })
    }
}
