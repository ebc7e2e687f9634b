//! What travels between members and what is stored: entries, messages, snapshots, configurations.

use alloc::boxed::Box;
use alloc::vec::Vec;
use bytes::Bytes;

use crate::{ConfStateError, Index, ReplicaId, Term};

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The term of the leader that created it.
    pub term: Term,
    /// Its position.
    pub index: Index,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Payload {
    /// A command of the application; empty for the entry that a new leader appends.
    Normal(Bytes),
    /// A membership change, in effect when applied. Boxed: rare and large, it would double every entry.
    ConfChange(Box<ConfChange>),
}

impl Payload {
    /// Bytes, as limits on messages, windows and uncommitted entries count them.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Payload::Normal(data) => data.len(),
            Payload::ConfChange(change) => change.changes.len() * 16 + change.context.len(),
        }
    }

    /// Whether it carries nothing: a new leader's first entry, and the leaving of a joint configuration. No
    /// limit refuses these.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A membership change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConfChange {
    /// The wire form in which it was proposed; the old one holds exactly one change.
    pub form: ConfChangeForm,
    /// Whether and how a joint configuration is used.
    pub transition: ConfChangeTransition,
    /// The single changes; empty means: leave the joint configuration.
    pub changes: Vec<ConfChangeSingle>,
    /// Opaque to the core.
    pub context: Bytes,
}

/// The wire form of a membership change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConfChangeForm {
    /// One change, never joint.
    V1,
    /// Any number of changes.
    #[default]
    V2,
}

/// How a change enters and leaves the joint configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConfChangeTransition {
    /// Simple if one change, otherwise joint with automatic leave.
    #[default]
    Auto,
    /// Joint, left automatically.
    Implicit,
    /// Joint, left by a proposed empty change.
    Explicit,
}

/// One step of a membership change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConfChangeSingle {
    /// What is done.
    pub kind: ConfChangeKind,
    /// To whom.
    pub replica: ReplicaId,
}

/// What a single change does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConfChangeKind {
    /// Makes the replica a voter.
    AddVoter,
    /// Makes the replica a learner (a voter is demoted).
    AddLearner,
    /// Removes the replica.
    Remove,
    /// Changes nothing in the configuration; carries a context.
    Update,
}

/// A configuration, each list sorted and without repetition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConfState {
    /// Voters (of the incoming half when joint).
    pub voters: Vec<ReplicaId>,
    /// Learners.
    pub learners: Vec<ReplicaId>,
    /// Voters of the outgoing half; empty unless joint.
    pub voters_outgoing: Vec<ReplicaId>,
    /// Voters of the outgoing half that become learners on leaving.
    pub learners_next: Vec<ReplicaId>,
    /// The joint configuration is left without a proposal of the application.
    pub auto_leave: bool,
}

/// What must survive a crash beside the entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    /// The current term.
    pub term: Term,
    /// Whom this member voted for in `term`.
    pub vote: Option<ReplicaId>,
    /// The highest position known to be committed.
    pub commit: Index,
}

/// A snapshot's position and configuration.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SnapshotMeta {
    /// The last entry that the snapshot covers.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// The configuration at `index`.
    pub conf_state: ConfState,
}

/// A snapshot: position, configuration and the application's data.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// Position and configuration.
    pub meta: SnapshotMeta,
    /// The application's; may be empty when the data travels by another way.
    pub data: Bytes,
}

/// Names one batch of reads; the application makes them unique over replicas and restarts (R1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ReadContext(pub u128);

/// A message between members, or from a member to itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The sender.
    pub from: ReplicaId,
    /// The receiver.
    pub to: ReplicaId,
    /// The sender's term; the campaign's for (pre-)votes; zero for proposals and forwarded reads.
    pub term: Term,
    /// What it says.
    pub body: MessageBody,
}

/// Where a follower's log diverges, by the follower's reckoning.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RejectHint {
    /// The highest position that may match.
    pub index: Index,
    /// The follower's term there.
    pub term: Term,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MessageBody {
    /// Leader to follower: entries after `prev_index`.
    Append {
        /// The position before the first entry.
        prev_index: Index,
        /// The term at `prev_index`.
        prev_term: Term,
        /// The leader's commit index.
        commit: Index,
        /// May be empty.
        entries: Vec<Entry>,
    },
    /// Follower to leader.
    AppendResponse {
        /// Accepted: the last position that matches. Rejected: the `prev_index` that did not.
        index: Index,
        /// Set when rejected.
        reject: Option<RejectHint>,
    },
    /// Leader to follower.
    Heartbeat {
        /// min(match index, commit index).
        commit: Index,
        /// The newest batch of reads waiting for a quorum.
        context: Option<ReadContext>,
    },
    /// Follower to leader.
    HeartbeatResponse {
        /// Echo of the heartbeat's.
        context: Option<ReadContext>,
    },
    /// Candidate to voter.
    Vote {
        /// The candidate's last position.
        last_index: Index,
        /// The term there.
        last_term: Term,
        /// The campaign was asked for by the leader (leadership transfer).
        transfer: bool,
    },
    /// Voter to candidate.
    VoteResponse {
        /// The vote was refused.
        reject: bool,
    },
    /// As `Vote`, without changing anybody's term.
    PreVote {
        /// The candidate's last position.
        last_index: Index,
        /// The term there.
        last_term: Term,
        /// The campaign was asked for by the leader.
        transfer: bool,
    },
    /// Voter to pre-candidate.
    PreVoteResponse {
        /// The vote was refused.
        reject: bool,
    },
    /// Leader to follower: the log that it needs is gone.
    Snapshot(Box<Snapshot>),
    /// Leader to follower: campaign now.
    TimeoutNow,
    /// Anyone to the leader: hand leadership to `target`.
    TransferLeader {
        /// Who is to lead.
        target: ReplicaId,
    },
    /// Follower to leader: confirm your leadership.
    ReadIndex {
        /// Echoed in the answer.
        context: ReadContext,
    },
    /// Leader to follower: reads of `context` may be answered once `index` is applied.
    ReadIndexResponse {
        /// The commit index when the request came.
        index: Index,
        /// Echo of the request's.
        context: ReadContext,
    },
    /// Follower to leader: forwarded proposals; terms and indexes are assigned by the leader.
    Propose {
        /// What is proposed.
        payloads: Vec<Payload>,
    },
}

impl MessageBody {
    /// Whether it answers something that the receiver asked.
    #[must_use]
    #[inline]
    pub fn is_response(&self) -> bool {
        match self {
            MessageBody::AppendResponse { .. }
            | MessageBody::HeartbeatResponse { .. }
            | MessageBody::VoteResponse { .. }
            | MessageBody::PreVoteResponse { .. }
            | MessageBody::ReadIndexResponse { .. } => true,
            MessageBody::Append { .. }
            | MessageBody::Heartbeat { .. }
            | MessageBody::Vote { .. }
            | MessageBody::PreVote { .. }
            | MessageBody::Snapshot(_)
            | MessageBody::TimeoutNow
            | MessageBody::TransferLeader { .. }
            | MessageBody::ReadIndex { .. }
            | MessageBody::Propose { .. } => false,
        }
    }

    /// Whether it means something without a term. Everything else comes from somebody who took part in an
    /// election, in term 1 or later.
    #[inline]
    pub(crate) fn may_lack_term(&self) -> bool {
        match self {
            MessageBody::Propose { .. }
            | MessageBody::ReadIndex { .. }
            | MessageBody::TransferLeader { .. } => true,
            // A member that never voted refuses in its own term.
            MessageBody::PreVoteResponse { reject } => *reject,
            MessageBody::Append { .. }
            | MessageBody::AppendResponse { .. }
            | MessageBody::Heartbeat { .. }
            | MessageBody::HeartbeatResponse { .. }
            | MessageBody::Vote { .. }
            | MessageBody::VoteResponse { .. }
            | MessageBody::PreVote { .. }
            | MessageBody::Snapshot(_)
            | MessageBody::TimeoutNow
            | MessageBody::ReadIndexResponse { .. } => false,
        }
    }

    /// Whether a member is told it under its own name: that something which it wrote is durable. Everything else
    /// that claims to come from the receiver is a local message, and has no place on the network.
    #[inline]
    pub(crate) fn may_be_own(&self) -> bool {
        match self {
            MessageBody::AppendResponse { reject: None, .. }
            | MessageBody::VoteResponse { .. }
            | MessageBody::PreVoteResponse { .. } => true,
            MessageBody::Append { .. }
            | MessageBody::AppendResponse { reject: Some(_), .. }
            | MessageBody::Heartbeat { .. }
            | MessageBody::HeartbeatResponse { .. }
            | MessageBody::Vote { .. }
            | MessageBody::PreVote { .. }
            | MessageBody::Snapshot(_)
            | MessageBody::TimeoutNow
            | MessageBody::TransferLeader { .. }
            | MessageBody::ReadIndex { .. }
            | MessageBody::ReadIndexResponse { .. }
            | MessageBody::Propose { .. } => false,
        }
    }
}

impl ConfState {
    /// Checks that changes of membership can lead to this configuration. Nobody at all is one: a member that has
    /// not joined yet, or whose group has ended.
    ///
    /// # Errors
    ///
    /// [`ConfStateError`] names the member that does not fit.
    pub fn validate(&self) -> Result<(), ConfStateError> {
        let voters = || self.voters.iter().chain(&self.voters_outgoing);
        let learners = || self.learners.iter().chain(&self.learners_next);
        if voters().chain(learners()).any(|id| *id == ReplicaId(0)) {
            return Err(ConfStateError::ZeroId);
        }
        if self.voters.is_empty() && voters().chain(learners()).next().is_some() {
            return Err(ConfStateError::NoVoters);
        }
        if let Some(id) = voters().find(|id| self.learners.contains(id)) {
            return Err(ConfStateError::VoterAndLearner(*id));
        }
        let stays = |id: &&ReplicaId| !self.voters_outgoing.contains(id) || self.voters.contains(id);
        if let Some(id) = self.learners_next.iter().find(stays) {
            return Err(ConfStateError::NotOutgoing(*id));
        }
        if self.auto_leave && self.voters_outgoing.is_empty() {
            return Err(ConfStateError::NotJoint);
        }
        Ok(())
    }
}
