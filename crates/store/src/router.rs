//! Which shard holds a slot, and where it is served: by a replica of this store, or by other stores.

use std::collections::BTreeMap;

use quorate_proto::ShardInfo;
use quorate_storage::{ShardId, StoreId};

use crate::Target;
use crate::bootstrap::SLOTS;
use crate::replica::Replica;

const NONE: u16 = u16::MAX;

/// Where requests for a shard begin their way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A replica of this store.
    Here(usize),
    /// Other stores hold the shard.
    Elsewhere(ShardId),
}

/// The shards of this store, and what it was told of the others.
#[derive(Debug, Default)]
pub(crate) struct Router {
    by_slot: Vec<u16>,
    by_shard: BTreeMap<ShardId, usize>,
    /// Told by other stores (`shard_map`). An entry of a shard that has a replica here waits until that is gone, or
    /// serves until that knows its range.
    told: BTreeMap<ShardId, ShardInfo>,
}

impl Router {
    /// Replicas came, went or learned their range.
    pub(crate) fn rebuild(&mut self, replicas: &[Replica]) {
        self.by_slot.clear();
        self.by_slot.resize(usize::from(SLOTS), NONE);
        self.by_shard.clear();
        for (at, replica) in replicas.iter().enumerate() {
            let descriptor = &replica.descriptor;
            self.by_shard.insert(descriptor.shard, at);
            for slot in descriptor.start_slot..descriptor.end_slot {
                let holder = &mut self.by_slot[usize::from(slot)];
                assert_eq!(
                    *holder, NONE,
                    "slot {slot} lies in two shards, one of them {}",
                    descriptor.shard
                );
                *holder = at as u16;
            }
        }
    }

    pub(crate) fn replica_of(&self, shard: ShardId) -> Option<usize> {
        self.by_shard.get(&shard).copied()
    }

    /// Where a request goes; none if nobody has told so far.
    pub(crate) fn place_of(&self, target: Target) -> Option<Place> {
        match target {
            Target::Slot(slot) => match self.by_slot.get(usize::from(slot)) {
                None => None,
                Some(&NONE) => self.told_of_slot(slot).map(Place::Elsewhere),
                Some(&at) => Some(Place::Here(usize::from(at))),
            },
            Target::Shard(shard) => match self.by_shard.get(&shard) {
                Some(at) => Some(Place::Here(*at)),
                None => self.told.contains_key(&shard).then_some(Place::Elsewhere(shard)),
            },
        }
    }

    fn told_of_slot(&self, slot: u16) -> Option<ShardId> {
        self.told
            .values()
            .filter(|info| (info.start_slot..info.end_slot).contains(&slot))
            .max_by_key(|info| info.epoch.version)
            .map(|info| info.shard)
    }

    /// What was told of a shard.
    pub(crate) fn told(&self, shard: ShardId) -> Option<&ShardInfo> {
        self.told.get(&shard)
    }

    /// What was told of the shards without a replica here that knows its range.
    pub(crate) fn elsewhere(&self) -> impl Iterator<Item = &ShardInfo> {
        let is_here = |slot: u16| self.by_slot.get(usize::from(slot)).is_some_and(|at| *at != NONE);
        self.told
            .values()
            .filter(move |info| info.start_slot < info.end_slot && !is_here(info.start_slot))
    }

    /// Takes over what another store tells, unless it is older than what is known. Returns whether it is news.
    pub(crate) fn hear(&mut self, info: ShardInfo) -> bool {
        let age = |info: &ShardInfo| (info.epoch.version, info.epoch.conf_ver, info.term);
        match self.told.get(&info.shard) {
            Some(known) if age(known) > age(&info) => false,
            Some(known) if age(known) == age(&info) && info.leader.is_none() => false,
            known => {
                let is_news =
                    known.is_none_or(|known| age(known) != age(&info) || known.leader != info.leader);
                self.told.insert(info.shard, info);
                is_news
            }
        }
    }

    /// Where a request for a shard that is not here goes: to its leader, if that is known and reachable, or else to
    /// any store that holds it and may know more.
    pub(crate) fn store_for(
        &self,
        shard: ShardId,
        is_reachable: impl Fn(StoreId) -> bool,
    ) -> Option<StoreId> {
        let info = self.told.get(&shard)?;
        let members = info.membership.members.iter().map(|(_, store)| *store);
        info.leader
            .into_iter()
            .chain(members)
            .find(|store| is_reachable(*store))
    }
}
