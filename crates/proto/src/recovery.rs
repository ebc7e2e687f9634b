//! Shards that lost their majority for ever: what is left of them, and how they go on (docs/adr/0006).

use quorate_raft::{Index, ReplicaId, Term};
use quorate_storage::{ShardId, StoreId};

use crate::{Epoch, ShardMember};

/// Survivors in one message, at most; the others come with later ones.
pub const SURVIVORS_MAX: usize = 128;
/// Runs of terms that a [`Survivor`] tells of, at most.
pub const RUNS_MAX: usize = 32;
/// How far a recovered shard's terms, epochs and replica ids are beyond all that anybody knows of: more than those who
/// are lost can have decided unseen.
pub const RECOVERY_STRIDE: u64 = 1 << 20;

/// A replica that hears no leader, told to the controller's leader again and again: what it holds, all of it durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Survivor {
    /// The shard.
    pub shard: ShardId,
    /// The replica.
    pub replica: ReplicaId,
    /// First slot, as far as it has applied.
    pub start_slot: u16,
    /// The slot behind the last.
    pub end_slot: u16,
    /// The shard's version, as far as it has applied.
    pub epoch: Epoch,
    /// The newest version of the shard that anybody told its store of.
    pub known: Epoch,
    /// Who holds the shard, as far as it has applied; sorted by replica.
    pub members: Vec<ShardMember>,
    /// Those of `members` that are none any more, as its store was told (M4), in ascending order: it lags behind the
    /// shard's membership.
    pub removed: Vec<ReplicaId>,
    /// The highest replica id that it knows of (M3).
    pub last_replica: ReplicaId,
    /// Its term.
    pub term: Term,
    /// What it knows to be committed.
    pub commit: Index,
    /// The end of its log.
    pub last: Index,
    /// Where the terms of its log begin, from the newest at or before `commit` on, in ascending order; the newest
    /// [`RUNS_MAX`] if there are more. The first may begin before the index that is said, the others begin there.
    pub runs: Vec<(Index, Term)>,
    /// The highest index that a leader spoke of to this process.
    pub heard: Option<Index>,
    /// Milliseconds since a leader spoke to this process; none if none has.
    pub silent_ms: Option<u64>,
    /// Sessions that it remembers (S).
    pub sessions: u64,
    /// Its log is damaged, or it is busy with a snapshot: it cannot go on alone.
    pub is_unfit: bool,
}

impl Survivor {
    /// The term of an entry of its log from `commit` on; none if it has no such entry, or does not say.
    #[must_use]
    pub fn term_at(&self, index: Index) -> Option<Term> {
        let is_told = index <= self.last && self.runs.first().is_some_and(|(first, _)| *first <= index);
        let run = self.runs.iter().rev().find(|(first, _)| *first <= index);
        run.filter(|_| is_told).map(|(_, term)| *term)
    }

    /// The term of the end of its log.
    #[must_use]
    pub fn last_term(&self) -> Term {
        self.runs.last().map_or(Term(0), |(_, term)| *term)
    }
}

/// How a shard that lost its majority goes on: one replica alone decides from then on, under a version and in terms that
/// those who are lost cannot have reached. The controller's log holds it before anybody acts by it, and never two of them
/// for two replicas that may both live.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// The shard.
    pub shard: ShardId,
    /// Who goes on.
    pub replica: ReplicaId,
    /// On which store.
    pub store: StoreId,
    /// First slot.
    pub start_slot: u16,
    /// The slot behind the last: what later versions of the shard have given away is not the replica's, even if it does
    /// not know.
    pub end_slot: u16,
    /// The shard's version from then on.
    pub epoch: Epoch,
    /// Elections are held above this term.
    pub term: Term,
    /// Replica ids are above this from then on (M3).
    pub last_replica: ReplicaId,
    /// What is left; none: nothing is, and the shard begins anew, empty.
    pub left: Option<Left>,
}

/// What a replica that goes on has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    /// Known to be committed, by one survivor at least.
    pub commit: Index,
    /// The end of its log: what is behind `commit` is kept, and nobody knows whether it was acknowledged.
    pub last: (Index, Term),
}

/// What becomes of a shard that lost its majority, for operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LossRow {
    /// How it goes on; none if it cannot.
    pub recovery: Option<Recovery>,
    /// The shard.
    pub shard: ShardId,
    /// First slot.
    pub start_slot: u16,
    /// The slot behind the last.
    pub end_slot: u16,
    /// The stores that hold something of it and were heard, in ascending order.
    pub survivors: Vec<StoreId>,
    /// The highest index that a leader spoke of to any of them since they started.
    pub heard: Option<Index>,
    /// Milliseconds since a leader spoke to any of them, if one has since they started.
    pub silent_ms: Option<u64>,
    /// Sessions that are kept.
    pub sessions: u64,
    /// The membership's version that the survivors have applied; none if there are no survivors.
    pub conf_ver: Option<u64>,
    /// The newest version of the membership that anybody was told of. Above `conf_ver`, the shard has gone on without those
    /// who survive, and what it decided since then is gone.
    pub known_conf_ver: Option<u64>,
}
