//! The node's account of itself, gathered for [`crate::status`].

use quorate_raft::Role;
use quorate_store::ReplicaStatus;

use crate::reactor::Reactor;
use crate::status::{Counters, NodeStatus, ShardRole, ShardRow};

/// Microseconds between two accounts, and what each replica adds to that: gathering takes about 100 ns for a
/// replica, so it never takes more than a thousandth of a core.
const EVERY_US: u64 = 250_000;
const EVERY_US_PER_REPLICA: u64 = 100;

/// Publishes an account if it is time for one.
pub(crate) fn status(reactor: &mut Reactor) {
    let now_us = reactor.times.mono_us;
    if now_us < reactor.next_publish_us {
        return;
    }
    let replicas = reactor.store.status(reactor.times);
    let rows: Vec<ShardRow> = replicas.iter().map(|row| shard(reactor, row)).collect();
    reactor.next_publish_us = now_us + EVERY_US + EVERY_US_PER_REPLICA * rows.len() as u64;
    count(reactor, &replicas);
    let health = reactor.store.health();
    reactor.shared.publish(NodeStatus {
        cluster: reactor.store.cluster().to_string(),
        store: reactor.store.id().0,
        disk_full: health.is_full,
        disk_slow: health.is_slow,
        disk_available_bytes: health.available_bytes,
        slots_without_leader: reactor.view.slots_without_leader(),
        shards: rows,
        counters: reactor.counters.clone(),
    });
}

fn shard(reactor: &Reactor, row: &ReplicaStatus) -> ShardRow {
    let slots = reactor
        .store
        .descriptor(row.shard)
        .map(|descriptor| (descriptor.start_slot, descriptor.end_slot))
        .filter(|(start, end)| start < end);
    ShardRow {
        shard: row.shard.0,
        start_slot: slots.map(|(start, _)| start),
        end_slot: slots.map(|(_, end)| end),
        role: match row.role {
            _ if row.rebuild.is_some() => ShardRole::Quarantined,
            Role::Leader => ShardRole::Leader,
            Role::Follower => ShardRole::Follower,
            Role::Candidate | Role::PreCandidate => ShardRole::Candidate,
        },
        term: row.term.0,
        leader: row.leader.map(|store| store.0),
        commit: row.commit.0,
        applied: row.applied.0,
        last_index: row.last.0,
        log_bytes: row.log_bytes,
        lease_held: row.lease,
        rebuild: row.rebuild.as_ref().map(ToString::to_string),
    }
}

/// Takes over what others count; the rest the reactor counts itself.
fn count(reactor: &mut Reactor, replicas: &[ReplicaStatus]) {
    let sum = |of: fn(&ReplicaStatus) -> u64| replicas.iter().map(of).sum();
    let (store, peers, log) = (
        *reactor.store.counters(),
        reactor.peers.stats(),
        reactor.log.stats(),
    );
    let (bytes_in, bytes_out) = reactor.connections.bytes();
    let own = &reactor.counters;
    reactor.counters = Counters {
        connections_open: reactor.connections.open() as u64,
        connections_accepted: own.connections_accepted,
        connections_refused: own.connections_refused,
        commands: own.commands,
        outcomes_not_applied: own.outcomes_not_applied,
        outcomes_unknown: own.outcomes_unknown,
        client_read_bytes: bytes_in,
        client_written_bytes: bytes_out,
        reads_by_lease: store.reads_by_lease,
        reads_by_round: store.reads_by_round,
        forwards: store.forwards,
        proposals: store.proposals,
        elections: store.elections,
        operators_given: store.operators.given,
        operators_done: store.operators.done,
        operators_void: store.operators.void,
        operators_failed: store.operators.failed,
        operators_timed_out: store.operators.timed_out,
        orders_taken: store.orders_taken,
        orders_void: store.orders_void,
        log_syncs: log.syncs,
        log_sync_us: log.sync_us,
        log_sync_us_max: log.sync_us_max,
        log_written_bytes: log.written_bytes,
        // Unknown while the log is busy: then what it was.
        log_disk_bytes: reactor.log.bytes_on_disk().unwrap_or(own.log_disk_bytes),
        peers_connected: reactor.view.peers_connected(),
        peer_read_bytes: peers.bytes_in,
        peer_written_bytes: peers.bytes_out,
        snapshots_sent: store.snapshots_sent,
        snapshots_begun: store.snapshots_begun,
        snapshots_fed: store.snapshots_fed,
        snapshot_bytes_sent: store.snapshot_bytes_sent,
        snapshot_chunks_resent: store.snapshot_chunks_resent,
        snapshot_chunks_put_off: store.snapshot_chunks_put_off,
        snapshots_installed: store.snapshots_installed,
        replicas_rebuilt: store.replicas_rebuilt,
        splits: store.splits,
        rerouted: store.rerouted,
        replicas_created: store.replicas_created,
        replicas_removed: store.replicas_removed,
        changes_turned_round: store.changes_turned_round,
        memberships_changed: store.memberships_changed,
        sessions: sum(|row| row.sessions.sessions),
        session_answers: sum(|row| row.sessions.answers),
        session_bytes: sum(|row| row.sessions.bytes),
        turns: own.turns,
    };
}
