//! The schedulers: from what the cluster is to what is to be done. Pure: the same view gives the same operators.
//!
//! The replica checker comes first: a shard that is not as it should be is put right before anything is balanced. An
//! operator is one wish for a shard's leader, which carries it out step by step (M1) and goes back by itself if that
//! fails (M2). It names the epoch that it was made for, and is void for any other. So an order that is lost, late or
//! given twice does no harm, and nothing about operators need be remembered over a change of the controller's leader.
//!
//! [`Operators`] remembers them within a reign: since when each is wanted, what became of it, and which shards are let
//! rest because what was wanted of them came to nothing.

mod balance_leaders;
mod balance_shards;
mod hot_shards;
mod operators;
mod replicas;
mod seen;
mod view;

use std::cmp::Reverse;
use std::collections::BTreeMap;

use quorate_proto::{Epoch, Manage, Order};
use quorate_raft::mutant;
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::Limits;

pub use operators::{BEGIN_US, END_US, Operators, REST_US, RETURN_US, Running};
pub(crate) use seen::is_warm;
pub use seen::{Cluster, Kept, seen};
use view::Load;
pub use view::{ClusterView, Condition, MemberView, ShardView, StoreView};

/// Why something is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The shard has too few replicas.
    Missing,
    /// It has too many.
    Extra,
    /// A replica's store has been away for too long.
    Down,
    /// A replica's store is to be emptied.
    Draining,
    /// A replica's store is not of the shard's group.
    Misplaced,
    /// Stores hold or lead more than others.
    Balance,
    /// A store serves much more than another that could lead the shard.
    Hot,
}

impl Reason {
    /// Whether the shard is not as it should be; otherwise it could only be better placed.
    fn is_urgent(self) -> bool {
        !matches!(self, Self::Balance | Self::Hot)
    }
}

/// Something to be done about a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operator {
    /// The shard.
    pub shard: ShardId,
    /// For this version of it only.
    pub epoch: Epoch,
    /// What.
    pub task: Task,
    /// Why.
    pub reason: Reason,
}

/// What is to be done about a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Task {
    /// Others are to hold it.
    Members {
        /// They get a replica.
        add: Vec<StoreId>,
        /// Their replica is removed.
        remove: Vec<StoreId>,
    },
    /// Another member is to lead.
    Leader {
        /// It leads.
        to: StoreId,
    },
}

impl Operator {
    /// What the shard's leader is told.
    #[must_use]
    pub fn order(&self) -> Order {
        let wish = match &self.task {
            Task::Members { add, remove } => Manage::Change {
                add: add.clone(),
                remove: remove.clone(),
            },
            Task::Leader { to } => Manage::Transfer { to: *to },
        };
        Order {
            shard: self.shard,
            epoch: self.epoch,
            wish,
        }
    }
}

/// What is to be done now. At most one operator for a shard, none for one whose members change already.
///
/// Nothing is replaced while half of the stores or more look down: then it is rather the controller that is cut off.
#[must_use]
pub fn operators(view: &ClusterView, limits: &Limits) -> Vec<Operator> {
    if view.is_cut_off() && !mutant!("replaced-although-half-are-down") {
        return Vec::new();
    }
    let mut round = Round {
        view,
        limits,
        load: Load::of(view),
        incoming: BTreeMap::new(),
        changes: 0,
        operators: BTreeMap::new(),
    };
    for shard in view.shards.values().filter(|shard| shard.is_changing) {
        round.changes += 1;
        for member in shard.members.iter().filter(|member| member.is_joining) {
            *round.incoming.entry(member.store).or_default() += 1;
        }
    }
    round.count_fewest();
    let shards = round.shards();
    round.run(&shards, replicas::check);
    round.run(&shards, balance_shards::check);
    round.run(&shards, hot_shards::check);
    round.run(&shards, balance_leaders::check);
    round.operators.into_values().collect()
}

type Check = fn(&ClusterView, &Load, ShardId, &ShardView) -> Option<Operator>;

/// Operators under way to being given.
struct Round<'a> {
    view: &'a ClusterView,
    limits: &'a Limits,
    load: Load,
    /// Replicas that stores are getting, or are to get by the operators so far.
    incoming: BTreeMap<StoreId, usize>,
    /// Shards whose members change, or are to change by the operators so far.
    changes: usize,
    operators: BTreeMap<ShardId, Operator>,
}

impl<'a> Round<'a> {
    /// Those that may be changed. What has a replica that lags or is lost goes first: it is nearest to being lost. Then what
    /// is on full stores.
    fn shards(&self) -> Vec<(ShardId, &'a ShardView)> {
        let free = self.view.shards.iter();
        let free = free.filter(|(_, of)| !of.is_changing && !of.is_resting);
        let mut shards: Vec<_> = free.map(|(shard, of)| (*shard, of)).collect();
        shards
            .sort_by_cached_key(|(shard, of)| (Reverse(self.at_risk(of)), Reverse(self.fullest(of)), *shard));
        shards
    }

    fn run(&mut self, shards: &[(ShardId, &ShardView)], check: Check) {
        for (shard, of) in shards {
            if !self.operators.contains_key(shard)
                && let Some(operator) = check(self.view, &self.load, *shard, of)
                && !self.take(operator, of)
            {
                return;
            }
        }
    }

    fn count_fewest(&mut self) {
        let (view, incoming) = (self.view, &self.incoming);
        let is_full =
            |store: StoreId| incoming.get(&store).copied().unwrap_or_default() >= self.limits.incoming;
        self.load
            .count_fewest(|store| view.condition(store) == Condition::Up && !is_full(store));
    }

    /// Members that are not of full use.
    fn at_risk(&self, of: &ShardView) -> usize {
        let is_of_use =
            |member: &&MemberView| !member.is_pending && self.view.condition(member.store) == Condition::Up;
        self.view
            .replicas
            .saturating_sub(of.members.iter().filter(is_of_use).count())
    }

    /// Replicas on that of its stores that has the most.
    fn fullest(&self, of: &ShardView) -> usize {
        let replicas = of.members.iter().map(|member| self.load.replicas(member.store));
        replicas.max().unwrap_or(0)
    }

    /// Takes the operator, if there is room for it. Whether there is room for others.
    fn take(&mut self, operator: Operator, of: &ShardView) -> bool {
        let is_bounded = !mutant!("more-at-a-time-than-allowed");
        match &operator.task {
            Task::Members { add, remove } => {
                let is_full = |store: &StoreId| {
                    let incoming = self.incoming.get(store).copied().unwrap_or_default();
                    incoming >= self.limits.incoming
                };
                if self.changes >= self.limits.changes && is_bounded {
                    return false;
                }
                if add.iter().any(is_full) && is_bounded {
                    return true;
                }
                self.changes += 1;
                for store in add {
                    self.load.comes(*store);
                    *self.incoming.entry(*store).or_default() += 1;
                }
                remove.iter().for_each(|store| self.load.goes(*store));
                self.count_fewest();
            }
            Task::Leader { to } => {
                let leaders = self.operators.values();
                let leaders = leaders.filter(|operator| matches!(operator.task, Task::Leader { .. }));
                if leaders.count() >= self.limits.leaders {
                    return false;
                }
                self.load.leads(of, *to);
            }
        }
        self.operators.insert(operator.shard, operator);
        true
    }
}
