//! Rows T and X about splits.

use bytes::Bytes;
use quorate_proto::{Answer, CommandError, Expiry, ForwardBody, Manage, Op, Query, SetCondition, SetExpiry};
use quorate_sim::script::{MILLISECOND, MessageKind, Verdict};
use quorate_sim::{Call, Ended, Retry, SECOND, Setup, Violation, World};
use quorate_storage::StoreId;
use quorate_store::{ClientOutcome, kv};

use crate::support::{BUG_SEEDS, CLUSTER_SEEDS, Chance, close, row};

/// How long a change may take when nobody is away.
const CHANGE_US: u64 = 20 * SECOND;

fn slot_of(key: &str) -> u16 {
    kv::slot_of(key.as_bytes())
}

/// All shards but the controller's.
fn data_shards(world: &World) -> Vec<u64> {
    world
        .shards()
        .iter()
        .copied()
        .filter(|shard| *shard > 0)
        .collect()
}

/// Sends a wish until the shard has taken it down.
fn ask(world: &mut World, via: usize, shard: u64, wish: &Manage) -> Result<(), Violation> {
    for _ in 0..100 {
        world.wait_until("the node is up", 5 * SECOND, |world| world.is_up(via))?;
        let id = world.wish(via, shard, wish.clone());
        let is_over = |world: &World| world.told(id).is_some() || !world.is_up(via);
        world.wait_until("a wish is answered", 5 * SECOND, is_over)?;
        match world.told(id) {
            Some(ClientOutcome::Done(Answer::Ok)) => return Ok(()),
            // A wish of unknown outcome may have come about.
            Some(ClientOutcome::Done(Answer::Error(CommandError::SlotNotInside))) => return Ok(()),
            Some(ClientOutcome::Done(Answer::Error(
                CommandError::ChangeUnderWay
                | CommandError::SplitUnderWay
                | CommandError::ShardChanged
                | CommandError::StoreAway,
            )))
            | Some(ClientOutcome::NotApplied(_) | ClientOutcome::Unknown(_))
            | None => {
                world.run_for(100 * MILLISECOND)?;
            }
            other => panic!("{wish:?}: {other:?}"),
        }
    }
    panic!("{wish:?} was never taken down")
}

/// Splits a shard; returns the new one.
fn split(world: &mut World, via: usize, shard: u64, slot: u16) -> Result<u64, Violation> {
    let before = world.shards().to_vec();
    let slot = Some(slot);
    ask(world, via, shard, &Manage::Split { slot, ids: None })?;
    world.wait_until("the new shard is there", CHANGE_US, |world| {
        world.shards().len() > before.len()
    })?;
    let new = world.shards().iter().find(|shard| !before.contains(shard));
    Ok(*new.expect("it was counted"))
}

/// Lets time pass until a node has applied the split of shard 1 at `slot`.
fn await_applied(world: &mut World, node: usize, slot: u16) -> Result<(), Violation> {
    world.wait_until("a node applies the split", CHANGE_US, |world| {
        world
            .replica(node, 1)
            .is_some_and(|status| status.slots.1 == slot)
    })?;
    Ok(())
}

fn value(ended: &Ended) -> String {
    String::from_utf8_lossy(ended.bytes().unwrap_or_else(|| panic!("{ended:?}"))).into_owned()
}

/// Store 5 is away while 100 keys arrive and the shard becomes too large. Its halves meet, the left one does not answer
/// for keys of the right, and store 5 gets all of it when it is back.
#[test]
fn t_27_one_split() {
    row("t_27_one_split", CLUSTER_SEEDS, |seed| {
        let mut setup = Setup::new(5).seed(seed).ticks(50, 2, 10);
        setup.plan.store.split_bytes = 800;
        let mut world = setup.start();
        world.await_leader(1)?;
        world.isolate(4);
        world.await_leader(1)?;
        let client = world.client("a");
        world.limit_client(client, &[0, 1, 2, 3]);
        for n in 0..100 {
            let put = Call::put(format!("k{n}"), format!("v{n}"));
            assert!(world.ask(client, put.within_ms(60_000))?.is_done());
        }
        world.wait_until("the shard is split", CHANGE_US, |world| world.shards().len() > 2)?;
        world.run_for(SECOND)?;
        let end = world.slots_of(1).1;
        let right = (0..100).map(|n| format!("k{n}")).find(|key| slot_of(key) >= end);
        let wrong = Call::get(right.expect("half of the keys")).to_shard(1);
        let ended = world.ask(client, wrong.retry(Retry::Never))?;
        assert!(matches!(ended, Ended::NotApplied(_)), "{ended:?}");
        world.rejoin(4);
        for shard in data_shards(&world) {
            world.await_held_by(shard, &[0, 1, 2, 3, 4], CHANGE_US)?;
        }
        for n in 0..100 {
            let key = format!("k{n}");
            let holder = world.shards().iter().copied().find(|shard| {
                let (start, end) = world.slots_of(*shard);
                (start..end).contains(&slot_of(&key))
            });
            let found = world.local_value(4, holder.expect("a shard has it"), key.as_bytes())?;
            assert_eq!(found, Some(format!("v{n}").into_bytes()), "{key}");
        }
        close(world)
    });
}

/// A write is acknowledged before a split and sent again to the new shard, then after power loss and through every
/// node.
#[test]
fn x_01_a_write_is_repeated_to_the_new_shard() {
    row("x_01_a_write_is_repeated_to_the_new_shard", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut world = Setup::new(3).seed(seed).log_bytes(1000).start();
        world.await_leader(1)?;
        let client = world.client("a");
        let session = world.open_session();
        let keys = ["foo", "bar"]; // slots 12182 and 5061
        let append = |at: usize| {
            let call = Call::append(keys[at], "once;").session(session.write(1 + at as u64, 1));
            call.retry(Retry::Always).within_ms(60_000)
        };
        for at in 0..2 {
            assert_eq!(world.ask(client, append(at))?.answer(), Some(&Answer::Int(5)));
        }
        let via = chance.below(3) as usize;
        let child = split(&mut world, via, 1, 9000)?;
        for round in 0..3 {
            for (at, key) in keys.iter().enumerate() {
                for via in 0..3 {
                    let ended = world.ask(client, append(at).via(via))?;
                    assert_eq!(ended.answer(), Some(&Answer::Int(5)), "{key} by {via}");
                }
                assert_eq!(value(&world.ask(client, Call::get(key))?), "once;");
            }
            world.power_loss_everywhere();
            world.start_all();
            world.await_leader(child)?;
            let filler = (0..20).map(|n| Call::put(format!("{{foo}}{round}{n}"), [7; 200]));
            for put in filler.collect::<Vec<_>>() {
                assert!(world.ask(client, put.within_ms(60_000))?.is_done());
            }
        }
        close(world)
    });
}

/// The new shard's leader speaks to a store, and offers a snapshot, before the left side there has applied the split;
/// the left side gets the entry or, if the log was cut, a snapshot. Both orders work.
#[test]
fn x_02_the_right_side_comes_before_the_left_applied_the_split() {
    row(
        "x_02_the_right_side_comes_before_the_left_applied_the_split",
        BUG_SEEDS,
        |seed| {
            let mut chance = Chance::new(seed);
            let mut setup = Setup::new(3).seed(seed);
            if chance.percent(50) {
                setup = setup.log_entries(5);
            }
            let mut world = setup.start();
            let leader = world.await_leader(1)?;
            let away = (leader + 1) % 3;
            let client = world.client("a");
            world.limit_client(client, &[leader]);
            for key in ["foo", "bar"] {
                assert!(world.ask(client, Call::put(key, "before"))?.is_done());
            }
            let deaf = world.filter(move |passing| {
                let is_left = passing.shard().map(|shard| shard.0) == Some(1);
                let kinds = [MessageKind::Append, MessageKind::SnapshotChunk];
                if passing.to == away && is_left && kinds.contains(&passing.kind()) {
                    Verdict::Drop
                } else {
                    Verdict::Pass
                }
            });
            let child = split(&mut world, leader, 1, 9000)?;
            world.await_leader(child)?;
            for n in 0..20 {
                for key in ["foo", "bar"] {
                    let put = Call::put(key, n.to_string());
                    assert!(world.ask(client, put)?.is_done());
                }
            }
            world.run_for(chance.below(2 * SECOND))?;
            let left = world.replica(away, 1).expect("it is there");
            assert_eq!(left.slots, (0, 16_384), "it has not applied the split");
            assert!(
                world
                    .replica(away, child)
                    .is_none_or(|status| status.slots == (0, 0)),
                "the right side has nothing as long as the left one has its slots"
            );
            if chance.percent(30) {
                world.crash_power(away);
                world.start_node(away);
            }
            world.unfilter(deaf);
            for shard in [1, child] {
                world.await_held_by(shard, &[0, 1, 2], CHANGE_US)?;
            }
            for (key, shard) in [("foo", child), ("bar", 1)] {
                let found = world.local_value(away, shard, key.as_bytes())?;
                assert_eq!(found.as_deref(), Some(&b"19"[..]), "{key}");
            }
            close(world)
        },
    );
}

/// A new shard's replica is made by message, removed at once, and then comes the split that would make it: nothing of
/// it stays.
#[test]
fn x_03_a_new_shards_replica_is_removed_before_the_split_comes() {
    row(
        "x_03_a_new_shards_replica_is_removed_before_the_split_comes",
        BUG_SEEDS,
        |seed| {
            let mut chance = Chance::new(seed);
            let mut world = Setup::new(3).seed(seed).start();
            let leader = world.await_leader(1)?;
            let away = (leader + 1) % 3;
            let held: Vec<usize> = (0..3).filter(|node| *node != away).collect();
            let client = world.client("a");
            assert!(world.ask(client, Call::put("foo", "v"))?.is_done());
            let deaf = world.filter(move |passing| {
                let is_left = passing.shard().map(|shard| shard.0) == Some(1);
                if passing.to == away && is_left && passing.kind() == MessageKind::Append {
                    Verdict::Drop
                } else {
                    Verdict::Pass
                }
            });
            let child = split(&mut world, leader, 1, 9000)?;
            world.await_leader(child)?;
            world.run_for(chance.below(300 * MILLISECOND))?;
            let remove = Manage::Change {
                add: Vec::new(),
                remove: vec![StoreId(away as u64 + 1)],
            };
            ask(&mut world, leader, child, &remove)?;
            world.run_for(chance.below(2 * SECOND))?;
            world.unfilter(deaf);
            await_applied(&mut world, away, 9000)?;
            world.await_held_by(child, &held, CHANGE_US)?;
            world.run_for(SECOND)?;
            // Shard 1 has the key's space still, and nothing of the key in it.
            assert_eq!(world.local_value(away, 1, b"foo")?, None);
            close(world)
        },
    );
}

/// A read that waits for a quorum's word since before a split, and gets it when the new shard has moved away from the
/// leader's store and its data is gone there: it is answered by the new shard.
#[test]
fn x_12_a_read_from_before_a_split() {
    row("x_12_a_read_from_before_a_split", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut world = Setup::new(3).seed(seed).leases(false).start();
        let leader = world.await_leader(1)?;
        let held: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
        let client = world.client("a");
        assert!(world.ask(client, Call::put("foo", "v"))?.is_done());
        // Rounds end late; appends keep the leader in office.
        let late = world.filter(move |passing| {
            let is_left = passing.shard().map(|shard| shard.0) == Some(1);
            if passing.to == leader && is_left && passing.kind() == MessageKind::HeartbeatResponse {
                Verdict::Drop
            } else {
                Verdict::Pass
            }
        });
        let get = Call::get("foo").via(leader).attempt_ms(20_000).within_ms(30_000);
        let read = world.begin(client, get);
        world.run_for(chance.below(5 * MILLISECOND))?;
        let child = split(&mut world, leader, 1, 9000)?;
        let mut others = Vec::new();
        let remove = Manage::Change {
            add: Vec::new(),
            remove: vec![StoreId(leader as u64 + 1)],
        };
        let mut wish = world.wish(leader, child, remove.clone());
        let mut gone_for = 0;
        for n in 0..600 {
            others.push(world.begin(client, Call::put("bar", n.to_string()).via(leader)));
            world.run_for(5 * MILLISECOND)?;
            // The new shard may not have had a leader yet.
            if matches!(
                world.told(wish),
                Some(ClientOutcome::Unknown(_) | ClientOutcome::NotApplied(_))
            ) {
                wish = world.wish(leader, child, remove.clone());
            }
            let is_gone = world.told(wish).is_some() && world.replica(leader, child).is_none();
            gone_for += u64::from(is_gone);
            // What is left of it there goes.
            if gone_for == 60 {
                break;
            }
        }
        assert_eq!(gone_for, 60, "the new shard has left the leader's store");
        // A leader that hears too few answers steps down, and then the read went elsewhere.
        let still_leads = world.leaders(1).len() == 1 && world.leader_of(1) == Some(leader);
        assert!(world.ended(read).is_none() || !still_leads, "the read waits");
        world.unfilter(late);
        assert_eq!(value(&world.finish(read)?), "v");
        world.await_held_by(child, &held, CHANGE_US)?;
        assert_eq!(
            world.local_value(leader, 1, b"foo")?,
            None,
            "its data is gone there"
        );
        for other in others {
            world.finish(other)?;
        }
        close(world)
    });
}

/// L3: the leader's disk completes nothing, so the others apply the split long before it. It has no lease meanwhile,
/// and serves nothing of the new shard that is stale.
#[test]
fn x_19_no_lease_through_a_split() {
    row("x_19_no_lease_through_a_split", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut world = Setup::new(3).seed(seed).start();
        let leader = world.await_leader(1)?;
        let client = world.client("a");
        assert!(world.ask(client, Call::put("foo", "0"))?.is_done());
        world.run_for(200 * MILLISECOND)?;
        let has_lease = |world: &World| world.replica(leader, 1).is_some_and(|status| status.lease);
        assert!(has_lease(&world), "a calm leader has a lease");
        world.stall_disk(leader, 100 * MILLISECOND + chance.below(800 * MILLISECOND));
        let last = world.replica(leader, 1).map(|status| status.last);
        world.split(leader, 1, 9000, 3);
        let (mut calls, mut seen) = (Vec::new(), 0);
        for n in 1..=100 {
            world.run_for(10 * MILLISECOND)?;
            let now = world.replica(leader, 1).expect("it is there");
            if now.last > last.expect("it was there") && now.slots.1 > 9000 {
                seen += 1;
                assert!(!now.lease, "a lease with a split under way");
            }
            let via = (leader + 1 + chance.below(2) as usize) % 3;
            calls.push(world.begin(client, Call::put("foo", n.to_string()).via(via)));
            calls.push(world.begin(client, Call::get("foo").via(leader)));
        }
        assert!(seen > 0, "the split was under way for a while");
        for call in calls {
            world.finish(call)?;
        }
        close(world)
    });
}

/// A write on several keys of a shard is applied in part, then the shard is split between them, then the client sends
/// all of it again: each key is written once (S5).
#[test]
fn x_21_a_write_on_several_keys_is_repeated_after_a_split() {
    row(
        "x_21_a_write_on_several_keys_is_repeated_after_a_split",
        BUG_SEEDS,
        |seed| {
            let mut chance = Chance::new(seed);
            let mut world = Setup::new(3).seed(seed).start();
            let leader = world.await_leader(1)?;
            let client = world.client("a");
            let session = world.open_session();
            let keys: Vec<String> = (0..9).map(|n| format!("key{n}")).collect();
            let part = |position: u32| {
                let mut id = session.write(1, 1);
                id.position = position;
                let append = Call::append(&keys[position as usize], "once;");
                append.session(id).retry(Retry::Always).within_ms(60_000)
            };
            for position in 0..9 {
                if chance.percent(50) {
                    assert_eq!(world.ask(client, part(position))?.answer(), Some(&Answer::Int(5)));
                }
            }
            let child = split(&mut world, leader, 1, 9000)?;
            if chance.percent(50) {
                world.power_loss_everywhere();
                world.start_all();
            }
            world.await_leader(child)?;
            for position in 0..9 {
                assert_eq!(world.ask(client, part(position))?.answer(), Some(&Answer::Int(5)));
            }
            for key in &keys {
                assert_eq!(value(&world.ask(client, Call::get(key))?), "once;", "{key}");
            }
            close(world)
        },
    );
}

/// Power fails in each of the steps of a new shard's birth, on one node or on all (P4).
#[test]
fn x_22_power_loss_while_a_shard_is_split() {
    row("x_22_power_loss_while_a_shard_is_split", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut world = Setup::new(3).seed(seed).start();
        let client = world.client("a");
        let mut slot = 16_384;
        for step in 1..=6 {
            world.await_leader(1)?;
            let put = Call::put("foo", step.to_string());
            assert!(world.ask(client, put.within_ms(60_000))?.is_done());
            let node = chance.below(3) as usize;
            world.die_in_log(node, step, true);
            slot -= 1 + chance.below(1_000) as u16;
            let via = (node + 1) % 3;
            let wish = Manage::Split {
                slot: Some(slot),
                ids: None,
            };
            world.wish(via, 1, wish.clone());
            world.run_for(chance.below(100 * MILLISECOND))?;
            if chance.percent(30) {
                world.power_loss_everywhere();
            } else {
                world.crash_power(node);
            }
            world.run_for(chance.below(400 * MILLISECOND))?;
            world.start_all();
            ask(&mut world, via, 1, &wish)?;
            for node in 0..3 {
                await_applied(&mut world, node, slot)?;
            }
            for shard in data_shards(&world) {
                world.await_held_by(shard, &[0, 1, 2], CHANGE_US)?;
            }
            let ended = world.ask(client, Call::get("foo").within_ms(60_000))?;
            assert_eq!(value(&ended), step.to_string());
        }
        close(world)
    });
}

/// T1: the new shard's time is not before that of the shard that was split, whatever the clock of its leader says.
#[test]
fn t1_a_new_shard_inherits_the_shards_time() {
    row("t1_a_new_shard_inherits_the_shards_time", CLUSTER_SEEDS, |seed| {
        let mut world = Setup::new(3).seed(seed).start();
        let leader = world.await_leader(1)?;
        let client = world.client("a");
        let put = |key: &str| {
            let op = Op::Set {
                key: Bytes::copy_from_slice(key.as_bytes()),
                value: Bytes::from_static(b"v"),
                expiry: SetExpiry::Set(Expiry::In(60_000)),
                condition: SetCondition::Always,
                get: false,
            };
            Call::new(key.as_bytes(), ForwardBody::Write(op)).retry(Retry::Always)
        };
        let deadline = |world: &mut World, key: &str| -> Result<i64, Violation> {
            let query = Query::Deadline {
                key: Bytes::copy_from_slice(key.as_bytes()),
            };
            let ended = world.ask(client, Call::new(key.as_bytes(), ForwardBody::Read(query)))?;
            match ended.answer() {
                Some(Answer::Int(at_ms)) => Ok(*at_ms),
                other => panic!("{key}: {other:?}"),
            }
        };
        world.jump_wall_clock(leader, 600_000);
        assert!(world.ask(client, put("bar").via(leader))?.is_done());
        world.jump_wall_clock(leader, -600_000);
        let child = split(&mut world, leader, 1, 9000)?;
        world.await_leader(child)?;
        assert!(world.ask(client, put("foo"))?.is_done());
        let (left, right) = (deadline(&mut world, "bar")?, deadline(&mut world, "foo")?);
        assert!(
            right >= left,
            "{right} on the new shard, {left} before on the old one"
        );
        close(world)
    });
}
