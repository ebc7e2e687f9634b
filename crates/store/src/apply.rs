//! Applying committed entries: one engine batch per turn, then the answers.

use std::borrow::Cow;

use bytes::Bytes;
use quorate_proto::{Answer, Command, CommandError, ForwardBody, Op, Outcome, decode_membership};
use quorate_raft::{ConfChange, Entry, Index, Payload, ReplicaId, Term, mutant};
use quorate_storage::engine::Engine;

use crate::error::StoreError;
use crate::io::Times;
use crate::kv::sessions::{self, Standing};
use crate::kv::{self, Space, Spaces, Txn};
use crate::lanes::Routed;
use crate::membership;
use crate::recovery::void_change;
use crate::replica::{Replica, Waiter};
use crate::rsm::{self, StateMachine};
use crate::shard_log::entry_bytes;
use crate::space;
use crate::store::Store;

/// An answer that may go out once the batch is written.
pub(crate) struct Ended {
    waiter: Waiter,
    deadline_us: u64,
    outcome: Outcome,
    /// What did not run because its slot is another shard's by now.
    moved: Option<(u16, Op)>,
}

impl<E: Engine> Store<E> {
    /// Ends a turn: applies what is committed and answers who waits for it.
    pub fn apply(&mut self, times: Times) -> Result<(), StoreError> {
        let work = std::mem::take(&mut self.to_apply);
        if !work.is_empty() {
            if mutant!("own-clock-decides-expiry") {
                for (at, _) in &work {
                    let stamp_ms = &mut self.replicas[*at].applied.stamp_ms;
                    *stamp_ms = times.wall_ms.max(*stamp_ms);
                }
            }
            self.apply_entries(&work)?;
            for (at, entries) in work {
                let replica = &mut self.replicas[at];
                if let Some(last) = entries.last() {
                    let shard = replica.descriptor.shard;
                    replica
                        .raft
                        .apply_done(last.index)
                        .map_err(StoreError::raft(shard))?;
                }
                self.buffers.reuse_entries(entries);
                self.collect_log(at);
                self.mark(at);
                self.serve_applied(times, at)?;
            }
            self.erase_doomed(times)?;
        }
        Ok(())
    }

    fn apply_entries(&mut self, work: &[(usize, Vec<Entry>)]) -> Result<(), StoreError> {
        let mut run: Vec<(usize, &[Entry])> = Vec::with_capacity(work.len());
        for (at, entries) in work {
            let mut rest = entries.as_slice();
            // A split reads the whole session table, so what is before it is written first.
            while let Some(split) = rest.iter().position(is_split) {
                run.push((*at, &rest[..split]));
                self.apply_run(&run)?;
                run.clear();
                self.apply_split(*at, &rest[split])?;
                rest = &rest[split + 1..];
            }
            run.push((*at, rest));
        }
        self.apply_run(&run)
    }

    fn apply_run(&mut self, work: &[(usize, &[Entry])]) -> Result<(), StoreError> {
        let mut ended: Vec<(usize, Ended)> = Vec::new();
        let mut settled: Vec<Ended> = Vec::new();
        let mut dropped: Vec<Spaces> = Vec::new();
        let mut changed: Vec<usize> = Vec::new();
        let mut txn = Txn::new(&self.engine);
        let mut late = mutant!("applied-index-in-a-batch-of-its-own").then(|| Txn::new(&self.engine));
        for (at, entries) in work {
            let replica = &mut self.replicas[*at];
            let sessions_before = replica.sessions;
            let conf_ver = replica.descriptor.epoch.conf_ver;
            for entry in *entries {
                apply_entry(
                    &mut txn,
                    replica,
                    entry,
                    &mut *self.machine,
                    &mut self.next_space,
                    &mut dropped,
                    &mut settled,
                )?;
            }
            ended.extend(settled.drain(..).map(|ended| (*at, ended)));
            let changes = replica.descriptor.epoch.conf_ver - conf_ver;
            if changes > 0 {
                self.counters.memberships_changed += changes;
                changed.push(*at);
            }
            let (key, value) = replica.applied.record(replica.descriptor.shard);
            late.as_mut().unwrap_or(&mut txn).put(key, value);
            if replica.sessions != sessions_before {
                sessions::put_totals(&mut txn, replica.descriptor.sessions, &replica.sessions);
            }
        }
        let (batch, late) = (txn.into_batch(), late.map(Txn::into_batch));
        if batch.changes.iter().any(kv::sets_deadline) {
            for (at, _) in work {
                self.replicas[*at].keys_at_rest = None;
            }
        }
        let seq = self.engine.write(batch)?;
        late.map_or(Ok(seq), |late| self.engine.write(late))?;
        let dropped = dropped.into_iter().flat_map(space::data_of);
        self.garbage.extend(dropped.map(|garbage| (garbage, seq)));
        for (at, ended) in ended {
            self.end(at, ended);
        }
        for at in changed {
            self.membership_changed(at);
        }
        Ok(())
    }

    /// Answers a write that is decided. One for a slot that went to another shard goes there (O1: it certainly did not
    /// run here).
    pub(crate) fn end(&mut self, at: usize, ended: Ended) {
        let Ended {
            waiter,
            deadline_us,
            outcome,
            moved,
        } = ended;
        let Some((slot, op)) = moved else {
            return self.answer(waiter, outcome);
        };
        let outcome = self.stale(at, Some(slot));
        match waiter {
            Waiter::Client(ticket) => {
                let routed = Routed::again(ticket, ForwardBody::Write(op), deadline_us);
                let own = self.identity.store;
                self.attempt_ended(routed, own, outcome);
            }
            waiter => self.answer(waiter, outcome),
        }
    }
}

fn is_split(entry: &Entry) -> bool {
    matches!(&entry.payload, Payload::Normal(data) if quorate_proto::is_split(data))
}

/// A pure function of the replica's state and the entry, but for `Space`s, which never leave the store.
fn apply_entry<E: Engine>(
    txn: &mut Txn<'_, E>,
    replica: &mut Replica,
    entry: &Entry,
    machine: &mut dyn StateMachine,
    next_space: &mut u32,
    dropped: &mut Vec<Spaces>,
    ended: &mut Vec<Ended>,
) -> Result<(), StoreError> {
    let mut moved = None;
    let shard = replica.descriptor.shard;
    assert_eq!(
        entry.index,
        replica.applied.index.next(),
        "shard {shard}: entries are applied in order and without gaps"
    );
    let outcome = match &entry.payload {
        Payload::Normal(data) if data.is_empty() => Outcome::Done(Answer::Ok), // a new leader's first entry
        Payload::Normal(data) => {
            let command = Command::decode(data).map_err(|error| StoreError::Entry {
                shard,
                index: entry.index,
                reason: error.to_string(),
            })?;
            // T1: a leader that did not know the newest stamp cannot turn the shard's time back.
            replica.applied.stamp_ms = if mutant!("stamp-goes-back") {
                command.stamp_ms
            } else {
                replica.applied.stamp_ms.max(command.stamp_ms)
            };
            // Proposed before its leader had applied a split that comes before it.
            let slot = kv::slot_of_op(&command.op).filter(|slot| !replica.descriptor.has_slot(*slot));
            match slot {
                Some(slot) if !mutant!("write-behind-a-split-runs-in-the-old-shard") => {
                    moved = Some((slot, command.op));
                    Outcome::Busy // `end` says more
                }
                _ => apply_command(txn, replica, &command, machine, next_space, dropped)?,
            }
        }
        Payload::ConfChange(change) => {
            let answer = apply_change(replica, entry.index, change)?;
            if !mutant!("membership-not-in-the-batch") {
                put_descriptor(txn, replica);
            }
            Outcome::Done(answer)
        }
    };
    passed(replica, entry);
    settle(replica, (entry.index, entry.term), outcome, moved, ended);
    Ok(())
}

/// The entry is applied.
pub(crate) fn passed(replica: &mut Replica, entry: &Entry) {
    replica.applied.index = entry.index;
    replica.applied.term = entry.term;
    replica.raft.storage_mut().set_applied(entry.index, entry.term);
    replica.bytes_since_durable += entry_bytes(entry);
    replica.bytes_since_look = replica.bytes_since_look.saturating_add(entry_bytes(entry));
    replica.size.grow(entry_bytes(entry));
}

/// A session's write runs only if the table says that it did not run before (S4).
fn apply_command<E: Engine>(
    txn: &mut Txn<'_, E>,
    replica: &mut Replica,
    command: &Command,
    machine: &mut dyn StateMachine,
    next_space: &mut u32,
    dropped: &mut Vec<Spaces>,
) -> Result<Outcome, StoreError> {
    let (space, stamp_ms) = (replica.descriptor.sessions, replica.applied.stamp_ms);
    let Some(write) = command.session else {
        return apply_op(txn, replica, &command.op, machine, next_space, dropped).map(Outcome::Done);
    };
    match sessions::standing(
        |key| txn.get(key),
        space,
        &replica.sessions,
        stamp_ms,
        &write,
        &command.op,
    )? {
        Standing::Settled(Outcome::Done(_)) if mutant!("session-checked-only-before-proposing") => {
            apply_op(txn, replica, &command.op, machine, next_space, dropped).map(Outcome::Done)
        }
        Standing::Settled(outcome) => Ok(outcome),
        Standing::New(place) => {
            let answer = apply_op(txn, replica, &command.op, machine, next_space, dropped)?;
            let totals = &mut replica.sessions;
            sessions::record(txn, space, totals, place, &write, &command.op, &answer);
            Ok(Outcome::Done(answer))
        }
    }
}

fn apply_op<E: Engine>(
    txn: &mut Txn<'_, E>,
    replica: &mut Replica,
    op: &Op,
    machine: &mut dyn StateMachine,
    next_space: &mut u32,
    dropped: &mut Vec<Spaces>,
) -> Result<Answer, StoreError> {
    match op {
        Op::Flush => {
            dropped.push(replica.descriptor.spaces());
            replica.descriptor.space = Space(*next_space);
            replica.descriptor.is_shared = false;
            *next_space += 1;
            put_descriptor(txn, replica);
        }
        Op::Control(command) => {
            let place = (replica.descriptor.shard, replica.descriptor.sessions);
            return Ok(rsm::apply(txn, machine, place, replica.applied.stamp_ms, command));
        }
        Op::Sweep { due } => {
            replica.sweep_pending = false;
            let descriptor = &replica.descriptor;
            let is_ours = |due: &(u64, Bytes)| descriptor.has_slot(kv::slot_of(&due.1));
            if !due.iter().all(is_ours) {
                // Looked up before a split that comes before it.
                let due = due.iter().filter(|due| is_ours(due)).cloned().collect();
                let (space, stamp_ms) = (descriptor.space, replica.applied.stamp_ms);
                return Ok(kv::apply(txn, space, stamp_ms, &Op::Sweep { due })?);
            }
        }
        Op::ExpireSessions { clients } => {
            replica.session_sweep_pending = false;
            let space = replica.descriptor.sessions;
            let forgotten = sessions::expire(txn, space, &mut replica.sessions, clients)?;
            return Ok(Answer::Int(forgotten));
        }
        _ => {}
    }
    Ok(kv::apply(
        txn,
        replica.descriptor.space,
        replica.applied.stamp_ms,
        op,
    )?)
}

/// A change of the membership: configuration, members and version change together, in the batch of the entry (P4).
fn apply_change(replica: &mut Replica, index: Index, change: &ConfChange) -> Result<Answer, StoreError> {
    let is_void = replica.is_void(index);
    let descriptor = &mut replica.descriptor;
    let shard = descriptor.shard;
    let mut change = Cow::Borrowed(change);
    let mut answer = Answer::Ok;
    if is_void {
        change = Cow::Owned(void_change());
        answer = Answer::Error(CommandError::ShardChanged);
    } else if !change.context.is_empty() {
        let wish = decode_membership(&change.context).map_err(|error| StoreError::Entry {
            shard,
            index,
            reason: error.to_string(),
        })?;
        let (conf, membership) = (&descriptor.conf_state, &mut descriptor.membership);
        if let Err(error) = membership::want(conf, membership, wish.wanted) {
            answer = Answer::Error(error);
        }
    } else if !membership::fits(&descriptor.membership, &change) {
        let void = &mut change.to_mut().changes;
        void.iter_mut().for_each(|single| single.replica = ReplicaId(0));
    }
    let conf_state = replica
        .raft
        .apply_conf_change(&change)
        .map_err(StoreError::raft(shard))?;
    replica.raft.storage_mut().set_conf_state(conf_state.clone());
    membership::follow(&mut replica.descriptor.membership, &conf_state);
    replica.descriptor.conf_state = conf_state;
    replica.descriptor.epoch.conf_ver += 1;
    Ok(answer)
}

/// Decides the outcome of the writes that were proposed at an entry's position (O1).
pub(crate) fn settle(
    replica: &mut Replica,
    (index, term): (Index, Term),
    outcome: Outcome,
    moved: Option<(u16, Op)>,
    ended: &mut Vec<Ended>,
) {
    while let Some(first) = replica
        .pending_writes
        .first_entry()
        .filter(|first| first.key().0 <= index)
    {
        let (at, proposed_in) = *first.key();
        assert_eq!(
            at, index,
            "shard {}: a write at {at} was passed over",
            replica.descriptor.shard
        );
        let is_own = proposed_in == term || mutant!("another-terms-entry-taken-for-ones-own");
        let write = first.remove();
        let Some(waiter) = write.waiter else { continue };
        ended.push(Ended {
            waiter,
            deadline_us: write.deadline_us,
            outcome: if is_own {
                outcome.clone()
            } else {
                Outcome::Superseded
            },
            moved: moved.clone().filter(|_| is_own),
        });
    }
}

pub(crate) fn put_descriptor<E: Engine>(txn: &mut Txn<'_, E>, replica: &Replica) {
    let (key, value) = replica.descriptor.record();
    txn.put(key, value);
}
