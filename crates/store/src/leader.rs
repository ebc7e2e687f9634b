//! What a leader does with a request: proposing writes, confirming reads.

use std::borrow::Cow;

use quorate_proto::{
    Answer, Command, ControlCommand, ForwardBody, Op, Outcome, Query, ScanPosition, Session, SessionWrite,
    UnknownReason,
};
use quorate_raft::{ProposeError, ReadContext, ReadState, StepError, mutant};
use quorate_storage::ShardId;
use quorate_storage::engine::Engine;

use crate::descriptor::Descriptor;
use crate::error::StoreError;
use crate::io::Times;
use crate::kv::sessions::{self, Standing};
use crate::kv::{self, Read, ReadTime};
use crate::lanes::Routed;
use crate::replica::{NewWrite, PendingRead, PendingWrite, Waiter};
use crate::rsm::CONTROLLER;
use crate::store::Store;
use crate::{ClientOutcome, Refusal};

/// Whether a command is considered by what earlier ones have made of groups and stores. Of two groups that left at the same
/// time, neither was the last one; a store was removed while it was not yet drained.
fn changes_placement(command: &ControlCommand) -> bool {
    match command {
        ControlCommand::Place(_) | ControlCommand::SetStore { .. } | ControlCommand::Recover { .. } => true,
        ControlCommand::Bootstrap(_)
        | ControlCommand::AllocateIds { .. }
        | ControlCommand::Register(_)
        | ControlCommand::Admit(_)
        | ControlCommand::NameSplit { .. }
        | ControlCommand::ReserveTimestamps { .. } => false,
    }
}

impl<E: Engine> Store<E> {
    /// Takes a request for a shard that this store leads.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn lead(
        &mut self,
        times: Times,
        at: usize,
        waiter: Waiter,
        deadline_us: u64,
        in_order: bool,
        body: ForwardBody,
        session: Option<Session>,
        request: Option<Routed>,
    ) -> Result<(), StoreError> {
        let session = match (&body, session) {
            (ForwardBody::Write(op), Some(session)) => Some(SessionWrite {
                session,
                fingerprint: sessions::fingerprint(op),
            }),
            _ => None,
        };
        if let (Some(write), ForwardBody::Write(op)) = (&session, &body)
            && let Some(outcome) = self.settled(times, at, write, op)?
        {
            self.answer(waiter, outcome);
            return Ok(());
        }
        if let ForwardBody::Write(Op::Control(command)) = &body
            && self.replicas[at].descriptor.shard == CONTROLLER
        {
            let replica = &self.replicas[at];
            if changes_placement(command) && replica.applied.index < replica.last_taken() {
                // What is under way may change what it is to be considered by: it comes again at the next tick.
                match request {
                    Some(request) => self.gateway.lanes.returned(request, None),
                    None => self.answer(waiter, Outcome::Busy),
                }
                return Ok(());
            }
            if let Err(reason) = self.machine.consider(self.reign(times), command) {
                self.answer(waiter, Outcome::Done(Answer::Error(reason)));
                return Ok(());
            }
        }
        match body {
            ForwardBody::Write(op) if self.is_out_of_space(at, &op) => {
                self.answer(waiter, Outcome::DiskFull);
                Ok(())
            }
            ForwardBody::Write(Op::Flush) if self.replicas[at].is_splitting() => {
                // It is meant for what the split takes away as well.
                match waiter {
                    Waiter::Client(ticket) => {
                        self.finish(&ticket, ClientOutcome::NotApplied(Refusal::ShardSplit));
                    }
                    waiter => self.answer(waiter, Outcome::Busy),
                }
                Ok(())
            }
            ForwardBody::Write(op) => {
                self.take_write(
                    times,
                    at,
                    op,
                    session,
                    NewWrite {
                        waiter,
                        deadline_us,
                        request,
                    },
                );
                Ok(())
            }
            ForwardBody::Manage(wish) => {
                let write = NewWrite {
                    waiter,
                    deadline_us,
                    request,
                };
                self.manage(times, at, &wish, write)
            }
            ForwardBody::Read(query) => self.take_read(
                times,
                at,
                in_order,
                PendingRead {
                    waiter,
                    deadline_us,
                    query,
                    rounds_before: self.next_read,
                    after: quorate_raft::Index(0),
                    request,
                },
            ),
        }
    }

    /// What the applied state says about a session's write already (S4). It is final, so an old leader may say it too.
    /// A repeat whose first proposal is under way is proposed once more; applying decides.
    fn settled(
        &self,
        times: Times,
        at: usize,
        write: &SessionWrite,
        op: &Op,
    ) -> Result<Option<Outcome>, StoreError> {
        let replica = &self.replicas[at];
        let stamp_ms = times.wall_ms.max(replica.proposed_stamp_ms);
        let get = |key: &[u8]| self.engine.get(key);
        let space = replica.descriptor.sessions;
        match sessions::standing(get, space, &replica.sessions, stamp_ms, write, op)? {
            Standing::New(_) if matches!(op, Op::Settle { .. }) && mutant!("status-without-the-log") => {
                Ok(Some(Outcome::Done(Answer::NeverRuns)))
            }
            Standing::New(_) => Ok(None),
            Standing::Settled(outcome) => Ok(Some(outcome)),
        }
    }

    pub(crate) fn take_write(
        &mut self,
        times: Times,
        at: usize,
        op: Op,
        session: Option<SessionWrite>,
        write: NewWrite,
    ) {
        let replica = &mut self.replicas[at];
        // T1: the shard's time never goes back, whatever the wall clock does.
        let stamp_ms = times
            .wall_ms
            .max(replica.proposed_stamp_ms)
            .max(replica.applied.stamp_ms);
        replica.proposed_stamp_ms = stamp_ms;
        let command = Command {
            stamp_ms,
            session,
            op: kv::resolve(op, stamp_ms),
        };
        replica.new_payloads.push(command.encode_to_bytes());
        replica.new_writes.push(write);
        self.mark(at);
    }

    /// Proposes the store's own write. Returns the position after which it is applied.
    pub(crate) fn take_own_write(&mut self, times: Times, at: usize, op: Op) -> quorate_raft::Index {
        self.take_write(
            times,
            at,
            op,
            None,
            NewWrite {
                waiter: Waiter::Nobody,
                deadline_us: u64::MAX,
                request: None,
            },
        );
        self.replicas[at].last_taken()
    }

    /// Hands the turn's writes to the core, as one proposal.
    pub(crate) fn propose_new(&mut self, times: Times, at: usize) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        if replica.new_payloads.is_empty() {
            return Ok(());
        }
        let shard = replica.descriptor.shard;
        let payloads = std::mem::take(&mut replica.new_payloads);
        let mut writes = std::mem::take(&mut replica.new_writes);
        match replica.raft.propose_batch(payloads) {
            Ok((term, first)) => {
                self.counters.proposals += writes.len() as u64;
                replica.load.serve(writes.len() as u64);
                for (i, write) in writes.drain(..).enumerate() {
                    let index = quorate_raft::Index(first.0 + i as u64);
                    let pending = PendingWrite {
                        waiter: Some(write.waiter),
                        deadline_us: write.deadline_us,
                    };
                    replica.pending_writes.insert((index, term), pending);
                }
                replica.new_writes = writes; // keeps its allocation
                Ok(())
            }
            Err(StepError::Propose(reason)) => {
                // Never appended (O1): elsewhere, or again.
                for write in writes {
                    self.refused(times, at, write, &reason);
                }
                Ok(())
            }
            Err(source) => Err(StoreError::Raft { shard, source }),
        }
    }

    pub(crate) fn refused(&mut self, _times: Times, at: usize, write: NewWrite, reason: &ProposeError) {
        let replica = &mut self.replicas[at];
        if matches!(write.waiter, Waiter::Nobody) {
            replica.sweep_pending = false;
            replica.session_sweep_pending = false;
        }
        let leader = replica.leader_store().filter(|_| !replica.is_leader());
        match (write.request, reason) {
            (Some(request), ProposeError::TooManyUncommittedBytes) => {
                self.finish(&request.ticket(), ClientOutcome::NotApplied(Refusal::Busy));
            }
            (Some(request), _) => self.gateway.lanes.returned(request, None),
            (None, ProposeError::TooManyUncommittedBytes) => self.answer(write.waiter, Outcome::Busy),
            (None, _) => self.answer(write.waiter, Outcome::NotLeader { leader }),
        }
    }

    fn take_read(
        &mut self,
        times: Times,
        at: usize,
        in_order: bool,
        mut read: PendingRead,
    ) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        let lease_us = self.options.lease_us();
        let leased = self.options.leases
            && (replica.holds_lease(lease_us, times.mono_us)
                || replica.lease.outlives_leadership(lease_us, times.mono_us))
            // One before it may wait for a round.
            && !(in_order && replica.awaits_round());
        // What is before it: writes that were taken, and reads that wait for no more than that.
        if in_order && replica.applied.index < replica.last_taken() {
            read.after = replica.last_taken();
        }
        let by = if leased {
            &mut self.counters.reads_by_lease
        } else {
            &mut self.counters.reads_by_round
        };
        *by += 1;
        replica.load.serve(1);
        match (leased, read.after <= replica.applied.index) {
            (true, true) => return self.serve_read(times, at, read),
            // Applying those writes proves nothing about leadership at the moment when the read arrived
            // (their acknowledgements may be older than it); the lease or the round does.
            (true, false) => replica.reads_applied.entry(read.after).or_default().push(read),
            (false, _) => {
                replica.reads_new.push(read);
                self.mark(at);
            }
        }
        Ok(())
    }

    /// Sends the round for the reads that came since the last one (R1: a read joins no earlier round).
    pub(crate) fn start_round(&mut self, at: usize) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        if replica.reads_new.is_empty() {
            return Ok(());
        }
        if mutant!("read-joins-a-round-in-flight")
            && let Some((_, waiting)) = replica.reads_round.iter_mut().next_back()
        {
            waiting.append(&mut replica.reads_new);
            return Ok(());
        }
        self.next_read += 1;
        let context = ReadContext((u128::from(self.process) << 64) | u128::from(self.next_read));
        let shard = replica.descriptor.shard;
        let reads = std::mem::take(&mut replica.reads_new);
        replica.reads_round.insert(context, reads);
        replica.raft.read_index(context).map_err(StoreError::raft(shard))
    }

    /// A quorum confirmed rounds: their reads wait for the index to be applied (R2).
    pub(crate) fn confirmed(&mut self, at: usize, states: &[ReadState]) {
        let replica = &mut self.replicas[at];
        for state in states {
            // R3: contexts of an earlier process or term are unknown here.
            for read in replica.reads_round.remove(&state.context).unwrap_or_default() {
                // The round's number is the context's lower half.
                let round = state.context.0 as u64;
                assert!(
                    round > read.rounds_before,
                    "shard {}: round {round} confirms a read that came after round {} was sent (R1)",
                    replica.descriptor.shard,
                    read.rounds_before
                );
                let index = if mutant!("read-before-applying") {
                    replica.applied.index
                } else {
                    state.index.max(read.after)
                };
                replica.reads_applied.entry(index).or_default().push(read);
            }
        }
    }

    /// Answers the reads whose index is applied.
    pub(crate) fn serve_applied(&mut self, times: Times, at: usize) -> Result<(), StoreError> {
        loop {
            let replica = &mut self.replicas[at];
            let applied = replica.applied.index;
            let Some(first) = replica
                .reads_applied
                .first_entry()
                .filter(|first| *first.key() <= applied)
            else {
                return Ok(());
            };
            for read in first.remove() {
                self.serve_read(times, at, read)?;
            }
        }
    }

    fn serve_read(&mut self, times: Times, at: usize, read: PendingRead) -> Result<(), StoreError> {
        let replica = &self.replicas[at];
        // R2: the shard may have been split since the read came.
        let slot = kv::slot_of_query(&read.query);
        let descriptor = &replica.descriptor;
        if let Some(slot) = slot.filter(|slot| !descriptor.has_slot(*slot)) {
            self.moved_read(at, read, slot);
            return Ok(());
        }
        let time = ReadTime {
            shard_ms: replica.applied.stamp_ms,
            wall_ms: times.wall_ms,
        };
        if matches!(read.query, Query::Barrier) {
            self.answer(read.waiter, Outcome::Done(Answer::Ok));
            return Ok(());
        }
        let query = within(descriptor, &read.query);
        if matches!(read.query, Query::Control(_) | Query::Timestamps { .. })
            && replica.descriptor.shard == CONTROLLER
        {
            self.serve_machine(times, at, read);
            return Ok(());
        }
        match kv::query(&self.engine, descriptor.space, time, &query)? {
            Read::Answer(Answer::Page {
                next: None,
                keys,
                count,
            }) if query != Cow::Borrowed(&read.query) => {
                let answer = Answer::Page {
                    next: Some(ScanPosition {
                        slot: descriptor.end_slot,
                        hash: 0,
                    }),
                    keys,
                    count,
                };
                self.answer(read.waiter, Outcome::Done(answer));
            }
            Read::Answer(answer) => self.answer(read.waiter, Outcome::Done(answer)),
            // T2: by the wall clock the key is gone, by the shard's time not yet. Advance the shard's time
            // through the log, so that no later read can see the key again.
            Read::ExpiredByWall if replica.serves() => {
                let index = self.take_own_write(times, at, Op::Noop);
                self.replicas[at]
                    .reads_applied
                    .entry(index)
                    .or_default()
                    .push(read);
            }
            Read::ExpiredByWall => self.retry_read(at, read),
        }
        Ok(())
    }

    /// The read's slot has another shard by now.
    fn moved_read(&mut self, at: usize, read: PendingRead, slot: u16) {
        match read.request {
            Some(request) => {
                self.counters.rerouted += 1;
                self.reroute(request);
            }
            None => {
                let outcome = self.stale(at, Some(slot));
                self.answer(read.waiter, outcome);
            }
        }
    }

    /// The read cannot be answered here any more.
    pub(crate) fn retry_read(&mut self, at: usize, read: PendingRead) {
        let replica = &self.replicas[at];
        let leader = replica.leader_store().filter(|_| !replica.is_leader());
        match read.request {
            Some(request) => self.gateway.lanes.returned(request, None),
            None => self.answer(read.waiter, Outcome::NotLeader { leader }),
        }
    }

    /// Leadership is gone: reads that nobody confirmed go elsewhere. Writes stay: their entries may still be
    /// applied, and then they are answered (O1).
    pub(crate) fn leadership_lost(&mut self, times: Times, at: usize) -> Result<(), StoreError> {
        if mutant!("not-applied-said-on-losing-leadership") {
            for (_, write) in std::mem::take(&mut self.replicas[at].pending_writes) {
                write
                    .waiter
                    .into_iter()
                    .for_each(|waiter| self.answer(waiter, Outcome::Superseded));
            }
        }
        self.replicas[at].sweep_pending = false;
        self.replicas[at].session_sweep_pending = false;
        self.drop_split_plan(at, Outcome::NotLeader { leader: None });
        for read in self.take_reads(at) {
            if mutant!("unconfirmed-read-answered-on-stepping-down") {
                self.serve_read(times, at, read)?;
            } else {
                self.retry_read(at, read);
            }
        }
        Ok(())
    }

    pub(crate) fn take_reads(&mut self, at: usize) -> Vec<PendingRead> {
        let replica = &mut self.replicas[at];
        let mut reads = std::mem::take(&mut replica.reads_new);
        for (_, mut round) in std::mem::take(&mut replica.reads_round) {
            reads.append(&mut round);
        }
        // Reads that wait for their own connection's writes never had a quorum's word.
        for (_, mut waiting) in std::mem::take(&mut replica.reads_applied) {
            reads.append(&mut waiting);
        }
        reads
    }

    /// See [`Store::abandon`].
    pub(crate) fn abandon_led(&mut self, at: usize) {
        for (_, write) in std::mem::take(&mut self.replicas[at].pending_writes) {
            if let Some(waiter) = write.waiter {
                self.answer(waiter, Outcome::Unknown(UnknownReason::ShuttingDown));
            }
        }
        self.drop_split_plan(at, Outcome::NotLeader { leader: None });
        for read in self.take_reads(at) {
            match read.waiter {
                Waiter::Client(ticket) => {
                    self.finish(&ticket, ClientOutcome::NotApplied(Refusal::ShuttingDown));
                }
                waiter => self.answer(waiter, Outcome::NotLeader { leader: None }),
            }
        }
    }

    /// Answers requests whose deadline has passed.
    pub(crate) fn leader_tick(&mut self, times: Times, at: usize) {
        let mut late = Vec::new();
        for write in self.replicas[at].pending_writes.values_mut() {
            if write.deadline_us <= times.mono_us
                && let Some(waiter) = write.waiter.take()
            {
                late.push(waiter);
            }
        }
        for waiter in late {
            self.answer(waiter, Self::timeout_outcome());
        }
        let replica = &mut self.replicas[at];
        let shard = replica.descriptor.shard;
        let mut reads = Vec::new();
        let is_late = |read: &PendingRead| read.deadline_us <= times.mono_us;
        for waiting in replica
            .reads_round
            .values_mut()
            .chain(replica.reads_applied.values_mut())
        {
            reads.extend(waiting.extract_if(.., |read| is_late(read)));
        }
        replica.reads_round.retain(|_, reads| !reads.is_empty());
        replica.reads_applied.retain(|_, reads| !reads.is_empty());
        for read in reads {
            match read.waiter {
                Waiter::Client(ticket) => {
                    self.finish(&ticket, ClientOutcome::NotApplied(Refusal::NoLeader(shard)));
                }
                waiter => self.answer(waiter, Outcome::Busy),
            }
        }
    }
}

/// The part of a scan that a shard can answer: one for more slots than it has goes on elsewhere.
fn within<'q>(descriptor: &Descriptor, query: &'q Query) -> Cow<'q, Query> {
    match query {
        Query::Scan {
            from,
            end_slot,
            limit,
            pattern,
            count_only,
        } if *end_slot > descriptor.end_slot
            && descriptor.has_slot(from.slot)
            && descriptor.shard != ShardId(0) =>
        {
            Cow::Owned(Query::Scan {
                from: *from,
                end_slot: descriptor.end_slot,
                limit: *limit,
                pattern: pattern.clone(),
                count_only: *count_only,
            })
        }
        _ => Cow::Borrowed(query),
    }
}
