//! Rows S in which stores and whole groups are away, and everybody else goes on.

use quorate_sim::{Call, SECOND};

use crate::groups::{Book, Groups, Stop, all_shards, appenders, key_of, nodes_of};
use crate::support::{CLUSTER_SEEDS, close, row};

/// What the labs call at once.
const AT_ONCE_MS: u64 = 2_000;
/// The same over a network that loses one message in ten: a client whose request or answer is lost asks again after 700 ms,
/// and what nodes send each other is lost as well.
const SOON_MS: u64 = 15_000;

#[test]
fn s_01_half_of_the_shards_are_served_while_their_group_lives() {
    row("s_01_half_of_the_shards_are_served", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(2, seed, |setup| setup)?;
        groups.join(&[1])?;
        groups.await_carried()?;
        let book = Book::open(&mut groups, 1, "value ")?;
        groups.stop(1);
        let calls: Vec<_> = all_shards()
            .into_iter()
            .map(|shard| {
                let client = groups.world.client(format!("of shard {shard}"));
                let call = Call::get(key_of(shard, 0)).attempt_ms(500).within_ms(60_000);
                (shard, groups.world.begin(client, call))
            })
            .collect();
        groups.world.run_for(AT_ONCE_MS * 1_000)?;
        let ended = calls
            .iter()
            .filter(|(_, call)| groups.world.ended(*call).is_some());
        let finished: Vec<u16> = ended.map(|(shard, _)| *shard).collect();
        assert_eq!(finished, groups.shards_of(0)?);
        assert_eq!(finished.len(), 5);
        groups.restart(1);
        for (shard, call) in calls {
            let ended = groups.world.finish(call)?;
            assert!(ended.bytes().is_some(), "shard {shard}: {ended:?}");
        }
        book.check(&mut groups, &all_shards(), AT_ONCE_MS)?;
        close(groups.world)
    });
}

/// A store of each group is away while groups come and go, then another one. It is missed by nobody, and gets what it is to
/// hold once it is back.
#[test]
fn s_05_stores_miss_changes() {
    row("s_05_stores_miss_changes", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(3, seed, |setup| setup.log_bytes(1_000))?;
        let mut book = Book::open(&mut groups, 1, "value ")?;
        groups.join(&[1])?;
        book.turn(&mut groups)?;
        for away in 0..2 {
            groups.await_carried()?;
            let nodes = [0, 1, 2].map(|nth| nodes_of(nth)[away]);
            nodes.iter().for_each(|node| groups.world.crash(*node));
            if away == 0 {
                groups.join(&[2])?;
                groups.leave(&[1])?;
                groups.leave(&[0])?;
                book.turn(&mut groups)?;
                groups.join(&[1])?;
            } else {
                groups.join(&[0])?;
                groups.leave(&[2])?;
            }
            book.turn(&mut groups)?;
            groups.world.run_for(SECOND)?;
            nodes.iter().for_each(|node| groups.world.start_node(*node));
            book.turn(&mut groups)?;
        }
        groups.await_carried()?;
        book.turn(&mut groups)?;
        close(groups.world)
    });
}

/// A group dies and leaves, over a network that loses: the other one serves what it has, at any time.
#[test]
fn s_14_shards_of_others_are_served_while_a_group_is_dead() {
    row("s_14_shards_of_others_are_served", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(2, seed, |setup| setup.unreliable())?;
        let mut book = Book::open(&mut groups, 1, "value ")?;
        groups.join(&[1])?;
        groups.await_carried()?;
        let own = groups.shards_of(1)?;
        assert_eq!(own.len(), 5);
        groups.stop(0);
        groups.leave(&[0])?;
        for _ in 0..5 {
            groups.world.run_for(SECOND)?;
            book.append(&mut groups, &own)?;
            book.check(&mut groups, &own, SOON_MS)?;
        }
        groups.restart(0);
        groups.await_carried()?;
        book.turn(&mut groups)?;
        close(groups.world)
    });
}

/// Two groups leave, one of which is dead. What the other one has is served all the time, and gets to the third one
/// although the dead one is not back: once the schedulers see that nobody there takes orders, its shards are in nobody's
/// way.
#[test]
fn s_15_shards_come_from_who_lives_without_waiting_for_who_is_dead() {
    row("s_15_shards_come_from_who_lives", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(3, seed, |setup| setup.unreliable())?;
        let mut book = Book::open(&mut groups, 1, "value ")?;
        groups.join(&[1, 2])?;
        groups.await_carried()?;
        let live = [groups.shards_of(1)?, groups.shards_of(2)?].concat();
        groups.stop(0);
        groups.leave(&[0, 2])?;
        book.check(&mut groups, &live, SOON_MS)?;
        let took_us = groups.await_carried_of(&live)?;
        println!("  carried within {took_us} us");
        // Nobody but group 1 has them now.
        groups.stop(2);
        book.append(&mut groups, &live)?;
        book.check(&mut groups, &live, SOON_MS)?;
        groups.restart(0);
        groups.restart(2);
        groups.await_carried()?;
        book.turn(&mut groups)?;
        close(groups.world)
    });
}

/// Clients do not reach one of the stores, which leads some of the shards. The others serve for it.
#[test]
fn s_21_shards_are_served_although_clients_do_not_reach_their_leader() {
    row("s_21_shards_are_served_although", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(1, seed, |setup| setup)?;
        let mut book = Book::open(&mut groups, 5, "value ")?;
        for cut in nodes_of(0) {
            let shards = all_shards().into_iter();
            let led = shards.filter(|shard| groups.world.leader_of(u64::from(*shard)) == Some(cut));
            let led: Vec<u16> = led.collect();
            let rest: Vec<usize> = nodes_of(0).into_iter().filter(|node| *node != cut).collect();
            let client = book.client();
            groups.world.limit_client(client, &rest);
            book.check(&mut groups, &led, AT_ONCE_MS)?;
            book.append(&mut groups, &led)?;
            book.check(&mut groups, &all_shards(), AT_ONCE_MS)?;
        }
        close(groups.world)
    });
}

#[test]
fn s_24_a_group_leaves_stops_restarts_and_joins_again() {
    row("s_24_a_group_leaves_and_joins_again", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(2, seed, |setup| setup)?;
        let stop = Stop::default();
        let clients = appenders(&mut groups.world, 2, &stop);
        groups.join(&[1])?;
        groups.await_carried()?;
        groups.leave(&[0])?;
        groups.await_carried()?;
        groups.stop(0);
        let before = clients[0].done.get();
        groups.world.run_for(3 * SECOND)?;
        assert!(clients[0].done.get() > before, "nobody needs what has left");
        groups.restart(0);
        groups.world.run_for(SECOND)?;
        groups.join(&[0])?;
        groups.await_carried()?;
        groups.leave(&[1])?;
        groups.await_carried()?;
        groups.stop(1);
        groups.world.run_for(2 * SECOND)?;
        groups.end(&stop, &clients)
    });
}

/// Everything stops and starts, the controller too, at rest and in the middle of a change.
#[test]
fn s_27_everything_stops_and_starts() {
    row("s_27_everything_stops_and_starts", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(3, seed, |setup| setup)?;
        let mut book = Book::open(&mut groups, 5, "value ")?;
        for joins in [1, 2] {
            groups.join(&[joins])?;
            if joins == 1 {
                groups.await_carried()?;
            }
            let before = groups.config(-1)?;
            groups.world.crash_all();
            groups.world.run_for(SECOND)?;
            groups.world.start_all();
            assert_eq!(groups.config(-1)?, before);
            book.check(&mut groups, &all_shards(), 60_000)?;
        }
        groups.await_carried()?;
        book.turn(&mut groups)?;
        close(groups.world)
    });
}

/// Two of eight groups are down; those that live answer for all their keys.
#[test]
fn s_28_live_groups_answer_while_others_are_down() {
    row("s_28_live_groups_answer", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(8, seed, |setup| setup)?;
        let mut book = Book::open(&mut groups, 5, "value ")?;
        groups.join(&[1, 2, 3, 4, 5, 6, 7])?;
        groups.await_carried()?;
        let dead = [seed % 8, (seed + 3) % 8];
        dead.into_iter().for_each(|nth| groups.stop(nth));
        let lost = [groups.shards_of(dead[0])?, groups.shards_of(dead[1])?].concat();
        assert!((2..=4).contains(&lost.len()), "{lost:?}");
        let live: Vec<u16> = all_shards()
            .into_iter()
            .filter(|shard| !lost.contains(shard))
            .collect();
        for _ in 0..3 {
            book.check(&mut groups, &live, AT_ONCE_MS)?;
            book.append(&mut groups, &live)?;
            groups.world.run_for(SECOND)?;
        }
        dead.into_iter().for_each(|nth| groups.restart(nth));
        book.turn(&mut groups)?;
        close(groups.world)
    });
}

/// A group joins while another one, which has shards for it, is down, and that one leaves. Its shards wait for it. Two
/// seconds after it is started all keys are served, and all shards are with whoever is to have them.
#[test]
fn s_34_a_change_waits_for_a_group_and_ends_soon_after_it_is_back() {
    row("s_34_a_change_waits_for_a_group", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(3, seed, |setup| setup)?;
        let mut book = Book::open(&mut groups, 1, "value ")?;
        groups.join(&[1])?;
        groups.await_carried()?;
        for is_leaving in [false, true] {
            let needed = if is_leaving { 1 } else { 0 };
            let stuck = groups.shards_of(needed)?;
            groups.stop(needed);
            if is_leaving {
                groups.leave(&[needed])?;
            } else {
                groups.join(&[2])?;
            }
            groups.world.run_for(5 * SECOND)?;
            for shard in &stuck {
                let held =
                    nodes_of(needed).map(|node| groups.world.replica(node, u64::from(*shard)).is_some());
                assert_eq!(held, [false; 3], "its stores are down");
                assert_eq!(groups.world.leader_of(u64::from(*shard)), None, "it waits");
            }
            let back_us = groups.world.now_us();
            groups.restart(needed);
            book.check(&mut groups, &stuck, AT_ONCE_MS)?;
            groups.await_carried()?;
            let took_us = groups.world.now_us() - back_us;
            assert!(took_us <= AT_ONCE_MS * 1_000, "{took_us} us after it was started");
            book.turn(&mut groups)?;
        }
        close(groups.world)
    });
}
