//! Writes the Raft log: inline in the reactor while syncs are quick, on a thread of its own when they are not,
//! so that a slow disk stops neither reads nor heartbeats.
//!
//! Both sides write through one lock. Batches keep their order because the reactor writes inline only when the
//! thread has nothing left to write.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use quorate_raft::{Entry, Payload};
use quorate_storage::disk::RealDisk;
use quorate_storage::log::{LogBatch, LogError, LogOp, RaftLog};
use quorate_store::LogToken;

use crate::config::LogSync;

/// Average microseconds of a write above which the thread takes over, and below which it gives back.
/// An inline write saves two wake-ups (about 20 us of latency); past these the reads it holds up cost more.
const SLOW_US: u64 = 600;
const QUICK_US: u64 = 300;
/// A single write counts for at most this in the average: one hiccup must not keep the thread busy for long.
const OUTLIER_US: u64 = 2_000;
/// Bytes written between two rounds of housekeeping.
const MAINTAIN_BYTES: u64 = 8 << 20;

enum Work {
    Write(LogToken, LogBatch),
    Maintain,
}

/// A completed write, or why the node must stop (P2).
type Written = Result<LogToken, LogError>;

/// What the log costs; totals since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct LogStats {
    pub(crate) syncs: u64,
    pub(crate) sync_us: u64,
    pub(crate) sync_us_max: u64,
    /// Of the operations, without the frames around them.
    pub(crate) written_bytes: u64,
}

pub(crate) struct LogWriter {
    shared: Arc<Shared>,
    placement: LogSync,
    /// Where auto placement has the writes.
    on_thread: bool,
    work: Option<Sender<Work>>,
    written: Receiver<Written>,
    /// The newest batch given to the thread, and the newest that it has reported.
    submitted: LogToken,
    reported: LogToken,
    /// Counts down to the next round of housekeeping.
    until_maintain: u64,
    thread: Option<JoinHandle<()>>,
}

/// What the reactor and the thread have in common.
struct Shared {
    log: Mutex<RaftLog<RealDisk>>,
    /// Moving average of a write with its sync.
    average_us: AtomicU64,
    syncs: AtomicU64,
    sync_us: AtomicU64,
    sync_us_max: AtomicU64,
    written_bytes: AtomicU64,
}

impl LogWriter {
    /// `wake` is called after each completion on the thread.
    pub(crate) fn spawn(
        log: RaftLog<RealDisk>,
        placement: LogSync,
        wake: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            log: Mutex::new(log),
            average_us: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            sync_us: AtomicU64::new(0),
            sync_us_max: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
        });
        let (work, inbox) = channel();
        let (outbox, written) = channel();
        let thread = std::thread::Builder::new().name("log".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared, &inbox, &outbox, &wake)
        })?;
        Ok(Self {
            shared,
            placement,
            on_thread: false,
            work: Some(work),
            written,
            submitted: LogToken(0),
            reported: LogToken(0),
            until_maintain: 0,
            thread: Some(thread),
        })
    }

    /// Writes batches, which it takes, in order; returns the newest token if all are durable on return.
    ///
    /// # Errors
    ///
    /// The log failed: the node must stop (P2).
    pub(crate) fn submit(
        &mut self,
        batches: &mut Vec<(LogToken, LogBatch)>,
    ) -> Result<Option<LogToken>, LogError> {
        let Some(&(newest, _)) = batches.last() else {
            return Ok(None);
        };
        let shared = Arc::clone(&self.shared);
        let before = shared.written_bytes.load(Ordering::Relaxed);
        self.place();
        // The thread holds the lock for housekeeping too; then it takes the write as well, in its turn.
        if !self.on_thread
            && self.submitted == self.reported
            && let Ok(mut log) = shared.log.try_lock()
        {
            let started = Instant::now();
            let mut sync = false;
            for (_, batch) in batches.drain(..) {
                sync |= shared.write(&mut log, &batch)?;
            }
            if sync {
                shared.sync(&mut log, started)?;
            }
            drop(log);
            self.maintain_after(shared.written_bytes.load(Ordering::Relaxed) - before);
            return Ok(Some(newest));
        }
        let mut bytes = 0;
        for (token, batch) in batches.drain(..) {
            bytes += batch_bytes(&batch);
            self.send(Work::Write(token, batch));
        }
        self.submitted = newest;
        self.maintain_after(bytes);
        Ok(None)
    }

    /// The newest batch that the thread has made durable since the last call; all before it are.
    ///
    /// # Errors
    ///
    /// As [`LogWriter::submit`].
    pub(crate) fn completed(&mut self) -> Result<Option<LogToken>, LogError> {
        let mut newest = None;
        while let Ok(written) = self.written.try_recv() {
            newest = Some(written?);
        }
        self.reported = newest.unwrap_or(self.reported);
        Ok(newest)
    }

    /// Housekeeping is due although nothing is written: log GC freed something.
    pub(crate) fn maintain_now(&self) {
        self.send(Work::Maintain);
    }

    /// Bytes on disk in live segments; `None` while the log is busy.
    pub(crate) fn bytes_on_disk(&self) -> Option<u64> {
        self.shared.log.try_lock().ok().map(|log| log.bytes_on_disk())
    }

    /// Bytes that the log's disk has left; `None` while the log is busy, or if the system does not say.
    pub(crate) fn available_bytes(&self) -> Option<u64> {
        self.shared.log.try_lock().ok()?.available_bytes()
    }

    pub(crate) fn stats(&self) -> LogStats {
        LogStats {
            syncs: self.shared.syncs.load(Ordering::Relaxed),
            sync_us: self.shared.sync_us.load(Ordering::Relaxed),
            sync_us_max: self.shared.sync_us_max.load(Ordering::Relaxed),
            written_bytes: self.shared.written_bytes.load(Ordering::Relaxed),
        }
    }

    fn place(&mut self) {
        let average = self.shared.average_us.load(Ordering::Relaxed);
        self.on_thread = match self.placement {
            LogSync::Inline => false,
            LogSync::Thread => true,
            LogSync::Auto if self.on_thread => average >= QUICK_US,
            LogSync::Auto => average > SLOW_US,
        };
    }

    fn maintain_after(&mut self, bytes: u64) {
        match self.until_maintain.checked_sub(bytes) {
            Some(left) => self.until_maintain = left,
            None => {
                self.until_maintain = MAINTAIN_BYTES;
                self.send(Work::Maintain);
            }
        }
    }

    fn send(&self, work: Work) {
        if let Some(sender) = &self.work {
            // The thread ends only after an error, which the reactor hears of by `completed`.
            let _ = sender.send(work);
        }
    }
}

impl Drop for LogWriter {
    /// Waits until everything submitted is written.
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, RaftLog<RealDisk>> {
        // The log refuses to go on by itself after a failure (P2).
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the batch wants a sync.
    fn write(&self, log: &mut RaftLog<RealDisk>, batch: &LogBatch) -> Result<bool, LogError> {
        log.write(batch)?;
        self.written_bytes
            .fetch_add(batch_bytes(batch), Ordering::Relaxed);
        Ok(batch.sync)
    }

    /// `started`: when the write began that this sync completes.
    fn sync(&self, log: &mut RaftLog<RealDisk>, started: Instant) -> Result<(), LogError> {
        let syncing = Instant::now();
        log.sync()?;
        let sync_us = syncing.elapsed().as_micros() as u64;
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.sync_us.fetch_add(sync_us, Ordering::Relaxed);
        self.sync_us_max.fetch_max(sync_us, Ordering::Relaxed);
        // An eighth of the way towards what was measured.
        let us = (started.elapsed().as_micros() as u64).min(OUTLIER_US);
        let old = self.average_us.load(Ordering::Relaxed);
        self.average_us.store((old * 7 + us) / 8, Ordering::Relaxed);
        Ok(())
    }
}

/// Bytes that a batch's operations take in the log, near enough for counting.
fn batch_bytes(batch: &LogBatch) -> u64 {
    let entry = |entry: &Entry| match &entry.payload {
        Payload::Normal(data) => 13 + data.len(),
        Payload::ConfChange(change) => 19 + change.changes.len() * 9 + change.context.len(),
    };
    let ops = batch.ops.iter().map(|op| match op {
        LogOp::Append { entries, .. } => 24 + entries.iter().map(entry).sum::<usize>(),
        LogOp::HardState { .. } => 40,
        LogOp::Compact { .. } | LogOp::Reset { .. } => 24,
        LogOp::Tombstone { .. } => 16,
    });
    ops.sum::<usize>() as u64
}

/// The thread: ends with its sender, or after an error.
fn run(shared: &Shared, inbox: &Receiver<Work>, outbox: &Sender<Written>, wake: &dyn Fn()) {
    let mut maintaining = false;
    loop {
        // Housekeeping goes in steps, and writes get their turn between two.
        let first = match inbox.try_recv() {
            Err(TryRecvError::Empty) if maintaining => None,
            Err(TryRecvError::Empty) => match inbox.recv() {
                Ok(work) => Some(work),
                Err(_) => return,
            },
            Ok(work) => Some(work),
            Err(TryRecvError::Disconnected) => return,
        };
        let result = match first {
            Some(first) => write_queued(shared, first, inbox, &mut maintaining),
            None => shared.lock().maintain().map(|more| {
                maintaining = more;
                None
            }),
        };
        let failed = result.is_err();
        if let Some(written) = result.transpose() {
            // The reactor is gone: the last writes are done, and nobody waits for the report.
            let _ = outbox.send(written);
            wake();
        }
        if failed {
            return;
        }
    }
}

/// Writes everything that has queued up, under one sync.
fn write_queued(
    shared: &Shared,
    first: Work,
    inbox: &Receiver<Work>,
    maintaining: &mut bool,
) -> Result<Option<LogToken>, LogError> {
    let mut log = shared.lock();
    let started = Instant::now();
    let mut newest = None;
    let mut sync = false;
    for work in std::iter::once(first).chain(inbox.try_iter()) {
        match work {
            Work::Write(token, batch) => {
                sync |= shared.write(&mut log, &batch)?;
                newest = Some(token);
            }
            Work::Maintain => *maintaining = true,
        }
    }
    if sync {
        shared.sync(&mut log, started)?;
    }
    Ok(newest)
}

#[cfg(test)]
mod tests;
