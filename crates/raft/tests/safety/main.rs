//! Whole clusters under random faults, with the safety properties of the Raft paper asserted after every step, and
//! progress once the faults end. A seed decides everything.
//!
//! ```text
//! cargo test -p quorate-raft --test safety                         # some seeds
//! QUORATE_SEEDS=10000 cargo test --release -p quorate-raft --test safety
//! QUORATE_SEED=17 cargo test -p quorate-raft --test safety         # one seed again
//! ```

mod cluster;
mod faults;
mod heal;
mod member;
mod properties;
#[path = "../behaviour/rng.rs"]
mod rng;

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use cluster::Cluster;

/// Steps with faults in a run; those that follow without are several times as many.
const STEPS: u32 = 12_000;

/// What a run must have met, so that a harness that does nothing cannot pass for a safe core.
#[derive(Default)]
struct Met {
    steps: AtomicU64,
    entries: AtomicU64,
    reads: AtomicU64,
    leaders: AtomicU64,
    crashes: AtomicU64,
    snapshots: AtomicU64,
    changes: AtomicU64,
}

#[test]
fn clusters_are_safe_under_faults_and_live_after_them() {
    let seeds = rng::seeds(60);
    let (next, end) = (AtomicU64::new(seeds.start), seeds.end);
    let met = Met::default();
    let begin = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    rng::named(seed, || run(seed, &met));
                }
            });
        }
    });
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    // Past the test harness, which keeps the output of tests that pass to itself.
    let _ = writeln!(
        std::io::stdout(),
        "{} seeds in {:.1} s: {} steps, {} leaders, {} entries, {} reads, {} crashes, {} snapshots, {} changes of members",
        end - seeds.start,
        begin.elapsed().as_secs_f64(),
        count(&met.steps),
        count(&met.leaders),
        count(&met.entries),
        count(&met.reads),
        count(&met.crashes),
        count(&met.snapshots),
        count(&met.changes),
    );
    if end - seeds.start >= 20 {
        for number in [
            &met.leaders,
            &met.entries,
            &met.reads,
            &met.crashes,
            &met.snapshots,
            &met.changes,
        ] {
            assert!(
                count(number) >= end - seeds.start,
                "less than one a seed: nothing was tried"
            );
        }
    }
}

fn run(seed: u64, met: &Met) {
    let mut cluster = Cluster::new(seed);
    for _ in 0..STEPS {
        cluster.fault_step();
    }
    cluster.heal();
    let tried = &cluster.tried;
    for (number, more) in [
        (&met.steps, tried.steps),
        (&met.entries, cluster.properties.committed().0),
        (&met.reads, tried.reads),
        (&met.leaders, cluster.properties.leaders()),
        (&met.crashes, tried.crashes),
        (&met.snapshots, tried.snapshots),
        (&met.changes, tried.changes),
    ] {
        number.fetch_add(more, Ordering::Relaxed);
    }
}

/// The same seed is the same run, message by message.
#[test]
fn a_seed_replays() {
    for seed in 0..3 {
        let digest = || {
            let mut cluster = Cluster::new(seed);
            for _ in 0..STEPS {
                cluster.fault_step();
            }
            cluster.describe()
        };
        assert_eq!(digest(), digest());
    }
}
