//! Makes the state engine durable, on a thread of its own: log GC follows what it reports.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use quorate_storage::engine::{BatchSeq, Durability, EngineError};

pub(crate) struct EngineWorker {
    work: Option<Sender<BatchSeq>>,
    done: Receiver<Result<BatchSeq, EngineError>>,
    thread: Option<JoinHandle<()>>,
}

impl EngineWorker {
    /// `wake` is called after each completion.
    pub(crate) fn spawn(
        mut durability: Box<dyn Durability>,
        wake: impl Fn() + Send + 'static,
    ) -> std::io::Result<Self> {
        let (work, inbox) = channel::<BatchSeq>();
        let (outbox, done) = channel();
        let thread = std::thread::Builder::new().name("engine".into()).spawn(move || {
            while let Ok(first) = inbox.recv() {
                // One call serves all that was asked for before it.
                let up_to = inbox.try_iter().fold(first, BatchSeq::max);
                let made = durability.make_durable().map(|()| up_to);
                let failed = made.is_err();
                if outbox.send(made).is_err() || failed {
                    wake();
                    return;
                }
                wake();
            }
        })?;
        Ok(Self {
            work: Some(work),
            done,
            thread: Some(thread),
        })
    }

    /// Asks for everything up to this batch.
    pub(crate) fn make_durable(&self, up_to: BatchSeq) {
        if let Some(work) = &self.work {
            // The thread ends only after an error, which the reactor hears of by `completed`.
            let _ = work.send(up_to);
        }
    }

    /// The newest batch that has become durable since the last call.
    pub(crate) fn completed(&self) -> Result<Option<BatchSeq>, EngineError> {
        let mut newest = None;
        while let Ok(done) = self.done.try_recv() {
            newest = Some(done?);
        }
        Ok(newest)
    }
}

impl Drop for EngineWorker {
    /// The thread holds a handle of the engine, which cannot be opened again before that is gone.
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}
