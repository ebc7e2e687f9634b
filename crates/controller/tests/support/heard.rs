//! What stores say of themselves, and of the shards that they lead.

use quorate_proto::{Epoch, Heartbeat, MemberRole, ShardHeartbeat, ShardMember, StoreHeartbeat};
use quorate_raft::{ReplicaId, Term};
use quorate_storage::{Incarnation, ShardId, StoreId};

/// The word of a store under this incarnation that has so many replicas and leads these shards.
pub(crate) fn beat(
    (store, incarnation): (u64, u128),
    seq: u64,
    replicas: u32,
    shards: &[ShardHeartbeat],
) -> Heartbeat {
    Heartbeat {
        seq,
        store: StoreHeartbeat {
            store: StoreId(store),
            incarnation: Incarnation(incarnation),
            process: 1,
            replicas,
            leads: shards.len() as u32,
            available_bytes: None,
            is_full: false,
            is_slow: false,
            tells_after_ms: 3_500,
        },
        shards: shards.to_vec(),
    }
}

/// A shard on these stores, of which the first leads. Replicas have ten times the shard's id and the store's as theirs.
pub(crate) fn shard(
    id: u64,
    (start_slot, end_slot): (u16, u16),
    stores: &[u64],
    version: u64,
) -> ShardHeartbeat {
    let member = |store: &u64| ShardMember {
        replica: ReplicaId(10 * id + store),
        store: StoreId(*store),
        role: MemberRole::Voter,
        is_pending: false,
    };
    ShardHeartbeat {
        shard: ShardId(id),
        start_slot,
        end_slot,
        epoch: Epoch { conf_ver: 1, version },
        term: Term(3),
        leader: ReplicaId(10 * id + stores[0]),
        members: stores.iter().map(member).collect(),
        bytes: None,
        load: None,
    }
}
