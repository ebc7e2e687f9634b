//! One connection of the load generator: bytes out, replies in.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use quorate_sim::linearizability::OperationId;

use super::plan::Kind;
use crate::client::resp::{self, Reply};

/// Room for replies; grows for larger ones.
const READ_BYTES: usize = 16 * 1024;

/// An operation under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Op {
    pub(super) kind: Kind,
    pub(super) key: u64,
    /// When it was first sent: a redirection is part of its latency.
    pub(super) start: Instant,
    /// Where it is written down, if a history is recorded and once it was sent.
    pub(super) recorded: Option<OperationId>,
}

/// A connection and what was sent on it without an answer yet.
pub(super) struct Conn {
    stream: TcpStream,
    /// The client that it belongs to.
    pub(super) client: usize,
    /// The node that it leads to, as numbered by the slot map.
    pub(super) node: usize,
    /// Oldest first: replies come in this order.
    pub(super) under_way: VecDeque<Op>,
    /// When bytes were last handed to it for sending; for the timeout.
    pub(super) sent_at: Instant,
    pub(super) out: Vec<u8>,
    written: usize,
    buf: Vec<u8>,
    /// `buf[begin..end]` is not decoded yet.
    begin: usize,
    end: usize,
}

impl Conn {
    /// Begins to connect; a failure to connect shows at the first read.
    pub(super) fn open(
        registry: &Registry,
        token: Token,
        addr: SocketAddr,
        client: usize,
        node: usize,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(addr)?;
        // Before the connection stands this works too, on Linux and on BSDs.
        stream.set_nodelay(true)?;
        // Edge-triggered and for both at once: no further system call until it is closed.
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            client,
            node,
            under_way: VecDeque::new(),
            sent_at: Instant::now(),
            out: Vec::new(),
            written: 0,
            buf: vec![0; READ_BYTES],
            begin: 0,
            end: 0,
        })
    }

    /// Sends what the socket takes; the rest goes when it is writable again.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(n) => self.written += n,
                // Also what a socket says that is not connected yet.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
                    ) =>
                {
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads once. True if there may be more to read, which edge-triggered readiness will not tell again.
    pub(super) fn read(&mut self) -> io::Result<bool> {
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        } else if self.end == self.buf.len() {
            self.buf.copy_within(self.begin..self.end, 0);
            (self.begin, self.end) = (0, self.end - self.begin);
            if self.end > self.buf.len() / 2 {
                self.buf.resize(self.buf.len() * 2, 0);
            }
        }
        let room = self.buf.len() - self.end;
        loop {
            return match self.stream.read(&mut self.buf[self.end..]) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.end += n;
                    // A short read has emptied the socket (epoll(7)); saves a read that would say so.
                    Ok(n == room)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// The next reply and the operation that it answers, if one has arrived whole.
    pub(super) fn next_reply(&mut self) -> io::Result<Option<(Op, Reply)>> {
        if self.begin == self.end {
            return Ok(None);
        }
        let bad = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        match resp::decode(&self.buf[self.begin..self.end]) {
            Ok(None) => Ok(None),
            Ok(Some((reply, len))) => {
                self.begin += len;
                let op = self
                    .under_way
                    .pop_front()
                    .ok_or_else(|| bad("a reply without a command"))?;
                Ok(Some((op, reply)))
            }
            Err(resp::Malformed) => Err(bad("the answer is not RESP")),
        }
    }
}
