//! A member's settings.

use std::collections::BTreeMap;

use quorate_storage::ClusterId;
use quorate_storage::log::LogOptions;

use crate::NodeId;

/// What a member finds, or is to make, in its data directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Start {
    /// The group begins with these voters, and this member is one of them; each is given the same list. A
    /// directory that already holds the member is opened as it is, so the first start and every later one may
    /// say the same. Not after a disk was lost: then the member's id is used up (P7).
    Bootstrap {
        /// The first voters and where they listen, `host:port`.
        voters: BTreeMap<NodeId, String>,
    },
    /// An empty directory becomes a member that waits until a leader adds it.
    Join,
    /// The member exists; an empty directory is refused.
    Resume,
}

/// A member's settings. [`Config::new`] has defaults for all but who it is.
///
/// Members of a group should agree on all limits and times.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The group, any number that no other group has: members of different groups refuse each other.
    pub cluster: ClusterId,
    /// This member.
    pub id: NodeId,
    /// See [`Start`].
    pub start: Start,
    /// Microseconds of one tick, from 1,000. All other times of Raft are counted in ticks.
    pub tick_us: u64,
    /// Ticks between two heartbeats of an idle leader.
    pub heartbeat_ticks: u32,
    /// Ticks without a leader before a campaign, randomized in `[T, 2T)`; more than `heartbeat_ticks`.
    pub election_ticks: u32,
    /// Bytes of one command.
    pub max_command_bytes: usize,
    /// Bytes of commands started and not yet committed and taken by the application.
    pub max_uncommitted_bytes: u64,
    /// Bytes of committed commands handed up and not yet taken by the application.
    pub max_untaken_bytes: u64,
    /// Bytes of commands in one message; at least one command always goes.
    pub max_bytes_per_message: u64,
    /// Messages with commands on their way to one follower.
    pub max_inflight_messages: usize,
    /// Bytes of one snapshot. It is held in memory, once here and once for each follower it is received from.
    pub max_snapshot_bytes: u64,
    /// Bytes of one piece of a snapshot on its way.
    pub snapshot_chunk_bytes: usize,
    /// Bytes of log kept behind the newest snapshot, so that a follower that lags a little needs none.
    pub log_keep_bytes: u64,
    /// Microseconds after which a read barrier, a transfer or a membership change is given up.
    pub request_timeout_us: u64,
    /// The files of the log.
    pub log: LogFiles,
}

/// The files of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogFiles {
    /// Bytes of one file.
    pub segment_bytes: u64,
    /// Empty files kept for reuse.
    pub recycled_segments_max: usize,
}

impl LogFiles {
    pub(crate) fn options(self) -> LogOptions {
        LogOptions {
            segment_bytes: self.segment_bytes,
            recycled_segments_max: self.recycled_segments_max,
        }
    }
}

/// The transport's frame, less some room for what is around the commands.
const MESSAGE_BYTES_MAX: u64 = (quorate_transport::FRAME_BYTES_MAX_DEFAULT - (1 << 16)) as u64;

impl Config {
    /// A member with default limits: ticks of 50 ms, a heartbeat every 100 ms, an election after 500 ms to 1 s
    /// without one, commands up to 4 MiB.
    #[must_use]
    pub fn new(cluster: ClusterId, id: NodeId, start: Start) -> Self {
        Self {
            cluster,
            id,
            start,
            tick_us: 50_000,
            heartbeat_ticks: 2,
            election_ticks: 10,
            max_command_bytes: 4 << 20,
            max_uncommitted_bytes: 64 << 20,
            max_untaken_bytes: 8 << 20,
            max_bytes_per_message: 1 << 20,
            max_inflight_messages: 64,
            max_snapshot_bytes: 1 << 30,
            snapshot_chunk_bytes: 256 << 10,
            log_keep_bytes: 4 << 20,
            request_timeout_us: 10_000_000,
            log: LogFiles {
                segment_bytes: 16 << 20,
                recycled_segments_max: 2,
            },
        }
    }

    /// Says what is out of range.
    ///
    /// # Errors
    ///
    /// A text that names the setting, its value and the range.
    pub fn validate(&self) -> Result<(), String> {
        let check = |ok: bool, text: String| if ok { Ok(()) } else { Err(text) };
        check(self.id.0 > 0, "id must not be 0".into())?;
        check(
            self.tick_us >= 1000,
            format!("tick_us must be at least 1000, not {}", self.tick_us),
        )?;
        check(
            self.heartbeat_ticks > 0 && self.election_ticks > self.heartbeat_ticks,
            format!(
                "election_ticks ({}) must be more than heartbeat_ticks ({}), which must not be 0",
                self.election_ticks, self.heartbeat_ticks
            ),
        )?;
        let command = self.max_command_bytes as u64;
        check(
            self.max_command_bytes > 0
                && command < MESSAGE_BYTES_MAX
                && self.max_bytes_per_message < MESSAGE_BYTES_MAX,
            format!(
                "max_command_bytes ({command}) and max_bytes_per_message ({}) must be below {MESSAGE_BYTES_MAX}, the \
                 first not 0",
                self.max_bytes_per_message
            ),
        )?;
        check(
            self.max_inflight_messages > 0 && self.max_untaken_bytes > 0,
            "max_inflight_messages and max_untaken_bytes must not be 0".into(),
        )?;
        check(
            (1..MESSAGE_BYTES_MAX).contains(&(self.snapshot_chunk_bytes as u64)),
            format!("snapshot_chunk_bytes must be from 1 to {MESSAGE_BYTES_MAX}"),
        )?;
        check(
            self.log.segment_bytes >= 16 << 10,
            format!(
                "log.segment_bytes must be at least 16384, not {}",
                self.log.segment_bytes
            ),
        )?;
        if let Start::Bootstrap { voters } = &self.start {
            check(
                voters.contains_key(&self.id),
                format!(
                    "member {} is not among the voters that it is to begin with",
                    self.id
                ),
            )?;
            check(
                !voters.contains_key(&NodeId(0)),
                "a voter's id must not be 0".into(),
            )?;
        }
        Ok(())
    }
}
