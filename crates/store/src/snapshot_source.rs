//! Who sends a snapshot: a follower that is level with the leader, where there is one, else the leader itself.
//!
//! Reading and sending a shard costs disk, network and time of the thread that drives Raft, and a leader has most to do.
//! So it asks a follower, which sends in the leader's name: the receiver answers the leader as if the leader had sent it.
//! The follower vouches for nothing: what it has applied is committed, and the snapshot holds at least what the leader
//! had applied when it asked, so that the leader's log goes on from there.
//!
//! The leader hears how it goes. Refused, silent, or gone: it sends the snapshot itself, from the start.

use std::cmp::Reverse;

use quorate_proto::{PeerMessage, SnapshotReport, SnapshotRequest, SnapshotState};
use quorate_raft::{Index, ProgressState, ReplicaId, Term, mutant};
use quorate_storage::engine::Engine;
use quorate_storage::{ShardId, StoreId};

use crate::error::StoreError;
use crate::snapshot::STALL_TICKS;
use crate::store::Store;

/// Ticks without a word of the follower after which the leader sends the snapshot itself.
const SILENT_TICKS: u64 = 16;
/// Ticks between two reports of a follower that is at it.
pub(crate) const REPORT_TICKS: u64 = 4;
/// Ticks that a follower waits until it has applied what the snapshot is to hold, and is connected to who is to get it.
const CATCH_UP_TICKS: u64 = 10;

/// A snapshot that this leader has asked a follower for.
pub(crate) struct Asked {
    store: StoreId,
    request: SnapshotRequest,
    heard_at: u64,
    /// Every chunk has arrived; what is left is to install it.
    is_delivered: bool,
}

impl Asked {
    /// What the snapshot holds goes up to here at least.
    pub(crate) fn index(&self) -> Index {
        self.request.index
    }
}

/// Which leader wants a snapshot of this follower.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) store: StoreId,
    pub(crate) request: SnapshotRequest,
}

/// A request that waits until this follower has applied enough.
pub(crate) struct Waiting {
    client: Client,
    since: u64,
}

enum Readiness {
    Ready { at: usize, to: StoreId },
    NotYet,
    Never,
}

impl<E: Engine> Store<E> {
    /// The core of a leader wants a snapshot sent to `peer`.
    pub(crate) fn send_snapshot(
        &mut self,
        at: usize,
        peer: ReplicaId,
        to: StoreId,
        term: Term,
    ) -> Result<(), StoreError> {
        let shard = self.replicas[at].descriptor.shard;
        let key = (shard, peer);
        // What it fed as a follower is another term's.
        self.sending
            .retain(|of, sending| *of != key || sending.client.is_none());
        let is_asked = self
            .asked
            .get(&key)
            .is_some_and(|asked| asked.request.term == term);
        if is_asked || self.sending.contains_key(&key) {
            return Ok(());
        }
        self.asked.remove(&key);
        let Some((follower, store)) = self.level_follower(at, peer) else {
            return self.begin_sending(at, peer, to, term, None);
        };
        self.last_snapshot = self.last_snapshot.wrapping_add(1);
        self.counters.snapshots_asked += 1;
        let replica = &self.replicas[at];
        let request = SnapshotRequest {
            shard,
            from: replica.descriptor.replica,
            to: follower,
            target: peer,
            id: self.last_snapshot,
            term,
            index: replica.raft.storage().applied().index,
        };
        let asked = Asked {
            store,
            request,
            heard_at: self.ticks,
            is_delivered: false,
        };
        self.asked.insert(key, asked);
        self.out
            .sends
            .push((store, PeerMessage::SnapshotRequest(request)));
        Ok(())
    }

    /// A follower that could send a snapshot: it keeps up, its store is well, and it has the least of this to do.
    fn level_follower(&self, at: usize, peer: ReplicaId) -> Option<(ReplicaId, StoreId)> {
        let replica = &self.replicas[at];
        let members = replica.descriptor.membership.members.iter().copied();
        let able = members.filter_map(|(id, store)| {
            let progress = replica.raft.progress(id)?;
            let is_able = id != peer
                && store != self.identity.store
                && progress.state == ProgressState::Replicate
                && progress.recent_active
                && self.peers.is_up(store)
                && !self.health.is_peer_unwell(store);
            let busy = self.asked.values().filter(|asked| asked.store == store).count();
            is_able.then_some((busy, Reverse(progress.matched), id, store))
        });
        able.min().map(|(_, _, id, store)| (id, store))
    }

    /// How a snapshot goes that was asked for.
    pub(crate) fn snapshot_report(
        &mut self,
        from: StoreId,
        report: SnapshotReport,
    ) -> Result<(), StoreError> {
        let key = (report.shard, report.target);
        let ticks = self.ticks;
        let asked = self.asked.get_mut(&key).filter(|asked| {
            asked.store == from && asked.request.id == report.id && asked.request.to == report.from
        });
        let Some(asked) = asked else {
            return Ok(());
        };
        asked.heard_at = ticks;
        match report.state {
            SnapshotState::Feeding => Ok(()),
            SnapshotState::Delivered => {
                asked.is_delivered = true;
                Ok(())
            }
            SnapshotState::Refused => self.send_it_here(key),
        }
    }

    /// The leader sends a snapshot itself that it had asked for, if it is still wanted.
    fn send_it_here(&mut self, key: (ShardId, ReplicaId)) -> Result<(), StoreError> {
        let Some(asked) = self.asked.remove(&key) else {
            return Ok(());
        };
        let Some(at) = self.router.replica_of(key.0) else {
            return Ok(());
        };
        let replica = &self.replicas[at];
        let leads = replica.is_leader() && replica.raft.term() == asked.request.term;
        let progress = replica.raft.progress(key.1).filter(|_| leads);
        if progress.is_none_or(|progress| progress.state != ProgressState::Snapshot) {
            return Ok(());
        }
        match replica.address_of(key.1) {
            Some(to) => self.begin_sending(at, key.1, to, asked.request.term, None),
            None => Ok(()),
        }
    }

    /// Ends what has arrived, and does itself what others do not.
    pub(crate) fn asked_tick(&mut self) -> Result<(), StoreError> {
        let (mut arrived, mut lost, mut over) = (Vec::new(), Vec::new(), Vec::new());
        for (key, asked) in &self.asked {
            let leader = self
                .router
                .replica_of(key.0)
                .map(|at| &self.replicas[at])
                .filter(|replica| replica.is_leader() && replica.raft.term() == asked.request.term);
            let Some(progress) = leader.and_then(|leader| leader.raft.progress(key.1)) else {
                over.push(*key);
                continue;
            };
            let is_silent = if asked.is_delivered {
                self.ticks >= asked.heard_at + STALL_TICKS
            } else {
                self.ticks >= asked.heard_at + SILENT_TICKS || !self.peers.is_up(asked.store)
            };
            if progress.matched >= asked.request.index {
                arrived.push(*key);
            } else if is_silent && !mutant!("waits-for-a-dead-feeder") {
                lost.push(*key);
            }
        }
        for key in over {
            self.asked.remove(&key);
        }
        for key in arrived {
            self.asked.remove(&key);
            self.counters.snapshots_sent += 1;
            self.hold_log(key.0, key.1);
            if let Some(at) = self.router.replica_of(key.0) {
                self.replicas[at].raft.report_snapshot(key.1, true);
                self.mark(at);
            }
        }
        for key in lost {
            self.send_it_here(key)?;
        }
        Ok(())
    }

    /// A leader asks this follower to feed another one.
    pub(crate) fn snapshot_request(
        &mut self,
        from: StoreId,
        request: SnapshotRequest,
    ) -> Result<(), StoreError> {
        let key = (request.shard, request.target);
        let client = Client { store: from, request };
        if self
            .sending
            .get(&key)
            .is_some_and(|sending| sending.client == Some(client))
        {
            return Ok(()); // the message came twice
        }
        let waiting = Waiting {
            client,
            since: self.ticks,
        };
        self.waiting_to_feed.insert(key, waiting);
        self.feed_if_ready(key)
    }

    /// Takes up what waits for more to be applied, and refuses what waits for too long.
    pub(crate) fn feeding_tick(&mut self) -> Result<(), StoreError> {
        let waiting: Vec<_> = self.waiting_to_feed.keys().copied().collect();
        for key in waiting {
            self.feed_if_ready(key)?;
        }
        Ok(())
    }

    fn feed_if_ready(&mut self, key: (ShardId, ReplicaId)) -> Result<(), StoreError> {
        let Some(waiting) = self.waiting_to_feed.get(&key) else {
            return Ok(());
        };
        let client = waiting.client;
        match self.readiness(client) {
            Readiness::NotYet if self.ticks < waiting.since + CATCH_UP_TICKS => Ok(()),
            Readiness::NotYet | Readiness::Never => {
                self.waiting_to_feed.remove(&key);
                self.report(client, SnapshotState::Refused);
                Ok(())
            }
            Readiness::Ready { at, to } => {
                self.waiting_to_feed.remove(&key);
                self.sending.remove(&key);
                self.report(client, SnapshotState::Feeding);
                self.begin_sending(at, key.1, to, client.request.term, Some(client))
            }
        }
    }

    fn readiness(&self, client: Client) -> Readiness {
        let request = client.request;
        let Some(at) = self.router.replica_of(request.shard) else {
            return Readiness::Never;
        };
        let replica = &self.replicas[at];
        let is_sound = replica.takes_part()
            && replica.rebuild.is_none()
            && replica.is_initialized()
            && replica.installing.is_none()
            && !self.shutting_down
            && !self.health.is_unwell();
        if replica.descriptor.replica != request.to || !is_sound || !self.follows(client) {
            return Readiness::Never;
        }
        if replica.raft.storage().applied().index < request.index && !mutant!("fed-from-behind") {
            return Readiness::NotYet;
        }
        // A snapshot is for members only, and at this index it is one unless it has been removed since.
        match replica.descriptor.store_of(request.target) {
            Some(to) if self.peers.is_up(to) => Readiness::Ready { at, to },
            // The leader may be the first that it has connected to.
            Some(_) => Readiness::NotYet,
            None => Readiness::Never,
        }
    }

    /// Whether it still follows the leader that asked.
    pub(crate) fn follows(&self, client: Client) -> bool {
        let request = client.request;
        self.router
            .replica_of(request.shard)
            .map(|at| &self.replicas[at])
            .is_some_and(|replica| {
                replica.raft.term() == request.term
                    && replica.raft.leader() == Some(request.from)
                    && replica.address_of(request.from) == Some(client.store)
            })
    }

    pub(crate) fn report(&mut self, client: Client, state: SnapshotState) {
        let request = client.request;
        let report = SnapshotReport {
            shard: request.shard,
            from: request.to,
            to: request.from,
            target: request.target,
            id: request.id,
            state,
        };
        self.out
            .sends
            .push((client.store, PeerMessage::SnapshotReport(report)));
    }
}
