//! Rows S with clients that work on every shard while groups come and go, and with them their shards.

use quorate_sim::script::MILLISECOND;
use quorate_sim::{SECOND, Violation};

use crate::groups::{Groups, Stop, appenders, sharers};
use crate::support::{CLUSTER_SEEDS, Chance, row};

#[test]
fn s_06_whole_groups_stop_and_start_while_shards_move() {
    row("s_06_whole_groups_stop_and_start", CLUSTER_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut groups = Groups::start(3, seed, |setup| setup.log_bytes(100))?;
        let stop = Stop::default();
        let clients = appenders(&mut groups.world, 10, &stop);
        groups.world.run_for(SECOND)?;
        groups.join(&[1])?;
        groups.world.run_for(chance.below(SECOND))?;
        groups.join(&[2])?;
        groups.world.run_for(chance.below(2 * SECOND))?;
        groups.leave(&[0])?;
        // In the middle of it.
        groups.world.run_for(chance.below(SECOND))?;
        for nth in 0..3 {
            groups.stop(nth);
            groups.world.run_for(chance.below(2 * SECOND))?;
            groups.restart(nth);
            groups.world.run_for(chance.below(SECOND))?;
        }
        groups.join(&[0])?;
        groups.world.run_for(chance.below(2 * SECOND))?;
        groups.leave(&[1])?;
        groups.await_carried()?;
        groups.world.run_for(SECOND)?;
        groups.end(&stop, &clients)
    });
}

/// Three swaps, three seconds apart, no log ever cut; two groups are restarted while shards come to them, and get the
/// shards from whoever has them.
#[test]
fn s_07_groups_restart_while_shards_come() {
    row("s_07_groups_restart_while_shards_come", CLUSTER_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut groups = Groups::start(3, seed, |setup| setup.no_log_gc())?;
        let stop = Stop::default();
        let clients = appenders(&mut groups.world, 10, &stop);
        groups.join(&[1])?;
        groups.world.run_for(SECOND)?;
        for (joins, leaves) in [(2, 0), (0, 1), (1, 2)] {
            groups.join(&[joins])?;
            groups.leave(&[leaves])?;
            let begun_us = groups.world.now_us();
            groups.world.run_for(chance.below(SECOND))?;
            for nth in [joins, leaves] {
                groups.stop(nth);
            }
            groups.world.run_for(chance.below(SECOND))?;
            for nth in [joins, leaves] {
                groups.restart(nth);
            }
            groups.world.run_until(begun_us + 3 * SECOND)?;
        }
        groups.await_carried()?;
        groups.end(&stop, &clients)
    });
}

/// Twelve seconds of joins, everything stopped and started, and leaves. S-13 is its name in older editions.
fn all_groups_stop_and_start(seed: u64) -> Result<(), Violation> {
    let mut chance = Chance::new(seed);
    let mut groups = Groups::start(3, seed, |setup| setup.log_bytes(300))?;
    let stop = Stop::default();
    let clients = appenders(&mut groups.world, 10, &stop);
    let until_us = groups.world.now_us() + 12 * SECOND;
    while groups.world.now_us() < until_us {
        groups.join(&[2])?;
        groups.join(&[1])?;
        groups.world.run_for(chance.below(900 * MILLISECOND))?;
        (0..3).for_each(|nth| groups.stop(nth));
        (0..3).for_each(|nth| groups.restart(nth));
        groups.world.run_for(chance.below(900 * MILLISECOND))?;
        groups.leave(&[1])?;
        groups.leave(&[2])?;
        groups.world.run_for(chance.below(900 * MILLISECOND))?;
    }
    groups.await_carried()?;
    groups.end(&stop, &clients)
}

#[test]
fn s_08_all_groups_stop_and_start_while_shards_move() {
    row(
        "s_08_all_groups_stop_and_start",
        CLUSTER_SEEDS,
        all_groups_stop_and_start,
    );
}

#[test]
fn s_13_all_groups_stop_and_start_and_give_up_what_moved() {
    // Other seeds than S-08's.
    row("s_13_all_groups_stop_and_start", CLUSTER_SEEDS, |seed| {
        all_groups_stop_and_start(1_000 + seed)
    });
}

/// What S-10 and S-11 do to the groups.
fn comings_and_goings(groups: &mut Groups) -> Result<(), Violation> {
    groups.world.run_for(150 * MILLISECOND)?;
    groups.join(&[1])?;
    groups.world.run_for(500 * MILLISECOND)?;
    groups.join(&[2])?;
    groups.world.run_for(500 * MILLISECOND)?;
    groups.leave(&[0])?;
    groups.world.run_for(500 * MILLISECOND)?;
    groups.leave(&[1])?;
    groups.world.run_for(500 * MILLISECOND)?;
    groups.join(&[1])?;
    groups.join(&[0])?;
    groups.world.run_for(2 * SECOND)?;
    groups.await_carried()?;
    Ok(())
}

#[test]
fn s_10_appends_over_a_network_that_loses() {
    row("s_10_appends_over_a_network_that_loses", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(3, seed, |setup| setup.unreliable().log_bytes(100))?;
        let stop = Stop::default();
        let clients = appenders(&mut groups.world, 10, &stop);
        comings_and_goings(&mut groups)?;
        groups.end(&stop, &clients)
    });
}

#[test]
fn s_11_all_commands_on_shared_keys_over_a_network_that_loses() {
    row("s_11_all_commands_on_shared_keys", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(3, seed, |setup| setup.unreliable().log_bytes(100))?;
        let stop = Stop::default();
        sharers(&mut groups.world, seed, 10, 20 * MILLISECOND, &stop);
        comings_and_goings(&mut groups)?;
        groups.end(&stop, &[])
    });
}

/// Twenty seconds of clients on shared keys, while eight groups join and leave.
fn clerks(seed: u64, count: u64, is_unreliable: bool) -> Result<(), Violation> {
    let mut chance = Chance::new(seed);
    let mut groups = Groups::start(
        8,
        seed,
        |setup| {
            if is_unreliable { setup.unreliable() } else { setup }
        },
    )?;
    let stop = Stop::default();
    sharers(&mut groups.world, seed, count, 20 * MILLISECOND, &stop);
    let begun_us = groups.world.now_us();
    // All of them join before the first leaves; one stays.
    for round in 0..16u64 {
        let pause_us = chance.range(SECOND / 2, 3 * SECOND / 2);
        match round {
            0..=6 => _ = groups.join(&[round + 1])?,
            7..=13 => _ = groups.leave(&[round - 7])?,
            _ => _ = groups.join(&[round - 14])?,
        }
        groups.world.run_for(pause_us)?;
    }
    let end_us = (begun_us + 20 * SECOND).max(groups.world.now_us());
    groups.world.run_until(end_us)?;
    groups.await_carried()?;
    groups.end(&stop, &[])
}

rows! { clerks:
    s_30_one_client_while_groups_join_and_leave(1, false);
    s_31_many_clients_while_groups_join_and_leave(10, false);
    s_32_one_client_over_a_network_that_loses(1, true);
    s_33_many_clients_over_a_network_that_loses(10, true);
}
