//! Rows S in which nothing fails: groups join and leave, the shards follow, and whoever does not hold one refuses it.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use quorate_proto::{Answer, CommandError, ControlCommand, ForwardBody, Op, PlacementCommand};
use quorate_sim::script::{MILLISECOND, Next};
use quorate_sim::{Call, Ended, Retry, SECOND, Violation};
use quorate_storage::StoreId;
use quorate_store::RouteMode;

use crate::groups::{Book, Groups, Stop, all_shards, appenders, command, group, key_of, left, nodes_of};
use crate::support::{CLUSTER_SEEDS, Chance, close, row};

/// A map that says that one group owns all, and a client that believes it: the others' shards are refused there, by every
/// store, in every way of asking, and nothing of them is made there.
#[test]
fn s_02_a_store_refuses_shards_that_it_does_not_hold() {
    row("s_02_a_store_refuses_shards", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(2, seed, |setup| setup)?;
        // It hears nothing of what comes now: its map is from when group 0 had everything.
        let outdated = nodes_of(0)[0];
        let alone = groups.world.client("of the wrong map");
        groups.join(&[1])?;
        groups.await_carried()?;
        let mut book = Book::open(&mut groups, 1, "value ")?;
        let own = groups.shards_of(0)?;
        assert_eq!(own.len(), 5);
        let mut finished = BTreeSet::new();
        for shard in all_shards() {
            for node in nodes_of(0) {
                let mut get = Call::get(key_of(shard, 0)).via(node).retry(Retry::Never);
                get.mode = RouteMode::Redirect;
                if groups.world.ask(alone, get.within_ms(2_000))?.is_done() {
                    finished.insert(shard);
                }
                if own.contains(&shard) {
                    continue;
                }
                let mut put = Call::put(key_of(shard, 0), "wrong").via(node).retry(Retry::Never);
                put.mode = RouteMode::Redirect;
                let ended = groups.world.ask(alone, put.within_ms(2_000))?;
                assert!(matches!(ended, Ended::NotApplied(_)), "{ended:?}");
                assert!(groups.world.replica(node, u64::from(shard)).is_none());
            }
        }
        assert_eq!(
            finished,
            own.iter().copied().collect(),
            "exactly these gets finish"
        );
        book.turn(&mut groups)?;
        // A node that slept through the next change sends requests where nothing is any more, and is told.
        groups.world.isolate(outdated);
        groups.leave(&[0])?;
        groups.world.run_for(SECOND)?;
        let others = &nodes_of(0)[1..];
        let gone = |world: &quorate_sim::World| {
            let mut shards = own
                .iter()
                .flat_map(|shard| others.iter().map(move |node| (*node, *shard)));
            shards.all(|(node, shard)| world.replica(node, u64::from(shard)).is_none())
        };
        groups
            .world
            .wait_until("the others have given them up", 60 * SECOND, gone)?;
        groups.world.rejoin(outdated);
        for shard in all_shards() {
            let get = Call::get(key_of(shard, 0)).via(outdated).attempt_ms(500);
            let ended = groups.world.ask(alone, get.within_ms(60_000))?;
            let value = ended.bytes().map(String::from_utf8_lossy);
            assert!(
                value.is_some_and(|value| value.starts_with("value ")),
                "{ended:?}"
            );
        }
        groups.await_carried()?;
        book.turn(&mut groups)?;
        close(groups.world)
    });
}

#[test]
fn s_03_join_and_leave() {
    row("s_03_join_and_leave", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(2, seed, |setup| setup)?;
        let stop = Stop::default();
        let clients = appenders(&mut groups.world, 2, &stop);
        groups.world.run_for(2 * SECOND)?;
        groups.join(&[1])?;
        groups.await_carried()?;
        assert_eq!(groups.shards_of(1)?.len(), 5);
        groups.world.run_for(SECOND)?;
        groups.leave(&[0])?;
        groups.world.run_for(SECOND)?;
        groups.await_carried()?;
        groups.stop(0);
        stop.set(true);
        groups.world.finish_programs(60 * SECOND)?;
        groups.world.run_for(SECOND)?;
        for client in &clients {
            client.check(&mut groups)?;
        }
        close(groups.world)
    });
}

/// Values are exact whatever is lost, while groups come and go.
#[test]
fn s_09_joins_and_leaves_over_a_network_that_loses() {
    row("s_09_joins_and_leaves_over_a_network", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(3, seed, |setup| setup.unreliable().log_bytes(100))?;
        let mut book = Book::open(&mut groups, 1, "value ")?;
        groups.join(&[1])?;
        groups.join(&[2])?;
        groups.leave(&[0])?;
        book.turn(&mut groups)?;
        groups.join(&[0])?;
        groups.leave(&[1])?;
        book.turn(&mut groups)?;
        groups.await_carried()?;
        book.turn(&mut groups)?;
        close(groups.world)
    });
}

#[test]
fn s_20_the_first_config_has_number_1() {
    row("s_20_the_first_config", CLUSTER_SEEDS, |seed| {
        let setup = quorate_sim::Setup::new(3).seed(seed).shards(10).scheduled();
        let mut world = setup.start();
        world.await_leader(0)?;
        let operator = world.client("operator");
        let mut groups = Groups { world, operator };
        let newest = groups.config(-1)?;
        assert_eq!(newest.num, 1);
        assert_eq!(groups.config(1)?, newest);
        assert_eq!(groups.config(7)?, newest, "too high for any");
        assert_eq!(
            newest.groups,
            BTreeMap::from([(group(0), BTreeSet::from([1, 2, 3].map(StoreId)))])
        );
        assert!(newest.shards.values().all(|place| place.group == Some(group(0))));
        let none = groups.config(0)?;
        assert!(none.groups.is_empty() && none.shards.values().all(|place| place.group.is_none()));
        close(groups.world)
    });
}

#[test]
fn s_22_a_group_that_joins_gets_its_share_and_the_old_one_gives_it_up() {
    row("s_22_a_group_that_joins", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(2, seed, |setup| setup)?;
        let before = groups.config(-1)?.num;
        let num = groups.join(&[1])?;
        assert_eq!(num, before + 1);
        groups.await_carried()?;
        let client = groups.world.client("a");
        for (shard, owner) in groups.intended()? {
            let key = key_of(shard as u16, 0);
            assert!(groups.world.ask(client, Call::put(&key, "v"))?.is_done());
            // Whoever is of the other group has nothing of it, and says so.
            let other = nodes_of(if owner == group(0) { 1 } else { 0 });
            for node in other {
                assert!(groups.world.replica(node, shard).is_none());
                assert_eq!(groups.world.local_value(node, shard, key.as_bytes())?, None);
                let ended = groups.world.ask(client, Call::get(&key).via(node))?;
                assert_eq!(ended.bytes(), Some(&b"v"[..]), "and forwards");
            }
        }
        // Told again, it changes nothing but is an error.
        let again = BTreeMap::from([(group(1), BTreeSet::from([StoreId(7)]))]);
        let again = ControlCommand::Place(PlacementCommand::Join(again));
        let call = Call::new(b"", ForwardBody::Write(Op::Control(Box::new(again)))).to_shard(0);
        let ended = groups.world.ask(client, call)?;
        assert_eq!(ended.answer(), Some(&Answer::Error(CommandError::GroupExists)));
        assert_eq!(groups.config(-1)?.num, num);
        close(groups.world)
    });
}

/// Seed 1501051 of everything: each of two groups left while the other's leaving was under way. Each was judged by what was
/// applied, and was not the last one; together they were, and no shard had a group.
#[test]
fn two_groups_that_leave_at_the_same_time_do_not_both_go() {
    row(
        "two_groups_that_leave_at_the_same_time_do_not_both_go",
        CLUSTER_SEEDS,
        |seed| {
            let mut groups = Groups::start(2, seed, |setup| setup)?;
            groups.join(&[1])?;
            let other = groups.world.client("other");
            // Both through the leader, so that they come together.
            let leader = groups.world.await_leader(0)?;
            let first = command(&mut groups.world, left(&[0])).via(leader);
            let second = command(&mut groups.world, left(&[1])).via(leader);
            let first = groups.world.begin(groups.operator, first);
            let second = groups.world.begin(other, second);
            let ended = [groups.world.finish(first)?, groups.world.finish(second)?];
            let refused = |ended: &&Ended| ended.answer() == Some(&Answer::Error(CommandError::LastGroup));
            assert_eq!(ended.iter().filter(refused).count(), 1, "{ended:?}");
            assert_eq!(
                ended.iter().filter(|ended| ended.is_done()).count(),
                2,
                "{ended:?}"
            );
            assert_eq!(groups.config(-1)?.groups.len(), 1);
            groups.await_carried()?;
            close(groups.world)
        },
    );
}

/// Groups join one after the other and leave again, and every key is what it was after each of these.
fn many_joins_and_leaves(seed: u64, is_unreliable: bool) -> Result<(), Violation> {
    let setup = |setup: quorate_sim::Setup| {
        if is_unreliable { setup.unreliable() } else { setup }
    };
    let mut chance = Chance::new(seed);
    let mut groups = Groups::start(8, seed, setup)?;
    let mut book = Book::open(&mut groups, 5, "value ")?;
    for nth in 1..8 {
        groups.join(&[nth])?;
        groups.world.run_for(chance.below(SECOND))?;
        book.check(&mut groups, &all_shards(), 60_000)?;
    }
    groups.await_carried()?;
    let counts: Vec<usize> = groups
        .config(-1)?
        .shards
        .values()
        .fold(BTreeMap::new(), |mut counts, place| {
            *counts.entry(place.group).or_insert(0) += 1;
            counts
        })
        .into_values()
        .collect();
    assert!(counts.len() == 8 && counts.iter().all(|count| (1..=2).contains(count)));
    book.append(&mut groups, &all_shards())?;
    for nth in 0..7 {
        groups.leave(&[nth])?;
        groups.world.run_for(chance.below(SECOND))?;
        book.check(&mut groups, &all_shards(), 60_000)?;
    }
    groups.await_carried()?;
    book.turn(&mut groups)?;
    close(groups.world)
}

#[test]
fn s_25_many_joins_and_leaves() {
    row("s_25_many_joins_and_leaves", CLUSTER_SEEDS, |seed| {
        many_joins_and_leaves(seed, false)
    });
}

#[test]
fn s_26_many_joins_and_leaves_over_a_network_that_loses() {
    row("s_26_many_joins_and_leaves_over", CLUSTER_SEEDS, |seed| {
        many_joins_and_leaves(seed, true)
    });
}

#[test]
fn s_29_shards_that_stay_are_not_disturbed() {
    row("s_29_shards_that_stay", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(3, seed, |setup| setup)?;
        groups.join(&[1])?;
        groups.await_carried()?;
        let before = groups.intended()?;
        // Those that stay where they are while the third group joins and leaves.
        groups.join(&[2])?;
        groups.await_carried()?;
        let during = groups.intended()?;
        let stays: Vec<u64> = before
            .iter()
            .filter(|(shard, owner)| during.get(*shard) == Some(owner))
            .map(|(shard, _)| *shard)
            .collect();
        assert!(stays.len() >= 6, "{stays:?}");
        let (stop, gets) = (Stop::default(), Rc::new(Cell::new(0u64)));
        let (stopped, counted) = (stop.clone(), gets.clone());
        let keys: Vec<String> = stays.iter().map(|shard| key_of(*shard as u16, 0)).collect();
        let mut is_resting = false;
        groups.world.spawn("reader", move |_, ended: Option<&Ended>| {
            if let Some(ended) = ended {
                assert!(ended.is_done(), "{ended:?}");
                counted.set(counted.get() + 1);
                is_resting = true;
            }
            if std::mem::take(&mut is_resting) {
                return Next::Sleep(20 * MILLISECOND);
            }
            if stopped.get() {
                return Next::End;
            }
            let key = &keys[counted.get() as usize % keys.len()];
            Call::get(key).attempt_ms(200).within_ms(10_000).into()
        });
        for _ in 0..3 {
            let (began, begun_us) = (gets.get(), groups.world.now_us());
            groups.leave(&[2])?;
            groups.world.run_for(2 * SECOND)?;
            groups.join(&[2])?;
            groups.world.run_until(begun_us + 4 * SECOND)?;
            let count = gets.get() - began;
            assert!(count >= 100, "{count} gets in 4 s");
        }
        groups.await_carried()?;
        groups.end(&stop, &[])
    });
}
