//! A member's settings.

use crate::{ConfigError, Index, ReplicaId};

/// How ReadIndex confirms leadership.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ReadOnlyOption {
    /// A round of heartbeats to a quorum (thesis §6.4).
    #[default]
    Safe,
    /// The reference's tick-based lease: a leader that check-quorum has not deposed answers at once. It is right
    /// only while no member's ticks run faster than the leader's by more than `election_ticks` allows, nothing
    /// pauses the leader between the check and the answer, and no election is forced by `forget_leader` (refused
    /// in this mode) or by a transfer. Needs `check_quorum`. Layers with clocks build a better lease above
    /// [`ReadOnlyOption::Safe`].
    LeaseBased,
}

/// A member's settings. [`Config::new`] gives what most want; change what you need:
///
/// ```
/// use quorate_raft::{Config, ReplicaId};
///
/// let config = Config { seed: 42, max_inflight_messages: 64, ..Config::new(ReplicaId(1)) };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    /// This member; not zero.
    pub id: ReplicaId,
    /// Ticks without a leader before a campaign, T; randomized in `[T, 2T)` (Raft paper §5.2). Ten heartbeats are
    /// usual.
    pub election_ticks: u32,
    /// Ticks between heartbeats; at least 1, less than `election_ticks`.
    pub heartbeat_ticks: u32,
    /// How long this member leaves elections to others: one of priority `p` starts none before it has been without
    /// a leader for `p` election timeouts longer than one of priority zero, the default. So the first campaign
    /// after the loss of a leader comes in `[(p + 1) T, (p + 2) T)`, and those of two priorities do not overlap.
    /// Once the `p` timeouts have passed without a leader, it campaigns like everybody: members that go first
    /// and cannot win do not keep it from leading.
    ///
    /// It decides only when a campaign starts, never who may vote or win: safety does not depend on timing (Raft
    /// paper §5.6). The price is at most `p` timeouts more without a leader. A preferred member that comes back
    /// does not take over by itself: hand it leadership with [`crate::RawNode::transfer_leader`].
    pub priority: u8,
    /// What the application has applied; entries up to it are not handed out again. Zero: what storage's log
    /// begins with, which is its snapshot.
    pub applied: Index,
    /// Payload bytes in one append; at least one entry always goes. Zero is one entry at a time.
    pub max_bytes_per_message: u64,
    /// Bytes of committed entries (payload, and 12 for each) handed out and not yet reported applied; at least one
    /// entry is always handed out.
    pub max_committed_bytes_per_ready: u64,
    /// Payload bytes that a leader proposed and has not applied; `u64::MAX` is no limit. A proposal is refused if
    /// it would go beyond, unless nothing is waiting.
    pub max_uncommitted_bytes: u64,
    /// Appends in flight to one follower; at least 1.
    pub max_inflight_messages: usize,
    /// Payload bytes in flight to one follower; at least 1, `u64::MAX` is no limit. The append that passes it is
    /// still sent.
    pub max_inflight_bytes: u64,
    /// Ask before campaigning (thesis §9.6).
    pub pre_vote: bool,
    /// A leader without a quorum for an election timeout steps down; votes are refused while a leader is heard
    /// (thesis §6.2, §6.4.1).
    pub check_quorum: bool,
    /// See [`ReadOnlyOption`].
    pub read_only: ReadOnlyOption,
    /// Persistence completes later, by [`crate::RawNode::append_done`] and [`crate::RawNode::apply_done`].
    pub async_storage_writes: bool,
    /// Gather appends until the Ready is taken: one message per follower and turn. A commit index alone then
    /// waits for the next append or heartbeat.
    pub gather_appends: bool,
    /// Followers refuse proposals instead of forwarding them.
    pub disable_proposal_forwarding: bool,
    /// The application checks membership changes itself: none is refused, and one that does not fit when it is
    /// applied stops every member.
    pub disable_conf_change_validation: bool,
    /// A leader that is removed or demoted steps down when it applies that (Raft paper §6). Otherwise it leads
    /// on, as the reference did, until another is elected.
    pub step_down_on_removal: bool,
    /// Seed of the randomized election timeouts; members should differ.
    pub seed: u64,
}

impl Config {
    /// Settings for most: elections after 10 to 20 ticks, a heartbeat every tick, pre-vote, check-quorum, appends
    /// of 1 MiB, windows of 256 messages and 16 MiB, 64 MiB uncommitted, 4 MiB handed out at once; synchronous
    /// driving, and `id` as the seed.
    #[must_use]
    pub const fn new(id: ReplicaId) -> Self {
        Self {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            priority: 0,
            applied: Index(0),
            max_bytes_per_message: 1 << 20,
            max_committed_bytes_per_ready: 4 << 20,
            max_uncommitted_bytes: 64 << 20,
            max_inflight_messages: 256,
            max_inflight_bytes: 16 << 20,
            pre_vote: true,
            check_quorum: true,
            read_only: ReadOnlyOption::Safe,
            async_storage_writes: false,
            gather_appends: true,
            disable_proposal_forwarding: false,
            disable_conf_change_validation: false,
            step_down_on_removal: true,
            seed: id.0,
        }
    }

    /// What [`crate::RawNode::new`] checks.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] says which setting, and what would be right.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let Self {
            election_ticks: election,
            heartbeat_ticks: heartbeat,
            priority,
            ..
        } = *self;
        if self.id == ReplicaId(0) {
            return Err(ConfigError::NoId);
        }
        if heartbeat == 0 || election <= heartbeat {
            return Err(ConfigError::Ticks { election, heartbeat });
        }
        if election.checked_mul(u32::from(priority) + 2).is_none() {
            return Err(ConfigError::TimeoutTooLong { election, priority });
        }
        if self.max_inflight_messages == 0 || self.max_inflight_bytes == 0 {
            return Err(ConfigError::NothingInFlight);
        }
        if self.read_only == ReadOnlyOption::LeaseBased && !self.check_quorum {
            return Err(ConfigError::LeaseWithoutCheckQuorum);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(adjust: impl Fn(&mut Config)) -> Option<ConfigError> {
        let mut config = Config::new(ReplicaId(1));
        adjust(&mut config);
        config.validate().err()
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        assert_eq!(refused(|_| {}), None);
        assert_eq!(refused(|c| c.id = ReplicaId(0)), Some(ConfigError::NoId));
        for (election, heartbeat) in [(10, 0), (1, 1), (3, 5), (0, 0)] {
            let found = refused(|c| (c.election_ticks, c.heartbeat_ticks) = (election, heartbeat));
            assert_eq!(found, Some(ConfigError::Ticks { election, heartbeat }));
        }
        assert_eq!(
            refused(|c| c.max_inflight_messages = 0),
            Some(ConfigError::NothingInFlight)
        );
        assert_eq!(
            refused(|c| c.max_inflight_bytes = 0),
            Some(ConfigError::NothingInFlight)
        );
        let leases = |c: &mut Config| (c.read_only, c.check_quorum) = (ReadOnlyOption::LeaseBased, false);
        assert_eq!(refused(leases), Some(ConfigError::LeaseWithoutCheckQuorum));
        let long = |c: &mut Config| (c.election_ticks, c.priority) = (u32::MAX / 3, 2);
        assert_eq!(
            refused(long),
            Some(ConfigError::TimeoutTooLong {
                election: u32::MAX / 3,
                priority: 2
            })
        );
        assert_eq!(refused(|c| c.election_ticks = u32::MAX / 2), None);
    }
}
