//! What happens as time passes: the cores' ticks, deadlines, expiry, spreading leaders, housekeeping.

use quorate_raft::{ProgressState, Role};
use quorate_storage::engine::Engine;
use quorate_storage::{ShardId, StoreId};

use crate::error::StoreError;
use crate::io::Times;
use crate::store::Store;

/// Ticks between sweeps, between looks at the log, and between moves of leadership.
const SWEEP_TICKS: u64 = 5;
const GC_TICKS: u64 = 4;
const SPREAD_TICKS: u64 = 10;
/// A preferred store must have been reachable this long before it is handed leadership.
const SETTLED_US: u64 = 2_000_000;
/// A preferred store may lag by this many entries when it is handed leadership.
pub(crate) const TRANSFER_LAG: u64 = 256;

impl<E: Engine> Store<E> {
    pub(crate) fn tick(&mut self, times: Times) -> Result<(), StoreError> {
        self.ticks += 1;
        for at in 0..self.replicas.len() {
            let shard = self.replicas[at].descriptor.shard;
            if self.replicas[at].rebuild.is_some() {
                self.rebuild_tick(at)?;
            } else if self.replicas[at].birth.is_none() && self.replicas[at].forcing.is_none() {
                self.campaign_for_child(at)?;
                self.replicas[at].raft.tick().map_err(StoreError::raft(shard))?;
                self.campaign_early(times, at)?;
            }
            self.leader_tick(times, at);
            self.membership_tick(times, at)?;
            self.split_tick(times, at)?;
            self.shard_map_tick(times, at);
            if (self.ticks + at as u64).is_multiple_of(SWEEP_TICKS) {
                self.sweep(times, at)?;
            }
            self.expire_sessions(times, at)?;
            if (self.ticks + at as u64).is_multiple_of(GC_TICKS) {
                self.collect_log(at);
            }
            self.mark(at);
        }
        self.health_tick(times);
        self.bound_replay();
        self.gateway_tick(times);
        self.scheduler_tick(times)?;
        self.survey_tick()?;
        self.heartbeat_tick(times)?;
        self.record_heard(times)?;
        self.sending_tick()?;
        self.asked_tick()?;
        self.feeding_tick()?;
        self.receiving_tick();
        self.finish_births()?;
        self.finish_forcing()?;
        self.finish_erasing();
        self.drop_garbage()?;
        if self.shutting_down || self.health.is_unwell() {
            self.hand_over()?;
        } else if self.spreads() && self.ticks.is_multiple_of(SPREAD_TICKS) {
            self.spread(times)?;
        }
        Ok(())
    }

    /// Whether stores give shards back to their preferred ones by themselves. Where the controller's schedulers spread
    /// leaders the two would undo each other's work.
    fn spreads(&self) -> bool {
        self.options.spread_leaders && self.options.schedule.is_none()
    }

    /// Who leads a shard when everything is up: shards are dealt round the stores.
    fn preferred(&self, at: usize) -> StoreId {
        let descriptor = &self.replicas[at].descriptor;
        let voters = &descriptor.conf_state.voters;
        let nth = descriptor.shard.0 % voters.len().max(1) as u64;
        let voter = voters.get(nth as usize);
        let store = voter.and_then(|id| descriptor.store_of(*id));
        store.unwrap_or(self.identity.store)
    }

    /// Campaigns at the end of the election timeout, without the randomized rest, where waiting brings nothing:
    /// the connection to the leader's store is gone, or nobody has led since the start and this store is the
    /// preferred one. Peers still refuse until their own timeout has passed (L2), and the others wait by rank,
    /// so that they do not split the vote.
    fn campaign_early(&mut self, times: Times, at: usize) -> Result<(), StoreError> {
        let replica = &self.replicas[at];
        if replica.raft.role() != Role::Follower {
            return Ok(());
        }
        let descriptor = &replica.descriptor;
        let since = replica
            .lease
            .heard_at_us()
            .unwrap_or(self.started_us)
            .max(self.started_us);
        let leader_lost = replica
            .leader_store()
            .is_some_and(|store| !self.peers.is_up(store));
        let first = replica.lease.heard_at_us().is_none() && self.preferred(at) == self.identity.store;
        if !leader_lost && !first {
            return Ok(());
        }
        let rank = replica
            .other_voters()
            .filter(|(_, on)| self.peers.is_up(*on) && *on < self.identity.store)
            .count();
        let voters = descriptor.conf_state.voters.len().max(1) as u64;
        let rank = if first {
            0
        } else {
            (rank as u64 + descriptor.shard.0) % voters
        };
        let wait = self.options.election_timeout_us() + self.options.tick_us * (1 + 2 * rank);
        let due = since.saturating_add(wait);
        // Once: in the tick in which it becomes due.
        if times.mono_us >= due && times.mono_us < due + self.options.tick_us {
            let shard = descriptor.shard;
            self.replicas[at]
                .raft
                .campaign()
                .map_err(StoreError::raft(shard))?;
        }
        Ok(())
    }

    /// Hands shards that others should lead to them, one at a time.
    fn spread(&mut self, times: Times) -> Result<(), StoreError> {
        if self
            .replicas
            .iter()
            .any(|replica| replica.raft.transferring_to().is_some())
        {
            return Ok(());
        }
        for at in 0..self.replicas.len() {
            let preferred = self.preferred(at);
            if preferred != self.identity.store
                && !self.health.is_peer_unwell(preferred)
                && self.peers.up_for_us(preferred, times.mono_us) >= SETTLED_US
            {
                let Some(target) = self.replicas[at].descriptor.replica_on(preferred) else {
                    continue;
                };
                if self.transfer(at, target)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A node that stops, or is not well, leaves nothing behind that a store that is well can lead.
    fn hand_over(&mut self) -> Result<(), StoreError> {
        for at in 0..self.replicas.len() {
            let others: Vec<_> = self.replicas[at].other_voters().collect();
            for (target, store) in others {
                if self.peers.is_up(store)
                    && !self.health.is_peer_unwell(store)
                    && self.transfer(at, target)?
                {
                    break;
                }
            }
        }
        Ok(())
    }

    /// An operator's wish.
    pub(crate) fn transfer_to(&mut self, shard: ShardId, to: StoreId) -> Result<(), StoreError> {
        let Some(at) = self.router.replica_of(shard) else {
            return Ok(());
        };
        match self.replicas[at].descriptor.replica_on(to) {
            Some(target) if to != self.identity.store => self.transfer(at, target).map(|_| ()),
            _ => Ok(()),
        }
    }

    pub(crate) fn transfer(
        &mut self,
        at: usize,
        target: quorate_raft::ReplicaId,
    ) -> Result<bool, StoreError> {
        let replica = &mut self.replicas[at];
        if !replica.is_leader() || replica.raft.transferring_to().is_some() {
            return Ok(false);
        }
        let last = replica.raft.last_index().0;
        let ready = replica.raft.progress(target).is_some_and(|progress| {
            progress.state == ProgressState::Replicate
                && !progress.is_learner
                && progress.matched.0 + TRANSFER_LAG >= last
        });
        if ready {
            let shard = replica.descriptor.shard;
            replica
                .raft
                .transfer_leader(target)
                .map_err(StoreError::raft(shard))?;
            self.mark(at);
        }
        Ok(ready)
    }
}
