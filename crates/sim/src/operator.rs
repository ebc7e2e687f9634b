//! The operator: wishes about who holds a shard, sent to a node like a client's request.

use std::collections::BTreeMap;

use quorate_proto::{ForwardBody, Manage};
use quorate_raft::Role;
use quorate_storage::{ShardId, StoreId};
use quorate_store::{ClientOutcome, ClientRequest, Input, RequestId, RouteMode, Target};

use crate::oracle::Violation;
use crate::world::World;

/// The operator's requests are counted from here, far above those of scripts.
const FIRST: u64 = 3 << 61;
/// How long a wish may look for the shard's leader, in milliseconds.
const TIMEOUT_MS: u32 = 2_000;

/// What the operator was told.
#[derive(Default)]
pub(crate) struct Operator {
    wishes: u64,
    told: BTreeMap<RequestId, ClientOutcome>,
}

impl Operator {
    pub(crate) fn is_theirs(id: RequestId) -> bool {
        id.0 >= FIRST
    }

    pub(crate) fn told(&mut self, id: RequestId, outcome: &ClientOutcome) {
        self.told.insert(id, outcome.clone());
    }
}

impl World {
    /// Sends a wish about a shard's replicas through a node. Nothing happens while that is down.
    pub fn wish(&mut self, node: usize, shard: u64, wish: Manage) -> RequestId {
        let id = RequestId(FIRST + self.operator.wishes);
        self.operator.wishes += 1;
        self.trace
            .event(self.now_us, &[14, node as u64, shard, id.0], || {
                format!("operator asks n{} for shard {shard}: {wish:?}", node + 1)
            });
        let request = ClientRequest {
            id,
            stream: id.0,
            target: Target::Shard(ShardId(shard)),
            body: ForwardBody::Manage(wish),
            session: None,
            mode: RouteMode::Proxy,
            timeout_ms: TIMEOUT_MS,
        };
        self.input(node, Input::Client(request));
        id
    }

    /// What became of a wish, once it is known.
    #[must_use]
    pub fn told(&self, id: RequestId) -> Option<&ClientOutcome> {
        self.operator.told.get(&id)
    }

    /// Any change of who holds a shard, sent through any node: stores come, go, or both.
    pub(crate) fn wish_at_random(&mut self) {
        let shard = self.fault_rng.below(u64::from(self.plan.shards) + 1);
        let node = self.fault_rng.below(self.nodes.len() as u64) as usize;
        let held = self.holders(shard);
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        // Rarely everybody at once.
        let part = *self.fault_rng.pick(&[2, 3, 3, 4, 6]);
        for store in (1..=self.plan.nodes).map(StoreId) {
            if !self.fault_rng.one_in(part) {
                continue;
            }
            if held.contains(&store) {
                remove.push(store);
            } else {
                add.push(store);
            }
        }
        let to = StoreId(self.fault_rng.range(1, self.plan.nodes));
        let wish = match self.fault_rng.below(8) {
            0 => Manage::Abort,
            1 => Manage::Transfer { to },
            _ => Manage::Change { add, remove },
        };
        self.wish(node, shard, wish);
    }

    /// The stores that hold a shard, by its leader's word.
    #[must_use]
    pub fn holders(&self, shard: u64) -> Vec<StoreId> {
        let members = self.members(shard);
        members.into_iter().map(|(_, store)| store).collect()
    }

    fn members(&self, shard: u64) -> Vec<(quorate_raft::ReplicaId, StoreId)> {
        self.leader_of(shard)
            .and_then(|leader| self.nodes[leader].process.as_ref())
            .and_then(|process| process.store.descriptor(ShardId(shard)))
            .map_or(Vec::new(), |descriptor| descriptor.membership.members.clone())
    }

    /// Whether a shard is held by these nodes alone, all of them voters with the leader's state, and nothing is under
    /// way.
    #[must_use]
    pub fn is_held_by(&self, shard: u64, nodes: &[usize]) -> bool {
        let Some(leader) = self.leader_of(shard).and_then(|node| self.replica(node, shard)) else {
            return false;
        };
        !leader.changing
            && (0..self.nodes.len()).all(|node| match self.replica(node, shard) {
                Some(status) => {
                    nodes.contains(&node)
                        && (status.conf_ver, status.applied, status.changing)
                            == (leader.conf_ver, leader.applied, false)
                }
                None => !nodes.contains(&node),
            })
    }

    /// Lets time pass until a shard is held by these nodes alone.
    ///
    /// # Errors
    ///
    /// As [`World::wait_until`].
    pub fn await_held_by(&mut self, shard: u64, nodes: &[usize], within_us: u64) -> Result<u64, Violation> {
        self.wait_until("a shard gets to where it is wanted", within_us, |world| {
            world.is_held_by(shard, nodes)
        })
    }

    /// Whether every shard is where its leader wants it, and nowhere else.
    pub(crate) fn is_placed(&self) -> bool {
        (0..=u64::from(self.plan.shards)).all(|shard| {
            let members = self.members(shard);
            let nodes: Vec<usize> = members
                .iter()
                .map(|(_, store)| crate::workload::node_of(*store))
                .collect();
            let leads = |node: usize| {
                self.replica(node, shard)
                    .is_some_and(|status| status.role == Role::Leader)
            };
            !nodes.is_empty()
                && self.is_held_by(shard, &nodes)
                && nodes.iter().filter(|node| leads(**node)).count() == 1
        })
    }
}
