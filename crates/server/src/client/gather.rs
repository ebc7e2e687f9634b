//! Commands of several requests: what their parts' answers add up to.

use bytes::Bytes;
use quorate_proto::{Answer, ForwardBody, Session, UnknownReason};
use quorate_store::{ClientOutcome, Target};

use super::by_hand::ByHand;
use super::failure::{self, Text};
use super::walk::{Next, Walk};
use super::{ClientContext, redirect};
use crate::resp::{Args, Protocol, Writer};

/// A request of a group.
pub(super) struct Part {
    pub(super) target: Target,
    pub(super) body: ForwardBody,
}

/// What the answers become.
#[derive(Debug)]
pub(super) enum Gather {
    /// OK once all are done (MSET, FLUSHALL).
    AllOk,
    /// The sum (DEL, EXISTS).
    Sum(i64),
    /// An array in the order of the parts (MGET).
    Array(Vec<Answer>),
    /// A state and an answer for each key (ONCE STATUS); none where it is forgotten.
    Statuses(Vec<Option<Answer>>),
    /// A walk over keys, a request at a time (SCAN, KEYS, DBSIZE).
    Walk(Walk),
    /// OK once the shard's leader has taken a wish down, which it is told when the controller has answered (QUORATE
    /// REPLICA ADD, MOVE); none once it is told.
    ByHand(Option<Box<ByHand>>),
}

/// Parts that were not sent yet: a command of very many keys is sent a window at a time.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) args: Args,
    pub(super) next: usize,
    pub(super) parts: usize,
    pub(super) make: MakePart,
}

/// Makes the part at a position out of the arguments.
pub(super) type MakePart = fn(&Args, usize) -> Part;

impl Rest {
    pub(super) fn take(&mut self) -> Option<(usize, Part)> {
        let part = self.next;
        if part >= self.parts {
            return None;
        }
        self.next += 1;
        Some((part, (self.make)(&self.args, part)))
    }
}

/// The worst that happened to a part. Ordered: a later one wins.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Harm {
    /// Certainly not applied.
    Refused,
    /// Another store leads.
    Redirected,
    /// May or may not be applied.
    Unknown,
}

/// The state of a command of several requests.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) protocol: Protocol,
    /// The slot of the first key, for MOVED.
    pub(super) slot: u16,
    pub(super) write: bool,
    /// The identity of the whole (S5), if it came with ONCE.
    pub(super) once: Option<Session>,
    /// Requests under way.
    pub(super) pending: u32,
    pub(super) gather: Gather,
    pub(super) rest: Option<Rest>,
    /// The error to answer, with why and what it was.
    harm: Option<(Harm, &'static str, Bytes)>,
    /// Parts that were done.
    done: u32,
}

impl Group {
    pub(super) fn new(protocol: Protocol, slot: u16, write: bool, gather: Gather) -> Self {
        Group {
            protocol,
            slot,
            write,
            once: None,
            pending: 0,
            gather,
            rest: None,
            harm: None,
            done: 0,
        }
    }

    /// The identity of a part (S5).
    pub(super) fn once_of(&self, part: usize) -> Option<Session> {
        self.once.map(|session| Session {
            position: part as u32,
            ..session
        })
    }

    pub(super) fn finished(&self) -> bool {
        self.pending == 0 && self.rest.as_ref().is_none_or(|rest| rest.next >= rest.parts)
    }

    /// Takes the outcome of a part; returns the request that follows from it and its
    /// position, if one does.
    pub(super) fn take(
        &mut self,
        part: usize,
        outcome: ClientOutcome,
        ctx: &ClientContext<'_>,
    ) -> Option<(usize, Part)> {
        self.pending -= 1;
        if let Gather::Walk(walk) = &mut self.gather {
            match walk.take(outcome, ctx) {
                Next::Request(part) => return Some((0, part)),
                Next::Done => {}
                Next::Failed(text) => self.harm = Some((Harm::Refused, "", failure::keep(text))),
            }
            return None;
        }
        if let Gather::ByHand(wish) = &mut self.gather
            && let Some(wish) = wish.take()
        {
            return match wish.answered(&outcome) {
                Ok(part) => Some((0, part)),
                Err(text) => {
                    self.fail(Harm::Refused, "", text);
                    None
                }
            };
        }
        if let Gather::Statuses(statuses) = &mut self.gather
            && let ClientOutcome::Done(_) | ClientOutcome::Unknown(UnknownReason::Forgotten) = &outcome
        {
            if let ClientOutcome::Done(answer) = outcome {
                statuses[part] = Some(answer);
            }
            return self.rest.as_mut().and_then(Rest::take);
        }
        match outcome {
            ClientOutcome::Done(Answer::Error(error)) => {
                self.fail(Harm::Refused, "a key was refused", error.to_string().into_bytes());
            }
            ClientOutcome::Done(answer) => {
                self.done += 1;
                match (&mut self.gather, answer) {
                    (Gather::Sum(sum), Answer::Int(number)) => *sum += number,
                    (Gather::Array(answers), answer) => answers[part] = answer,
                    _ => {}
                }
            }
            ClientOutcome::Redirect { leader } => {
                let text = redirect(ctx.node, self.slot, leader, self.write);
                self.fail(Harm::Redirected, "another store leads the shard", text);
            }
            ClientOutcome::NotApplied(refusal) if self.write => {
                self.fail(
                    Harm::Refused,
                    "a write was not applied",
                    failure::not_applied(refusal),
                );
            }
            ClientOutcome::Unknown(reason) if self.write => {
                self.fail(Harm::Unknown, "", failure::unknown(reason));
            }
            ClientOutcome::NotApplied(refusal) => self.fail(Harm::Refused, "", failure::not_read(refusal)),
            ClientOutcome::Unknown(reason) => {
                self.fail(
                    Harm::Refused,
                    "",
                    failure::unavailable(failure::unknown_reason(reason)),
                );
            }
        }
        self.rest.as_mut().and_then(Rest::take)
    }

    /// The first failure is answered, unless a later one is of a worse kind.
    fn fail(&mut self, harm: Harm, reason: &'static str, text: Text) {
        if self.harm.as_ref().is_none_or(|(known, ..)| *known < harm) {
            self.harm = Some((harm, reason, failure::keep(text)));
        }
    }

    /// Writes the reply.
    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        if let Some((harm, reason, text)) = &self.harm {
            // "Not applied" and MOVED both invite the client to send the command again, as if nothing of it
            // had happened.
            if self.write && self.done > 0 && *harm != Harm::Unknown {
                writer.error(&failure::partial(reason));
            } else {
                writer.error(text);
            }
            return;
        }
        match &self.gather {
            Gather::AllOk | Gather::ByHand(_) => writer.ok(),
            Gather::Sum(sum) => writer.int(*sum),
            Gather::Array(answers) => {
                writer.array(answers.len());
                for answer in answers {
                    super::reply::Shape::Plain.write(answer, writer);
                }
            }
            Gather::Statuses(statuses) => {
                writer.array(2 * statuses.len());
                for status in statuses {
                    writer.bulk(super::once::state_of(status.as_ref()));
                    match status {
                        None | Some(Answer::NeverRuns) => writer.null(),
                        Some(answer) => super::reply::Shape::Plain.write(answer, writer),
                    }
                }
            }
            Gather::Walk(walk) => walk.write(writer),
        }
    }
}
