//! A node without sockets and consensus: sessions on the real key-value state machine.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

pub mod redis;

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_proto::{Answer, ForwardBody, Op};
use quorate_server::client::{
    ClientContext, ClientLimits, ClientSession, NodeCommand, NodeStats, NodeView, StoreInfo,
};
use quorate_storage::engine::{Engine, ModelDisk, ModelEngine, View, WriteBatch};
use quorate_storage::{ClusterId, ShardId, StoreId};
use quorate_store::kv::{self, Read, ReadTime, Space, Txn};
use quorate_store::{ClientOutcome, ClientRequest, RouteMode, ShardRoute, Target};

const SPACE: Space = Space(1);

/// The state of all shards, in one engine.
pub struct FakeStore {
    engine: ModelEngine,
    routes: Vec<ShardRoute>,
}

impl FakeStore {
    pub fn new(routes: Vec<ShardRoute>) -> Self {
        FakeStore {
            engine: ModelEngine::open(&ModelDisk::new()).unwrap(),
            routes,
        }
    }

    pub fn answer(&mut self, request: &ClientRequest, wall_ms: u64) -> Answer {
        match &request.body {
            ForwardBody::Manage(_) => Answer::Ok,
            ForwardBody::Read(query) => {
                let time = ReadTime {
                    shard_ms: wall_ms,
                    wall_ms,
                };
                match kv::query(&self.engine, SPACE, time, query).unwrap() {
                    Read::Answer(answer) => answer,
                    Read::ExpiredByWall => unreachable!("both times are the same"),
                }
            }
            ForwardBody::Write(Op::Flush) => {
                let Target::Shard(shard) = request.target else {
                    panic!("flushes go to shards")
                };
                let route = self.routes.iter().find(|route| route.shard == shard).unwrap();
                let (start, end) = kv::data_range(SPACE);
                let keys: Vec<Bytes> = self
                    .engine
                    .scan(&start, &end)
                    .map(|pair| pair.unwrap().0)
                    .collect();
                let slot_of = |key: &Bytes| u16::from_be_bytes([key[5], key[6]]);
                let held = keys
                    .into_iter()
                    .filter(|key| (route.start_slot..route.end_slot).contains(&slot_of(key)));
                self.engine
                    .write(WriteBatch {
                        changes: held.map(|key| (key, None)).collect(),
                    })
                    .unwrap();
                Answer::Ok
            }
            ForwardBody::Write(op) => {
                let mut txn = Txn::new(&self.engine);
                let op = kv::resolve(op.clone(), wall_ms);
                let answer = kv::apply(&mut txn, SPACE, wall_ms, &op).unwrap();
                let batch = txn.into_batch();
                self.engine.write(batch).unwrap();
                answer
            }
        }
    }
}

/// Three stores; shard 1 + i begins at `starts[i]` and is led by store 1 + i % 3.
pub fn view(starts: &[u16]) -> NodeView {
    let end = |at: usize| starts.get(at + 1).copied().unwrap_or(16384);
    let route = |(at, start): (usize, &u16)| ShardRoute {
        shard: ShardId(1 + at as u64),
        start_slot: *start,
        end_slot: end(at),
        leader: Some(StoreId(1 + at as u64 % 3)),
        stores: vec![StoreId(1), StoreId(2), StoreId(3)],
    };
    let store = |id: u64| StoreInfo {
        id: StoreId(id),
        client_host: format!("10.0.0.{id}"),
        client_port: 7000 + id as u16,
        peer_port: 8000 + id as u16,
        http_port: 9000 + id as u16,
        up: true,
    };
    NodeView {
        store: StoreId(1),
        cluster: ClusterId(0x1234_5678_9abc_def0_0fed_cba9_8765_4321),
        mode_default: RouteMode::Proxy,
        routes: starts.iter().enumerate().map(route).collect(),
        stores: (1..=3).map(store).collect(),
        stats: NodeStats::default(),
        config: ClientLimits::default(),
        secret: 1,
        version: "0.1.0",
        pid: 1,
        tcp_port: 7001,
    }
}

/// A session and what surrounds it.
pub struct Harness {
    pub view: NodeView,
    pub session: ClientSession,
    pub requests: Vec<ClientRequest>,
    pub node_commands: Vec<NodeCommand>,
    pub wall_ms: u64,
}

impl Harness {
    pub fn new(view: NodeView, id: u32) -> Self {
        let session = ClientSession::new(id, "127.0.0.1:5555".into(), view.mode_default, 1_000);
        Harness {
            view,
            session,
            requests: Vec::new(),
            node_commands: Vec::new(),
            wall_ms: 1_700_000_000_000,
        }
    }

    /// Calls the session with a context.
    pub fn with(&mut self, call: impl FnOnce(&mut ClientSession, &mut ClientContext<'_>)) {
        let mut context = ClientContext {
            node: &self.view,
            wall_ms: self.wall_ms,
            requests: &mut self.requests,
            node_commands: &mut self.node_commands,
        };
        call(&mut self.session, &mut context);
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.session.input().extend_from_slice(bytes);
        self.with(ClientSession::process);
        self.go_on();
    }

    /// Sends an inline command, which then is under way or answered.
    pub fn line(&mut self, line: &str) {
        self.send(format!("{line}\r\n").as_bytes());
    }

    pub fn complete(&mut self, request: &ClientRequest, outcome: ClientOutcome) {
        self.with(|session, context| session.complete(request.id, outcome, context));
        self.go_on();
    }

    fn go_on(&mut self) {
        while self.session.paused() {
            self.with(ClientSession::process);
        }
    }

    /// Takes the requests that were pushed.
    pub fn take(&mut self) -> Vec<ClientRequest> {
        std::mem::take(&mut self.requests)
    }

    /// What is ready to be sent.
    pub fn output(&mut self) -> String {
        String::from_utf8_lossy(&self.session.output().split()).into_owned()
    }

    /// Answers requests in order until none is left.
    pub fn settle(&mut self, store: &mut FakeStore) {
        let mut queue = VecDeque::from(self.take());
        while let Some(request) = queue.pop_front() {
            let answer = store.answer(&request, self.wall_ms);
            self.complete(&request, ClientOutcome::Done(answer));
            queue.extend(self.take());
        }
    }

    /// The reply to one inline command.
    pub fn ask(&mut self, store: &mut FakeStore, line: &str) -> String {
        self.line(line);
        self.settle(store);
        self.output()
    }
}

/// A request as an array of bulk strings.
pub fn encode(args: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        bytes.extend_from_slice(arg);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Xorshift: the same numbers for the same seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}
