//! One seed from start to end, and how it is reported.

use std::fmt;

use crate::heal::Recovery;
use crate::linearizability::History;
use crate::oracle::Violation;
use crate::panics;
use crate::plan::{Options, Plan, Profile};
use crate::workload::Outcomes;
use crate::world::{Counts, World};

/// The property that a panic breaks.
const ASSERTION: &str = "no assertion fails";

/// How many times its planned length the phase with faults lasts at most, for clients that got little done.
const LONGEST: u64 = 8;

/// A simulation in which everything held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Its profile.
    pub profile: Profile,
    /// Stores.
    pub nodes: u64,
    /// A hash over everything that happened: equal for equal seeds.
    pub digest: u64,
    /// Events in the trace.
    pub events: u64,
    /// Virtual microseconds simulated.
    pub virtual_us: u64,
    /// What happened.
    pub counts: Counts,
    /// How requests ended.
    pub outcomes: Outcomes,
    /// How fast the cluster recovered; none if it was stopped before.
    pub recovery: Option<Recovery>,
}

/// A simulation in which something did not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// Its profile.
    pub profile: Profile,
    /// What was fixed by the caller.
    pub options: Options,
    /// What the seed stood for.
    pub plan: Plan,
    /// Virtual microseconds at which it was seen.
    pub at_us: u64,
    /// The numbers of the faults that had struck.
    pub strikes: Vec<u64>,
    /// The property.
    pub violation: Violation,
}

impl Failure {
    /// What makes two failures the same one: the property, and for an assertion its place.
    pub(crate) fn signature(&self) -> (&'static str, &str) {
        let place = if self.violation.property == ASSERTION {
            self.violation.detail.lines().next().unwrap_or_default()
        } else {
            ""
        };
        (self.violation.property, place)
    }

    /// The command that replays it with a trace.
    #[must_use]
    pub fn replay(&self) -> String {
        format!(
            "quorate sim --profile {} --seed {}{}",
            self.profile,
            self.seed,
            self.options.flags()
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {} of profile {} failed: {}",
            self.seed, self.profile, self.violation.property
        )?;
        let at = self.at_us;
        writeln!(f, "  at       {}.{:06} s", at / 1_000_000, at % 1_000_000)?;
        writeln!(f, "  seen     {}", self.violation.detail)?;
        writeln!(f, "  plan     {:?}", self.plan)?;
        write!(f, "  replay   {}", self.replay())
    }
}

impl std::error::Error for Failure {}

/// Simulates a seed: a phase with faults, then healing, then everything is judged.
///
/// # Errors
///
/// The first property that did not hold; a panic of the code under test is one of them.
pub fn run(seed: u64, profile: Profile, options: &Options) -> Result<Report, Box<Failure>> {
    run_recorded(seed, profile, options).0
}

/// The same, and what the clients saw until the end or until something did not hold.
///
/// # Errors
///
/// As [`run`].
pub fn run_recorded(
    seed: u64,
    profile: Profile,
    options: &Options,
) -> (Result<Report, Box<Failure>>, History) {
    let plan = Plan::derive(seed, profile, options);
    // Outside of what may panic, so that it can tell afterwards how far it came.
    let mut world = World::new(seed, plan.clone(), options.trace.clone());
    world.stop_at(options.until_us);
    let result = panics::caught(|| both_phases(&mut world, &plan))
        .unwrap_or_else(|said| Err(Violation::new(ASSERTION, said)));
    let history = world.workload.take_history();
    let result = match result {
        Ok(recovery) => Ok(Report {
            seed,
            profile,
            nodes: plan.nodes,
            digest: world.digest(),
            events: world.trace.events(),
            virtual_us: world.now_us(),
            counts: world.counts(),
            outcomes: world.outcomes(),
            recovery,
        }),
        Err(violation) => Err(Box::new(Failure {
            seed,
            profile,
            options: options.clone(),
            plan,
            at_us: world.now_us(),
            strikes: world.strikes,
            violation,
        })),
    };
    (result, history)
}

/// Faults, for as long as the plan says and until the clients have asked enough; then healing.
fn both_phases(world: &mut World, plan: &Plan) -> Result<Option<Recovery>, Violation> {
    world.run_until(plan.fault_us)?;
    let mut lengths = 1;
    while world.operations() < plan.operations_min && world.now_us() < plan.fault_us * LONGEST {
        if world.now_us() >= plan.fault_us * lengths {
            lengths += 1;
            world.ease_network();
        }
        world.run_until(world.now_us() + 1_000_000)?;
    }
    if world.is_over() {
        return Ok(None);
    }
    let recovery = world.heal_and_check()?;
    if world.is_over() {
        return Ok(None);
    }
    let (operations, faults) = (world.operations(), world.counts().faults);
    if operations < plan.operations_min || faults < plan.faults_min {
        let detail = format!(
            "{operations} operations and {faults} faults in {} us",
            world.now_us()
        );
        return Err(Violation::new("a run is not idle", detail));
    }
    Ok(Some(recovery))
}
