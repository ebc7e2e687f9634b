//! Rows B-10: timestamps, with the leader's part played by hand.

mod support;

use quorate_controller::Controller;
use quorate_proto::{Answer, CommandError, ControlCommand, TIMESTAMP_COUNT_BITS, TIMESTAMPS_MAX};
use quorate_raft::Term;
use quorate_storage::engine::Pair;
use quorate_store::rsm::{Reign, RowChanges, Said, StateMachine};

const NOW_MS: u64 = 1_700_000_000_000;

/// A machine, its row, and how often it wrote.
#[derive(Clone, Default)]
struct Oracle {
    machine: Controller,
    rows: Vec<Pair>,
    writes: u64,
}

impl Oracle {
    fn apply(&mut self, stamp_ms: u64, command: &ControlCommand) -> Answer {
        let mut changes = RowChanges::new();
        let answer = self.machine.apply(stamp_ms, command, &mut changes);
        self.writes += 1;
        for (row, value) in changes {
            self.rows = vec![(row, value.unwrap())];
        }
        answer
    }

    /// The leader of a term answers, `now_us` after its start, by a wall clock that says `wall_ms`.
    fn take(&mut self, term: u64, now_us: u64, wall_ms: u64, count: u32) -> Result<u64, CommandError> {
        let reign = Reign {
            term: Term(term),
            now_us,
        };
        loop {
            match self.machine.timestamps(reign, count) {
                Said::Answer(Answer::Int(first)) => return Ok(first as u64),
                Said::Answer(Answer::Error(error)) => return Err(error),
                Said::Answer(other) => panic!("{other:?}"),
                Said::After(command) => {
                    self.apply(wall_ms, &command);
                }
            }
        }
    }

    /// The process begins anew.
    fn restart(&mut self) {
        self.machine = Controller::default();
        self.machine.load(&self.rows).unwrap();
    }
}

fn ms(timestamp: u64) -> u64 {
    timestamp >> TIMESTAMP_COUNT_BITS
}

#[test]
fn b_10_one_write_covers_the_timestamps_of_seconds() {
    let mut oracle = Oracle::default();
    let mut last = 0;
    for step in 0..30_000 {
        let first = oracle.take(1, step * 100, NOW_MS, 10).unwrap();
        assert!(first >= last, "{first} after {last}");
        assert!(
            ms(first) >= NOW_MS + step / 10,
            "it does not fall behind the clock"
        );
        last = first + 10;
    }
    assert_eq!(oracle.writes, 1, "for three seconds");
    oracle.take(1, 3_100_000, NOW_MS + 3_100, 1).unwrap();
    assert_eq!(oracle.writes, 2);
}

#[test]
fn b_10_timestamps_rise_over_leaders_restarts_and_clocks_that_step_back() {
    let mut oracle = Oracle::default();
    let mut last = 0;
    for term in 1..50 {
        if term % 3 == 0 {
            oracle.restart();
        }
        let wall_ms = NOW_MS - (term % 7) * 3_600_000;
        for step in 0..20 {
            let first = oracle.take(term, step * 1_000, wall_ms, 100).unwrap();
            assert!(first >= last, "{first} after {last} in term {term}");
            last = first + 100;
        }
    }
    // A clock that steps back holds nothing up: each leader begins where the window before it ended.
    assert!(ms(last) < NOW_MS + 49 * 3_001, "{}", ms(last) - NOW_MS);
}

#[test]
fn a_window_is_of_one_term_and_is_reserved_once() {
    let mut oracle = Oracle::default();
    let first = oracle.take(1, 0, NOW_MS, 1).unwrap();
    // Two leaders who know the same: each gets a window of its own, whatever is applied first.
    let reserve = |term, above| ControlCommand::ReserveTimestamps {
        term: Term(term),
        above,
    };
    let Answer::Int(end) = oracle.apply(0, &reserve(9, 0)) else {
        panic!("an end")
    };
    assert_eq!(
        oracle.take(1, 1, NOW_MS, 1),
        Ok(first + 1),
        "what is known of before is not reserved again"
    );
    let end = end as u64;
    oracle.apply(NOW_MS, &reserve(3, end));
    oracle.apply(NOW_MS, &reserve(2, end));
    let third = oracle.take(3, 0, NOW_MS, 1).unwrap();
    let second = oracle.take(2, 0, NOW_MS, 1).unwrap();
    assert!(end <= third && third < second, "{end} {third} {second}");
    assert!(
        oracle.take(1, 1, NOW_MS, 1).unwrap() > second,
        "its window is gone"
    );
}

#[test]
fn what_cannot_be_given_is_refused() {
    let mut oracle = Oracle::default();
    for count in [0, TIMESTAMPS_MAX + 1, u32::MAX] {
        assert_eq!(oracle.take(1, 0, NOW_MS, count), Err(CommandError::OutOfRange));
    }
    assert_eq!(oracle.writes, 0);
    oracle.take(1, 0, NOW_MS, TIMESTAMPS_MAX).unwrap();
    // A clock beyond all numbers: the last ones are given, and then no more.
    let mut given = 0;
    while oracle.take(2, 0, u64::MAX, 1_000).is_ok() {
        given += 1;
    }
    assert!(given > 0);
    assert_eq!(oracle.take(3, 0, NOW_MS, 1), Err(CommandError::OutOfRange));
    let (row, value) = oracle.rows[0].clone();
    for wrong in [value.slice(1..), value.slice(..24), vec![9; 25].into()] {
        let error = Controller::default().load(&[(row.clone(), wrong)]).unwrap_err();
        assert!(error.starts_with("timestamps: "), "{error}");
    }
}
