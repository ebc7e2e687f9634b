//! What the schedulers look at.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_proto::{Config, Epoch, GroupId};
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::CONTROLLER;

/// Replicas of the controller's shard, whatever the others have.
const CONTROLLER_REPLICAS: usize = 3;

/// What may be done with a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// It takes replicas and leaders.
    Up,
    /// It has not been heard of lately, or has no space left: it takes nothing, and nothing is taken from it.
    Away,
    /// It is to be emptied.
    Draining,
    /// It has been away for so long that others are to hold what it holds.
    Down,
}

/// A store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreView {
    /// What may be done with it.
    pub condition: Condition,
    /// What fails together with it: replicas of a shard go to different zones where there are enough. Empty: a zone of
    /// its own.
    pub zone: Bytes,
    /// It may hold the controller's shard.
    pub controls: bool,
}

/// A member of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberView {
    /// Where it is.
    pub store: StoreId,
    /// It lags behind: its answer does not count for much yet.
    pub is_pending: bool,
    /// It is on its way to becoming a voter.
    pub is_joining: bool,
}

/// A shard, as its leader tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardView {
    /// As of this version.
    pub epoch: Epoch,
    /// Who leads.
    pub leader: StoreId,
    /// Who holds it, without those that are on their way out.
    pub members: Vec<MemberView>,
    /// A change of the members is under way.
    pub is_changing: bool,
    /// Reads and writes in a second.
    pub load: u64,
    /// It is let alone for now: what was wanted of it lately came to nothing, or who leads it has not been heard for so
    /// long that nobody is there to take an order.
    pub is_resting: bool,
    /// Stores that could not be given a replica of it lately, or the lead. They are chosen if there is no other.
    pub avoid: BTreeSet<StoreId>,
}

impl ShardView {
    /// Whether a member lags behind.
    pub(super) fn lags(&self, store: StoreId) -> bool {
        let mut members = self.members.iter();
        members.any(|member| member.store == store && member.is_pending)
    }
}

/// The cluster, as the controller's leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterView {
    /// Which group is to hold which shard.
    pub config: Config,
    /// Replicas that a shard is to have.
    pub replicas: usize,
    /// All stores that have an id of the cluster.
    pub stores: BTreeMap<StoreId, StoreView>,
    /// The shards whose leaders have been heard.
    pub shards: BTreeMap<ShardId, ShardView>,
}

/// The stores that may hold a shard.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// In ascending order.
    pub(super) stores: Vec<StoreId>,
    /// How many of them are not to be emptied. One that is only down counts: somebody keeps its place.
    staying: usize,
    /// The fewest replicas that one of them has which takes another one now. Most shards need no look at each store
    /// with it.
    pub(super) fewest: usize,
}

impl Group {
    fn new(view: &ClusterView, stores: impl Iterator<Item = StoreId>) -> Self {
        let stores: Vec<StoreId> = stores.collect();
        let stays = |store: &&StoreId| {
            let store = view.stores.get(store);
            store.is_some_and(|store| store.condition != Condition::Draining)
        };
        Self {
            staying: stores.iter().filter(stays).count(),
            stores,
            fewest: 0,
        }
    }

    pub(super) fn has(&self, store: StoreId) -> bool {
        self.stores.binary_search(&store).is_ok()
    }

    /// How many replicas a shard of the group is to have that has so many now: as many as were asked for, if there are
    /// enough stores that are not to be emptied.
    ///
    /// While there are fewer stores than replicas are wanted, none is added that would make the number even: two voters
    /// tolerate no more failures than one, and there are two that can fail. None is removed for that either.
    pub(super) fn wanted(&self, view: &ClusterView, shard: ShardId, held: usize) -> usize {
        let full = match shard {
            CONTROLLER => CONTROLLER_REPLICAS,
            _ => view.replicas,
        };
        let can = full.min(self.staying).max(1);
        let is_even = can < full && can.is_multiple_of(2);
        if is_even && held < can { can - 1 } else { can }
    }
}

/// What each store and each group has, shards on their way counted where they go.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    /// Replicas by store.
    replicas: BTreeMap<StoreId, usize>,
    /// Leaders by store.
    leaders: BTreeMap<StoreId, usize>,
    /// What those are asked for, in operations per second, by store.
    served: BTreeMap<StoreId, u64>,
    /// The config's.
    groups: BTreeMap<GroupId, Group>,
    /// The stores with the controller role, if there are any.
    controllers: Option<Group>,
}

impl Load {
    pub(super) fn of(view: &ClusterView) -> Self {
        let groups = view.config.groups.iter();
        let groups = groups.map(|(id, stores)| (*id, Group::new(view, stores.iter().copied())));
        let controllers = view.stores.iter().filter(|(_, store)| store.controls);
        let controllers = Group::new(view, controllers.map(|(id, _)| *id));
        let mut load = Self {
            groups: groups.collect(),
            controllers: (!controllers.stores.is_empty()).then_some(controllers),
            ..Self::default()
        };
        for shard in view.shards.values() {
            *load.leaders.entry(shard.leader).or_default() += 1;
            *load.served.entry(shard.leader).or_default() += shard.load;
            for member in &shard.members {
                load.comes(member.store);
            }
        }
        load
    }

    /// The group that is to hold the shard: those with the controller role for the controller's shard. None if nothing is
    /// decided about it, or nobody has the role: then the shard stays where it is.
    pub(super) fn group_of(&self, view: &ClusterView, shard: ShardId) -> Option<&Group> {
        if shard == CONTROLLER {
            return self.controllers.as_ref();
        }
        self.groups.get(&view.config.shards.get(&shard)?.group?)
    }

    /// Counts anew what the stores have which take a replica.
    pub(super) fn count_fewest(&mut self, takes: impl Fn(StoreId) -> bool) {
        for group in self.groups.values_mut() {
            let takers = group.stores.iter().filter(|store| takes(**store));
            let had = takers.map(|store| self.replicas.get(store).copied().unwrap_or(0));
            group.fewest = had.min().unwrap_or(usize::MAX);
        }
    }

    pub(super) fn replicas(&self, store: StoreId) -> usize {
        self.replicas.get(&store).copied().unwrap_or(0)
    }

    pub(super) fn leaders(&self, store: StoreId) -> usize {
        self.leaders.get(&store).copied().unwrap_or(0)
    }

    pub(super) fn served(&self, store: StoreId) -> u64 {
        self.served.get(&store).copied().unwrap_or(0)
    }

    pub(super) fn comes(&mut self, store: StoreId) {
        *self.replicas.entry(store).or_default() += 1;
    }

    pub(super) fn goes(&mut self, store: StoreId) {
        let count = self.replicas.entry(store).or_default();
        *count = count.saturating_sub(1);
    }

    /// Another store leads the shard.
    pub(super) fn leads(&mut self, of: &ShardView, to: StoreId) {
        let count = self.leaders.entry(of.leader).or_default();
        *count = count.saturating_sub(1);
        *self.leaders.entry(to).or_default() += 1;
        let served = self.served.entry(of.leader).or_default();
        *served = served.saturating_sub(of.load);
        *self.served.entry(to).or_default() += of.load;
    }
}

impl ClusterView {
    /// Whether half of the stores or more look down, and some have for so long that they would be replaced.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        let count = |condition: Condition| {
            let stores = self.stores.values();
            stores.filter(|store| store.condition == condition).count()
        };
        let down = count(Condition::Down);
        down > 0 && 2 * (down + count(Condition::Away)) >= self.stores.len()
    }

    /// What is down may come back soon.
    pub(super) fn replace_nobody(&mut self) {
        for store in self.stores.values_mut() {
            if store.condition == Condition::Down {
                store.condition = Condition::Away;
            }
        }
    }

    /// What may be done with a store; one that the cluster does not know is gone.
    pub(super) fn condition(&self, store: StoreId) -> Condition {
        self.stores
            .get(&store)
            .map_or(Condition::Down, |store| store.condition)
    }

    /// How many of the stores are in the same zone as this one.
    pub(super) fn same_zone(&self, store: StoreId, others: &[StoreId]) -> usize {
        let zone = |store: StoreId| {
            self.stores
                .get(&store)
                .map(|view| &view.zone)
                .filter(|zone| !zone.is_empty())
        };
        let Some(own) = zone(store) else { return 0 };
        let others = others.iter().filter(|other| **other != store);
        others.filter(|other| zone(**other) == Some(own)).count()
    }
}
