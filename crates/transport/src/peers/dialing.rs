//! Connections come into being: dialed by this side, or accepted.

use std::io::{self, ErrorKind};
use std::task::Poll;

use mio::Token;
use mio::net::TcpStream;
use quorate_storage::StoreId;

use super::Peers;
use crate::backoff::Backoff;
use crate::connection::{Connection, Phase};
use crate::{Channel, PeerCodec};

/// Accepted connections that have not said who they are. More are closed at once: a port scanner must not use
/// up the file descriptors that clients and the log need.
const STRANGERS_MAX: usize = 256;

/// How one channel to one store is dialed.
pub(super) struct Dial {
    address: String,
    /// The connection under way or up.
    busy: bool,
    /// When to try next.
    due_us: u64,
    /// Counts attempts, to go through the addresses that a name has.
    attempts: usize,
    backoff: Backoff,
}

impl Dial {
    pub(super) fn to(address: &str) -> Dial {
        Dial {
            address: address.to_owned(),
            busy: false,
            due_us: 0,
            attempts: 0,
            backoff: Backoff::default(),
        }
    }

    /// Uses another address from the next attempt on.
    pub(super) fn redirect(&mut self, address: &str) {
        if self.address != address {
            address.clone_into(&mut self.address);
            self.backoff.reset();
            self.attempts = 0;
        }
    }
}

impl<M: PeerCodec> Peers<M> {
    /// Dials what is due.
    pub(super) fn dial_due(&mut self) {
        let due: Vec<(StoreId, Channel)> = self
            .links
            .iter()
            .flat_map(|(&store, links)| {
                Channel::ALL.map(|channel| (store, channel, &links[channel.position()]))
            })
            .filter(|(.., link)| {
                link.dial
                    .as_ref()
                    .is_some_and(|d| !d.busy && d.due_us <= self.now_us)
            })
            .map(|(store, channel, _)| (store, channel))
            .collect();
        for (store, channel) in due {
            match self.dial(store, channel) {
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(%store, ?channel, %error, "peer cannot be dialed");
                    self.dial_later(store, channel, false);
                }
            }
        }
    }

    fn dial(&mut self, store: StoreId, channel: Channel) -> io::Result<()> {
        let link = self
            .links
            .get_mut(&store)
            .map(|links| &mut links[channel.position()]);
        let Some(dial) = link.and_then(|link| link.dial.as_mut()) else {
            return Ok(());
        };
        let addresses = match self.resolver.resolve(&dial.address) {
            Poll::Pending => return Ok(()),
            Poll::Ready(addresses) => addresses?,
        };
        dial.attempts = dial.attempts.wrapping_add(1);
        let Some(&address) = addresses.get(dial.attempts.wrapping_sub(1) % addresses.len().max(1)) else {
            return Err(io::Error::new(ErrorKind::NotFound, "the name has no addresses"));
        };
        let stream = TcpStream::connect(address)?;
        dial.busy = true;
        self.open(stream, Some((store, channel)))
    }

    /// Has a channel dialed again after a wait. `good`: the last connection was, so the waits start over.
    pub(super) fn dial_later(&mut self, store: StoreId, channel: Channel, good: bool) {
        let link = self
            .links
            .get_mut(&store)
            .map(|links| &mut links[channel.position()]);
        let Some(dial) = link.and_then(|link| link.dial.as_mut()) else {
            return;
        };
        if good {
            dial.backoff.reset();
        }
        dial.busy = false;
        dial.due_us = self
            .now_us
            .saturating_add(dial.backoff.next_delay_us(&mut self.random));
    }

    /// Accepts all who wait.
    pub(super) fn accept(&mut self) {
        self.accept_again = false;
        loop {
            match self.listener.accept() {
                Ok((stream, address)) => {
                    if self.strangers() >= STRANGERS_MAX {
                        tracing::warn!(%address, "too many connections in handshake, closing a new one");
                        continue;
                    }
                    let opened = stream.set_nodelay(true).and_then(|()| self.open(stream, None));
                    if let Err(error) = opened {
                        tracing::warn!(%address, %error, "accepted connection cannot be used");
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The one who waited gave up; the next may not have.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    // The listener will not report those again who are waiting already.
                    tracing::warn!(%error, "cannot accept peer connections");
                    self.accept_again = true;
                    return;
                }
            }
        }
    }

    fn strangers(&self) -> usize {
        let stranger = |c: &Connection| c.dialed.is_none() && !matches!(c.phase, Phase::Up { .. });
        self.connections.values().filter(|c| stranger(c)).count()
    }

    fn open(&mut self, stream: TcpStream, dialed: Option<(StoreId, Channel)>) -> io::Result<()> {
        let token = self.next_token;
        self.next_token += 1;
        let connection = Connection::open(stream, Token(token), dialed, &self.registry, self.now_us)?;
        self.connections.insert(token, Box::new(connection));
        Ok(())
    }
}
