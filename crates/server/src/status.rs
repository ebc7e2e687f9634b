//! What a node tells about itself.
//!
//! The reactor counts in plain integers of its own and hands over a [`NodeStatus`] once per tick through
//! [`Shared::publish`]; the HTTP thread reads the newest one. So a request costs the reactor nothing, and a
//! scrape costs it at most the time of swapping a pointer under a mutex.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

/// A reactor that has published nothing for this long is stuck: the node is not ready, whatever it said last.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// What a replica is in its group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ShardRole {
    /// Leads.
    Leader,
    /// Follows.
    Follower,
    /// Asks for votes, or whether it would get them.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Takes no part until rebuilt from its peers (P3).
    Quarantined,
}

/// One local replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ShardRow {
    /// The shard; 0 is the controller's.
    pub shard: u64,
    /// First slot, inclusive; `None` for the controller's shard.
    pub start_slot: Option<u16>,
    /// The slot behind the last, exclusive.
    pub end_slot: Option<u16>,
    /// The local replica's role.
    pub role: ShardRole,
    /// Its term.
    pub term: u64,
    /// The store that leads, if known.
    pub leader: Option<u64>,
    /// The newest index known to be committed, inclusive.
    pub commit: u64,
    /// The newest index applied here, inclusive; at most `commit`.
    pub applied: u64,
    /// The newest index in the local log, inclusive.
    pub last_index: u64,
    /// Live bytes of the shard in the local log.
    pub log_bytes: u64,
    /// Whether the local replica leads and may read without asking now.
    pub lease_held: bool,
    /// Why the local replica does not vote, if its log was damaged (P3).
    pub rebuild: Option<String>,
}

/// Totals since the process started, unless said otherwise.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counters {
    /// Client connections open now.
    pub connections_open: u64,
    /// Client connections accepted.
    pub connections_accepted: u64,
    /// Client connections refused for `connections_max`.
    pub connections_refused: u64,
    /// Commands answered, errors included.
    pub commands: u64,
    /// Answers that said "certainly not applied".
    pub outcomes_not_applied: u64,
    /// Answers that said "unknown".
    pub outcomes_unknown: u64,
    /// Bytes read from clients.
    pub client_read_bytes: u64,
    /// Bytes written to clients.
    pub client_written_bytes: u64,
    /// Linearizable reads under a lease.
    pub reads_by_lease: u64,
    /// Linearizable reads by a round to a quorum (ReadIndex).
    pub reads_by_round: u64,
    /// Requests sent on to the shard's leader.
    pub forwards: u64,
    /// Entries proposed here.
    pub proposals: u64,
    /// Elections begun here.
    pub elections: u64,
    /// What the controller's schedulers decided on here.
    pub operators_given: u64,
    /// Of that, what came about.
    pub operators_done: u64,
    /// What something else overtook.
    pub operators_void: u64,
    /// What a shard gave up (M2).
    pub operators_failed: u64,
    /// What was not begun or not ended in time.
    pub operators_timed_out: u64,
    /// Orders of the schedulers that shards led here took.
    pub orders_taken: u64,
    /// Orders that were void here.
    pub orders_void: u64,
    /// Syncs of the Raft log.
    pub log_syncs: u64,
    /// Microseconds spent in them.
    pub log_sync_us: u64,
    /// The longest of them, in microseconds.
    pub log_sync_us_max: u64,
    /// Bytes written to the Raft log.
    pub log_written_bytes: u64,
    /// Bytes of the Raft log's segments on disk now.
    pub log_disk_bytes: u64,
    /// Other nodes connected now.
    pub peers_connected: u64,
    /// Bytes read from other nodes.
    pub peer_read_bytes: u64,
    /// Bytes written to other nodes.
    pub peer_written_bytes: u64,
    /// Splits applied here.
    pub splits: u64,
    /// Requests whose slot had another shard since a split.
    pub rerouted: u64,
    /// Snapshots sent whole.
    pub snapshots_sent: u64,
    /// Snapshots begun to be sent.
    pub snapshots_begun: u64,
    /// Snapshots sent for a leader that asked for them.
    pub snapshots_fed: u64,
    /// Bytes of snapshots sent.
    pub snapshot_bytes_sent: u64,
    /// Chunks of snapshots sent again.
    pub snapshot_chunks_resent: u64,
    /// Chunks of snapshots that came while the disk did not keep up.
    pub snapshot_chunks_put_off: u64,
    /// Snapshots installed.
    pub snapshots_installed: u64,
    /// Quarantined replicas that were rebuilt from their peers (P3).
    pub replicas_rebuilt: u64,
    /// Local replicas made because a leader spoke to this store.
    pub replicas_created: u64,
    /// Local replicas removed (M4).
    pub replicas_removed: u64,
    /// Membership changes turned round here because new voters were away (M2).
    pub changes_turned_round: u64,
    /// Membership changes that local replicas applied.
    pub memberships_changed: u64,
    /// Sessions that the local replicas remember now.
    pub sessions: u64,
    /// Answers that they keep for them.
    pub session_answers: u64,
    /// Bytes that those take.
    pub session_bytes: u64,
    /// Turns of the reactor.
    pub turns: u64,
}

/// A node's account of itself at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct NodeStatus {
    /// The cluster's id in hexadecimal.
    pub cluster: String,
    /// This store's id.
    pub store: u64,
    /// The disk of the Raft log has less space left than `low_space_bytes` (H1).
    pub disk_full: bool,
    /// A log write has been pending for longer than an election timeout (H2).
    pub disk_slow: bool,
    /// Bytes left on the disk of the Raft log, if known.
    pub disk_available_bytes: Option<u64>,
    /// Slots whose shard is not known here, or whose leader is not: 0 when this node can serve every key.
    pub slots_without_leader: u32,
    /// One row for each local replica, sorted by shard.
    pub shards: Vec<ShardRow>,
    /// Totals.
    pub counters: Counters,
}

/// Where the reactor leaves its account and the HTTP thread finds it.
#[derive(Debug)]
pub struct Shared {
    started: Instant,
    stopping: AtomicBool,
    newest: Mutex<Option<(Instant, Arc<NodeStatus>)>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            newest: Mutex::new(None),
        }
    }
}

impl Shared {
    /// Nothing published yet: not ready.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Replaces the node's account. For the reactor, once per tick.
    pub fn publish(&self, status: NodeStatus) {
        let newest = Some((Instant::now(), Arc::new(status)));
        // The old account is freed after the lock is released.
        let _old = std::mem::replace(&mut *self.lock(), newest);
    }

    /// From now on the node is not ready: it hands its work over and ends.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The newest account, if any.
    pub fn status(&self) -> Option<Arc<NodeStatus>> {
        self.lock().as_ref().map(|(_, status)| status.clone())
    }

    /// Whether the node can serve: every shard with a local replica knows a leader. Otherwise the reason.
    pub fn ready(&self) -> Result<(), String> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err("the node is shutting down".to_owned());
        }
        let Some((at, status)) = self.lock().clone() else {
            return Err("the node is starting".to_owned());
        };
        if at.elapsed() > STALE_AFTER {
            return Err(format!(
                "the node has said nothing for {} s",
                at.elapsed().as_secs()
            ));
        }
        let rebuilding = |row: &ShardRow| Some(format!("shard {}: {}", row.shard, row.rebuild.as_ref()?));
        if let Some(reason) = status.shards.iter().find_map(rebuilding) {
            return Err(reason);
        }
        let waiting: Vec<String> = status
            .shards
            .iter()
            .filter(|row| row.leader.is_none())
            .map(|row| row.shard.to_string())
            .collect();
        if waiting.is_empty() {
            return match status.slots_without_leader {
                0 => Ok(()),
                slots => Err(format!(
                    "no leader is known for {slots} slots of shards on other nodes"
                )),
            };
        }
        // A node may hold thousands of shards; a few of them tell the story.
        let shown = waiting
            .iter()
            .take(10)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        let more = if waiting.len() > 10 { ", …" } else { "" };
        Err(format!(
            "no leader is known for {} of {} shards: {shown}{more}",
            waiting.len(),
            status.shards.len()
        ))
    }

    /// Seconds since the process started.
    pub fn uptime_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Instant, Arc<NodeStatus>)>> {
        // Nothing under the lock can leave it half done, so a panic elsewhere does not spoil it.
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A follower of the shard.
    pub(crate) fn row(shard: u64, leader: Option<u64>) -> ShardRow {
        ShardRow {
            shard,
            start_slot: Some(0),
            end_slot: Some(2048),
            role: ShardRole::Follower,
            term: 3,
            leader,
            commit: 10,
            applied: 9,
            last_index: 12,
            log_bytes: 4096,
            lease_held: false,
            rebuild: None,
        }
    }

    #[test]
    fn ready_only_when_every_shard_knows_a_leader() {
        let shared = Shared::new();
        assert!(shared.ready().unwrap_err().contains("starting"));
        shared.publish(NodeStatus {
            shards: vec![row(1, Some(2)), row(7, None)],
            ..NodeStatus::default()
        });
        assert_eq!(
            shared.ready().unwrap_err(),
            "no leader is known for 1 of 2 shards: 7"
        );
        let mut rebuilding = row(7, Some(1));
        rebuilding.rebuild = Some("its log was damaged".to_owned());
        shared.publish(NodeStatus {
            shards: vec![row(1, Some(2)), rebuilding],
            ..NodeStatus::default()
        });
        assert_eq!(
            shared.ready().unwrap_err(),
            "shard 7: its log was damaged",
            "one more failure may stop the shard"
        );
        shared.publish(NodeStatus {
            shards: vec![row(1, Some(2)), row(7, Some(1))],
            ..NodeStatus::default()
        });
        assert_eq!(shared.ready(), Ok(()));
        shared.publish(NodeStatus {
            slots_without_leader: 2048,
            ..NodeStatus::default()
        });
        assert_eq!(
            shared.ready().unwrap_err(),
            "no leader is known for 2048 slots of shards on other nodes"
        );
        shared.publish(NodeStatus::default());
        assert_eq!(
            shared.ready(),
            Ok(()),
            "a node without replicas serves through the others"
        );
        shared.set_stopping();
        assert!(shared.ready().unwrap_err().contains("shutting down"));
    }
}
