//! What clients did and saw: the operations of a history, and how they are recorded.

use std::fmt;

use bytes::Bytes;

/// What a client asks of one key. A key holds a value or is absent.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Command {
    /// Answers the value.
    Get,
    /// Sets the value. Answers whether it did; with `get` the value before.
    Put {
        /// The value.
        value: Bytes,
        /// When it takes effect.
        condition: Condition,
        /// What becomes of the deadline.
        deadline: Deadline,
        /// Answer the value before.
        get: bool,
    },
    /// Adds to the end of the value. Answers the new length in bytes.
    Append {
        /// What is added.
        value: Bytes,
    },
    /// Overwrites a part of the value, padding with zeros up to it. Answers the new length in bytes. An empty
    /// part changes nothing.
    SetRange {
        /// Where, in bytes.
        offset: u64,
        /// What.
        value: Bytes,
    },
    /// Adds to the value, a decimal 64-bit integer; absent counts as 0. Answers the sum.
    Increment {
        /// What is added.
        delta: i64,
    },
    /// Removes the value. Answers whether there was one.
    Delete,
    /// Removes the value. Answers it.
    GetDelete,
    /// Gives the value a deadline, at which it vanishes. Answers whether there was a value.
    Expire,
    /// Takes the deadline away. Answers whether there was a value with one.
    Persist,
    /// Changes the deadline and answers the value.
    GetExpire {
        /// What becomes of the deadline.
        deadline: Deadline,
    },
}

/// When a put takes effect.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Condition {
    /// Always.
    Always,
    /// If there is no value.
    IfAbsent,
    /// If there is one.
    IfPresent,
    /// If the value is this one: compare-and-set.
    IfEquals(Bytes),
}

/// What a put does with the deadline. A value with a deadline may vanish at any later moment: clocks decide when,
/// and a history says nothing about clocks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Deadline {
    /// The value has none.
    Clear,
    /// As the value before.
    Keep,
    /// The value has one.
    Set,
}

impl Command {
    /// An unconditional put.
    #[must_use]
    pub fn put(value: impl Into<Bytes>) -> Self {
        Self::Put {
            value: value.into(),
            condition: Condition::Always,
            deadline: Deadline::Clear,
            get: false,
        }
    }

    /// A compare-and-set.
    #[must_use]
    pub fn cas(old: impl Into<Bytes>, new: impl Into<Bytes>) -> Self {
        Self::Put {
            value: new.into(),
            condition: Condition::IfEquals(old.into()),
            deadline: Deadline::Clear,
            get: false,
        }
    }

    /// An append.
    #[must_use]
    pub fn append(value: impl Into<Bytes>) -> Self {
        Self::Append { value: value.into() }
    }

    /// A command that does the same to every value, whatever it answers.
    pub(super) fn effect(&self) -> Self {
        match self {
            Self::Put {
                value,
                condition,
                deadline,
                ..
            } => Self::Put {
                value: value.clone(),
                condition: condition.clone(),
                deadline: *deadline,
                get: false,
            },
            Self::GetDelete => Self::Delete,
            Self::GetExpire {
                deadline: Deadline::Set,
            } => Self::Expire,
            Self::GetExpire {
                deadline: Deadline::Clear,
            } => Self::Persist,
            other => other.clone(),
        }
    }

    /// Whether it never changes anything.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self, Self::Get)
    }
}

/// What a client was told by a command that took effect, or that was refused by the value which it met.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// Nothing that could be compared.
    Done,
    /// A value, or that there is none.
    Value(Option<Bytes>),
    /// A length or a sum.
    Int(i64),
    /// Whether something was there, or a condition held.
    Bool(bool),
    /// The value is none that the command works on; nothing was changed.
    Refused,
}

/// How an operation ended. Times are in the history's unit, by one clock for all clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It took effect between its invocation and `at`.
    Done {
        /// When the answer came.
        at: u64,
        /// What it was.
        answer: Answer,
    },
    /// It has not taken effect and never will.
    NotApplied {
        /// When that was known.
        at: u64,
    },
    /// It may take effect at any moment after its invocation, once, or never.
    Unknown,
}

/// One operation of one client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Who. For people: nothing is concluded from it.
    pub client: u64,
    /// On what.
    pub key: Bytes,
    /// What.
    pub command: Command,
    /// When it was invoked.
    pub invoked: u64,
    /// How it ended.
    pub outcome: Outcome,
}

impl Operation {
    /// What it was answered; none if that is not known.
    #[must_use]
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Done { answer, .. } => Some(answer),
            Outcome::NotApplied { .. } | Outcome::Unknown => None,
        }
    }

    /// When it ended; none if that is not known.
    #[must_use]
    pub fn ended(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Done { at, .. } | Outcome::NotApplied { at } => Some(at),
            Outcome::Unknown => None,
        }
    }
}

/// What a history's keys are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModelKind {
    /// Keys with values: [`Kv`](super::Kv).
    Kv,
    /// One integer: [`Register`](super::Register).
    Register,
}

impl ModelKind {
    /// Its name in files and flags.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Register => "register",
        }
    }
}

/// Names an operation of a history while it is under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OperationId(usize);

/// The operations of all clients. An operation that is never ended is one of unknown outcome.
///
/// ```
/// use quorate_sim::linearizability::{Answer, Budget, Command, History, Verdict, check_kv};
///
/// let mut history = History::default();
/// let write = history.invoke(1, "k", Command::put("a"), 10);
/// history.done(write, 20, Answer::Done);
/// let read = history.invoke(2, "k", Command::Get, 30);
/// history.done(read, 40, Answer::Value(None));
/// assert!(matches!(check_kv(&history, &Budget::default()), Verdict::NotLinearizable(_)));
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
    unit: Unit,
    absent_is_empty: bool,
}

/// What a history's times count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Unit {
    /// Nanoseconds.
    Nanoseconds,
    /// Microseconds.
    #[default]
    Microseconds,
    /// Lines of a file: only the order is known.
    Events,
}

impl History {
    /// An empty history whose times count `unit`.
    #[must_use]
    pub fn new(unit: Unit) -> Self {
        Self {
            unit,
            ..Self::default()
        }
    }

    /// A client invokes a command.
    pub fn invoke(&mut self, client: u64, key: impl Into<Bytes>, command: Command, at: u64) -> OperationId {
        self.push(Operation {
            client,
            key: key.into(),
            command,
            invoked: at,
            outcome: Outcome::Unknown,
        })
    }

    /// It took effect and was answered.
    ///
    /// # Panics
    ///
    /// When it has ended already, or ends before it was invoked.
    pub fn done(&mut self, id: OperationId, at: u64, answer: Answer) {
        self.end(id, at, Outcome::Done { at, answer });
    }

    /// It took no effect and never will.
    ///
    /// # Panics
    ///
    /// When it has ended already, or ends before it was invoked.
    pub fn not_applied(&mut self, id: OperationId, at: u64) {
        self.end(id, at, Outcome::NotApplied { at });
    }

    fn end(&mut self, id: OperationId, at: u64, outcome: Outcome) {
        let operation = &mut self.operations[id.0];
        assert_eq!(operation.outcome, Outcome::Unknown, "{operation} ends twice");
        assert!(operation.invoked <= at, "{operation} ends at {at}");
        operation.outcome = outcome;
    }

    /// Adds an operation that has ended, or whose outcome is unknown.
    pub fn push(&mut self, operation: Operation) -> OperationId {
        self.operations.push(operation);
        OperationId(self.operations.len() - 1)
    }

    /// An operation by its id.
    ///
    /// # Panics
    ///
    /// When the id is another history's.
    #[must_use]
    pub fn operation(&self, id: OperationId) -> &Operation {
        &self.operations[id.0]
    }

    /// All operations, in the order in which they were added.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// What its times count.
    #[must_use]
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// Whether an absent key and an empty value are one.
    #[must_use]
    pub fn absent_is_empty(&self) -> bool {
        self.absent_is_empty
    }

    /// From now on an absent key reads as an empty value, as in the MIT labs.
    pub fn set_absent_is_empty(&mut self) {
        self.absent_is_empty = true;
    }
}

/// Bytes of a value that are shown.
const SHOWN_BYTES: usize = 48;

/// A value for people: text in quotes, the middle of a long one left out.
pub(super) fn show_value(value: &[u8]) -> String {
    let quoted = |part: &[u8]| part.escape_ascii().to_string();
    if value.len() <= SHOWN_BYTES {
        return format!("\"{}\"", quoted(value));
    }
    let half = SHOWN_BYTES / 2;
    let (head, tail) = (&value[..half], &value[value.len() - half..]);
    format!("\"{}…{}\" ({} bytes)", quoted(head), quoted(tail), value.len())
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => write!(f, "get"),
            Self::Put {
                value,
                condition,
                deadline,
                get,
            } => {
                match condition {
                    Condition::IfEquals(old) => {
                        write!(f, "cas {} to {}", show_value(old), show_value(value))?;
                    }
                    _ => write!(f, "put {}", show_value(value))?,
                }
                match condition {
                    Condition::IfAbsent => write!(f, " if absent")?,
                    Condition::IfPresent => write!(f, " if present")?,
                    Condition::Always | Condition::IfEquals(_) => {}
                }
                match deadline {
                    Deadline::Clear => {}
                    Deadline::Keep => write!(f, " keeping the deadline")?,
                    Deadline::Set => write!(f, " with a deadline")?,
                }
                if *get {
                    write!(f, " and get")?;
                }
                Ok(())
            }
            Self::Append { value } => write!(f, "append {}", show_value(value)),
            Self::SetRange { offset, value } => write!(f, "set range {offset} {}", show_value(value)),
            Self::Increment { delta } => write!(f, "increment by {delta}"),
            Self::Delete => write!(f, "delete"),
            Self::GetDelete => write!(f, "get and delete"),
            Self::Expire => write!(f, "expire"),
            Self::Persist => write!(f, "persist"),
            Self::GetExpire { .. } => write!(f, "get and change the deadline"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => write!(f, "done"),
            Self::Value(Some(value)) => write!(f, "{}", show_value(value)),
            Self::Value(None) => write!(f, "nothing"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Bool(true) => write!(f, "yes"),
            Self::Bool(false) => write!(f, "no"),
            Self::Refused => write!(f, "refused"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done { answer, .. } => write!(f, "{answer}"),
            Self::NotApplied { .. } => write!(f, "not applied"),
            Self::Unknown => write!(f, "unknown"),
        }
    }
}

impl fmt::Display for Operation {
    /// Without times, whose unit the history knows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "client {}: {} -> {}", self.client, self.command, self.outcome)
    }
}

impl Unit {
    /// A time for people.
    #[must_use]
    pub fn show(self, time: u64) -> String {
        match self {
            Self::Nanoseconds => format!("{:.6} s", time as f64 / 1e9),
            Self::Microseconds => format!("{:.6} s", time as f64 / 1e6),
            Self::Events => format!("line {time}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_read_as_sentences() {
        let mut history = History::new(Unit::Nanoseconds);
        let id = history.invoke(3, "k", Command::cas("a", "b\n"), 5);
        assert_eq!(
            history.operations()[0].to_string(),
            r#"client 3: cas "a" to "b\n" -> unknown"#
        );
        history.done(id, 9, Answer::Bool(false));
        assert_eq!(
            history.operations()[0].to_string(),
            r#"client 3: cas "a" to "b\n" -> no"#
        );
        let long = show_value(&[b'x'; 100]);
        assert!(long.len() < 80 && long.ends_with("(100 bytes)"), "{long}");
        assert_eq!(history.unit().show(1_500_000), "0.001500 s");
    }

    #[test]
    #[should_panic(expected = "ends twice")]
    fn an_operation_ends_once() {
        let mut history = History::default();
        let id = history.invoke(1, "k", Command::Get, 5);
        history.done(id, 6, Answer::Value(None));
        history.not_applied(id, 7);
    }
}
