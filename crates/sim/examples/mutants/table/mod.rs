//! Every mutant: its name, what it breaks, which suite is expected to catch it, and by which check.

mod clients;
mod consensus;
mod persistence;
mod placement;
mod recovery;
mod shards;

/// Where a mutant is looked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Suite {
    /// Whole clusters, in a profile of the simulator.
    Cluster(&'static str),
    /// Groups of bare Raft cores that also change members: `crates/raft/tests/safety`.
    Core,
    /// The Raft log on a disk that loses power: `crates/storage/tests/log_power_loss.rs`.
    Log,
    /// Shards that lost their majority for ever: `crates/sim/tests/lab/lost_majority.rs`.
    Recovery,
}

/// A deliberate bug.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutant {
    /// As its hook names it.
    pub(crate) name: &'static str,
    /// The part of the system.
    pub(crate) area: &'static str,
    /// The rule or property that it breaks, and how.
    pub(crate) breaks: &'static str,
    /// Who is expected to catch it.
    pub(crate) suite: Suite,
    /// How what the check says begins that is expected to see it; another one may be faster.
    pub(crate) check: &'static str,
}

const fn mutant(
    area: &'static str,
    name: &'static str,
    suite: Suite,
    breaks: &'static str,
    check: &'static str,
) -> Mutant {
    Mutant {
        name,
        area,
        breaks,
        suite,
        check,
    }
}

const ALL: Suite = Suite::Cluster("everything");
const DISK: Suite = Suite::Cluster("disk");
const MOVES: Suite = Suite::Cluster("moves");
const SPLITS: Suite = Suite::Cluster("splits");
const PLACEMENT: Suite = Suite::Cluster("placement");
const CORE: Suite = Suite::Core;
const LOG: Suite = Suite::Log;
const RECOVERY: Suite = Suite::Recovery;

/// All of them, by subject.
pub(crate) fn mutants() -> Vec<Mutant> {
    [
        consensus::MUTANTS,
        persistence::MUTANTS,
        clients::MUTANTS,
        shards::MUTANTS,
        placement::MUTANTS,
        recovery::MUTANTS,
    ]
    .concat()
}
