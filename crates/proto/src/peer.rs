//! What nodes say to each other.

use bytes::Bytes;
use quorate_raft::{Index, Message, ReplicaId, SnapshotMeta};
use quorate_storage::{ShardId, StoreId};

use crate::{
    Answer, Heartbeat, HeartbeatAnswer, Manage, Membership, Op, Query, Recovery, Session, ShardInfo, Survivor,
};

/// Version of a shard's description; membership changes raise the first, splits and merges the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Epoch {
    /// Raised by membership changes.
    pub conf_ver: u64,
    /// Raised by splits and merges.
    pub version: u64,
}

/// A message on a peer connection.
#[derive(Clone, PartialEq, Debug)]
pub enum PeerMessage {
    /// Consensus traffic of one shard.
    Raft(RaftEnvelope),
    /// A request for a shard that the receiver leads.
    Request(Request),
    /// The answer to a [`PeerMessage::Request`].
    Response(Response),
    /// A piece of a snapshot (bulk connection).
    SnapshotChunk(SnapshotChunk),
    /// Its acknowledgement.
    SnapshotAck(SnapshotAck),
    /// A leader asks a follower to feed another one.
    SnapshotRequest(SnapshotRequest),
    /// How that goes.
    SnapshotReport(SnapshotReport),
    /// A quarantined replica asks for another's term (P3).
    TermQuery(TermQuery),
    /// The answer to a [`PeerMessage::TermQuery`].
    TermAnswer(TermAnswer),
    /// How the sender's store is doing (H1).
    StoreHealth(StoreHealth),
    /// Who holds a shard, by the sender's knowledge: told by leaders to stores without a replica, and to whoever asks.
    /// A replica that it leaves out was removed (M4).
    ShardInfo(ShardInfo),
    /// A replica that hears no leader asks who holds its shard; answered by [`PeerMessage::ShardInfo`].
    ShardQuery {
        /// The shard.
        shard: ShardId,
    },
    /// How the sender and the shards that it leads are, for the leader of the controller.
    Heartbeat(Box<Heartbeat>),
    /// The leader of the controller has heard.
    HeartbeatAnswer(HeartbeatAnswer),
    /// The sender's replicas that hear no leader, for the leader of the controller; at most
    /// [`SURVIVORS_MAX`](crate::SURVIVORS_MAX).
    Survivors(Vec<Survivor>),
    /// The leader of the controller says that a shard that lost its majority goes on with the receiver's replica alone.
    Recover(Box<Recovery>),
}

/// A Raft message with the store's additions.
#[derive(Clone, PartialEq, Debug)]
pub struct RaftEnvelope {
    /// The shard.
    pub shard: ShardId,
    /// From a leader: its monotonic send time in microseconds. From a follower: the newest such time that it
    /// heard from the leader of the message's term, else 0. Leases count from it (L1).
    pub sent_at_us: u64,
    /// The core's message.
    pub message: Message,
}

/// A forwarded client request.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// Unique per sending process.
    pub id: u64,
    /// The shard that the sender routed it to.
    pub shard: ShardId,
    /// The sender's view of that shard.
    pub epoch: Epoch,
    /// Milliseconds until the client stops waiting.
    pub timeout_ms: u32,
    /// For reads: the sender has earlier requests of the same connection under way here, after which this one
    /// is to be answered.
    pub in_order: bool,
    /// Identity for exactly-once.
    pub session: Option<Session>,
    /// What is asked.
    pub body: ForwardBody,
}

/// What is forwarded.
#[derive(Clone, PartialEq, Debug)]
pub enum ForwardBody {
    /// A write.
    Write(Op),
    /// A linearizable read.
    Read(Query),
    /// A wish about the shard's replicas.
    Manage(Manage),
}

/// The answer to a forwarded request.
#[derive(Clone, PartialEq, Debug)]
pub struct Response {
    /// The request's.
    pub id: u64,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a request ended (O): done, certainly not applied, or unknown.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// Applied, or read.
    Done(Answer),
    /// Not proposed here: ask the leader. Not applied.
    NotLeader {
        /// Who may lead.
        leader: Option<StoreId>,
    },
    /// Not proposed: the sender's view of the shard is stale. Not applied.
    StaleEpoch {
        /// The shard's epoch here.
        epoch: Epoch,
        /// What serves the keys of the request now, as far as it is known here.
        shards: Vec<ShardInfo>,
    },
    /// Not proposed, for another reason; may be asked again. Not applied.
    Busy,
    /// Another term's entry is committed at its index (O1). Not applied.
    Superseded,
    /// Not proposed: a disk that it needs has too little space left (H1). Not applied.
    DiskFull,
    /// The shard's session table refuses it (S). Not applied.
    Session(SessionRefusal),
    /// May or may not be applied, now or later.
    Unknown(UnknownReason),
}

/// Why an outcome is unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum UnknownReason {
    /// The deadline passed after it was proposed.
    Timeout,
    /// The connection to the leader broke after it was sent.
    ConnectionLost,
    /// The leader is stopping.
    ShuttingDown,
    /// The replica moved past the entry by a snapshot.
    Snapshot,
    /// Another store leads by now, and the one that it was sent to has not answered.
    LeaderChanged,
    /// The shard has forgotten the session, or this write of it (S3): if it ran, its answer is gone. It does not
    /// run now.
    Forgotten,
    /// The replica was removed before it learned what became of the entry.
    Removed,
}

/// Why a shard refuses a session's write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum SessionRefusal {
    /// The session was opened later than the shard's time by more than the bound (S1).
    FromFuture,
    /// Another command ran under the same identity (S4).
    OtherCommand,
    /// The write was settled as one that never runs.
    NeverRuns,
}

/// Describes a snapshot on the way.
#[derive(Clone, PartialEq, Debug)]
pub struct SnapshotHeader {
    /// Position and members.
    pub meta: SnapshotMeta,
    /// The term of the leader in whose name it is sent.
    pub term: quorate_raft::Term,
    /// That leader: the sender, or who asked the sender for it ([`SnapshotRequest`]).
    pub leader: ReplicaId,
    /// The shard's epoch.
    pub epoch: Epoch,
    /// The shard's first slot; meaningless for shard 0.
    pub start_slot: u16,
    /// The slot behind its last.
    pub end_slot: u16,
    /// The shard's time (T1).
    pub stamp_ms: u64,
    /// Who holds the shard.
    pub membership: Membership,
}

/// A piece of a snapshot.
#[derive(Clone, PartialEq, Debug)]
pub struct SnapshotChunk {
    /// The shard.
    pub shard: ShardId,
    /// Sending replica.
    pub from: ReplicaId,
    /// Receiving replica.
    pub to: ReplicaId,
    /// Unique per sending process.
    pub id: u64,
    /// Counted from 0, without gaps.
    pub seq: u32,
    /// Repeated in every chunk.
    pub header: SnapshotHeader,
    /// Key-value pairs in ascending order (see `encode_pairs`); keys relative to the shard's space.
    pub pairs: Bytes,
    /// CRC32C of `pairs`.
    pub crc: u32,
    /// No more chunks follow.
    pub last: bool,
}

/// The receiver's progress.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotAck {
    /// The shard.
    pub shard: ShardId,
    /// The receiving replica.
    pub from: ReplicaId,
    /// The sending replica.
    pub to: ReplicaId,
    /// The snapshot's id.
    pub id: u64,
    /// The chunk wanted next; `None`: the receiver gave it up (or never wanted it).
    pub next: Option<u32>,
    /// All of it is installed.
    pub done: bool,
}

/// A leader asks a follower to feed a third replica in its name, so that the bulk does not come from the leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotRequest {
    /// The shard.
    pub shard: ShardId,
    /// The leader.
    pub from: ReplicaId,
    /// Who is to send the snapshot.
    pub to: ReplicaId,
    /// Who is to get it.
    pub target: ReplicaId,
    /// Unique per asking process; repeated in the reports.
    pub id: u64,
    /// The leader's term.
    pub term: quorate_raft::Term,
    /// What the snapshot must hold at least: the leader cannot be sure of its log before.
    pub index: Index,
}

/// How a snapshot goes that a leader asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotReport {
    /// The shard.
    pub shard: ShardId,
    /// Who was asked to send it.
    pub from: ReplicaId,
    /// The leader.
    pub to: ReplicaId,
    /// Who is to get it.
    pub target: ReplicaId,
    /// The request's.
    pub id: u64,
    /// How it goes.
    pub state: SnapshotState,
}

/// How a snapshot goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotState {
    /// It is on its way. Said again now and then.
    Feeding,
    /// Every chunk was acknowledged.
    Delivered,
    /// Not sent, or given up: the leader has to see to it.
    Refused,
}

/// A quarantined replica asks another for its term (P3, ADR 0004). It travels with the consensus messages: who
/// answers it on a connection has read, and will read, nothing that an earlier process of the asking store sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TermQuery {
    /// The shard.
    pub shard: ShardId,
    /// The asking replica.
    pub from: ReplicaId,
    /// The asked one.
    pub to: ReplicaId,
    /// The asking process; repeated in the answer, so that none to an earlier process counts.
    pub process: u64,
}

/// The answer to a [`TermQuery`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TermAnswer {
    /// The shard.
    pub shard: ShardId,
    /// The answering replica.
    pub from: ReplicaId,
    /// The asking one.
    pub to: ReplicaId,
    /// The process that asked.
    pub process: u64,
    /// The term that the answering replica is in.
    pub term: quorate_raft::Term,
    /// How often the membership had changed at what the answering replica has applied.
    pub conf_ver: u64,
    /// The answering replica has not forgotten a term: it is not quarantined itself. And its log holds no change of
    /// the membership that it has not applied.
    pub is_sound: bool,
}

/// How a store is doing, told to its peers when a connection begins, when it changes, and now and then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreHealth {
    /// The disk has less space left than the low-space mark (H1).
    pub is_full: bool,
    /// A log write has been pending for longer than an election timeout (H2).
    pub is_slow: bool,
}
