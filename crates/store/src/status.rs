//! What a node tells about its shards: routes for clients, rows for operators, digests for comparison.

use quorate_proto::{Membership, SessionTotals};
use quorate_raft::{Entry, Index, Role, Term};
use quorate_storage::engine::Engine;
use quorate_storage::{ShardId, StoreId};

use crate::descriptor::{Applied, Descriptor};
use crate::error::StoreError;
use crate::io::Times;
use crate::kv;
use crate::membership::is_settled;
use crate::router::Place;
use crate::store::Store;
use crate::{RebuildStatus, ShardRoute};

/// One replica, for operators.
#[derive(Clone, PartialEq, Debug)]
pub struct ReplicaStatus {
    /// The shard.
    pub shard: ShardId,
    /// This store's replica.
    pub replica: quorate_raft::ReplicaId,
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// The store that leads, if known.
    pub leader: Option<StoreId>,
    /// The commit index.
    pub commit: Index,
    /// The applied index.
    pub applied: Index,
    /// The last index of the log.
    pub last: Index,
    /// The position before the first entry kept.
    pub log_base: Index,
    /// Bytes of entries kept.
    pub log_bytes: u64,
    /// Whether more is kept than otherwise, for a follower that is fed a snapshot.
    pub log_held: bool,
    /// Whether reads are served by lease now.
    pub lease: bool,
    /// How far it has come back from a damaged log, which keeps it from voting (P3).
    pub rebuild: Option<RebuildStatus>,
    /// How often the membership had changed at what is applied.
    pub conf_ver: u64,
    /// How often the shard's range had changed at what is applied.
    pub version: u64,
    /// First slot and the slot behind the last; the same for shard 0.
    pub slots: (u16, u16),
    /// Whether a change of the membership is under way, as far as this replica has applied.
    pub changing: bool,
    /// What it remembers of sessions (S3).
    pub sessions: SessionTotals,
    /// Whether a snapshot is installed in the engine and the log not yet reset to it (P5).
    pub installing: bool,
}

fn stores_of(membership: &Membership) -> Vec<StoreId> {
    let mut stores: Vec<StoreId> = membership.members.iter().map(|(_, store)| *store).collect();
    stores.sort_unstable();
    stores
}

impl<E: Engine> Store<E> {
    /// Where each run of slots is served, in slot order.
    #[must_use]
    pub fn routes(&self) -> Vec<ShardRoute> {
        let route = |(start_slot, end_slot, place)| {
            let (shard, leader, membership) = match place {
                Place::Here(at) => {
                    let replica = &self.replicas[at];
                    let descriptor = &replica.descriptor;
                    (descriptor.shard, replica.leader_store(), &descriptor.membership)
                }
                Place::Elsewhere(shard) => {
                    let info = self.router.told(shard)?;
                    (shard, info.leader, &info.membership)
                }
            };
            Some(ShardRoute {
                shard,
                start_slot,
                end_slot,
                leader,
                stores: stores_of(membership),
            })
        };
        self.router.runs().filter_map(route).collect()
    }

    /// Every replica of this store, shard 0 included.
    #[must_use]
    pub fn status(&self, times: Times) -> Vec<ReplicaStatus> {
        self.replicas
            .iter()
            .enumerate()
            .map(|(at, replica)| {
                let log = replica.raft.storage();
                let term = replica.raft.term();
                ReplicaStatus {
                    shard: replica.descriptor.shard,
                    replica: replica.descriptor.replica,
                    role: replica.raft.role(),
                    term,
                    leader: replica.leader_store(),
                    commit: replica.raft.commit(),
                    applied: replica.applied.index,
                    last: replica.raft.last_index(),
                    log_base: log.base().0,
                    log_bytes: log.bytes(),
                    log_held: self.log_needed_from(at).is_some(),
                    lease: self.options.leases
                        && replica.is_leader()
                        && replica.holds_lease(self.options.lease_us(), times.mono_us),
                    rebuild: replica.rebuild_status(),
                    conf_ver: replica.descriptor.epoch.conf_ver,
                    version: replica.descriptor.epoch.version,
                    slots: (replica.descriptor.start_slot, replica.descriptor.end_slot),
                    changing: !is_settled(&replica.descriptor.conf_state, &replica.descriptor.membership),
                    sessions: replica.sessions,
                    installing: replica.installing.is_some(),
                }
            })
            .collect()
    }

    /// The applied position of a shard and a digest of its content; equal positions have equal digests.
    /// Reads the whole shard.
    pub fn digest(&self, shard: ShardId) -> Result<Option<(Applied, u64)>, StoreError> {
        let Some(at) = self.router.replica_of(shard) else {
            return Ok(None);
        };
        let replica = &self.replicas[at];
        Ok(Some((
            replica.applied,
            kv::digest(&self.engine, replica.descriptor.spaces())?,
        )))
    }

    /// The totals of a shard's session table, as they are kept and as they come out when everything is counted
    /// anew. Reads the whole table.
    pub fn sessions(&self, shard: ShardId) -> Result<Option<(SessionTotals, SessionTotals)>, StoreError> {
        let Some(at) = self.router.replica_of(shard) else {
            return Ok(None);
        };
        let replica = &self.replicas[at];
        let counted = kv::sessions::count(&self.engine, replica.descriptor.sessions)?;
        Ok(Some((replica.sessions, counted)))
    }

    /// The term in which the replica here leads a shard, for the simulator's checks.
    #[must_use]
    pub fn leads_in(&self, shard: ShardId) -> Option<Term> {
        let replica = &self.replicas[self.router.replica_of(shard)?];
        replica.is_leader().then(|| replica.raft.term())
    }

    /// The shard as this store knows it.
    #[must_use]
    pub fn descriptor(&self, shard: ShardId) -> Option<&Descriptor> {
        self.router
            .replica_of(shard)
            .map(|at| &self.replicas[at].descriptor)
    }

    /// The durable-or-pending entries that a replica keeps, for the simulator's safety checks.
    pub fn log_entries(&self, shard: ShardId) -> impl Iterator<Item = &Entry> {
        self.router
            .replica_of(shard)
            .into_iter()
            .flat_map(|at| self.replicas[at].raft.storage().iter())
    }

    /// The term and vote that a replica knows, for the simulator's safety checks.
    #[must_use]
    pub fn vote(&self, shard: ShardId) -> Option<(Term, Option<quorate_raft::ReplicaId>)> {
        let replica = &self.replicas[self.router.replica_of(shard)?];
        Some((replica.hard_state.term, replica.hard_state.vote))
    }

    /// Committed entries that the next [`Store::apply`] will apply, for the simulator's safety checks.
    pub fn entries_to_apply(&self) -> impl Iterator<Item = (ShardId, &Entry)> {
        self.to_apply.iter().flat_map(|(at, entries)| {
            let shard = self.replicas[*at].descriptor.shard;
            entries.iter().map(move |entry| (shard, entry))
        })
    }

    /// Checks the order of every replica's positions; panics with the values if it does not hold.
    pub fn validate(&self) {
        for replica in &self.replicas {
            replica.validate();
        }
    }
}
