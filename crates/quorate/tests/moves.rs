//! `ctl` on real sockets and disks: a shard goes from stores to other stores under appending clients, and back.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::time::Duration;

use quorate::client::Reply;
use support::tokens::{Load, Reader, judge, slot_of_shard};
use support::{Cluster, ask, quorate};

/// Clients, and more on the shard that moves.
const CLIENTS: usize = 8;

/// `quorate ctl`: exit code, standard output and standard error.
fn ctl(cluster: &Cluster, via: usize, words: &str) -> (Option<i32>, String, String) {
    let output = quorate()
        .args(["ctl", "--endpoints", &cluster.nodes[via].addr()])
        .args(words.split(' '))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn done(cluster: &Cluster, via: usize, words: &str) {
    // The first wishes may come before every node is connected to the leader, or meet a change that is just ending.
    for _ in 0..50 {
        let (code, out, err) = ctl(cluster, via, words);
        if code == Some(0) {
            assert!(
                out.ends_with("done\n") || out.ends_with("hands over\n"),
                "{words}: {out}"
            );
            return;
        }
        assert!(
            ["BUSY", "not connected", "lags behind"]
                .iter()
                .any(|why| err.contains(why)),
            "{words}: {err}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("{words} is never done");
}

/// The stores of shard 6, as a node lists them.
fn stores(cluster: &Cluster, via: usize) -> Vec<u64> {
    let (code, out, err) = ctl(cluster, via, "shards --json");
    assert_eq!(code, Some(0), "{err}");
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    let row = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["shard"] == 6)
        .unwrap();
    let stores = row["stores"].as_array().unwrap();
    stores.iter().map(|store| store.as_u64().unwrap()).collect()
}

#[test]
fn a_shard_moves_to_other_stores_and_back_under_load() {
    let cluster = Cluster::start(5, &["--replicas", "5"]);
    // The one that the extra clients work on.
    done(&cluster, 0, "replica remove 6 4 5");
    let load = Load::start(&cluster.addrs(), CLIENTS, 4);
    load.wait_progress(20, Duration::from_secs(60));
    for words in [
        "replica move 6 1 4",
        "replica move 6 2 5",
        "replica remove 6 3",
        "replica add 6 1 2 3",
        "replica remove 6 4 5",
    ] {
        done(&cluster, 2, words);
        load.wait_progress(5, Duration::from_secs(60));
    }
    assert_eq!(stores(&cluster, 4), [1, 2, 3]);
    done(&cluster, 3, "transfer 6 2");
    load.wait_progress(20, Duration::from_secs(60));
    let gap = load.gaps()[5];
    println!(
        "longest time without an append on the shard that moved: {:?}",
        gap.longest
    );
    let sent = load.finish();
    let mut reader = Reader::new(&cluster.addrs());
    let verdict = judge(&sent, |key| reader.read(key));
    println!(
        "{} acknowledged, {} unknown",
        verdict.acknowledged, verdict.unknown
    );
    verdict.check();

    let slot = slot_of_shard(5);
    assert!([0, 1, 2].contains(&cluster.wait_leader_of(slot)));
    for (words, code, why) in [
        ("replica add 6 1", 1, "holds a replica of the shard already"),
        ("replica remove 6 5", 1, "holds no voter"),
        ("replica remove 6 1 2 3", 1, "last replica"),
        ("replica add 6 77", 1, "unknown or not connected"),
        ("replica abort 6", 1, "no membership change"),
        ("replica add 99 1", 1, "no such shard"),
        ("transfer 6 5", 1, "holds no voter"),
        ("replica move 6 1", 2, "required"),
    ] {
        let (found, _, err) = ctl(&cluster, 4, words);
        assert!(
            found == Some(code) && err.contains(why),
            "{words}: {found:?} {err}"
        );
    }
    let (code, out, _) = ctl(&cluster, 0, "stores");
    assert_eq!((code, out.lines().count()), (Some(0), 6), "{out}");
    let usage = ask(&mut cluster.client(0), "QUORATE REPLICA GROW 6 1");
    assert!(matches!(usage, Reply::Error(text) if text.starts_with("ERR usage: QUORATE REPLICA ADD")));
}
