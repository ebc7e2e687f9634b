//! The clients: what they ask, what they are told, and the judgement of both.
//!
//! A client sends one request and waits for its answer, or pipelines several, mostly on one key; more of them about
//! when a fault strikes. It asks one node, and changes nodes when it likes or must. Every shard has keys of each kind
//! that can be judged as it grows (see `judge`); some keys get commands of other kinds, which are judged at the end
//! only (see `record`). On shard 0, which is flushed now and then, effects are compared between the replicas only.

mod answers;
mod key;
mod sessions;

use std::collections::BTreeMap;

use quorate_storage::{ShardId, StoreId};
use quorate_store::{ClientOutcome, ClientRequest, RequestId, RouteMode, ShardRoute, Target, kv};

use crate::judge::{Counter, List, ProgramOrder, Register};
use crate::plan::LoadPlan;
use crate::record::Recorder;
use crate::rng::{Rng, mix};

use key::{Key, Kind, Use};
use sessions::{Once, Sessions};

/// Milliseconds that a request of the last phase may take.
const LAST_TIMEOUT_MS: u32 = 500;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// A client with this number.
    Client(usize),
    /// A client in a hurry, which asks for the hot key half of the time, and so often after this one.
    Burst { client: usize, hot: usize, left: u64 },
    /// The last phase; the request is one of those that must be answered well.
    Last(LastTask),
}

/// What the last phase wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LastTask {
    /// A write on a key, through a node.
    Write { key: usize, node: usize },
    /// The last read of a key.
    Read { key: usize },
}

#[derive(Clone, Debug)]
struct Pending {
    asker: Asker,
    node: usize,
    key: usize,
    kind: Kind,
    stream: u64,
    begun_us: u64,
    /// By the node's clock, counted from when it took the request.
    deadline_us: Option<u64>,
    timeout_ms: u32,
    /// For a session's write.
    once: Option<Once>,
    /// What its client knows of it, where that is not what the last attempt ended with.
    instead: Option<ClientOutcome>,
}

#[derive(Clone, Debug)]
struct Client {
    /// What it draws moves no other client.
    rng: Rng,
    node: usize,
    mode: RouteMode,
    /// What it pipelines is mostly on this key.
    key: usize,
    /// Requests of the pipeline that are not sent yet.
    left: u64,
    /// Requests that are not answered, but for those of bursts.
    under_way: u32,
    /// Every other client has sessions.
    sessions: Option<Sessions>,
}

/// Counts of outcomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcomes {
    /// Writes that were acknowledged.
    pub writes_done: u64,
    /// Reads that were answered.
    pub reads_done: u64,
    /// Requests that were said not to be applied.
    pub refused: u64,
    /// Writes of unknown outcome, those of dead nodes included.
    pub unknown: u64,
    /// Requests sent elsewhere.
    pub redirected: u64,
    /// Writes sent again under their session until their outcome was known.
    pub repeated: u64,
    /// Writes sent again under their session although it was.
    pub probes: u64,
    /// Writes of which a status told that they never run.
    pub settled: u64,
    /// Whole histories for which the linearizability checker's budget did not suffice.
    pub unjudged: u64,
}

impl Outcomes {
    /// All requests that ended.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.writes_done + self.reads_done + self.refused + self.unknown + self.redirected
    }
}

/// All clients.
pub(crate) struct Workload {
    plan: LoadPlan,
    stale_reads: bool,
    rng: Rng,
    nodes: usize,
    keys: Vec<Key>,
    clients: Vec<Client>,
    pending: BTreeMap<RequestId, Pending>,
    next_id: u64,
    next_token: u32,
    outcomes: Outcomes,
    recorder: Recorder,
}

/// What is asked of whom.
struct Ask {
    asker: Asker,
    node: usize,
    key: usize,
    reads: bool,
    mode: RouteMode,
    timeout_ms: u32,
}

/// A request on its way to a node.
pub(crate) struct Issued {
    pub(crate) node: usize,
    pub(crate) request: ClientRequest,
}

/// What follows from an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answered {
    pub(crate) asker: Asker,
    pub(crate) ok: bool,
}

impl Workload {
    /// `routes`: the shards and their slots. `stale_reads`: clocks may leave the bound that leases count on, so
    /// reads may be stale.
    pub(crate) fn new(
        plan: LoadPlan,
        stale_reads: bool,
        mut rng: Rng,
        nodes: usize,
        routes: &[ShardRoute],
    ) -> Self {
        let seed = rng.next_u64();
        let mut keys = Vec::new();
        for route in routes {
            let mut number = 0;
            let mut key = |prefix: &str, history: Use| {
                loop {
                    number += 1;
                    let name = format!("{prefix}{number}");
                    let slot = kv::slot_of(name.as_bytes());
                    if (route.start_slot..route.end_slot).contains(&slot) {
                        let target = Target::Slot(slot);
                        keys.push(Key {
                            name: name.into(),
                            target,
                            shard: route.shard,
                            history,
                            order: ProgramOrder::default(),
                        });
                        return;
                    }
                }
            };
            for _ in 0..plan.keys {
                key("list", Use::List(List::default()));
                key("register", Use::Register(Register::default()));
            }
            key("counter", Use::Counter(Counter::default()));
            key("mixed", Use::Mixed);
        }
        for number in 0..3 {
            let shard = ShardId(0);
            let name = format!("zero{number}").into();
            keys.push(Key {
                name,
                target: Target::Shard(shard),
                shard,
                history: Use::Mixed,
                order: ProgramOrder::default(),
            });
        }
        let client = |number: u64| {
            let mut rng = Rng::new(mix(seed, number));
            let node = rng.below(nodes as u64) as usize;
            let mode = if rng.one_in(4) {
                RouteMode::Redirect
            } else {
                RouteMode::Proxy
            };
            Client {
                rng,
                node,
                mode,
                key: 0,
                left: 0,
                under_way: 0,
                sessions: (number % 2 == 1).then(|| Sessions::new(mix(seed, !number))),
            }
        };
        let clients = (0..plan.clients).map(client).collect();
        Self {
            plan,
            stale_reads,
            rng,
            nodes,
            keys,
            clients,
            pending: BTreeMap::new(),
            next_id: 0,
            next_token: 0,
            outcomes: Outcomes::default(),
            recorder: Recorder::new(stale_reads),
        }
    }

    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn outcomes(&self) -> Outcomes {
        self.outcomes
    }

    pub(crate) fn keys(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn think_in_burst_us(&mut self, client: usize, most_us: u64) -> u64 {
        self.clients[client].rng.range_log(10, most_us.max(20))
    }

    /// The tasks of the last phase: a write on every shard through every node.
    pub(crate) fn last_writes(&self, is_of_cluster: impl Fn(usize) -> bool) -> Vec<LastTask> {
        let mut tasks = Vec::new();
        let mut shard = None;
        for (key, spec) in self.keys.iter().enumerate() {
            if shard != Some(spec.shard) {
                shard = Some(spec.shard);
                let nodes = (0..self.nodes).filter(|node| is_of_cluster(*node));
                tasks.extend(nodes.map(|node| LastTask::Write { key, node }));
            }
        }
        tasks
    }

    /// The tasks of the last phase: a read of every key that is judged by it.
    pub(crate) fn last_reads(&self) -> Vec<LastTask> {
        let judged = self
            .keys
            .iter()
            .enumerate()
            .filter(|(_, key)| !matches!(key.history, Use::Mixed));
        judged.map(|(key, _)| LastTask::Read { key }).collect()
    }

    /// A client's next request; none if its node is down, and then it looks for another one.
    pub(crate) fn next(
        &mut self,
        now_us: u64,
        asker: Asker,
        is_up: &dyn Fn(usize) -> bool,
    ) -> Option<Issued> {
        let (Asker::Client(client) | Asker::Burst { client, .. }) = asker else {
            return None;
        };
        let pipelines = matches!(asker, Asker::Client(_));
        let (nodes, keys) = (self.nodes as u64, self.keys.len() as u64);
        let state = &mut self.clients[client];
        let rng = &mut state.rng;
        let begins = pipelines && state.left == 0;
        if (begins || !pipelines) && rng.one_in(50) {
            state.node = rng.below(nodes) as usize;
        }
        if !is_up(state.node) {
            state.node = rng.below(nodes) as usize;
            return None;
        }
        if begins && let Some(again) = self.again(client) {
            return Some(again);
        }
        let state = &mut self.clients[client];
        let rng = &mut state.rng;
        let any = rng.below(keys) as usize;
        if begins {
            state.key = any;
            state.left = if rng.one_in(3) { rng.range(2, 10) } else { 1 };
        }
        if pipelines {
            state.left -= 1;
            state.under_way += 1;
        }
        let key = match asker {
            Asker::Burst { hot, .. } if rng.one_in(2) => hot,
            Asker::Client(_) if !rng.one_in(5) => state.key,
            _ => any,
        };
        let ask = Ask {
            asker,
            node: state.node,
            key,
            reads: rng.below(100) < self.plan.read_percent,
            mode: state.mode,
            timeout_ms: rng.range(
                u64::from(self.plan.timeout_ms_min),
                u64::from(self.plan.timeout_ms_max),
            ) as u32,
        };
        let mut rng = rng.fork();
        Some(self.issue(now_us, &mut rng, ask))
    }

    /// When a client that has just sent a request sends the next one without waiting for the answer, if so:
    /// microseconds from now.
    pub(crate) fn sends_on_us(&mut self, client: usize) -> Option<u64> {
        let state = &mut self.clients[client];
        if state.left == 0 {
            return None;
        }
        Some(if state.rng.one_in(2) {
            0
        } else {
            state.rng.below(self.plan.think_us_max)
        })
    }

    /// The slots of all keys.
    pub(crate) fn slots(&self) -> Vec<u16> {
        let slot = |key: &Key| match key.target {
            Target::Slot(slot) => Some(slot),
            Target::Shard(_) => None,
        };
        self.keys.iter().filter_map(slot).collect()
    }

    /// A client's request has ended; when it begins something new, if so: microseconds from now.
    pub(crate) fn thinks_us(&mut self, client: usize) -> Option<u64> {
        let state = &mut self.clients[client];
        state.under_way -= 1;
        (state.left == 0 && state.under_way == 0).then(|| state.rng.below(self.plan.think_us_max))
    }

    /// A request of the last phase.
    pub(crate) fn last(&mut self, now_us: u64, task: LastTask) -> Issued {
        let mut rng = self.rng.fork();
        let (key, node, reads) = match task {
            LastTask::Write { key, node } => (key, node, false),
            LastTask::Read { key } => (key, rng.below(self.nodes as u64) as usize, true),
        };
        let ask = Ask {
            asker: Asker::Last(task),
            node,
            key,
            reads,
            mode: RouteMode::Proxy,
            timeout_ms: LAST_TIMEOUT_MS,
        };
        self.issue(now_us, &mut rng, ask)
    }

    fn issue(&mut self, now_us: u64, rng: &mut Rng, ask: Ask) -> Issued {
        self.next_token += u32::from(!ask.reads);
        let key = &mut self.keys[ask.key];
        let (kind, body) = key.command(rng, ask.reads, self.stale_reads, self.next_token);
        self.next_id += 1;
        let id = RequestId(self.next_id);
        // Order is promised on one connection, that is: on one node.
        let stream = match ask.asker {
            Asker::Client(client) | Asker::Burst { client, .. } => (client * self.nodes + ask.node) as u64,
            Asker::Last(_) => u64::MAX - self.next_id,
        };
        let once = match (ask.asker, ask.reads) {
            (Asker::Client(client) | Asker::Burst { client, .. }, false) => {
                let sessions = self.clients[client].sessions.as_mut();
                sessions.map(|sessions| sessions.assign(now_us, &body))
            }
            _ => None,
        };
        let session = once.as_ref().map(Once::session);
        self.pending.insert(
            id,
            Pending {
                asker: ask.asker,
                node: ask.node,
                key: ask.key,
                kind,
                stream,
                begun_us: now_us,
                deadline_us: None,
                timeout_ms: ask.timeout_ms,
                once,
                instead: None,
            },
        );
        let request = ClientRequest {
            id,
            stream,
            target: key.target,
            body,
            session,
            mode: ask.mode,
            timeout_ms: ask.timeout_ms,
        };
        self.recorder.invoked(now_us, client_number(ask.asker), &request);
        Issued {
            node: ask.node,
            request,
        }
    }
}

/// In a history. Those who ask in the last phase get numbers that no client has.
fn client_number(asker: Asker) -> u64 {
    const LAST: u64 = 1_000;
    match asker {
        Asker::Client(client) | Asker::Burst { client, .. } => client as u64,
        Asker::Last(LastTask::Write { node, .. }) => LAST + node as u64,
        Asker::Last(LastTask::Read { key }) => 2 * LAST + key as u64,
    }
}

/// Stores are counted from 1, nodes from 0.
pub(crate) fn node_of(store: StoreId) -> usize {
    (store.0 - 1) as usize
}
