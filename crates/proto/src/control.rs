//! What is asked of the controller, the state machine of shard 0.

use bytes::Bytes;
use quorate_storage::{ClusterId, Incarnation, StoreId};

use crate::PlacementCommand;

/// A write on the controller's state, as shard 0's log carries it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControlCommand {
    /// The cluster begins. Answers Ok; refused if it has begun already (PS-08).
    Bootstrap(FirstState),
    /// Takes ids that were never given out before, one after the other. Answers the first
    /// ([`Answer::Int`](crate::Answer::Int)). Shards and replicas are named by such ids.
    AllocateIds {
        /// How many, 1 to [`IDS_MAX`].
        count: u32,
    },
    /// A store says at each start, and now and then, who it is and where it can be reached. Answers all stores that have
    /// registered, in the order of their ids: a [`Bulk`](crate::Answer::Bulk) for
    /// [`decode_stores`](crate::decode_stores); refused for a store that has no id
    /// of this cluster, and for another incarnation than the first that the id was seen with (P7).
    Register(StoreRecord),
    /// A new store asks for an id, and gets it for good: asked again by the same incarnation, it is the same. The
    /// record's [`store`](StoreRecord::store) is 0, for it has none yet. It is put into the only group, if there is but
    /// one. Answers an [`Admission`] ([`Answer::Bulk`](crate::Answer::Bulk)).
    Admit(StoreRecord),
    /// Which group is to hold which shard. Answers the number of the newest config ([`Answer::Int`](crate::Answer::Int)).
    Place(PlacementCommand),
}

/// A read of the controller's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlQuery {
    /// Every store that has registered and how it was heard, in the order of their ids: a
    /// [`Bulk`](crate::Answer::Bulk) for [`decode_store_rows`](crate::decode_store_rows).
    Stores,
    /// Every shard that its leader has told of since the controller's was elected, by slot: a
    /// [`Bulk`](crate::Answer::Bulk) for [`decode_shards`](crate::decode_shards).
    Shards,
}

/// A store as the controller knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreRecord {
    /// The store.
    pub store: StoreId,
    /// Its formatting (P7).
    pub incarnation: Incarnation,
    /// Where clients reach it: at most [`ADDRESS_BYTES_MAX`], like the others.
    pub client: Bytes,
    /// Where other nodes reach it.
    pub peer: Bytes,
    /// Where tools reach it.
    pub http: Bytes,
}

/// What a new store is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admission {
    /// The cluster.
    pub cluster: ClusterId,
    /// The store's id.
    pub store: StoreId,
    /// All stores that have registered, this one too, in the order of their ids.
    pub stores: Vec<StoreRecord>,
}

/// Bytes of an address in a [`StoreRecord`].
pub const ADDRESS_BYTES_MAX: usize = 300;

/// The most ids that one command may take.
pub const IDS_MAX: u32 = 1 << 16;

/// What a cluster begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FirstState {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its stores, in ascending order.
    pub stores: Vec<StoreId>,
    /// Data shards, 1 to 16384.
    pub shards: u16,
    /// Replicas that each of them is to have, 1 to 9.
    pub replicas: u8,
    /// The least id that neither a shard nor a replica nor a store has.
    pub next_id: u64,
}
