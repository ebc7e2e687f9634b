//! A node's account of itself in Prometheus's text format.

use std::fmt::Write as _;

use crate::status::{Counters, NodeStatus, ShardRole, ShardRow, Shared};

/// The account in Prometheus's text format. Names are `quorate_<component>_<what>_<unit>`.
#[must_use]
pub fn prometheus(shared: &Shared) -> String {
    let mut out = Exposition::default();
    out.family(
        "quorate_node_build_info",
        "gauge",
        "Always 1; the label says which version runs.",
        [(format!("{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0)],
    );
    out.value(
        "quorate_node_uptime_seconds",
        "gauge",
        "Since the process started.",
        shared.uptime_s() as f64,
    );
    let ready = f64::from(u8::from(shared.ready().is_ok()));
    out.value(
        "quorate_node_ready_bool",
        "gauge",
        "1 when every local shard knows a leader.",
        ready,
    );
    if let Some(status) = shared.status() {
        out.counters(&status.counters);
        out.disk(&status);
        out.shards(&status.shards);
    }
    out.text
}

/// Writes families of the text format: a HELP and a TYPE line, then one line for each set of labels.
#[derive(Default)]
struct Exposition {
    text: String,
}

impl Exposition {
    fn value(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help, [("", value)]);
    }

    fn family<L: AsRef<str>>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        rows: impl IntoIterator<Item = (L, f64)>,
    ) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let _ = writeln!(self.text, "{name}{} {value}", labels.as_ref());
        }
    }

    fn counters(&mut self, c: &Counters) {
        // Without `..`: a new counter that is not exported does not compile.
        let Counters {
            connections_open,
            connections_accepted,
            connections_refused,
            commands,
            outcomes_not_applied,
            outcomes_unknown,
            client_read_bytes,
            client_written_bytes,
            reads_by_lease,
            reads_by_round,
            forwards,
            proposals,
            elections,
            operators_given,
            operators_done,
            operators_void,
            operators_failed,
            operators_timed_out,
            orders_taken,
            orders_void,
            log_syncs,
            log_sync_us,
            log_sync_us_max,
            log_written_bytes,
            log_disk_bytes,
            peers_connected,
            peer_read_bytes,
            peer_written_bytes,
            snapshots_sent,
            snapshots_begun,
            snapshots_fed,
            snapshot_bytes_sent,
            snapshot_chunks_resent,
            snapshot_chunks_put_off,
            snapshots_installed,
            replicas_rebuilt,
            splits,
            rerouted,
            replicas_created,
            replicas_removed,
            changes_turned_round,
            memberships_changed,
            sessions,
            session_answers,
            session_bytes,
            turns,
        } = *c;
        let totals = [
            (
                "client_connections_accepted_total",
                "Client connections accepted.",
                connections_accepted,
            ),
            (
                "client_connections_refused_total",
                "Client connections refused, too many.",
                connections_refused,
            ),
            (
                "client_commands_total",
                "Commands answered, errors included.",
                commands,
            ),
            (
                "client_outcomes_not_applied_total",
                "Answers: certainly not applied.",
                outcomes_not_applied,
            ),
            (
                "client_outcomes_unknown_total",
                "Answers: unknown whether applied.",
                outcomes_unknown,
            ),
            ("client_read_bytes_total", "Read from clients.", client_read_bytes),
            (
                "client_written_bytes_total",
                "Written to clients.",
                client_written_bytes,
            ),
            (
                "store_reads_by_lease_total",
                "Linearizable reads under a lease.",
                reads_by_lease,
            ),
            (
                "store_reads_by_round_total",
                "Linearizable reads by ReadIndex.",
                reads_by_round,
            ),
            (
                "store_forwards_total",
                "Requests sent on to a shard's leader.",
                forwards,
            ),
            ("store_proposals_total", "Entries proposed here.", proposals),
            ("store_elections_total", "Elections begun here.", elections),
            (
                "controller_operators_given_total",
                "What the schedulers decided on, while this node led the controller.",
                operators_given,
            ),
            (
                "controller_operators_done_total",
                "Operators that came about.",
                operators_done,
            ),
            (
                "controller_operators_void_total",
                "Operators that something else overtook.",
                operators_void,
            ),
            (
                "controller_operators_failed_total",
                "Operators whose shard went back.",
                operators_failed,
            ),
            (
                "controller_operators_timed_out_total",
                "Operators that were not begun or not ended in time.",
                operators_timed_out,
            ),
            (
                "store_orders_taken_total",
                "Orders of the schedulers that shards led here took.",
                orders_taken,
            ),
            (
                "store_orders_void_total",
                "Orders of the schedulers that came too late here.",
                orders_void,
            ),
            ("store_splits_total", "Splits of shards applied here.", splits),
            (
                "store_rerouted_total",
                "Requests that came back because a split gave their slot to another shard.",
                rerouted,
            ),
            (
                "store_snapshots_sent_total",
                "Snapshots sent whole.",
                snapshots_sent,
            ),
            (
                "store_snapshots_begun_total",
                "Snapshots begun to be sent.",
                snapshots_begun,
            ),
            (
                "store_snapshots_fed_total",
                "Snapshots sent to a follower for the leader, which asked for it.",
                snapshots_fed,
            ),
            (
                "store_snapshot_bytes_sent_total",
                "Bytes of snapshots sent.",
                snapshot_bytes_sent,
            ),
            (
                "store_snapshot_chunks_resent_total",
                "Chunks of snapshots sent again, because they may have been lost.",
                snapshot_chunks_resent,
            ),
            (
                "store_snapshot_chunks_put_off_total",
                "Chunks of snapshots that came while the disk did not keep up, and come again.",
                snapshot_chunks_put_off,
            ),
            (
                "store_snapshots_installed_total",
                "Snapshots installed.",
                snapshots_installed,
            ),
            (
                "store_replicas_rebuilt_total",
                "Replicas with a damaged log that were rebuilt from their peers.",
                replicas_rebuilt,
            ),
            (
                "store_memberships_changed_total",
                "Membership changes that local replicas applied.",
                memberships_changed,
            ),
            (
                "store_replicas_created_total",
                "Replicas made here because a leader spoke to this store.",
                replicas_created,
            ),
            (
                "store_replicas_removed_total",
                "Replicas removed from here.",
                replicas_removed,
            ),
            (
                "store_changes_turned_round_total",
                "Membership changes turned round because new voters were away.",
                changes_turned_round,
            ),
            ("log_syncs_total", "Syncs of the Raft log.", log_syncs),
            (
                "log_written_bytes_total",
                "Written to the Raft log.",
                log_written_bytes,
            ),
            ("peer_read_bytes_total", "Read from other nodes.", peer_read_bytes),
            (
                "peer_written_bytes_total",
                "Written to other nodes.",
                peer_written_bytes,
            ),
            ("reactor_turns_total", "Turns of the reactor.", turns),
        ];
        for (name, help, value) in totals {
            self.value(&format!("quorate_{name}"), "counter", help, value as f64);
        }
        let sync_s = log_sync_us as f64 / 1e6;
        self.value(
            "quorate_log_sync_seconds_total",
            "counter",
            "Spent in syncs of the Raft log.",
            sync_s,
        );
        let longest_s = log_sync_us_max as f64 / 1e6;
        self.value(
            "quorate_log_sync_max_seconds",
            "gauge",
            "The longest sync of the Raft log.",
            longest_s,
        );
        let now = [
            (
                "client_connections_open_count",
                "Client connections open now.",
                connections_open,
            ),
            (
                "store_sessions_count",
                "Sessions that the local replicas remember, added up.",
                sessions,
            ),
            (
                "store_session_answers_count",
                "Answers kept for sessions.",
                session_answers,
            ),
            (
                "store_session_bytes",
                "Rows of the session tables, keys and values.",
                session_bytes,
            ),
            (
                "log_disk_bytes",
                "The Raft log's segments on disk.",
                log_disk_bytes,
            ),
            (
                "peer_connected_count",
                "Other nodes connected now.",
                peers_connected,
            ),
        ];
        for (name, help, value) in now {
            self.value(&format!("quorate_{name}"), "gauge", help, value as f64);
        }
    }

    fn disk(&mut self, status: &NodeStatus) {
        let gauges = [
            (
                "available_bytes",
                "Left on the log's disk; -1 when unknown.",
                status.disk_available_bytes.map_or(-1.0, |bytes| bytes as f64),
            ),
            (
                "full_bool",
                "1 when less is left than low_space_bytes.",
                f64::from(u8::from(status.disk_full)),
            ),
            (
                "slow_bool",
                "1 while a log write is pending for longer than an election timeout.",
                f64::from(u8::from(status.disk_slow)),
            ),
        ];
        for (name, help, value) in gauges {
            self.value(&format!("quorate_disk_{name}"), "gauge", help, value);
        }
    }

    fn shards(&mut self, rows: &[ShardRow]) {
        type Column = (&'static str, &'static str, fn(&ShardRow) -> f64);
        let columns: [Column; 9] = [
            ("leading_bool", "1 when the local replica leads.", |r| {
                f64::from(u8::from(r.role == ShardRole::Leader))
            }),
            ("leader_store_id", "The store that leads; 0 when unknown.", |r| {
                r.leader.unwrap_or(0) as f64
            }),
            ("lease_held_bool", "1 when reads need no round.", |r| {
                f64::from(u8::from(r.lease_held))
            }),
            (
                "rebuilding_bool",
                "1 while a damaged log keeps it from voting.",
                |r| f64::from(u8::from(r.rebuild.is_some())),
            ),
            ("term_number", "The replica's term.", |r| r.term as f64),
            ("commit_index", "Newest committed index known.", |r| {
                r.commit as f64
            }),
            ("applied_index", "Newest applied index.", |r| r.applied as f64),
            ("last_index", "Newest index in the local log.", |r| {
                r.last_index as f64
            }),
            ("log_bytes", "Live bytes in the local log.", |r| {
                r.log_bytes as f64
            }),
        ];
        for (name, help, of) in columns {
            let rows = rows
                .iter()
                .map(|row| (format!("{{shard=\"{}\"}}", row.shard), of(row)));
            self.family(&format!("quorate_shard_{name}"), "gauge", help, rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::tests::row;

    #[test]
    fn exposition_has_one_type_line_for_each_family_and_only_our_names() {
        let shared = Shared::new();
        shared.publish(NodeStatus {
            shards: vec![row(1, Some(2)), row(2, None)],
            ..NodeStatus::default()
        });
        let text = prometheus(&shared);
        let mut families = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let name = rest.split(' ').next().unwrap();
                assert!(families.insert(name.to_owned()), "{name} twice");
            } else if !line.starts_with('#') {
                assert!(line.starts_with("quorate_"), "{line}");
                line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
            }
        }
        assert!(
            text.contains("quorate_shard_leader_store_id{shard=\"1\"} 2\n"),
            "{text}"
        );
        assert!(
            text.contains("quorate_shard_leader_store_id{shard=\"2\"} 0\n"),
            "{text}"
        );
    }
}
