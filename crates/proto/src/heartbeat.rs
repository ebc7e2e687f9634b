//! What stores tell the controller's leader again and again: how they are, and how the shards are that they lead.
//!
//! All of it is word of mouth: it may be old, and whoever says it may be deposed and not know. Nothing that must not go
//! wrong is decided by it; it tells schedulers and operators where to look.

use quorate_raft::{ReplicaId, Term};
use quorate_storage::{Incarnation, ShardId, StoreId};

use crate::{Epoch, Manage, Service, StoreRecord};

/// Orders in one [`HeartbeatAnswer`], at most; the others come with the next one.
pub const ORDERS_MAX: usize = 64;
/// Shards in one [`Heartbeat`], at most; with more, the store sends the next one when this one is answered.
pub const HEARTBEAT_SHARDS_MAX: usize = 512;

/// A store's word to the controller's leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// Counted by the sending process from 1; of two, the higher is the newer.
    pub seq: u64,
    /// How the store is.
    pub store: StoreHeartbeat,
    /// Shards led there: those of which there is news, and now and then each, so that nothing is lost for good. At most
    /// [`HEARTBEAT_SHARDS_MAX`].
    pub shards: Vec<ShardHeartbeat>,
}

/// How a store is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreHeartbeat {
    /// The store.
    pub store: StoreId,
    /// Its formatting (P7).
    pub incarnation: Incarnation,
    /// Its process: another number after each start (Z2).
    pub process: u64,
    /// Replicas that it holds, the controller's included.
    pub replicas: u32,
    /// Shards that it leads, the controller's included.
    pub leads: u32,
    /// Bytes that its disk has left, if known.
    pub available_bytes: Option<u64>,
    /// It has too little space left (H1), and takes nothing that needs some.
    pub is_full: bool,
    /// Its disk does not keep up (H2).
    pub is_slow: bool,
    /// Milliseconds for which a replica there may hear no leader, at most, until it has told so (a
    /// [`Survivor`](crate::Survivor)).
    pub tells_after_ms: u64,
}

/// How a shard is, by its leader's word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardHeartbeat {
    /// The shard.
    pub shard: ShardId,
    /// First slot; shard 0 has none (start = end).
    pub start_slot: u16,
    /// The slot behind the last.
    pub end_slot: u16,
    /// As of this version.
    pub epoch: Epoch,
    /// The leader's term.
    pub term: Term,
    /// The replica that leads; one of `members`.
    pub leader: ReplicaId,
    /// Who holds the shard, sorted by replica.
    pub members: Vec<ShardMember>,
    /// Bytes of keys and values, roughly; none while the leader has not counted them.
    pub bytes: Option<u64>,
    /// Reads and writes that the leader took in a second, lately; none while it has not led for long enough to know.
    pub load: Option<u64>,
}

/// A replica of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShardMember {
    /// The replica.
    pub replica: ReplicaId,
    /// Where it is.
    pub store: StoreId,
    /// Its part in the configuration.
    pub role: MemberRole,
    /// It lacks something that is committed, and the leader does not stream to it: it is away, or is fed a snapshot, or
    /// has just come.
    pub is_pending: bool,
}

/// A replica's part in its shard's configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MemberRole {
    /// It votes, and will.
    Voter,
    /// It does not vote.
    Learner,
    /// It votes in the incoming half of a joint configuration only.
    Incoming,
    /// It votes in the outgoing half only, and is a learner or gone when that is left.
    Outgoing,
}

impl ShardHeartbeat {
    /// The store that leads, by this word.
    #[must_use]
    pub fn leader_store(&self) -> Option<StoreId> {
        let leader = self.members.iter().find(|member| member.replica == self.leader);
        leader.map(|member| member.store)
    }
}

/// The answer to a [`Heartbeat`], by whoever leads the controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeartbeatAnswer {
    /// The process that sent the heartbeat.
    pub process: u64,
    /// The heartbeat's number.
    pub seq: u64,
    /// The term in which the answering store leads the controller. Another one has heard nothing of what was told in
    /// this one.
    pub term: Term,
    /// What the schedulers want of shards that are led by the sender. At most [`ORDERS_MAX`].
    pub orders: Vec<Order>,
}

/// What the controller's schedulers want of a shard, for its leader.
///
/// It may be lost, late or given again without harm: it is void unless the shard is of exactly the version that it was
/// made for, and what carries it out is the same as for a wish of an operator's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// The shard.
    pub shard: ShardId,
    /// For this version of it only.
    pub epoch: Epoch,
    /// [`Manage::Change`] or [`Manage::Transfer`]; nothing else is ordered.
    pub wish: Manage,
}

/// A store as the controller's leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreRow {
    /// How it registered.
    pub record: StoreRecord,
    /// What it is used for.
    pub service: Service,
    /// Whether it lives.
    pub state: StoreState,
    /// Milliseconds since it was last heard, or since the controller's leader began to listen.
    pub silent_ms: u64,
    /// Its last word; none if it has not been heard since the controller's leader was elected.
    pub last: Option<StoreHeartbeat>,
    /// What it has, by the shard map.
    pub counts: StoreCounts,
}

/// Whether a store lives, by the clock of the controller's leader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum StoreState {
    /// It was heard.
    Up,
    /// It has not been heard since the controller's leader was elected, and may still be.
    Unheard,
    /// It has been silent for too long.
    Down,
}

/// What a store has, by the shard map.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct StoreCounts {
    /// Replicas.
    pub replicas: u32,
    /// Of these, learners.
    pub learners: u32,
    /// Of these, replicas that their leaders do not stream to.
    pub pending: u32,
    /// Shards led there.
    pub leads: u32,
    /// Bytes of its replicas' keys and values, as far as their leaders have counted them.
    pub bytes: u64,
}

/// A shard as the controller's leader knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardRow {
    /// Its leader's last word.
    pub last: ShardHeartbeat,
    /// Milliseconds since then.
    pub age_ms: u64,
}
