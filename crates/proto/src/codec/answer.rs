//! What commands answer, and how forwarded requests ended.

use super::writer::{put_bytes, put_i64_le, put_list, put_option, put_varint};
use super::{Reader, Wire, wire_tags};
use crate::{Answer, CommandError, DecodeError, Epoch, Outcome, SessionRefusal, UnknownReason};

const ANSWER_OK: u8 = 1;
const ANSWER_NIL: u8 = 2;
const ANSWER_INT: u8 = 3;
const ANSWER_BULK: u8 = 4;
const ANSWER_PAGE: u8 = 5;
const ANSWER_ERROR: u8 = 6;
const ANSWER_NEVER_RUNS: u8 = 7;

const OUTCOME_DONE: u8 = 1;
const OUTCOME_NOT_LEADER: u8 = 2;
const OUTCOME_STALE_EPOCH: u8 = 3;
const OUTCOME_BUSY: u8 = 4;
const OUTCOME_SUPERSEDED: u8 = 5;
const OUTCOME_UNKNOWN: u8 = 6;
const OUTCOME_DISK_FULL: u8 = 7;
const OUTCOME_SESSION: u8 = 8;

impl Wire for Answer {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Answer::Ok => out.push(ANSWER_OK),
            Answer::Nil => out.push(ANSWER_NIL),
            Answer::Int(value) => {
                out.push(ANSWER_INT);
                put_i64_le(out, *value);
            }
            Answer::Bulk(value) => {
                out.push(ANSWER_BULK);
                put_bytes(out, value);
            }
            Answer::Page { next, keys, count } => {
                out.push(ANSWER_PAGE);
                put_option(out, next.as_ref());
                put_list(out, keys);
                put_varint(out, *count);
            }
            Answer::Error(error) => {
                out.push(ANSWER_ERROR);
                error.put(out);
            }
            Answer::NeverRuns => out.push(ANSWER_NEVER_RUNS),
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("answer")? {
            ANSWER_OK => Answer::Ok,
            ANSWER_NIL => Answer::Nil,
            ANSWER_INT => Answer::Int(reader.i64_le("number")?),
            ANSWER_BULK => Answer::Bulk(reader.bytes("value")?),
            ANSWER_PAGE => Answer::Page {
                next: reader.option("next position")?,
                keys: reader.list("page of keys")?,
                count: reader.varint("count")?,
            },
            ANSWER_ERROR => Answer::Error(CommandError::take(reader)?),
            ANSWER_NEVER_RUNS => Answer::NeverRuns,
            tag => return Err(reader.unknown_tag("answer", tag)),
        })
    }
}

impl Wire for Outcome {
    const BYTES_MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Outcome::Done(answer) => {
                out.push(OUTCOME_DONE);
                answer.put(out);
            }
            Outcome::NotLeader { leader } => {
                out.push(OUTCOME_NOT_LEADER);
                put_option(out, leader.as_ref());
            }
            Outcome::StaleEpoch { epoch, shards } => {
                out.push(OUTCOME_STALE_EPOCH);
                epoch.put(out);
                put_list(out, shards);
            }
            Outcome::Busy => out.push(OUTCOME_BUSY),
            Outcome::Superseded => out.push(OUTCOME_SUPERSEDED),
            Outcome::DiskFull => out.push(OUTCOME_DISK_FULL),
            Outcome::Session(refusal) => {
                out.push(OUTCOME_SESSION);
                refusal.put(out);
            }
            Outcome::Unknown(reason) => {
                out.push(OUTCOME_UNKNOWN);
                reason.put(out);
            }
        }
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("outcome")? {
            OUTCOME_DONE => Outcome::Done(Answer::take(reader)?),
            OUTCOME_NOT_LEADER => Outcome::NotLeader {
                leader: reader.option("leader")?,
            },
            OUTCOME_STALE_EPOCH => Outcome::StaleEpoch {
                epoch: Epoch::take(reader)?,
                shards: reader.list("shards")?,
            },
            OUTCOME_BUSY => Outcome::Busy,
            OUTCOME_SUPERSEDED => Outcome::Superseded,
            OUTCOME_DISK_FULL => Outcome::DiskFull,
            OUTCOME_SESSION => Outcome::Session(SessionRefusal::take(reader)?),
            OUTCOME_UNKNOWN => Outcome::Unknown(UnknownReason::take(reader)?),
            tag => return Err(reader.unknown_tag("outcome", tag)),
        })
    }
}

wire_tags!(all CommandError, "command error", {
    NotAnInteger = 1, Overflow = 2, NotAFloat = 3, NotFinite = 4, TooLong = 5,
    ChangeUnderWay = 64, AlreadyMember = 65, NotAMember = 66, LastReplica = 67, TooManyReplicas = 68,
    StoreAway = 69, NoChange = 70, ReplicaIdUsed = 71, NotReady = 72,
    NotController = 96, AlreadyBootstrapped = 97, NotBootstrapped = 98, OutOfRange = 99,
    UnknownStore = 100, OtherIncarnation = 101,
    StoreRemoved = 102, NotDraining = 103, HoldsReplicas = 104, NotHeardYet = 105, WrongLabels = 106,
    GroupExists = 112, UnknownGroup = 113, JoinsNothing = 114, StoreElsewhere = 115, UnknownShard = 116,
    GroupEmptied = 117, LastGroup = 118, NoStoreRole = 119, StoreAlive = 120,
    StoreSilent = 121,
    SlotNotInside = 73, WrongIds = 74, ShardChanged = 75, SplitUnderWay = 76,
});

wire_tags!(all UnknownReason, "unknown reason", {
    Timeout = 1, ConnectionLost = 2, ShuttingDown = 3, Snapshot = 4, Forgotten = 5, LeaderChanged = 6, Removed = 16,
});

wire_tags!(all SessionRefusal, "session refusal", {
    FromFuture = 1, OtherCommand = 2, NeverRuns = 3,
});
