//! Begins to write tables and journals to the device while they grow.
//!
//! Fjall syncs a table when it is whole, 16 MiB in one go. A device takes that as one long queue, and the syncs of the
//! Raft logs that share the device stand behind it: 1 ms for each MiB. So the file system is asked to write what there is
//! early, in small pieces; the sync, which is what is relied on, then finds little to do. On systems other than Linux it
//! finds all.

use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use ::fjall::{AbstractTree as _, Error};

use super::fjall::FjallTables;
use super::fjall_space::TABLES;
use super::worker::Worker;

/// What is written at a time, about.
const PIECE_BYTES: u64 = 256 << 10;
/// How often files are looked at while one grows.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// After so many looks without growth it rests until it is asked.
const LOOKS_IN_VAIN: u32 = 200;

/// A table that may be growing.
struct Growing {
    path: PathBuf,
    /// Not there yet, at first: an id is taken before the file is made.
    file: Option<File>,
    /// Asked for so far.
    begun_bytes: u64,
    looks_in_vain: u32,
}

/// Begins to look after tables; asked when one may be begun soon.
pub(super) fn begin(tables: &FjallTables) -> io::Result<Worker<Error>> {
    let of = tables.clone();
    Worker::begin("engine-writeback", move |requests| {
        run(&of, &requests);
        Ok(())
    })
}

fn run(tables: &FjallTables, requests: &Receiver<()>) {
    let folder = tables.keyspace.path().join(TABLES);
    let mut next = tables.keyspace.tree.next_table_id();
    let mut growing: Vec<Growing> = Vec::new();
    while requests.recv().is_ok() {
        let mut looks_in_vain = 0;
        while looks_in_vain < LOOKS_IN_VAIN {
            let end = tables.keyspace.tree.next_table_id();
            growing.extend((next..end).map(|id| Growing::new(folder.join(id.to_string()))));
            next = end;
            growing.retain_mut(|table| {
                table.look();
                table.may_grow()
            });
            match requests.recv_timeout(LOOK_EVERY) {
                Err(RecvTimeoutError::Timeout) if growing.is_empty() => looks_in_vain += 1,
                Err(RecvTimeoutError::Disconnected) => return,
                _ => looks_in_vain = 0,
            }
        }
    }
}

impl Growing {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            begun_bytes: 0,
            looks_in_vain: 0,
        }
    }

    fn may_grow(&self) -> bool {
        self.looks_in_vain < LOOKS_IN_VAIN
    }

    /// An error is not for this thread to report: whoever relies on the file syncs it.
    fn look(&mut self) {
        self.looks_in_vain += 1;
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &self.file else {
            return;
        };
        let bytes = file.metadata().map_or(0, |about| about.len());
        if bytes >= self.begun_bytes + PIECE_BYTES {
            self.looks_in_vain = 0;
            begin_to_write(file, self.begun_bytes..bytes);
            self.begun_bytes = bytes;
        }
    }
}

/// Has a part of a file written, without waiting for it; all of it if `bytes` is empty.
#[cfg(target_os = "linux")]
pub(super) fn begin_to_write(file: &File, bytes: Range<u64>) {
    // Linux begins to write the dirty pages of what is not needed any more, and drops only those that are clean.
    let len = NonZeroU64::new(bytes.end - bytes.start);
    let _ = rustix::fs::fadvise(file, bytes.start, len, rustix::fs::Advice::DontNeed);
}

#[cfg(not(target_os = "linux"))]
pub(super) fn begin_to_write(_file: &File, _bytes: Range<u64>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_written_as_it_grows_and_left_alone_when_it_is_whole() {
        let path = std::env::temp_dir().join(format!("quorate-writeback-{}", std::process::id()));
        let mut table = Growing::new(path.clone());
        table.look();
        assert_eq!(
            (table.begun_bytes, table.looks_in_vain),
            (0, 1),
            "its id is taken, it is not there"
        );
        let file = File::create(&path).unwrap();
        for (bytes, begun) in [
            (PIECE_BYTES - 1, 0),
            (PIECE_BYTES, PIECE_BYTES),
            (3 * PIECE_BYTES, 3 * PIECE_BYTES),
        ] {
            file.set_len(bytes).unwrap();
            table.look();
            assert_eq!(table.begun_bytes, begun);
        }
        assert_eq!(table.looks_in_vain, 0);
        while table.may_grow() {
            table.look();
        }
        std::fs::remove_file(&path).unwrap();
    }
}
