//! One command on its way: where it goes next, and when it has ended.
//!
//! A command is repeated until it has an answer or its deadline is over. A read may be repeated whatever became of an
//! attempt, and so may a write under a session, because it runs at most once. A write without one is repeated only
//! after an attempt that certainly did not run.

use std::time::{Duration, Instant};

use super::backoff::{self, Rng};
use super::routes::{Route, Routes};
use super::verdict::{self, Verdict};
use crate::error::{Error, Reason};
use crate::resp::Reply;

/// Hints are followed at once so often in a row; nodes that go on sending a client to each other do not agree yet.
const HINTS_MAX: u32 = 3;

/// What a command does if it is sent twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    /// Nothing.
    Read,
    /// It runs once, by its session.
    Once,
    /// It may run twice.
    Plain,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Step {
    /// Send it there, and wait for an answer until then.
    Send { route: Route, until: Instant },
    /// The same, under another session: the shard does not take the one that it had, and it certainly did not run.
    Reopen,
    /// Wait until then.
    Sleep(Instant),
    /// It has ended.
    End(Result<Reply, Error>),
}

/// How an attempt ended.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Heard {
    /// A reply.
    Reply(Reply),
    /// It was not sent.
    NotSent(String),
    /// It was sent, or a part of it, and the connection broke.
    Lost(String),
    /// It was sent, and there is no answer yet.
    Silence(Duration),
}

/// A command's state between its attempts.
#[derive(Debug)]
pub(crate) struct Call {
    effect: Effect,
    slot: Option<u16>,
    deadline: Instant,
    /// How long one attempt is waited for while another one may be made.
    attempt_max: Duration,
    failures: u32,
    hints: u32,
    wake_at: Option<Instant>,
    /// The node of the last failure.
    avoid: Option<String>,
    /// An attempt may have taken effect.
    unsure: Option<Reason>,
    /// Why the last attempt failed.
    last: Option<Reason>,
    reopens: bool,
    ended: Option<Result<Reply, Error>>,
}

impl Call {
    pub(crate) fn new(effect: Effect, slot: Option<u16>, deadline: Instant, attempt_max: Duration) -> Self {
        Self {
            effect,
            slot,
            deadline,
            attempt_max,
            failures: 0,
            hints: 0,
            wake_at: None,
            avoid: None,
            unsure: None,
            last: None,
            reopens: false,
            ended: None,
        }
    }

    /// What to do now.
    pub(crate) fn next(&mut self, now: Instant, routes: &mut Routes) -> Step {
        if let Some(ended) = self.ended.take() {
            return Step::End(ended);
        }
        if now >= self.deadline {
            return Step::End(Err(self.given_up()));
        }
        if let Some(at) = self.wake_at.take().filter(|at| now < *at) {
            self.wake_at = Some(at);
            return Step::Sleep(at.min(self.deadline));
        }
        if std::mem::take(&mut self.reopens) {
            return Step::Reopen;
        }
        let Some(route) = routes.route(self.slot, self.avoid.as_deref(), now) else {
            return Step::End(Err(self.given_up()));
        };
        let until = match self.effect {
            Effect::Read | Effect::Once => self.deadline.min(now + self.attempt_max),
            Effect::Plain => self.deadline,
        };
        Step::Send { route, until }
    }

    /// What came of the attempts so far, if there are to be no more.
    pub(crate) fn given_answer(mut self) -> Result<Reply, Error> {
        self.ended.take().unwrap_or_else(|| Err(self.given_up()))
    }

    /// How the attempt that was sent to `route` ended.
    pub(crate) fn heard(
        &mut self,
        heard: Heard,
        route: &Route,
        now: Instant,
        routes: &mut Routes,
        rng: &mut Rng,
    ) {
        let addr = || route.addr.clone();
        match heard {
            Heard::NotSent(why) => {
                routes.failed(&route.addr, now);
                let reason = Reason::NoConnection { addr: addr(), why };
                self.failed(reason, route, now, rng);
            }
            Heard::Lost(why) => {
                routes.failed(&route.addr, now);
                let reason = Reason::ConnectionLost { addr: addr(), why };
                self.unsure(reason, route, now, rng);
            }
            Heard::Silence(waited) => {
                let reason = Reason::Silence { addr: addr(), waited };
                self.unsure(reason, route, now, rng);
            }
            Heard::Reply(reply) => {
                routes.answered(&route.addr);
                self.replied(verdict::of(reply), route, now, routes, rng);
            }
        }
    }

    fn replied(&mut self, verdict: Verdict, route: &Route, now: Instant, routes: &mut Routes, rng: &mut Rng) {
        match verdict {
            Verdict::Done(reply) => self.ended = Some(Ok(reply)),
            Verdict::Refused(error) => self.ended = Some(Err(Error::Refused(error))),
            Verdict::NeverRuns => self.ended = Some(Err(Error::NotApplied(Reason::NeverRuns))),
            Verdict::Moved { slot, addr } => {
                routes.moved(slot, &addr, &route.addr);
                self.avoid = None;
                self.hints += 1;
                self.last = Some(Reason::Server(format!("MOVED {slot} {addr}")));
                if self.hints > HINTS_MAX {
                    self.failures += 1;
                    self.wake_at = Some(now + backoff::wait(self.failures, rng));
                }
            }
            Verdict::NotApplied(reason) => self.failed(reason, route, now, rng),
            Verdict::Unknown(reason) => self.unsure(reason, route, now, rng),
            Verdict::Forgotten | Verdict::SessionFromFuture if self.effect != Effect::Once => {
                // Of a status: the session is not this call's to replace.
                self.ended = Some(Err(self.error(Reason::Forgotten)));
            }
            Verdict::Forgotten if self.unsure.is_some() => {
                self.unsure = Some(Reason::Forgotten);
                self.ended = Some(Err(self.given_up()));
            }
            Verdict::SessionFromFuture if self.unsure.is_some() => self.ended = Some(Err(self.given_up())),
            // No attempt ran: it may have another identity.
            Verdict::Forgotten | Verdict::SessionFromFuture => {
                self.reopens = true;
                self.failed(Reason::Forgotten, route, now, rng);
            }
        }
    }

    /// This attempt did not run.
    fn failed(&mut self, reason: Reason, route: &Route, now: Instant, rng: &mut Rng) {
        self.failures += 1;
        self.hints = 0;
        self.wake_at = Some(now + backoff::wait(self.failures, rng));
        self.avoid = Some(route.addr.clone());
        self.last = Some(reason);
    }

    /// This attempt may have run.
    fn unsure(&mut self, reason: Reason, route: &Route, now: Instant, rng: &mut Rng) {
        if self.effect == Effect::Plain {
            self.ended = Some(Err(Error::Unknown { reason, write: None }));
            return;
        }
        if self.effect == Effect::Once {
            self.unsure = Some(reason.clone());
        }
        self.failed(reason, route, now, rng);
    }

    fn given_up(&mut self) -> Error {
        let reason = self
            .unsure
            .take()
            .map(|reason| Error::Unknown { reason, write: None });
        reason.unwrap_or_else(|| {
            let last = self.last.take().unwrap_or(Reason::NoTime);
            self.error(last)
        })
    }

    fn error(&self, reason: Reason) -> Error {
        match self.effect {
            Effect::Read => Error::Unavailable(reason),
            Effect::Once | Effect::Plain => Error::NotApplied(reason),
        }
    }
}

#[cfg(test)]
mod tests;
