//! Seeds of every profile: a few in every test run, a thousand of each on request.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_sim::{Options, Profile, run};

/// Simulates seeds on all processors; panics with the first failure, which says how to replay it.
fn simulate(profile: Profile, seeds: std::ops::Range<u64>, options: &Options) {
    let next = AtomicU64::new(seeds.start);
    let failure = OnceLock::new();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failure.get().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Err(failed) = run(seed, profile, options) {
                        let _ = failure.set(failed); // the first counts
                    }
                }
            });
        }
    });
    if let Some(failure) = failure.into_inner() {
        panic!("{failure}");
    }
}

/// Short enough for every test run.
const SHORT: Options = Options {
    nodes: None,
    shards: None,
    fault_ms: Some(3_000),
    trace: None,
};

#[test]
fn calm_seeds() {
    simulate(Profile::Calm, 0..20, &SHORT);
}

#[test]
fn lossy_seeds() {
    simulate(Profile::Lossy, 0..40, &SHORT);
}

#[test]
fn crashy_seeds() {
    simulate(Profile::Crashy, 0..40, &SHORT);
}

#[test]
fn everything_seeds() {
    simulate(Profile::Everything, 0..40, &SHORT);
}

#[test]
#[ignore = "a thousand seeds of each profile take minutes; run in release"]
fn thousand_seeds() {
    for profile in Profile::ALL {
        simulate(profile, 0..1000, &Options::default());
    }
}
