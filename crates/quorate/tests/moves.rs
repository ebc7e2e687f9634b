//! `ctl` on real sockets and disks: a shard goes from stores to other stores under appending clients, and back.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::time::Duration;

use quorate::client::Reply;
use support::control::{ctl, done, shards};
use support::tokens::{Load, Reader, judge, slot_of_shard};
use support::{Cluster, ask};

/// Clients, and more on the shard that moves.
const CLIENTS: usize = 8;

#[test]
fn a_shard_moves_to_other_stores_and_back_under_load() {
    let cluster = Cluster::start(5, &["--replicas", "5", "--schedule", "off"]);
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
    let moved = shards(&cluster, 4).into_iter().find(|shard| shard.id == 6);
    assert_eq!(moved.unwrap().stores, [1, 2, 3]);
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
