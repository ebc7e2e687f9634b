//! SCAN, KEYS, DBSIZE and their kin, over all shards.

use quorate_proto::Answer;
use quorate_storage::{ShardId, StoreId};
use quorate_store::{ClientOutcome, Target};

use crate::client_support::{FakeStore, Harness};
use crate::{SHARDS, harness};

/// SCAN to the end; the keys and the number of calls.
fn scan_all(node: &mut Harness, store: &mut FakeStore, options: &str) -> (Vec<String>, usize) {
    let (mut keys, mut calls, mut cursor) = (Vec::new(), 0, "0".to_owned());
    loop {
        let reply = node.ask(store, &format!("SCAN {cursor} {options}"));
        let lines: Vec<&str> = reply.split("\r\n").collect();
        assert_eq!(lines[0], "*2", "{reply}");
        cursor = lines[2].to_owned();
        keys.extend(lines[4..].iter().skip(1).step_by(2).map(ToString::to_string));
        calls += 1;
        assert!(calls < 10_000);
        if cursor == "0" {
            return (keys, calls);
        }
    }
}

fn fill(node: &mut Harness, store: &mut FakeStore, keys: usize) {
    for key in 0..keys {
        assert_eq!(node.ask(store, &format!("SET key:{key} x")), "+OK\r\n");
    }
}

#[test]
fn walks_cover_every_shard_and_every_key_once() {
    let (mut node, mut store) = harness();
    fill(&mut node, &mut store, 500);
    assert_eq!(node.ask(&mut store, "DBSIZE"), ":500\r\n");
    assert!(node.ask(&mut store, "KEYS *").starts_with("*500\r\n"));
    assert!(node.ask(&mut store, "KEYS key:1?").starts_with("*10\r\n"));
    for options in ["", "COUNT 1", "COUNT 100 TYPE string", "COUNT 1000000 MATCH *"] {
        let (mut keys, _) = scan_all(&mut node, &mut store, options);
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 500, "{options}");
    }
    assert_eq!(scan_all(&mut node, &mut store, "COUNT 1000").1, SHARDS.len());
    assert_eq!(scan_all(&mut node, &mut store, "MATCH key:49?").0.len(), 10);
    assert_eq!(scan_all(&mut node, &mut store, "TYPE list"), (vec![], 1));
    assert_eq!(
        node.ask(&mut store, "SCAN 70368744177664"),
        "*2\r\n$1\r\n0\r\n*0\r\n"
    );

    let slot = node.ask(&mut store, "CLUSTER KEYSLOT key:1");
    let slot = slot.trim_start_matches(':').trim_end();
    assert_ne!(
        node.ask(&mut store, &format!("CLUSTER COUNTKEYSINSLOT {slot}")),
        ":0\r\n"
    );

    assert_eq!(node.ask(&mut store, "FLUSHALL ASYNC"), "+OK\r\n");
    assert_eq!(node.ask(&mut store, "DBSIZE"), ":0\r\n");
}

#[test]
fn in_cluster_mode_walks_cover_the_shards_led_here() {
    let (mut node, mut store) = harness();
    fill(&mut node, &mut store, 500);
    let mut total = 0;
    for id in 1..=3 {
        node.view.store = StoreId(id);
        node.line("QUORATE MODE cluster");
        node.output();
        let (keys, _) = scan_all(&mut node, &mut store, "COUNT 7");
        let led = |key: &String| {
            let slot = quorate_store::kv::slot_of(key.as_bytes());
            node.view
                .route_of(slot)
                .is_some_and(|route| route.leader == Some(StoreId(id)))
        };
        assert!(keys.iter().all(led));
        let count = keys.len();
        total += count;
        assert_eq!(node.ask(&mut store, "DBSIZE"), format!(":{count}\r\n"));
        assert!(
            node.ask(&mut store, "KEYS *")
                .starts_with(&format!("*{count}\r\n"))
        );
    }
    assert_eq!(total, 500);
    node.line("FLUSHALL");
    let targets: Vec<Target> = node.requests.iter().map(|request| request.target).collect();
    assert_eq!(targets, [Target::Shard(ShardId(3))]);
}

#[test]
fn a_walk_leaves_out_a_shard_that_is_no_longer_led_here() {
    let (mut node, mut store) = harness();
    fill(&mut node, &mut store, 50);
    node.line("QUORATE MODE cluster");
    node.output();
    // Store 1 leads the first and the fourth shard.
    node.line("DBSIZE");
    let request = node.take().remove(0);
    assert_eq!(request.target, Target::Slot(0));
    node.complete(&request, ClientOutcome::Redirect { leader: StoreId(2) });
    assert_eq!(node.requests[0].target, Target::Slot(9000));
    node.settle(&mut store);
    assert_ne!(node.output(), ":0\r\n");

    node.line("SCAN 0");
    let request = node.take().remove(0);
    node.complete(&request, ClientOutcome::Redirect { leader: StoreId(2) });
    // Nothing to answer yet: on to the next shard led here.
    assert_eq!(node.requests[0].target, Target::Slot(9000));
    node.settle(&mut store);
    let page = node.output();
    assert!(page.starts_with("*2\r\n$1\r\n0\r\n*9\r\n"), "{page}");
}

#[test]
fn walks_fail_without_shards_and_without_progress() {
    let (mut node, _) = harness();
    node.view.routes.remove(2);
    node.line("DBSIZE");
    for _ in 0..2 {
        let request = node.take().remove(0);
        node.complete(
            &request,
            ClientOutcome::Done(Answer::Page {
                next: None,
                keys: vec![],
                count: 1,
            }),
        );
    }
    assert_eq!(node.output(), "-CLUSTERDOWN no shard holds the slot\r\n");

    node.view.routes.clear();
    node.line("SCAN 0");
    assert_eq!(node.output(), "-CLUSTERDOWN no shard holds the slot\r\n");
    node.line("FLUSHALL");
    assert_eq!(
        node.output(),
        "-NOTAPPLIED no shard holds the slot; the write was not applied\r\n"
    );

    let (mut node, _) = harness();
    node.line("KEYS *");
    let request = node.take().remove(0);
    let stuck = Answer::Page {
        next: Some(Default::default()),
        keys: vec![],
        count: 0,
    };
    node.complete(&request, ClientOutcome::Done(stuck));
    assert_eq!(node.output(), "-CLUSTERDOWN the scan made no progress\r\n");
}
