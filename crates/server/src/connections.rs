//! Client connections: sockets and their sessions.
//!
//! Readiness is edge-triggered: the kernel tells once that a socket has become readable or writable, and never
//! again until that has been used up. So what was told is remembered per connection (`readable`, `blocked`),
//! whatever the session wants at that moment, and a connection that may go on without a further edge is kept in
//! a list of its own ([`Connections::unfinished`]), which the reactor empties before it waits again.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::Buf;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use quorate_store::RouteMode;

use crate::client::ClientSession;

/// Bytes asked for in one read.
const READ_BYTES: usize = 64 << 10;
/// Reads of one connection in one turn, so that a fast client does not starve the others.
const READS_PER_TURN: usize = 4;
/// Bits of a connection's id that name its place; the rest count its uses.
const PLACE_BITS: u32 = 20;
/// Most connections at a time.
pub(crate) const CONNECTIONS_MAX: usize = (1 << PLACE_BITS) - FREE_PLACES_MIN;
/// A place is used again only when this many are free, the one that is free for the longest first: an id comes
/// back only after four million connections, when no answer to the old one's requests can be left.
const FREE_PLACES_MIN: usize = 1024;
/// A client that is silent for so long is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(300);

/// One connection.
pub(crate) struct Connection {
    socket: TcpStream,
    pub(crate) session: ClientSession,
    id: u32,
    /// The kernel may have more to read.
    readable: bool,
    /// The end of the input, or an error, lies behind what can be read. It is told together with the last data
    /// and not again, so reading goes on until it is found.
    ending: bool,
    /// The client will send no more.
    ended: bool,
    /// The socket is of no use in either direction.
    broken: bool,
    /// The last write filled the socket.
    blocked: bool,
    /// In the list of connections to flush.
    dirty: bool,
    /// In the list of connections to read.
    queued: bool,
}

/// All connections, by place.
pub(crate) struct Connections {
    first_token: usize,
    places: Vec<Option<Box<Connection>>>,
    uses: Vec<u32>,
    free: VecDeque<usize>,
    /// Connections that may have output or a reason to close.
    dirty: Vec<usize>,
    /// Connections that may have input, on the wire or in their buffer.
    queued: Vec<usize>,
    open: usize,
    bytes_in: u64,
    bytes_out: u64,
    scratch: Box<[u8]>,
}

impl Connections {
    pub(crate) fn new(first_token: usize) -> Self {
        Self {
            first_token,
            places: Vec::new(),
            uses: Vec::new(),
            free: VecDeque::new(),
            dirty: Vec::new(),
            queued: Vec::new(),
            open: 0,
            bytes_in: 0,
            bytes_out: 0,
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    /// Takes an accepted socket.
    pub(crate) fn add(
        &mut self,
        mut socket: TcpStream,
        registry: &Registry,
        peer: String,
        mode: RouteMode,
        wall_ms: u64,
    ) -> io::Result<()> {
        socket.set_nodelay(true)?;
        rustix::net::sockopt::set_tcp_keepidle(&socket, KEEPALIVE)?;
        rustix::net::sockopt::set_socket_keepalive(&socket, true)?;
        let at = self.take_place();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(&mut socket, Token(self.first_token + at), interest) {
            self.free.push_back(at);
            return Err(error);
        }
        self.uses[at] = self.uses[at].wrapping_add(1) & ((1 << (32 - PLACE_BITS)) - 1);
        let id = (self.uses[at] << PLACE_BITS) | at as u32;
        self.places[at] = Some(Box::new(Connection {
            socket,
            session: ClientSession::new(id, peer, mode, wall_ms),
            id,
            readable: false,
            ending: false,
            ended: false,
            broken: false,
            blocked: false,
            dirty: false,
            queued: false,
        }));
        self.open += 1;
        Ok(())
    }

    fn take_place(&mut self) -> usize {
        if self.free.len() >= FREE_PLACES_MIN
            && let Some(at) = self.free.pop_front()
        {
            return at;
        }
        self.places.push(None);
        self.uses.push(0);
        self.places.len() - 1
    }

    /// Connections that are open now.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Bytes ever received and sent.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.bytes_in, self.bytes_out)
    }

    /// The place of a connection that is still the one with this id.
    pub(crate) fn place_of(&self, id: u32) -> Option<usize> {
        let at = (id & ((1 << PLACE_BITS) - 1)) as usize;
        self.places
            .get(at)?
            .as_ref()
            .filter(|connection| connection.id == id)
            .map(|_| at)
    }

    pub(crate) fn get(&mut self, at: usize) -> Option<&mut Connection> {
        self.places.get_mut(at)?.as_deref_mut()
    }

    /// Remembers what the kernel tells of a connection.
    pub(crate) fn note(&mut self, event: &Event) {
        let Some(at) = event.token().0.checked_sub(self.first_token) else {
            return;
        };
        let Some(connection) = self.get(at) else { return };
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            connection.readable = true;
            connection.ending |= event.is_read_closed() || event.is_error();
            self.queue(at);
        }
        if event.is_writable()
            && let Some(connection) = self.get(at)
            && std::mem::take(&mut connection.blocked)
        {
            self.touch(at);
        }
    }

    /// Marks a connection for [`Connections::take_queued`].
    fn queue(&mut self, at: usize) {
        if let Some(connection) = self.get(at)
            && !std::mem::replace(&mut connection.queued, true)
        {
            self.queued.push(at);
        }
    }

    /// Marks a connection for [`Connections::flush`].
    pub(crate) fn touch(&mut self, at: usize) {
        if let Some(connection) = self.get(at)
            && !std::mem::replace(&mut connection.dirty, true)
        {
            self.dirty.push(at);
        }
    }

    /// Whether a connection can go on without a further event.
    pub(crate) fn unfinished(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Takes the places of the connections that may have input.
    pub(crate) fn take_queued(&mut self, into: &mut Vec<usize>) {
        for at in std::mem::take(&mut self.queued) {
            if let Some(connection) = self.get(at) {
                connection.queued = false;
                into.push(at);
            }
        }
    }

    /// Whether the session has bytes that it has not taken: part of a command, or commands for which there was
    /// too much under way.
    pub(crate) fn has_input(&mut self, at: usize) -> bool {
        self.get(at)
            .is_some_and(|connection| !connection.session.input().is_empty())
    }

    /// Reads what the socket has, as far as the session wants it. Returns whether the session got something.
    pub(crate) fn read(&mut self, at: usize) -> bool {
        let Some(connection) = self.places.get_mut(at).and_then(Option::as_deref_mut) else {
            return false;
        };
        let mut got = false;
        for _ in 0..READS_PER_TURN {
            if !connection.readable || connection.ended || !connection.session.wants_read() {
                break;
            }
            match connection.socket.read(&mut self.scratch) {
                Ok(0) => connection.ended = true,
                Ok(n) => {
                    connection.session.input().extend_from_slice(&self.scratch[..n]);
                    self.bytes_in += n as u64;
                    got = true;
                    // A short read has emptied the socket; the next byte raises a new event.
                    connection.readable = n == self.scratch.len() || connection.ending;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => connection.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    connection.ended = true;
                    connection.broken = true;
                }
            }
        }
        // Flushing decides what becomes of it: closed, read again, or left alone.
        self.touch(at);
        got
    }

    /// Sends what the touched connections have, one write each; closes those that are done, and queues those
    /// that can go on without a further event.
    pub(crate) fn flush(&mut self, registry: &Registry) {
        while let Some(at) = self.dirty.pop() {
            let Some(connection) = self.places.get_mut(at).and_then(Option::as_deref_mut) else {
                continue;
            };
            connection.dirty = false;
            let held = !connection.session.wants_read();
            self.bytes_out += connection.write();
            let session = &mut connection.session;
            // Room for more replies: what the session has not parsed yet goes on.
            let resumes = held && session.wants_read();
            let drained = session.output().is_empty();
            let done = session.closing() && drained;
            // A client that will send no more still gets its replies, whether it listens or not: if it does not,
            // the first one breaks the connection.
            let gone = connection.ended && session.idle() && !resumes;
            if connection.broken || done || gone {
                self.close(at, registry);
            } else if resumes
                || session.paused()
                || connection.readable && !connection.ended && session.wants_read()
            {
                self.queue(at);
            }
        }
    }

    fn close(&mut self, at: usize, registry: &Registry) {
        if let Some(mut connection) = self.places.get_mut(at).and_then(Option::take) {
            // The socket is closed by being dropped; that also ends its registration.
            let _ = registry.deregister(&mut connection.socket);
            self.free.push_back(at);
            self.open -= 1;
        }
    }
}

impl Connection {
    /// Writes as much as the socket takes; returns how many bytes that was.
    fn write(&mut self) -> u64 {
        let mut sent = 0;
        while !self.blocked && !self.broken && !self.session.output().is_empty() {
            match self.socket.write(self.session.output()) {
                Ok(0) => self.broken = true,
                Ok(n) => {
                    // A short write has filled the socket; room raises a new event.
                    self.blocked = n < self.session.output().len();
                    self.session.output().advance(n);
                    sent += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.broken = true,
            }
        }
        sent
    }
}

#[cfg(test)]
mod tests;
