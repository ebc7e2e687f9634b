//! The clients of a script. Between a client and a node lies a link of its own, which takes its time and may
//! lose the request or the answer; a client may be limited to some of the nodes.

use std::collections::{BTreeMap, BTreeSet};

use quorate_store::{ClientOutcome, ClientRequest, Input, RequestId};

use super::call::{Call, CallId, ClientId, Ended, Next, Operation, Program, Retry};
use crate::oracle::Violation;
use crate::rng::Rng;
use crate::workload::node_of;
use crate::world::{Event, World};

/// Requests of scripts are counted from here, those of the built-in load from zero.
const FIRST: u64 = 1 << 62;
/// How much longer than its node a client waits for an attempt, in microseconds.
const GRACE_US: u64 = 200_000;
/// What a client waits before it asks again, in microseconds, at most.
const PAUSE_US_MAX: u64 = 20_000;

struct Client {
    name: String,
    rng: Rng,
    /// The node that it asks, unless a call says otherwise.
    node: usize,
    /// The nodes that it may ask; all if none are named.
    reach: BTreeSet<usize>,
    program: Option<Box<dyn Program>>,
}

struct CallState {
    call: Call,
    /// Counts attempts; what belongs to an earlier one is void.
    attempt: u64,
    node: usize,
    until_us: u64,
    /// An attempt of it may have taken effect.
    is_open: bool,
}

/// A request that a node has not answered.
struct Pending {
    call: CallId,
    attempt: u64,
    node: usize,
    /// By the node's clock, once it took the request.
    deadline_us: Option<u64>,
}

/// All clients of a script.
#[derive(Default)]
pub(crate) struct Callers {
    clients: Vec<Client>,
    calls: Vec<CallState>,
    history: Vec<Operation>,
    pending: BTreeMap<RequestId, Pending>,
    next_id: u64,
}

/// What happens to a call on its way.
#[derive(Debug)]
pub(crate) enum Stage {
    /// A client looks what its program does next.
    Next { client: usize },
    /// A client asks.
    Attempt { call: usize },
    /// The request reaches the node.
    Arrive { call: usize, attempt: u64 },
    /// The outcome reaches the client.
    Answer {
        call: usize,
        attempt: u64,
        outcome: Box<ClientOutcome>,
    },
    /// The connection to the node cannot be made, or broke.
    Broken {
        call: usize,
        attempt: u64,
        may_be_applied: bool,
    },
    /// The client has waited long enough for this attempt.
    TimedOut { call: usize, attempt: u64 },
}

impl Callers {
    /// Whether a request is one of a script's.
    pub(crate) fn is_theirs(id: RequestId) -> bool {
        id.0 >= FIRST
    }

    /// A node takes a request now, by its own clock.
    pub(crate) fn taken(&mut self, id: RequestId, mono_us: u64) {
        if let Some(pending) = self.pending.get_mut(&id) {
            let ms = self.calls[pending.call.0].call.attempt_ms;
            pending.deadline_us = Some(mono_us + u64::from(ms) * 1000);
        }
    }

    /// A tick passed on a node: whatever was due a tick before must have been answered.
    pub(crate) fn ticked(&self, node: usize, mono_us: u64, tick_us: u64) -> Result<(), Violation> {
        let hangs = |p: &&Pending| p.node == node && p.deadline_us.is_some_and(|due| due + tick_us < mono_us);
        self.pending.values().find(hangs).map_or(Ok(()), |pending| {
            let detail = format!(
                "node {} has not answered {:?}",
                node + 1,
                self.calls[pending.call.0].call.body
            );
            Err(Violation::new(
                "every request is answered by its deadline",
                detail,
            ))
        })
    }

    /// How long the calls that are under way may take from now on.
    pub(crate) fn longest_us(&self, now_us: u64) -> u64 {
        let open = self.history.iter().zip(&self.calls);
        open.filter(|(operation, _)| operation.ended.is_none())
            .map(|(_, call)| call.until_us.saturating_sub(now_us))
            .max()
            .unwrap_or_default()
    }

    /// Programs make no more calls.
    pub(crate) fn stop_programs(&mut self) {
        for client in &mut self.clients {
            client.program = None;
        }
    }

    /// Calls that have not ended.
    pub(crate) fn under_way(&self) -> usize {
        self.history
            .iter()
            .filter(|operation| operation.ended.is_none())
            .count()
    }
}

impl World {
    /// Another client. It asks any node, and stays with one that answers.
    pub fn client(&mut self, name: impl Into<String>) -> ClientId {
        let mut rng = self.rng.fork();
        let node = rng.below(self.nodes.len() as u64) as usize;
        self.callers.clients.push(Client {
            name: name.into(),
            rng,
            node,
            reach: BTreeSet::new(),
            program: None,
        });
        ClientId(self.callers.clients.len() - 1)
    }

    /// A client that runs a program from now on.
    pub fn spawn(&mut self, name: impl Into<String>, program: impl Program + 'static) -> ClientId {
        let ClientId(client) = self.client(name);
        self.callers.clients[client].program = Some(Box::new(program));
        self.queue
            .push(self.now_us, Event::Caller(Stage::Next { client }));
        ClientId(client)
    }

    /// Limits a client to some of the nodes; to none but all, if none are named.
    pub fn limit_client(&mut self, client: ClientId, nodes: &[usize]) {
        self.callers.clients[client.0].reach = nodes.iter().copied().collect();
    }

    /// A client's name.
    #[must_use]
    pub fn client_name(&self, client: ClientId) -> &str {
        &self.callers.clients[client.0].name
    }

    /// All calls so far, in the order in which they began.
    #[must_use]
    pub fn history(&self) -> &[Operation] {
        &self.callers.history
    }

    /// Begins a call; it goes on while time passes.
    pub fn begin(&mut self, client: ClientId, call: Call) -> CallId {
        let callers = &mut self.callers;
        let id = CallId(callers.calls.len());
        callers.history.push(Operation {
            client,
            body: call.body.clone(),
            called_us: self.now_us,
            ended: None,
            session: call.session,
            open_attempts: 0,
        });
        let node = call.via.unwrap_or(callers.clients[client.0].node);
        callers.calls.push(CallState {
            attempt: 0,
            node,
            until_us: self.now_us + call.within_ms * 1000,
            is_open: false,
            call,
        });
        self.queue
            .push(self.now_us, Event::Caller(Stage::Attempt { call: id.0 }));
        id
    }

    /// How a call ended, once it has.
    #[must_use]
    pub fn ended(&self, call: CallId) -> Option<&Ended> {
        let operation = &self.callers.history[call.0];
        operation.ended.as_ref().map(|(_, ended)| ended)
    }

    /// Lets time pass until a call has ended.
    ///
    /// # Errors
    ///
    /// The first property that does not hold.
    pub fn finish(&mut self, call: CallId) -> Result<Ended, Violation> {
        loop {
            if let Some(ended) = self.ended(call) {
                return Ok(ended.clone());
            }
            self.run_for(1_000)?;
        }
    }

    /// Calls and lets time pass until it has ended.
    ///
    /// # Errors
    ///
    /// The first property that does not hold.
    pub fn ask(&mut self, client: ClientId, call: Call) -> Result<Ended, Violation> {
        let call = self.begin(client, call);
        self.finish(call)
    }

    /// Lets time pass until every call has ended and every program.
    ///
    /// # Errors
    ///
    /// The first property that does not hold; programs that are not done `within_us` are one.
    pub fn finish_programs(&mut self, within_us: u64) -> Result<(), Violation> {
        self.wait_until("all programs end", within_us, |world| {
            let callers = &world.callers;
            callers.under_way() == 0 && callers.clients.iter().all(|client| client.program.is_none())
        })?;
        Ok(())
    }

    /// Something happens to a call.
    pub(crate) fn caller(&mut self, stage: Stage) {
        match stage {
            Stage::Next { client } => self.next_of_program(client, None),
            Stage::Attempt { call } => self.attempt(call),
            Stage::Arrive { call, attempt } => self.arrive(call, attempt),
            Stage::Answer {
                call,
                attempt,
                outcome,
            } if self.is_current(call, attempt) => self.client_hears(call, *outcome),
            Stage::Broken {
                call,
                attempt,
                may_be_applied,
            } if self.is_current(call, attempt) => {
                self.attempt_failed(call, may_be_applied, "the connection broke".into());
            }
            Stage::TimedOut { call, attempt } if self.is_current(call, attempt) => {
                self.attempt_failed(call, true, "no answer came in time".into());
            }
            // Of an attempt that the client gave up.
            Stage::Answer { .. } | Stage::Broken { .. } | Stage::TimedOut { .. } => {}
        }
    }

    fn is_current(&self, call: usize, attempt: u64) -> bool {
        self.callers.history[call].ended.is_none() && self.callers.calls[call].attempt == attempt
    }

    fn next_of_program(&mut self, client: usize, ended: Option<&Ended>) {
        let Some(mut program) = self.callers.clients[client].program.take() else {
            return;
        };
        match program.next(self.now_us, ended) {
            Next::Call(call) => {
                self.begin(ClientId(client), *call);
            }
            Next::Sleep(us) => self
                .queue
                .push(self.now_us + us, Event::Caller(Stage::Next { client })),
            Next::End => return,
        }
        self.callers.clients[client].program = Some(program);
    }

    fn attempt(&mut self, call: usize) {
        let client = self.callers.history[call].client.0;
        let state = &mut self.callers.calls[call];
        state.attempt += 1;
        let attempt = state.attempt;
        let net = &self.plan.client_net;
        let rng = &mut self.callers.clients[client].rng;
        let wait_us = u64::from(state.call.attempt_ms) * 1000 + GRACE_US;
        let timeout_at = (self.now_us + wait_us).min(state.until_us);
        self.queue
            .push(timeout_at, Event::Caller(Stage::TimedOut { call, attempt }));
        let delay = rng.range(net.delay_us_min, net.delay_us_max);
        if !rng.chance(net.drop_request_ppm) {
            self.queue.push(
                self.now_us + delay,
                Event::Caller(Stage::Arrive { call, attempt }),
            );
        }
    }

    fn arrive(&mut self, call: usize, attempt: u64) {
        let client = self.callers.history[call].client.0;
        let state = &self.callers.calls[call];
        let node = state.node;
        let reach = &self.callers.clients[client].reach;
        if !self.nodes[node].is_up() || !(reach.is_empty() || reach.contains(&node)) {
            let broken = Stage::Broken {
                call,
                attempt,
                may_be_applied: false,
            };
            self.queue.push(self.now_us, Event::Caller(broken));
            return;
        }
        let request = ClientRequest {
            id: RequestId(FIRST + self.callers.next_id),
            stream: client as u64,
            target: state.call.target,
            body: state.call.body.clone(),
            session: state.call.session,
            mode: state.call.mode,
            timeout_ms: state.call.attempt_ms,
        };
        self.callers.next_id += 1;
        self.callers.pending.insert(
            request.id,
            Pending {
                call: CallId(call),
                attempt,
                node,
                deadline_us: None,
            },
        );
        let name = &self.callers.clients[client].name;
        self.trace
            .event(self.now_us, &[15, node as u64, request.id.0], || {
                format!("{name} asks n{}: {:?}", node + 1, request.body)
            });
        self.input(node, Input::Client(request));
    }

    /// A node answers a request of a script.
    pub(crate) fn caller_answered(
        &mut self,
        node: usize,
        id: RequestId,
        outcome: &ClientOutcome,
    ) -> Result<(), Violation> {
        let pending = self.callers.pending.remove(&id);
        let Some(pending) = pending.filter(|pending| pending.node == node) else {
            let detail = format!("node {} answers request {} again", node + 1, id.0);
            return Err(Violation::new("every request is answered once", detail));
        };
        let net = &self.plan.client_net;
        let client = self.callers.history[pending.call.0].client.0;
        let rng = &mut self.callers.clients[client].rng;
        let mut delay = rng.range(net.delay_us_min, net.delay_us_max);
        if net.late_answers && !rng.one_in(3) {
            let most = rng.below(2_000_000);
            delay += 200_000 + rng.below(most);
        }
        if !rng.chance(net.drop_answer_ppm) {
            let answer = Stage::Answer {
                call: pending.call.0,
                attempt: pending.attempt,
                outcome: Box::new(outcome.clone()),
            };
            self.queue.push(self.now_us + delay, Event::Caller(answer));
        }
        Ok(())
    }

    /// A node died; its clients' connections break.
    pub(crate) fn callers_lost(&mut self, node: usize) {
        let lost: Vec<RequestId> = self
            .callers
            .pending
            .iter()
            .filter(|(_, pending)| pending.node == node)
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            if let Some(pending) = self.callers.pending.remove(&id) {
                let broken = Stage::Broken {
                    call: pending.call.0,
                    attempt: pending.attempt,
                    may_be_applied: true,
                };
                self.queue.push(self.now_us + 100, Event::Caller(broken));
            }
        }
    }

    fn client_hears(&mut self, call: usize, outcome: ClientOutcome) {
        match outcome {
            ClientOutcome::Done(answer) => {
                let client = self.callers.history[call].client.0;
                self.callers.clients[client].node = self.callers.calls[call].node;
                self.call_ended(call, Ended::Done(answer));
            }
            ClientOutcome::Redirect { leader } => {
                self.callers.calls[call].node = node_of(leader);
                self.ask_again(call, format!("store {leader} leads"));
            }
            ClientOutcome::NotApplied(refusal) => self.attempt_failed(call, false, refusal.to_string()),
            ClientOutcome::Unknown(reason) => self.attempt_failed(call, true, format!("{reason:?}")),
        }
    }

    /// An attempt brought no answer: the next one goes to another node.
    fn attempt_failed(&mut self, call: usize, may_be_applied: bool, why: String) {
        let client = &mut self.callers.clients[self.callers.history[call].client.0];
        let state = &mut self.callers.calls[call];
        state.is_open |= may_be_applied;
        let stands_alone = may_be_applied && state.call.session.is_none();
        self.callers.history[call].open_attempts += u64::from(stands_alone);
        if state.call.via.is_none() {
            let nodes = self.nodes.len();
            let mut others = (1..=nodes).map(|step| (state.node + step) % nodes);
            let next = others.find(|node| client.reach.is_empty() || client.reach.contains(node));
            state.node = next.unwrap_or(state.node);
        }
        self.ask_again(call, why);
    }

    fn ask_again(&mut self, call: usize, why: String) {
        let client = &mut self.callers.clients[self.callers.history[call].client.0];
        let state = &mut self.callers.calls[call];
        let pause_us = client.rng.range(1_000, PAUSE_US_MAX);
        let may_retry = match state.call.retry {
            Retry::Never => false,
            Retry::IfRefused => !state.is_open,
            Retry::Always => true,
        };
        if may_retry && self.now_us + pause_us < state.until_us {
            // What comes of the attempt that ended here is void.
            state.attempt += 1;
            self.queue
                .push(self.now_us + pause_us, Event::Caller(Stage::Attempt { call }));
        } else if state.is_open {
            self.call_ended(call, Ended::Unknown(why));
        } else {
            self.call_ended(call, Ended::NotApplied(why));
        }
    }

    fn call_ended(&mut self, call: usize, ended: Ended) {
        let client = self.callers.history[call].client;
        let name = &self.callers.clients[client.0].name;
        self.trace.event(
            self.now_us,
            &[14, call as u64, u64::from(ended.is_done())],
            || format!("{name} has {ended:?}"),
        );
        self.callers.history[call].ended = Some((self.now_us, ended.clone()));
        self.next_of_program(client.0, Some(&ended));
    }
}
