//! The cluster and its surroundings, before the start.

use quorate_store::rsm::Policy;

use crate::plan::{Delays, Options, Plan, Profile};
use crate::trace::Sink;
use crate::world::World;

/// A cluster to be. Unless told otherwise: one data shard, calm surroundings, ticks of 20 ms, elections after
/// 200 ms, heartbeats every 40 ms, leases, log GC far away, and no clients but the script's.
#[derive(Clone, Debug)]
pub struct Setup {
    /// All that can be chosen; the methods set what scripts need most.
    pub plan: Plan,
    seed: u64,
    trace: Option<Sink>,
}

impl Setup {
    /// A cluster of so many nodes.
    #[must_use]
    pub fn new(nodes: u64) -> Self {
        let options = Options {
            nodes: Some(nodes),
            shards: Some(1),
            clients: Some(0),
            replicas: Some(9),
            ..Options::short()
        };
        let mut plan = Plan::derive(1, Profile::Calm, &options);
        plan.load.take_ids_us_max = None;
        plan.store.tick_us = 20_000;
        plan.store.election_ticks = 10;
        plan.store.heartbeat_ticks = 2;
        plan.store.leases = true;
        plan.store.clock_drift_max = 0.01;
        plan.store.spread_leaders = false;
        plan.store.schedule = None;
        plan.store.requests_max = 100_000;
        plan.store.session_ttl_ms = 24 * 3_600_000;
        plan.store.sessions_max = 100_000;
        plan.store.session_bytes_max = 64 << 20;
        plan.store.split_bytes = 0;
        plan.store.append_bytes_max = 1 << 20;
        plan.store.snapshot_chunk_bytes = 4_096;
        plan.store.durable_every_bytes = 1_000;
        plan.store.log_retention_store_bytes = 1 << 40;
        plan.net.delay_us_min = 100;
        plan.net.delay_us_max = 1_000;
        plan.net.delays = Delays::Uniform;
        plan.net.wire = false;
        plan.disk.sync_us_min = 100;
        plan.disk.sync_us_max = 1_000;
        plan.disk.durable_us_max = 2_000;
        let setup = Self {
            plan,
            seed: 1,
            trace: None,
        };
        setup.no_log_gc()
    }

    /// Another seed: other moments of everything that is left to chance.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// So many data shards.
    #[must_use]
    pub fn shards(mut self, shards: u16) -> Self {
        self.plan.shards = shards;
        self
    }

    /// So many replicas of each data shard; otherwise every node has one.
    #[must_use]
    pub fn replicas(mut self, replicas: u8) -> Self {
        self.plan.replicas = replicas;
        self
    }

    /// The controller's schedulers work, and look at the cluster every 200 ms.
    #[must_use]
    pub fn scheduled(mut self) -> Self {
        self.plan.store.schedule = Some(Policy {
            round_us: 200_000,
            ..Policy::default()
        });
        self
    }

    /// Milliseconds of a tick, ticks between heartbeats, and ticks without a leader before an election.
    #[must_use]
    pub fn ticks(mut self, tick_ms: u64, heartbeat: u32, election: u32) -> Self {
        self.plan.store.tick_us = tick_ms * 1000;
        self.plan.store.heartbeat_ticks = heartbeat;
        self.plan.store.election_ticks = election;
        self
    }

    /// Leases or a round to a quorum for every read.
    #[must_use]
    pub fn leases(mut self, leases: bool) -> Self {
        self.plan.store.leases = leases;
        self
    }

    /// Log GC beyond so many bytes of entries a shard.
    #[must_use]
    pub fn log_bytes(mut self, bytes: u64) -> Self {
        self.plan.store.log_retention_bytes = bytes;
        self.plan.store.durable_every_bytes = bytes / 4;
        self
    }

    /// Log GC beyond so many entries a shard.
    #[must_use]
    pub fn log_entries(mut self, entries: u64) -> Self {
        self.plan.store.log_retention_entries = entries;
        self
    }

    /// No log GC in any history that a test can make.
    #[must_use]
    pub fn no_log_gc(mut self) -> Self {
        self.plan.store.log_retention_bytes = 1 << 40;
        self.plan.store.log_retention_entries = 1 << 40;
        self
    }

    /// NET-01: messages take up to 26 ms and one in ten is lost, between nodes and between clients and nodes.
    #[must_use]
    pub fn unreliable(mut self) -> Self {
        self.plan.net.delay_us_min = 0;
        self.plan.net.delay_us_max = 26_000;
        self.plan.net.drop_ppm = 100_000;
        self.plan.client_net.delay_us_max = 26_000;
        self.plan.client_net.drop_request_ppm = 100_000;
        self.plan.client_net.drop_answer_ppm = 100_000;
        self
    }

    /// NET-02: two of three answers are 200 ms late and up to two seconds more, so that they overtake each other.
    #[must_use]
    pub fn long_reordering(mut self) -> Self {
        self.plan.net.late_answers = true;
        self.plan.client_net.late_answers = true;
        self
    }

    /// Loses so many percent of the messages between nodes.
    #[must_use]
    pub fn loss_percent(mut self, percent: u64) -> Self {
        self.plan.net.drop_ppm = percent * 10_000;
        self
    }

    /// Takes a line for each event.
    #[must_use]
    pub fn trace(mut self, sink: Sink) -> Self {
        self.trace = Some(sink);
        self
    }

    /// Starts every node.
    #[must_use]
    pub fn start(self) -> World {
        World::new(self.seed, self.plan, self.trace)
    }
}
