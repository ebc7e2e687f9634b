//! Real processes, killed again and again under load: nothing acknowledged is lost, nothing runs twice.
//!
//! The full version, with its report: `cargo test --release -p quorate --test kill_loop -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::time::{Duration, Instant};

use quorate::rng::Rng;
use support::tokens::{Fate, Gap, Load, Reader, Sent, Verdict, judge, slot_of_shard};
use support::{Cluster, SHARDS};

const CLIENTS: usize = 16;
/// Further ones, all on one shard.
const EXTRA_CLIENTS: usize = 4;
const RECOVERY: Duration = Duration::from_secs(30);

struct Report {
    verdict: Verdict,
    /// During the single kills; the kills of all three at once are no question of availability.
    gaps: Vec<Gap>,
    single_kills: Duration,
}

/// Single kills, then kills of all three at once, all under load; then the judgement.
fn kill_loop(kills: u32, kills_of_all: u32, seed: u64) -> Report {
    let mut rng = Rng::new(seed);
    let mut cluster = Cluster::start(3, &[]);
    let addrs = cluster.addrs();
    let load = Load::start(&addrs, CLIENTS, EXTRA_CLIENTS);
    load.wait_progress(5, RECOVERY);

    let started = Instant::now();
    for round in 0..kills {
        let random = rng.below(3) as usize;
        // Every other time the one that hurts most.
        let (victim, why) = if round % 2 == 0 {
            let busiest = load.busiest();
            let leader = cluster.wait_leader_of(slot_of_shard(busiest));
            (leader, format!("leader of shard {busiest}, the busiest"))
        } else {
            (random, "at random".to_owned())
        };
        println!(
            "{:6.2} s  kill -9 node {}, {why}",
            started.elapsed().as_secs_f64(),
            victim + 1
        );
        cluster.nodes[victim].kill();
        // Long enough that the others have elected new leaders, or not, as chance will have it.
        std::thread::sleep(Duration::from_millis(300 + rng.below(1200)));
        cluster.nodes[victim].start();
        cluster.wait_ready();
        load.wait_progress(3, RECOVERY);
        // Time for the node to catch up: with one replica down and one behind, the next kill would rightly stop
        // the shard until the catching up is done, and that would be counted as a gap.
        std::thread::sleep(Duration::from_millis(500 + rng.below(500)));
    }
    let gaps = load.gaps();
    let single_kills = started.elapsed();

    for round in 0..kills_of_all {
        println!("{:6.2} s  kill -9 all three", started.elapsed().as_secs_f64());
        // All are signalled before any is waited for.
        for node in &cluster.nodes {
            node.signal(rustix::process::Signal::KILL);
        }
        for node in &mut cluster.nodes {
            node.kill();
        }
        if round % 2 == 1 {
            std::thread::sleep(Duration::from_millis(rng.below(500)));
        }
        for node in &mut cluster.nodes {
            node.start();
        }
        cluster.wait_ready();
        load.wait_progress(20, RECOVERY);
    }

    let sent = load.finish();
    let mut reader = Reader::new(&addrs);
    let verdict = judge(&sent, |key| reader.read(key));
    Report {
        verdict,
        gaps,
        single_kills,
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_processes_are_killed() {
    kill_loop(3, 1, 1).verdict.check();
}

#[test]
#[ignore = "a minute or two; prints the report"]
fn kill_loop_full() {
    let seed = std::env::var("KILL_LOOP_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    let report = kill_loop(20, 5, seed);
    let verdict = &report.verdict;
    println!(
        "\n{} clients, {SHARDS} shards, 20 kills in {:.0} s, then 5 kills of all three; seed {seed}",
        CLIENTS + EXTRA_CLIENTS,
        report.single_kills.as_secs_f64()
    );
    println!(
        "acknowledged {}, unknown {} (of these applied {}), violations {}",
        verdict.acknowledged,
        verdict.unknown,
        verdict.unknown_applied,
        verdict.violations.len()
    );
    println!("longest time without a successful write, during the single kills:");
    for (shard, gap) in report.gaps.iter().enumerate() {
        println!(
            "  shard {shard} (slots from {}): {:5.0} ms, until {:.1} s; {} writes",
            16384 / usize::from(SHARDS) * shard,
            gap.longest.as_secs_f64() * 1e3,
            gap.at.as_secs_f64(),
            gap.acknowledged
        );
    }
    let worst = report
        .gaps
        .iter()
        .map(|gap| gap.longest)
        .max()
        .unwrap_or_default();
    println!("worst: {:.0} ms", worst.as_secs_f64() * 1e3);
    verdict.check();
    assert!(
        worst < Duration::from_secs(2),
        "the worst shard had no successful write for {worst:?}"
    );
}

/// The judge itself: each broken promise is seen, and what is allowed is not blamed.
#[test]
fn the_judge_sees_each_kind_of_violation() {
    let key = "k".to_owned();
    let sent = |n, fate| Sent {
        n,
        key: key.clone(),
        fate,
        call: Duration::ZERO,
        end: Duration::ZERO,
        length: None,
    };
    let clients = [vec![
        sent(0, Fate::Acknowledged),
        sent(1, Fate::Unknown),
        sent(2, Fate::Acknowledged),
        sent(3, Fate::NotApplied),
    ]];
    for (value, why) in [
        ("c0-0;c0-2;", None),
        ("c0-0;c0-1;c0-2;", None),
        // Unknown: may be applied late.
        ("c0-0;c0-2;c0-1;", None),
        ("c0-0;", Some("c0-2 is lost")),
        ("c0-2;c0-0;", Some("out of order")),
        ("c0-0;c0-2;c0-2;", Some("never sent, or twice")),
        ("c0-0;c0-1;c0-2;c0-1;", Some("never sent, or twice")),
        ("c0-0;c0-2;c0-3;", Some("was not applied")),
        ("c0-0;c0-2;c1-0;", Some("unknown client")),
        ("c0-0;c0-2;c0", Some("ends inside a token")),
    ] {
        let verdict = judge(&clients, |asked| {
            if asked == key {
                value.to_owned()
            } else {
                String::new()
            }
        });
        match why {
            None => assert!(verdict.violations.is_empty(), "{value}: {:?}", verdict.violations),
            Some(why) => {
                assert!(
                    verdict.violations.iter().any(|v| v.contains(why)),
                    "{value}: {:?}",
                    verdict.violations
                );
            }
        }
    }
}
