//! Porcupine's test data: an event a line, as a map in EDN. The model is a map from key to string in which a
//! missing key reads as "".
//!
//! ```text
//! {:process 0, :type :invoke, :f :append, :key "4", :value "x 0 1 y"}
//! ```

use super::events::{End, Events};
use super::{ModelKind, Reader, RecordedHistory};
use crate::linearizability::history::{Answer, Command};

#[derive(Default)]
pub(super) struct EdnReader {
    events: Events,
}

impl Reader for EdnReader {
    fn line(&mut self, number: u64, line: &str) -> Result<(), String> {
        let event = Event::parse(line)?;
        let Event {
            process,
            kind,
            f,
            key,
            value,
        } = event;
        if kind == "invoke" {
            let need = || {
                value
                    .clone()
                    .ok_or_else(|| format!("a {f} needs a string as :value"))
            };
            let command = match f.as_str() {
                "get" => Command::Get,
                "put" => Command::put(need()?),
                "append" => Command::append(need()?),
                _ => {
                    return Err(format!(
                        "unknown operation :{f}; known are :get, :put and :append"
                    ));
                }
            };
            return self.events.invoke(number, process, &f, key, command);
        }
        let end = match (kind.as_str(), f.as_str()) {
            ("ok", "get") => {
                let value = value.ok_or("the :ok of a get needs a string as :value")?;
                End::Done(Answer::Value(Some(value.into())))
            }
            ("ok", _) => End::Done(Answer::Done),
            ("fail", _) => End::NotApplied,
            ("info", _) => End::Unknown,
            _ => {
                return Err(format!(
                    "unknown :type :{kind}; known are :invoke, :ok, :fail and :info"
                ));
            }
        };
        self.events.end(number, process, &f, end)
    }

    fn end(mut self: Box<Self>) -> Result<RecordedHistory, String> {
        self.events.history.set_absent_is_empty();
        Ok(RecordedHistory {
            history: self.events.history,
            model: ModelKind::Kv,
        })
    }
}

struct Event {
    process: u64,
    kind: String,
    f: String,
    key: String,
    /// None: `nil`.
    value: Option<String>,
}

enum Token {
    Keyword(String),
    Number(u64),
    Text(String),
    Nil,
}

impl Event {
    fn parse(line: &str) -> Result<Self, String> {
        let inner = line
            .strip_prefix('{')
            .and_then(|line| line.strip_suffix('}'))
            .ok_or("a line must be one map: {:process …, :type …, :f …, :key …, :value …}")?;
        let (mut process, mut kind, mut f, mut key, mut value) = (None, None, None, None, None);
        let mut rest = inner;
        while let Some((name, after)) = token(rest)? {
            let Token::Keyword(name) = name else {
                return Err("a keyword such as :process is missing".into());
            };
            let (item, after) = token(after)?.ok_or_else(|| format!(":{name} has no value"))?;
            rest = after;
            match (name.as_str(), item) {
                ("process", Token::Number(number)) => process = Some(number),
                ("type", Token::Keyword(name)) => kind = Some(name),
                ("f", Token::Keyword(name)) => f = Some(name),
                ("key", Token::Text(text)) => key = Some(text),
                ("value", Token::Text(text)) => value = Some(text),
                ("value", Token::Nil) => value = None,
                ("process", _) => return Err(":process must be a number".into()),
                ("type" | "f", _) => return Err(format!(":{name} must be a keyword")),
                ("key" | "value", _) => return Err(format!(":{name} must be a string")),
                _ => return Err(format!("unknown keyword :{name}")),
            }
        }
        let missing = |name: &str| format!(":{name} is missing");
        Ok(Self {
            process: process.ok_or_else(|| missing("process"))?,
            kind: kind.ok_or_else(|| missing("type"))?,
            f: f.ok_or_else(|| missing("f"))?,
            key: key.ok_or_else(|| missing("key"))?,
            value,
        })
    }
}

/// The first token, and what follows it; commas are blanks in EDN.
fn token(text: &str) -> Result<Option<(Token, &str)>, String> {
    let text = text.trim_start_matches([' ', ',', '\t']);
    let Some(first) = text.chars().next() else {
        return Ok(None);
    };
    if first == '"' {
        return string(&text[1..]).map(Some);
    }
    let end = text.find([' ', ',', '\t']).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let token = if let Some(name) = word.strip_prefix(':') {
        Token::Keyword(name.into())
    } else if word == "nil" {
        Token::Nil
    } else {
        let number = word
            .parse()
            .map_err(|_| format!("{word} is no keyword, string, number or nil"))?;
        Token::Number(number)
    };
    Ok(Some((token, rest)))
}

fn string(text: &str) -> Result<(Token, &str), String> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(out), &text[at + 1..])),
            '\\' => match chars.next().map(|(_, c)| c) {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(c @ ('"' | '\\')) => out.push(c),
                Some(c) => return Err(format!("unknown escape \\{c} in a string")),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("a string has no end".into())
}
