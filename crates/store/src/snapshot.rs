//! Receiving a snapshot: chunks are staged in a space of their own, the whole is installed by one batch (P5).
//!
//! Chunks are loaded into a fresh space that nothing refers to; after the last one the message is stepped into the
//! core. If it accepts, one batch switches the shard to the new space, is made durable, the log is reset, and only
//! then is the snapshot acknowledged. What is staged stays when the connection breaks: `snapshot_send` goes on where
//! it was.

use bytes::Bytes;
use quorate_proto::{
    Outcome, PeerMessage, SnapshotAck, SnapshotChunk, SnapshotHeader, UnknownReason, decode_pairs,
};
use quorate_raft::{AppendWork, Message, MessageBody, ReplicaId, Snapshot, mutant};
use quorate_storage::engine::{BatchSeq, Engine, WriteBatch};
use quorate_storage::log::{LogBatch, LogOp};
use quorate_storage::{ShardId, StoreId};

use crate::error::StoreError;
use crate::io::{LogToken, Times};
use crate::kv::{self, Space, Spaces, sessions};
use crate::replica::Installing;
use crate::space;
use crate::store::Store;

/// Ticks without progress after which either side gives up, and the core starts over.
pub(crate) const STALL_TICKS: u64 = 200;

/// A snapshot being staged.
pub(crate) struct Receiving {
    id: u64,
    from: ReplicaId,
    space: Space,
    header: SnapshotHeader,
    next_seq: u32,
    complete: bool,
    last_chunk_tick: u64,
}

impl<E: Engine> Store<E> {
    pub(crate) fn drop_later(&mut self, spaces: Spaces, since: BatchSeq) {
        self.garbage
            .extend(space::all_of(spaces).into_iter().map(|garbage| (garbage, since)));
    }

    /// Whether a snapshot's range is that of the replica, or what splits left of it; one that was never fed takes any
    /// that is free here.
    fn range_fits(&self, at: usize, start_slot: u16, end_slot: u16) -> bool {
        let descriptor = &self.replicas[at].descriptor;
        if self.replicas[at].is_initialized() {
            return descriptor.start_slot <= start_slot && end_slot <= descriptor.end_slot;
        }
        self.replicas
            .iter()
            .all(|other| other.descriptor.end_slot <= start_slot || end_slot <= other.descriptor.start_slot)
    }

    /// The replica is gone.
    pub(crate) fn forget_snapshots(&mut self, shard: ShardId) {
        self.sending.retain(|(of, _), _| *of != shard);
        self.asked.retain(|(of, _), _| *of != shard);
        self.waiting_to_feed.retain(|(of, _), _| *of != shard);
        self.discard(shard);
    }

    fn discard(&mut self, shard: ShardId) {
        if let Some(receiving) = self.receiving.remove(&shard) {
            self.drop_later(receiving.space.into(), self.engine.last_batch());
        }
    }

    /// Gives up what nobody goes on with.
    pub(crate) fn receiving_tick(&mut self) {
        let abandoned: Vec<_> = self
            .receiving
            .iter()
            .filter(|(_, r)| !r.complete && self.ticks >= r.last_chunk_tick + STALL_TICKS)
            .map(|(shard, _)| *shard)
            .collect();
        for shard in abandoned {
            self.discard(shard);
        }
        // Complete, stepped, and not taken by the core: it was too old.
        let refused: Vec<_> = self
            .receiving
            .iter()
            .filter(|(shard, r)| {
                r.complete
                    && self.router.replica_of(**shard).is_none_or(|at| {
                        let replica = &self.replicas[at];
                        replica.installing.is_none() && !replica.raft.has_ready()
                    })
            })
            .map(|(shard, _)| *shard)
            .collect();
        for shard in refused {
            self.discard(shard);
        }
    }

    pub(crate) fn snapshot_chunk(
        &mut self,
        times: Times,
        from: StoreId,
        chunk: SnapshotChunk,
    ) -> Result<(), StoreError> {
        let Some(at) = self.router.replica_of(chunk.shard) else {
            return Ok(());
        };
        let replica = &self.replicas[at];
        if chunk.to != replica.descriptor.replica
            || replica.address_of(chunk.from).is_some_and(|store| store != from)
            || !replica.takes_part()
        {
            return Ok(());
        }
        // It is sent again: what is not acknowledged holds the sender up, and this store's memory is bounded.
        if self.engine.is_behind() {
            self.counters.snapshot_chunks_put_off += 1;
            return Ok(());
        }
        let shard = chunk.shard;
        let header = &chunk.header;
        let ranges_fit = self.range_fits(at, header.start_slot, header.end_slot);
        let stale = header.meta.index <= replica.raft.commit() || header.term < replica.raft.term();
        // The core may have taken what is complete, and is about to say so: it stays until then.
        let is_complete = self
            .receiving
            .get(&shard)
            .is_some_and(|r| r.complete && (r.id, r.from) != (chunk.id, chunk.from));
        if !ranges_fit || stale || is_complete || replica.installing.is_some() {
            if stale && chunk.seq == 0 {
                // The core tells the leader where this replica stands.
                self.step_snapshot(times, at, &chunk)?;
            }
            self.acknowledge(from, &chunk, None, false);
            return Ok(());
        }
        if chunk.seq == 0
            && self
                .receiving
                .get(&shard)
                .is_none_or(|r| r.id != chunk.id || r.from != chunk.from)
        {
            self.discard(shard);
            let space = self.new_space();
            let receiving = Receiving {
                id: chunk.id,
                from: chunk.from,
                space,
                header: chunk.header.clone(),
                next_seq: 0,
                complete: false,
                last_chunk_tick: self.ticks,
            };
            self.receiving.insert(shard, receiving);
        }
        let Some(receiving) = self
            .receiving
            .get_mut(&shard)
            .filter(|r| r.id == chunk.id && r.from == chunk.from && r.header == chunk.header)
        else {
            self.acknowledge(from, &chunk, None, false);
            return Ok(());
        };
        let is_next = chunk.seq == receiving.next_seq || mutant!("missing-chunk-unnoticed");
        if !is_next || receiving.complete {
            let next = receiving.next_seq;
            self.acknowledge(from, &chunk, Some(next), false);
            return Ok(());
        }
        let mut pairs = Vec::new();
        let mut sound = crc32c::crc32c(&chunk.pairs) == chunk.crc;
        if sound {
            for pair in decode_pairs(chunk.pairs.clone()) {
                match pair
                    .ok()
                    .and_then(|(key, value)| Some((kv::import_key(receiving.space, &key)?, value)))
                {
                    Some((key, value)) => pairs.push((key.into(), value)),
                    None => sound = false,
                }
            }
        }
        if !sound {
            self.discard(shard);
            self.acknowledge(from, &chunk, None, false);
            return Ok(());
        }
        receiving.next_seq += 1;
        receiving.last_chunk_tick = self.ticks;
        receiving.complete = chunk.last;
        let next = receiving.next_seq;
        self.engine.bulk_load(pairs)?;
        if chunk.last {
            self.step_snapshot(times, at, &chunk)?;
        }
        self.acknowledge(from, &chunk, Some(next), false);
        Ok(())
    }

    fn acknowledge(&mut self, to: StoreId, chunk: &SnapshotChunk, next: Option<u32>, done: bool) {
        let ack = SnapshotAck {
            shard: chunk.shard,
            from: chunk.to,
            to: chunk.from,
            id: chunk.id,
            next,
            done,
        };
        self.out.sends.push((to, PeerMessage::SnapshotAck(ack)));
    }

    fn step_snapshot(&mut self, times: Times, at: usize, chunk: &SnapshotChunk) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        let shard = replica.descriptor.shard;
        let snapshot = Snapshot {
            meta: chunk.header.meta.clone(),
            data: Bytes::new(),
        };
        let leader = chunk.header.leader;
        let message = Message {
            from: leader,
            to: chunk.to,
            term: chunk.header.term,
            body: MessageBody::Snapshot(Box::new(snapshot)),
        };
        replica.raft.step(message).map_err(StoreError::raft(shard))?;
        if replica.raft.term() == chunk.header.term && replica.raft.leader() == Some(leader) {
            // Hearing the leader, but not at a send time that it could count a lease from.
            replica.lease.hear(chunk.header.term, 0, times.mono_us);
        }
        self.mark(at);
        Ok(())
    }

    /// The core took a snapshot: switches to the staged space (P5). The log follows when this is durable.
    pub(crate) fn install(&mut self, at: usize, work: AppendWork) -> Result<(), StoreError> {
        let shard = self.replicas[at].descriptor.shard;
        let Some(snapshot) = &work.snapshot else {
            return Ok(());
        };
        let staged = self
            .receiving
            .remove(&shard)
            .filter(|r| r.complete && r.header.meta == snapshot.meta);
        let Some(staged) = staged else {
            unreachable!("shard {shard}: the core only sees snapshots whose data is staged")
        };
        let replica = &mut self.replicas[at];
        let old = replica.descriptor.spaces();
        replica.descriptor.space = staged.space;
        replica.descriptor.sessions = staged.space;
        replica.descriptor.is_shared = false;
        replica.descriptor.is_new = false;
        replica.sessions = sessions::totals(&self.engine, staged.space)?;
        replica.descriptor.conf_state = snapshot.meta.conf_state.clone();
        replica.descriptor.epoch = staged.header.epoch;
        replica.descriptor.membership = staged.header.membership;
        replica.descriptor.start_slot = staged.header.start_slot;
        replica.descriptor.end_slot = staged.header.end_slot;
        assert!(
            replica.applied.index < snapshot.meta.index,
            "shard {shard}: snapshot at {} would undo what is applied up to {}",
            snapshot.meta.index,
            replica.applied.index
        );
        replica.applied.index = snapshot.meta.index;
        replica.applied.term = snapshot.meta.term;
        if !mutant!("snapshot-without-the-shards-time") {
            replica.applied.stamp_ms = replica.applied.stamp_ms.max(staged.header.stamp_ms);
        }
        let records = [replica.descriptor.record(), replica.applied.record(shard)];
        let changes = records
            .into_iter()
            .map(|(key, value)| (key, Some(value)))
            .collect();
        let index = snapshot.meta.index;
        let mut skipped = Vec::new();
        while let Some(first) = replica
            .pending_writes
            .first_entry()
            .filter(|first| first.key().0 <= index)
        {
            skipped.extend(first.remove().waiter);
        }
        let batch = self.engine.write(WriteBatch { changes })?;
        let descriptor = self.replicas[at].descriptor.clone();
        self.load_machine(&descriptor)?;
        self.replicas[at].installing = Some(Installing { batch, work });
        self.router.rebuild(&self.replicas);
        self.routes_version += 1;
        self.drop_later(old, batch);
        for waiter in skipped {
            let outcome = if mutant!("write-under-a-snapshot-said-not-applied") {
                Outcome::Superseded
            } else {
                Outcome::Unknown(UnknownReason::Snapshot)
            };
            self.answer(waiter, outcome);
        }
        self.want_durable();
        Ok(())
    }

    /// Installed snapshots that have become durable: the log may be reset.
    pub(crate) fn finish_installs(&mut self) -> Result<(), StoreError> {
        let mut waiting = false;
        for at in 0..self.replicas.len() {
            match &self.replicas[at].installing {
                Some(installing) if installing.batch <= self.durable_batch => self.mark(at),
                Some(_) => waiting = true,
                None => {}
            }
        }
        if waiting {
            self.want_durable();
        }
        Ok(())
    }

    /// Puts the log reset of a durable snapshot into the turn's write (P5).
    pub(crate) fn reset_log(
        &mut self,
        at: usize,
        batch: &mut LogBatch,
        token: LogToken,
    ) -> Result<(), StoreError> {
        let durable = if mutant!("snapshot-acknowledged-before-durable") {
            self.engine.last_batch()
        } else {
            self.durable_batch
        };
        let Some(installing) = self.replicas[at].installing.take_if(|i| i.batch <= durable) else {
            return Ok(());
        };
        let mut work = installing.work;
        let Some(snapshot) = work.snapshot.take() else {
            return Ok(());
        };
        let replica = &mut self.replicas[at];
        let (index, term) = (snapshot.meta.index, snapshot.meta.term);
        replica.raft.storage_mut().reset(&snapshot.meta);
        replica.durable_applied = replica.durable_applied.max(index);
        self.counters.snapshots_installed += 1;
        batch.ops.push(LogOp::Reset {
            shard: replica.descriptor.shard,
            index,
            term,
        });
        work.must_sync = true;
        self.append(at, work, batch, token)
    }
}
