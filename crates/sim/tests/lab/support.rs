//! Seeds, chance, and what every row checks.

use quorate_sim::{SECOND, Violation, World};
use quorate_storage::disk::SplitMix64;

/// What the table asks of rows G, T and S.
pub(crate) const CLUSTER_SEEDS: u64 = 30;
/// What the table asks of rows X.
pub(crate) const BUG_SEEDS: u64 = 200;

/// Runs a row with as many seeds as were asked for; `full` is what the table asks for.
pub(crate) fn row(id: &str, full: u64, run: impl Fn(u64) -> Result<(), Violation>) {
    let seeds = match (std::env::var("QUORATE_SEED"), std::env::var("QUORATE_SEEDS")) {
        (Ok(seed), _) => {
            let seed = seed.parse().expect("QUORATE_SEED is a number");
            seed..seed + 1
        }
        (_, Ok(count)) if count == "full" => 1..full + 1,
        (_, Ok(count)) => 1..count.parse::<u64>().expect("QUORATE_SEEDS is a number or full") + 1,
        _ => 1..2,
    };
    for seed in seeds {
        let again = format!("QUORATE_SEED={seed} cargo test --release -p quorate-sim --test lab {id}");
        // Shown only if what follows panics.
        println!("row {id}, seed {seed}; again: {again}");
        if let Err(violation) = run(seed) {
            panic!("row {id}, seed {seed}: {violation:?}\nagain: {again}");
        }
    }
}

/// Chance of a test, from its seed.
pub(crate) struct Chance(SplitMix64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed ^ 0x5EED_0F1A_B5C0_FFEE))
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// From `from` on, below `end`.
    pub(crate) fn range(&mut self, from: u64, end: u64) -> u64 {
        from + self.below(end - from)
    }
}

/// Divides the nodes into two random sets, one of which may be empty, as the labs do.
pub(crate) fn split_in_two(world: &mut World, chance: &mut Chance) {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for node in 0..world.node_count() {
        if chance.percent(50) {
            a.push(node)
        } else {
            b.push(node)
        }
    }
    world.partition(&[&a, &b]);
}

/// Divides the nodes anew every `every_us` for five virtual seconds, after `first_us` without faults; then heals.
pub(crate) fn partitions(
    world: &mut World,
    chance: &mut Chance,
    first_us: u64,
    every_us: (u64, u64),
) -> Result<(), Violation> {
    let end_us = world.now_us() + 5 * SECOND;
    world.run_for(first_us)?;
    while world.now_us() < end_us {
        split_in_two(world, chance);
        world.run_for(chance.range(every_us.0, every_us.1))?;
    }
    world.heal_network();
    Ok(())
}

/// Ends the row: no more faults, the cluster recovers, and what the clients saw is linearizable (H-06).
pub(crate) fn close(mut world: World) -> Result<(), Violation> {
    world.heal_and_check().map(|_| ())
}
