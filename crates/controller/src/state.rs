//! The state, and what each command does to it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use quorate_proto::{
    Answer, CommandError, ControlCommand, ControlQuery, Delta, Epoch, FirstState, Heartbeat, IDS_MAX, Order,
    PlacementCommand, Recovery, Service, StoreRecord, Survivor, encode_config, encode_losses, encode_moves,
    encode_plan, encode_shards, encode_store_rows,
};
use quorate_raft::mutant;
use quorate_storage::engine::Pair;
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::{Policy, Reign, RowChanges, Said, StateMachine, Tally};

use crate::history::History;
use crate::overview::Overview;
use crate::schedule::{Cluster, Kept};
use crate::stores::detached;
use crate::timestamps::Timestamps;
use crate::{placement, rows};

/// The controller's replicated state.
///
/// Invariants: the rows that were written say the same as the fields; `next_id` never falls, and no id at or above it
/// was ever given out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Controller {
    /// What the cluster began with; none before.
    pub(crate) first: Option<FirstState>,
    next_id: u64,
    /// How each store registered last: those that the cluster began with, and those that were admitted. Removed ones stay,
    /// so that their ids are not given again.
    pub(crate) stores: BTreeMap<StoreId, StoreRecord>,
    /// What stores are used for; those that are not in it are active.
    pub(crate) services: BTreeMap<StoreId, Service>,
    /// The configs there have been; config 0 alone before the cluster began.
    pub(crate) history: History,
    /// How shards went on that lost their majority, each the last time.
    pub(crate) recoveries: BTreeMap<ShardId, Recovery>,
    /// The timestamp oracle.
    timestamps: Timestamps,
    /// What was heard in the term in which this replica leads, or led last.
    pub(crate) overview: Option<Overview>,
}

impl Controller {
    /// What the cluster began with; none if it has not.
    #[must_use]
    pub fn first(&self) -> Option<&FirstState> {
        self.first.as_ref()
    }

    /// The least id that was never given out.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// How each store registered last.
    #[must_use]
    pub fn stores(&self) -> &BTreeMap<StoreId, StoreRecord> {
        &self.stores
    }

    /// The configs there have been.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// `Join`, `Leave`, `Move` and the like: a new config, unless what is asked holds already.
    fn place(&mut self, command: &PlacementCommand, rows: &mut RowChanges) -> Result<Answer, CommandError> {
        if let Some(delta) = self.change(command)? {
            self.push_config(delta, rows);
        }
        Ok(Answer::Int(self.history.newest().num as i64))
    }

    pub(crate) fn push_config(&mut self, delta: Delta, rows: &mut RowChanges) {
        if !mutant!("config-not-written") {
            let (row, value) = rows::config_row(self.history.newest().num + 1, &delta);
            rows.push((row, Some(value)));
        }
        self.history.push(delta);
    }

    /// What was heard in this reign, if anything.
    pub(crate) fn heard_in(&self, reign: Reign) -> Option<&Overview> {
        self.overview.as_ref().filter(|overview| overview.is_of(reign))
    }

    /// The stores that there are. Those that the cluster began with have their place, registered or not.
    fn kept(&self, first: &FirstState) -> BTreeMap<StoreId, Kept> {
        let ids: BTreeSet<StoreId> = first.stores.iter().chain(self.stores.keys()).copied().collect();
        let kept = |store: StoreId| {
            let service = self.service(store);
            let kept = Kept {
                is_draining: service == Service::Draining,
                zone: self.zone(store).cloned().unwrap_or_default(),
                controls: self.roles(store).controller,
            };
            (service != Service::Removed).then_some((store, kept))
        };
        ids.into_iter().filter_map(kept).collect()
    }

    /// PS-08: once.
    fn bootstrap(&mut self, first: &FirstState, rows: &mut RowChanges) -> Result<Answer, CommandError> {
        if self.first.is_some() && !mutant!("second-bootstrap-accepted") {
            return Err(CommandError::AlreadyBootstrapped);
        }
        let is_sorted = first.stores.is_sorted_by(|a, b| a < b);
        let is_named = first.stores.iter().all(|store| store.0 < first.next_id);
        if first.stores.is_empty()
            || !is_sorted
            || !is_named
            || first.shards == 0
            || !(1..=9).contains(&first.replicas)
        {
            return Err(CommandError::OutOfRange);
        }
        self.first = Some(first.clone());
        self.history = placement::first_configs(first);
        let (row, value) = rows::first_row(first);
        rows.push((row, Some(value)));
        self.set_next_id(first.next_id, rows);
        Ok(Answer::Ok)
    }

    fn allocate_ids(&mut self, count: u32, rows: &mut RowChanges) -> Result<Answer, CommandError> {
        if self.first.is_none() {
            return Err(CommandError::NotBootstrapped);
        }
        let first = self.next_id;
        // Answers are signed.
        let next = first
            .checked_add(u64::from(count))
            .filter(|next| *next <= i64::MAX as u64);
        let Some(next) = next.filter(|_| (1..=IDS_MAX).contains(&count)) else {
            return Err(CommandError::OutOfRange);
        };
        self.set_next_id(next, rows);
        Ok(Answer::Int(first as i64))
    }

    /// Ids are for a split that may come about: not for one of a shard that has changed meanwhile. What the leader has not
    /// heard of it cannot judge; the split itself is bound to the version in any case.
    fn consider_split(&self, reign: Option<Reign>, shard: ShardId, epoch: Epoch) -> Result<(), CommandError> {
        let overview = reign.and_then(|reign| self.heard_in(reign));
        let known = overview.and_then(|overview| overview.map.get(shard));
        let is_older = |known: Epoch| (epoch.version, epoch.conf_ver) < (known.version, known.conf_ver);
        if known.is_some_and(|known| is_older(known.last.epoch)) {
            return Err(CommandError::ShardChanged);
        }
        Ok(())
    }

    fn set_next_id(&mut self, next_id: u64, rows: &mut RowChanges) {
        assert!(
            next_id > self.next_id,
            "the next id would go from {} to {next_id}",
            self.next_id
        );
        self.next_id = next_id;
        let (row, value) = rows::next_id_row(next_id);
        rows.push((row, Some(value)));
    }
}

impl StateMachine for Controller {
    fn load(&mut self, rows: &[Pair]) -> Result<(), String> {
        *self = Self::default();
        for (row, value) in rows {
            match row.as_ref() {
                rows::FIRST => {
                    let first = rows::read_first(value)?;
                    self.history = placement::first_configs(&first);
                    self.first = Some(first);
                }
                [rows::CONFIG, ..] => {
                    let delta = rows::read_config(self.history.newest().num + 1, row, value)?;
                    self.history.push(delta);
                }
                rows::NEXT_ID => self.next_id = rows::read_next_id(value)?,
                rows::TIMESTAMPS if mutant!("timestamps-begin-anew-at-a-start") => {}
                rows::TIMESTAMPS => self.timestamps = Timestamps::loaded(rows::read_timestamps(value)?),
                [rows::SERVICE, ..] => {
                    let (store, service) = rows::read_service(row, value)?;
                    self.services.insert(store, service);
                }
                [rows::RECOVERY, ..] => {
                    let recovery = rows::read_recovery(row, value)?;
                    self.recoveries.insert(recovery.shard, recovery);
                }
                [rows::STORE, ..] => {
                    let record = rows::read_store(row, value)?;
                    self.stores.insert(record.store, detached(&record));
                }
                row => return Err(format!("unknown row \"{}\"", row.escape_ascii())),
            }
        }
        if mutant!("ids-begin-anew-at-a-start") {
            self.next_id = self.first.as_ref().map_or(0, |first| first.next_id);
        }
        match &self.first {
            Some(first) if self.next_id < first.next_id => Err(format!(
                "the next id {} is below {}, with which the cluster began",
                self.next_id, first.next_id
            )),
            None if self.next_id != 0 => Err("a next id, and no first state".to_owned()),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, stamp_ms: u64, command: &ControlCommand, rows: &mut RowChanges) -> Answer {
        let answer = match command {
            ControlCommand::Bootstrap(first) => self.bootstrap(first, rows),
            ControlCommand::AllocateIds { count } | ControlCommand::NameSplit { count, .. } => {
                self.allocate_ids(*count, rows)
            }
            ControlCommand::Register(record) => self.register(record, rows),
            ControlCommand::Admit(record) => self.admit(record, rows),
            ControlCommand::SetStore { store, service } => self.set_service(*store, *service, rows),
            ControlCommand::ReserveTimestamps { term, above } => {
                Ok(self.timestamps.reserve(stamp_ms, *term, *above, rows))
            }
            ControlCommand::Place(command) => self.place(command, rows),
            ControlCommand::Recover { lost, shards } => self.recover(lost, shards, rows),
        };
        answer.unwrap_or_else(Answer::Error)
    }

    fn consider(&self, reign: Option<Reign>, command: &ControlCommand) -> Result<(), CommandError> {
        match command {
            ControlCommand::SetStore {
                store,
                service: Service::Removed,
            } => self.consider_removal(reign, *store),
            ControlCommand::Place(command) => self.consider_placement(reign, command),
            ControlCommand::Recover { lost, shards } => self.consider_recovery(reign, lost, shards),
            ControlCommand::NameSplit { shard, epoch, .. } => self.consider_split(reign, *shard, *epoch),
            ControlCommand::Admit(_) => self.consider_admission(reign),
            ControlCommand::Bootstrap(_)
            | ControlCommand::AllocateIds { .. }
            | ControlCommand::Register(_)
            | ControlCommand::SetStore { .. }
            | ControlCommand::ReserveTimestamps { .. } => Ok(()),
        }
    }

    /// A store that another one's id belongs to is not heard (P7), nor is one that has not registered so far, or was
    /// removed.
    fn hear(&mut self, reign: Reign, beat: &Heartbeat) -> Option<u64> {
        let known = self.stores.get(&beat.store.store)?;
        if known.incarnation != beat.store.incarnation || self.check_removed(known.store).is_err() {
            return None;
        }
        self.overview.take_if(|overview| !overview.is_of(reign));
        let overview = self.overview.get_or_insert_with(|| Overview::new(reign));
        let services = self.services.iter();
        let draining = services.filter(|(_, service)| **service == Service::Draining);
        overview.note_draining(reign.now_us, draining.map(|(store, _)| *store));
        overview.hear(reign, beat)
    }

    fn orders(&mut self, reign: Reign, store: StoreId, policy: &Policy) -> (Vec<Order>, Tally) {
        let Some(mut overview) = self.overview.take_if(|overview| overview.is_of(reign)) else {
            return Default::default();
        };
        let mut tally = Tally::default();
        if let Some(first) = self.first.as_ref()
            && overview.is_round_due(reign.now_us, policy.round_us)
        {
            let cluster = Cluster {
                config: self.history.newest(),
                replicas: usize::from(first.replicas),
                stores: self.kept(first),
                replace_after_us: policy.replace_after_us,
            };
            tally = overview.schedule(reign.now_us, &cluster, &policy.limits);
        }
        let orders = overview.orders(store);
        self.overview = Some(overview);
        (orders, tally)
    }

    fn hear_survivors(&mut self, reign: Reign, store: StoreId, survivors: Vec<Survivor>) {
        // Whoever is heard in this reign has said who it is.
        let is_heard =
            |overview: &&mut Overview| overview.is_of(reign) && overview.liveness.last(store).is_some();
        if let Some(overview) = self.overview.as_mut().filter(is_heard) {
            overview.survivors.hear(reign.now_us, store, survivors);
        }
    }

    fn recoveries(&self, reign: Reign, store: StoreId) -> Vec<Recovery> {
        if self.recoveries.is_empty() {
            return Vec::new();
        }
        let overview = self.heard_in(reign);
        overview.map_or(Vec::new(), |overview| self.recoveries_on(overview, store))
    }

    fn due(&self, reign: Reign) -> Vec<ControlCommand> {
        let splits = self
            .heard_in(reign)
            .map(|overview| placement::unrecorded(self.history.newest(), &overview.map));
        let splits = splits.unwrap_or_default().into_iter();
        splits.map(ControlCommand::Place).collect()
    }

    fn query(&self, reign: Reign, query: &ControlQuery) -> Answer {
        let heard = self.heard_in(reign).map(Cow::Borrowed);
        let overview = heard.unwrap_or_else(|| Cow::Owned(Overview::new(reign)));
        Answer::Bulk(match query {
            ControlQuery::Stores => {
                let stores = self.stores.values();
                let stores = stores.map(|record| (record, self.service(record.store)));
                encode_store_rows(&overview.store_rows(reign.now_us, stores))
            }
            ControlQuery::Shards => encode_shards(&overview.shard_rows(reign.now_us)),
            ControlQuery::FindShards(lookup) => encode_shards(&overview.found(reign.now_us, *lookup)),
            ControlQuery::FindStore(store) => {
                let stores = self.stores.get(store).into_iter();
                let stores = stores.map(|record| (record, self.service(record.store)));
                encode_store_rows(&overview.store_rows(reign.now_us, stores))
            }
            ControlQuery::Config { num } => {
                let mut bytes = Vec::new();
                encode_config(&mut bytes, &self.history.query(*num));
                bytes.into()
            }
            ControlQuery::Plan(command) => match self.plan(reign, command, &overview) {
                Ok(moves) => encode_plan(&moves),
                Err(reason) => return Answer::Error(reason),
            },
            ControlQuery::Losses { lost } => match self.losses(reign, &overview, lost) {
                Ok(losses) => encode_losses(&losses),
                Err(reason) => return Answer::Error(reason),
            },
            ControlQuery::Moves => encode_moves(&self.moves(&overview)),
        })
    }

    fn timestamps(&mut self, reign: Reign, count: u32) -> Said {
        self.timestamps.give(reign, count)
    }
}
