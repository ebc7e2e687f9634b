//! X-15 on real nodes: a majority is lost for ever, and the cluster goes on with what is left, by `ctl recover` and by
//! `debug recover`.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::control::{ctl, shards};
use support::{Cluster, ask, bulk, ok, quorate};

const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the command ends well.
fn patiently(cluster: &Cluster, via: usize, words: &str) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let (code, out, err) = ctl(cluster, via, words);
        if code == Some(0) {
            return serde_json::from_str(&out).unwrap();
        }
        assert!(Instant::now() < until, "{words}: {err}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn set_keys(cluster: &Cluster) {
    let mut client = cluster.client(0);
    for n in 0..40 {
        assert_eq!(ask(&mut client, &format!("SET key:{n} {n}")), ok());
    }
}

/// Asks until every key is answered with its value.
fn check_keys(cluster: &Cluster, via: usize) {
    let mut client = cluster.client(via);
    let until = Instant::now() + PATIENCE;
    for n in 0..40 {
        while ask(&mut client, &format!("GET key:{n}")) != bulk(&n.to_string()) {
            assert!(Instant::now() < until, "key:{n}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn x_15_two_of_five_are_lost_and_ctl_recovers() {
    let mut cluster = Cluster::start(5, &["--replicas", "3"]);
    cluster.wait_ready();
    set_keys(&cluster);
    // Those that hold a shard together, and of the controller's three one at most.
    let all = shards(&cluster, 0);
    let lost = [4_usize, 5, 3]
        .into_iter()
        .flat_map(|a| (1..a).map(move |b| [b, a]))
        .find(|[b, a]| {
            let holds =
                |shard: &support::control::Shard, store: usize| shard.stores.contains(&(store as u64));
            *a > 3 && all.iter().any(|shard| holds(shard, *a) && holds(shard, *b))
        })
        .unwrap();
    let via = (0..5).find(|node| !lost.contains(&(node + 1))).unwrap();
    let named = format!("--lost {},{}", lost[0], lost[1]);
    let (code, _, err) = ctl(&cluster, via, &format!("recover {named}"));
    assert!(code == Some(1) && err.contains("is alive"), "{err}");
    for store in lost {
        cluster.nodes[store - 1].kill();
    }
    let said = patiently(&cluster, via, &format!("recover {named} --json"));
    assert_eq!(said["done"], false);
    let rows = said["shards"].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        assert!(row["committed"].as_u64() <= row["last-index"].as_u64(), "{row}");
        assert!(
            !lost.contains(&(row["store"].as_u64().unwrap() as usize)),
            "{row}"
        );
    }
    let said = patiently(&cluster, via, &format!("recover {named} --yes --json"));
    assert_eq!(said["done"], true);
    check_keys(&cluster, via);
    let until = Instant::now() + PATIENCE;
    while shards(&cluster, via).iter().any(|shard| {
        let is_lost = |store: &u64| lost.contains(&(*store as usize));
        shard.stores.len() != 3 || shard.stores.iter().any(is_lost)
    }) {
        assert!(Instant::now() < until, "replication does not grow");
        std::thread::sleep(Duration::from_millis(200));
    }
    // Who comes back is refused.
    let node = &mut cluster.nodes[lost[0] - 1];
    node.start();
    assert_ne!(node.wait_exit(PATIENCE).code(), Some(0));
    let log = std::fs::read_to_string(node.log()).unwrap();
    assert!(log.contains("was removed"), "{log}");
    check_keys(&cluster, via);
}

#[test]
fn x_15_a_cluster_of_three_goes_on_with_one_directory() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.wait_ready();
    set_keys(&cluster);
    for node in 1..3 {
        cluster.nodes[node].kill();
    }
    cluster.nodes[0].signal(Signal::TERM);
    cluster.nodes[0].wait_exit(PATIENCE);
    let recover = |more: &[&str]| {
        let mut command = quorate();
        command
            .args(["debug", "recover", "--json", "--data"])
            .arg(&cluster.nodes[0].data)
            .args(more);
        let output = command.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{err}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let said = recover(&[]);
    assert_eq!(said["done"], false);
    assert_eq!(said["shards"].as_array().unwrap().len(), 9, "eight, and shard 0");
    assert_eq!(recover(&["--yes"])["done"], true);
    assert_eq!(
        recover(&[])["shards"],
        Value::Array(vec![]),
        "all its members are here"
    );
    cluster.nodes[0].start();
    let said = patiently(&cluster, 0, "recover --lost 2,3 --json");
    assert_eq!(said["done"], false);
    check_keys(&cluster, 0);
    let said = patiently(&cluster, 0, "recover --lost 2,3 --yes --json");
    assert_eq!(said["done"], true);
    // Together they would be a majority of before.
    for node in 1..3 {
        cluster.nodes[node].start();
    }
    for node in 1..3 {
        assert_ne!(cluster.nodes[node].wait_exit(PATIENCE).code(), Some(0));
    }
    let mut client = cluster.client(0);
    assert_eq!(ask(&mut client, "SET more 1"), ok());
    check_keys(&cluster, 0);
}
