//! A thread that does on request all that is due.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

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
