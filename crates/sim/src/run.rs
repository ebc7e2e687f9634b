//! One seed from start to end, and how it is reported.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::heal::Recovery;
use crate::oracle::Violation;
use crate::plan::{Options, Plan, Profile};
use crate::workload::Outcomes;
use crate::world::{Counts, World};

/// A simulation in which everything held.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Its profile.
    pub profile: Profile,
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
    /// How fast the cluster recovered.
    pub recovery: Recovery,
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
    /// Virtual microseconds at which it was seen; none for a panic, whose time is lost.
    pub at_us: Option<u64>,
    /// The property.
    pub violation: Violation,
}

impl Failure {
    /// The command that replays it with a trace.
    #[must_use]
    pub fn replay(&self) -> String {
        let mut command = format!(
            "cargo run --release -p quorate-sim -- --profile {} --seed {} --trace",
            self.profile, self.seed
        );
        let fixed = [
            ("nodes", self.options.nodes),
            ("shards", self.options.shards.map(u64::from)),
            ("fault-ms", self.options.fault_ms),
        ];
        for (name, value) in fixed {
            if let Some(value) = value {
                command += &format!(" --{name} {value}");
            }
        }
        command
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {} of profile {} failed: {}",
            self.seed, self.profile, self.violation.property
        )?;
        if let Some(at) = self.at_us {
            writeln!(f, "  at       {}.{:06} s", at / 1_000_000, at % 1_000_000)?;
        }
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
    let plan = Plan::derive(seed, profile, options);
    let failed = |at_us, violation| {
        Box::new(Failure {
            seed,
            profile,
            options: *options,
            plan: plan.clone(),
            at_us,
            violation,
        })
    };
    let simulated = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, plan.clone(), options.trace);
        let result = world
            .run_until(plan.fault_us)
            .and_then(|()| world.heal_and_check());
        match result {
            Ok(recovery) => Ok(Report {
                seed,
                profile,
                digest: world.digest(),
                events: world.trace.events(),
                virtual_us: world.now_us(),
                counts: world.counts(),
                outcomes: world.outcomes(),
                recovery,
            }),
            Err(violation) => Err(failed(Some(world.now_us()), violation)),
        }
    }));
    simulated.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or(panic.downcast_ref::<&str>().copied());
        let detail = text.unwrap_or("a panic without a message").into();
        Err(failed(
            None,
            Violation {
                property: "no assertion fails",
                detail,
            },
        ))
    })
}
