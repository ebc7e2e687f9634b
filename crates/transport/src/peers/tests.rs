//! What needs a look inside: limits too large to be reached from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::task::Poll as Readiness;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use quorate_proto::{Answer, Outcome, Response};
use quorate_storage::{ClusterId, Identity};

use super::*;
use crate::FRAME_BYTES_MAX_DEFAULT;

fn bind(store: u64, addresses: &[(u64, &str)], resolver: Box<dyn Resolve>) -> (Peers, Poll) {
    let poll = Poll::new().unwrap();
    let config = PeerConfig {
        identity: Identity {
            cluster: ClusterId(1),
            store: StoreId(store),
            incarnation: Incarnation(store.into()),
        },
        process: store,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        addresses: addresses
            .iter()
            .map(|&(id, address)| (StoreId(id), address.to_owned()))
            .collect(),
        client_address: String::new(),
        http_address: String::new(),
        frame_bytes_max: FRAME_BYTES_MAX_DEFAULT,
        first_token: 10,
    };
    let registry = poll.registry().try_clone().unwrap();
    (
        Peers::bind_with_resolver(config, BTreeMap::new(), registry, resolver).unwrap(),
        poll,
    )
}

/// Rounds of both until the condition holds; the clock gains 10 ms with each.
fn until(
    nodes: &mut [(Peers, Poll)],
    now_us: &mut u64,
    mut condition: impl FnMut(&mut [(Peers, Poll)]) -> bool,
) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut events = Events::with_capacity(16);
    while !condition(nodes) {
        assert!(Instant::now() < deadline, "waited in vain");
        *now_us += 10_000;
        for (peers, poll) in &mut *nodes {
            poll.poll(&mut events, Some(Duration::from_millis(1))).unwrap();
            for event in &events {
                peers.on_event(event, *now_us, &mut vec![]);
            }
            peers.on_timer(*now_us, &mut vec![]);
        }
    }
}

fn message(length: usize) -> PeerMessage {
    let outcome = Outcome::Done(Answer::Bulk(vec![0; length].into()));
    PeerMessage::Response(Response { id: 1, outcome })
}

/// The pair of stores 1 and 2, connected.
fn pair(now_us: &mut u64) -> [(Peers, Poll); 2] {
    let first = bind(1, &[], Box::new(SystemResolver::default()));
    let address = first.0.local_addr().unwrap().to_string();
    let mut nodes = [
        first,
        bind(2, &[(1, &address)], Box::new(SystemResolver::default())),
    ];
    until(&mut nodes, now_us, |n| {
        n[0].0.is_up(StoreId(2)) && n[1].0.is_up(StoreId(1))
    });
    nodes
}

/// Readiness is reported at its edges: what a bounded read leaves behind must be reported again although
/// nothing new comes in.
#[test]
fn what_a_turn_leaves_unread_is_read_in_the_next() {
    let mut now_us = 0;
    let mut nodes = pair(&mut now_us);
    // Two parts, each within what a socket takes at once, so that the kernels have nothing left to exchange.
    // The first uses up part of the receive buffer, so that the second does not fit the rest of it.
    for count in [30, 60] {
        let (sender, _) = &mut nodes[0];
        for _ in 0..count {
            assert!(sender.send(StoreId(2), Channel::Raft, &message(1_000)));
        }
        sender.flush(&mut vec![]);
        assert_eq!(sender.pending_bytes(StoreId(2), Channel::Raft), 0);
        nodes[1].0.read_bytes_max = 1;
        let wanted = nodes[1].0.stats().messages_in + count;
        // The sender stays still from here on.
        until(&mut nodes[1..], &mut now_us, |n| {
            n[0].0.stats().messages_in == wanted
        });
    }
}

#[test]
fn a_peer_that_takes_nothing_is_dropped_before_memory_runs_out() {
    let mut now_us = 0;
    let mut nodes = pair(&mut now_us);
    let (peers, _) = &mut nodes[0];
    peers.pending_bytes_max = 1 << 20;
    let (mut out, mut sent) = (vec![], 0);
    while peers.send(StoreId(2), Channel::Raft, &message(100_000)) {
        assert!(out.is_empty());
        peers.flush(&mut out);
        sent += 1;
        assert!(sent < 10_000, "no bound");
    }
    assert!(
        !peers.is_up(StoreId(2)),
        "refuses at once, before the flush says so"
    );
    peers.flush(&mut out);
    assert_eq!(out, [PeerEvent::Down { store: StoreId(2) }]);
    until(&mut nodes, &mut now_us, |n| {
        n[0].0.is_up(StoreId(2)) && n[1].0.is_up(StoreId(1))
    });
}

/// Knows a name by steps: not yet, an error, a wrong address, the right one.
struct Steps(u32, SocketAddr, SocketAddr);

impl Resolve for Steps {
    fn resolve(&mut self, address: &str) -> Readiness<io::Result<Vec<SocketAddr>>> {
        assert_eq!(address, "first.example:7");
        self.0 += 1;
        match self.0 {
            1..5 => Readiness::Pending,
            5 => Readiness::Ready(Err(io::ErrorKind::NotFound.into())),
            6 => Readiness::Ready(Ok(vec![])),
            7..10 => Readiness::Ready(Ok(vec![self.1])),
            _ => Readiness::Ready(Ok(vec![self.1, self.2])),
        }
    }
}

#[test]
fn names_are_resolved_again_at_every_attempt() {
    let first = bind(1, &[], Box::new(SystemResolver::default()));
    // A port that nobody listens on: it was given out once and is free again.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let steps = Steps(0, nobody, first.0.local_addr().unwrap());
    let mut nodes = [first, bind(2, &[(1, "first.example:7")], Box::new(steps))];
    until(&mut nodes, &mut 0, |n| {
        n[0].0.is_up(StoreId(2)) && n[1].0.is_up(StoreId(1))
    });
}
