//! Faults that lie in wait: they strike when the cluster stands in a certain way, or in several steps.

use quorate_raft::{Role, Term};
use quorate_store::rsm::CONTROLLER;

use crate::node::Death;
use crate::plan::Fault;
use crate::rng::Rng;
use crate::world::{Event, World};

/// What lies in wait. Each has draws of its own, so that leaving out one moves no other one.
#[derive(Debug, Default)]
pub(crate) struct Plots {
    successions: Vec<Succession>,
    /// The process that takes this many more pieces of snapshots dies.
    pieces: Option<(u64, Rng)>,
    /// Those that wait for the middle of a change.
    mid_changes: Vec<MidChange>,
}

/// Somebody is struck soon after a change has begun.
#[derive(Debug)]
struct MidChange {
    /// The config that there was.
    num: u64,
    until_us: u64,
    rng: Rng,
}

/// Whoever leads a shard is struck soon after.
#[derive(Debug)]
struct Succession {
    shard: u64,
    /// The newest term whose leader was struck.
    struck: Term,
    until_us: u64,
    rng: Rng,
}

/// A step of something that was begun.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A leader is struck.
    Depose { node: usize, rng: Rng },
    /// A node is cut off.
    CutOff { node: usize, rng: Rng },
    /// Nothing gets out of a node any more.
    Mute { node: usize, lasts_us: u64, rng: Rng },
    /// A node is struck because a change is under way.
    StrikeMidChange { node: usize, rng: Rng },
    /// A node between a shard's leader and one that does not hear it restarts; so many are left.
    Bridge {
        shard: u64,
        far: usize,
        left: u64,
        rng: Rng,
    },
}

impl World {
    /// For a while, whoever leads a shard is struck soon after.
    pub(crate) fn begin_succession(&mut self) {
        let timeout_us = self.plan.store.election_timeout_us();
        let rng = &mut self.fault_rng;
        let succession = Succession {
            shard: rng.below(u64::from(self.plan.shards) + 1),
            struck: Term(0),
            until_us: self.now_us + rng.range(timeout_us * 2, timeout_us * 16),
            rng: rng.fork(),
        };
        let leader = self.leader_of(succession.shard);
        self.plots.successions.push(succession);
        if let Some(node) = leader {
            self.hunt(node);
        }
    }

    /// Looks whether a node leads what is hunted. Called after its turn, before anybody hears of it.
    pub(crate) fn hunt(&mut self, node: usize) {
        if self.plots.successions.is_empty() || self.healing {
            return;
        }
        let (now_us, timeout_us) = (self.now_us, self.plan.store.election_timeout_us());
        let mut plots = std::mem::take(&mut self.plots.successions);
        plots.retain(|succession| now_us < succession.until_us);
        for succession in &mut plots {
            let newly = self.status(node).iter().find(|status| {
                let leads = status.role == Role::Leader && status.term > succession.struck;
                status.shard.0 == succession.shard && leads
            });
            let Some(term) = newly.map(|status| status.term) else {
                continue;
            };
            succession.struck = term;
            let mut rng = succession.rng.fork();
            if rng.one_in(3) {
                // At once: nobody else hears of its first entry.
                self.go_on(Step::CutOff { node, rng });
            } else {
                let at = now_us + rng.range_log(100, timeout_us);
                let step = Step::Depose { node, rng };
                self.queue.push(at, Event::Step(Box::new(step)));
            }
        }
        self.plots.successions = plots;
    }

    /// The link between a shard's leader and another node is cut. Once that one misses the leader, nodes between
    /// them restart, and the leader may go.
    pub(crate) fn begin_bridge(&mut self) {
        let timeout_us = self.plan.store.election_timeout_us();
        let rng = &mut self.fault_rng;
        let shard = rng.below(u64::from(self.plan.shards) + 1);
        let far = rng.below(self.nodes.len() as u64) as usize;
        let lasts_us = rng.range(timeout_us * 2, timeout_us * 8);
        let begins_us = rng.range(timeout_us / 2, timeout_us * 3);
        let step = Step::Bridge {
            shard,
            far,
            left: rng.range(1, 8),
            rng: rng.fork(),
        };
        if let Some(leader) = self.leader_of(shard).filter(|leader| *leader != far) {
            self.block_for(vec![(leader, far), (far, leader)], lasts_us);
            self.queue
                .push(self.now_us + begins_us, Event::Step(Box::new(step)));
        }
    }

    /// One of the next pieces of a snapshot kills who takes it.
    pub(crate) fn begin_death_by_snapshot(&mut self) {
        let pieces = self.fault_rng.range_log(1, 30);
        self.plots.pieces = Some((pieces, self.fault_rng.fork()));
    }

    /// A piece of a snapshot arrives.
    pub(crate) fn piece_arrives(&mut self, node: usize) {
        let Some((left, rng)) = self.plots.pieces.as_mut().filter(|_| !self.healing) else {
            return;
        };
        *left -= 1;
        if *left == 0 {
            let mut rng = rng.clone();
            self.plots.pieces = None;
            let back_us = rng.range_log(500, 20_000);
            let how = if rng.one_in(2) {
                Death::Kill
            } else {
                Death::PowerLoss
            };
            self.die(node, how, "dies of a snapshot");
            self.queue.push(self.now_us + back_us, Event::Start { node });
        }
    }

    /// Lies in wait for a change of the placement, or of a shard's members.
    pub(crate) fn begin_mid_change(&mut self) {
        let timeout_us = self.plan.store.election_timeout_us();
        self.plots.mid_changes.push(MidChange {
            num: self.oracles.configs.newest().num,
            until_us: self.now_us + 100 * timeout_us,
            rng: self.fault_rng.fork(),
        });
    }

    /// Looks whether a change has begun. Called after a turn of a node.
    pub(crate) fn lurk(&mut self, node: usize) {
        if self.plots.mid_changes.is_empty() || self.healing {
            return;
        }
        let now_us = self.now_us;
        let num = self.oracles.configs.newest().num;
        let changing = self.status(node).iter().find(|status| status.changing);
        let changing = changing.map(|status| status.shard.0);
        let mut plots = std::mem::take(&mut self.plots.mid_changes);
        plots.retain(|plot| now_us < plot.until_us);
        let is_due = |plot: &mut MidChange| changing.is_some() || plot.num < num;
        let due: Vec<MidChange> = plots.extract_if(.., is_due).collect();
        self.plots.mid_changes = plots;
        let timeout_us = self.plan.store.election_timeout_us();
        for MidChange { mut rng, .. } in due {
            let shard = changing.filter(|_| rng.one_in(3));
            let struck = match shard {
                Some(_) if rng.one_in(2) => Some(node),
                shard => self.leader_of(shard.unwrap_or(CONTROLLER.0)),
            };
            if let Some(node) = struck {
                let at = now_us + rng.range_log(100, timeout_us * 4);
                let step = Step::StrikeMidChange { node, rng };
                self.queue.push(at, Event::Step(Box::new(step)));
            }
        }
    }

    /// The next step of something that was begun.
    pub(crate) fn go_on(&mut self, step: Step) {
        let timeout_us = self.plan.store.election_timeout_us();
        let (Step::Depose { rng, .. }
        | Step::CutOff { rng, .. }
        | Step::Mute { rng, .. }
        | Step::StrikeMidChange { rng, .. }
        | Step::Bridge { rng, .. }) = &step;
        // What it does draws from its own.
        let others = std::mem::replace(&mut self.fault_rng, rng.clone());
        match step {
            Step::Depose { node, .. } => self.depose(node),
            Step::CutOff { node, .. } => self.cut_off(node),
            Step::StrikeMidChange { node, .. } => {
                if self.leader_of(CONTROLLER.0) == Some(node) {
                    self.counts.placement.controllers_struck += 1;
                } else {
                    self.counts.placement.others_struck += 1;
                }
                self.depose(node);
            }
            Step::Mute { node, lasts_us, .. } => {
                let rng = self.fault_rng.fork();
                self.plan_bursts(self.now_us + timeout_us, rng);
                let pairs = self.others(node).map(|other| (node, other)).collect();
                self.block_for(pairs, lasts_us);
            }
            Step::Bridge { shard, far, left, .. } => {
                self.restart_between(shard, far);
                let next_us = self.fault_rng.range_log(1_000, timeout_us);
                if left > 1 {
                    let step = Step::Bridge {
                        shard,
                        far,
                        left: left - 1,
                        rng: self.fault_rng.fork(),
                    };
                    self.queue
                        .push(self.now_us + next_us, Event::Step(Box::new(step)));
                }
            }
        }
        self.fault_rng = others;
    }

    fn others(&self, node: usize) -> impl Iterator<Item = usize> + use<> {
        (0..self.nodes.len()).filter(move |other| *other != node)
    }

    /// A leader ends, or is cut off, or hears late and is heard no more: what it had asked before is answered when
    /// somebody else leads already.
    fn depose(&mut self, node: usize) {
        let timeout_us = self.plan.store.election_timeout_us();
        match self.fault_rng.below(8) {
            0 => self.kill(node),
            1 => self.power_loss(node),
            2..5 => {
                let extra_us = self.fault_rng.range(timeout_us, timeout_us * 2);
                let lasts_us = self.fault_rng.range(timeout_us * 2, timeout_us * 4);
                let until_us = self.now_us + lasts_us;
                for other in self.others(node) {
                    self.network.slow_down(other, node, extra_us, until_us);
                }
                let mute_us = self.fault_rng.range_log(1_000, timeout_us / 2);
                let step = Step::Mute {
                    node,
                    lasts_us,
                    rng: self.fault_rng.fork(),
                };
                self.queue
                    .push(self.now_us + mute_us, Event::Step(Box::new(step)));
            }
            _ => self.cut_off(node),
        }
    }

    fn cut_off(&mut self, node: usize) {
        let timeout_us = self.plan.store.election_timeout_us();
        let lasts_us = self.fault_rng.range_log(timeout_us / 2, timeout_us * 4);
        let pairs = self.others(node).flat_map(|other| [(node, other), (other, node)]);
        self.block_for(pairs.collect(), lasts_us);
    }

    /// A node that hears both a shard's leader and one that does not restarts at once.
    fn restart_between(&mut self, shard: u64, far: usize) {
        let timeout_us = self.plan.store.election_timeout_us();
        let leader = self.leader_of(shard);
        let between: Vec<usize> = self.others(far).filter(|node| Some(*node) != leader).collect();
        if between.is_empty() {
            return;
        }
        let node = *self.fault_rng.pick(&between);
        let rng = self.fault_rng.fork();
        self.plan_bursts(self.now_us, rng);
        if !(self.plan.uses(Fault::Rot) && self.fault_rng.one_in(2) && self.rot(node)) {
            self.kill(node);
        }
        let back_us = self.fault_rng.range_log(500, 20_000);
        self.queue.push(self.now_us + back_us, Event::Start { node });
        let Some(leader) = leader else { return };
        let lasts_us = self.fault_rng.range_log(timeout_us / 8, timeout_us * 2);
        match self.fault_rng.below(4) {
            0 => self.kill(leader),
            1 | 2 => self.block_for(vec![(leader, node), (node, leader)], lasts_us),
            _ => {}
        }
    }
}
