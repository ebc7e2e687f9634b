//! A history into a file, in Quorate's own format: `docs/formats-history.md`.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::history::{Answer, Command, Condition, Deadline, History, ModelKind, Operation, Outcome, Unit};

/// What the head calls the format.
pub(super) const FORMAT: &str = "quorate-history";
/// The version that is written and read.
pub(super) const VERSION: u64 = 1;

/// Writes a history: a head, a line for each operation, and the line that counts them.
///
/// # Errors
///
/// Those of `out`.
pub fn write_history(history: &History, model: ModelKind, out: &mut impl Write) -> io::Result<()> {
    let unit = match history.unit() {
        Unit::Nanoseconds => "ns",
        Unit::Microseconds => "us",
        Unit::Events => "event",
    };
    let mut head = Map::new();
    head.insert("format".into(), json!(FORMAT));
    head.insert("version".into(), json!(VERSION));
    head.insert("model".into(), json!(model.name()));
    head.insert("unit".into(), json!(unit));
    if history.absent_is_empty() {
        head.insert("absent_is_empty".into(), json!(true));
    }
    line(out, head)?;
    for operation in history.operations() {
        line(out, fields(operation))?;
    }
    let mut end = Map::new();
    end.insert("operations".into(), json!(history.operations().len()));
    line(out, end)
}

fn line(out: &mut impl Write, fields: Map<String, Value>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &Value::Object(fields))?;
    out.write_all(b"\n")
}

fn fields(operation: &Operation) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.into(), value);
    set("client", json!(operation.client));
    set("key", bytes(&operation.key));
    let name = match &operation.command {
        Command::Get => "get",
        Command::Put {
            value,
            condition,
            deadline,
            get,
        } => {
            set("value", bytes(value));
            if *get {
                set("get", json!(true));
            }
            match deadline {
                Deadline::Clear => None,
                Deadline::Keep => set("deadline", json!("keep")),
                Deadline::Set => set("deadline", json!("set")),
            };
            match condition {
                Condition::Always => "put",
                Condition::IfAbsent => {
                    set("if", json!("absent"));
                    "put"
                }
                Condition::IfPresent => {
                    set("if", json!("present"));
                    "put"
                }
                Condition::IfEquals(old) => {
                    set("old", bytes(old));
                    "cas"
                }
            }
        }
        Command::Append { value } => {
            set("value", bytes(value));
            "append"
        }
        Command::SetRange { offset, value } => {
            set("offset", json!(offset));
            set("value", bytes(value));
            "set_range"
        }
        Command::Increment { delta } => {
            set("by", json!(delta));
            "increment"
        }
        Command::Delete => "delete",
        Command::GetDelete => "get_delete",
        Command::Expire => "expire",
        Command::Persist => "persist",
        Command::GetExpire { deadline } => {
            match deadline {
                Deadline::Clear => None,
                Deadline::Keep => set("deadline", json!("keep")),
                Deadline::Set => set("deadline", json!("set")),
            };
            "get_expire"
        }
    };
    set("op", json!(name));
    set("call", json!(operation.invoked));
    if let Some(ended) = operation.ended() {
        set("return", json!(ended));
    }
    let outcome = match &operation.outcome {
        Outcome::Done { answer, .. } => {
            match answer {
                Answer::Done | Answer::Refused => None,
                Answer::Value(None) => set("answer", Value::Null),
                Answer::Value(Some(value)) => set("answer", bytes(value)),
                Answer::Int(n) => set("answer", json!(n)),
                Answer::Bool(b) => set("answer", json!(b)),
            };
            if *answer == Answer::Refused {
                "refused"
            } else {
                "done"
            }
        }
        Outcome::NotApplied { .. } => "not applied",
        Outcome::Unknown => "unknown",
    };
    set("outcome", json!(outcome));
    fields
}

/// Text as a string, other bytes as `{"hex":"00ff"}`.
fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "hex": digits })
        }
    }
}
