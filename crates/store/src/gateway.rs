//! The way of a client's request: to the local leader, to another store, or back with a refusal.
//!
//! Every write that is forwarded has a session, its client's own or one of this node's (S6), so it is sent again
//! until its deadline, whatever becomes of an attempt (O2; see `attempts`). What is of one connection keeps its order
//! on all ways (`lanes`).

use std::collections::BTreeMap;

use quorate_proto::{Epoch, ForwardBody, Op, Outcome, PeerMessage, Request, Response, UnknownReason};
use quorate_raft::mutant;
use quorate_storage::engine::Engine;
use quorate_storage::{ShardId, StoreId};

use crate::error::StoreError;
use crate::io::Times;
use crate::kv;
use crate::lanes::{Lanes, Routed, Ticket, Verdict};
use crate::own_sessions::OwnSessions;
use crate::replica::Waiter;
use crate::router::Place;
use crate::scheduler_worker::SchedulerWorker;
use crate::store::Store;
use crate::{ClientOutcome, ClientRequest, Refusal, RequestId, RouteMode, Target};

/// A request that was sent to another store.
#[derive(Debug)]
struct Forward {
    to: StoreId,
    shard: ShardId,
    routed: Routed,
}

/// Requests of this node's clients.
#[derive(Debug, Default)]
pub(crate) struct Gateway {
    /// Requests of clients that are not answered yet, wherever they are.
    pub(crate) under_way: usize,
    /// The number of the last forward; starts where that of no other process does.
    last_forward: u64,
    /// The number of the last request.
    last_order: u64,
    forwards: BTreeMap<u64, Forward>,
    /// The order among them; also holds those that wait for a leader.
    pub(crate) lanes: Lanes,
    pub(crate) own: OwnSessions,
}

impl Gateway {
    /// `process`: answers to what an earlier process of this store forwarded may still come, so that no number
    /// of its may be used again.
    pub(crate) fn new(process: u64, seed: u64, store: StoreId) -> Self {
        Self {
            last_forward: if mutant!("forward-numbers-used-again") {
                0
            } else {
                spread(process)
            },
            own: OwnSessions::new([seed, process, store.0]),
            ..Self::default()
        }
    }
}

/// Starts of the numbers that processes count up from, far apart even for processes that are themselves counted.
pub(crate) fn spread(process: u64) -> u64 {
    process.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl<E: Engine> Store<E> {
    pub(crate) fn client(&mut self, times: Times, request: ClientRequest) -> Result<(), StoreError> {
        self.gateway.under_way += 1;
        let place = self.router.place_of(request.target);
        let serves = matches!(place, Some(Place::Here(at)) if self.replicas[at].serves());
        if self.shutting_down && !serves {
            self.reply(request.id, ClientOutcome::NotApplied(Refusal::ShuttingDown));
            return Ok(());
        }
        if kv::longest_key(&request.body) > kv::KEY_BYTES_MAX {
            self.reply(request.id, ClientOutcome::NotApplied(Refusal::KeyTooLong));
            return Ok(());
        }
        if self.gateway.under_way > self.options.requests_max {
            self.reply(request.id, ClientOutcome::NotApplied(Refusal::Busy));
            return Ok(());
        }
        self.gateway.last_order += 1;
        let is_flush = matches!(request.body, ForwardBody::Write(Op::Flush));
        let version = place
            .filter(|_| is_flush)
            .and_then(|place| self.epoch_of(place))
            .map(|(_, epoch)| epoch.version);
        let routed = Routed {
            version,
            deadline_us: times.mono_us.saturating_add(u64::from(request.timeout_ms) * 1000),
            order: self.gateway.last_order,
            unsure: None,
            own_session: None,
            request,
        };
        let ticket = routed.ticket();
        let to = self.store_to_ask(times, place, &ticket);
        match self.gateway.lanes.arrive(&ticket, to) {
            Verdict::Wait => {
                self.gateway.lanes.wait(routed);
                Ok(())
            }
            verdict => self.dispatch(times, place, to, routed, verdict),
        }
    }

    /// Where a request for a shard can be served now, or at least further.
    fn store_to_ask(&self, times: Times, place: Option<Place>, ticket: &Ticket) -> Option<StoreId> {
        match place? {
            Place::Here(at) => self.place_of_leader(times, at, ticket),
            Place::Elsewhere(shard) => {
                let is_reachable = |store| store != self.identity.store && self.peers.is_up(store);
                let hint = self.gateway.lanes.hint(ticket.lane);
                hint.filter(|store| is_reachable(*store))
                    .or_else(|| self.router.store_for(shard, is_reachable))
            }
        }
    }

    fn shard_of(&self, target: Target) -> Option<ShardId> {
        Some(match self.router.place_of(target)? {
            Place::Here(at) => self.replicas[at].descriptor.shard,
            Place::Elsewhere(shard) => shard,
        })
    }

    /// The version of a shard that requests for it are sent by.
    fn epoch_of(&self, place: Place) -> Option<(ShardId, Epoch)> {
        match place {
            Place::Here(at) => {
                let descriptor = &self.replicas[at].descriptor;
                // It may lag behind a split.
                let told = self.router.told(descriptor.shard).map(|info| info.epoch);
                let epoch = told
                    .filter(|told| told.version > descriptor.epoch.version)
                    .unwrap_or(descriptor.epoch);
                Some((descriptor.shard, epoch))
            }
            Place::Elsewhere(shard) => self.router.told(shard).map(|info| (shard, info.epoch)),
        }
    }

    /// Where a request for a replica's shard can be served now.
    fn place_of_leader(&self, times: Times, at: usize, ticket: &Ticket) -> Option<StoreId> {
        let (replica, own) = (&self.replicas[at], self.identity.store);
        let outlives = !ticket.write
            && replica
                .lease
                .outlives_leadership(self.options.lease_us(), times.mono_us);
        if replica.serves() && replica.raft.transferring_to().is_none() || outlives {
            return Some(own);
        }
        let known = if replica.serves() {
            None
        } else {
            replica.leader_store()
        };
        // By another's word, who sent requests of the lane back; or by our own.
        let hint = self.gateway.lanes.hint(ticket.lane);
        hint.or(known)
            .filter(|store| *store != own && self.peers.is_up(*store))
    }

    /// Sends a request to `to`, whose turn it is.
    fn dispatch(
        &mut self,
        times: Times,
        place: Option<Place>,
        to: Option<StoreId>,
        mut routed: Routed,
        verdict: Verdict,
    ) -> Result<(), StoreError> {
        let ticket = routed.ticket();
        let (Some(to), Some(place), Verdict::Go { in_order }) = (to, place, verdict) else {
            self.end_waiting_one(&routed, Refusal::Overtaken);
            self.gateway.lanes.looked_at(ticket.lane);
            return Ok(());
        };
        let is_as_it_was = |version: u64| {
            self.epoch_of(place)
                .is_some_and(|(_, epoch)| epoch.version == version)
        };
        if routed.version.is_some_and(|version| !is_as_it_was(version)) {
            self.end_waiting_one(&routed, Refusal::ShardSplit);
            self.gateway.lanes.looked_at(ticket.lane);
            return Ok(());
        }
        if to == self.identity.store
            && let Place::Here(at) = place
        {
            self.gateway.lanes.sent(&ticket, to);
            let (deadline_us, session) = (routed.deadline_us, routed.request.session);
            let body = routed.request.body.clone();
            let (waiter, request) = if ticket.write && session.is_some() {
                (Waiter::Session(Box::new(routed)), None)
            } else {
                (Waiter::Client(ticket), Some(routed))
            };
            return self.lead(times, at, waiter, deadline_us, in_order, body, session, request);
        }
        if routed.request.mode == RouteMode::Redirect {
            let outcome = match routed.unsure {
                Some(reason) => ClientOutcome::Unknown(reason),
                None => ClientOutcome::Redirect { leader: to },
            };
            self.reply(ticket.id, outcome);
            self.gateway.lanes.looked_at(ticket.lane);
            return Ok(());
        }
        self.give_session(times, place, &mut routed);
        self.gateway.lanes.sent(&ticket, to);
        self.gateway.last_forward = self.gateway.last_forward.wrapping_add(1);
        self.counters.forwards += 1;
        let id = self.gateway.last_forward;
        let Some((shard, epoch)) = self.epoch_of(place) else {
            unreachable!("{place:?} was looked up in this turn")
        };
        let request = Request {
            id,
            shard,
            epoch,
            timeout_ms: (routed.deadline_us.saturating_sub(times.mono_us) / 1000) as u32,
            in_order,
            session: routed.request.session,
            body: routed.request.body.clone(),
        };
        self.out.sends.push((to, PeerMessage::Request(request)));
        self.gateway.forwards.insert(id, Forward { to, shard, routed });
        Ok(())
    }

    /// S6: a write that is forwarded has a session, so that it may be forwarded again.
    fn give_session(&mut self, times: Times, place: Place, routed: &mut Routed) {
        if !matches!(routed.request.body, ForwardBody::Write(_)) {
            return;
        }
        if routed.own_session.is_some() && mutant!("forward-retried-after-a-break") {
            routed.request.session = None;
        }
        let (shard, shard_ms) = match place {
            Place::Here(at) => {
                let replica = &self.replicas[at];
                (replica.descriptor.shard, replica.session_ms())
            }
            Place::Elsewhere(shard) => {
                let told = self.router.told(shard);
                (shard, told.map_or(0, |info| info.session_ms))
            }
        };
        match &mut routed.request.session {
            None => {
                let reopen_ms = self.options.session_ttl_ms / 4;
                let session = self.gateway.own.assign(shard, times.wall_ms, shard_ms, reopen_ms);
                routed.request.session = Some(session);
                routed.own_session = Some(shard);
            }
            Some(session) if routed.own_session.is_some() => {
                session.lowest = self.gateway.own.lowest(session.client, session.seq);
            }
            Some(_) => {}
        }
    }

    /// Goes on with the lanes of which something ended.
    pub(crate) fn go_on(&mut self, times: Times) -> Result<(), StoreError> {
        while self.gateway.lanes.has_ready() {
            for lane in self.gateway.lanes.take_ready() {
                while let Some(first) = self.gateway.lanes.first(lane) {
                    let place = self.router.place_of(first.request.target);
                    let to = self.store_to_ask(times, place, &first.ticket());
                    let Some((routed, verdict)) = self.gateway.lanes.take_first(lane, to) else {
                        break;
                    };
                    self.dispatch(times, place, to, routed, verdict)?;
                }
                self.gateway.lanes.looked_at(lane);
            }
        }
        Ok(())
    }

    /// A request ends that was with a leader.
    pub(crate) fn finish(&mut self, ticket: &Ticket, outcome: ClientOutcome) {
        let effect = matches!(outcome, ClientOutcome::Done(_) | ClientOutcome::Unknown(_));
        self.gateway.lanes.ended(ticket, effect);
        self.reply(ticket.id, outcome);
    }

    pub(crate) fn reply(&mut self, id: RequestId, outcome: ClientOutcome) {
        self.gateway.under_way = self.gateway.under_way.saturating_sub(1);
        if SchedulerWorker::is_attempt(id) {
            self.scheduler_worker.attempt_ended(id, outcome);
        } else {
            self.out.replies.push((id, outcome));
        }
    }

    /// A peer forwards a request.
    pub(crate) fn forwarded(
        &mut self,
        times: Times,
        from: StoreId,
        request: Request,
    ) -> Result<(), StoreError> {
        let waiter = Waiter::Peer {
            store: from,
            id: request.id,
        };
        let Some(at) = self.router.replica_of(request.shard) else {
            let leader = self.router.told(request.shard).and_then(|info| info.leader);
            self.answer(waiter, Outcome::NotLeader { leader });
            return Ok(());
        };
        let replica = &self.replicas[at];
        if request.epoch.version != replica.descriptor.epoch.version && replica.is_initialized() {
            let outcome = self.stale(at, kv::slot_of_body(&request.body));
            self.answer(waiter, outcome);
            return Ok(());
        }
        if !replica.serves() || replica.raft.transferring_to().is_some() {
            let leader = if replica.is_leader() {
                None
            } else {
                replica.leader_store()
            };
            self.answer(waiter, Outcome::NotLeader { leader });
            return Ok(());
        }
        let deadline_us = times.mono_us.saturating_add(u64::from(request.timeout_ms) * 1000);
        self.lead(
            times,
            at,
            waiter,
            deadline_us,
            request.in_order,
            request.body,
            request.session,
            None,
        )
    }

    /// A peer answers what this node forwarded.
    pub(crate) fn answered(&mut self, from: StoreId, response: Response) {
        // An answer that came after the deadline has nobody left to hear it.
        let Some(forward) = self.gateway.forwards.remove(&response.id) else {
            return;
        };
        debug_assert_eq!(forward.to, from, "answers come from where the request went");
        self.attempt_ended(forward.routed, from, response.outcome);
    }

    pub(crate) fn peer_down(&mut self, store: StoreId) {
        self.peers.down(store);
        for forward in self.take_forwards(|forward| forward.to == store) {
            // A write may have been proposed.
            self.attempt_ended(
                forward.routed,
                store,
                Outcome::Unknown(UnknownReason::ConnectionLost),
            );
        }
        for replica in &mut self.replicas {
            if let Some(peer) = replica.descriptor.replica_on(store) {
                replica.raft.report_unreachable(peer);
            }
        }
    }

    fn take_forwards(&mut self, which: impl Fn(&Forward) -> bool) -> Vec<Forward> {
        let forwards = &mut self.gateway.forwards;
        let ids: Vec<u64> = forwards
            .iter()
            .filter(|(_, forward)| which(forward))
            .map(|(id, _)| *id)
            .collect();
        ids.iter().filter_map(|id| forwards.remove(id)).collect()
    }

    /// Ends every waiting request that matches.
    fn end_waiting(&mut self, which: impl Fn(&Routed) -> bool, refusal: impl Fn(&Self, &Routed) -> Refusal) {
        for lane in self.gateway.lanes.crowded() {
            for routed in self.gateway.lanes.extract(lane, &which) {
                let refusal = refusal(self, &routed);
                self.end_waiting_one(&routed, refusal);
            }
        }
    }

    /// See [`Store::abandon`].
    pub(crate) fn abandon_forwards(&mut self) {
        self.end_waiting(|_| true, |_, _| Refusal::ShuttingDown);
        for forward in self.take_forwards(|_| true) {
            let ticket = forward.routed.ticket();
            let outcome = if ticket.write {
                ClientOutcome::Unknown(UnknownReason::ShuttingDown)
            } else {
                ClientOutcome::NotApplied(Refusal::ShuttingDown)
            };
            self.conclude(&forward.routed, outcome);
        }
    }

    /// A leader of the shard is known: sends what waited for it, and what is still with another store, which may
    /// never answer.
    pub(crate) fn unpark(&mut self, shard: ShardId) {
        let leader = match self.router.replica_of(shard) {
            Some(at) => self.replicas[at].leader_store(),
            None => self.router.told(shard).and_then(|info| info.leader),
        };
        let elsewhere = |forward: &Forward| forward.shard == shard && Some(forward.to) != leader;
        for forward in self.take_forwards(elsewhere) {
            let outcome = Outcome::Unknown(UnknownReason::LeaderChanged);
            self.attempt_ended(forward.routed, forward.to, outcome);
        }
        for lane in self.gateway.lanes.crowded() {
            let waits = self
                .gateway
                .lanes
                .first(lane)
                .is_some_and(|first| self.shard_of(first.request.target) == Some(shard));
            if waits {
                self.gateway.lanes.release(lane);
            }
        }
    }

    /// Why a request that waited is late.
    fn why_late(&self, routed: &Routed) -> Refusal {
        match self.router.place_of(routed.request.target) {
            None => Refusal::NoShard,
            Some(Place::Here(at)) if self.replicas[at].raft.leader().is_some() => Refusal::Behind,
            Some(Place::Here(at)) => Refusal::NoLeader(self.replicas[at].descriptor.shard),
            Some(Place::Elsewhere(shard)) => Refusal::NoLeader(shard),
        }
    }

    /// Answers what has reached its deadline and tries again what waits for a leader.
    pub(crate) fn gateway_tick(&mut self, times: Times) {
        for forward in self.take_forwards(|forward| Self::times_out(forward.routed.deadline_us, times)) {
            let ticket = forward.routed.ticket();
            let outcome = if ticket.write {
                ClientOutcome::Unknown(UnknownReason::Timeout)
            } else {
                ClientOutcome::NotApplied(Refusal::NoLeader(forward.shard))
            };
            self.conclude(&forward.routed, outcome);
        }
        if self.shutting_down {
            self.end_waiting(|_| true, |_, _| Refusal::ShuttingDown);
        } else {
            self.end_waiting(
                |routed| Self::times_out(routed.deadline_us, times),
                Self::why_late,
            );
        }
        for lane in self.gateway.lanes.crowded() {
            self.gateway.lanes.release(lane);
        }
    }
}
