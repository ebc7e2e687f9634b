//! Rows X: what broke in other systems.

use std::cell::Cell;
use std::rc::Rc;

use quorate_sim::script::{MILLISECOND, MessageKind, Next, Verdict};
use quorate_sim::{Call, Ended, Retry, SECOND, Setup, World};

use crate::support::{BUG_SEEDS, Chance, close, row};

/// By the settings of [`Setup`]: ten ticks of 20 ms.
const ELECTION_US: u64 = 200 * MILLISECOND;

/// A client that writes to the given nodes as fast as it is answered, and one that reads from one node only, so
/// that a stale read of that node is seen by the checker. They stop when the flag is set.
fn write_and_read(world: &mut World, write_to: &[usize], read_from: usize, stop: &Rc<Cell<bool>>) {
    read_at(world, read_from, stop);
    write_at(world, write_to, stop);
}

fn write_at(world: &mut World, nodes: &[usize], stop: &Rc<Cell<bool>>) {
    let (mut number, stopped) = (0, stop.clone());
    let writer = world.spawn("writer", move |_: u64, _: Option<&Ended>| {
        if stopped.get() {
            return Next::End;
        }
        number += 1;
        let put = Call::put("k", number.to_string()).retry(Retry::IfRefused);
        put.attempt_ms(300).within_ms(300).into()
    });
    world.limit_client(writer, nodes);
}

fn read_at(world: &mut World, node: usize, stop: &Rc<Cell<bool>>) {
    let stopped = stop.clone();
    let reader = world.spawn("reader", move |_: u64, ended: Option<&Ended>| match ended {
        _ if stopped.get() => Next::End,
        Some(_) => Next::Sleep(3 * MILLISECOND),
        None => Call::get("k")
            .retry(Retry::Never)
            .attempt_ms(50)
            .within_ms(50)
            .via(node)
            .into(),
    });
    world.limit_client(reader, &[node]);
}

fn others(world: &World, not: &[usize]) -> Vec<usize> {
    (0..world.node_count())
        .filter(|node| !not.contains(node))
        .collect()
}

/// A voter's disk is wiped, and it restarts under its old id (P7), just when its forgotten acknowledgement would be missed:
/// with those that lag behind it would be a majority. Nobody talks to it and it stops; the others go on with what was
/// acknowledged, and so does it once its own disk is back.
#[test]
fn x_04_a_voter_restarts_with_a_wiped_disk() {
    row("x_04_a_voter_restarts_with_a_wiped_disk", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let nodes = if chance.percent(50) { 3 } else { 5 };
        let mut world = Setup::new(nodes).seed(seed).shards(2).start();
        world.await_leader(1)?;
        let client = world.client("a");
        assert!(world.ask(client, Call::put("k", "early"))?.is_done());
        // All have met.
        world.run_for(SECOND)?;
        let nodes = nodes as usize;
        let first = chance.below(nodes as u64) as usize;
        let (late, early): (Vec<_>, Vec<_>) = (0..nodes)
            .map(|step| (first + step) % nodes)
            .enumerate()
            .partition(|(step, _)| *step < nodes / 2);
        let of = |some: Vec<(usize, usize)>| some.into_iter().map(|(_, node)| node).collect::<Vec<_>>();
        let (late, early) = (of(late), of(early));
        world.partition(&[&late, &early]);
        world.limit_client(client, &early);
        assert!(world.ask(client, Call::put("k", "acknowledged"))?.is_done());
        let wiped = early[chance.below(early.len() as u64) as usize];
        let away = others(&world, &[&late[..], &[wiped]].concat());
        for node in &early {
            world.crash_power(*node);
        }
        world.mount_empty_disks(wiped);
        if chance.percent(50) {
            // It is alone at first.
            world.start_node(wiped);
            world.run_for(chance.below(SECOND))?;
        }
        world.heal_network();
        let visitor = world.client("at the wiped one");
        let visit = Call::put("k", "lost")
            .retry(Retry::Never)
            .attempt_ms(2_000)
            .via(wiped);
        let visit = world.begin(visitor, visit);
        for _ in 0..3 {
            let deaths = world.counts().deaths;
            world.start_node(wiped);
            world.wait_until("it is refused and stops", 5 * SECOND, |world| {
                world.counts().deaths > deaths
            })?;
            world.run_for(chance.below(4 * ELECTION_US))?;
            assert_eq!(world.leaders(1), [], "those left are no majority");
        }
        assert!(!world.finish(visit)?.is_done());
        world.start_node(away[chance.below(away.len() as u64) as usize]);
        world.await_leader(1)?;
        world.limit_client(client, &late);
        let ended = world.ask(client, Call::get("k"))?;
        assert_eq!(
            ended.bytes().map(|value| value.to_vec()),
            Some(b"acknowledged".to_vec())
        );
        assert!(world.ask(client, Call::put("k", "later"))?.is_done());
        world.start_node(wiped);
        world.run_for(2 * SECOND)?;
        assert!(
            !world.is_up(wiped),
            "it is refused as long as it comes under its old id"
        );
        world.mount_own_disks(wiped);
        world.start_all();
        world.wait_until("all have what was written", 20 * SECOND, |world| {
            (0..nodes).all(|node| {
                let found = world.local_value(node, 1, b"k");
                found.is_ok_and(|found| found.as_deref() == Some(b"later"))
            })
        })?;
        close(world)
    });
}

/// A member that was cut off for minutes and campaigned all the time comes back: nothing changes for the others.
#[test]
fn x_06_a_partitioned_member_returns() {
    row("x_06_a_partitioned_member_returns", BUG_SEEDS, |seed| {
        let mut world = Setup::new(3).seed(seed).start();
        let leader = world.await_leader(1)?;
        let term = world.leaders(1)[0].1;
        let away = (leader + 1) % 3;
        world.isolate(away);
        world.run_for(180 * SECOND)?;
        assert_eq!(world.leaders(1), [(leader, term)]);
        world.rejoin(away);
        world.run_for(5 * SECOND)?;
        assert_eq!(
            world.leaders(1),
            [(leader, term)],
            "the same leader in the same term"
        );
        assert_eq!(world.replica(away, 1).map(|status| status.term), Some(term));
        close(world)
    });
}

/// Power fails on a minority, again and again, and takes what was not synced. Nothing acknowledged is lost.
#[test]
fn x_09_power_loss_on_a_minority() {
    row("x_09_power_loss_on_a_minority", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let nodes = if chance.percent(50) { 3 } else { 5 };
        let mut world = Setup::new(nodes).seed(seed).start();
        world.await_leader(1)?;
        let client = world.client("a");
        assert!(world.ask(client, Call::put("k", ""))?.is_done());
        let mut acknowledged = Vec::new();
        for n in 0..60 {
            let token = format!("x 0 {n} y");
            let call = world.begin(client, Call::append("k", &token));
            if chance.percent(30) {
                // While it is under way.
                world.run_for(chance.below(5 * MILLISECOND))?;
                let first = chance.below(nodes) as usize;
                for step in 0..(nodes as usize - 1) / 2 {
                    world.crash_power((first + step) % nodes as usize);
                }
                world.run_for(chance.below(SECOND))?;
                world.start_all();
            }
            if world.finish(call)?.is_done() {
                acknowledged.push(token);
            }
        }
        assert!(
            acknowledged.len() > 30,
            "only {} were acknowledged",
            acknowledged.len()
        );
        let ended = world.ask(client, Call::get("k"))?;
        let value = String::from_utf8_lossy(ended.bytes().expect("it was put")).into_owned();
        let mut from = 0;
        for token in acknowledged {
            let at = value[from..]
                .find(&token)
                .unwrap_or_else(|| panic!("{token} is lost or out of order: {value}"));
            from += at + token.len();
            assert_eq!(value.matches(&token).count(), 1, "{token} in {value}");
        }
        close(world)
    });
}

/// The leader's clock runs slow and the others' fast, as far apart as the bound allows, when it is cut off: they
/// elect, as early as they may, while it still believes in its lease.
#[test]
fn x_11_lease_and_drifting_clocks() {
    row("x_11_lease_and_drifting_clocks", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut world = Setup::new(3).seed(seed).start();
        let leader = world.await_leader(1)?;
        let (slow, fast) = if chance.percent(75) {
            (-4_900, 4_900)
        } else {
            (4_900, -4_900)
        };
        world.set_clock_rate(leader, slow);
        for node in others(&world, &[leader]) {
            world.set_clock_rate(node, fast);
        }
        let stop = Rc::new(Cell::new(false));
        let majority = others(&world, &[leader]);
        world.run_for(SECOND + chance.below(SECOND))?;
        write_and_read(&mut world, &majority, leader, &stop);
        world.run_for(SECOND / 2)?;
        world.isolate(leader);
        world.run_for(2 * SECOND)?;
        let reads = |world: &World| {
            world
                .counters(leader)
                .map_or(0, |counters| counters.reads_by_lease)
        };
        assert!(reads(&world) > 10, "the lease was used {} times", reads(&world));
        assert!(
            world.followed_leader(1).is_some_and(|next| next != leader),
            "another was elected"
        );
        stop.set(true);
        world.rejoin(leader);
        world.finish_programs(5 * SECOND)?;
        close(world)
    });
}

/// The leader stands still with reads at its door; when it goes on, others have long elected and written.
#[test]
fn x_11_lease_and_a_pause() {
    row("x_11_lease_and_a_pause", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut world = Setup::new(3).seed(seed).start();
        let leader = world.await_leader(1)?;
        let stop = Rc::new(Cell::new(false));
        let majority = others(&world, &[leader]);
        write_and_read(&mut world, &majority, leader, &stop);
        world.run_for(SECOND)?;
        for _ in 0..3 {
            let leader = world.await_leader(1)?;
            let reader = world.client("at the door");
            let pause_us = chance.range(ELECTION_US / 2, 6 * ELECTION_US);
            world.pause(leader, pause_us);
            let mut calls = Vec::new();
            for _ in 0..10 {
                world.run_for(pause_us / 10)?;
                let call = Call::get("k").retry(Retry::Never).attempt_ms(5_000).via(leader);
                calls.push(world.begin(reader, call));
            }
            for call in calls {
                world.finish(call)?;
            }
            world.run_for(SECOND / 2)?;
        }
        stop.set(true);
        world.finish_programs(5 * SECOND)?;
        close(world)
    });
}

/// A follower restarts inside the leader's lease and is asked for its vote at once by a member that the leader
/// does not reach. It refuses for one election timeout (L2).
#[test]
fn x_18_a_restart_inside_a_lease() {
    row("x_18_a_restart_inside_a_lease", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut world = Setup::new(3).seed(seed).start();
        let leader = world.await_leader(1)?;
        let (voter, candidate) = ((leader + 1) % 3, (leader + 2) % 3);
        let stop = Rc::new(Cell::new(false));
        read_at(&mut world, leader, &stop);
        // The candidate is cut off long enough to campaign; the voter refuses it, for its leader lives. Nothing is
        // written meanwhile, so the candidate's log is good enough.
        world.cut(leader, candidate);
        world.run_for(4 * ELECTION_US + chance.below(ELECTION_US))?;
        assert_eq!(world.followed_leader(1), Some(leader));
        let reads = world
            .counters(leader)
            .map_or(0, |counters| counters.reads_by_lease);
        assert!(reads > 10, "the lease was used {reads} times");
        world.crash(voter);
        world.cut(leader, voter);
        world.start_node(voter);
        let restarted_us = world.now_us();
        write_at(&mut world, &[voter, candidate], &stop);
        world.wait_until("the candidate is elected in the end", 10 * SECOND, |world| {
            world.leaders(1).iter().any(|(node, _)| *node != leader)
        })?;
        let after_us = world.now_us() - restarted_us;
        // The voter's clock may be fast by the bound.
        assert!(
            after_us * 100 >= ELECTION_US * 99,
            "it voted {after_us} us after its start"
        );
        world.run_for(SECOND)?;
        stop.set(true);
        world.heal_network();
        world.finish_programs(5 * SECOND)?;
        close(world)
    });
}

/// Kills a node in each of the steps in which it takes a snapshot (P5), by power loss.
#[test]
fn x_22_power_loss_while_a_snapshot_is_installed() {
    row(
        "x_22_power_loss_while_a_snapshot_is_installed",
        BUG_SEEDS,
        |seed| {
            let mut chance = Chance::new(seed);
            let mut world = Setup::new(3).seed(seed).log_entries(10).start();
            let leader = world.await_leader(1)?;
            let away = (leader + 1) % 3;
            let client = world.client("a");
            for step in 1..=6 {
                let last = world.replica(away, 1).map(|replica| replica.last);
                world.crash(away);
                for n in 0..30 {
                    assert!(
                        world
                            .ask(client, Call::put(format!("k{n}"), format!("{step}")))?
                            .is_done()
                    );
                }
                world.run_for(SECOND)?;
                for node in others(&world, &[away]) {
                    let kept_from = world.replica(node, 1).map(|replica| replica.log_base);
                    assert!(kept_from > last, "a log reaches back to {last:?}, where it left");
                }
                world.start_node(away);
                world.wait_until("it is up", SECOND, |world| world.is_up(away))?;
                // The nth operation of its log from now, its first steps after the start included.
                world.die_in_log(away, step, true);
                world.run_for(chance.range(SECOND / 2, 2 * SECOND))?;
                if world.is_up(away) {
                    world.crash_power(away);
                }
                world.start_node(away);
                world.wait_until("it has what it missed", 20 * SECOND, |world| {
                    world
                        .local_value(away, 1, b"k29")
                        .is_ok_and(|found| found.as_deref() == Some(step.to_string().as_bytes()))
                })?;
            }
            close(world)
        },
    );
}

/// Power fails while the first state of a store is written (P4): every one of its first operations.
#[test]
fn x_22_power_loss_at_a_shards_birth() {
    row("x_22_power_loss_at_a_shards_birth", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut world = Setup::new(3).seed(seed).shards(3).start();
        for nth in 1..=12 {
            let node = chance.below(3) as usize;
            world.crash_power(node);
            world.run_for(chance.below(10 * MILLISECOND))?;
            world.die_in_log(node, nth, true);
            world.start_node(node);
            world.run_for(chance.below(300 * MILLISECOND))?;
            if !world.is_up(node) {
                world.start_node(node);
            }
        }
        world.run_for(SECOND)?;
        let client = world.client("a");
        assert!(world.ask(client, Call::put("k", "1"))?.is_done());
        close(world)
    });
}

/// A follower is away for hours: the log stays within its bounds by bytes and by count, and a snapshot takes over.
#[test]
fn x_13_a_follower_is_away_for_hours() {
    row("x_13_a_follower_is_away_for_hours", BUG_SEEDS, |seed| {
        let (bytes_max, entries_max) = (20_000, 400);
        let setup = Setup::new(3)
            .seed(seed)
            .log_bytes(bytes_max)
            .log_entries(entries_max);
        let mut world = setup.start();
        let leader = world.await_leader(1)?;
        let away = (leader + 1) % 3;
        world.isolate(away);
        let client = world.client("a");
        world.limit_client(client, &others(&world, &[away]));
        for n in 0..600u32 {
            // Few large entries, then many small ones.
            let value = vec![b'v'; if n < 100 { 2_000 } else { 10 }];
            assert!(
                world
                    .ask(client, Call::put(format!("k{}", n % 50), value))?
                    .is_done()
            );
            world.run_for(if n % 100 == 0 {
                600 * SECOND
            } else {
                10 * MILLISECOND
            })?;
            let (bytes, entries) = world.log_kept(leader, 1).unwrap_or_default();
            // One entry may have come since it was cut.
            assert!(
                bytes <= bytes_max + 4_000 && entries <= entries_max + 10,
                "{bytes} bytes, {entries} entries"
            );
        }
        world.rejoin(away);
        world.await_equal(1, 30 * SECOND)?;
        assert!(world.counts().snapshots > 0);
        close(world)
    });
}

/// Messages that ask to campaign at once are held back until the transfer was given up; then one arrives (L3).
#[test]
fn x_20_a_late_timeout_now() {
    row("x_20_a_late_timeout_now", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut world = Setup::new(3).seed(seed).start();
        let leader = world.await_leader(1)?;
        let stop = Rc::new(Cell::new(false));
        let majority = others(&world, &[leader]);
        let late_us = chance.range(ELECTION_US, 4 * ELECTION_US);
        let held = Rc::new(Cell::new(0));
        let count = held.clone();
        world.filter(move |passing| {
            if passing.kind() == MessageKind::TimeoutNow {
                count.set(count.get() + 1);
                return Verdict::Delay(late_us);
            }
            Verdict::Pass
        });
        write_and_read(&mut world, &majority, leader, &stop);
        world.run_for(SECOND / 2)?;
        world.ask_transfer(1, majority[0]);
        world.wait_until("the leader asks another to campaign", SECOND, |_| held.get() > 0)?;
        // The one that is asked does not reach the leader any more when it campaigns.
        world.run_for(late_us.saturating_sub(chance.below(ELECTION_US)))?;
        for other in &majority {
            world.cut(leader, *other);
        }
        world.run_for(2 * SECOND)?;
        stop.set(true);
        world.heal_network();
        world.finish_programs(5 * SECOND)?;
        close(world)
    });
}
