//! The way of a client's request: to the local leader, to another store, or back with a refusal.
//!
//! A forward is sent again only if it certainly was not proposed (O1, O2): the receiver said so, or it was
//! never sent. A write whose connection broke, or whose deadline passed after it was sent, is unknown.

use quorate_raft::mutant;
use std::collections::BTreeMap;

use quorate_proto::{ForwardBody, Outcome, PeerMessage, Request, Response, UnknownReason};
use quorate_storage::engine::Engine;
use quorate_storage::{ShardId, StoreId};

use crate::io::Times;
use crate::kv;
use crate::replica::Waiter;
use crate::store::{Store, StoreError};
use crate::{ClientOutcome, ClientRequest, Refusal, RouteMode, Target};

/// A request that was sent to another store.
#[derive(Debug)]
struct Forward {
    to: StoreId,
    shard: ShardId,
    deadline_us: u64,
    request: ClientRequest,
}

/// A request that waits for a leader.
#[derive(Debug)]
struct Parked {
    shard: ShardId,
    deadline_us: u64,
    request: ClientRequest,
}

/// Requests of this node's clients that are not with a local leader.
#[derive(Debug, Default)]
pub(crate) struct Gateway {
    /// Requests of clients that are not answered yet, wherever they are.
    pub(crate) under_way: usize,
    /// The number of the last forward; starts where that of no other process does.
    last_forward: u64,
    forwards: BTreeMap<u64, Forward>,
    parked: Vec<Parked>,
}

impl Gateway {
    /// `process`: answers to what an earlier process of this store forwarded may still come, so that no number
    /// of its may be used again.
    pub(crate) fn new(process: u64) -> Self {
        Self {
            last_forward: if mutant!("forward-numbers-used-again") {
                0
            } else {
                spread(process)
            },
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
        let Some(at) = (match request.target {
            Target::Slot(slot) => self.router.replica_of_slot(slot),
            Target::Shard(shard) => self.router.replica_of(shard),
        }) else {
            self.reply(request.id, ClientOutcome::NotApplied(Refusal::NoShard));
            return Ok(());
        };
        if self.shutting_down && !self.replicas[at].serves() {
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
        let deadline_us = times.mono_us.saturating_add(u64::from(request.timeout_ms) * 1000);
        self.dispatch(times, at, request, deadline_us, None)
    }

    /// Sends a request where it can be served now; parks it if nowhere. `hint`: who leads, by another's word.
    pub(crate) fn dispatch(
        &mut self,
        times: Times,
        at: usize,
        request: ClientRequest,
        deadline_us: u64,
        hint: Option<StoreId>,
    ) -> Result<(), StoreError> {
        let replica = &self.replicas[at];
        let shard = replica.descriptor.shard;
        let outlives = matches!(request.body, ForwardBody::Read(_))
            && replica
                .lease
                .outlives_leadership(self.options.lease_us(), times.mono_us);
        if (replica.serves() && replica.raft.transferring_to().is_none()) || outlives {
            let (id, after_writes) = (request.id, request.after_writes);
            return self.lead(
                times,
                at,
                Waiter::Client(id),
                deadline_us,
                after_writes,
                request.body.clone(),
                request.session,
                Some(request),
            );
        }
        let known = if replica.serves() {
            None
        } else {
            replica.leader_store()
        };
        let leader = hint
            .or(known)
            .filter(|store| *store != self.identity.store && self.peers.is_up(*store));
        match (leader, request.mode) {
            (Some(leader), RouteMode::Redirect) => {
                self.reply(request.id, ClientOutcome::Redirect { leader });
            }
            (Some(to), RouteMode::Proxy) => {
                self.gateway.last_forward = self.gateway.last_forward.wrapping_add(1);
                self.counters.forwards += 1;
                let id = self.gateway.last_forward;
                let timeout_ms = (deadline_us.saturating_sub(times.mono_us) / 1000) as u32;
                self.out.sends.push((
                    to,
                    PeerMessage::Request(Request {
                        id,
                        shard,
                        epoch: replica.descriptor.epoch,
                        timeout_ms,
                        after_writes: request.after_writes,
                        session: request.session,
                        body: request.body.clone(),
                    }),
                ));
                self.gateway.forwards.insert(
                    id,
                    Forward {
                        to,
                        shard,
                        deadline_us,
                        request,
                    },
                );
            }
            (None, _) => self.gateway.parked.push(Parked {
                shard,
                deadline_us,
                request,
            }),
        }
        Ok(())
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
            self.answer(waiter, Outcome::NotLeader { leader: None });
            return Ok(());
        };
        let replica = &self.replicas[at];
        if request.epoch.version != replica.descriptor.epoch.version {
            self.answer(
                waiter,
                Outcome::StaleEpoch {
                    epoch: replica.descriptor.epoch,
                },
            );
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
            request.after_writes,
            request.body,
            request.session,
            None,
        )
    }

    /// A peer answers what this node forwarded.
    pub(crate) fn answered(
        &mut self,
        times: Times,
        from: StoreId,
        response: Response,
    ) -> Result<(), StoreError> {
        // An answer that came after the deadline has nobody left to hear it.
        let Some(forward) = self.gateway.forwards.remove(&response.id) else {
            return Ok(());
        };
        debug_assert_eq!(forward.to, from, "answers come from where the request went");
        let id = forward.request.id;
        let outcome = match response.outcome {
            Outcome::Done(answer) => ClientOutcome::Done(answer),
            Outcome::DiskFull => ClientOutcome::NotApplied(Refusal::DiskFull),
            Outcome::Superseded if matches!(forward.request.body, ForwardBody::Write(_)) => {
                ClientOutcome::NotApplied(Refusal::Superseded)
            }
            Outcome::Unknown(reason) if matches!(forward.request.body, ForwardBody::Write(_)) => {
                ClientOutcome::Unknown(reason)
            }
            Outcome::NotLeader { leader }
                if leader.is_some_and(|leader| leader != from && leader != self.id()) =>
            {
                let Some(at) = self.router.replica_of(forward.shard) else {
                    return Ok(());
                };
                return self.dispatch(times, at, forward.request, forward.deadline_us, leader);
            }
            // Certainly not proposed, or a read: again at the next tick, or when a leader is known.
            _ => {
                self.gateway.parked.push(Parked {
                    shard: forward.shard,
                    deadline_us: forward.deadline_us,
                    request: forward.request,
                });
                return Ok(());
            }
        };
        self.reply(id, outcome);
        Ok(())
    }

    pub(crate) fn peer_down(&mut self, times: Times, store: StoreId) -> Result<(), StoreError> {
        self.peers.down(store);
        let lost: Vec<u64> = self
            .gateway
            .forwards
            .iter()
            .filter(|(_, forward)| forward.to == store)
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            let Some(forward) = self.gateway.forwards.remove(&id) else {
                continue;
            };
            match forward.request.body {
                // O2: it may have been proposed.
                ForwardBody::Write(_) if !mutant!("forward-retried-after-a-break") => {
                    self.reply(
                        forward.request.id,
                        ClientOutcome::Unknown(UnknownReason::ConnectionLost),
                    );
                }
                ForwardBody::Write(_) | ForwardBody::Read(_) => self.gateway.parked.push(Parked {
                    shard: forward.shard,
                    deadline_us: forward.deadline_us,
                    request: forward.request,
                }),
            }
        }
        self.abort_snapshots(store);
        for at in 0..self.replicas.len() {
            if let Some(peer) = self.replicas[at].descriptor.replica_on(store) {
                self.replicas[at].raft.report_unreachable(peer);
            }
        }
        let _ = times;
        Ok(())
    }

    /// See [`Store::abandon`].
    pub(crate) fn abandon_forwards(&mut self) {
        for (_, forward) in std::mem::take(&mut self.gateway.forwards) {
            let outcome = match forward.request.body {
                ForwardBody::Write(_) => ClientOutcome::Unknown(UnknownReason::ShuttingDown),
                ForwardBody::Read(_) => ClientOutcome::NotApplied(Refusal::ShuttingDown),
            };
            self.reply(forward.request.id, outcome);
        }
        for parked in std::mem::take(&mut self.gateway.parked) {
            self.reply(
                parked.request.id,
                ClientOutcome::NotApplied(Refusal::ShuttingDown),
            );
        }
    }

    /// A leader of the shard is known: sends what waited for it.
    pub(crate) fn unpark(&mut self, times: Times, shard: ShardId) -> Result<(), StoreError> {
        if self.gateway.parked.iter().all(|parked| parked.shard != shard) {
            return Ok(());
        }
        let Some(at) = self.router.replica_of(shard) else {
            return Ok(());
        };
        let (now, later) = std::mem::take(&mut self.gateway.parked)
            .into_iter()
            .partition(|p: &Parked| p.shard == shard);
        self.gateway.parked = later;
        for parked in now as Vec<Parked> {
            self.dispatch(times, at, parked.request, parked.deadline_us, None)?;
        }
        Ok(())
    }

    pub(crate) fn park(&mut self, shard: ShardId, deadline_us: u64, request: ClientRequest) {
        self.gateway.parked.push(Parked {
            shard,
            deadline_us,
            request,
        });
    }

    /// Answers what has reached its deadline and tries again what waits for a leader.
    pub(crate) fn gateway_tick(&mut self, times: Times) -> Result<(), StoreError> {
        let late: Vec<u64> = self
            .gateway
            .forwards
            .iter()
            .filter(|(_, forward)| Self::times_out(forward.deadline_us, times))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let Some(forward) = self.gateway.forwards.remove(&id) else {
                continue;
            };
            let outcome = match forward.request.body {
                ForwardBody::Write(_) => ClientOutcome::Unknown(UnknownReason::Timeout),
                ForwardBody::Read(_) => ClientOutcome::NotApplied(Refusal::NoLeader(forward.shard)),
            };
            self.reply(forward.request.id, outcome);
        }
        for parked in std::mem::take(&mut self.gateway.parked) {
            if Self::times_out(parked.deadline_us, times) {
                self.reply(
                    parked.request.id,
                    ClientOutcome::NotApplied(Refusal::NoLeader(parked.shard)),
                );
            } else if self.shutting_down {
                self.reply(
                    parked.request.id,
                    ClientOutcome::NotApplied(Refusal::ShuttingDown),
                );
            } else if let Some(at) = self.router.replica_of(parked.shard) {
                self.dispatch(times, at, parked.request, parked.deadline_us, None)?;
            }
        }
        Ok(())
    }
}
