//! Once faults have ended, the placement comes about: within a bound every shard is held by stores of its group alone, as
//! many as there are to be, nothing is on stores that are to be emptied or were removed, those were told so, and what
//! moved has left nothing behind.

use std::collections::BTreeSet;
use std::ops::Range;

use quorate_controller::{END_US, REST_US};
use quorate_proto::Service;
use quorate_storage::engine::{EngineError, View as _};
use quorate_storage::{ShardId, StoreId};
use quorate_store::SLOTS;
use quorate_store::kv::Space;
use quorate_store::rsm::CONTROLLER;

use super::Standing;
use crate::oracle::Violation;
use crate::world::World;

/// Virtual microseconds within which it has come about: what failed before may rest and be avoided for so long.
const SETTLED_US: u64 = END_US + 6 * REST_US;
/// Ticks within which nothing is left behind: at each, a part of what one replica left is dropped.
const ERASED_TICKS: u64 = 600;
/// Virtual microseconds between two looks.
const LOOK_US: u64 = 20_000;
/// Replicas of the controller's shard.
const CONTROLLER_REPLICAS: usize = 3;
/// First bytes of what shards keep: rows of the controller, data, expiry index, sessions, answers.
const KINDS: &[u8] = b"cdxsw";

impl World {
    /// Lets time pass until the placement has come about, if anybody sees to it.
    pub(crate) fn await_settled(&mut self) -> Result<(), Violation> {
        if self.plan.store.schedule.is_none() {
            return Ok(());
        }
        let until_us = self.now_us + SETTLED_US;
        while let Some(what) = self.placement_lacks().filter(|_| !self.is_over()) {
            if self.now_us > until_us {
                let detail = format!("{what}; {}", self.standing());
                return Err(Violation::new(
                    "the placement comes about once faults have ended",
                    detail,
                ));
            }
            self.run_until(self.now_us + LOOK_US)?;
        }
        Ok(())
    }

    /// The first thing that is not as it is to be.
    fn placement_lacks(&self) -> Option<String> {
        let untold = self.untold();
        if untold > 0 {
            return Some(format!("{untold} removed stores run and were not told"));
        }
        let config = self.oracles.configs.newest();
        let shards = self.oracles.ranges.all();
        for (shard, _) in &shards {
            let Some(place) = config.shards.get(shard) else {
                return Some(format!("the config does not know shard {shard}"));
            };
            let stores = place.group.and_then(|group| config.groups.get(&group));
            let Some(stores) = stores else {
                return Some(format!("shard {shard} has no group"));
            };
            let lacks = self.shard_lacks(*shard, usize::from(self.plan.replicas), stores);
            if lacks.is_some() {
                return lacks;
            }
        }
        let nodes = (0..self.nodes.len()).filter(|node| self.is_of_cluster(*node));
        let all: BTreeSet<StoreId> = nodes.map(|node| self.nodes[node].identity.store).collect();
        self.shard_lacks(CONTROLLER, CONTROLLER_REPLICAS, &all)
    }

    /// Whether a shard that is to have so many replicas is held by these stores as it should be.
    fn shard_lacks(&self, shard: ShardId, full: usize, stores: &BTreeSet<StoreId>) -> Option<String> {
        let stays: BTreeSet<StoreId> = stores
            .iter()
            .copied()
            .filter(|store| self.oracles.configs.service(*store) == Service::Active)
            .collect();
        let held: BTreeSet<StoreId> = self.holders(shard.0).into_iter().collect();
        let most = full.min(stays.len()).max(1);
        // Two voters are no better than one: the second waits for a third.
        let is_even = most < full && most.is_multiple_of(2);
        let least = if is_even { most - 1 } else { most };
        // If all are to be emptied, somebody stays.
        let is_placed = stays.is_empty() || held.is_subset(&stays);
        let nodes: Vec<usize> = held
            .iter()
            .map(|store| crate::workload::node_of(*store))
            .collect();
        let is_full = (least..=most).contains(&held.len());
        (!is_placed || !is_full || !self.is_held_by(shard.0, &nodes)).then(|| {
            format!("shard {shard} is held by {held:?} and belongs on {least} to {most} of {stays:?}")
        })
    }

    /// Nodes hold nothing of what they do not hold a replica of. What goes is dropped in slices, at ticks.
    pub(crate) fn await_erased(&mut self) -> Result<(), Violation> {
        let ticks = ERASED_TICKS;
        let until_us = self.now_us + ticks * self.plan.store.tick_us + 4 * self.plan.disk.durable_us_max;
        while let Some(what) = self.left_behind()?.filter(|_| !self.is_over()) {
            if self.now_us > until_us {
                return Err(Violation::new("what has moved leaves nothing behind", what));
            }
            self.run_until(self.now_us + LOOK_US)?;
        }
        Ok(())
    }

    /// The first key on a node that belongs to no replica there.
    fn left_behind(&self) -> Result<Option<String>, Violation> {
        for (node, state) in self.nodes.iter().enumerate() {
            let Some(process) = state
                .process
                .as_ref()
                .filter(|_| state.standing == Standing::Store)
            else {
                continue;
            };
            let mut spaces = BTreeSet::new();
            let mut owned: Vec<(Space, Range<u16>)> = Vec::new();
            for status in self.status(node) {
                if let Some(of) = process.store.descriptor(status.shard) {
                    spaces.extend([of.space, of.sessions]);
                    // What clients have in the controller's shard may be in any slot.
                    let slots = match status.shard {
                        CONTROLLER => 0..SLOTS,
                        _ => of.start_slot..of.end_slot,
                    };
                    owned.push((of.space, slots));
                }
            }
            for kind in KINDS {
                let is_left = |key: &[u8]| {
                    let space = key.get(1..5).and_then(|part| part.try_into().ok());
                    let space = space.map(|part| Space(u32::from_be_bytes(part)));
                    let Some(space) = space.filter(|space| spaces.contains(space)) else {
                        return true;
                    };
                    let slot = key.get(5..7).and_then(|part| part.try_into().ok());
                    let slot = slot.map_or(SLOTS, u16::from_be_bytes);
                    let mut owners = owned.iter().filter(|(of, _)| *of == space);
                    *kind == b'd' && !owners.any(|(_, slots)| slots.contains(&slot))
                };
                for found in process.store.engine().scan(&[*kind], &[*kind + 1]) {
                    let broken = |error: EngineError| {
                        Violation::new("the state engine can be read", error.to_string())
                    };
                    let (key, _) = found.map_err(broken)?;
                    if is_left(&key) {
                        let detail = format!(
                            "node {} holds \"{}\", which is of no replica there: {owned:?}",
                            node + 1,
                            key.escape_ascii()
                        );
                        return Ok(Some(detail));
                    }
                }
            }
        }
        Ok(None)
    }
}
