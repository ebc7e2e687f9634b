//! What the application holds of a member.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use bytes::Bytes;
use mio::{Poll, Token, Waker};
use quorate_storage::disk::RealDisk;
use quorate_storage::{Incarnation, StoreId};
use quorate_transport::{FRAME_BYTES_MAX_DEFAULT, PeerConfig, Peers, SystemResolver};

use super::disk::DiskThread;
use super::reactor::{Board, Inbox, Reactor, Request, Waiters};
use super::stream::Queue;
use super::{AppliedStream, Directory, Transport};
use crate::durable::Durable;
use crate::machine::Machine;
use crate::{
    Change, ChangeError, CommandIndex, Config, FatalError, Membership, NodeId, OpenError, ReadError,
    SnapshotError, SpawnError, StartError, Started, Status, Term, TransferError,
};

const WAKER: Token = Token(0);

/// A member of a group that replicates a log.
#[derive(Debug)]
pub struct Node;

/// A running member: clones are of the same one. When the last clone is dropped, the member stops.
#[derive(Clone, Debug)]
pub struct Handle {
    member: Arc<Member>,
}

#[derive(Debug)]
struct Member {
    inbox: Arc<Inbox>,
    board: Arc<Board>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> SpawnError {
    move |source| SpawnError::System { what, source }
}

impl Node {
    /// Starts a member: two threads, a socket, and the files of its directory.
    ///
    /// What is handed to the application comes out of the stream: the newest snapshot first if there is one, then
    /// the commands behind it.
    ///
    /// # Errors
    ///
    /// The configuration is out of range; the directory is another member's, damaged, of a newer version or in
    /// use; or the system refuses something.
    pub fn spawn(
        config: Config,
        transport: Transport,
        storage: Directory,
    ) -> Result<(Handle, AppliedStream), SpawnError> {
        config.validate().map_err(SpawnError::Config)?;
        let open = |source| SpawnError::Open {
            path: storage.path.clone(),
            source,
        };
        let disk = RealDisk::open(&storage.path).map_err(|source| {
            open(OpenError::Io {
                file: "LOCK".into(),
                source,
            })
        })?;
        let incarnation = Incarnation(u128::from(random()?) << 64 | u128::from(random()?));
        let (files, restored) = Durable::open(Arc::new(disk), &config, incarnation).map_err(open)?;
        let bindings = files.bindings().map_err(open)?;
        let process = random()?;
        let began = Instant::now();
        let machine = Machine::new(&config, restored, process, 0)?;

        let poll = Poll::new().map_err(system("making a poll"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(system("making a waker"))?;
        let listen = transport
            .local_addr()
            .map_err(system("asking for the listening address"))?;
        let peers = PeerConfig {
            identity: files.identity(),
            process,
            listen,
            addresses: transport
                .peers
                .iter()
                .map(|(id, address)| (StoreId(id.0), address.clone()))
                .collect(),
            client_address: String::new(),
            http_address: String::new(),
            frame_bytes_max: FRAME_BYTES_MAX_DEFAULT,
            first_token: WAKER.0 + 1,
        };
        let registry = poll
            .registry()
            .try_clone()
            .map_err(system("cloning a registry"))?;
        let resolver = Box::new(SystemResolver::default());
        let peers = Peers::with_listener(peers, transport.listener, bindings.clone(), registry, resolver)
            .map_err(system("listening"))?;

        let inbox = Arc::new(Inbox::new(waker));
        let queue = Arc::new(Queue::default());
        let board = Arc::new(Board::default());
        let disk = DiskThread::spawn(files, Arc::clone(&inbox)).map_err(system("starting a thread"))?;
        *board.status.lock().unwrap_or_else(PoisonError::into_inner) = machine.status();
        let reactor = Reactor {
            machine,
            peers,
            bindings,
            poll,
            inbox: Arc::clone(&inbox),
            disk,
            queue: Arc::clone(&queue),
            board: Arc::clone(&board),
            began,
            waiters: Waiters::default(),
        };
        let thread = std::thread::Builder::new()
            .name("quorate-node".into())
            .spawn(move || reactor.run())
            .map_err(system("starting a thread"))?;
        let stream = AppliedStream {
            queue,
            inbox: Arc::clone(&inbox),
        };
        let member = Member {
            inbox,
            board,
            thread: Mutex::new(Some(thread)),
        };
        Ok((
            Handle {
                member: Arc::new(member),
            },
            stream,
        ))
    }
}

impl Handle {
    /// Starts a command. On success it has been appended to this leader's log, and nothing more is known:
    /// [`crate::Applied`] says how its outcome is found out.
    ///
    /// # Errors
    ///
    /// See [`StartError`]: whatever it is except [`StartError::Stopped`], the command is not applied.
    pub fn start(&self, command: impl Into<Bytes>) -> Result<Started, StartError> {
        let command = command.into();
        self.ask(|answer| Request::Start(command, answer))
            .unwrap_or(Err(StartError::Stopped))
    }

    /// The term, and whether this member leads as far as it knows: another may lead in a later term already.
    #[must_use]
    pub fn state(&self) -> (Term, bool) {
        let status = self
            .member
            .board
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (status.term, status.is_leader())
    }

    /// The member's account of itself, as of its last turn.
    #[must_use]
    pub fn status(&self) -> Status {
        self.member
            .board
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Gives a snapshot of the application's state as of command `index`, at most the last one taken from the
    /// stream. Once it is durable the log forgets what it covers. One that is older than the newest, or that
    /// comes while one is being written, is ignored.
    ///
    /// # Errors
    ///
    /// See [`SnapshotError`].
    pub fn snapshot(&self, index: CommandIndex, state: impl Into<Bytes>) -> Result<(), SnapshotError> {
        let state = state.into();
        self.ask(|answer| Request::Snapshot(index, state, answer))
            .unwrap_or(Err(SnapshotError::Stopped))
    }

    /// Waits until reads are linearizable: whoever has applied the command that is returned, and all before it,
    /// may answer a read that came before this call, from any member. Costs a round of messages, which all
    /// reads of the moment share, and no write.
    ///
    /// # Errors
    ///
    /// See [`ReadError`].
    pub fn read_barrier(&self) -> Result<CommandIndex, ReadError> {
        self.ask(Request::Read).unwrap_or(Err(ReadError::Stopped))
    }

    /// Changes the membership, and waits until the change is in effect here. Several changes go through a joint
    /// configuration, which is left by itself. A voter that is added with an empty log counts for the quorum at
    /// once: add it as a learner first and make it a voter when [`Status::matched`] shows that it has caught up.
    ///
    /// # Errors
    ///
    /// See [`ChangeError`].
    pub fn change(&self, changes: impl Into<Vec<Change>>) -> Result<Membership, ChangeError> {
        let changes = changes.into();
        self.ask(|answer| Request::Change(changes, answer))
            .unwrap_or(Err(ChangeError::Stopped))
    }

    /// Adds a learner, which gets the log and does not vote. See [`Handle::change`].
    ///
    /// # Errors
    ///
    /// As [`Handle::change`].
    pub fn add_learner(&self, id: NodeId, address: impl Into<String>) -> Result<Membership, ChangeError> {
        let address = address.into();
        self.change([Change::AddLearner { id, address }])
    }

    /// Adds a voter, or makes one of a learner. See [`Handle::change`].
    ///
    /// # Errors
    ///
    /// As [`Handle::change`].
    pub fn add_voter(&self, id: NodeId, address: impl Into<String>) -> Result<Membership, ChangeError> {
        let address = address.into();
        self.change([Change::AddVoter { id, address }])
    }

    /// Removes a member for ever. See [`Handle::change`].
    ///
    /// # Errors
    ///
    /// As [`Handle::change`].
    pub fn remove(&self, id: NodeId) -> Result<Membership, ChangeError> {
        self.change([Change::Remove { id }])
    }

    /// Puts a voter in the place of a member, in one step. See [`Handle::change`].
    ///
    /// # Errors
    ///
    /// As [`Handle::change`].
    pub fn replace(
        &self,
        old: NodeId,
        new: NodeId,
        address: impl Into<String>,
    ) -> Result<Membership, ChangeError> {
        let add = Change::AddVoter {
            id: new,
            address: address.into(),
        };
        self.change([add, Change::Remove { id: old }])
    }

    /// Hands leadership to a voter, and waits until it leads. Meanwhile nothing can be started.
    ///
    /// # Errors
    ///
    /// See [`TransferError`].
    pub fn transfer(&self, to: NodeId) -> Result<(), TransferError> {
        self.ask(|answer| Request::Transfer(to, answer))
            .unwrap_or(Err(TransferError::Stopped))
    }

    /// Stops the member, and waits until its threads, sockets and files are gone. The stream ends when the rest
    /// of it is taken. Nothing that was acknowledged is lost: a member may as well be killed.
    pub fn shutdown(&self) {
        self.member.stop();
    }

    /// Why the member stopped, if it did so by itself.
    #[must_use]
    pub fn failure(&self) -> Option<Arc<FatalError>> {
        self.member
            .board
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks the node's thread; `None` if it is gone.
    fn ask<T>(&self, request: impl FnOnce(SyncSender<T>) -> Request) -> Option<T> {
        let (answer, answered) = sync_channel(1);
        self.member.inbox.push(request(answer));
        answered.recv().ok()
    }
}

impl Member {
    fn stop(&self) {
        self.inbox.push(Request::Stop);
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.take() {
            // A panic there has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop();
    }
}

fn random() -> Result<u64, SpawnError> {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(8) => Ok(u64::from_le_bytes(bytes)),
        Ok(n) => Err(system("drawing random bytes")(io::Error::other(format!(
            "only {n} of 8 bytes"
        )))),
        Err(error) => Err(system("drawing random bytes")(error.into())),
    }
}
