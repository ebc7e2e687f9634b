//! Asking the controller: any store may, wherever shard 0 is.
//!
//! What is asked is a write on shard 0 under a session of this store's (S6), sent again until it is answered: it happens
//! once, whatever becomes of attempts, leaders and connections. Only if shard 0 forgot the session meanwhile (S3), or
//! this process dies, may it have happened unseen; so a command's second run must do no harm (ids that nobody uses).

use std::collections::BTreeMap;

use quorate_proto::{
    Answer, ControlCommand, ForwardBody, Op, Session, StoreRecord, UnknownReason, decode_stores,
};
use quorate_storage::ShardId;
use quorate_storage::engine::Engine;

use crate::error::StoreError;
use crate::io::{Registration, Times};
use crate::rsm::CONTROLLER;
use crate::store::Store;
use crate::{ClientOutcome, ClientRequest, Refusal, RequestId, RouteMode, Target};

/// Milliseconds that one attempt may take: a message may have been lost on the way.
const ATTEMPT_MS: u32 = 2_000;
/// Ticks after which a store registers again: others may have other addresses by then.
const REGISTER_TICKS: u64 = 600;
/// Attempts have request ids and streams from here on, where no driver's are.
const FIRST_ATTEMPT: u64 = RequestId::DRIVER_MAX.0 + 1;

/// What an answer is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// The driver asked, and is given the answer.
    Driver(RequestId),
    /// Ids for what a split of this shard makes.
    Split(ShardId),
    /// This store registers.
    Registration,
    /// The controller's leader writes down what it has heard.
    Record,
}

/// Something that the controller has been asked and has not answered.
#[derive(Debug)]
struct Ask {
    command: ControlCommand,
    purpose: Purpose,
    session: Session,
    /// Whether an attempt is under way.
    is_under_way: bool,
}

/// What this store has asked the controller.
#[derive(Debug, Default)]
pub(crate) struct SchedulerWorker {
    /// By the request id of the attempts.
    asks: BTreeMap<u64, Ask>,
    asked: u64,
    /// Attempts that ended in this turn.
    ended: Vec<(u64, ClientOutcome)>,
    /// What others are to know of this node, once it is told.
    registration: Option<Registration>,
    /// Whether the controller knows that.
    is_registered: bool,
}

impl SchedulerWorker {
    /// Whether a request is an attempt of this store's own.
    pub(crate) fn is_attempt(id: RequestId) -> bool {
        id > RequestId::DRIVER_MAX
    }

    pub(crate) fn attempt_ended(&mut self, id: RequestId, outcome: ClientOutcome) {
        self.ended.push((id.0, outcome));
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.asks.values().any(|ask| ask.purpose == Purpose::Record)
    }

    pub(crate) fn has_answers(&self) -> bool {
        !self.ended.is_empty()
    }
}

impl<E: Engine> Store<E> {
    /// Asks the controller; the answer comes to [`Store::controller_answered`].
    pub(crate) fn ask_controller(
        &mut self,
        times: Times,
        command: ControlCommand,
        purpose: Purpose,
    ) -> Result<(), StoreError> {
        let worker = &mut self.scheduler_worker;
        let id = FIRST_ATTEMPT + worker.asked;
        worker.asked += 1;
        let session = self.own_session(times);
        let ask = Ask {
            command,
            purpose,
            session,
            is_under_way: false,
        };
        self.scheduler_worker.asks.insert(id, ask);
        self.attempt(times, id)
    }

    fn own_session(&mut self, times: Times) -> Session {
        let here = self.router.replica_of(CONTROLLER);
        let shard_ms = match here {
            Some(at) => self.replicas[at].session_ms(),
            None => self.router.told(CONTROLLER).map_or(0, |info| info.session_ms),
        };
        let reopen_ms = self.options.session_ttl_ms / 4;
        let own = &mut self.gateway.own;
        own.assign(CONTROLLER, times.wall_ms, shard_ms, reopen_ms)
    }

    fn attempt(&mut self, times: Times, id: u64) -> Result<(), StoreError> {
        let Some(ask) = self.scheduler_worker.asks.get_mut(&id) else {
            return Ok(());
        };
        ask.is_under_way = true;
        ask.session.lowest = self.gateway.own.lowest(ask.session.client, ask.session.seq);
        let request = ClientRequest {
            id: RequestId(id),
            stream: id,
            target: Target::Shard(CONTROLLER),
            body: ForwardBody::Write(Op::Control(Box::new(ask.command.clone()))),
            session: Some(ask.session),
            mode: RouteMode::Proxy,
            timeout_ms: ATTEMPT_MS,
        };
        self.client(times, request)
    }

    /// Takes the attempts that ended: an answer ends the asking, all else is asked again at the next tick.
    pub(crate) fn take_controller_answers(&mut self, times: Times) -> Result<(), StoreError> {
        for (id, outcome) in std::mem::take(&mut self.scheduler_worker.ended) {
            let Some(ask) = self.scheduler_worker.asks.get_mut(&id) else {
                continue;
            };
            ask.is_under_way = false;
            let session = ask.session;
            match outcome {
                ClientOutcome::Done(answer) => {
                    self.gateway.own.ended(&session);
                    if let Some(ask) = self.scheduler_worker.asks.remove(&id) {
                        self.controller_answered(times, ask.purpose, answer)?;
                    }
                }
                // The identity is of no more use.
                ClientOutcome::Unknown(UnknownReason::Forgotten)
                | ClientOutcome::NotApplied(Refusal::SessionFromFuture | Refusal::OtherCommand) => {
                    let is_from_future = outcome == ClientOutcome::NotApplied(Refusal::SessionFromFuture);
                    self.gateway.own.refused(CONTROLLER, &session, is_from_future);
                    let session = self.own_session(times);
                    if let Some(ask) = self.scheduler_worker.asks.get_mut(&id) {
                        ask.session = session;
                    }
                }
                ClientOutcome::Redirect { .. } | ClientOutcome::NotApplied(_) | ClientOutcome::Unknown(_) => {
                }
            }
        }
        Ok(())
    }

    /// The controller answers.
    fn controller_answered(
        &mut self,
        times: Times,
        purpose: Purpose,
        answer: Answer,
    ) -> Result<(), StoreError> {
        match purpose {
            Purpose::Driver(id) => {
                self.out.replies.push((id, ClientOutcome::Done(answer)));
                Ok(())
            }
            // What was refused is looked at anew, and asked again if it is still so.
            Purpose::Record => Ok(()),
            Purpose::Split(shard) => self.ids_for_split(times, shard, &answer),
            Purpose::Registration => match answer {
                // P7, X-04: whoever comes under the id of another takes no part.
                Answer::Error(reason) => Err(StoreError::NotAdmitted {
                    store: self.id(),
                    reason,
                }),
                answer => {
                    self.scheduler_worker.is_registered = true;
                    // What a newer controller says may not be understood; the addresses that are known stay.
                    if let Answer::Bulk(stores) = answer {
                        self.out.stores = decode_stores(&stores).ok();
                    }
                    Ok(())
                }
            },
        }
    }

    /// The driver says what others are to know of this node.
    pub(crate) fn register_as(&mut self, times: Times, registration: Registration) -> Result<(), StoreError> {
        self.scheduler_worker.registration = Some(registration);
        self.register(times)
    }

    /// Tells the controller who this store is and where it can be reached.
    fn register(&mut self, times: Times) -> Result<(), StoreError> {
        let Some(registration) = self.scheduler_worker.registration.clone() else {
            return Ok(());
        };
        let Registration {
            client,
            peer,
            http,
            labels,
            roles,
        } = registration;
        let record = StoreRecord {
            store: self.id(),
            incarnation: self.identity.incarnation,
            client,
            peer,
            http,
            labels,
            roles,
        };
        self.ask_controller(times, ControlCommand::Register(record), Purpose::Registration)
    }

    /// Whether the controller has taken down who this store is, since it was opened.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.scheduler_worker.is_registered
    }

    /// Asks again what was not answered. A store that stops asks nothing more: whoever waited waits in vain.
    pub(crate) fn scheduler_tick(&mut self, times: Times) -> Result<(), StoreError> {
        if self.shutting_down {
            self.scheduler_worker.asks.retain(|_, ask| ask.is_under_way);
            return Ok(());
        }
        // Not all stores at the same tick.
        if (self.ticks + self.id().0).is_multiple_of(REGISTER_TICKS) {
            let mut asks = self.scheduler_worker.asks.values();
            if asks.all(|ask| ask.purpose != Purpose::Registration) {
                self.register(times)?;
            }
        }
        let waiting = self.scheduler_worker.asks.iter();
        let waiting: Vec<u64> = waiting
            .filter(|(_, ask)| !ask.is_under_way)
            .map(|(id, _)| *id)
            .collect();
        waiting.into_iter().try_for_each(|id| self.attempt(times, id))
    }
}
