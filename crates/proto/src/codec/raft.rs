//! The consensus core's messages.

use bytes::Bytes;
use quorate_raft::{
    Index, Message, MessageBody, Payload, ReadContext, RejectHint, ReplicaId, Snapshot, Term,
};

use super::writer::{put_list, put_option};
use super::{Reader, Wire};
use crate::DecodeError;

const TAG_APPEND: u8 = 1;
const TAG_APPEND_RESPONSE: u8 = 2;
const TAG_HEARTBEAT: u8 = 3;
const TAG_HEARTBEAT_RESPONSE: u8 = 4;
const TAG_VOTE: u8 = 5;
const TAG_VOTE_RESPONSE: u8 = 6;
const TAG_PRE_VOTE: u8 = 7;
const TAG_PRE_VOTE_RESPONSE: u8 = 8;
const TAG_SNAPSHOT: u8 = 9;
const TAG_TIMEOUT_NOW: u8 = 10;
const TAG_TRANSFER_LEADER: u8 = 11;
const TAG_READ_INDEX: u8 = 12;
const TAG_READ_INDEX_RESPONSE: u8 = 13;
const TAG_PROPOSE: u8 = 14;

impl Wire for Message {
    const BYTES_MIN: usize = 4;
    fn put(&self, out: &mut Vec<u8>) {
        self.from.put(out);
        self.to.put(out);
        self.term.put(out);
        self.body.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Message {
            from: ReplicaId::take(reader)?,
            to: ReplicaId::take(reader)?,
            term: Term::take(reader)?,
            body: MessageBody::take(reader)?,
        })
    }
}

impl Wire for MessageBody {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            MessageBody::Append {
                prev_index,
                prev_term,
                commit,
                entries,
            } => {
                out.push(TAG_APPEND);
                prev_index.put(out);
                prev_term.put(out);
                commit.put(out);
                put_list(out, entries);
            }
            MessageBody::AppendResponse { index, reject } => {
                out.push(TAG_APPEND_RESPONSE);
                index.put(out);
                put_option(out, reject.as_ref());
            }
            MessageBody::Heartbeat { commit, context } => {
                out.push(TAG_HEARTBEAT);
                commit.put(out);
                put_option(out, context.as_ref());
            }
            MessageBody::HeartbeatResponse { context } => {
                out.push(TAG_HEARTBEAT_RESPONSE);
                put_option(out, context.as_ref());
            }
            MessageBody::Vote {
                last_index,
                last_term,
                transfer,
            } => {
                put_vote(out, TAG_VOTE, *last_index, *last_term, *transfer);
            }
            MessageBody::VoteResponse { reject } => {
                out.extend_from_slice(&[TAG_VOTE_RESPONSE, u8::from(*reject)])
            }
            MessageBody::PreVote {
                last_index,
                last_term,
                transfer,
            } => {
                put_vote(out, TAG_PRE_VOTE, *last_index, *last_term, *transfer);
            }
            MessageBody::PreVoteResponse { reject } => {
                out.extend_from_slice(&[TAG_PRE_VOTE_RESPONSE, u8::from(*reject)]);
            }
            MessageBody::Snapshot(snapshot) => {
                out.push(TAG_SNAPSHOT);
                snapshot.meta.put(out);
                snapshot.data.put(out);
            }
            MessageBody::TimeoutNow => out.push(TAG_TIMEOUT_NOW),
            MessageBody::TransferLeader { target } => {
                out.push(TAG_TRANSFER_LEADER);
                target.put(out);
            }
            MessageBody::ReadIndex { context } => {
                out.push(TAG_READ_INDEX);
                context.put(out);
            }
            MessageBody::ReadIndexResponse { index, context } => {
                out.push(TAG_READ_INDEX_RESPONSE);
                index.put(out);
                context.put(out);
            }
            MessageBody::Propose { payloads } => {
                out.push(TAG_PROPOSE);
                put_list::<Payload>(out, payloads);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("raft message")? {
            TAG_APPEND => MessageBody::Append {
                prev_index: Index::take(reader)?,
                prev_term: Term::take(reader)?,
                commit: Index::take(reader)?,
                entries: reader.list("entries")?,
            },
            TAG_APPEND_RESPONSE => MessageBody::AppendResponse {
                index: Index::take(reader)?,
                reject: reader.option("reject hint")?,
            },
            TAG_HEARTBEAT => MessageBody::Heartbeat {
                commit: Index::take(reader)?,
                context: reader.option("read context")?,
            },
            TAG_HEARTBEAT_RESPONSE => MessageBody::HeartbeatResponse {
                context: reader.option("read context")?,
            },
            TAG_VOTE => {
                let (last_index, last_term, transfer) = take_vote(reader)?;
                MessageBody::Vote {
                    last_index,
                    last_term,
                    transfer,
                }
            }
            TAG_VOTE_RESPONSE => MessageBody::VoteResponse {
                reject: reader.bool("reject")?,
            },
            TAG_PRE_VOTE => {
                let (last_index, last_term, transfer) = take_vote(reader)?;
                MessageBody::PreVote {
                    last_index,
                    last_term,
                    transfer,
                }
            }
            TAG_PRE_VOTE_RESPONSE => MessageBody::PreVoteResponse {
                reject: reader.bool("reject")?,
            },
            TAG_SNAPSHOT => MessageBody::Snapshot(Box::new(Snapshot {
                meta: Wire::take(reader)?,
                data: Bytes::take(reader)?,
            })),
            TAG_TIMEOUT_NOW => MessageBody::TimeoutNow,
            TAG_TRANSFER_LEADER => MessageBody::TransferLeader {
                target: ReplicaId::take(reader)?,
            },
            TAG_READ_INDEX => MessageBody::ReadIndex {
                context: ReadContext::take(reader)?,
            },
            TAG_READ_INDEX_RESPONSE => MessageBody::ReadIndexResponse {
                index: Index::take(reader)?,
                context: ReadContext::take(reader)?,
            },
            TAG_PROPOSE => MessageBody::Propose {
                payloads: reader.list("payloads")?,
            },
            tag => return Err(reader.unknown_tag("raft message", tag)),
        })
    }
}

fn put_vote(out: &mut Vec<u8>, tag: u8, last_index: Index, last_term: Term, transfer: bool) {
    out.push(tag);
    last_index.put(out);
    last_term.put(out);
    out.push(u8::from(transfer));
}

fn take_vote(reader: &mut Reader<'_>) -> Result<(Index, Term, bool), DecodeError> {
    Ok((
        Index::take(reader)?,
        Term::take(reader)?,
        reader.bool("transfer")?,
    ))
}

impl Wire for RejectHint {
    const BYTES_MIN: usize = 2;
    fn put(&self, out: &mut Vec<u8>) {
        self.index.put(out);
        self.term.put(out);
    }
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(RejectHint {
            index: Index::take(reader)?,
            term: Term::take(reader)?,
        })
    }
}
