//! The controller: ids, and what a cluster begins with.

use quorate_sim::script::MILLISECOND;
use quorate_sim::{SECOND, Setup, Violation};

use crate::support::{BUG_SEEDS, Chance, close, row};

/// PS-08, and the first part of what ids must hold: while they are given out, whoever leads the controller's shard
/// dies, again and again.
fn ids_while_leaders_die(seed: u64) -> Result<(), Violation> {
    let mut world = Setup::new(3).seed(seed).start();
    world.await_leader(0)?;
    let mut chance = Chance::new(seed);
    for round in 0..12 {
        for _ in 0..chance.range(1, 8) {
            let node = chance.below(3) as usize;
            let count = chance.percent(90).then(|| chance.range(1, 4) as u32);
            world.ask_for_ids(node, count);
            if chance.percent(50) {
                world.run_for(chance.below(3 * MILLISECOND))?;
            }
        }
        // Somewhere between the question and the answer.
        world.run_for(chance.below(4 * MILLISECOND))?;
        let leader = world.await_leader(0)?;
        if round % 2 == 0 {
            world.crash(leader);
        } else {
            world.crash_power(leader);
        }
        if chance.percent(50) {
            world.await_leader(0)?;
        }
        world.run_for(chance.below(SECOND))?;
        world.start_node(leader);
    }
    world.wait_until("every question is answered", 20 * SECOND, |world| {
        world.ids_given().1 == 0
    })?;
    let given = world.ids_given().0;
    assert!(given > 10, "{given} runs of ids were given");
    close(world)
}

#[test]
fn ids_are_unique_while_the_controllers_leader_dies() {
    row("ids_are_unique", BUG_SEEDS, ids_while_leaders_die);
}
