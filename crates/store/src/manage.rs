//! What a leader does to bring its shard's replicas to where they are wanted (rules M). The steps themselves are
//! `membership`'s.

use quorate_proto::{Answer, CommandError, Manage, Membership, Outcome, encode_membership};
use quorate_raft::{
    ConfChange, ConfChangeKind, ConfChangeSingle, Index, ProgressState, ReplicaId, StepError, Term,
};
use quorate_storage::StoreId;
use quorate_storage::engine::Engine;

use crate::error::StoreError;
use crate::io::Times;
use crate::membership::{Place, Step, can_turn_round, is_settled, next_step, wanted_by};
use crate::replica::{NewWrite, PendingWrite};
use crate::store::Store;
use crate::ticker::TRANSFER_LAG;

/// Election timeouts that new voters may be away before the change is turned round (M2).
const AWAY_TIMEOUTS: u64 = 20;

/// A change that sets the wanted voters and nothing else; they travel as a membership of which only they count.
fn want_change(wanted: Vec<Place>) -> ConfChange {
    let membership = Membership {
        wanted,
        ..Membership::default()
    };
    let mut context = Vec::new();
    encode_membership(&mut context, &membership);
    ConfChange {
        // Of nobody: it carries the context.
        changes: vec![ConfChangeSingle {
            kind: ConfChangeKind::Update,
            replica: ReplicaId(0),
        }],
        context: context.into(),
        ..ConfChange::default()
    }
}

impl<E: Engine> Store<E> {
    /// Takes a wish about the replicas of a shard that this store leads.
    pub(crate) fn manage(
        &mut self,
        times: Times,
        at: usize,
        wish: &Manage,
        write: NewWrite,
    ) -> Result<(), StoreError> {
        let descriptor = &self.replicas[at].descriptor;
        let wanted = match wish {
            Manage::Transfer { to } => {
                let answer = match self.transfer_wish(at, *to)? {
                    None => Answer::Ok,
                    Some(error) => Answer::Error(error),
                };
                self.answer(write.waiter, Outcome::Done(answer));
                return Ok(());
            }
            Manage::Split { slot, ids } => {
                return self.split_wish(times, at, *slot, ids.as_ref(), write);
            }
            Manage::Change { .. } | Manage::Abort if self.replicas[at].is_splitting() => {
                Err(CommandError::SplitUnderWay)
            }
            Manage::Change { add, .. } if add.iter().any(|store| !self.is_reachable(*store)) => {
                Err(CommandError::StoreAway)
            }
            Manage::Change { .. } | Manage::Abort => {
                wanted_by(&descriptor.conf_state, &descriptor.membership, wish)
            }
        };
        match wanted {
            Ok(wanted) => self.propose_change(times, at, want_change(wanted), Some(write)),
            Err(error) => {
                self.answer(write.waiter, Outcome::Done(Answer::Error(error)));
                Ok(())
            }
        }
    }

    fn is_reachable(&self, store: StoreId) -> bool {
        store == self.identity.store || self.peers.is_up(store)
    }

    /// Begins to hand leadership to a store; says why it does not.
    fn transfer_wish(&mut self, at: usize, to: StoreId) -> Result<Option<CommandError>, StoreError> {
        let descriptor = &self.replicas[at].descriptor;
        let target = descriptor
            .replica_on(to)
            .filter(|id| descriptor.conf_state.voters.contains(id));
        Ok(match target {
            None => Some(CommandError::NotAMember),
            Some(_) if to == self.identity.store => None,
            Some(_) if !self.peers.is_up(to) => Some(CommandError::StoreAway),
            Some(target) if self.transfer(at, target)? => None,
            Some(_) => Some(CommandError::NotReady),
        })
    }

    /// Proposes a change; one that is refused now is proposed again by whoever wants it.
    fn propose_change(
        &mut self,
        times: Times,
        at: usize,
        change: ConfChange,
        write: Option<NewWrite>,
    ) -> Result<(), StoreError> {
        // What was taken before it is before it in the log.
        self.propose_new(times, at)?;
        let replica = &mut self.replicas[at];
        let shard = replica.descriptor.shard;
        let proposed: Result<(Term, Index), StepError> = replica.raft.propose_conf_change(change);
        match (proposed, write) {
            (Ok((term, index)), Some(write)) => {
                let pending = PendingWrite {
                    waiter: Some(write.waiter),
                    deadline_us: write.deadline_us,
                };
                replica.pending_writes.insert((index, term), pending);
            }
            (Ok(_), None) | (Err(StepError::Propose(_)), None) => {}
            (Err(StepError::Propose(reason)), Some(write)) => self.refused(times, at, write, &reason),
            (Err(source), _) => return Err(StoreError::Raft { shard, source }),
        }
        self.mark(at);
        Ok(())
    }

    /// Goes one step towards the wanted voters.
    pub(crate) fn membership_tick(&mut self, times: Times, at: usize) -> Result<(), StoreError> {
        let replica = &self.replicas[at];
        let descriptor = &replica.descriptor;
        let (conf, membership) = (&descriptor.conf_state, &descriptor.membership);
        if !replica.serves()
            || replica.raft.transferring_to().is_some()
            || replica.is_splitting()
            // Before an entry of its term is applied a leader may not know the newest membership.
            || replica.applied.term != replica.raft.term()
            || is_settled(conf, membership)
        {
            self.replicas[at].away_ticks = 0;
            return Ok(());
        }
        let own = descriptor.replica;
        let step = next_step(conf, membership, own, |id| self.has_caught_up(at, id));
        let is_stuck = matches!(&step, Step::Wait(late) if late.iter().any(|id| self.is_away(at, *id)));
        if !is_stuck {
            self.replicas[at].away_ticks = 0;
        }
        match step {
            Step::Nothing => Ok(()),
            Step::Propose(change) => self.propose_change(times, at, change, None),
            Step::HandOver(voters) => {
                for target in voters {
                    if self.is_fit_to_lead(at, target) && self.transfer(at, target)? {
                        break;
                    }
                }
                Ok(())
            }
            Step::Wait(_) if is_stuck => {
                let replica = &mut self.replicas[at];
                replica.away_ticks += 1;
                let most = AWAY_TIMEOUTS * u64::from(self.options.election_ticks);
                let descriptor = &replica.descriptor;
                if replica.away_ticks <= most
                    || !can_turn_round(&descriptor.conf_state, &descriptor.membership)
                {
                    return Ok(());
                }
                replica.away_ticks = 0;
                let before = descriptor.membership.before.clone();
                self.counters.changes_turned_round += 1;
                self.propose_change(times, at, want_change(before), None)
            }
            Step::Wait(_) => Ok(()),
        }
    }

    /// A change of a replica's membership is applied: everybody whom it concerns is told.
    pub(crate) fn membership_changed(&mut self, at: usize) {
        self.routes_version += 1;
        self.tell_others(at);
        let replica = &self.replicas[at];
        let is_removed = replica
            .descriptor
            .membership
            .has_removed(replica.descriptor.replica);
        if let Some(info) = replica.info().filter(|_| is_removed) {
            self.doom(replica.descriptor.shard, info);
        }
    }

    /// Whether a member has nearly all of the log and takes what is sent.
    fn has_caught_up(&self, at: usize, id: ReplicaId) -> bool {
        let replica = &self.replicas[at];
        let last = replica.raft.last_index().0;
        id == replica.descriptor.replica
            || replica.raft.progress(id).is_some_and(|progress| {
                progress.state == ProgressState::Replicate && progress.matched.0 + TRANSFER_LAG >= last
            }) && self.is_member_up(at, id)
    }

    fn is_member_up(&self, at: usize, id: ReplicaId) -> bool {
        let store = self.replicas[at].descriptor.store_of(id);
        store.is_some_and(|store| self.is_reachable(store))
    }

    /// Whether a member is not heard of.
    fn is_away(&self, at: usize, id: ReplicaId) -> bool {
        let is_active = |id| {
            let progress = self.replicas[at].raft.progress(id);
            progress.is_some_and(|progress| progress.recent_active)
        };
        id != self.replicas[at].descriptor.replica && !(self.is_member_up(at, id) && is_active(id))
    }

    fn is_fit_to_lead(&self, at: usize, id: ReplicaId) -> bool {
        let store = self.replicas[at].descriptor.store_of(id);
        self.is_member_up(at, id) && store.is_some_and(|store| !self.health.is_peer_unwell(store))
    }
}
