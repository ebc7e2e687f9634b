//! The state engine of a node: a memtable of our own in front of [`FjallEngine`].
//!
//! A batch goes into an ordered map in memory and nowhere else: the Raft log is the journal already, and fjall
//! would write it to a second one, search its skip list and sometimes hold writers back, all on the thread that
//! drives Raft. [`Durability::make_durable`], on another thread, freezes the map and writes it to fjall as one
//! atomic batch per frozen map, so that after a crash fjall holds an exact prefix of the batches.
//!
//! Reads look at the active map, then at the frozen ones from the newest to the oldest, then at fjall. A frozen
//! map is removed only after fjall has it, and not while a scan is under way, so that no reader can miss it in
//! both places.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError};

use bytes::Bytes;

use super::fjall::{FjallSnapshot, FjallTables};
use super::{
    BatchSeq, Durability, Engine, EngineError, FjallEngine, Pair, Pairs, View, WriteBatch, check_ascending,
    check_key,
};

/// Changes in key order; `None` deletes.
type Map = BTreeMap<Bytes, Option<Bytes>>;

/// What an entry costs beside its key and value, roughly.
const ENTRY_OVERHEAD: usize = 96;

#[derive(Default)]
struct Layers {
    active: Map,
    active_bytes: usize,
    /// Oldest first, with their sizes.
    frozen: Vec<(Arc<Map>, usize)>,
    /// In this range there are tombstones only: an [`Engine::drop_range`] goes on below, and need not look again.
    emptied: Option<(Bytes, Bytes)>,
}

impl Layers {
    fn freeze(&mut self) {
        if !self.active.is_empty() {
            let bytes = std::mem::take(&mut self.active_bytes);
            self.frozen
                .push((Arc::new(std::mem::take(&mut self.active)), bytes));
        }
    }

    /// Newest first.
    fn iter(&self) -> impl Iterator<Item = &Map> {
        std::iter::once(&self.active).chain(self.frozen.iter().rev().map(|(map, _)| &**map))
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
        for map in self.iter() {
            for (key, value) in map.range::<[u8], _>(range) {
                newest.entry(key).or_insert(value.is_some());
            }
        }
        let live = newest.into_iter().filter(|(_, is_value)| *is_value);
        live.take(limit).map(|(key, _)| key.clone()).collect()
    }

    fn touches(&self, range: (Bound<&[u8]>, Bound<&[u8]>)) -> bool {
        self.iter()
            .any(|map| map.range::<[u8], _>(range).next().is_some())
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
}

/// An [`Engine`] in a directory. See the module.
pub struct BufferedEngine {
    shared: Arc<Shared>,
    tables: FjallTables,
    last: BatchSeq,
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
        Ok(Self {
            shared: Arc::new(shared),
            tables,
            last: BatchSeq(0),
        })
    }

    /// fjall, unless a flush is using it: what waits for it can wait for the next tick.
    fn try_writer(&self) -> Option<MutexGuard<'_, FjallEngine>> {
        match self.shared.writer.try_lock() {
            Ok(writer) => Some(writer),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
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
        let known = self.shared.layers().iter().find_map(|map| map.get(key).cloned());
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
        Box::new(Merge {
            layers: Live {
                shared: &self.shared,
                _pin: pin,
            },
            bounds: KeyBounds::new(start, end),
            reverse,
            below: below.peekable(),
        })
    }
}

/// Where a merge finds the maps.
trait Source {
    /// The nearest key in the range, in any map, and what the newest map says of it.
    fn nearest(&self, range: (Bound<&[u8]>, Bound<&[u8]>), reverse: bool) -> Option<(Bytes, Option<Bytes>)>;
}

fn nearest<'a>(
    maps: impl Iterator<Item = &'a Map>,
    range: (Bound<&[u8]>, Bound<&[u8]>),
    reverse: bool,
) -> Option<(Bytes, Option<Bytes>)> {
    let mut best: Option<(&Bytes, &Option<Bytes>)> = None;
    for map in maps {
        let mut found = map.range::<[u8], _>(range);
        let found = if reverse { found.next_back() } else { found.next() };
        // Newer maps come first, so an equal key of an older one changes nothing.
        if let Some((key, value)) = found
            && best.is_none_or(|(known, _)| if reverse { key > known } else { key < known })
        {
            best = Some((key, value));
        }
    }
    best.map(|(key, value)| (key.clone(), value.clone()))
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

/// Frozen maps, newest first.
impl Source for &[Arc<Map>] {
    fn nearest(&self, range: (Bound<&[u8]>, Bound<&[u8]>), reverse: bool) -> Option<(Bytes, Option<Bytes>)> {
        nearest(self.iter().map(|map| &**map), range, reverse)
    }
}

/// What is left of a scan's range; a bound moves past each key that was given.
struct KeyBounds {
    start: Bound<Bytes>,
    end: Bound<Bytes>,
}

impl KeyBounds {
    fn new(start: &[u8], end: &[u8]) -> Self {
        let copy = Bytes::copy_from_slice;
        let end = if end.is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(copy(end))
        };
        Self {
            start: Bound::Included(copy(start)),
            end,
        }
    }

    fn get(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (
            self.start.as_ref().map(|key| &key[..]),
            self.end.as_ref().map(|key| &key[..]),
        )
    }

    /// Whether nothing is left: the bounds met at a key that was given.
    fn are_closed(&self) -> bool {
        match (&self.start, &self.end) {
            (Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
            (Bound::Included(start), Bound::Excluded(end)) => start >= end,
            _ => false,
        }
    }
}

/// The maps over fjall, as one ordered view.
struct Merge<'a, S> {
    layers: S,
    bounds: KeyBounds,
    reverse: bool,
    below: std::iter::Peekable<Pairs<'a>>,
}

impl<S: Source> Iterator for Merge<'_, S> {
    type Item = Result<Pair, EngineError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let above = if self.bounds.are_closed() {
                None
            } else {
                self.layers.nearest(self.bounds.get(), self.reverse)
            };
            let below_first = match (&above, self.below.peek()) {
                (_, Some(Err(_))) => return self.below.next(),
                (None, _) => return self.below.next(),
                (Some(_), None) => false,
                (Some((above, _)), Some(Ok((below, _)))) => {
                    if self.reverse {
                        below > above
                    } else {
                        below < above
                    }
                }
            };
            if below_first {
                return self.below.next();
            }
            let (key, value) = above?;
            if self
                .below
                .peek()
                .is_some_and(|pair| pair.as_ref().is_ok_and(|(below, _)| *below == key))
            {
                self.below.next(); // an older value
            }
            let passed = Bound::Excluded(key.clone());
            if self.reverse {
                self.bounds.end = passed;
            } else {
                self.bounds.start = passed;
            }
            if let Some(value) = value {
                return Some(Ok((key, value)));
            }
        }
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

    /// What is in memory gets tombstones there; below, what is below is dropped at once. A value on its way down arrives
    /// later, and its tombstone after it.
    fn drop_range(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<bool, EngineError> {
        if is_empty(start, end) {
            return Ok(false);
        }
        let mut limit = limit;
        let mut layers = self.shared.layers();
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
        drop(layers);
        match self.try_writer() {
            Some(mut writer) => writer.drop_range(start, end, limit),
            None => Ok(true),
        }
    }

    /// Straight into fjall, unless something newer or older of the range is still in memory.
    fn bulk_load(&mut self, pairs: Vec<Pair>) -> Result<(), EngineError> {
        const ACTION: &str = "bulk load";
        for (key, _) in &pairs {
            check_key(ACTION, key)?;
        }
        check_ascending(ACTION, &pairs)?;
        let (Some((first, _)), Some((last, _))) = (pairs.first(), pairs.last()) else {
            return Ok(());
        };
        let loaded = (Bound::Included(&first[..]), Bound::Included(&last[..]));
        let mut layers = self.shared.layers();
        if !layers.touches(loaded)
            && let Some(mut writer) = self.try_writer()
        {
            drop(layers);
            return writer.bulk_load(pairs);
        }
        for (key, value) in pairs {
            // Copied: they are slices of the message that they came in.
            layers.put(Bytes::copy_from_slice(&key), Some(Bytes::copy_from_slice(&value)));
        }
        Ok(())
    }

    fn durability(&self) -> Box<dyn Durability> {
        Box::new(Flusher {
            shared: Arc::clone(&self.shared),
        })
    }

    fn size_bytes(&self) -> u64 {
        let layers = self.shared.layers();
        let memory = layers.active_bytes + layers.frozen.iter().map(|(_, bytes)| bytes).sum::<usize>();
        self.tables.size_bytes() + memory as u64
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
        let bounds = KeyBounds::new(start, end);
        Box::new(Merge {
            layers: &self.maps[..],
            bounds,
            reverse,
            below: below.peekable(),
        })
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
        let mut writer = self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let frozen: Vec<Arc<Map>> = {
            let mut layers = self.shared.layers();
            layers.freeze();
            layers.frozen.iter().map(|(map, _)| Arc::clone(map)).collect()
        };
        for map in &frozen {
            // One batch: fjall must never hold a part of a map, which is many batches of ours.
            let changes = map
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            writer.write(WriteBatch { changes })?;
        }
        writer.durability().make_durable()?;
        // The writer stays locked: another flush must find either the maps or nothing.
        let _no_scans = self.shared.scans.write().unwrap_or_else(PoisonError::into_inner);
        self.shared.layers().frozen.drain(..frozen.len());
        Ok(())
    }
}
