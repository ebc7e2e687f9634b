//! A cluster grows from one node by `--join`, and shrinks, on real sockets and disks.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::time::{Duration, Instant};

use quorate::client::Reply;
use support::control::{ctl, done, shards};
use support::tokens::{Load, Reader, judge};
use support::{Cluster, SHARDS, ask, bulk, ok};

const PATIENCE: Duration = Duration::from_secs(60);

/// The ids of the stores, as a node lists them.
fn stores(cluster: &Cluster, via: usize) -> Vec<i64> {
    let Reply::Array(rows) = ask(&mut cluster.client(via), "QUORATE STORES") else {
        panic!("no stores")
    };
    let id = |row: &Reply| match row {
        Reply::Array(fields) => match &fields[1] {
            Reply::Int(id) => *id,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    rows.iter().map(id).collect()
}

/// A wish about the controller's shard, which is not listed.
fn taken_down(cluster: &Cluster, words: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (code, out, err) = ctl(cluster, 2, words);
        if code == Some(0) {
            return;
        }
        assert!(Instant::now() < deadline, "{words}: {out} {err}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Until the controller knows so many stores, as a node hears.
fn wait_registry(cluster: &Cluster, via: usize, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = ask(&mut cluster.client(via), "QUORATE REGISTRY");
        if matches!(&reply, Reply::Array(stores) if stores.len() == count) {
            return;
        }
        assert!(Instant::now() < deadline, "{reply:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn check(load: Load, cluster: &Cluster) {
    let sent = load.finish();
    let mut reader = Reader::new(&cluster.addrs());
    judge(&sent, |key| reader.read(key)).check();
}

/// Until the controller knows all shards, its own too, to be held so by voters, and each store to lead its share: what is
/// asked of the shards counts more than their number.
fn wait_held(cluster: &Cluster, via: usize, stores: &[u64]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, out, err) = ctl(cluster, via, "shards --json");
        let rows: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap_or_default();
        let is_held = |row: &serde_json::Value| {
            let none = serde_json::json!([]);
            row["stores"] == serde_json::json!(stores) && row["learners"] == none && row["joint"] == none
        };
        let leads = |store: &u64| rows.iter().filter(|row| row["leader"] == *store).count();
        let (most, least) = (stores.iter().map(leads).max(), stores.iter().map(leads).min());
        if rows.len() == usize::from(SHARDS) + 1
            && rows.iter().all(is_held)
            && most.zip(least).is_some_and(|(most, least)| most - least <= 2)
        {
            return;
        }
        assert!(Instant::now() < deadline, "{out} {err}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_node_alone_is_a_cluster_which_grows_to_three_by_itself_under_load() {
    let mut cluster = Cluster::alone();
    let first = cluster.nodes[0].addr();
    let load = Load::start(std::slice::from_ref(&first), 8, 0);
    load.wait_progress(5, PATIENCE);
    cluster.add(&["--join", &first]);
    cluster.wait_ready();
    // Nodes that do not run are no obstacle.
    cluster.add(&["--join", &format!("127.0.0.1:1,{}", cluster.nodes[1].addr())]);
    cluster.wait_ready();
    wait_held(&cluster, 2, &[1, 2, 3]);
    wait_registry(&cluster, 2, 3);
    load.wait_progress(5, PATIENCE);
    check(load, &cluster);

    // The first node is a node like the others now. (Every load has the same tokens.)
    assert_eq!(ask(&mut cluster.client(1), "FLUSHALL"), ok());
    let load = Load::start(&cluster.addrs(), 8, 0);
    load.wait_progress(5, PATIENCE);
    cluster.nodes[0].kill();
    load.wait_progress(5, PATIENCE);
    // The controller, too.
    wait_registry(&cluster, 1, 3);
    cluster.nodes[0].start();
    cluster.wait_ready();
    load.wait_progress(5, PATIENCE);
    check(load, &cluster);
    // It leads its share again.
    wait_held(&cluster, 1, &[1, 2, 3]);
}

/// From one node to three and back: whoever asks the first node is never told of it.
#[test]
fn a_cluster_grows_and_shrinks_without_an_error_at_the_client() {
    let mut cluster = Cluster::alone();
    let first = cluster.nodes[0].addr();
    let load = Load::start(std::slice::from_ref(&first), 16, 0);
    load.wait_progress(5, PATIENCE);
    for _ in 0..2 {
        cluster.add(&["--join", &first]);
        cluster.wait_ready();
    }
    wait_held(&cluster, 0, &[1, 2, 3]);
    load.wait_progress(5, PATIENCE);
    assert_eq!(load.errors(), Default::default(), "it grew");
    for store in [3, 2] {
        for words in [format!("drain {store}"), format!("remove {store}")] {
            let (code, out, err) = ctl(&cluster, 0, &words);
            assert_eq!(code, Some(0), "{words}: {out} {err}");
        }
        cluster.nodes[store - 1].kill();
    }
    wait_held(&cluster, 0, &[1]);
    load.wait_progress(5, PATIENCE);
    assert_eq!(load.errors(), Default::default(), "it shrank");
    let longest = load.gaps().iter().map(|gap| gap.longest).max();
    println!("longest time without an acknowledged append, worst shard: {longest:?}");
    check(load, &cluster);
}

#[test]
fn a_cluster_grows_and_shrinks_by_hand_under_load() {
    let by_hand = ["--schedule", "off"];
    let mut cluster = Cluster::alone_with(&by_hand);
    let first = cluster.nodes[0].addr();
    let load = Load::start(std::slice::from_ref(&first), 8, 0);
    load.wait_progress(5, PATIENCE);
    for _ in 0..2 {
        cluster.add(&["--join", &first, "--schedule", "off"]);
        cluster.wait_ready();
    }
    assert_eq!(stores(&cluster, 2), [1, 2, 3]);
    taken_down(&cluster, "replica add 0 2 3");
    for shard in 1..=SHARDS {
        done(&cluster, 1, &format!("replica add {shard} 2 3"));
    }
    load.wait_progress(5, PATIENCE);
    for shard in shards(&cluster, 2) {
        assert_eq!(shard.stores, [1, 2, 3]);
    }
    taken_down(&cluster, "replica remove 0 1 2");
    for shard in 1..=SHARDS {
        done(&cluster, 2, &format!("replica remove {shard} 1 2"));
    }
    load.wait_progress(5, PATIENCE);
    check(load, &cluster);
    for shard in shards(&cluster, 0) {
        assert_eq!((shard.leader, shard.stores), (Some(3), vec![3]));
    }
    assert_eq!(ask(&mut cluster.client(0), "SET k v"), ok());
    cluster.nodes[0].kill();
    cluster.nodes[1].kill();
    assert_eq!(ask(&mut cluster.client(2), "GET k"), bulk("v"));
    wait_registry(&cluster, 2, 3);
}

/// P7, X-04: a store with a wiped disk comes back as another one.
#[test]
fn a_store_with_a_wiped_disk_joins_under_a_new_id() {
    let mut cluster = Cluster::alone_with(&["--schedule", "off"]);
    let first = cluster.nodes[0].addr();
    cluster.add(&["--join", &first, "--schedule", "off"]);
    cluster.wait_ready();
    done(&cluster, 0, "replica add 3 2");
    cluster.nodes[1].kill();
    std::fs::remove_dir_all(&cluster.nodes[1].data).unwrap();
    cluster.nodes[1].start();
    // Not until it is ready: nobody leads shard 3 any more.
    let deadline = Instant::now() + PATIENCE;
    while stores(&cluster, 0) != [1, 2, 3] {
        assert!(Instant::now() < deadline, "{:?}", stores(&cluster, 0));
        std::thread::sleep(Duration::from_millis(100));
    }
    // The old id is gone with its disk, and so are the votes that it gave: of two voters one is left, which is no
    // majority, and nobody pretends otherwise.
    let held = shards(&cluster, 0).into_iter().find(|shard| shard.id == 3);
    assert_eq!(held.unwrap().stores, [1, 2]);
}
