//! A shard of a real cluster is split, again and again, and goes to other nodes and back, under appending clients.
//!
//! With 64 clients and its report: `cargo test --release -p quorate --test splits -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::time::{Duration, Instant};

use support::control::{Shard, ctl, done, shards};
use support::tokens::{Load, Reader, judge};
use support::{Cluster, SHARDS};

/// The shard that the extra clients work on.
const BUSY: u64 = 6;
const RECOVERY: Duration = Duration::from_secs(60);

/// What became of the shard: itself and all that was split off, once node 1 has heard of all of it.
fn parts(cluster: &Cluster, what: &str, is_so: impl Fn(&[Shard]) -> bool) -> Vec<Shard> {
    let per_shard = 16384 / SHARDS;
    let (first, end) = (per_shard * (BUSY as u16 - 1), per_shard * BUSY as u16);
    let deadline = Instant::now() + RECOVERY;
    loop {
        let mut parts = shards(cluster, 0);
        parts.retain(|shard| (first..end).contains(shard.slots.start()));
        let mut next = first;
        for part in &parts {
            if *part.slots.start() == next {
                next = part.slots.end() + 1;
            }
        }
        if next == end && is_so(&parts) {
            return parts;
        }
        assert!(Instant::now() < deadline, "{what}: {parts:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Moves every part to the stores that hold none of it.
fn to_the_others(cluster: &Cluster, load: &Load) {
    for part in parts(cluster, "it has stores", |_| true) {
        let others: Vec<u64> = (1..=6).filter(|store| !part.stores.contains(store)).collect();
        let words = |stores: &[u64]| stores.iter().map(u64::to_string).collect::<Vec<_>>().join(" ");
        done(cluster, 1, &format!("replica add {} {}", part.id, words(&others)));
        done(
            cluster,
            2,
            &format!("replica remove {} {}", part.id, words(&part.stores)),
        );
        load.wait_progress(3, RECOVERY);
        parts(cluster, "it moved", |parts| {
            parts
                .iter()
                .any(|moved| moved.id == part.id && moved.stores == others)
        });
    }
}

fn run(clients: usize, extra: usize, splits: usize) {
    let cluster = Cluster::start(6, &[]);
    let load = Load::start(&cluster.addrs(), clients, extra);
    load.wait_progress(20, RECOVERY);
    let before = load.gaps();
    let mut found = parts(&cluster, "it is there", |parts| parts.len() == 1);
    for round in 0..splits {
        let widest = found.iter().max_by_key(|part| part.slots.len()).unwrap();
        done(&cluster, round % 6, &format!("split {}", widest.id));
        load.wait_progress(3, RECOVERY);
        found = parts(&cluster, "it was split", |parts| parts.len() == round + 2);
    }
    to_the_others(&cluster, &load);
    to_the_others(&cluster, &load);
    load.wait_progress(20, RECOVERY);
    let gaps = load.gaps();
    println!("longest time without an append, by shard of the beginning:");
    for (shard, (gap, before)) in (1..).zip(gaps.iter().zip(&before)) {
        println!(
            "  shard {shard}: {:5.0} ms, {} appends; {:.0} ms before the first split",
            gap.longest.as_secs_f64() * 1e3,
            gap.acknowledged,
            before.longest.as_secs_f64() * 1e3
        );
    }
    let sent = load.finish();
    let mut reader = Reader::new(&cluster.addrs());
    let verdict = judge(&sent, |key| reader.read(key));
    println!(
        "{} splits, {} parts moved to three other nodes and back; {} acknowledged, {} unknown (of these applied {})",
        splits,
        splits + 1,
        verdict.acknowledged,
        verdict.unknown,
        verdict.unknown_applied
    );
    verdict.check();

    for (words, why) in [
        ("split 6 --slot 3", "cannot be split there"),
        ("split 6 --slot 10240", "cannot be split there"),
        ("split 0", "cannot be split there"),
        ("split 99999", "no such shard"),
    ] {
        let (code, out, err) = ctl(&cluster, 3, words);
        assert!(
            code == Some(1) && err.contains(why),
            "{words}: {code:?} {out} {err}"
        );
    }
}

#[test]
fn a_shard_is_split_and_moves_under_load() {
    run(8, 2, 2);
}

#[test]
#[ignore = "a minute or two; prints the report"]
fn five_splits_and_six_moves_there_and_back() {
    run(56, 8, 5);
}
