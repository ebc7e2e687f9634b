//! Faults: what strikes, whom, and for how long.

use quorate_storage::disk;
use quorate_storage::engine::FailedWrite;
use quorate_store::Input;

use crate::node::Death;
use crate::plan::Fault;
use crate::world::{Event, World};

impl World {
    pub(crate) fn next_strike(&mut self) -> u64 {
        self.now_us + self.rng.range(1_000, self.plan.fault_gap_us * 2)
    }

    /// One fault of the plan's kinds.
    pub(crate) fn strike(&mut self) {
        let total = self.plan.faults.iter().map(|(_, weight)| weight).sum();
        let mut left = self.rng.below(total);
        let chosen = self.plan.faults.iter().find(|(_, weight)| {
            let found = left < *weight;
            left = left.saturating_sub(*weight);
            found
        });
        let Some((fault, _)) = chosen.copied() else { return };
        let node = self.rng.below(self.nodes.len() as u64) as usize;
        self.inflict(fault, node);
    }

    /// A fault strikes, on `node` where it concerns one.
    pub(crate) fn inflict(&mut self, fault: Fault, node: usize) {
        self.counts.faults += 1;
        self.trace
            .event(self.now_us, &[11, fault as u64, node as u64], || {
                format!("{fault:?} strikes n{}", node + 1)
            });
        match fault {
            Fault::Kill => self.kill(node),
            Fault::PowerLoss => self.power_loss(node),
            Fault::KillAll => (0..self.nodes.len()).for_each(|node| self.kill(node)),
            Fault::PowerLossAll => (0..self.nodes.len()).for_each(|node| self.power_loss(node)),
            Fault::DieInLog => {
                if self.nodes[node].is_up() {
                    self.arm(node, 30);
                }
            }
            Fault::Shutdown => {
                self.nodes[node].is_stopping = true;
                self.input(node, Input::Shutdown);
            }
            Fault::Pause => self.pause(node),
            Fault::SlowDisk => {
                let factor = self.rng.range_log(2, 100);
                self.nodes[node].slow_disk = (factor, self.now_us + self.fault_us());
            }
            Fault::LogFault => self.fail_log(node),
            Fault::EngineFault => self.fail_engine(node),
            Fault::Partition => self.partition(),
            Fault::OneWay => {
                let deaf = self.rng.one_in(2);
                let others = (0..self.nodes.len()).filter(|other| *other != node);
                let pairs = others
                    .map(|other| if deaf { (other, node) } else { (node, other) })
                    .collect();
                self.block(pairs);
            }
            Fault::CutLink => {
                let other = self.rng.below(self.nodes.len() as u64) as usize;
                if other != node {
                    self.block(vec![(node, other), (other, node)]);
                }
            }
            Fault::BreakLink => {
                let other = self.rng.below(self.nodes.len() as u64) as usize;
                if other != node {
                    let notice_us = self.rng.range_log(100, 500_000);
                    self.break_connection(node, other, notice_us);
                }
            }
            Fault::WallJump => {
                let by_ms = self.rng.range_log(1, 20_000) as i64;
                let by_ms = if self.rng.one_in(2) { by_ms } else { -by_ms };
                self.nodes[node].clock.jump(by_ms);
            }
        }
    }

    /// How long a fault lasts.
    fn fault_us(&mut self) -> u64 {
        let timeout = self.plan.store.election_timeout_us();
        self.rng.range_log(timeout / 10, timeout * 8)
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, node: usize) {
        if self.nodes[node].is_up() {
            self.die(node, Death::Kill, "is killed");
        }
    }

    /// Power loss; a machine without a process loses what its disks had not written as well.
    pub(crate) fn power_loss(&mut self, node: usize) {
        if self.nodes[node].is_up() {
            self.die(node, Death::PowerLoss, "loses power");
        } else {
            let state = &mut self.nodes[node];
            state.disk.crash(self.rng.next_u64());
            state.engine.crash(self.rng.next_u64());
            state.clock.boot(self.now_us, &mut self.rng);
        }
    }

    fn pause(&mut self, node: usize) {
        let until = self.now_us + self.fault_us();
        if self.nodes[node].is_up() {
            self.nodes[node].paused_until_us = until;
            self.queue.push(until, Event::Resume { node });
        }
    }

    fn fail_log(&mut self, node: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        let n = self.rng.range(1, 20);
        let state = &mut self.nodes[node];
        state.may_fail = true;
        if self.rng.one_in(2) {
            state.disk.fail_sync(n, disk::Fault::Device);
        } else {
            let fault = if self.rng.one_in(2) {
                disk::Fault::Device
            } else {
                disk::Fault::NoSpace
            };
            state.disk.fail_write(n, fault);
        }
    }

    fn fail_engine(&mut self, node: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        let n = self.rng.range(1, 20);
        let state = &mut self.nodes[node];
        state.may_fail = true;
        match self.rng.below(3) {
            0 => state.engine.fail_make_durable(1 + n / 8),
            1 => state.engine.fail_write(n, FailedWrite::Lost),
            _ => state.engine.fail_write(n, FailedWrite::Kept),
        }
    }

    fn partition(&mut self) {
        let count = self.nodes.len();
        let side = self.rng.range(1, (1 << count) - 2);
        let is_left = |node: usize| side >> node & 1 == 1;
        let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        let pairs = pairs.filter(|(a, b)| is_left(*a) != is_left(*b)).collect();
        self.block(pairs);
    }

    /// Stops directions for a while. Connections that nothing gets through break, if it lasts.
    fn block(&mut self, pairs: Vec<(usize, usize)>) {
        for (from, to) in &pairs {
            self.network.block(*from, *to);
            if self.rng.one_in(2) {
                let notice_us = self.rng.range_log(1_000, 2_000_000);
                self.break_connection(*from, *to, notice_us);
            }
        }
        let until = self.now_us + self.fault_us();
        self.queue.push(until, Event::Unblock { pairs });
    }

    /// Takes a node down until [`World::release`].
    pub fn hold_down(&mut self, node: usize) {
        self.nodes[node].held_down = true;
        self.kill(node);
    }

    /// Starts a node that was held down.
    pub fn release(&mut self, node: usize) {
        self.nodes[node].held_down = false;
        self.queue.push(self.now_us, Event::Start { node });
    }

    /// Cuts the link between two nodes for as long as given; what is sent on it is lost.
    pub fn cut_link(&mut self, a: usize, b: usize, for_us: u64) {
        let pairs = vec![(a, b), (b, a)];
        for (from, to) in &pairs {
            self.network.block(*from, *to);
        }
        self.queue.push(self.now_us + for_us, Event::Unblock { pairs });
    }

    /// Power fails on every node at this instant.
    pub fn power_loss_everywhere(&mut self) {
        self.inflict(Fault::PowerLossAll, 0);
    }
}
