//! Connecting, exchanging, losing and finding each other again.

mod common;

use std::collections::BTreeMap;

use common::{Net, config, identity, response};
use quorate_proto::{PeerMessage, RaftEnvelope};
use quorate_raft::{Index, Message, MessageBody, ReplicaId, Term};
use quorate_storage::{ShardId, StoreId};
use quorate_transport::{Channel, PeerEvent};

#[test]
fn three_stores_find_each_other_and_say_who_they_are() {
    let mut net = Net::default();
    for store in 1..=3 {
        net.add(store);
    }
    net.until_up(&[1, 2, 3]);
    for a in 1..=3u64 {
        for b in (1..=3).filter(|&b| b != a) {
            let (store, incarnation) = (StoreId(b), identity(b).incarnation);
            let up = PeerEvent::Up {
                store,
                process: b * 1000,
                incarnation,
                client_address: format!("client-{b}:1"),
                http_address: format!("http-{b}:2"),
            };
            let events = &net.node(a).events;
            let bound = events
                .iter()
                .position(|e| *e == PeerEvent::Bind { store, incarnation });
            let up = events.iter().position(|e| *e == up);
            assert!(bound.is_some() && up > bound, "bound before up: {events:?}");
        }
    }
}

#[test]
fn recorded_bindings_are_not_reported_again() {
    let mut net = Net::default();
    let bound = |store| BTreeMap::from([(StoreId(store), identity(store).incarnation)]);
    let address = net.add_with(config(1, &[]), bound(2));
    net.add_with(config(2, &[(1, address)]), bound(1));
    net.until_up(&[1, 2]);
    for store in [1, 2] {
        assert!(
            !net.node(store)
                .events
                .iter()
                .any(|e| matches!(e, PeerEvent::Bind { .. }))
        );
    }
}

#[test]
fn messages_arrive_in_order_both_ways() {
    let mut net = Net::default();
    net.add(1);
    net.add(2);
    assert!(
        !net.node(1).send(2, Channel::Raft, &response(0, 1)),
        "not connected: dropped"
    );
    net.until_up(&[1, 2]);
    let raft = PeerMessage::Raft(RaftEnvelope {
        shard: ShardId(4),
        sent_at_us: 5,
        message: Message {
            from: ReplicaId(1),
            to: ReplicaId(2),
            term: Term(3),
            body: MessageBody::Heartbeat {
                commit: Index(8),
                context: None,
            },
        },
    });
    for id in 0..100 {
        for (from, to) in [(1, 2), (2, 1)] {
            assert!(net.node(from).send(to, Channel::Raft, &response(id, id as usize)));
            assert!(net.node(from).send(to, Channel::Raft, &raft));
        }
    }
    let before = net.node(1).peers.stats().frames_out;
    net.node(1).peers.flush(&mut vec![]);
    assert_eq!(
        net.node(1).peers.stats().frames_out,
        before + 1,
        "a turn's messages are one frame"
    );
    for (from, to) in [(1, 2), (2, 1)] {
        let mut got = vec![];
        net.until("200 messages", |net| {
            got.extend(net.node(to).messages());
            got.len() >= 200
        });
        for (position, message) in got.iter().enumerate() {
            let id = position as u64 / 2;
            let expected = if position % 2 == 0 {
                response(id, id as usize)
            } else {
                raft.clone()
            };
            assert_eq!(*message, (from, expected));
        }
    }
}

#[test]
fn a_lost_peer_is_reported_and_found_again_as_another_process() {
    let mut net = Net::default();
    let address = net.add(1);
    net.add(2);
    net.until_up(&[1, 2]);
    net.nodes.remove(&1);
    net.until("down", |net| net.node(2).downs(1) == 1);
    assert!(!net.node(2).peers.is_up(StoreId(1)));
    net.rounds(200); // Refused connections in the meantime: the waits grow to a second.
    let mut again = config(1, &[]);
    (again.listen, again.process) = (address, 1001);
    net.add_with(again, BTreeMap::new());
    net.node(2).events.clear();
    net.until_up(&[1, 2]);
    let events = &net.node(2).events;
    assert!(
        events
            .iter()
            .any(|e| matches!(e, PeerEvent::Up { process: 1001, .. })),
        "{events:?}"
    );
    net.until("both channels again", |net| {
        net.node(2).peers.stats().reconnects == 2
    });
    net.node(1).send(2, Channel::Raft, &response(1, 10));
    net.until("a message", |net| net.node(2).messages().len() == 1);
}

#[test]
fn a_restarted_dialer_takes_the_place_of_its_dead_connection() {
    let mut net = Net::default();
    let address = net.add(1);
    net.add(2);
    net.until_up(&[1, 2]);
    // Its connections stay open at our end, as after a power failure that sends no FIN.
    let dead = net.nodes.remove(&2);
    net.node(1).events.clear();
    let mut again = config(2, &[(1, address)]);
    again.process = 2001;
    net.add_with(again, BTreeMap::new());
    net.until("the new process", |net| {
        net.node(1)
            .events
            .iter()
            .any(|e| matches!(e, PeerEvent::Up { process: 2001, .. }))
    });
    let events = &net.node(1).events;
    let down = events.iter().position(|e| matches!(e, PeerEvent::Down { .. }));
    let up = events.iter().position(|e| matches!(e, PeerEvent::Up { .. }));
    assert!(down.is_some() && down < up, "down before up: {events:?}");
    assert_eq!(net.node(1).downs(2), 1);
    drop(dead);
}

#[test]
fn a_silent_peer_is_dropped_and_an_idle_one_is_not() {
    let mut net = Net::default();
    for store in 1..=3 {
        net.add(store);
    }
    net.until_up(&[1, 2, 3]);
    let seconds = |s: u64| (s * 1_000_000 / common::ROUND_US) as usize;
    net.rounds(seconds(10));
    assert_eq!(
        (net.node(1).downs(2), net.node(1).downs(3), net.node(3).downs(1)),
        (0, 0, 0),
        "pings keep it up"
    );
    net.node(3).asleep = true;
    net.rounds(seconds(4));
    assert_eq!(
        (net.node(1).downs(2), net.node(1).downs(3), net.node(2).downs(3)),
        (0, 1, 1)
    );
    // Our own pause is not the others' silence.
    net.node(3).asleep = false;
    net.until_up(&[1, 2, 3]);
    let downs = net.node(3).downs(1);
    net.now_us += 60_000_000;
    net.rounds(100);
    assert_eq!((net.node(3).downs(1), net.node(1).downs(2)), (downs, 0));
}

#[test]
fn a_burst_beyond_all_socket_buffers_arrives_whole() {
    let mut net = Net::default();
    net.add(1);
    net.add(2);
    net.until_up(&[1, 2]);
    const COUNT: u64 = 40_000;
    let length = |id: u64| (id * 7919 % 2000) as usize;
    net.node(2).asleep = true;
    for id in 0..COUNT {
        assert!(net.node(1).send(2, Channel::Raft, &response(id, length(id))));
        if id % 100 == 0 {
            net.node(1).peers.flush(&mut vec![]);
        }
    }
    net.rounds(3);
    assert!(
        net.node(1).peers.pending_bytes(StoreId(2), Channel::Raft) > 1 << 20,
        "the sockets took it all"
    );
    net.node(2).asleep = false;
    let mut next = 0;
    net.until("the burst", |net| {
        for (from, message) in net.node(2).messages() {
            assert_eq!((from, message), (1, response(next, length(next))));
            next += 1;
        }
        next == COUNT
    });
    assert_eq!(net.node(1).peers.pending_bytes(StoreId(2), Channel::Raft), 0);
    assert_eq!(net.node(2).downs(1), 0);
}

#[test]
fn the_bulk_channel_does_not_stand_in_the_way() {
    let mut net = Net::default();
    net.add(1);
    net.add(2);
    net.until_up(&[1, 2]);
    let mut sent = 0;
    net.until("the bulk channel", |net| {
        sent += u64::from(net.node(1).send(2, Channel::Bulk, &response(0, 8 << 20)));
        sent == 8
    });
    net.node(1).send(2, Channel::Raft, &response(7, 1));
    let mut got = vec![];
    net.until("everything", |net| {
        for (_, message) in net.node(2).messages() {
            let PeerMessage::Response(response) = message else {
                panic!("not sent: {message:?}")
            };
            got.push(response.id);
        }
        got.len() == 9
    });
    assert!(got[8] != 7, "the short message waited behind 64 MiB: {got:?}");
    assert_eq!(net.node(2).downs(1), 0);
}
