//! The question of one who is about to format a store: does a peer know this store already (P7)?
//!
//! It is a handshake in which the asking side has no incarnation yet (zero). The peer answers as it would answer
//! any hello, but binds nothing and no connection comes of it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use quorate_storage::{ClusterId, Identity, Incarnation, StoreId};

use crate::Channel;
use crate::greeting::{Greeting, GreetingBody, Hello};

/// Of a store that is not formatted yet. No formatting draws it.
pub(crate) const UNBORN: Incarnation = Incarnation(0);

/// What a peer said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inquiry {
    /// It does not know the store.
    Unknown,
    /// It would refuse it, for this reason.
    Refused(String),
}

/// Asks the peer `target` at one of `addresses` whether store `own` of `cluster` would be new to it. Blocks for
/// `patience` at most.
///
/// # Errors
/// The peer gave no answer that can be understood.
pub fn inquire(
    addresses: &[SocketAddr],
    cluster: ClusterId,
    own: StoreId,
    target: StoreId,
    patience: Duration,
) -> io::Result<Inquiry> {
    let until = Instant::now() + patience;
    let left = || match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = Err(io::Error::new(ErrorKind::NotFound, "the name has no addresses"));
    for address in addresses {
        stream = TcpStream::connect_timeout(address, left()?);
        if stream.is_ok() {
            break;
        }
    }
    let mut stream = stream?;
    let hello = Hello {
        identity: Identity {
            cluster,
            store: own,
            incarnation: UNBORN,
        },
        process: 0,
        target,
        channel: Channel::Raft,
        client_address: String::new(),
        http_address: String::new(),
    };
    let mut bytes = vec![];
    Greeting::new(GreetingBody::Hello(hello)).encode(&mut bytes);
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(&bytes)?;
    let mut answer = vec![];
    let mut buffer = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left()?))?;
        let n = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..n]);
        match Greeting::parse(&answer).map_err(io::Error::other)? {
            Some((greeting, _)) => {
                return Ok(match greeting.body {
                    GreetingBody::Refuse(refusal) => Inquiry::Refused(refusal.reason),
                    GreetingBody::Hello(_) | GreetingBody::Accept => Inquiry::Unknown,
                });
            }
            None if n == 0 => return Err(ErrorKind::UnexpectedEof.into()),
            None => {}
        }
    }
}
