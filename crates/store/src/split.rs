//! Splitting a shard: what is below a slot stays, the rest becomes a shard of its own.
//!
//! The shard's leader proposes it, when no change of the membership is under way; from then until it is applied there
//! is no lease (L3). Applying it is a pure function of the state, like any entry, and one engine batch: the range of
//! the shard shrinks, the version of both rises, the new shard begins at the position that every shard begins at, with
//! a replica on each store that has a voter, the shard's time (T1) and its part of the session table (S2, S3, S5). The
//! data stays where it is: keys begin with their slot, so both find theirs in the same space.
//!
//! A store whose replica takes a snapshot instead of applying the entry gets the new shard by a snapshot as well, from
//! whoever has it; a replica that was made for that before the entry comes is given the data by it.
//!
//! The new shard's replica takes part once its birth is durable (P4). The one beside the shard's leader campaigns at
//! once; what waits for its slots is sent there when it leads.

use quorate_proto::{Answer, Command, CommandError, Epoch, Op, Outcome, Split, SplitIds};
use quorate_raft::{ConfState, Entry, HardState, Payload, ReplicaId, Role, mutant};
use quorate_storage::ShardId;
use quorate_storage::engine::{BatchSeq, Engine};

use crate::apply::{passed, put_descriptor, settle};
use crate::bootstrap::FIRST;
use crate::descriptor::{Applied, Descriptor, members_only};
use crate::error::StoreError;
use crate::io::{LogToken, Times};
use crate::kv::{self, Txn, sessions};
use crate::lanes::Routed;
use crate::membership::is_settled;
use crate::rebuild::Rebuild;
use crate::replica::{NewWrite, Replica};
use crate::router::Place;
use crate::store::Store;
use crate::{ClientOutcome, Refusal, Target};

/// Election timeouts for which the replica beside the shard's leader campaigns for the new shard.
const EAGER_TIMEOUTS: u64 = 4;

/// The hard state of a new shard's replica, which may have voted before its data came.
pub(crate) fn first_state(before: HardState) -> HardState {
    HardState {
        term: before.term.max(FIRST.1),
        commit: before.commit.max(FIRST.0),
        ..before
    }
}

/// Whether a shard can be split so.
fn check(descriptor: &Descriptor, split: &Split) -> Result<(), CommandError> {
    if descriptor.epoch != split.epoch || !is_settled(&descriptor.conf_state, &descriptor.membership) {
        return Err(CommandError::ShardChanged);
    }
    if split.slot <= descriptor.start_slot || split.slot >= descriptor.end_slot {
        return Err(CommandError::SlotNotInside);
    }
    let stores = |places: &[(ReplicaId, quorate_storage::StoreId)]| {
        let mut stores: Vec<_> = places.iter().map(|(_, store)| *store).collect();
        stores.sort_unstable();
        stores
    };
    let has_ids = split.replicas.windows(2).all(|pair| pair[0].0 < pair[1].0)
        && split
            .replicas
            .first()
            .is_some_and(|(first, _)| *first > ReplicaId(0));
    let is_complete = stores(&split.replicas) == stores(&descriptor.membership.members);
    if !has_ids || !is_complete || split.child == descriptor.shard || split.child == ShardId(0) {
        return Err(CommandError::WrongIds);
    }
    Ok(())
}

/// What is to become of the new shard's replica on this store.
enum Fate {
    /// It is born.
    Born,
    /// It is here already, without any state; it gets its data.
    Adopted(usize),
    /// The log remembers it and the engine does not: it comes back, without the trust that its votes need (P3).
    Returns,
    /// It was removed before, or never is to be.
    Never,
}

impl<E: Engine> Store<E> {
    /// Splits a shard that this store leads.
    pub(crate) fn split_wish(
        &mut self,
        times: Times,
        at: usize,
        slot: Option<u16>,
        ids: Option<&SplitIds>,
        write: NewWrite,
    ) -> Result<(), StoreError> {
        let refusal = match (slot, ids) {
            (Some(slot), Some(ids)) => match self.split_at(at, slot, ids) {
                Ok(split) => return self.propose_split(times, at, split, write),
                Err(error) => error,
            },
            (None, Some(_)) => CommandError::SlotNotInside,
            (slot, None) => match self.can_split(at, slot) {
                Ok(()) => {
                    self.plan_split(at, slot, write);
                    return slot.map_or(Ok(()), |slot| self.name_split(times, at, slot));
                }
                Err(error) => error,
            },
        };
        self.answer(write.waiter, Outcome::Done(Answer::Error(refusal)));
        Ok(())
    }

    /// Whether a split could be proposed now.
    fn can_split(&self, at: usize, slot: Option<u16>) -> Result<(), CommandError> {
        let replica = &self.replicas[at];
        let descriptor = &replica.descriptor;
        let (start, end) = (descriptor.start_slot, descriptor.end_slot);
        let is_planned = replica.split_plan.as_ref().is_some_and(|plan| !plan.gives_way());
        if replica.is_splitting() || is_planned {
            return Err(CommandError::SplitUnderWay);
        }
        if !is_settled(&descriptor.conf_state, &descriptor.membership) {
            return Err(CommandError::ChangeUnderWay);
        }
        if slot.is_some_and(|slot| slot <= start || slot >= end) || end.saturating_sub(start) < 2 {
            return Err(CommandError::SlotNotInside);
        }
        Ok(())
    }

    /// The split that a wish asks for, if it can be made now.
    fn split_at(&self, at: usize, slot: u16, ids: &SplitIds) -> Result<Split, CommandError> {
        self.can_split(at, Some(slot))?;
        let descriptor = &self.replicas[at].descriptor;
        let members = &descriptor.membership.members;
        let is_known = self.router.replica_of(ids.child).is_some()
            || self.router.told(ids.child).is_some()
            || self.tombstones.contains_key(&ids.child);
        if ids.replicas.len() != members.len() || is_known {
            return Err(CommandError::WrongIds);
        }
        let mut sorted = ids.replicas.clone();
        sorted.sort_unstable();
        let stores = members.iter().map(|(_, store)| *store);
        let split = Split {
            slot,
            child: ids.child,
            replicas: sorted.into_iter().zip(stores).collect(),
            epoch: descriptor.epoch,
        };
        check(descriptor, &split)?;
        Ok(split)
    }

    /// Applies the entry of a split, in a batch of its own.
    pub(crate) fn apply_split(&mut self, at: usize, entry: &Entry) -> Result<(), StoreError> {
        let shard = self.replicas[at].descriptor.shard;
        assert_eq!(
            entry.index,
            self.replicas[at].applied.index.next(),
            "shard {shard}: entries are applied in order and without gaps"
        );
        let Payload::Normal(data) = &entry.payload else {
            unreachable!("shard {shard}: a split is a command")
        };
        let unreadable = |reason: String| StoreError::Entry {
            shard,
            index: entry.index,
            reason,
        };
        let command = Command::decode(data).map_err(|error| unreadable(error.to_string()))?;
        let Op::Split(split) = command.op else {
            return Err(unreadable("a split was expected".into()));
        };
        let replica = &mut self.replicas[at];
        replica.applied.stamp_ms = replica.applied.stamp_ms.max(command.stamp_ms);
        passed(replica, entry);
        let answer = match check(&replica.descriptor, &split) {
            Ok(()) => {
                self.divide(at, &split)?;
                Answer::Ok
            }
            Err(error) => {
                let mut txn = Txn::new(&self.engine);
                let (key, value) = self.replicas[at].applied.record(shard);
                txn.put(key, value);
                let batch = txn.into_batch();
                self.engine.write(batch)?;
                Answer::Error(error)
            }
        };
        let mut ended = Vec::new();
        let position = (entry.index, entry.term);
        settle(
            &mut self.replicas[at],
            position,
            Outcome::Done(answer),
            None,
            &mut ended,
        );
        for ended in ended {
            self.end(at, ended);
        }
        Ok(())
    }

    /// What becomes of this store's replica of the new shard.
    fn fate(&self, child: ShardId, own: Option<ReplicaId>) -> Fate {
        let Some(own) = own else { return Fate::Never };
        if self
            .tombstones
            .get(&child)
            .is_some_and(|dead| own <= dead.replica)
        {
            return Fate::Never;
        }
        match self.router.replica_of(child) {
            Some(at) if self.replicas[at].descriptor.replica != own => Fate::Never,
            Some(at) => Fate::Adopted(at),
            None if self.orphans.get(&child).is_some_and(|orphan| own <= *orphan) => Fate::Returns,
            None => Fate::Born,
        }
    }

    /// Both halves, in one batch.
    fn divide(&mut self, at: usize, split: &Split) -> Result<(), StoreError> {
        let table = self.new_space();
        let replica = &mut self.replicas[at];
        let parent = &mut replica.descriptor;
        let own = split
            .replicas
            .iter()
            .find(|(_, store)| *store == self.identity.store);
        let own = own.map(|(replica, _)| *replica);
        let version = parent.epoch.version + 1;
        let child = Descriptor {
            shard: split.child,
            replica: own.unwrap_or_default(),
            start_slot: split.slot,
            end_slot: parent.end_slot,
            epoch: Epoch {
                version,
                ..parent.epoch
            },
            conf_state: ConfState {
                voters: split.replicas.iter().map(|(replica, _)| *replica).collect(),
                ..ConfState::default()
            },
            membership: members_only(split.replicas.clone()),
            space: parent.space,
            sessions: table,
            is_shared: true,
            is_new: true,
        };
        parent.end_slot = split.slot;
        parent.epoch.version = version;
        parent.is_shared = true;
        let applied = Applied {
            index: FIRST.0,
            term: FIRST.1,
            stamp_ms: replica.applied.stamp_ms, // T1
        };
        let table = (parent.sessions, table);
        let shard = parent.shard;
        let mut txn = Txn::new(&self.engine);
        let totals = &mut replica.sessions;
        let given = sessions::divide(&mut txn, &self.engine, table, totals, split.slot)?;
        sessions::put_totals(&mut txn, table.0, totals);
        sessions::put_totals(&mut txn, table.1, &given);
        let (key, value) = replica.applied.record(shard);
        txn.put(key, value);
        put_descriptor(&mut txn, replica);
        let leads = replica.serves();
        let fate = self.fate(split.child, own);
        if !matches!(fate, Fate::Never) {
            for (key, value) in [child.record(), applied.record(split.child)] {
                txn.put(key, value);
            }
        }
        let batch = txn.into_batch();
        let batch = self.engine.write(batch)?;
        self.counters.splits += 1;
        match fate {
            Fate::Never => self.drop_later(child.spaces(), batch),
            fate => self.bring_up(child, applied, given, batch, fate)?,
        }
        self.strangers.remove(&split.child);
        self.router.rebuild(&self.replicas);
        if let Some(at) = self.router.replica_of(split.child).filter(|_| leads) {
            self.replicas[at].eager_ticks = EAGER_TIMEOUTS * u64::from(self.options.election_ticks);
        }
        self.membership_changed(at);
        self.want_durable();
        Ok(())
    }

    /// The new shard's replica, which takes part once its birth is durable (P4).
    fn bring_up(
        &mut self,
        child: Descriptor,
        applied: Applied,
        sessions: quorate_proto::SessionTotals,
        batch: BatchSeq,
        fate: Fate,
    ) -> Result<(), StoreError> {
        let shard = child.shard;
        let before = match fate {
            Fate::Adopted(at) => self.replicas[at].hard_state,
            _ => HardState::default(),
        };
        let state = first_state(before);
        let raft = self.new_core(&child, applied, state, FIRST, Vec::new())?;
        let rebuild = match fate {
            Fate::Returns => Rebuild::at_open(true, None, state.term),
            _ => None,
        };
        let mut replica = Replica::new(raft, child, applied, sessions, state, rebuild);
        replica.birth = Some(batch);
        if mutant!("split-child-takes-part-before-it-is-durable") {
            replica.birth = Some(BatchSeq(0));
        }
        if let Fate::Adopted(at) = fate {
            self.forget_snapshots(shard);
            let old = &mut self.replicas[at];
            assert!(
                !old.is_initialized() && old.installing.is_none(),
                "shard {shard}: its data is here before the split"
            );
            let nothing = old.descriptor.spaces();
            replica.dirty = old.dirty;
            // L2: it may have heard a leader.
            replica.lease = std::mem::take(&mut old.lease);
            replica.addresses = std::mem::take(&mut old.addresses);
            self.replicas[at] = replica;
            self.drop_later(nothing, batch);
        } else {
            self.replicas.push(replica);
        }
        Ok(())
    }

    /// The replica beside the leader of the shard that was split campaigns at once, and again while the others may not
    /// have got so far: nobody else would soon.
    pub(crate) fn campaign_for_child(&mut self, at: usize) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        if replica.eager_ticks == 0 || replica.birth.is_some() {
            return Ok(());
        }
        replica.eager_ticks -= 1;
        if replica.raft.role() == Role::Leader || replica.raft.leader().is_some() {
            replica.eager_ticks = 0;
            return Ok(());
        }
        let shard = replica.descriptor.shard;
        replica.raft.campaign().map_err(StoreError::raft(shard))?;
        self.mark(at);
        Ok(())
    }

    /// The log is durable up to `written`: a replica whose first records are among that is not new any more.
    pub(crate) fn first_records_written(&mut self, at: usize, written: LogToken) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        if replica.first_logged.take_if(|token| *token <= written).is_none() || !replica.descriptor.is_new {
            return Ok(());
        }
        replica.descriptor.is_new = false;
        let mut txn = Txn::new(&self.engine);
        put_descriptor(&mut txn, &self.replicas[at]);
        let batch = txn.into_batch();
        self.engine.write(batch)?;
        Ok(())
    }

    /// What is said of a request that was routed by another version of a shard: what serves its slot by now.
    pub(crate) fn stale(&self, at: usize, slot: Option<u16>) -> Outcome {
        let replica = &self.replicas[at];
        let now = slot.and_then(|slot| match self.router.place_of(Target::Slot(slot))? {
            Place::Here(other) if other != at => self.replicas[other].info(),
            Place::Here(_) => None,
            Place::Elsewhere(shard) => self.router.told(shard).cloned(),
        });
        Outcome::StaleEpoch {
            epoch: replica.descriptor.epoch,
            shards: replica.info().into_iter().chain(now).collect(),
        }
    }

    /// A request that came back because its slot has another shard: it goes to whoever leads that.
    pub(crate) fn reroute(&mut self, routed: Routed) {
        let names_key = kv::slot_of_body(&routed.request.body).is_some();
        if matches!(routed.request.target, Target::Shard(_)) && names_key {
            // The shard was named, and does not have the key.
            let outcome = match routed.unsure {
                Some(reason) => ClientOutcome::Unknown(reason),
                None => ClientOutcome::NotApplied(Refusal::ShardSplit),
            };
            self.conclude(&routed, outcome);
            return;
        }
        let leader = match self.router.place_of(routed.request.target) {
            Some(Place::Here(at)) => self.replicas[at].leader_store(),
            Some(Place::Elsewhere(shard)) => self.router.told(shard).and_then(|info| info.leader),
            None => None,
        };
        self.gateway.lanes.returned(routed, leader);
    }
}

#[cfg(test)]
mod tests {
    use quorate_storage::{ClusterId, StoreId};

    use super::*;
    use crate::Bootstrap;

    fn parent() -> Descriptor {
        let cluster = Bootstrap {
            cluster: ClusterId(1),
            stores: [1, 2, 3].map(StoreId).to_vec(),
            shards: 2,
            replicas: 3,
        };
        cluster.descriptors(StoreId(1)).remove(2)
    }

    fn split(of: &Descriptor, slot: u16) -> Split {
        Split {
            slot,
            child: ShardId(50),
            replicas: (1..=3).map(|n| (ReplicaId(60 + n), StoreId(n))).collect(),
            epoch: of.epoch,
        }
    }

    /// PS-09: ranges are half-open, and the end of the last one is the end of the slots.
    #[test]
    fn ps_09_a_shard_has_its_first_slot_and_not_its_end() {
        let parent = parent();
        assert_eq!((parent.start_slot, parent.end_slot), (8192, 16_384));
        let has = [8191, 8192, 16_383, 16_384].map(|slot| parent.has_slot(slot));
        assert_eq!(has, [false, true, true, false]);
        let (start, behind) = (split(&parent, 8192), split(&parent, 16_384));
        assert_eq!(check(&parent, &start), Err(CommandError::SlotNotInside));
        assert_eq!(check(&parent, &split(&parent, 8193)), Ok(()));
        assert_eq!(check(&parent, &split(&parent, 16_383)), Ok(()));
        assert_eq!(check(&parent, &behind), Err(CommandError::SlotNotInside));
    }

    /// PS-09: a split is made only of what its proposer saw: both parts of the epoch count.
    #[test]
    fn ps_09_a_split_of_another_epoch_is_void() {
        let parent = parent();
        for (conf_ver, version) in [(1, 0), (0, 1)] {
            let mut changed = parent.clone();
            changed.epoch.conf_ver += conf_ver;
            changed.epoch.version += version;
            assert_eq!(
                check(&changed, &split(&parent, 9000)),
                Err(CommandError::ShardChanged)
            );
        }
    }

    #[test]
    fn a_split_names_a_new_shard_and_a_replica_for_each_store() {
        let parent = parent();
        let wrong = |change: &dyn Fn(&mut Split)| {
            let mut split = split(&parent, 9000);
            change(&mut split);
            assert_eq!(check(&parent, &split), Err(CommandError::WrongIds), "{split:?}");
        };
        wrong(&|split| split.child = parent.shard);
        wrong(&|split| split.child = ShardId(0));
        wrong(&|split| split.replicas.truncate(2));
        wrong(&|split| split.replicas[2].1 = StoreId(4));
        wrong(&|split| split.replicas[1].0 = split.replicas[0].0);
        wrong(&|split| split.replicas[0].0 = ReplicaId(0));
    }
}
