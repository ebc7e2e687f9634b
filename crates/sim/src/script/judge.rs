//! What the clients of a script saw, judged by the linearizability checker (H-06).

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_proto::{ForwardBody, Op};

use super::call::{Ended, Operation};
use crate::judge::LINEARIZABLE;
use crate::linearizability::{self, Budget, History, Outcome, Unit, Verdict, check_kv};
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
        match check_kv(&self.script_history(), &BUDGET) {
            Verdict::Linearizable => Ok(None),
            Verdict::Unknown(why) => Ok(Some(why)),
            Verdict::NotLinearizable(explanation) => {
                Err(Violation::new(LINEARIZABLE, explanation.to_string()))
            }
        }
    }
}

fn history(calls: &[Operation], stale_reads: bool) -> History {
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
    use quorate_proto::{Answer, Query};

    fn call(body: ForwardBody, called_us: u64, ended: Option<Ended>, open_attempts: u64) -> Operation {
        Operation {
            client: ClientId(1),
            body,
            called_us,
            ended: ended.map(|ended| (called_us + 5, ended)),
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
}
