//! What the clients of a script saw, judged by the linearizability checker (H-06).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_proto::{ForwardBody, Op};

use super::call::{Ended, Operation};
use crate::judge::LINEARIZABLE;
use crate::linearizability::{self, Budget, History, Outcome, Unit, Verdict};
use crate::oracle::Violation;
use crate::record::{Meaning, meaning, told};
use crate::world::World;

/// Steps and bytes only: a verdict must not depend on the machine.
const BUDGET: Budget = Budget {
    steps: 20_000_000,
    bytes: 512 << 20,
    time: None,
};

impl World {
    /// What the clients of the script saw, for the linearizability checker. Keys that were changed by commands
    /// which the checker's model does not know are left out; so is everything if a shard was flushed.
    #[must_use]
    pub fn script_history(&self) -> History {
        history(self.history(), self.plan.leases_may_lie())
    }

    /// Judges what the clients of the script saw so far. Returns why it cannot be judged, if it cannot.
    ///
    /// # Errors
    ///
    /// When it is not linearizable.
    pub fn check_history(&self) -> Result<Option<String>, Violation> {
        match self.workload.witness().judge(&self.script_history(), &BUDGET) {
            Verdict::Linearizable => Ok(None),
            Verdict::Unknown(why) => Ok(Some(why)),
            Verdict::NotLinearizable(explanation) => {
                Err(Violation::new(LINEARIZABLE, explanation.to_string()))
            }
        }
    }
}

/// Calls of the same write under the same identity are one: it began with the first, and ended with the first answer.
/// Other answers stay operations of their own, which cannot all be.
fn merged(calls: &[Operation]) -> Vec<Operation> {
    let mut found: Vec<Operation> = Vec::new();
    let mut places: BTreeMap<(u128, u64, u32), usize> = BTreeMap::new();
    for call in calls {
        let Some(session) = &call.session else {
            found.push(call.clone());
            continue;
        };
        let identity = (session.client, session.seq, session.position);
        let place = *places.entry(identity).or_insert(found.len());
        match found.get_mut(place).filter(|first| first.body == call.body) {
            Some(first) => match (&first.ended, &call.ended) {
                (Some((_, Ended::Done(known))), Some((_, Ended::Done(answer)))) if known != answer => {
                    found.push(call.clone());
                }
                (Some((known_us, Ended::Done(_))), Some((at_us, Ended::Done(_)))) if at_us < known_us => {
                    first.ended = call.ended.clone();
                }
                (Some((_, Ended::Done(_))), _) => {}
                (_, Some((_, Ended::Done(_)))) => first.ended = call.ended.clone(),
                (Some((_, Ended::NotApplied(_))), _) => first.ended = call.ended.clone(),
                _ => {}
            },
            None => found.push(call.clone()),
        }
    }
    found
}

fn history(calls: &[Operation], stale_reads: bool) -> History {
    let calls = &merged(calls);
    let mut beyond: BTreeSet<&Bytes> = BTreeSet::new();
    let mut known = Vec::new();
    let meanings: Vec<Meaning> = calls.iter().map(|call| meaning(&call.body)).collect();
    for (call, meaning) in calls.iter().zip(&meanings) {
        match meaning {
            Meaning::Beyond(keys) => beyond.extend(keys),
            Meaning::Nothing if call.body == ForwardBody::Write(Op::Flush) => {
                return History::new(Unit::Microseconds);
            }
            Meaning::Nothing => {}
            Meaning::Command(key, command) => known.push((call, key, command)),
        }
    }
    let mut history = History::new(Unit::Microseconds);
    for (call, key, command) in known {
        if beyond.contains(key) || (stale_reads && command.is_read()) {
            continue;
        }
        let outcome = match &call.ended {
            Some((at, Ended::Done(answer))) => Outcome::Done {
                at: *at,
                answer: told(&call.body, answer),
            },
            Some((at, Ended::NotApplied(_))) => Outcome::NotApplied { at: *at },
            Some((_, Ended::Unknown(_))) | None => Outcome::Unknown,
        };
        // Without a session each attempt is a write of its own, and those without an answer may all have
        // taken effect.
        let is_unknown = outcome == Outcome::Unknown;
        let lost = call.open_attempts - u64::from(is_unknown && call.open_attempts > 0);
        let operation = linearizability::Operation {
            client: call.client.0 as u64,
            key: key.clone(),
            command: command.clone(),
            invoked: call.called_us,
            outcome,
        };
        for _ in 0..lost {
            history.push(linearizability::Operation {
                outcome: Outcome::Unknown,
                ..operation.clone()
            });
        }
        history.push(operation);
    }
    history
}

#[cfg(test)]
mod tests {
    use super::super::call::ClientId;
    use super::*;
    use crate::linearizability::check_kv;
    use quorate_proto::{Answer, Query};

    fn call(body: ForwardBody, called_us: u64, ended: Option<Ended>, open_attempts: u64) -> Operation {
        Operation {
            client: ClientId(1),
            body,
            called_us,
            ended: ended.map(|ended| (called_us + 5, ended)),
            session: None,
            open_attempts,
        }
    }

    fn append(value: &'static str) -> ForwardBody {
        ForwardBody::Write(Op::Append {
            key: "k".into(),
            value: value.into(),
        })
    }

    #[test]
    fn an_attempt_without_an_answer_may_have_taken_effect_too() {
        let read = |content: &'static str| {
            let get = ForwardBody::Read(Query::Get { key: "k".into() });
            call(get, 100, Some(Ended::Done(Answer::Bulk(content.into()))), 0)
        };
        let verdict = |open, content| {
            let written = call(append("x"), 10, Some(Ended::Done(Answer::Int(2))), open);
            check_kv(&history(&[written, read(content)], false), &BUDGET)
        };
        assert_eq!(verdict(1, "xx"), Verdict::Linearizable);
        assert!(matches!(verdict(0, "xx"), Verdict::NotLinearizable(_)));
        assert!(matches!(verdict(1, "xxx"), Verdict::NotLinearizable(_)));
        let unknown = call(append("x"), 10, Some(Ended::Unknown("late".into())), 1);
        let found = check_kv(&history(&[unknown.clone(), read("x")], false), &BUDGET);
        assert_eq!(found, Verdict::Linearizable);
        let found = check_kv(&history(&[unknown, read("xx")], false), &BUDGET);
        assert!(matches!(found, Verdict::NotLinearizable(_)));
    }

    #[test]
    fn a_flush_makes_everything_unknown() {
        let flush = call(ForwardBody::Write(Op::Flush), 1, Some(Ended::Done(Answer::Ok)), 0);
        let write = call(append("x"), 10, None, 0);
        assert!(history(&[flush, write], false).operations().is_empty());
    }

    #[test]
    fn calls_under_one_identity_are_one_operation_unless_their_answers_differ() {
        let append = || {
            let op = Op::Append {
                key: "k".into(),
                value: "v".into(),
            };
            ForwardBody::Write(op)
        };
        let with = |called_us, ended| Operation {
            session: Some(quorate_proto::Session {
                client: 1,
                seq: 1,
                lowest: 1,
                position: 0,
            }),
            ..call(append(), called_us, ended, 0)
        };
        let done = |length| Some(Ended::Done(Answer::Int(length)));
        let repeated = [
            with(1, Some(Ended::Unknown("lost".into()))),
            with(10, done(1)),
            with(20, done(1)),
            with(30, Some(Ended::NotApplied("busy".into()))),
        ];
        let history = history(&repeated, false);
        assert_eq!(history.operations().len(), 1);
        assert_eq!(history.operations()[0].invoked, 1);
        let ran_twice = [with(1, done(1)), with(10, done(2))];
        assert_eq!(super::history(&ran_twice, false).operations().len(), 2);
    }
}
