//! The end of a turn: what the core has to store, to send and to apply.

use bytes::Bytes;
use quorate_proto::NodeMessage;
use quorate_raft::{AppendWork, Entry, Index, Message, MessageBody, Payload, Role, Storage};
use quorate_storage::log::{LogBatch, LogOp};

use super::{COMMAND, InflightAppend, Machine};
use crate::durable::{LOG, Write, hard_state_op};
use crate::members::SnapshotBody;
use crate::{Applied, CommandIndex, FatalError};

impl Machine {
    /// Does what the inputs since the last call amount to.
    pub(crate) fn advance(&mut self) -> Result<(), FatalError> {
        if self.removed {
            return Ok(());
        }
        self.ask_reads()?;
        while self.raft.has_ready() {
            let taken = self.raft.ready();
            let ready = match taken {
                Ok(ready) => ready,
                Err(error) => return self.core(Err::<(), _>(error)),
            };
            for state in ready.read_states {
                self.read_confirmed(state);
            }
            for message in ready.send_now {
                self.send(message);
            }
            if let Some(work) = ready.append {
                self.append(work)?;
            }
            if let Some(work) = ready.apply {
                self.apply(work.entries)?;
            }
        }
        self.settle_transfer();
        self.answer_reads();
        self.validate();
        Ok(())
    }

    /// A write, and all before it, is durable.
    pub(crate) fn written(&mut self, token: u64) -> Result<(), FatalError> {
        while let Some(append) = self.appends.front()
            && append.token <= token
        {
            let Some(append) = self.appends.pop_front() else {
                break;
            };
            self.release(append)?;
        }
        self.snapshot_written(token);
        Ok(())
    }

    fn send(&mut self, message: Message) {
        if let MessageBody::Snapshot(snapshot) = message.body {
            self.send_snapshot(message.to, message.term, *snapshot);
            return;
        }
        self.effects.sends.push((message.to, NodeMessage::Raft(message)));
    }

    /// Turns the core's storage work into a write.
    fn append(&mut self, work: AppendWork) -> Result<(), FatalError> {
        let mut ops = Vec::new();
        let mut file = None;
        let mut install = None;
        if let Some(snapshot) = work.snapshot {
            let up = self.snapshot_applied(&snapshot)?;
            let Applied::Snapshot { index, .. } = &up else {
                return Err(FatalError::Data("a snapshot that is none".into()));
            };
            self.raft.storage_mut().reset((*snapshot).clone(), index.0);
            ops.push(LogOp::Reset {
                shard: LOG,
                index: snapshot.meta.index,
                term: snapshot.meta.term,
            });
            self.members.installed(&snapshot, &mut self.effects)?;
            install = Some(up);
            file = Some(*snapshot);
        }
        self.proposed = 0;
        if let Some(last) = work.entries.last().map(|last| last.index) {
            self.raft.storage_mut().append(work.entries.clone());
            self.check_promises(last);
            ops.push(LogOp::Append {
                shard: LOG,
                entries: work.entries,
            });
        }
        // A commit index alone is not worth a record: the leader tells it again after a restart.
        if let Some(state) = work.hard_state
            && (state.term, state.vote) != self.logged
        {
            self.logged = (state.term, state.vote);
            ops.push(hard_state_op(self.raft.id(), state));
        }
        let waits_for = if ops.is_empty() {
            self.appends.back().map(|append| append.token)
        } else {
            let token = self.token();
            self.effects.writes.push(Write {
                token,
                snapshot: file,
                batch: LogBatch { ops, sync: true },
            });
            Some(token)
        };
        let append = InflightAppend {
            token: waits_for.unwrap_or_default(),
            responses: work.responses,
            done: work.done,
            install,
        };
        match waits_for {
            Some(_) => {
                self.appends.push_back(append);
                Ok(())
            }
            None => self.release(append),
        }
    }

    /// Hands on what waited for a write.
    fn release(&mut self, append: InflightAppend) -> Result<(), FatalError> {
        for message in append.responses {
            if message.to == self.raft.id() {
                self.step(message)?;
            } else {
                self.send(message);
            }
        }
        if let Some(done) = append.done {
            let installed = done.snapshot;
            let reported = self.raft.append_done(done);
            self.core(reported)?;
            if let (Some(Applied::Snapshot { index, term, data }), Some(at)) = (append.install, installed) {
                self.commands = index.0;
                self.handed = at;
                self.handed_term = term;
                self.snapshots.installed += 1;
                // A group's first state covers no commands, and there is nothing to hand up.
                if index > CommandIndex(0) {
                    self.hand_up([Applied::Snapshot { index, term, data }], at);
                }
            }
        }
        Ok(())
    }

    /// A snapshot's part for the application.
    pub(super) fn snapshot_applied(&self, snapshot: &quorate_raft::Snapshot) -> Result<Applied, FatalError> {
        let body = SnapshotBody::decode(snapshot.data.clone())
            .map_err(|reason| FatalError::Data(format!("snapshot at {}: {reason}", snapshot.meta.index)))?;
        Ok(Applied::Snapshot {
            index: CommandIndex(body.commands),
            term: snapshot.meta.term,
            data: body.data,
        })
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), FatalError> {
        let mut things = Vec::with_capacity(entries.len());
        let mut through = self.handed;
        for entry in entries {
            assert_eq!(
                entry.index,
                self.handed.next(),
                "member {}: entries are handed up in order",
                self.raft.id()
            );
            if entry.term > self.handed_term {
                self.handed_term = entry.term;
                things.push(Applied::NewTerm {
                    term: entry.term,
                    index: CommandIndex(self.commands),
                });
            }
            self.handed = entry.index;
            through = entry.index;
            self.members.decided(&entry, &mut self.effects);
            match &entry.payload {
                Payload::Normal(data) if data.is_empty() => {}
                Payload::Normal(data) => {
                    self.commands += 1;
                    things.push(Applied::Command {
                        index: CommandIndex(self.commands),
                        term: entry.term,
                        data: command(data)?,
                    });
                }
                Payload::ConfChange(change) => {
                    let applied = self.raft.apply_conf_change(change);
                    let conf_state = match applied {
                        Ok(conf_state) => conf_state,
                        Err(error) => return self.core(Err::<(), _>(error)),
                    };
                    self.members
                        .applied(self.raft.id(), &entry, change, conf_state, &mut self.effects)?;
                }
            }
        }
        debug_assert!(
            self.raft
                .storage()
                .commands_through(through)
                .is_none_or(|commands| commands == self.commands),
            "the log counts {:?} commands up to {through}, {} were handed up",
            self.raft.storage().commands_through(through),
            self.commands
        );
        self.hand_up(things, through);
        self.settle_taken()
    }

    /// What callers were told of the positions up to `last` is what the log says, wherever it kept the entry.
    fn check_promises(&mut self, last: Index) {
        while let Some((at, term, number)) = self.promised.front().copied()
            && at <= last
        {
            let log = self.raft.storage();
            assert!(
                log.term(at) != Ok(term) || log.commands_through(at) == Some(number),
                "command {number} was promised at {at} in term {term}, where the log counts {:?}",
                log.commands_through(at)
            );
            self.promised.pop_front();
        }
        if self.raft.role() != Role::Leader {
            self.promised.clear();
        }
    }
}

fn command(data: &Bytes) -> Result<Bytes, FatalError> {
    match data.first() {
        Some(&COMMAND) => Ok(data.slice(1..)),
        kind => Err(FatalError::Data(format!(
            "an entry of kind {kind:?}, which this version does not know; it was written by a newer one"
        ))),
    }
}
