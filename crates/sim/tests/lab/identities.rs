//! Rows about ids that stand for one thing for ever: replicas (M3, M4) and the cluster itself.

use std::cell::RefCell;
use std::rc::Rc;

use quorate_proto::{
    Answer, CommandError, Epoch, Heartbeat, Manage, MemberRole, PeerMessage, RaftEnvelope, ShardMember,
    SplitIds,
};
use quorate_raft::{Index, Message, MessageBody, ReplicaId, Term};
use quorate_sim::script::{MILLISECOND, Verdict};
use quorate_sim::{Call, SECOND, Setup, Violation, World};
use quorate_storage::{ShardId, StoreId};
use quorate_store::ClientOutcome;

use crate::moves::{change_to, refused};
use crate::support::{BUG_SEEDS, Chance, close, row};

/// Longer than the removed replica's messages need to come again.
const LATE_US: u64 = 3 * SECOND;

fn replica_on(world: &World, node: usize) -> Option<ReplicaId> {
    world.replica(node, 1).map(|status| status.replica)
}

fn removals(world: &World, node: usize) -> u64 {
    world
        .counters(node)
        .map_or(0, |counters| counters.replicas_removed)
}

/// Removes the replica of shard 1 on a node that is down, and returns when nobody has it. Another store may get one in the
/// same change.
fn remove_absent(world: &mut World, via: usize, gone: usize, come: &[usize]) -> Result<(), Violation> {
    let stores = |nodes: &[usize]| nodes.iter().map(|node| StoreId(*node as u64 + 1)).collect();
    let wish = Manage::Change {
        add: stores(come),
        remove: stores(&[gone]),
    };
    let id = world.wish(via, 1, wish);
    let gone = StoreId(gone as u64 + 1);
    world.wait_until("it is removed", 20 * SECOND, |world| {
        let is_settled = world
            .followed_leader(1)
            .and_then(|leader| world.replica(leader, 1))
            .is_some_and(|status| !status.changing);
        is_settled && !world.holders(1).contains(&gone)
    })?;
    assert_eq!(world.told(id), Some(&ClientOutcome::Done(Answer::Ok)));
    Ok(())
}

/// What the removed replica says, and what was said to it, arrives once more when it is long gone.
fn repeat_late(world: &mut World, gone: usize) {
    world.filter(move |passing| {
        let is_raft = matches!(passing.message, PeerMessage::Raft(_));
        let is_its = passing.from == gone || passing.to == gone;
        if is_raft && is_its && passing.shard() == Some(ShardId(1)) {
            Verdict::Repeat(LATE_US)
        } else {
            Verdict::Pass
        }
    });
}

fn forge_raft(world: &mut World, (from, sender): (usize, ReplicaId), to: usize, body: MessageBody) {
    let term = world.replica(to, 1).map_or(Term(1), |status| status.term);
    let envelope = RaftEnvelope {
        shard: ShardId(1),
        sent_at_us: 0,
        message: Message {
            from: sender,
            to: replica_on(world, to).unwrap_or(sender),
            term: Term(term.0 + 1),
            body,
        },
    };
    world.forge(from, to, PeerMessage::Raft(envelope));
}

/// What the controller's leader was last told of shard 1, from now on.
fn overhear(world: &mut World, listens: usize) -> Rc<RefCell<Option<Heartbeat>>> {
    let heard: Rc<RefCell<Option<Heartbeat>>> = Rc::default();
    let keep = heard.clone();
    world.filter(move |passing| {
        if let PeerMessage::Heartbeat(beat) = passing.message
            && passing.to == listens
            && beat.shards.iter().any(|told| told.shard == ShardId(1))
        {
            *keep.borrow_mut() = Some(Heartbeat::clone(beat));
        }
        Verdict::Pass
    });
    heard
}

/// The controller's leader is told of a new member of shard 1 under a used id, in the words in which it was told of the
/// shard last: it refuses, and keeps what it knew.
fn forge_heartbeat(
    world: &mut World,
    listens: usize,
    mut beat: Heartbeat,
    used: ShardMember,
) -> Result<(), Violation> {
    let known = |world: &World| {
        let rows = world.shard_map()?;
        let row = rows.into_iter().find(|row| row.last.shard == ShardId(1))?;
        Some((row.last.epoch, row.last.members))
    };
    let refused = |world: &World| {
        world
            .counters(listens)
            .map(|counters| counters.shard_heartbeats_refused)
    };
    let (known_before, refused_before) = (known(world), refused(world));
    // Of no process that was heard, so that it overtakes none.
    beat.store.process += 1;
    beat.shards.retain(|told| told.shard == ShardId(1));
    for told in &mut beat.shards {
        told.epoch = Epoch {
            conf_ver: told.epoch.conf_ver + 1,
            ..told.epoch
        };
        told.members.push(used);
        told.members.sort_unstable_by_key(|member| member.replica);
    }
    let from = beat.store.store.0 as usize - 1;
    world.forge(from, listens, PeerMessage::Heartbeat(Box::new(beat)));
    world.run_for(10 * MILLISECOND)?;
    assert_eq!(world.leader_of(0), Some(listens), "the listener stays");
    assert_eq!(known(world), known_before);
    assert!(refused(world) > refused_before, "the heartbeat was not refused");
    Ok(())
}

/// A replica that was removed while its store was down comes back with its store; its messages and those to it come again;
/// others use its id, in a campaign, in a heartbeat to the controller, in a wish. Every store refuses it and says why, so
/// that it erases itself, no election is held, the data is as it was, and whoever comes next gets an id that nobody had.
#[test]
fn x_05_a_replica_id_is_used_again_after_its_removal() {
    row(
        "x_05_a_replica_id_is_used_again_after_its_removal",
        BUG_SEEDS,
        |seed| {
            let mut chance = Chance::new(seed);
            let mut world = Setup::new(5).seed(seed).start();
            world.await_leader(1)?;
            let client = world.client("a");
            assert!(world.ask(client, Call::put("k", "early"))?.is_done());
            change_to(&mut world, 0, &[], &[3, 4], &[0, 1, 2])?;
            let leader = world.await_leader(1)?;
            let gone = (leader + 1 + chance.below(2) as usize) % 3;
            let listens = 3 - leader - gone;
            let via = if chance.percent(50) { leader } else { listens };
            let used = replica_on(&world, gone).expect("it is a member");
            // The controller is led by who neither leads the shard nor goes, and has heard of the replica.
            world.transfer_leader(0, listens)?;
            world.wait_until("the controller hears of it", 10 * SECOND, |world| {
                let rows = world.shard_map().unwrap_or_default();
                let row = rows.iter().find(|row| row.last.shard == ShardId(1));
                row.is_some_and(|row| row.last.members.iter().any(|member| member.replica == used))
            })?;
            let heard = overhear(&mut world, listens);
            repeat_late(&mut world, gone);
            world.run_for(chance.below(SECOND))?;
            if chance.percent(50) {
                world.crash(gone);
            } else {
                world.crash_power(gone);
            }
            let leader = world.await_leader(1)?;
            let come: &[usize] = if chance.percent(50) { &[3] } else { &[] };
            remove_absent(&mut world, via, gone, come)?;
            assert!(world.ask(client, Call::put("k", "later"))?.is_done());
            for node in come {
                let new = replica_on(&world, *node).expect("it has come");
                assert!(new > ReplicaId(5), "{new} was somebody's");
            }

            // It returns as it was, and once more after that.
            let (leaders, deaths) = (world.leaders(1), world.counts().deaths);
            for _ in 0..2 {
                world.start_node(gone);
                world.wait_until("what was removed is gone", 20 * SECOND, |world| {
                    world.is_up(gone) && world.replica(gone, 1).is_none()
                })?;
                world.run_for(chance.below(LATE_US))?;
                if chance.percent(50) {
                    world.crash(gone);
                } else {
                    world.crash_power(gone);
                }
            }
            assert_eq!(
                world.counts().deaths,
                deaths + 2,
                "it dies when it is killed only"
            );
            world.start_node(gone);
            world.run_for(2 * LATE_US)?;
            assert!(world.replica(gone, 1).is_none(), "a late message brings it back");
            assert_eq!(world.local_value(gone, 1, b"k")?, None);

            // Others use its id: it campaigns on its own store or another, and it is spoken to.
            let body = MessageBody::Vote {
                last_index: Index(u64::MAX),
                last_term: Term(u64::MAX),
                transfer: true,
            };
            for from in [gone, 4] {
                for to in (0..3).filter(|node| *node != gone) {
                    forge_raft(&mut world, (from, used), to, body.clone());
                }
            }
            let body = MessageBody::Heartbeat {
                commit: Index(0),
                context: None,
            };
            let before = world.replica(leader, 1).map(|status| status.replica);
            let removals_before = removals(&world, gone);
            let envelope = RaftEnvelope {
                shard: ShardId(1),
                sent_at_us: 0,
                message: Message {
                    from: before.expect("it leads"),
                    to: used,
                    term: Term(u64::from(u32::MAX)),
                    body,
                },
            };
            world.forge(leader, gone, PeerMessage::Raft(envelope));
            world.run_for(SECOND)?;
            assert!(world.replica(gone, 1).is_none(), "it is spoken to, and is back");
            assert_eq!(removals(&world, gone), removals_before, "it was not even born");
            assert_eq!(world.leaders(1), leaders, "the same leader in the same term");
            let member = ShardMember {
                replica: used,
                store: StoreId(chance.range(1, 6)),
                role: MemberRole::Learner,
                is_pending: true,
            };
            let beat = heard.borrow().clone().expect("the change was told of");
            forge_heartbeat(&mut world, listens, beat, member)?;

            // The ids of a shard that is there, in a wish.
            let held: Vec<usize> = world
                .holders(1)
                .iter()
                .map(|store| store.0 as usize - 1)
                .collect();
            let replicas = (1..=held.len() as u64).map(ReplicaId).collect();
            let child = ShardId(1);
            let wish = Manage::Split {
                slot: Some(100),
                ids: Some(SplitIds { child, replicas }),
            };
            assert_eq!(refused(&mut world, via, wish)?, CommandError::WrongIds);

            // The store is welcome, under an id that nobody had.
            let mut all = held.clone();
            all.push(gone);
            all.sort_unstable();
            let highest = held.iter().filter_map(|node| replica_on(&world, *node)).max();
            let highest = highest.max(Some(ReplicaId(5)));
            change_to(&mut world, via, &[gone], &[], &all)?;
            assert!(replica_on(&world, gone) > highest, "{highest:?} was somebody's");
            assert_eq!(world.local_value(gone, 1, b"k")?.as_deref(), Some(&b"later"[..]));
            assert_eq!(world.ask(client, Call::get("k"))?.bytes(), Some(&b"later"[..]));
            close(world)
        },
    );
}

/// A cluster begins once. Nodes lose their power while they begin and begin again; later, whoever wants it to begin with
/// other contents is refused, through any node, while leaders of the controller die and all nodes do. Ids go on where they
/// were, and no shard forgets a key.
#[test]
fn ps_08_a_cluster_begins_once() {
    row("ps_08_a_cluster_begins_once", BUG_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut world = Setup::new(3).seed(seed).shards(2).start();
        for _ in 0..chance.below(6) {
            let node = chance.below(3) as usize;
            world.run_for(chance.below(20 * MILLISECOND))?;
            if chance.percent(30) {
                world.die_in_log(node, chance.range(1, 4), true);
                world.run_for(chance.below(20 * MILLISECOND))?;
            }
            world.crash_power(node);
            world.start_node(node);
        }
        for shard in 0..=2 {
            world.await_leader(shard)?;
        }
        let client = world.client("a");
        let keys = ["{a}", "{b}", "{c}", "{d}"];
        for key in keys {
            assert!(world.ask(client, Call::put(key, "early"))?.is_done());
        }
        let shards = world.shards().to_vec();
        for round in 0..4 {
            for _ in 0..chance.range(1, 4) {
                // The answer to each is looked at when it comes: nothing but "has begun already" is right.
                world.ask_for_ids(chance.below(3) as usize, None);
                world.ask_for_ids(chance.below(3) as usize, Some(1));
                world.run_for(chance.below(3 * MILLISECOND))?;
            }
            if round == 3 {
                world.run_for(chance.below(SECOND))?;
                (0..3).for_each(|node| world.crash_power(node));
                world.start_all();
            } else {
                let leader = world.await_leader(0)?;
                world.crash(leader);
                world.run_for(chance.below(SECOND))?;
                world.start_node(leader);
            }
        }
        world.wait_until("every question is answered", 20 * SECOND, |world| {
            world.ids_given().1 == 0
        })?;
        world.await_leader(0)?;
        world.wait_until("all are back", 5 * SECOND, |world| {
            (0..3).all(|node| world.is_up(node))
        })?;
        for node in 0..3 {
            world.ask_for_ids(node, None);
            world.ask_for_ids(node, Some(1));
        }
        world.wait_until("every question is answered", 20 * SECOND, |world| {
            world.ids_given().1 == 0
        })?;
        assert!(world.ids_given().0 >= 3);
        let last = world.last_id_given();
        assert!(
            last.is_some_and(|last| last < 1000),
            "{last:?}: the other contents begin at 1000"
        );
        assert_eq!(world.shards(), shards);
        for key in keys {
            assert_eq!(
                world.ask(client, Call::get(key))?.bytes(),
                Some(&b"early"[..]),
                "{key}"
            );
        }
        close(world)
    });
}
