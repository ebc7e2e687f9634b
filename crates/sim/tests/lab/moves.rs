//! Rows T and X about who holds a shard, and the rules M that they rest on.

use std::cell::Cell;
use std::rc::Rc;

use quorate_proto::{Answer, CommandError, Manage};
use quorate_sim::script::{ClientId, MILLISECOND, MessageKind, Next, Verdict};
use quorate_sim::{Call, Ended, Retry, SECOND, Setup, Violation, World};
use quorate_storage::StoreId;
use quorate_store::ClientOutcome;

use crate::support::{BUG_SEEDS, CLUSTER_SEEDS, Chance, close, row};

/// How long a change may take when nobody is away.
const CHANGE_US: u64 = 10 * SECOND;

fn stores(nodes: &[usize]) -> Vec<StoreId> {
    nodes.iter().map(|node| StoreId(*node as u64 + 1)).collect()
}

fn change(add: &[usize], remove: &[usize]) -> Manage {
    Manage::Change {
        add: stores(add),
        remove: stores(remove),
    }
}

/// Sends a wish until the shard has taken it down.
fn ask(world: &mut World, via: usize, wish: &Manage) -> Result<(), Violation> {
    for _ in 0..100 {
        let id = world.wish(via, 1, wish.clone());
        world.wait_until("a wish is answered", 5 * SECOND, |world| world.told(id).is_some())?;
        match world.told(id) {
            Some(ClientOutcome::Done(Answer::Ok)) => return Ok(()),
            Some(ClientOutcome::Done(Answer::Error(
                CommandError::ChangeUnderWay | CommandError::StoreAway,
            )))
            | Some(ClientOutcome::NotApplied(_) | ClientOutcome::Unknown(_)) => {
                world.run_for(100 * MILLISECOND)?;
            }
            other => panic!("{wish:?}: {other:?}"),
        }
    }
    panic!("{wish:?} was never taken down")
}

/// Asks for a change and lets time pass until these nodes hold the shard.
pub(crate) fn change_to(
    world: &mut World,
    via: usize,
    add: &[usize],
    remove: &[usize],
    nodes: &[usize],
) -> Result<(), Violation> {
    ask(world, via, &change(add, remove))?;
    world.await_held_by(1, nodes, CHANGE_US)?;
    world.await_leader(1).map(|_| ())
}

pub(crate) fn refused(world: &mut World, via: usize, wish: Manage) -> Result<CommandError, Violation> {
    let id = world.wish(via, 1, wish.clone());
    world.wait_until("a wish is answered", 5 * SECOND, |world| world.told(id).is_some())?;
    match world.told(id) {
        Some(ClientOutcome::Done(Answer::Error(error))) => Ok(*error),
        other => panic!("{wish:?}: {other:?}"),
    }
}

/// A client that appends as fast as it is answered, and the longest time between two answers.
fn appender(world: &mut World, stop: &Rc<Cell<bool>>) -> (Rc<Cell<u64>>, Rc<Cell<u64>>) {
    let (longest, last, stopped) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)), stop.clone());
    let done = Rc::new(Cell::new(0));
    let (seen, count, mut number) = (longest.clone(), done.clone(), 0);
    world.spawn("appender", move |now_us: u64, ended: Option<&Ended>| {
        if ended.is_some_and(Ended::is_done) {
            if last.get() > 0 {
                seen.set(seen.get().max(now_us - last.get()));
            }
            last.set(now_us);
            count.set(count.get() + 1);
        }
        if stopped.get() {
            return Next::End;
        }
        number += 1;
        let put = Call::put("k", number.to_string()).retry(Retry::IfRefused);
        put.attempt_ms(300).within_ms(300).into()
    });
    (longest, done)
}

/// Four of five replicas are removed, one after the other, and come back. What is removed holds no data; what comes
/// gets all of it; a store's second replica has another id.
#[test]
fn t_19_basic_conf_change() {
    row("t_19_basic_conf_change", CLUSTER_SEEDS, |seed| {
        let mut world = Setup::new(5).seed(seed).start();
        world.await_leader(1)?;
        let client = world.client("a");
        assert!(world.ask(client, Call::put("k1", "v1"))?.is_done());
        let mut held = vec![0, 1, 2, 3, 4];
        for gone in [4, 3, 2, 1] {
            held.retain(|node| *node != gone);
            change_to(&mut world, gone, &[], &[gone], &held)?;
            assert!(world.replica(gone, 1).is_none());
        }
        assert_eq!(
            refused(&mut world, 3, change(&[], &[0]))?,
            CommandError::LastReplica
        );
        assert_eq!(
            refused(&mut world, 3, change(&[], &[2]))?,
            CommandError::NotAMember
        );
        assert_eq!(
            refused(&mut world, 3, change(&[0], &[]))?,
            CommandError::AlreadyMember
        );
        assert!(world.ask(client, Call::put("k2", "v2"))?.is_done());
        for come in [1, 2, 3, 4] {
            held.push(come);
            change_to(&mut world, 0, &[come], &[], &held)?;
            for (key, value) in [("k1", "v1"), ("k2", "v2")] {
                let found = world.local_value(come, 1, key.as_bytes())?;
                assert_eq!(found.as_deref(), Some(value.as_bytes()), "{key} on {come}");
            }
        }
        let before = world.replica(2, 1).map(|status| status.replica);
        change_to(&mut world, 0, &[], &[2], &[0, 1, 3, 4])?;
        change_to(&mut world, 0, &[2], &[], &held)?;
        let after = world.replica(2, 1).map(|status| status.replica);
        assert!(after > before, "{before:?} became {after:?}");
        close(world)
    });
}

/// The leader is removed, also from a shard of two. The others go on, and it can come back and lead.
#[test]
fn t_20_remove_the_leader() {
    row("t_20_remove_the_leader", CLUSTER_SEEDS, |seed| {
        let mut world = Setup::new(3).seed(seed).start();
        let client = world.client("a");
        let mut held = vec![0, 1, 2];
        for _ in 0..2 {
            let leader = world.await_leader(1)?;
            held.retain(|node| *node != leader);
            change_to(&mut world, leader, &[], &[leader], &held)?;
            assert!(world.ask(client, Call::put("k", "v"))?.is_done());
        }
        let back = (0..3).find(|node| !held.contains(node)).expect("two are gone");
        held.push(back);
        change_to(&mut world, back, &[back], &[], &held)?;
        world.transfer_leader(1, back)?;
        assert!(world.ask(client, Call::get("k"))?.is_done());
        close(world)
    });
}

/// M1: all replicas of a shard are replaced at once while it serves. Nobody waits longer than an election would take.
#[test]
fn m1_all_replicas_are_replaced_while_the_shard_serves() {
    row(
        "m1_all_replicas_are_replaced_while_the_shard_serves",
        BUG_SEEDS,
        |seed| {
            let mut world = Setup::new(6).seed(seed).start();
            world.await_leader(1)?;
            change_to(&mut world, 0, &[], &[3, 4, 5], &[0, 1, 2])?;
            let stop = Rc::new(Cell::new(false));
            let (longest, done) = appender(&mut world, &stop);
            world.run_for(SECOND)?;
            for (add, remove) in [([3, 4, 5], [0, 1, 2]), ([0, 1, 2], [3, 4, 5])] {
                change_to(&mut world, 1, &add, &remove, &add)?;
                world.run_for(SECOND)?;
            }
            stop.set(true);
            world.finish_programs(10 * SECOND)?;
            assert!(done.get() > 200, "only {} writes", done.get());
            let election_us = 400 * MILLISECOND;
            assert!(
                longest.get() < election_us,
                "{} us without a write",
                longest.get()
            );
            close(world)
        },
    );
}

/// Four nodes, of which three hold shard 1, and a client.
fn three_of_four(seed: u64) -> Result<(World, ClientId), Violation> {
    let mut world = Setup::new(4).seed(seed).start();
    world.await_leader(1)?;
    let client = world.client("a");
    change_to(&mut world, 0, &[], &[3], &[0, 1, 2])?;
    Ok((world, client))
}

/// M2: the store that is to hold the shard dies before it has caught up, or while the configuration is joint or has
/// just been left. The shard goes on, and goes back to who held it before.
#[test]
fn m2_a_move_to_a_store_that_dies_is_turned_round() {
    row(
        "m2_a_move_to_a_store_that_dies_is_turned_round",
        BUG_SEEDS,
        |seed| {
            let mut chance = Chance::new(seed);
            let (mut world, client) = three_of_four(seed)?;
            assert!(world.ask(client, Call::put("k", "v"))?.is_done());
            ask(&mut world, 0, &change(&[3], &[2]))?;
            world.run_for(chance.below(60 * MILLISECOND))?;
            world.crash(3);
            let id = world.wish(0, 1, Manage::Transfer { to: StoreId(1) });
            world.run_for(20 * SECOND)?;
            assert!(world.told(id).is_some());
            assert!(world.ask(client, Call::put("k", "w"))?.is_done());
            // It may have been through with it before the store died.
            let held = world.holders(1);
            assert!(
                held == stores(&[0, 1, 2]) || held == stores(&[0, 1, 3]),
                "{held:?}"
            );
            world.start_node(3);
            world.await_leader(1)?;
            close(world)
        },
    );
}

/// A replica that comes and goes, with power loss in each of the steps of its birth, its snapshot and its removal
/// (P4, P5, M4).
#[test]
fn x_22_power_loss_while_a_replica_comes_and_goes() {
    row(
        "x_22_power_loss_while_a_replica_comes_and_goes",
        BUG_SEEDS,
        |seed| {
            let mut chance = Chance::new(seed);
            let (mut world, client) = three_of_four(seed)?;
            for step in 1..=6 {
                let value = step.to_string();
                assert!(world.ask(client, Call::put("k", &value))?.is_done());
                for (add, remove, held) in [
                    (&[3][..], &[][..], &[0, 1, 2, 3][..]),
                    (&[][..], &[3][..], &[0, 1, 2][..]),
                ] {
                    // What is left of the replica before is gone: it dies of this wish, after it was taken down.
                    world.run_for(SECOND)?;
                    world.die_in_log(3, step, true);
                    ask(&mut world, 0, &change(add, remove))?;
                    world.run_for(chance.below(400 * MILLISECOND))?;
                    world.crash_power(3);
                    world.run_for(chance.below(400 * MILLISECOND))?;
                    world.start_node(3);
                    world.await_held_by(1, held, 30 * SECOND)?;
                    let found = world.local_value(3, 1, b"k")?;
                    let wanted = held.contains(&3).then_some(value.as_bytes());
                    assert_eq!(found.as_deref(), wanted, "step {step}");
                }
            }
            close(world)
        },
    );
}

/// A replica is removed before its store ever heard of it, and the leader's messages to it come late. Nothing is left
/// of it, and the store gets another one later.
#[test]
fn x_03_a_replica_that_is_removed_at_once() {
    row("x_03_a_replica_that_is_removed_at_once", BUG_SEEDS, |seed| {
        let mut world = Setup::new(4).seed(seed).start();
        world.await_leader(1)?;
        change_to(&mut world, 0, &[], &[3], &[0, 1, 2])?;
        let late = world.filter(|passing| {
            let speaks = matches!(passing.kind(), MessageKind::Append | MessageKind::Heartbeat);
            let shard = passing.shard().map(|shard| shard.0);
            if speaks && passing.to == 3 && shard == Some(1) {
                Verdict::Delay(3 * SECOND)
            } else {
                Verdict::Pass
            }
        });
        ask(&mut world, 0, &change(&[3], &[]))?;
        world.run_for(500 * MILLISECOND)?;
        ask(&mut world, 0, &Manage::Abort)?;
        world.unfilter(late);
        world.run_for(5 * SECOND)?;
        world.await_held_by(1, &[0, 1, 2], CHANGE_US)?;
        change_to(&mut world, 0, &[3], &[], &[0, 1, 2, 3])?;
        close(world)
    });
}

/// A replica is cut off, removed meanwhile, and comes back after minutes: it disturbs nobody and is gone.
#[test]
fn x_06_a_removed_replica_returns() {
    row("x_06_a_removed_replica_returns", BUG_SEEDS, |seed| {
        let mut world = Setup::new(4).seed(seed).start();
        let leader = world.await_leader(1)?;
        let away = (leader + 1) % 4;
        world.isolate(away);
        let held: Vec<usize> = (0..4).filter(|node| *node != away).collect();
        ask(&mut world, leader, &change(&[], &[away]))?;
        world.run_for(120 * SECOND)?;
        let leaders = world.leaders(1);
        world.rejoin(away);
        world.await_held_by(1, &held, CHANGE_US)?;
        assert_eq!(world.leaders(1), leaders, "the same leader in the same term");
        close(world)
    });
}
