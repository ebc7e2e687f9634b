//! Seeded generators of every type with bytes, for the tests beside this directory.
#![allow(dead_code, reason = "each test binary uses its own part")]

use bytes::Bytes;
use quorate_proto::{
    Answer, Command, CommandError, Epoch, ExpireCondition, Expiry, ForwardBody, Heartbeat, HeartbeatAnswer,
    Manage, MemberRole, Membership, NodeMessage, NodeSnapshotAck, NodeSnapshotChunk, Op, Order, Outcome,
    PeerMessage, Query, RaftEnvelope, Request, Response, ScanPosition, Session, SessionRefusal, SessionWrite,
    SetCondition, SetExpiry, ShardHeartbeat, ShardInfo, ShardMember, SnapshotAck, SnapshotChunk,
    SnapshotHeader, SnapshotReport, SnapshotRequest, SnapshotState, Split, SplitIds, StoreHealth,
    StoreHeartbeat, TermAnswer, TermQuery, UnknownReason,
};
use quorate_raft::{
    ConfChange, ConfChangeForm, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, ConfState, Entry,
    Index, Message, MessageBody, Payload, ReadContext, RejectHint, ReplicaId, Snapshot, SnapshotMeta, Term,
};
use quorate_storage::{Incarnation, ShardId, StoreId};

mod recovery;

/// SplitMix64: small, seeded, the same everywhere.
pub(crate) struct Gen(pub(crate) u64);

pub(crate) const OPS: u64 = 18;
pub(crate) const QUERIES: u64 = 7;
pub(crate) const OUTCOMES: u64 = 17;
pub(crate) const BODIES: u64 = 14;
pub(crate) const PEER_MESSAGES: u64 = 11;
/// Kinds of node messages.
pub(crate) const NODE_MESSAGES: u64 = 4;

impl Gen {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
    pub(crate) fn bool(&mut self) -> bool {
        self.below(2) == 1
    }
    /// Numbers of all lengths, so that varints of every length are met.
    pub(crate) fn u64(&mut self) -> u64 {
        let shift = self.below(65);
        self.next().checked_shr(shift as u32).unwrap_or(0)
    }
    pub(crate) fn u128(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
    pub(crate) fn bytes(&mut self) -> Bytes {
        let length = match self.below(8) {
            0 => 0,
            1 => 120 + self.below(20),
            _ => self.below(20),
        };
        (0..length).map(|_| self.next() as u8).collect()
    }
    pub(crate) fn option<T>(&mut self, make: impl FnOnce(&mut Gen) -> T) -> Option<T> {
        if self.bool() { Some(make(self)) } else { None }
    }
    pub(crate) fn list<T>(&mut self, mut make: impl FnMut(&mut Gen) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| make(self)).collect()
    }
    pub(crate) fn expiry(&mut self) -> Expiry {
        if self.bool() {
            Expiry::In(self.u64() as i64)
        } else {
            Expiry::At(self.u64() as i64)
        }
    }
    pub(crate) fn session(&mut self) -> Session {
        Session {
            client: self.u128(),
            seq: self.u64(),
            lowest: self.u64(),
            position: self.u64() as u32,
        }
    }
    pub(crate) fn session_write(&mut self) -> SessionWrite {
        SessionWrite {
            session: self.session(),
            fingerprint: self.next(),
        }
    }
    pub(crate) fn command(&mut self, op: u64) -> Command {
        Command {
            stamp_ms: self.u64(),
            session: self.option(Gen::session_write),
            op: self.op(op),
        }
    }
    pub(crate) fn op(&mut self, kind: u64) -> Op {
        let key = self.bytes();
        match kind % OPS {
            0 => Op::Set {
                key,
                value: self.bytes(),
                expiry: match self.below(3) {
                    0 => SetExpiry::Clear,
                    1 => SetExpiry::Keep,
                    _ => SetExpiry::Set(self.expiry()),
                },
                condition: match self.below(3) {
                    0 => SetCondition::Always,
                    1 => SetCondition::IfAbsent,
                    _ => SetCondition::IfPresent,
                },
                get: self.bool(),
            },
            1 => Op::Append {
                key,
                value: self.bytes(),
            },
            2 => Op::SetRange {
                key,
                offset: self.u64(),
                value: self.bytes(),
            },
            3 => Op::Increment {
                key,
                delta: self.u64() as i64,
            },
            4 => Op::IncrementFloat {
                key,
                delta: self.next() as i64 as f64 / 3.0,
            },
            5 => Op::GetDelete { key },
            6 => Op::GetExpire {
                key,
                expiry: self.option(Gen::expiry),
            },
            7 => Op::Delete { key },
            8 => Op::Expire {
                key,
                expiry: self.expiry(),
                condition: match self.below(5) {
                    0 => ExpireCondition::Always,
                    1 => ExpireCondition::IfNone,
                    2 => ExpireCondition::IfSome,
                    3 => ExpireCondition::IfLater,
                    _ => ExpireCondition::IfEarlier,
                },
            },
            9 => Op::Persist { key },
            10 => Op::SetAllIfAbsent {
                pairs: self.list(|g| (g.bytes(), g.bytes())),
            },
            11 => Op::Flush,
            12 => Op::Sweep {
                due: self.list(|g| (g.u64(), g.bytes())),
            },
            13 => Op::Noop,
            14 => Op::CompareAndSet {
                key,
                expected: self.bytes(),
                value: self.bytes(),
                expiry: match self.below(3) {
                    0 => SetExpiry::Clear,
                    1 => SetExpiry::Keep,
                    _ => SetExpiry::Set(self.expiry()),
                },
            },
            15 => Op::Settle { key },
            16 => Op::ExpireSessions {
                clients: self.list(Gen::u128),
            },
            _ => Op::Split(Box::new(Split {
                slot: self.next() as u16,
                child: ShardId(self.u64()),
                replicas: self.places(),
                epoch: self.epoch(),
            })),
        }
    }
    pub(crate) fn position(&mut self) -> ScanPosition {
        ScanPosition {
            slot: self.next() as u16,
            hash: self.next() as u32,
        }
    }
    pub(crate) fn query(&mut self, kind: u64) -> Query {
        let key = self.bytes();
        match kind % QUERIES {
            0 => Query::Get { key },
            1 => Query::Exists { key },
            2 => Query::StrLen { key },
            3 => Query::GetRange {
                key,
                start: self.u64() as i64,
                end: self.u64() as i64,
            },
            4 => Query::Deadline { key },
            5 => Query::Scan {
                from: self.position(),
                end_slot: self.next() as u16,
                limit: self.next() as u32,
                pattern: self.option(Gen::bytes),
                count_only: self.bool(),
            },
            8 => Query::Timestamps {
                count: self.below(1 << 19) as u32,
            },
            _ => Query::Barrier,
        }
    }
    pub(crate) fn epoch(&mut self) -> Epoch {
        Epoch {
            conf_ver: self.u64(),
            version: self.u64(),
        }
    }
    pub(crate) fn outcome(&mut self, kind: u64) -> Outcome {
        match kind % OUTCOMES {
            0 => Outcome::Done(Answer::Ok),
            1 => Outcome::Done(Answer::Nil),
            2 => Outcome::Done(Answer::Int(self.u64() as i64)),
            3 => Outcome::Done(Answer::Bulk(self.bytes())),
            4 => Outcome::Done(Answer::Page {
                next: self.option(Gen::position),
                keys: self.list(Gen::bytes),
                count: self.u64(),
            }),
            5 => Outcome::Done(Answer::Error(match self.below(5) {
                0 => CommandError::NotAnInteger,
                1 => CommandError::Overflow,
                2 => CommandError::NotAFloat,
                3 => CommandError::NotFinite,
                _ => CommandError::TooLong,
            })),
            6 => Outcome::NotLeader {
                leader: self.option(|g| StoreId(g.u64())),
            },
            7 => Outcome::StaleEpoch {
                epoch: self.epoch(),
                shards: (0..self.below(3)).map(|_| self.shard_info()).collect(),
            },
            8 => Outcome::Busy,
            9 => Outcome::Superseded,
            10 => Outcome::DiskFull,
            11 => Outcome::Session(SessionRefusal::FromFuture),
            12 => Outcome::Session(SessionRefusal::OtherCommand),
            13 => Outcome::Unknown(UnknownReason::Forgotten),
            14 => Outcome::Done(Answer::NeverRuns),
            15 => Outcome::Session(SessionRefusal::NeverRuns),
            _ => Outcome::Unknown(match self.below(5) {
                0 => UnknownReason::Timeout,
                1 => UnknownReason::ConnectionLost,
                2 => UnknownReason::ShuttingDown,
                3 => UnknownReason::LeaderChanged,
                _ => UnknownReason::Snapshot,
            }),
        }
    }
    pub(crate) fn replica(&mut self) -> ReplicaId {
        ReplicaId(self.u64())
    }
    pub(crate) fn index(&mut self) -> Index {
        Index(self.u64())
    }
    pub(crate) fn term(&mut self) -> Term {
        Term(self.u64())
    }
    pub(crate) fn context(&mut self) -> ReadContext {
        ReadContext(self.u128())
    }
    pub(crate) fn conf_change(&mut self) -> ConfChange {
        ConfChange {
            form: if self.bool() {
                ConfChangeForm::V1
            } else {
                ConfChangeForm::V2
            },
            transition: match self.below(3) {
                0 => ConfChangeTransition::Auto,
                1 => ConfChangeTransition::Implicit,
                _ => ConfChangeTransition::Explicit,
            },
            changes: self.list(|g| ConfChangeSingle {
                kind: match g.below(4) {
                    0 => ConfChangeKind::AddVoter,
                    1 => ConfChangeKind::AddLearner,
                    2 => ConfChangeKind::Remove,
                    _ => ConfChangeKind::Update,
                },
                replica: g.replica(),
            }),
            context: self.bytes(),
        }
    }
    pub(crate) fn payload(&mut self) -> Payload {
        if self.below(4) == 0 {
            Payload::ConfChange(Box::new(self.conf_change()))
        } else {
            Payload::Normal(self.bytes())
        }
    }
    pub(crate) fn entry(&mut self) -> Entry {
        Entry {
            term: self.term(),
            index: self.index(),
            payload: self.payload(),
        }
    }
    pub(crate) fn conf_state(&mut self) -> ConfState {
        ConfState {
            voters: self.list(Gen::replica),
            learners: self.list(Gen::replica),
            voters_outgoing: self.list(Gen::replica),
            learners_next: self.list(Gen::replica),
            auto_leave: self.bool(),
        }
    }
    pub(crate) fn snapshot_meta(&mut self) -> SnapshotMeta {
        SnapshotMeta {
            index: self.index(),
            term: self.term(),
            conf_state: self.conf_state(),
        }
    }
    pub(crate) fn body(&mut self, kind: u64) -> MessageBody {
        match kind % BODIES {
            0 => MessageBody::Append {
                prev_index: self.index(),
                prev_term: self.term(),
                commit: self.index(),
                entries: self.list(Gen::entry),
            },
            1 => MessageBody::AppendResponse {
                index: self.index(),
                reject: self.option(|g| RejectHint {
                    index: g.index(),
                    term: g.term(),
                }),
            },
            2 => MessageBody::Heartbeat {
                commit: self.index(),
                context: self.option(Gen::context),
            },
            3 => MessageBody::HeartbeatResponse {
                context: self.option(Gen::context),
            },
            4 => MessageBody::Vote {
                last_index: self.index(),
                last_term: self.term(),
                transfer: self.bool(),
            },
            5 => MessageBody::VoteResponse { reject: self.bool() },
            6 => MessageBody::PreVote {
                last_index: self.index(),
                last_term: self.term(),
                transfer: self.bool(),
            },
            7 => MessageBody::PreVoteResponse { reject: self.bool() },
            8 => MessageBody::Snapshot(Box::new(Snapshot {
                meta: self.snapshot_meta(),
                data: self.bytes(),
            })),
            9 => MessageBody::TimeoutNow,
            10 => MessageBody::TransferLeader {
                target: self.replica(),
            },
            11 => MessageBody::ReadIndex {
                context: self.context(),
            },
            12 => MessageBody::ReadIndexResponse {
                index: self.index(),
                context: self.context(),
            },
            _ => MessageBody::Propose {
                payloads: self.list(Gen::payload),
            },
        }
    }
    pub(crate) fn envelope(&mut self, kind: u64) -> PeerMessage {
        PeerMessage::Raft(RaftEnvelope {
            shard: ShardId(self.u64()),
            sent_at_us: self.u64(),
            message: Message {
                from: self.replica(),
                to: self.replica(),
                term: self.term(),
                body: self.body(kind),
            },
        })
    }
    pub(crate) fn request(&mut self, body: ForwardBody) -> PeerMessage {
        PeerMessage::Request(Request {
            id: self.u64(),
            shard: ShardId(self.u64()),
            epoch: self.epoch(),
            timeout_ms: self.next() as u32,
            in_order: self.bool(),
            session: self.option(Gen::session),
            body,
        })
    }
    pub(crate) fn response(&mut self, kind: u64) -> PeerMessage {
        PeerMessage::Response(Response {
            id: self.u64(),
            outcome: self.outcome(kind),
        })
    }
    pub(crate) fn chunk(&mut self) -> PeerMessage {
        PeerMessage::SnapshotChunk(SnapshotChunk {
            shard: ShardId(self.u64()),
            from: self.replica(),
            to: self.replica(),
            id: self.u64(),
            seq: self.next() as u32,
            header: SnapshotHeader {
                meta: self.snapshot_meta(),
                term: self.term(),
                leader: self.replica(),
                epoch: self.epoch(),
                start_slot: self.next() as u16,
                end_slot: self.next() as u16,
                stamp_ms: self.u64(),
                membership: self.membership(),
            },
            pairs: self.bytes(),
            crc: self.next() as u32,
            last: self.bool(),
        })
    }
    pub(crate) fn ack(&mut self) -> PeerMessage {
        PeerMessage::SnapshotAck(SnapshotAck {
            shard: ShardId(self.u64()),
            from: self.replica(),
            to: self.replica(),
            id: self.u64(),
            next: self.option(|g| g.next() as u32),
            done: self.bool(),
        })
    }
    pub(crate) fn snapshot_request(&mut self) -> PeerMessage {
        PeerMessage::SnapshotRequest(SnapshotRequest {
            shard: ShardId(self.u64()),
            from: self.replica(),
            to: self.replica(),
            target: self.replica(),
            id: self.u64(),
            term: self.term(),
            index: self.index(),
        })
    }
    pub(crate) fn snapshot_report(&mut self) -> PeerMessage {
        PeerMessage::SnapshotReport(SnapshotReport {
            shard: ShardId(self.u64()),
            from: self.replica(),
            to: self.replica(),
            target: self.replica(),
            id: self.u64(),
            state: match self.below(3) {
                0 => SnapshotState::Feeding,
                1 => SnapshotState::Delivered,
                _ => SnapshotState::Refused,
            },
        })
    }
    pub(crate) fn node_message(&mut self, kind: u64) -> NodeMessage {
        match kind % NODE_MESSAGES {
            0 => {
                let kind = self.next();
                NodeMessage::Raft(Message {
                    from: self.replica(),
                    to: self.replica(),
                    term: self.term(),
                    body: self.body(kind),
                })
            }
            1 => NodeMessage::SnapshotChunk(NodeSnapshotChunk {
                id: self.u64(),
                term: self.term(),
                meta: self.snapshot_meta(),
                bytes_total: self.u64(),
                offset: self.u64(),
                data: self.bytes(),
                crc: self.next() as u32,
            }),
            2 => NodeMessage::SnapshotAck(NodeSnapshotAck {
                id: self.u64(),
                next: self.u64(),
                done: self.bool(),
            }),
            _ => NodeMessage::Removed,
        }
    }
    pub(crate) fn peer_message(&mut self) -> PeerMessage {
        let kind = self.next();
        match self.below(PEER_MESSAGES) {
            0 => self.envelope(kind),
            1 => {
                let body = if self.bool() {
                    ForwardBody::Write(self.op(kind))
                } else {
                    ForwardBody::Read(self.query(kind))
                };
                self.request(body)
            }
            2 => self.response(kind),
            3 => self.chunk(),
            4 => self.ack(),
            5 => self.placement(kind),
            6 => self.heartbeat(kind),
            7 => self.snapshot_request(),
            8 => self.snapshot_report(),
            9 => self.recovery_message(kind),
            _ => self.health(kind),
        }
    }
    pub(crate) fn membership(&mut self) -> Membership {
        Membership {
            members: self.places(),
            wanted: self.places(),
            before: self.places(),
            last_replica: self.replica(),
        }
    }
    fn places(&mut self) -> Vec<(ReplicaId, StoreId)> {
        let count = self.below(4);
        (0..count)
            .map(|_| (self.replica(), StoreId(self.u64())))
            .collect()
    }
    pub(crate) fn shard_info(&mut self) -> ShardInfo {
        ShardInfo {
            shard: ShardId(self.u64()),
            start_slot: self.next() as u16,
            end_slot: self.next() as u16,
            epoch: self.epoch(),
            membership: self.membership(),
            leader: self.option(|g| StoreId(g.u64())),
            term: self.term(),
            session_ms: self.u64(),
        }
    }
    pub(crate) fn manage(&mut self, kind: u64) -> Manage {
        let stores = |g: &mut Self| (0..g.below(3)).map(|_| StoreId(g.u64())).collect();
        match kind % 4 {
            0 => Manage::Change {
                add: stores(self),
                remove: stores(self),
            },
            1 => Manage::Abort,
            2 => Manage::Transfer {
                to: StoreId(self.u64()),
            },
            _ => Manage::Split {
                slot: self.option(|g| g.next() as u16),
                ids: self.option(|g| SplitIds {
                    child: ShardId(g.u64()),
                    replicas: (0..g.below(4)).map(|_| g.replica()).collect(),
                }),
            },
        }
    }
    /// Of the messages about who holds a shard.
    pub(crate) fn placement(&mut self, kind: u64) -> PeerMessage {
        match kind % 3 {
            0 => PeerMessage::ShardInfo(self.shard_info()),
            1 => PeerMessage::ShardQuery {
                shard: ShardId(self.u64()),
            },
            _ => {
                let wish = self.manage(kind / 3);
                self.request(ForwardBody::Manage(wish))
            }
        }
    }
    /// Of the two messages between a store and the controller's leader.
    pub(crate) fn heartbeat(&mut self, kind: u64) -> PeerMessage {
        if kind.is_multiple_of(2) {
            return PeerMessage::HeartbeatAnswer(HeartbeatAnswer {
                process: self.u64(),
                seq: self.u64(),
                term: self.term(),
                orders: (0..self.below(3)).map(|_| self.order()).collect(),
            });
        }
        PeerMessage::Heartbeat(Box::new(Heartbeat {
            seq: self.u64(),
            store: self.store_heartbeat(),
            shards: (0..self.below(4)).map(|_| self.shard_heartbeat()).collect(),
        }))
    }
    fn order(&mut self) -> Order {
        let kind = self.u64();
        Order {
            shard: ShardId(self.u64()),
            epoch: self.epoch(),
            wish: self.manage(kind),
        }
    }
    pub(crate) fn store_heartbeat(&mut self) -> StoreHeartbeat {
        StoreHeartbeat {
            store: StoreId(self.u64()),
            incarnation: Incarnation(u128::from(self.u64()) << 64 | u128::from(self.u64())),
            process: self.u64(),
            replicas: self.next() as u32,
            leads: self.next() as u32,
            available_bytes: self.option(Self::u64),
            is_full: self.bool(),
            is_slow: self.bool(),
            tells_after_ms: self.u64(),
        }
    }
    fn member(&mut self) -> ShardMember {
        const ROLES: [MemberRole; 4] = [
            MemberRole::Voter,
            MemberRole::Learner,
            MemberRole::Incoming,
            MemberRole::Outgoing,
        ];
        ShardMember {
            replica: self.replica(),
            store: StoreId(self.u64()),
            role: ROLES[self.below(4) as usize],
            is_pending: self.bool(),
        }
    }
    pub(crate) fn shard_heartbeat(&mut self) -> ShardHeartbeat {
        ShardHeartbeat {
            shard: ShardId(self.u64()),
            start_slot: self.next() as u16,
            end_slot: self.next() as u16,
            epoch: self.epoch(),
            term: self.term(),
            leader: self.replica(),
            members: self.list(Gen::member),
            bytes: self.option(Self::u64),
            load: self.option(Self::u64),
        }
    }
    /// Of the three messages about a store's or replica's own state.
    pub(crate) fn health(&mut self, kind: u64) -> PeerMessage {
        match kind % 3 {
            0 => PeerMessage::TermQuery(TermQuery {
                shard: ShardId(self.u64()),
                from: self.replica(),
                to: self.replica(),
                process: self.u64(),
            }),
            1 => PeerMessage::TermAnswer(TermAnswer {
                shard: ShardId(self.u64()),
                from: self.replica(),
                to: self.replica(),
                process: self.u64(),
                term: self.term(),
                conf_ver: self.u64(),
                is_sound: self.bool(),
            }),
            _ => PeerMessage::StoreHealth(StoreHealth {
                is_full: self.bool(),
                is_slow: self.bool(),
            }),
        }
    }
}
