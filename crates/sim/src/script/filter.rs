//! What becomes of single messages between nodes, as a script decides.

use std::fmt;

use quorate_proto::PeerMessage;
use quorate_raft::MessageBody;
use quorate_storage::ShardId;

use crate::world::World;

/// A message that a node sends, and that has a connection to go by.
#[derive(Clone, Copy, Debug)]
pub struct Passing<'a> {
    /// Virtual time.
    pub now_us: u64,
    /// Who sends it.
    pub from: usize,
    /// Who is to receive it.
    pub to: usize,
    /// What it is.
    pub message: &'a PeerMessage,
}

impl Passing<'_> {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> MessageKind {
        MessageKind::of(self.message)
    }

    /// The shard that it is about, if it says so.
    #[must_use]
    pub fn shard(&self) -> Option<ShardId> {
        match self.message {
            PeerMessage::Raft(envelope) => Some(envelope.shard),
            PeerMessage::Request(request) => Some(request.shard),
            PeerMessage::SnapshotChunk(chunk) => Some(chunk.shard),
            PeerMessage::SnapshotAck(ack) => Some(ack.shard),
            PeerMessage::SnapshotRequest(request) => Some(request.shard),
            PeerMessage::SnapshotReport(report) => Some(report.shard),
            PeerMessage::TermQuery(query) => Some(query.shard),
            PeerMessage::TermAnswer(answer) => Some(answer.shard),
            PeerMessage::ShardInfo(info) => Some(info.shard),
            PeerMessage::ShardQuery { shard } => Some(*shard),
            PeerMessage::Response(_)
            | PeerMessage::StoreHealth(_)
            | PeerMessage::Heartbeat(_)
            | PeerMessage::HeartbeatAnswer(_)
            | PeerMessage::Survivors(_) => None,
            PeerMessage::Recover(recovery) => Some(recovery.shard),
        }
    }
}

/// Kinds of messages between nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MessageKind {
    /// Entries, or a probe.
    Append,
    /// Its answer.
    AppendResponse,
    /// The leader lives.
    Heartbeat,
    /// Its answer.
    HeartbeatResponse,
    /// A vote is asked for.
    Vote,
    /// Its answer.
    VoteResponse,
    /// A vote is sounded out.
    PreVote,
    /// Its answer.
    PreVoteResponse,
    /// Campaign at once.
    TimeoutNow,
    /// Any other message of the consensus core.
    OtherRaft,
    /// A request that is sent on to the leader.
    Request,
    /// Its answer.
    Response,
    /// A part of a snapshot.
    SnapshotChunk,
    /// Its answer.
    SnapshotAck,
    /// A leader asks a follower to feed another one.
    SnapshotRequest,
    /// How that goes.
    SnapshotReport,
    /// A replica that is rebuilt asks for the newest term.
    TermQuery,
    /// Its answer.
    TermAnswer,
    /// A store says how it is.
    StoreHealth,
    /// A store tells who holds a shard.
    ShardInfo,
    /// A replica asks who holds its shard.
    ShardQuery,
    /// A store tells the controller's leader how it and its shards are.
    StoreHeartbeat,
    /// Its answer.
    StoreHeartbeatAnswer,
    /// Replicas that hear no leader.
    Survivors,
    /// A shard that lost its majority goes on.
    Recover,
}

impl MessageKind {
    /// The kind of a message.
    #[must_use]
    pub fn of(message: &PeerMessage) -> Self {
        match message {
            PeerMessage::Raft(envelope) => match envelope.message.body {
                MessageBody::Append { .. } => MessageKind::Append,
                MessageBody::AppendResponse { .. } => MessageKind::AppendResponse,
                MessageBody::Heartbeat { .. } => MessageKind::Heartbeat,
                MessageBody::HeartbeatResponse { .. } => MessageKind::HeartbeatResponse,
                MessageBody::Vote { .. } => MessageKind::Vote,
                MessageBody::VoteResponse { .. } => MessageKind::VoteResponse,
                MessageBody::PreVote { .. } => MessageKind::PreVote,
                MessageBody::PreVoteResponse { .. } => MessageKind::PreVoteResponse,
                MessageBody::TimeoutNow => MessageKind::TimeoutNow,
                MessageBody::Snapshot(_)
                | MessageBody::TransferLeader { .. }
                | MessageBody::ReadIndex { .. }
                | MessageBody::ReadIndexResponse { .. }
                | MessageBody::Propose { .. } => MessageKind::OtherRaft,
            },
            PeerMessage::Request(_) => MessageKind::Request,
            PeerMessage::Response(_) => MessageKind::Response,
            PeerMessage::SnapshotChunk(_) => MessageKind::SnapshotChunk,
            PeerMessage::SnapshotAck(_) => MessageKind::SnapshotAck,
            PeerMessage::SnapshotRequest(_) => MessageKind::SnapshotRequest,
            PeerMessage::SnapshotReport(_) => MessageKind::SnapshotReport,
            PeerMessage::TermQuery(_) => MessageKind::TermQuery,
            PeerMessage::ShardInfo(_) => MessageKind::ShardInfo,
            PeerMessage::ShardQuery { .. } => MessageKind::ShardQuery,
            PeerMessage::TermAnswer(_) => MessageKind::TermAnswer,
            PeerMessage::StoreHealth(_) => MessageKind::StoreHealth,
            PeerMessage::Heartbeat(_) => MessageKind::StoreHeartbeat,
            PeerMessage::HeartbeatAnswer(_) => MessageKind::StoreHeartbeatAnswer,
            PeerMessage::Survivors(_) => MessageKind::Survivors,
            PeerMessage::Recover(_) => MessageKind::Recover,
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// What the network makes of it.
    Pass,
    /// It is lost.
    Drop,
    /// It takes so many microseconds more.
    Delay(u64),
    /// It arrives, and once more so many microseconds later.
    Repeat(u64),
}

/// A filter of a script.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FilterId(u64);

type Judge = Box<dyn FnMut(&Passing<'_>) -> Verdict>;

/// All filters, in the order in which they were added.
#[derive(Default)]
pub(crate) struct Filters {
    filters: Vec<(FilterId, Judge)>,
    next_id: u64,
}

impl fmt::Debug for Filters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} filters", self.filters.len())
    }
}

impl Filters {
    /// What the first filter says that does not let it pass.
    pub(crate) fn judge(&mut self, passing: &Passing<'_>) -> Verdict {
        for (_, judge) in &mut self.filters {
            let verdict = judge(passing);
            if verdict != Verdict::Pass {
                return verdict;
            }
        }
        Verdict::Pass
    }
}

impl World {
    /// From now on every message between nodes is shown to `judge`, after the filters that are there already.
    pub fn filter(&mut self, judge: impl FnMut(&Passing<'_>) -> Verdict + 'static) -> FilterId {
        self.filters.next_id += 1;
        let id = FilterId(self.filters.next_id);
        self.filters.filters.push((id, Box::new(judge)));
        id
    }

    /// Loses every message of a kind.
    pub fn drop_kind(&mut self, kind: MessageKind) -> FilterId {
        self.filter(move |passing| {
            if passing.kind() == kind {
                Verdict::Drop
            } else {
                Verdict::Pass
            }
        })
    }

    /// Takes a filter away.
    pub fn unfilter(&mut self, id: FilterId) {
        self.filters.filters.retain(|(other, _)| *other != id);
    }
}
