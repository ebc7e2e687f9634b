//! Sealing full memtables and compacting tables, on threads of our own instead of fjall's.
//!
//! Fjall does both on the threads that flush. With one, flushes wait for compactions, until writes are held back. With
//! several, the first takes no compactions: it puts each request for one back into their queue and takes it out again, as
//! fast as a processor can, as long as the others are busy: under load half of what the threads used. And while a memtable
//! is full, each write asks for it to be sealed, which fills the queue with requests that take the journal's lock. So
//! fjall has one thread, for flushes: memtables are never full for it, and its own compactions are put off ([`never`]).

use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use ::fjall::compaction::Leveled;
use ::fjall::{AbstractTree as _, Error};

use super::fjall::{FjallTables, sync_beside_writers};
use super::worker::{Worker, unwound};

/// Levels of fjall's tables.
const LEVELS: usize = 7;
/// How nice compactions are: a client waits for whoever else waits for the processor. A ninth of a share.
const NICE: i32 = 10;

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
    let compactor = Worker::begin("engine-compact", move |requests| {
        compact(&of, table_bytes, &requests)
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
    while requests.recv().is_ok() && compactor.ask() {
        if keyspace.tree.active_memtable().size() >= memtable_bytes {
            // A flush begins with a sync.
            sync_beside_writers(&tables.database, &tables.path)?;
            keyspace.rotate_memtable()?;
        }
    }
    Ok(())
}

fn compact(tables: &FjallTables, table_bytes: u64, requests: &Receiver<()>) -> Result<(), Error> {
    // If it fails, others wait longer and nothing else.
    let _ = rustix::process::nice(NICE);
    let strategy = Arc::new(Leveled::default().with_table_target_size(table_bytes));
    let tree = &tables.keyspace.tree;
    let tables_by_level = || std::array::from_fn::<_, LEVELS, _>(|level| tree.level_table_count(level));
    while requests.recv().is_ok() {
        loop {
            let before = tables_by_level();
            let tracker = &tables.database.supervisor.snapshot_tracker;
            tree.compact(Arc::<Leveled>::clone(&strategy), tracker.get_seqno_safe_to_gc())?;
            if tables_by_level() == before {
                break;
            }
        }
    }
    Ok(())
}
