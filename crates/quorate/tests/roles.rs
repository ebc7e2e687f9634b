//! Nodes with the controller role alone, and nodes with the store role alone, on real sockets and disks.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::control::ctl;
use support::tokens::{Load, Reader, judge};
use support::{Cluster, run_to_end};

const PATIENCE: Duration = Duration::from_secs(60);

fn rows(cluster: &Cluster, words: &str) -> Vec<Value> {
    let (_, out, _) = ctl(cluster, 0, &format!("{words} --json"));
    serde_json::from_str(&out).unwrap_or_default()
}

/// Until the controller's shard and all others are held so.
fn wait_held(cluster: &Cluster, controllers: &[u64], stores: &[u64]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = rows(cluster, "shards");
        let is_held = |row: &Value| {
            let wanted = if row["shard"] == 0 { controllers } else { stores };
            row["stores"] == json!(wanted) && row["learners"] == json!([]) && row["joint"] == json!([])
        };
        let slots: BTreeSet<_> = rows.iter().filter_map(|row| row["first-slot"].as_u64()).collect();
        if slots.len() == usize::from(support::SHARDS)
            && rows.len() == slots.len() + 1
            && rows.iter().all(is_held)
        {
            return;
        }
        assert!(Instant::now() < deadline, "{rows:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// One node with the controller role begins, and gives its shards away under load as those come that are there for them.
/// Then roles change.
#[test]
fn nodes_hold_what_their_roles_say() {
    let mut cluster = Cluster::alone_with(&["--roles", "controller"]);
    let first = cluster.nodes[0].addr();
    let load = Load::start(std::slice::from_ref(&first), 8, 0);
    load.wait_progress(5, PATIENCE);
    for roles in ["controller", "controller", "store", "store", "store"] {
        cluster.add(&["--join", &first, "--roles", roles]);
        cluster.wait_ready();
    }
    wait_held(&cluster, &[1, 2, 3], &[4, 5, 6]);
    let roles: Vec<Value> = rows(&cluster, "stores")
        .iter()
        .map(|row| row["roles"].clone())
        .collect();
    let (controller, store) = (json!(["controller"]), json!(["store"]));
    assert_eq!(
        roles,
        [&controller, &controller, &controller, &store, &store, &store].map(Value::clone)
    );
    let config = ctl(&cluster, 0, "config --json").1;
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["groups"][0]["stores"], json!([4, 5, 6]));
    for words in ["join 2=3", "join 2=3 --dry-run", "group add 1 3"] {
        let (code, _, err) = ctl(&cluster, 4, words);
        assert_eq!(code, Some(1), "{words}");
        assert!(
            err.contains("no store role") && err.contains("store 3 has not the role"),
            "{words}: {err}"
        );
    }
    load.wait_progress(5, PATIENCE);

    // Store 3 is to hold shards instead of store 4, which is to hold the controller's.
    for (node, roles) in [(2, "controller,store"), (3, "controller")] {
        cluster.nodes[node].kill();
        *cluster.nodes[node].args.last_mut().unwrap() = roles.to_owned();
        cluster.nodes[node].start();
        cluster.wait_ready();
    }
    wait_held(&cluster, &[1, 2, 3], &[3, 5, 6]);
    cluster.nodes[1].kill();
    *cluster.nodes[1].args.last_mut().unwrap() = "store".to_owned();
    cluster.nodes[1].start();
    cluster.wait_ready();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = rows(&cluster, "shards");
        if rows.first().is_some_and(|row| row["stores"] == json!([1, 3, 4])) {
            break;
        }
        assert!(Instant::now() < deadline, "{rows:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let sent = load.finish();
    let mut reader = Reader::new(&cluster.addrs());
    judge(&sent, |key| reader.read(key)).check();
}

#[test]
fn first_nodes_have_the_roles_that_a_cluster_needs() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let members = "1=127.0.0.1:1,2=127.0.0.1:2";
    let first = [
        "--store-id",
        "2",
        "--bootstrap-token",
        "t",
        "--bootstrap",
        members,
    ];
    for (roles, more, why) in [
        ("store", &first[..0], "the first node alone"),
        ("store", &first, "the controller's shard"),
        ("controller", &first, "every member of --bootstrap"),
    ] {
        let [client, peer, http] = support::free_ports();
        let mut command = support::quorate();
        command
            .args(["serve", "--roles", roles, "--data"])
            .arg(&data)
            .args(more);
        for (flag, port) in [("--listen", client), ("--peer", peer), ("--http", http)] {
            command.arg(flag).arg(format!("127.0.0.1:{port}"));
        }
        let (code, err) = run_to_end(command, PATIENCE);
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("nothing was written") && err.contains(why), "{err}");
        assert!(!data.join("STORE").exists());
    }
}
