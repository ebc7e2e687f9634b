//! How the store is doing, and what it does about it (rules H).
//!
//! H1: below the low-space mark the store is *full*: it tells its peers, hands its leaderships to stores that are
//! not, and goes on voting and appending to the segments that it has. A leader that is full, or whose quorum
//! needs a full store, admits only what frees space. H2: a log write that is pending for longer than an election
//! timeout makes the store *slow*: its heartbeats still flow, so nobody would take its leaderships, and it hands
//! them away itself. Both end by themselves. H3, a failed write, ends the process.

use std::collections::{BTreeMap, VecDeque};

use quorate_proto::{Op, PeerMessage, StoreHealth};
use quorate_storage::StoreId;
use quorate_storage::engine::Engine;

use crate::io::{LogToken, Times};
use crate::store::Store;

/// Ticks between two words about a store that is not well, and after which such a word is forgotten.
const TELL_TICKS: u64 = 20;
const FORGET_TICKS: u64 = 3 * TELL_TICKS;
/// A full store is full until this part of the mark is free on top of it, so that it does not go back and forth.
const MARGIN_PART: u64 = 8;

/// What the store knows of its own health and of its peers'.
#[derive(Debug, Default)]
pub(crate) struct Health {
    own: StoreHealth,
    available_bytes: Option<u64>,
    /// Log writes that are not known to be durable, and when they were given to the log.
    pending: VecDeque<(LogToken, u64)>,
    /// The last word of those that are not well, and the tick in which it came.
    peers: BTreeMap<StoreId, (StoreHealth, u64)>,
}

/// How a store is doing, for operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthStatus {
    /// Its disk has less space left than the low-space mark (H1).
    pub is_full: bool,
    /// A log write has been pending for longer than an election timeout (H2).
    pub is_slow: bool,
    /// What its disk has left, if known.
    pub available_bytes: Option<u64>,
}

impl Health {
    /// A write was given to the log.
    pub(crate) fn log_given(&mut self, token: LogToken, now_us: u64) {
        self.pending.push_back((token, now_us));
    }

    /// Every write up to `token` is durable.
    pub(crate) fn log_written(&mut self, token: LogToken) {
        while self.pending.front().is_some_and(|(first, _)| *first <= token) {
            self.pending.pop_front();
        }
    }

    /// Whether this store should lead nothing.
    pub(crate) fn is_unwell(&self) -> bool {
        self.own != StoreHealth::default()
    }

    /// Whether `store` should be handed nothing to lead.
    pub(crate) fn is_peer_unwell(&self, store: StoreId) -> bool {
        self.peers.contains_key(&store)
    }

    /// A peer says how it is.
    pub(crate) fn told(&mut self, from: StoreId, health: StoreHealth, tick: u64) {
        if health == StoreHealth::default() {
            self.peers.remove(&from);
        } else {
            self.peers.insert(from, (health, tick));
        }
    }

    /// The connection to a store begins: it says again how it is, unless it is well.
    pub(crate) fn forget(&mut self, store: StoreId) {
        self.peers.remove(&store);
    }

    fn is_peer_full(&self, store: StoreId) -> bool {
        self.peers.get(&store).is_some_and(|(health, _)| health.is_full)
    }
}

impl<E: Engine> Store<E> {
    /// The driver has looked at the disk.
    pub(crate) fn disk_space(&mut self, available_bytes: u64) {
        let mark = self.options.low_space_bytes;
        let enough = if self.health.own.is_full {
            mark.saturating_add(mark / MARGIN_PART)
        } else {
            mark
        };
        self.health.available_bytes = Some(available_bytes);
        let is_full = available_bytes < enough;
        if is_full != self.health.own.is_full {
            self.health.own.is_full = is_full;
            self.tell_health();
        }
    }

    pub(crate) fn health_tick(&mut self, times: Times) {
        let timeout_us = self.options.election_timeout_us();
        let oldest = self.health.pending.front().map(|(_, since)| *since);
        let is_slow = oldest.is_some_and(|since| times.mono_us.saturating_sub(since) > timeout_us);
        let changed = is_slow != self.health.own.is_slow;
        self.health.own.is_slow = is_slow;
        if changed || (self.health.is_unwell() && self.ticks.is_multiple_of(TELL_TICKS)) {
            self.tell_health();
        }
        let ticks = self.ticks;
        self.health
            .peers
            .retain(|_, (_, tick)| ticks < *tick + FORGET_TICKS);
    }

    fn tell_health(&mut self) {
        let stores: Vec<StoreId> = self.peers.all_up().collect();
        for store in stores {
            let message = PeerMessage::StoreHealth(self.health.own);
            self.out.sends.push((store, message));
        }
    }

    /// The connection to a peer begins.
    pub(crate) fn greet(&mut self, store: StoreId) {
        self.health.forget(store);
        if self.health.is_unwell() {
            let message = PeerMessage::StoreHealth(self.health.own);
            self.out.sends.push((store, message));
        }
    }

    /// Whether a leader here must refuse `op`, because this store is full or no quorum is without a full one (H1).
    pub(crate) fn is_out_of_space(&self, at: usize, op: &Op) -> bool {
        if !self.health.own.is_full && self.health.peers.is_empty() || frees_space(op) {
            return false;
        }
        let replica = &self.replicas[at];
        let store_of = |id| replica.descriptor.store_of(id);
        let has_space = |store: StoreId| {
            store == self.identity.store || self.peers.is_up(store) && !self.health.is_peer_full(store)
        };
        let full_peer = replica
            .descriptor
            .membership
            .members
            .iter()
            .any(|(_, store)| self.health.is_peer_full(*store));
        self.health.own.is_full
            || full_peer && !replica.raft.is_quorum(&|id| store_of(id).is_some_and(has_space))
    }

    /// How this store is doing.
    #[must_use]
    pub fn health(&self) -> HealthStatus {
        HealthStatus {
            is_full: self.health.own.is_full,
            is_slow: self.health.own.is_slow,
            available_bytes: self.health.available_bytes,
        }
    }
}

/// What may be written to a full store: it leaves less than there was, once the log is collected.
fn frees_space(op: &Op) -> bool {
    match op {
        Op::Delete { .. }
        | Op::GetDelete { .. }
        | Op::Flush
        | Op::Sweep { .. }
        | Op::ExpireSessions { .. }
        | Op::Split(_)
        | Op::Noop
        // Small, and what would free space elsewhere may wait for it.
        | Op::Control(_) => true,
        Op::Set { .. }
        | Op::Append { .. }
        | Op::SetRange { .. }
        | Op::Increment { .. }
        | Op::IncrementFloat { .. }
        | Op::GetExpire { .. }
        | Op::Expire { .. }
        | Op::Persist { .. }
        | Op::SetAllIfAbsent { .. }
        | Op::CompareAndSet { .. }
        | Op::Settle { .. } => false,
    }
}
