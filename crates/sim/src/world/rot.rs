//! Damage at rest: bits of synced log records flip while a machine is down (P3, X-10).

use quorate_raft::ReplicaId;
use quorate_storage::engine::ModelDisk;
use quorate_storage::{StoreId, log};

use super::World;
use crate::node::Death;
use crate::workload::node_of;

/// Bits flipped at most, in one log.
const FLIPS_MAX: u64 = 4;

impl World {
    /// The node goes down and finds synced records of its log damaged when it comes back. Returns whether it
    /// was done: storage loses what was synced on a minority of each shard's nodes at most, until they are rebuilt.
    pub fn rot(&mut self, node: usize) -> bool {
        if !self.go_down_to_rot(node) {
            return false;
        }
        for _ in 0..self.rng.range(1, FLIPS_MAX) {
            self.flip_synced_bit(node);
        }
        self.nodes[node].is_damaged
    }

    /// Takes the node down, unless too many are damaged already.
    fn go_down_to_rot(&mut self, node: usize) -> bool {
        let impaired: Vec<bool> = (0..self.nodes.len())
            .map(|other| other == node || self.is_impaired(other))
            .collect();
        // Of each shard; where they began, since shards do not move while bits rot.
        let is_minority = |members: Vec<(ReplicaId, StoreId)>| {
            let lost = members.iter().filter(|(_, store)| impaired[node_of(*store)]);
            2 * lost.count() < members.len()
        };
        if !self.bootstrap.members().into_iter().all(is_minority) {
            return false;
        }
        if self.nodes[node].is_up() {
            let how = if self.fault_rng.one_in(2) {
                Death::Kill
            } else {
                Death::PowerLoss
            };
            self.die(node, how, "rots");
        }
        true
    }

    /// The node goes down and finds its engine empty when it comes back. Returns whether it was done, as for
    /// [`World::rot`].
    pub fn lose_engine(&mut self, node: usize) -> bool {
        if !self.go_down_to_rot(node) {
            return false;
        }
        self.nodes[node].engine = ModelDisk::new();
        self.nodes[node].is_damaged = true;
        true
    }

    /// Whether a replica there is damaged and not rebuilt.
    fn is_impaired(&self, node: usize) -> bool {
        let state = &self.nodes[node];
        match &state.process {
            Some(process) => process
                .status(state.clock.times(self.now_us))
                .iter()
                .any(|replica| replica.rebuild.is_some()),
            None => state.is_damaged,
        }
    }

    /// One bit of what the log's own records know to be synced. Damage to the newest record, which nothing
    /// vouches for, cannot be told from a torn tail; headers name the store, and a log without them is refused.
    fn flip_synced_bit(&mut self, node: usize) {
        let disk = &self.nodes[node].disk;
        let segments: Vec<_> = disk
            .visible()
            .into_iter()
            .filter(|(name, _)| name.starts_with("raft-"))
            .map(|(name, content)| (name, log::vouched(&content)))
            .filter(|(_, vouched)| !vouched.is_empty())
            .collect();
        if segments.is_empty() {
            return;
        }
        let (name, vouched) = &segments[self.fault_rng.below(segments.len() as u64) as usize];
        let bit = self.fault_rng.range(8 * vouched.start, 8 * vouched.end - 1);
        self.trace.event(self.now_us, &[13, node as u64, bit], || {
            format!("n{} bit {bit} of {name} flips", node + 1)
        });
        self.nodes[node].disk.flip_bit(name, bit);
        self.nodes[node].is_damaged = true;
    }
}
