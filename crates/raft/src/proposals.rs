//! Proposing: commands and membership changes that a member wants appended.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::{ConfChange, Index, Message, MessageBody, Payload, RawNode, Role, StepError, Storage, Term};

impl<S: Storage> RawNode<S> {
    /// Appends a command; returns where. Forwarded by a follower, its position is unknown: zero.
    ///
    /// # Errors
    ///
    /// [`StepError::Propose`] if it was not appended.
    pub fn propose(&mut self, data: Bytes) -> Result<(Term, Index), StepError> {
        if self.raft.role == Role::Leader {
            return self.raft.propose([Payload::Normal(data)]);
        }
        self.propose_payloads(vec![Payload::Normal(data)])
    }

    /// Appends several commands at once; returns where the first stands. See [`RawNode::propose`].
    ///
    /// # Errors
    ///
    /// As [`RawNode::propose`]; all are refused together.
    pub fn propose_batch(&mut self, data: Vec<Bytes>) -> Result<(Term, Index), StepError> {
        self.propose_payloads(data.into_iter().map(Payload::Normal).collect())
    }

    /// Appends several commands at once, copied into one allocation, and returns where the first stands. Commands
    /// that each own their memory cost two allocations apiece with [`RawNode::propose_batch`] (their bytes, and the
    /// count of their owners), here two for all of them. The entries share the allocation: it is freed when the log
    /// has forgotten the last of them.
    ///
    /// # Errors
    ///
    /// As [`RawNode::propose`]; all are refused together.
    pub fn propose_copied(&mut self, commands: &[impl AsRef<[u8]>]) -> Result<(Term, Index), StepError> {
        let bytes = commands.iter().map(|command| command.as_ref().len()).sum();
        let mut all = Vec::with_capacity(bytes);
        for command in commands {
            all.extend_from_slice(command.as_ref());
        }
        let mut all = Bytes::from(all);
        let payloads = commands
            .iter()
            .map(|command| Payload::Normal(all.split_to(command.as_ref().len())))
            .collect();
        self.propose_payloads(payloads)
    }

    /// Appends a membership change; it takes effect when applied ([`RawNode::apply_conf_change`]). A leader checks
    /// first that it will fit then: one change at a time, only the leaving in a joint configuration, and a result
    /// in which somebody votes ([`crate::Config::disable_conf_change_validation`] turns that off). A follower
    /// forwards it unchecked; see [`RawNode::propose_payloads`] for what becomes of a misfit then.
    ///
    /// # Errors
    ///
    /// As [`RawNode::propose`], and [`crate::ProposeError::ConfChangePending`],
    /// [`crate::ProposeError::ConfChangeInJoint`] or [`crate::ProposeError::ConfChange`] for a change that does not
    /// fit. Nothing was appended.
    pub fn propose_conf_change(&mut self, change: ConfChange) -> Result<(Term, Index), StepError> {
        if self.raft.role == Role::Leader {
            self.raft.may_propose()?;
            self.raft.check_conf_change(&change)?;
        }
        self.propose_payloads(vec![Payload::ConfChange(Box::new(change))])
    }

    /// Appends commands and membership changes in one proposal, the way the reference takes them: a change that
    /// does not fit becomes an empty entry at its position, because whoever forwarded it cannot be answered. Where
    /// the first stands is returned; see [`RawNode::propose`].
    ///
    /// # Errors
    ///
    /// As [`RawNode::propose`]; all are refused together.
    pub fn propose_payloads(&mut self, payloads: Vec<Payload>) -> Result<(Term, Index), StepError> {
        if self.raft.role == Role::Leader {
            return self.raft.propose(payloads);
        }
        let message = Message {
            from: self.raft.id,
            to: self.raft.id,
            term: Term(0),
            body: MessageBody::Propose { payloads },
        };
        self.raft.step(message).map(|()| (Term(0), Index(0)))
    }
}
