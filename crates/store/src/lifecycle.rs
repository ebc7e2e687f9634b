//! Replicas come and go while the store runs.
//!
//! **Birth** (P4): a leader speaks to a replica that this store does not have and never had. An empty one is written to
//! the engine; once that is durable the log gets its first record, and only then it takes part: it waits for a
//! snapshot, and before that it has no vote.
//!
//! **Removal** (M4): one batch puts the tombstone and deletes what the engine keeps about the replica; once that is
//! durable its data goes, in slices, and then its log. Whatever a crash leaves is finished at open.

use quorate_proto::{Epoch, Membership, Outcome, RaftEnvelope, SessionTotals, ShardInfo, UnknownReason};
use quorate_raft::{ConfState, HardState, Index, MessageBody, ProposeError, ReplicaId, Term, mutant};
use quorate_storage::engine::{BatchSeq, Engine, WriteBatch};
use quorate_storage::log::LogOp;
use quorate_storage::{ShardId, StoreId};

use crate::descriptor::{Applied, Descriptor, removed};
use crate::error::StoreError;
use crate::io::{LogToken, Times};
use crate::kv::{Space, Spaces};
use crate::rebuild;
use crate::recovery::Forced;
use crate::replica::Replica;
use crate::store::Store;
use crate::tombstone::Tombstone;

/// A replica that was removed and whose tombstone is not durable.
#[derive(Debug)]
pub(crate) struct Erasing {
    shard: ShardId,
    replica: ReplicaId,
    spaces: Spaces,
    batch: BatchSeq,
}

impl Erasing {
    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }
}

/// Shards without a replica here whose candidates are remembered.
const STRANGERS_MAX: usize = 10_000;

fn is_from_leader(body: &MessageBody) -> bool {
    matches!(body, MessageBody::Append { .. } | MessageBody::Heartbeat { .. })
}

impl<E: Engine> Store<E> {
    /// A message for a shard that has no replica here.
    pub(crate) fn unknown_replica(
        &mut self,
        from: StoreId,
        envelope: &RaftEnvelope,
    ) -> Result<(), StoreError> {
        let (shard, to) = (envelope.shard, envelope.message.to);
        let is_dead = |tombstone: &Tombstone| to <= tombstone.replica;
        if self.tombstones.get(&shard).is_some_and(is_dead) {
            self.tell(from, shard);
            return Ok(());
        }
        if self.orphans.get(&shard).is_some_and(|orphan| to <= *orphan) {
            return Ok(());
        }
        let is_busy = self.erasing.iter().any(|erasing| erasing.shard == shard) || self.shutting_down;
        if is_busy {
            return Ok(());
        }
        let is_candidate = matches!(
            envelope.message.body,
            MessageBody::Vote { .. } | MessageBody::PreVote { .. }
        );
        if is_from_leader(&envelope.message.body) || is_candidate && self.is_known_stranger(shard) {
            self.create(shard, to, (envelope.message.from, from))?;
        }
        Ok(())
    }

    /// Whether candidates of a shard that this store does not know have asked for its vote for a while. They may be the
    /// children of a split: mostly it is applied here in a moment, and then the replica is born with its data. Where a
    /// snapshot of the shard that was split took its place, it never is, and without this store's vote there may be
    /// none who could send the child's data. One who votes without having had any state has lost none: whoever else
    /// is made a voter has the state (M1).
    fn is_known_stranger(&mut self, shard: ShardId) -> bool {
        let (now, wait) = (self.ticks, u64::from(self.options.election_ticks));
        self.strangers.retain(|_, since| now < *since + 20 * wait);
        if self.strangers.len() >= STRANGERS_MAX {
            return false;
        }
        let since = *self.strangers.entry(shard).or_insert(now);
        now >= since + wait
    }

    /// A message for another replica of a shard than the one here.
    pub(crate) fn misdirected(&mut self, from: StoreId, at: usize, envelope: &RaftEnvelope) {
        let (shard, to) = (envelope.shard, envelope.message.to);
        let replica = &self.replicas[at];
        let is_removed = |id| replica.descriptor.membership.has_removed(id);
        if to < replica.descriptor.replica || is_removed(envelope.message.from) {
            self.tell(from, shard);
        } else if is_from_leader(&envelope.message.body) {
            // A store gets a new replica of a shard only once the old one is no member any more.
            let info = replica.info().unwrap_or_else(|| nothing_known(shard));
            self.doom(shard, info);
        }
    }

    fn create(
        &mut self,
        shard: ShardId,
        own: ReplicaId,
        leader: (ReplicaId, StoreId),
    ) -> Result<(), StoreError> {
        let mut descriptor = Descriptor {
            shard,
            replica: own,
            start_slot: 0,
            end_slot: 0,
            epoch: Epoch::default(),
            conf_state: ConfState::default(),
            membership: Membership {
                members: vec![(own, self.identity.store)],
                ..Membership::default()
            },
            space: Space(0),
            sessions: Space(0),
            is_shared: false,
            is_new: false,
        };
        // One for both, as after a snapshot.
        let space = self.new_space();
        (descriptor.space, descriptor.sessions) = (space, space);
        let applied = Applied::default();
        let records = [descriptor.record(), applied.record(shard)];
        let batch = self.engine.write(WriteBatch {
            changes: records
                .into_iter()
                .map(|(key, value)| (key, Some(value)))
                .collect(),
        })?;
        let base = (Index(0), Term(0));
        let state = HardState::default();
        let raft = self.new_core(&descriptor, applied, state, base, Vec::new())?;
        let mut replica = Replica::new(raft, descriptor, applied, SessionTotals::default(), state, None);
        replica.birth = Some(batch);
        replica.addresses.insert(leader.0, leader.1);
        self.replicas.push(replica);
        self.router.rebuild(&self.replicas);
        self.counters.replicas_created += 1;
        self.want_durable();
        Ok(())
    }

    /// Replicas whose birth has become durable take part from now on.
    pub(crate) fn finish_births(&mut self) -> Result<(), StoreError> {
        let mut waiting = false;
        for at in 0..self.replicas.len() {
            let durable = self.durable_batch;
            let replica = &mut self.replicas[at];
            waiting |= replica.birth.is_some();
            if replica.birth.take_if(|batch| *batch <= durable).is_some() {
                let shard = replica.descriptor.shard;
                let own = replica.descriptor.replica;
                // They go with the next write.
                replica.first_logged = Some(LogToken(self.last_token + 1));
                let base = (replica.applied.index, replica.applied.term);
                let records = first_records(shard, own, base, replica.hard_state);
                self.log_ops.extend(records);
                self.campaign_for_child(at)?;
                self.mark(at);
            }
        }
        if waiting {
            self.want_durable();
        }
        Ok(())
    }

    /// A replica was removed from its shard; `info` says so. It goes when the input or the batch under way is done.
    pub(crate) fn doom(&mut self, shard: ShardId, info: ShardInfo) {
        if self.doomed.iter().all(|(doomed, _)| *doomed != shard) {
            self.doomed.push((shard, info));
        }
    }

    /// Erases the replicas that were removed, as far as it can be done now.
    pub(crate) fn erase_doomed(&mut self, times: Times) -> Result<(), StoreError> {
        if self.doomed.is_empty() {
            return Ok(());
        }
        assert!(
            self.to_apply.is_empty(),
            "replicas go between two turns, and {} batches are to be applied",
            self.to_apply.len()
        );
        for (shard, info) in std::mem::take(&mut self.doomed) {
            if let Some(at) = self.router.replica_of(shard) {
                self.erase(times, at, info)?;
            }
        }
        self.routes_version += 1;
        self.want_durable();
        Ok(())
    }

    fn erase(&mut self, times: Times, at: usize, info: ShardInfo) -> Result<(), StoreError> {
        self.forsake(times, at);
        let replica = self.replicas.remove(at);
        self.router.rebuild(&self.replicas);
        self.dirty = (0..self.replicas.len())
            .filter(|at| self.replicas[*at].dirty)
            .collect();
        let shard = replica.descriptor.shard;
        self.forget_snapshots(shard);
        let tombstone = Tombstone {
            replica: replica.descriptor.replica,
            info: info.clone(),
        };
        let mut changes = vec![
            removed(replica.descriptor.record()),
            removed(replica.applied.record(shard)),
        ];
        changes.extend(rebuild::mark_record(shard, None).changes);
        changes.push(Forced::removed(shard));
        if !mutant!("tombstone-forgotten") {
            let (key, value) = tombstone.record();
            changes.push((key, Some(value)));
            self.tombstones.insert(shard, tombstone);
        }
        let batch = self.engine.write(WriteBatch { changes })?;
        self.erasing.push(Erasing {
            shard,
            replica: replica.descriptor.replica,
            spaces: replica.descriptor.spaces(),
            batch,
        });
        self.router.hear(info);
        self.counters.replicas_removed += 1;
        self.unpark(shard);
        Ok(())
    }

    /// Ends everything that waits for a replica that goes.
    fn forsake(&mut self, times: Times, at: usize) {
        let replica = &mut self.replicas[at];
        replica.new_payloads.clear();
        self.drop_split_plan(at, Outcome::NotLeader { leader: None });
        let replica = &mut self.replicas[at];
        let never_proposed = std::mem::take(&mut replica.new_writes);
        for write in never_proposed {
            self.refused(times, at, write, &ProposeError::NotLeader { leader: None });
        }
        for (_, write) in std::mem::take(&mut self.replicas[at].pending_writes) {
            if let Some(waiter) = write.waiter {
                self.answer(waiter, Outcome::Unknown(UnknownReason::Removed));
            }
        }
        for read in self.take_reads(at) {
            self.retry_read(at, read);
        }
    }

    /// What was removed and whose tombstone has become durable loses its data and its log.
    pub(crate) fn finish_erasing(&mut self) {
        let durable = self.durable_batch;
        let is_over = |erasing: &Erasing| erasing.batch <= durable;
        let over: Vec<Erasing> = self.erasing.extract_if(.., |erasing| is_over(erasing)).collect();
        for Erasing {
            shard,
            replica,
            spaces,
            batch,
        } in over
        {
            if !mutant!("moved-data-kept") {
                self.drop_later(spaces, batch);
            }
            self.log_ops.push(LogOp::Tombstone { shard, replica });
        }
        if !self.erasing.is_empty() {
            self.want_durable();
        }
    }
}

/// What the log holds of a replica that was just born.
pub(crate) fn first_records(
    shard: ShardId,
    replica: ReplicaId,
    (index, term): (Index, Term),
    state: HardState,
) -> [LogOp; 2] {
    [
        LogOp::Reset { shard, index, term },
        LogOp::HardState {
            shard,
            replica,
            state,
        },
    ]
}

fn nothing_known(shard: ShardId) -> ShardInfo {
    ShardInfo {
        shard,
        start_slot: 0,
        end_slot: 0,
        epoch: Epoch::default(),
        membership: Membership::default(),
        leader: None,
        term: Term(0),
        session_ms: 0,
    }
}
