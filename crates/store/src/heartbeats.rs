//! Telling the controller's leader how this store is and what it leads.
//!
//! One message at a time is under way, every so many ticks, or sooner when a shard's leader or place changed. It carries
//! the shards of which there is news since the controller's leader has acknowledged them, and every so often each of them,
//! so that it costs little when little happens. Whoever answers in another term has heard nothing so far, and is told of all.

use quorate_proto::{
    HEARTBEAT_SHARDS_MAX, Heartbeat, HeartbeatAnswer, MemberRole, ORDERS_MAX, PeerMessage, ShardHeartbeat,
    ShardMember, StoreHeartbeat,
};
use quorate_raft::{ProgressState, ProgressView, ReplicaId, Term};
use quorate_storage::engine::Engine;
use quorate_storage::{ShardId, StoreId};

use crate::error::StoreError;
use crate::io::Times;
use crate::replica::Replica;
use crate::rsm::{CONTROLLER, Reign};
use crate::store::Store;

/// Ticks between two heartbeats: a second at default settings.
pub const HEARTBEAT_EVERY_TICKS: u64 = 20;
/// Ticks after which a heartbeat without an answer is taken to be lost.
const LOST_TICKS: u64 = 2 * HEARTBEAT_EVERY_TICKS;
/// Heartbeats after which a shard is told of although there is no news.
const REFRESH_BEATS: u64 = 60;
/// Operations per second below which it is no news how many they are.
const LOAD_MIN: u64 = 128;

/// What has been told.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats {
    seq: u64,
    beats: u64,
    /// Of the routes when news were last looked for.
    routes_version: u64,
    under_way: Option<UnderWay>,
    /// Who has acknowledged what the replicas have for told: a leader of the controller, in a term.
    told_to: Option<(StoreId, Term)>,
}

#[derive(Debug)]
struct UnderWay {
    seq: u64,
    to: StoreId,
    tick: u64,
    shards: Vec<(ShardId, Told)>,
    /// There was more to tell than one message holds.
    has_more: bool,
}

/// What makes a shard's heartbeat news. Range and members follow from the epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    epoch: quorate_proto::Epoch,
    term: Term,
    pending: Vec<ReplicaId>,
    /// Eighths of a power of two: what a shard holds is told when it changes by that much.
    size: Option<u64>,
    /// Likewise; what is small is all one.
    load: u64,
}

impl Told {
    fn of(replica: &Replica) -> Self {
        let members = replica.descriptor.membership.members.iter();
        let pending = members.map(|(id, _)| *id).filter(|id| is_pending(replica, *id));
        Self {
            epoch: replica.descriptor.epoch,
            term: replica.raft.term(),
            pending: pending.collect(),
            size: replica.size.bytes().map(eighths),
            load: eighths(
                replica
                    .load
                    .per_second(replica.raft.term())
                    .unwrap_or(0)
                    .max(LOAD_MIN),
            ),
        }
    }
}

/// Eighths of the power of two below a number.
fn eighths(number: u64) -> u64 {
    let power = (number | 8).ilog2();
    u64::from(power) << 3 | (number >> (power - 3)) & 7
}

/// Whether a member lacks something that is committed and is not streamed to.
fn is_pending(replica: &Replica, id: ReplicaId) -> bool {
    let commit = replica.raft.commit();
    let is_pending =
        |progress: ProgressView| progress.state != ProgressState::Replicate && progress.matched < commit;
    id != replica.descriptor.replica && replica.raft.progress(id).is_some_and(is_pending)
}

/// Who holds the shard, as far as the replica has applied.
pub(crate) fn members_of(replica: &Replica) -> Vec<ShardMember> {
    let descriptor = &replica.descriptor;
    let conf = &descriptor.conf_state;
    let role = |id: &ReplicaId| {
        let is_outgoing = conf.voters_outgoing.contains(id);
        if conf.learners.contains(id) {
            MemberRole::Learner
        } else if !conf.voters.contains(id) {
            MemberRole::Outgoing
        } else if conf.voters_outgoing.is_empty() || is_outgoing {
            MemberRole::Voter
        } else {
            MemberRole::Incoming
        }
    };
    let member = |(id, store): &(ReplicaId, StoreId)| ShardMember {
        replica: *id,
        store: *store,
        role: role(id),
        is_pending: is_pending(replica, *id),
    };
    descriptor.membership.members.iter().map(member).collect()
}

fn heartbeat_of(replica: &Replica) -> ShardHeartbeat {
    let descriptor = &replica.descriptor;
    ShardHeartbeat {
        shard: descriptor.shard,
        start_slot: descriptor.start_slot,
        end_slot: descriptor.end_slot,
        epoch: descriptor.epoch,
        term: replica.raft.term(),
        leader: descriptor.replica,
        members: members_of(replica),
        bytes: replica.size.bytes(),
        load: replica.load.per_second(replica.raft.term()),
    }
}

impl Replica {
    /// The moment, for the machine of a shard that is led here.
    pub(crate) fn reign(&self, times: Times) -> Reign {
        Reign {
            term: self.raft.term(),
            now_us: times.mono_us,
        }
    }
}

impl<E: Engine> Store<E> {
    /// Who leads the controller, as far as is known here.
    fn controllers_leader(&self) -> Option<StoreId> {
        match self.router.replica_of(CONTROLLER) {
            Some(at) => self.replicas[at].leader_store(),
            None => self.router.told(CONTROLLER)?.leader,
        }
    }

    pub(crate) fn heartbeat_tick(&mut self, times: Times) -> Result<(), StoreError> {
        let leader = self.controllers_leader();
        let (ticks, beats) = (self.ticks, &mut self.heartbeats);
        let is_lost = |sent: &UnderWay| Some(sent.to) != leader || ticks >= sent.tick + LOST_TICKS;
        beats.under_way.take_if(|sent| is_lost(sent));
        if ticks.is_multiple_of(HEARTBEAT_EVERY_TICKS) {
            beats.beats += 1;
            let passed_us = HEARTBEAT_EVERY_TICKS * self.options.tick_us;
            for replica in self.replicas.iter_mut().filter(|replica| replica.is_leader()) {
                replica.load.beat(replica.raft.term(), passed_us);
            }
            self.send_heartbeat(times, true)
        } else if beats.routes_version != self.routes_version {
            // Somebody else leads, or a shard was split or moved: that is told at once.
            self.send_heartbeat(times, false)
        } else {
            Ok(())
        }
    }

    /// Unless one is under way, or there is no news and the next is not due.
    fn send_heartbeat(&mut self, times: Times, is_due: bool) -> Result<(), StoreError> {
        let Some(to) = self.controllers_leader() else {
            return Ok(());
        };
        if self.heartbeats.under_way.is_some() {
            return Ok(());
        }
        if is_due {
            self.tell_survivors(times, to);
        }
        self.heartbeats.routes_version = self.routes_version;
        let beats = self.heartbeats.beats;
        let mut leads = 0;
        let (mut shards, mut news) = (Vec::new(), Vec::new());
        let mut has_more = false;
        for replica in self.replicas.iter().filter(|replica| replica.serves()) {
            leads += 1;
            let told = Told::of(replica);
            let shard = replica.descriptor.shard;
            let is_refreshed = is_due && (beats + shard.0).is_multiple_of(REFRESH_BEATS);
            if replica.told.as_ref() == Some(&told) && !is_refreshed {
                continue;
            }
            if shards.len() == HEARTBEAT_SHARDS_MAX {
                // Those that are merely due have their turn another time.
                has_more |= replica.told.as_ref() != Some(&told);
                continue;
            }
            shards.push(heartbeat_of(replica));
            news.push((shard, told));
        }
        if shards.is_empty() && !is_due {
            return Ok(());
        }
        self.heartbeats.seq += 1;
        let seq = self.heartbeats.seq;
        let health = self.health();
        let beat = Heartbeat {
            seq,
            store: StoreHeartbeat {
                store: self.identity.store,
                incarnation: self.identity.incarnation,
                process: self.process,
                replicas: self.replicas.len() as u32,
                leads,
                available_bytes: health.available_bytes,
                is_full: health.is_full,
                is_slow: health.is_slow,
                tells_after_ms: self.tells_after_ms(),
            },
            shards,
        };
        self.counters.heartbeats_sent += 1;
        self.counters.shard_heartbeats_sent += beat.shards.len() as u64;
        self.heartbeats.under_way = Some(UnderWay {
            seq,
            to,
            tick: self.ticks,
            shards: news,
            has_more,
        });
        if to == self.identity.store {
            self.order_recoveries(times, to)?;
            if let Some(answer) = self.hear_heartbeat(times, &beat) {
                return self.heartbeat_answered(times, to, answer);
            }
        } else {
            self.out.sends.push((to, PeerMessage::Heartbeat(Box::new(beat))));
        }
        Ok(())
    }

    /// The controller's leader has heard. An answer to a heartbeat that was taken to be lost says nothing.
    pub(crate) fn heartbeat_answered(
        &mut self,
        times: Times,
        from: StoreId,
        answer: HeartbeatAnswer,
    ) -> Result<(), StoreError> {
        let is_it = |sent: &mut UnderWay| (sent.seq, sent.to) == (answer.seq, from);
        if answer.process != self.process {
            return Ok(());
        }
        let Some(sent) = self.heartbeats.under_way.take_if(is_it) else {
            return Ok(());
        };
        let mut has_more = sent.has_more;
        if self.heartbeats.told_to != Some((from, answer.term)) {
            has_more |= self.heartbeats.told_to.is_some();
            self.heartbeats.told_to = Some((from, answer.term));
            for replica in &mut self.replicas {
                replica.told = None;
            }
        }
        for (shard, told) in sent.shards {
            if let Some(at) = self.router.replica_of(shard) {
                self.replicas[at].told = Some(told);
            }
        }
        for order in answer.orders.iter().take(ORDERS_MAX) {
            self.take_order(times, order)?;
        }
        if has_more {
            self.send_heartbeat(times, false)?;
        }
        Ok(())
    }

    /// Another store's heartbeat, for the leader of the controller; not answered by anybody else.
    pub(crate) fn heartbeat(
        &mut self,
        times: Times,
        from: StoreId,
        beat: &Heartbeat,
    ) -> Result<(), StoreError> {
        if beat.store.store != from {
            return Ok(());
        }
        if let Some(answer) = self.hear_heartbeat(times, beat) {
            self.out.sends.push((from, PeerMessage::HeartbeatAnswer(answer)));
            self.order_recoveries(times, from)?;
        }
        Ok(())
    }

    fn hear_heartbeat(&mut self, times: Times, beat: &Heartbeat) -> Option<HeartbeatAnswer> {
        let reign = self.reign(times)?;
        let refused = self.machine.hear(reign, beat)?;
        self.counters.heartbeats_heard += 1;
        self.counters.shard_heartbeats_refused += refused;
        let orders = self.orders_for(reign, beat.store.store);
        Some(HeartbeatAnswer {
            process: beat.store.process,
            seq: beat.seq,
            term: reign.term,
            orders,
        })
    }

    /// Since when and how the controller is led here; none if it is not.
    pub(crate) fn reign(&self, times: Times) -> Option<Reign> {
        let replica = &self.replicas[self.router.replica_of(CONTROLLER)?];
        replica.serves().then(|| replica.reign(times))
    }

    /// What the controller answers by what its leader here has heard; none if it is not led here. Nobody confirms that
    /// it still is: for the simulator's checks.
    #[must_use]
    pub fn controller_says(
        &self,
        times: Times,
        query: &quorate_proto::ControlQuery,
    ) -> Option<quorate_proto::Answer> {
        self.reign(times).map(|reign| self.machine.query(reign, query))
    }
}
