//! What a store counts for its operators.

use crate::rsm::Tally;

/// Totals since the store was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Linearizable reads that were confirmed by a lease when they came.
    pub reads_by_lease: u64,
    /// Linearizable reads that joined a round to a quorum (R1).
    pub reads_by_round: u64,
    /// Requests sent on to another store; one that is sent again counts again.
    pub forwards: u64,
    /// Entries proposed here, the store's own included.
    pub proposals: u64,
    /// Terms in which a replica of this store voted for itself: elections begun here.
    pub elections: u64,
    /// Snapshots that a follower confirmed to have installed, whether they were sent here or by another follower.
    pub snapshots_sent: u64,
    /// Snapshots that a follower was asked to send.
    pub snapshots_asked: u64,
    /// Snapshots sent for a leader that asked for them.
    pub snapshots_fed: u64,
    /// Snapshots begun to be sent.
    pub snapshots_begun: u64,
    /// Bytes of pairs in the chunks of snapshots that were sent.
    pub snapshot_bytes_sent: u64,
    /// Chunks of snapshots that were sent again because they may have been lost.
    pub snapshot_chunks_resent: u64,
    /// Chunks of snapshots that came while the engine was behind; they come again.
    pub snapshot_chunks_put_off: u64,
    /// Snapshots installed here and durable.
    pub snapshots_installed: u64,
    /// Quarantined replicas that were rebuilt from their peers (P3).
    pub replicas_rebuilt: u64,
    /// Membership changes that replicas here applied.
    pub memberships_changed: u64,
    /// Replicas that were made here because a leader spoke to them.
    pub replicas_created: u64,
    /// Replicas that were removed from here (M4).
    pub replicas_removed: u64,
    /// Splits of shards applied here.
    pub splits: u64,
    /// Requests that came back because their slot has another shard since it was split.
    pub rerouted: u64,
    /// Changes of a membership that were turned round here because new voters were away (M2).
    pub changes_turned_round: u64,
    /// Heartbeats sent to the controller's leader.
    pub heartbeats_sent: u64,
    /// Shards told of in them.
    pub shard_heartbeats_sent: u64,
    /// Heartbeats heard here as the controller's leader, this store's own included.
    pub heartbeats_heard: u64,
    /// Shards told of in them that were refused, as they were older than what was known.
    pub shard_heartbeats_refused: u64,
    /// What the schedulers decided on here, as the controller's leader, and what became of it.
    pub operators: Tally,
    /// Orders in answers to heartbeats; one that is given again counts again.
    pub orders_sent: u64,
    /// Orders that a shard led here took.
    pub orders_taken: u64,
    /// Orders that were void here: for a shard that is led elsewhere, or of another version.
    pub orders_void: u64,
}
