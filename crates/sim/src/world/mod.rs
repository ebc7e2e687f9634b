//! The world: nodes, network and clients on virtual time, in one thread, all of it decided by one seed.

mod asking;
mod event;
mod handshake;
mod links;
mod machines;
mod rot;
mod turn;
mod watch;

use quorate_raft::Role;
use quorate_storage::{ClusterId, Identity, Incarnation, ShardId, StoreId};
use quorate_store::{Bootstrap, ReplicaStatus};

use crate::clock::Clock;
use crate::id_takers::IdTakers;
use crate::linearizability::History;
use crate::network::Network;
use crate::node::Node;
use crate::operator::Operator;
use crate::oracle::{Oracles, Violation};
use crate::overviews::Overviews;
use crate::placement::{Placement, PlacementCounts, Standing};
use crate::plan::{Fault, Plan, Schedule};
use crate::plot::Plots;
use crate::queue::Queue;
use crate::rng::Rng;
use crate::script::{Callers, Filters};
use crate::trace::{Sink, Trace};
use crate::workload::{Asker, Outcomes, Workload};

pub(crate) use event::Event;
pub(crate) use handshake::Unmounted;

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
    /// Snapshots that a follower has sent for its leader.
    pub snapshots_by_followers: u64,
    /// Changes of leader.
    pub elections: u64,
    /// Digests compared.
    pub digests: u64,
    /// What became of the placement.
    pub placement: PlacementCounts,
}

/// A simulated cluster.
pub struct World {
    pub(crate) plan: Plan,
    pub(crate) now_us: u64,
    /// Where virtual time ends.
    end_us: u64,
    pub(crate) rng: Rng,
    /// What the fault that strikes draws from.
    pub(crate) fault_rng: Rng,
    pub(crate) schedule: Schedule,
    pub(crate) plots: Plots,
    /// The numbers of the faults that struck.
    pub(crate) strikes: Vec<u64>,
    pub(crate) queue: Queue<Event>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) network: Network,
    pub(crate) workload: Workload,
    /// The clients of a script.
    pub(crate) callers: Callers,
    pub(crate) filters: Filters,
    /// Who wants shards elsewhere.
    pub(crate) operator: Operator,
    pub(crate) id_takers: IdTakers,
    pub(crate) placement: Placement,
    /// The bytes of messages are counted.
    pub(crate) counts_bytes: bool,
    pub(crate) oracles: Oracles,
    pub(crate) overviews: Overviews,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    bootstrap: Bootstrap,
    /// Each node's replicas after its last turn.
    status: Vec<Vec<ReplicaStatus>>,
    /// Every shard that ever was, in ascending order.
    shards: Vec<u64>,
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
    pub fn new(seed: u64, plan: Plan, sink: Option<Sink>) -> Self {
        let mut rng = Rng::new(seed);
        let stores: Vec<StoreId> = (1..=plan.nodes).map(StoreId).collect();
        let cluster = ClusterId(u128::from(rng.next_u64()));
        let bootstrap = Bootstrap {
            cluster,
            stores: stores.clone(),
            shards: plan.shards,
            replicas: plan.replicas,
        };
        let mut nodes: Vec<Node> = stores
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
        // Whoever comes later has an identity of its own then.
        for at in plan.nodes..plan.nodes + plan.spares {
            let identity = Identity {
                cluster,
                store: StoreId(at + 1),
                incarnation: Incarnation(0),
            };
            let clock = Clock::new(&mut rng, plan.store.clock_drift_max);
            let mut node = Node::new(identity, rng.next_u64(), clock);
            node.standing = Standing::Unborn;
            nodes.push(node);
        }
        let all = stores.iter().flat_map(|store| bootstrap.descriptors(*store));
        let mut routes: Vec<_> = all
            .filter(|descriptor| descriptor.start_slot < descriptor.end_slot)
            .map(|descriptor| quorate_store::ShardRoute {
                shard: descriptor.shard,
                start_slot: descriptor.start_slot,
                end_slot: descriptor.end_slot,
                leader: None,
                stores: Vec::new(),
            })
            .collect();
        routes.sort_by_key(|route| route.shard);
        routes.dedup();
        let mut oracles = Oracles::default();
        oracles.configs.begins(&bootstrap);
        for route in &routes {
            let slots = (route.start_slot, route.end_slot);
            oracles.ranges.begins(route.shard, 1, slots);
        }
        let workload = Workload::new(
            plan.load.clone(),
            plan.leases_may_lie(),
            rng.fork(),
            nodes.len(),
            &routes,
        );
        let network = Network::new(plan.net.clone(), rng.fork(), nodes.len());
        let status = vec![Vec::new(); nodes.len()];
        let shards = (0..=u64::from(plan.shards)).collect();
        let mut world = Self {
            plan,
            now_us: 0,
            end_us: u64::MAX,
            fault_rng: rng.fork(),
            schedule: Schedule::new(rng.next_u64()),
            strikes: Vec::new(),
            rng,
            queue: Queue::new(),
            nodes,
            network,
            workload,
            callers: Callers::default(),
            filters: Filters::default(),
            operator: Operator::default(),
            id_takers: IdTakers::new(seed),
            placement: Placement::new(seed),
            plots: Plots::default(),
            counts_bytes: false,
            oracles,
            overviews: Overviews::default(),
            trace: Trace::new(sink),
            counts: Counts::default(),
            bootstrap,
            status,
            shards,
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
        world.queue.push(0, Event::TakeIds);
        world.plan_strike();
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

    /// What the clients did and saw so far, for the linearizability checker.
    #[must_use]
    pub fn client_history(&self) -> History {
        self.workload.history()
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

    /// Virtual time ends here, if given.
    pub(crate) fn stop_at(&mut self, until_us: Option<u64>) {
        self.end_us = until_us.unwrap_or(u64::MAX);
    }

    /// Whether virtual time has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.now_us >= self.end_us
    }

    /// Lets virtual time pass.
    ///
    /// # Errors
    ///
    /// The first property that does not hold.
    pub fn run_until(&mut self, until_us: u64) -> Result<(), Violation> {
        let until_us = until_us.min(self.end_us);
        while let Some((at, event)) = self.queue.pop(until_us) {
            self.now_us = at;
            self.happen(event)?;
        }
        self.now_us = self.now_us.max(until_us);
        Ok(())
    }

    /// Operations of clients that ended and took effect, or may have.
    pub(crate) fn operations(&self) -> u64 {
        let outcomes = self.workload.outcomes();
        outcomes.writes_done + outcomes.reads_done + outcomes.unknown
    }

    /// Another planned length of the phase with faults has passed, and clients got little done: a network on which
    /// messages take longer than an election timeout lets nobody lead (Raft paper §5.6). Faults become rarer likewise.
    pub(crate) fn ease_network(&mut self) {
        self.network.ease();
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
                self.deliver(from, to, number, *message);
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
                if self.is_life(side, life) {
                    self.opened(side, other, number);
                }
                Ok(())
            }
            Event::Closed { side, other, number } => {
                self.closed(side, other, number);
                Ok(())
            }
            Event::Connect { a, b } => self.connect(a, b),
            Event::Strike(strike) => {
                if !self.healing {
                    self.strike(*strike);
                }
                Ok(())
            }
            Event::Step(step) => {
                if !self.healing {
                    self.go_on(*step);
                }
                Ok(())
            }
            Event::Flap {
                pairs,
                is_blocked,
                period_us,
                until_us,
            } => {
                if !self.healing {
                    self.flap(pairs, is_blocked, period_us, until_us);
                }
                Ok(())
            }
            Event::Freed { node } => {
                self.free_disk(node);
                Ok(())
            }
            Event::Steady { node } => {
                if !self.healing {
                    self.steady_clock(node);
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
                self.next_request(Asker::Client(client));
                Ok(())
            }
            Event::Burst { client, hot, left } => {
                self.next_request(Asker::Burst { client, hot, left });
                Ok(())
            }
            Event::Placement(stage) => {
                self.placement_goes_on(stage);
                Ok(())
            }
            Event::TakeIds => {
                self.take_ids();
                Ok(())
            }
            Event::Caller(stage) => {
                self.caller(stage);
                Ok(())
            }
            Event::Last { task } => {
                self.last(task);
                Ok(())
            }
        }
    }

    /// Whether some node leads every shard; for tests.
    #[must_use]
    pub fn has_leaders(&self) -> bool {
        self.shards.iter().all(|shard| self.leader_of(*shard).is_some())
    }

    /// Every shard, the controller's and those that came by splits included.
    #[must_use]
    pub fn shards(&self) -> &[u64] {
        &self.shards
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
