//! Linearizable reads: a round of the leader (R1 to R3), then waiting until its index is handed up.

use std::collections::BTreeMap;

use quorate_raft::{Index, ReadContext, ReadState};

use super::{Machine, Reply, RequestId};
use crate::{CommandIndex, FatalError, ReadError};

#[derive(Clone, Copy)]
struct Read {
    request: RequestId,
    deadline_us: u64,
}

struct Round {
    asked_us: u64,
    reads: Vec<Read>,
}

/// Reads on their way.
pub(super) struct Reads {
    /// Makes contexts unique over members and restarts (R1).
    process: u64,
    next: u64,
    /// Join the round that the end of this turn begins, never an earlier one (R1).
    new: Vec<Read>,
    rounds: BTreeMap<ReadContext, Round>,
    /// Confirmed; answered once this index is handed up.
    confirmed: BTreeMap<Index, Vec<Read>>,
}

impl Reads {
    pub(super) fn new(process: u64) -> Self {
        Self {
            process,
            next: 0,
            new: Vec::new(),
            rounds: BTreeMap::new(),
            confirmed: BTreeMap::new(),
        }
    }
}

impl Machine {
    /// Asks for a read barrier; answered with [`Reply::Read`].
    pub(crate) fn read_barrier(&mut self, request: RequestId) {
        let deadline_us = self.now_us + self.limits.request_timeout_us;
        self.reads.new.push(Read { request, deadline_us });
        if self.removed {
            self.fail_reads();
        }
    }

    /// Begins the round that this turn's reads share.
    pub(super) fn ask_reads(&mut self) -> Result<(), FatalError> {
        if self.reads.new.is_empty() {
            return Ok(());
        }
        let context = ReadContext((u128::from(self.reads.process) << 64) | u128::from(self.reads.next));
        self.reads.next += 1;
        let round = Round {
            asked_us: self.now_us,
            reads: std::mem::take(&mut self.reads.new),
        };
        self.reads.rounds.insert(context, round);
        let asked = self.raft.read_index(context);
        self.core(asked)
    }

    pub(super) fn read_confirmed(&mut self, state: ReadState) {
        // An answer to a round that was asked again is as good for those that are still in it; there are none.
        if let Some(round) = self.reads.rounds.remove(&state.context) {
            self.reads
                .confirmed
                .entry(state.index)
                .or_default()
                .extend(round.reads);
        }
    }

    /// Answers what has been handed up far enough.
    pub(super) fn answer_reads(&mut self) {
        while let Some(entry) = self.reads.confirmed.first_entry()
            && *entry.key() <= self.handed
        {
            for read in entry.remove() {
                let reply = Reply::Read(Ok(CommandIndex(self.commands)));
                self.effects.replies.push((read.request, reply));
            }
        }
    }

    /// Asks again for what got no answer (R3), and gives up what waits too long.
    pub(super) fn tick_reads(&mut self) -> Result<(), FatalError> {
        let patience = self.limits.tick_us * u64::from(self.limits.election_ticks) / 2;
        let now_us = self.now_us;
        let overdue = |round: &Round| now_us.saturating_sub(round.asked_us) >= patience;
        let stale: Vec<ReadContext> = self
            .reads
            .rounds
            .iter()
            .filter(|(_, round)| overdue(round))
            .map(|(context, _)| *context)
            .collect();
        for context in stale {
            if let Some(round) = self.reads.rounds.remove(&context) {
                self.reads.new.extend(round.reads);
            }
        }
        let mut late = Vec::new();
        let mut keep = |reads: &mut Vec<Read>| {
            late.extend(reads.extract_if(.., |read| read.deadline_us <= now_us));
            !reads.is_empty()
        };
        keep(&mut self.reads.new);
        self.reads.confirmed.retain(|_, reads| keep(reads));
        self.refuse(late);
        Ok(())
    }

    /// There will be no answer.
    pub(super) fn fail_reads(&mut self) {
        let mut all = std::mem::take(&mut self.reads.new);
        for round in std::mem::take(&mut self.reads.rounds).into_values() {
            all.extend(round.reads);
        }
        for reads in std::mem::take(&mut self.reads.confirmed).into_values() {
            all.extend(reads);
        }
        self.refuse(all);
    }

    fn refuse(&mut self, reads: Vec<Read>) {
        let hint = self.hint();
        for read in reads {
            let reply = Reply::Read(Err(ReadError::Timeout { hint }));
            self.effects.replies.push((read.request, reply));
        }
    }
}
