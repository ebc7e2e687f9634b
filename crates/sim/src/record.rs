//! What the clients of a simulation asked and were told, as a history that the linearizability checker can judge
//! when all is over.
//!
//! Times are nanoseconds: virtual microseconds, and within one of them the order in which things happened, which
//! is known here. A history says nothing about keys that were changed by a command which the checker's model does
//! not know.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_proto::{Answer, ExpireCondition, ForwardBody, Op, Query, SetCondition, SetExpiry};
use quorate_raft::{Entry, Index};
use quorate_storage::ShardId;
use quorate_store::{ClientOutcome, ClientRequest, RequestId, Target};

use crate::linearizability::{
    self, Budget, Command, Condition, Deadline, History, OperationId, Unit, Verdict,
};
use crate::witness::Witness;

/// What one simulation's history may cost. Steps and bytes only: a verdict must not depend on the machine.
const BUDGET: Budget = Budget {
    steps: 5_000_000,
    bytes: 256 << 20,
    time: None,
};

/// Records while a simulation runs.
#[derive(Debug)]
pub(crate) struct Recorder {
    history: History,
    /// Those that have not ended, with what they asked.
    under_way: BTreeMap<RequestId, (OperationId, ForwardBody)>,
    /// Keys on which the model does not know everything that happened.
    beyond_the_model: BTreeSet<Bytes>,
    stale_reads: bool,
    now_ns: u64,
    witness: Witness,
}

impl Recorder {
    /// With `stale_reads`, reads show nothing about time and are left out.
    pub(crate) fn new(stale_reads: bool) -> Self {
        Self {
            history: History::new(Unit::Nanoseconds),
            under_way: BTreeMap::new(),
            beyond_the_model: BTreeSet::new(),
            stale_reads,
            now_ns: 0,
            witness: Witness::default(),
        }
    }

    fn tick(&mut self, now_us: u64) -> u64 {
        self.now_ns = (self.now_ns + 1).max(now_us * 1000);
        self.now_ns
    }

    /// A client sends a request.
    pub(crate) fn invoked(&mut self, now_us: u64, client: u64, request: &ClientRequest) {
        let is_read = matches!(request.body, ForwardBody::Read(_));
        // Shard 0 is emptied as a whole now and then.
        if !matches!(request.target, Target::Slot(_)) || (is_read && self.stale_reads) {
            return;
        }
        match meaning(&request.body) {
            Meaning::Command(key, command) => {
                let at = self.tick(now_us);
                let id = self.history.invoke(client, key, command, at);
                self.under_way.insert(request.id, (id, request.body.clone()));
            }
            Meaning::Nothing => {}
            Meaning::Beyond(keys) => self.beyond_the_model.extend(keys),
        }
    }

    /// A request is sent once more, under another id: the same operation goes on.
    pub(crate) fn again(&mut self, first: RequestId, id: RequestId) {
        if let Some(operation) = self.under_way.remove(&first) {
            self.under_way.insert(id, operation);
        }
    }

    /// It is answered. What is never answered has an unknown outcome.
    pub(crate) fn answered(&mut self, now_us: u64, id: RequestId, outcome: &ClientOutcome) {
        let Some((id, body)) = self.under_way.remove(&id) else {
            return;
        };
        let at = self.tick(now_us);
        match outcome {
            ClientOutcome::Done(answer) => self.history.done(id, at, told(&body, answer)),
            ClientOutcome::Redirect { .. } | ClientOutcome::NotApplied(_) => self.history.not_applied(id, at),
            ClientOutcome::Unknown(_) => {}
        }
    }

    /// An entry was applied for the first time by any replica.
    pub(crate) fn applied(&mut self, now_us: u64, shard: ShardId, entry: &Entry) {
        let at = self.tick(now_us);
        self.witness.applied(at, shard, entry);
    }

    /// A leader has applied this much.
    pub(crate) fn led(&mut self, now_us: u64, shard: ShardId, applied: Index) {
        let at = self.tick(now_us);
        self.witness.led(at, shard, applied);
    }

    /// What the logs tell.
    pub(crate) fn witness(&self) -> &Witness {
        &self.witness
    }

    /// The history, without the keys that the model does not know enough about.
    pub(crate) fn history(&self) -> History {
        let mut known = History::new(self.history.unit());
        for operation in self.history.operations() {
            if !self.beyond_the_model.contains(&operation.key) {
                known.push(operation.clone());
            }
        }
        known
    }

    /// The same, for the last time.
    pub(crate) fn take(&mut self) -> History {
        if self.beyond_the_model.is_empty() {
            std::mem::take(&mut self.history)
        } else {
            self.history()
        }
    }

    /// Judges it.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.beyond_the_model.is_empty() {
            self.witness.judge(&self.history, &BUDGET)
        } else {
            self.witness.judge(&self.history(), &BUDGET)
        }
    }
}

/// What a request is to the checker's model.
pub(crate) enum Meaning {
    /// An operation on a key.
    Command(Bytes, Command),
    /// It neither changes nor shows anything that the model knows.
    Nothing,
    /// It changes these keys in a way that the model does not know.
    Beyond(Vec<Bytes>),
}

/// What a request means. Flushing a shard is left to the caller, since it has no key.
pub(crate) fn meaning(body: &ForwardBody) -> Meaning {
    let op = match body {
        ForwardBody::Read(Query::Get { key }) => return Meaning::Command(key.clone(), Command::Get),
        ForwardBody::Read(_) | ForwardBody::Manage(_) => return Meaning::Nothing,
        ForwardBody::Write(op) => op,
    };
    let (key, command) = match op {
        Op::Set {
            key,
            value,
            expiry,
            condition,
            get,
        } => {
            let command = Command::Put {
                value: value.clone(),
                condition: match condition {
                    SetCondition::Always => Condition::Always,
                    SetCondition::IfAbsent => Condition::IfAbsent,
                    SetCondition::IfPresent => Condition::IfPresent,
                },
                deadline: deadline(expiry),
                get: *get,
            };
            (key, command)
        }
        Op::CompareAndSet {
            key,
            expected,
            value,
            expiry,
        } => {
            let command = Command::Put {
                value: value.clone(),
                condition: Condition::IfEquals(expected.clone()),
                deadline: deadline(expiry),
                get: false,
            };
            (key, command)
        }
        Op::Append { key, value } => (key, Command::append(value.clone())),
        Op::SetRange { key, offset, value } => {
            let command = Command::SetRange {
                offset: *offset,
                value: value.clone(),
            };
            (key, command)
        }
        Op::Increment { key, delta } => (key, Command::Increment { delta: *delta }),
        Op::GetDelete { key } => (key, Command::GetDelete),
        Op::GetExpire { key, expiry } => {
            let deadline = if expiry.is_some() {
                Deadline::Set
            } else {
                Deadline::Clear
            };
            (key, Command::GetExpire { deadline })
        }
        Op::Delete { key } => (key, Command::Delete),
        Op::Expire {
            key,
            condition: ExpireCondition::Always,
            ..
        } => (key, Command::Expire),
        Op::Persist { key } => (key, Command::Persist),
        Op::SetAllIfAbsent { pairs } => match pairs.as_slice() {
            [(key, value)] => {
                let command = Command::Put {
                    value: value.clone(),
                    condition: Condition::IfAbsent,
                    deadline: Deadline::Clear,
                    get: false,
                };
                (key, command)
            }
            pairs => return Meaning::Beyond(pairs.iter().map(|(key, _)| key.clone()).collect()),
        },
        Op::Expire { key, .. } | Op::IncrementFloat { key, .. } => return Meaning::Beyond(vec![key.clone()]),
        Op::Flush
        | Op::Sweep { .. }
        | Op::ExpireSessions { .. }
        | Op::Noop
        | Op::Settle { .. }
        | Op::Control(_)
        | Op::Split(_) => {
            return Meaning::Nothing;
        }
    };
    Meaning::Command(key.clone(), command)
}

fn deadline(expiry: &SetExpiry) -> Deadline {
    match expiry {
        SetExpiry::Clear => Deadline::Clear,
        SetExpiry::Keep => Deadline::Keep,
        SetExpiry::Set(_) => Deadline::Set,
    }
}

/// What an answer to a request tells.
pub(crate) fn told(body: &ForwardBody, answer: &Answer) -> linearizability::Answer {
    use linearizability::Answer as Told;
    let op = match body {
        ForwardBody::Write(op) => Some(op),
        ForwardBody::Read(_) | ForwardBody::Manage(_) => None,
    };
    match (op, answer) {
        (_, Answer::Error(_)) => Told::Refused,
        (Some(Op::Set { get: false, .. }), Answer::Ok | Answer::Nil) => Told::Bool(*answer == Answer::Ok),
        (_, Answer::Bulk(value)) => Told::Value(Some(value.clone())),
        (_, Answer::Nil) => Told::Value(None),
        (
            Some(Op::Delete { .. } | Op::Expire { .. } | Op::Persist { .. } | Op::SetAllIfAbsent { .. }),
            Answer::Int(n),
        ) => Told::Bool(*n == 1),
        (_, Answer::Int(n)) => Told::Int(*n),
        (_, Answer::Ok | Answer::Page { .. } | Answer::NeverRuns) => Told::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_store::RouteMode;

    fn request(id: u64, body: ForwardBody) -> ClientRequest {
        ClientRequest {
            id: RequestId(id),
            target: Target::Slot(0),
            body,
            session: None,
            stream: 0,
            mode: RouteMode::Proxy,
            timeout_ms: 1,
        }
    }

    fn append(value: &'static str) -> ForwardBody {
        ForwardBody::Write(Op::Append {
            key: "k".into(),
            value: value.into(),
        })
    }

    fn get() -> ForwardBody {
        ForwardBody::Read(Query::Get { key: "k".into() })
    }

    /// Requests one after the other, all in one microsecond: even so their order counts.
    fn verdict(recorder: &mut Recorder, requests: Vec<(ForwardBody, Option<Answer>)>) -> Verdict {
        for (id, (body, answer)) in (0..).zip(requests) {
            recorder.invoked(7, 1, &request(id, body));
            if let Some(answer) = answer {
                recorder.answered(7, RequestId(id), &ClientOutcome::Done(answer));
            }
        }
        recorder.verdict()
    }

    #[test]
    fn what_was_recorded_is_judged() {
        let bulk = |text: &'static str| Some(Answer::Bulk(text.into()));
        let good = vec![
            (append("a"), Some(Answer::Int(1))),
            (append("b"), None),
            (get(), bulk("ab")),
        ];
        assert_eq!(verdict(&mut Recorder::new(false), good), Verdict::Linearizable);
        let stale = || vec![(append("a"), Some(Answer::Int(1))), (get(), Some(Answer::Nil))];
        let found = verdict(&mut Recorder::new(false), stale());
        assert!(matches!(found, Verdict::NotLinearizable(_)), "{found}");
        assert_eq!(
            verdict(&mut Recorder::new(true), stale()),
            Verdict::Linearizable,
            "reads may be stale"
        );
    }

    #[test]
    fn keys_beyond_the_model_are_left_out() {
        let float = ForwardBody::Write(Op::IncrementFloat {
            key: "k".into(),
            delta: 0.5,
        });
        let mut recorder = Recorder::new(false);
        let found = verdict(
            &mut recorder,
            vec![(float, None), (get(), Some(Answer::Bulk("0.5".into())))],
        );
        assert_eq!(found, Verdict::Linearizable);
        assert!(recorder.history().operations().is_empty());
    }
}
