//! What a script can do to a world, each thing by itself: a scenario can only be trusted if its faults happen.

use std::cell::RefCell;
use std::rc::Rc;

use quorate_sim::script::{MILLISECOND, MessageKind, Next, Passing, Verdict};
use quorate_sim::{Call, Ended, Retry, SECOND, Setup, World};

fn started(nodes: u64) -> (World, usize) {
    let mut world = Setup::new(nodes).start();
    let leader = world.await_leader(1).unwrap();
    (world, leader)
}

#[test]
fn a_partition_stops_the_smaller_side_until_it_is_healed() {
    let (mut world, leader) = started(5);
    let other = (leader + 1) % 5;
    let minority = [leader, other];
    let majority: Vec<usize> = (0..5).filter(|node| !minority.contains(node)).collect();
    world.partition(&[&minority, &majority]);
    let (cut_off, client) = (world.client("cut off"), world.client("a"));
    world.limit_client(cut_off, &minority);
    world.limit_client(client, &majority);
    let blocked = world.begin(cut_off, Call::append("k", "x").via(leader).retry(Retry::Never));
    world.run_for(SECOND / 2).unwrap();
    assert_eq!(world.ended(blocked), None, "no quorum hears of it");
    assert!(world.ask(client, Call::put("k", "1")).unwrap().is_done());
    assert_eq!(world.local_value(leader, 1, b"k").unwrap(), None);
    world.heal_network();
    world.await_equal(1, 5 * SECOND).unwrap();
    let on_old_leader = world.local_value(leader, 1, b"k").unwrap().unwrap();
    assert!(on_old_leader.starts_with(b"1"), "{on_old_leader:?}");
    world.heal_and_check().unwrap();
}

#[test]
fn a_one_way_cut_leaves_the_other_way_open() {
    let (mut world, leader) = started(3);
    let follower = (leader + 1) % 3;
    world.cut_one_way(leader, follower);
    let client = world.client("a");
    assert!(world.ask(client, Call::put("k", "1")).unwrap().is_done());
    world.run_for(SECOND / 10).unwrap();
    assert_eq!(world.local_value(follower, 1, b"k").unwrap(), None);
    world.heal(leader, follower);
    world.await_equal(1, 5 * SECOND).unwrap();
    assert_eq!(
        world.local_value(follower, 1, b"k").unwrap().as_deref(),
        Some(&b"1"[..])
    );
}

#[test]
fn a_crashed_node_stays_down_until_it_is_started() {
    let (mut world, leader) = started(3);
    world.crash(leader);
    world.run_for(10 * SECOND).unwrap();
    assert!(!world.is_up(leader));
    let next = world.await_leader(1).unwrap();
    assert_ne!(next, leader);
    world.start_node(leader);
    world.run_for(SECOND).unwrap();
    assert!(world.is_up(leader));
    world.crash_all();
    world.run_for(SECOND).unwrap();
    assert!((0..3).all(|node| !world.is_up(node)));
    world.start_all();
    world.await_leader(1).unwrap();
    world.heal_and_check().unwrap();
}

#[test]
fn a_node_that_shuts_down_hands_its_leadership_away_first() {
    let (mut world, leader) = started(3);
    world.shut_down(leader);
    let took = world
        .wait_until("another node leads", SECOND, |world| {
            world.followed_leader(1).is_some_and(|next| next != leader)
        })
        .unwrap();
    assert!(
        took < 200 * MILLISECOND,
        "faster than an election timeout: {took} us"
    );
    world
        .wait_until("it is down", SECOND, |world| !world.is_up(leader))
        .unwrap();
}

#[test]
fn leadership_goes_where_it_is_sent() {
    let (mut world, leader) = started(5);
    for to in (0..5).filter(|to| *to != leader).chain([leader]) {
        let took = world.transfer_leader(1, to).unwrap();
        assert!(
            took < 200 * MILLISECOND,
            "faster than an election timeout: {took} us"
        );
    }
    world.heal_and_check().unwrap();
}

#[test]
fn a_stalled_disk_acknowledges_nothing_until_it_works_again() {
    let mut world = Setup::new(1).start();
    world.await_leader(1).unwrap();
    world.stall_disk(0, 3 * SECOND);
    let client = world.client("a");
    let call = Call::put("k", "1").attempt_ms(10_000);
    let call = world.begin(client, call);
    world.run_for(29 * SECOND / 10).unwrap();
    assert_eq!(world.ended(call), None);
    world.run_for(SECOND / 2).unwrap();
    assert!(world.ended(call).is_some_and(Ended::is_done));
}

#[test]
fn filters_see_count_and_lose_messages_of_a_kind() {
    let (mut world, leader) = started(3);
    let lost = Rc::new(RefCell::new(0));
    let count = lost.clone();
    let filter = world.filter(move |passing: &Passing<'_>| {
        if passing.kind() == MessageKind::Append && passing.from == leader {
            *count.borrow_mut() += 1;
            return Verdict::Drop;
        }
        Verdict::Pass
    });
    let client = world.client("a");
    let call = Call::put("k", "1")
        .via(leader)
        .retry(Retry::Never)
        .attempt_ms(100);
    assert!(!world.ask(client, call).unwrap().is_done());
    assert!(*lost.borrow() > 0);
    world.unfilter(filter);
    assert!(world.ask(client, Call::put("k", "2")).unwrap().is_done());
    world.heal_and_check().unwrap();
}

#[test]
fn a_client_whose_answer_is_lost_does_not_know() {
    let mut setup = Setup::new(3);
    setup.plan.client_net.drop_answer_ppm = 1_000_000;
    let mut world = setup.start();
    world.await_leader(1).unwrap();
    let client = world.client("a");
    let call = Call::append("k", "1").retry(Retry::IfRefused);
    let ended = world.ask(client, call).unwrap();
    assert!(matches!(ended, Ended::Unknown(_)), "{ended:?}");
    assert_eq!(world.history().len(), 1);
    assert_eq!(world.history()[0].client, client);
}

#[test]
fn programs_run_side_by_side_on_an_unreliable_network() {
    let mut world = Setup::new(3).unreliable().long_reordering().start();
    let answered = Rc::new(RefCell::new(0));
    for client in 0..5 {
        let answered = answered.clone();
        let mut left = 10;
        world.spawn(
            format!("client {client}"),
            move |_: u64, ended: Option<&Ended>| {
                if let Some(ended) = ended {
                    *answered.borrow_mut() += usize::from(ended.is_done());
                    return Next::Sleep(20 * MILLISECOND);
                }
                if left == 0 {
                    return Next::End;
                }
                left -= 1;
                Call::put(format!("k{client}"), left.to_string()).into()
            },
        );
    }
    world.finish_programs(200 * SECOND).unwrap();
    assert_eq!(*answered.borrow(), 50, "retried until they were answered");
    world.heal_and_check().unwrap();
}

#[test]
fn bytes_and_messages_are_counted() {
    let (mut world, leader) = started(3);
    world.count_bytes();
    let other = (leader + 1) % 3;
    let before = world.traffic(leader, other);
    let client = world.client("a");
    world.ask(client, Call::put("k", vec![7; 5000])).unwrap();
    let after = world.traffic(leader, other);
    assert!(after.messages > before.messages && after.bytes - before.bytes > 5000);
    assert!(world.snapshot_bytes(leader, 1).unwrap().unwrap() > 5000);
    let (bytes, entries) = world.log_kept(leader, 1).unwrap();
    assert!(bytes > 5000 && entries >= 2, "{bytes} bytes, {entries} entries");
}

#[test]
fn the_same_script_twice_gives_the_same_trace() {
    let run = || {
        let mut world = Setup::new(3).seed(7).unreliable().start();
        let leader = world.await_leader(1).unwrap();
        let client = world.client("a");
        world.begin(client, Call::put("k", "1"));
        world.isolate(leader);
        world.run_for(3 * SECOND).unwrap();
        world.rejoin(leader);
        world.heal_and_check().unwrap();
        world.digest()
    };
    assert_eq!(run(), run());
}
