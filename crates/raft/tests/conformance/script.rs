//! The transcript format: stanzas of a command line, optional input lines, `----`, the expected output and an
//! empty line. `#` starts a comment.

use std::ops::Range;

/// One stanza of a transcript.
#[derive(Debug)]
pub(crate) struct Stanza {
    pub(crate) command: Command,
    /// The lines between the command and `----`.
    pub(crate) input: String,
    pub(crate) expected: String,
    /// The number of the command's line, counted from 1.
    pub(crate) line: usize,
    /// The lines of the file that hold the expected output, counted from 0.
    pub(crate) output_lines: Range<usize>,
}

/// A command line: `name arg key=value key=(v,v)`.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) args: Vec<Arg>,
}

/// One argument; a bare one has no values.
#[derive(Debug)]
pub(crate) struct Arg {
    pub(crate) key: String,
    pub(crate) values: Vec<String>,
}

/// Splits a transcript into its stanzas.
pub(crate) fn parse(text: &str) -> Result<Vec<Stanza>, String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut stanzas = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim().is_empty() || lines[at].starts_with('#') {
            at += 1;
            continue;
        }
        let command_at = at;
        let rule = (at..lines.len())
            .find(|i| lines[*i] == "----")
            .ok_or_else(|| format!("line {}: no ---- after the command", at + 1))?;
        let end = (rule + 1..lines.len())
            .find(|i| lines[*i].trim().is_empty())
            .unwrap_or(lines.len());
        stanzas.push(Stanza {
            command: Command::parse(lines[command_at]).map_err(|e| format!("line {}: {e}", at + 1))?,
            input: lines[command_at + 1..rule].join("\n"),
            expected: block(&lines[rule + 1..end]),
            line: command_at + 1,
            output_lines: rule + 1..end,
        });
        at = end;
    }
    Ok(stanzas)
}

fn block(lines: &[&str]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

impl Command {
    pub(crate) fn parse(line: &str) -> Result<Command, String> {
        let mut words = split_words(line)?.into_iter();
        let name = words.next().ok_or("empty command")?;
        Ok(Command {
            name,
            args: words.map(|word| Arg::parse(&word)).collect(),
        })
    }

    /// The bare argument at `position`, counted from zero among the bare ones.
    pub(crate) fn bare(&self, position: usize) -> Result<&str, String> {
        self.all_bare()
            .nth(position)
            .ok_or_else(|| format!("{} needs an argument at position {}", self.name, position + 1))
    }

    pub(crate) fn all_bare(&self) -> impl Iterator<Item = &str> {
        self.args
            .iter()
            .filter(|arg| arg.values.is_empty())
            .map(|arg| arg.key.as_str())
    }

    /// The bare argument at `position` as a number.
    pub(crate) fn number(&self, position: usize) -> Result<u64, String> {
        parse_number(self.bare(position)?)
    }

    /// The values of `key`; empty when it is not given.
    pub(crate) fn values(&self, key: &str) -> &[String] {
        self.args
            .iter()
            .find(|arg| arg.key == key)
            .map_or(&[], |arg| arg.values.as_slice())
    }

    /// The single value of `key`.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.values(key).first().map(String::as_str)
    }

    /// The values of `key` as numbers.
    pub(crate) fn numbers(&self, key: &str) -> Result<Vec<u64>, String> {
        self.values(key).iter().map(|value| parse_number(value)).collect()
    }

    /// Refuses a key that is not in `known`, so that a misspelt option does not pass silently.
    pub(crate) fn check_keys(&self, known: &[&str]) -> Result<(), String> {
        let stray = self
            .args
            .iter()
            .find(|arg| !arg.values.is_empty() && !known.contains(&arg.key.as_str()));
        stray.map_or(Ok(()), |arg| {
            Err(format!("{} does not know {}=", self.name, arg.key))
        })
    }
}

impl Arg {
    fn parse(word: &str) -> Arg {
        let Some((key, value)) = word.split_once('=') else {
            return Arg {
                key: word.to_owned(),
                values: Vec::new(),
            };
        };
        let values = match value.strip_prefix('(').and_then(|value| value.strip_suffix(')')) {
            Some(list) => list
                .split([',', ' '])
                .filter(|v| !v.is_empty())
                .map(str::to_owned)
                .collect(),
            None => vec![value.to_owned()],
        };
        Arg {
            key: key.to_owned(),
            values,
        }
    }
}

pub(crate) fn parse_number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("not a number: {text:?}"))
}

/// Splits at blanks outside parentheses.
fn split_words(line: &str) -> Result<Vec<String>, String> {
    let mut words = vec![String::new()];
    let mut depth = 0_usize;
    for c in line.trim().chars() {
        match c {
            ' ' if depth == 0 => {
                words.push(String::new());
                continue;
            }
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1).ok_or("unbalanced parenthesis")?,
            _ => {}
        }
        words.last_mut().expect("starts with one word").push(c);
    }
    if depth > 0 {
        return Err("unbalanced parenthesis".to_owned());
    }
    words.retain(|word| !word.is_empty());
    Ok(words)
}

#[test]
fn a_stanza_has_a_command_input_and_output() {
    let text = "# comment\nvote cfg=(1, 2) x=y 7\nin put\n----\nout\nmore\n\nnext\n----\nok\n";
    let stanzas = parse(text).expect("parses");
    assert_eq!(stanzas.len(), 2);
    assert_eq!(stanzas[0].command.name, "vote");
    assert_eq!(stanzas[0].command.values("cfg"), ["1", "2"]);
    assert_eq!(stanzas[0].command.value("x"), Some("y"));
    assert_eq!(stanzas[0].command.number(0), Ok(7));
    assert_eq!(stanzas[0].input, "in put");
    assert_eq!(stanzas[0].expected, "out\nmore\n");
    assert_eq!(stanzas[0].line, 2);
    assert_eq!(stanzas[1].expected, "ok\n");
}
