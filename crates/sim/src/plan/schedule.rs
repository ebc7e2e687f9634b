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

    /// The average time to the next one. It doubles with every planned length of the phase that has passed: clients
    /// that got little done by then get some peace.
    fn gap_us(&self, plan: &Plan) -> u64 {
        let lengths = self.at_us / plan.fault_us.max(1);
        plan.fault_gap_us << lengths.min(8)
    }

    /// The next one; none if nothing of the plan strikes.
    pub(crate) fn next(&mut self, plan: &Plan) -> Option<Strike> {
        let striking = || plan.faults.iter().filter(|(fault, _)| fault.strikes());
        let total = striking().map(|(_, weight)| weight).sum::<u64>();
        self.number += 1;
        let mut rng = Rng::new(mix(self.seed, self.number));
        // Troubles come in groups: what one fault leaves vulnerable for a moment, another one finds.
        self.at_us += if rng.one_in(3) {
            rng.range_log(1_000, plan.store.election_timeout_us() * 2)
        } else {
            rng.range(1_000, self.gap_us(plan) * 2)
        };
        let node = rng.below(plan.nodes + plan.spares) as usize;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Options, Profile};

    fn strikes(options: &Options) -> Vec<Strike> {
        let plan = Plan::derive(11, Profile::Everything, options);
        let mut schedule = Schedule::new(3);
        (0..60).map_while(|_| schedule.next(&plan)).collect()
    }

    #[test]
    fn leaving_out_faults_moves_no_other_one() {
        let all = strikes(&Options::default());
        let kind = all[4].fault;
        let others = Options {
            faults: Some(
                Fault::ALL
                    .iter()
                    .copied()
                    .filter(|other| *other != kind)
                    .collect(),
            ),
            skip_faults: vec![2, 9],
            ..Options::default()
        };
        let some = strikes(&others);
        assert_eq!(all.len(), 60);
        for (one, other) in all.iter().zip(&some) {
            let is_same = (one.number, one.at_us, one.fault, one.node)
                == (other.number, other.at_us, other.fault, other.node);
            assert!(is_same, "{one:?} became {other:?}");
            let is_left_out = one.fault == kind || [2, 9].contains(&one.number);
            assert_eq!((one.is_skipped, other.is_skipped), (false, is_left_out));
        }
    }

    #[test]
    fn nothing_strikes_in_calm_surroundings() {
        let plan = Plan::derive(11, Profile::Calm, &Options::default());
        assert!(Schedule::new(3).next(&plan).is_none());
    }
}
