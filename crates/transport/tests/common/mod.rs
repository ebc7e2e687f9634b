//! Nodes on loopback sockets, driven by one thread and a clock that runs by rounds, so that waits of seconds
//! cost nothing and no test measures time.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use quorate_proto::{Answer, Outcome, PeerMessage, Response};
use quorate_storage::{ClusterId, Identity, Incarnation, StoreId};
use quorate_transport::{Channel, FRAME_BYTES_MAX_DEFAULT, PeerConfig, PeerEvent, Peers};

pub(crate) const FIRST_TOKEN: usize = 1000;
/// What the clock gains with each round.
pub(crate) const ROUND_US: u64 = 20_000;
/// Long enough for the slowest machine; a test that comes here has failed.
const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) struct Node {
    pub(crate) peers: Peers,
    poll: Poll,
    /// What happened and was not looked at yet.
    pub(crate) events: Vec<PeerEvent>,
    /// Does not read its sockets.
    pub(crate) asleep: bool,
}

#[derive(Default)]
pub(crate) struct Net {
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) now_us: u64,
}

pub(crate) fn identity(store: u64) -> Identity {
    Identity {
        cluster: ClusterId(77),
        store: StoreId(store),
        incarnation: Incarnation(u128::from(store) * 11),
    }
}

pub(crate) fn config(store: u64, addresses: &[(u64, SocketAddr)]) -> PeerConfig {
    PeerConfig {
        identity: identity(store),
        process: store * 1000,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        addresses: addresses
            .iter()
            .map(|&(id, address)| (StoreId(id), address.to_string()))
            .collect(),
        client_address: format!("client-{store}:1"),
        http_address: format!("http-{store}:2"),
        frame_bytes_max: FRAME_BYTES_MAX_DEFAULT,
        first_token: FIRST_TOKEN,
    }
}

pub(crate) fn response(id: u64, length: usize) -> PeerMessage {
    let value = vec![id as u8; length].into();
    PeerMessage::Response(Response {
        id,
        outcome: Outcome::Done(Answer::Bulk(value)),
    })
}

impl Net {
    /// Adds a node with the default configuration, which knows the ones that are there already.
    pub(crate) fn add(&mut self, store: u64) -> SocketAddr {
        let addresses: Vec<_> = self
            .nodes
            .iter()
            .map(|(&id, node)| (id, node.address()))
            .collect();
        self.add_with(config(store, &addresses), BTreeMap::new())
    }

    pub(crate) fn add_with(
        &mut self,
        config: PeerConfig,
        bindings: BTreeMap<StoreId, Incarnation>,
    ) -> SocketAddr {
        let poll = Poll::new().expect("poll");
        let registry = poll.registry().try_clone().expect("registry");
        let store = config.identity.store.0;
        let peers = Peers::bind(config, bindings, registry).expect("bind");
        let node = Node {
            peers,
            poll,
            events: vec![],
            asleep: false,
        };
        let address = node.address();
        self.nodes.insert(store, node);
        address
    }

    pub(crate) fn node(&mut self, store: u64) -> &mut Node {
        self.nodes.get_mut(&store).expect("node")
    }

    /// One round of all nodes.
    pub(crate) fn round(&mut self) {
        self.now_us += ROUND_US;
        let mut events = Events::with_capacity(64);
        for node in self.nodes.values_mut().filter(|n| !n.asleep) {
            node.poll
                .poll(&mut events, Some(Duration::from_millis(1)))
                .expect("poll");
            for event in &events {
                assert!(node.peers.owns(event.token()));
                node.peers.on_event(event, self.now_us, &mut node.events);
            }
            node.peers.on_timer(self.now_us, &mut node.events);
            node.peers.flush(&mut node.events);
        }
    }

    /// Rounds until the condition holds.
    pub(crate) fn until(&mut self, what: &str, mut condition: impl FnMut(&mut Net) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition(self) {
            assert!(
                Instant::now() < deadline,
                "waited in vain for: {what}; {}",
                self.describe()
            );
            self.round();
        }
    }

    pub(crate) fn rounds(&mut self, count: usize) {
        (0..count).for_each(|_| self.round());
    }

    /// Rounds until both channels between each two of these stores are up (the bulk one by trying it).
    pub(crate) fn until_up(&mut self, stores: &[u64]) {
        self.until("all up", |net| {
            stores.iter().all(|&a| {
                stores
                    .iter()
                    .all(|&b| a == b || net.nodes[&a].peers.is_up(StoreId(b)))
            })
        });
    }

    fn describe(&self) -> String {
        self.nodes
            .iter()
            .map(|(id, n)| format!("{id}: {:?} {:?}; ", n.events, n.peers.stats()))
            .collect()
    }
}

impl Node {
    pub(crate) fn address(&self) -> SocketAddr {
        self.peers.local_addr().expect("address")
    }

    pub(crate) fn send(&mut self, to: u64, channel: Channel, message: &PeerMessage) -> bool {
        self.peers.send(StoreId(to), channel, message)
    }

    /// Takes the messages out of the events.
    pub(crate) fn messages(&mut self) -> Vec<(u64, PeerMessage)> {
        let mut messages = vec![];
        self.events.retain(|event| match event {
            PeerEvent::Message { from, message } => {
                messages.push((from.0, message.clone()));
                false
            }
            _ => true,
        });
        messages
    }

    pub(crate) fn downs(&self, of: u64) -> usize {
        self.events
            .iter()
            .filter(|e| **e == PeerEvent::Down { store: StoreId(of) })
            .count()
    }

    /// The first refusal: store, reason, fatal.
    pub(crate) fn refused(&self) -> Option<(Option<u64>, String, bool)> {
        self.events.iter().find_map(|event| match event {
            PeerEvent::Refused { store, reason, fatal } => Some((store.map(|s| s.0), reason.clone(), *fatal)),
            _ => None,
        })
    }
}

/// A peer written by hand, byte by byte, as `docs/formats-wire.md` draws it.
pub(crate) struct ByHand(pub(crate) TcpStream);

impl ByHand {
    pub(crate) fn connect(address: SocketAddr) -> ByHand {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_nonblocking(true).expect("nonblocking");
        ByHand(stream)
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("write");
    }

    /// What came in so far is appended; true at the end of the input.
    pub(crate) fn read(&mut self, into: &mut Vec<u8>) -> bool {
        let mut room = [0; 4096];
        loop {
            match self.0.read(&mut room) {
                Ok(0) => return true,
                Ok(n) => into.extend_from_slice(&room[..n]),
                Err(e) => return e.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
    }
}

/// A handshake message: magic, kind, versions, length, checksum, body.
pub(crate) fn greeting(kind: u8, versions: (u16, u16), body: &[u8]) -> Vec<u8> {
    let mut bytes = b"QRTP".to_vec();
    bytes.push(kind);
    bytes.extend_from_slice(&versions.0.to_le_bytes());
    bytes.extend_from_slice(&versions.1.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), body);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn hello(identity: Identity, target: u64) -> Vec<u8> {
    let mut body = identity.cluster.0.to_le_bytes().to_vec();
    body.extend_from_slice(&identity.store.0.to_le_bytes());
    body.extend_from_slice(&identity.incarnation.0.to_le_bytes());
    body.extend_from_slice(&99u64.to_le_bytes());
    body.extend_from_slice(&target.to_le_bytes());
    body.push(1);
    body.extend_from_slice(&[1, 0, b'c', 1, 0, b'h']);
    body
}

/// A frame: length, checksum, checksum of those two, payload.
pub(crate) fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    let own = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&own.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}
