//! R-01 to R-28 and RSM-01 to RSM-08 of the scenarios, by id, on virtual time.
//!
//! ```text
//! cargo test -p quorate-node --test rows                                            a few seeds of each row
//! cargo test --release -p quorate-node --test rows -- --ignored --nocapture         1000 seeds of each row
//! QUORATE_SEEDS=50 cargo test -p quorate-node --test rows r_12                      so many of one row
//! QUORATE_SEED=77 cargo test -p quorate-node --test rows r_12                       one seed of one row
//! ```

mod agreement;
mod crashes;
mod elections;
mod lab;
mod rsm;
mod runs;
mod snapshots;

use lab::Lab;

/// A row: its name, and what it does with a seed. It returns the digest of the run.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) run: fn(u64) -> u64,
}

/// Declares rows as tests, and lists them.
macro_rules! rows {
    ($list:ident, $lab:ident; $($name:ident: $make:expr => $body:block)+) => {
        $(
            #[test]
            fn $name() {
                crate::runs::a_few_seeds($list.iter().find(|row| row.name == stringify!($name)).unwrap());
            }
        )+
        pub(crate) const $list: &[crate::Row] = &[$(crate::Row {
            name: stringify!($name),
            run: |seed| {
                let make: fn(u64) -> crate::Lab = $make;
                let mut lab = make(seed);
                let $lab = &mut lab;
                $body
                lab.cluster.digest()
            },
        }),+];
    };
}
pub(crate) use rows;
