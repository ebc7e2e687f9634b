//! What stores and replicas tell each other about their own state, outside consensus.

use quorate_raft::{ReplicaId, Term};
use quorate_storage::ShardId;

use super::writer::{put_u64_le, put_varint};
use super::{Reader, Wire};
use crate::{DecodeError, StoreHealth, TermAnswer, TermQuery};

impl Wire for TermQuery {
    const BYTES_MIN: usize = 11;
    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        self.from.put(out);
        self.to.put(out);
        put_u64_le(out, self.process);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(TermQuery {
            shard: ShardId::take(reader)?,
            from: ReplicaId::take(reader)?,
            to: ReplicaId::take(reader)?,
            process: reader.u64_le("process")?,
        })
    }
}

impl Wire for TermAnswer {
    const BYTES_MIN: usize = 14;
    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        self.from.put(out);
        self.to.put(out);
        put_u64_le(out, self.process);
        self.term.put(out);
        put_varint(out, self.conf_ver);
        out.push(u8::from(self.is_sound));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(TermAnswer {
            shard: ShardId::take(reader)?,
            from: ReplicaId::take(reader)?,
            to: ReplicaId::take(reader)?,
            process: reader.u64_le("process")?,
            term: Term::take(reader)?,
            conf_ver: reader.varint("conf_ver")?,
            is_sound: reader.bool("is sound")?,
        })
    }
}

impl Wire for StoreHealth {
    const BYTES_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.is_full));
        out.push(u8::from(self.is_slow));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(StoreHealth {
            is_full: reader.bool("is full")?,
            is_slow: reader.bool("is slow")?,
        })
    }
}
