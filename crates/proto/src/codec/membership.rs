//! Who holds a shard: stored, in snapshots, and told from node to node.

use quorate_raft::{ReplicaId, Term};
use quorate_storage::{ShardId, StoreId};

use super::writer::{put_list, put_option, put_u64_le, put_varint};
use super::{Reader, Wire};
use crate::{DecodeError, Epoch, Manage, Membership, ShardInfo, SplitIds};

const MANAGE_CHANGE: u8 = 1;
const MANAGE_ABORT: u8 = 2;
const MANAGE_TRANSFER: u8 = 3;
const MANAGE_SPLIT: u8 = 4;

/// A replica and its store.
impl Wire for (ReplicaId, StoreId) {
    const BYTES_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((ReplicaId::take(reader)?, StoreId::take(reader)?))
    }
}

impl Wire for Membership {
    const BYTES_MIN: usize = 4;
    fn put(&self, out: &mut Vec<u8>) {
        put_list(out, &self.members);
        put_list(out, &self.wanted);
        put_list(out, &self.before);
        self.last_replica.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Membership {
            members: reader.list("members")?,
            wanted: reader.list("wanted members")?,
            before: reader.list("earlier members")?,
            last_replica: ReplicaId::take(reader)?,
        })
    }
}

impl Wire for Manage {
    const BYTES_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Manage::Change { add, remove } => {
                out.push(MANAGE_CHANGE);
                put_list(out, add);
                put_list(out, remove);
            }
            Manage::Abort => out.push(MANAGE_ABORT),
            Manage::Transfer { to } => {
                out.push(MANAGE_TRANSFER);
                to.put(out);
            }
            Manage::Split { slot, ids } => {
                out.push(MANAGE_SPLIT);
                put_option(out, slot.map(Slot).as_ref());
                put_option(out, ids.as_ref());
            }
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("wish about replicas")? {
            MANAGE_CHANGE => Manage::Change {
                add: reader.list("stores to add")?,
                remove: reader.list("stores to remove")?,
            },
            MANAGE_ABORT => Manage::Abort,
            MANAGE_TRANSFER => Manage::Transfer {
                to: StoreId::take(reader)?,
            },
            MANAGE_SPLIT => Manage::Split {
                slot: reader.option::<Slot>("slot of a split")?.map(|slot| slot.0),
                ids: reader.option("ids for a split")?,
            },
            tag => return Err(reader.unknown_tag("wish about replicas", tag)),
        })
    }
}

struct Slot(u16);

impl Wire for Slot {
    const BYTES_MIN: usize = 1;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, u64::from(self.0));
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        reader.narrow("slot").map(Slot)
    }
}

impl Wire for SplitIds {
    const BYTES_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        self.child.put(out);
        put_list(out, &self.replicas);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(SplitIds {
            child: ShardId::take(reader)?,
            replicas: reader.list("replica ids")?,
        })
    }
}

impl Wire for ShardInfo {
    const BYTES_MIN: usize = 15 + Membership::BYTES_MIN;
    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        put_varint(out, u64::from(self.start_slot));
        put_varint(out, u64::from(self.end_slot));
        self.epoch.put(out);
        self.membership.put(out);
        put_option(out, self.leader.as_ref());
        self.term.put(out);
        put_u64_le(out, self.session_ms);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(ShardInfo {
            shard: ShardId::take(reader)?,
            start_slot: reader.narrow("start slot")?,
            end_slot: reader.narrow("end slot")?,
            epoch: Epoch::take(reader)?,
            membership: Membership::take(reader)?,
            leader: reader.option("leader")?,
            term: Term::take(reader)?,
            session_ms: reader.u64_le("session time")?,
        })
    }
}
