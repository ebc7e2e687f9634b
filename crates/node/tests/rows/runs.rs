//! How rows are run: over seeds, with what replays a failure.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use crate::{Row, agreement, crashes, elections, rsm, snapshots};

const SEEDS_DEFAULT: u64 = 3;
const SEEDS_MANY: u64 = 1000;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {value:?}")),
    )
}

/// Runs one seed; a failure says how to see it again.
fn run(row: &Row, seed: u64) -> u64 {
    match catch_unwind(AssertUnwindSafe(|| (row.run)(seed))) {
        Ok(digest) => digest,
        Err(panic) => {
            eprintln!(
                "row {} fails with seed {seed}; replay: QUORATE_SEED={seed} cargo test -p quorate-node --test rows {}",
                row.name, row.name
            );
            resume_unwind(panic)
        }
    }
}

/// The seeds that the environment asks for, or a few.
pub(crate) fn a_few_seeds(row: &Row) {
    if let Some(seed) = number("QUORATE_SEED") {
        let digest = run(row, seed);
        println!("row {} with seed {seed}: digest {digest:016x}", row.name);
        return;
    }
    for seed in 1..=number("QUORATE_SEEDS").unwrap_or(SEEDS_DEFAULT) {
        run(row, seed);
    }
}

fn all() -> impl Iterator<Item = &'static Row> {
    [
        elections::ROWS,
        agreement::ROWS,
        crashes::ROWS,
        snapshots::ROWS,
        rsm::ROWS,
    ]
    .into_iter()
    .flatten()
}

/// 1000 seeds each (or `QUORATE_SEEDS`), with the time that it took.
#[test]
#[ignore = "minutes: all rows with 1000 seeds each"]
fn all_rows_with_many_seeds() {
    let seeds = number("QUORATE_SEEDS").unwrap_or(SEEDS_MANY);
    let began = Instant::now();
    for row in all() {
        let row_began = Instant::now();
        for seed in 1..=seeds {
            run(row, seed);
        }
        println!(
            "{:<45} {seeds} seeds  {:7.1} s",
            row.name,
            row_began.elapsed().as_secs_f64()
        );
    }
    println!(
        "{} rows, {seeds} seeds each, no failure, {:.1} s",
        all().count(),
        began.elapsed().as_secs_f64()
    );
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    for row in all() {
        let [first, second, other] = [7, 7, 8].map(|seed| (row.run)(seed));
        assert_eq!(first, second, "row {} is not decided by its seed", row.name);
        assert_ne!(first, other, "row {}: the seed changes nothing", row.name);
    }
}

#[test]
fn every_row_of_the_table_is_there_once() {
    let names: Vec<&str> = all().map(|row| row.name).collect();
    let wanted = (1..=28)
        .map(|n| format!("r_{n:02}_"))
        .chain((1..=8).map(|n| format!("rsm_{n:02}_")));
    for wanted in wanted {
        assert_eq!(
            names.iter().filter(|name| name.starts_with(&wanted)).count(),
            1,
            "{wanted}"
        );
    }
    assert_eq!(names.len(), 36);
}
