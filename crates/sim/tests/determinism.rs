//! The same seed gives the same simulation, event by event; without that a failure could not be replayed.

use quorate_sim::{Options, Profile, run};

fn options() -> Options {
    Options {
        fault_ms: Some(2_000),
        ..Options::short()
    }
}

#[test]
fn the_same_seed_twice_gives_the_same_trace() {
    for profile in Profile::ALL {
        for seed in [3, 4, 5] {
            let reports = [0, 1].map(|_| run(seed, profile, &options()).unwrap());
            assert_eq!(reports[0], reports[1], "{profile} {seed}");
        }
    }
}

#[test]
fn another_seed_gives_another_trace() {
    let digest = |seed| run(seed, Profile::Everything, &options()).unwrap().digest;
    assert_ne!(digest(1), digest(2));
}
