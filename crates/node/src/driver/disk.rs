//! The disk's thread: writes in order, one sync for all that has queued up, housekeeping when there is nothing
//! else. A slow disk stops neither heartbeats nor elections.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use quorate_storage::disk::RealDisk;
use quorate_storage::{Incarnation, StoreId};

use super::reactor::Inbox;
use crate::FatalError;
use crate::durable::{Durable, Write};

type Files = Durable<Arc<RealDisk>>;

enum Work {
    Write(Write),
    Bindings(BTreeMap<StoreId, Incarnation>),
}

/// The token of the newest write that is durable, or why the member must stop (P2).
pub(super) type Written = Result<u64, FatalError>;

/// The thread, ended and joined by dropping.
pub(super) struct DiskThread {
    work: Option<Sender<Work>>,
    written: Receiver<Written>,
    thread: Option<JoinHandle<()>>,
}

impl DiskThread {
    pub(super) fn spawn(files: Files, inbox: Arc<Inbox>) -> io::Result<Self> {
        let (work, jobs) = channel();
        let (reports, written) = channel();
        let thread = std::thread::Builder::new()
            .name("quorate-disk".into())
            .spawn(move || run(files, &jobs, &reports, &inbox))?;
        Ok(Self {
            work: Some(work),
            written,
            thread: Some(thread),
        })
    }

    pub(super) fn write(&self, write: Write) {
        self.send(Work::Write(write));
    }

    /// Keeps the incarnations of the peers (P7).
    pub(super) fn bindings(&self, bindings: BTreeMap<StoreId, Incarnation>) {
        self.send(Work::Bindings(bindings));
    }

    /// What has become durable since the last call.
    pub(super) fn written(&self) -> Option<Written> {
        self.written.try_recv().ok()
    }

    fn send(&self, work: Work) {
        if let Some(sender) = &self.work {
            // The thread ends early only after an error, which it has reported.
            let _ = sender.send(work);
        }
    }
}

impl Drop for DiskThread {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

fn run(mut files: Files, jobs: &Receiver<Work>, reports: &Sender<Written>, inbox: &Inbox) {
    let mut more = true;
    loop {
        let first = match jobs.try_recv() {
            Ok(work) => Some(work),
            Err(TryRecvError::Empty) if more => None,
            Err(TryRecvError::Empty) => match jobs.recv() {
                Ok(work) => Some(work),
                Err(_) => return,
            },
            Err(TryRecvError::Disconnected) => return,
        };
        let result = match first {
            Some(first) => {
                more = true;
                perform(&mut files, std::iter::once(first).chain(jobs.try_iter()))
            }
            None => files.maintain().map(|again| {
                more = again;
                None
            }),
        };
        let failed = result.is_err();
        if let Some(written) = result.transpose() {
            // The reactor may be gone: then nobody waits for the report.
            let _ = reports.send(written);
            inbox.wake();
        }
        if failed {
            return;
        }
    }
}

fn perform(files: &mut Files, jobs: impl Iterator<Item = Work>) -> Result<Option<u64>, FatalError> {
    let (mut newest, mut sync) = (None, false);
    for job in jobs {
        match job {
            Work::Write(write) => {
                files.write(&write)?;
                sync |= write.batch.sync;
                newest = Some(write.token);
            }
            Work::Bindings(bindings) => files.write_bindings(&bindings)?,
        }
    }
    if sync {
        files.sync()?;
    }
    Ok(newest)
}
