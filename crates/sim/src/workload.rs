//! The clients: what they ask, what they are told, and the judgement of both.
//!
//! A client has one request under way at a time, on one node, and changes nodes when it likes or must. Every
//! shard has keys of each kind that can be judged (see `judge`); shard 0 and some keys get commands of other
//! kinds, whose effect is compared between the replicas only.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_proto::{Answer, ExpireCondition, Expiry, ForwardBody, Op, Query, SetCondition, SetExpiry};
use quorate_storage::{ShardId, StoreId};
use quorate_store::{ClientOutcome, ClientRequest, RequestId, RouteMode, ShardRoute, Target, kv};

use crate::judge::{Counter, LINEARIZABLE, List, OUTCOME, Register};
use crate::oracle::Violation;
use crate::plan::LoadPlan;
use crate::rng::Rng;

/// Milliseconds that a request of the last phase may take.
const LAST_TIMEOUT_MS: u32 = 500;

/// How a key is used.
enum Use {
    List(List),
    Counter(Counter),
    Register(Register),
    /// Anything goes.
    Mixed,
}

struct Key {
    name: Bytes,
    target: Target,
    shard: ShardId,
    history: Use,
}

/// What a request does to its key's history.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Append(u32),
    ReadList { floor: usize },
    Increment { floor: i64 },
    ReadCounter { floor: i64 },
    Set(u32),
    Delete,
    ReadRegister,
    Other,
}

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
        let (kind, body) = self.command(key, reads);
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

    fn command(&mut self, at: usize, reads: bool) -> (Kind, ForwardBody) {
        let rng = &mut self.rng;
        let key = &mut self.keys[at];
        let name = key.name.clone();
        if reads {
            let kind = match &key.history {
                Use::List(list) => Kind::ReadList { floor: list.floor() },
                Use::Counter(counter) => Kind::ReadCounter {
                    floor: counter.floor(),
                },
                Use::Register(_) => Kind::ReadRegister,
                Use::Mixed => Kind::Other,
            };
            return (kind, ForwardBody::Read(Query::Get { key: name }));
        }
        self.next_token += 1;
        let token = self.next_token;
        let value = Bytes::copy_from_slice(&token.to_be_bytes());
        let (kind, op) = match &mut key.history {
            Use::List(list) => {
                list.begin_append(token);
                (Kind::Append(token), Op::Append { key: name, value })
            }
            Use::Counter(counter) => {
                counter.begin_increment();
                (
                    Kind::Increment {
                        floor: counter.floor(),
                    },
                    Op::Increment { key: name, delta: 1 },
                )
            }
            Use::Register(_) => match rng.below(8) {
                0 => (Kind::Delete, Op::Delete { key: name }),
                1 => {
                    let expiry = Expiry::In(rng.range(1, 2000) as i64);
                    (
                        Kind::Other,
                        Op::Expire {
                            key: name,
                            expiry,
                            condition: ExpireCondition::Always,
                        },
                    )
                }
                2 => (Kind::Other, Op::Persist { key: name }),
                n => {
                    let expiry = match n {
                        3..=5 => SetExpiry::Set(Expiry::In(rng.range(1, 1000) as i64)),
                        6 => SetExpiry::Keep,
                        _ => SetExpiry::Clear,
                    };
                    let condition = SetCondition::Always;
                    (
                        Kind::Set(token),
                        Op::Set {
                            key: name,
                            value,
                            expiry,
                            condition,
                            get: false,
                        },
                    )
                }
            },
            Use::Mixed => (Kind::Other, mixed(rng, name, value, key.shard)),
        };
        (kind, ForwardBody::Write(op))
    }

    /// A node takes a request now, by its own clock.
    pub(crate) fn taken(&mut self, id: RequestId, mono_us: u64) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.deadline_us = Some(mono_us + u64::from(pending.timeout_ms) * 1000);
        }
    }

    /// A tick passed on a node: whatever was due a tick before must have been answered.
    pub(crate) fn ticked(&self, node: usize, mono_us: u64, tick_us: u64) -> Result<(), Violation> {
        let hangs = |p: &&Pending| p.node == node && p.deadline_us.is_some_and(|due| due + tick_us < mono_us);
        match self.pending.values().find(hangs) {
            None => Ok(()),
            Some(pending) => {
                let detail = format!(
                    "node {} has not answered {:?}, whose deadline passed {} us ago",
                    node + 1,
                    pending.kind,
                    mono_us - pending.deadline_us.unwrap_or_default()
                );
                Err(Violation::new(
                    "every request is answered by its deadline",
                    detail,
                ))
            }
        }
    }

    /// An answer.
    pub(crate) fn answered(
        &mut self,
        now_us: u64,
        node: usize,
        id: RequestId,
        outcome: &ClientOutcome,
    ) -> Result<Answered, Violation> {
        let Some(pending) = self.pending.remove(&id).filter(|pending| pending.node == node) else {
            let detail = format!(
                "node {} answers request {} again, or one that it never got",
                node + 1,
                id.0
            );
            return Err(Violation::new("every request is answered once", detail));
        };
        let asker = pending.asker;
        let ok = self
            .judge(now_us, &pending, outcome)
            .map_err(|violation| self.about(&pending, violation))?;
        if let (Asker::Client(client), ClientOutcome::Redirect { leader }) = (asker, outcome) {
            self.clients[client].node = node_of(*leader);
        }
        Ok(Answered { asker, ok })
    }

    fn about(&self, pending: &Pending, violation: Violation) -> Violation {
        let key = &self.keys[pending.key];
        let name = String::from_utf8_lossy(&key.name);
        let detail = format!(
            "key {name} of shard {}, {:?} through node {}: {}",
            key.shard,
            pending.kind,
            pending.node + 1,
            violation.detail
        );
        Violation::new(violation.property, detail)
    }

    fn judge(&mut self, now_us: u64, pending: &Pending, outcome: &ClientOutcome) -> Result<bool, Violation> {
        let is_write = !matches!(
            pending.kind,
            Kind::ReadList { .. } | Kind::ReadCounter { .. } | Kind::ReadRegister
        );
        match outcome {
            ClientOutcome::Done(answer) => {
                *(if is_write {
                    &mut self.outcomes.writes_done
                } else {
                    &mut self.outcomes.reads_done
                }) += 1;
                self.done(now_us, pending, answer).map(|()| true)
            }
            ClientOutcome::Redirect { .. } => {
                self.outcomes.redirected += 1;
                self.refused(pending).map(|()| false)
            }
            ClientOutcome::NotApplied(_) => {
                self.outcomes.refused += 1;
                self.refused(pending).map(|()| false)
            }
            ClientOutcome::Unknown(_) => {
                self.outcomes.unknown += 1;
                Ok(false)
            }
        }
    }

    fn done(&mut self, now_us: u64, pending: &Pending, answer: &Answer) -> Result<(), Violation> {
        let begun_us = pending.begun_us;
        match (&mut self.keys[pending.key].history, pending.kind, answer) {
            (Use::List(list), Kind::Append(token), Answer::Int(bytes)) => list.appended(token, *bytes),
            (Use::List(list), Kind::ReadList { floor }, Answer::Bulk(content)) => list.read(floor, content),
            (Use::List(list), Kind::ReadList { floor }, Answer::Nil) => list.read(floor, &[]),
            (Use::Counter(counter), Kind::Increment { floor }, Answer::Int(value)) => {
                counter.incremented(floor, *value)
            }
            (Use::Counter(counter), Kind::ReadCounter { floor }, Answer::Bulk(digits)) => {
                let value = std::str::from_utf8(digits)
                    .ok()
                    .and_then(|text| text.parse().ok());
                counter.read(floor, value.unwrap_or(i64::MAX))
            }
            (Use::Counter(counter), Kind::ReadCounter { floor }, Answer::Nil) => counter.read(floor, 0),
            (Use::Register(register), Kind::Set(value), Answer::Ok) => {
                register.set(begun_us, now_us, value);
                Ok(())
            }
            (Use::Register(register), Kind::Delete, Answer::Int(_)) => {
                register.deleted(begun_us, now_us);
                Ok(())
            }
            (Use::Register(register), Kind::ReadRegister, Answer::Nil) => {
                register.read(begun_us, now_us, None)
            }
            (Use::Register(register), Kind::ReadRegister, Answer::Bulk(value)) => {
                let value = value
                    .as_ref()
                    .try_into()
                    .map(u32::from_be_bytes)
                    .unwrap_or(u32::MAX);
                register.read(begun_us, now_us, Some(value))
            }
            (_, Kind::Other, _) => Ok(()),
            (_, _, answer) => Err(Violation::new(
                LINEARIZABLE,
                format!("such an answer cannot be: {answer:?}"),
            )),
        }
    }

    fn refused(&mut self, pending: &Pending) -> Result<(), Violation> {
        match (&mut self.keys[pending.key].history, pending.kind) {
            (Use::List(list), Kind::Append(token)) => list.refused(token),
            (Use::Counter(counter), Kind::Increment { .. }) => counter.refused(),
            (Use::Register(register), Kind::Set(value)) => register.refused(value),
            _ => Ok(()),
        }
    }

    /// A node died: its clients do not know what became of their requests. Returns who asked.
    pub(crate) fn lost(&mut self, node: usize) -> Vec<Asker> {
        let lost: Vec<RequestId> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.node == node)
            .map(|(id, _)| *id)
            .collect();
        self.outcomes.unknown += lost.len() as u64;
        lost.into_iter()
            .filter_map(|id| self.pending.remove(&id))
            .map(|pending| pending.asker)
            .collect()
    }

    pub(crate) fn under_way(&self) -> usize {
        self.pending.len()
    }

    /// Judges every key's whole history.
    pub(crate) fn end(&self) -> Result<(), Violation> {
        for key in &self.keys {
            let result = match &key.history {
                Use::List(list) => list.end(),
                Use::Counter(counter) => counter.end(),
                Use::Register(_) | Use::Mixed => Ok(()),
            };
            result.map_err(|violation| {
                let name = String::from_utf8_lossy(&key.name);
                Violation::new(
                    violation.property,
                    format!("key {name} of shard {}: {}", key.shard, violation.detail),
                )
            })?;
        }
        if self.pending.is_empty() {
            Ok(())
        } else {
            Err(Violation::new(OUTCOME, "requests are left".into()))
        }
    }
}

/// Stores are counted from 1, nodes from 0.
pub(crate) fn node_of(store: StoreId) -> usize {
    (store.0 - 1) as usize
}

fn mixed(rng: &mut Rng, key: Bytes, value: Bytes, shard: ShardId) -> Op {
    let filler = vec![b'x'; rng.range_log(1, 2000) as usize].into();
    match rng.below(12) {
        0 => Op::Delete { key },
        1 => Op::Increment { key, delta: 7 },
        2 => Op::SetRange {
            key,
            offset: rng.below(100),
            value,
        },
        3 => Op::GetDelete { key },
        4 => Op::Noop,
        5 if shard == ShardId(0) => Op::Flush,
        6 => Op::IncrementFloat { key, delta: 0.5 },
        7 => Op::SetAllIfAbsent {
            pairs: vec![(key, value)],
        },
        8 => Op::GetExpire {
            key,
            expiry: Some(Expiry::In(rng.below(500) as i64)),
        },
        _ => Op::Set {
            key,
            value: filler,
            expiry: SetExpiry::Set(Expiry::In(rng.below(3000) as i64)),
            condition: *rng.pick(&[
                SetCondition::Always,
                SetCondition::IfAbsent,
                SetCondition::IfPresent,
            ]),
            get: rng.one_in(2),
        },
    }
}
