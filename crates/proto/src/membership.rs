//! Who holds a shard, who is to hold it, and what nodes tell each other about that.

use quorate_raft::{ReplicaId, Term, mutant};
use quorate_storage::{ShardId, StoreId};

use crate::Epoch;

/// Who holds a shard and who is to hold it: replicated state, changed by the shard's own log only.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    /// Which store each replica of the configuration is on, sorted by replica.
    pub members: Vec<(ReplicaId, StoreId)>,
    /// The voters that there are to be in the end, sorted by replica. Every leader works towards them (M1).
    pub wanted: Vec<(ReplicaId, StoreId)>,
    /// The voters when `wanted` was set: what a move that fails goes back to (M2).
    pub before: Vec<(ReplicaId, StoreId)>,
    /// The highest replica id that the shard ever had; a new one is above it (M3).
    pub last_replica: ReplicaId,
}

impl Membership {
    /// Whether a replica that once was a member is none any more, for good: ids rise (M3), so that one up to the
    /// highest that is neither a member nor wanted cannot come back.
    #[must_use]
    pub fn has_removed(&self, replica: ReplicaId) -> bool {
        let has = |places: &[(ReplicaId, StoreId)]| places.iter().any(|(id, _)| *id == replica);
        let is_member = has(&self.members) && !mutant!("erased-while-a-member");
        replica <= self.last_replica && !is_member && !has(&self.wanted)
    }
}

/// Ids for a new shard. No other shard ever had or will have the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SplitIds {
    /// The shard's.
    pub child: ShardId,
    /// Its replicas': one for each voter of the shard that is split.
    pub replicas: Vec<ReplicaId>,
}

/// A wish about a shard's replicas, for its leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Manage {
    /// Other stores are to hold the shard. Answers Ok once the shard has taken the wish down; it comes about by and
    /// by.
    Change {
        /// They get a replica.
        add: Vec<StoreId>,
        /// Their replica is removed.
        remove: Vec<StoreId>,
    },
    /// Back to the voters before the change under way (M2). Answers Ok likewise.
    Abort,
    /// The slots from one on become a shard of their own. Answers Ok once the shard is split.
    Split {
        /// The new shard's first slot; none: the leader chooses, so that about half of the data lies on either side.
        slot: Option<u16>,
        /// What the new shard is called; none: the leader asks for ids.
        ids: Option<SplitIds>,
    },
    /// This store is to lead. Answers Ok once the transfer has begun.
    Transfer {
        /// It has a voter of the shard.
        to: StoreId,
    },
}

/// A shard as a store knows it, for one that may not know it, or not so well.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardInfo {
    /// The shard.
    pub shard: ShardId,
    /// First slot; shard 0 has none (start = end).
    pub start_slot: u16,
    /// The slot behind the last.
    pub end_slot: u16,
    /// As of this version.
    pub epoch: Epoch,
    /// Who holds it. A replica that it [has removed](Membership::has_removed) erases itself (M4).
    pub membership: Membership,
    /// Who leads, if known.
    pub leader: Option<StoreId>,
    /// The term that it leads in.
    pub term: Term,
    /// A time in milliseconds at which a session may be opened: the shard's own (T1), and later than what it has
    /// forgotten (S3).
    pub session_ms: u64,
}
