//! Why something was not done. Every error names what was found and, where it helps, what would be right.
//!
//! Written out instead of derived: the core's users pull in no macro crates.

use alloc::string::String;
use core::error::Error;
use core::fmt;

use crate::{ConfChangeError, Index, ReplicaId, Term};

/// Why a [`crate::Config`] cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// `id` is zero, which is never a member.
    NoId,
    /// Heartbeats must come, and must come more often than elections.
    Ticks {
        /// `election_ticks`.
        election: u32,
        /// `heartbeat_ticks`.
        heartbeat: u32,
    },
    /// The longest election timeout does not fit 32 bits.
    TimeoutTooLong {
        /// `election_ticks`.
        election: u32,
        /// `priority`.
        priority: u8,
    },
    /// A limit on what is in flight is zero: nothing would ever be sent.
    NothingInFlight,
    /// `ReadOnlyOption::LeaseBased` without `check_quorum`: nothing would end the lease.
    LeaseWithoutCheckQuorum,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoId => f.write_str("id is 0, which is never a member"),
            Self::Ticks { election, heartbeat } => write!(
                f,
                "election_ticks ({election}) must be greater than heartbeat_ticks ({heartbeat}), which must not be 0"
            ),
            Self::TimeoutTooLong { election, priority } => write!(
                f,
                "election_ticks ({election}) times priority ({priority}) plus 2 must be below 2^32"
            ),
            Self::NothingInFlight => f.write_str(
                "max_inflight_messages and max_inflight_bytes must not be 0: nothing would be sent",
            ),
            Self::LeaseWithoutCheckQuorum => {
                f.write_str("read_only is LeaseBased, which needs check_quorum: nothing would end the lease")
            }
        }
    }
}

impl Error for ConfigError {}

/// Why a stored or received configuration is none that changes can lead to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConfStateError {
    /// Zero is never a member.
    ZeroId,
    /// Nobody votes, but there are other members.
    NoVoters,
    /// A member both votes and learns.
    VoterAndLearner(ReplicaId),
    /// Only an outgoing voter that is not an incoming one can become a learner on leaving.
    NotOutgoing(ReplicaId),
    /// `auto_leave` without a joint configuration: there is nothing to leave.
    NotJoint,
}

impl fmt::Display for ConfStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroId => f.write_str("member 0 is nobody"),
            Self::NoVoters => f.write_str("there are members, but nobody votes"),
            Self::VoterAndLearner(id) => write!(f, "member {id} is both a voter and a learner"),
            Self::NotOutgoing(id) => write!(
                f,
                "member {id} is to become a learner, but does not vote in the outgoing half alone"
            ),
            Self::NotJoint => f.write_str("auto_leave is set, but the configuration is not joint"),
        }
    }
}

impl Error for ConfStateError {}

/// Why a member could not start.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The settings.
    Config(ConfigError),
    /// Storage could not be read.
    Storage(StorageError),
    /// The stored configuration makes no sense.
    ConfState(ConfStateError),
    /// The log ends before what is known to be committed: its tail was lost, and with it acknowledgements.
    CommitPastLog {
        /// The hard state's.
        commit: Index,
        /// Where the log ends.
        last: Index,
    },
    /// The log ends before what the application has applied: its tail was lost.
    AppliedPastLog {
        /// [`crate::Config::applied`].
        applied: Index,
        /// Where the log ends.
        last: Index,
    },
    /// The log begins after what the application has applied: the entries between are in neither.
    AppliedBeforeLog {
        /// [`crate::Config::applied`].
        applied: Index,
        /// The first entry that is left.
        first: Index,
    },
    /// An entry is of a later term than the hard state: the hard state was lost, and maybe a vote with it.
    HardStateBehindLog {
        /// The hard state's term.
        term: Term,
        /// The log's last position.
        last: Index,
        /// The term there.
        last_term: Term,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Storage(error) => error.fmt(f),
            Self::ConfState(error) => write!(f, "the stored configuration makes no sense: {error}"),
            Self::CommitPastLog { commit, last } => write!(
                f,
                "hard state has commit index {commit}, but the log ends at {last}: its tail was lost"
            ),
            Self::AppliedPastLog { applied, last } => write!(
                f,
                "applied index is {applied}, but the log ends at {last}: its tail was lost"
            ),
            Self::AppliedBeforeLog { applied, first } => write!(
                f,
                "applied index is {applied}, but the log begins at {first}: the entries between are lost"
            ),
            Self::HardStateBehindLog {
                term,
                last,
                last_term,
            } => write!(
                f,
                "hard state has term {term}, but the log ends at {last} with term {last_term}: the hard state was lost"
            ),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Storage(error) => Some(error),
            Self::ConfState(error) => Some(error),
            Self::CommitPastLog { .. }
            | Self::AppliedPastLog { .. }
            | Self::AppliedBeforeLog { .. }
            | Self::HardStateBehindLog { .. } => None,
        }
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<StorageError> for StartError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<ConfStateError> for StartError {
    fn from(error: ConfStateError) -> Self {
        Self::ConfState(error)
    }
}

/// Why an input was not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StepError {
    /// The message contradicts a committed entry; the replica must stop.
    Contradiction(String),
    /// Storage failed; the replica must stop.
    Storage(StorageError),
    /// See [`ProposeError`]; the replica goes on.
    Propose(ProposeError),
}

impl StepError {
    /// Whether the member must stop: going on could lose committed entries. What is not fatal refused one
    /// proposal and changed nothing.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::Contradiction(_) | Self::Storage(_) => true,
            Self::Propose(_) => false,
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Contradiction(what) => write!(f, "message contradicts committed state: {what}"),
            Self::Storage(error) => error.fmt(f),
            Self::Propose(error) => error.fmt(f),
        }
    }
}

impl Error for StepError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Contradiction(_) => None,
            // Shown as they are, so their own source comes next.
            Self::Storage(error) => error.source(),
            Self::Propose(error) => error.source(),
        }
    }
}

impl From<StorageError> for StepError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

impl From<ProposeError> for StepError {
    fn from(error: ProposeError) -> Self {
        Self::Propose(error)
    }
}

/// Why a proposal was not taken. It was not appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ProposeError {
    /// Only a leader appends.
    NotLeader {
        /// Who may be.
        leader: Option<ReplicaId>,
    },
    /// Leadership is being handed over; ask again after an election timeout at the latest.
    TransferInProgress {
        /// To whom.
        target: ReplicaId,
    },
    /// The limit on uncommitted bytes is reached; ask again when something was applied.
    TooManyUncommittedBytes,
    /// A membership change may wait in the log; ask again when it is applied.
    ConfChangePending {
        /// Once this index is applied, no change is waiting.
        until: Index,
    },
    /// The configuration is joint, and can only be left.
    ConfChangeInJoint,
    /// The change does not fit the configuration in effect.
    ConfChange(ConfChangeError),
}

impl fmt::Display for ProposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLeader { leader: None } => f.write_str("not the leader"),
            Self::NotLeader { leader: Some(leader) } => write!(f, "not the leader, which may be {leader}"),
            Self::TransferInProgress { target } => write!(f, "leadership transfer to {target} in progress"),
            Self::TooManyUncommittedBytes => f.write_str("too many uncommitted bytes"),
            Self::ConfChangePending { until } => {
                write!(f, "a membership change may be pending until {until} is applied")
            }
            Self::ConfChangeInJoint => {
                f.write_str("the configuration is joint and must be left before another change")
            }
            Self::ConfChange(error) => error.fmt(f),
        }
    }
}

impl Error for ProposeError {}

/// Why storage did not answer.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// The position was removed by compaction.
    Compacted {
        /// First available.
        first: Index,
        /// Asked for.
        asked: Index,
    },
    /// The position is past the end.
    Unavailable {
        /// Last available.
        last: Index,
        /// Asked for.
        asked: Index,
    },
    /// A snapshot is being made; ask again later.
    SnapshotTemporarilyUnavailable,
    /// Storage no longer holds what it was told to keep; the member cannot go on.
    LostTail {
        /// The end that storage gave.
        last: Index,
        /// The end that was stored.
        stored: Index,
    },
    /// Anything else; the member cannot go on.
    Failed(String),
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compacted { first, asked } => {
                write!(f, "index is compacted: available from {first}, asked for {asked}")
            }
            Self::Unavailable { last, asked } => {
                write!(f, "index is not there yet: last is {last}, asked for {asked}")
            }
            Self::SnapshotTemporarilyUnavailable => f.write_str("snapshot is temporarily unavailable"),
            Self::LostTail { last, stored } => write!(
                f,
                "storage lost its tail: the log was stored up to {stored}, and storage has it up to {last}"
            ),
            Self::Failed(what) => write!(f, "storage failed: {what}"),
        }
    }
}

impl Error for StorageError {}
