//! One socket: its buffers, its phase, when it was last heard.

use std::io;
use std::net::Shutdown;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use quorate_storage::StoreId;

use crate::close::Close;
use crate::greeting::{Greeting, GreetingBody, Hello};
use crate::inbox::{Inbox, ReadEnd};
use crate::outbox::{MessageTooLong, Outbox};
use crate::{Channel, PeerCodec, PeerStats};

/// Where a connection is in its life.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Dialed; TCP is not through yet.
    Connecting,
    /// Waits for the other side's hello. The dialing side has sent its own.
    AwaitHello,
    /// The dialing side's hello was answered; waits for its word that it found nothing wrong either. Only
    /// then do both sides know that both said yes.
    AwaitAccept(Box<Hello>),
    /// Frames go both ways.
    Up {
        /// The peer.
        store: StoreId,
        /// Which of its connections this is.
        channel: Channel,
        /// Since when.
        since_us: u64,
    },
    /// This side has said its last word, a no or the answer to an inquiry, and reads to the end: closing with
    /// unread input would reset the connection and could take the word away from the other side before it
    /// read it.
    Ended,
}

/// One socket and its buffers.
pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) token: Token,
    /// Whom this side dialed; `None`: the other side dialed.
    pub(crate) dialed: Option<(StoreId, Channel)>,
    pub(crate) phase: Phase,
    pub(crate) inbox: Inbox,
    outbox: Outbox,
    /// When it was opened, or when we came back from a pause since.
    pub(crate) opened_us: u64,
    /// When something last came in.
    pub(crate) heard_us: u64,
    /// When something last went out.
    pub(crate) sent_us: u64,
    /// Too much is pending: it takes no more and is closed at the next flush.
    pub(crate) overflowed: bool,
}

impl Connection {
    /// Takes over a socket and has its readiness reported.
    pub(crate) fn open(
        mut stream: TcpStream,
        token: Token,
        dialed: Option<(StoreId, Channel)>,
        registry: &Registry,
        now_us: u64,
    ) -> io::Result<Connection> {
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let phase = if dialed.is_some() {
            Phase::Connecting
        } else {
            Phase::AwaitHello
        };
        Ok(Connection {
            stream,
            token,
            dialed,
            phase,
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            opened_us: now_us,
            heard_us: now_us,
            sent_us: now_us,
            overflowed: false,
        })
    }

    /// Whether TCP is through.
    pub(crate) fn connected(&mut self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// A turn's messages leave in one write, so there is nothing to wait for (Nagle's algorithm would).
    pub(crate) fn set_nodelay(&self) -> io::Result<()> {
        self.stream.set_nodelay(true)
    }

    /// One read.
    pub(crate) fn read(&mut self, frame_bytes_max: usize, stats: &mut PeerStats) -> io::Result<ReadEnd> {
        let wanted = if matches!(self.phase, Phase::Up { .. }) {
            self.inbox.frame_wanted(frame_bytes_max)
        } else {
            0
        };
        let end = self.inbox.read_from(&mut self.stream, wanted)?;
        if let ReadEnd::Full(n) | ReadEnd::Short(n) = end {
            stats.bytes_in += n as u64;
        }
        Ok(end)
    }

    /// One write of all that is pending, unless the socket is known to take nothing.
    pub(crate) fn write(&mut self, now_us: u64, stats: &mut PeerStats) -> io::Result<()> {
        if self.outbox.pending() == 0 || self.outbox.blocked() || matches!(self.phase, Phase::Connecting) {
            return Ok(());
        }
        let written = self.outbox.write_to(&mut self.stream)?;
        if written > 0 {
            self.sent_us = now_us;
        }
        stats.bytes_out += written as u64;
        stats.frames_out += self.outbox.take_frames();
        Ok(())
    }

    /// The socket takes bytes again.
    pub(crate) fn unblock(&mut self) {
        self.outbox.unblock();
    }

    /// Has the readiness reported once more although not everything was read.
    pub(crate) fn report_again(&mut self, registry: &Registry) -> io::Result<()> {
        registry.reregister(
            &mut self.stream,
            self.token,
            Interest::READABLE | Interest::WRITABLE,
        )
    }

    /// Queues a handshake message.
    pub(crate) fn greet(&mut self, body: GreetingBody) {
        self.outbox.push_raw(|out| Greeting::new(body).encode(out));
    }

    /// Queues a message.
    pub(crate) fn push(
        &mut self,
        frame_bytes_max: usize,
        message: &impl PeerCodec,
    ) -> Result<(), MessageTooLong> {
        self.outbox
            .push_message(frame_bytes_max, |out| message.encode(out))
    }

    /// Queues a sign of life, if nothing else is waiting to be one.
    pub(crate) fn ping(&mut self) {
        if self.outbox.pending() == 0 {
            self.outbox.push_ping();
        }
    }

    /// Bytes that wait for the socket.
    pub(crate) fn pending(&self) -> usize {
        self.outbox.pending()
    }

    /// Tells the other side that nothing more comes.
    pub(crate) fn end_output(&self) {
        // It may have gone already, which is as good.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Takes the socket out of the readiness loop; dropping closes it.
    pub(crate) fn deregister(&mut self, registry: &Registry) {
        // A socket that cannot be deregistered is closed a moment later, which does the same.
        let _ = registry.deregister(&mut self.stream);
    }

    /// Takes the next handshake message.
    pub(crate) fn take_greeting(&mut self) -> Result<Option<Greeting>, Close> {
        let Some((greeting, length)) = Greeting::parse(self.inbox.data())? else {
            return Ok(None);
        };
        self.inbox.take(length);
        Ok(Some(greeting))
    }
}
