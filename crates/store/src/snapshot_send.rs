//! Sending a snapshot: a consistent view, in checksummed chunks, to a follower whose log position is gone.
//!
//! Who does so is decided in `snapshot_source`; a view is taken at that moment and chunks follow, a few in flight, no
//! faster than the store's rate. It goes on where it was when a chunk is lost or the connection breaks: chunks are
//! cut the same way again, because the view does not change. It starts over when the receiver has forgotten what it
//! staged (a restart) or another replica leads.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_proto::{PeerMessage, SnapshotAck, SnapshotChunk, SnapshotHeader, SnapshotState, encode_pair};
use quorate_raft::{Index, ReplicaId, Term, mutant};
use quorate_storage::engine::Engine;
use quorate_storage::{ShardId, StoreId};

use crate::error::StoreError;
use crate::kv::{self, Exported, Spaces};
use crate::snapshot::STALL_TICKS;
use crate::snapshot_source::{Client, REPORT_TICKS};
use crate::store::Store;

/// Chunks sent and not yet acknowledged.
const WINDOW: usize = 16;
/// Chunks sent at once: reading them keeps the thread that drives Raft from everything else. As many follow with each
/// acknowledgement and each tick.
const BURST: usize = 2;
/// Ticks without an acknowledgement after which what is in flight is sent again.
const RESEND_TICKS: u64 = 20;

/// A snapshot on its way to a follower.
pub(crate) struct Sending<V> {
    id: u64,
    to: StoreId,
    from: ReplicaId,
    /// The leader that asked for it; none if it is sent by the leader.
    pub(crate) client: Option<Client>,
    view: V,
    spaces: Spaces,
    header: SnapshotHeader,
    /// The last key sent, relative to the space.
    after: Option<Bytes>,
    next_seq: u32,
    /// For each chunk that is not acknowledged, oldest first: the key that it begins behind.
    in_flight: VecDeque<Option<Bytes>>,
    read_all: bool,
    /// The tick since which it waits for an acknowledgement.
    moved_at: u64,
    /// The tick of the last chunk that was sent.
    sent_at: u64,
}

impl<V> Sending<V> {
    /// What the snapshot holds goes up to here.
    pub(crate) fn index(&self) -> Index {
        self.header.meta.index
    }

    /// The receiver has all chunks before `next`. Returns whether that is news.
    fn arrived_before(&mut self, next: u32) -> bool {
        let oldest = self.next_seq - self.in_flight.len() as u32;
        let news = next.min(self.next_seq).saturating_sub(oldest);
        self.in_flight.drain(..news as usize);
        news > 0
    }

    /// Nothing is under way, and there is more to send.
    fn waits_for_its_share(&self) -> bool {
        self.in_flight.is_empty() && !self.read_all
    }

    /// Goes back to the oldest chunk that is not acknowledged.
    fn rewind(&mut self) {
        self.next_seq -= self.in_flight.len() as u32;
        if let Some(behind) = self.in_flight.drain(..).next()
            && !mutant!("resume-skips-what-was-lost")
        {
            self.after = behind;
            self.read_all = false;
        }
    }
}

impl<E: Engine> Store<E> {
    /// Begins to send a snapshot to `peer`: as the leader of `term`, or for the leader that asked.
    pub(crate) fn begin_sending(
        &mut self,
        at: usize,
        peer: ReplicaId,
        to: StoreId,
        term: Term,
        client: Option<Client>,
    ) -> Result<(), StoreError> {
        let replica = &self.replicas[at];
        let shard = replica.descriptor.shard;
        self.last_snapshot = self.last_snapshot.wrapping_add(1);
        self.counters.snapshots_begun += 1;
        let mut meta = replica.raft.storage().applied().clone();
        if mutant!("snapshot-behind-its-data") {
            meta.index = meta.index.prev();
            meta.term = replica.raft.term_at(meta.index).unwrap_or(meta.term);
        }
        if let Some(Client { request, .. }) = client {
            assert!(
                meta.index >= request.index,
                "shard {shard}: a snapshot at {} is fed where one at {} or later was asked for",
                meta.index,
                request.index
            );
        }
        let header = SnapshotHeader {
            meta,
            term,
            leader: client.map_or(replica.descriptor.replica, |client| client.request.from),
            epoch: replica.descriptor.epoch,
            start_slot: replica.descriptor.start_slot,
            end_slot: replica.descriptor.end_slot,
            stamp_ms: replica.applied.stamp_ms,
            membership: replica.descriptor.membership.clone(),
        };
        let sending = Sending {
            id: self.last_snapshot,
            to,
            from: replica.descriptor.replica,
            client,
            view: self.engine.snapshot(),
            spaces: replica.descriptor.spaces(),
            header,
            after: None,
            next_seq: 0,
            in_flight: VecDeque::new(),
            read_all: false,
            moved_at: self.ticks,
            sent_at: self.ticks,
        };
        self.sending.insert((shard, peer), sending);
        self.pump(shard, peer)
    }

    /// Sends chunks as far as the window and the rate allow.
    fn pump(&mut self, shard: ShardId, peer: ReplicaId) -> Result<(), StoreError> {
        let Some(sending) = self.sending.get_mut(&(shard, peer)) else {
            return Ok(());
        };
        let window = WINDOW.min(sending.in_flight.len() + BURST);
        while !sending.read_all && sending.in_flight.len() < window && self.snapshot_allowance > 0 {
            let Exported { pairs, more } = kv::export(
                &sending.view,
                sending.spaces,
                sending.after.as_deref(),
                self.options.snapshot_chunk_bytes,
            )?;
            let mut encoded = Vec::new();
            for (key, value) in &pairs {
                encode_pair(&mut encoded, key, value);
            }
            let behind = sending.after.clone();
            sending.read_all = more.is_none();
            if more.is_some() {
                sending.after = more;
            }
            let chunk = SnapshotChunk {
                shard,
                from: sending.from,
                to: peer,
                id: sending.id,
                seq: sending.next_seq,
                header: sending.header.clone(),
                crc: crc32c::crc32c(&encoded),
                pairs: encoded.into(),
                last: sending.read_all,
            };
            if sending.in_flight.is_empty() {
                sending.moved_at = self.ticks; // it may have waited for its share of the rate
            }
            self.counters.snapshot_bytes_sent += chunk.pairs.len() as u64;
            if self.options.snapshot_bytes_per_second > 0 && !self.snapshots_hurry {
                self.snapshot_allowance -= chunk.pairs.len() as i64;
            }
            sending.in_flight.push_back(behind);
            sending.next_seq += 1;
            sending.sent_at = self.ticks;
            self.out
                .sends
                .push((sending.to, PeerMessage::SnapshotChunk(chunk)));
        }
        Ok(())
    }

    pub(crate) fn snapshot_ack(&mut self, from: StoreId, ack: SnapshotAck) -> Result<(), StoreError> {
        let key = (ack.shard, ack.from);
        let Some(sending) = self
            .sending
            .get_mut(&key)
            .filter(|s| s.id == ack.id && s.to == from)
        else {
            return Ok(());
        };
        match ack.next {
            Some(next) if !ack.done => {
                if sending.arrived_before(next) {
                    sending.moved_at = self.ticks;
                }
                if sending.client.is_some() && sending.read_all && sending.in_flight.is_empty() {
                    // The rest is between the leader and the receiver.
                    self.end_sending(key, true);
                    return Ok(());
                }
                self.pump(ack.shard, ack.from)
            }
            _ => {
                self.end_sending(key, ack.done);
                Ok(())
            }
        }
    }

    fn end_sending(&mut self, key: (ShardId, ReplicaId), ok: bool) {
        let client = self.sending.remove(&key).and_then(|sending| sending.client);
        if let Some(client) = client {
            self.counters.snapshots_fed += u64::from(ok);
            let state = if ok {
                SnapshotState::Delivered
            } else {
                SnapshotState::Refused
            };
            self.report(client, state);
            return;
        }
        self.counters.snapshots_sent += u64::from(ok);
        if ok {
            self.hold_log(key.0, key.1);
        }
        if let Some(at) = self.router.replica_of(key.0) {
            self.replicas[at].raft.report_snapshot(key.1, ok);
            self.mark(at);
        }
    }

    /// The connection to a store is back: sends again what may have been lost with the last one.
    pub(crate) fn resume_snapshots(&mut self, store: StoreId) -> Result<(), StoreError> {
        self.send_again(|sending, _| sending.to == store)
    }

    fn send_again(&mut self, which: impl Fn(&Sending<E::Snapshot>, u64) -> bool) -> Result<(), StoreError> {
        let mut again = Vec::new();
        for (key, sending) in &mut self.sending {
            let may_arrive = !sending.in_flight.is_empty() && self.peers.is_up(sending.to);
            if may_arrive && which(sending, self.ticks) {
                self.counters.snapshot_chunks_resent += sending.in_flight.len() as u64;
                sending.rewind();
                again.push(*key);
            }
        }
        for (shard, peer) in again {
            self.pump(shard, peer)?;
        }
        Ok(())
    }

    /// Renews the allowance, repeats what was lost, ends what is over.
    pub(crate) fn sending_tick(&mut self) -> Result<(), StoreError> {
        let rate = self.options.snapshot_bytes_per_second;
        let each_tick = (u128::from(rate) * u128::from(self.options.tick_us)).div_ceil(1_000_000);
        let each_tick = i64::try_from(each_tick).unwrap_or(i64::MAX).max(1);
        self.snapshot_allowance = self.snapshot_allowance.saturating_add(each_tick).min(each_tick);
        self.log_hold_tick();
        let ticks = self.ticks;
        let over: Vec<_> = self
            .sending
            .iter()
            .filter_map(|((shard, peer), sending)| {
                let stalls = ticks >= sending.moved_at + STALL_TICKS && !sending.waits_for_its_share();
                if let Some(client) = sending.client {
                    let given_up = stalls || !self.follows(client);
                    return given_up.then_some(((*shard, *peer), false));
                }
                let leader = self
                    .router
                    .replica_of(*shard)
                    .map(|at| &self.replicas[at])
                    .filter(|r| r.is_leader());
                let progress = leader.and_then(|leader| leader.raft.progress(*peer));
                let installed =
                    progress.is_some_and(|progress| progress.matched >= sending.header.meta.index);
                let given_up = leader.is_none() || stalls;
                (installed || given_up).then_some(((*shard, *peer), installed))
            })
            .collect();
        for (key, installed) in over {
            self.end_sending(key, installed);
        }
        if self.ticks.is_multiple_of(REPORT_TICKS) {
            let clients: Vec<Client> = self
                .sending
                .values()
                .filter_map(|sending| sending.client)
                .collect();
            for client in clients {
                self.report(client, SnapshotState::Feeding);
            }
        }
        self.send_again(|sending, ticks| ticks >= sending.sent_at + RESEND_TICKS)?;
        // Those that wait for their share of the rate.
        let waiting: Vec<_> = self.sending.keys().copied().collect();
        for (shard, peer) in waiting {
            self.pump(shard, peer)?;
        }
        Ok(())
    }
}
