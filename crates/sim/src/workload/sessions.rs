//! Clients with sessions: they send a write again until they know what became of it, and now and then one that has
//! its answer, to see that it does not run again (rules S). Instead of sending it again they sometimes ask whether it
//! ran, and believe what they are told.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use quorate_proto::{Answer, ForwardBody, Op, Session, UnknownReason};
use quorate_store::kv::{self, sessions::session_id};
use quorate_store::{ClientOutcome, ClientRequest, Refusal, RequestId};

use super::{Answered, Asker, Issued, Pending, Workload};
use crate::clock::WALL_START_MS;
use crate::oracle::Violation;
use crate::rng::Rng;

/// Attempts at a write after which its client gives up.
const ATTEMPTS_MAX: u32 = 12;
/// One in so many writes that have their answer is sent once more.
const PROBED: u64 = 6;
/// Instead of one in so many repeats, the client asks what became of the write.
const ASKED: u64 = 3;
/// One in so many writes begins another session.
const REOPENED: u64 = 30;

const SESSION: &str = "a session's write runs once and keeps its answer";

/// A client's session, and what it has to send again.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    /// Of its own, so that sessions move nothing else.
    rng: Rng,
    client: u128,
    last_seq: u64,
    /// Numbers whose answers it may still ask for.
    wanted: BTreeSet<u64>,
    again: VecDeque<(RequestId, Pending)>,
}

/// The session's part of a request.
#[derive(Clone, Debug)]
pub(super) struct Once {
    session: Session,
    body: ForwardBody,
    attempts: u32,
    /// An attempt may have taken effect.
    unsure: bool,
    /// This attempt asks whether an earlier one ran.
    is_status: bool,
    /// Such an attempt was made.
    asked: bool,
    probe: Option<Probe>,
}

/// What is sent although its client has its answer.
#[derive(Clone, Debug)]
enum Probe {
    /// The same write: it gets this answer, or none.
    Same(Answer),
    /// Another write under the same identity, which never runs.
    Other,
    /// The same write by a client that says it does not want the answer: it never runs.
    Acknowledged,
    /// The same write, which was settled as one that never runs.
    Settled,
}

impl Once {
    pub(super) fn session(&self) -> Session {
        self.session
    }

    /// Whether it was sent once only, so that its place among others is known.
    pub(super) fn is_first(&self) -> bool {
        self.attempts == 1
    }
}

impl Sessions {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            client: 0,
            last_seq: 0,
            wanted: BTreeSet::new(),
            again: VecDeque::new(),
        }
    }

    /// An identity for a new write.
    pub(super) fn assign(&mut self, now_us: u64, body: &ForwardBody) -> Once {
        if self.last_seq == 0 || self.rng.one_in(REOPENED) {
            let random = u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64());
            self.client = session_id(WALL_START_MS as u64 + now_us / 1000, random);
            self.last_seq = 0;
            self.wanted.clear();
        }
        self.last_seq += 1;
        self.wanted.insert(self.last_seq);
        let session = Session {
            client: self.client,
            seq: self.last_seq,
            lowest: self.wanted.first().copied().unwrap_or_default(),
            position: 0,
        };
        Once {
            session,
            body: body.clone(),
            attempts: 1,
            unsure: false,
            is_status: false,
            asked: false,
            probe: None,
        }
    }

    /// The answer is not wanted any more.
    fn release(&mut self, session: &Session) {
        if session.client == self.client {
            self.wanted.remove(&session.seq);
        }
    }

    /// Whether a write that has its answer is sent once more, and how.
    fn probe(&mut self, answer: &Answer, body: &ForwardBody) -> Option<Probe> {
        if !self.rng.one_in(PROBED) {
            return None;
        }
        // A write on no key is remembered where it ran. A split may send another one elsewhere, where it is new (S4).
        let has_slot = matches!(body, ForwardBody::Write(op) if kv::slot_of_op(op).is_some());
        Some(match self.rng.below(4) {
            0 if has_slot => Probe::Other,
            1 => Probe::Acknowledged,
            _ => Probe::Same(answer.clone()),
        })
    }
}

impl Once {
    /// Makes it what a probe sends. `key`: of the same slot, or a split would part it from the session's row.
    fn become_probe(&mut self, probe: Probe, key: Bytes) {
        match (&probe, &mut self.body) {
            (Probe::Same(_) | Probe::Settled, _) | (_, ForwardBody::Read(_) | ForwardBody::Manage(_)) => {}
            (Probe::Acknowledged, _) => self.session.lowest = self.session.seq + 1,
            (Probe::Other, ForwardBody::Write(op)) => {
                *op = Op::Append {
                    key,
                    value: Bytes::from_static(b"never"),
                };
            }
        }
        self.is_status = false;
        self.probe = Some(probe);
    }

    /// Judges what a probe got.
    fn judge(&self, outcome: &ClientOutcome) -> Result<(), Violation> {
        let fits = match (&self.probe, outcome) {
            (Some(Probe::Same(first)), ClientOutcome::Done(answer)) => first == answer,
            (Some(Probe::Other | Probe::Acknowledged | Probe::Settled), ClientOutcome::Done(_))
            | (Some(Probe::Same(_)) | None, ClientOutcome::NotApplied(Refusal::OtherCommand)) => false,
            (_, ClientOutcome::NotApplied(Refusal::NeverRuns)) => self.asked,
            _ => true,
        };
        if fits {
            return Ok(());
        }
        let detail = format!(
            "session {:032x} seq {}, {:?}: {:?} ends with {outcome:?}",
            self.session.client, self.session.seq, self.probe, self.body
        );
        Err(Violation::new(SESSION, detail))
    }
}

/// What follows for a session's write from how an attempt ended.
pub(super) enum Turn {
    /// This is how it ended.
    Ends(Box<Pending>),
    /// It is sent again, or was a probe.
    Goes(Answered),
}

impl Workload {
    /// An attempt of a request ended; one without a session always ends with it.
    pub(super) fn attempt_ended(
        &mut self,
        id: RequestId,
        mut pending: Pending,
        outcome: &ClientOutcome,
    ) -> Result<Turn, Violation> {
        let (Asker::Client(client) | Asker::Burst { client, .. }, Some(once)) =
            (pending.asker, &mut pending.once)
        else {
            return Ok(Turn::Ends(Box::new(pending)));
        };
        once.judge(outcome)?;
        let goes = Turn::Goes(Answered {
            asker: pending.asker,
            ok: false,
        });
        let Some(sessions) = &mut self.clients[client].sessions else {
            return Ok(Turn::Ends(Box::new(pending)));
        };
        if once.probe.is_some() {
            self.outcomes.probes += 1;
            sessions.release(&once.session);
            return Ok(goes);
        }
        let never = ClientOutcome::NotApplied(Refusal::NeverRuns);
        if *outcome == never || once.is_status && *outcome == ClientOutcome::Done(Answer::NeverRuns) {
            self.outcomes.settled += 1;
            if sessions.rng.one_in(2) {
                let mut again = pending.clone();
                if let Some(once) = &mut again.once {
                    // It is the same command: no other key.
                    once.become_probe(Probe::Settled, Bytes::new());
                }
                sessions.again.push_back((id, again));
            } else {
                sessions.release(&once.session);
            }
            pending.instead = Some(never);
            return Ok(Turn::Ends(Box::new(pending)));
        }
        let is_refused = matches!(
            outcome,
            ClientOutcome::NotApplied(_) | ClientOutcome::Redirect { .. }
        );
        let is_unknown = matches!(outcome, ClientOutcome::Unknown(_));
        once.unsure |= is_unknown;
        let is_forgotten = matches!(outcome, ClientOutcome::Unknown(UnknownReason::Forgotten));
        if is_unknown && !is_forgotten || is_refused && once.unsure {
            if once.attempts < ATTEMPTS_MAX {
                sessions.again.push_back((id, pending));
                return Ok(goes);
            }
            // Whatever the last attempt said, an earlier one may have taken effect.
            pending.instead = Some(ClientOutcome::Unknown(UnknownReason::Timeout));
        } else if let ClientOutcome::Done(answer) = outcome
            && let Some(probe) = sessions.probe(answer, &once.body)
        {
            let mut again = pending.clone();
            if let Some(once) = &mut again.once {
                let tag = &self.keys[pending.key].name;
                let key = [b"{", tag.as_ref(), b"}probe"].concat();
                once.become_probe(probe, key.into());
            }
            sessions.again.push_back((id, again));
            return Ok(Turn::Ends(Box::new(pending)));
        }
        if let Some(once) = &pending.once {
            sessions.release(&once.session);
        }
        Ok(Turn::Ends(Box::new(pending)))
    }

    /// A request was lost with its node. Returns whether it will be sent again.
    pub(super) fn attempt_lost(&mut self, id: RequestId, mut pending: Pending) -> bool {
        let (Asker::Client(client) | Asker::Burst { client, .. }, Some(once)) =
            (pending.asker, &mut pending.once)
        else {
            return false;
        };
        once.unsure = true;
        let again = once.probe.is_none() && once.attempts < ATTEMPTS_MAX;
        if let Some(sessions) = &mut self.clients[client].sessions {
            if again {
                sessions.again.push_back((id, pending));
            } else {
                sessions.release(&once.session);
            }
        }
        again
    }

    /// What a client sends again before it asks for anything new.
    pub(super) fn again(&mut self, client: usize) -> Option<Issued> {
        let state = &mut self.clients[client];
        let (first, mut pending) = state.sessions.as_mut()?.again.pop_front()?;
        state.under_way += 1;
        let (node, mode) = (state.node, state.mode);
        self.next_id += 1;
        let id = RequestId(self.next_id);
        let once = pending.once.as_mut()?;
        once.attempts += 1;
        let sessions = state.sessions.as_mut()?;
        once.is_status = once.unsure && once.probe.is_none() && sessions.rng.one_in(ASKED);
        once.asked |= once.is_status;
        let body = if once.is_status {
            let key = self.keys[pending.key].name.clone();
            ForwardBody::Write(Op::Settle { key })
        } else {
            once.body.clone()
        };
        let request = ClientRequest {
            id,
            stream: (client * self.nodes + node) as u64,
            target: self.keys[pending.key].target,
            body,
            session: Some(once.session),
            mode,
            timeout_ms: pending.timeout_ms,
        };
        pending.asker = Asker::Client(client);
        pending.node = node;
        pending.stream = request.stream;
        pending.deadline_us = None;
        if once.probe.is_none() {
            self.outcomes.repeated += 1;
            self.recorder.again(first, id);
        }
        self.pending.insert(id, pending);
        Some(Issued { node, request })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by seed 900285 of the profile `everything`: a Noop's answer stayed with the left half of a split, where it
    /// had run, and another write in its name went to the right half, where the number was new and it ran.
    #[test]
    fn a_write_on_no_key_is_not_probed_with_another() {
        let mut sessions = Sessions::new(1);
        let mut others = |op: Op| {
            let body = ForwardBody::Write(op);
            let probes = (0..1000).filter_map(|_| sessions.probe(&Answer::Ok, &body));
            probes.filter(|probe| matches!(probe, Probe::Other)).count()
        };
        assert_eq!(others(Op::Noop), 0);
        let key = Bytes::from_static(b"k");
        assert_ne!(others(Op::Persist { key }), 0);
    }
}
