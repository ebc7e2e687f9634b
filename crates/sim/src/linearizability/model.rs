//! What a correct object would do: the sequential models that a history is held against.
//!
//! A model is a relation: from one state, an operation with its answer may lead to several states (a value with
//! a deadline may have vanished), to one, or to none, and then the answer cannot have been given there. The
//! search follows all of them at once.

use std::fmt::Debug;
use std::hash::Hash;

use bytes::Bytes;

use super::hints::last_shown;
use super::history::{Answer, Command, Condition, Deadline, Operation, show_value};

/// A sequential specification of one key.
pub trait Model {
    /// What a key holds.
    type State: Clone + Ord + Hash + Debug;

    /// What it holds at the beginning.
    fn initial(&self) -> Self::State;

    /// Adds every state that the operation may leave behind when it takes effect on `state` and gives the answer
    /// that it gave, or any answer where that is not known; and every state that those may turn into by
    /// themselves. Adds none if this cannot be.
    fn step(&self, state: &Self::State, operation: &Operation, next: &mut Vec<Self::State>);

    /// Whether the operation, with its answer, leaves every state as it is or is impossible on it. (A state that
    /// may turn into another by itself counts as unchanged.)
    fn only_reads(&self, operation: &Operation) -> bool;

    /// An operation whose answer the states before it must lead to: as long as it has not taken effect, a state
    /// for which [`leads_to`](Model::leads_to) is false is a dead end. A hint: none is always right.
    fn goal(&self, _operations: &[&Operation]) -> Option<usize> {
        None
    }

    /// See [`goal`](Model::goal).
    fn leads_to(&self, _state: &Self::State, _goal: &Operation) -> bool {
        true
    }

    /// Of each operation: until when its effect was seen, if that can be told. What was seen longer is tried later.
    /// A hint: nothing is always right.
    fn last_shown(&self, operations: &[&Operation]) -> Vec<Option<u64>> {
        vec![None; operations.len()]
    }

    /// Bytes that a state takes.
    fn size(&self, state: &Self::State) -> usize;

    /// A state for people.
    fn show(&self, state: &Self::State) -> String;
}

/// A key with a value, as Redis's commands see it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kv {
    /// An absent key reads as an empty value.
    pub absent_is_empty: bool,
}

/// What a key holds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KvState {
    /// None: absent.
    pub value: Option<Bytes>,
    /// The value has a deadline: it may vanish at any moment.
    pub mortal: bool,
}

impl KvState {
    fn absent() -> Self {
        Self {
            value: None,
            mortal: false,
        }
    }
}

impl Model for Kv {
    type State = KvState;

    fn initial(&self) -> KvState {
        KvState {
            value: self.absent_is_empty.then(Bytes::new),
            mortal: false,
        }
    }

    fn step(&self, state: &KvState, operation: &Operation, next: &mut Vec<KvState>) {
        let (after, answer) = apply(state.clone(), &operation.command);
        if operation.answer().is_none_or(|seen| fits(seen, &answer)) {
            if after.mortal {
                next.push(KvState::absent());
            }
            next.push(after);
        }
    }

    fn only_reads(&self, operation: &Operation) -> bool {
        match (&operation.command, operation.answer()) {
            (_, Some(Answer::Refused)) | (Command::Get, _) => true,
            (Command::Put { get: false, .. }, Some(Answer::Bool(done))) => !done,
            (Command::Put { get: false, .. }, Some(Answer::Int(swapped))) => *swapped != 1,
            (
                Command::Delete
                | Command::GetDelete
                | Command::Expire
                | Command::Persist
                | Command::GetExpire { .. },
                Some(Answer::Bool(false) | Answer::Value(None)),
            ) => true,
            _ => false,
        }
    }

    /// A key to which clients only append passes, up to the longest value that was read, through the beginnings
    /// of that value alone.
    fn goal(&self, operations: &[&Operation]) -> Option<usize> {
        let grows = |operation: &&Operation| {
            matches!(operation.command, Command::Append { .. }) || self.only_reads(operation)
        };
        if !operations.iter().all(grows) {
            return None;
        }
        let length = |operation: &Operation| match (&operation.command, operation.answer()) {
            (Command::Get, Some(Answer::Value(value))) => Some(value.as_ref().map_or(0, Bytes::len)),
            _ => None,
        };
        (0..operations.len())
            .filter(|at| length(operations[*at]).is_some())
            .max_by_key(|at| length(operations[*at]))
    }

    fn leads_to(&self, state: &KvState, goal: &Operation) -> bool {
        match (&state.value, goal.answer()) {
            (Some(value), Some(Answer::Value(wanted))) => {
                wanted.as_ref().is_some_and(|wanted| wanted.starts_with(value))
            }
            _ => true,
        }
    }

    fn last_shown(&self, operations: &[&Operation]) -> Vec<Option<u64>> {
        last_shown(operations)
    }

    fn size(&self, state: &KvState) -> usize {
        size_of::<KvState>() + state.value.as_ref().map_or(0, Bytes::len)
    }

    fn show(&self, state: &KvState) -> String {
        match &state.value {
            None => "nothing".into(),
            Some(value) if state.mortal => format!("{} until its deadline", show_value(value)),
            Some(value) => show_value(value),
        }
    }
}

/// Whether a client can have been told `seen` when `real` was the answer.
fn fits(seen: &Answer, real: &Answer) -> bool {
    match (seen, real) {
        // "Done" tells that the command was not refused.
        (Answer::Done, real) => *real != Answer::Refused,
        // Whether a compare-and-set was done, without why not.
        (Answer::Bool(done), Answer::Int(swapped)) => *done == (*swapped == 1),
        (seen, real) => seen == real,
    }
}

/// The command on a key, and its answer.
pub(super) fn apply(state: KvState, command: &Command) -> (KvState, Answer) {
    let KvState { value, mortal } = &state;
    let there = value.is_some();
    let with = |value: Vec<u8>| KvState {
        value: Some(value.into()),
        mortal: *mortal,
    };
    let given = |deadline: &Deadline| match deadline {
        Deadline::Clear => false,
        Deadline::Keep => *mortal,
        Deadline::Set => true,
    };
    match command {
        Command::Get => {
            let answer = Answer::Value(value.clone());
            (state, answer)
        }
        Command::Put {
            value: new,
            condition,
            deadline,
            get,
        } => {
            let holds = match condition {
                Condition::Always => true,
                Condition::IfAbsent => !there,
                Condition::IfPresent => there,
                Condition::IfEquals(old) => value.as_ref() == Some(old),
            };
            let answer = match condition {
                _ if *get => Answer::Value(value.clone()),
                Condition::IfEquals(_) if !there => Answer::Int(-1),
                Condition::IfEquals(_) => Answer::Int(i64::from(holds)),
                _ => Answer::Bool(holds),
            };
            if !holds {
                return (state, answer);
            }
            let after = KvState {
                value: Some(new.clone()),
                mortal: given(deadline),
            };
            (after, answer)
        }
        Command::Append { value: tail } => {
            let mut whole = value.as_ref().map_or_else(Vec::new, |value| value.to_vec());
            whole.extend_from_slice(tail);
            let length = whole.len() as i64;
            (with(whole), Answer::Int(length))
        }
        Command::SetRange { offset, value: part } => {
            let mut whole = value.as_ref().map_or_else(Vec::new, |value| value.to_vec());
            if part.is_empty() {
                return (state, Answer::Int(whole.len() as i64));
            }
            let Some(end) = range_end(*offset, part.len()) else {
                return (state, Answer::Refused);
            };
            whole.resize(whole.len().max(end), 0);
            whole[end - part.len()..end].copy_from_slice(part);
            let length = whole.len() as i64;
            (with(whole), Answer::Int(length))
        }
        Command::Increment { delta } => {
            let number = value.as_ref().map_or(Some(0), |value| integer(value));
            match number.and_then(|number| number.checked_add(*delta)) {
                Some(sum) => (with(sum.to_string().into_bytes()), Answer::Int(sum)),
                None => (state, Answer::Refused),
            }
        }
        Command::Delete => (KvState::absent(), Answer::Bool(there)),
        Command::GetDelete => (KvState::absent(), Answer::Value(value.clone())),
        Command::Expire => {
            let after = KvState {
                mortal: there,
                ..state
            };
            (after, Answer::Bool(there))
        }
        Command::Persist => {
            let answer = Answer::Bool(*mortal);
            let after = KvState {
                mortal: false,
                ..state
            };
            (after, answer)
        }
        Command::GetExpire { deadline } => {
            let answer = Answer::Value(value.clone());
            let mortal = there && given(deadline);
            (KvState { mortal, ..state }, answer)
        }
    }
}

/// The longest value, as in Redis: 512 MiB.
const VALUE_BYTES_MAX: usize = 512 << 20;

fn range_end(offset: u64, length: usize) -> Option<usize> {
    let end = usize::try_from(offset).ok()?.checked_add(length)?;
    (end <= VALUE_BYTES_MAX).then_some(end)
}

/// A decimal 64-bit integer in its one form: no plus, no leading zeros.
fn integer(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// One integer with reads, writes and compare-and-set. Absent at the beginning. In a history its operations are
/// [`Command::Get`] and [`Command::Put`] with values in decimal.
#[derive(Clone, Copy, Debug, Default)]
pub struct Register;

impl Model for Register {
    type State = Option<i64>;

    fn initial(&self) -> Option<i64> {
        None
    }

    fn step(&self, state: &Option<i64>, operation: &Operation, next: &mut Vec<Option<i64>>) {
        let (after, answer) = match &operation.command {
            Command::Get => (
                *state,
                Answer::Value(state.map(|number| number.to_string().into())),
            ),
            Command::Put { value, condition, .. } => {
                let holds = match condition {
                    Condition::Always => true,
                    Condition::IfEquals(old) => state.is_some() && *state == integer(old),
                    Condition::IfAbsent | Condition::IfPresent => return,
                };
                let after = if holds { integer(value) } else { *state };
                let answer = match condition {
                    Condition::IfEquals(_) if state.is_none() => Answer::Int(-1),
                    Condition::IfEquals(_) => Answer::Int(i64::from(holds)),
                    _ => Answer::Bool(holds),
                };
                (after, answer)
            }
            _ => return,
        };
        if operation.answer().is_none_or(|seen| fits(seen, &answer)) {
            next.push(after);
        }
    }

    fn only_reads(&self, operation: &Operation) -> bool {
        operation.command.is_read()
            || matches!(
                operation.answer(),
                Some(Answer::Bool(false) | Answer::Int(-1 | 0))
            )
    }

    fn size(&self, _: &Option<i64>) -> usize {
        size_of::<Option<i64>>()
    }

    fn show(&self, state: &Option<i64>) -> String {
        state.map_or_else(|| "nothing".into(), |number| number.to_string())
    }
}

/// Why an operation is none of a register's; none if it is one.
#[must_use]
pub fn not_for_a_register(operation: &Operation) -> Option<String> {
    let values: Vec<&Bytes> = match &operation.command {
        Command::Get => match operation.answer() {
            Some(Answer::Value(value)) => value.iter().collect(),
            _ => Vec::new(),
        },
        Command::Put {
            value,
            condition: Condition::Always,
            deadline: Deadline::Clear,
            get: false,
        } => vec![value],
        Command::Put {
            value,
            condition: Condition::IfEquals(old),
            deadline: Deadline::Clear,
            get: false,
        } => vec![value, old],
        other => return Some(format!("a register knows get, put and cas, not {other}")),
    };
    let wrong = values.into_iter().find(|value| integer(value).is_none())?;
    Some(format!(
        "a register holds decimal 64-bit integers, not {}",
        show_value(wrong)
    ))
}
