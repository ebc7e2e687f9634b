//! An engine in memory, for the simulator: obvious in what it stores, hostile in what it forgets.
//!
//! [`ModelDisk`] outlives the engines opened on it. It holds what is durable and, in order, everything written
//! since. Dropping the engine is a killed process: nothing is lost. [`ModelDisk::crash`] is a power loss: of
//! the writes since the last completed [`Durability::make_durable`] it keeps
//!
//! - an exact prefix of the batches, how long the seed decides;
//! - every bulk load that a kept batch follows, and of the others any subset of the pairs;
//! - of the keys taken out by [`Engine::drop_range`] any subset, whether or not the batches around are kept.
//!
//! That is all that the contract allows, and no real engine is as bad. No clock, thread or global randomness
//! takes part: same calls, same seeds, same bytes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::{
    BatchSeq, Bounds, Durability, Engine, EngineError, Pair, Pairs, View, WriteBatch, bounds,
    check_ascending, check_key,
};

type Map = BTreeMap<Bytes, Bytes>;

/// What becomes of the write that an injected fault fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailedWrite {
    /// It left no trace.
    Lost,
    /// It is there when the engine is reopened, as far as a write that was not made durable is.
    Kept,
}

/// What survives the engines opened on it. Clones share the same storage.
#[derive(Clone, Debug, Default)]
pub struct ModelDisk {
    state: Arc<Mutex<DiskState>>,
}

#[derive(Debug, Default)]
struct DiskState {
    durable: Map,
    /// Written since `durable` was, oldest first.
    pending: Vec<Op>,
    /// Counts opens and crashes. A handle of an earlier one belongs to a dead process.
    incarnation: u64,
    is_open: bool,
    /// A write or a sync failed since the last open: nothing more is accepted.
    has_failed: bool,
    /// Fails the write at which the countdown reaches zero.
    is_behind: bool,
    write_fault: Option<(u64, FailedWrite)>,
    /// Fails the "make durable" at which the countdown reaches zero.
    durable_fault: Option<u64>,
    /// So many of `pending` were written when the "make durable" under way began.
    begun: Option<usize>,
}

#[derive(Clone, Debug)]
enum Op {
    Batch(Vec<(Bytes, Option<Bytes>)>),
    Load(Vec<Pair>),
    Drop(Vec<Bytes>),
}

impl Op {
    fn apply_to(&self, map: &mut Map) {
        match self {
            Op::Batch(changes) => {
                for (key, value) in changes {
                    match value {
                        Some(value) => map.insert(key.clone(), value.clone()),
                        None => map.remove(key),
                    };
                }
            }
            Op::Load(pairs) => map.extend(pairs.iter().cloned()),
            Op::Drop(keys) => {
                for key in keys {
                    map.remove(key);
                }
            }
        }
    }
}

impl ModelDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Power loss. Engines open on this disk fail from now on; the next one finds what the seed left, as the
    /// module describes, and all of that is durable.
    pub fn crash(&self, seed: u64) {
        let mut state = self.lock();
        let mut dice = Dice(seed);
        let batches = state
            .pending
            .iter()
            .filter(|op| matches!(op, Op::Batch(_)))
            .count() as u64;
        // The two ends are the likeliest to find a mistake, so they get half of the seeds.
        let kept = match dice.below(4) {
            0 => 0,
            1 => batches,
            _ => dice.below(batches + 1),
        };
        let pending = std::mem::take(&mut state.pending);
        let mut seen = 0;
        for mut op in pending {
            match &mut op {
                Op::Batch(_) => {
                    seen += 1;
                    if seen > kept {
                        continue;
                    }
                }
                Op::Load(pairs) => {
                    if seen >= kept {
                        dice.keep_some(pairs);
                    }
                }
                Op::Drop(keys) => dice.keep_some(keys),
            }
            op.apply_to(&mut state.durable);
        }
        state.incarnation += 1;
        state.is_open = false;
        state.has_failed = false;
        state.begun = None;
    }

    /// A "make durable" begins now; the next call of [`Durability::make_durable`] is its end. It covers what was
    /// written by now and nothing that is written meanwhile, which is all that the contract promises.
    pub fn begin_make_durable(&self) {
        let mut state = self.lock();
        state.begun = Some(state.pending.len());
    }

    /// Whether engines on it are behind, until the next call.
    pub fn set_behind(&self, is_behind: bool) {
        self.lock().is_behind = is_behind;
    }

    /// Fails the `nth` call from now that writes (`write`, `drop_range`, `bulk_load`), counted from 1, and with
    /// it everything until the engine is reopened.
    pub fn fail_write(&self, nth: u64, fate: FailedWrite) {
        self.lock().write_fault = Some((nth, fate));
    }

    /// Fails the `nth` "make durable" from now, counted from 1, and with it everything until the engine is
    /// reopened.
    pub fn fail_make_durable(&self, nth: u64) {
        self.lock().durable_fault = Some(nth);
    }

    /// Writes not yet durable: batches, loads and removals.
    pub fn pending(&self) -> usize {
        self.lock().pending.len()
    }

    // A panic of one simulated process leaves the disk as it was between two operations: each is complete
    // before the lock is released, or has not begun.
    fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DiskState {
    /// Whether the handle of `incarnation` may still be used.
    fn check(&self, action: &'static str, incarnation: u64) -> Result<(), EngineError> {
        if self.incarnation != incarnation || !self.is_open {
            return Err(EngineError::new(
                action,
                "the process that opened this engine is dead",
            ));
        }
        if self.has_failed {
            return Err(EngineError::new(action, "an earlier write failed"));
        }
        Ok(())
    }

    fn push(&mut self, action: &'static str, incarnation: u64, op: &Op) -> Result<(), EngineError> {
        self.check(action, incarnation)?;
        if let Some((countdown, fate)) = &mut self.write_fault {
            *countdown = countdown.saturating_sub(1);
            if *countdown == 0 {
                let fate = *fate;
                self.write_fault = None;
                self.has_failed = true;
                if fate == FailedWrite::Kept {
                    self.pending.push(op.clone());
                }
                return Err(EngineError::new(action, "injected write error"));
            }
        }
        self.pending.push(op.clone());
        Ok(())
    }
}

/// splitmix64: the whole stream is the seed's.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Keeps none, all, or each on the toss of a coin.
    fn keep_some<T>(&mut self, items: &mut Vec<T>) {
        match self.below(3) {
            0 => items.clear(),
            1 => {}
            _ => items.retain(|_| self.below(2) == 0),
        }
    }
}

/// An [`Engine`] on a [`ModelDisk`]. Dropping it kills its process: the disk keeps all that was written, and a
/// power loss may still take what was not made durable.
#[derive(Debug)]
pub struct ModelEngine {
    disk: ModelDisk,
    incarnation: u64,
    /// What readers see. Shared with snapshots; copied by the first write that finds one alive.
    map: Arc<Map>,
    last: BatchSeq,
    /// Key and value bytes in `map`.
    bytes: u64,
}

impl ModelEngine {
    /// Opens the engine; fails while another one is open on the same disk.
    pub fn open(disk: &ModelDisk) -> Result<Self, EngineError> {
        let mut state = disk.lock();
        if state.is_open {
            return Err(EngineError::new("open", "the disk is in use"));
        }
        state.incarnation += 1;
        state.is_open = true;
        state.has_failed = false;
        state.begun = None;
        let mut map = state.durable.clone();
        for op in &state.pending {
            op.apply_to(&mut map);
        }
        let bytes = map
            .iter()
            .map(|(key, value)| (key.len() + value.len()) as u64)
            .sum();
        Ok(ModelEngine {
            disk: disk.clone(),
            incarnation: state.incarnation,
            map: Arc::new(map),
            last: BatchSeq(0),
            bytes,
        })
    }

    fn apply(&mut self, action: &'static str, op: Op) -> Result<(), EngineError> {
        self.disk.lock().push(action, self.incarnation, &op)?;
        let map = Arc::make_mut(&mut self.map);
        let bytes = &mut self.bytes;
        let mut change = |key: Bytes, value: Option<Bytes>| {
            let len = key.len();
            let old = match value {
                Some(value) => {
                    *bytes += (len + value.len()) as u64;
                    map.insert(key, value)
                }
                None => map.remove(&key),
            };
            *bytes -= old.map_or(0, |old| (len + old.len()) as u64);
        };
        match op {
            Op::Batch(changes) => changes.into_iter().for_each(|(key, value)| change(key, value)),
            Op::Load(pairs) => pairs
                .into_iter()
                .for_each(|(key, value)| change(key, Some(value))),
            Op::Drop(keys) => keys.into_iter().for_each(|key| change(key, None)),
        }
        Ok(())
    }
}

impl Drop for ModelEngine {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if state.incarnation == self.incarnation {
            state.is_open = false;
        }
    }
}

fn scan<'a>(
    map: &'a Map,
    start: &[u8],
    end: &[u8],
) -> impl DoubleEndedIterator<Item = Result<Pair, EngineError>> + 'a {
    let range = bounds(start, end).map(|range| map.range::<[u8], Bounds<'_>>(range));
    range
        .into_iter()
        .flatten()
        .map(|(key, value)| Ok((key.clone(), value.clone())))
}

impl View for ModelEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.map.get(key).cloned())
    }

    fn scan(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        Box::new(scan(&self.map, start, end))
    }

    fn scan_reverse(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        Box::new(scan(&self.map, start, end).rev())
    }
}

impl Engine for ModelEngine {
    type Snapshot = ModelSnapshot;

    fn write(&mut self, batch: WriteBatch) -> Result<BatchSeq, EngineError> {
        for (key, _) in &batch.changes {
            check_key("write", key)?;
        }
        self.apply("write", Op::Batch(batch.changes))?;
        self.last.0 += 1;
        Ok(self.last)
    }

    fn last_batch(&self) -> BatchSeq {
        self.last
    }

    fn snapshot(&self) -> ModelSnapshot {
        ModelSnapshot {
            map: Arc::clone(&self.map),
        }
    }

    fn drop_range(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<bool, EngineError> {
        let Some(range) = bounds(start, end) else {
            return Ok(false);
        };
        let mut found = self.map.range::<[u8], _>(range).map(|(key, _)| key.clone());
        let keys: Vec<Bytes> = found.by_ref().take(limit).collect();
        let more = found.next().is_some();
        self.apply("drop range", Op::Drop(keys))?;
        Ok(more)
    }

    fn bulk_load(&mut self, pairs: Vec<Pair>) -> Result<(), EngineError> {
        for (key, _) in &pairs {
            check_key("bulk load", key)?;
        }
        check_ascending("bulk load", &pairs)?;
        self.apply("bulk load", Op::Load(pairs))
    }

    fn is_behind(&self) -> bool {
        self.disk.lock().is_behind
    }

    fn durability(&self) -> Box<dyn Durability> {
        Box::new(ModelDurability {
            disk: self.disk.clone(),
            incarnation: self.incarnation,
        })
    }

    fn size_bytes(&self) -> u64 {
        self.bytes
    }
}

/// The state of a [`ModelEngine`] at one moment. Survives the engine and its disk's crashes.
#[derive(Clone, Debug)]
pub struct ModelSnapshot {
    map: Arc<Map>,
}

impl View for ModelSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.map.get(key).cloned())
    }

    fn scan(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        Box::new(scan(&self.map, start, end))
    }

    fn scan_reverse(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        Box::new(scan(&self.map, start, end).rev())
    }
}

/// Makes durable what a [`ModelEngine`] wrote. Dies with the engine.
#[derive(Debug)]
pub struct ModelDurability {
    disk: ModelDisk,
    incarnation: u64,
}

impl Durability for ModelDurability {
    fn make_durable(&mut self) -> Result<(), EngineError> {
        let mut state = self.disk.lock();
        state.check("make durable", self.incarnation)?;
        if let Some(countdown) = &mut state.durable_fault {
            *countdown = countdown.saturating_sub(1);
            if *countdown == 0 {
                state.durable_fault = None;
                state.has_failed = true;
                return Err(EngineError::new("make durable", "injected sync error"));
            }
        }
        let state = &mut *state;
        let covered = state.begun.take().unwrap_or(state.pending.len());
        for op in state.pending.drain(..covered) {
            op.apply_to(&mut state.durable);
        }
        Ok(())
    }
}
