//! Applying committed entries: one engine batch per turn, then the answers.

use std::borrow::Cow;

use quorate_proto::{Answer, Command, Op, Outcome, decode_membership};
use quorate_raft::{ConfChange, Entry, Index, Payload, ReplicaId, mutant};
use quorate_storage::engine::Engine;

use crate::error::StoreError;
use crate::io::Times;
use crate::kv::sessions::{self, Standing};
use crate::kv::{self, Space, Txn};
use crate::membership;
use crate::replica::{Replica, Waiter};
use crate::rsm::{self, StateMachine};
use crate::shard_log::entry_bytes;
use crate::space;
use crate::store::Store;

/// An answer that may go out once the batch is written.
type Ended = (Waiter, Outcome);

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
        let mut ended: Vec<Ended> = Vec::new();
        let mut dropped: Vec<Space> = Vec::new();
        let mut changed: Vec<usize> = Vec::new();
        let mut txn = Txn::new(&self.engine);
        let mut late = mutant!("applied-index-in-a-batch-of-its-own").then(|| Txn::new(&self.engine));
        for (at, entries) in work {
            let replica = &mut self.replicas[*at];
            let sessions_before = replica.sessions;
            let conf_ver = replica.descriptor.epoch.conf_ver;
            for entry in entries {
                apply_entry(
                    &mut txn,
                    replica,
                    entry,
                    &mut *self.machine,
                    &mut self.next_space,
                    &mut dropped,
                    &mut ended,
                )?;
            }
            if replica.descriptor.epoch.conf_ver != conf_ver {
                changed.push(*at);
            }
            let (key, value) = replica.applied.record(replica.descriptor.shard);
            late.as_mut().unwrap_or(&mut txn).put(key, value);
            if replica.sessions != sessions_before {
                sessions::put_totals(&mut txn, replica.descriptor.sessions, &replica.sessions);
            }
        }
        let (batch, late) = (txn.into_batch(), late.map(Txn::into_batch));
        let seq = self.engine.write(batch)?;
        late.map_or(Ok(seq), |late| self.engine.write(late))?;
        let dropped = dropped.into_iter().flat_map(space::data_of);
        self.garbage.extend(dropped.map(|garbage| (garbage, seq)));
        for (waiter, outcome) in ended {
            self.answer(waiter, outcome);
        }
        for at in changed {
            self.membership_changed(at);
        }
        Ok(())
    }
}

/// A pure function of the replica's state and the entry, but for `Space`s, which never leave the store.
fn apply_entry<E: Engine>(
    txn: &mut Txn<'_, E>,
    replica: &mut Replica,
    entry: &Entry,
    machine: &mut dyn StateMachine,
    next_space: &mut u32,
    dropped: &mut Vec<Space>,
    ended: &mut Vec<Ended>,
) -> Result<(), StoreError> {
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
            apply_command(txn, replica, &command, machine, next_space, dropped)?
        }
        Payload::ConfChange(change) => {
            let answer = apply_change(replica, entry.index, change)?;
            if !mutant!("membership-not-in-the-batch") {
                put_descriptor(txn, replica);
            }
            Outcome::Done(answer)
        }
    };
    replica.applied.index = entry.index;
    replica.applied.term = entry.term;
    replica.raft.storage_mut().set_applied(entry.index, entry.term);
    replica.bytes_since_durable += entry_bytes(entry);
    settle(replica, entry.index, entry.term, outcome, ended);
    Ok(())
}

/// A session's write runs only if the table says that it did not run before (S4).
fn apply_command<E: Engine>(
    txn: &mut Txn<'_, E>,
    replica: &mut Replica,
    command: &Command,
    machine: &mut dyn StateMachine,
    next_space: &mut u32,
    dropped: &mut Vec<Space>,
) -> Result<Outcome, StoreError> {
    let (space, stamp_ms) = (replica.descriptor.sessions, replica.applied.stamp_ms);
    let Some(write) = command.session else {
        return apply_op(txn, replica, &command.op, machine, next_space, dropped).map(Outcome::Done);
    };
    match sessions::standing(|key| txn.get(key), space, &replica.sessions, stamp_ms, &write)? {
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
    dropped: &mut Vec<Space>,
) -> Result<Answer, StoreError> {
    match op {
        Op::Flush => {
            dropped.push(std::mem::replace(
                &mut replica.descriptor.space,
                Space(*next_space),
            ));
            *next_space += 1;
            put_descriptor(txn, replica);
        }
        Op::Control(command) => {
            let place = (replica.descriptor.shard, replica.descriptor.sessions);
            return Ok(rsm::apply(txn, machine, place, replica.applied.stamp_ms, command));
        }
        Op::Sweep { .. } => replica.sweep_pending = false,
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
    let descriptor = &mut replica.descriptor;
    let shard = descriptor.shard;
    let mut change = Cow::Borrowed(change);
    let mut answer = Answer::Ok;
    if !change.context.is_empty() {
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

/// Decides the outcome of the writes that were proposed at `index` (O1).
fn settle(
    replica: &mut Replica,
    index: Index,
    term: quorate_raft::Term,
    outcome: Outcome,
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
        let outcome = if proposed_in == term || mutant!("another-terms-entry-taken-for-ones-own") {
            outcome.clone()
        } else {
            Outcome::Superseded
        };
        if let Some(waiter) = first.remove().waiter {
            ended.push((waiter, outcome));
        }
    }
}

fn put_descriptor<E: Engine>(txn: &mut Txn<'_, E>, replica: &Replica) {
    let (key, value) = replica.descriptor.record();
    txn.put(key, value);
}
