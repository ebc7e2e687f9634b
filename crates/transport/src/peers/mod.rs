//! All connections of a node: the front door.

mod dialing;
mod handshake;
mod reading;
mod timer;

use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;

use mio::event::Event;
use mio::net::TcpListener;
use mio::{Interest, Registry, Token};
use quorate_proto::PeerMessage;
use quorate_storage::{Incarnation, StoreId};

use crate::admission::Bindings;
use crate::backoff::{GOOD_US, Random};
use crate::close::Close;
use crate::connection::{Connection, Phase};
use crate::greeting::ADDRESS_BYTES_MAX;
use crate::resolve::{Resolve, SystemResolver};
use crate::{Channel, PeerCodec, PeerConfig, PeerEvent, PeerStats};
use dialing::Dial;

/// A connection with more than this waiting to be sent is closed: the peer does not keep up, and Raft brings
/// it up to date from the log or by a snapshot for less memory.
const PENDING_BYTES_MAX: usize = 256 << 20;
/// After this much from one connection the others get their turn.
const READ_BYTES_MAX: usize = 4 << 20;

/// The connections to all peers. Owned and driven by one thread; see the crate's documentation.
pub struct Peers<M = PeerMessage> {
    config: PeerConfig,
    bindings: Bindings,
    registry: Registry,
    listener: TcpListener,
    /// Accepting failed for want of something (file descriptors, memory): tried again with the timer.
    accept_again: bool,
    resolver: Box<dyn Resolve>,
    random: Random,
    /// By token. Tokens are not reused, so a late event of a closed connection finds nothing. Boxed because a
    /// connection is taken out while its input is worked on.
    connections: BTreeMap<usize, Box<Connection>>,
    next_token: usize,
    /// The connections that are up, and those to be dialed.
    links: BTreeMap<StoreId, [Link; 2]>,
    now_us: u64,
    timer_us: Option<u64>,
    /// [`PENDING_BYTES_MAX`] and [`READ_BYTES_MAX`], except in tests.
    pending_bytes_max: usize,
    read_bytes_max: usize,
    stats: PeerStats,
    /// What the frames carry.
    messages: PhantomData<M>,
}

/// One channel to one store.
#[derive(Default)]
struct Link {
    /// The token of the connection that is up.
    up: Option<usize>,
    /// It was up before.
    known: bool,
    /// How it is dialed, if this side dials.
    dial: Option<Dial>,
}

impl<M: PeerCodec> Peers<M> {
    /// Listens. Nothing is dialed before the first [`Peers::on_timer`].
    ///
    /// # Errors
    /// The address cannot be listened on; or the configuration is out of range.
    pub fn bind(
        config: PeerConfig,
        bindings: BTreeMap<StoreId, Incarnation>,
        registry: Registry,
    ) -> io::Result<Self> {
        Self::bind_with_resolver(config, bindings, registry, Box::new(SystemResolver::default()))
    }

    /// [`Peers::bind`] with another way to turn `host:port` into addresses.
    ///
    /// # Errors
    /// As [`Peers::bind`].
    pub fn bind_with_resolver(
        config: PeerConfig,
        bindings: BTreeMap<StoreId, Incarnation>,
        registry: Registry,
        resolver: Box<dyn Resolve>,
    ) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(config.listen)?;
        Self::with_listener(config, listener, bindings, registry, resolver)
    }

    /// [`Peers::bind_with_resolver`] on a socket that listens already; [`PeerConfig::listen`] is ignored.
    ///
    /// # Errors
    /// As [`Peers::bind`].
    pub fn with_listener(
        config: PeerConfig,
        listener: std::net::TcpListener,
        bindings: BTreeMap<StoreId, Incarnation>,
        registry: Registry,
        resolver: Box<dyn Resolve>,
    ) -> io::Result<Self> {
        let invalid = |what: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, what.to_owned()));
        if config.frame_bytes_max == 0 || u32::try_from(config.frame_bytes_max).is_err() {
            return invalid("frame_bytes_max must be from 1 to 2^32 - 1");
        }
        if config.client_address.len() > ADDRESS_BYTES_MAX || config.http_address.len() > ADDRESS_BYTES_MAX {
            return invalid("an advertised address is longer than 1024 bytes");
        }
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        registry.register(&mut listener, Token(config.first_token), Interest::READABLE)?;
        let own = config.identity.store;
        let mut links = BTreeMap::<StoreId, [Link; 2]>::new();
        for (&store, address) in config.addresses.range(..own) {
            links.insert(
                store,
                Channel::ALL.map(|_| Link {
                    dial: Some(Dial::to(address)),
                    ..Link::default()
                }),
            );
        }
        Ok(Peers {
            next_token: config.first_token + 1,
            random: Random::new(config.process ^ own.0),
            config,
            bindings,
            registry,
            listener,
            accept_again: false,
            resolver,
            connections: BTreeMap::new(),
            links,
            now_us: 0,
            timer_us: None,
            pending_bytes_max: PENDING_BYTES_MAX,
            read_bytes_max: READ_BYTES_MAX,
            stats: PeerStats::default(),
            messages: PhantomData,
        })
    }

    /// Where it listens: the port that was given for port 0.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Has a store dialed at another address from now on, or no more (`None`). Only stores with a lower id are
    /// dialed (see [`PeerConfig::addresses`]); a connection that is up stays.
    pub fn set_address(&mut self, store: StoreId, address: Option<&str>) {
        if store >= self.config.identity.store {
            return;
        }
        let links = self.links.entry(store).or_default();
        for link in links {
            match (&mut link.dial, address) {
                (Some(dial), Some(address)) => dial.redirect(address),
                (dial, Some(address)) => *dial = Some(Dial::to(address)),
                (dial, None) => *dial = None,
            }
        }
    }

    /// Whether an event with this token is for [`Peers::on_event`].
    #[must_use]
    pub fn owns(&self, token: Token) -> bool {
        token.0 >= self.config.first_token
    }

    /// Works on a readiness event: accepts, or reads all that is there and writes what waited.
    pub fn on_event(&mut self, event: &Event, now_us: u64, out: &mut Vec<PeerEvent<M>>) {
        self.now_us = now_us;
        if event.token().0 == self.config.first_token {
            self.accept();
            return;
        }
        let Some(mut connection) = self.connections.remove(&event.token().0) else {
            return;
        };
        match self.work(&mut connection, event, out) {
            Ok(()) => {
                self.connections.insert(connection.token.0, connection);
            }
            Err(reason) => self.close(*connection, &reason, out),
        }
    }

    /// Appends a message to what the next [`Peers::flush`] sends. False: there is no connection, or the message
    /// is longer than a frame may be; it is dropped.
    pub fn send(&mut self, to: StoreId, channel: Channel, message: &M) -> bool {
        let pushed = match self.up_mut(to, channel) {
            None => None,
            Some((connection, frame_bytes_max, pending_bytes_max)) => {
                let pushed = connection.push(frame_bytes_max, message);
                connection.overflowed |= connection.pending() > pending_bytes_max;
                Some(pushed)
            }
        };
        match pushed {
            Some(Ok(())) => self.stats.messages_out += 1,
            Some(Err(too_long)) => {
                self.stats.messages_dropped += 1;
                tracing::error!(%to, ?channel, bytes = too_long.0, "message too long for a frame, dropped");
            }
            None => self.stats.messages_dropped += 1,
        }
        matches!(pushed, Some(Ok(())))
    }

    /// Sends what [`Peers::send`] gathered, with one write per socket.
    pub fn flush(&mut self, out: &mut Vec<PeerEvent<M>>) {
        let mut broken = vec![];
        for connection in self.connections.values_mut() {
            if connection.overflowed {
                broken.push((connection.token.0, Close::Overflow(self.pending_bytes_max)));
            } else if let Err(error) = connection.write(self.now_us, &mut self.stats) {
                broken.push((connection.token.0, error.into()));
            }
        }
        self.close_all(broken, out);
    }

    /// Whether the Raft channel to a store is ready.
    #[must_use]
    pub fn is_up(&self, store: StoreId) -> bool {
        self.up(store, Channel::Raft).is_some_and(|c| !c.overflowed)
    }

    /// Bytes that wait for the socket of a channel; zero if it is not connected.
    #[must_use]
    pub fn pending_bytes(&self, to: StoreId, channel: Channel) -> usize {
        self.up(to, channel).map_or(0, Connection::pending)
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> PeerStats {
        self.stats
    }

    fn up(&self, store: StoreId, channel: Channel) -> Option<&Connection> {
        let token = self.links.get(&store)?[channel.position()].up?;
        self.connections.get(&token).map(Box::as_ref)
    }

    /// The connection if it takes messages, with the limits that apply.
    fn up_mut(&mut self, store: StoreId, channel: Channel) -> Option<(&mut Connection, usize, usize)> {
        let token = self.links.get(&store)?[channel.position()].up?;
        let connection = self.connections.get_mut(&token).filter(|c| !c.overflowed)?;
        Some((connection, self.config.frame_bytes_max, self.pending_bytes_max))
    }

    fn close_all(&mut self, broken: Vec<(usize, Close)>, out: &mut Vec<PeerEvent<M>>) {
        for (token, reason) in broken {
            if let Some(connection) = self.connections.remove(&token) {
                self.close(*connection, &reason, out);
            }
        }
    }

    /// Ends a connection that was taken out of the map: says so, and has it dialed again if that is ours to do.
    fn close(&mut self, mut connection: Connection, reason: &Close, out: &mut Vec<PeerEvent<M>>) {
        connection.deregister(&self.registry);
        let mut good = false;
        match connection.phase {
            Phase::Up {
                store,
                channel,
                since_us,
            } => {
                tracing::warn!(%store, ?channel, %reason, "peer connection lost");
                good = self.now_us.saturating_sub(since_us) >= GOOD_US;
                if let Some(links) = self.links.get_mut(&store) {
                    links[channel.position()].up = None;
                }
                if channel == Channel::Raft {
                    out.push(PeerEvent::Down { store });
                }
            }
            // Routine while a peer is down, and our own refusals were reported when they were made.
            Phase::Connecting | Phase::Ended => {
                tracing::debug!(dialed = ?connection.dialed, %reason, "peer connection closed");
            }
            Phase::AwaitHello | Phase::AwaitAccept(_) => {
                tracing::info!(dialed = ?connection.dialed, %reason, "peer handshake failed");
                if let Close::Greeting(error) = reason {
                    let store = connection.dialed.map(|(store, _)| store);
                    out.push(PeerEvent::Refused {
                        store,
                        reason: error.to_string(),
                        fatal: false,
                    });
                }
            }
        }
        if let Some((store, channel)) = connection.dialed {
            self.dial_later(store, channel, good);
        }
    }
}

#[cfg(test)]
mod tests;
