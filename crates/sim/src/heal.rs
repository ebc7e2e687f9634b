//! The second phase: no more faults, and then every shard must accept a write through every node, and all
//! replicas must become equal, within a bound of virtual time. A stuck cluster is a failure as well.

use quorate_storage::ShardId;

use crate::oracle::{Violation, coverage};
use crate::placement::Standing;
use crate::script::Filters;
use crate::workload::LastTask;
use crate::world::{Event, World};

/// Election timeouts within which every shard must have accepted a write through every node.
const PROGRESS_TIMEOUTS: u64 = 40;
/// Ticks within which all replicas must be equal: a snapshot that lost a chunk is given up after 200.
const CONVERGENCE_TICKS: u64 = 600;
/// Virtual microseconds within which a store has its answer from the controller: an attempt takes up to two seconds.
const IDS_US: u64 = 10_000_000;
/// Virtual microseconds between two looks.
const LOOK_US: u64 = 2_000;

/// How long the cluster took to recover, in virtual microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// Until every shard had accepted a write through every node.
    pub progress_us: u64,
    /// From then on, until the placement had come about.
    pub settled_us: u64,
    /// From then on, until all replicas were equal.
    pub convergence_us: u64,
}

impl World {
    /// Ends the phase with faults, and demands that the cluster recovers.
    ///
    /// # Errors
    ///
    /// The first property that does not hold, a stuck cluster included.
    pub fn heal_and_check(&mut self) -> Result<Recovery, Violation> {
        self.end_faults();
        let began_us = self.now_us;
        let bound_us = self.plan.store.election_timeout_us() * PROGRESS_TIMEOUTS;
        let writes = self.workload.last_writes(|node| self.is_of_cluster(node));
        self.do_all(
            writes,
            bound_us,
            "every shard accepts a write once faults have ended",
        )?;
        let progress_us = self.now_us - began_us;
        self.await_answers()?;
        self.await_ids()?;
        let began_settling_us = self.now_us;
        self.await_settled()?;
        let settled_us = self.now_us - began_settling_us;
        let began_us = self.now_us;
        let reads = self.workload.last_reads();
        self.do_all(reads, bound_us, "every key can be read once faults have ended")?;
        let bound_us = self.plan.store.tick_us * CONVERGENCE_TICKS;
        while !self.is_over() && !self.is_converged()? {
            if self.now_us > began_us + bound_us {
                return Err(Violation::new(
                    "all replicas become equal once faults have ended",
                    self.standing(),
                ));
            }
            self.run_until(self.now_us + LOOK_US)?;
        }
        self.await_map()?;
        self.await_erased()?;
        self.check_configs()?;
        if !self.is_over() {
            self.workload.end()?;
            self.check_history()?;
        }
        Ok(Recovery {
            progress_us,
            settled_us,
            convergence_us: self.now_us - began_us,
        })
    }

    fn end_faults(&mut self) {
        self.trace.event(self.now_us, &[12], || "faults end".into());
        self.healing = true;
        self.quiet = true;
        self.filters = Filters::default();
        self.callers.stop_programs();
        self.network.calm_down();
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_stopping {
                self.kill(node);
            }
            let state = &mut self.nodes[node];
            state.disarm();
            state.held_down = matches!(state.standing, Standing::Gone(_));
            state.paused_until_us = 0;
            state.slow_disk = (1, 0);
            state.stalled_until_us = 0;
            state.full_until_us = 0;
            state.disk.set_capacity(u64::MAX);
            state.clock.settle(self.now_us);
            self.plan_tick(node);
            self.wake(node);
            let at = self.now_us + self.rng.below(50_000);
            self.queue.push(at, Event::Start { node });
            for b in 0..node {
                self.queue.push(at, Event::Connect { a: b, b: node });
            }
        }
    }

    fn do_all(
        &mut self,
        tasks: Vec<LastTask>,
        bound_us: u64,
        property: &'static str,
    ) -> Result<(), Violation> {
        self.tasks = tasks.len();
        for task in tasks {
            let at = self.now_us + self.rng.below(10_000);
            self.queue.push(at, Event::Last { task });
        }
        let until_us = self.now_us + bound_us;
        while self.tasks > 0 && !self.is_over() {
            if self.now_us > until_us {
                let detail = format!(
                    "{} requests are left after {bound_us} us; {}",
                    self.tasks,
                    self.standing()
                );
                return Err(Violation::new(property, detail));
            }
            self.run_until(self.now_us + LOOK_US)?;
        }
        Ok(())
    }

    /// Whoever asked for ids gets them, and every store registers. A question that was lost on the way is asked again.
    fn await_ids(&mut self) -> Result<(), Violation> {
        let until_us = self.now_us + IDS_US;
        loop {
            let left = self.id_takers.under_way() + self.placement.under_way();
            let strangers =
                (0..self.nodes.len()).filter(|node| self.is_of_cluster(*node) && !self.is_registered(*node));
            let strangers = strangers.count();
            if left + strangers == 0 || self.is_over() {
                return Ok(());
            }
            if self.now_us > until_us {
                let detail = format!("{left} questions are left, {strangers} stores have not registered");
                return Err(Violation::new(
                    "the controller answers once faults have ended",
                    detail,
                ));
            }
            self.run_until(self.now_us + LOOK_US)?;
        }
    }

    /// Lets the requests of the first phase end. One that was lost on the way has until its deadline.
    fn await_answers(&mut self) -> Result<(), Violation> {
        let load_us = u64::from(self.plan.load.timeout_ms_max) * 1000;
        let longest_us = self.callers.longest_us(self.now_us).max(load_us);
        let until_us = self.now_us + longest_us + self.plan.store.election_timeout_us();
        while self.workload.under_way() + self.callers.under_way() > 0 && !self.is_over() {
            if self.now_us > until_us {
                let detail = format!(
                    "{} requests have no answer",
                    self.workload.under_way() + self.callers.under_way()
                );
                return Err(Violation::new(
                    "every request is answered by its deadline",
                    detail,
                ));
            }
            self.run_until(self.now_us + LOOK_US)?;
        }
        Ok(())
    }

    /// Asks for a task of the last phase, later if its node is down.
    pub(crate) fn last(&mut self, task: LastTask) {
        if let LastTask::Write { node, .. } = task
            && !self.nodes[node].is_up()
        {
            self.queue.push(self.now_us + 5_000, Event::Last { task });
            return;
        }
        let issued = self.workload.last(self.now_us, task);
        if self.nodes[issued.node].is_up() {
            self.issue(issued);
        } else {
            for asker in self.workload.lost(issued.node) {
                self.asked(asker, false);
            }
        }
    }

    /// Whether all replicas of every shard stand at one position with one content.
    pub(crate) fn is_converged(&mut self) -> Result<bool, Violation> {
        if !self.is_placed() {
            return Ok(false);
        }
        for shard in self.shards().to_vec() {
            let shard = ShardId(shard);
            let mut positions = Vec::new();
            for node in 0..self.nodes.len() {
                let Some(found) = self.status(node).iter().find(|status| status.shard == shard) else {
                    continue; // `is_placed` says who holds it
                };
                if found.applied != found.last || found.installing {
                    return Ok(false);
                }
                positions.push(found.applied);
            }
            if positions.windows(2).any(|pair| pair[0] != pair[1]) {
                return Ok(false);
            }
            let mut contents = Vec::new();
            for node in 0..self.nodes.len() {
                contents.extend(self.check_content(node, shard)?);
            }
            if contents.windows(2).any(|pair| pair[0] != pair[1]) {
                let detail = format!("shard {shard}: {contents:?} at equal positions");
                return Err(Violation::new("equal positions have equal digests", detail));
            }
        }
        for node in (0..self.nodes.len()).filter(|node| self.is_of_cluster(*node)) {
            let Some(process) = &self.nodes[node].process else {
                return Ok(false);
            };
            let routes = process.store.routes();
            let known: u64 = routes.iter().map(|r| u64::from(r.end_slot - r.start_slot)).sum();
            if known < u64::from(quorate_store::SLOTS) {
                return Ok(false);
            }
            coverage::check(node, &routes)?;
            // One that lags behind hears of it.
            let routes = routes.iter().map(|r| (r.shard, (r.start_slot, r.end_slot)));
            if !routes.eq(self.oracles.ranges.all()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The digest of a shard on a node that is up, with the applied index.
    ///
    /// # Errors
    ///
    /// When it differs from that of another replica at the same position.
    pub fn content(&mut self, node: usize, shard: u64) -> Result<Option<(u64, u64)>, Violation> {
        self.check_content(node, ShardId(shard))
    }

    /// How every replica stands, in words.
    pub(crate) fn standing(&self) -> String {
        let mut text = Vec::new();
        for node in 0..self.nodes.len() {
            if !self.nodes[node].is_up() {
                text.push(format!("n{} is down", node + 1));
            }
            for s in self.status(node) {
                text.push(format!(
                    "n{} s{} {:?}@{} leader={:?} log=({}, {}] commit={} applied={}{}{}",
                    node + 1,
                    s.shard,
                    s.role,
                    s.term,
                    s.leader.map(|store| store.0),
                    s.log_base,
                    s.last,
                    s.commit,
                    s.applied,
                    if s.installing { " installing" } else { "" },
                    s.rebuild
                        .as_ref()
                        .map_or(String::new(), |rebuild| format!(" ({rebuild})"))
                ));
            }
        }
        text.join("; ")
    }
}
