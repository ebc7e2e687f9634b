//! How a command ended, if not with an answer.

use std::fmt;
use std::time::Duration;

/// A command without an answer. Which of the kinds it is says what a caller may do.
///
/// | kind | for a write | what to do |
/// | --- | --- | --- |
/// | [`NotApplied`](Self::NotApplied) | certainly not applied, now or later | again, if you like |
/// | [`Unknown`](Self::Unknown) | may be applied, now or later, at most once | [`Client::status`](crate::Client::status) settles it |
/// | [`Refused`](Self::Refused) | not applied: wrong in itself or for the value that it met | something else |
/// | [`Unavailable`](Self::Unavailable) | (reads only) | again |
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The write was certainly not applied, and never will be.
    #[error("not applied: {0}")]
    NotApplied(Reason),
    /// The write may have been applied, or may still be, at most once.
    #[error("outcome unknown: {reason}")]
    Unknown {
        /// What is known.
        reason: Reason,
        /// For [`Client::status`](crate::Client::status); none for a command that was sent without a session.
        write: Option<WriteId>,
    },
    /// The read got no answer within its deadline.
    #[error("no answer: {0}")]
    Unavailable(Reason),
    /// The server refused the command. Nothing was changed.
    #[error("{0}")]
    Refused(ServerError),
}

impl Error {
    /// Whether the write may have been applied, or may still be.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }
}

/// How a write ended, for those who would rather match on three cases than on an error.
///
/// ```
/// use quorate_client::{Error, Outcome, Reason};
///
/// let result: Result<u64, Error> = Err(Error::NotApplied(Reason::TooManyUnderWay));
/// assert!(matches!(Outcome::from(result), Outcome::NotApplied(_)));
/// ```
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome<T> {
    /// It was applied, and this is its answer.
    Applied(T),
    /// It was certainly not applied, and never will be.
    NotApplied(Error),
    /// It may have been applied, or may still be, at most once.
    Unknown(Error),
}

impl<T> From<Result<T, Error>> for Outcome<T> {
    fn from(result: Result<T, Error>) -> Self {
        match result {
            Ok(answer) => Self::Applied(answer),
            Err(error) if error.is_unknown() => Self::Unknown(error),
            Err(error) => Self::NotApplied(error),
        }
    }
}

/// Why a command got no answer: what its last attempt met.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// No connection to a node; the command was not sent.
    #[error("cannot connect to {addr}: {why}")]
    NoConnection {
        /// Whom.
        addr: String,
        /// The system's words.
        why: String,
    },
    /// The connection broke after the command was sent.
    #[error("the connection to {addr} broke: {why}")]
    ConnectionLost {
        /// Whose.
        addr: String,
        /// The system's words.
        why: String,
    },
    /// A node did not answer in time.
    #[error("{addr} did not answer for {waited:?}")]
    Silence {
        /// Who.
        addr: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A node said why.
    #[error("{0}")]
    Server(String),
    /// The shard has forgotten the session. Whether an earlier attempt ran is not known any more.
    #[error("the shard has forgotten the session")]
    Forgotten,
    /// A status settled that the write never runs.
    #[error("a status settled that the write never runs")]
    NeverRuns,
    /// The client has as many commands under way as its options allow, and none ended in time.
    #[error("too many commands under way")]
    TooManyUnderWay,
    /// No session could be opened in time.
    #[error("no session could be opened")]
    NoSession,
    /// The system has no more of what a runtime needs.
    #[error("no runtime: {0}")]
    Runtime(String),
    /// No node was named.
    #[error("no node was named")]
    NoNode,
    /// The deadline was over before the first attempt.
    #[error("no time was left")]
    NoTime,
}

/// An error reply, as the server sent it. Its first word is the code.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServerError(pub(crate) String);

impl ServerError {
    /// `ERR`, `CROSSSLOT` and the like.
    #[must_use]
    pub fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }
}

/// Names a write that was sent under a session, for [`Client::status`](crate::Client::status). It outlives the
/// client: another one, or another process, may ask.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WriteId {
    /// The session's id.
    pub session: SessionId,
    /// The write's number in it.
    pub seq: u64,
    /// The key that it writes.
    pub key: bytes::Bytes,
}

impl fmt::Display for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.session, self.seq, self.key.escape_ascii())
    }
}

/// A session's id: 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u128);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The text is no session's id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a session's id is 32 hexadecimal digits")]
pub struct BadSessionId;

impl std::str::FromStr for SessionId {
    type Err = BadSessionId;

    fn from_str(text: &str) -> Result<Self, BadSessionId> {
        // `from_str_radix` alone would take a sign.
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = digits.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        id.map(Self).ok_or(BadSessionId)
    }
}
