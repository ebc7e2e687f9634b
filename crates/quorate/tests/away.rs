//! A node is away while much more is written than the log keeps for it: the log stays within its bound on disk, and
//! the node comes back by snapshots.
//!
//! With 2 GB and its report: `cargo test --release -p quorate --test away -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Cluster, SHARDS, bulk, bytes_under, metric, quorate};

const MIB: u64 = 1 << 20;
/// 2 GB at the default rate of snapshots take three minutes.
const RECOVERY: Duration = Duration::from_secs(600);
/// What the engine has not made durable is kept beyond the configured bound; asked for every so much.
const DURABLE_EVERY: u64 = 32 * MIB;

/// The most that the log's directory may take (docs/operations.md, "How large the log becomes").
fn log_bytes_max(retention: u64, segment: u64) -> u64 {
    2 * (retention + retention / 4 + 2 * DURABLE_EVERY) + 6 * segment
}

/// A digest for each shard of a stopped store.
fn digests(data: &Path) -> BTreeMap<u64, String> {
    let output = quorate()
        .args(["debug", "digest", "--json", "--data"])
        .arg(data)
        .output()
        .unwrap();
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let digest = |row: &serde_json::Value| {
        (
            row["shard"].as_u64().unwrap(),
            row["digest"].as_str().unwrap().to_owned(),
        )
    };
    rows.as_array().unwrap().iter().map(digest).collect()
}

/// Every replica of every node that runs has applied the same.
fn wait_level(cluster: &Cluster) {
    let deadline = Instant::now() + RECOVERY;
    let applied = |node: &support::Node| -> Vec<u64> {
        (1..=SHARDS)
            .map(|shard| metric(node, &format!("shard_applied_index{{shard=\"{shard}\"}}")) as u64)
            .collect()
    };
    loop {
        let found: Vec<_> = cluster.nodes.iter().map(applied).collect();
        if found.iter().all(|of| *of == found[0]) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "the replicas do not become level: {found:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What a snapshot brought is applied at once, and counted once it is durable.
fn wait_installed(node: &support::Node, least: u64) -> u64 {
    let deadline = Instant::now() + RECOVERY;
    loop {
        let installed = metric(node, "store_snapshots_installed_total") as u64;
        if installed >= least {
            return installed;
        }
        assert!(
            Instant::now() < deadline,
            "{installed} snapshots were installed of {least}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn run(written: u64, value_bytes: usize, retention: u64, segment: u64) {
    const AWAY: usize = 2;
    let mut cluster = Cluster::start(
        3,
        &[
            "--log-retention-bytes",
            &retention.to_string(),
            "--log-segment-bytes",
            &segment.to_string(),
        ],
    );
    let (first, count) = (100, written.div_ceil(value_bytes as u64));
    bulk::load(&cluster.addrs(), first, value_bytes, |n| format!("first-{n}"));
    wait_level(&cluster);
    cluster.nodes[AWAY].kill();

    let bound = log_bytes_max(retention, segment);
    let ended = AtomicBool::new(false);
    let began = Instant::now();
    let (largest, repeated, took) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut largest = [0; AWAY];
            while !ended.load(Ordering::Relaxed) {
                for (largest, node) in largest.iter_mut().zip(&cluster.nodes) {
                    let bytes = bytes_under(&node.data.join("log"));
                    assert!(
                        bytes <= bound,
                        "node {}: the log takes {bytes} bytes, its bound is {bound}",
                        node.id
                    );
                    *largest = bytes.max(*largest);
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            largest
        });
        let repeated = bulk::load(&cluster.addrs()[..AWAY], count, value_bytes, |n| {
            format!("key-{n}")
        });
        let took = began.elapsed();
        ended.store(true, Ordering::Relaxed);
        (watch.join().unwrap(), repeated, took)
    });
    println!(
        "{} MiB written in {:.1} s while node 3 was away ({repeated} commands sent again)",
        written / MIB,
        took.as_secs_f64()
    );
    for (node, largest) in cluster.nodes.iter().zip(largest) {
        println!(
            "  node {}: log on disk at most {} MiB, bound {} MiB; memory now {} MiB, at most {} MiB",
            node.id,
            largest / MIB,
            bound / MIB,
            node.memory("VmRSS") / MIB,
            node.memory("VmHWM") / MIB
        );
    }

    let began = Instant::now();
    cluster.nodes[AWAY].start();
    cluster.wait_ready();
    wait_level(&cluster);
    let installed = wait_installed(&cluster.nodes[AWAY], SHARDS.into());
    println!(
        "  node 3 is level again after {:.1} s, by {installed} snapshots; memory of the nodes at most {:?} MiB",
        began.elapsed().as_secs_f64(),
        cluster
            .nodes
            .iter()
            .map(|node| node.memory("VmHWM") / MIB)
            .collect::<Vec<_>>()
    );
    for node in &cluster.nodes {
        node.signal(Signal::TERM);
    }
    for node in &mut cluster.nodes {
        assert_eq!(node.wait_exit(RECOVERY).code(), Some(0));
    }
    let found: Vec<_> = cluster.nodes.iter().map(|node| digests(&node.data)).collect();
    assert_eq!(found[0].len(), usize::from(SHARDS) + 1);
    assert_eq!(found[AWAY], found[0]);
    assert_eq!(found[1], found[0]);
    println!(
        "  digests of {} shards are the same on all three nodes",
        found[0].len()
    );
}

#[test]
fn a_node_that_was_away_for_long_comes_back_by_snapshots() {
    run(48 * MIB, 16 << 10, 4 * MIB, MIB);
}

#[test]
#[ignore = "a few minutes and 15 GB of disk; prints the report"]
fn two_gigabytes_while_a_node_is_away() {
    run(2048 * MIB, 8 << 10, 64 * MIB, 16 * MIB);
}
