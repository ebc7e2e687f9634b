//! What must hold after every step. One file per property; each is told only what changed, so that a check
//! costs as little as the step itself.
//!
//! | property | paper | file |
//! | --- | --- | --- |
//! | one vote per term, remembered | Raft 5.2 | `votes` |
//! | election safety | Raft 5.2 | `election_safety` |
//! | leader append-only | Raft 5.3 | `append_only` |
//! | a leader commits by counting in its own term | Raft 5.4.2 | `commit_rule` |
//! | log matching | Raft 5.3 | `log_matching` |
//! | leader completeness | Raft 5.4 | `leader_completeness` |
//! | state machine safety | Raft 5.4.3 | `state_machine` |
//! | one lease at a time | rules L | `leases` |
//! | no lease while a split is under way | L3 | `split_lease` |
//! | what was vouched for survives | rules P | `durability` |
//! | every slot is in exactly one shard | | `ranges`, and by each store's routes `coverage` |
//! | members are who they are said to be | rules M | `members` |
//! | configs are numbered, whole and balanced | | `configs` |
//! | the log stays within its bounds | | `log_bounds` |

mod append_only;
mod commit_rule;
mod configs;
pub(crate) mod coverage;
mod durability;
mod election_safety;
mod leader_completeness;
mod leases;
mod log_bounds;
mod log_matching;
mod members;
mod mirror;
mod ranges;
mod split_lease;
mod state_machine;
mod votes;

use quorate_proto::PeerMessage;
use quorate_raft::{Entry, Index, MessageBody, Payload, ReplicaId, Role, Term};
use quorate_storage::ShardId;
use quorate_storage::log::LogOp;
use quorate_store::ReplicaStatus;

pub(crate) use append_only::AppendOnly;
use commit_rule::check_commit;
use configs::Configs;
pub(crate) use configs::decides;
pub(crate) use durability::Durable;
pub(crate) use election_safety::ElectionSafety;
pub(crate) use leader_completeness::LeaderCompleteness;
pub(crate) use leases::{Leases, Standing};
pub(crate) use log_bounds::LogBounds;
pub(crate) use log_matching::LogMatching;
pub(crate) use members::Members;
pub(crate) use mirror::{Mirror, Mirrors, hash_of};
use ranges::Ranges;
use split_lease::SplitLease;
pub(crate) use state_machine::StateMachine;
pub(crate) use votes::Votes;

/// A property that does not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which one.
    pub property: &'static str,
    /// How it was seen.
    pub detail: String,
}

impl Violation {
    pub(crate) fn new(property: &'static str, detail: String) -> Self {
        Self { property, detail }
    }
}

/// A replica of the simulation: node and shard.
pub(crate) type At = (usize, ShardId);

/// All properties together, and the picture of the logs that they share.
#[derive(Default)]
pub(crate) struct Oracles {
    pub(crate) mirrors: Mirrors,
    votes: Votes,
    election_safety: ElectionSafety,
    append_only: AppendOnly,
    log_matching: LogMatching,
    leader_completeness: LeaderCompleteness,
    pub(crate) state_machine: StateMachine,
    pub(crate) leases: Leases,
    durability: Durable,
    pub(crate) log_bounds: LogBounds,
    members: Members,
    pub(crate) configs: Configs,
    pub(crate) ranges: Ranges,
    split_lease: SplitLease,
}

impl Oracles {
    /// A process found this in its log when it started.
    pub(crate) fn started<'a>(
        &mut self,
        at: At,
        status: &ReplicaStatus,
        vote: (Term, Option<ReplicaId>),
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Result<(), Violation> {
        let base_term = self
            .leader_completeness
            .committed(at.1, status.log_base)
            .map(|(term, _)| term);
        let found = Mirror::new(status.log_base, base_term, entries);
        if status.rebuild.is_some() {
            // It knows that it has lost something; what it vouches for from now on counts.
            self.durability.forget(at);
            self.votes.forget(at.1, status.replica);
        } else if let Some(before) = self.mirrors.get(at) {
            self.durability.restarted(at, before, &found)?;
            self.votes.restarted(at.1, status.replica, vote)?;
        }
        self.append_only.restarted(at);
        self.leases.restarted(at);
        for (index, term, hash) in found.iter() {
            self.log_matching
                .stored(at.1, index, term, hash, found.term(index.prev()))?;
        }
        self.mirrors.put(at, found);
        Ok(())
    }

    /// What a turn gave to the log. Called before the turn's [`Oracles::status`].
    pub(crate) fn logged(&mut self, node: usize, op: &LogOp) -> Result<(), Violation> {
        match op {
            LogOp::Append { shard, entries } => {
                let at = (node, *shard);
                let Some(first) = entries.first() else {
                    return Ok(());
                };
                self.split_lease.appended(at, entries);
                let mirror = self.mirrors.entry(at);
                self.append_only.appended(at, first.index, mirror.last());
                self.durability.appended(at, first.index);
                mirror.append(entries);
                for entry in entries {
                    let prev = mirror.term(entry.index.prev());
                    self.log_matching
                        .stored(*shard, entry.index, entry.term, hash_of(entry), prev)?;
                }
            }
            LogOp::Reset { shard, index, term } => {
                let at = (node, *shard);
                self.append_only.reset(at);
                let mirror = self.mirrors.entry(at);
                self.durability.reset(at, mirror, (*index, *term));
                mirror.reset(*index, Some(*term));
            }
            LogOp::Compact { shard, index, term } => {
                self.mirrors.entry((node, *shard)).compact(*index, *term)
            }
            LogOp::Tombstone { shard, replica } => self.members.erased((node, *shard), *replica),
            LogOp::HardState { .. } => {}
        }
        Ok(())
    }

    /// What a turn sent. Called before the turn's [`Oracles::logged`]: what is acknowledged was given to the log
    /// in an earlier turn.
    pub(crate) fn sent(&mut self, node: usize, message: &PeerMessage) -> Result<(), Violation> {
        let PeerMessage::Raft(envelope) = message else {
            return Ok(());
        };
        let (shard, message) = (envelope.shard, &envelope.message);
        match message.body {
            MessageBody::VoteResponse { reject: false } => {
                self.votes.cast(shard, message.from, message.term, message.to)
            }
            MessageBody::AppendResponse { index, reject: None } => {
                // An answer of an earlier term speaks of entries that may be replaced by now.
                if let Some(mirror) = self
                    .mirrors
                    .get((node, shard))
                    .filter(|m| m.seen_term == message.term)
                {
                    self.durability.vouched((node, shard), index.min(mirror.last()));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A shard that lost its majority goes on with what a replica's log holds (docs/adr/0006). What was committed and is not
    /// there is taken for never committed; returns its positions.
    pub(crate) fn give_up(&mut self, at: At) -> Vec<Index> {
        let nothing = Mirror::default();
        let log = self.mirrors.get(at).unwrap_or(&nothing);
        let given_up = self.leader_completeness.give_up(at.1, log);
        if let Some(first) = given_up.first() {
            self.state_machine.give_up(at.1, *first);
        }
        given_up
    }

    /// As [`Oracles::give_up`], with nothing.
    pub(crate) fn give_up_all(&mut self, shard: ShardId) {
        self.leader_completeness.give_up(shard, &Mirror::default());
        self.state_machine.give_up(shard, Index(0));
    }

    /// A replica is not there any more: it was erased, or a crash undid its birth.
    pub(crate) fn gone(&mut self, at: At) {
        self.mirrors.remove(at);
        self.durability.forget(at);
        self.append_only.restarted(at);
        self.leases.restarted(at);
        self.election_safety.gone(at);
        self.log_bounds.gone(at);
        self.split_lease.gone(at);
    }

    /// An entry was applied.
    pub(crate) fn applied(&mut self, at: At, entry: &Entry) -> Result<bool, Violation> {
        if let Payload::ConfChange(change) = &entry.payload {
            let mirrors = &self.mirrors;
            let has_state = |node| {
                mirrors
                    .get((node, at.1))
                    .is_some_and(|mirror| mirror.last() > Index(0))
            };
            self.members.applied(at.1, entry.index, change, has_state)?;
        }
        let hash = hash_of(entry);
        let is_first = self.state_machine.applied(at, entry.index, entry.term, hash)?;
        self.committed(at, entry.index, entry.term, hash, None)?;
        Ok(is_first)
    }

    fn committed(
        &mut self,
        at: At,
        index: Index,
        term: Term,
        hash: u64,
        in_term: Option<Term>,
    ) -> Result<(), Violation> {
        self.leader_completeness
            .commit(at.1, index, term, hash, in_term)?;
        let in_term = self.leader_completeness.committed_in(at.1, index);
        // Those that lead already must have it as well.
        for (node, lead_term) in self.election_safety.leading(at.1) {
            if let Some(mirror) = self
                .mirrors
                .get((node, at.1))
                .filter(|_| in_term.is_some_and(|t| lead_term >= t))
            {
                self.leader_completeness
                    .leads((node, at.1), lead_term, mirror, index)?;
            }
        }
        Ok(())
    }

    /// How a replica stands after a turn; `before`: after the one before, in the same life.
    pub(crate) fn status(
        &mut self,
        node: usize,
        before: Option<&ReplicaStatus>,
        status: &ReplicaStatus,
    ) -> Result<(), Violation> {
        let at = (node, status.shard);
        self.members.seen(at, status.replica)?;
        self.ranges.seen(node, status)?;
        self.split_lease.seen(at, status)?;
        self.mirrors.entry(at).seen_term = status.term;
        let leads = status.role == Role::Leader;
        let led = before.is_some_and(|before| before.role == Role::Leader && before.term == status.term);
        self.append_only.ended(at, status.term, leads && led)?;
        if leads && led && before.is_some_and(|before| before.commit < status.commit) {
            let entry_term = self.mirrors.entry(at).term(status.commit);
            check_commit(at, status.term, status.commit, entry_term)?;
        }
        let known = before.map_or(Index(0), |before| before.commit);
        if status.commit > known && !status.installing {
            let mirror = self.mirrors.entry(at);
            let from = known.max(mirror.base()).next();
            let newly: Vec<_> = mirror.range(from, status.commit).collect();
            for (index, term, hash) in newly {
                self.committed(at, index, term, hash, Some(status.term))?;
            }
        }
        if leads && !led {
            // A candidate's own vote counts once it is durable, which winning shows; asking for votes does not.
            self.votes
                .cast(status.shard, status.replica, status.term, status.replica)?;
        }
        self.election_safety
            .seen(at, status.replica, status.term, leads)?;
        if leads && !led {
            let newest = self.leader_completeness.newest(status.shard);
            let mirror = self.mirrors.entry(at);
            self.leader_completeness.leads(at, status.term, mirror, newest)?;
        }
        Ok(())
    }

    /// Elections won so far.
    pub(crate) fn elections(&self) -> u64 {
        self.election_safety.count()
    }

    /// A process ended.
    pub(crate) fn stopped(&mut self, node: usize) {
        self.election_safety.stopped(node);
        self.leases.stopped(node);
        self.log_bounds.excused(node);
    }
}
