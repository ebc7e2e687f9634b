//! What operators make of stores: labels, draining, removal, on real sockets and disks.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::time::{Duration, Instant};

use serde_json::Value;
use support::Cluster;
use support::control::ctl;

const PATIENCE: Duration = Duration::from_secs(60);

/// What the controller lists of a store.
fn listed(cluster: &Cluster, store: u64) -> Value {
    let (code, out, err) = ctl(cluster, 0, "stores --json");
    assert_eq!(code, Some(0), "{err}");
    let rows: Vec<Value> = serde_json::from_str(&out).unwrap();
    let row = rows.into_iter().find(|row| row["store"] == store);
    row.unwrap_or_else(|| panic!("store {store} is not in {out}"))
}

fn said(cluster: &Cluster, words: &str, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (code, out, err) = ctl(cluster, 0, words);
        if code == Some(0) {
            assert_eq!(out.trim_end(), what, "{words}");
            return;
        }
        assert!(err.contains("BUSY"), "{words}: {err}");
        assert!(Instant::now() < deadline, "{words}: {err}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn refused(cluster: &Cluster, words: &str, why: &str) {
    let (code, out, err) = ctl(cluster, 0, words);
    assert!(
        code == Some(1) && err.contains(why),
        "{words}: {code:?} {out} {err}"
    );
}

#[test]
fn a_store_is_labelled_drained_and_removed_and_its_id_is_gone() {
    let mut cluster = Cluster::alone();
    let first = cluster.nodes[0].addr();
    cluster.add(&["--join", &first, "--label", "zone=b,disk=ssd"]);
    cluster.wait_ready();
    let row = listed(&cluster, 2);
    assert_eq!(row["service"], "active");
    assert_eq!(row["labels"], serde_json::json!(["disk=ssd", "zone=b"]));

    refused(&cluster, "remove 2", "drain it first");
    refused(&cluster, "drain 9", "no id of this cluster");
    for _ in 0..2 {
        said(&cluster, "drain 2", "store 2: draining");
    }
    assert_eq!(listed(&cluster, 2)["service"], "draining");
    said(&cluster, "undrain 2", "store 2: active");
    said(&cluster, "drain 2 --json", r#"{"service":"draining","store":2}"#);
    refused(&cluster, "replica add 1 2", "store 2 is draining");
    for _ in 0..2 {
        said(&cluster, "remove 2", "store 2: removed");
    }
    assert_eq!(listed(&cluster, 2)["service"], "removed");
    refused(&cluster, "undrain 2", "gone for good");
    refused(&cluster, "replica add 1 2", "store 2 was removed");

    // P7: it may not come back.
    cluster.nodes[1].kill();
    cluster.nodes[1].start();
    assert_eq!(cluster.nodes[1].wait_exit(PATIENCE).code(), Some(1));
    let log = std::fs::read_to_string(cluster.nodes[1].log()).unwrap();
    assert!(
        log.contains("not admitted") && log.contains("gone for good"),
        "{log}"
    );
    std::fs::remove_dir_all(&cluster.nodes[1].data).unwrap();
    cluster.nodes[1].start();
    cluster.wait_ready();
    assert_eq!(listed(&cluster, 3)["service"], "active");
}
