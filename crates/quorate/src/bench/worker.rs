//! One thread of the load generator: many clients, each with one batch of commands outstanding.
//!
//! Closed loop: a client begins its next batch when the last reply of the one before has arrived. One readiness
//! loop serves all clients of the thread, so that a thread costs about what the sockets cost: a few microseconds
//! for a command without pipelining.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll, Token};
use quorate_sim::linearizability::History;
use quorate_store::kv::sessions::session_id;

use super::conn::{Conn, Op};
use super::history::Recorder;
use super::plan::{Kind, Phase, Plan, Work};
use super::stats::Stats;
use crate::client::resp::{self, Reply};
use crate::client::slots::{SlotMap, parse_moved};
use crate::rng::Rng;

/// A client's pause after an error, so that a server in trouble is not asked a million times a second.
const BACKOFF: Duration = Duration::from_millis(5);
/// How often the timeouts are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A client: its connections, and what it waits for.
struct Client {
    rng: Rng,
    /// By node; an index into the worker's connections.
    conns: Vec<Option<usize>>,
    /// Replies outstanding.
    outstanding: usize,
    /// Operations to send again, in the next batch.
    again: Vec<Op>,
    /// An operation of the present batch failed.
    failed: bool,
    /// Where keys of unknown slots go: an index into the endpoints.
    home: usize,
    /// For ONCE.
    session: Session,
}

/// A client's session, with one batch under way.
struct Session {
    id: String,
    last_seq: u64,
    /// The first number of the batch: all before it are answered.
    lowest: u64,
}

impl Session {
    fn open(rng: &mut Rng) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let random = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
        let id = session_id(since.as_millis() as u64, random);
        Self {
            id: format!("{id:032x}"),
            last_seq: 0,
            lowest: 1,
        }
    }
}

pub(super) struct Worker {
    plan: Arc<Plan>,
    poll: Poll,
    clients: Vec<Client>,
    conns: Vec<Option<Box<Conn>>>,
    free: Vec<usize>,
    map: SlotMap,
    /// By node: the resolved address.
    resolved: Vec<Option<SocketAddr>>,
    /// Clients that pause after an error, with the end of the pause; in order, since all pauses are equally long.
    paused: VecDeque<(Instant, usize)>,
    /// Clients that have not run out of operations in this phase.
    active: usize,
    value: Vec<u8>,
    stats: Stats,
    recorder: Option<Recorder>,
}

impl Worker {
    /// `map` begins with the endpoints, in their order. Takes the clients `thread`, `thread + threads`, ….
    pub(super) fn new(plan: Arc<Plan>, thread: usize, map: SlotMap) -> io::Result<Self> {
        // Sessions of two runs must differ, whatever the seed.
        let random_seed = RandomState::new().hash_one(thread);
        let clients = (thread..plan.clients)
            .step_by(plan.threads)
            .map(|id| Client {
                rng: Rng::new(plan.seed ^ (id as u64 + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93)),
                session: Session::open(&mut Rng::new(random_seed.wrapping_add(id as u64))),
                conns: Vec::new(),
                outstanding: 0,
                again: Vec::new(),
                failed: false,
                home: id % plan.endpoints.len(),
            })
            .collect();
        let value = vec![0; plan.value_size];
        let recorder = plan.history.map(|_| Recorder::new(plan.epoch));
        Ok(Self {
            plan,
            poll: Poll::new()?,
            clients,
            conns: Vec::new(),
            free: Vec::new(),
            map,
            resolved: Vec::new(),
            paused: VecDeque::new(),
            active: 0,
            value,
            stats: Stats::new(),
            recorder,
        })
    }

    /// Runs all phases. The counts are those of the measured one, the history is of all.
    pub(super) fn run(mut self) -> (Stats, Option<History>) {
        let plan = self.plan.clone();
        for phase in &plan.phases {
            plan.gate.wait();
            self.phase(phase);
        }
        (self.stats, self.recorder.map(Recorder::finish))
    }

    fn phase(&mut self, phase: &Phase) {
        self.active = self.clients.len();
        let begin = phase.begin();
        for client in 0..self.clients.len() {
            self.next_batch(phase, client, begin);
        }
        let mut events = Events::with_capacity(1024);
        let mut look_at = begin + LOOK_EVERY;
        while self.active > 0 {
            let wake = self.paused.front().map_or(look_at, |(at, _)| look_at.min(*at));
            if let Err(error) = self
                .poll
                .poll(&mut events, Some(wake.saturating_duration_since(Instant::now())))
            {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.stats.error(&format!("waiting for events: {error}"), 1);
                    std::thread::sleep(BACKOFF);
                }
                continue;
            }
            for event in &events {
                self.serve(phase, event.token().0, event.is_writable());
            }
            let now = Instant::now();
            while let Some(&(_, client)) = self.paused.front().filter(|(at, _)| *at <= now) {
                self.paused.pop_front();
                self.next_batch(phase, client, now);
            }
            if now >= look_at {
                look_at = now + LOOK_EVERY;
                self.check_timeouts(phase, now);
            }
        }
    }

    /// Something happened on a connection.
    fn serve(&mut self, phase: &Phase, index: usize, writable: bool) {
        let Some(mut conn) = self.conns.get_mut(index).and_then(Option::take) else {
            return; // closed while an earlier event of the same round was served
        };
        let client = conn.client;
        // A connection may report something while its client waits for nothing (idle, or pausing): then there is
        // no batch that could be done.
        let waiting = self.clients[client].outstanding > 0;
        match self.exchange(phase, &mut conn, writable) {
            Ok(()) => self.conns[index] = Some(conn),
            Err(error) => self.lost(phase, index, *conn, &error),
        }
        if waiting && self.clients[client].outstanding == 0 {
            self.batch_done(phase, client);
        }
    }

    fn exchange(&mut self, phase: &Phase, conn: &mut Conn, writable: bool) -> io::Result<()> {
        if writable {
            conn.flush()?;
        }
        loop {
            let more = conn.read()?;
            let now = Instant::now();
            while let Some((op, reply)) = conn.next_reply()? {
                self.answered(phase, conn, op, reply, now);
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn answered(&mut self, phase: &Phase, conn: &Conn, op: Op, reply: Reply, now: Instant) {
        let client = &mut self.clients[conn.client];
        client.outstanding -= 1;
        let counts = phase.measured && phase.deadline().is_none_or(|end| now <= end);
        if let Reply::Error(error) = &reply
            && let Some((slot, addr)) = parse_moved(error)
        {
            self.stats.redirects += u64::from(counts);
            let from = self.map.addrs()[conn.node].clone();
            self.map.moved(slot, addr, &from);
            client.again.push(op);
            return;
        }
        if let (Some(recorder), Some(id)) = (&mut self.recorder, op.recorded) {
            recorder.ended(id, &reply, now);
        }
        if let Reply::Error(error) = &reply {
            client.failed = true;
            if counts {
                self.stats.error(error, 1);
            }
            if phase.work == Work::Fill {
                client.again.push(op);
            }
            return;
        }
        phase.done.fetch_add(1, Ordering::Relaxed);
        if counts {
            let ns = now.saturating_duration_since(op.start).as_nanos() as u64;
            self.stats.latency_ns.saturating_record(ns.max(1));
            match op.kind {
                Kind::Read => {
                    self.stats.reads += 1;
                    self.stats.misses += u64::from(reply == Reply::Nil);
                }
                Kind::Write => self.stats.writes += 1,
                Kind::Ping => {}
            }
        }
    }

    /// All replies of a client's batch are there.
    fn batch_done(&mut self, phase: &Phase, client: usize) {
        let now = Instant::now();
        if std::mem::take(&mut self.clients[client].failed) {
            self.paused.push_back((now + BACKOFF, client));
        } else {
            self.next_batch(phase, client, now);
        }
    }

    fn next_batch(&mut self, phase: &Phase, client: usize, now: Instant) {
        let mut touched: Vec<usize> = Vec::new();
        let session = &mut self.clients[client].session;
        session.lowest = session.last_seq + 1;
        let batch = if phase.work == Work::Connect {
            1
        } else {
            self.plan.pipeline
        };
        let mut sent = 0;
        while sent < batch {
            let Some(op) = self.next_op(phase, client, now) else {
                break;
            };
            let node = match op.kind {
                Kind::Ping => self.clients[client].home,
                Kind::Read | Kind::Write => self
                    .map
                    .node_of(&self.plan.key(op.key))
                    .unwrap_or(self.clients[client].home),
            };
            sent += 1;
            self.clients[client].outstanding += 1;
            match self.connection(client, node) {
                Ok(index) => {
                    self.encode(index, client, op, now);
                    if !touched.contains(&index) {
                        touched.push(index);
                    }
                }
                Err(error) => {
                    self.clients[client].outstanding -= 1;
                    self.fail(phase, client, node, &error, &[op]);
                }
            }
        }
        for index in touched {
            if let Some(mut conn) = self.conns[index].take() {
                match conn.flush() {
                    Ok(()) => self.conns[index] = Some(conn),
                    Err(error) => self.lost(phase, index, *conn, &error),
                }
            }
        }
        if self.clients[client].outstanding > 0 {
            return;
        }
        if sent == 0 {
            self.active -= 1;
        } else {
            self.batch_done_after_failure(client, now);
        }
    }

    /// Nothing of the batch could be sent.
    fn batch_done_after_failure(&mut self, client: usize, now: Instant) {
        self.clients[client].failed = false;
        self.paused.push_back((now + BACKOFF, client));
    }

    fn next_op(&mut self, phase: &Phase, client: usize, now: Instant) -> Option<Op> {
        if self.plan.stop.load(Ordering::Relaxed) {
            return None;
        }
        let state = &mut self.clients[client];
        if let Some(op) = state.again.pop() {
            return Some(op);
        }
        let n = phase.take(now)?;
        let (kind, key) = match phase.work {
            Work::Connect => (Kind::Ping, 0),
            Work::Fill => (Kind::Write, n),
            Work::Mix => {
                let kind = if state.rng.unit() < self.plan.read_share {
                    Kind::Read
                } else {
                    Kind::Write
                };
                (kind, state.rng.below(self.plan.keys))
            }
        };
        Some(Op {
            kind,
            key,
            start: now,
            recorded: None,
        })
    }

    fn encode(&mut self, index: usize, client: usize, mut op: Op, now: Instant) {
        let Some(conn) = &mut self.conns[index] else {
            return;
        };
        let key = self.plan.key(op.key);
        match (op.kind, &mut self.recorder) {
            (Kind::Ping, _) => resp::encode(&mut conn.out, &[b"PING"]),
            (Kind::Read | Kind::Write, Some(recorder)) => {
                let rng = &mut self.clients[client].rng;
                // A command that was sent elsewhere by MOVED is the same operation still.
                let id = match op.recorded {
                    Some(id) => id,
                    None => recorder.invoke(client, (op.key, &key), op.kind, rng, op.start),
                };
                op.recorded = Some(id);
                recorder.encode(&mut conn.out, id);
            }
            (Kind::Read, None) => resp::encode(&mut conn.out, &[b"GET", &key]),
            (Kind::Write, None) => {
                // Fresh bytes for each write: a value that compresses would flatter the server.
                self.clients[client].rng.fill(&mut self.value);
                if self.plan.once {
                    let session = &mut self.clients[client].session;
                    session.last_seq += 1;
                    let (seq, lowest) = (session.last_seq.to_string(), session.lowest.to_string());
                    let once = [
                        b"ONCE",
                        session.id.as_bytes(),
                        seq.as_bytes(),
                        b"ACK",
                        lowest.as_bytes(),
                    ];
                    resp::encode(&mut conn.out, &[&once[..], &[b"SET", &key, &self.value]].concat());
                } else {
                    resp::encode(&mut conn.out, &[b"SET", &key, &self.value]);
                }
            }
        }
        conn.sent_at = now;
        conn.under_way.push_back(op);
    }

    /// The client's connection to the node; opened if there is none.
    fn connection(&mut self, client: usize, node: usize) -> io::Result<usize> {
        let conns = &mut self.clients[client].conns;
        if conns.len() <= node {
            conns.resize(node + 1, None);
        }
        if let Some(index) = conns[node] {
            return Ok(index);
        }
        if self.resolved.len() <= node {
            self.resolved.resize(node + 1, None);
        }
        let addr = match self.resolved[node] {
            Some(addr) => addr,
            None => {
                let name = &self.map.addrs()[node];
                let addr = name
                    .to_socket_addrs()?
                    .next()
                    .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))?;
                *self.resolved[node].insert(addr)
            }
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() - 1
        });
        match Conn::open(self.poll.registry(), Token(index), addr, client, node) {
            Ok(conn) => {
                self.conns[index] = Some(Box::new(conn));
                self.clients[client].conns[node] = Some(index);
                Ok(index)
            }
            Err(error) => {
                self.free.push(index);
                Err(error)
            }
        }
    }

    /// A connection broke: what was under way on it failed.
    fn lost(&mut self, phase: &Phase, index: usize, conn: Conn, error: &io::Error) {
        let (client, node) = (conn.client, conn.node);
        self.clients[client].conns[node] = None;
        self.free.push(index);
        let ops: Vec<Op> = conn.under_way.into_iter().collect();
        self.clients[client].outstanding -= ops.len();
        self.fail(phase, client, node, error, &ops);
    }

    fn fail(&mut self, phase: &Phase, client: usize, node: usize, error: &io::Error, ops: &[Op]) {
        let state = &mut self.clients[client];
        state.failed = true;
        if state.home == node {
            state.home = (state.home + 1) % self.plan.endpoints.len();
        }
        self.map.forget(node);
        if phase.measured {
            let text = match error.kind() {
                io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
                _ => error.to_string(),
            };
            self.stats.error(&text, ops.len() as u64);
        }
        if phase.work == Work::Fill {
            self.clients[client].again.extend_from_slice(ops);
        }
    }

    fn check_timeouts(&mut self, phase: &Phase, now: Instant) {
        for index in 0..self.conns.len() {
            let late = |conn: &mut Box<Conn>| {
                !conn.under_way.is_empty() && now.saturating_duration_since(conn.sent_at) > self.plan.timeout
            };
            let Some(conn) = self.conns[index].take_if(late) else {
                continue;
            };
            let client = conn.client;
            let text = format!("no answer within {} ms", self.plan.timeout.as_millis());
            self.lost(
                phase,
                index,
                *conn,
                &io::Error::new(io::ErrorKind::TimedOut, text),
            );
            if self.clients[client].outstanding == 0 {
                self.batch_done(phase, client);
            }
        }
    }
}
