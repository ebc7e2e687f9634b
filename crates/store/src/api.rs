//! What the store's front door takes and gives: requests of clients of this node, and how they ended.

use quorate_proto::{Answer, ForwardBody, Session, UnknownReason};
use quorate_storage::{ShardId, StoreId};

/// The driver's name for a request; it comes back with the outcome, exactly once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

impl RequestId {
    /// The greatest that a driver may use, as the greatest stream of a [`ClientRequest`]; the store has use for those
    /// above.
    pub const DRIVER_MAX: Self = Self(u64::MAX - (1 << 32));
}

/// Where a request goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Target {
    /// The shard that holds this slot of the default keyspace.
    Slot(u16),
    /// A shard by its id.
    Shard(ShardId),
}

/// What happens when another store leads the shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RouteMode {
    /// Forward and retry within the deadline.
    Proxy,
    /// Tell the client where to go.
    Redirect,
}

/// A request of a client of this node.
#[derive(Clone, Debug)]
pub struct ClientRequest {
    /// The driver's name for it.
    pub id: RequestId,
    /// The connection that it came on: requests of one stream for one target take effect in the order in which
    /// they are handed over, except for writes whose outcome is unknown.
    pub stream: u64,
    /// Where it goes.
    pub target: Target,
    /// What is asked.
    pub body: ForwardBody,
    /// Identity for exactly-once; only writes need one.
    pub session: Option<Session>,
    /// When another store leads.
    pub mode: RouteMode,
    /// Milliseconds until the client must have its answer.
    pub timeout_ms: u32,
}

/// How a request ended (O): done, certainly not applied, or unknown.
#[derive(Clone, PartialEq, Debug)]
pub enum ClientOutcome {
    /// Applied, or read.
    Done(Answer),
    /// Another store leads the slot's shard ([`RouteMode::Redirect`]). Not applied.
    Redirect {
        /// Who leads.
        leader: StoreId,
    },
    /// Certainly not applied.
    NotApplied(Refusal),
    /// May or may not be applied, now or later.
    Unknown(UnknownReason),
}

/// Why a request was certainly not applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// No leader was found within the deadline.
    #[error("shard {0} has no leader that a quorum follows")]
    NoLeader(ShardId),
    /// Another term's entry took its place (O1).
    #[error("the write was superseded by another leader's")]
    Superseded,
    /// It came back unproposed, and by then a later request of its stream had taken effect.
    #[error("a later command of the connection took effect first")]
    Overtaken,
    /// The deadline passed before an earlier request of its stream was decided.
    #[error("an earlier command of the connection was not decided in time")]
    Behind,
    /// Too many requests under way.
    #[error("too many requests under way")]
    Busy,
    /// This store's disk, or one that the quorum needs, has too little space left (H1).
    #[error("a disk that the write needs is full, and only deletes are accepted until there is space")]
    DiskFull,
    /// The slot has no shard here.
    #[error("no shard holds the slot")]
    NoShard,
    /// The shard that it was meant for as a whole was split.
    #[error("the shard was split meanwhile")]
    ShardSplit,
    /// The key does not fit the engine.
    #[error("the key is longer than {} bytes", crate::kv::KEY_BYTES_MAX)]
    KeyTooLong,
    /// The session's id says that it was opened later than the shard's time by more than the bound (S1).
    #[error("the session was opened in the future by more than {} s", crate::kv::sessions::FUTURE_MS_MAX / 1000)]
    SessionFromFuture,
    /// Another command ran under the same session and number (S4).
    #[error("another command ran under this session and number")]
    OtherCommand,
    /// A STATUS settled that it never runs.
    #[error("a STATUS of this session and number settled that it never runs")]
    NeverRuns,
    /// The node is stopping.
    #[error("the node is shutting down")]
    ShuttingDown,
}

/// Where a run of slots is served, by this node's knowledge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardRoute {
    /// The shard.
    pub shard: ShardId,
    /// First slot.
    pub start_slot: u16,
    /// The slot behind the last (16384 at most).
    pub end_slot: u16,
    /// Who leads, if known.
    pub leader: Option<StoreId>,
    /// The stores with a replica, sorted.
    pub stores: Vec<StoreId>,
}
