//! Why something was not done, and what would help.

use std::path::PathBuf;

use quorate_raft::{StepError, Term};
use quorate_storage::log::{LogError, OpenError as LogOpenError};

use crate::{CommandIndex, NodeId};

/// Why a command was not started. It was not appended, and never will be applied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Only the leader starts commands.
    #[error("not the leader{}", hinted(*hint))]
    NotLeader {
        /// Who may be.
        hint: Option<NodeId>,
    },
    /// Leadership is being handed over; ask the new leader in a moment.
    #[error("leadership is being transferred to member {to}")]
    TransferInProgress {
        /// The new leader, if all goes well.
        to: NodeId,
    },
    /// Too much waits to be committed and applied; try again when some of it is.
    #[error("more than {max} bytes of commands wait to be committed and taken by the application")]
    TooManyUncommittedBytes {
        /// `Config::max_uncommitted_bytes`.
        max: u64,
    },
    /// The command is too long.
    #[error("command of {bytes} bytes, the most is {max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// `Config::max_command_bytes`.
        max: usize,
    },
    /// The member is stopped, or stopped while it was asked: then the outcome is unknown.
    #[error("the member is stopped")]
    Stopped,
}

/// Why a membership change did not happen.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// Only the leader changes the membership. Not applied.
    #[error("not the leader{}", hinted(*hint))]
    NotLeader {
        /// Who may be.
        hint: Option<NodeId>,
    },
    /// One change at a time. Not applied.
    #[error("another membership change is pending")]
    Pending,
    /// Leadership is being handed over. Not applied.
    #[error("leadership is being transferred to member {to}")]
    TransferInProgress {
        /// The new leader, if all goes well.
        to: NodeId,
    },
    /// The change makes no sense. Not applied.
    #[error("{0}")]
    Invalid(String),
    /// Leadership was lost before it was committed. Not applied.
    #[error("another leader's entry took its place")]
    NotApplied,
    /// It was not heard of in time, or the member took over a snapshot or stopped meanwhile.
    #[error("the outcome is unknown: {0}")]
    Unknown(&'static str),
    /// The member is stopped.
    #[error("the member is stopped")]
    Stopped,
}

/// Why leadership was not handed over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// Only the leader hands over.
    #[error("not the leader{}", hinted(*hint))]
    NotLeader {
        /// Who may be.
        hint: Option<NodeId>,
    },
    /// Only a voter can lead.
    #[error("member {0} is not a voter")]
    NotVoter(NodeId),
    /// The target did not take over within an election timeout; this member leads on, or somebody else does.
    #[error("member {0} did not take over in time")]
    Failed(NodeId),
    /// The member is stopped.
    #[error("the member is stopped")]
    Stopped,
}

/// Why a read barrier was not reached.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No leader confirmed it in time.
    #[error("no leader confirmed the read in time{}", hinted(*hint))]
    Timeout {
        /// Who may lead.
        hint: Option<NodeId>,
    },
    /// The member is stopped.
    #[error("the member is stopped")]
    Stopped,
}

/// Why a snapshot of the application was not taken over.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It claims to cover commands that were not handed up yet.
    #[error("snapshot at command {index}, but only {applied} were handed to the application")]
    NotApplied {
        /// What was claimed.
        index: CommandIndex,
        /// The last command handed up.
        applied: CommandIndex,
    },
    /// It is too long.
    #[error("snapshot of {bytes} bytes, the most is {max}")]
    TooLong {
        /// Its length.
        bytes: u64,
        /// `Config::max_snapshot_bytes`.
        max: u64,
    },
    /// The member is stopped.
    #[error("the member is stopped")]
    Stopped,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The device failed.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// An empty directory, and nothing says that it should be: a member whose disk was wiped must not come
    /// back under its old id (P7).
    #[error("the directory is empty, and the configuration says that the member exists (Start::Resume)")]
    Empty,
    /// Files of something else, or files without their identity file.
    #[error("the directory has files ({0}), but no NODE file that says whose they are; give an empty one")]
    NotANode(String),
    /// The directory belongs to someone else (P8).
    #[error("{file}: belongs to {found}, this is {expected}")]
    WrongMember {
        /// The file.
        file: String,
        /// Whose it is.
        found: String,
        /// Who opened it.
        expected: String,
    },
    /// The file was written by a newer version.
    #[error("{file}: format version {found} is newer than {supported}, the newest that this program reads")]
    NewerFormat {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// Ours.
        supported: u32,
    },
    /// The file is not what it should be. The member must not take part: it may have forgotten what it
    /// promised (P3). Remove it from the group and add a fresh one under a new id.
    #[error("{file}: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The member was removed from its group (M4).
    #[error("member {0} was removed from its group; a new member needs a new id and an empty directory")]
    Removed(NodeId),
    /// The Raft log.
    #[error(transparent)]
    Log(LogOpenError),
}

impl From<LogOpenError> for OpenError {
    fn from(error: LogOpenError) -> Self {
        OpenError::Log(error)
    }
}

/// Why a member could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The configuration is out of range.
    #[error("{0}")]
    Config(String),
    /// The data directory cannot be used.
    #[error("{}: {source}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: OpenError,
    },
    /// The system refused a socket, a thread or random bytes.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// What is stored contradicts itself.
    #[error(transparent)]
    Fatal(#[from] FatalError),
}

/// Why a running member stopped by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FatalError {
    /// Going on could lose what was committed.
    #[error("member {id} in term {term}: {source}")]
    Core {
        /// The member.
        id: NodeId,
        /// Its term.
        term: Term,
        /// What the consensus core found.
        #[source]
        source: StepError,
    },
    /// What is stored contradicts itself: something of it was lost.
    #[error("member {id}: {source}")]
    Stored {
        /// The member.
        id: NodeId,
        /// What the consensus core found.
        #[source]
        source: quorate_raft::StartError,
    },
    /// The log could not be written: nothing is retried, nothing more is acknowledged (P2).
    #[error(transparent)]
    Log(#[from] LogError),
    /// Another file could not be written (P2).
    #[error("{file}: {source}")]
    File {
        /// The file.
        file: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Committed data cannot be read.
    #[error("{0}")]
    Data(String),
    /// A peer refuses this member's identity: it is of another cluster, or its disk was wiped (P7).
    #[error("a peer refuses this member: {0}")]
    Identity(String),
    /// The node's thread could not wait for its sockets.
    #[error("waiting for sockets: {0}")]
    Poll(#[source] std::io::Error),
}

fn hinted(hint: Option<NodeId>) -> String {
    hint.map_or_else(String::new, |id| format!("; ask member {id}"))
}
