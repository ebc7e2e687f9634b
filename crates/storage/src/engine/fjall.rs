//! The state engine on `fjall`, an LSM tree with a journal of its own.
//!
//! One keyspace holds everything. A batch goes to the journal's buffer and to the memtable; nothing is synced,
//! and the buffer reaches the operating system when it is full, because the Raft log can replay what a crash
//! takes. [`FjallDurability`] syncs the journal, which is enough: what left the memtable is in tables that were
//! synced before they counted, and a journal that is full is synced before the next one begins.
//!
//! What this costs: every byte is written to the journal and to a table, and opening replays up to
//! [`JOURNAL_BYTES_MAX`]. An engine without a journal can do better on both; nothing outside this file knows that there
//! is one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::fjall::{
    Database, Error, Iter, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, Slice,
    Snapshot,
};
use bytes::Bytes;

use super::fjall_background;
use super::fjall_journal;
use super::fjall_space::{Clearing, RECLAIMED_FROM, Reclaimer};
use super::worker::{FLUSH_NICE, Worker, be_nice, unwound};
use super::{
    BatchSeq, Bounds, Durability, Engine, EngineError, Pair, Pairs, View, WriteBatch, bounds,
    check_ascending, check_key,
};
use crate::disk::Shrinker;

/// The name of the only keyspace.
const KEYSPACE: &str = "state";
/// The file whose presence says that a database was created completely.
const VERSION_FILE: &str = "version";
/// The file that fjall locks while a database is open.
const LOCK_FILE: &str = "lock";
/// Journals together, at most: bounds the replay when opening. The least that fjall accepts is 64 MiB, one
/// journal; two let the old one go while the new one fills.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;
/// Keys of a slice of a dropped range from which on tables are looked for that lie in the range.
const CLEARED_FROM: usize = 100;
/// Bytes of such a slice, about: large values are read, too, and the caller waits. So many bytes are looked for as well.
const SLICE_BYTES: u64 = 1 << 20;
/// Bytes written between two looks whether a memtable is full: a small part of one.
const LOOKED_AFTER_BYTES: u64 = 256 << 10;
/// The action of dropping, for errors.
const DROP: &str = "drop range";
/// Pairs of a bulk load that are written as one batch: bounds how long others wait for the journal's lock.
const LOAD_BATCH_PAIRS: usize = 1_000;

/// Memory and threads of a [`FjallEngine`].
#[derive(Clone, Debug)]
pub struct FjallOptions {
    /// Blocks of tables kept in memory. Filled by reads, so an idle node pays nothing for it.
    pub cache_bytes: u64,
    /// Changes gathered in memory before they become a table. Up to four such memtables wait for their flush
    /// before writes are held back, so the memory for writes is at most about five times this. Four tables that overlap
    /// are merged with 64 MiB at a time: smaller ones cost more writes.
    pub memtable_bytes: u64,
    /// What a compaction puts into one table.
    pub table_bytes: u64,
    /// Table files kept open. The descriptors are shared with the sockets of clients and peers.
    pub open_files: usize,
}

impl Default for FjallOptions {
    fn default() -> Self {
        FjallOptions {
            cache_bytes: 64 << 20,
            memtable_bytes: 16 << 20,
            table_bytes: 16 << 20,
            open_files: 256,
        }
    }
}

/// Read access that another thread may share.
#[derive(Clone)]
pub(super) struct FjallTables {
    pub(super) database: Database,
    pub(super) keyspace: Keyspace,
    pub(super) path: PathBuf,
    pub(super) shrinker: Shrinker,
}

/// An [`Engine`] in a directory.
pub struct FjallEngine {
    tables: FjallTables,
    last: BatchSeq,
    /// Set by a durability handle whose sync failed: nothing is accepted any more.
    has_failed: Arc<AtomicBool>,
    /// Where the next slice of an unfinished [`Engine::drop_range`] begins.
    dropping: Option<Dropping>,
    clearing: Option<Clearing>,
    /// The range of an unfinished [`Engine::drop_range`] whose tables are gone.
    cleared: Option<(Bytes, Bytes)>,
    /// Seals and compacts; see `fjall_background`.
    background: Option<Worker<Error>>,
    /// Bytes that were written since it was asked.
    written_bytes: u64,
    /// From the first large range on that is dropped.
    reclaimer: Option<Reclaimer>,
    /// Bytes that got tombstones from [`Engine::drop_range`] and that the reclaimer was not told of.
    dropped_bytes: u64,
    table_bytes: u64,
}

/// Progress of [`Engine::drop_range`]: without it each slice would step over the tombstones of all before it.
struct Dropping {
    start: Bytes,
    end: Bytes,
    /// Every key of `[start, next)` is gone.
    next: Bytes,
}

/// Keys of a range that is dropped.
pub(super) struct Doomed {
    pub(super) keys: Vec<Bytes>,
    /// Whether there are others behind them.
    pub(super) more: bool,
    pub(super) dropped: Dropped,
}

/// What is dropped once its keys have tombstones.
#[derive(Clone, Copy, Default)]
pub(super) struct Dropped {
    bytes: u64,
    /// Nothing of the range is left.
    is_whole: bool,
    /// Tables of the range were deleted.
    has_cleared: bool,
}

impl Dropped {
    pub(super) fn is_any(self) -> bool {
        self.bytes > 0 || self.has_cleared
    }

    /// Both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            is_whole: self.is_whole || other.is_whole,
            has_cleared: self.has_cleared || other.has_cleared,
        }
    }
}

impl Drop for FjallEngine {
    /// The directory is free once the engine is gone.
    fn drop(&mut self) {
        if let Some(clearing) = self.clearing.take() {
            let _ = clearing.join();
        }
        if let Some(reclaimer) = self.reclaimer.take() {
            let _ = reclaimer.join();
        }
        if let Some(background) = self.background.take() {
            let _ = background.join();
        }
    }
}

impl FjallEngine {
    /// Opens the engine in `path`, or creates it when `path` does not exist or is an empty directory.
    ///
    /// Fails when the directory is in use, also by a snapshot or a durability handle of an engine that is gone,
    /// when it holds something else, and when its contents are damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, EngineError> {
        Self::open_with(path, &FjallOptions::default())
    }

    /// [`FjallEngine::open`] with other options.
    pub fn open_with(path: impl AsRef<Path>, options: &FjallOptions) -> Result<Self, EngineError> {
        let path = path.as_ref();
        if !path
            .join(VERSION_FILE)
            .try_exists()
            .map_err(|error| failed_io("open", path, &error))?
        {
            create(path, options)?;
        }
        let (database, keyspace) = open_database(path, options)?;
        let tables = FjallTables {
            database,
            keyspace,
            path: path.to_path_buf(),
            shrinker: Shrinker::begin().map_err(|error| failed_io("open", path, &error))?,
        };
        let background = fjall_background::begin(&tables, options.memtable_bytes, options.table_bytes);
        Ok(FjallEngine {
            background: Some(background.map_err(|error| failed_io("open", path, &error))?),
            written_bytes: 0,
            tables,
            last: BatchSeq(0),
            has_failed: Arc::default(),
            dropping: None,
            clearing: None,
            cleared: None,
            reclaimer: None,
            dropped_bytes: 0,
            table_bytes: options.table_bytes,
        })
    }

    pub(super) fn tables(&self) -> FjallTables {
        self.tables.clone()
    }

    fn check_usable(&self, action: &'static str) -> Result<(), EngineError> {
        if self.has_failed.load(Ordering::Acquire) {
            return Err(EngineError::new(action, "an earlier sync failed"));
        }
        Ok(())
    }

    /// The next keys of a range that is dropped, at most `limit`: whoever asks gives them tombstones. None while tables of
    /// the range are deleted.
    pub(super) fn next_doomed(
        &mut self,
        start: &[u8],
        end: &[u8],
        limit: usize,
    ) -> Result<Option<Doomed>, EngineError> {
        self.check_usable(DROP)?;
        if let Some(clearing) = self.clearing.take_if(|clearing| clearing.has_ended()) {
            self.cleared = Some(clearing.range());
            unwound(clearing.join()).map_err(|error| failed(DROP, &self.tables.path, &error))?;
            // Tables with the tombstones of earlier slices may have gone, and tables with their keys may be left.
            self.dropping = None;
        } else if self.clearing.is_some() {
            return Ok(None);
        }
        let resumed = self
            .dropping
            .take()
            .filter(|dropping| dropping.start == start && dropping.end == end);
        let from = resumed.map_or_else(|| Bytes::copy_from_slice(start), |dropping| dropping.next);
        let is_this = |(from, to): &(Bytes, Bytes)| from == start && to == end;
        let is_cleared = self.cleared.as_ref().is_some_and(is_this);
        let mut keys = Vec::new();
        let mut next = None;
        let mut bytes = 0;
        let mut is_large = false;
        for guard in self.tables.range(&from, end).into_iter().flatten() {
            let pair = guard.into_inner();
            let (key, value) = pair.map_err(|error| failed(DROP, &self.tables.path, &error))?;
            if keys.len() == limit || bytes >= SLICE_BYTES {
                next = Some(to_bytes(key));
                break;
            }
            bytes += (key.len() + value.len()) as u64;
            keys.push(to_bytes(key));
            is_large = keys.len() >= CLEARED_FROM || bytes >= SLICE_BYTES;
            if is_large && !is_cleared {
                break;
            }
        }
        let more = next.is_some();
        if is_large && !is_cleared {
            let clearing = Clearing::begin(&self.tables, start, end);
            self.clearing = Some(clearing.map_err(|error| failed_io(DROP, &self.tables.path, &error))?);
            return Ok(None);
        }
        self.dropping = next.map(|next| Dropping {
            start: Bytes::copy_from_slice(start),
            end: Bytes::copy_from_slice(end),
            next,
        });
        let dropped = Dropped {
            bytes,
            is_whole: !more,
            has_cleared: !more && self.cleared.take().is_some(),
        };
        Ok(Some(Doomed { keys, more, dropped }))
    }

    /// What was dropped has its tombstones.
    pub(super) fn dropped(&mut self, dropped: Dropped) -> Result<(), EngineError> {
        self.dropped_bytes += dropped.bytes;
        if dropped.has_cleared || dropped.is_whole && self.dropped_bytes >= RECLAIMED_FROM {
            self.reclaim()?;
        }
        Ok(())
    }

    /// See [`Reclaimer`].
    fn reclaim(&mut self) -> Result<(), EngineError> {
        const ACTION: &str = "give space back";
        let reclaimer = match self.reclaimer.take() {
            Some(reclaimer) => reclaimer,
            None => Reclaimer::begin(&self.tables, self.table_bytes)
                .map_err(|error| failed_io(ACTION, &self.tables.path, &error))?,
        };
        if !reclaimer.dropped(std::mem::take(&mut self.dropped_bytes)) {
            return unwound(reclaimer.join()).map_err(|error| failed(ACTION, &self.tables.path, &error));
        }
        self.reclaimer = Some(reclaimer);
        Ok(())
    }

    fn commit(
        &mut self,
        action: &'static str,
        changes: impl ExactSizeIterator<Item = (Bytes, Option<Bytes>)>,
    ) -> Result<(), EngineError> {
        // Made this way and not with `Database::batch`, the batch stays in the journal's buffer until that is
        // full or someone makes it durable; otherwise each batch would cost a write to the file.
        let mut batch = OwnedWriteBatch::with_capacity(self.tables.database.clone(), changes.len());
        let mut bytes = 0;
        for (key, value) in changes {
            bytes += (key.len() + value.as_ref().map_or(0, Bytes::len)) as u64;
            if value.is_some()
                && self
                    .dropping
                    .as_ref()
                    .is_some_and(|dropping| key >= dropping.start && key < dropping.next)
            {
                self.dropping = None;
            }
            let key = to_slice(&key);
            match value {
                Some(value) => batch.insert(&self.tables.keyspace, key, to_slice(&value)),
                None => batch.remove(&self.tables.keyspace, key),
            }
        }
        // The changes of a batch share a sequence number, and both the memtable and the replay of the journal
        // let the later of two equal keys win.
        batch
            .commit()
            .map_err(|error| failed(action, &self.tables.path, &error))?;
        self.written_bytes += bytes;
        if self.written_bytes >= LOOKED_AFTER_BYTES {
            self.written_bytes = 0;
            if let Some(background) = self.background.take_if(|background| !background.ask()) {
                return unwound(background.join())
                    .map_err(|error| failed("compact", &self.tables.path, &error));
            }
        }
        Ok(())
    }
}

/// Creates a database beside `path` and moves it there, so that a crash in between leaves nothing that looks
/// like a database but cannot be opened.
fn create(path: &Path, options: &FjallOptions) -> Result<(), EngineError> {
    const ACTION: &str = "create";
    let io = |error: std::io::Error| failed_io(ACTION, path, &error);
    match fs::read_dir(path) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                let reason = format!("{}: neither empty nor a state engine", path.display());
                return Err(EngineError::new(ACTION, reason));
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let path = std::path::absolute(path).map_err(io)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(EngineError::new(
            ACTION,
            format!("{}: not a place for a directory", path.display()),
        ));
    };
    fs::create_dir_all(parent).map_err(io)?;
    let mut name = name.to_os_string();
    name.push(".new");
    let staging = parent.join(name);
    match fs::remove_dir_all(&staging) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    drop(open_database(&staging, options)?);
    fs::rename(&staging, &path).map_err(io)?;
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(io)
}

fn open_database(path: &Path, options: &FjallOptions) -> Result<(Database, Keyspace), EngineError> {
    let open = || -> Result<(Database, Keyspace), Error> {
        let database = Database::builder(path)
            .cache_size(options.cache_bytes)
            .worker_threads(1)
            .max_cached_files(Some(options.open_files.max(10)))
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .open()?;
        let keyspace = database.keyspace(KEYSPACE, || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(u64::MAX)
                .compaction_strategy(Arc::new(fjall_background::never(options.table_bytes)))
        })?;
        // What the replay found may have been in the page cache only.
        database.persist(PersistMode::SyncAll)?;
        Ok((database, keyspace))
    };
    cut_torn_tail(path)?;
    // Fjall's own thread, which flushes, is as nice as who begins it.
    let opened = std::thread::scope(|scope| {
        let niced = std::thread::Builder::new().name("engine-open".into());
        let niced = niced.spawn_scoped(scope, || {
            be_nice(FLUSH_NICE);
            open()
        });
        niced
            .map_err(Error::Io)?
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    opened.map_err(|error| failed("open", path, &error))
}

/// Cuts what a power loss left torn, before fjall sees it: it refuses some tears and stumbles over others. Not
/// while another process has the database open.
fn cut_torn_tail(path: &Path) -> Result<(), EngineError> {
    let io = |error: std::io::Error| failed_io("open", path, &error);
    let lock = match File::open(path.join(LOCK_FILE)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    match lock.try_lock() {
        Ok(()) => fjall_journal::cut_torn_tail(path).map(|_| ()).map_err(io),
        Err(std::fs::TryLockError::WouldBlock) => Ok(()), // fjall says that it is in use
        Err(std::fs::TryLockError::Error(error)) => Err(io(error)),
    }
}

fn failed(action: &'static str, path: &Path, error: &Error) -> EngineError {
    let path = path.display();
    let reason = match error {
        Error::Locked => format!("{path}: in use"),
        Error::Io(error) => format!("{path}: {error}"),
        Error::Poisoned => format!("{path}: an earlier write failed"),
        Error::Storage(error) => format!("{path}: {error}"),
        damage => format!("{path}: damaged: {damage}"),
    };
    EngineError { action, reason }
}

fn failed_io(action: &'static str, path: &Path, error: &std::io::Error) -> EngineError {
    EngineError::new(action, format!("{}: {error}", path.display()))
}

/// A sync by fjall holds the lock that writers need. This does the bulk of the work first, through a file handle of our own;
/// fjall's, which is what is relied on, then has little left to do. What this saves was not measured apart.
pub(super) fn sync_beside_writers(database: &Database, path: &Path) -> Result<(), Error> {
    database.persist(PersistMode::Buffer)?;
    fjall_journal::sync_newest(path).map_err(Error::Io)
}

/// A copy on purpose. Fjall could share `Bytes` (feature `bytes_1`), but then a small key in the memtable would
/// pin the network frame that it arrived in, and an answer the block that it was read from. For values of 128
/// bytes no difference in speed stood out of the noise.
fn to_slice(bytes: &Bytes) -> Slice {
    Slice::from(bytes.as_ref())
}

fn to_bytes(slice: Slice) -> Bytes {
    Bytes::copy_from_slice(&slice)
}

/// The pairs of an iterator over `range`, or none if there is no range.
fn pairs<'a>(iter: Option<impl Iterator<Item = ::fjall::Guard> + 'a>) -> Pairs<'a> {
    Box::new(iter.into_iter().flatten().map(|guard| match guard.into_inner() {
        Ok((key, value)) => Ok((to_bytes(key), to_bytes(value))),
        Err(error) => Err(EngineError::new("scan", error)),
    }))
}

impl FjallTables {
    fn range(&self, start: &[u8], end: &[u8]) -> Option<Iter> {
        bounds(start, end).map(|range| self.keyspace.range::<&[u8], Bounds<'_>>(range))
    }

    pub(super) fn snapshot(&self) -> FjallSnapshot {
        FjallSnapshot {
            snapshot: self.database.snapshot(),
            keyspace: self.keyspace.clone(),
        }
    }

    /// The tables, and the memtables, which are on disk as a part of the journals. The journals themselves are
    /// preallocated and of constant size, so they say nothing about the data.
    pub(super) fn size_bytes(&self) -> u64 {
        self.keyspace.disk_space() + self.database.write_buffer_size()
    }
}

impl View for FjallEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.tables.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        self.tables.scan(start, end)
    }

    fn scan_reverse(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        self.tables.scan_reverse(start, end)
    }
}

impl View for FjallTables {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.keyspace.get(key) {
            Ok(value) => Ok(value.map(to_bytes)),
            Err(error) => Err(failed("get", &self.path, &error)),
        }
    }

    fn scan(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        pairs(self.range(start, end))
    }

    fn scan_reverse(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        pairs(self.range(start, end).map(Iterator::rev))
    }
}

impl Engine for FjallEngine {
    type Snapshot = FjallSnapshot;

    fn write(&mut self, batch: WriteBatch) -> Result<BatchSeq, EngineError> {
        const ACTION: &str = "write";
        self.check_usable(ACTION)?;
        for (key, _) in &batch.changes {
            check_key(ACTION, key)?;
        }
        if !batch.changes.is_empty() {
            self.commit(ACTION, batch.changes.into_iter())?;
        }
        self.last.0 += 1;
        Ok(self.last)
    }

    fn last_batch(&self) -> BatchSeq {
        self.last
    }

    fn snapshot(&self) -> FjallSnapshot {
        self.tables.snapshot()
    }

    fn drop_range(&mut self, start: &[u8], end: &[u8], limit: usize) -> Result<bool, EngineError> {
        let Some(Doomed { keys, more, dropped }) = self.next_doomed(start, end, limit)? else {
            return Ok(true);
        };
        if !keys.is_empty() {
            self.commit(DROP, keys.into_iter().map(|key| (key, None)))?;
        }
        self.dropped(dropped)?;
        Ok(more)
    }

    /// Plain batches. Ingesting sorted tables would spare the journal, but it writes out the memtable on every
    /// call while holding the journal's lock, and a load comes in chunks.
    fn bulk_load(&mut self, pairs: Vec<Pair>) -> Result<(), EngineError> {
        const ACTION: &str = "bulk load";
        self.check_usable(ACTION)?;
        for (key, _) in &pairs {
            check_key(ACTION, key)?;
        }
        check_ascending(ACTION, &pairs)?;
        let mut pairs = pairs.into_iter();
        while pairs.len() > 0 {
            let chunk = pairs.by_ref().take(LOAD_BATCH_PAIRS);
            self.commit(ACTION, chunk.map(|(key, value)| (key, Some(value))))?;
        }
        Ok(())
    }

    fn durability(&self) -> Box<dyn Durability> {
        Box::new(FjallDurability {
            database: self.tables.database.clone(),
            path: self.tables.path.clone(),
            has_failed: Arc::clone(&self.has_failed),
        })
    }

    fn size_bytes(&self) -> u64 {
        self.tables.size_bytes()
    }
}

/// The state of a [`FjallEngine`] at one moment. Keeps the directory locked and what it refers to from being
/// compacted away.
pub struct FjallSnapshot {
    snapshot: Snapshot,
    keyspace: Keyspace,
}

impl FjallSnapshot {
    fn range(&self, start: &[u8], end: &[u8]) -> Option<Iter> {
        bounds(start, end).map(|range| self.snapshot.range::<&[u8], Bounds<'_>>(&self.keyspace, range))
    }
}

impl View for FjallSnapshot {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        match self.snapshot.get(&self.keyspace, key) {
            Ok(value) => Ok(value.map(to_bytes)),
            Err(error) => Err(EngineError::new("get", error)),
        }
    }

    fn scan(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        pairs(self.range(start, end))
    }

    fn scan_reverse(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        pairs(self.range(start, end).map(Iterator::rev))
    }
}

/// Syncs a [`FjallEngine`]'s journal. Keeps the directory locked.
pub struct FjallDurability {
    database: Database,
    path: PathBuf,
    has_failed: Arc<AtomicBool>,
}

impl Durability for FjallDurability {
    fn make_durable(&mut self) -> Result<(), EngineError> {
        const ACTION: &str = "make durable";
        if self.has_failed.load(Ordering::Acquire) {
            return Err(EngineError::new(ACTION, "an earlier sync failed"));
        }
        let synced = sync_beside_writers(&self.database, &self.path)
            .and_then(|()| self.database.persist(PersistMode::SyncData));
        synced.map_err(|error| {
            self.has_failed.store(true, Ordering::Release);
            failed(ACTION, &self.path, &error)
        })
    }
}
