//! A member as a deterministic machine: inputs with the time in, effects out; no clock, socket, file or thread.
//!
//! A driver calls the inputs ([`Machine::start`], [`Machine::message`], [`Machine::tick`], …), then
//! [`Machine::advance`], and performs what [`Machine::take_effects`] gives: writes in their order, everything
//! else at once. `driver` does so with a thread, sockets and files; [`crate::sim`] on virtual time.
//!
//! The order that makes it safe: an answer that vouches for something is an effect only after the write that it
//! vouches for was reported done with [`Machine::written`].

mod members;
mod reads;
mod snapshots;
mod turn;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_proto::NodeMessage;
use quorate_raft::{
    AppendDone, Config as CoreConfig, Index, Message, MessageBody, ProposeError, RawNode, Role, StepError,
    Term,
};

use crate::durable::{Restored, Write};
use crate::member_log::MemberLog;
use crate::members::Book;
use crate::{
    Applied, ChangeError, CommandIndex, Config, FatalError, Membership, NodeId, ReadError, StartError,
    Started, Status, TransferError,
};

/// The first byte of an entry that holds a command; Raft's own entries are empty. Others are for later.
const COMMAND: u8 = 1;

/// Names a request whose answer comes later; the driver makes them unique.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct RequestId(pub(crate) u64);

/// The answer to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    Change(Result<Membership, ChangeError>),
    Transfer(Result<(), TransferError>),
    Read(Result<CommandIndex, ReadError>),
}

/// What the driver must do.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// To be sent; any may be lost.
    pub(crate) sends: Vec<(NodeId, NodeMessage)>,
    /// To be made durable, in this order, each reported with [`Machine::written`].
    pub(crate) writes: Vec<Write>,
    /// To be handed to the application, in this order.
    pub(crate) applied: Vec<Applied>,
    /// Answers.
    pub(crate) replies: Vec<(RequestId, Reply)>,
    /// Where members listen now, if that changed.
    pub(crate) addresses: Option<BTreeMap<NodeId, String>>,
    /// The log has shrunk: housekeeping is worth while.
    pub(crate) maintain: bool,
}

/// Answers that wait for a write.
#[derive(Debug)]
struct InflightAppend {
    token: u64,
    responses: Vec<Message>,
    done: Option<AppendDone>,
    /// A received snapshot, handed up once it is durable.
    install: Option<Applied>,
}

/// What was handed to the application together.
#[derive(Debug)]
struct Handed {
    /// How many things had been handed up at its end.
    count: u64,
    /// The last entry of it.
    through: Index,
}

/// Membership and addresses as they were from a position on.
#[derive(Clone, Debug)]
struct Epoch {
    from: Index,
    conf_state: quorate_raft::ConfState,
    book: Book,
}

/// A member.
pub(crate) struct Machine {
    raft: RawNode<MemberLog>,
    limits: Config,
    effects: Effects,
    now_us: u64,
    next_tick_us: u64,

    // Writes.
    next_token: u64,
    appends: VecDeque<InflightAppend>,
    logged: (Term, Option<NodeId>),

    // Commands.
    /// Commands proposed since the last Ready was taken; they are not in the log's count yet.
    proposed: u64,
    /// What callers were told, to be checked against the log.
    promised: VecDeque<(Index, Term, u64)>,
    /// Entries handed up: the last one's index and term, and the number of commands.
    handed: Index,
    handed_term: Term,
    commands: u64,
    /// Things handed up, and those not yet taken by the application.
    handed_count: u64,
    taken_count: u64,
    untaken: VecDeque<Handed>,

    members: members::Members,
    reads: reads::Reads,
    snapshots: snapshots::Snapshots,
    removed: bool,
}

impl Machine {
    /// A member as it was found on disk. `process` is random, new with every start (R1); it also seeds election
    /// timeouts.
    pub(crate) fn new(
        config: &Config,
        restored: Restored,
        process: u64,
        now_us: u64,
    ) -> Result<Machine, FatalError> {
        let Restored {
            log, commands, book, ..
        } = restored;
        let snapshot = log.durable_snapshot().clone();
        let (index, term) = (snapshot.meta.index, snapshot.meta.term);
        let core = CoreConfig {
            election_ticks: config.election_ticks,
            heartbeat_ticks: config.heartbeat_ticks,
            applied: index,
            max_bytes_per_message: config.max_bytes_per_message,
            max_committed_bytes_per_ready: config.max_untaken_bytes,
            max_uncommitted_bytes: config.max_uncommitted_bytes,
            max_inflight_messages: config.max_inflight_messages,
            async_storage_writes: true,
            disable_proposal_forwarding: true,
            seed: process ^ config.id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            ..CoreConfig::new(config.id)
        };
        let raft = RawNode::new(core, log).map_err(|source| FatalError::Stored {
            id: config.id,
            source,
        })?;
        let logged = (raft.term(), raft.vote());
        let mut machine = Machine {
            members: members::Members::new(snapshot.meta.conf_state.clone(), book.clone(), index),
            reads: reads::Reads::new(process),
            snapshots: snapshots::Snapshots::new(process),
            raft,
            limits: config.clone(),
            effects: Effects {
                addresses: Some(book.addresses),
                ..Effects::default()
            },
            now_us,
            next_tick_us: now_us + config.tick_us,
            next_token: 1,
            appends: VecDeque::new(),
            logged,
            proposed: 0,
            promised: VecDeque::new(),
            handed: index,
            handed_term: term,
            commands,
            handed_count: 0,
            taken_count: 0,
            untaken: VecDeque::new(),
            removed: false,
        };
        if commands > 0 {
            let up = machine.snapshot_applied(&snapshot)?;
            machine.hand_up([up], index);
        }
        Ok(machine)
    }

    /// Starts a command: it is appended to this leader's log, and nothing more is known yet.
    pub(crate) fn start(&mut self, command: &[u8]) -> Result<Started, StartError> {
        if command.len() > self.limits.max_command_bytes {
            return Err(StartError::TooLong {
                bytes: command.len(),
                max: self.limits.max_command_bytes,
            });
        }
        if self.removed {
            return Err(StartError::NotLeader { hint: None });
        }
        let mut data = Vec::with_capacity(command.len() + 1);
        data.push(COMMAND);
        data.extend_from_slice(command);
        let (term, index) = match self.raft.propose(Bytes::from(data)) {
            Ok(position) => position,
            Err(StepError::Propose(ProposeError::TransferInProgress { target })) => {
                return Err(StartError::TransferInProgress { to: target });
            }
            Err(StepError::Propose(ProposeError::TooManyUncommittedBytes)) => {
                let max = self.limits.max_uncommitted_bytes;
                return Err(StartError::TooManyUncommittedBytes { max });
            }
            Err(_) => return Err(StartError::NotLeader { hint: self.hint() }),
        };
        self.proposed += 1;
        let number = self.raft.storage().commands() + self.proposed;
        self.promised.push_back((index, term, number));
        Ok(Started {
            index: CommandIndex(number),
            term,
        })
    }

    /// Takes a member's message.
    pub(crate) fn message(&mut self, from: NodeId, message: NodeMessage) -> Result<(), FatalError> {
        if self.removed {
            return Ok(());
        }
        if self.members.is_removed(from) {
            self.effects.sends.push((from, NodeMessage::Removed)); // M4
            return Ok(());
        }
        match message {
            NodeMessage::Raft(message) => {
                // Snapshots come in chunks; a name that is not the sender's is a mistake.
                if message.from == from
                    && message.to == self.raft.id()
                    && !matches!(message.body, MessageBody::Snapshot(_))
                {
                    self.step(message)?;
                }
                Ok(())
            }
            NodeMessage::SnapshotChunk(chunk) => self.snapshot_chunk(from, chunk),
            NodeMessage::SnapshotAck(ack) => {
                self.snapshot_ack(from, ack);
                Ok(())
            }
            NodeMessage::Removed => {
                self.retire();
                Ok(())
            }
        }
    }

    /// Messages to `peer` may have been lost.
    pub(crate) fn unreachable(&mut self, peer: NodeId) {
        self.raft.report_unreachable(peer);
    }

    /// Tells the time; ticks when one is due. To be called at [`Machine::next_tick_us`], and often enough
    /// otherwise. A long pause counts as one tick: nobody could be heard meanwhile.
    pub(crate) fn tick(&mut self, now_us: u64) -> Result<(), FatalError> {
        self.now_us = self.now_us.max(now_us);
        if self.now_us < self.next_tick_us || self.removed {
            return Ok(());
        }
        let late = self.now_us - self.next_tick_us;
        self.next_tick_us = if late < self.limits.tick_us {
            self.next_tick_us + self.limits.tick_us
        } else {
            self.now_us + self.limits.tick_us
        };
        let ticked = self.raft.tick();
        self.core(ticked)?;
        self.tick_reads()?;
        self.tick_snapshots();
        self.tick_members();
        Ok(())
    }

    /// When [`Machine::tick`] is due next.
    pub(crate) fn next_tick_us(&self) -> u64 {
        self.next_tick_us
    }

    /// The application has taken this many things in all.
    pub(crate) fn taken(&mut self, count: u64) -> Result<(), FatalError> {
        self.taken_count = self.taken_count.max(count);
        self.settle_taken()
    }

    /// Reports to the core what the application has taken: that bounds what is handed up ahead of it.
    fn settle_taken(&mut self) -> Result<(), FatalError> {
        while let Some(handed) = self.untaken.front()
            && handed.count <= self.taken_count
        {
            // A snapshot may have overtaken what the application still had in front of it.
            let through = handed.through.max(self.raft.applied());
            self.untaken.pop_front();
            let done = self.raft.apply_done(through);
            self.core(done)?;
        }
        Ok(())
    }

    /// What is to be done since the last call.
    pub(crate) fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// The member's account of itself.
    pub(crate) fn status(&self) -> Status {
        let leads = self.raft.role() == Role::Leader;
        let membership = self.members.current();
        let matched = membership
            .voters
            .iter()
            .chain(&membership.learners)
            .filter(|id| leads && **id != self.raft.id())
            .filter_map(|id| self.raft.progress(*id).map(|view| (*id, view.matched)))
            .collect();
        Status {
            id: self.raft.id(),
            term: self.raft.term(),
            role: self.raft.role(),
            leader: self.raft.leader(),
            applied: CommandIndex(self.commands),
            snapshot: self.snapshots.durable_commands(self.raft.storage()),
            last_log_index: self.raft.last_index(),
            committed_log_index: self.raft.commit(),
            log_bytes: self.raft.storage().bytes() + 24,
            matched,
            transferring_to: self.raft.transferring_to(),
            membership,
            removed: self.removed,
            snapshots_sent: self.snapshots.sent,
            snapshots_installed: self.snapshots.installed,
        }
    }

    /// The term, and whether this member leads as far as it knows.
    pub(crate) fn state(&self) -> (Term, bool) {
        (self.raft.term(), self.raft.role() == Role::Leader)
    }

    /// Who may lead, if it is another.
    fn hint(&self) -> Option<NodeId> {
        self.raft.leader().filter(|leader| *leader != self.raft.id())
    }

    fn step(&mut self, message: Message) -> Result<(), FatalError> {
        let stepped = self.raft.step(message);
        self.core(stepped)
    }

    /// Tells errors of the core that only refuse something from those that must stop the member.
    fn core<T>(&self, result: Result<T, StepError>) -> Result<(), FatalError> {
        match result {
            Ok(_) | Err(StepError::Propose(_)) => Ok(()),
            Err(source) => Err(FatalError::Core {
                id: self.raft.id(),
                term: self.raft.term(),
                source,
            }),
        }
    }

    fn token(&mut self) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        token
    }

    /// Hands things up, which end with the entry `through`.
    fn hand_up(&mut self, things: impl IntoIterator<Item = Applied>, through: Index) {
        for thing in things {
            self.effects.applied.push(thing);
            self.handed_count += 1;
        }
        self.untaken.push_back(Handed {
            count: self.handed_count,
            through,
        });
    }

    /// The relations that hold between turns.
    fn validate(&self) {
        let log = self.raft.storage();
        assert!(
            log.base() <= log.durable_snapshot().meta.index
                && self.raft.applied() <= self.handed
                && self.handed <= self.raft.commit()
                && self.raft.commit() <= self.raft.last_index(),
            "member {}: base {} <= snapshot {}, applied {} <= handed up {} <= commit {} <= last {} does not hold",
            self.raft.id(),
            log.base(),
            log.durable_snapshot().meta.index,
            self.raft.applied(),
            self.handed,
            self.raft.commit(),
            self.raft.last_index()
        );
    }
}
