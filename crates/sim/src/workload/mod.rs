//! The clients: what they ask, what they are told, and the judgement of both.
//!
//! A client has one request under way at a time, on one node, and changes nodes when it likes or must. Every
//! shard has keys of each kind that can be judged (see `judge`); shard 0 and some keys get commands of other
//! kinds, whose effect is compared between the replicas only.

mod answers;
mod key;

use std::collections::BTreeMap;

use quorate_storage::{ShardId, StoreId};
use quorate_store::{ClientRequest, RequestId, RouteMode, ShardRoute, Target, kv};

use crate::judge::{Counter, List, Register};
use crate::plan::LoadPlan;
use crate::rng::Rng;

use key::{Key, Kind, Use};

/// Milliseconds that a request of the last phase may take.
const LAST_TIMEOUT_MS: u32 = 500;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// A client with this number.
    Client(usize),
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

struct Pending {
    asker: Asker,
    node: usize,
    key: usize,
    kind: Kind,
    begun_us: u64,
    /// By the node's clock, counted from when it took the request.
    deadline_us: Option<u64>,
    timeout_ms: u32,
}

#[derive(Clone, Copy, Debug)]
struct Client {
    node: usize,
    mode: RouteMode,
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
}

/// All clients.
pub(crate) struct Workload {
    plan: LoadPlan,
    rng: Rng,
    nodes: usize,
    keys: Vec<Key>,
    clients: Vec<Client>,
    pending: BTreeMap<RequestId, Pending>,
    next_id: u64,
    next_token: u32,
    outcomes: Outcomes,
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
    /// `routes`: the shards and their slots.
    pub(crate) fn new(plan: LoadPlan, mut rng: Rng, nodes: usize, routes: &[ShardRoute]) -> Self {
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
            });
        }
        let clients = (0..plan.clients)
            .map(|_| Client {
                node: rng.below(nodes as u64) as usize,
                mode: if rng.one_in(4) {
                    RouteMode::Redirect
                } else {
                    RouteMode::Proxy
                },
            })
            .collect();
        Self {
            plan,
            rng,
            nodes,
            keys,
            clients,
            pending: BTreeMap::new(),
            next_id: 0,
            next_token: 0,
            outcomes: Outcomes::default(),
        }
    }

    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn outcomes(&self) -> Outcomes {
        self.outcomes
    }

    pub(crate) fn think_us(&mut self) -> u64 {
        self.rng.below(self.plan.think_us_max)
    }

    /// The tasks of the last phase: a write on every shard through every node.
    pub(crate) fn last_writes(&self) -> Vec<LastTask> {
        let mut tasks = Vec::new();
        let mut shard = None;
        for (key, spec) in self.keys.iter().enumerate() {
            if shard != Some(spec.shard) {
                shard = Some(spec.shard);
                tasks.extend((0..self.nodes).map(|node| LastTask::Write { key, node }));
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
        client: usize,
        is_up: &dyn Fn(usize) -> bool,
    ) -> Option<Issued> {
        if self.rng.one_in(50) {
            self.clients[client].node = self.rng.below(self.nodes as u64) as usize;
        }
        let Client { node, mode } = self.clients[client];
        if !is_up(node) {
            self.clients[client].node = self.rng.below(self.nodes as u64) as usize;
            return None;
        }
        let key = self.rng.below(self.keys.len() as u64) as usize;
        let reads = self.rng.below(100) < self.plan.read_percent;
        let timeout = self.rng.range(
            u64::from(self.plan.timeout_ms_min),
            u64::from(self.plan.timeout_ms_max),
        );
        Some(self.issue(
            now_us,
            Asker::Client(client),
            node,
            key,
            reads,
            mode,
            timeout as u32,
        ))
    }

    /// A request of the last phase.
    pub(crate) fn last(&mut self, now_us: u64, task: LastTask) -> Issued {
        let (key, node, reads) = match task {
            LastTask::Write { key, node } => (key, node, false),
            LastTask::Read { key } => (key, self.rng.below(self.nodes as u64) as usize, true),
        };
        self.issue(
            now_us,
            Asker::Last(task),
            node,
            key,
            reads,
            RouteMode::Proxy,
            LAST_TIMEOUT_MS,
        )
    }

    #[allow(clippy::too_many_arguments)]
    fn issue(
        &mut self,
        now_us: u64,
        asker: Asker,
        node: usize,
        key: usize,
        reads: bool,
        mode: RouteMode,
        timeout_ms: u32,
    ) -> Issued {
        self.next_token += u32::from(!reads);
        let (kind, body) = self.keys[key].command(&mut self.rng, reads, self.next_token);
        self.next_id += 1;
        let id = RequestId(self.next_id);
        self.pending.insert(
            id,
            Pending {
                asker,
                node,
                key,
                kind,
                begun_us: now_us,
                deadline_us: None,
                timeout_ms,
            },
        );
        let request = ClientRequest {
            id,
            target: self.keys[key].target,
            body,
            session: None,
            after_writes: reads && self.rng.one_in(4),
            mode,
            timeout_ms,
        };
        Issued { node, request }
    }
}

/// Stores are counted from 1, nodes from 0.
pub(crate) fn node_of(store: StoreId) -> usize {
    (store.0 - 1) as usize
}
