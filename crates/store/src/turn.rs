//! A turn of the node: what the consensus cores want sent and stored, and what waits for the log.

use quorate_proto::{PeerMessage, RaftEnvelope};
use quorate_raft::{MessageBody, Payload, Ready, Role, mutant};
use quorate_storage::engine::Engine;
use quorate_storage::log::{LogBatch, LogOp};

use crate::error::StoreError;
use crate::io::{LogToken, Times};
use crate::replica::InflightAppend;
use crate::store::Store;

impl<E: Engine> Store<E> {
    /// Ends a turn: what the cores want sent and stored.
    pub fn advance(&mut self, times: Times) -> Result<(), StoreError> {
        self.take_controller_answers(times)?;
        self.go_on(times)?;
        let mut batch = LogBatch {
            ops: std::mem::take(&mut self.log_ops),
            sync: false,
        };
        batch.sync = !batch.ops.is_empty();
        let token = LogToken(self.last_token + 1);
        let mut turn = std::mem::take(&mut self.dirty);
        for &at in &turn {
            self.replicas[at].dirty = false;
            self.start_log_over(at, &mut batch, token);
            self.reset_log(at, &mut batch, token)?;
            self.propose_new(times, at)?;
            self.start_round(at)?;
            while self.replicas[at].installing.is_none() && self.replicas[at].raft.has_ready() {
                let shard = self.replicas[at].descriptor.shard;
                let ready = self.replicas[at]
                    .raft
                    .ready_with(&mut self.buffers)
                    .map_err(StoreError::raft(shard))?;
                self.take_ready(times, at, ready, &mut batch, token)?;
            }
            self.notice_role(times, at)?;
        }
        turn.clear();
        if self.dirty.is_empty() {
            self.dirty = turn; // keeps its allocation
        }
        if !batch.ops.is_empty() {
            self.last_token = token.0;
            self.health.log_given(token, times.mono_us);
            self.out.log.push((token, batch));
        }
        Ok(())
    }

    fn take_ready(
        &mut self,
        times: Times,
        at: usize,
        mut ready: Ready,
        batch: &mut LogBatch,
        token: LogToken,
    ) -> Result<(), StoreError> {
        for message in ready.send_now.drain(..) {
            self.send_raft(times, at, message)?;
        }
        self.buffers.reuse_messages(ready.send_now);
        if !ready.read_states.is_empty() {
            self.confirmed(at, &ready.read_states);
            // What they wait for may be applied already, and then no later apply would answer them.
            self.serve_applied(times, at)?;
        }
        if let Some(work) = ready.append {
            if work.snapshot.is_some() {
                self.install(at, work)?;
            } else {
                self.append(at, work, batch, token)?;
            }
        }
        if let Some(work) = ready.apply
            && !work.entries.is_empty()
        {
            self.to_apply.push((at, work.entries));
        }
        Ok(())
    }

    /// Adds a replica's log work to the turn's write.
    pub(crate) fn append(
        &mut self,
        at: usize,
        work: quorate_raft::AppendWork,
        batch: &mut LogBatch,
        token: LogToken,
    ) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        let shard = replica.descriptor.shard;
        if let Some(state) = work.hard_state {
            let voted_for_itself = state.vote == Some(replica.descriptor.replica);
            self.counters.elections += u64::from(voted_for_itself && state.term > replica.hard_state.term);
            replica.hard_state = state;
        }
        let entries = !work.entries.is_empty();
        for entry in &work.entries {
            if matches!(entry.payload, Payload::ConfChange(_)) {
                replica.changes_logged.push(entry.index);
            }
        }
        if entries {
            replica.raft.storage_mut().append(&work.entries);
            batch.ops.push(LogOp::Append {
                shard,
                entries: work.entries,
            });
        }
        // A commit index alone is not worth a record: the engine knows what was applied, and the leader tells
        // the rest again after a restart. That a membership change is committed is: after a crash a quorum of the
        // new members must know it by themselves, since the old ones may be gone (M1). The record precedes whatever
        // is appended later, so when the removal of an old replica is committed, a quorum holds the record of the
        // change before it.
        let vote = |state: &quorate_raft::HardState| (state.term, state.vote);
        let state = replica.hard_state;
        let is_logged = vote(&state) == vote(&replica.logged_hard_state);
        let commits_change = replica.changes_logged.iter().any(|index| *index <= state.commit);
        if !is_logged || commits_change && !mutant!("committed-change-not-recorded") {
            replica.changes_logged.retain(|index| *index > state.commit);
            let mut logged = state;
            if mutant!("vote-not-persisted") && state.term == replica.logged_hard_state.term {
                logged.vote = replica.logged_hard_state.vote;
            }
            replica.logged_hard_state = state;
            batch.ops.push(LogOp::HardState {
                shard,
                replica: replica.descriptor.replica,
                state: logged,
            });
        }
        let written = entries || work.must_sync;
        batch.sync |= written;
        let is_early = answers_early(&work.responses, replica.descriptor.replica)
            || (mutant!("leader-counts-itself-before-sync") && replica.is_leader());
        let waits_for = if is_early {
            None
        } else if written {
            Some(token)
        } else {
            replica.appends.back().map(|append| append.token)
        };
        if work.responses.is_empty() && work.done.is_none() {
            return Ok(());
        }
        match waits_for {
            Some(token) => {
                replica.appends.push_back(InflightAppend {
                    token,
                    responses: work.responses,
                    done: work.done,
                });
                Ok(())
            }
            None => self.release(at, work.responses, work.done),
        }
    }

    /// Hands on what waited for a log write.
    fn release(
        &mut self,
        at: usize,
        mut responses: Vec<quorate_raft::Message>,
        done: Option<quorate_raft::AppendDone>,
    ) -> Result<(), StoreError> {
        let own = self.replicas[at].descriptor.replica;
        let shard = self.replicas[at].descriptor.shard;
        for message in responses.drain(..) {
            if message.to == own {
                self.replicas[at]
                    .raft
                    .step(message)
                    .map_err(StoreError::raft(shard))?;
            } else {
                self.send_raft(Times::default(), at, message)?;
            }
        }
        self.buffers.reuse_messages(responses);
        if let Some(done) = done {
            self.replicas[at]
                .raft
                .append_done(done)
                .map_err(StoreError::raft(shard))?;
        }
        self.mark(at);
        Ok(())
    }

    pub(crate) fn log_written(&mut self, token: LogToken) -> Result<(), StoreError> {
        self.health.log_written(token);
        for at in 0..self.replicas.len() {
            while let Some(append) = self.replicas[at].appends.front()
                && append.token <= token
            {
                if let Some(append) = self.replicas[at].appends.pop_front() {
                    self.release(at, append.responses, append.done)?;
                }
            }
            self.log_started_over(at, token)?;
            self.first_records_written(at, token)?;
        }
        Ok(())
    }

    fn send_raft(
        &mut self,
        times: Times,
        at: usize,
        message: quorate_raft::Message,
    ) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        let Some(to) = replica.address_of(message.to) else {
            return Ok(()); // a member that this replica has not heard of; it will be told again
        };
        let sent_at_us = match &message.body {
            MessageBody::Append { .. } | MessageBody::Heartbeat { .. } => times.mono_us,
            MessageBody::AppendResponse { .. } | MessageBody::HeartbeatResponse { .. } => {
                replica.lease.echo(message.term)
            }
            MessageBody::TimeoutNow => {
                replica.lease.switch_off(message.term); // L3
                0
            }
            MessageBody::Snapshot(_) => {
                let (peer, term) = (message.to, message.term);
                return self.send_snapshot(at, peer, to, term);
            }
            _ => 0,
        };
        let envelope = RaftEnvelope {
            shard: replica.descriptor.shard,
            sent_at_us,
            message,
        };
        self.out.sends.push((to, PeerMessage::Raft(envelope)));
        Ok(())
    }

    /// The replica has something for the next turn.
    pub(crate) fn mark(&mut self, at: usize) {
        if !self.replicas[at].dirty {
            self.replicas[at].dirty = true;
            self.dirty.push(at);
        }
    }

    /// Reacts to a change of leader or role.
    fn notice_role(&mut self, times: Times, at: usize) -> Result<(), StoreError> {
        let replica = &mut self.replicas[at];
        let (leader, role) = (replica.raft.leader(), replica.raft.role());
        // It may have led for a part of the turn only, and taken reads then.
        let was_leader = replica.seen_role == Role::Leader || replica.has_reads();
        if leader == replica.seen_leader && role == replica.seen_role && (role == Role::Leader || !was_leader)
        {
            return Ok(());
        }
        let is_elected = role == Role::Leader && replica.seen_role != Role::Leader;
        replica.seen_leader = leader;
        replica.seen_role = role;
        self.routes_version += 1;
        if is_elected {
            self.tell_others(at);
        }
        if was_leader && role != Role::Leader {
            self.leadership_lost(times, at)?;
        }
        if leader.is_some() {
            self.unpark(self.replicas[at].descriptor.shard);
        }
        Ok(())
    }
}

/// Whether something is answered before it is durable (Raft 5.1): never, unless a mutant says so.
fn answers_early(responses: &[quorate_raft::Message], own: quorate_raft::ReplicaId) -> bool {
    let is_early = |message: &quorate_raft::Message| match &message.body {
        MessageBody::VoteResponse { .. } if message.to != own => mutant!("vote-before-sync"),
        MessageBody::AppendResponse { .. } if message.to != own => mutant!("acknowledged-before-sync"),
        _ => false,
    };
    responses.iter().any(is_early)
}
