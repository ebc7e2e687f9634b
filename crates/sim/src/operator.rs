//! The operator: wishes about who holds a shard, sent to a node like a client's request.

use std::collections::BTreeMap;

use quorate_proto::{ForwardBody, Manage, Service, SplitIds};
use quorate_raft::{ReplicaId, Role};
use quorate_storage::{ShardId, StoreId};
use quorate_store::{ClientOutcome, ClientRequest, Input, RequestId, RouteMode, Target};

use crate::oracle::Violation;
use crate::world::World;

/// The operator's requests are counted from here, far above those of scripts.
const FIRST: u64 = 3 << 61;
/// How long a wish may look for the shard's leader, in milliseconds.
const TIMEOUT_MS: u32 = 2_000;

/// With more shards, none is split any more.
const SHARDS_MAX: usize = 16;
/// Ids for what splits make, which the controller never gives: shards and replicas are counted from here.
const FIRST_CHILD: u64 = 1 << 40;
const FIRST_REPLICA: u64 = 1 << 41;

/// What the operator was told.
#[derive(Default)]
pub(crate) struct Operator {
    wishes: u64,
    splits: u64,
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
        let nth = self.fault_rng.below(self.shards().len() as u64);
        let shard = self.shards()[nth as usize];
        let node = self.fault_rng.below(self.nodes.len() as u64) as usize;
        let held = self.holders(shard);
        let (mut add, mut remove) = (Vec::new(), Vec::new());
        // Rarely everybody at once.
        let part = *self.fault_rng.pick(&[2, 3, 3, 4, 6]);
        // A node that a client asks has the controller say first that the stores are in use (QUORATE REPLICA). From here on
        // one may be drained, and asked to be removed, while the wish is under way.
        let stores: Vec<StoreId> = (0..self.nodes.len())
            .filter(|node| self.is_of_cluster(*node))
            .map(|node| self.nodes[node].identity.store)
            .filter(|store| held.contains(store) || self.oracles.configs.service(*store) == Service::Active)
            .collect();
        for store in stores {
            if !self.fault_rng.one_in(part) {
                continue;
            }
            if held.contains(&store) {
                remove.push(store);
            } else {
                add.push(store);
            }
        }
        let to = StoreId(self.fault_rng.range(1, self.nodes.len() as u64));
        let wish = match self.fault_rng.below(8) {
            0 => Manage::Abort,
            1 => Manage::Transfer { to },
            _ => Manage::Change { add, remove },
        };
        self.wish(node, shard, wish);
    }

    /// A split of any shard at any slot, sent through any node; now and then one that cannot be made.
    pub(crate) fn split_at_random(&mut self) {
        let nth = self.fault_rng.range(1, self.shards().len() as u64 - 1);
        let shard = self.shards()[nth as usize];
        let node = self.fault_rng.below(self.nodes.len() as u64) as usize;
        let slots = self.slots_of(shard);
        if self.shards().len() > SHARDS_MAX {
            return;
        }
        let any = self.fault_rng.range(u64::from(slots.0), u64::from(slots.1)) as u16;
        // Often beside a key.
        let keys = self.workload.slots();
        let inside: Vec<u16> = keys
            .into_iter()
            .filter(|slot| (slots.0..slots.1).contains(slot))
            .collect();
        let slot = if inside.is_empty() || self.fault_rng.one_in(4) {
            any
        } else {
            self.fault_rng.pick(&inside) + self.fault_rng.below(2) as u16
        };
        let replicas = self.holders(shard).len() as u64 + u64::from(self.fault_rng.one_in(20));
        // Half of the time the leader asks for ids, or chooses the slot as well.
        match self.fault_rng.below(4) {
            0 => {
                let slot = Some(slot);
                self.wish(node, shard, Manage::Split { slot, ids: None });
            }
            1 => {
                let (slot, ids) = (None, None);
                self.wish(node, shard, Manage::Split { slot, ids });
            }
            _ => {
                self.split(node, shard, slot, replicas);
            }
        }
        // A leader whose own disk takes long applies the split last: the others may have gone far by then (L3, R2).
        if let Some(leader) = self.leader_of(shard).filter(|_| self.fault_rng.one_in(2)) {
            let timeout_us = self.plan.store.election_timeout_us();
            let until_us = self.now_us + self.fault_rng.range(timeout_us / 2, timeout_us * 4);
            let stalled_until_us = &mut self.nodes[leader].stalled_until_us;
            *stalled_until_us = until_us.max(*stalled_until_us);
        }
    }

    /// Sends a wish to split a shard at a slot, with ids that nobody had, for so many replicas.
    pub fn split(&mut self, node: usize, shard: u64, slot: u16, replicas: u64) -> RequestId {
        self.operator.splits += 1;
        let first = ReplicaId(FIRST_REPLICA + 16 * self.operator.splits);
        let ids = SplitIds {
            child: ShardId(FIRST_CHILD + self.operator.splits),
            replicas: (0..replicas).map(|nth| ReplicaId(first.0 + nth)).collect(),
        };
        let slot = Some(slot);
        self.wish(node, shard, Manage::Split { slot, ids: Some(ids) })
    }

    /// The slots of a shard, by the newest version that any node has.
    #[must_use]
    pub fn slots_of(&self, shard: u64) -> (u16, u16) {
        let all = self.oracles.ranges.all();
        let of = all.iter().find(|(id, _)| id.0 == shard);
        of.map_or((0, 0), |(_, slots)| *slots)
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
        self.shards().iter().all(|&shard| {
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
