//! A few stores in one thread, without faults: messages arrive in order, what is written is durable at once.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use quorate_proto::{
    Answer, CommandError, ControlCommand, ControlQuery, ForwardBody, Heartbeat, Op, Order, Outcome,
    PeerMessage, Request, SetCondition, SetExpiry,
};
use quorate_raft::{HardState, Role};
use quorate_storage::engine::Engine as _;
use quorate_storage::engine::{Durability, ModelDisk, ModelEngine, Pair, View};
use quorate_storage::log::{LogOp, Recovered, RecoveredShard};
use quorate_storage::{ClusterId, Identity, Incarnation, ShardId, StoreId};
use quorate_store::rsm::{Policy, Reign, RowChanges, Said, StateMachine, Tally};
use quorate_store::{Bootstrap, FIRST, Input, Store, StoreOptions, Times, kv};

/// The one with data.
pub(crate) const SHARD: ShardId = ShardId(1);

/// Shard 0 takes no part in these tests.
struct NoController;

impl StateMachine for NoController {
    fn load(&mut self, _: &[Pair]) -> Result<(), String> {
        Ok(())
    }
    fn apply(&mut self, _: u64, command: &ControlCommand, _: &mut RowChanges) -> Answer {
        match command {
            ControlCommand::Bootstrap(_) => Answer::Ok,
            _ => Answer::Error(CommandError::NotController),
        }
    }
    fn hear(&mut self, _: Reign, _: &Heartbeat) -> Option<u64> {
        None
    }
    fn orders(&mut self, _: Reign, _: StoreId, _: &Policy) -> (Vec<Order>, Tally) {
        Default::default()
    }
    fn due(&self, _: Reign) -> Vec<ControlCommand> {
        Vec::new()
    }
    fn query(&self, _: Reign, _: &ControlQuery) -> Answer {
        Answer::Error(CommandError::NotController)
    }
    fn timestamps(&mut self, _: Reign, _: u32) -> Said {
        Said::Answer(Answer::Error(CommandError::NotController))
    }
}

pub(crate) struct Node {
    pub(crate) store: Store<ModelEngine>,
    pub(crate) disk: ModelDisk,
    durability: Box<dyn Durability>,
    /// All that was written to its log.
    pub(crate) log: Vec<LogOp>,
    /// What its peers answered to requests of [`Cluster::forward`].
    pub(crate) answers: Vec<Outcome>,
}

pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) times: Times,
    away: BTreeSet<usize>,
    /// Sees and may change what is under way.
    pub(crate) tap: Box<dyn FnMut(&mut PeerMessage)>,
    last_request: u64,
}

impl Cluster {
    /// Store 1 to `count`, one shard of data on all of them.
    pub(crate) fn new(count: u64, options: &StoreOptions) -> Self {
        let first = Bootstrap {
            cluster: ClusterId(1),
            stores: (1..=count).map(StoreId).collect(),
            shards: 1,
            replicas: count as u8,
        };
        let nodes = (1..=count)
            .map(|id| Node::format(&first, StoreId(id), options))
            .collect();
        let mut cluster = Self {
            nodes,
            times: Times {
                mono_us: 10_000_000,
                wall_ms: 1_700_000_000_000,
            },
            away: BTreeSet::new(),
            tap: Box::new(|_| {}),
            last_request: 0,
        };
        for from in 0..count as usize {
            cluster.connect(from);
        }
        cluster
    }

    fn connect(&mut self, node: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            let store = StoreId(other as u64 + 1);
            self.nodes[node]
                .store
                .handle(self.times, Input::PeerUp { store })
                .unwrap();
            let store = StoreId(node as u64 + 1);
            self.nodes[other]
                .store
                .handle(self.times, Input::PeerUp { store })
                .unwrap();
        }
        self.settle();
    }

    /// Cuts a node off, both ways.
    pub(crate) fn cut(&mut self, node: usize) {
        self.away.insert(node);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            let store = StoreId(other as u64 + 1);
            self.nodes[node]
                .store
                .handle(self.times, Input::PeerDown { store })
                .unwrap();
            let store = StoreId(node as u64 + 1);
            self.nodes[other]
                .store
                .handle(self.times, Input::PeerDown { store })
                .unwrap();
        }
        self.settle();
    }

    pub(crate) fn rejoin(&mut self, node: usize) {
        self.away.remove(&node);
        self.connect(node);
    }

    pub(crate) fn peer(&mut self, node: usize, from: u64, message: PeerMessage) {
        let from = StoreId(from);
        self.nodes[node]
            .store
            .handle(self.times, Input::Peer { from, message })
            .unwrap();
        self.settle();
    }

    /// Turns until nobody has anything to do without a tick.
    fn settle(&mut self) {
        let mut messages: VecDeque<(usize, StoreId, PeerMessage)> = VecDeque::new();
        for _ in 0..100_000 {
            for (at, node) in self.nodes.iter_mut().enumerate() {
                messages.extend(
                    node.turn(self.times)
                        .into_iter()
                        .map(|(to, message)| (at, to, message)),
                );
            }
            let Some((from, to, mut message)) = messages.pop_front() else {
                return;
            };
            let to = to.0 as usize - 1;
            if self.away.contains(&from) || self.away.contains(&to) {
                continue;
            }
            if let PeerMessage::Response(response) = message {
                self.nodes[to].answers.push(response.outcome);
                continue;
            }
            (self.tap)(&mut message);
            let input = Input::Peer {
                from: StoreId(from as u64 + 1),
                message,
            };
            self.nodes[to].store.handle(self.times, input).unwrap();
        }
        panic!("the stores never rest");
    }

    pub(crate) fn tick(&mut self, count: usize) {
        for _ in 0..count {
            self.times.mono_us += 50_000;
            self.times.wall_ms += 50;
            for node in &mut self.nodes {
                node.store.handle(self.times, Input::Tick).unwrap();
            }
            self.settle();
        }
    }

    /// Lets ticks pass until it holds.
    pub(crate) fn wait(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if holds(self) {
                return;
            }
            self.tick(1);
        }
        panic!("not in 2000 ticks: {what}");
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |node: &&Node| {
            node.store
                .status(self.times)
                .iter()
                .any(|s| s.shard == SHARD && s.role == Role::Leader)
        };
        let mut leaders = self.nodes.iter().filter(leads).map(|node| node.store.id());
        leaders
            .next()
            .filter(|_| leaders.next().is_none())
            .map(|id| id.0 as usize - 1)
    }

    pub(crate) fn wait_leader(&mut self) -> usize {
        self.wait("a leader", |cluster| {
            let leader = cluster.leader().filter(|leader| !cluster.away.contains(leader));
            leader.is_some_and(|leader| cluster.nodes[leader].store.routes()[0].leader.is_some())
        });
        self.tick(30);
        self.leader().expect("it was found")
    }

    /// What node `to` answers to a request that node `from` forwards, changed by `change` from what is right.
    pub(crate) fn forward(
        &mut self,
        from: usize,
        to: usize,
        body: ForwardBody,
        change: impl Fn(&mut Request),
    ) -> Outcome {
        self.last_request += 1;
        let epoch = self.nodes[to].store.descriptor(SHARD).expect("a replica").epoch;
        let mut request = Request {
            id: (1 << 60) + self.last_request,
            shard: SHARD,
            epoch,
            timeout_ms: 5_000,
            in_order: false,
            session: None,
            body,
        };
        change(&mut request);
        let before = self.nodes[from].answers.len();
        self.peer(to, from as u64 + 1, PeerMessage::Request(request));
        self.wait("an answer", |cluster| cluster.nodes[from].answers.len() > before);
        self.nodes[from].answers.pop().expect("it is there")
    }

    pub(crate) fn put(&mut self, from: usize, to: usize, key: &str, value: &str) {
        let outcome = self.forward(from, to, put(key, value), |_| {});
        assert_eq!(outcome, Outcome::Done(Answer::Ok), "{key}");
    }
}

pub(crate) fn put(key: &str, value: &str) -> ForwardBody {
    ForwardBody::Write(Op::Set {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        expiry: SetExpiry::Clear,
        condition: SetCondition::Always,
        get: false,
    })
}

impl Node {
    fn format(first: &Bootstrap, own: StoreId, options: &StoreOptions) -> Self {
        let disk = ModelDisk::new();
        let mut engine = ModelEngine::open(&disk).unwrap();
        assert!(Store::is_unformatted(&engine).unwrap());
        first.write(&mut engine, own, &mut NoController).unwrap();
        assert!(!Store::is_unformatted(&engine).unwrap());
        let hard_state = HardState {
            term: FIRST.1,
            vote: None,
            commit: FIRST.0,
        };
        let shards = first.descriptors(own).into_iter().map(|descriptor| {
            let shard = RecoveredShard {
                hard_state,
                base: FIRST,
                ..RecoveredShard::default()
            };
            (descriptor.shard, shard)
        });
        let recovered = Recovered {
            shards: shards.collect(),
            ..Recovered::default()
        };
        let identity = Identity {
            cluster: first.cluster,
            store: own,
            incarnation: Incarnation(u128::from(own.0)),
        };
        let mut durability = engine.durability();
        durability.make_durable().unwrap();
        let options = StoreOptions {
            seed: own.0,
            ..options.clone()
        };
        let machine = Box::new(NoController);
        let store = Store::open(
            identity,
            own.0,
            options,
            engine,
            recovered,
            machine,
            Times::default(),
        )
        .unwrap();
        Self {
            store,
            disk,
            durability,
            log: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Runs its turns until it has no work; returns what it sends.
    fn turn(&mut self, times: Times) -> Vec<(StoreId, PeerMessage)> {
        let mut sends = Vec::new();
        loop {
            self.store.advance(times).unwrap();
            self.store.apply(times).unwrap();
            self.store.validate();
            let effects = self.store.effects();
            sends.append(&mut effects.sends);
            effects.replies.clear();
            let mut inputs = Vec::new();
            for (token, batch) in std::mem::take(&mut effects.log) {
                self.log.extend(batch.ops);
                inputs.push(Input::LogWritten { token });
            }
            if let Some(up_to) = effects.make_durable.take() {
                self.durability.make_durable().unwrap();
                inputs.push(Input::EngineDurable { up_to });
            }
            if inputs.is_empty() && !self.store.has_work() {
                return sends;
            }
            for input in inputs {
                self.store.handle(times, input).unwrap();
            }
        }
    }

    /// All that the engine holds whose key begins so.
    pub(crate) fn keys(&self, prefix: &[u8]) -> Vec<Bytes> {
        let pairs = self.store.engine().scan(prefix, &[]);
        let keys = pairs.map(|pair| pair.unwrap().0);
        keys.take_while(|key| key.starts_with(prefix)).collect()
    }

    /// How many pairs of data the engine holds, whatever space they are in.
    pub(crate) fn data_pairs(&self) -> usize {
        let (start, _) = kv::data_range(kv::Space(0));
        self.keys(&start[..1]).len()
    }

    pub(crate) fn holds(&self) -> bool {
        self.store.descriptor(SHARD).is_some()
    }
}
