//! Splits by size, and where to split: a leader looks at what its shard holds, a slice at each tick, when enough was
//! written since the last look; a shard that is too large is split where about half of the data lies on either side.
//! A split by hand that names no slot takes the same way. The ids of the new shard come from the controller.

use quorate_proto::{Answer, CommandError, ControlCommand, Op, Outcome, Split, SplitIds};
use quorate_raft::{Index, ReplicaId, Term};
use quorate_storage::ShardId;
use quorate_storage::engine::Engine;

use crate::error::StoreError;
use crate::io::Times;
use crate::kv;
use crate::membership::is_settled;
use crate::replica::{NewWrite, Waiter};
use crate::scheduler_worker::Purpose;
use crate::store::Store;

/// Pairs, and bytes of pairs, looked at in a tick.
const SLICE_PAIRS: usize = 2_048;
const SLICE_BYTES: u64 = 1 << 20;
/// A shard is looked at once this part of the bound was written to it.
const LOOK_PART: u64 = 4;
/// Milliseconds within which a split of the store's own must come about, or is begun anew.
const OWN_TIMEOUT_US: u64 = 30_000_000;

/// A split that a leader means to propose.
#[derive(Debug)]
pub(crate) struct Plan {
    term: Term,
    stage: Stage,
    /// Who wants it.
    write: NewWrite,
}

#[derive(Debug)]
enum Stage {
    /// Looking for where.
    Look(Look),
    /// The controller is asked for ids.
    Named { slot: u16 },
}

/// A look at a shard's data, in the order of its slots.
#[derive(Debug, Default)]
struct Look {
    /// The engine key behind which it goes on.
    after: Option<Vec<u8>>,
    /// Slots that hold something, and how many bytes.
    sizes: Vec<(u16, u64)>,
}

impl Look {
    fn total(&self) -> u64 {
        self.sizes.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// The slot, behind the first one that holds something, before which the part nearest to a half lies. None if all of
/// it is in one slot.
fn halfway(sizes: &[(u16, u64)]) -> Option<u16> {
    let total: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    let mut before = 0;
    let mut cuts = Vec::with_capacity(sizes.len());
    for (slot, bytes) in sizes {
        cuts.push((before.max(total - before) - total / 2, *slot));
        before += bytes;
    }
    cuts.into_iter().skip(1).min().map(|(_, slot)| slot)
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
                deadline_us: times.mono_us.saturating_add(OWN_TIMEOUT_US),
                request: None,
            };
            self.plan_split(at, None, write);
        }
        Ok(())
    }

    /// A split is wanted, at `slot` or halfway.
    pub(crate) fn plan_split(&mut self, at: usize, slot: Option<u16>, write: NewWrite) {
        let replica = &mut self.replicas[at];
        let is_own = matches!(write.waiter, Waiter::Nobody);
        if is_own {
            replica.bytes_since_look = 0;
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
        let (mut start, end) = descriptor.spaces().data_range();
        if let Some(after) = &look.after {
            start.clone_from(after);
            start.push(0); // the least key behind it
        }
        let (mut pairs, mut bytes) = (0, 0);
        look.after = None;
        for pair in self.engine.scan(&start, &end) {
            let (key, value) = pair?;
            let size = (key.len() + value.len()) as u64;
            match look.sizes.last_mut() {
                Some((slot, sum)) if kv::slot_of_data_key(&key) == Some(*slot) => *sum += size,
                _ => look
                    .sizes
                    .extend(kv::slot_of_data_key(&key).map(|slot| (slot, size))),
            }
            pairs += 1;
            bytes += size;
            if pairs >= SLICE_PAIRS || bytes >= SLICE_BYTES {
                look.after = Some(key.to_vec());
                return Ok(());
            }
        }
        let is_own = matches!(write.waiter, Waiter::Nobody);
        let slot = halfway(&look.sizes);
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
        let count = 1 + replica.descriptor.membership.members.len() as u32;
        self.ask_controller(
            times,
            ControlCommand::AllocateIds { count },
            Purpose::Split(shard),
        )
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
            let refusal = Answer::Error(CommandError::WrongIds);
            self.answer(plan.write.waiter, Outcome::Done(refusal));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// PS-06, in slots: pairs of 21 bytes, at most 100 in a shard. The cut is behind the first pairs that come nearest
    /// to a half, and never inside a slot.
    #[test]
    fn ps_06_a_shard_is_cut_halfway_and_never_inside_a_slot() {
        let sizes = |slots: &[u16]| -> Vec<(u16, u64)> { slots.iter().map(|slot| (*slot, 21)).collect() };
        assert_eq!(halfway(&sizes(&[0, 1, 2, 3, 4])), Some(2));
        assert_eq!(halfway(&sizes(&[0, 1])), Some(1));
        assert_eq!(halfway(&sizes(&[7])), None, "one slot cannot be divided");
        assert_eq!(halfway(&[]), None);
        assert_eq!(
            halfway(&[(0, 21), (9, 2100), (10, 21)]),
            Some(9),
            "before the large one"
        );
        assert_eq!(halfway(&[(3, 2100), (9, 21)]), Some(9), "behind it");
    }
}
