//! A shard of a real cluster is fed to another node, is split again and again, and goes to other nodes and back, under
//! appending clients.
//!
//! With 1 GiB, 64 clients and its report: `cargo test --release -p quorate --test splits -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::time::{Duration, Instant};

use quorate::client::slots::slot_of;
use support::control::{Shard, ctl, done, shards};
use support::host::Watch;
use support::record::{Latencies, Record};
use support::tokens::{Gap, Load, Reader, judge, shard_of_slot};
use support::{Cluster, SHARDS, bulk, metric};

/// The shard that the extra clients work on.
const BUSY: u64 = 6;
const RECOVERY: Duration = Duration::from_secs(60);
const FEEDING: Duration = Duration::from_secs(300);

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
        done(
            cluster,
            1,
            &format!("replica add {} {} --wait 300", part.id, words(&others)),
        );
        done(
            cluster,
            2,
            &format!("replica remove {} {} --wait 300", part.id, words(&part.stores)),
        );
        load.wait_progress(3, RECOVERY);
        parts(cluster, "it moved", |parts| {
            parts
                .iter()
                .any(|moved| moved.id == part.id && moved.stores == others)
        });
    }
}

/// How much of everything.
struct Plan {
    /// On all shards alike, and on the busy one besides.
    clients: usize,
    extra: usize,
    /// What a client rests after each append.
    rest: Duration,
    splits: usize,
    /// What the busy shard holds before the clients begin.
    bytes: u64,
    value_bytes: usize,
    /// How long the disks have for what the load has left to do, before anything is timed.
    settle: Duration,
    /// How long appends are timed before the snapshot.
    calm: Duration,
}

const MIB: u64 = 1 << 20;

/// Names of keys in all slots of the busy shard.
fn names_in_busy(count: u64) -> Vec<String> {
    (0..)
        .map(|n| format!("bulk-{n}"))
        .filter(|name| u64::from(shard_of_slot(slot_of(name.as_bytes()))) + 1 == BUSY)
        .take(count as usize)
        .collect()
}

/// A further store gets a replica of the busy shard, which a snapshot feeds, and loses it again. Returns when that began
/// and when the snapshot was installed, since the clients were started.
fn feed_one_more(cluster: &Cluster, load: &Load) -> (Duration, Duration) {
    let stores = &parts(cluster, "it has stores", |_| true)[0].stores;
    let other = (1..=6).find(|store| !stores.contains(store)).unwrap();
    let node = &cluster.nodes[other as usize - 1];
    let installed = || metric(node, "store_snapshots_installed_total") as u64;
    let before = installed();
    let began = load.started.elapsed();
    let ended = std::thread::scope(|scope| {
        scope.spawn(|| done(cluster, 0, &format!("replica add {BUSY} {other} --wait 600")));
        let deadline = Instant::now() + FEEDING;
        while installed() == before {
            assert!(Instant::now() < deadline, "no snapshot in {FEEDING:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        load.started.elapsed()
    });
    load.wait_progress(3, RECOVERY);
    done(cluster, 1, &format!("replica remove {BUSY} {other}"));
    (began, ended)
}

fn run(plan: &Plan) {
    let cluster = Cluster::start(6, &["--schedule", "off"]);
    let names = names_in_busy(plan.bytes / plan.value_bytes as u64);
    let began = Instant::now();
    bulk::load(&cluster.addrs(), names.len() as u64, plan.value_bytes, |n| {
        names[n as usize].clone()
    });
    println!(
        "{} MiB in shard {BUSY}, in {} values, loaded in {:.1} s",
        plan.bytes / MIB,
        names.len(),
        began.elapsed().as_secs_f64()
    );
    let load = Load::paced(&cluster.addrs(), plan.clients, plan.extra, plan.rest);
    let watch = Watch::begin(load.started);
    load.wait_progress(20, RECOVERY);
    std::thread::sleep(plan.settle);

    let calm_from = load.started.elapsed();
    std::thread::sleep(plan.calm);
    let calm = (calm_from, load.started.elapsed());
    let before = load.gaps();
    let fed = feed_one_more(&cluster, &load);
    let taken = watch.end();
    let after_feeding = load.gaps();

    let mut found = parts(&cluster, "it is there", |parts| parts.len() == 1);
    for round in 0..plan.splits {
        let widest = found.iter().max_by_key(|part| part.slots.len()).unwrap();
        done(&cluster, round % 6, &format!("split {}", widest.id));
        load.wait_progress(3, RECOVERY);
        found = parts(&cluster, "it was split", |parts| parts.len() == round + 2);
    }
    to_the_others(&cluster, &load);
    to_the_others(&cluster, &load);
    load.wait_progress(20, RECOVERY);
    let gaps = load.gaps();
    println!(
        "{} clients on all shards and {} more on shard {BUSY}, each rests {} ms after an append; six nodes, {} cores",
        plan.clients,
        plan.extra,
        plan.rest.as_millis(),
        std::thread::available_parallelism().unwrap()
    );
    println!("longest time without an append, by shard of the beginning:");
    for (shard, ((gap, before), fed)) in (1..).zip(gaps.iter().zip(&before).zip(&after_feeding)) {
        let ms = |gap: &Gap| gap.longest.as_secs_f64() * 1e3;
        println!(
            "  shard {shard}: {:5.0} ms, {} appends; {:.0} ms before the snapshot, {:.0} ms before the first split",
            ms(gap),
            gap.acknowledged,
            ms(before),
            ms(fed)
        );
    }
    let started = load.started;
    let sent = load.finish();
    let mut record = Record::new(&sent, started);
    let mut reader = Reader::new(&cluster.addrs());
    let verdict = judge(&sent, |key| record.read(key, || reader.read(key)));
    println!(
        "{} splits, {} parts moved to three other nodes and back; {} acknowledged, {} unknown (of these applied {})",
        plan.splits,
        plan.splits + 1,
        verdict.acknowledged,
        verdict.unknown,
        verdict.unknown_applied
    );
    verdict.check();
    record.check(&cluster.dir.path().join("history.jsonl"));

    println!(
        "a snapshot of {} MiB was fed in {:.1} s; appends around it:",
        plan.bytes / MIB,
        (fed.1 - fed.0).as_secs_f64()
    );
    let in_busy = |client: usize| client >= plan.clients || client as u64 % u64::from(SHARDS) + 1 == BUSY;
    let compare = |what: &str, before: &Latencies, during: &Latencies| {
        println!(
            "  {what}: p50 {:.1} ms, p99 {:.1} ms before ({} appends); p50 {:.1} ms, p99 {:.1} ms during ({}): p99 x{:.2}",
            before.percentile(50),
            before.percentile(99),
            before.count(),
            during.percentile(50),
            during.percentile(99),
            during.count(),
            during.percentile(99) / before.percentile(99)
        );
    };
    let [before, during] = [calm, fed].map(|span| Latencies::of(&sent, in_busy, span));
    compare("its shard", &before, &during);
    let [before, during] = [calm, fed].map(|span| Latencies::of(&sent, |_| true, span));
    compare("all shards", &before, &during);
    let [before, during] = [before, during].map(|all| all.only(|at| taken.is_nothing_at(at)));
    compare(
        "in seconds of which the machine's host took nothing",
        &before,
        &during,
    );
    for node in &cluster.nodes {
        println!(
            "  node {}: memory at most {} MiB, {} snapshots installed, {} sent",
            node.id,
            node.memory("VmHWM") / MIB,
            metric(node, "store_snapshots_installed_total"),
            metric(node, "store_snapshots_sent_total")
        );
    }

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
    run(&Plan {
        clients: 8,
        extra: 2,
        rest: Duration::from_millis(4),
        splits: 2,
        bytes: 8 * MIB,
        value_bytes: 4 << 10,
        settle: Duration::from_secs(1),
        calm: Duration::from_secs(1),
    });
}

#[test]
#[ignore = "some minutes and 20 GB of disk; prints the report"]
fn a_gigabyte_is_fed_split_five_times_and_moved_there_and_back() {
    run(&Plan {
        clients: 56,
        extra: 8,
        rest: Duration::from_millis(20),
        splits: 5,
        bytes: 1024 * MIB,
        value_bytes: 4 << 10,
        settle: Duration::from_secs(30),
        calm: Duration::from_secs(20),
    });
}
