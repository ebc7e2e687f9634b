//! What is left of a replica that was removed (M4): enough to answer whoever still speaks to it, and to keep a late
//! message from bringing it back.
//!
//! Replica ids rise within a shard (M3), so one tombstone covers every replica that a store ever had of it.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use quorate_proto::{ShardInfo, decode_shard_info, encode_shard_info};
use quorate_raft::ReplicaId;
use quorate_storage::ShardId;
use quorate_storage::engine::{EngineError, Pair, View};

use crate::descriptor::{damaged, key_of};

const TOMBSTONE_PREFIX: u8 = b't';
const FORMAT: u8 = 1;

/// A replica that was removed from a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Tombstone {
    /// It, and every replica with a lower id.
    pub(crate) replica: ReplicaId,
    /// The shard when the store learned of the removal; it is no member there.
    pub(crate) info: ShardInfo,
}

impl Tombstone {
    pub(crate) fn record(&self) -> Pair {
        let mut out = vec![FORMAT];
        out.put_u64_le(self.replica.0);
        encode_shard_info(&mut out, &self.info);
        (key_of(TOMBSTONE_PREFIX, self.info.shard.0), out.into())
    }

    fn decode(mut from: Bytes) -> Result<Self, EngineError> {
        let bad = || damaged("tombstone");
        if from.len() < 9 || from.get_u8() != FORMAT {
            return Err(bad());
        }
        Ok(Self {
            replica: ReplicaId(from.get_u64_le()),
            info: decode_shard_info(&from).map_err(|_| bad())?,
        })
    }

    /// All that the engine holds.
    pub(crate) fn load_all(view: &impl View) -> Result<BTreeMap<ShardId, Self>, EngineError> {
        let mut found = BTreeMap::new();
        for pair in view.scan(&[TOMBSTONE_PREFIX], &[TOMBSTONE_PREFIX + 1]) {
            let (_, value) = pair?;
            let tombstone = Self::decode(value)?;
            found.insert(tombstone.info.shard, tombstone);
        }
        Ok(found)
    }
}
