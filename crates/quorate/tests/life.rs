//! The life of a cluster with controllers of its own: groups join and leave, shards are moved by hand, a store is replaced,
//! and the controller's leader dies in the middle, under appending clients.
//!
//! With 64 clients and longer looks: `cargo test --release -p quorate --test life -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::control::{ctl, shards};
use support::host::stolen;
use support::record::{Latencies, Record};
use support::tokens::{Fate, Load, Reader, Sent, judge};
use support::{Cluster, SHARDS, bulk, bytes_under, quorate};

const PATIENCE: Duration = Duration::from_secs(180);
const VALUE_BYTES: u64 = 8 << 10;

/// A node that is never killed.
const VIA: usize = 4;

fn asked(cluster: &Cluster, words: &str) -> Value {
    let (_, out, _) = ctl(cluster, VIA, &format!("{words} --json"));
    serde_json::from_str(&out).unwrap_or_default()
}

/// It is done, or can be done again until it is: nothing but a controller without a leader is in the way.
fn said(cluster: &Cluster, words: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (code, out, err) = ctl(cluster, VIA, words);
        if code == Some(0) {
            return;
        }
        let is_passing = err.contains("BUSY") || code == Some(3) || err.contains("answer");
        assert!(is_passing && Instant::now() < deadline, "{words}: {out} {err}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Who holds which shard.
type Held = BTreeMap<u64, BTreeSet<u64>>;

fn ids(list: &Value) -> BTreeSet<u64> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_u64)
        .collect()
}

/// Until every shard is on three stores of the group that the config names, and nowhere else.
fn wait_settled(cluster: &Cluster) -> Held {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let config = asked(cluster, "config");
        let rows = |part: &str| config[part].as_array().cloned().unwrap_or_default();
        let groups: BTreeMap<u64, BTreeSet<u64>> = rows("groups")
            .iter()
            .filter_map(|row| Some((row["group"].as_u64()?, ids(&row["stores"]))))
            .collect();
        let wanted: BTreeMap<u64, u64> = rows("shards")
            .iter()
            .filter_map(|row| Some((row["shard"].as_u64()?, row["group"].as_u64()?)))
            .collect();
        let held: Held = shards(cluster, VIA)
            .into_iter()
            .map(|shard| (shard.id, shard.stores.into_iter().collect()))
            .collect();
        let is_placed = |(shard, stores): (&u64, &BTreeSet<u64>)| {
            let group = wanted.get(shard).and_then(|group| groups.get(group));
            stores.len() == 3 && group.is_some_and(|group| stores.is_subset(group))
        };
        let is_still = asked(cluster, "moves").as_array().is_some_and(Vec::is_empty);
        if held.len() == usize::from(SHARDS) && held.iter().all(is_placed) && is_still {
            return held;
        }
        assert!(
            Instant::now() < deadline,
            "{held:?}, and it is to be {wanted:?} in {groups:?}; moves {}, stores {}",
            asked(cluster, "moves"),
            asked(cluster, "stores")
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The index of the node that leads the controller.
fn controllers_leader(cluster: &Cluster) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = asked(cluster, "shards");
        let rows = rows.as_array().cloned().unwrap_or_default();
        let leader = rows
            .iter()
            .find(|row| row["shard"] == 0)
            .map(|row| row["leader"].clone());
        if let Some(leader) = leader.and_then(|leader| leader.as_u64()) {
            return leader as usize - 1;
        }
        assert!(Instant::now() < deadline, "nobody leads the controller");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Something that was done while the clients were at work.
struct Phase {
    what: &'static str,
    span: (Duration, Duration),
    /// Shards whose stores changed.
    moved: BTreeSet<u64>,
    /// Seconds of processor time that the host of a virtual machine took meanwhile.
    stolen: f64,
}

fn shard_of(client: usize) -> u64 {
    client as u64 % u64::from(SHARDS) + 1
}

/// The longest time without an acknowledged append of the shard that ended in the span.
fn longest_gap(sent: &[Vec<Sent>], shard: u64, (from, to): (Duration, Duration)) -> Duration {
    let of_shard = sent
        .iter()
        .enumerate()
        .filter(|(client, _)| shard_of(*client) == shard);
    let ends = of_shard.flat_map(|(_, sent)| sent);
    let ends = ends
        .filter(|sent| sent.fate == Fate::Acknowledged)
        .map(|sent| sent.end);
    let mut ends: Vec<Duration> = ends
        .filter(|end| (from..to).contains(end))
        .chain([from, to])
        .collect();
    ends.sort_unstable();
    let gaps = ends.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

fn report(sent: &[Vec<Sent>], calm: (Duration, Duration), phases: &[Phase]) {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let before = Latencies::of(sent, |_| true, calm);
    println!(
        "before: p50 {:.1} ms, p99.9 {:.1} ms ({} appends)",
        before.per_mille(500),
        before.per_mille(999),
        before.count()
    );
    for phase in phases {
        let worst = |moves: bool| {
            let all = (1..=u64::from(SHARDS)).filter(|shard| phase.moved.contains(shard) == moves);
            all.map(|shard| longest_gap(sent, shard, phase.span)).max()
        };
        let seconds = (phase.span.1 - phase.span.0).as_secs_f64();
        print!("{} ({seconds:.1} s", phase.what);
        if phase.stolen > 0.0 {
            print!(", the host took {:.1} s of processor time", phase.stolen);
        }
        print!("):");
        if let Some(worst) = worst(true) {
            print!(
                " {} shards moved, longest gap {:.0} ms;",
                phase.moved.len(),
                ms(worst)
            );
        }
        if let Some(worst) = worst(false) {
            let untouched = Latencies::of(
                sent,
                |client| !phase.moved.contains(&shard_of(client)),
                phase.span,
            );
            print!(
                " untouched: longest gap {:.0} ms, p50 {:.1} ms, p99.9 {:.1} ms ({} appends)",
                ms(worst),
                untouched.per_mille(500),
                untouched.per_mille(999),
                untouched.count()
            );
        }
        println!();
        for shard in 1..=u64::from(SHARDS) {
            let moved = if phase.moved.contains(&shard) {
                "moved"
            } else {
                "untouched"
            };
            let gap = longest_gap(sent, shard, phase.span);
            println!("    shard {shard}: {moved}, longest gap {:.0} ms", ms(gap));
        }
    }
}

/// Three controllers, nodes 1 to 3; group 1 of stores 4 to 6; stores 7 to 9, which are in no group.
fn nine() -> Cluster {
    let mut cluster = Cluster::alone_with(&["--roles", "controller"]);
    let first = cluster.nodes[0].addr();
    for node in 2..=9 {
        let roles = if node <= 3 { "controller" } else { "store" };
        cluster.add(&["--join", &first, "--roles", roles]);
        cluster.wait_ready();
    }
    said(&cluster, "group remove 1 7 8 9");
    wait_settled(&cluster);
    cluster
}

/// The files of a node's engine: tables, which hold what is there, and journals, which are preallocated.
fn engine_bytes(cluster: &Cluster, store: usize) -> (u64, u64) {
    let engine = cluster.nodes[store - 1].data.join("engine");
    let tables = bytes_under(&engine.join("keyspaces"));
    (tables, bytes_under(&engine) - tables)
}

/// `data_bytes` are there already when the clients begin: what the shards carry along.
fn run(clients: usize, rest: Duration, calm: Duration, data_bytes: u64) {
    let mut cluster = nine();
    bulk::load(
        &cluster.addrs(),
        data_bytes / VALUE_BYTES,
        VALUE_BYTES as usize,
        |n| format!("freight-{n}"),
    );
    let load = Load::paced(&cluster.addrs(), clients, 0, rest);
    load.wait_progress(20, PATIENCE);
    let calm_from = load.started.elapsed();
    std::thread::sleep(calm);
    let calm = (calm_from, load.started.elapsed());

    let mut phases = Vec::new();
    let mut held = wait_settled(&cluster);
    let mut begun = load.started.elapsed();
    let mut stolen_before = stolen();
    let mut ends = |cluster: &Cluster, what| {
        let now_held = wait_settled(cluster);
        let moved = now_held
            .iter()
            .filter(|(shard, stores)| held.get(shard) != Some(*stores));
        let end = load.started.elapsed();
        phases.push(Phase {
            what,
            span: (begun, end),
            moved: moved.map(|(shard, _)| *shard).collect(),
            stolen: stolen() - stolen_before,
        });
        load.wait_progress(5, PATIENCE);
        (held, begun, stolen_before) = (now_held, load.started.elapsed(), stolen());
    };
    said(&cluster, "join 2=7,8,9");
    ends(&cluster, "a second group joins");
    let mut groups = asked(&cluster, "config")["shards"]
        .as_array()
        .cloned()
        .unwrap()
        .into_iter();
    let of_first = groups.find(|row| row["group"] == 1).unwrap()["shard"].clone();
    said(&cluster, &format!("move {of_first} 2"));
    ends(&cluster, "a shard is moved by hand");
    said(&cluster, &format!("move {of_first} 1"));
    ends(&cluster, "and back");

    let held_bytes = [4, 5, 6].map(|store| engine_bytes(&cluster, store).0);
    said(&cluster, "leave 1");
    std::thread::sleep(Duration::from_millis(300));
    let leader = controllers_leader(&cluster);
    cluster.nodes[leader].kill();
    ends(
        &cluster,
        "the first group leaves, and the controller's leader dies",
    );
    cluster.nodes[leader].start();
    cluster.wait_ready();

    let first = cluster.nodes[0].addr();
    cluster.add(&["--join", &first, "--roles", "store"]);
    cluster.wait_ready();
    said(&cluster, "group add 2 10");
    said(&cluster, "drain 9");
    said(&cluster, "remove 9 --wait 120");
    ends(&cluster, "a store is drained and replaced");
    cluster.nodes[8].kill();
    load.wait_progress(20, PATIENCE);

    // The balance is exact, and what was left holds nothing.
    let replicas = |store: u64| held.values().filter(|stores| stores.contains(&store)).count();
    for store in 1..=10 {
        let wanted = if [7, 8, 10].contains(&store) {
            usize::from(SHARDS)
        } else {
            0
        };
        assert_eq!(replicas(store), wanted, "store {store}: {held:?}");
    }
    let (errors, started) = (load.errors(), load.started);
    let sent = load.finish();
    // Nothing is asked of the shards any more: only their number counts.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = asked(&cluster, "stores");
        let rows = rows.as_array().cloned().unwrap_or_default();
        let of = |store: u64, what: &str| {
            let row = rows.iter().find(|row| row["store"] == store);
            row.and_then(|row| row[what].as_u64())
        };
        let leads = [7, 8, 10].map(|store| of(store, "leads").unwrap_or(u64::MAX));
        let is_even = leads.iter().max().unwrap() - leads.iter().min().unwrap() <= 1;
        let is_empty = [4, 5, 6]
            .iter()
            .all(|store| of(*store, "shards") == Some(0) && of(*store, "bytes") == Some(0));
        if is_even && is_empty {
            break;
        }
        assert!(Instant::now() < deadline, "{rows:#?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    println!(
        "{clients} clients over {SHARDS} shards with {} MiB, each rests {} ms after an append; {} cores",
        data_bytes >> 20,
        rest.as_millis(),
        std::thread::available_parallelism().unwrap()
    );
    report(&sent, calm, &phases);
    println!("clients were told: {errors:?}");
    for (store, held) in (4..=6).zip(held_bytes) {
        let deadline = Instant::now() + PATIENCE;
        let (tables, journals) = loop {
            let (tables, journals) = engine_bytes(&cluster, store);
            if tables < data_bytes / 8 {
                break (tables, journals);
            }
            assert!(
                Instant::now() < deadline,
                "store {store}, which was left, has tables of {tables} bytes"
            );
            std::thread::sleep(Duration::from_millis(100));
        };
        println!(
            "  store {store}, which was left: tables of {} KiB before, {} KiB now, journals of {} KiB",
            held >> 10,
            tables >> 10,
            journals >> 10
        );
    }
    let live = [1, 4, 7].map(|node: usize| cluster.nodes[node].addr());
    let mut record = Record::new(&sent, started);
    let mut reader = Reader::new(&live);
    let verdict = judge(&sent, |key| record.read(key, || reader.read(key)));
    println!(
        "{} acknowledged, {} unknown (of these applied {})",
        verdict.acknowledged, verdict.unknown, verdict.unknown_applied
    );
    verdict.check();
    record.check(&cluster.dir.path().join("history.jsonl"));

    // The stores that were left say so themselves.
    for node in 3..6 {
        cluster.nodes[node].signal(Signal::TERM);
        cluster.nodes[node].wait_exit(PATIENCE);
        let data = &cluster.nodes[node].data;
        let look = quorate()
            .args(["debug", "shards", "--json", "--data"])
            .arg(data)
            .output();
        let found: Value = serde_json::from_slice(&look.unwrap().stdout).unwrap();
        let left = found["shards"].as_array().unwrap();
        // Tombstones stay (M4).
        let is_gone = |shard: &Value| shard["state"].is_null() && shard["log"]["entries"] == 0;
        assert!(!left.is_empty() && left.iter().all(is_gone), "{found:#}");
    }
}

#[test]
fn groups_come_and_go_and_stores_are_replaced_under_load() {
    run(16, Duration::from_millis(10), Duration::from_secs(1), 16 << 20);
}

#[test]
#[ignore = "some minutes and 5 GB of disk; prints the report"]
fn sixty_four_clients_live_through_groups_that_come_and_go() {
    run(64, Duration::from_millis(20), Duration::from_secs(20), 256 << 20);
}
