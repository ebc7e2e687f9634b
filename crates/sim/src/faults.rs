//! Faults: what strikes, whom, and for how long.

use quorate_storage::disk;
use quorate_storage::engine::FailedWrite;
use quorate_store::Input;

use crate::node::Death;
use crate::plan::{Fault, Strike};
use crate::world::{Event, World};

impl World {
    /// Plans the next fault of the schedule.
    pub(crate) fn plan_strike(&mut self) {
        if let Some(strike) = self.schedule.next(&self.plan) {
            if !strike.is_skipped {
                self.plan_bursts(strike.at_us, strike.rng.clone().fork());
            }
            self.queue.push(strike.at_us, Event::Strike(Box::new(strike)));
        }
    }

    /// A fault of the schedule strikes.
    pub(crate) fn strike(&mut self, strike: Strike) {
        if !strike.is_skipped {
            self.fault_rng = strike.rng;
            self.strikes.push(strike.number);
            let node = self.victim(strike.node);
            self.inflict(strike.number, strike.fault, node);
        }
        self.plan_strike();
    }

    /// Whom a fault strikes: a leader half of the time, since most that can go wrong goes wrong there.
    fn victim(&mut self, node: usize) -> usize {
        let nth = self.fault_rng.below(self.shards().len() as u64);
        let shard = self.shards()[nth as usize];
        let leads = self.fault_rng.one_in(2);
        self.leader_of(shard).filter(|_| leads).unwrap_or(node)
    }

    /// A fault strikes, on `node` where it concerns one.
    pub(crate) fn inflict(&mut self, number: u64, fault: Fault, node: usize) {
        self.counts.faults += 1;
        self.trace
            .event(self.now_us, &[11, fault as u64, node as u64], || {
                format!("fault {number}: {fault} on n{}", node + 1)
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
            Fault::Pause => {
                let until = self.now_us + self.fault_us();
                self.pause_until(node, until);
            }
            Fault::SlowDisk => {
                let factor = self.fault_rng.range_log(2, 100);
                self.nodes[node].slow_disk = (factor, self.now_us + self.fault_us());
            }
            Fault::Rot => {
                self.rot(node);
            }
            Fault::LogFault => self.fail_log(node),
            Fault::EngineFault => self.fail_engine(node),
            Fault::StallDisk => {
                let until = self.now_us + self.fault_us();
                self.nodes[node].stalled_until_us = until;
            }
            Fault::FullDisk => {
                let until = self.now_us + self.fault_us();
                // Below the mark at which the store notices in time (H1), or none at all, which it may not survive.
                let low = self.plan.store.low_space_bytes;
                let left = if self.fault_rng.one_in(2) {
                    self.fault_rng.range(low / 2, low)
                } else {
                    self.fault_rng.below(low / 2)
                };
                self.fill_disk(node, left, until);
            }
            Fault::Partition => {
                let pairs = self.division();
                self.block(pairs);
            }
            Fault::Flapping => {
                let pairs = self.division();
                let until_us = self.now_us + self.fault_us() * 2;
                let period_us = self
                    .fault_rng
                    .range_log(self.plan.store.tick_us, self.fault_us_max() / 4);
                self.flap(pairs, false, period_us, until_us);
            }
            Fault::OneWay => {
                let deaf = self.fault_rng.one_in(2);
                let others = (0..self.nodes.len()).filter(|other| *other != node);
                let pairs = others
                    .map(|other| if deaf { (other, node) } else { (node, other) })
                    .collect();
                self.block(pairs);
            }
            Fault::CutLink => {
                let other = self.fault_rng.below(self.nodes.len() as u64) as usize;
                if other != node {
                    self.block(vec![(node, other), (other, node)]);
                }
            }
            Fault::BreakLink => {
                let other = self.fault_rng.below(self.nodes.len() as u64) as usize;
                if other != node {
                    let notice_us = self.fault_rng.range_log(100, 500_000);
                    self.break_connection(node, other, notice_us);
                }
            }
            Fault::SlowLink => {
                let other = self.fault_rng.below(self.nodes.len() as u64) as usize;
                let (extra, until) = (self.fault_us() / 4, self.now_us + self.fault_us());
                self.network.slow_down(node, other, extra, until);
                self.network.slow_down(other, node, extra, until);
            }
            Fault::Succession => self.begin_succession(),
            Fault::Bridge => self.begin_bridge(),
            Fault::DieInSnapshot => self.begin_death_by_snapshot(),
            Fault::Drift => {
                let clock = &mut self.nodes[node].clock;
                clock.drift(self.now_us, &mut self.fault_rng);
                self.plan_tick(node);
            }
            Fault::BadClock => self.spoil_clock(node),
            Fault::Members => self.wish_at_random(),
            Fault::Split => self.split_at_random(),
            Fault::Place => self.place_at_random(),
            Fault::Drain => self.drain_at_random(),
            Fault::Birth => self.begin_birth(),
            Fault::MidChange => self.begin_mid_change(),
            // These last all through the phase.
            Fault::Loss | Fault::Repetition | Fault::Delay | Fault::Reordering | Fault::DieAtStart => {}
            Fault::WallJump => {
                let by_ms = self.fault_rng.range_log(1, 20_000) as i64;
                let by_ms = if self.fault_rng.one_in(2) { by_ms } else { -by_ms };
                self.nodes[node].clock.jump(by_ms);
            }
        }
    }

    /// How long a fault lasts.
    pub(crate) fn fault_us(&mut self) -> u64 {
        let most = self.fault_us_max();
        self.fault_rng.range_log(most / 80, most)
    }

    fn fault_us_max(&self) -> u64 {
        self.plan.store.election_timeout_us() * 8
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
            state.disk.crash(self.fault_rng.next_u64());
            state.engine.crash(self.fault_rng.next_u64());
            state.clock.boot(self.now_us, &mut self.fault_rng);
        }
    }

    /// A process stands still.
    pub(crate) fn pause_until(&mut self, node: usize, until_us: u64) {
        if self.nodes[node].is_up() {
            self.nodes[node].paused_until_us = until_us;
            self.queue.push(until_us, Event::Resume { node });
        }
    }

    fn fail_log(&mut self, node: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        let n = self.fault_rng.range(1, 20);
        let state = &mut self.nodes[node];
        state.may_fail = true;
        if self.fault_rng.one_in(2) {
            state.disk.fail_sync(n, disk::Fault::Device);
        } else {
            let fault = if self.fault_rng.one_in(2) {
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
        let n = self.fault_rng.range(1, 20);
        let state = &mut self.nodes[node];
        state.may_fail = true;
        match self.fault_rng.below(3) {
            0 => state.engine.fail_make_durable(1 + n / 8),
            1 => state.engine.fail_write(n, FailedWrite::Lost),
            _ => state.engine.fail_write(n, FailedWrite::Kept),
        }
    }

    /// A disk has so many bytes left for new files until the time given. The process may stop for it.
    pub(crate) fn fill_disk(&mut self, node: usize, left_bytes: u64, until_us: u64) {
        self.set_space_left(node, left_bytes);
        let state = &mut self.nodes[node];
        state.full_until_us = until_us;
        state.may_fail = true;
        self.queue.push(until_us, Event::Freed { node });
    }

    /// There is room again, unless the disk was filled anew.
    pub(crate) fn free_disk(&mut self, node: usize) {
        if self.now_us >= self.nodes[node].full_until_us {
            self.nodes[node].full_until_us = 0;
            self.set_space_left(node, u64::MAX);
        }
    }

    /// A clock leaves the stated bound, for a while.
    fn spoil_clock(&mut self, node: usize) {
        let rng = &mut self.fault_rng;
        let clock = &mut self.nodes[node].clock;
        if rng.one_in(3) {
            clock.skip(rng.range_log(1_000, 10_000_000));
        } else {
            let rate = rng.range_log(50_000, 900_000) as i64;
            clock.set_rate(self.now_us, if rng.one_in(2) { rate } else { -rate });
        }
        let until = self.now_us + self.fault_us();
        self.queue.push(until, Event::Steady { node });
        self.plan_tick(node);
    }

    /// A clock is within the stated bound again.
    pub(crate) fn steady_clock(&mut self, node: usize) {
        let clock = &mut self.nodes[node].clock;
        clock.drift(self.now_us, &mut self.fault_rng);
        self.plan_tick(node);
    }

    /// The links between two random halves, in both directions.
    fn division(&mut self) -> Vec<(usize, usize)> {
        let count = self.nodes.len();
        let side = self.fault_rng.range(1, (1 << count) - 2);
        let is_left = |node: usize| side >> node & 1 == 1;
        let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
        pairs.filter(|(a, b)| is_left(*a) != is_left(*b)).collect()
    }

    /// Links that are blocked and open in turn; `was_blocked` until now.
    pub(crate) fn flap(
        &mut self,
        pairs: Vec<(usize, usize)>,
        was_blocked: bool,
        period_us: u64,
        until_us: u64,
    ) {
        for (from, to) in &pairs {
            if was_blocked {
                self.network.unblock(*from, *to);
            } else {
                self.network.block(*from, *to);
            }
        }
        if was_blocked && self.now_us >= until_us {
            return;
        }
        let next = Event::Flap {
            pairs,
            is_blocked: !was_blocked,
            period_us,
            until_us,
        };
        self.queue.push(self.now_us + period_us, next);
    }

    /// Stops directions for a while. Connections that nothing gets through break, if it lasts.
    fn block(&mut self, pairs: Vec<(usize, usize)>) {
        let lasts_us = self.fault_us();
        self.block_for(pairs, lasts_us);
    }

    /// The same for so long.
    pub(crate) fn block_for(&mut self, pairs: Vec<(usize, usize)>, lasts_us: u64) {
        for (from, to) in &pairs {
            self.network.block(*from, *to);
            if self.fault_rng.one_in(2) {
                let notice_us = self.fault_rng.range_log(1_000, 2_000_000);
                self.break_connection(*from, *to, notice_us);
            }
        }
        self.queue.push(self.now_us + lasts_us, Event::Unblock { pairs });
    }
}
