//! A shard that lost its majority for ever goes on with one replica (docs/adr/0006). This is the one place where what a
//! majority acknowledged may be given up, and it happens only by an operator's will that the controller's log holds.
//!
//! A replica that hears no leader tells the controller's leader what it holds ([`Survivor`]). When a [`Recovery`] names it:
//!
//! 1. It commits and applies what any survivor knows to be committed, by the rules that were in force.
//! 2. One engine batch puts a configuration of which it is the only member, under a version that those who are lost cannot
//!    have reached, and a *mark*: the term above which it campaigns, and the end of its log, up to which changes of the
//!    membership are void, since they were made for the members of before. Nothing is done by it until it is durable (P4).
//! 3. It campaigns above that term, leads at once, and commits what its log held.
//!
//! Those who are lost are members no more and have lower replica ids, so they are answered as removed replicas are (M4) and
//! erase themselves should they come back; their word about the membership is of an older version, and is not believed.

use bytes::{Buf, BufMut, Bytes};
use quorate_proto::{
    Epoch, Membership, PeerMessage, RUNS_MAX, Recovery, SURVIVORS_MAX, SessionTotals, Survivor,
};
use quorate_raft::{
    ConfChange, ConfChangeKind, ConfChangeSingle, ConfState, HardState, Index, ReplicaId, Term, mutant,
};
use quorate_storage::engine::{BatchSeq, Engine, EngineError, View, WriteBatch};
use quorate_storage::{ShardId, StoreId};

use crate::bootstrap::FIRST;
use crate::descriptor::{self, Applied, Descriptor, members_only};
use crate::error::StoreError;
use crate::heartbeats::HEARTBEAT_EVERY_TICKS;
use crate::io::Times;
use crate::replica::Replica;
use crate::rsm::CONTROLLER;
use crate::split;
use crate::store::Store;

const MARK_PREFIX: u8 = b'f';
const MARK_FORMAT: u8 = 1;
/// Election timeouts without a leader after which a replica tells of itself.
const SILENT_TIMEOUTS: u64 = 3;

/// What a replica that went on alone must remember.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Forced {
    /// It campaigns above this term.
    pub(crate) term: Term,
    /// Changes of the membership up to here are void.
    pub(crate) through: Index,
}

impl Forced {
    pub(crate) fn record(self, shard: ShardId) -> (Bytes, Option<Bytes>) {
        let mut out = vec![MARK_FORMAT];
        out.put_u64_le(self.term.0);
        out.put_u64_le(self.through.0);
        (descriptor::key_of(MARK_PREFIX, shard.0), Some(out.into()))
    }

    /// The record is gone.
    pub(crate) fn removed(shard: ShardId) -> (Bytes, Option<Bytes>) {
        (descriptor::key_of(MARK_PREFIX, shard.0), None)
    }

    pub(crate) fn load(view: &impl View, shard: ShardId) -> Result<Option<Self>, EngineError> {
        let Some(mut value) = view.get(&descriptor::key_of(MARK_PREFIX, shard.0))? else {
            return Ok(None);
        };
        if value.len() != 17 || value.get_u8() != MARK_FORMAT {
            return Err(descriptor::damaged("recovery mark"));
        }
        Ok(Some(Self {
            term: Term(value.get_u64_le()),
            through: Index(value.get_u64_le()),
        }))
    }

    /// The hard state that the replica starts with: above what those who are lost may have decided.
    pub(crate) fn raise(self, state: HardState) -> HardState {
        if state.term >= self.term || mutant!("recovered-in-a-term-of-before") {
            return state;
        }
        HardState {
            term: self.term,
            vote: None,
            ..state
        }
    }
}

/// A change of the membership that changes nothing.
pub(crate) fn void_change() -> ConfChange {
    ConfChange {
        changes: vec![ConfChangeSingle {
            kind: ConfChangeKind::Update,
            replica: ReplicaId(0),
        }],
        ..ConfChange::default()
    }
}

/// The descriptor of a replica that goes on alone.
pub(crate) fn alone(before: &Descriptor, own: StoreId, recovery: &Recovery) -> Descriptor {
    let last_replica = recovery.last_replica.max(before.membership.last_replica);
    let mut membership = members_only(vec![(before.replica, own)]);
    membership.last_replica = if mutant!("recovery-forgets-replica-ids") {
        before.replica
    } else {
        last_replica.max(before.replica)
    };
    Descriptor {
        conf_state: ConfState {
            voters: vec![before.replica],
            ..ConfState::default()
        },
        membership,
        epoch: recovery.epoch,
        end_slot: recovery.end_slot,
        is_shared: before.is_shared || recovery.end_slot < before.end_slot,
        ..before.clone()
    }
}

/// Where the terms of a log begin, from the newest at or before `from` on; the newest [`RUNS_MAX`].
pub(crate) fn runs(log: impl DoubleEndedIterator<Item = (Index, Term)>, from: Index) -> Vec<(Index, Term)> {
    let mut runs: Vec<(Index, Term)> = Vec::new();
    for (index, term) in log.rev() {
        let count = runs.len();
        match runs.last_mut() {
            Some(run) if run.1 == term => run.0 = index,
            _ if count == RUNS_MAX => break,
            _ => runs.push((index, term)),
        }
        if index <= from {
            break;
        }
    }
    runs.reverse();
    runs
}

impl Replica {
    /// Whether it has heard no leader for so long.
    fn is_silent(&self, now_us: u64, silent_us: u64) -> bool {
        let heard_us = self.lease.heard_at_us();
        !self.is_leader() && heard_us.is_none_or(|heard| now_us >= heard.saturating_add(silent_us))
    }

    /// What it holds, if it hears no leader.
    fn survivor(&self, now_us: u64, silent_us: u64, known: Option<Epoch>) -> Option<Survivor> {
        let heard_us = self.lease.heard_at_us();
        if !self.is_silent(now_us, silent_us) || !self.is_initialized() || self.descriptor.shard == CONTROLLER
        {
            return None;
        }
        // What it tells of is durable.
        let is_written = self.appends.is_empty() && self.birth.is_none() && self.forcing.is_none();
        let descriptor = &self.descriptor;
        let log = self.raft.storage();
        let base = std::iter::once(log.base());
        let entries = log.iter().map(|entry| (entry.index, entry.term));
        let commit = self.raft.commit();
        let members = crate::heartbeats::members_of(self);
        let newer = self.newer_membership();
        let is_removed = |id: &ReplicaId| newer.is_some_and(|(_, of)| of.has_removed(*id));
        let known = known.unwrap_or_default();
        Some(Survivor {
            shard: descriptor.shard,
            replica: descriptor.replica,
            start_slot: descriptor.start_slot,
            end_slot: descriptor.end_slot,
            epoch: descriptor.epoch,
            known: Epoch {
                conf_ver: newer
                    .map_or(descriptor.epoch.conf_ver, |(conf_ver, _)| *conf_ver)
                    .max(known.conf_ver),
                version: descriptor.epoch.version.max(known.version),
            },
            removed: members
                .iter()
                .map(|member| member.replica)
                .filter(is_removed)
                .collect(),
            members,
            last_replica: descriptor.membership.last_replica,
            term: self.raft.term(),
            commit,
            last: self.raft.last_index(),
            runs: runs(base.chain(entries), commit),
            heard: self.heard_index,
            silent_ms: heard_us.map(|heard| now_us.saturating_sub(heard) / 1000),
            sessions: self.sessions.sessions,
            is_unfit: self.rebuild.is_some() || self.installing.is_some() || !is_written,
        })
    }

    /// Another store knows who holds the shard; this replica may lag behind.
    pub(crate) fn hear_membership(&mut self, conf_ver: u64, membership: Membership) {
        if self.newer.as_ref().is_none_or(|(known, _)| *known < conf_ver) {
            self.newer = Some((conf_ver, membership));
        }
    }

    /// What it was told of the membership and has not applied.
    fn newer_membership(&self) -> Option<&(u64, Membership)> {
        let own = self.descriptor.epoch.conf_ver;
        self.newer.as_ref().filter(|(conf_ver, _)| *conf_ver > own)
    }

    /// Whether a change of the membership at `index` was made for members that are lost.
    pub(crate) fn is_void(&self, index: Index) -> bool {
        self.forced.is_some_and(|forced| index <= forced.through)
    }
}

impl<E: Engine> Store<E> {
    fn silent_us(&self) -> u64 {
        self.options.election_timeout_us() * SILENT_TIMEOUTS
    }

    /// A replica tells of itself with the heartbeat after that silence; one heartbeat may be lost.
    pub(crate) fn tells_after_ms(&self) -> u64 {
        (self.silent_us() + 2 * HEARTBEAT_EVERY_TICKS * self.options.tick_us).div_ceil(1000)
    }

    /// Tells the controller's leader of replicas that hear none.
    pub(crate) fn tell_survivors(&mut self, times: Times, to: StoreId) {
        let silent_us = self.silent_us();
        if times.mono_us < self.started_us.saturating_add(silent_us) {
            return;
        }
        let survivor = |replica: &Replica| {
            let shard = replica.descriptor.shard;
            let told = self.router.told(shard).map(|info| info.epoch);
            replica.survivor(times.mono_us, silent_us, told)
        };
        let all: Vec<Survivor> = self.replicas.iter().filter_map(survivor).collect();
        for some in all.chunks(SURVIVORS_MAX) {
            if to == self.identity.store {
                self.hear_survivors(times, to, some.to_vec());
            } else {
                let message = PeerMessage::Survivors(some.to_vec());
                self.out.sends.push((to, message));
            }
        }
    }

    /// For the leader of the controller.
    pub(crate) fn hear_survivors(&mut self, times: Times, from: StoreId, survivors: Vec<Survivor>) {
        if let Some(reign) = self.reign(times) {
            self.machine.hear_survivors(reign, from, survivors);
        }
    }

    /// The controller's leader has heard a store: what the log says of shards that it is to go on with alone.
    pub(crate) fn order_recoveries(&mut self, times: Times, store: StoreId) -> Result<(), StoreError> {
        let Some(reign) = self.reign(times) else {
            return Ok(());
        };
        for recovery in self.machine.recoveries(reign, store) {
            if store == self.identity.store {
                self.recover(times, &recovery)?;
            } else {
                let message = PeerMessage::Recover(Box::new(recovery));
                self.out.sends.push((store, message));
            }
        }
        Ok(())
    }

    /// A replica here is to go on alone, or a shard to begin anew. It comes again until it is done.
    pub(crate) fn recover(&mut self, times: Times, recovery: &Recovery) -> Result<(), StoreError> {
        if recovery.store != self.identity.store || self.shutting_down {
            return Ok(());
        }
        let Some(left) = &recovery.left else {
            return self.begin_anew(times, recovery);
        };
        let here = self.router.replica_of(recovery.shard);
        let Some(at) = here.filter(|at| self.can_go_on(times, *at, recovery, left.last)) else {
            return Ok(());
        };
        let replica = &self.replicas[at];
        if replica.raft.commit() < left.commit {
            // By the members and changes of before: what is committed is committed.
            let state = HardState {
                commit: left.commit,
                ..replica.hard_state
            };
            let descriptor = replica.descriptor.clone();
            return self.swap_core(at, &descriptor, state);
        }
        if replica.applied.index < replica.raft.commit() {
            return Ok(());
        }
        self.force(at, recovery)
    }

    /// Whether the replica is the one that is meant, as it was when that was decided, and at rest.
    fn can_go_on(&self, times: Times, at: usize, recovery: &Recovery, last: (Index, Term)) -> bool {
        let replica = &self.replicas[at];
        let log = replica.raft.storage();
        let own = log
            .iter()
            .last()
            .map_or(log.base(), |entry| (entry.index, entry.term));
        replica.descriptor.replica == recovery.replica
            && replica.descriptor.epoch.conf_ver < recovery.epoch.conf_ver
            && own == last
            && replica.is_initialized()
            && replica.is_silent(times.mono_us, self.silent_us())
            && replica.forcing.is_none()
            && replica.rebuild.is_none()
            && replica.installing.is_none()
            && replica.birth.is_none()
            && replica.appends.is_empty()
            && self.to_apply.is_empty()
    }

    /// Starts the core anew on the same log.
    fn swap_core(&mut self, at: usize, descriptor: &Descriptor, state: HardState) -> Result<(), StoreError> {
        let replica = &self.replicas[at];
        let (base, applied) = (replica.raft.storage().base(), replica.applied);
        let entries = replica.raft.storage().iter().cloned().collect();
        let raft = self.new_core(descriptor, applied, state, base, entries)?;
        let replica = &mut self.replicas[at];
        replica.raft = raft;
        replica.hard_state = state;
        self.mark(at);
        Ok(())
    }

    /// Step 2: the configuration and the mark, in one batch.
    fn force(&mut self, at: usize, recovery: &Recovery) -> Result<(), StoreError> {
        let own = self.identity.store;
        let replica = &mut self.replicas[at];
        let forced = Forced {
            term: recovery.term.max(replica.raft.term()),
            through: replica.raft.last_index(),
        };
        let descriptor = alone(&replica.descriptor, own, recovery);
        assert!(
            replica.applied.index == replica.raft.commit() && descriptor.epoch > replica.descriptor.epoch,
            "shard {}: {:?} would follow {:?}, applied {} of {}",
            recovery.shard,
            descriptor.epoch,
            replica.descriptor.epoch,
            replica.applied.index,
            replica.raft.commit()
        );
        let (key, value) = descriptor.record();
        let changes = vec![(key, Some(value)), forced.record(recovery.shard)];
        replica.descriptor = descriptor;
        replica.forced = Some(forced);
        // It takes part again once that is durable.
        let batch = self.engine.write(WriteBatch { changes })?;
        self.replicas[at].forcing = Some(batch);
        self.router.rebuild(&self.replicas);
        self.want_durable();
        Ok(())
    }

    /// Step 3, for those whose batch is durable.
    pub(crate) fn finish_forcing(&mut self) -> Result<(), StoreError> {
        let durable: BatchSeq = self.durable_batch;
        for at in 0..self.replicas.len() {
            let replica = &mut self.replicas[at];
            let is_over = |batch: &mut BatchSeq| *batch <= durable || mutant!("alone-before-it-is-durable");
            let is_durable = replica.forcing.take_if(is_over).is_some();
            let Some(forced) = replica.forced.filter(|_| is_durable) else {
                continue;
            };
            let state = HardState {
                commit: replica.applied.index,
                ..forced.raise(replica.hard_state)
            };
            // It has heard nobody of the members there are now.
            replica.lease = crate::lease::Lease::default();
            replica.addresses.clear();
            let descriptor = replica.descriptor.clone();
            let shard = descriptor.shard;
            self.swap_core(at, &descriptor, state)?;
            self.replicas[at]
                .raft
                .campaign()
                .map_err(StoreError::raft(shard))?;
            self.routes_version += 1;
        }
        if self.replicas.iter().any(|replica| replica.forcing.is_some()) {
            self.want_durable();
        }
        Ok(())
    }

    /// Nothing is left of a shard, and it begins anew here: empty, and every session is forgotten (S3), since whether its
    /// writes ran is known to nobody.
    fn begin_anew(&mut self, times: Times, recovery: &Recovery) -> Result<(), StoreError> {
        let shard = recovery.shard;
        let is_known = self.router.replica_of(shard).is_some()
            || self
                .tombstones
                .get(&shard)
                .is_some_and(|dead| recovery.replica <= dead.replica)
            || self.orphans.contains_key(&shard)
            || self.erasing.iter().any(|erasing| erasing.shard() == shard);
        let is_free = self.replicas.iter().all(|other| {
            let other = &other.descriptor;
            other.end_slot <= recovery.start_slot || recovery.end_slot <= other.start_slot
        });
        if is_known || !is_free {
            return Ok(());
        }
        let space = self.new_space();
        let descriptor = Descriptor {
            shard,
            replica: recovery.replica,
            start_slot: recovery.start_slot,
            end_slot: recovery.end_slot,
            epoch: recovery.epoch,
            conf_state: ConfState {
                voters: vec![recovery.replica],
                ..ConfState::default()
            },
            membership: quorate_proto::Membership {
                last_replica: recovery.last_replica.max(recovery.replica),
                ..members_only(vec![(recovery.replica, self.identity.store)])
            },
            space,
            sessions: space,
            is_shared: false,
            is_new: true,
        };
        let applied = Applied {
            index: FIRST.0,
            term: FIRST.1,
            stamp_ms: times.wall_ms,
        };
        let totals = SessionTotals {
            expired_through_ms: times.wall_ms,
            ..SessionTotals::default()
        };
        let forced = Forced {
            term: recovery.term,
            through: FIRST.0,
        };
        let mut txn = crate::kv::Txn::new(&self.engine);
        crate::kv::sessions::put_totals(&mut txn, space, &totals);
        for (key, value) in [descriptor.record(), applied.record(shard)] {
            txn.put(key, value);
        }
        if let (key, Some(value)) = forced.record(shard) {
            txn.put(key, value);
        }
        let batch = txn.into_batch();
        let batch = self.engine.write(batch)?;
        let state = forced.raise(split::first_state(HardState::default()));
        let raft = self.new_core(&descriptor, applied, state, FIRST, Vec::new())?;
        let mut replica = Replica::new(raft, descriptor, applied, totals, state, None);
        replica.birth = Some(batch);
        replica.forced = Some(forced);
        self.replicas.push(replica);
        self.router.rebuild(&self.replicas);
        self.routes_version += 1;
        self.want_durable();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_tell_where_terms_begin_from_the_committed_one_on() {
        let log = |terms: &[u64]| {
            let log: Vec<(Index, Term)> = (5..).map(Index).zip(terms.iter().copied().map(Term)).collect();
            log.into_iter()
        };
        let told = |terms: &[u64], from| {
            let found = runs(log(terms), Index(from));
            found
                .into_iter()
                .map(|(index, term)| (index.0, term.0))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&[2, 2, 2, 4, 4, 7], 6), [(6, 2), (8, 4), (10, 7)]);
        assert_eq!(told(&[2, 2, 2, 4, 4, 7], 9), [(9, 4), (10, 7)]);
        assert_eq!(told(&[2, 2, 2, 4, 4, 7], 10), [(10, 7)]);
        assert_eq!(told(&[2], 5), [(5, 2)], "the base alone");
        let many: Vec<u64> = (1..100).collect();
        assert_eq!(told(&many, 5).len(), RUNS_MAX);
        assert_eq!(told(&many, 5).last(), Some(&(103, 99)));
    }

    #[test]
    fn a_term_that_was_passed_is_not_turned_back() {
        let forced = Forced {
            term: Term(100),
            through: Index(7),
        };
        let state = |term, vote| HardState {
            term: Term(term),
            vote,
            commit: Index(3),
        };
        assert_eq!(forced.raise(state(4, Some(ReplicaId(2)))), state(100, None));
        let later = state(101, Some(ReplicaId(1)));
        assert_eq!(forced.raise(later), later);
    }
}
