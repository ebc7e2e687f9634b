//! The state of the cluster as a script sees it, and waiting for one.

use quorate_raft::{Role, Term};
use quorate_storage::ShardId;
use quorate_storage::engine::View;
use quorate_store::{Counters, ReplicaStatus, kv};

use crate::network::Traffic;
use crate::oracle::Violation;
use crate::world::World;

/// How often a condition is looked at, in virtual microseconds.
const LOOK_US: u64 = 1_000;
/// How long an election may take, in election timeouts.
const ELECTION_TIMEOUTS: u64 = 20;

/// Time.
impl World {
    /// Lets so many virtual microseconds pass.
    ///
    /// # Errors
    ///
    /// The first property that does not hold.
    pub fn run_for(&mut self, us: u64) -> Result<(), Violation> {
        self.run_until(self.now_us + us)
    }

    /// Lets time pass until `is_so`, but not longer than `within_us`. Returns how long it took.
    ///
    /// # Errors
    ///
    /// The first property that does not hold; `what` that did not come about is one.
    pub fn wait_until(
        &mut self,
        what: &'static str,
        within_us: u64,
        mut is_so: impl FnMut(&World) -> bool,
    ) -> Result<u64, Violation> {
        let began_us = self.now_us;
        while !is_so(self) {
            if self.now_us >= began_us + within_us {
                let detail = format!("not within {within_us} us; {}", self.standing());
                return Err(Violation::new(what, detail));
            }
            self.run_for(LOOK_US)?;
        }
        Ok(self.now_us - began_us)
    }

    /// Lets time pass until a shard has a leader that a majority of its replicas on nodes that are up follow.
    ///
    /// # Errors
    ///
    /// As [`World::wait_until`].
    pub fn await_leader(&mut self, shard: u64) -> Result<usize, Violation> {
        let within_us = self.plan.store.election_timeout_us() * ELECTION_TIMEOUTS;
        self.wait_until("a leader is elected", within_us, |world| {
            world.followed_leader(shard).is_some()
        })?;
        // It was awaited.
        Ok(self.followed_leader(shard).unwrap_or_default())
    }

    /// Lets time pass until every replica on a node that is up stands where the others do, with nothing to apply.
    ///
    /// # Errors
    ///
    /// As [`World::wait_until`].
    pub fn await_equal(&mut self, shard: u64, within_us: u64) -> Result<u64, Violation> {
        self.wait_until("all replicas become equal", within_us, |world| {
            let mut positions = (0..world.nodes.len()).filter_map(|node| world.replica(node, shard));
            let Some(first) = positions.next() else {
                return false;
            };
            first.applied == first.last
                && positions.all(|s| s.applied == first.applied && s.last == first.last)
        })
    }
}

/// Replicas.
impl World {
    /// How many nodes there are.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether a node's process runs.
    #[must_use]
    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node].is_up()
    }

    /// A shard's replica on a node after its last turn; none while the node is down.
    #[must_use]
    pub fn replica(&self, node: usize, shard: u64) -> Option<&ReplicaStatus> {
        self.status(node)
            .iter()
            .find(|status| status.shard == ShardId(shard))
    }

    /// Every node that takes itself for a shard's leader, with its term.
    #[must_use]
    pub fn leaders(&self, shard: u64) -> Vec<(usize, Term)> {
        let leads = |node| {
            let status = self.replica(node, shard)?;
            (status.role == Role::Leader).then_some((node, status.term))
        };
        (0..self.nodes.len()).filter_map(leads).collect()
    }

    /// The leader that a majority of the replicas that it knows of follow in its term, itself included.
    #[must_use]
    pub fn followed_leader(&self, shard: u64) -> Option<usize> {
        self.leaders(shard).into_iter().find_map(|(leader, term)| {
            let store = self.nodes[leader].identity.store;
            let follows = |node: &usize| {
                self.replica(*node, shard)
                    .is_some_and(|status| status.term == term && status.leader == Some(store))
            };
            let followers = (0..self.nodes.len()).filter(follows).count();
            let holders = self.holders(shard).len();
            (followers > holders / 2).then_some(leader)
        })
    }

    /// Bytes and number of the entries that a replica's log keeps.
    #[must_use]
    pub fn log_kept(&self, node: usize, shard: u64) -> Option<(u64, u64)> {
        let status = self.replica(node, shard)?;
        Some((status.log_bytes, status.last.0 - status.log_base.0))
    }

    /// Bytes on a node's disk that hold its Raft log, all shards together.
    #[must_use]
    pub fn log_bytes_on_disk(&self, node: usize) -> Option<u64> {
        self.nodes[node]
            .process
            .as_ref()
            .map(|process| process.log_bytes())
    }

    /// The bytes that a snapshot of a shard would carry now; none while the node is down.
    ///
    /// # Errors
    ///
    /// When the engine cannot be read.
    pub fn snapshot_bytes(&self, node: usize, shard: u64) -> Result<Option<u64>, Violation> {
        let Some(process) = &self.nodes[node].process else {
            return Ok(None);
        };
        let Some(descriptor) = process.store.descriptor(ShardId(shard)) else {
            return Ok(None);
        };
        let exported = kv::export(process.store.engine(), descriptor.spaces(), None, usize::MAX)
            .map_err(|error| Violation::new("the state engine can be read", error.to_string()))?;
        let bytes = exported
            .pairs
            .iter()
            .map(|(key, value)| (key.len() + value.len()) as u64);
        Ok(Some(bytes.sum()))
    }

    /// Bytes of all keys and values that a node's engine holds, whoever they belong to; none while the node is down.
    ///
    /// # Errors
    ///
    /// When the engine cannot be read.
    pub fn engine_bytes(&self, node: usize) -> Result<Option<u64>, Violation> {
        let Some(process) = &self.nodes[node].process else {
            return Ok(None);
        };
        let pairs = process.store.engine().scan(&[], &[]);
        let bytes: Result<u64, _> = pairs
            .map(|pair| pair.map(|(key, value)| (key.len() + value.len()) as u64))
            .sum();
        let broken = |error: quorate_storage::engine::EngineError| {
            Violation::new("the state engine can be read", error.to_string())
        };
        bytes.map(Some).map_err(broken)
    }

    /// What a node's own engine holds under a key, in the data of a shard, whether or not anybody may read it
    /// there.
    ///
    /// # Errors
    ///
    /// When the engine cannot be read.
    pub fn local_value(&self, node: usize, shard: u64, key: &[u8]) -> Result<Option<Vec<u8>>, Violation> {
        let Some(process) = &self.nodes[node].process else {
            return Ok(None);
        };
        let Some(descriptor) = process.store.descriptor(ShardId(shard)) else {
            return Ok(None);
        };
        let broken = |error: String| Violation::new("the state engine can be read", error);
        let stored = process
            .store
            .engine()
            .get(&kv::data_key(descriptor.space, key))
            .map_err(|error| broken(error.to_string()))?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        let stored = kv::Stored::decode(&stored).map_err(|error| broken(error.to_string()))?;
        Ok(Some(stored.payload.to_vec()))
    }

    /// What a node's store counts for its operators; none while it is down.
    #[must_use]
    pub fn counters(&self, node: usize) -> Option<&Counters> {
        self.nodes[node]
            .process
            .as_ref()
            .map(|process| process.store.counters())
    }

    /// Messages between two nodes so far, in one direction; bytes are counted once [`World::count_bytes`] was
    /// called.
    #[must_use]
    pub fn traffic(&self, from: usize, to: usize) -> Traffic {
        self.network.traffic(from, to)
    }

    /// From now on the bytes of messages are counted as well.
    pub fn count_bytes(&mut self) {
        self.counts_bytes = true;
    }
}
