//! What the controller's leader hears of the cluster. Never replicated: whoever leads next hears it anew.

use std::collections::BTreeMap;

use quorate_proto::{
    Heartbeat, ORDERS_MAX, Order, Service, ShardLookup, ShardRow, StoreRecord, StoreRow, StoreState,
};
use quorate_raft::{Term, mutant};
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::{Limits, Reign, Tally};

use crate::liveness::Liveness;
use crate::recovery::Survivors;
use crate::schedule::{self, Cluster, Operators, Task};
use crate::shard_map::{Known, ShardMap};

/// Microseconds that a store has drained before it is removed: longer than what was wanted of it before is under way. A
/// wish by hand is so for `request_timeout_ms` at most, 5 seconds by default; an order for less.
pub const SETTLE_US: u64 = 6_000_000;

/// The shard map and the stores' liveness, as heard in one term, and what the schedulers made of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overview {
    /// In which the listener leads.
    term: Term,
    /// Where the shards are.
    pub map: ShardMap,
    /// Which stores live.
    pub liveness: Liveness,
    /// What is left of shards that have no leader.
    pub survivors: Survivors,
    /// What the schedulers want.
    pub operators: Operators,
    /// When the listening began.
    since_us: u64,
    /// Since when this listener has known of a store that it drains.
    draining: BTreeMap<StoreId, u64>,
    /// When the schedulers last looked.
    round_us: Option<u64>,
}

impl Overview {
    /// Nothing was heard.
    #[must_use]
    pub fn new(reign: Reign) -> Self {
        Self {
            term: reign.term,
            map: ShardMap::default(),
            liveness: Liveness::new(reign.now_us),
            survivors: Survivors::default(),
            operators: Operators::default(),
            since_us: reign.now_us,
            draining: BTreeMap::new(),
            round_us: None,
        }
    }

    /// Whether it was heard in this term.
    #[must_use]
    pub fn is_of(&self, reign: Reign) -> bool {
        self.term == reign.term || mutant!("map-kept-over-an-election")
    }

    /// Takes a store's word over. Returns how many shards it told of that were refused; none at all if newer word of the
    /// same process came before.
    pub fn hear(&mut self, reign: Reign, beat: &Heartbeat) -> Option<u64> {
        if !self.liveness.hear(reign.now_us, beat.seq, &beat.store) {
            return None;
        }
        let mut refused = 0;
        for told in &beat.shards {
            refused += u64::from(self.map.hear(reign.now_us, told.clone()).is_err());
        }
        Some(refused)
    }

    /// These stores drain, and no others.
    pub(crate) fn note_draining(&mut self, now_us: u64, draining: impl Iterator<Item = StoreId>) {
        let since = |store| (store, self.draining.get(&store).copied().unwrap_or(now_us));
        self.draining = draining.map(since).collect();
    }

    /// A store begins to drain, or ceases to.
    pub(crate) fn service_changed(&mut self, store: StoreId) {
        self.draining.remove(&store);
    }

    /// Whether whatever was wanted of a store before it began to drain has been heard of, or comes to nothing: long
    /// enough after that, it has said itself what it holds, unless it is down, and so have the leaders of all shards.
    pub(crate) fn has_settled(&self, now_us: u64, store: StoreId) -> bool {
        let Some(since_us) = self.draining.get(&store) else {
            return false;
        };
        let Some(within_us) = now_us.checked_sub(since_us + SETTLE_US) else {
            return false;
        };
        let has_told = |store| self.liveness.silent_us(now_us, store) <= within_us;
        let mut leaders = self.map.all().filter_map(|known| known.last.leader_store());
        leaders.all(has_told) && (has_told(store) || self.liveness.state(now_us, store) == StoreState::Down)
    }

    /// Whether an operator is to put something on a store.
    pub(crate) fn is_expected_on(&self, store: StoreId) -> bool {
        let mut tasks = self.operators.running().map(|running| &running.operator.task);
        tasks.any(|task| matches!(task, Task::Members { add, .. } if add.contains(&store)))
    }

    /// Whether the schedulers have not looked at the cluster for so long, and enough has been heard.
    #[must_use]
    pub fn is_round_due(&self, now_us: u64, every_us: u64) -> bool {
        let is_due = self.round_us.is_none_or(|round_us| now_us >= round_us + every_us);
        is_due && (self.is_warm(now_us) || mutant!("scheduled-before-it-was-heard"))
    }

    fn is_warm(&self, now_us: u64) -> bool {
        schedule::is_warm(now_us.saturating_sub(self.since_us), &self.map)
    }

    /// The schedulers look at the cluster.
    ///
    /// # Panics
    /// When too little has been heard to plan by.
    pub fn schedule(&mut self, now_us: u64, cluster: &Cluster<'_>, limits: &Limits) -> Tally {
        assert!(
            self.is_warm(now_us),
            "nothing is planned before every slot was heard; {:?} lack",
            self.map.gaps()
        );
        self.round_us = Some(now_us);
        let view = schedule::seen(now_us, cluster, &self.map, &self.liveness);
        self.operators.round(now_us, view, limits)
    }

    /// What is ordered of a store, of the shards that it leads.
    #[must_use]
    pub fn orders(&self, store: StoreId) -> Vec<Order> {
        let leads = |shard: ShardId| {
            let known = self.map.get(shard);
            known.is_some_and(|known| known.last.leader_store() == Some(store))
        };
        self.operators.orders(leads, ORDERS_MAX)
    }

    /// The shards that were told of: the controller's first, the others by slot.
    #[must_use]
    pub fn shard_rows(&self, now_us: u64) -> Vec<ShardRow> {
        self.map.all().map(|known| row(now_us, known)).collect()
    }

    /// The shards that are looked for, by slot, as far as they were told of.
    #[must_use]
    pub fn found(&self, now_us: u64, lookup: ShardLookup) -> Vec<ShardRow> {
        let one = |known: Option<&Known>| known.map(|known| row(now_us, known)).into_iter().collect();
        match lookup {
            ShardLookup::Id(shard) => one(self.map.get(shard)),
            ShardLookup::At { slot } => one(self.map.at_slot(slot)),
            ShardLookup::Before { slot } => one(self.map.before(slot)),
            ShardLookup::From { slot, limit } => {
                let found = self.map.from_slot(slot).take(usize::from(limit));
                found.map(|known| row(now_us, known)).collect()
            }
        }
    }

    /// These stores, as they were heard.
    #[must_use]
    pub fn store_rows<'a>(
        &self,
        now_us: u64,
        stores: impl Iterator<Item = (&'a StoreRecord, Service)>,
    ) -> Vec<StoreRow> {
        let counts = self.map.counts();
        let row = |(record, service): (&StoreRecord, Service)| StoreRow {
            record: record.clone(),
            service,
            state: self.liveness.state(now_us, record.store),
            silent_ms: self.liveness.silent_us(now_us, record.store) / 1000,
            last: self.liveness.last(record.store).cloned(),
            counts: counts.get(&record.store).copied().unwrap_or_default(),
        };
        stores.map(row).collect()
    }
}

fn row(now_us: u64, known: &Known) -> ShardRow {
    ShardRow {
        last: known.last.clone(),
        age_ms: now_us.saturating_sub(known.heard_us) / 1000,
    }
}
