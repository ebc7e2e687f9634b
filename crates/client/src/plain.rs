//! One connection, one command at a time: for tools that talk to a node rather than to the cluster.
//!
//! It blocks, needs no runtime and hides no failure: whether a command reached the node before the connection broke is
//! what its callers need to know ([`ClientError::may_have_run`]).

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use crate::resp::{self, Reply};

/// Bytes asked for in one read.
const READ_BYTES: usize = 64 * 1024;

/// Why there is no reply.
#[derive(Debug)]
pub enum ClientError {
    /// No connection; the command was not sent.
    Connect {
        /// Whom.
        addr: String,
        /// Why.
        source: io::Error,
    },
    /// The connection broke, or the answer did not come in time; the command may have run.
    Broken {
        /// Whose.
        addr: String,
        /// How.
        source: io::Error,
    },
}

impl ClientError {
    /// Whether the server may have run the command.
    pub fn may_have_run(&self) -> bool {
        matches!(self, Self::Broken { .. })
    }
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect { addr, source } => write!(f, "cannot connect to {addr}: {source}"),
            Self::Broken { addr, source } => match source.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    write!(f, "{addr} did not answer in time")
                }
                io::ErrorKind::UnexpectedEof => write!(f, "{addr} closed the connection without an answer"),
                _ => write!(f, "connection to {addr} broke: {source}"),
            },
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. } | Self::Broken { source, .. } => Some(source),
        }
    }
}

/// A connection. After an error it is of no more use: later replies could be taken for the wrong commands.
#[derive(Debug)]
pub struct Client {
    addr: String,
    stream: TcpStream,
    timeout: Duration,
    out: Vec<u8>,
    buf: Vec<u8>,
}

impl Client {
    /// Connects to `host:port`; connecting and every command may take up to `timeout`.
    pub fn connect(addr: &str, timeout: Duration) -> Result<Self, ClientError> {
        let connect = || -> io::Result<TcpStream> {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for resolved in addr.to_socket_addrs()? {
                match TcpStream::connect_timeout(&resolved, timeout) {
                    Ok(stream) => {
                        stream.set_nodelay(true)?;
                        return Ok(stream);
                    }
                    Err(error) => last = error,
                }
            }
            Err(last)
        };
        match connect() {
            Ok(stream) => Ok(Self {
                addr: addr.to_owned(),
                stream,
                timeout,
                out: Vec::new(),
                buf: Vec::new(),
            }),
            Err(source) => Err(ClientError::Connect {
                addr: addr.to_owned(),
                source,
            }),
        }
    }

    /// Where this is connected to.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Sends one command and waits for its reply; a server's error is a [`Reply::Error`], not an `Err`.
    pub fn command(&mut self, args: &[&[u8]]) -> Result<Reply, ClientError> {
        self.exchange(args).map_err(|source| ClientError::Broken {
            addr: self.addr.clone(),
            source,
        })
    }

    fn exchange(&mut self, args: &[&[u8]]) -> io::Result<Reply> {
        let deadline = Instant::now() + self.timeout;
        self.out.clear();
        resp::encode(&mut self.out, args);
        self.stream.set_write_timeout(Some(self.timeout))?;
        self.stream.write_all(&self.out)?;
        let mut filled = self.buf.len();
        loop {
            match resp::decode(&self.buf[..filled]) {
                Ok(Some((reply, len))) => {
                    self.buf.truncate(filled);
                    self.buf.drain(..len);
                    return Ok(reply);
                }
                Ok(None) => {}
                Err(resp::Malformed) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the answer is not RESP",
                    ));
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            // Doubling: a large reply is decoded again at each read, so there should be few of them.
            self.buf.resize(filled + READ_BYTES.max(filled), 0);
            match self.stream.read(&mut self.buf[filled..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
