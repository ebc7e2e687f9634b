//! The world: nodes, network and clients on virtual time, in one thread, all of it decided by one seed.

use quorate_proto::PeerMessage;
use quorate_raft::Role;
use quorate_storage::engine::BatchSeq;
use quorate_storage::{ClusterId, Identity, Incarnation, ShardId, StoreId};
use quorate_store::{Bootstrap, ClientOutcome, Input, ReplicaStatus};

use crate::clock::Clock;
use crate::message;
use crate::network::{Channel, Network};
use crate::node::{Death, Node};
use crate::oracle::{Leases, Oracles, Standing, Violation};
use crate::plan::{Fault, Plan};
use crate::process::{Process, Startup, Stop, Turn};
use crate::queue::Queue;
use crate::rng::{Rng, hash_bytes};
use crate::trace::Trace;
use crate::workload::{Asker, LastTask, Outcomes, Workload, node_of};

/// Virtual microseconds between two rounds of log housekeeping.
const MAINTAIN_US: u64 = 100_000;
/// Steps of such a round, at most: these logs have a few dozen segments, so more are a round without end.
const MAINTAIN_STEPS: usize = 3_000;

/// Something that is going to happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A process takes what came in.
    Turn {
        node: usize,
        life: u64,
    },
    /// A tick is due.
    Tick {
        node: usize,
        life: u64,
    },
    /// A message arrives, if its connection is still open.
    Deliver {
        from: usize,
        to: usize,
        number: u64,
        message: Box<PeerMessage>,
    },
    /// A log sync ends.
    Synced {
        node: usize,
        life: u64,
    },
    /// The engine has become durable.
    Durable {
        node: usize,
        life: u64,
        up_to: BatchSeq,
    },
    Maintain {
        node: usize,
        life: u64,
    },
    Start {
        node: usize,
    },
    /// A pause ends.
    Resume {
        node: usize,
    },
    /// A side learns that a connection begins, or ended.
    Opened {
        side: usize,
        other: usize,
        number: u64,
        life: u64,
    },
    Closed {
        side: usize,
        other: usize,
        number: u64,
    },
    /// A pair tries to connect.
    Connect {
        a: usize,
        b: usize,
    },
    /// A fault strikes.
    Strike,
    /// A network fault ends: these directions work again.
    Unblock {
        pairs: Vec<(usize, usize)>,
    },
    /// A client has thought.
    Client {
        client: usize,
    },
    /// The last phase asks, perhaps again.
    Last {
        task: LastTask,
    },
}

/// What happened in numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Messages delivered.
    pub messages: u64,
    /// Turns.
    pub turns: u64,
    /// Starts of processes.
    pub starts: u64,
    /// Deaths of processes.
    pub deaths: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Entries applied, on all replicas.
    pub applied: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Changes of leader.
    pub elections: u64,
    /// Digests compared.
    pub digests: u64,
}

/// A simulated cluster.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) now_us: u64,
    pub(crate) rng: Rng,
    pub(crate) queue: Queue<Event>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) workload: Workload,
    pub(crate) oracles: Oracles,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    bootstrap: Bootstrap,
    /// Each node's replicas after its last turn.
    status: Vec<Vec<ReplicaStatus>>,
    /// The phase with faults is over.
    pub(crate) healing: bool,
    /// Clients do nothing of their own.
    pub(crate) quiet: bool,
    /// Tasks of the last phase that are not done.
    pub(crate) tasks: usize,
}

impl World {
    /// A cluster with empty disks; its nodes start in the first virtual moments.
    #[must_use]
    pub fn new(seed: u64, plan: Plan, print: Option<fn(&str)>) -> Self {
        let mut rng = Rng::new(seed);
        let stores: Vec<StoreId> = (1..=plan.nodes).map(StoreId).collect();
        let cluster = ClusterId(u128::from(rng.next_u64()));
        let bootstrap = Bootstrap {
            cluster,
            stores: stores.clone(),
            shards: plan.shards,
        };
        let nodes: Vec<Node> = stores
            .iter()
            .map(|store| {
                let incarnation = Incarnation(u128::from(rng.next_u64()));
                let clock = Clock::new(&mut rng, plan.store.clock_drift_max);
                Node::new(
                    Identity {
                        cluster,
                        store: *store,
                        incarnation,
                    },
                    rng.next_u64(),
                    clock,
                )
            })
            .collect();
        let routes: Vec<_> = bootstrap
            .descriptors(stores[0])
            .into_iter()
            .filter(|descriptor| descriptor.start_slot < descriptor.end_slot)
            .map(|descriptor| quorate_store::ShardRoute {
                shard: descriptor.shard,
                start_slot: descriptor.start_slot,
                end_slot: descriptor.end_slot,
                leader: None,
                stores: stores.clone(),
            })
            .collect();
        let workload = Workload::new(plan.load.clone(), rng.fork(), nodes.len(), &routes);
        let network = Network::new(plan.net.clone(), rng.fork());
        let status = vec![Vec::new(); nodes.len()];
        let mut world = Self {
            plan,
            now_us: 0,
            rng,
            queue: Queue::new(),
            nodes,
            network,
            workload,
            oracles: Oracles::default(),
            trace: Trace::new(print),
            counts: Counts::default(),
            bootstrap,
            status,
            healing: false,
            quiet: false,
            tasks: 0,
        };
        for node in 0..world.nodes.len() {
            let at = world.rng.below(50_000);
            world.queue.push(at, Event::Start { node });
            for b in 0..node {
                world.queue.push(at, Event::Connect { a: b, b: node });
            }
        }
        for client in 0..world.workload.clients() {
            let at = world.rng.below(200_000);
            world.queue.push(at, Event::Client { client });
        }
        if !world.plan.faults.is_empty() {
            let at = world.next_strike();
            world.queue.push(at, Event::Strike);
        }
        world
    }

    /// Virtual microseconds since the start.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// What happened so far, in numbers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            elections: self.oracles.elections(),
            ..self.counts.clone()
        }
    }

    /// How requests ended so far.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        self.workload.outcomes()
    }

    /// A hash over everything that happened.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.trace.digest()
    }

    /// Each replica of a node after its last turn; empty while it is down.
    #[must_use]
    pub fn status(&self, node: usize) -> &[ReplicaStatus] {
        &self.status[node]
    }

    /// Lets virtual time pass.
    ///
    /// # Errors
    ///
    /// The first property that does not hold.
    pub fn run_until(&mut self, until_us: u64) -> Result<(), Violation> {
        while let Some((at, event)) = self.queue.pop(until_us) {
            self.now_us = at;
            self.happen(event)?;
        }
        self.now_us = self.now_us.max(until_us);
        Ok(())
    }

    fn is_life(&self, node: usize, life: u64) -> bool {
        self.nodes[node].is_up() && self.nodes[node].life == life
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Turn { node, life } if self.is_life(node, life) => self.turn(node),
            Event::Tick { node, life } if self.is_life(node, life) => {
                self.wake(node);
                Ok(())
            }
            Event::Synced { node, life } if self.is_life(node, life) => self.synced(node),
            Event::Durable { node, life, up_to } if self.is_life(node, life) => self.durable(node, up_to),
            Event::Maintain { node, life } if self.is_life(node, life) => self.maintain(node),
            Event::Turn { .. }
            | Event::Tick { .. }
            | Event::Synced { .. }
            | Event::Durable { .. }
            | Event::Maintain { .. } => Ok(()), // of an earlier life
            Event::Deliver {
                from,
                to,
                number,
                message,
            } => {
                if self.nodes[to].is_up() && self.network.open_number(to, from) == Some(number) {
                    self.counts.messages += 1;
                    self.input(
                        to,
                        Input::Peer {
                            from: self.nodes[from].identity.store,
                            message: *message,
                        },
                    );
                }
                Ok(())
            }
            Event::Start { node } => self.start(node),
            Event::Resume { node } => {
                if self.nodes[node].is_up() && self.now_us >= self.nodes[node].paused_until_us {
                    self.wake(node);
                }
                Ok(())
            }
            Event::Opened {
                side,
                other,
                number,
                life,
            } => {
                if self.is_life(side, life) && self.network.is_current(side, other, number) {
                    let store = self.nodes[other].identity.store;
                    if self.network.opened(side, other, number) {
                        self.input(side, Input::PeerDown { store });
                    }
                    self.input(side, Input::PeerUp { store });
                }
                Ok(())
            }
            Event::Closed { side, other, number } => {
                if self.nodes[side].is_up()
                    && self.network.open_number(side, other) == Some(number)
                    && self.network.closed(side, other)
                {
                    let store = self.nodes[other].identity.store;
                    self.input(side, Input::PeerDown { store });
                }
                Ok(())
            }
            Event::Connect { a, b } => {
                self.connect(a, b);
                Ok(())
            }
            Event::Strike => {
                if !self.healing {
                    self.strike();
                    let at = self.next_strike();
                    self.queue.push(at, Event::Strike);
                }
                Ok(())
            }
            Event::Unblock { pairs } => {
                for (from, to) in pairs {
                    self.network.unblock(from, to);
                }
                Ok(())
            }
            Event::Client { client } => {
                self.client(client);
                Ok(())
            }
            Event::Last { task } => {
                self.last(task);
                Ok(())
            }
        }
    }

    /// Something came in for a node.
    pub(crate) fn input(&mut self, node: usize, input: Input) {
        if let Some(process) = &mut self.nodes[node].process {
            process.inbox.push_back(input);
            self.wake(node);
        }
    }

    /// Plans a turn, unless one is planned or the process stands still.
    pub(crate) fn wake(&mut self, node: usize) {
        let delay = self.rng.below(100);
        let state = &mut self.nodes[node];
        if !state.turn_planned && self.now_us >= state.paused_until_us {
            state.turn_planned = true;
            self.queue.push(
                self.now_us + delay,
                Event::Turn {
                    node,
                    life: state.life,
                },
            );
        }
    }

    fn turn(&mut self, node: usize) -> Result<(), Violation> {
        self.nodes[node].turn_planned = false;
        if self.now_us < self.nodes[node].paused_until_us {
            return Ok(());
        }
        self.counts.turns += 1;
        let times = self.nodes[node].clock.times(self.now_us);
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        let mut ticked = false;
        if times.mono_us >= process.next_tick_us {
            process.next_tick_us = times.mono_us + self.plan.store.tick_us;
            process.inbox.push_back(Input::Tick);
            ticked = true;
        }
        for input in &process.inbox {
            if let Input::Client(request) = input {
                self.workload.taken(request.id, times.mono_us);
            }
        }
        let mut turn = Turn::default();
        let result = process.turn(times, &mut turn);
        let next_tick_us = process.next_tick_us;
        self.observe(node, &turn, result.is_ok())?;
        let begin_sync = turn.begin_sync;
        for (to, message) in turn.sends {
            self.send(node, node_of(to), message);
        }
        for (id, outcome) in &turn.replies {
            let answered = self.workload.answered(self.now_us, node, *id, outcome)?;
            self.trace.event(
                self.now_us,
                &[1, node as u64, id.0, u64::from(answered.ok)],
                || {
                    format!(
                        "n{} answers request {}: {}",
                        node + 1,
                        id.0,
                        outcome_text(outcome)
                    )
                },
            );
            self.asked(answered.asker, answered.ok);
        }
        if let Err(stop) = result {
            return self.stopped(node, stop);
        }
        let life = self.nodes[node].life;
        if begin_sync {
            self.begin_sync(node);
        }
        if let Some(up_to) = turn.make_durable {
            let delay =
                self.rng.range(50, self.plan.disk.durable_us_max) * self.nodes[node].slowness(self.now_us);
            self.queue
                .push(self.now_us + delay, Event::Durable { node, life, up_to });
        }
        if ticked {
            let jitter = self.rng.below(self.plan.store.tick_us / 20);
            let at = self.nodes[node].clock.when(self.now_us, next_tick_us) + jitter;
            self.queue.push(at, Event::Tick { node, life });
            self.workload
                .ticked(node, times.mono_us, self.plan.store.tick_us)?;
            self.sample(node)?;
        }
        if self.nodes[node].is_stopping
            && self.nodes[node]
                .process
                .as_ref()
                .is_some_and(|p| p.store.is_drained())
        {
            self.die(node, Death::Kill, "has shut down");
        }
        Ok(())
    }

    /// Shows the oracles what a turn did.
    fn observe(&mut self, node: usize, turn: &Turn, lives: bool) -> Result<(), Violation> {
        for (_, message) in &turn.sends {
            self.oracles.sent(node, message)?;
        }
        for op in &turn.log {
            self.oracles.logged(node, op)?;
        }
        for (shard, entry) in &turn.applied {
            self.counts.applied += 1;
            self.oracles.applied((node, *shard), entry)?;
        }
        if !lives {
            return Ok(());
        }
        let times = self.nodes[node].clock.times(self.now_us);
        let Some(process) = &self.nodes[node].process else {
            return Ok(());
        };
        process.store.validate();
        let now = process.status(times);
        let mut words = vec![2, node as u64];
        for (at, status) in now.iter().enumerate() {
            let before = self.status[node].get(at);
            self.oracles.status(node, before, status)?;
            words.extend([
                status.term.0,
                status.role as u64,
                status.commit.0,
                status.applied.0,
                status.last.0,
            ]);
            if before.is_none_or(|before| (before.role, before.term) != (status.role, status.term)) {
                let (term, role, lease) = (status.term, status.role, status.lease);
                self.trace
                    .event(self.now_us, &[3, node as u64, status.shard.0], || {
                        format!(
                            "n{} s{} is {role:?} in term {term}{}",
                            node + 1,
                            status.shard,
                            if lease { " (lease)" } else { "" }
                        )
                    });
            }
            if status.installing && before.is_some_and(|before| !before.installing) {
                self.counts.snapshots += 1;
            }
        }
        let now_us = self.now_us;
        self.trace.event(now_us, &words, || {
            let shards = now.iter().map(|s| {
                format!(
                    "s{} {:?}@{} applied={} commit={} last={}",
                    s.shard, s.role, s.term, s.applied, s.commit, s.last
                )
            });
            format!("n{} turn: {}", node + 1, shards.collect::<Vec<_>>().join("; "))
        });
        let standings: Vec<_> = now
            .iter()
            .map(|status| (status.shard, standing(status)))
            .collect();
        self.status[node] = now;
        for (shard, standing) in standings {
            self.check_lease((node, shard), standing)?;
        }
        Ok(())
    }

    /// Looks at the leases that may be in conflict with how a replica stands, each by its own clock.
    fn check_lease(&mut self, at: (usize, ShardId), stands: Standing) -> Result<(), Violation> {
        for other in self.oracles.leases.stands(at, stands) {
            let times = self.nodes[other].clock.times(self.now_us);
            let Some(process) = &self.nodes[other].process else {
                continue;
            };
            if let Some(theirs) = process.status(times).iter().find(|status| status.shard == at.1) {
                Leases::check(at.1, (at.0, stands), (other, standing(theirs)))?;
            }
        }
        Ok(())
    }

    /// Compares a replica's content and log with what is known, now and then: it reads all of it.
    fn sample(&mut self, node: usize) -> Result<(), Violation> {
        if !self.rng.one_in(8) {
            return Ok(());
        }
        let shard = ShardId(self.rng.below(u64::from(self.plan.shards) + 1));
        self.check_content(node, shard)?;
        let Some(process) = &self.nodes[node].process else {
            return Ok(());
        };
        let at = (node, shard);
        if self.status[node]
            .iter()
            .any(|status| status.shard == shard && status.installing)
        {
            return Ok(());
        }
        let entries: Vec<_> = process
            .store
            .log_entries(shard)
            .map(|entry| (entry.index, entry.term, crate::oracle::hash_of(entry)))
            .collect();
        let mirror: Vec<_> = self.oracles.mirrors.entry(at).iter().collect();
        // What the store forgets goes to the log with its next write.
        let kept = mirror.len().saturating_sub(entries.len());
        if mirror[kept..] != entries {
            let detail = format!(
                "shard {shard} on node {}: memory holds another log than what was given to the disk",
                node + 1
            );
            return Err(Violation::new("the log in memory is the one on disk", detail));
        }
        Ok(())
    }

    /// Digests a replica and compares it with others at the same position.
    pub(crate) fn check_content(
        &mut self,
        node: usize,
        shard: ShardId,
    ) -> Result<Option<(u64, u64)>, Violation> {
        let Some(process) = &self.nodes[node].process else {
            return Ok(None);
        };
        let broken = |detail: String| Violation::new("the state engine can be read", detail);
        let found = process
            .store
            .digest(shard)
            .map_err(|error| broken(error.to_string()))?;
        let Some((applied, digest)) = found else {
            return Ok(None);
        };
        self.counts.digests += 1;
        self.oracles
            .state_machine
            .digest((node, shard), applied.index, digest ^ applied.stamp_ms)?;
        Ok(Some((applied.index.0, digest)))
    }

    fn send(&mut self, from: usize, to: usize, message: PeerMessage) {
        let channel = Channel::of(&message);
        let arrivals = self.network.send(self.now_us, from, to, channel);
        let (now_us, wire) = (self.now_us, self.network.uses_wire());
        self.trace.event(
            now_us,
            &[
                4,
                from as u64,
                to as u64,
                message::kind(&message),
                arrivals.len() as u64,
            ],
            || {
                let fate = match arrivals.first() {
                    None => "lost".into(),
                    Some((at, _)) => format!(
                        "+{} us{}",
                        at - now_us,
                        if arrivals.len() > 1 { ", twice" } else { "" }
                    ),
                };
                format!(
                    "n{} -> n{} {} ({fate})",
                    from + 1,
                    to + 1,
                    message::text(&message)
                )
            },
        );
        let mut message = Some(message);
        for (i, (at, number)) in arrivals.iter().enumerate() {
            let one = if i + 1 == arrivals.len() {
                message.take()
            } else {
                message.clone()
            };
            let Some(one) = one else { continue };
            let one = if wire { message::through_wire(&one) } else { one };
            self.queue.push(
                *at,
                Event::Deliver {
                    from,
                    to,
                    number: *number,
                    message: Box::new(one),
                },
            );
        }
    }

    fn begin_sync(&mut self, node: usize) {
        let plan = &self.plan.disk;
        let delay =
            self.rng.range(plan.sync_us_min, plan.sync_us_max) * self.nodes[node].slowness(self.now_us);
        let life = self.nodes[node].life;
        self.queue.push(self.now_us + delay, Event::Synced { node, life });
    }

    fn synced(&mut self, node: usize) -> Result<(), Violation> {
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        match process.synced() {
            Ok(again) => {
                self.wake(node);
                if again {
                    self.begin_sync(node);
                }
                Ok(())
            }
            Err(stop) => self.stopped(node, stop),
        }
    }

    fn durable(&mut self, node: usize, up_to: BatchSeq) -> Result<(), Violation> {
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        match process.made_durable(up_to) {
            Ok(()) => {
                self.wake(node);
                Ok(())
            }
            Err(stop) => self.stopped(node, stop),
        }
    }

    fn maintain(&mut self, node: usize) -> Result<(), Violation> {
        let life = self.nodes[node].life;
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        let mut steps = 0;
        loop {
            match process.maintain() {
                Ok(true) if steps < MAINTAIN_STEPS => steps += 1,
                Ok(true) => {
                    let detail = format!("node {}: {steps} steps and no end", node + 1);
                    return Err(Violation::new("housekeeping of the log ends", detail));
                }
                Ok(false) => break,
                Err(stop) => return self.stopped(node, stop),
            }
        }
        self.queue
            .push(self.now_us + MAINTAIN_US, Event::Maintain { node, life });
        Ok(())
    }

    fn start(&mut self, node: usize) -> Result<(), Violation> {
        if self.nodes[node].is_up() || self.nodes[node].held_down {
            return Ok(());
        }
        if !self.healing && self.rng.chance(self.plan.die_at_start_ppm) {
            self.arm(node, 20);
        }
        let mut options = self.plan.store.clone();
        options.seed = self.rng.next_u64();
        let process = self.rng.next_u64();
        let state = &mut self.nodes[node];
        state.life += 1;
        state.turn_planned = false;
        state.is_stopping = false;
        let (life, times) = (state.life, state.clock.times(self.now_us));
        let startup = Startup {
            identity: state.identity,
            process,
            options,
            log_options: self.plan.log.clone(),
            bootstrap: &self.bootstrap,
            disk: &state.disk,
            engine: &state.engine,
        };
        let started = Process::start(&startup, times);
        self.counts.starts += 1;
        self.trace.event(self.now_us, &[5, node as u64, life], || {
            format!("n{} starts", node + 1)
        });
        let process = match started {
            Ok(process) => process,
            Err(stop) => return self.stopped(node, stop),
        };
        for note in &process.notes {
            self.trace
                .event(self.now_us, &[6, hash_bytes(note.as_bytes())], || {
                    format!("n{} log: {note}", node + 1)
                });
        }
        let status = process.status(times);
        for shard in &status {
            self.oracles
                .started((node, shard.shard), shard, process.store.log_entries(shard.shard))?;
        }
        let tick_at = self.nodes[node].clock.when(self.now_us, process.next_tick_us);
        self.nodes[node].process = Some(process);
        self.status[node].clear();
        self.queue.push(tick_at, Event::Tick { node, life });
        self.queue.push(
            self.now_us + self.rng.below(MAINTAIN_US),
            Event::Maintain { node, life },
        );
        self.wake(node);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            let at = self.now_us + self.rng.below(30_000);
            self.queue.push(
                at,
                Event::Connect {
                    a: node.min(other),
                    b: node.max(other),
                },
            );
        }
        Ok(())
    }

    fn connect(&mut self, a: usize, b: usize) {
        if self.network.is_connected(a, b) {
            return;
        }
        if !self.nodes[a].is_up() || !self.nodes[b].is_up() {
            return; // a start tries again
        }
        if self.network.is_blocked(a, b) || self.network.is_blocked(b, a) {
            let at = self.now_us + self.rng.range(20_000, 200_000);
            self.queue.push(at, Event::Connect { a, b });
            return;
        }
        let number = self.network.connect(a, b);
        self.trace
            .event(self.now_us, &[7, a as u64, b as u64, number], || {
                format!("n{} and n{} connect", a + 1, b + 1)
            });
        for (side, other) in [(a, b), (b, a)] {
            let at = self.now_us + self.rng.range(50, 3_000);
            self.queue.push(
                at,
                Event::Opened {
                    side,
                    other,
                    number,
                    life: self.nodes[side].life,
                },
            );
        }
    }

    /// Breaks a connection. Each side learns of it within `notice_us`.
    pub(crate) fn break_connection(&mut self, a: usize, b: usize, notice_us: u64) {
        if !self.network.is_connected(a, b) {
            return;
        }
        self.network.break_connection(a, b);
        for (side, other) in [(a, b), (b, a)] {
            if let Some(number) = self.network.open_number(side, other) {
                let at = self.now_us + self.rng.below(notice_us);
                self.queue.push(at, Event::Closed { side, other, number });
            }
        }
        let at = self.now_us + self.rng.range(notice_us / 2, notice_us * 2 + 20_000);
        self.queue.push(
            at,
            Event::Connect {
                a: a.min(b),
                b: a.max(b),
            },
        );
    }

    /// A process ended by itself.
    fn stopped(&mut self, node: usize, stop: Stop) -> Result<(), Violation> {
        let state = &mut self.nodes[node];
        let broken = |detail: String| {
            Err(Violation::new(
                "a process stops only for what its disks do",
                format!("node {}: {detail}", node + 1),
            ))
        };
        let how = match stop {
            Stop::Down => match state.armed.take() {
                Some(death) => death,
                None => return broken("its disk is down although nothing took it down".into()),
            },
            Stop::Log(text) | Stop::Engine(text) if state.may_fail => {
                self.trace.event(self.now_us, &[8, node as u64], || {
                    format!("n{}: {text}", node + 1)
                });
                if self.rng.one_in(2) {
                    Death::Kill
                } else {
                    Death::PowerLoss
                }
            }
            Stop::Log(text) | Stop::Engine(text) | Stop::Broken(text) => return broken(text),
        };
        self.die(node, how, "stops");
        Ok(())
    }

    /// A process ends. It comes back by itself, unless it is held down.
    pub(crate) fn die(&mut self, node: usize, how: Death, why: &str) {
        self.counts.deaths += 1;
        let seeds = (self.rng.next_u64(), self.rng.next_u64());
        let now_us = self.now_us;
        self.trace.event(now_us, &[9, node as u64, how as u64], || {
            format!("n{} {why} ({how:?})", node + 1)
        });
        let state = &mut self.nodes[node];
        state.process = None;
        state.is_stopping = false;
        state.paused_until_us = 0;
        match how {
            Death::Kill => state.disk.process_kill(),
            Death::PowerLoss => {
                state.disk.crash(seeds.0);
                state.engine.crash(seeds.1);
                state.clock.boot(now_us, &mut self.rng);
            }
        }
        state.disarm();
        self.status[node].clear();
        self.oracles.stopped(node);
        // A killed process's sockets are closed at once; a machine without power says nothing.
        let notice_us = match how {
            Death::Kill => 3_000,
            Death::PowerLoss => 1_000_000,
        };
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.break_connection(node, other, notice_us);
        }
        self.network.forget(node);
        for asker in self.workload.lost(node) {
            self.asked(asker, false);
        }
        let away = if self.healing {
            50_000
        } else {
            self.plan.down_us_max
        };
        let at = self.now_us + self.rng.range(1_000, away.max(1_000));
        self.queue.push(at, Event::Start { node });
    }

    /// The process dies inside one of its next `within` log operations.
    pub(crate) fn arm(&mut self, node: usize, within: u64) {
        let n = self.rng.range(1, within);
        let state = &mut self.nodes[node];
        state.disk.crash_at(n);
        state.armed = Some(if self.rng.one_in(2) {
            Death::Kill
        } else {
            Death::PowerLoss
        });
    }

    fn client(&mut self, client: usize) {
        if self.quiet {
            return;
        }
        let nodes = &self.nodes;
        match self
            .workload
            .next(self.now_us, client, &|node| nodes[node].is_up())
        {
            Some(issued) => self.issue(issued),
            None => {
                let at = self.now_us + self.rng.range(1_000, 20_000);
                self.queue.push(at, Event::Client { client });
            }
        }
    }

    /// A request reaches its node.
    pub(crate) fn issue(&mut self, issued: crate::workload::Issued) {
        let (node, id) = (issued.node, issued.request.id.0);
        self.trace.event(self.now_us, &[10, node as u64, id], || {
            format!(
                "n{} is asked {id}: {:?} {:?}",
                node + 1,
                issued.request.target,
                issued.request.body
            )
        });
        self.input(node, Input::Client(issued.request));
    }

    /// A request ended: its client thinks, the last phase goes on.
    pub(crate) fn asked(&mut self, asker: Asker, ok: bool) {
        match asker {
            Asker::Client(client) => {
                let at = self.now_us + self.workload.think_us();
                self.queue.push(at, Event::Client { client });
            }
            Asker::Last(_) if ok => self.tasks -= 1,
            Asker::Last(task) => {
                let at = self.now_us + 10_000;
                self.queue.push(at, Event::Last { task });
            }
        }
    }

    /// Whether some node leads every shard; for tests.
    #[must_use]
    pub fn has_leaders(&self) -> bool {
        (0..=u64::from(self.plan.shards)).all(|shard| self.leader_of(shard).is_some())
    }

    /// The node that leads a shard in the newest term, as far as the nodes themselves say.
    #[must_use]
    pub fn leader_of(&self, shard: u64) -> Option<usize> {
        let leads = |node: usize| {
            let status = self.status[node]
                .iter()
                .find(|status| status.shard == ShardId(shard))?;
            (status.role == Role::Leader).then_some((status.term, node))
        };
        (0..self.nodes.len())
            .filter_map(leads)
            .max()
            .map(|(_, node)| node)
    }

    /// The faults of the plan, for reports.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.plan.faults.iter().map(|(fault, _)| *fault).collect()
    }
}

fn standing(status: &ReplicaStatus) -> Standing {
    Standing {
        term: status.term,
        leads: status.role == Role::Leader,
        lease: status.lease,
    }
}

fn outcome_text(outcome: &ClientOutcome) -> String {
    match outcome {
        ClientOutcome::Done(answer) => format!("{answer:?}"),
        other => format!("{other:?}"),
    }
}
