//! The state engine of a node: a memtable of our own in front of [`FjallEngine`].
//!
//! A batch goes into an ordered map in memory and nowhere else: the Raft log is the journal already, and fjall
//! would write it to a second one, search its skip list and sometimes hold writers back, all on the thread that
//! drives Raft. [`Durability::make_durable`], on another thread, freezes the map and writes it to fjall as one
//! atomic batch per frozen map, so that after a crash fjall holds an exact prefix of the batches. So do loads and the
//! tombstones of what is dropped, which come in large amounts: a thread of the engine writes them to fjall as they come.
//! Whoever writes to fjall may wait for a sync of its journal, 100 ms and more on a busy disk.
//!
//! Reads look at the active map, then at the frozen ones from the newest to the oldest, then at fjall. A frozen
//! map is removed only after fjall has it, and not while a scan is under way, so that no reader can miss it in
//! both places. Reads of single keys look at the last maps that fjall has, too: fjall's reads wait while it makes another
//! version of its tables known, which takes several syncs, and what was written lately is what is read most.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::fjall::{Dropped, FjallSnapshot, FjallTables};
use super::merge::{Map, Merge, Source, nearest};
use super::worker::{FLUSH_NICE, Worker, be_nice, unwound};
use super::{
    BatchSeq, Durability, Engine, EngineError, FjallEngine, Pair, Pairs, View, WriteBatch, check_ascending,
    check_key,
};

/// What an entry costs beside its key and value, roughly.
const ENTRY_OVERHEAD: usize = 96;
/// Bytes of loads and tombstones after which they are written to fjall.
const FLUSHED_FROM: usize = 512 << 10;
/// Bytes and number of the maps that stay in memory for reads although fjall has them, at most.
const FLUSHED_BYTES_MAX: usize = 16 << 20;
const FLUSHED_MAPS_MAX: usize = 16;
/// Bytes of loads in memory from which on the engine is behind.
const BEHIND_FROM: usize = 32 << 20;

#[derive(Default)]
struct Layers {
    active: Map,
    active_bytes: usize,
    /// Oldest first, with their sizes.
    frozen: Vec<(Arc<Map>, usize)>,
    /// Fjall has them. Oldest first, with their sizes.
    flushed: VecDeque<(Arc<Map>, usize)>,
    /// In this range there are tombstones only: an [`Engine::drop_range`] goes on below, and need not look again.
    emptied: Option<(Bytes, Bytes)>,
    /// Bytes of loads that fjall does not have.
    loaded_bytes: usize,
    /// Of what is below, what has got its tombstones here since the last flush.
    dropped: Dropped,
}

impl Layers {
    fn freeze(&mut self) {
        if !self.active.is_empty() {
            let bytes = std::mem::take(&mut self.active_bytes);
            self.frozen
                .push((Arc::new(std::mem::take(&mut self.active)), bytes));
        }
    }

    /// The first of the frozen maps are in fjall. Returns what is no longer looked at: it takes a while to free.
    #[must_use]
    fn have_flushed(&mut self, maps: usize) -> Vec<Arc<Map>> {
        self.flushed.extend(self.frozen.drain(..maps));
        let mut bytes: usize = self.flushed.iter().map(|(_, bytes)| bytes).sum();
        let mut gone = Vec::new();
        while self.flushed.len() > FLUSHED_MAPS_MAX || bytes > FLUSHED_BYTES_MAX {
            let Some((map, of_map)) = self.flushed.pop_front() else {
                break;
            };
            bytes -= of_map;
            gone.push(map);
        }
        gone
    }

    /// Of what fjall does not have.
    fn bytes(&self) -> usize {
        self.active_bytes + self.frozen.iter().map(|(_, bytes)| bytes).sum::<usize>()
    }

    /// What fjall does not have, newest first.
    fn iter(&self) -> impl Iterator<Item = &Map> {
        std::iter::once(&self.active).chain(self.frozen.iter().rev().map(|(map, _)| &**map))
    }

    /// All maps, newest first.
    fn iter_all(&self) -> impl Iterator<Item = &Map> {
        self.iter()
            .chain(self.flushed.iter().rev().map(|(map, _)| &**map))
    }

    fn put(&mut self, key: Bytes, value: Option<Bytes>) {
        self.active_bytes += ENTRY_OVERHEAD + key.len() + value.as_ref().map_or(0, Bytes::len);
        let is_among = |(start, end): &mut (Bytes, Bytes)| *start <= key && (end.is_empty() || key < *end);
        if value.is_some() {
            self.emptied.take_if(is_among);
        }
        self.active.insert(key, value);
    }

    /// The first keys of a range whose newest entry is a value.
    fn live(&self, range: (Bound<&[u8]>, Bound<&[u8]>), limit: usize) -> Vec<Bytes> {
        let mut newest: BTreeMap<&Bytes, bool> = BTreeMap::new();
        for map in self.iter_all() {
            for (key, value) in map.range::<[u8], _>(range) {
                newest.entry(key).or_insert(value.is_some());
            }
        }
        let live = newest.into_iter().filter(|(_, is_value)| *is_value);
        live.take(limit).map(|(key, _)| key.clone()).collect()
    }
}

struct Shared {
    layers: Mutex<Layers>,
    /// Held for reading by scans; taken for writing to remove frozen maps.
    scans: RwLock<()>,
    /// Whoever writes to fjall.
    writer: Mutex<FjallEngine>,
}

impl Shared {
    fn layers(&self) -> MutexGuard<'_, Layers> {
        // Nothing under the lock can leave the maps half changed.
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the maps to fjall, which is returned, locked.
    fn flush(&self) -> Result<MutexGuard<'_, FjallEngine>, EngineError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (frozen, loaded_bytes, dropped) = {
            let mut layers = self.layers();
            layers.freeze();
            let maps = layers.frozen.iter().map(|(map, _)| Arc::clone(map));
            let maps: Vec<_> = maps.collect();
            (maps, layers.loaded_bytes, std::mem::take(&mut layers.dropped))
        };
        for map in &frozen {
            // One batch: fjall must never hold a part of a map, which is many batches of ours.
            let changes = map
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            writer.write(WriteBatch { changes })?;
        }
        writer.dropped(dropped)?;
        // The writer stays locked: another flush must find either the maps or nothing.
        let no_scans = self.scans.write().unwrap_or_else(PoisonError::into_inner);
        let mut layers = self.layers();
        layers.loaded_bytes -= loaded_bytes;
        let gone = layers.have_flushed(frozen.len());
        drop((layers, no_scans));
        drop(gone);
        Ok(writer)
    }

    /// Gives the next keys of a range in fjall their tombstones, in memory.
    fn drop_slice(&self, start: &[u8], end: &[u8], limit: usize) -> Result<DroppedSlice, EngineError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(doomed) = writer.next_doomed(start, end, limit)? else {
            return Ok(DroppedSlice {
                more: true,
                bytes: 0,
                gives_back: false,
            });
        };
        let mut layers = self.layers();
        let bytes_before = layers.active_bytes;
        for key in doomed.keys {
            layers.put(key, None);
        }
        layers.dropped = layers.dropped.and(doomed.dropped);
        Ok(DroppedSlice {
            more: doomed.more,
            bytes: layers.active_bytes - bytes_before,
            gives_back: !doomed.more && layers.dropped.is_any(),
        })
    }
}

/// A slice of a range that another thread drops.
struct Dropping {
    start: Bytes,
    end: Bytes,
    thread: JoinHandle<Result<DroppedSlice, EngineError>>,
}

/// What became of it.
struct DroppedSlice {
    /// Something of the range may be left.
    more: bool,
    /// What its tombstones take in memory.
    bytes: usize,
    /// When they are in fjall, there is something to give back.
    gives_back: bool,
}

/// An [`Engine`] in a directory. See the module.
pub struct BufferedEngine {
    shared: Arc<Shared>,
    tables: FjallTables,
    last: BatchSeq,
    /// Writes what is in memory to fjall.
    flusher: Option<Worker<EngineError>>,
    /// Bytes of loads and tombstones since it was asked.
    unflushed_bytes: usize,
    dropping: Option<Dropping>,
}

impl Drop for BufferedEngine {
    /// The directory is free once the engine is gone.
    fn drop(&mut self) {
        if let Some(slice) = self.dropping.take() {
            let _ = slice.thread.join();
        }
        if let Some(flusher) = self.flusher.take() {
            let _ = flusher.join();
        }
    }
}

impl BufferedEngine {
    /// Opens or creates the engine in `path`; see [`FjallEngine::open`].
    ///
    /// # Errors
    ///
    /// As [`FjallEngine::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, EngineError> {
        let engine = FjallEngine::open(path)?;
        let tables = engine.tables();
        let shared = Shared {
            layers: Mutex::default(),
            scans: RwLock::default(),
            writer: Mutex::new(engine),
        };
        let shared = Arc::new(shared);
        let flusher = Worker::begin("engine-flush", {
            let shared = Arc::clone(&shared);
            move |requests| {
                be_nice(FLUSH_NICE);
                while requests.recv().is_ok() {
                    drop(shared.flush()?);
                }
                Ok(())
            }
        });
        Ok(Self {
            shared,
            tables,
            last: BatchSeq(0),
            flusher: Some(flusher.map_err(|error| EngineError::new("open", error))?),
            unflushed_bytes: 0,
            dropping: None,
        })
    }

    /// Has what came in large amounts written to fjall.
    fn flush_after(&mut self, bytes: usize, is_last: bool) -> Result<(), EngineError> {
        self.unflushed_bytes += bytes;
        if self.unflushed_bytes < FLUSHED_FROM && !is_last {
            return Ok(());
        }
        self.unflushed_bytes = 0;
        match self.flusher.take_if(|flusher| !flusher.ask()) {
            Some(flusher) => unwound(flusher.join()),
            None => Ok(()),
        }
    }

    /// Goes on with a range below; returns whether anything may be left. No slice begins before it is asked for.
    fn drop_below(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<bool, EngineError> {
        if let Some(slice) = self.dropping.take_if(|slice| slice.thread.is_finished()) {
            let is_this = slice.start == start && slice.end == end;
            let dropped = slice.thread.join();
            let dropped = dropped.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            self.flush_after(dropped.bytes, dropped.gives_back)?;
            if is_this && !dropped.more {
                return Ok(false);
            }
        }
        if self.dropping.is_none() {
            let (start, end) = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
            let thread = std::thread::Builder::new().name("engine-drop".into()).spawn({
                let (shared, start, end) = (Arc::clone(&self.shared), start.clone(), end.clone());
                move || shared.drop_slice(&start, &end, limit)
            });
            self.dropping = Some(Dropping {
                start,
                end,
                thread: thread.map_err(|error| EngineError::new("drop range", error))?,
            });
        }
        Ok(true)
    }
}

fn range<'a>(start: &'a [u8], end: &'a [u8]) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (
        Bound::Included(start),
        if end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(end)
        },
    )
}

/// `BTreeMap::range` panics on a range that ends before it starts.
fn is_empty(start: &[u8], end: &[u8]) -> bool {
    !end.is_empty() && end <= start
}

impl View for BufferedEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        let known = self
            .shared
            .layers()
            .iter_all()
            .find_map(|map| map.get(key).cloned());
        match known {
            Some(value) => Ok(value),
            // A map that was flushed meanwhile is in fjall: it is removed only afterwards.
            None => self.tables.get(key),
        }
    }

    fn scan(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        self.merge(start, end, false)
    }

    fn scan_reverse(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        self.merge(start, end, true)
    }
}

impl BufferedEngine {
    fn merge(&self, start: &[u8], end: &[u8], reverse: bool) -> Pairs<'_> {
        if is_empty(start, end) {
            return Box::new(std::iter::empty());
        }
        let pin = self.shared.scans.read().unwrap_or_else(PoisonError::into_inner);
        let below = if reverse {
            self.tables.scan_reverse(start, end)
        } else {
            self.tables.scan(start, end)
        };
        let layers = Live {
            shared: &self.shared,
            _pin: pin,
        };
        Box::new(Merge::new(layers, below, start, end, reverse))
    }
}

/// The engine's maps as they are; pinned, so that none is removed meanwhile.
struct Live<'a> {
    shared: &'a Shared,
    _pin: RwLockReadGuard<'a, ()>,
}

impl Source for Live<'_> {
    fn nearest(&self, range: (Bound<&[u8]>, Bound<&[u8]>), reverse: bool) -> Option<(Bytes, Option<Bytes>)> {
        nearest(self.shared.layers().iter(), range, reverse)
    }
}

impl Engine for BufferedEngine {
    type Snapshot = BufferedSnapshot;

    fn write(&mut self, batch: WriteBatch) -> Result<BatchSeq, EngineError> {
        for (key, _) in &batch.changes {
            check_key("write", key)?;
        }
        let mut layers = self.shared.layers();
        for (key, value) in batch.changes {
            layers.put(key, value);
        }
        self.last.0 += 1;
        Ok(self.last)
    }

    fn last_batch(&self) -> BatchSeq {
        self.last
    }

    fn snapshot(&self) -> BufferedSnapshot {
        // Pinned: what is not in the maps any more is in fjall's snapshot, which is taken after.
        let _pin = self.shared.scans.read().unwrap_or_else(PoisonError::into_inner);
        let mut layers = self.shared.layers();
        layers.freeze();
        let maps = layers
            .frozen
            .iter()
            .rev()
            .map(|(map, _)| Arc::clone(map))
            .collect();
        BufferedSnapshot {
            maps,
            tables: self.tables.snapshot(),
        }
    }

    /// What is in memory gets tombstones at once. What is below is looked for by another thread, slice by slice.
    fn drop_range(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<bool, EngineError> {
        if is_empty(start, end) {
            return Ok(false);
        }
        let mut limit = limit;
        let mut layers = self.shared.layers();
        let bytes_before = layers.active_bytes;
        let is_this = |(from, to): &(Bytes, Bytes)| from == start && to == end;
        if !layers.emptied.as_ref().is_some_and(is_this) {
            let mut keys = layers.live(range(start, end), limit.saturating_add(1));
            let more = keys.len() > limit;
            keys.truncate(limit);
            limit -= keys.len();
            for key in keys {
                layers.put(key, None);
            }
            if more {
                return Ok(true);
            }
            layers.emptied = Some((Bytes::copy_from_slice(start), Bytes::copy_from_slice(end)));
        }
        let bytes = layers.active_bytes.saturating_sub(bytes_before);
        drop(layers);
        self.flush_after(bytes, false)?;
        self.drop_below(start, end, limit)
    }

    fn bulk_load(&mut self, pairs: Vec<Pair>) -> Result<(), EngineError> {
        const ACTION: &str = "bulk load";
        for (key, _) in &pairs {
            check_key(ACTION, key)?;
        }
        check_ascending(ACTION, &pairs)?;
        let mut bytes = 0;
        let mut layers = self.shared.layers();
        for (key, value) in pairs {
            bytes += key.len() + value.len();
            // Copied: they are slices of the message that they came in.
            layers.put(Bytes::copy_from_slice(&key), Some(Bytes::copy_from_slice(&value)));
        }
        layers.loaded_bytes += bytes;
        drop(layers);
        self.flush_after(bytes, false)
    }

    fn is_behind(&self) -> bool {
        self.shared.layers().loaded_bytes >= BEHIND_FROM
    }

    fn durability(&self) -> Box<dyn Durability> {
        Box::new(Flusher {
            shared: Arc::clone(&self.shared),
        })
    }

    fn size_bytes(&self) -> u64 {
        self.tables.size_bytes() + self.shared.layers().bytes() as u64
    }
}

/// The state of a [`BufferedEngine`] at one moment.
pub struct BufferedSnapshot {
    /// Newest first.
    maps: Vec<Arc<Map>>,
    tables: FjallSnapshot,
}

impl BufferedSnapshot {
    fn merge(&self, start: &[u8], end: &[u8], reverse: bool) -> Pairs<'_> {
        if is_empty(start, end) {
            return Box::new(std::iter::empty());
        }
        let below = if reverse {
            self.tables.scan_reverse(start, end)
        } else {
            self.tables.scan(start, end)
        };
        Box::new(Merge::new(&self.maps[..], below, start, end, reverse))
    }
}

impl View for BufferedSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.maps.iter().find_map(|map| map.get(key).cloned()) {
            Some(value) => Ok(value),
            None => self.tables.get(key),
        }
    }

    fn scan(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        self.merge(start, end, false)
    }

    fn scan_reverse(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        self.merge(start, end, true)
    }
}

/// Writes the maps to fjall and syncs it.
struct Flusher {
    shared: Arc<Shared>,
}

impl Durability for Flusher {
    fn make_durable(&mut self) -> Result<(), EngineError> {
        let mut durability = self.shared.flush()?.durability();
        durability.make_durable()
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that cannot set up its engine has failed"
    )]

    use super::*;

    fn map(key: &'static str, bytes: usize) -> (Arc<Map>, usize) {
        let value = Some(Bytes::from_static(b"value"));
        (Arc::new(Map::from([(key.into(), value)])), bytes)
    }

    #[test]
    fn an_engine_is_behind_while_its_disk_does_not_take_what_is_loaded() {
        let path = std::env::temp_dir().join(format!("quorate-engine-behind-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let mut engine = BufferedEngine::open(&path).unwrap();
        let shared = Arc::clone(&engine.shared);
        let busy = shared.writer.lock().unwrap();
        for chunk in 0..BEHIND_FROM >> 20 {
            assert!(!engine.is_behind(), "{chunk} MiB");
            let pair = (Bytes::from(format!("{chunk:04}")), Bytes::from(vec![7; 1 << 20]));
            engine.bulk_load(vec![pair]).unwrap();
        }
        assert!(engine.is_behind());
        drop(busy);
        drop(shared);
        // It has been asked to flush, and would stay behind for ever if that came to nothing.
        for _ in 0..6_000 {
            if !engine.is_behind() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        assert!(!engine.is_behind());
        assert_eq!(engine.scan(b"", b"").count(), BEHIND_FROM >> 20);
        drop(engine);
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn of_what_was_flushed_the_newest_stays_within_bounds() {
        let mut layers = Layers::default();
        let kept = |layers: &Layers| -> Vec<Bytes> {
            let keys = layers.flushed.iter().flat_map(|(map, _)| map.keys().cloned());
            keys.collect()
        };
        for _ in 0..2 * FLUSHED_MAPS_MAX {
            layers.frozen.push(map("small", 1));
        }
        layers.frozen.push(map("not flushed", 1));
        let gone = layers.have_flushed(2 * FLUSHED_MAPS_MAX);
        assert_eq!((gone.len(), layers.frozen.len()), (FLUSHED_MAPS_MAX, 1));
        layers.frozen = vec![
            map("large", FLUSHED_BYTES_MAX - 1),
            map("1", 1),
            map("2", FLUSHED_BYTES_MAX),
        ];
        drop(layers.have_flushed(2));
        assert_eq!(kept(&layers), ["large", "1"]);
        drop(layers.have_flushed(1));
        assert_eq!(kept(&layers), ["2"]);
        layers.frozen = vec![map("too large", FLUSHED_BYTES_MAX + 1)];
        drop(layers.have_flushed(1));
        assert_eq!(kept(&layers), [""; 0]);
    }
}
