//! Gives the space of removed files back in small steps.
//!
//! On a file system that tells the device which blocks are free (the mount option `discard`), the removal of a file waits
//! until the device has taken all of it down, and so does every sync on that device meanwhile: 40 ms for 64 MiB were
//! seen, as much as it takes to write them. A file that is still open somewhere keeps its blocks, though, after its name
//! has gone. So whoever is about to remove a large file hands it over here, where it is cut shorter bit by bit.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What is given back at a time, and the rest between: 100 MiB/s at most. A step took 1 ms, of which 0.3 were for any
/// step at all.
const STEP_BYTES: u64 = 1 << 20;
const REST: Duration = Duration::from_millis(10);
/// How often files are looked at that still have a name.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Files that wait for their names to go, and as many that wait to be looked at. The space of others goes in one go.
const FILES_MAX: usize = 128;

/// A thread that ends with the last of its handles; the space of what is left then goes in one go.
#[derive(Clone, Debug)]
pub(crate) struct Shrinker {
    files: SyncSender<File>,
    /// Behind `files`: when it is dropped, the channel is closed.
    _thread: Arc<Thread>,
}

#[derive(Debug, Default)]
struct Thread {
    handle: Option<JoinHandle<()>>,
    is_over: Arc<AtomicBool>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(handle) = self.handle.take() {
            let _ = handle.join();
        }
    }
}

impl Shrinker {
    /// # Errors
    ///
    /// The system gives no thread.
    pub(crate) fn begin() -> io::Result<Self> {
        let (files, handed_over) = sync_channel(FILES_MAX);
        let mut thread = Thread::default();
        let is_over = Arc::clone(&thread.is_over);
        let begun = std::thread::Builder::new().name("shrinker".into());
        thread.handle = Some(begun.spawn(move || run(&handed_over, &is_over))?);
        let _thread = Arc::new(thread);
        Ok(Self { files, _thread })
    }

    /// The file, open for writing, is about to be removed or was. It is left as it is while it has a name.
    pub(crate) fn take(&self, file: File) {
        let _ = self.files.try_send(file);
    }
}

fn run(handed_over: &Receiver<File>, is_over: &AtomicBool) {
    let mut files = VecDeque::new();
    loop {
        let next = if files.is_empty() {
            handed_over.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            handed_over.recv_timeout(LOOK_EVERY)
        };
        match next {
            Ok(file) => files.push_back(file),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        files.extend(handed_over.try_iter());
        files.drain(..files.len().saturating_sub(FILES_MAX));
        files.retain(|file| {
            let nameless = file.metadata().ok().filter(|about| about.nlink() == 0);
            nameless
                .inspect(|about| shrink(file, about.len(), is_over))
                .is_none()
        });
    }
}

/// What fails here is left to the system, which frees the file when it is closed.
fn shrink(file: &File, mut bytes: u64, is_over: &AtomicBool) {
    while bytes > 0 && !is_over.load(Ordering::Relaxed) {
        bytes = bytes.saturating_sub(STEP_BYTES);
        if file.set_len(bytes).is_err() {
            return;
        }
        std::thread::sleep(REST);
    }
}

#[cfg(test)]
impl Shrinker {
    /// One that shrinks nothing, and what it is given.
    pub(crate) fn idle() -> (Self, Receiver<File>) {
        let (files, handed_over) = sync_channel(FILES_MAX);
        let _thread = Arc::default();
        (Self { files, _thread }, handed_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    #[test]
    fn no_more_descriptors_are_held_than_said() {
        let (shrinker, handed_over) = Shrinker::idle();
        for _ in 0..2 * FILES_MAX {
            shrinker.take(File::open("/dev/null").unwrap());
        }
        assert_eq!(handed_over.try_iter().count(), FILES_MAX);
    }

    #[test]
    fn a_file_keeps_its_bytes_while_it_has_a_name_and_loses_them_afterwards() {
        let path = std::env::temp_dir().join(format!("quorate-shrinker-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).open(&path).unwrap();
        file.set_len(3 * STEP_BYTES + 1).unwrap();
        let (seen, len) = (file.try_clone().unwrap(), || file.metadata().unwrap().len());
        let shrinker = Shrinker::begin().unwrap();
        shrinker.take(seen);
        std::thread::sleep(3 * LOOK_EVERY);
        assert_eq!(len(), 3 * STEP_BYTES + 1, "it has a name");
        std::fs::remove_file(&path).unwrap();
        for _ in 0..1_000 {
            if len() == 0 {
                break;
            }
            std::thread::sleep(REST);
        }
        assert_eq!(len(), 0);
    }
}
