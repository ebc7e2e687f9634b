//! How a snapshot travels: from a follower while there is one, no faster than allowed, and on from where it was after a
//! loss.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use quorate_proto::PeerMessage;
use quorate_sim::script::{MILLISECOND, MessageKind, Passing, Verdict};
use quorate_sim::{Call, SECOND, Setup, World};

const KEYS: usize = 120;
const VALUE_BYTES: usize = 1_000;
const RATE: u64 = 60_000;

/// Times that each chunk was sent, by snapshot and number, and when the first and the last one were.
#[derive(Default)]
struct Chunks {
    sent: BTreeMap<(u64, u32), u64>,
    span_us: Option<(u64, u64)>,
    /// The nodes that sent some.
    senders: BTreeSet<usize>,
}

impl Chunks {
    fn snapshots(&self) -> usize {
        let ids: BTreeSet<u64> = self.sent.keys().map(|(id, _)| *id).collect();
        ids.len()
    }
}

struct Story {
    world: World,
    leader: usize,
    away: usize,
    /// The third one, which is level with the leader.
    feeder: usize,
    chunks: Rc<RefCell<Chunks>>,
}

/// A follower that comes back to a leader whose log begins behind it, with some two seconds of snapshot to come.
/// `lose` decides which messages are lost.
fn story(mut lose: impl FnMut(&Passing<'_>) -> bool + 'static) -> Story {
    let mut setup = Setup::new(3).log_bytes(4_000);
    setup.plan.store.snapshot_chunk_bytes = 1_000;
    setup.plan.store.snapshot_bytes_per_second = RATE;
    let mut world = setup.start();
    let leader = world.await_leader(1).unwrap();
    let away = (leader + 1) % 3;
    world.isolate(away);
    let client = world.client("a");
    world.limit_client(client, &[leader]);
    for key in 0..KEYS {
        let call = Call::put(format!("k{key}"), vec![b'v'; VALUE_BYTES]);
        assert!(world.ask(client, call).unwrap().is_done());
    }
    world.run_for(SECOND).unwrap();
    assert!(world.log_kept(leader, 1).unwrap().0 < 10_000, "the log is cut");
    let chunks = Rc::new(RefCell::new(Chunks::default()));
    let seen = Rc::clone(&chunks);
    world.filter(move |passing| {
        if let PeerMessage::SnapshotChunk(chunk) = passing.message {
            let mut seen = seen.borrow_mut();
            seen.senders.insert(passing.from);
            *seen.sent.entry((chunk.id, chunk.seq)).or_default() += 1;
            let began = seen.span_us.map_or(passing.now_us, |(began, _)| began);
            seen.span_us = Some((began, passing.now_us));
        }
        if lose(passing) {
            Verdict::Drop
        } else {
            Verdict::Pass
        }
    });
    world.rejoin(away);
    Story {
        world,
        leader,
        away,
        feeder: (leader + 2) % 3,
        chunks,
    }
}

impl Story {
    fn wait_for_chunks(&mut self, count: usize) {
        let chunks = Rc::clone(&self.chunks);
        self.world
            .wait_until("chunks are sent", 10 * SECOND, |_| {
                chunks.borrow().sent.len() >= count
            })
            .unwrap();
    }

    fn end(mut self) -> World {
        let away = self.away;
        self.world
            .wait_until("the snapshot is installed", 30 * SECOND, |world| {
                world
                    .counters(away)
                    .is_some_and(|counters| counters.snapshots_installed > 0)
            })
            .unwrap();
        self.world.await_equal(1, 5 * SECOND).unwrap();
        let value = self.world.local_value(away, 1, b"k77").unwrap().unwrap();
        assert!(value.ends_with(&[b'v'; VALUE_BYTES]));
        let counters = self.world.counters(away).unwrap();
        assert_eq!(counters.snapshots_installed, 1);
        self.world.heal_and_check().unwrap();
        self.world
    }
}

/// Much more is written while the snapshot travels than the log keeps otherwise. The log waits for the follower, which
/// needs no second snapshot; afterwards it is cut.
#[test]
fn the_log_behind_a_snapshot_stays_until_the_follower_is_level() {
    let mut story = story(|_| false);
    story.wait_for_chunks(10);
    let (leader, client) = (story.leader, story.world.client("b"));
    story.world.limit_client(client, &[leader]);
    let kept = |world: &World| world.log_kept(leader, 1).unwrap().0;
    for key in 0..40 {
        let call = Call::put(format!("m{key}"), vec![b'w'; VALUE_BYTES]);
        assert!(story.world.ask(client, call).unwrap().is_done());
    }
    assert!(kept(&story.world) > 40_000, "{} bytes of log", kept(&story.world));
    let mut world = story.end();
    let call = Call::put("last", vec![b'w'; VALUE_BYTES]);
    assert!(world.ask(client, call).unwrap().is_done());
    world.run_for(SECOND).unwrap();
    assert!(kept(&world) < 10_000, "{} bytes of log", kept(&world));
}

#[test]
fn a_snapshot_keeps_to_its_rate_and_writes_go_on_meanwhile() {
    let mut story = story(|_| false);
    story.wait_for_chunks(10);
    let (leader, client) = (story.leader, story.world.client("b"));
    story.world.limit_client(client, &[leader]);
    let began_us = story.world.now_us();
    assert!(
        story
            .world
            .ask(client, Call::put("k1", "meanwhile"))
            .unwrap()
            .is_done()
    );
    assert!(story.world.now_us() - began_us < 100 * MILLISECOND);
    let chunks = Rc::clone(&story.chunks);
    story.end();
    let chunks = chunks.borrow();
    let bytes = (KEYS * VALUE_BYTES) as u64;
    let (began, ended) = chunks.span_us.unwrap();
    let at_full_rate_us = bytes * SECOND / RATE;
    assert!(
        ended - began >= at_full_rate_us * 9 / 10,
        "{bytes} bytes in {} us, {RATE} a second are allowed",
        ended - began
    );
    assert!(chunks.sent.values().all(|times| *times == 1), "nothing was lost");
}

#[test]
fn a_snapshot_goes_on_where_it_was_when_its_connection_breaks() {
    let mut story = story(|_| false);
    for round in 1..=3 {
        story.wait_for_chunks(round * 30);
        story.world.cut(story.feeder, story.away);
        story.world.run_for(SECOND / 2).unwrap();
        story.world.heal(story.feeder, story.away);
    }
    let (feeder, chunks) = (story.feeder, Rc::clone(&story.chunks));
    let world = story.end();
    assert_eq!(world.counters(feeder).unwrap().snapshots_begun, 1);
    let chunks = chunks.borrow();
    assert_eq!(chunks.snapshots(), 1);
    let again = chunks.sent.values().filter(|times| **times > 1).count();
    assert!(
        again <= 3 * 16,
        "{again} of {} chunks were sent again, 16 are in flight at most whenever it breaks",
        chunks.sent.len()
    );
}

#[test]
fn a_snapshot_survives_lost_chunks_and_acknowledgements() {
    let mut count = 0u32;
    let story = story(move |passing| {
        let is_its = matches!(
            passing.message,
            PeerMessage::SnapshotChunk(_) | PeerMessage::SnapshotAck(_)
        );
        count += u32::from(is_its);
        // One in eight, without a period that could fall in step with what is sent again.
        is_its && count.wrapping_mul(0x9E37_79B9) >> 29 == 0
    });
    let feeder = story.feeder;
    let world = story.end();
    let counters = world.counters(feeder).unwrap();
    assert_eq!(counters.snapshots_begun, 1);
    assert!(counters.snapshot_chunks_resent > 0, "{counters:?}");
}

#[test]
fn a_receiver_that_was_restarted_is_sent_the_snapshot_from_the_start() {
    let mut story = story(|_| false);
    story.wait_for_chunks(20);
    story.world.crash(story.away);
    story.world.start_node(story.away);
    story.world.run_for(SECOND).unwrap();
    let (leader, feeder) = (story.leader, story.feeder);
    let world = story.end();
    let begun = |node| world.counters(node).unwrap().snapshots_begun;
    assert_eq!((begun(feeder), begun(leader)), (1, 1), "then by the leader");
}

/// Found by seed 1795276288155709 of profile everything: a sender whose chunks had all been acknowledged waited for
/// ever for a receiver that died before it could say that it had installed them, and fed it nothing else.
#[test]
fn a_receiver_that_dies_behind_the_last_chunk_is_fed_again() {
    let silent = Rc::new(RefCell::new(false));
    let lost = Rc::clone(&silent);
    let mut story = story(move |passing| *lost.borrow() && passing.kind() == MessageKind::AppendResponse);
    let (leader, away) = (story.leader, story.away);
    *silent.borrow_mut() = true;
    story
        .world
        .wait_until("all chunks are staged", 10 * SECOND, |world| {
            let installed = world
                .counters(away)
                .is_some_and(|counters| counters.snapshots_installed > 0);
            installed || world.replica(away, 1).is_some_and(|replica| replica.installing)
        })
        .unwrap();
    story.world.crash(away);
    *silent.borrow_mut() = false;
    // Meanwhile the log is cut behind what was sent.
    let client = story.world.client("c");
    story.world.limit_client(client, &[leader]);
    for key in 0..20 {
        let call = Call::put(format!("m{key}"), vec![b'w'; VALUE_BYTES]);
        assert!(story.world.ask(client, call).unwrap().is_done());
    }
    story.world.start_node(away);
    story.world.run_for(SECOND).unwrap();
    story.world.await_equal(1, 30 * SECOND).unwrap();
    let begun = |node| story.world.counters(node).unwrap().snapshots_begun;
    assert_eq!((begun(story.feeder), begun(leader)), (1, 1), "then by the leader");
    story.world.heal_and_check().unwrap();
}

#[test]
fn the_snapshot_of_a_dead_sender_is_replaced_by_one_of_the_new_leader() {
    let mut story = story(|_| false);
    story.wait_for_chunks(20);
    story.world.crash(story.leader);
    let leader = story.leader;
    story.world.run_for(10 * SECOND).unwrap();
    story.world.start_node(leader);
    story.end();
}

#[test]
fn a_snapshot_comes_from_a_follower_that_is_level() {
    let story = story(|_| false);
    let (leader, feeder, chunks) = (story.leader, story.feeder, Rc::clone(&story.chunks));
    let world = story.end();
    assert_eq!(chunks.borrow().senders, BTreeSet::from([feeder]));
    let counters = world.counters(leader).unwrap();
    assert_eq!((counters.snapshots_asked, counters.snapshots_begun), (1, 0));
    assert_eq!(counters.snapshots_sent, 1, "the leader knows that it arrived");
    assert_eq!(world.counters(feeder).unwrap().snapshots_fed, 1);
}

#[test]
fn a_leader_sends_the_snapshot_itself_when_the_follower_dies() {
    let mut story = story(|_| false);
    story.wait_for_chunks(20);
    story.world.crash(story.feeder);
    let (leader, feeder, chunks) = (story.leader, story.feeder, Rc::clone(&story.chunks));
    story
        .world
        .wait_until("the leader sends", SECOND, |_| {
            chunks.borrow().senders.contains(&leader)
        })
        .unwrap();
    story.world.run_for(5 * SECOND).unwrap();
    story.world.start_node(feeder);
    let world = story.end();
    assert_eq!(world.counters(leader).unwrap().snapshots_begun, 1);
}

#[test]
fn a_leader_sends_the_snapshot_itself_when_the_follower_is_cut_off() {
    let mut story = story(|_| false);
    story.wait_for_chunks(20);
    story.world.cut(story.leader, story.feeder);
    let (leader, chunks) = (story.leader, Rc::clone(&story.chunks));
    story.end();
    assert!(chunks.borrow().senders.contains(&leader));
}

#[test]
fn a_leader_sends_the_snapshot_itself_when_it_hears_nothing_of_the_follower() {
    let mut story = story(|passing| {
        matches!(
            passing.kind(),
            MessageKind::SnapshotRequest | MessageKind::SnapshotReport
        )
    });
    let (leader, chunks) = (story.leader, Rc::clone(&story.chunks));
    story
        .world
        .wait_until("the leader sends", 10 * SECOND, |_| {
            chunks.borrow().senders.contains(&leader)
        })
        .unwrap();
    story.end();
    assert_eq!(chunks.borrow().snapshots(), 1, "nobody else did");
}
