//! Messages between nodes: a tag byte and the message. They delimit themselves, so a frame holds many in a row.

use bytes::Bytes;
use quorate_storage::ShardId;

use super::writer::{put_list, put_option, put_varint};
use super::{Reader, Wire};
use crate::{
    DecodeError, Epoch, ForwardBody, Heartbeat, HeartbeatAnswer, Manage, Op, Outcome, PeerMessage, Query,
    RaftEnvelope, Recovery, Request, Response, SURVIVORS_MAX, ShardInfo, SnapshotAck, SnapshotChunk,
    SnapshotReport, SnapshotRequest, StoreHealth, TermAnswer, TermQuery,
};

const TAG_RAFT: u8 = 1;
const TAG_REQUEST: u8 = 2;
const TAG_RESPONSE: u8 = 3;
const TAG_SNAPSHOT_CHUNK: u8 = 4;
const TAG_SNAPSHOT_ACK: u8 = 5;
const TAG_TERM_QUERY: u8 = 6;
const TAG_TERM_ANSWER: u8 = 7;
const TAG_STORE_HEALTH: u8 = 8;
const TAG_SHARD_INFO: u8 = 9;
const TAG_SHARD_QUERY: u8 = 10;
const TAG_HEARTBEAT: u8 = 11;
const TAG_HEARTBEAT_ANSWER: u8 = 12;
const TAG_SNAPSHOT_REQUEST: u8 = 13;
const TAG_SNAPSHOT_REPORT: u8 = 14;
const TAG_SURVIVORS: u8 = 15;
const TAG_RECOVER: u8 = 16;

const BODY_WRITE: u8 = 1;
const BODY_READ: u8 = 2;
const BODY_MANAGE: u8 = 3;

impl PeerMessage {
    /// Appends the message's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.put(out);
    }

    /// Reads a message; its byte strings are slices of `source`.
    ///
    /// # Errors
    /// Anything but exactly one message.
    pub fn decode(source: Bytes) -> Result<PeerMessage, DecodeError> {
        let mut reader = Reader::new(&source);
        let message = PeerMessage::take(&mut reader)?;
        reader.finish("peer message")?;
        Ok(message)
    }

    /// Reads messages that were encoded one behind the other.
    #[must_use]
    pub fn decode_all(source: Bytes) -> PeerMessages {
        PeerMessages { source, at: 0 }
    }
}

/// The messages in a buffer, in order. After an error there are no more.
#[derive(Clone, Debug)]
pub struct PeerMessages {
    source: Bytes,
    at: usize,
}

impl Iterator for PeerMessages {
    type Item = Result<PeerMessage, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        super::next_of(&self.source, &mut self.at)
    }
}

impl Wire for PeerMessage {
    const BYTES_MIN: usize = 2;

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            PeerMessage::Raft(envelope) => {
                out.push(TAG_RAFT);
                envelope.put(out);
            }
            PeerMessage::Request(request) => {
                out.push(TAG_REQUEST);
                request.put(out);
            }
            PeerMessage::Survivors(survivors) => {
                debug_assert!(survivors.len() <= SURVIVORS_MAX);
                out.push(TAG_SURVIVORS);
                put_list(out, survivors);
            }
            PeerMessage::Recover(recovery) => {
                out.push(TAG_RECOVER);
                recovery.put(out);
            }
            PeerMessage::Response(response) => {
                out.push(TAG_RESPONSE);
                response.put(out);
            }
            PeerMessage::SnapshotChunk(chunk) => {
                out.push(TAG_SNAPSHOT_CHUNK);
                chunk.put(out);
            }
            PeerMessage::SnapshotAck(ack) => {
                out.push(TAG_SNAPSHOT_ACK);
                ack.put(out);
            }
            PeerMessage::SnapshotRequest(request) => {
                out.push(TAG_SNAPSHOT_REQUEST);
                request.put(out);
            }
            PeerMessage::SnapshotReport(report) => {
                out.push(TAG_SNAPSHOT_REPORT);
                report.put(out);
            }
            PeerMessage::TermQuery(query) => {
                out.push(TAG_TERM_QUERY);
                query.put(out);
            }
            PeerMessage::TermAnswer(answer) => {
                out.push(TAG_TERM_ANSWER);
                answer.put(out);
            }
            PeerMessage::StoreHealth(health) => {
                out.push(TAG_STORE_HEALTH);
                health.put(out);
            }
            PeerMessage::ShardInfo(info) => {
                out.push(TAG_SHARD_INFO);
                info.put(out);
            }
            PeerMessage::ShardQuery { shard } => {
                out.push(TAG_SHARD_QUERY);
                shard.put(out);
            }
            PeerMessage::Heartbeat(beat) => {
                out.push(TAG_HEARTBEAT);
                beat.put(out);
            }
            PeerMessage::HeartbeatAnswer(answer) => {
                out.push(TAG_HEARTBEAT_ANSWER);
                answer.put(out);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("peer message")? {
            TAG_RAFT => PeerMessage::Raft(RaftEnvelope::take(reader)?),
            TAG_REQUEST => PeerMessage::Request(Request::take(reader)?),
            TAG_RESPONSE => PeerMessage::Response(Response::take(reader)?),
            TAG_SNAPSHOT_CHUNK => PeerMessage::SnapshotChunk(SnapshotChunk::take(reader)?),
            TAG_SNAPSHOT_ACK => PeerMessage::SnapshotAck(SnapshotAck::take(reader)?),
            TAG_TERM_QUERY => PeerMessage::TermQuery(TermQuery::take(reader)?),
            TAG_TERM_ANSWER => PeerMessage::TermAnswer(TermAnswer::take(reader)?),
            TAG_STORE_HEALTH => PeerMessage::StoreHealth(StoreHealth::take(reader)?),
            TAG_SHARD_INFO => PeerMessage::ShardInfo(ShardInfo::take(reader)?),
            TAG_SHARD_QUERY => PeerMessage::ShardQuery {
                shard: ShardId::take(reader)?,
            },
            TAG_HEARTBEAT => PeerMessage::Heartbeat(Box::new(Heartbeat::take(reader)?)),
            TAG_HEARTBEAT_ANSWER => PeerMessage::HeartbeatAnswer(HeartbeatAnswer::take(reader)?),
            TAG_SURVIVORS => PeerMessage::Survivors(reader.list("survivors")?),
            TAG_RECOVER => PeerMessage::Recover(Box::new(Recovery::take(reader)?)),
            TAG_SNAPSHOT_REQUEST => PeerMessage::SnapshotRequest(SnapshotRequest::take(reader)?),
            TAG_SNAPSHOT_REPORT => PeerMessage::SnapshotReport(SnapshotReport::take(reader)?),
            tag => return Err(reader.unknown_tag("peer message", tag)),
        })
    }
}

impl Wire for RaftEnvelope {
    const BYTES_MIN: usize = 6;
    fn put(&self, out: &mut Vec<u8>) {
        self.shard.put(out);
        // A varint although it is a time: followers of idle shards send zero, and monotonic clocks are young.
        put_varint(out, self.sent_at_us);
        self.message.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(RaftEnvelope {
            shard: ShardId::take(reader)?,
            sent_at_us: reader.varint("sent at")?,
            message: Wire::take(reader)?,
        })
    }
}

impl Wire for Request {
    const BYTES_MIN: usize = 9;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id);
        self.shard.put(out);
        self.epoch.put(out);
        put_varint(out, u64::from(self.timeout_ms));
        out.push(u8::from(self.in_order));
        put_option(out, self.session.as_ref());
        match &self.body {
            ForwardBody::Write(op) => {
                out.push(BODY_WRITE);
                op.put(out);
            }
            ForwardBody::Read(query) => {
                out.push(BODY_READ);
                query.put(out);
            }
            ForwardBody::Manage(wish) => {
                out.push(BODY_MANAGE);
                wish.put(out);
            }
        }
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Request {
            id: reader.varint("request id")?,
            shard: ShardId::take(reader)?,
            epoch: Epoch::take(reader)?,
            timeout_ms: reader.narrow("timeout")?,
            in_order: reader.bool("in order")?,
            session: reader.option("session")?,
            body: match reader.u8("request body")? {
                BODY_WRITE => ForwardBody::Write(Op::take(reader)?),
                BODY_READ => ForwardBody::Read(Query::take(reader)?),
                BODY_MANAGE => ForwardBody::Manage(Manage::take(reader)?),
                tag => return Err(reader.unknown_tag("request body", tag)),
            },
        })
    }
}

impl Wire for Response {
    const BYTES_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id);
        self.outcome.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Response {
            id: reader.varint("request id")?,
            outcome: Outcome::take(reader)?,
        })
    }
}
