//! The node's thread: waits for sockets, requests and the disk, gives the machine what came, and does what it
//! says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::{Events, Poll, Waker};
use quorate_proto::NodeMessage;
use quorate_storage::{Incarnation, StoreId};
use quorate_transport::{Channel, PeerEvent, Peers};

use super::disk::DiskThread;
use super::stream::Queue;
use crate::machine::{Effects, Machine, Reply, RequestId};
use crate::{
    Change, ChangeError, CommandIndex, FatalError, Membership, NodeId, ReadError, SnapshotError, StartError,
    Started, Status, TransferError,
};

/// The transport wants its timer this often.
const TIMER: Duration = Duration::from_millis(20);

/// What is asked of the node's thread. A request whose sender is dropped was not answered: the member stopped.
#[derive(Debug)]
pub(super) enum Request {
    Start(Bytes, SyncSender<Result<Started, StartError>>),
    Snapshot(CommandIndex, Bytes, SyncSender<Result<(), SnapshotError>>),
    Change(Vec<Change>, SyncSender<Result<Membership, ChangeError>>),
    Transfer(NodeId, SyncSender<Result<(), TransferError>>),
    Read(SyncSender<Result<CommandIndex, ReadError>>),
    Stop,
}

/// Requests on their way to the node's thread.
#[derive(Debug)]
pub(super) struct Inbox {
    requests: Mutex<Option<Vec<Request>>>,
    waker: Waker,
}

impl Inbox {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            requests: Mutex::new(Some(Vec::new())),
            waker,
        }
    }

    /// Hands a request over; dropped if the member has stopped.
    pub(super) fn push(&self, request: Request) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(requests) = requests.as_mut() else { return };
        requests.push(request);
        if requests.len() == 1 {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        // It fails only if the thread is gone, and then nobody needs to be woken.
        let _ = self.waker.wake();
    }

    fn take(&self) -> Vec<Request> {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Nothing is taken any more; what waits is dropped, which tells those who asked.
    fn close(&self) {
        let closed = self
            .requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(closed);
    }
}

/// What others may look at without asking the thread.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) status: Mutex<Status>,
    pub(super) failure: Mutex<Option<Arc<FatalError>>>,
}

enum Waiter {
    Change(SyncSender<Result<Membership, ChangeError>>),
    Transfer(SyncSender<Result<(), TransferError>>),
    Read(SyncSender<Result<CommandIndex, ReadError>>),
}

pub(super) struct Reactor {
    pub(super) machine: Machine,
    pub(super) peers: Peers<NodeMessage>,
    pub(super) bindings: BTreeMap<StoreId, Incarnation>,
    pub(super) poll: Poll,
    pub(super) inbox: Arc<Inbox>,
    pub(super) disk: DiskThread,
    pub(super) queue: Arc<Queue>,
    pub(super) board: Arc<Board>,
    pub(super) began: Instant,
    pub(super) waiters: Waiters,
}

/// Who waits for answers that come later.
#[derive(Default)]
pub(super) struct Waiters {
    next: u64,
    waiting: BTreeMap<RequestId, Waiter>,
    /// The addresses that were given to the transport.
    dialed: BTreeSet<NodeId>,
}

impl Reactor {
    pub(super) fn now_us(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    /// Until the member is to stop, or must.
    pub(super) fn run(mut self) {
        let ended = self.turns();
        if let Err(error) = ended {
            tracing::error!(%error, "the member stops");
            let mut failure = self.board.failure.lock().unwrap_or_else(PoisonError::into_inner);
            *failure = Some(Arc::new(error));
        }
        let Self { inbox, queue, .. } = self;
        inbox.close();
        queue.end();
    }

    fn turns(&mut self) -> Result<(), FatalError> {
        let mut events = Events::with_capacity(256);
        let mut peer_events = Vec::new();
        let mut timer_us = 0;
        // What the opening left to be done, the first snapshot among it.
        self.end_turn(&mut peer_events)?;
        loop {
            let now_us = self.now_us();
            let timeout =
                Duration::from_micros(self.machine.next_tick_us().saturating_sub(now_us)).min(TIMER);
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(FatalError::Poll(error));
                }
                _ => {}
            }
            let now_us = self.now_us();
            for event in &events {
                if self.peers.owns(event.token()) {
                    self.peers.on_event(event, now_us, &mut peer_events);
                }
            }
            if now_us >= timer_us {
                self.peers.on_timer(now_us, &mut peer_events);
                timer_us = now_us + TIMER.as_micros() as u64;
            }
            self.machine.tick(now_us)?;
            self.take_peer_events(&mut peer_events)?;
            while let Some(written) = self.disk.written() {
                self.machine.written(written?)?;
            }
            self.machine.taken(self.queue.taken())?;
            for request in self.inbox.take() {
                if matches!(request, Request::Stop) {
                    return Ok(());
                }
                self.request(request)?;
            }
            self.end_turn(&mut peer_events)?;
        }
    }

    fn take_peer_events(&mut self, events: &mut Vec<PeerEvent<NodeMessage>>) -> Result<(), FatalError> {
        for event in events.drain(..) {
            match event {
                PeerEvent::Message { from, message } => self.machine.message(NodeId(from.0), own(message))?,
                PeerEvent::Down { store } => self.machine.unreachable(NodeId(store.0)),
                PeerEvent::Up { .. } => {}
                PeerEvent::Bind { store, incarnation } => {
                    self.bindings.insert(store, incarnation);
                    self.disk.bindings(self.bindings.clone());
                }
                PeerEvent::Refused { store, reason, fatal } => {
                    if fatal {
                        return Err(FatalError::Identity(reason));
                    }
                    tracing::warn!(?store, reason, "a connection between members was refused");
                }
            }
        }
        Ok(())
    }

    fn request(&mut self, request: Request) -> Result<(), FatalError> {
        // An answer that nobody waits for any more is dropped.
        match request {
            Request::Start(command, answer) => drop(answer.send(self.machine.start(&command))),
            Request::Snapshot(index, data, answer) => drop(answer.send(self.machine.snapshot(index, data))),
            Request::Change(changes, answer) => {
                let id = self.waiters.add(Waiter::Change(answer));
                self.machine.change(id, &changes);
            }
            Request::Transfer(to, answer) => {
                let id = self.waiters.add(Waiter::Transfer(answer));
                self.machine.transfer(id, to)?;
            }
            Request::Read(answer) => {
                let id = self.waiters.add(Waiter::Read(answer));
                self.machine.read_barrier(id);
            }
            Request::Stop => {}
        }
        Ok(())
    }

    fn end_turn(&mut self, peer_events: &mut Vec<PeerEvent<NodeMessage>>) -> Result<(), FatalError> {
        self.machine.advance()?;
        let Effects {
            sends,
            writes,
            applied,
            replies,
            addresses,
            maintain: _, // the disk's thread does it whenever it is idle
        } = self.machine.take_effects();
        for (to, message) in sends {
            let channel = match message {
                NodeMessage::SnapshotChunk(_) | NodeMessage::SnapshotAck(_) => Channel::Bulk,
                NodeMessage::Raft(_) | NodeMessage::Removed => Channel::Raft,
            };
            // Not connected: Raft sends again what matters.
            self.peers.send(StoreId(to.0), channel, &message);
        }
        self.peers.flush(peer_events);
        for write in writes {
            self.disk.write(write);
        }
        {
            // Before what is handed up: whoever takes it finds a status that knows of it.
            let mut status = self.board.status.lock().unwrap_or_else(PoisonError::into_inner);
            *status = self.machine.status();
        }
        self.queue.push(applied);
        for (id, reply) in replies {
            self.waiters.answer(id, reply);
        }
        if let Some(addresses) = addresses {
            for (id, address) in &addresses {
                self.peers.set_address(StoreId(id.0), Some(address));
            }
            let now: BTreeSet<NodeId> = addresses.into_keys().collect();
            for gone in self.waiters.dialed.difference(&now) {
                self.peers.set_address(StoreId(gone.0), None);
            }
            self.waiters.dialed = now;
        }
        Ok(())
    }
}

impl Waiters {
    fn add(&mut self, waiter: Waiter) -> RequestId {
        self.next += 1;
        let id = RequestId(self.next);
        self.waiting.insert(id, waiter);
        id
    }

    fn answer(&mut self, id: RequestId, reply: Reply) {
        match (self.waiting.remove(&id), reply) {
            (Some(Waiter::Change(answer)), Reply::Change(outcome)) => drop(answer.send(outcome)),
            (Some(Waiter::Transfer(answer)), Reply::Transfer(outcome)) => drop(answer.send(outcome)),
            (Some(Waiter::Read(answer)), Reply::Read(outcome)) => drop(answer.send(outcome)),
            (waiter, reply) => debug_assert!(waiter.is_none(), "request {id:?} was answered with {reply:?}"),
        }
    }
}

/// Gives the entries of an append memory of their own: what is decoded is a slice of the receive buffer, and a
/// small command that is kept would keep all of that.
fn own(mut message: NodeMessage) -> NodeMessage {
    if let NodeMessage::Raft(raft) = &mut message
        && let quorate_raft::MessageBody::Append { entries, .. } = &mut raft.body
    {
        for entry in entries {
            if let quorate_raft::Payload::Normal(data) = &mut entry.payload {
                *data = Bytes::copy_from_slice(data);
            }
        }
    }
    message
}
