//! shards that lost their majority for ever go on with what is left, and the report is exact.

use std::cell::Cell;

use quorate_proto::Answer;
use quorate_sim::{Call, SECOND, Setup};
use quorate_store::kv::slot_of;

use crate::left_behind::{self, Judged};
use crate::lost_majority::{PATIENCE_US, Seen, Shape, THREE_OF_EIGHT, TWO_OF_FIVE, present, report, run};
use crate::support::{BUG_SEEDS, Chance, row};

/// Whether the row runs with all its seeds.
fn is_full() -> bool {
    std::env::var("QUORATE_SEEDS").is_ok_and(|seeds| seeds == "full")
}

fn majority_is_lost(id: &str, shape: Shape) -> Seen {
    let seen = Seen::default();
    row(id, BUG_SEEDS, |seed| run(seed, shape, &seen));
    println!(
        "{} acknowledged writes were lost, {} unsure entries kept, {} choices, {} shards with outdated survivors, \
         {} seeds not judged",
        seen.lost_writes.get(),
        seen.kept_unsure.get(),
        seen.choices.get(),
        seen.outdated.get(),
        seen.skipped.get()
    );
    if is_full() {
        assert!(seen.lost_writes.get() > 0 && seen.kept_unsure.get() > 0);
        assert!(
            seen.skipped.get() <= BUG_SEEDS / 20,
            "hardly any seed is left out"
        );
    }
    seen
}

/// Two of five stores are lost for ever.
#[test]
fn x_15_a_majority_is_lost_and_the_report_is_exact() {
    majority_is_lost("x_15_a_majority_is_lost", TWO_OF_FIVE);
}

/// Three of eight: two replicas of a shard with five may survive, and only one of them goes on.
#[test]
fn x_15_of_two_survivors_the_one_that_has_more_goes_on() {
    let seen = majority_is_lost("x_15_of_two_survivors", THREE_OF_EIGHT);
    if is_full() {
        assert!(seen.choices.get() > 0, "all survivors had the same");
    }
}

/// Who survives may have missed the last changes of the members. Whether there is a majority is judged by what is known of
/// them all the same, and it is said what was missed.
#[test]
fn x_15_a_survivor_has_missed_the_last_members() {
    let judged = Judged::default();
    row("x_15_a_survivor_has_missed_the_last_members", BUG_SEEDS, |seed| {
        left_behind::run(seed, &judged)
    });
    let offered = [&judged.by_the_map, &judged.by_the_removed, &judged.amid_a_change].map(Cell::get);
    let (spared, undone) = (judged.spared.get(), judged.undone.get());
    println!(
        "offered by the map {}, by the word of those who were removed {}, amid a change {}; {spared} had a majority; power \
         failed before {undone} new memberships were durable",
        offered[0], offered[1], offered[2]
    );
    if is_full() {
        assert_eq!(
            offered.iter().sum::<u64>() + spared,
            BUG_SEEDS,
            "every seed was judged"
        );
        let least = offered.into_iter().chain([spared, undone]).min();
        assert!(least >= Some(BUG_SEEDS / 20), "{offered:?}, {spared}, {undone}");
    }
}

/// All replicas of a shard are lost: that is said, and the shard comes back, empty, only by an explicit wish. Sessions of
/// before are forgotten there, so that nothing runs twice.
#[test]
fn x_15_a_shard_without_any_replica_begins_anew() {
    row("x_15_a_shard_without_any_replica", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut setup = Setup::new(5).seed(seed).shards(3).replicas(1).scheduled();
        if let Some(policy) = &mut setup.plan.store.schedule {
            policy.replace_after_us = 3_600 * SECOND;
        }
        let mut world = setup.start();
        for shard in 0..=3 {
            world.await_leader(shard)?;
        }
        let client = world.client("a");
        let keys: Vec<String> = (0..30).map(|n| format!("key {n}")).collect();
        for key in &keys {
            assert!(world.ask(client, Call::put(key, key))?.is_done());
        }
        world.run_for(3 * SECOND)?;
        let shard = 1 + chance.below(3);
        let gone = world.await_leader(shard)?;
        let gone_shards: Vec<u64> = (1..=3)
            .filter(|shard| world.leader_of(*shard) == Some(gone))
            .collect();
        world.crash(gone);
        world.lose(gone);
        let losses = report(&mut world, &[gone])?;
        let lost: Vec<u64> = losses.iter().map(|loss| loss.shard.0).collect();
        assert_eq!(lost, gone_shards);
        assert!(losses.iter().all(|loss| loss.survivors.is_empty()));
        let operator = world.client("operator");
        assert!(world.recover(operator, &[gone], Vec::new())?.is_done());
        world.run_for(5 * SECOND)?;
        for shard in &gone_shards {
            assert_eq!(world.leader_of(*shard), None, "nobody asked for that");
        }
        let losses = report(&mut world, &[gone])?;
        let recoveries: Vec<_> = losses.iter().filter_map(|loss| loss.recovery.clone()).collect();
        assert_eq!(recoveries.len(), losses.len());
        assert!(recoveries.iter().all(|recovery| recovery.left.is_none()));
        for shard in &gone_shards {
            world.give_up_all(*shard);
        }
        let ended = world.recover(operator, &[gone], recoveries)?;
        assert_eq!(ended.answer(), Some(&Answer::Ok));
        world.wait_until("every shard is led again", PATIENCE_US, |world| {
            (0..=3).all(|shard| world.followed_leader(shard).is_some())
        })?;
        let found = present(&mut world, &keys)?;
        for (key, is_there) in keys.iter().zip(found) {
            let slot = slot_of(key.as_bytes());
            let is_gone = losses
                .iter()
                .any(|loss| (loss.start_slot..loss.end_slot).contains(&slot));
            assert_eq!(is_there, !is_gone, "{key}");
        }
        for key in &keys {
            assert!(world.ask(client, Call::put(key, key))?.is_done());
        }
        assert!(present(&mut world, &keys)?.iter().all(|is_there| *is_there));
        Ok(())
    });
}
