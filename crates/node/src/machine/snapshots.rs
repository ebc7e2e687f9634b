//! Snapshots: made by the application here, sent to members that are too far behind, received from a leader.
//!
//! A snapshot travels in chunks, a few of them ahead of the receiver's answers. What is lost is sent again from
//! the last answer; when nothing moves for long, the core is told that it failed, and decides anew.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use quorate_proto::{NodeMessage, NodeSnapshotAck, NodeSnapshotChunk};
use quorate_raft::{Message, MessageBody, ProgressState, Role, Snapshot, SnapshotMeta, Term};
use quorate_storage::log::{LogBatch, LogOp};

use super::Machine;
use crate::durable::{LOG, Write};
use crate::member_log::{MemberLog, is_command};
use crate::members::SnapshotBody;
use crate::{CommandIndex, FatalError, NodeId, SnapshotError};

/// Chunks on their way ahead of the receiver's answers.
const WINDOW_CHUNKS: usize = 4;
/// So many times it is sent again without progress, then it has failed.
const ATTEMPTS_MAX: u32 = 10;

/// Snapshots on their way in every direction.
pub(super) struct Snapshots {
    next_id: u64,
    outgoing: BTreeMap<NodeId, Outgoing>,
    incoming: Option<Incoming>,
    /// The one that was received last, should the answer have been lost.
    finished: Option<(NodeId, u64)>,
    /// Made here, and being written.
    saving: Option<(u64, Snapshot)>,
    /// Counters of [`crate::Status`].
    pub(super) sent: u64,
    pub(super) installed: u64,
}

struct Outgoing {
    id: u64,
    term: Term,
    snapshot: Snapshot,
    /// The receiver has everything before this offset.
    acknowledged: usize,
    /// Everything before this offset is on its way.
    sent: usize,
    moved_us: u64,
    attempts: u32,
}

struct Incoming {
    from: NodeId,
    id: u64,
    term: Term,
    meta: SnapshotMeta,
    bytes_total: u64,
    data: BytesMut,
}

impl Snapshots {
    pub(super) fn new(process: u64) -> Self {
        Self {
            // Different from those of the process before, of which the receiver may have a part.
            next_id: process,
            outgoing: BTreeMap::new(),
            incoming: None,
            finished: None,
            saving: None,
            sent: 0,
            installed: 0,
        }
    }

    pub(super) fn durable_commands(&self, log: &MemberLog) -> CommandIndex {
        CommandIndex(
            log.commands_through(log.durable_snapshot().meta.index)
                .unwrap_or_default(),
        )
    }
}

// ---- made here ----

impl Machine {
    /// Takes over a snapshot of the application that covers all commands up to `index`. Nothing happens if a
    /// newer one is there, or one is being written: the next will come.
    pub(crate) fn snapshot(&mut self, index: CommandIndex, data: Bytes) -> Result<(), SnapshotError> {
        if index.0 > self.commands {
            return Err(SnapshotError::NotApplied {
                index,
                applied: CommandIndex(self.commands),
            });
        }
        let (bytes, max) = (data.len() as u64, self.limits.max_snapshot_bytes);
        if bytes > max {
            return Err(SnapshotError::TooLong { bytes, max });
        }
        let log = self.raft.storage();
        if self.removed || self.snapshots.saving.is_some() || index <= self.snapshots.durable_commands(log) {
            return Ok(());
        }
        let Some(mut position) = log.position_of(index.0) else {
            return Ok(()); // a received snapshot is further, and about to be handed up
        };
        // Entries of Raft's own behind the last command change nothing for the application.
        while position < self.handed
            && let Some(next) = log.entry(position.next())
            && !is_command(next)
        {
            position = position.next();
        }
        let Some(term) = log.entry(position).map(|entry| entry.term) else {
            return Ok(());
        };
        let epoch = self.members.at(position);
        let body = SnapshotBody {
            commands: index.0,
            book: epoch.book.clone(),
            data,
        };
        let snapshot = Snapshot {
            meta: SnapshotMeta {
                index: position,
                term,
                conf_state: epoch.conf_state.clone(),
            },
            data: body.encode(),
        };
        let token = self.token();
        self.snapshots.saving = Some((token, snapshot.clone()));
        self.effects.writes.push(Write {
            token,
            snapshot: Some(snapshot),
            batch: LogBatch::default(),
        });
        Ok(())
    }

    /// If it is durable, the log may forget what it covers.
    pub(super) fn snapshot_written(&mut self, token: u64) {
        let Some((_, snapshot)) = self.snapshots.saving.take_if(|(saving, _)| *saving <= token) else {
            return;
        };
        let index = snapshot.meta.index;
        let log = self.raft.storage_mut();
        if !log.set_snapshot(snapshot) {
            return;
        }
        let keep = self.limits.log_keep_bytes;
        if let Some((index, term)) = log.compact(keep) {
            let token = self.token();
            self.effects.writes.push(Write {
                token,
                snapshot: None,
                batch: LogBatch {
                    ops: vec![LogOp::Compact {
                        shard: LOG,
                        index,
                        term,
                    }],
                    sync: false,
                },
            });
            self.effects.maintain = true;
        }
        self.members.forget_before(index);
    }
}

// ---- sending ----

impl Machine {
    pub(super) fn send_snapshot(&mut self, to: NodeId, term: Term, snapshot: Snapshot) {
        self.snapshots.next_id = self.snapshots.next_id.wrapping_add(1);
        self.snapshots.sent += 1;
        let outgoing = Outgoing {
            id: self.snapshots.next_id,
            term,
            snapshot,
            acknowledged: 0,
            sent: 0,
            moved_us: self.now_us,
            attempts: 0,
        };
        self.snapshots.outgoing.insert(to, outgoing);
        self.send_chunks(to);
    }

    fn send_chunks(&mut self, to: NodeId) {
        let chunk_bytes = self.limits.snapshot_chunk_bytes;
        let Some(outgoing) = self.snapshots.outgoing.get_mut(&to) else {
            return;
        };
        let data = &outgoing.snapshot.data;
        let ahead = outgoing.acknowledged + WINDOW_CHUNKS * chunk_bytes;
        while outgoing.sent < data.len().min(ahead) {
            let end = data.len().min(outgoing.sent + chunk_bytes);
            let piece = data.slice(outgoing.sent..end);
            let chunk = NodeSnapshotChunk {
                id: outgoing.id,
                term: outgoing.term,
                meta: outgoing.snapshot.meta.clone(),
                bytes_total: data.len() as u64,
                offset: outgoing.sent as u64,
                crc: crc32c::crc32c(&piece),
                data: piece,
            };
            outgoing.sent = end;
            self.effects.sends.push((to, NodeMessage::SnapshotChunk(chunk)));
        }
    }

    pub(super) fn snapshot_ack(&mut self, from: NodeId, ack: NodeSnapshotAck) {
        let now_us = self.now_us;
        let Some(outgoing) = self
            .snapshots
            .outgoing
            .get_mut(&from)
            .filter(|outgoing| outgoing.id == ack.id)
        else {
            return;
        };
        if ack.done {
            self.snapshots.outgoing.remove(&from);
            self.raft.report_snapshot(from, true);
            return;
        }
        let next = usize::try_from(ack.next)
            .unwrap_or(usize::MAX)
            .min(outgoing.snapshot.data.len());
        if next > outgoing.acknowledged {
            outgoing.acknowledged = next;
            outgoing.sent = outgoing.sent.max(next);
            outgoing.moved_us = now_us;
            outgoing.attempts = 0;
            self.send_chunks(from);
        }
    }

    /// Sends again what got no answer; gives up what nobody wants any more.
    pub(super) fn tick_snapshots(&mut self) {
        let patience = self.limits.tick_us * u64::from(self.limits.election_ticks) / 2;
        let leads = self.raft.role() == Role::Leader;
        let (term, now_us) = (self.raft.term(), self.now_us);
        for to in self.snapshots.outgoing.keys().copied().collect::<Vec<_>>() {
            let wanted = leads
                && self
                    .raft
                    .progress(to)
                    .is_some_and(|progress| progress.state == ProgressState::Snapshot);
            let Some(outgoing) = self.snapshots.outgoing.get_mut(&to) else {
                continue;
            };
            if !wanted || outgoing.term != term {
                self.snapshots.outgoing.remove(&to);
                continue;
            }
            if now_us.saturating_sub(outgoing.moved_us) < patience {
                continue;
            }
            outgoing.moved_us = now_us;
            outgoing.attempts += 1;
            outgoing.sent = outgoing.acknowledged;
            if outgoing.attempts > ATTEMPTS_MAX {
                self.snapshots.outgoing.remove(&to);
                self.raft.report_snapshot(to, false);
            } else {
                self.send_chunks(to);
            }
        }
    }
}

// ---- receiving ----

impl Machine {
    pub(super) fn snapshot_chunk(
        &mut self,
        from: NodeId,
        chunk: NodeSnapshotChunk,
    ) -> Result<(), FatalError> {
        let piece = chunk.data.len() as u64;
        let fits = chunk.bytes_total <= self.limits.max_snapshot_bytes.saturating_add(1 << 20)
            && piece > 0
            && chunk
                .offset
                .checked_add(piece)
                .is_some_and(|end| end <= chunk.bytes_total)
            && crc32c::crc32c(&chunk.data) == chunk.crc;
        if !fits || chunk.term < self.raft.term() {
            return Ok(()); // not believed, or of a leader of the past
        }
        if self.snapshots.finished == Some((from, chunk.id)) {
            let ack = NodeSnapshotAck {
                id: chunk.id,
                next: chunk.bytes_total,
                done: true,
            };
            self.effects.sends.push((from, NodeMessage::SnapshotAck(ack)));
            return Ok(());
        }
        let known = self
            .snapshots
            .incoming
            .as_ref()
            .is_some_and(|incoming| (incoming.from, incoming.id) == (from, chunk.id));
        if !known {
            // One at a time: a newer one, or another leader's, takes the place of what is there.
            if chunk.offset > 0 {
                return Ok(());
            }
            self.snapshots.incoming = Some(Incoming {
                from,
                id: chunk.id,
                term: chunk.term,
                meta: chunk.meta,
                bytes_total: chunk.bytes_total,
                data: BytesMut::new(),
            });
        }
        let Some(incoming) = &mut self.snapshots.incoming else {
            return Ok(());
        };
        if chunk.offset == incoming.data.len() as u64 {
            incoming.data.extend_from_slice(&chunk.data);
        }
        let done = incoming.data.len() as u64 == incoming.bytes_total;
        let ack = NodeSnapshotAck {
            id: chunk.id,
            next: incoming.data.len() as u64,
            done,
        };
        if done && let Some(incoming) = self.snapshots.incoming.take() {
            self.snapshots.finished = Some((from, chunk.id));
            let Incoming {
                term, mut meta, data, ..
            } = incoming;
            // A snapshot that is older than this member's addition: the core would not take what it is no part of.
            // Being a learner in its own eyes changes no quorum, and the entry that adds it is still to come.
            let (own, conf) = (self.raft.id(), &mut meta.conf_state);
            let members = [&conf.voters, &conf.learners, &conf.voters_outgoing];
            if !members.into_iter().flatten().any(|id| *id == own) {
                conf.learners.push(own);
                conf.learners.sort_unstable();
            }
            let snapshot = Snapshot {
                meta,
                data: data.freeze(),
            };
            // What cannot be read must not replace what can.
            if SnapshotBody::decode(snapshot.data.clone()).is_err() {
                return Ok(());
            }
            self.step(Message {
                from,
                to: self.raft.id(),
                term,
                body: MessageBody::Snapshot(Box::new(snapshot)),
            })?;
        }
        self.effects.sends.push((from, NodeMessage::SnapshotAck(ack)));
        Ok(())
    }
}
