//! What the controller's leader hears of the cluster. Never replicated: whoever leads next hears it anew.

use quorate_proto::{Heartbeat, Service, ShardRow, StoreRecord, StoreRow};
use quorate_raft::{Term, mutant};
use quorate_store::rsm::Reign;

use crate::liveness::Liveness;
use crate::shard_map::ShardMap;

/// The shard map and the stores' liveness, as heard in one term.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Overview {
    /// In which the listener leads.
    term: Term,
    /// Where the shards are.
    pub map: ShardMap,
    /// Which stores live.
    pub liveness: Liveness,
}

impl Overview {
    /// Nothing was heard.
    #[must_use]
    pub fn new(reign: Reign) -> Self {
        Self {
            term: reign.term,
            map: ShardMap::default(),
            liveness: Liveness::new(reign.now_us),
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

    /// The shards that were told of: the controller's first, the others by slot.
    #[must_use]
    pub fn shard_rows(&self, now_us: u64) -> Vec<ShardRow> {
        let row = |known: &crate::shard_map::Known| ShardRow {
            last: known.last.clone(),
            age_ms: now_us.saturating_sub(known.heard_us) / 1000,
        };
        self.map.all().map(row).collect()
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
