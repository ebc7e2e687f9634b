//! What `bench --history` records: commands whose answers tell much, on few keys that all clients share, and how
//! each of them ended.

use std::io;
use std::path::Path;
use std::time::Instant;

use quorate_sim::linearizability::{
    Answer, Command, Condition, Deadline, History, ModelKind, OperationId, Unit, write_history,
};

use super::plan::Kind;
use crate::client::resp::{self, Reply};
use crate::rng::Rng;

/// One thread's part of the history.
pub(super) struct Recorder {
    epoch: Instant,
    history: History,
}

impl Recorder {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            history: History::new(Unit::Nanoseconds),
        }
    }

    fn at(&self, moment: Instant) -> u64 {
        moment.saturating_duration_since(self.epoch).as_nanos() as u64
    }

    /// Chooses a command and writes down that it is sent now. Every fourth key is a counter.
    pub(super) fn invoke(
        &mut self,
        client: usize,
        (number, key): (u64, &[u8]),
        kind: Kind,
        rng: &mut Rng,
        now: Instant,
    ) -> OperationId {
        // No value is written twice: a read tells which write it saw.
        let value = format!("{client}.{} ", self.history.operations().len());
        let command = match kind {
            Kind::Ping | Kind::Read => Command::Get,
            Kind::Write if number % 4 == 3 => Command::Increment { delta: 1 },
            Kind::Write => match rng.below(16) {
                0..=4 => Command::append(value),
                5 => Command::Delete,
                6 => Command::GetDelete,
                7 => put(value, Condition::IfAbsent, false),
                8 => put(value, Condition::IfPresent, false),
                9 => put(value, Condition::Always, true),
                _ => Command::put(value),
            },
        };
        let at = self.at(now);
        self.history.invoke(client as u64, key.to_vec(), command, at)
    }

    /// Appends the operation's command in RESP.
    pub(super) fn encode(&self, out: &mut Vec<u8>, id: OperationId) {
        let operation = self.history.operation(id);
        let key: &[u8] = &operation.key;
        match &operation.command {
            Command::Get => resp::encode(out, &[b"GET", key]),
            Command::Append { value } => resp::encode(out, &[b"APPEND", key, value]),
            Command::Increment { .. } => resp::encode(out, &[b"INCR", key]),
            Command::Delete => resp::encode(out, &[b"DEL", key]),
            Command::GetDelete => resp::encode(out, &[b"GETDEL", key]),
            Command::Put {
                value,
                condition,
                get,
                ..
            } => {
                let mut words: Vec<&[u8]> = vec![b"SET", key, value];
                match condition {
                    Condition::IfAbsent => words.push(b"NX"),
                    Condition::IfPresent => words.push(b"XX"),
                    Condition::Always | Condition::IfEquals(_) => {}
                }
                if *get {
                    words.push(b"GET");
                }
                resp::encode(out, &words);
            }
            other => unreachable!("{other} is never chosen"),
        }
    }

    /// Writes down an answer. What is never answered has an unknown outcome.
    pub(super) fn ended(&mut self, id: OperationId, reply: &Reply, now: Instant) {
        let at = self.at(now);
        let command = &self.history.operation(id).command;
        match reply {
            Reply::Error(text) => match certainly(text) {
                Some(Certainly::NotApplied) => self.history.not_applied(id, at),
                Some(Certainly::Refused) => self.history.done(id, at, Answer::Refused),
                None => {}
            },
            reply => {
                let answer = answer(command, reply);
                self.history.done(id, at, answer);
            }
        }
    }

    pub(super) fn finish(self) -> History {
        self.history
    }
}

fn put(value: String, condition: Condition, get: bool) -> Command {
    Command::Put {
        value: value.into(),
        condition,
        deadline: Deadline::Clear,
        get,
    }
}

/// What an error tells for certain.
enum Certainly {
    NotApplied,
    Refused,
}

/// See docs/guarantees.md; of other servers' errors little is known.
fn certainly(error: &str) -> Option<Certainly> {
    if error.starts_with("NOTAPPLIED") {
        Some(Certainly::NotApplied)
    } else if error.starts_with("ERR value is not an integer") {
        Some(Certainly::Refused)
    } else {
        None
    }
}

fn answer(command: &Command, reply: &Reply) -> Answer {
    match (command, reply) {
        (Command::Put { get: false, .. }, Reply::Nil) => Answer::Bool(false),
        (Command::Put { get: false, .. }, _) => Answer::Bool(true),
        (Command::Delete, Reply::Int(n)) => Answer::Bool(*n == 1),
        (_, Reply::Int(n)) => Answer::Int(*n),
        (_, Reply::Nil) => Answer::Value(None),
        (_, Reply::Bulk(value)) => Answer::Value(Some(value.clone().into())),
        // Such an answer fits no such command, and no state: the check will say so.
        (_, Reply::Simple(_) | Reply::Error(_) | Reply::Array(_)) => Answer::Refused,
    }
}

/// Puts the threads' parts together, in the order of invocation.
pub(super) fn save(parts: Vec<History>, path: &Path) -> io::Result<usize> {
    let mut operations: Vec<_> = parts
        .iter()
        .flat_map(|part| part.operations().iter().cloned())
        .collect();
    operations.sort_by_key(|operation| operation.invoked);
    let count = operations.len();
    let mut history = History::new(Unit::Nanoseconds);
    for operation in operations {
        history.push(operation);
    }
    let mut out = io::BufWriter::new(std::fs::File::create(path)?);
    write_history(&history, ModelKind::Kv, &mut out)?;
    io::Write::flush(&mut out)?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_sim::linearizability::Outcome;

    #[test]
    fn every_reply_becomes_the_outcome_that_it_tells() {
        let epoch = Instant::now();
        let mut recorder = Recorder::new(epoch);
        let mut rng = Rng::new(1);
        let mut outcome = |kind, number, reply: Option<Reply>| {
            let id = recorder.invoke(1, (number, b"k"), kind, &mut rng, epoch);
            let mut out = Vec::new();
            recorder.encode(&mut out, id);
            assert!(out.starts_with(b"*"));
            if let Some(reply) = reply {
                recorder.ended(id, &reply, epoch);
            }
            recorder.history.operation(id).outcome.clone()
        };
        let done = |answer| Outcome::Done { at: 0, answer };
        let error = |text: &str| Some(Reply::Error(text.to_owned()));
        let value = || Reply::Bulk(b"v".to_vec());
        assert_eq!(
            outcome(Kind::Read, 0, Some(value())),
            done(Answer::Value(Some("v".into())))
        );
        assert_eq!(
            outcome(Kind::Read, 0, Some(Reply::Nil)),
            done(Answer::Value(None))
        );
        assert_eq!(outcome(Kind::Write, 3, Some(Reply::Int(7))), done(Answer::Int(7)));
        let refused = error("ERR value is not an integer or out of range");
        assert_eq!(outcome(Kind::Write, 3, refused), done(Answer::Refused));
        assert_eq!(
            outcome(Kind::Write, 0, error("NOTAPPLIED no leader")),
            Outcome::NotApplied { at: 0 }
        );
        assert_eq!(
            outcome(Kind::Write, 0, error("UNKNOWN deadline")),
            Outcome::Unknown
        );
        assert_eq!(outcome(Kind::Write, 0, error("ERR what")), Outcome::Unknown);
        assert_eq!(outcome(Kind::Read, 0, error("CLUSTERDOWN")), Outcome::Unknown);
        assert_eq!(outcome(Kind::Write, 0, None), Outcome::Unknown);
    }
}
