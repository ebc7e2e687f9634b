//! What is asked of the controller, the state machine of shard 0.

use quorate_storage::{ClusterId, StoreId};

/// A write on the controller's state, as shard 0's log carries it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ControlCommand {
    /// The cluster begins. Answers Ok; refused if it has begun already (PS-08).
    Bootstrap(FirstState),
    /// Takes ids that were never given out before, one after the other. Answers the first
    /// ([`Answer::Int`](crate::Answer::Int)). Shards, replicas and stores are all named by such ids.
    AllocateIds {
        /// How many, 1 to [`IDS_MAX`].
        count: u32,
    },
}

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
