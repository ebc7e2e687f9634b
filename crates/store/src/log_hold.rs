//! What log GC leaves although it exceeds the bounds: the log that a follower needs which is fed a snapshot, until it is level.
//!
//! A snapshot takes a while, and the log behind it is what the follower goes on with. Were that cut meanwhile, it would
//! need another snapshot, and with enough writes would never be level. A follower that is away holds nothing up.
//!
//! A snapshot that is slower than the writes fill what is held would be in vain all the same: once half of what may be held
//! beyond the ordinary bounds is full, snapshots keep to no rate.

use std::collections::BTreeSet;

use quorate_raft::{Index, ReplicaId};
use quorate_storage::ShardId;
use quorate_storage::engine::Engine;

use crate::io::StoreOptions;
use crate::store::Store;

/// Of the bytes that the store's logs may take, such logs may take as much again divided by this, all together.
const SHARE: u64 = 4;

/// The bytes and entries that the log of a shard may have while it is held, if it is the only one.
#[must_use]
pub fn log_held_max(options: &StoreOptions) -> (u64, u64) {
    let bytes = options.log_retention_bytes.min(options.log_retention_store_bytes);
    let entries = options.log_retention_entries;
    let share = options.log_retention_store_bytes / SHARE;
    (bytes.saturating_add(share), entries.saturating_mul(2))
}

impl<E: Engine> Store<E> {
    /// A snapshot of this leader's has arrived: the follower goes on with the log.
    pub(crate) fn hold_log(&mut self, shard: ShardId, peer: ReplicaId) {
        self.levelling.insert((shard, peer));
    }

    /// Ends what need not be held any longer.
    pub(crate) fn log_hold_tick(&mut self) {
        let (router, replicas) = (&self.router, &self.replicas);
        self.levelling.retain(|(shard, peer)| {
            let leader = router.replica_of(*shard).map(|at| &replicas[at]);
            let leader = leader.filter(|replica| replica.is_leader());
            leader.is_some_and(|leader| {
                let behind = |matched: Index| matched < leader.raft.commit();
                let progress = leader.raft.progress(*peer);
                progress.is_some_and(|progress| progress.recent_active && behind(progress.matched))
            })
        });
        let held = self.held_from();
        let mut logs = held
            .iter()
            .filter_map(|(shard, _)| self.router.replica_of(*shard));
        self.snapshots_hurry = logs.any(|at| self.holds_more_than(at, &held, 2));
    }

    /// Up to here the log of a shard may be cut, if some followers are to be level first. None if there are none, or the
    /// log has grown beyond what such logs may take.
    pub(crate) fn log_needed_from(&self, at: usize) -> Option<Index> {
        let held = self.held_from();
        let shard = self.replicas[at].descriptor.shard;
        let of_this = held.iter().filter(|(of, _)| *of == shard);
        let needed = of_this.map(|(_, index)| *index).min()?;
        (!self.holds_more_than(at, &held, 1)).then_some(needed)
    }

    /// From where on logs are needed: of snapshots that are sent from here, by this or another leader's wish, of those
    /// that others send for a leader here, and of followers that one has reached.
    fn held_from(&self) -> Vec<(ShardId, Index)> {
        let sent = self.sending.iter();
        let sent = sent.map(|(of, sending)| (of.0, sending.index()));
        let asked = self.asked.iter().map(|(of, asked)| (of.0, asked.index()));
        let levelling = self.levelling.iter().filter_map(|(of, peer)| {
            let leader = &self.replicas[self.router.replica_of(*of)?];
            Some((*of, leader.raft.progress(*peer)?.matched))
        });
        sent.chain(asked).chain(levelling).collect()
    }

    /// Whether the log exceeds the ordinary bounds by more than one `part`th of what it may while it is held.
    fn holds_more_than(&self, at: usize, held: &[(ShardId, Index)], part: u64) -> bool {
        let shards = held.iter().map(|(of, _)| *of).collect::<BTreeSet<_>>().len() as u64;
        let log = self.replicas[at].raft.storage();
        let (bytes, entries) = self.log_bounds();
        let share = self.options.log_retention_store_bytes / SHARE / shards.max(1);
        log.bytes() > bytes.saturating_add(share / part) || log.len() > entries.saturating_add(entries / part)
    }
}
