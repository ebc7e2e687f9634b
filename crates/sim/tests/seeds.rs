//! Seeds of every profile: a few in every test run, a thousand of each on request.

use quorate_sim::{Batch, Options, Profile};

/// Simulates seeds on all processors; panics with the first failure, which says how to replay it.
fn simulate(profile: Profile, seeds: std::ops::Range<u64>, options: &Options) {
    let batch = Batch {
        seeds,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        keep_going: false,
    };
    if let Some(failure) = batch.run(profile, options).failures.first() {
        panic!("{failure}");
    }
}

/// Short enough for every test run.
fn short() -> Options {
    Options {
        fault_ms: Some(3_000),
        ..Options::short()
    }
}

#[test]
fn calm_seeds() {
    simulate(Profile::Calm, 0..20, &short());
}

#[test]
fn lossy_seeds() {
    simulate(Profile::Lossy, 0..40, &short());
}

#[test]
fn crashy_seeds() {
    simulate(Profile::Crashy, 0..40, &short());
}

#[test]
fn disk_seeds() {
    simulate(Profile::Disk, 0..40, &short());
}

#[test]
fn clock_seeds() {
    simulate(Profile::Clock, 0..40, &short());
}

#[test]
fn moves_seeds() {
    simulate(Profile::Moves, 0..60, &Options::short());
}

#[test]
fn splits_seeds() {
    simulate(Profile::Splits, 0..60, &Options::short());
}

#[test]
fn placement_seeds() {
    simulate(Profile::Placement, 0..40, &Options::short());
}

#[test]
fn everything_seeds() {
    simulate(Profile::Everything, 0..40, &short());
}

/// A store had all chunks of a snapshot, its core had taken it and was about to say so, and the first chunk of a newer one
/// came from another sender in the same turn: what was staged was thrown away, and the process stopped because the core
/// had seen a snapshot whose data is not there.
#[test]
fn a_complete_snapshot_stays_until_the_core_has_spoken() {
    simulate(Profile::Everything, 1_200_738..1_200_739, &Options::default());
}

/// Whole seeds of a profile: minutes in release.
macro_rules! whole_seeds {
    ($($name:ident $profile:ident)*) => {
        $(
            #[test]
            #[ignore = "a hundred whole seeds take minutes; run in release"]
            fn $name() {
                simulate(Profile::$profile, 0..100, &Options::default());
            }
        )*
    };
}

whole_seeds! {
    calm_whole_seeds Calm
    lossy_whole_seeds Lossy
    crashy_whole_seeds Crashy
    disk_whole_seeds Disk
    clock_whole_seeds Clock
    moves_whole_seeds Moves
    splits_whole_seeds Splits
    placement_whole_seeds Placement
    everything_whole_seeds Everything
}
