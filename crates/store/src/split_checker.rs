//! Splits by size, and where to split: a leader looks at what its shard holds, a slice at each tick, when enough was
//! written since the last look; a shard that is too large is split where about half of the data lies on either side.
//! A split by hand that names no slot takes the same way. The ids of the new shard come from the controller.

use quorate_proto::{Answer, CommandError, ControlCommand, Op, Outcome, Split, SplitIds};
use quorate_raft::{Index, ReplicaId, Term};
use quorate_storage::ShardId;
use quorate_storage::engine::Engine;

use crate::error::StoreError;
use crate::io::Times;
use crate::kv::Spaces;
use crate::membership::is_settled;
use crate::replica::{NewWrite, Waiter};
use crate::scheduler_worker::Purpose;
use crate::split_look::{Look, Next};
use crate::store::Store;

/// A shard is looked at once this part of the bound was written to it.
const LOOK_PART: u64 = 4;
/// Microseconds within which a split of the store's own must come about once it is known where, or is begun anew.
const OWN_TIMEOUT_US: u64 = 30_000_000;

/// A split that a leader means to propose.
#[derive(Debug)]
pub(crate) struct Plan {
    term: Term,
    stage: Stage,
    /// Who wants it.
    write: NewWrite,
}

impl Plan {
    /// Whether a split by hand may take its place: nobody waits for it, and it may not even come to a split.
    pub(crate) fn gives_way(&self) -> bool {
        matches!(self.write.waiter, Waiter::Nobody) && matches!(self.stage, Stage::Look(_))
    }
}

#[derive(Debug)]
enum Stage {
    /// Looking for where.
    Look(Look),
    /// The controller is asked for ids.
    Named { slot: u16 },
}

impl<E: Engine> Store<E> {
    /// Goes on with what is to be split.
    pub(crate) fn split_tick(&mut self, times: Times, at: usize) -> Result<(), StoreError> {
        let replica = &self.replicas[at];
        let descriptor = &replica.descriptor;
        let is_ready = replica.serves()
            && replica.raft.transferring_to().is_none()
            && !replica.is_splitting()
            && is_settled(&descriptor.conf_state, &descriptor.membership);
        if let Some(plan) = &replica.split_plan {
            let is_over = plan.write.deadline_us <= times.mono_us || plan.term != replica.raft.term();
            if !is_ready || is_over {
                self.drop_split_plan(at, Outcome::Busy);
                return Ok(());
            }
            return self.look(times, at);
        }
        let bound = self.options.split_bytes;
        let has_slots = descriptor.end_slot - descriptor.start_slot > 1;
        if bound > 0 && is_ready && has_slots && replica.bytes_since_look >= bound / LOOK_PART {
            let write = NewWrite {
                waiter: Waiter::Nobody,
                deadline_us: u64::MAX, // a look at a large shard takes minutes
                request: None,
            };
            self.plan_split(at, None, write);
        }
        Ok(())
    }

    /// A split is wanted, at `slot` or halfway.
    pub(crate) fn plan_split(&mut self, at: usize, slot: Option<u16>, write: NewWrite) {
        let replica = &mut self.replicas[at];
        if matches!(write.waiter, Waiter::Nobody) {
            replica.bytes_since_look = 0;
        } else if replica.split_plan.is_some() {
            // The shard may be too large still when it is split.
            replica.bytes_since_look = u64::MAX;
        }
        replica.split_plan = Some(Plan {
            term: replica.raft.term(),
            stage: match slot {
                None => Stage::Look(Look::default()),
                Some(slot) => Stage::Named { slot },
            },
            write,
        });
    }

    /// Looks at the next slice; at the end the slot is known, if the shard is to be split.
    fn look(&mut self, times: Times, at: usize) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        let descriptor = &replica.descriptor;
        let Some(Plan {
            stage: Stage::Look(look),
            write,
            ..
        }) = &mut replica.split_plan
        else {
            return Ok(());
        };
        let spaces = descriptor.spaces();
        let (mut start, end) = spaces.data_range();
        match look.next() {
            Next::First => {}
            Next::Behind(key) => {
                start.clone_from(key);
                start.push(0); // the least key behind it
            }
            Next::Slot(slot) => {
                let only = Some((*slot.min(&descriptor.end_slot), descriptor.end_slot));
                start = Spaces { only, ..spaces }.data_range().0;
            }
        }
        let is_own = matches!(write.waiter, Waiter::Nobody);
        if !look.slice(self.engine.scan(&start, &end), descriptor.end_slot, !is_own)? {
            return Ok(());
        }
        let slot = look.halfway();
        let slot = if is_own {
            slot.filter(|_| look.total() > self.options.split_bytes)
        } else {
            // By hand a shard is split wherever it can be.
            Some(slot.unwrap_or(descriptor.start_slot.midpoint(descriptor.end_slot)))
        };
        let Some(slot) = slot else {
            replica.split_plan = None;
            return Ok(());
        };
        self.name_split(times, at, slot)
    }

    /// The slot is known: asks the controller for ids.
    pub(crate) fn name_split(&mut self, times: Times, at: usize, slot: u16) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        let shard = replica.descriptor.shard;
        let Some(plan) = &mut replica.split_plan else {
            return Ok(());
        };
        plan.stage = Stage::Named { slot };
        if matches!(plan.write.waiter, Waiter::Nobody) {
            plan.write.deadline_us = times.mono_us.saturating_add(OWN_TIMEOUT_US);
        }
        let command = ControlCommand::NameSplit {
            shard,
            epoch: replica.descriptor.epoch,
            count: 1 + replica.descriptor.membership.members.len() as u32,
        };
        self.ask_controller(times, command, Purpose::Split(shard))
    }

    /// The controller gave ids, for the split that is wanted if it still is.
    pub(crate) fn ids_for_split(
        &mut self,
        times: Times,
        shard: ShardId,
        answer: &Answer,
    ) -> Result<(), StoreError> {
        let Some(at) = self.router.replica_of(shard) else {
            return Ok(());
        };
        let replica = &mut self.replicas[at];
        let (term, serves) = (replica.raft.term(), replica.serves());
        let is_named = |plan: &mut Plan| plan.term == term && matches!(plan.stage, Stage::Named { .. });
        let Some(plan) = replica.split_plan.take_if(|plan| serves && is_named(plan)) else {
            return Ok(());
        };
        let (Stage::Named { slot }, Answer::Int(first)) = (plan.stage, answer) else {
            // It was refused, or what came is no id. What is too large still is looked at again.
            replica.bytes_since_look = u64::MAX;
            let refusal = match answer {
                Answer::Error(reason) => *reason,
                _ => CommandError::WrongIds,
            };
            self.answer(plan.write.waiter, Outcome::Done(Answer::Error(refusal)));
            return Ok(());
        };
        let first = *first as u64;
        let voters = replica.descriptor.membership.members.len() as u64;
        let ids = SplitIds {
            child: ShardId(first),
            replicas: (first + 1..=first + voters).map(ReplicaId).collect(),
        };
        self.split_wish(times, at, Some(slot), Some(&ids), plan.write)
    }

    /// What was planned does not come about here: whoever wants it hears of it.
    pub(crate) fn drop_split_plan(&mut self, at: usize, outcome: Outcome) {
        if let Some(plan) = self.replicas[at].split_plan.take() {
            if matches!(plan.write.waiter, Waiter::Nobody) {
                // It is still too large.
                self.replicas[at].bytes_since_look = u64::MAX;
            }
            match plan.write.request {
                Some(request) => self.gateway.lanes.returned(request, None),
                None => self.answer(plan.write.waiter, outcome),
            }
        }
    }

    /// Proposes a split.
    pub(crate) fn propose_split(
        &mut self,
        times: Times,
        at: usize,
        split: Split,
        write: NewWrite,
    ) -> Result<(), StoreError> {
        // What was taken before it is before it in the log.
        self.propose_new(times, at)?;
        self.take_write(times, at, Op::Split(Box::new(split)), None, write);
        let before: Index = self.replicas[at].raft.last_index();
        self.propose_new(times, at)?;
        let replica = &mut self.replicas[at];
        let last = replica.raft.last_index();
        if last > before {
            replica.splitting = Some((replica.raft.term(), last));
        }
        Ok(())
    }
}
