//! Makes a failing run smaller: leaves out kinds of faults, single faults, clients, nodes and shards as long as
//! the same property fails, and ends it where it fails.
//!
//! Every smaller run is said by [`Options`], so it can be replayed from the command line. Faults and clients
//! have draws of their own, so those that are left do what they did before; what the cluster makes of it is
//! another history, and most attempts fail to fail.

use crate::plan::{Fault, Options};
use crate::run::{Failure, run};

/// Makes failing runs smaller.
struct Shrinker<'a> {
    failure: Failure,
    attempts: u64,
    attempts_max: u64,
    try_run: &'a mut dyn FnMut(&Options) -> Option<Failure>,
}

/// Makes a failure smaller, with at most `attempts_max` runs. Returns the smallest found and how many runs it
/// took.
#[must_use]
pub fn shrink(failure: &Failure, attempts_max: u64) -> (Failure, u64) {
    let (seed, profile) = (failure.seed, failure.profile);
    let mut try_run = |options: &Options| run(seed, profile, options).err().map(|failure| *failure);
    Shrinker {
        failure: failure.clone(),
        attempts: 0,
        attempts_max,
        try_run: &mut try_run,
    }
    .shrink()
}

impl Shrinker<'_> {
    fn shrink(mut self) -> (Failure, u64) {
        self.failure.options.trace = None;
        self.end_where_it_fails();
        loop {
            let before = self.failure.options.clone();
            self.drop_kinds();
            self.drop_faults();
            self.lower(
                |options| &mut options.clients,
                |failure| failure.plan.load.clients,
            );
            self.lower(|options| &mut options.nodes, |failure| failure.plan.nodes);
            self.drop_shards();
            self.shorten();
            if self.failure.options.flags() == before.flags() || self.attempts >= self.attempts_max {
                return (self.failure, self.attempts);
            }
        }
    }

    /// Keeps a smaller run if it fails in the same way.
    fn keeps_failing(&mut self, options: Options) -> bool {
        if self.attempts >= self.attempts_max {
            return false;
        }
        self.attempts += 1;
        match (self.try_run)(&options) {
            Some(smaller) if smaller.signature() == self.failure.signature() => {
                self.failure = smaller;
                self.end_where_it_fails();
                true
            }
            _ => false,
        }
    }

    /// What comes after the failure is not needed. This is the same run, so it is not tried. Virtual time ends
    /// behind the moment of the failure, in which something is looked at.
    fn end_where_it_fails(&mut self) {
        self.failure.options.until_us = Some(self.failure.at_us + 1);
    }

    fn options(&self) -> Options {
        Options {
            // Another history fails at another time.
            until_us: None,
            ..self.failure.options.clone()
        }
    }

    fn drop_kinds(&mut self) {
        let kinds: Vec<Fault> = self.failure.plan.faults.iter().map(|(fault, _)| *fault).collect();
        let used = |failure: &Failure| -> Vec<Fault> {
            kinds
                .iter()
                .copied()
                .filter(|kind| failure.plan.uses(*kind))
                .collect()
        };
        let none = Options {
            faults: Some(Vec::new()),
            ..self.options()
        };
        if used(&self.failure).is_empty() || self.keeps_failing(none) {
            return;
        }
        for kind in &kinds {
            let mut left = used(&self.failure);
            if left.len() > 1 && left.contains(kind) {
                left.retain(|one| one != kind);
                let options = Options {
                    faults: Some(left),
                    ..self.options()
                };
                self.keeps_failing(options);
            }
        }
    }

    /// Leaves out runs of faults, half as long each time.
    fn drop_faults(&mut self) {
        let mut len = self.failure.strikes.len().div_ceil(2);
        while len > 0 {
            let mut at = 0;
            while at < self.failure.strikes.len() {
                let end = (at + len).min(self.failure.strikes.len());
                let mut options = self.options();
                options.skip_faults.extend(&self.failure.strikes[at..end]);
                options.skip_faults.sort_unstable();
                if !self.keeps_failing(options) {
                    at = end;
                }
                if self.attempts >= self.attempts_max {
                    return;
                }
            }
            len /= 2;
        }
    }

    /// Halves a number as long as that works, then takes one away.
    fn lower(&mut self, field: fn(&mut Options) -> &mut Option<u64>, value: fn(&Failure) -> u64) {
        loop {
            let now = value(&self.failure);
            let fewer = |mut options: Options, wanted: u64| {
                *field(&mut options) = Some(wanted);
                options
            };
            let half = now.div_ceil(2);
            let tried = now > 1 && {
                let options = fewer(self.options(), half);
                self.keeps_failing(options)
                    || half < now - 1 && {
                        let options = fewer(self.options(), now - 1);
                        self.keeps_failing(options)
                    }
            };
            if !tried {
                return;
            }
        }
    }

    fn drop_shards(&mut self) {
        for shards in 1..self.failure.plan.shards {
            let options = Options {
                shards: Some(shards),
                ..self.options()
            };
            if self.keeps_failing(options) {
                return;
            }
        }
    }

    /// A failure in the last phase needs less of the first.
    fn shorten(&mut self) {
        while self.failure.at_us > self.failure.plan.fault_us && self.failure.plan.fault_us > 1_000_000 {
            let options = Options {
                fault_ms: Some(self.failure.plan.fault_us / 2000),
                ..self.options()
            };
            if !self.keeps_failing(options) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Violation;
    use crate::plan::{Plan, Profile};

    /// A run that fails as soon as two certain faults have struck, if there are two clients and four nodes.
    fn artificial(options: &Options) -> Option<Failure> {
        const NEEDED: [u64; 2] = [3, 17];
        let plan = Plan::derive(5, Profile::Everything, options);
        let strikes: Vec<u64> = (1..=40).filter(|n| !options.skip_faults.contains(n)).collect();
        let there = NEEDED.iter().all(|number| strikes.contains(number));
        let kinds = plan.uses(plan.faults[0].0) && plan.uses(plan.faults[2].0);
        (there && kinds && plan.load.clients >= 2 && plan.nodes >= 4).then(|| Failure {
            seed: 5,
            profile: Profile::Everything,
            options: options.clone(),
            at_us: 7_000_000 + strikes.len() as u64,
            strikes,
            violation: Violation::new("an artificial property", format!("{} nodes", plan.nodes)),
            plan,
        })
    }

    #[test]
    fn a_failing_run_becomes_as_small_as_it_can_and_fails_in_the_same_way() {
        let options = Options {
            nodes: Some(7),
            shards: Some(4),
            ..Options::default()
        };
        let first = artificial(&options).unwrap();
        let mut runs = 0;
        let mut try_run = |options: &Options| {
            runs += 1;
            artificial(options)
        };
        let shrinker = Shrinker {
            failure: first.clone(),
            attempts: 0,
            attempts_max: 1_000,
            try_run: &mut try_run,
        };
        let (smallest, attempts) = shrinker.shrink();
        assert_eq!(smallest.strikes, [3, 17]);
        assert_eq!(
            (
                smallest.plan.nodes,
                smallest.plan.shards,
                smallest.plan.load.clients
            ),
            (4, 1, 2)
        );
        let kinds = smallest.plan.faults.iter().map(|(kind, _)| *kind);
        assert_eq!(kinds.filter(|kind| smallest.plan.uses(*kind)).count(), 2);
        assert_eq!(smallest.violation.property, first.violation.property);
        assert_eq!(
            smallest.options.until_us,
            Some(smallest.at_us + 1),
            "ends where it fails"
        );
        assert_eq!(attempts, runs);
        assert!(attempts < 150, "{attempts} runs");
        let options = smallest.options.flags();
        assert!(options.contains("--nodes 4 --shards 1 --clients 2"), "{options}");
    }

    #[test]
    fn a_failure_of_another_property_is_not_a_smaller_one() {
        let first = artificial(&Options {
            nodes: Some(5),
            ..Options::default()
        })
        .unwrap();
        let mut try_run = |options: &Options| {
            let other = Violation::new("another property", String::new());
            artificial(options).map(|failure| Failure {
                violation: other.clone(),
                ..failure
            })
        };
        let shrinker = Shrinker {
            failure: first.clone(),
            attempts: 0,
            attempts_max: 50,
            try_run: &mut try_run,
        };
        let (same, attempts) = shrinker.shrink();
        assert_eq!((same.strikes, attempts), (first.strikes, 50));
    }
}
