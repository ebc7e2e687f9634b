//! Membership: changes proposed here, changes applied, and leadership handed over.

use std::collections::{BTreeMap, VecDeque};

use quorate_proto::NodeMessage;
use quorate_raft::{
    ConfChange, ConfChangeForm, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, ConfState, Entry,
    Index, Payload, ProposeError, Role, Snapshot, StepError, Term,
};
use quorate_storage::log::{LogBatch, LogOp};

use super::{Effects, Epoch, Machine, Reply, RequestId};
use crate::durable::{LOG, Write};
use crate::members::{Book, SnapshotBody, decode_addresses, encode_addresses};
use crate::{Applied, Change, ChangeError, FatalError, Membership, NodeId, TransferError};

/// Membership as applied, and what waits for it to change.
pub(super) struct Members {
    /// From the newest snapshot's position on; never empty. A snapshot needs the one of its position.
    epochs: VecDeque<Epoch>,
    change: Option<PendingChange>,
    transfer: Option<PendingTransfer>,
}

struct PendingChange {
    request: RequestId,
    index: Index,
    term: Term,
    deadline_us: u64,
    /// It is applied, and the joint configuration that it entered is not left yet.
    entered: bool,
}

struct PendingTransfer {
    request: RequestId,
    to: NodeId,
    deadline_us: u64,
}

fn members_of(conf: &ConfState) -> impl Iterator<Item = NodeId> + '_ {
    conf.voters
        .iter()
        .chain(&conf.learners)
        .chain(&conf.voters_outgoing)
        .chain(&conf.learners_next)
        .copied()
}

impl Members {
    pub(super) fn new(conf_state: ConfState, book: Book, from: Index) -> Self {
        Self {
            epochs: VecDeque::from([Epoch {
                from,
                conf_state,
                book,
            }]),
            change: None,
            transfer: None,
        }
    }

    fn epoch(&self) -> &Epoch {
        &self.epochs[self.epochs.len() - 1]
    }

    pub(super) fn current(&self) -> Membership {
        let Epoch { conf_state, book, .. } = self.epoch();
        Membership::new(conf_state, &book.addresses, &book.removed)
    }

    pub(super) fn is_removed(&self, id: NodeId) -> bool {
        self.epoch().book.removed.contains(&id)
    }

    /// What was in effect at `index`, which is not in front of the newest snapshot.
    pub(super) fn at(&self, index: Index) -> &Epoch {
        let after = self.epochs.partition_point(|epoch| epoch.from <= index);
        &self.epochs[after.saturating_sub(1)]
    }

    /// Nobody will ask for positions in front of `index` any more.
    pub(super) fn forget_before(&mut self, index: Index) {
        while self.epochs.get(1).is_some_and(|next| next.from <= index) {
            self.epochs.pop_front();
        }
    }

    /// A snapshot takes the place of all that was applied.
    pub(super) fn installed(&mut self, snapshot: &Snapshot, effects: &mut Effects) -> Result<(), FatalError> {
        let index = snapshot.meta.index;
        let body = SnapshotBody::decode(snapshot.data.clone())
            .map_err(|reason| FatalError::Data(format!("snapshot at {index}: {reason}")))?;
        effects.addresses = Some(body.book.addresses.clone());
        self.epochs = VecDeque::from([Epoch {
            from: index,
            conf_state: snapshot.meta.conf_state.clone(),
            book: body.book,
        }]);
        if let Some(change) = self.change.take() {
            let error = ChangeError::Unknown("the member moved past it by a snapshot");
            effects.replies.push((change.request, Reply::Change(Err(error))));
        }
        Ok(())
    }

    /// An entry is committed: does it decide the pending change?
    pub(super) fn decided(&mut self, entry: &Entry, effects: &mut Effects) {
        let Some(change) = self.change.take_if(|change| !change.entered) else {
            return;
        };
        let error = if entry.term > change.term {
            Some(ChangeError::NotApplied)
        } else if (entry.index, entry.term) == (change.index, change.term) {
            // The core puts an empty entry in the place of one that does not fit.
            matches!(entry.payload, Payload::Normal(_)).then_some(ChangeError::Pending)
        } else {
            None
        };
        match error {
            Some(error) => effects.replies.push((change.request, Reply::Change(Err(error)))),
            None => self.change = Some(change),
        }
    }

    /// A membership change was applied.
    pub(super) fn applied(
        &mut self,
        own: NodeId,
        entry: &Entry,
        change: &ConfChange,
        conf_state: ConfState,
        effects: &mut Effects,
    ) -> Result<(), FatalError> {
        let added = decode_addresses(&change.context)
            .map_err(|reason| FatalError::Data(format!("membership change at {}: {reason}", entry.index)))?;
        let Epoch {
            conf_state: before,
            mut book,
            ..
        } = self.epoch().clone();
        book.addresses.extend(added);
        for gone in members_of(&before).filter(|id| !members_of(&conf_state).any(|member| member == *id)) {
            book.addresses.remove(&gone);
            if book.removed.insert(gone) && gone != own {
                effects.sends.push((gone, NodeMessage::Removed)); // M4
            }
        }
        effects.addresses = Some(book.addresses.clone());
        let joint = !conf_state.voters_outgoing.is_empty();
        self.epochs.push_back(Epoch {
            from: entry.index,
            conf_state,
            book,
        });
        if let Some(mut pending) = self.change.take() {
            pending.entered |= (pending.index, pending.term) == (entry.index, entry.term);
            if pending.entered && !joint {
                let reply = Reply::Change(Ok(self.current()));
                effects.replies.push((pending.request, reply));
            } else {
                self.change = Some(pending);
            }
        }
        Ok(())
    }
}

impl Machine {
    /// Proposes a membership change; answered with [`Reply::Change`] once it is in effect.
    pub(crate) fn change(&mut self, request: RequestId, changes: &[Change]) {
        if let Err(error) = self.propose_change(request, changes) {
            self.effects.replies.push((request, Reply::Change(Err(error))));
        }
    }

    fn propose_change(&mut self, request: RequestId, changes: &[Change]) -> Result<(), ChangeError> {
        if self.raft.role() != Role::Leader || self.removed {
            return Err(ChangeError::NotLeader { hint: self.hint() });
        }
        let epoch = self.members.epoch();
        if self.members.change.is_some() || !epoch.conf_state.voters_outgoing.is_empty() {
            return Err(ChangeError::Pending);
        }
        check(&self.members.current(), changes)?;
        let single = |change: &Change| {
            let (kind, replica) = match change {
                Change::AddLearner { id, .. } => (ConfChangeKind::AddLearner, *id),
                Change::AddVoter { id, .. } => (ConfChangeKind::AddVoter, *id),
                Change::Remove { id } => (ConfChangeKind::Remove, *id),
            };
            ConfChangeSingle { kind, replica }
        };
        let addresses: BTreeMap<NodeId, String> = changes
            .iter()
            .filter_map(|change| match change {
                Change::AddLearner { id, address } | Change::AddVoter { id, address } => {
                    Some((*id, address.clone()))
                }
                Change::Remove { .. } => None,
            })
            .collect();
        let proposed = self.raft.propose_conf_change(ConfChange {
            form: ConfChangeForm::V2,
            transition: ConfChangeTransition::Auto,
            changes: changes.iter().map(single).collect(),
            context: encode_addresses(&addresses),
        });
        match proposed {
            Ok((term, index)) => {
                self.members.change = Some(PendingChange {
                    request,
                    index,
                    term,
                    deadline_us: self.now_us + self.limits.request_timeout_us,
                    entered: false,
                });
                Ok(())
            }
            Err(StepError::Propose(ProposeError::TransferInProgress { target })) => {
                Err(ChangeError::TransferInProgress { to: target })
            }
            Err(StepError::Propose(
                ProposeError::ConfChangePending { .. } | ProposeError::ConfChangeInJoint,
            )) => Err(ChangeError::Pending),
            Err(StepError::Propose(ProposeError::NotLeader { leader })) => {
                Err(ChangeError::NotLeader { hint: leader })
            }
            Err(error) => Err(ChangeError::Invalid(error.to_string())),
        }
    }

    /// Hands leadership over; answered with [`Reply::Transfer`] once the target leads.
    pub(crate) fn transfer(&mut self, request: RequestId, to: NodeId) -> Result<(), FatalError> {
        let error = if self.raft.role() != Role::Leader || self.removed {
            Some(TransferError::NotLeader { hint: self.hint() })
        } else if !self.members.current().voters.contains(&to) {
            Some(TransferError::NotVoter(to))
        } else {
            None
        };
        let superseded = self.members.transfer.take_if(|_| error.is_none());
        if let Some(old) = superseded {
            let reply = Reply::Transfer(Err(TransferError::Failed(old.to)));
            self.effects.replies.push((old.request, reply));
        }
        match error {
            Some(error) => self.effects.replies.push((request, Reply::Transfer(Err(error)))),
            None => {
                let begun = self.raft.transfer_leader(to);
                self.core(begun)?;
                self.members.transfer = Some(PendingTransfer {
                    request,
                    to,
                    deadline_us: self.now_us + self.limits.request_timeout_us,
                });
            }
        }
        Ok(())
    }

    /// Has the target taken over, or was the attempt given up?
    pub(super) fn settle_transfer(&mut self) {
        let Some(transfer) = &self.members.transfer else {
            return;
        };
        let to = transfer.to;
        let leads = self.raft.role() == Role::Leader;
        let outcome = if self.raft.leader() == Some(to) {
            Ok(())
        } else if (leads && self.raft.transferring_to() != Some(to))
            || (!leads && self.raft.leader().is_some())
            || transfer.deadline_us <= self.now_us
        {
            Err(TransferError::Failed(to))
        } else {
            return;
        };
        if let Some(transfer) = self.members.transfer.take() {
            self.effects
                .replies
                .push((transfer.request, Reply::Transfer(outcome)));
        }
    }

    pub(super) fn tick_members(&mut self) {
        let now_us = self.now_us;
        if let Some(change) = self.members.change.take_if(|change| change.deadline_us <= now_us) {
            let error = ChangeError::Unknown("it was not in effect in time");
            self.effects
                .replies
                .push((change.request, Reply::Change(Err(error))));
        }
    }

    /// Somebody who knows says that this member was removed: it takes no further part (M4).
    pub(super) fn retire(&mut self) {
        if self.removed {
            return;
        }
        self.removed = true;
        let token = self.token();
        self.effects.writes.push(Write {
            token,
            snapshot: None,
            batch: LogBatch {
                ops: vec![LogOp::Tombstone {
                    shard: LOG,
                    replica: self.raft.id(),
                }],
                sync: true,
            },
        });
        self.effects.applied.push(Applied::Removed);
        self.handed_count += 1;
        self.appends.clear();
        if let Some(change) = self.members.change.take() {
            let error = ChangeError::Unknown("the member was removed");
            self.effects
                .replies
                .push((change.request, Reply::Change(Err(error))));
        }
        if let Some(transfer) = self.members.transfer.take() {
            let reply = Reply::Transfer(Err(TransferError::NotLeader { hint: None }));
            self.effects.replies.push((transfer.request, reply));
        }
        self.fail_reads();
    }
}

/// Says what is wrong with a change.
fn check(membership: &Membership, changes: &[Change]) -> Result<(), ChangeError> {
    let invalid = |text: String| Err(ChangeError::Invalid(text));
    if changes.is_empty() {
        return invalid("the list of changes is empty".into());
    }
    let mut voters = membership.voters.clone();
    for (at, change) in changes.iter().enumerate() {
        let id = change.id();
        if changes[..at].iter().any(|other| other.id() == id) {
            return invalid(format!("member {id} is changed twice"));
        }
        match change {
            Change::AddVoter { address, .. } | Change::AddLearner { address, .. } => {
                if id == NodeId(0) {
                    return invalid("a member's id must not be 0".into());
                }
                if membership.removed.contains(&id) {
                    return invalid(format!(
                        "id {id} belonged to a removed member; ids are never reused (M3)"
                    ));
                }
                if address.len() > 1024 {
                    return invalid(format!("the address of member {id} is longer than 1024 bytes"));
                }
                if matches!(change, Change::AddVoter { .. }) {
                    voters.insert(id);
                } else {
                    voters.remove(&id);
                }
            }
            Change::Remove { .. } => {
                if !membership.contains(id) {
                    return invalid(format!("{id} is not a member"));
                }
                voters.remove(&id);
            }
        }
    }
    if voters.is_empty() {
        return invalid("no voter would be left".into());
    }
    Ok(())
}
