//! What the engine keeps about a shard beside its data, and the record that bootstrap writes.
//!
//! Two records per replica: the descriptor changes rarely (membership, split, snapshot, flush); the applied
//! record is written with every batch.

use bytes::{Buf, BufMut, Bytes};
use quorate_proto::{
    Epoch, Membership, decode_conf_state, decode_membership, encode_conf_state, encode_membership,
};
use quorate_raft::{ConfState, Index, ReplicaId, Term};
use quorate_storage::engine::{EngineError, Pair, View};
use quorate_storage::{ShardId, StoreId};

use crate::kv::{Space, Spaces};

const DESCRIPTOR_PREFIX: u8 = b'm';
const APPLIED_PREFIX: u8 = b'a';
const BINDING_PREFIX: u8 = b'b';
const FORMATTED: &[u8] = b"f";
const FORMAT: u8 = 1;
/// Format 1 had no space of its own for sessions: they lay with the data. Formats 1 and 2 had members only, format 3
/// no flags: no shard had been split.
const DESCRIPTOR_FORMAT: u8 = 4;
const FLAG_SHARED: u8 = 1;
const FLAG_NEW: u8 = 2;

/// A shard as this store knows it.
#[derive(Clone, PartialEq, Debug)]
pub struct Descriptor {
    /// The shard.
    pub shard: ShardId,
    /// This store's replica.
    pub replica: ReplicaId,
    /// First slot of the default keyspace; shard 0 has none (start = end).
    pub start_slot: u16,
    /// The slot behind the last.
    pub end_slot: u16,
    /// Raised by membership changes and splits.
    pub epoch: Epoch,
    /// The configuration in effect.
    pub conf_state: ConfState,
    /// Who holds the shard and who is to hold it.
    pub membership: Membership,
    /// Where the data lies in this store's engine.
    pub space: Space,
    /// Where the session table lies: the same until the shard is flushed or split.
    pub sessions: Space,
    /// Keys of other shards may lie in the data space too, since a split copies none.
    pub is_shared: bool,
    /// It was born by a split, and its first records are not known to be durable in the log (P4).
    pub is_new: bool,
}

/// How far a replica has applied; written in the batch that carries the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// The last entry applied.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// The shard's time in milliseconds (T1).
    pub stamp_ms: u64,
}

pub(crate) fn key_of(prefix: u8, id: u64) -> Bytes {
    let mut key = Vec::with_capacity(9);
    key.push(prefix);
    key.put_u64(id);
    key.into()
}

pub(crate) fn damaged(what: &'static str) -> EngineError {
    EngineError {
        action: "reading shard metadata",
        reason: format!("{what} record is damaged or of a newer format"),
    }
}

impl Descriptor {
    /// Where its state lies in this store's engine.
    #[must_use]
    pub fn spaces(&self) -> Spaces {
        Spaces {
            data: self.space,
            sessions: self.sessions,
            only: self.is_shared.then_some((self.start_slot, self.end_slot)),
        }
    }

    /// Whether a key of this slot is the shard's. Shard 0 has keys of every slot.
    #[must_use]
    pub fn has_slot(&self, slot: u16) -> bool {
        self.shard == ShardId(0) || (self.start_slot..self.end_slot).contains(&slot)
    }

    /// The store that holds `replica`.
    #[must_use]
    pub fn store_of(&self, replica: ReplicaId) -> Option<StoreId> {
        self.membership
            .members
            .iter()
            .find(|(id, _)| *id == replica)
            .map(|(_, store)| *store)
    }

    /// The replica on `store`.
    #[must_use]
    pub fn replica_on(&self, store: StoreId) -> Option<ReplicaId> {
        self.membership
            .members
            .iter()
            .find(|(_, on)| *on == store)
            .map(|(id, _)| *id)
    }

    pub(crate) fn record(&self) -> Pair {
        let mut out = vec![DESCRIPTOR_FORMAT];
        out.put_u64_le(self.replica.0);
        out.put_u16_le(self.start_slot);
        out.put_u16_le(self.end_slot);
        out.put_u64_le(self.epoch.conf_ver);
        out.put_u64_le(self.epoch.version);
        out.put_u32_le(self.space.0);
        out.put_u32_le(self.sessions.0);
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        out.push(flag(self.is_shared, FLAG_SHARED) | flag(self.is_new, FLAG_NEW));
        let mut membership = Vec::new();
        encode_membership(&mut membership, &self.membership);
        out.put_u32_le(membership.len() as u32);
        out.extend_from_slice(&membership);
        encode_conf_state(&mut out, &self.conf_state);
        (key_of(DESCRIPTOR_PREFIX, self.shard.0), out.into())
    }

    fn decode(shard: ShardId, mut from: Bytes) -> Result<Self, EngineError> {
        let bad = || damaged("descriptor");
        let format = from.first().copied().unwrap_or_default();
        let least = match format {
            FORMAT => 41,
            DESCRIPTOR_FORMAT => 46,
            _ => 45,
        };
        if !(FORMAT..=DESCRIPTOR_FORMAT).contains(&format) || from.len() < least {
            return Err(bad());
        }
        from.advance(1);
        let replica = ReplicaId(from.get_u64_le());
        let (start_slot, end_slot) = (from.get_u16_le(), from.get_u16_le());
        let epoch = Epoch {
            conf_ver: from.get_u64_le(),
            version: from.get_u64_le(),
        };
        let space = Space(from.get_u32_le());
        let sessions = if format == FORMAT {
            space
        } else {
            Space(from.get_u32_le())
        };
        let flags = if format < DESCRIPTOR_FORMAT {
            0
        } else {
            from.get_u8()
        };
        if flags & !(FLAG_SHARED | FLAG_NEW) != 0 {
            return Err(bad());
        }
        let count = from.get_u32_le() as usize;
        let membership = match format {
            1 | 2 if from.len() >= count.saturating_mul(16) => members_only(
                (0..count)
                    .map(|_| (ReplicaId(from.get_u64_le()), StoreId(from.get_u64_le())))
                    .collect(),
            ),
            3.. if from.len() >= count => decode_membership(&from.split_to(count)).map_err(|_| bad())?,
            _ => return Err(bad()),
        };
        let conf_state = decode_conf_state(&from).map_err(|_| bad())?;
        Ok(Self {
            shard,
            replica,
            start_slot,
            end_slot,
            epoch,
            conf_state,
            membership,
            space,
            sessions,
            is_shared: flags & FLAG_SHARED != 0,
            is_new: flags & FLAG_NEW != 0,
        })
    }

    /// All shards that the engine knows, in order.
    pub(crate) fn load_all(view: &impl View) -> Result<Vec<Self>, EngineError> {
        let mut found = Vec::new();
        for pair in view.scan(&[DESCRIPTOR_PREFIX], &[DESCRIPTOR_PREFIX + 1]) {
            let (key, value) = pair?;
            if key.len() != 9 {
                return Err(damaged("descriptor"));
            }
            found.push(Self::decode(ShardId((&key[1..]).get_u64()), value)?);
        }
        Ok(found)
    }
}

/// A membership that nobody wants to change.
pub(crate) fn members_only(members: Vec<(ReplicaId, StoreId)>) -> Membership {
    Membership {
        last_replica: members.iter().map(|(id, _)| *id).max().unwrap_or_default(),
        wanted: members.clone(),
        before: members.clone(),
        members,
    }
}

/// A record that is gone.
pub(crate) fn removed(key: Pair) -> (Bytes, Option<Bytes>) {
    (key.0, None)
}

impl Applied {
    pub(crate) fn record(&self, shard: ShardId) -> Pair {
        let mut out = Vec::with_capacity(25);
        out.push(FORMAT);
        out.put_u64_le(self.index.0);
        out.put_u64_le(self.term.0);
        out.put_u64_le(self.stamp_ms);
        (key_of(APPLIED_PREFIX, shard.0), out.into())
    }

    pub(crate) fn load(view: &impl View, shard: ShardId) -> Result<Self, EngineError> {
        let value = view.get(&key_of(APPLIED_PREFIX, shard.0))?;
        let mut from = value.ok_or_else(|| damaged("applied"))?;
        if from.len() != 25 || from.get_u8() != FORMAT {
            return Err(damaged("applied"));
        }
        Ok(Self {
            index: Index(from.get_u64_le()),
            term: Term(from.get_u64_le()),
            stamp_ms: from.get_u64_le(),
        })
    }
}

/// Says that the engine is a formatted store's, which may hold no shard.
pub(crate) fn formatted_record() -> Pair {
    (Bytes::from_static(FORMATTED), Bytes::from_static(&[FORMAT]))
}

pub(crate) fn is_formatted(view: &impl View) -> Result<bool, EngineError> {
    Ok(view.get(FORMATTED)?.is_some())
}

/// The incarnation that a peer showed at first contact (P7).
pub(crate) fn binding_record(store: StoreId, incarnation: quorate_storage::Incarnation) -> Pair {
    (
        key_of(BINDING_PREFIX, store.0),
        Bytes::copy_from_slice(&incarnation.0.to_le_bytes()),
    )
}

/// All bindings recorded so far.
pub(crate) fn load_bindings(
    view: &impl View,
) -> Result<std::collections::BTreeMap<StoreId, quorate_storage::Incarnation>, EngineError> {
    let mut found = std::collections::BTreeMap::new();
    for pair in view.scan(&[BINDING_PREFIX], &[BINDING_PREFIX + 1]) {
        let (key, mut value) = pair?;
        if key.len() != 9 || value.len() != 16 {
            return Err(damaged("binding"));
        }
        found.insert(
            StoreId((&key[1..]).get_u64()),
            quorate_storage::Incarnation(value.get_u128_le()),
        );
    }
    Ok(found)
}
