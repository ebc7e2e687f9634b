//! One shard's replica: the consensus core and what waits on it.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_proto::{Membership, Query, SessionTotals};
use quorate_raft::{
    AppendDone, AppendWork, Entry, HardState, Index, Message, Payload, RawNode, ReadContext, ReplicaId, Role,
    Term, mutant,
};
use quorate_storage::StoreId;
use quorate_storage::engine::BatchSeq;

use crate::descriptor::{Applied, Descriptor};
use crate::heartbeats::Told;
use crate::io::LogToken;
use crate::lanes::{Routed, Ticket};
use crate::lease::Lease;
use crate::load::ShardLoad;
use crate::rebuild::Rebuild;
use crate::recovery::Forced;
use crate::shard_log::ShardLog;
use crate::split_checker::Plan;
use crate::survey::Size;
use crate::sweeps::AtRest;

/// Who waits for an outcome.
#[derive(Clone, Debug)]
pub(crate) enum Waiter {
    /// A client of this node.
    Client(Ticket),
    /// A client of this node whose write has a session: it may be tried again.
    Session(Box<Routed>),
    /// A peer that forwarded a request.
    Peer { store: StoreId, id: u64 },
    /// Nobody: the store's own write (expiry sweep).
    Nobody,
}

/// A write that was proposed and is not yet applied.
#[derive(Debug)]
pub(crate) struct PendingWrite {
    /// Taken when the deadline passes before the entry is applied.
    pub(crate) waiter: Option<Waiter>,
    pub(crate) deadline_us: u64,
}

/// A write of this turn, not yet handed to the core.
#[derive(Debug)]
pub(crate) struct NewWrite {
    pub(crate) waiter: Waiter,
    pub(crate) deadline_us: u64,
    /// Kept to send the client elsewhere should the core refuse.
    pub(crate) request: Option<Routed>,
}

/// A read that waits for a quorum or for an index to be applied.
#[derive(Clone, Debug)]
pub(crate) struct PendingRead {
    pub(crate) waiter: Waiter,
    pub(crate) deadline_us: u64,
    pub(crate) query: Query,
    /// Not before this is applied: the connection's earlier writes.
    pub(crate) after: Index,
    /// The store's last round when it arrived; only a later one may confirm it (R1).
    pub(crate) rounds_before: u64,
    /// Kept to send the client elsewhere should leadership be lost.
    pub(crate) request: Option<Routed>,
}

/// Work that waits for a log write.
#[derive(Debug)]
pub(crate) struct InflightAppend {
    pub(crate) token: LogToken,
    pub(crate) responses: Vec<Message>,
    pub(crate) done: Option<AppendDone>,
}

/// A snapshot whose batch is written and not yet durable (P5): the log is reset only then.
#[derive(Debug)]
pub(crate) struct Installing {
    pub(crate) batch: BatchSeq,
    pub(crate) work: AppendWork,
}

pub(crate) struct Replica {
    pub(crate) raft: RawNode<ShardLog>,
    pub(crate) descriptor: Descriptor,
    pub(crate) applied: Applied,
    /// The totals of its session table, as in the engine (S3).
    pub(crate) sessions: SessionTotals,
    pub(crate) lease: Lease,
    /// Its log was damaged (P3): it does not vote, and takes part only as far as this says.
    pub(crate) rebuild: Option<Rebuild>,
    /// Where others said that replicas are which this one has not heard of as members: configurations take effect when
    /// applied, and messages of members to be come earlier.
    pub(crate) addresses: BTreeMap<ReplicaId, StoreId>,
    /// Ticks for which new voters have been away (M2).
    pub(crate) away_ticks: u64,

    // Writes.
    pub(crate) new_payloads: Vec<Bytes>,
    pub(crate) new_writes: Vec<NewWrite>,
    /// By position and term: a leader that lost its tail and leads again proposes at positions where older
    /// writes of its own still wait to be decided.
    pub(crate) pending_writes: BTreeMap<(Index, Term), PendingWrite>,
    /// The highest stamp given to a proposal (T1).
    pub(crate) proposed_stamp_ms: u64,
    pub(crate) sweep_pending: bool,
    pub(crate) session_sweep_pending: bool,
    /// Until when no key and no session expires.
    pub(crate) keys_at_rest: Option<AtRest>,
    pub(crate) sessions_at_rest: Option<AtRest>,
    /// Where the look for expired keys goes on, if other shards lie in the same space.
    pub(crate) swept_through: Option<Bytes>,
    /// The split that this leader has proposed (L3): its term and position.
    pub(crate) splitting: Option<(Term, Index)>,
    /// The split that this leader means to propose.
    pub(crate) split_plan: Option<Plan>,
    /// Bytes applied since a leader last looked at how large the shard is.
    pub(crate) bytes_since_look: u64,
    pub(crate) size: Size,
    pub(crate) load: ShardLoad,
    /// What the controller's leader has acknowledged to have heard of the shard.
    pub(crate) told: Option<Told>,
    /// Ticks for which it still campaigns as the child of a shard that was led here.
    pub(crate) eager_ticks: u64,

    // Reads.
    /// To join the round that the next turn sends (R1).
    pub(crate) reads_new: Vec<PendingRead>,
    pub(crate) reads_round: BTreeMap<ReadContext, Vec<PendingRead>>,
    /// By the index that must be applied first.
    pub(crate) reads_applied: BTreeMap<Index, Vec<PendingRead>>,

    // Persistence.
    pub(crate) appends: VecDeque<InflightAppend>,
    /// The newest hard state, and the one that the log holds or is being given.
    pub(crate) hard_state: HardState,
    pub(crate) logged_hard_state: HardState,
    /// Membership changes in the log that no record says to be committed.
    pub(crate) changes_logged: Vec<Index>,
    pub(crate) installing: Option<Installing>,
    /// It takes part once this batch is durable (P4).
    pub(crate) birth: Option<BatchSeq>,
    /// The log write with its first records, as long as the engine has it for new (P4).
    pub(crate) first_logged: Option<LogToken>,
    /// The applied index that the engine has made durable: what log GC may remove.
    pub(crate) durable_applied: Index,
    /// Candidate for `durable_applied` once this batch is durable.
    pub(crate) durable_mark: Option<(BatchSeq, Index)>,
    pub(crate) bytes_since_durable: u64,

    /// It went on alone, and what it must remember of that.
    pub(crate) forced: Option<Forced>,
    /// It goes on alone once this batch is durable, and takes no part before.
    pub(crate) forcing: Option<BatchSeq>,
    /// The highest index that a leader spoke of.
    pub(crate) heard_index: Option<Index>,
    /// The newest membership that anybody told of, and its version.
    pub(crate) newer: Option<(u64, Membership)>,

    /// For noticing changes.
    pub(crate) seen_leader: Option<ReplicaId>,
    pub(crate) seen_role: Role,
    pub(crate) dirty: bool,
}

impl Replica {
    pub(crate) fn new(
        raft: RawNode<ShardLog>,
        descriptor: Descriptor,
        applied: Applied,
        sessions: SessionTotals,
        hard_state: HardState,
        rebuild: Option<Rebuild>,
    ) -> Self {
        let is_change = |entry: &&Entry| matches!(entry.payload, Payload::ConfChange(_));
        let uncommitted = raft
            .storage()
            .iter()
            .filter(|entry| entry.index > hard_state.commit);
        let changes_logged = uncommitted.filter(is_change).map(|entry| entry.index).collect();
        Self {
            changes_logged,
            durable_applied: applied.index,
            raft,
            descriptor,
            applied,
            sessions,
            lease: Lease::default(),
            rebuild,
            addresses: BTreeMap::new(),
            away_ticks: 0,
            new_payloads: Vec::new(),
            new_writes: Vec::new(),
            pending_writes: BTreeMap::new(),
            proposed_stamp_ms: applied.stamp_ms,
            sweep_pending: false,
            session_sweep_pending: false,
            keys_at_rest: None,
            sessions_at_rest: None,
            swept_through: None,
            splitting: None,
            split_plan: None,
            bytes_since_look: 0,
            size: Size::default(),
            load: ShardLoad::default(),
            told: None,
            eager_ticks: 0,
            reads_new: Vec::new(),
            reads_round: BTreeMap::new(),
            reads_applied: BTreeMap::new(),
            appends: VecDeque::new(),
            hard_state,
            logged_hard_state: hard_state,
            installing: None,
            birth: None,
            first_logged: None,
            durable_mark: None,
            bytes_since_durable: 0,
            forced: None,
            forcing: None,
            heard_index: None,
            newer: None,
            seen_leader: None,
            seen_role: Role::Follower,
            dirty: false,
        }
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raft.role() == Role::Leader
    }

    /// Whether it may take requests as the leader.
    pub(crate) fn serves(&self) -> bool {
        self.is_leader() && self.rebuild.is_none()
    }

    /// Whether messages of the core reach it (P3, P4).
    pub(crate) fn takes_part(&self) -> bool {
        self.birth.is_none()
            && self.forcing.is_none()
            && self.rebuild.as_ref().is_none_or(Rebuild::is_following)
    }

    /// Whether it has ever had the shard's state: from the beginning, or by a snapshot.
    pub(crate) fn is_initialized(&self) -> bool {
        self.applied.index > Index(0)
    }

    /// Where a replica is, as far as anybody has said.
    pub(crate) fn address_of(&self, replica: ReplicaId) -> Option<StoreId> {
        self.descriptor
            .store_of(replica)
            .or_else(|| self.addresses.get(&replica).copied())
    }

    /// The other voters (of the incoming half when joint) and where they are: who could lead.
    pub(crate) fn other_voters(&self) -> impl Iterator<Item = (ReplicaId, StoreId)> + '_ {
        let descriptor = &self.descriptor;
        let members = descriptor.membership.members.iter().copied();
        members.filter(|(id, _)| *id != descriptor.replica && descriptor.conf_state.voters.contains(id))
    }

    /// The stores that may know what became of the shard.
    pub(crate) fn acquaintances(&self) -> Vec<StoreId> {
        let members = self.descriptor.membership.members.iter().copied();
        let known = members.chain(self.addresses.iter().map(|(id, store)| (*id, *store)));
        let own = self.descriptor.replica;
        let mut stores: Vec<StoreId> = known.filter(|(id, _)| *id != own).map(|(_, on)| on).collect();
        stores.sort_unstable();
        stores.dedup();
        stores
    }

    /// Whether a split that it has proposed is not applied here. One of an earlier term is before the term's first
    /// entry.
    pub(crate) fn is_splitting(&self) -> bool {
        self.splitting
            .is_some_and(|(term, index)| term == self.raft.term() && index > self.applied.index)
    }

    /// Whether it may answer reads alone now (L1). L3: not before an entry of its term is applied, and not from
    /// proposing a split until it is applied.
    pub(crate) fn holds_lease(&self, lease_us: u64, now_us: u64) -> bool {
        let term = self.raft.term();
        if self.is_splitting() && !mutant!("lease-through-a-split") {
            return false;
        }
        (self.applied.term == term || mutant!("lease-before-the-terms-entry"))
            && self.lease.holds(term, lease_us, now_us)
    }

    /// Whether reads wait here, which only a leader can answer.
    pub(crate) fn has_reads(&self) -> bool {
        !(self.reads_new.is_empty() && self.reads_round.is_empty() && self.reads_applied.is_empty())
    }

    /// Whether reads wait for a quorum's word.
    pub(crate) fn awaits_round(&self) -> bool {
        !(self.reads_new.is_empty() && self.reads_round.is_empty())
    }

    pub(crate) fn leader_store(&self) -> Option<StoreId> {
        self.raft.leader().and_then(|leader| self.address_of(leader))
    }

    /// The position that the last write taken so far has or will have.
    pub(crate) fn last_taken(&self) -> Index {
        Index(self.raft.last_index().0 + self.new_payloads.len() as u64)
    }

    /// The log never runs ahead of what is checked here; called after every turn.
    pub(crate) fn validate(&self) {
        let log = self.raft.storage();
        assert!(
            log.base().0 <= self.durable_applied
                && self.applied.index <= self.raft.commit()
                && self.raft.commit() <= self.raft.last_index(),
            "shard {}: base {} <= applied {} <= commit {} <= last {} does not hold",
            self.descriptor.shard,
            log.base().0,
            self.applied.index,
            self.raft.commit(),
            self.raft.last_index()
        );
    }
}
