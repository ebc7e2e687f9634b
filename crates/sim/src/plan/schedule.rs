//! When which fault strikes whom. Every fault has a number and draws of its own, so that leaving one out moves
//! no other one.

use super::{Fault, Plan};
use crate::rng::{Rng, mix};

/// A fault that strikes.
#[derive(Clone, Debug)]
pub(crate) struct Strike {
    /// Counted from 1.
    pub(crate) number: u64,
    pub(crate) at_us: u64,
    pub(crate) fault: Fault,
    /// Whom, where it concerns one node.
    pub(crate) node: usize,
    /// What else it draws.
    pub(crate) rng: Rng,
    /// Whether it strikes at all.
    pub(crate) is_skipped: bool,
}

/// The faults of a run, one after the other and without end.
#[derive(Debug)]
pub(crate) struct Schedule {
    seed: u64,
    number: u64,
    at_us: u64,
}

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            number: 0,
            at_us: 0,
        }
    }

    /// The next one; none if nothing of the plan strikes.
    pub(crate) fn next(&mut self, plan: &Plan) -> Option<Strike> {
        let striking = || plan.faults.iter().filter(|(fault, _)| fault.strikes());
        let total = striking().map(|(_, weight)| weight).sum::<u64>();
        self.number += 1;
        let mut rng = Rng::new(mix(self.seed, self.number));
        self.at_us += rng.range(1_000, plan.fault_gap_us * 2);
        let node = rng.below(plan.nodes) as usize;
        let mut left = rng.below(total);
        let (fault, _) = striking().find(|(_, weight)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        })?;
        Some(Strike {
            number: self.number,
            at_us: self.at_us,
            fault: *fault,
            node,
            rng,
            is_skipped: plan.skip_faults.contains(&self.number) || !plan.uses(*fault),
        })
    }
}
