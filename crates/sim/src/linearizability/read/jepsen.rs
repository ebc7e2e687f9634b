//! Jepsen's log of one etcd register: an event a line, its fields divided by blanks.
//!
//! ```text
//! INFO  jepsen.util - 2    :invoke :cas    [3 0]
//! INFO  jepsen.util - 2    :info   :cas    :timed-out
//! ```

use super::events::{End, Events};
use super::{ModelKind, Reader, RecordedHistory};
use crate::linearizability::history::{Answer, Command};

#[derive(Default)]
pub(super) struct JepsenReader {
    events: Events,
}

impl Reader for JepsenReader {
    fn line(&mut self, number: u64, line: &str) -> Result<(), String> {
        let (_, event) = line
            .split_once("jepsen.util - ")
            .ok_or("a line must be INFO  jepsen.util - PROCESS TYPE OPERATION VALUE")?;
        let words: Vec<&str> = event.split_whitespace().collect();
        let [process, kind, f, value @ ..] = words.as_slice() else {
            return Err("an event needs a process, a type and an operation".into());
        };
        let process = process
            .parse()
            .map_err(|_| format!("{process} is no process number"))?;
        let value = value.join(" ");
        if *kind == ":invoke" {
            let command = match *f {
                ":read" => Command::Get,
                ":write" => Command::put(integer(&value)?),
                ":cas" => {
                    let pair = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
                    let (old, new) = pair
                        .and_then(|pair| pair.split_once(' '))
                        .ok_or_else(|| format!("a :cas needs [old new], not {value}"))?;
                    Command::cas(integer(old)?, integer(new)?)
                }
                _ => return Err(format!("unknown operation {f}; known are :read, :write and :cas")),
            };
            return self.events.invoke(number, process, f, "register".into(), command);
        }
        let end = match (*kind, *f) {
            (":ok", ":read") if value == "nil" => End::Done(Answer::Value(None)),
            (":ok", ":read") => End::Done(Answer::Value(Some(integer(&value)?.into()))),
            (":ok", ":cas") => End::Done(Answer::Bool(true)),
            (":ok", _) => End::Done(Answer::Done),
            // It was compared, and differed.
            (":fail", ":cas") if value != ":timed-out" => End::Done(Answer::Bool(false)),
            (":fail", _) => End::NotApplied,
            (":info", _) => End::Unknown,
            _ => {
                return Err(format!(
                    "unknown type {kind}; known are :invoke, :ok, :fail and :info"
                ));
            }
        };
        self.events.end(number, process, f, end)
    }

    fn end(self: Box<Self>) -> Result<RecordedHistory, String> {
        Ok(RecordedHistory {
            history: self.events.history,
            model: ModelKind::Register,
        })
    }
}

fn integer(text: &str) -> Result<String, String> {
    let number: i64 = text.parse().map_err(|_| format!("{text} is no 64-bit integer"))?;
    Ok(number.to_string())
}
