//! What other nodes say.

use quorate_proto::{PeerMessage, RaftEnvelope};
use quorate_raft::{Index, MessageBody, mutant};
use quorate_storage::StoreId;
use quorate_storage::engine::Engine;

use crate::error::StoreError;
use crate::io::Times;
use crate::store::Store;

impl<E: Engine> Store<E> {
    pub(crate) fn peer(
        &mut self,
        times: Times,
        from: StoreId,
        message: PeerMessage,
    ) -> Result<(), StoreError> {
        match message {
            PeerMessage::Raft(envelope) => self.step(times, from, envelope),
            PeerMessage::Request(request) => self.forwarded(times, from, request),
            PeerMessage::Response(response) => {
                self.answered(from, response);
                Ok(())
            }
            PeerMessage::SnapshotChunk(chunk) => self.snapshot_chunk(times, from, chunk),
            PeerMessage::SnapshotAck(ack) => self.snapshot_ack(from, ack),
            PeerMessage::SnapshotRequest(request) => self.snapshot_request(from, request),
            PeerMessage::SnapshotReport(report) => self.snapshot_report(from, report),
            PeerMessage::TermQuery(query) => {
                self.term_query(from, query);
                Ok(())
            }
            PeerMessage::TermAnswer(answer) => self.term_answer(from, answer),
            PeerMessage::ShardInfo(info) => {
                self.told(from, info);
                Ok(())
            }
            PeerMessage::ShardQuery { shard } => {
                self.tell(from, shard);
                Ok(())
            }
            PeerMessage::StoreHealth(health) => {
                self.health.told(from, health, self.ticks);
                Ok(())
            }
            PeerMessage::Heartbeat(beat) => self.heartbeat(times, from, &beat),
            PeerMessage::HeartbeatAnswer(answer) => self.heartbeat_answered(times, from, answer),
            PeerMessage::Survivors(survivors) => {
                self.hear_survivors(times, from, survivors);
                Ok(())
            }
            PeerMessage::Recover(recovery) => self.recover(times, &recovery),
        }
    }

    fn step(&mut self, times: Times, from: StoreId, envelope: RaftEnvelope) -> Result<(), StoreError> {
        let Some(at) = self.router.replica_of(envelope.shard) else {
            return self.unknown_replica(from, &envelope);
        };
        if envelope.message.to != self.replicas[at].descriptor.replica {
            self.misdirected(from, at, &envelope);
            return Ok(());
        }
        let replica = &mut self.replicas[at];
        let message = envelope.message;
        if replica.descriptor.membership.has_removed(message.from) {
            // M4: it has nothing to say any more.
            self.tell(from, envelope.shard);
            return Ok(());
        }
        // A sender that is no member yet as far as this replica has applied is heard: configurations take effect when
        // applied. One in the name of a replica that is elsewhere is not.
        if replica
            .address_of(message.from)
            .is_some_and(|store| store != from)
            || !replica.takes_part()
        {
            return Ok(());
        }
        if replica.descriptor.store_of(message.from).is_none() {
            replica.addresses.insert(message.from, from);
        }
        match &message.body {
            // P3: what it has lost may be what the candidate lacks.
            MessageBody::Vote { .. } | MessageBody::PreVote { .. } | MessageBody::TimeoutNow
                if replica.rebuild.is_some() && !mutant!("rebuilt-replica-votes-early") =>
            {
                return Ok(());
            }
            MessageBody::Vote { transfer: false, .. } | MessageBody::PreVote { transfer: false, .. }
                if self.options.leases
                    && replica.lease.refuses_votes(
                        self.started_us,
                        self.options.election_timeout_us(),
                        times.mono_us,
                    ) =>
            {
                return Ok(()); // L2
            }
            // Others like to give a shard back to its preferred store; not to one that is leaving or not well.
            // Two stopping nodes would hand leadership back and forth.
            MessageBody::TimeoutNow if self.shutting_down || self.health.is_unwell() => return Ok(()),
            // Snapshots come in chunks; a bare message carries no data.
            MessageBody::Snapshot(_) => return Ok(()),
            _ => {}
        }
        let (sender, term) = (message.from, message.term);
        let is_from_leader = matches!(
            message.body,
            MessageBody::Append { .. } | MessageBody::Heartbeat { .. }
        );
        let is_answer = matches!(
            message.body,
            MessageBody::AppendResponse { .. } | MessageBody::HeartbeatResponse { .. }
        );
        let spoke_of = match &message.body {
            MessageBody::Append {
                prev_index,
                entries,
                commit,
                ..
            } => Some((*commit).max(Index(prev_index.0 + entries.len() as u64))),
            MessageBody::Heartbeat { commit, .. } => Some(*commit),
            _ => None,
        };
        replica.heard_index = replica.heard_index.max(spoke_of);
        let shard = replica.descriptor.shard;
        replica.raft.step(message).map_err(StoreError::raft(shard))?;
        if is_from_leader && replica.raft.term() == term && replica.raft.leader() == Some(sender) {
            replica.lease.hear(term, envelope.sent_at_us, times.mono_us);
        }
        if is_answer && replica.raft.term() == term && replica.is_leader() {
            let (raft, own) = (&replica.raft, replica.descriptor.replica);
            let sent_at_us = if mutant!("lease-counted-from-the-answer") {
                times.mono_us
            } else {
                envelope.sent_at_us
            };
            replica
                .lease
                .echoed(term, sender, own, sent_at_us, |acked| raft.is_quorum(acked));
        }
        self.mark(at);
        Ok(())
    }
}
