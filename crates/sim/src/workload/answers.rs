//! Answers: each is due once and in time, and is judged by its key's history.

use quorate_proto::Answer;
use quorate_raft::{Entry, Index};
use quorate_storage::ShardId;
use quorate_store::{ClientOutcome, RequestId};

use super::key::{Kind, Use};
use super::sessions::{Once, Turn};
use super::{Answered, Asker, Pending, Workload, node_of};
use crate::judge::{LINEARIZABLE, OUTCOME, Seen};
use crate::linearizability::{History, Verdict};
use crate::oracle::Violation;
use crate::witness::Witness;

impl Workload {
    /// A node takes a request now, by its own clock.
    pub(crate) fn taken(&mut self, id: RequestId, mono_us: u64) {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.deadline_us = Some(mono_us + u64::from(pending.timeout_ms) * 1000);
        }
    }

    /// A tick passed on a node: whatever was due a tick before must have been answered.
    pub(crate) fn ticked(&self, node: usize, mono_us: u64, tick_us: u64) -> Result<(), Violation> {
        let hangs = |p: &&Pending| p.node == node && p.deadline_us.is_some_and(|due| due + tick_us < mono_us);
        match self.pending.values().find(hangs) {
            None => Ok(()),
            Some(pending) => {
                let detail = format!(
                    "node {} has not answered {:?}, whose deadline passed {} us ago",
                    node + 1,
                    pending.kind,
                    mono_us - pending.deadline_us.unwrap_or_default()
                );
                Err(Violation::new(
                    "every request is answered by its deadline",
                    detail,
                ))
            }
        }
    }

    /// An answer.
    pub(crate) fn answered(
        &mut self,
        now_us: u64,
        node: usize,
        id: RequestId,
        outcome: &ClientOutcome,
    ) -> Result<Answered, Violation> {
        let Some(pending) = self.pending.remove(&id).filter(|pending| pending.node == node) else {
            let detail = format!(
                "node {} answers request {} again, or one that it never got",
                node + 1,
                id.0
            );
            return Err(Violation::new("every request is answered once", detail));
        };
        if let (Asker::Client(client) | Asker::Burst { client, .. }, ClientOutcome::Redirect { leader }) =
            (pending.asker, outcome)
        {
            self.clients[client].node = node_of(*leader);
        }
        let pending = match self.attempt_ended(id, pending, outcome)? {
            Turn::Ends(pending) => pending,
            Turn::Goes(answered) => return Ok(answered),
        };
        let outcome = pending.instead.as_ref().unwrap_or(outcome);
        self.recorder.answered(now_us, id, outcome);
        let asker = pending.asker;
        let ok = self
            .judge(now_us, id, &pending, outcome)
            .map_err(|violation| self.about(&pending, violation))?;
        Ok(Answered { asker, ok })
    }

    fn about(&self, pending: &Pending, violation: Violation) -> Violation {
        let key = &self.keys[pending.key];
        let name = String::from_utf8_lossy(&key.name);
        let detail = format!(
            "key {name} of shard {}, {:?} through node {}: {}",
            key.shard,
            pending.kind,
            pending.node + 1,
            violation.detail
        );
        Violation::new(violation.property, detail)
    }

    fn judge(
        &mut self,
        now_us: u64,
        id: RequestId,
        pending: &Pending,
        outcome: &ClientOutcome,
    ) -> Result<bool, Violation> {
        let is_write = !matches!(
            pending.kind,
            Kind::ReadList { .. } | Kind::ReadCounter { .. } | Kind::ReadRegister | Kind::OtherRead
        );
        match outcome {
            ClientOutcome::Done(answer) => {
                *(if is_write {
                    &mut self.outcomes.writes_done
                } else {
                    &mut self.outcomes.reads_done
                }) += 1;
                self.done(now_us, pending, answer)?;
                let in_order = pending.once.as_ref().is_none_or(Once::is_first);
                let seen = seen(pending.kind, answer).filter(|seen| seen.made || !self.stale_reads);
                if let Some(seen) = seen.filter(|_| in_order) {
                    let order = &mut self.keys[pending.key].order;
                    order.answered(pending.stream, id, seen)?;
                }
                Ok(true)
            }
            ClientOutcome::Redirect { .. } => {
                self.outcomes.redirected += 1;
                self.refused(pending).map(|()| false)
            }
            ClientOutcome::NotApplied(_) => {
                self.outcomes.refused += 1;
                self.refused(pending).map(|()| false)
            }
            ClientOutcome::Unknown(_) => {
                self.outcomes.unknown += 1;
                Ok(false)
            }
        }
    }

    fn done(&mut self, now_us: u64, pending: &Pending, answer: &Answer) -> Result<(), Violation> {
        let begun_us = pending.begun_us;
        match (&mut self.keys[pending.key].history, pending.kind, answer) {
            (Use::List(list), Kind::Append(token), Answer::Int(bytes)) => list.appended(token, *bytes),
            (Use::List(list), Kind::ReadList { floor }, Answer::Bulk(content)) => list.read(floor, content),
            (Use::List(list), Kind::ReadList { floor }, Answer::Nil) => list.read(floor, &[]),
            (Use::Counter(counter), Kind::Increment { floor }, Answer::Int(value)) => {
                counter.incremented(floor, *value)
            }
            (Use::Counter(counter), Kind::ReadCounter { floor }, Answer::Bulk(digits)) => {
                let value = std::str::from_utf8(digits)
                    .ok()
                    .and_then(|text| text.parse().ok());
                counter.read(floor, value.unwrap_or(i64::MAX))
            }
            (Use::Counter(counter), Kind::ReadCounter { floor }, Answer::Nil) => counter.read(floor, 0),
            (Use::Register(register), Kind::Set(value), Answer::Ok) => {
                register.set(begun_us, now_us, value);
                Ok(())
            }
            (Use::Register(register), Kind::Delete, Answer::Int(_)) => {
                register.deleted(begun_us, now_us);
                Ok(())
            }
            (Use::Register(register), Kind::ReadRegister, Answer::Nil) => {
                register.read(begun_us, now_us, None)
            }
            (Use::Register(register), Kind::ReadRegister, Answer::Bulk(value)) => {
                let value = value
                    .as_ref()
                    .try_into()
                    .map(u32::from_be_bytes)
                    .unwrap_or(u32::MAX);
                register.read(begun_us, now_us, Some(value))
            }
            (_, Kind::Other | Kind::OtherRead, _) => Ok(()),
            (_, _, answer) => Err(Violation::new(
                LINEARIZABLE,
                format!("such an answer cannot be: {answer:?}"),
            )),
        }
    }

    fn refused(&mut self, pending: &Pending) -> Result<(), Violation> {
        match (&mut self.keys[pending.key].history, pending.kind) {
            (Use::List(list), Kind::Append(token)) => list.refused(token),
            (Use::Counter(counter), Kind::Increment { .. }) => counter.refused(),
            (Use::Register(register), Kind::Set(value)) => register.refused(value),
            _ => Ok(()),
        }
    }

    /// A node died: its clients do not know what became of their requests. Returns who asked.
    pub(crate) fn lost(&mut self, node: usize) -> Vec<Asker> {
        let lost: Vec<RequestId> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.node == node)
            .map(|(id, _)| *id)
            .collect();
        let mut askers = Vec::new();
        for id in lost {
            if let Some(pending) = self.pending.remove(&id) {
                askers.push(pending.asker);
                self.outcomes.unknown += u64::from(!self.attempt_lost(id, pending));
            }
        }
        askers
    }

    pub(crate) fn under_way(&self) -> usize {
        self.pending.len()
    }

    /// An entry was applied for the first time by any replica.
    pub(crate) fn applied(&mut self, now_us: u64, shard: ShardId, entry: &Entry) {
        self.recorder.applied(now_us, shard, entry);
    }

    /// A leader has applied this much.
    pub(crate) fn led(&mut self, now_us: u64, shard: ShardId, applied: Index) {
        self.recorder.led(now_us, shard, applied);
    }

    /// What the logs tell about writes.
    pub(crate) fn witness(&self) -> &Witness {
        self.recorder.witness()
    }

    /// What the clients saw so far.
    pub(crate) fn history(&self) -> History {
        self.recorder.history()
    }

    /// The same, for the last time.
    pub(crate) fn take_history(&mut self) -> History {
        self.recorder.take()
    }

    /// Judges every key's whole history.
    pub(crate) fn end(&mut self) -> Result<(), Violation> {
        for key in &self.keys {
            let result = match &key.history {
                Use::List(list) => list.end(),
                Use::Counter(counter) => counter.end(),
                Use::Register(_) | Use::Mixed => Ok(()),
            };
            result.map_err(|violation| {
                let name = String::from_utf8_lossy(&key.name);
                Violation::new(
                    violation.property,
                    format!("key {name} of shard {}: {}", key.shard, violation.detail),
                )
            })?;
        }
        if !self.pending.is_empty() {
            return Err(Violation::new(OUTCOME, "requests are left".into()));
        }
        match self.recorder.verdict() {
            Verdict::Linearizable => {}
            Verdict::NotLinearizable(explanation) => {
                return Err(Violation::new(LINEARIZABLE, explanation.to_string()));
            }
            Verdict::Unknown(_) => self.outcomes.unjudged += 1,
        }
        Ok(())
    }
}

/// The version of its key that an operation saw or made, if the kind of key has versions.
fn seen(kind: Kind, answer: &Answer) -> Option<Seen> {
    let (version, made) = match (kind, answer) {
        (Kind::Append(_) | Kind::Increment { .. }, Answer::Int(version)) => (*version, true),
        (Kind::ReadList { .. }, Answer::Bulk(content)) => (content.len() as i64, false),
        (Kind::ReadCounter { .. }, Answer::Bulk(digits)) => {
            (std::str::from_utf8(digits).ok()?.parse().ok()?, false)
        }
        (Kind::ReadList { .. } | Kind::ReadCounter { .. }, Answer::Nil) => (0, false),
        _ => return None,
    };
    Some(Seen { version, made })
}
