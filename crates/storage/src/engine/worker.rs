//! Threads of the engine: each does on request all that is due, and lets others go first.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// How nice compactions are: a client waits for whoever else waits for the processor. A ninth of a share.
pub(super) const COMPACT_NICE: i32 = 10;
/// How nice flushes are, which loads wait for: a third of a share.
pub(super) const FLUSH_NICE: i32 = 5;

/// Lets others go first, for good: for the calling thread and those that it begins from now on. On systems other than Linux,
/// where this would be said of the whole process, it does nothing.
pub(super) fn be_nice(by: i32) {
    if cfg!(target_os = "linux") {
        // If it fails, others wait longer and nothing else.
        let _ = rustix::process::nice(by);
    }
}

/// How a thread ended.
pub(super) type Ended<E> = std::thread::Result<Result<(), E>>;

/// Goes on with a panic of the thread.
pub(super) fn unwound<E>(ended: Ended<E>) -> Result<(), E> {
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

pub(super) struct Worker<E> {
    asked: SyncSender<()>,
    thread: JoinHandle<Result<(), E>>,
}

impl<E: Send + 'static> Worker<E> {
    /// `run` ends when there are no requests any more, or with an error.
    pub(super) fn begin(
        name: &str,
        run: impl FnOnce(Receiver<()>) -> Result<(), E> + Send + 'static,
    ) -> io::Result<Self> {
        // One request is enough for all that is due when it is taken.
        let (asked, requests) = sync_channel(1);
        let thread = std::thread::Builder::new().name(name.into());
        Ok(Self {
            asked,
            thread: thread.spawn(move || run(requests))?,
        })
    }

    /// Something may be due. Returns whether the thread still runs.
    pub(super) fn ask(&self) -> bool {
        !matches!(self.asked.try_send(()), Err(TrySendError::Disconnected(())))
    }

    /// Waits for what is under way.
    pub(super) fn join(self) -> Ended<E> {
        drop(self.asked);
        self.thread.join()
    }
}
