//! The controller: ids, what a cluster begins with, and what its leader hears.

use quorate_proto::{
    ControlQuery, ForwardBody, Query, ShardLookup, StoreState, decode_shards, decode_store_rows,
};
use quorate_sim::script::{ClientId, MILLISECOND, MessageKind, Verdict};
use quorate_sim::{Call, SECOND, Setup, Violation, World};
use quorate_storage::{ShardId, StoreId};

use crate::support::{BUG_SEEDS, Chance, close, row};

/// The first part of what ids must hold: while they are given out, whoever leads the controller's shard
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

/// B-10: timestamps are unique and rise over restarts and leaders, while wall clocks step back, and one write covers many.
#[test]
fn b_10_timestamps_rise_over_restarts_and_leaders() {
    row(
        "b_10_timestamps_rise_over_restarts_and_leaders",
        BUG_SEEDS,
        |seed| {
            let mut chance = Chance::new(seed);
            let mut world = Setup::new(3).seed(seed).start();
            let leader = world.await_leader(0)?;
            world.run_for(SECOND)?;
            let log = |world: &World| world.replica(leader, 0).map_or(0, |status| status.last.0);
            let before = log(&world);
            for _ in 0..400 {
                world.ask_for_timestamps(chance.below(3) as usize, chance.range(1, 1_000) as u32);
                world.run_for(chance.below(5 * MILLISECOND))?;
            }
            world.run_for(SECOND)?;
            let writes = log(&world) - before;
            assert_eq!(world.timestamps_given(), 400);
            assert!(writes <= 4, "{writes} writes for a second of timestamps");
            for round in 0..10 {
                for _ in 0..chance.range(5, 30) {
                    world.ask_for_timestamps(chance.below(3) as usize, chance.range(1, 1_000) as u32);
                    world.run_for(chance.below(2 * MILLISECOND))?;
                }
                let by_ms = chance.range(1, 3_600_000) as i64;
                world.jump_wall_clock(
                    chance.below(3) as usize,
                    if chance.percent(70) { -by_ms } else { by_ms },
                );
                let leader = world.await_leader(0)?;
                match round % 3 {
                    0 => world.crash(leader),
                    1 => world.crash_power(leader),
                    _ => world.isolate(leader),
                }
                if chance.percent(50) {
                    world.await_leader(0)?;
                }
                for _ in 0..chance.range(5, 30) {
                    world.ask_for_timestamps(chance.below(3) as usize, chance.range(1, 1_000) as u32);
                    world.run_for(chance.below(20 * MILLISECOND))?;
                }
                world.rejoin(leader);
                world.start_node(leader);
            }
            let given = world.timestamps_given();
            assert!(given > 450, "{given} runs of timestamps were given");
            close(world)
        },
    );
}

/// A leader is deposed, and what it said of its shard before comes late, behind what the next leader says: it is refused.
#[test]
fn hb_12_what_a_deposed_leader_said_comes_late() {
    row("hb_12_what_a_deposed_leader_said_comes_late", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut world = Setup::new(3).seed(seed).start();
        let listens = world.await_leader(0)?;
        let (deposed, next) = ((listens + 1) % 3, (listens + 2) % 3);
        world.await_leader(1)?;
        world.transfer_leader(1, next)?;
        let leader_of_1 = |world: &World| {
            let rows = world.shard_map()?;
            let row = rows.iter().find(|row| row.last.shard == ShardId(1))?;
            row.last.leader_store().map(|store| store.0 as usize - 1)
        };
        world.wait_until("the map has it", 5 * SECOND, |world| {
            leader_of_1(world) == Some(next)
        })?;
        let late_us = SECOND + chance.below(SECOND);
        world.filter(move |passing| {
            let is_late = passing.kind() == MessageKind::StoreHeartbeat && passing.from == deposed;
            if is_late {
                Verdict::Delay(late_us)
            } else {
                Verdict::Pass
            }
        });
        let told = |world: &World| {
            world
                .counters(deposed)
                .map_or(0, |counters| counters.shard_heartbeats_sent)
        };
        let before = told(&world);
        world.transfer_leader(1, deposed)?;
        // It says so, once its last heartbeat is answered or taken to be lost, and is not heard for now.
        world.wait_until("it says that it leads", 10 * SECOND, |world| told(world) > before)?;
        world.run_for(chance.below(SECOND / 2))?;
        world.transfer_leader(1, next)?;
        world.run_for(late_us + SECOND)?;
        assert_eq!(world.leaders(1).len(), 1, "the leaders stay");
        assert_eq!(world.leader_of(0), Some(listens), "the leaders stay");
        assert_eq!(leader_of_1(&world), Some(next));
        let counters = world.counters(listens);
        assert!(counters.is_some_and(|counters| counters.shard_heartbeats_refused > 0));
        close(world)
    });
}

/// The controller's leader goes and comes back: each leader hears the shards anew, and nobody is taken to be down for
/// having been silent while another listened.
#[test]
fn the_map_is_heard_anew_after_each_election() {
    row("the_map_is_heard_anew", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut world = Setup::new(3).seed(seed).shards(4).start();
        for _ in 0..6 {
            let leader = world.await_leader(0)?;
            world.wait_until("the map is whole", 5 * SECOND, |world| {
                world.shard_map().is_some_and(|rows| rows.len() == 5)
            })?;
            let to = (leader + 1 + chance.below(2) as usize) % 3;
            if chance.percent(50) {
                world.transfer_leader(0, to)?;
            } else {
                world.crash(leader);
                world.await_leader(0)?;
                world.start_node(leader);
            }
            world.run_for(chance.below(2 * SECOND))?;
        }
        close(world)
    });
}

const SHARDS: u16 = 7;

/// First slots of the shards that the controller finds, through any node.
fn find(world: &mut World, client: ClientId, lookup: ShardLookup) -> Result<Vec<(u64, u16)>, Violation> {
    let body = ForwardBody::Read(Query::Control(ControlQuery::FindShards(lookup)));
    let ended = world.ask(client, Call::new(b"", body).to_shard(0))?;
    let bytes = ended.bytes().unwrap_or_else(|| panic!("{lookup:?}: {ended:?}"));
    let rows = decode_shards(&bytes.to_vec().into()).unwrap();
    Ok(rows
        .iter()
        .map(|row| (row.last.shard.0, row.last.start_slot))
        .collect())
}

/// B-12: whoever asks finds the controller's new leader by itself; shards are found by slot, by id, before and behind, and
/// stores by id, once that leader has heard of them; and timestamps that several take meanwhile are unique and rise.
#[test]
fn b_12_lookups_and_timestamps_follow_the_controllers_leader() {
    row("b_12_lookups_and_timestamps_follow", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut world = Setup::new(3).seed(seed).shards(SHARDS).start();
        let client = world.client("a");
        let mut terms = Vec::new();
        let mut judged = 0;
        for round in 0..5 {
            // One that was cut off takes itself for the leader, and has a whole map, until it is told.
            world.wait_until("one leads", 10 * SECOND, |world| world.leaders(0).len() == 1)?;
            let leader = world.await_leader(0)?;
            terms.push(world.replica(leader, 0).map(|status| status.term));
            world.wait_until("all is heard", 10 * SECOND, |world| {
                world
                    .shard_map()
                    .is_some_and(|rows| rows.len() == 1 + usize::from(SHARDS))
            })?;
            let truth: Vec<(u64, u16)> = world
                .shard_map()
                .into_iter()
                .flatten()
                .filter(|row| row.last.shard != ShardId(0))
                .map(|row| (row.last.shard.0, row.last.start_slot))
                .collect();
            let reign = world.leaders(0);
            for _ in 0..10 {
                world.ask_for_timestamps(chance.below(3) as usize, chance.range(1, 100) as u32);
                let slot = chance.below(16_384) as u16;
                let at = truth.iter().rposition(|(_, start)| *start <= slot).unwrap();
                let limit = chance.below(4) as u16;
                let end = truth.len().min(at + usize::from(limit));
                let wanted = [
                    (ShardLookup::At { slot }, &truth[at..=at]),
                    (ShardLookup::Before { slot }, &truth[at.saturating_sub(1)..at]),
                    (ShardLookup::From { slot, limit }, &truth[at..end]),
                ];
                let mut found = Vec::new();
                for (lookup, _) in wanted {
                    found.push(find(&mut world, client, lookup)?);
                }
                let shard = chance.below(12);
                let found_id = find(&mut world, client, ShardLookup::Id(ShardId(shard)))?;
                let store = StoreId(chance.range(1, 5));
                let query = ControlQuery::FindStore(store);
                let body = ForwardBody::Read(Query::Control(query));
                let ended = world.ask(client, Call::new(b"", body).to_shard(0))?;
                if world.leaders(0) != reign {
                    continue; // The next one may not have heard of all.
                }
                judged += 1;
                for ((lookup, wanted), found) in wanted.iter().zip(found) {
                    assert_eq!(found, *wanted, "{lookup:?}");
                }
                let known: Vec<u64> = found_id.iter().map(|(shard, _)| *shard).collect();
                assert_eq!(
                    known,
                    (shard <= u64::from(SHARDS))
                        .then_some(shard)
                        .into_iter()
                        .collect::<Vec<_>>()
                );
                let rows = decode_store_rows(&ended.bytes().unwrap().to_vec().into()).unwrap();
                let stores: Vec<_> = rows.iter().map(|row| (row.record.store, row.state)).collect();
                let known = (store.0 <= 3).then_some(store);
                assert!(stores.iter().map(|(store, _)| *store).eq(known));
                assert!(stores.iter().all(|(_, state)| *state != StoreState::Down));
            }
            let to = (leader + 1 + chance.below(2) as usize) % 3;
            match round % 3 {
                0 => {
                    world.transfer_leader(0, to)?;
                }
                1 => world.crash(leader),
                _ => world.isolate(leader),
            }
            for _ in 0..chance.range(5, 20) {
                world.ask_for_timestamps(chance.below(3) as usize, chance.range(1, 100) as u32);
                world.run_for(chance.below(30 * MILLISECOND))?;
            }
            // Not known yet, or found: never wrong.
            let slot = chance.below(16_384) as u16;
            let at = truth.iter().rposition(|(_, start)| *start <= slot).unwrap();
            let found = find(&mut world, client, ShardLookup::At { slot })?;
            assert!(found.is_empty() || found == truth[at..=at], "{found:?}");
            world.rejoin(leader);
            world.start_node(leader);
        }
        assert!(judged >= 20, "{judged} of 50 lookups were judged");
        terms.dedup();
        assert!(terms.len() >= 3, "the controller kept its leaders: {terms:?}");
        assert!(world.timestamps_given() > 50, "{}", world.timestamps_given());
        close(world)
    });
}
