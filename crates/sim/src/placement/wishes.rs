//! What the operator asks for: by what it knows, which may be old, and sometimes what cannot be.

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto::{Config, ControlCommand, GroupId, PlacementCommand, Service};
use quorate_storage::{ShardId, StoreId};

use super::{Stage, Wish};
use crate::world::{Event, World};

/// Stores of a group that joins, at most.
const GROUP_MAX: usize = 4;
/// Virtual microseconds between two attempts to remove a store.
const REMOVAL_US: u64 = 1_500_000;
/// A group and a store that never are.
const NO_GROUP: GroupId = GroupId(99_999);
const NO_STORE: StoreId = StoreId(99_999);

impl World {
    /// Groups join, leave, get other stores or shards.
    pub(crate) fn place_at_random(&mut self) {
        let config = self.oracles.configs.newest().clone();
        if self.fault_rng.one_in(8) {
            let command = ControlCommand::Place(self.nonsense(&config));
            self.ask_for_placement(Wish::Nonsense(command.clone()), command);
        } else if let Some(command) = self.sense(&config) {
            self.ask_for_placement(Wish::Change, ControlCommand::Place(command));
        }
    }

    fn sense(&mut self, config: &Config) -> Option<PlacementCommand> {
        let groups: Vec<GroupId> = config.groups.keys().copied().collect();
        let placed: BTreeSet<StoreId> = config.groups.values().flatten().copied().collect();
        let free: Vec<StoreId> = self
            .stores()
            .into_iter()
            .filter(|store| !placed.contains(store))
            .collect();
        let group = *self.fault_rng.pick(&groups);
        let kind = self.fault_rng.below(12);
        Some(match kind {
            0..4 if !free.is_empty() => self.joins(config, free),
            0..6 => self.parts_with(config)?,
            6 | 7 if groups.len() > 1 => PlacementCommand::Leave(BTreeSet::from([group])),
            8 if !free.is_empty() => PlacementCommand::Regroup {
                group,
                add: BTreeSet::from([*self.fault_rng.pick(&free)]),
                remove: BTreeSet::new(),
            },
            9 => PlacementCommand::Rebalance,
            // Refused, unless it has left its group meanwhile.
            10 => PlacementCommand::Join(BTreeMap::from([(GroupId(10), placed)])),
            _ => PlacementCommand::Move {
                shard: self.any_shard(config)?,
                group,
            },
        })
    }

    /// One group or two of stores that are in none; under an id that was used before, or a fresh one.
    fn joins(&mut self, config: &Config, mut free: Vec<StoreId>) -> PlacementCommand {
        let mut joins = BTreeMap::new();
        for _ in 0..self.fault_rng.range(1, 2) {
            let mut stores = BTreeSet::new();
            for _ in 0..self.fault_rng.range(1, GROUP_MAX as u64) {
                if !free.is_empty() {
                    let at = self.fault_rng.below(free.len() as u64) as usize;
                    stores.insert(free.swap_remove(at));
                }
            }
            let ids = (1..=9).map(GroupId);
            let new: Vec<GroupId> = ids
                .filter(|id| !config.groups.contains_key(id) && !joins.contains_key(id))
                .collect();
            if !stores.is_empty() && !new.is_empty() {
                joins.insert(*self.fault_rng.pick(&new), stores);
            }
        }
        PlacementCommand::Join(joins)
    }

    /// A group parts with some of its stores, so that they may join as another.
    fn parts_with(&mut self, config: &Config) -> Option<PlacementCommand> {
        let large: Vec<GroupId> = config
            .groups
            .iter()
            .filter(|(_, stores)| stores.len() > 1)
            .map(|(group, _)| *group)
            .collect();
        if large.is_empty() {
            return None;
        }
        let group = *self.fault_rng.pick(&large);
        let mut stores: Vec<StoreId> = config.groups.get(&group)?.iter().copied().collect();
        let mut remove = BTreeSet::new();
        for _ in 0..self.fault_rng.range(1, stores.len() as u64 - 1) {
            let at = self.fault_rng.below(stores.len() as u64) as usize;
            remove.insert(stores.swap_remove(at));
        }
        Some(PlacementCommand::Regroup {
            group,
            add: BTreeSet::new(),
            remove,
        })
    }

    /// What cannot be, whatever else happens meanwhile.
    fn nonsense(&mut self, config: &Config) -> PlacementCommand {
        let groups: Vec<GroupId> = config.groups.keys().copied().collect();
        let group = *self.fault_rng.pick(&groups);
        match self.fault_rng.below(6) {
            0 => PlacementCommand::Join(BTreeMap::new()),
            1 => PlacementCommand::Join(BTreeMap::from([(NO_GROUP, BTreeSet::new())])),
            2 => PlacementCommand::Join(BTreeMap::from([(NO_GROUP, BTreeSet::from([NO_STORE]))])),
            3 => PlacementCommand::Leave(BTreeSet::from([NO_GROUP])),
            4 => PlacementCommand::Move {
                shard: ShardId(u64::MAX),
                group,
            },
            _ => PlacementCommand::Regroup {
                group: NO_GROUP,
                add: BTreeSet::new(),
                remove: BTreeSet::from([StoreId(1)]),
            },
        }
    }

    fn any_shard(&mut self, config: &Config) -> Option<ShardId> {
        let nth = self.fault_rng.below(config.shards.len() as u64);
        config.shards.keys().nth(nth as usize).copied()
    }

    /// Stores of the cluster.
    fn stores(&self) -> Vec<StoreId> {
        let nodes = (0..self.nodes.len()).filter(|node| self.is_of_cluster(*node));
        nodes.map(|node| self.nodes[node].identity.store).collect()
    }

    /// A store is drained, undrained, or removed.
    pub(crate) fn drain_at_random(&mut self) {
        let stores = self.stores();
        let is_draining = |store: &StoreId| self.oracles.configs.service(*store) == Service::Draining;
        let (draining, active): (Vec<StoreId>, Vec<StoreId>) =
            stores.iter().partition(|store| is_draining(store));
        let drains = draining.is_empty() || self.fault_rng.one_in(3);
        // Rarely so many that somebody has to stay.
        let enough = if self.fault_rng.one_in(8) { 1 } else { 3 };
        if drains && active.len() > enough {
            let store = *self.fault_rng.pick(&active);
            self.set_service(store, Service::Draining);
            if self.fault_rng.one_in(2) {
                self.placement.removing.insert(store);
                self.remove_later(store);
            }
        } else if !draining.is_empty() {
            let store = *self.fault_rng.pick(&draining);
            if self.fault_rng.one_in(2) {
                self.placement.removing.remove(&store);
                self.set_service(store, Service::Active);
            } else if self.placement.removing.insert(store) {
                self.remove_later(store);
            }
        }
    }

    fn set_service(&mut self, store: StoreId, service: Service) {
        self.ask_for_placement(Wish::Change, ControlCommand::SetStore { store, service });
    }

    fn remove_later(&mut self, store: StoreId) {
        let at = self.now_us + REMOVAL_US;
        self.queue.push(at, Event::Placement(Stage::Removal(store)));
    }

    /// Asks again for a store to be removed, which is refused as long as it holds something.
    pub(super) fn await_removal(&mut self, store: StoreId) {
        let is_wanted = self.placement.removing.contains(&store);
        match self.oracles.configs.service(store) {
            Service::Removed => _ = self.placement.removing.remove(&store),
            Service::Draining | Service::Active if is_wanted => {
                self.set_service(store, Service::Removed);
                self.remove_later(store);
            }
            Service::Draining | Service::Active => {}
        }
    }
}
