use std::net::{SocketAddr, TcpStream as Client};
use std::time::Instant;

use bytes::Bytes;
use mio::{Events, Poll};
use quorate_proto::Answer;
use quorate_storage::{ClusterId, StoreId};
use quorate_store::{ClientOutcome, ClientRequest};

use super::*;
use crate::client::{ClientContext, ClientLimits, NodeCommand, NodeStats, NodeView};

/// The reactor's client half, on real sockets. Requests stay until the test answers them.
struct Node {
    poll: Poll,
    listener: mio::net::TcpListener,
    addr: SocketAddr,
    connections: Connections,
    view: NodeView,
    requests: Vec<ClientRequest>,
    node_commands: Vec<NodeCommand>,
}

impl Node {
    fn new(limits: ClientLimits) -> Node {
        let listener = mio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Node {
            poll: Poll::new().unwrap(),
            addr: listener.local_addr().unwrap(),
            listener,
            connections: Connections::new(10),
            view: NodeView {
                store: StoreId(1),
                cluster: ClusterId(1),
                mode_default: RouteMode::Proxy,
                routes: Vec::new(),
                stores: Vec::new(),
                stats: NodeStats::default(),
                config: limits,
                secret: 1,
                version: "test",
                pid: 1,
                tcp_port: 1,
            },
            requests: Vec::new(),
            node_commands: Vec::new(),
        }
    }

    fn connect(&mut self) -> Client {
        let client = Client::connect(self.addr).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // Behind `connect`, so it is there; the listener does not block, though.
        let (socket, from) = loop {
            match self.listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                accepted => break accepted.unwrap(),
            }
        };
        let registry = self.poll.registry();
        self.connections
            .add(socket, registry, from.to_string(), RouteMode::Proxy, 0)
            .unwrap();
        client
    }

    fn process(&mut self, at: usize) {
        if let Some(connection) = self.connections.get(at) {
            let mut context = ClientContext {
                node: &self.view,
                wall_ms: 0,
                requests: &mut self.requests,
                node_commands: &mut self.node_commands,
            };
            connection.session.process(&mut context);
        }
        self.connections.touch(at);
    }

    /// One turn, as the reactor does it. Waits for events only if nothing can go on without one. Returns whether
    /// anything happened.
    fn turn(&mut self, wait: Duration) -> bool {
        let mut events = Events::with_capacity(64);
        let wait = if self.connections.unfinished() {
            Duration::ZERO
        } else {
            wait
        };
        self.poll.poll(&mut events, Some(wait)).unwrap();
        events.iter().for_each(|event| self.connections.note(event));
        let mut queued = Vec::new();
        self.connections.take_queued(&mut queued);
        for at in queued {
            if self.connections.has_input(at) {
                self.process(at);
            }
            if self.connections.read(at) {
                self.process(at);
            }
        }
        self.connections.flush(self.poll.registry());
        wait.is_zero() || !events.is_empty()
    }

    fn turns_until(&mut self, mut done: impl FnMut(&mut Node) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "the connections do not go on"
            );
            self.turn(Duration::from_millis(20));
        }
    }

    /// Turns until nothing happens any more.
    fn settle(&mut self) {
        while self.turn(Duration::from_millis(200)) {}
    }

    /// Answers all requests so far with their ordinal numbers.
    fn answer_all(&mut self) {
        for (n, request) in std::mem::take(&mut self.requests).into_iter().enumerate() {
            let at = self
                .connections
                .place_of(ClientSession::connection_of(request.id))
                .unwrap();
            let mut context = ClientContext {
                node: &self.view,
                wall_ms: 0,
                requests: &mut self.requests,
                node_commands: &mut self.node_commands,
            };
            let outcome = ClientOutcome::Done(Answer::Bulk(Bytes::from(n.to_string())));
            self.connections
                .get(at)
                .unwrap()
                .session
                .complete(request.id, outcome, &mut context);
            self.connections.touch(at);
        }
        self.connections.flush(self.poll.registry());
    }
}

fn read_to_end(client: &mut Client) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn an_end_that_comes_with_the_data_is_not_missed() {
    let mut node = Node::new(ClientLimits::default());
    let mut client = node.connect();
    client.write_all(b"PING\r\n").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    // One event tells of both.
    std::thread::sleep(Duration::from_millis(50));
    node.turns_until(|node| node.connections.open() == 0);
    assert_eq!(read_to_end(&mut client), "+PONG\r\n");
}

#[test]
fn a_client_that_ends_its_input_still_gets_what_is_under_way() {
    let mut node = Node::new(ClientLimits::default());
    let mut client = node.connect();
    client.write_all(b"GET a\r\nGET b\r\n").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    node.settle();
    assert_eq!((node.requests.len(), node.connections.open()), (2, 1));
    node.answer_all();
    node.turns_until(|node| node.connections.open() == 0);
    assert_eq!(read_to_end(&mut client), "$1\r\n0\r\n$1\r\n1\r\n");
}

#[test]
fn a_full_session_leaves_the_rest_in_the_socket_and_goes_on_without_a_new_event() {
    let mut node = Node::new(ClientLimits {
        pipeline_depth_max: 2,
        ..ClientLimits::default()
    });
    let mut client = node.connect();
    client.write_all(b"GET a\r\nGET b\r\nGET c\r\n").unwrap();
    node.turns_until(|node| node.requests.len() == 2);
    // Its event comes and goes while the session wants nothing.
    client.write_all(b"GET d\r\nGET e\r\n").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    node.settle();
    assert_eq!(node.requests.len(), 2);
    let mut answered = 0;
    node.turns_until(|node| {
        answered += node.requests.len();
        node.answer_all();
        node.connections.open() == 0
    });
    assert_eq!(answered, 5);
    assert_eq!(read_to_end(&mut client).lines().count(), 10);
}

#[test]
fn a_client_that_sends_faster_than_it_is_served_does_not_fill_the_memory() {
    let mut node = Node::new(ClientLimits {
        pipeline_depth_max: 4,
        ..ClientLimits::default()
    });
    let mut client = node.connect();
    client.set_nonblocking(true).unwrap();
    let load = b"GET a\r\n".repeat(10_000);
    for _ in 0..200 {
        while client.write(&load).is_ok() {}
        node.answer_all();
        node.turn(Duration::ZERO);
        let connection = node.connections.get(0).unwrap();
        let held = connection.session.input().len();
        assert!(
            held <= READ_BYTES * READS_PER_TURN + load.len(),
            "{held} bytes held"
        );
    }
}

#[test]
fn replies_that_nobody_reads_stop_the_input_and_all_arrive_in_the_end() {
    let mut node = Node::new(ClientLimits {
        output_bytes_max: 100_000,
        ..ClientLimits::default()
    });
    let mut client = node.connect();
    let echo = [
        b"*2\r\n$4\r\nECHO\r\n$50000\r\n".to_vec(),
        vec![b'x'; 50_000],
        b"\r\n".to_vec(),
    ]
    .concat();
    let reply_bytes = echo.len() - b"*2\r\n$4\r\nECHO\r\n".len();
    const ECHOES: usize = 400;
    let mut sender = client.try_clone().unwrap();
    let sending = std::thread::spawn(move || (0..ECHOES).for_each(|_| sender.write_all(&echo).unwrap()));
    node.settle();
    let held = node.connections.get(0).unwrap().session.output().len();
    assert!(held > 0, "the sockets took everything, so nothing is tested");
    assert!(held < 2_000_000, "{held} bytes of replies held");
    let receiving = std::thread::spawn(move || {
        let mut replies = vec![0; ECHOES * reply_bytes];
        client.read_exact(&mut replies).unwrap();
        client
    });
    node.turns_until(|_| receiving.is_finished());
    sending.join().unwrap();
    drop(receiving.join().unwrap());
    node.turns_until(|node| node.connections.open() == 0);
}

#[test]
fn a_large_command_is_read_over_several_turns() {
    let mut node = Node::new(ClientLimits::default());
    let mut client = node.connect();
    let bytes = 3 * READ_BYTES * READS_PER_TURN;
    let sending = std::thread::spawn(move || {
        write!(client, "*2\r\n$4\r\nECHO\r\n${bytes}\r\n").unwrap();
        client.write_all(&vec![b'x'; bytes]).unwrap();
        client.write_all(b"\r\nQUIT\r\n").unwrap();
        read_to_end(&mut client).len()
    });
    node.turns_until(|_| sending.is_finished());
    let headers = format!("${bytes}\r\n").len() + 2;
    assert_eq!(sending.join().unwrap(), headers + bytes + "+OK\r\n".len());
    assert_eq!(node.connections.open(), 0);
}

#[test]
fn a_client_that_is_gone_is_closed_with_requests_under_way_and_its_id_finds_nobody() {
    let mut node = Node::new(ClientLimits::default());
    let mut client = node.connect();
    client.write_all(b"PING\r\nGET a\r\n").unwrap();
    node.turns_until(|node| node.requests.len() == 1);
    // Closing with a reply unread resets the connection.
    drop(client);
    node.turns_until(|node| node.connections.open() == 0);
    let id = ClientSession::connection_of(node.requests[0].id);
    assert_eq!(node.connections.place_of(id), None);
    let _others: Vec<Client> = (0..20).map(|_| node.connect()).collect();
    assert_eq!(node.connections.place_of(id), None);
}

#[test]
fn places_are_used_again_late_and_under_other_ids() {
    let mut node = Node::new(ClientLimits::default());
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..FREE_PLACES_MIN + 50 {
        let client = node.connect();
        let at = n % FREE_PLACES_MIN;
        assert!(
            seen.insert(node.connections.get(at).unwrap().id),
            "an id came back"
        );
        drop(client);
        node.turns_until(|node| node.connections.open() == 0);
    }
    assert_eq!(node.connections.places.len(), FREE_PLACES_MIN);
}
