//! What a script does to nodes, disks, clocks and network. Everything lasts until the script takes it back, or
//! for the time given.

use quorate_proto::PeerMessage;
use quorate_storage::{ShardId, disk};
use quorate_store::Input;

use crate::node::Death;
use crate::oracle::Violation;
use crate::plan::NetPlan;
use crate::world::{Event, World};

/// Virtual microseconds that stand for ever.
const FOR_EVER: u64 = u64::MAX / 4;

/// Nodes.
impl World {
    /// Kills a node's process (`kill -9`); it stays down until [`World::start_node`].
    pub fn crash(&mut self, node: usize) {
        self.nodes[node].held_down = true;
        self.kill(node);
    }

    /// Takes a node's power: what its disks had not synced may be gone, in whole or in part. It stays down until
    /// [`World::start_node`].
    pub fn crash_power(&mut self, node: usize) {
        self.nodes[node].held_down = true;
        self.power_loss(node);
    }

    /// Starts a node that is down.
    pub fn start_node(&mut self, node: usize) {
        self.nodes[node].held_down = false;
        self.queue.push(self.now_us, Event::Start { node });
    }

    /// Tells a node to stop; it hands its leaderships away, stops and stays down.
    pub fn shut_down(&mut self, node: usize) {
        self.nodes[node].held_down = true;
        self.nodes[node].is_stopping = true;
        self.input(node, Input::Shutdown);
    }

    /// Asks whoever leads a shard to hand its leadership to a node, at every tick until that node leads. Returns
    /// how long it took.
    ///
    /// # Errors
    ///
    /// The first property that does not hold; a node that does not get to lead is one.
    pub fn transfer_leader(&mut self, shard: u64, to: usize) -> Result<u64, Violation> {
        let (began_us, tick_us) = (self.now_us, self.plan.store.tick_us);
        let within_us = self.plan.store.election_timeout_us() * 20;
        while self.followed_leader(shard) != Some(to) {
            if self.now_us >= began_us + within_us {
                let detail = format!("node {} not within {within_us} us; {}", to + 1, self.standing());
                return Err(Violation::new("leadership goes where it is sent", detail));
            }
            self.ask_transfer(shard, to);
            self.run_for(tick_us)?;
        }
        Ok(self.now_us - began_us)
    }

    /// Asks whoever leads a shard, once, to hand its leadership to a node.
    pub fn ask_transfer(&mut self, shard: u64, to: usize) {
        if let Some(leader) = self.followed_leader(shard) {
            let to = self.nodes[to].identity.store;
            let shard = ShardId(shard);
            self.input(leader, Input::TransferLeader { shard, to });
        }
    }

    /// Kills every node; they stay down.
    pub fn crash_all(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.crash(node));
    }

    /// Starts every node that is down.
    pub fn start_all(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.start_node(node));
    }

    /// Lets a process die in the `nth` of its log operations from now, and with it the machine's power if `power`
    /// says so. It stays down.
    pub fn die_in_log(&mut self, node: usize, nth: u64, power: bool) {
        let state = &mut self.nodes[node];
        state.held_down = true;
        state.disk.crash_at(nth);
        state.armed = Some(if power { Death::PowerLoss } else { Death::Kill });
    }

    /// A process stands still for a while; its clocks go on.
    pub fn pause(&mut self, node: usize, for_us: u64) {
        self.pause_until(node, self.now_us + for_us);
    }

    /// Takes a node down until [`World::release`].
    pub fn hold_down(&mut self, node: usize) {
        self.crash(node);
    }

    /// Starts a node that was held down.
    pub fn release(&mut self, node: usize) {
        self.start_node(node);
    }

    /// Power fails on every node at this instant; they come back by themselves.
    pub fn power_loss_everywhere(&mut self) {
        self.inflict(0, crate::plan::Fault::PowerLossAll, 0);
    }
}

/// Disks.
impl World {
    /// Syncs take so many times as long.
    pub fn slow_disk(&mut self, node: usize, factor: u64, for_us: u64) {
        self.nodes[node].slow_disk = (factor, self.now_us + for_us);
    }

    /// No sync completes for a while.
    pub fn stall_disk(&mut self, node: usize, for_us: u64) {
        self.nodes[node].stalled_until_us = self.now_us + for_us;
    }

    /// The disk has no room for another file, until [`World::free_full_disk`]. A process that needs one stops, and
    /// starts again by itself.
    pub fn fill_full_disk(&mut self, node: usize) {
        self.fill_disk(node, 0, self.now_us + FOR_EVER);
    }

    /// The disk has `bytes` left for files that are made from now on (H1); `u64::MAX`: no bound.
    pub fn set_space_left(&mut self, node: usize, bytes: u64) {
        let disk = &self.nodes[node].disk;
        let used: usize = disk.visible().values().map(Vec::len).sum();
        disk.set_capacity(bytes.saturating_add(used as u64));
    }

    /// There is room again.
    pub fn free_full_disk(&mut self, node: usize) {
        self.nodes[node].full_until_us = self.now_us;
        self.free_disk(node);
    }

    /// The `nth` write to the log from now fails; the process must stop (P2) and starts again by itself.
    pub fn fail_log_write(&mut self, node: usize, nth: u64) {
        self.nodes[node].may_fail = true;
        self.nodes[node].disk.fail_write(nth, disk::Fault::Device);
    }

    /// The `nth` sync of the log from now fails; the process must stop (P2) and starts again by itself.
    pub fn fail_log_sync(&mut self, node: usize, nth: u64) {
        self.nodes[node].may_fail = true;
        self.nodes[node].disk.fail_sync(nth, disk::Fault::Device);
    }

    /// The simulated disk of a node's log, for what no other method does.
    #[must_use]
    pub fn log_disk(&self, node: usize) -> &disk::SimDisk {
        &self.nodes[node].disk
    }
}

/// Clocks.
impl World {
    /// Sets a node's wall clock forward or back.
    pub fn jump_wall_clock(&mut self, node: usize, by_ms: i64) {
        self.nodes[node].clock.jump(by_ms);
    }

    /// A node's clocks run so much faster than true time from now on; the bound that leases count on is
    /// [`quorate_store::StoreOptions::clock_drift_max`] between two clocks.
    pub fn set_clock_rate(&mut self, node: usize, ppm: i64) {
        self.nodes[node].clock.set_rate(self.now_us, ppm);
        self.plan_tick(node);
    }

    /// A node's monotonic clock skips time that did not pass. No clock within its bound does that.
    pub fn skip_clock(&mut self, node: usize, by_us: u64) {
        self.nodes[node].clock.skip(by_us);
        self.plan_tick(node);
    }
}

/// The network between nodes.
impl World {
    /// Cuts one direction: what `from` sends to `to` is lost.
    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.network.cut(from, to, true);
    }

    /// Cuts the link between two nodes, in both directions. Their connection breaks.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
        self.break_connection(a, b, 100_000);
    }

    /// Restores the link between two nodes.
    pub fn heal(&mut self, a: usize, b: usize) {
        self.network.cut(a, b, false);
        self.network.cut(b, a, false);
    }

    /// Restores every link.
    pub fn heal_network(&mut self) {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                self.heal(a, b);
            }
        }
    }

    /// Divides the nodes: those of different sets do not hear each other, nor does a node that is in no set hear
    /// any. What was cut before and is within a set works again.
    pub fn partition(&mut self, sets: &[&[usize]]) {
        let set_of = |node: usize| sets.iter().position(|set| set.contains(&node));
        for a in 0..self.nodes.len() {
            for b in 0..a {
                if set_of(a).is_some() && set_of(a) == set_of(b) {
                    self.heal(a, b);
                } else {
                    self.cut(a, b);
                }
            }
        }
    }

    /// Cuts a node off from all others.
    pub fn isolate(&mut self, node: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.cut(node, other);
        }
    }

    /// Restores a node's links to all others.
    pub fn rejoin(&mut self, node: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.heal(node, other);
        }
    }

    /// Cuts the link between two nodes for as long as given; most of what is sent on it is lost, some arrives
    /// late.
    pub fn cut_link(&mut self, a: usize, b: usize, for_us: u64) {
        let pairs = vec![(a, b), (b, a)];
        for (from, to) in &pairs {
            self.network.block(*from, *to);
        }
        self.queue.push(self.now_us + for_us, Event::Unblock { pairs });
    }

    /// Every message between two nodes takes so much longer.
    pub fn slow_link(&mut self, a: usize, b: usize, extra_us: u64, for_us: u64) {
        let until_us = self.now_us + for_us;
        self.network.slow_down(a, b, extra_us, until_us);
        self.network.slow_down(b, a, extra_us, until_us);
    }

    /// A node gets a message as if another one had sent it.
    pub fn forge(&mut self, from: usize, to: usize, message: PeerMessage) {
        let from = self.nodes[from].identity.store;
        self.input(to, Input::Peer { from, message });
    }

    /// How the network behaves from now on.
    pub fn network_plan(&mut self) -> &mut NetPlan {
        self.network.plan_mut()
    }
}
