//! A replicated state machine for real: a member, and a thread that applies.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{AppliedStream, Directory, Handle, Node, Transport};
use crate::{
    CommandIndex, Config, Decided, NodeId, NotDone, ReadError, Replica, SpawnError, StartError, StateMachine,
};

/// Why a command has no result.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// It was not started, and never will be applied.
    #[error(transparent)]
    NotStarted(StartError),
    /// It was started, and another leader's commands took its place: it never will be applied.
    #[error("the command was not applied: leadership changed first")]
    NotApplied,
    /// It may or may not be applied, now or later: the time ran out, or the member stopped or was overtaken by a
    /// snapshot.
    #[error("the command's outcome is unknown")]
    Unknown,
}

impl SubmitError {
    /// The member to ask instead, if this one says so.
    #[must_use]
    pub fn hint(&self) -> Option<NodeId> {
        match self {
            SubmitError::NotStarted(StartError::NotLeader { hint }) => *hint,
            _ => None,
        }
    }
}

type Waiter<S> = SyncSender<Result<<S as StateMachine>::Output, NotDone>>;

struct Shared<S: StateMachine> {
    replica: Mutex<Replica<S, Waiter<S>>>,
    applied: Condvar,
}

impl<S: StateMachine> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, Replica<S, Waiter<S>>> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A state machine that is replicated over a group: commands in, their results out, linearizable reads, snapshots
/// by themselves. Dropping it stops the member.
pub struct Replicated<S: StateMachine> {
    handle: Handle,
    shared: Arc<Shared<S>>,
    thread: Option<JoinHandle<()>>,
    timeout: Duration,
}

impl<S: StateMachine + Send + 'static> Replicated<S>
where
    S::Output: Send,
{
    /// Starts a member. `state` is that of before the first command, equal on all members; a snapshot is made
    /// whenever the commands since the last one have `snapshot_bytes` or more.
    ///
    /// # Errors
    ///
    /// As [`Node::spawn`].
    pub fn spawn(
        config: Config,
        transport: Transport,
        storage: Directory,
        state: S,
        snapshot_bytes: u64,
    ) -> Result<Self, SpawnError> {
        let timeout = Duration::from_micros(config.request_timeout_us);
        let (handle, stream) = Node::spawn(config, transport, storage)?;
        let shared = Arc::new(Shared {
            replica: Mutex::new(Replica::new(state, snapshot_bytes)),
            applied: Condvar::new(),
        });
        let thread = std::thread::Builder::new()
            .name("quorate-apply".into())
            .spawn({
                let (shared, handle) = (Arc::clone(&shared), handle.clone());
                move || apply(stream, &shared, &handle)
            })
            .map_err(|source| SpawnError::System {
                what: "starting a thread",
                source,
            })?;
        Ok(Self {
            handle,
            shared,
            thread: Some(thread),
            timeout,
        })
    }

    /// Starts a command and waits until it is applied here; its result.
    ///
    /// # Errors
    ///
    /// See [`SubmitError`]. Not every error means that the command is not applied.
    pub fn submit(&self, command: impl Into<Bytes>) -> Result<S::Output, SubmitError> {
        let (waiter, result) = sync_channel(1);
        {
            // Locked over both, so that the command cannot be handed up in between.
            let mut replica = self.shared.lock();
            let started = self.handle.start(command).map_err(SubmitError::NotStarted)?;
            replica.wait(started, waiter);
        }
        match result.recv_timeout(self.timeout) {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(NotDone::NotApplied)) => Err(SubmitError::NotApplied),
            Ok(Err(NotDone::Unknown)) | Err(_) => Err(SubmitError::Unknown),
        }
    }

    /// Reads from the state, linearizably, on any member: what was applied before the call is seen.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn read<R>(&self, read: impl FnOnce(&S) -> R) -> Result<R, ReadError> {
        let barrier = self.handle.read_barrier()?;
        let until = Instant::now() + self.timeout;
        let mut replica = self.shared.lock();
        while replica.applied() < barrier {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ReadError::Timeout { hint: None });
            }
            let waited = self.shared.applied.wait_timeout(replica, left);
            replica = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(read(replica.state()))
    }

    /// Reads from the state as it is here, which may be old.
    pub fn read_stale<R>(&self, read: impl FnOnce(&S) -> R) -> R {
        read(self.shared.lock().state())
    }

    /// The member, for its status, membership and the rest.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The last command applied here.
    #[must_use]
    pub fn applied(&self) -> CommandIndex {
        self.shared.lock().applied()
    }
}

impl<S: StateMachine> Drop for Replicated<S> {
    fn drop(&mut self) {
        self.handle.shutdown();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// The thread: applies until the stream ends.
fn apply<S: StateMachine>(stream: AppliedStream, shared: &Shared<S>, handle: &Handle) {
    for thing in stream {
        let (done, snapshot) = {
            let mut replica = shared.lock();
            (replica.take(thing), replica.snapshot_due())
        };
        shared.applied.notify_all();
        answer::<S>(done);
        if let Some((index, state)) = snapshot
            && let Err(error) = handle.snapshot(index, state)
        {
            tracing::warn!(%error, "the snapshot was not taken over");
        }
    }
    let done = shared.lock().give_up();
    answer::<S>(done);
}

fn answer<S: StateMachine>(done: Vec<Decided<S, Waiter<S>>>) {
    for (waiter, outcome) in done {
        // Who waited may have given up.
        let _ = waiter.send(outcome);
    }
}
