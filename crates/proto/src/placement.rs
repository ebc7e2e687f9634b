//! Which group of stores is to hold which shard.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use quorate_storage::{ShardId, StoreId};

/// A named set of stores that shards are placed on. Counted from 1; chosen by whoever joins it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct GroupId(pub u64);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Groups and the stores of each.
pub type Groups = BTreeMap<GroupId, BTreeSet<StoreId>>;

/// A change of the placement, for the controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlacementCommand {
    /// Groups come, and get their share of the shards.
    Join(Groups),
    /// Groups go, and the others share what they held.
    Leave(BTreeSet<GroupId>),
    /// A shard goes to a group, and stays there until the next join, leave or rebalance.
    Move {
        /// The shard.
        shard: ShardId,
        /// The group that is to hold it.
        group: GroupId,
    },
    /// Stores come into a group and go from it. No shard changes its group. What holds already changes nothing.
    Regroup {
        /// The group.
        group: GroupId,
        /// Stores that are in no group so far.
        add: BTreeSet<StoreId>,
        /// Stores that are in no group afterwards; the group keeps others.
        remove: BTreeSet<StoreId>,
    },
    /// The groups share all shards evenly again.
    Rebalance,
    /// Slots of a shard have become a shard of their own, which inherits the group. What is known already changes
    /// nothing.
    Split {
        /// The shard that was split.
        parent: ShardId,
        /// The new one.
        child: ShardId,
        /// The new one's first slot.
        slot: u16,
    },
}

/// A shard's place in a [`Config`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// First slot.
    pub start_slot: u16,
    /// The slot behind the last.
    pub end_slot: u16,
    /// Who is to hold the shard; nobody while there is no group.
    pub group: Option<GroupId>,
}

/// A numbered state of the placement: the intent, towards which replicas are moved. It never changes; every change makes
/// a new one, with the next number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// Counted from 0, which has no groups.
    pub num: u64,
    /// The groups. No store is in two of them.
    pub groups: Groups,
    /// All data shards; their ranges cover every slot once.
    pub shards: BTreeMap<ShardId, Place>,
}

/// What a config changed of the one before it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Delta {
    /// The new stores of groups; none: the group goes.
    pub groups: BTreeMap<GroupId, Option<BTreeSet<StoreId>>>,
    /// The new places of shards.
    pub shards: BTreeMap<ShardId, Place>,
}

impl Config {
    /// Makes it the next config.
    pub fn change(&mut self, delta: &Delta) {
        self.num += 1;
        for (group, stores) in &delta.groups {
            match stores {
                Some(stores) => self.groups.insert(*group, stores.clone()),
                None => self.groups.remove(group),
            };
        }
        self.shards.extend(&delta.shards);
    }
}

/// A shard that would change its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlannedMove {
    /// The shard.
    pub shard: ShardId,
    /// Who is to hold it so far; nobody while there is no group.
    pub from: Option<GroupId>,
    /// Who would be.
    pub to: Option<GroupId>,
    /// Bytes of keys and values, roughly; none if its leader has not told so far.
    pub bytes: Option<u64>,
}

/// A shard that is not where the config wants it, or whose membership is changing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MoveRow {
    /// The shard.
    pub shard: ShardId,
    /// The group that is to hold it; none for the controller's.
    pub group: Option<GroupId>,
    /// Stores that hold it and are not to, in ascending order.
    pub from: Vec<StoreId>,
    /// Stores that are coming to hold it, in ascending order; empty before that has begun.
    pub to: Vec<StoreId>,
    /// Those of `to` that have all of it.
    pub ready: Vec<StoreId>,
    /// Bytes of keys and values, roughly, that each of them takes; none if its leader has not told so far.
    pub bytes: Option<u64>,
}
