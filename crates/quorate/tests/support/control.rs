//! `quorate ctl` against a cluster of the tests.

use std::time::{Duration, Instant};

use super::{Cluster, TIMEOUT, quorate};

/// Exit code, standard output and standard error.
pub fn ctl(cluster: &Cluster, via: usize, words: &str) -> (Option<i32>, String, String) {
    let output = quorate()
        .args(["ctl", "--endpoints", &cluster.nodes[via].addr()])
        .args(words.split(' '))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Asks until it is done: the first wishes may come before every node is connected to the leader, or meet a change
/// that is just ending.
pub fn done(cluster: &Cluster, via: usize, words: &str) {
    let mut refusal = String::new();
    for _ in 0..50 {
        let (code, out, err) = ctl(cluster, via, words);
        if code == Some(0) {
            assert!(
                ["done\n", "hands over\n", "split\n"]
                    .iter()
                    .any(|end| out.ends_with(end)),
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
        refusal = err;
        std::thread::sleep(Duration::from_millis(200));
    }
    panic!("{words} is never done: {refusal}");
}

/// A shard, as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shard {
    pub id: u64,
    pub slots: std::ops::RangeInclusive<u16>,
    pub leader: Option<u64>,
    pub term: u64,
    pub stores: Vec<u64>,
}

/// The shards by slot, as the controller knows them, once it has heard of every slot.
pub fn shards(cluster: &Cluster, via: usize) -> Vec<Shard> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let found = listed(cluster, via);
        let slots = found.iter().map(|shard| shard.slots.len());
        if slots.sum::<usize>() == 16384 {
            return found;
        }
        assert!(Instant::now() < deadline, "{found:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn listed(cluster: &Cluster, via: usize) -> Vec<Shard> {
    let (code, out, err) = ctl(cluster, via, "shards --json");
    assert_eq!(code, Some(0), "{err}");
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    let slot = |value: &serde_json::Value| value.as_u64().unwrap().try_into().unwrap();
    let shard = |row: &serde_json::Value| Shard {
        id: row["shard"].as_u64().unwrap(),
        slots: slot(&row["first-slot"])..=slot(&row["last-slot"]),
        leader: row["leader"].as_u64(),
        term: row["term"].as_u64().unwrap(),
        stores: row["stores"]
            .as_array()
            .unwrap()
            .iter()
            .map(|store| store.as_u64().unwrap())
            .collect(),
    };
    // The controller's own shard has no slots.
    let rows = rows.as_array().unwrap().iter();
    rows.filter(|row| !row["first-slot"].is_null())
        .map(shard)
        .collect()
}
