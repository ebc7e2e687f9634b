//! Spaces that nothing refers to: left by a flush, a replaced snapshot or one that never finished.
//!
//! They are removed in slices, and only once the batch that stopped referring to them is durable: removal is
//! not ordered with batches, so it must not overtake one that a crash could undo.

use quorate_raft::mutant;
use quorate_storage::engine::{Engine, EngineError, View};

use crate::descriptor::Descriptor;
use crate::error::StoreError;
use crate::kv::{self, Space, Spaces};
use crate::store::Store;

/// Keys removed per tick.
const SLICE: usize = 4096;

/// One kind of a space's keys that nothing refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Garbage {
    pub(crate) space: Space,
    range: Range,
}

/// The keys of one kind in a space.
type Range = fn(Space) -> (Vec<u8>, Vec<u8>);

const DATA: [Range; 2] = [kv::data_range, kv::expiry_range];
const SESSIONS: [Range; 3] = [kv::session_range, kv::answer_range, kv::control_range];

/// A space in which data lay.
pub(crate) fn data_of(space: Space) -> impl Iterator<Item = Garbage> {
    DATA.into_iter().map(move |range| Garbage { space, range })
}

/// Spaces in which a shard's data and sessions lay.
pub(crate) fn all_of(spaces: Spaces) -> impl Iterator<Item = Garbage> {
    let sessions = move |range| Garbage {
        space: spaces.sessions,
        range,
    };
    data_of(spaces.data).chain(SESSIONS.into_iter().map(sessions))
}

/// Keys that belong to no shard, found without reading those that do.
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
                found.push(Garbage { space, range });
            }
            if space.0 == u32::MAX {
                break;
            }
            from = Space(space.0 + 1);
        }
    }
    Ok(found)
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
        let Some((garbage, since)) = self.garbage.front().copied() else {
            return Ok(());
        };
        if since > self.durable_batch && !mutant!("space-dropped-before-durable") {
            self.want_durable();
            return Ok(());
        }
        let (start, end) = (garbage.range)(garbage.space);
        if self.engine.drop_range(&start, &end, SLICE)? {
            return Ok(()); // the rest at a later tick
        }
        self.garbage.pop_front();
        Ok(())
    }
}
