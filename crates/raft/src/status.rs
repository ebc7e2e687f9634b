//! What a member tells about itself.

use alloc::vec::Vec;

use crate::progress::Progress;
use crate::raft::Raft;
use crate::{ConfState, HardState, Index, ReplicaId, Role, SoftState, Storage};

/// A member at one moment, for operators and tests. Taking it costs an allocation or two.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// This member.
    pub id: ReplicaId,
    /// Role and known leader.
    pub soft_state: SoftState,
    /// Term, vote and commit index, as a Ready would have them stored.
    pub hard_state: HardState,
    /// The applied index, as last reported.
    pub applied: Index,
    /// The last index of the log, unstable entries included.
    pub last_index: Index,
    /// The configuration in effect.
    pub conf_state: ConfState,
    /// Who leadership is being handed to.
    pub transferring_to: Option<ReplicaId>,
    /// On a leader every member with its progress, ascending; empty elsewhere.
    pub progress: Vec<(ReplicaId, ProgressView)>,
}

impl Status {
    pub(crate) fn of<S: Storage>(raft: &Raft<S>) -> Self {
        let members = raft.tracker.progress.iter();
        let progress = if raft.role == Role::Leader {
            members.map(|(id, progress)| (id, progress.view())).collect()
        } else {
            Vec::new()
        };
        Self {
            id: raft.id,
            soft_state: raft.soft_state(),
            hard_state: raft.hard_state(),
            applied: raft.log.applied,
            last_index: raft.log.last_index(),
            conf_state: raft.tracker.conf_state(),
            transferring_to: raft.transferee,
            progress,
        }
    }
}

/// A follower as its leader sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgressView {
    /// The last index known to be stored there.
    pub matched: Index,
    /// The next index to send.
    pub next: Index,
    /// Probe, replicate or snapshot.
    pub state: ProgressState,
    /// Heard from since the last check-quorum.
    pub recent_active: bool,
    /// Receives entries but has no vote.
    pub is_learner: bool,
}

/// How a leader feeds a follower.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgressState {
    /// One append per heartbeat until the match is known.
    Probe,
    /// Optimistic pipelining.
    Replicate,
    /// Waiting for a snapshot to be installed.
    Snapshot,
}

impl Progress {
    pub(crate) fn view(&self) -> ProgressView {
        ProgressView {
            matched: self.matched,
            next: self.next,
            state: self.state,
            recent_active: self.recent_active,
            is_learner: self.is_learner,
        }
    }
}
