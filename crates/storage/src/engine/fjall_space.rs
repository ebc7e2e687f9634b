//! Gives the space of dropped ranges back to the disk.
//!
//! Tombstones alone give it back when compactions come by, which on a store that rests is never. So, beside the writers:
//!
//! 1. [`Clearing`]: the tables that lie in the range are deleted as they are, before what remains of it gets tombstones:
//!    what is in memory, and tables that reach out of the range at either end.
//! 2. [`Reclaimer`]: once the tombstones are written, all tables are compacted if no less was dropped than is left, and
//!    they are not too large for that. It writes at most as many bytes as were dropped since the last time.
//!
//! Neither removes a file by itself. Fjall keeps every version of the tables, with the files and memtables that it
//! refers to, until a memtable is sealed after a write behind the version and no view is older. On a store that rests
//! that is never, either: after a load, twice the data was seen to stay on disk. So the reclaimer writes [`MARK`] and seals
//! the memtable. That lets old journals go, too.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ::fjall::{AbstractTree as _, AnyTree, Error, OwnedWriteBatch};
use bytes::Bytes;

use super::fjall::FjallTables;
use super::worker::Ended;
use super::{Bounds, MARK, bounds};

/// The folder of a keyspace's tables; each file's name is the table's id.
pub(super) const TABLES: &str = "tables";
/// Less than this stays until a compaction of fjall's own comes by.
pub(super) const RECLAIMED_FROM: u64 = 1 << 20;
/// Of more bytes in tables no compaction of all is begun: fjall compacts nothing else meanwhile, so flushed tables would pile
/// up until writes stall, for minutes on a large store. Most of what is dropped there fills tables of its own, which have
/// gone already; the rest is left to fjall's own compactions.
const COMPACTED_MAX: u64 = 1 << 30;
/// How often is looked whether a view has gone or a flush is done.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Deletes the tables that lie in a range, on a thread of its own, as that waits for compactions.
pub(super) struct Clearing {
    range: (Bytes, Bytes),
    thread: JoinHandle<Result<(), Error>>,
}

impl Clearing {
    pub(super) fn begin(tables: &FjallTables, start: &[u8], end: &[u8]) -> std::io::Result<Self> {
        let range = (Bytes::copy_from_slice(start), Bytes::copy_from_slice(end));
        let (tables, of) = (tables.clone(), range.clone());
        let clear = move || match bounds(&of.0, &of.1) {
            Some(range) => Ok(removing(&tables, |tree| {
                tree.drop_range::<&[u8], Bounds<'_>>(range)
            })?),
            None => Ok(()),
        };
        let thread = std::thread::Builder::new().name("engine-clear".into());
        Ok(Self {
            range,
            thread: thread.spawn(clear)?,
        })
    }

    pub(super) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    pub(super) fn range(&self) -> (Bytes, Bytes) {
        self.range.clone()
    }

    pub(super) fn join(self) -> Ended<Error> {
        self.thread.join()
    }
}

/// See the module. Waits, on a thread of its own, for views to go: what they show cannot be given back. On a store that
/// always sends snapshots to others it does so when they pause; such a store does not rest.
pub(super) struct Reclaimer {
    dropped: Sender<u64>,
    thread: JoinHandle<Result<(), Error>>,
}

impl Reclaimer {
    pub(super) fn begin(tables: &FjallTables, table_bytes: u64) -> std::io::Result<Self> {
        let (dropped, asked) = channel();
        let space = Space {
            tables: tables.clone(),
            table_bytes,
            asked,
            dropped_bytes: None,
            dead_bytes: 0,
        };
        let thread = std::thread::Builder::new().name("engine-reclaim".into());
        Ok(Self {
            dropped,
            thread: thread.spawn(move || space.run())?,
        })
    }

    /// So many bytes got tombstones. Returns whether the thread still runs: it ends only with an error.
    pub(super) fn dropped(&self, bytes: u64) -> bool {
        self.dropped.send(bytes).is_ok()
    }

    /// Waits for what is under way, not for what waits itself.
    pub(super) fn join(self) -> Ended<Error> {
        drop(self.dropped);
        self.thread.join()
    }
}

struct Space {
    tables: FjallTables,
    table_bytes: u64,
    asked: Receiver<u64>,
    /// Dropped, and the tombstones may be in memory; none when nothing is to be done.
    dropped_bytes: Option<u64>,
    /// Dropped since the last compaction, with the tombstones in tables. Too high when a compaction of fjall's own was
    /// there before.
    dead_bytes: u64,
}

impl Space {
    /// Until an error, or until the engine is gone.
    fn run(mut self) -> Result<(), Error> {
        while self.is_asked() {
            let mut is_open = self.release()?;
            while is_open && is_worth_compacting(self.dead_bytes, self.tables.keyspace.disk_space()) {
                self.dead_bytes = 0;
                let tracker = &self.tables.database.supervisor.snapshot_tracker;
                let safe = tracker.get_seqno_safe_to_gc();
                removing(&self.tables, |tree| tree.major_compact(self.table_bytes, safe))?;
                is_open = self.release()?;
            }
        }
        Ok(())
    }

    fn is_asked(&mut self) -> bool {
        if self.dropped_bytes.is_none() {
            self.dropped_bytes = self.asked.recv().ok();
        }
        self.dropped_bytes.is_some()
    }

    /// Brings what is in memory into tables, and lets go what only older versions of the tables refer to. Returns whether the
    /// engine is still there; if not, it may have stopped early.
    fn release(&mut self) -> Result<bool, Error> {
        // A view that begins later sees what is there then.
        let is_viewed =
            |tables: &FjallTables| tables.database.supervisor.snapshot_tracker.open_snapshots() > 0;
        if !self.wait_while(is_viewed) {
            return Ok(false);
        }
        self.dead_bytes += self.dropped_bytes.take().unwrap_or_default();
        let FjallTables {
            database, keyspace, ..
        } = &self.tables;
        let mut batch = OwnedWriteBatch::with_capacity(database.clone(), 1);
        batch.remove(keyspace, MARK);
        batch.commit()?;
        keyspace.rotate_memtable()?;
        Ok(self.wait_while(|tables| tables.keyspace.tree.sealed_memtable_count() > 0))
    }

    /// Returns whether the engine is still there.
    fn wait_while(&mut self, is_busy: impl Fn(&FjallTables) -> bool) -> bool {
        while is_busy(&self.tables) {
            match self.asked.recv_timeout(LOOK_EVERY) {
                Ok(dropped) => *self.dropped_bytes.get_or_insert_default() += dropped,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }
}

/// Runs what may remove tables; their space is given back in small steps ([`Shrinker`](crate::disk::Shrinker)).
pub(super) fn removing<T>(tables: &FjallTables, remove: impl FnOnce(&AnyTree) -> T) -> T {
    let tree = &tables.keyspace.tree;
    // As long as this is held, fjall removes none of its tables' files.
    let before = tree.current_version();
    let result = remove(tree);
    let left: BTreeSet<_> = tree
        .current_version()
        .iter_tables()
        .map(|table| table.id())
        .collect();
    let folder = tables.keyspace.path().join(TABLES);
    for id in before
        .iter_tables()
        .map(|table| table.id())
        .filter(|id| !left.contains(id))
    {
        if let Ok(file) = OpenOptions::new().write(true).open(folder.join(id.to_string())) {
            tables.shrinker.take(file);
        }
    }
    result
}

/// A half of what is in tables is dead, or more.
const fn is_worth_compacting(dead_bytes: u64, tables_bytes: u64) -> bool {
    dead_bytes >= RECLAIMED_FROM && dead_bytes >= tables_bytes / 2 && tables_bytes <= COMPACTED_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Shrinker;
    use crate::engine::{Engine as _, FjallEngine, WriteBatch};

    #[test]
    fn the_tables_that_a_compaction_removes_are_handed_over_and_no_others() {
        let path = std::env::temp_dir().join(format!("quorate-removing-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        let mut engine = FjallEngine::open(&path).unwrap();
        let (shrinker, handed_over) = Shrinker::idle();
        let tables = FjallTables {
            shrinker,
            ..engine.tables()
        };
        let tree = &tables.keyspace.tree;
        for value in [b"1", b"2"] {
            let changes = vec![(Bytes::from("key"), Some(Bytes::from_static(value)))];
            engine.write(WriteBatch { changes }).unwrap();
            tables.keyspace.rotate_memtable().unwrap();
            for _ in 0..500 {
                if tree.sealed_memtable_count() > 0 {
                    std::thread::sleep(LOOK_EVERY);
                }
            }
        }
        assert_eq!(tree.table_count(), 2);
        removing(&tables, |_| ());
        assert_eq!(handed_over.try_iter().count(), 0, "nothing was removed");
        removing(&tables, |tree| tree.major_compact(1 << 20, 0)).unwrap();
        assert_eq!((tree.table_count(), handed_over.try_iter().count()), (1, 2));
        drop((tables, engine));
        std::fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_compaction_is_paid_for_by_what_was_dropped_and_is_never_long() {
        const GIB: u64 = 1 << 30;
        assert!(is_worth_compacting(GIB / 2, GIB));
        assert!(is_worth_compacting(RECLAIMED_FROM, RECLAIMED_FROM));
        assert!(
            !is_worth_compacting(GIB / 2 - 1, GIB),
            "more would be written than was dropped"
        );
        assert!(!is_worth_compacting(RECLAIMED_FROM - 1, 0), "too little");
        assert!(!is_worth_compacting(50 * GIB, 100 * GIB), "writes would stall");
        assert!(!is_worth_compacting(GIB + 1, GIB + 1), "writes would stall");
    }
}
