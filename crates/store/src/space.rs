//! Spaces that nothing refers to: left by a flush, a replaced snapshot or one that never finished.
//!
//! They are removed in slices, and only once the batch that stopped referring to them is durable: removal is
//! not ordered with batches, so it must not overtake one that a crash could undo.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_raft::mutant;
use quorate_storage::engine::{Engine, EngineError, View, WriteBatch};

use crate::bootstrap::SLOTS;
use crate::descriptor::Descriptor;
use crate::error::StoreError;
use crate::kv::{self, Space, Spaces};
use crate::store::Store;

/// Keys removed per tick.
const SLICE: usize = 4096;

/// Keys that nothing refers to.
#[derive(Clone, Debug)]
pub(crate) enum Garbage {
    /// All of one kind in a space.
    All {
        /// Where.
        space: Space,
        /// The keys of the kind.
        range: Range,
    },
    /// What lies in a space that other shards use as well: data of these slots.
    Data(Space, (u16, u16)),
    /// The same of the expiry index, which is not in the order of slots: it is looked through, and the entries of
    /// these slots go. Begins behind the engine key, if there is one.
    Expiry(Space, Vec<(u16, u16)>, Option<Bytes>),
}

/// The keys of one kind in a space.
type Range = fn(Space) -> (Vec<u8>, Vec<u8>);

const DATA: [Range; 2] = [kv::data_range, kv::expiry_range];
const SESSIONS: [Range; 3] = [kv::session_range, kv::answer_range, kv::control_range];

/// Where a shard's data lay.
pub(crate) fn data_of(spaces: Spaces) -> Vec<Garbage> {
    let space = spaces.data;
    match spaces.only {
        None => DATA.map(|range| Garbage::All { space, range }).into(),
        Some(slots) => vec![
            Garbage::Data(space, slots),
            Garbage::Expiry(space, vec![slots], None),
        ],
    }
}

/// Where a shard's data and sessions lay.
pub(crate) fn all_of(spaces: Spaces) -> Vec<Garbage> {
    let space = spaces.sessions;
    let mut all = data_of(spaces);
    all.extend(SESSIONS.map(|range| Garbage::All { space, range }));
    all
}

/// Keys that belong to no shard, found without reading those that do; of spaces that several shards use, what may hold
/// some.
pub(crate) fn unreferenced(
    view: &impl View,
    descriptors: &[Descriptor],
) -> Result<Vec<Garbage>, EngineError> {
    let mut found = Vec::new();
    for (at, range) in DATA.into_iter().chain(SESSIONS).enumerate() {
        let used = |descriptor: &Descriptor| {
            if at < DATA.len() {
                descriptor.space
            } else {
                descriptor.sessions
            }
        };
        let mut from = Space(0);
        loop {
            let (start, _) = range(from);
            let (_, end) = range(Space(u32::MAX));
            let Some(pair) = view.scan(&start, &end).next() else {
                break;
            };
            let (key, _) = pair?;
            let Some(space) = space_of(&key) else { break };
            if descriptors.iter().all(|descriptor| used(descriptor) != space) {
                found.push(Garbage::All { space, range });
            }
            if space.0 == u32::MAX {
                break;
            }
            from = Space(space.0 + 1);
        }
    }
    let shared: BTreeSet<Space> = descriptors
        .iter()
        .filter(|descriptor| descriptor.is_shared)
        .map(|descriptor| descriptor.space)
        .collect();
    for space in shared {
        let holes = holes(descriptors.iter().filter(|descriptor| descriptor.space == space));
        found.extend(holes.iter().map(|slots| Garbage::Data(space, *slots)));
        if !holes.is_empty() {
            found.push(Garbage::Expiry(space, holes, None));
        }
    }
    Ok(found)
}

/// The runs of slots that none of these shards has.
fn holes<'a>(descriptors: impl Iterator<Item = &'a Descriptor>) -> Vec<(u16, u16)> {
    let mut taken: Vec<_> = descriptors.map(|of| (of.start_slot, of.end_slot)).collect();
    taken.sort_unstable();
    taken.push((SLOTS, SLOTS));
    let mut end = 0;
    let mut holes = Vec::new();
    for (start, next) in taken {
        if end < start {
            holes.push((end, start));
        }
        end = end.max(next);
    }
    holes
}

impl Garbage {
    /// Where it lies.
    pub(crate) fn space(&self) -> Space {
        match self {
            Garbage::All { space, .. } | Garbage::Data(space, _) | Garbage::Expiry(space, ..) => *space,
        }
    }
}

/// The space of a full key: four bytes behind the kind (see `kv`).
fn space_of(key: &[u8]) -> Option<Space> {
    Some(Space(u32::from_be_bytes(key.get(1..5)?.try_into().ok()?)))
}

impl<E: Engine> Store<E> {
    /// A fresh space, never used before in this engine.
    pub(crate) fn new_space(&mut self) -> Space {
        let space = Space(self.next_space);
        self.next_space += 1;
        space
    }

    pub(crate) fn drop_garbage(&mut self) -> Result<(), StoreError> {
        let Some((garbage, since)) = self.garbage.front_mut() else {
            return Ok(());
        };
        if *since > self.durable_batch && !mutant!("space-dropped-before-durable") {
            self.want_durable();
            return Ok(());
        }
        let is_left = match garbage {
            Garbage::All { space, range } => {
                let (start, end) = range(*space);
                self.engine.drop_range(&start, &end, SLICE)?
            }
            Garbage::Data(space, (start, end)) => {
                let (start, end) = kv::data_slots(*space, *start, *end);
                self.engine.drop_range(&start, &end, SLICE)?
            }
            Garbage::Expiry(space, slots, after) => {
                let due = kv::due(&self.engine, *space, u64::MAX, after.as_deref(), SLICE)?;
                let gone = |key: &Bytes| {
                    let slot = kv::slot_of(key);
                    slots.iter().any(|(start, end)| (*start..*end).contains(&slot))
                };
                let entries = due.entries.into_iter().filter(|(_, key)| gone(key));
                let changes: Vec<_> = entries
                    .map(|(deadline_ms, key)| (kv::expiry_key(*space, deadline_ms, &key).into(), None))
                    .collect();
                *after = due.more;
                let is_left = after.is_some();
                if !changes.is_empty() {
                    self.engine.write(WriteBatch { changes })?;
                }
                is_left
            }
        };
        if !is_left {
            self.garbage.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bootstrap;
    use quorate_storage::{ClusterId, StoreId};

    #[test]
    fn holes_are_what_no_shard_has() {
        let cluster = Bootstrap {
            cluster: ClusterId(1),
            stores: vec![StoreId(1)],
            shards: 4,
            replicas: 3,
        };
        let all = cluster.descriptors(StoreId(1));
        assert_eq!(holes(all.iter()), []);
        assert_eq!(holes(all[..4].iter()), [(12288, SLOTS)]);
        assert_eq!(holes(all[2..3].iter()), [(0, 4096), (8192, SLOTS)]);
        assert_eq!(holes(std::iter::empty()), [(0, SLOTS)]);
    }
}
