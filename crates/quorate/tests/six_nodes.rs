//! More nodes than replicas: a cluster of six forms, shares its shards out and serves them all through every node.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use quorate::client::Reply;
use support::control::shards;
use support::{Cluster, Node, SHARDS, TIMEOUT, ask, bulk, ok, quorate};

/// A key of each shard: hash tags are tried until all shards have one.
fn keys(cluster: &Cluster) -> Vec<String> {
    let mut client = cluster.client(0);
    let mut found = BTreeMap::new();
    for n in 0.. {
        let key = format!("key{n}");
        let Reply::Int(slot) = ask(&mut client, &format!("CLUSTER KEYSLOT {key}")) else {
            panic!("no slot of {key}")
        };
        found
            .entry(slot as u64 * u64::from(SHARDS) / 16384)
            .or_insert(key);
        if found.len() == usize::from(SHARDS) {
            break;
        }
    }
    found.into_values().collect()
}

/// Every store is known to the controller soon, as one that lives, by its own addresses and with all that it holds,
/// whichever node is asked.
fn assert_registered(cluster: &Cluster, via: usize) {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let output = quorate()
            .args([
                "ctl",
                "--endpoints",
                &cluster.nodes[via].addr(),
                "stores",
                "--json",
            ])
            .output()
            .unwrap();
        let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = rows.as_array().unwrap();
        let is_known = |(row, node): (&serde_json::Value, &Node)| {
            row["state"] == "up"
                && row["client"] == node.addr()
                && row["http"] == format!("127.0.0.1:{}", node.http)
        };
        let counts = |what: &str| -> u64 { rows.iter().filter_map(|row| row[what].as_u64()).sum() };
        let all = u64::from(SHARDS) + 1;
        if rows.len() == cluster.nodes.len()
            && rows.iter().zip(&cluster.nodes).all(is_known)
            && (counts("shards"), counts("leads")) == (3 * all, all)
        {
            return;
        }
        assert!(Instant::now() < deadline, "{rows:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn six_nodes_share_the_shards_out_and_each_serves_all_of_them() {
    let mut cluster = Cluster::start(6, &[]);
    cluster.wait_ready();
    let mut held = BTreeMap::new();
    for shard in shards(&cluster, 0) {
        assert_eq!(shard.stores.len(), 3, "{shard:?}");
        assert!(shard.stores.contains(&shard.leader.unwrap()), "{shard:?}");
        for store in shard.stores {
            *held.entry(store).or_insert(0) += 1;
        }
    }
    assert_eq!(held, (1..=6).map(|store| (store, 4)).collect());
    assert_registered(&cluster, 5);
    let keys = keys(&cluster);
    for node in 0..6 {
        let mut client = cluster.client(node);
        let mut next = cluster.client((node + 1) % 6);
        for key in &keys {
            assert_eq!(ask(&mut client, &format!("SET {key} by{node}")), ok());
            assert_eq!(ask(&mut next, &format!("GET {key}")), bulk(&format!("by{node}")));
        }
    }
    // Every shard keeps a majority.
    cluster.nodes[2].kill();
    for (node, key) in [3, 4, 5, 0, 1].into_iter().cycle().zip(&keys) {
        let mut client = cluster.client(node);
        assert_eq!(ask(&mut client, &format!("SET {key} later")), ok(), "{key}");
    }
    cluster.nodes[2].start();
    cluster.wait_ready();
    assert_registered(&cluster, 2);
    let mut client = cluster.client(2);
    for key in &keys {
        assert_eq!(ask(&mut client, &format!("GET {key}")), bulk("later"));
    }
}
