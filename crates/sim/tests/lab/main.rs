//! The scenarios of the public labs and of public bug reports, by the ids of the scenario table, on virtual time.
//!
//! By default each row runs a seed or two. `QUORATE_SEEDS=full` runs as many as the table asks for, a number runs
//! so many, and `QUORATE_SEED` runs one. A failure names the row, the seed and the command that runs it again.
//!
//! ```text
//! QUORATE_SEEDS=full cargo test --release -p quorate-sim --test lab
//! ```
//!
//! Appends of rows K are sent under a session until they are answered, so that each is there exactly once and in
//! order; of one whose client gave up, that it is there at most once.

/// A test for each row: it runs a function with the seed and what else the row says.
macro_rules! rows {
    ($of:ident: $($name:ident($($with:expr),*);)*) => {
        $(#[test]
        fn $name() {
            crate::support::row(stringify!($name), crate::support::CLUSTER_SEEDS, |seed| $of(seed, $($with),*));
        })*
    };
}

mod bugs;
mod controller;
mod controllers;
mod generic;
mod group_bytes;
mod group_changes;
mod group_clients;
mod group_failures;
mod groups;
mod identities;
mod kv;
mod left_behind;
mod lost_majority;
mod many_keys;
mod moves;
mod recovery;
mod schedulers;
mod sessions;
mod splits;
mod stores;
mod support;
mod versions;
