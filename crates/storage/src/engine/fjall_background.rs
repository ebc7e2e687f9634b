//! Sealing full memtables and compacting tables, on threads of our own instead of fjall's.
//!
//! Fjall does both on the threads that flush. With one, flushes wait for compactions, until writes are held back. With
//! several, the first takes no compactions: it puts each request for one back into their queue and takes it out again, as
//! fast as a processor can, as long as the others are busy: under load half of what the threads used. And while a memtable
//! is full, each write asks for it to be sealed, which fills the queue with requests that take the journal's lock. So
//! fjall has one thread, for flushes: memtables are never full for it, and its own compactions are put off ([`never`]).
//!
//! What all this writes and removes goes to the device bit by bit: see `fjall_writeback` and `Shrinker`.

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use ::fjall::compaction::Leveled;
use ::fjall::{AbstractTree as _, Error, PersistMode};

use super::fjall::{FjallTables, sync_beside_writers};
use super::fjall_journal;
use super::fjall_space::removing;
use super::fjall_writeback::{self, begin_to_write};
use super::worker::{COMPACT_NICE, Worker, be_nice, unwound};

/// Levels of fjall's tables.
const LEVELS: usize = 7;

/// What fjall's own thread compacts by: it moves tables that overlap no others, and leaves the rest.
pub(super) fn never(table_bytes: u64) -> Leveled {
    Leveled::default()
        .with_table_target_size(table_bytes)
        .with_l0_threshold(u8::MAX)
        .with_level_ratio_policy(vec![1_000.0])
}

/// Begins to seal memtables of so many bytes, and to compact what they become into tables of so many.
pub(super) fn begin(
    tables: &FjallTables,
    memtable_bytes: u64,
    table_bytes: u64,
) -> io::Result<Worker<Error>> {
    let of = tables.clone();
    let writeback = fjall_writeback::begin(tables)?;
    let compactor = Worker::begin("engine-compact", move |requests| {
        compact(&of, table_bytes, &requests, &writeback)?;
        unwound(writeback.join())
    })?;
    let of = tables.clone();
    Worker::begin("engine-seal", move |requests| {
        seal(&of, memtable_bytes, &requests, &compactor)?;
        unwound(compactor.join())
    })
}

/// Returns early when the compactor has ended.
fn seal(
    tables: &FjallTables,
    memtable_bytes: u64,
    requests: &Receiver<()>,
    compactor: &Worker<Error>,
) -> Result<(), Error> {
    let keyspace = &tables.keyspace;
    let mut journal = PathBuf::new();
    while requests.recv().is_ok() && compactor.ask() {
        tables.database.persist(PersistMode::Buffer)?;
        if let Some(newest) = fjall_journal::newest(&tables.path)?
            && let Ok(file) = OpenOptions::new().write(true).open(&newest)
        {
            begin_to_write(&file, 0..0);
            if newest != journal {
                journal = newest;
                tables.shrinker.take(file);
            }
        }
        if keyspace.tree.active_memtable().size() >= memtable_bytes {
            // A flush begins with a sync.
            sync_beside_writers(&tables.database, &tables.path)?;
            keyspace.rotate_memtable()?;
        }
    }
    Ok(())
}

fn compact(
    tables: &FjallTables,
    table_bytes: u64,
    requests: &Receiver<()>,
    writeback: &Worker<Error>,
) -> Result<(), Error> {
    be_nice(COMPACT_NICE);
    let strategy = Arc::new(Leveled::default().with_table_target_size(table_bytes));
    let tree = &tables.keyspace.tree;
    let tables_by_level = || std::array::from_fn::<_, LEVELS, _>(|level| tree.level_table_count(level));
    while requests.recv().is_ok() {
        loop {
            writeback.ask();
            let before = tables_by_level();
            let safe = tables.database.supervisor.snapshot_tracker.get_seqno_safe_to_gc();
            removing(tables, |tree| {
                tree.compact(Arc::<Leveled>::clone(&strategy), safe)
            })?;
            if tables_by_level() == before {
                break;
            }
        }
    }
    Ok(())
}
