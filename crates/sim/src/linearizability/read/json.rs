//! Quorate's own format, version 1: JSON lines, drawn in `docs/formats-history.md`. A head, a line for each
//! operation in any order, and a last line that counts them: a history that is cut short lacks writes and would
//! be judged wrongly.

use serde_json::{Map, Value};

use super::{ModelKind, Reader, RecordedHistory};
use crate::linearizability::history::{
    Answer, Command, Condition, Deadline, History, Operation, Outcome, Unit,
};
use crate::linearizability::model::not_for_a_register;
use crate::linearizability::write::{FORMAT, VERSION};

#[derive(Default)]
pub(super) struct JsonReader {
    head: Option<(ModelKind, History)>,
    is_complete: bool,
}

impl Reader for JsonReader {
    fn line(&mut self, _: u64, line: &str) -> Result<(), String> {
        let mut fields = Fields::parse(line)?;
        let Some((model, history)) = &mut self.head else {
            self.head = Some(head(fields)?);
            return Ok(());
        };
        if self.is_complete {
            return Err("nothing may follow the line that counts the operations".into());
        }
        if let Some(count) = fields.optional("operations") {
            let real = history.operations().len() as u64;
            if count.as_u64() != Some(real) {
                return Err(format!("\"operations\" is {count}, but there are {real}"));
            }
            self.is_complete = true;
            return fields.end();
        }
        let operation = operation(&mut fields, *model)?;
        fields.end()?;
        if *model == ModelKind::Register
            && let Some(why) = not_for_a_register(&operation)
        {
            return Err(why);
        }
        history.push(operation);
        Ok(())
    }

    fn end(self: Box<Self>) -> Result<RecordedHistory, String> {
        match self.head {
            Some((model, history)) if self.is_complete => Ok(RecordedHistory { history, model }),
            _ => Err("the history is cut short: its last line must be {\"operations\":N}".into()),
        }
    }
}

fn head(mut fields: Fields) -> Result<(ModelKind, History), String> {
    let format = fields.optional("format").unwrap_or_default();
    if format != FORMAT {
        return Err(format!("\"format\" must be \"{FORMAT}\", not {format}"));
    }
    let version = fields.needed("version")?;
    if version != VERSION {
        return Err(format!("version {version}; this program reads version {VERSION}"));
    }
    let model = match fields.text("model")?.as_str() {
        "kv" => ModelKind::Kv,
        "register" => ModelKind::Register,
        other => {
            return Err(format!(
                "\"model\" must be \"kv\" or \"register\", not \"{other}\""
            ));
        }
    };
    let unit = match fields.text("unit")?.as_str() {
        "ns" => Unit::Nanoseconds,
        "us" => Unit::Microseconds,
        "event" => Unit::Events,
        other => {
            return Err(format!(
                "\"unit\" must be \"ns\", \"us\" or \"event\", not \"{other}\""
            ));
        }
    };
    let mut history = History::new(unit);
    if fields.flag("absent_is_empty")? {
        history.set_absent_is_empty();
    }
    fields.end()?;
    Ok((model, history))
}

fn operation(fields: &mut Fields, model: ModelKind) -> Result<Operation, String> {
    let client = fields.number("client")?;
    let key = match model {
        ModelKind::Kv => fields.bytes("key")?,
        // One register needs no name.
        ModelKind::Register => fields.optional("key").map_or_else(|| Ok(Vec::new()), bytes)?,
    };
    let name = fields.text("op")?;
    let command = command(fields, &name)?;
    let invoked = fields.number("call")?;
    let outcome = match fields.text("outcome")?.as_str() {
        "unknown" => Outcome::Unknown,
        "not applied" => Outcome::NotApplied {
            at: fields.number("return")?,
        },
        "refused" => Outcome::Done {
            at: fields.number("return")?,
            answer: Answer::Refused,
        },
        "done" => Outcome::Done {
            at: fields.number("return")?,
            answer: answer(fields, &command)?,
        },
        other => {
            return Err(format!(
                "\"outcome\" must be \"done\", \"refused\", \"not applied\" or \"unknown\", not \"{other}\""
            ));
        }
    };
    let operation = Operation {
        client,
        key: key.into(),
        command,
        invoked,
        outcome,
    };
    match operation.ended() {
        Some(at) if at < invoked => Err(format!("\"return\" is {at}, before \"call\", {invoked}")),
        _ => Ok(operation),
    }
}

fn command(fields: &mut Fields, name: &str) -> Result<Command, String> {
    Ok(match name {
        "get" => Command::Get,
        "put" => Command::Put {
            value: fields.bytes("value")?.into(),
            condition: match fields.optional("if") {
                None => Condition::Always,
                Some(Value::String(text)) if text == "absent" => Condition::IfAbsent,
                Some(Value::String(text)) if text == "present" => Condition::IfPresent,
                Some(other) => return Err(format!("\"if\" must be \"absent\" or \"present\", not {other}")),
            },
            deadline: fields.deadline()?,
            get: fields.flag("get")?,
        },
        "cas" => Command::Put {
            value: fields.bytes("value")?.into(),
            condition: Condition::IfEquals(fields.bytes("old")?.into()),
            deadline: fields.deadline()?,
            get: fields.flag("get")?,
        },
        "append" => Command::append(fields.bytes("value")?),
        "set_range" => Command::SetRange {
            offset: fields.number("offset")?,
            value: fields.bytes("value")?.into(),
        },
        "increment" => Command::Increment {
            delta: fields.integer("by")?,
        },
        "delete" => Command::Delete,
        "get_delete" => Command::GetDelete,
        "expire" => Command::Expire,
        "persist" => Command::Persist,
        "get_expire" => Command::GetExpire {
            deadline: fields.deadline()?,
        },
        other => {
            return Err(format!(
                "unknown \"op\" \"{other}\"; known are get, put, cas, append, set_range, increment, delete, \
                 get_delete, expire, persist and get_expire"
            ));
        }
    })
}

fn answer(fields: &mut Fields, command: &Command) -> Result<Answer, String> {
    let Some(answer) = fields.optional("answer") else {
        if *command == Command::Get {
            return Err("a get that is done needs \"answer\": the value, or null".into());
        }
        return Ok(Answer::Done);
    };
    let wrong = |wanted: &str| {
        Err(format!(
            "\"answer\" to this command must be {wanted}, not {answer}"
        ))
    };
    match command {
        Command::Get | Command::GetDelete | Command::GetExpire { .. } | Command::Put { get: true, .. } => {
            match answer {
                Value::Null => Ok(Answer::Value(None)),
                value => Ok(Answer::Value(Some(bytes(value)?.into()))),
            }
        }
        Command::Put {
            condition: Condition::IfEquals(_),
            get: false,
            ..
        } if answer.is_i64() => match answer.as_i64() {
            Some(swapped @ -1..=1) => Ok(Answer::Int(swapped)),
            _ => wrong("1, 0, -1, true or false"),
        },
        Command::Append { .. } | Command::SetRange { .. } | Command::Increment { .. } => answer
            .as_i64()
            .map_or_else(|| wrong("an integer"), |n| Ok(Answer::Int(n))),
        Command::Put { get: false, .. } | Command::Delete | Command::Expire | Command::Persist => answer
            .as_bool()
            .map_or_else(|| wrong("true or false"), |b| Ok(Answer::Bool(b))),
    }
}

/// The fields of a line that were not used yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(line: &str) -> Result<Self, String> {
        match serde_json::from_str(line) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err("a line must be one JSON object".into()),
            Err(error) => Err(format!("not JSON: {error}")),
        }
    }

    fn optional(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    fn needed(&mut self, name: &str) -> Result<Value, String> {
        self.optional(name)
            .ok_or_else(|| format!("\"{name}\" is missing"))
    }

    fn text(&mut self, name: &str) -> Result<String, String> {
        match self.needed(name)? {
            Value::String(text) => Ok(text),
            other => Err(format!("\"{name}\" must be a string, not {other}")),
        }
    }

    fn number(&mut self, name: &str) -> Result<u64, String> {
        let value = self.needed(name)?;
        value
            .as_u64()
            .ok_or_else(|| format!("\"{name}\" must be a non-negative 64-bit integer, not {value}"))
    }

    fn integer(&mut self, name: &str) -> Result<i64, String> {
        let value = self.needed(name)?;
        value
            .as_i64()
            .ok_or_else(|| format!("\"{name}\" must be a 64-bit integer, not {value}"))
    }

    fn flag(&mut self, name: &str) -> Result<bool, String> {
        match self.optional(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(other) => Err(format!("\"{name}\" must be true or false, not {other}")),
        }
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>, String> {
        let value = self.needed(name)?;
        bytes(value).map_err(|why| format!("\"{name}\": {why}"))
    }

    fn deadline(&mut self) -> Result<Deadline, String> {
        match self.optional("deadline") {
            None => Ok(Deadline::Clear),
            Some(Value::String(text)) if text == "keep" => Ok(Deadline::Keep),
            Some(Value::String(text)) if text == "set" => Ok(Deadline::Set),
            Some(other) => Err(format!("\"deadline\" must be \"keep\" or \"set\", not {other}")),
        }
    }

    /// What is left is a mistake, or of a later version.
    fn end(self: &mut Fields) -> Result<(), String> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("unknown field \"{name}\"")),
        }
    }
}

/// A string, or `{"hex":"00ff"}`.
fn bytes(value: Value) -> Result<Vec<u8>, String> {
    let digits = match &value {
        Value::String(text) => return Ok(text.clone().into_bytes()),
        Value::Object(fields) if fields.len() == 1 => fields.get("hex").and_then(Value::as_str),
        _ => None,
    };
    digits
        .and_then(unhex)
        .ok_or_else(|| format!("a value must be a string or {{\"hex\":\"00ff\"}}, not {value}"))
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}
