//! Machines: processes start and die, disks complete what they were given.

use quorate_storage::disk::Disk;
use quorate_storage::engine::BatchSeq;
use quorate_store::Input;

use super::{Event, World};
use crate::node::Death;
use crate::oracle::Violation;
use crate::placement::Standing;
use crate::process::{Process, Startup, Stop};
use crate::rng::hash_bytes;

/// Virtual microseconds between two rounds of log housekeeping.
const MAINTAIN_US: u64 = 100_000;
/// Steps of such a round, at most: these logs have a few dozen segments, so more are a round without end.
const MAINTAIN_STEPS: usize = 3_000;

impl World {
    pub(super) fn start(&mut self, node: usize) -> Result<(), Violation> {
        let state = &self.nodes[node];
        if state.is_up() || state.held_down || state.standing == Standing::Unborn {
            return Ok(());
        }
        if !self.healing && self.rng.chance(self.plan.die_at_start_ppm) {
            self.arm(node, 20);
        }
        // A disk that is full stays so.
        self.nodes[node].may_fail |= self.now_us < self.nodes[node].full_until_us;
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
            is_formatted: state.is_formatted,
            is_damaged: state.is_damaged,
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
        // Every record was read, so what is damaged is known now; the log remembers it until it is rebuilt.
        self.nodes[node].is_damaged = status.iter().any(|shard| shard.rebuild.is_some());
        // What an impostor holds says nothing of the replicas that are watched.
        let is_impostor = self.nodes[node].is_impostor();
        for shard in status.iter().filter(|_| !is_impostor) {
            let (store, id) = (&process.store, shard.shard);
            let vote = store.vote(id).unwrap_or_default();
            self.oracles
                .started((node, id), shard, vote, store.log_entries(id))?;
        }
        for at in self.oracles.mirrors.shards(node) {
            if !is_impostor && status.iter().all(|status| status.shard != at.1) {
                self.oracles.gone(at);
            }
        }
        self.nodes[node].process = Some(process);
        self.nodes[node].is_formatted = true;
        self.status[node].clear();
        self.plan_tick(node);
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

    /// Plans the next tick by the node's clock as it runs now.
    pub(crate) fn plan_tick(&mut self, node: usize) {
        let state = &self.nodes[node];
        if let Some(process) = &state.process {
            let at = state.clock.when(self.now_us, process.next_tick_us);
            let life = state.life;
            self.queue.push(at, Event::Tick { node, life });
        }
    }

    /// A process ended by itself.
    pub(super) fn stopped(&mut self, node: usize, stop: Stop) -> Result<(), Violation> {
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
            // It was given up, and comes back all the same.
            Stop::Gone if state.is_gone => {
                state.held_down = true;
                Death::Kill
            }
            Stop::Gone => return self.told_gone(node),
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
        self.overviews.leads(node, None, 0);
        // A killed process's sockets are closed at once; a machine without power says nothing.
        let notice_us = match how {
            Death::Kill => 3_000,
            Death::PowerLoss => 1_000_000,
        };
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.break_connection(node, other, notice_us);
        }
        self.network.forget(node);
        self.callers_lost(node);
        self.id_takers.lost(node);
        self.placement.lost(node);
        for asker in self.workload.lost(node) {
            self.asked(asker, false);
        }
        let away = if self.healing {
            50_000
        } else {
            self.plan.down_us_max
        };
        // Often soon: within a lease, before the others have missed it.
        let at = self.now_us + self.rng.range_log(1_000, away.max(2_000));
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

    pub(super) fn begin_sync(&mut self, node: usize) {
        let plan = &self.plan.disk;
        let delay =
            self.rng.range(plan.sync_us_min, plan.sync_us_max) * self.nodes[node].slowness(self.now_us);
        let life = self.nodes[node].life;
        self.queue.push(self.now_us + delay, Event::Synced { node, life });
    }

    pub(super) fn synced(&mut self, node: usize) -> Result<(), Violation> {
        let life = self.nodes[node].life;
        if self.is_stalled(node, Event::Synced { node, life }) {
            return Ok(());
        }
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

    /// Whether the disk completes nothing now; the event then comes again when it does.
    fn is_stalled(&mut self, node: usize, event: Event) -> bool {
        let until_us = self.nodes[node].stalled_until_us;
        let is_stalled = self.now_us < until_us;
        if is_stalled {
            self.queue.push(until_us, event);
            // It comes then even if faults end before.
            let state = &mut self.nodes[node];
            state.late_until_us = state.late_until_us.max(until_us);
        }
        is_stalled
    }

    pub(super) fn durable(&mut self, node: usize, up_to: BatchSeq) -> Result<(), Violation> {
        let life = self.nodes[node].life;
        if self.is_stalled(node, Event::Durable { node, life, up_to }) {
            return Ok(());
        }
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

    pub(super) fn maintain(&mut self, node: usize) -> Result<(), Violation> {
        let life = self.nodes[node].life;
        let disk = self.nodes[node].disk.clone();
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
        let available_bytes = disk.available().unwrap_or(u64::MAX);
        if available_bytes < u64::MAX || process.store.health().is_full {
            process.inbox.push_back(Input::DiskSpace { available_bytes });
            self.wake(node);
        }
        self.queue
            .push(self.now_us + MAINTAIN_US, Event::Maintain { node, life });
        Ok(())
    }
}
