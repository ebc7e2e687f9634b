//! Why a connection is closed.

use std::io;

use crate::frame::FrameError;
use crate::greeting::GreetingError;

/// The reason, for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Close {
    #[error("the peer closed the connection")]
    Eof,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Greeting(#[from] GreetingError),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("the handshake was refused")]
    Refused,
    #[error("the handshake took too long")]
    Deadline,
    #[error("nothing was heard from the peer for too long")]
    Silent,
    #[error("more than {0} bytes wait for the peer to take them")]
    Overflow(usize),
    #[error("a newer connection took its place")]
    Replaced,
}
