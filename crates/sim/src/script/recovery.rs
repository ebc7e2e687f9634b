//! Stores that are gone for good, and shards that go on without their majority (docs/adr/0006).

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto::{
    Answer, Command, CommandError, ControlCommand, ControlQuery, ForwardBody, LossRow, Op, Recovery,
    decode_losses,
};
use quorate_raft::{Index, Payload, Term};
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::CONTROLLER;

use super::{Call, ClientId, Ended};
use crate::oracle::Violation;
use crate::world::World;

impl World {
    /// The machine of a node that is down is lost: whoever comes back with its disks is nobody's business, and must not be
    /// served by anybody or serve anybody. The oracles do not look at it any more.
    pub fn lose(&mut self, node: usize) {
        assert!(!self.is_up(node), "node {} runs", node + 1);
        self.nodes[node].is_gone = true;
        self.nodes[node].held_down = true;
    }

    fn stores_on(&self, nodes: &[usize]) -> BTreeSet<StoreId> {
        nodes
            .iter()
            .map(|node| self.nodes[*node].identity.store)
            .collect()
    }

    /// What the controller's leader says would become of the shards without these nodes; none while nobody leads.
    #[must_use]
    pub fn losses(&self, lost: &[usize]) -> Option<Result<Vec<LossRow>, CommandError>> {
        let leader = self.leader_of(CONTROLLER.0)?;
        let times = self.nodes[leader].clock.times(self.now_us);
        let query = ControlQuery::Losses {
            lost: self.stores_on(lost),
        };
        let store = &self.nodes[leader].process.as_ref()?.store;
        match store.controller_says(times, &query)? {
            Answer::Bulk(bytes) => decode_losses(&bytes).ok().map(Ok),
            Answer::Error(error) => Some(Err(error)),
            _ => None,
        }
    }

    /// Asks the controller to go on without these nodes, and with these shards as it said.
    ///
    /// # Errors
    ///
    /// The first property that does not hold.
    pub fn recover(
        &mut self,
        client: ClientId,
        lost: &[usize],
        shards: Vec<Recovery>,
    ) -> Result<Ended, Violation> {
        let command = ControlCommand::Recover {
            lost: self.stores_on(lost),
            shards,
        };
        let op = Op::Control(Box::new(command));
        self.ask(client, Call::new(b"", ForwardBody::Write(op)).to_shard(0))
    }

    /// A shard goes on with what a node's log holds. What was committed and is not there is given up: the oracles take it
    /// for never committed. Returns its positions.
    pub fn give_up(&mut self, shard: u64, node: usize) -> Vec<Index> {
        self.oracles.give_up((node, ShardId(shard)))
    }

    /// A shard is begun anew: nothing of it is committed any more.
    pub fn give_up_all(&mut self, shard: u64) {
        self.oracles.give_up_all(ShardId(shard));
    }

    /// The terms of the entries that a node's log keeps of a shard.
    #[must_use]
    pub fn log_terms(&self, node: usize, shard: u64) -> BTreeMap<Index, Term> {
        let process = self.nodes[node].process.iter();
        let entries = process.flat_map(|process| process.store.log_entries(ShardId(shard)));
        entries.map(|entry| (entry.index, entry.term)).collect()
    }

    /// The last value that a node's log sets for each key of a shard, whether or not it is committed.
    #[must_use]
    pub fn logged_values(&self, node: usize, shard: u64) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut found = BTreeMap::new();
        let Some(process) = &self.nodes[node].process else {
            return found;
        };
        for entry in process.store.log_entries(ShardId(shard)) {
            if let Payload::Normal(data) = &entry.payload
                && let Ok(command) = Command::decode(data)
                && let Op::Set { key, value, .. } = command.op
            {
                found.insert(key.to_vec(), value.to_vec());
            }
        }
        found
    }
}
