//! The reactor: one thread that owns the client sockets, the peer sockets and the store, and drives them turn by
//! turn.
//!
//! A turn: read all, hand it to the store, send appends, apply and reply, then write the log, then send the
//! acknowledgements (design: "Threads"). Nothing on it sleeps or waits for anything but the log write, and that
//! one moves to a thread of its own when syncs are slow.

use std::io::{ErrorKind, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use quorate_proto::{Answer, Outcome, PeerMessage, Response};
use quorate_storage::StoreId;
use quorate_storage::engine::{BufferedEngine, Engine};
use quorate_store::{ClientOutcome, ClientRequest, Input, Registration, RequestId, Store, StoreError, Times};
use quorate_transport::{Channel, PeerEvent, Peers};

use crate::address_book::AddressBook;
use crate::client::{ClientContext, ClientSession, NodeCommand};
use crate::config::{HostPort, ServerConfig};
use crate::connections::{CONNECTIONS_MAX, Connections};
use crate::engine_worker::EngineWorker;
use crate::log_writer::LogWriter;
use crate::run::RunError;
use crate::status::{Counters, Shared};
use crate::view::ViewKeeper;
use crate::{clock, node_command, publish};

/// Completions of other threads.
pub(crate) const WAKE: Token = Token(0);
const LISTENER: Token = Token(1);
const FIRST_CLIENT_TOKEN: usize = 2;
/// Tokens from here on are the transport's.
pub(crate) const FIRST_PEER_TOKEN: usize = 1 << 24;
/// Polls before a sync, and the log operations that must be waiting for them to be worth it.
const GATHER_ROUNDS: usize = 4;
const GATHER_ENTRIES: usize = 2;
/// Events taken by one poll.
const EVENTS: usize = 1024;
/// A stopping node waits this long for what is in flight.
const DRAIN_US: u64 = 2_000_000;
/// With nothing in flight it waits this long for others to take its leaderships: that is a matter of
/// milliseconds, or nobody is there to take them because all stop at once.
const HAND_OVER_US: u64 = 1_000_000;
/// Answers to forwards from this size on take the connection for bulk data.
const BULK_BYTES_MIN: usize = 256 << 10;
/// Connections accepted in one turn.
const ACCEPTS_PER_TURN: usize = 128;

const _: () = assert!(
    FIRST_CLIENT_TOKEN + CONNECTIONS_MAX < FIRST_PEER_TOKEN,
    "every client's token is below the peers'"
);

/// What a reactor is made of.
pub(crate) struct Parts {
    pub(crate) config: ServerConfig,
    pub(crate) poll: Poll,
    pub(crate) listener: TcpListener,
    pub(crate) store: Store<BufferedEngine>,
    pub(crate) peers: Peers,
    pub(crate) log: LogWriter,
    pub(crate) engine: EngineWorker,
    pub(crate) shared: Arc<Shared>,
    pub(crate) shutdown: Arc<AtomicBool>,
    pub(crate) view: ViewKeeper,
    pub(crate) book: AddressBook,
}

/// Microseconds between two looks at the space that the log's disk has left.
const DISK_LOOK_US: u64 = 500_000;

pub(crate) struct Reactor {
    config: ServerConfig,
    poll: Poll,
    listener: TcpListener,
    /// The listener may have more connections than were accepted, and will not tell again.
    accept_more: bool,
    pub(crate) store: Store<BufferedEngine>,
    pub(crate) peers: Peers,
    pub(crate) connections: Connections,
    pub(crate) log: LogWriter,
    engine: EngineWorker,
    pub(crate) shared: Arc<Shared>,
    shutdown: Arc<AtomicBool>,
    pub(crate) view: ViewKeeper,
    book: AddressBook,
    pub(crate) counters: Counters,
    pub(crate) times: Times,
    /// Taken out while it is used; see [`Reactor::gather`].
    events: Events,
    next_tick_us: u64,
    pub(crate) next_publish_us: u64,
    next_disk_look_us: u64,
    /// When the node began to stop.
    stopping_us: Option<u64>,
    // Empty between turns (`peer_events` mostly); kept for their allocations.
    requests: Vec<ClientRequest>,
    node_commands: Vec<NodeCommand>,
    peer_events: Vec<PeerEvent>,
    sends: Vec<(StoreId, PeerMessage)>,
    replies: Vec<(RequestId, ClientOutcome)>,
    queued: Vec<usize>,
}

impl Reactor {
    pub(crate) fn new(parts: Parts) -> Result<Self, RunError> {
        let Parts {
            config,
            poll,
            mut listener,
            store,
            peers,
            log,
            engine,
            shared,
            shutdown,
            view,
            book,
        } = parts;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(RunError::os("epoll"))?;
        let times = clock::now();
        Ok(Self {
            config,
            poll,
            listener,
            accept_more: false,
            store,
            peers,
            connections: Connections::new(FIRST_CLIENT_TOKEN),
            log,
            engine,
            shared,
            shutdown,
            view,
            book,
            counters: Counters::default(),
            times,
            events: Events::with_capacity(EVENTS),
            next_tick_us: times.mono_us,
            next_publish_us: times.mono_us,
            next_disk_look_us: times.mono_us,
            stopping_us: None,
            requests: Vec::new(),
            node_commands: Vec::new(),
            peer_events: Vec::new(),
            sends: Vec::new(),
            replies: Vec::new(),
            queued: Vec::new(),
        })
    }

    pub(crate) fn run(mut self) -> Result<(), RunError> {
        let told = |address: &HostPort| Bytes::from(address.to_string());
        let registration = Registration {
            client: told(&self.config.advertise_listen),
            peer: told(&self.config.advertise_peer),
            http: told(&self.config.advertise_http),
            labels: self.config.labels.clone(),
            roles: self.config.roles,
        };
        self.store.handle(self.times, Input::Register(registration))?;
        loop {
            // Whatever can go on without an event must not wait for one.
            let timeout = if self.connections.unfinished() || self.accept_more || !self.peer_events.is_empty()
            {
                Duration::ZERO
            } else {
                Duration::from_micros(self.next_tick_us.saturating_sub(clock::now().mono_us))
            };
            let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
            let polled = self.poll.poll(&mut events, Some(timeout));
            if let Err(error) = polled
                && error.kind() != ErrorKind::Interrupted
            {
                return Err(RunError::os("epoll")(error));
            }
            let taken = self.take_events(&events);
            self.events = events;
            taken?;
            self.turn()?;
            if self.tick()? {
                return Ok(());
            }
        }
    }

    /// Reads everything that is ready, and hands it to the store.
    fn take_events(&mut self, events: &Events) -> Result<(), RunError> {
        for event in events {
            match event.token() {
                WAKE => {}
                LISTENER => self.accept_more = true,
                token if self.peers.owns(token) => {
                    self.peers
                        .on_event(event, self.times.mono_us, &mut self.peer_events);
                }
                _ => self.connections.note(event),
            }
        }
        if self.accept_more {
            self.accept();
        }
        let mut queued = std::mem::take(&mut self.queued);
        self.connections.take_queued(&mut queued);
        for &at in &queued {
            // First what it sent before, so that a client which sends faster than it is served fills the
            // socket and not our memory. The times are later than those bytes.
            if self.connections.has_input(at) {
                self.process(at)?;
            }
        }
        queued.retain(|&at| self.connections.read(at));
        // After the last input: leases and vote refusals count on it (L1, L2).
        self.times = clock::now();
        if let Some(token) = self.log.completed()? {
            self.store.handle(self.times, Input::LogWritten { token })?;
        }
        if let Some(up_to) = self.engine.completed().map_err(StoreError::from)? {
            self.store.handle(self.times, Input::EngineDurable { up_to })?;
            self.log.maintain_now();
        }
        self.take_peer_events()?;
        for &at in &queued {
            self.process(at)?;
        }
        queued.clear();
        self.queued = queued;
        Ok(())
    }

    fn accept(&mut self) {
        self.accept_more = false;
        for _ in 0..ACCEPTS_PER_TURN {
            match self.listener.accept() {
                Ok((socket, address)) => self.welcome(socket, address.to_string()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // This one is gone already; the next may not be.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    // Out of file descriptors, for example. Those who wait are tried again with the next tick.
                    tracing::warn!(%error, "client connection cannot be accepted");
                    return;
                }
            }
        }
        self.accept_more = true;
    }

    fn welcome(&mut self, mut socket: TcpStream, address: String) {
        let refusal: &[u8] = if self.stopping_us.is_some() {
            b"-ERR the node is shutting down\r\n"
        } else if self.connections.open() >= self.config.connections_max.min(CONNECTIONS_MAX) {
            b"-ERR max number of clients reached\r\n"
        } else {
            let (mode, wall_ms) = (self.view.view().mode_default, self.times.wall_ms);
            match self
                .connections
                .add(socket, self.poll.registry(), address, mode, wall_ms)
            {
                Ok(()) => self.counters.connections_accepted += 1,
                Err(error) => tracing::warn!(%error, "client connection not taken"),
            }
            return;
        };
        self.counters.connections_refused += 1;
        // Best effort: the socket's buffer is empty, so this either fits or the client is gone.
        let _ = socket.write(refusal);
    }

    fn take_peer_events(&mut self) -> Result<(), RunError> {
        let mut events = std::mem::take(&mut self.peer_events);
        for event in events.drain(..) {
            match event {
                PeerEvent::Message { from, message } => {
                    self.store.handle(self.times, Input::Peer { from, message })?;
                }
                PeerEvent::Up {
                    store,
                    client_address,
                    http_address,
                    ..
                } => {
                    self.view.peer_up(store, &client_address, &http_address);
                    self.store.handle(self.times, Input::PeerUp { store })?;
                }
                PeerEvent::Down { store } => {
                    self.view.peer_down(store);
                    self.store.handle(self.times, Input::PeerDown { store })?;
                }
                PeerEvent::Bind { store, incarnation } => {
                    self.store.bind_peer(store, incarnation)?;
                    // Rare enough to wait for: the binding must outlive a crash (P7).
                    self.store
                        .engine()
                        .durability()
                        .make_durable()
                        .map_err(StoreError::from)?;
                }
                PeerEvent::Refused {
                    reason, fatal: true, ..
                } => return Err(RunError::Refused(reason)),
                // The transport has logged it.
                PeerEvent::Refused { fatal: false, .. } => {}
            }
        }
        self.peer_events = events;
        Ok(())
    }

    /// Lets a session parse, and hands its requests to the store, a few at a time: what is answered at once is
    /// seen before more is asked.
    fn process(&mut self, at: usize) -> Result<(), RunError> {
        loop {
            self.with_session(at, |session, context| session.process(context));
            self.hand_over()?;
            if !self
                .connections
                .get(at)
                .is_some_and(|connection| connection.session.paused())
            {
                return Ok(());
            }
            self.reply()?;
        }
    }

    /// Brings a session what it waits for. A connection that is gone waits for nothing.
    fn complete(&mut self, id: RequestId, bring: impl FnOnce(&mut ClientSession, &mut ClientContext<'_>)) {
        if let Some(at) = self.connections.place_of(ClientSession::connection_of(id)) {
            self.with_session(at, bring);
        }
    }

    fn with_session(&mut self, at: usize, work: impl FnOnce(&mut ClientSession, &mut ClientContext<'_>)) {
        let Some(connection) = self.connections.get(at) else {
            return;
        };
        let mut context = ClientContext {
            node: self.view.view(),
            wall_ms: self.times.wall_ms,
            requests: &mut self.requests,
            node_commands: &mut self.node_commands,
        };
        work(&mut connection.session, &mut context);
        self.counters.commands += connection.session.take_commands();
        self.connections.touch(at);
    }

    /// Gives the store what sessions asked for.
    fn hand_over(&mut self) -> Result<(), RunError> {
        loop {
            let mut requests = std::mem::take(&mut self.requests);
            for request in requests.drain(..) {
                self.store.handle(self.times, Input::Client(request))?;
            }
            self.requests = requests;
            if self.node_commands.is_empty() {
                return Ok(());
            }
            for command in std::mem::take(&mut self.node_commands) {
                let reply = node_command::run(&self.store, self.times, &command)?;
                self.complete(command.id, |session, context| {
                    session.complete_raw(command.id, reply);
                    session.process(context);
                });
            }
        }
    }

    /// One turn of the store, until nothing is left to do but to wait.
    fn turn(&mut self) -> Result<(), RunError> {
        self.counters.turns += 1;
        loop {
            self.work()?;
            self.gather()?;
            if !self.write_log()? && !self.store.has_work() {
                break;
            }
        }
        self.view.follow_routes(&self.store);
        Ok(())
    }

    /// Everything that can be done without the log.
    fn work(&mut self) -> Result<(), RunError> {
        while self.store.has_work() {
            self.store.advance(self.times)?;
            // Followers work on it while we apply.
            self.send();
            self.store.apply(self.times)?;
            self.reply()?;
        }
        self.send();
        self.reply()?;
        self.follow_book()?;
        // Before the sync: what is decided must not wait for what is not.
        self.connections.flush(self.poll.registry());
        Ok(())
    }

    /// Before a sync that several entries will share anyway, lets more of them come: nodes that share cores are
    /// about to send some (measured: docs/performance.md). A lone entry waits for nobody.
    fn gather(&mut self) -> Result<(), RunError> {
        for _ in 0..GATHER_ROUNDS {
            let entries: usize = self
                .store
                .effects()
                .log
                .iter()
                .map(|(_, batch)| batch.ops.len())
                .sum();
            if entries < GATHER_ENTRIES {
                break;
            }
            std::thread::yield_now();
            let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
            let polled = self.poll.poll(&mut events, Some(Duration::ZERO));
            let came = polled.is_ok() && !events.is_empty();
            let taken = if came { self.take_events(&events) } else { Ok(()) };
            self.events = events;
            taken?;
            if !came {
                break;
            }
            self.work()?;
        }
        Ok(())
    }

    /// There are new stores, or they have other addresses, as the controller says.
    fn follow_book(&mut self) -> Result<(), RunError> {
        let Some(stores) = self.store.effects().stores.take() else {
            return Ok(());
        };
        for record in &stores {
            self.view.meet(record);
        }
        for (store, address) in self.book.update(&stores)? {
            match &address {
                Some(address) => tracing::info!(%store, address, "peer address"),
                None => tracing::info!(%store, "store removed"),
            }
            self.peers.set_address(store, address.as_deref());
        }
        Ok(())
    }

    fn send(&mut self) {
        std::mem::swap(&mut self.sends, &mut self.store.effects().sends);
        if self.sends.is_empty() {
            return;
        }
        for (to, message) in self.sends.drain(..) {
            // A message that is not taken is a lost message; Raft copes, requests have deadlines.
            let _ = match message {
                // A snapshot that finds its own connection down goes with the rest: a heartbeat that waits for
                // a chunk is better than a chunk that nobody misses for seconds.
                PeerMessage::SnapshotChunk(_) | PeerMessage::SnapshotAck(_) => {
                    self.peers.send(to, Channel::Bulk, &message)
                        || self.peers.send(to, Channel::Raft, &message)
                }
                // So do large values: many of them at once must not fill the way of the heartbeats.
                PeerMessage::Response(Response {
                    outcome: Outcome::Done(Answer::Bulk(ref value)),
                    ..
                }) if value.len() >= BULK_BYTES_MIN => {
                    self.peers.send(to, Channel::Bulk, &message)
                        || self.peers.send(to, Channel::Raft, &message)
                }
                PeerMessage::Raft(_)
                | PeerMessage::Request(_)
                | PeerMessage::Response(_)
                | PeerMessage::SnapshotRequest(_)
                | PeerMessage::SnapshotReport(_)
                | PeerMessage::TermQuery(_)
                | PeerMessage::TermAnswer(_)
                | PeerMessage::ShardInfo(_)
                | PeerMessage::ShardQuery { .. }
                | PeerMessage::StoreHealth(_)
                | PeerMessage::Heartbeat(_)
                | PeerMessage::HeartbeatAnswer(_)
                | PeerMessage::Survivors(_)
                | PeerMessage::Recover(_) => self.peers.send(to, Channel::Raft, &message),
            };
        }
        self.peers.flush(&mut self.peer_events);
    }

    fn reply(&mut self) -> Result<(), RunError> {
        loop {
            let mut replies = std::mem::take(&mut self.replies);
            std::mem::swap(&mut replies, &mut self.store.effects().replies);
            let any = !replies.is_empty();
            for (id, outcome) in replies.drain(..) {
                match outcome {
                    ClientOutcome::NotApplied(_) => self.counters.outcomes_not_applied += 1,
                    ClientOutcome::Unknown(_) => self.counters.outcomes_unknown += 1,
                    ClientOutcome::Done(_) | ClientOutcome::Redirect { .. } => {}
                }
                self.complete(id, |session, context| session.complete(id, outcome, context));
            }
            self.replies = replies;
            if !any {
                return Ok(());
            }
            // Sessions may have gone on because of it.
            self.hand_over()?;
        }
    }

    /// Writes the turn's log; returns whether it is durable already.
    fn write_log(&mut self) -> Result<bool, RunError> {
        if let Some(up_to) = self.store.effects().make_durable.take() {
            self.engine.make_durable(up_to);
        }
        let Some(token) = self.log.submit(&mut self.store.effects().log)? else {
            return Ok(false);
        };
        self.times = clock::now();
        self.store.handle(self.times, Input::LogWritten { token })?;
        Ok(true)
    }

    /// What is due by the clock. Returns whether the node has stopped.
    fn tick(&mut self) -> Result<bool, RunError> {
        self.times = clock::now();
        if self.times.mono_us < self.next_tick_us {
            return Ok(false);
        }
        // Counted from now, not from when it was due: two ticks are never closer than a tick (L1, L2).
        self.next_tick_us = self.times.mono_us + u64::from(self.config.tick_ms) * 1000;
        self.accept();
        self.peers.on_timer(self.times.mono_us, &mut self.peer_events);
        self.take_peer_events()?;
        if self.shutdown.load(Ordering::Relaxed) && self.stopping_us.is_none() {
            tracing::info!("shutting down");
            self.stopping_us = Some(self.times.mono_us);
            self.shared.set_stopping();
            self.store.handle(self.times, Input::Shutdown)?;
        }
        self.look_at_disk()?;
        self.store.handle(self.times, Input::Tick)?;
        self.turn()?;
        self.view.refresh(&self.connections, &self.counters);
        publish::status(self);
        let stopped = self.stopping_us.is_some_and(|since| self.has_drained(since));
        if stopped {
            // Whoever still waits is told so, rather than cut off.
            self.store.abandon();
            self.send();
            self.reply()?;
            self.connections.flush(self.poll.registry());
            // So that the next start has nothing to replay, and who looks at the directory sees all that was applied.
            self.store
                .engine()
                .durability()
                .make_durable()
                .map_err(StoreError::from)?;
        }
        Ok(stopped)
    }

    /// Tells the store how much space the log's disk has left (H1).
    fn look_at_disk(&mut self) -> Result<(), RunError> {
        if self.times.mono_us < self.next_disk_look_us {
            return Ok(());
        }
        self.next_disk_look_us = self.times.mono_us + DISK_LOOK_US;
        let Some(available_bytes) = self.log.available_bytes() else {
            return Ok(());
        };
        let before = self.store.health().is_full;
        self.store
            .handle(self.times, Input::DiskSpace { available_bytes })?;
        let is_full = self.store.health().is_full;
        let low_space_bytes = self.config.low_space_bytes;
        match (before, is_full) {
            (false, true) => tracing::warn!(
                available_bytes,
                low_space_bytes,
                "disk nearly full: this store leads nothing and accepts only deletes"
            ),
            (true, false) => tracing::info!(available_bytes, "disk has space again"),
            _ => {}
        }
        if is_full {
            // What log GC has freed is found, and a segment that could not be made is tried again.
            self.log.maintain_now();
        }
        Ok(())
    }

    fn has_drained(&self, since_us: u64) -> bool {
        let (drained, under_way) = (self.store.is_drained(), self.store.under_way());
        let patience_us = if under_way == 0 { HAND_OVER_US } else { DRAIN_US };
        if !drained && self.times.mono_us < since_us + patience_us {
            return false;
        }
        tracing::info!(drained, under_way, "node stopped");
        true
    }
}
