//! A member for real: a thread for sockets and the machine, a thread for the disk, and what talks to them.

mod disk;
mod handle;
mod reactor;
mod replicated;
mod stream;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};

use crate::NodeId;

pub use handle::{Handle, Node};
pub use replicated::{Replicated, SubmitError};
pub use stream::AppliedStream;

/// Where a member listens, and where it finds others that it cannot know yet.
#[derive(Debug)]
pub struct Transport {
    pub(crate) listener: TcpListener,
    pub(crate) peers: BTreeMap<NodeId, String>,
}

impl Transport {
    /// Listens for other members; port 0 picks a free one, which [`Transport::local_addr`] tells.
    ///
    /// # Errors
    ///
    /// The address is in use, or not of this machine.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::bind(address)?,
            peers: BTreeMap::new(),
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Addresses (`host:port`) of members that this one cannot know yet: of two members the one with the higher
    /// id dials, so a member that joins must be told of those with lower ids.
    #[must_use]
    pub fn with_peers(mut self, peers: impl IntoIterator<Item = (NodeId, String)>) -> Self {
        self.peers.extend(peers);
        self
    }
}

/// A member's directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Directory {
    pub(crate) path: PathBuf,
}

impl Directory {
    /// The directory at `path`, made when the member is spawned if it is not there. No two processes can use
    /// it at the same time.
    #[must_use]
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
        }
    }
}
