//! What follows when an attempt at a client's request has ended: the answer, or another attempt (rules O).
//!
//! A read, and whatever was certainly not proposed, may be tried again. So may a session's write, whatever became of
//! the attempt, because it runs at most once (O2). From the first attempt on whose outcome is not known, its client
//! must not be told that it was not applied.

use quorate_proto::{Outcome, SessionRefusal, UnknownReason};
use quorate_storage::StoreId;
use quorate_storage::engine::Engine;

use crate::lanes::Routed;
use crate::store::Store;
use crate::{ClientOutcome, Refusal};

impl<E: Engine> Store<E> {
    /// An attempt ended that was under way at `from`.
    pub(crate) fn attempt_ended(&mut self, mut routed: Routed, from: StoreId, outcome: Outcome) {
        let is_write = routed.ticket().write;
        let has_session = is_write && routed.request.session.is_some();
        match outcome {
            Outcome::Done(answer) => self.conclude(&routed, ClientOutcome::Done(answer)),
            // Certainly not proposed: again, at once if there is word of another leader.
            Outcome::NotLeader { leader } => {
                let hint = leader.filter(|leader| *leader != from && *leader != self.id());
                self.gateway.lanes.returned(routed, hint);
            }
            Outcome::StaleEpoch { shards, .. } => {
                self.counters.rerouted += 1;
                for info in shards {
                    self.told(from, info);
                }
                self.reroute(routed);
            }
            Outcome::Busy => self.gateway.lanes.returned(routed, None),
            Outcome::DiskFull if routed.unsure.is_none() => {
                self.conclude(&routed, ClientOutcome::NotApplied(Refusal::DiskFull));
            }
            Outcome::Superseded if is_write && !has_session => {
                self.conclude(&routed, ClientOutcome::NotApplied(Refusal::Superseded));
            }
            Outcome::DiskFull | Outcome::Superseded => self.gateway.lanes.returned(routed, None),
            Outcome::Session(refusal) => self.session_refused(routed, refusal),
            Outcome::Unknown(UnknownReason::Forgotten) if routed.may_change_session() => {
                // This was the only attempt, and it did not run.
                self.change_session(routed, false);
            }
            Outcome::Unknown(UnknownReason::Forgotten) if is_write => {
                // "Forgotten" says that it did not run now; an attempt before this one may have.
                let reason = routed.unsure.unwrap_or(UnknownReason::Forgotten);
                self.conclude(&routed, ClientOutcome::Unknown(reason));
            }
            Outcome::Unknown(reason) if is_write && !has_session => {
                self.conclude(&routed, ClientOutcome::Unknown(reason));
            }
            Outcome::Unknown(reason) => {
                if is_write {
                    routed.unsure = Some(reason);
                }
                self.gateway.lanes.returned(routed, None);
            }
        }
    }

    fn session_refused(&mut self, routed: Routed, refusal: SessionRefusal) {
        match (refusal, routed.unsure) {
            (SessionRefusal::FromFuture, _) if routed.may_change_session() => {
                self.change_session(routed, true);
            }
            (SessionRefusal::FromFuture, Some(reason)) => {
                self.conclude(&routed, ClientOutcome::Unknown(reason));
            }
            (SessionRefusal::FromFuture, None) => {
                self.conclude(&routed, ClientOutcome::NotApplied(Refusal::SessionFromFuture));
            }
            // Nor did any attempt before.
            (SessionRefusal::NeverRuns, _) => {
                self.conclude(&routed, ClientOutcome::NotApplied(Refusal::NeverRuns));
            }
            // As long as the other command's answer is kept, no attempt at this one can have run.
            (_, _) => self.conclude(&routed, ClientOutcome::NotApplied(Refusal::OtherCommand)),
        }
    }

    /// The next attempt gets another identity.
    fn change_session(&mut self, mut routed: Routed, from_future: bool) {
        if let (Some(shard), Some(session)) = (routed.own_session.take(), routed.request.session.take()) {
            self.gateway.own.refused(shard, &session, from_future);
        }
        self.gateway.lanes.returned(routed, None);
    }

    /// A request ends that was under way.
    pub(crate) fn conclude(&mut self, routed: &Routed, outcome: ClientOutcome) {
        self.release_session(routed);
        self.finish(&routed.ticket(), outcome);
    }

    /// A request ends that was waiting.
    pub(crate) fn end_waiting_one(&mut self, routed: &Routed, refusal: Refusal) {
        self.release_session(routed);
        let outcome = match routed.unsure {
            Some(reason) => {
                self.gateway.lanes.decided(&routed.ticket());
                ClientOutcome::Unknown(reason)
            }
            None => ClientOutcome::NotApplied(refusal),
        };
        self.reply(routed.request.id, outcome);
    }

    fn release_session(&mut self, routed: &Routed) {
        if let (Some(_), Some(session)) = (routed.own_session, &routed.request.session) {
            self.gateway.own.ended(session);
        }
    }
}
