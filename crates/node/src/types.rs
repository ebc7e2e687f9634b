//! What goes in and comes out: positions, commands handed up, membership, status.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use quorate_raft::{ConfState, Index, Role, Term};

#[doc(inline)]
pub use quorate_raft::ReplicaId as NodeId;

/// The position of a command among all commands of the group: 1, 2, 3, … on every member, without gaps.
/// Raft's own entries (a new leader's first one, membership changes) have no such position. Zero is "before
/// the first command".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct CommandIndex(pub u64);

impl fmt::Display for CommandIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a command was put when it was started. Nothing is committed yet: see [`Applied`] for how it ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Started {
    /// The position that the command has if it is committed.
    pub index: CommandIndex,
    /// The term in which it was started. Index and term together name one command for ever.
    pub term: Term,
}

/// One thing handed to the application, in the same order on every member.
///
/// The outcome of a command started as `(index, term)` follows from what is handed up (rule O1):
///
/// - [`Applied::Command`] with this index and this term: it is applied.
/// - [`Applied::Command`] with this index and another term, or anything at all with a higher term while the
///   command has not been handed up: it is not applied and never will be.
/// - [`Applied::Snapshot`] that covers the index, or the end of the stream: unknown.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Applied {
    /// A committed command, to be applied to the application's state.
    Command {
        /// Its position: one more than the command before.
        index: CommandIndex,
        /// The term in which it was started.
        term: Term,
        /// What was started.
        data: Bytes,
    },
    /// The application's state is to be replaced by this snapshot, which some member made.
    Snapshot {
        /// The last command that it covers.
        index: CommandIndex,
        /// The term of the last entry that it covers.
        term: Term,
        /// What was given to `snapshot`.
        data: Bytes,
    },
    /// Entries of a new term begin: commands started in earlier terms and not handed up by now never will be.
    NewTerm {
        /// The term.
        term: Term,
        /// The last command before.
        index: CommandIndex,
    },
    /// This member was removed from the group; nothing follows.
    Removed,
}

/// One step of a membership change. A list of several goes through a joint configuration, so that they take
/// effect together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Adds a learner: it gets the log and does not vote. Demotes a voter.
    AddLearner {
        /// Who.
        id: NodeId,
        /// Where it listens, `host:port`.
        address: String,
    },
    /// Adds a voter, or makes one of a learner.
    AddVoter {
        /// Who.
        id: NodeId,
        /// Where it listens, `host:port`.
        address: String,
    },
    /// Removes a member for ever: its id cannot come back (M3).
    Remove {
        /// Who.
        id: NodeId,
    },
}

impl Change {
    /// Whom it is about.
    #[must_use]
    pub fn id(&self) -> NodeId {
        match self {
            Change::AddLearner { id, .. } | Change::AddVoter { id, .. } | Change::Remove { id } => *id,
        }
    }
}

/// The group's members, as far as this member has applied changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who only follows.
    pub learners: BTreeSet<NodeId>,
    /// Who voted before, while a joint configuration is in effect; empty otherwise.
    pub voters_outgoing: BTreeSet<NodeId>,
    /// Where members listen.
    pub addresses: BTreeMap<NodeId, String>,
    /// Members of the past; their ids are used up.
    pub removed: BTreeSet<NodeId>,
}

impl Membership {
    pub(crate) fn new(
        conf: &ConfState,
        addresses: &BTreeMap<NodeId, String>,
        removed: &BTreeSet<NodeId>,
    ) -> Self {
        Self {
            voters: conf.voters.iter().copied().collect(),
            learners: conf.learners.iter().chain(&conf.learners_next).copied().collect(),
            voters_outgoing: conf.voters_outgoing.iter().copied().collect(),
            addresses: addresses.clone(),
            removed: removed.clone(),
        }
    }

    /// Whether `id` is a voter, a learner, or a voter on its way out.
    #[must_use]
    pub fn contains(&self, id: NodeId) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id) || self.voters_outgoing.contains(&id)
    }
}

/// A member's account of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// This member.
    pub id: NodeId,
    /// The current term.
    pub term: Term,
    /// The role.
    pub role: Role,
    /// The known leader.
    pub leader: Option<NodeId>,
    /// The last command handed to the application.
    pub applied: CommandIndex,
    /// The last command that the newest durable snapshot covers.
    pub snapshot: CommandIndex,
    /// The last position of Raft's log, which counts entries of its own too.
    pub last_log_index: Index,
    /// The position up to which Raft's log is known to be committed.
    pub committed_log_index: Index,
    /// Bytes of the log entries kept and of the hard state.
    pub log_bytes: u64,
    /// The members.
    pub membership: Membership,
    /// Leader only: how far each other member's log is known to agree, as a position of Raft's log.
    pub matched: BTreeMap<NodeId, Index>,
    /// Leader only: to whom leadership is being handed.
    pub transferring_to: Option<NodeId>,
    /// This member was removed from the group.
    pub removed: bool,
    /// Snapshots whose sending to others was begun, since the start of the process.
    pub snapshots_sent: u64,
    /// Snapshots received from others and installed, since the start of the process.
    pub snapshots_installed: u64,
}

impl Status {
    /// Whether this member leads, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.role == Role::Leader
    }
}
