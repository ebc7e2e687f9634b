//! What the controller's leader has heard of the cluster, held against what is.
//!
//! At each tick: it knows nothing that it has not heard itself in this term, and of each shard what it knows never goes
//! back. Once faults have ended: its map is what the leaders of all shards say, whole, the config has every split, and every store
//! is up.

use std::collections::BTreeMap;

use quorate_controller::Controller;
use quorate_proto::{
    Answer, Config, ControlQuery, MemberRole, Service, ShardRow, StoreState, decode_shards,
    decode_store_rows, encode_config,
};
use quorate_raft::{ReplicaId, Term};
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::{CONTROLLER, StateMachine as _};
use quorate_store::{HEARTBEAT_EVERY_TICKS, SLOTS};

use crate::oracle::Violation;
use crate::plan::Fault;
use crate::world::World;

/// Heartbeats within which the map is right once faults have ended: one that was lost takes two, and who was told that
/// another leads begins again.
const MAP_HEARTBEATS: u64 = 10;
/// Virtual microseconds between two looks.
const LOOK_US: u64 = 5_000;

const OWN: &str = "the controller's leader knows only what it heard in its term";
const ONWARD: &str = "the shard map never goes back";

/// Epoch and term of what is known of a shard: version, membership changes, term.
type Age = (u64, u64, Term);

/// A node that leads the controller.
#[derive(Debug)]
struct Lead {
    term: Term,
    since_us: u64,
    known: BTreeMap<ShardId, Age>,
}

/// What is remembered of each node that leads the controller.
#[derive(Default, Debug)]
pub(crate) struct Overviews {
    leads: BTreeMap<usize, Lead>,
}

impl Overviews {
    /// After a turn: the term in which a node leads the controller, if it does, and its monotonic time.
    pub(crate) fn leads(&mut self, node: usize, term: Option<Term>, mono_us: u64) {
        match term {
            None => {
                self.leads.remove(&node);
            }
            Some(term) if self.leads.get(&node).is_some_and(|lead| lead.term == term) => {}
            Some(term) => {
                let lead = Lead {
                    term,
                    since_us: mono_us,
                    known: BTreeMap::new(),
                };
                self.leads.insert(node, lead);
            }
        }
    }

    fn check(&mut self, node: usize, mono_us: u64, rows: &[ShardRow]) -> Result<(), Violation> {
        let Some(lead) = self.leads.get_mut(&node) else {
            return Ok(());
        };
        let led_us = mono_us.saturating_sub(lead.since_us);
        for row in rows {
            let last = &row.last;
            if row.age_ms * 1000 > led_us {
                let detail = format!(
                    "node {} leads for {led_us} us and heard of shard {} {} ms ago",
                    node + 1,
                    last.shard,
                    row.age_ms
                );
                return Err(Violation::new(OWN, detail));
            }
            let age = (last.epoch.version, last.epoch.conf_ver, last.term);
            let before = lead.known.insert(last.shard, age);
            if let Some(before) = before.filter(|before| *before > age) {
                let detail = format!(
                    "node {}, shard {}: {age:?} after {before:?}",
                    node + 1,
                    last.shard
                );
                return Err(Violation::new(ONWARD, detail));
            }
        }
        Ok(())
    }
}

impl World {
    /// What the controller's leader on a node knows of the shards; none if it does not lead there.
    fn overview(&self, node: usize) -> Option<Vec<ShardRow>> {
        let times = self.nodes[node].clock.times(self.now_us);
        let process = self.nodes[node].process.as_ref()?;
        match process.store.controller_says(times, &ControlQuery::Shards)? {
            Answer::Bulk(bytes) => decode_shards(&bytes).ok(),
            _ => None,
        }
    }

    /// What the controller's leader knows of the shards; none while nobody leads.
    #[must_use]
    pub fn shard_map(&self) -> Option<Vec<ShardRow>> {
        self.overview(self.leader_of(CONTROLLER.0)?)
    }

    /// The newest config, as the engine beside the controller's leader holds it; none while nobody leads.
    #[must_use]
    pub fn config(&self) -> Option<Config> {
        let controller = self.controller_on(self.leader_of(CONTROLLER.0)?)?;
        Some(controller.history().newest().clone())
    }

    /// What the engine of a node holds for the controller; none if it holds no replica of it.
    fn controller_on(&self, node: usize) -> Option<Controller> {
        let rows = self.nodes[node].process.as_ref()?.store.controller_rows();
        let mut controller = Controller::default();
        controller.load(&rows.ok()??).ok()?;
        Some(controller)
    }

    /// A node has applied, before all others, what may change what is decided.
    pub(crate) fn check_decided(&mut self, node: usize) -> Result<(), Violation> {
        let Some(controller) = self.controller_on(node) else {
            let detail = format!("on node {}", node + 1);
            return Err(Violation::new("the controller's rows can be read", detail));
        };
        let counts = &mut self.counts.placement;
        let removed = self.oracles.configs.seen(controller, counts)?;
        // By hand a replica may be put there meanwhile.
        if self.plan.uses(Fault::Members) {
            return Ok(());
        }
        for store in removed {
            let mut shards = self.shards().iter();
            if let Some(shard) = shards.find(|shard| self.holders(**shard).contains(&store)) {
                let detail = format!("shard {shard} has a replica on store {store}");
                return Err(Violation::new("only an empty store is removed", detail));
            }
        }
        Ok(())
    }

    /// Once faults have ended: what the controller's leader says of every config is what was seen when it was made.
    pub(crate) fn check_configs(&mut self) -> Result<(), Violation> {
        let Some(leader) = self.leader_of(CONTROLLER.0) else {
            return Ok(());
        };
        self.check_decided(leader)?;
        let times = self.nodes[leader].clock.times(self.now_us);
        let newest = self.oracles.configs.newest().num as i64;
        for num in -1..=newest + 1 {
            let said = self.nodes[leader].process.as_ref().and_then(|process| {
                let query = ControlQuery::Config { num };
                process.store.controller_says(times, &query)
            });
            let mut expected = Vec::new();
            encode_config(&mut expected, self.oracles.configs.of(num));
            if said.is_some_and(|said| said != Answer::Bulk(expected.into())) {
                let detail = format!("config {num} of {newest} on node {}", leader + 1);
                return Err(Violation::new(
                    "the configs that are told are those that are kept",
                    detail,
                ));
            }
        }
        Ok(())
    }

    /// At a tick of a node.
    pub(crate) fn check_overview(&mut self, node: usize) -> Result<(), Violation> {
        let Some(rows) = self.overview(node) else {
            return Ok(());
        };
        let mono_us = self.nodes[node].clock.times(self.now_us).mono_us;
        self.overviews.check(node, mono_us, &rows)
    }

    /// Once faults have ended: lets time pass until the map is right.
    pub(crate) fn await_map(&mut self) -> Result<(), Violation> {
        let ticks = MAP_HEARTBEATS * HEARTBEAT_EVERY_TICKS;
        let until_us = self.now_us + ticks * self.plan.store.tick_us;
        while let Some(what) = self.map_lacks().filter(|_| !self.is_over()) {
            if self.now_us > until_us {
                return Err(Violation::new(
                    "the shard map is right once faults have ended",
                    what,
                ));
            }
            self.run_until(self.now_us + LOOK_US)?;
        }
        Ok(())
    }

    /// The first thing in which the controller's leader is wrong.
    fn map_lacks(&self) -> Option<String> {
        let Some(leader) = self.leader_of(CONTROLLER.0) else {
            return Some("nobody leads the controller".into());
        };
        let rows = self.overview(leader).unwrap_or_default();
        let shards = self.oracles.ranges.all().into_iter().map(|(shard, _)| shard);
        let mut covered = 0;
        for shard in [CONTROLLER].into_iter().chain(shards) {
            let known = rows.iter().find(|row| row.last.shard == shard);
            let Some(ShardRow { last, .. }) = known else {
                return Some(format!("shard {shard} is not known"));
            };
            let by = self.leader_of(shard.0);
            let truth = by.and_then(|by| {
                let store = &self.nodes[by].process.as_ref()?.store;
                Some((
                    self.nodes[by].identity.store,
                    store.leads_in(shard)?,
                    store.descriptor(shard)?,
                ))
            });
            let Some((store, term, descriptor)) = truth else {
                return Some(format!("nobody leads shard {shard}"));
            };
            let slots = (descriptor.start_slot, descriptor.end_slot);
            let said = (
                last.leader_store(),
                last.term,
                last.epoch,
                (last.start_slot, last.end_slot),
            );
            if said != (Some(store), term, descriptor.epoch, slots) {
                return Some(format!(
                    "shard {shard} is {descriptor:?}, led by {store} in {term}, known: {last:?}"
                ));
            }
            // Whether one is pending is what its leader believes, who may wait for a snapshot that was lost.
            let of = |role: MemberRole| -> Vec<ReplicaId> {
                let members = last.members.iter().filter(|member| member.role == role);
                members.map(|member| member.replica).collect()
            };
            let stores: Vec<(ReplicaId, StoreId)> = last
                .members
                .iter()
                .map(|member| (member.replica, member.store))
                .collect();
            let conf = &descriptor.conf_state;
            let is_joint = !conf.voters_outgoing.is_empty();
            if is_joint
                || (of(MemberRole::Voter), of(MemberRole::Learner))
                    != (conf.voters.clone(), conf.learners.clone())
                || stores != descriptor.membership.members
            {
                return Some(format!(
                    "members of shard {shard}: {descriptor:?}, known: {last:?}"
                ));
            }
            covered += last.end_slot - last.start_slot;
        }
        if covered != SLOTS || rows.len() != self.oracles.ranges.all().len() + 1 {
            return Some(format!("{covered} slots in {} shards", rows.len()));
        }
        self.config_lacks().or_else(|| self.stores_lack(leader))
    }

    /// Each shard has the slots that the config gives it: every split is written down.
    fn config_lacks(&self) -> Option<String> {
        let Some(config) = self.config() else {
            return Some("the config cannot be read".into());
        };
        let intended = config.shards.iter();
        let intended = intended.map(|(shard, place)| (*shard, (place.start_slot, place.end_slot)));
        let (intended, real): (BTreeMap<_, _>, BTreeMap<_, _>) = (
            intended.collect(),
            self.oracles.ranges.all().into_iter().collect(),
        );
        (intended != real).then(|| format!("the config has {intended:?}, the shards are {real:?}"))
    }

    fn stores_lack(&self, leader: usize) -> Option<String> {
        let times = self.nodes[leader].clock.times(self.now_us);
        let process = self.nodes[leader].process.as_ref()?;
        let Some(Answer::Bulk(bytes)) = process.store.controller_says(times, &ControlQuery::Stores) else {
            return Some("nobody tells of the stores".into());
        };
        let rows = decode_store_rows(&bytes).unwrap_or_default();
        let is_up =
            |row: &&quorate_proto::StoreRow| row.state == StoreState::Up && row.service != Service::Removed;
        let stores = (0..self.nodes.len()).filter(|node| self.is_of_cluster(*node));
        if rows.iter().filter(is_up).count() == stores.count() {
            return None;
        }
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.record.store, row.service, row.state))
            .collect();
        Some(format!("stores that are not up: {rows:?}"))
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto::{Epoch, ShardHeartbeat};

    use super::*;

    fn row(version: u64, term: u64, age_ms: u64) -> ShardRow {
        ShardRow {
            last: ShardHeartbeat {
                shard: ShardId(1),
                start_slot: 0,
                end_slot: 10,
                epoch: Epoch { conf_ver: 1, version },
                term: Term(term),
                leader: ReplicaId(1),
                members: Vec::new(),
                bytes: None,
                load: None,
            },
            age_ms,
        }
    }

    #[test]
    fn word_of_an_earlier_term_of_the_controller_is_found() {
        let mut overviews = Overviews::default();
        overviews.leads(0, Some(Term(5)), 1_000_000);
        assert_eq!(overviews.check(0, 1_300_000, &[row(1, 1, 300)]), Ok(()));
        overviews.leads(0, None, 1_400_000);
        overviews.leads(0, Some(Term(7)), 1_500_000);
        overviews.leads(0, Some(Term(7)), 1_550_000);
        let found = overviews.check(0, 1_600_000, &[row(1, 1, 600)]).unwrap_err();
        assert_eq!(found.property, OWN);
    }

    #[test]
    fn a_map_that_goes_back_is_found() {
        for (earlier, later) in [((2, 5), (1, 9)), ((2, 5), (2, 4))] {
            let mut overviews = Overviews::default();
            overviews.leads(0, Some(Term(5)), 0);
            let ((version, term), (then, there)) = (earlier, later);
            assert_eq!(overviews.check(0, 1_000, &[row(version, term, 0)]), Ok(()));
            let found = overviews.check(0, 2_000, &[row(then, there, 0)]).unwrap_err();
            assert_eq!(found.property, ONWARD);
            overviews.leads(0, Some(Term(6)), 3_000);
            assert_eq!(
                overviews.check(0, 4_000, &[row(then, there, 0)]),
                Ok(()),
                "another term"
            );
        }
    }
}
