//! Which shard holds a slot, and which of this store's replicas serves it.

use std::collections::BTreeMap;

use quorate_storage::ShardId;

use crate::bootstrap::SLOTS;
use crate::descriptor::Descriptor;

const NONE: u16 = u16::MAX;

/// Every store of this version holds a replica of every shard, so local descriptors are the whole map.
#[derive(Debug)]
pub(crate) struct Router {
    by_slot: Vec<u16>,
    by_shard: BTreeMap<ShardId, usize>,
}

impl Router {
    pub(crate) fn new(descriptors: &[Descriptor]) -> Self {
        let mut by_slot = vec![NONE; usize::from(SLOTS)];
        for (at, descriptor) in descriptors.iter().enumerate() {
            for slot in descriptor.start_slot..descriptor.end_slot {
                let holder = &mut by_slot[usize::from(slot)];
                assert_eq!(
                    *holder, NONE,
                    "slot {slot} lies in two shards, one of them {}",
                    descriptor.shard
                );
                *holder = at as u16;
            }
        }
        let by_shard = descriptors
            .iter()
            .enumerate()
            .map(|(at, d)| (d.shard, at))
            .collect();
        Self { by_slot, by_shard }
    }

    pub(crate) fn replica_of(&self, shard: ShardId) -> Option<usize> {
        self.by_shard.get(&shard).copied()
    }

    pub(crate) fn replica_of_slot(&self, slot: u16) -> Option<usize> {
        self.by_slot
            .get(usize::from(slot))
            .filter(|at| **at != NONE)
            .map(|at| usize::from(*at))
    }
}
