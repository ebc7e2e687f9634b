//! The map of shards that a store does not hold: every leader tells it to the stores without a replica of its shard,
//! at once when something changes and again now and then, and whoever is asked answers what it knows.
//!
//! The same word tells a replica that it was removed (M4). Who was removed never comes back (M3), so it does not matter
//! whose word it is, if only it is no older than what the replica itself has applied: a shard that went on without a lost
//! majority does not believe that majority.

use quorate_proto::{Membership, PeerMessage, ShardInfo};
use quorate_storage::engine::Engine;
use quorate_storage::{ShardId, StoreId};

use crate::io::Times;
use crate::replica::Replica;
use crate::store::Store;

/// Ticks between two words of a leader to the stores without a replica.
const TELL_TICKS: u64 = 20;
/// Ticks between two questions of a replica that hears no leader.
const ASK_TICKS: u64 = 10;
/// Election timeouts without a leader after which it asks.
const SILENT_TIMEOUTS: u64 = 3;

impl Replica {
    /// A time at which the shard takes a session to be opened (S1, S3).
    pub(crate) fn session_ms(&self) -> u64 {
        let forgotten_ms = self.sessions.expired_through_ms;
        self.applied.stamp_ms.max(forgotten_ms.saturating_add(1))
    }

    /// The shard as this replica has applied it; none before its first snapshot.
    pub(crate) fn info(&self) -> Option<ShardInfo> {
        let descriptor = &self.descriptor;
        self.is_initialized().then(|| ShardInfo {
            shard: descriptor.shard,
            start_slot: descriptor.start_slot,
            end_slot: descriptor.end_slot,
            epoch: descriptor.epoch,
            membership: descriptor.membership.clone(),
            leader: self.leader_store(),
            term: self.raft.term(),
            session_ms: self.session_ms(),
        })
    }
}

impl<E: Engine> Store<E> {
    /// Tells a store what is known of a shard: by the replica here, or by what is left of one (M4).
    pub(crate) fn tell(&mut self, to: StoreId, shard: ShardId) {
        let here = self
            .router
            .replica_of(shard)
            .and_then(|at| self.replicas[at].info());
        let left = || self.tombstones.get(&shard).map(|left| left.info.clone());
        if let Some(info) = here.or_else(left) {
            self.out.sends.push((to, PeerMessage::ShardInfo(info)));
        }
    }

    /// A leader tells those without a replica.
    pub(crate) fn tell_others(&mut self, at: usize) {
        let Some(info) = self.replicas[at].info().filter(|_| self.replicas[at].serves()) else {
            return;
        };
        let is_member = |store: StoreId| info.membership.members.iter().any(|(_, on)| *on == store);
        for store in self.peers.all_up().filter(|store| !is_member(*store)) {
            let message = PeerMessage::ShardInfo(info.clone());
            self.out.sends.push((store, message));
        }
    }

    /// The connection to a store begins: it may have missed everything.
    pub(crate) fn tell_newcomer(&mut self, store: StoreId) {
        for at in 0..self.replicas.len() {
            let replica = &self.replicas[at];
            if replica.serves() && replica.descriptor.replica_on(store).is_none() {
                self.tell(store, replica.descriptor.shard);
            }
        }
    }

    /// What is said as time passes.
    pub(crate) fn shard_map_tick(&mut self, times: Times, at: usize) {
        let due = self.ticks + at as u64;
        if due.is_multiple_of(TELL_TICKS) {
            self.tell_others(at);
        }
        if due.is_multiple_of(ASK_TICKS) && !self.replicas[at].is_leader() {
            let replica = &self.replicas[at];
            let heard = replica.lease.heard_at_us().unwrap_or(self.started_us);
            let silent_us = self.options.election_timeout_us() * SILENT_TIMEOUTS;
            if times.mono_us >= heard.max(self.started_us).saturating_add(silent_us) {
                let shard = replica.descriptor.shard;
                for store in replica.acquaintances() {
                    self.out.sends.push((store, PeerMessage::ShardQuery { shard }));
                }
            }
        }
    }

    /// Another store tells about a shard.
    pub(crate) fn told(&mut self, from: StoreId, info: ShardInfo) {
        let shard = info.shard;
        match self.router.replica_of(shard) {
            Some(at) => {
                let replica = &mut self.replicas[at];
                let Membership { members, wanted, .. } = &info.membership;
                replica.addresses.extend(members.iter().chain(wanted).copied());
                if info.epoch.conf_ver > replica.descriptor.epoch.conf_ver {
                    replica.hear_membership(info.epoch.conf_ver, info.membership.clone());
                }
                // It has not applied a split, or has nothing so far.
                let lags = info.epoch.version > replica.descriptor.epoch.version;
                // Of an older version than the replica's it is the word of members that the shard has gone on without.
                let is_current = info.epoch.conf_ver >= replica.descriptor.epoch.conf_ver;
                if info.membership.has_removed(replica.descriptor.replica) && is_current {
                    self.doom(shard, info);
                } else if let Some((theirs, _)) = members.iter().find(|(_, on)| *on == from)
                    && replica.descriptor.membership.has_removed(*theirs)
                {
                    // It does not know yet.
                    self.tell(from, shard);
                } else if lags && self.router.hear(info) {
                    self.routes_version += 1;
                    self.unpark(shard);
                }
            }
            None => {
                let has_leader = info.leader.is_some();
                if self.router.hear(info) {
                    self.routes_version += 1;
                    if has_leader {
                        self.unpark(shard);
                    }
                }
            }
        }
    }
}
