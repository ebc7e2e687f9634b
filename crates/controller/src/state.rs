//! The state, and what each command does to it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_proto::{
    ADDRESS_BYTES_MAX, Admission, Answer, CommandError, ControlCommand, ControlQuery, Delta, FirstState,
    Heartbeat, IDS_MAX, PlacementCommand, StoreRecord, encode_admission, encode_shards, encode_store_rows,
    encode_stores,
};
use quorate_raft::mutant;
use quorate_storage::StoreId;
use quorate_storage::engine::Pair;
use quorate_store::rsm::{Reign, RowChanges, StateMachine};

use crate::history::History;
use crate::overview::Overview;
use crate::{placement, rows};

/// The controller's replicated state.
///
/// Invariants: the rows that were written say the same as the fields; `next_id` never falls, and no id at or above it
/// was ever given out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Controller {
    /// What the cluster began with; none before.
    first: Option<FirstState>,
    next_id: u64,
    /// How each store registered last; a subset of the stores that the cluster began with.
    stores: BTreeMap<StoreId, StoreRecord>,
    /// The configs there have been; config 0 alone before the cluster began.
    history: History,
    /// What was heard in the term in which this replica leads, or led last.
    overview: Option<Overview>,
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

    /// P7: an id belongs to the incarnation that it was first seen with.
    fn register(&mut self, record: &StoreRecord, rows: &mut RowChanges) -> Result<Answer, CommandError> {
        let first = self.first.as_ref().ok_or(CommandError::NotBootstrapped)?;
        if !first.stores.contains(&record.store) && !self.stores.contains_key(&record.store) {
            return Err(CommandError::UnknownStore);
        }
        check_addresses(record)?;
        let known = self.stores.get(&record.store);
        if known.is_some_and(|known| known.incarnation != record.incarnation)
            && !mutant!("registered-under-the-id-of-another")
        {
            return Err(CommandError::OtherIncarnation);
        }
        if known != Some(record) {
            self.set_store(record, rows);
        }
        Ok(self.registered())
    }

    /// A new store gets an id, once for each incarnation (P7).
    fn admit(&mut self, record: &StoreRecord, rows: &mut RowChanges) -> Result<Answer, CommandError> {
        let first = self.first.as_ref().ok_or(CommandError::NotBootstrapped)?;
        let cluster = first.cluster;
        if record.store != StoreId(0) {
            return Err(CommandError::OutOfRange);
        }
        check_addresses(record)?;
        let mut known = self.stores.values();
        let known = known.find(|known| known.incarnation == record.incarnation);
        let store = match known {
            Some(known) => known.store,
            // Stores are counted by themselves. None is ever forgotten, so no id is given twice.
            None => {
                let ids = first.stores.iter().chain(self.stores.keys());
                StoreId(ids.fold(0, |last, store| last.max(store.0)) + 1)
            }
        };
        let record = StoreRecord {
            store,
            ..record.clone()
        };
        if self.stores.get(&store) != Some(&record) {
            self.set_store(&record, rows);
        }
        if let Some(delta) = placement::newcomer(self.history.newest(), store) {
            self.push_config(delta, rows);
        }
        let admission = Admission {
            cluster,
            store,
            stores: self.stores.values().cloned().collect(),
        };
        let mut bytes = Vec::new();
        encode_admission(&mut bytes, &admission);
        Ok(Answer::Bulk(bytes.into()))
    }

    /// Every store that has registered, for whoever asks where they are.
    fn registered(&self) -> Answer {
        let stores: Vec<StoreRecord> = self.stores.values().cloned().collect();
        Answer::Bulk(encode_stores(&stores))
    }

    fn set_store(&mut self, record: &StoreRecord, rows: &mut RowChanges) {
        let (row, value) = rows::store_row(record);
        rows.push((row, Some(value)));
        self.stores.insert(record.store, detached(record));
    }

    /// The configs there have been.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// `Join`, `Leave`, `Move` and the like: a new config, unless what is asked holds already.
    fn place(&mut self, command: &PlacementCommand, rows: &mut RowChanges) -> Result<Answer, CommandError> {
        if self.first.is_none() {
            return Err(CommandError::NotBootstrapped);
        }
        if let Some(delta) = placement::change(self.history.newest(), command)? {
            self.push_config(delta, rows);
        }
        Ok(Answer::Int(self.history.newest().num as i64))
    }

    fn push_config(&mut self, delta: Delta, rows: &mut RowChanges) {
        let (row, value) = rows::config_row(self.history.newest().num + 1, &delta);
        rows.push((row, Some(value)));
        self.history.push(delta);
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

    fn apply(&mut self, _stamp_ms: u64, command: &ControlCommand, rows: &mut RowChanges) -> Answer {
        let answer = match command {
            ControlCommand::Bootstrap(first) => self.bootstrap(first, rows),
            ControlCommand::AllocateIds { count } => self.allocate_ids(*count, rows),
            ControlCommand::Register(record) => self.register(record, rows),
            ControlCommand::Admit(record) => self.admit(record, rows),
            ControlCommand::Place(command) => self.place(command, rows),
        };
        answer.unwrap_or_else(Answer::Error)
    }

    /// A store that another one's id belongs to is not heard (P7), nor is one that has not registered so far.
    fn hear(&mut self, reign: Reign, beat: &Heartbeat) -> Option<u64> {
        let known = self.stores.get(&beat.store.store)?;
        if known.incarnation != beat.store.incarnation {
            return None;
        }
        self.overview.take_if(|overview| !overview.is_of(reign));
        let overview = self.overview.get_or_insert_with(|| Overview::new(reign));
        overview.hear(reign, beat)
    }

    fn query(&self, reign: Reign, query: &ControlQuery) -> Answer {
        let overview = match &self.overview {
            Some(overview) if overview.is_of(reign) => Cow::Borrowed(overview),
            _ => Cow::Owned(Overview::new(reign)),
        };
        Answer::Bulk(match query {
            ControlQuery::Stores => {
                encode_store_rows(&overview.store_rows(reign.now_us, self.stores.values()))
            }
            ControlQuery::Shards => encode_shards(&overview.shard_rows(reign.now_us)),
        })
    }
}

fn check_addresses(record: &StoreRecord) -> Result<(), CommandError> {
    let addresses = [&record.client, &record.peer, &record.http];
    let is_long = addresses.iter().any(|address| address.len() > ADDRESS_BYTES_MAX);
    if is_long {
        Err(CommandError::OutOfRange)
    } else {
        Ok(())
    }
}

/// A record that keeps nothing alive: what is decoded refers to the whole batch of entries that it came with.
fn detached(record: &StoreRecord) -> StoreRecord {
    let copy = |address: &Bytes| Bytes::copy_from_slice(address);
    StoreRecord {
        client: copy(&record.client),
        peer: copy(&record.peer),
        http: copy(&record.http),
        ..*record
    }
}
