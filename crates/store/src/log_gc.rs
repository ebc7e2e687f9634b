//! Log GC: forgets entries that the engine has made durable, bounded by bytes and by count.
//!
//! What is kept serves followers that lag; one that is further behind gets a snapshot.

use quorate_raft::{Index, mutant};
use quorate_storage::engine::{BatchSeq, Engine};
use quorate_storage::log::LogOp;

use crate::error::StoreError;
use crate::replica::Replica;
use crate::store::Store;

impl<E: Engine> Store<E> {
    /// Asks for the engine to be made durable up to its last batch, one request at a time.
    pub(crate) fn want_durable(&mut self) {
        let asked = self.durable_asked > self.durable_batch || self.out.make_durable.is_some();
        let last = self.engine.last_batch();
        if asked || last <= self.durable_batch {
            return;
        }
        self.durable_asked = last;
        self.out.make_durable = Some(last);
        for replica in &mut self.replicas {
            replica.durable_mark = Some((last, replica.applied.index));
            replica.bytes_since_durable = 0;
        }
    }

    pub(crate) fn engine_durable(&mut self, up_to: BatchSeq) -> Result<(), StoreError> {
        self.durable_batch = self.durable_batch.max(up_to);
        for at in 0..self.replicas.len() {
            let replica = &mut self.replicas[at];
            if let Some((batch, applied)) = replica.durable_mark
                && batch <= up_to
            {
                let applied = if mutant!("log-gc-above-durable") {
                    replica.applied.index
                } else {
                    applied
                };
                replica.durable_applied = replica.durable_applied.max(applied);
                replica.durable_mark = None;
                self.cut_log(at);
            }
        }
        self.finish_births()?;
        self.finish_erasing();
        self.finish_installs()
    }

    /// Asks for durability when enough was applied since the last time: it is what log GC waits for, what a
    /// restart has to replay, and what the engine may hold in memory.
    pub(crate) fn bound_replay(&mut self) {
        let bytes: u64 = self
            .replicas
            .iter()
            .map(|replica| replica.bytes_since_durable)
            .sum();
        if bytes > self.options.durable_every_bytes {
            self.want_durable();
        }
    }

    /// Removes what exceeds the bounds, as far as the engine is durable; what is not is removed when it is. Called
    /// whenever more was applied or has become durable, so that nothing exceeds them for longer than that takes, and
    /// now and then for logs that were too long when the store was opened.
    pub(crate) fn collect_log(&mut self, at: usize) {
        if !self.cut_log(at) {
            self.want_durable();
        }
    }

    /// The bytes and entries that a shard's log may have.
    pub(crate) fn log_bounds(&self) -> (u64, u64) {
        // Splits make more of them.
        let replicas = self.replicas.len().max(1) as u64;
        let share = self.options.log_retention_store_bytes / replicas;
        (
            self.options.log_retention_bytes.min(share),
            self.options.log_retention_entries,
        )
    }

    /// Removes what exceeds the bounds, as far as the engine is durable; returns whether that sufficed.
    fn cut_log(&mut self, at: usize) -> bool {
        let (bytes, count) = self.log_bounds();
        let exceeds = |replica: &Replica| {
            let log = replica.raft.storage();
            log.bytes() > bytes || log.len() > count
        };
        if !exceeds(&self.replicas[at]) {
            return true;
        }
        let needed = self.log_needed_from(at);
        let replica = &mut self.replicas[at];
        // Half of the bound is left, so that this does not run for each entry.
        let excess = replica.raft.storage().excess(bytes / 2, count / 2);
        let target = excess.min(needed.unwrap_or(excess)).min(replica.durable_applied);
        if target <= replica.raft.storage().base().0 {
            return needed.is_some();
        }
        let (index, term) = replica.raft.storage_mut().compact(target);
        assert!(
            index <= replica.durable_applied,
            "log GC removed entry {index}, durable is {}",
            replica.durable_applied
        );
        let shard = replica.descriptor.shard;
        self.log_ops.push(LogOp::Compact { shard, index, term });
        needed.is_some() || !exceeds(&self.replicas[at])
    }

    /// Entries kept per shard, for tests and status.
    #[must_use]
    pub fn log_range(&self, shard: quorate_storage::ShardId) -> Option<(Index, Index)> {
        let at = self.router.replica_of(shard)?;
        Some((
            self.replicas[at].raft.storage().base().0,
            self.replicas[at].raft.last_index(),
        ))
    }
}
