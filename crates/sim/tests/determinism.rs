//! The same seed gives the same simulation, event by event; without that a failure could not be replayed.

use std::sync::{Arc, Mutex};

use quorate_sim::{Batch, Options, Profile, Sink, run};

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
fn the_readable_trace_is_the_same_byte_by_byte_and_changes_nothing() {
    let traced = || {
        let lines = Arc::new(Mutex::new(String::new()));
        let taken = lines.clone();
        let options = Options {
            trace: Some(Sink::new(move |line| {
                let mut lines = taken.lock().unwrap();
                lines.push_str(line);
                lines.push('\n');
            })),
            ..options()
        };
        let report = run(6, Profile::Everything, &options).unwrap();
        let lines = lines.lock().unwrap().clone();
        (report, lines)
    };
    let (report, lines) = traced();
    assert_eq!(report.events, lines.lines().count() as u64);
    assert!(
        traced() == (report.clone(), lines),
        "two traces of one seed differ"
    );
    assert_eq!(
        run(6, Profile::Everything, &options()).unwrap(),
        report,
        "without a trace"
    );
}

#[test]
fn the_number_of_threads_makes_no_difference() {
    let digest = |threads| {
        let batch = Batch {
            seeds: 20..32,
            threads,
            keep_going: false,
        };
        let summary = batch.run(Profile::Everything, &options());
        assert!(summary.failures.is_empty(), "{}", summary.failures[0]);
        summary.digest
    };
    let one = digest(1);
    assert_eq!((digest(2), digest(5)), (one, one));
}

#[test]
fn another_seed_gives_another_trace() {
    let digest = |seed| run(seed, Profile::Everything, &options()).unwrap().digest;
    assert_ne!(digest(1), digest(2));
}
