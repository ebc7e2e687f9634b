//! The linearizability checker: judges what clients did and saw, without knowing anything of the system.
//!
//! A history is linearizable (Herlihy and Wing, "Linearizability: a correctness condition for concurrent
//! objects", 1990) if every operation can be given one moment between its invocation and its answer at which it
//! took effect, such that the answers are those of an object that does one thing at a time. An operation of
//! unknown outcome may have any moment after its invocation, or none. Keys are independent, so a history is
//! judged key by key: it is linearizable if and only if each of its keys is.
//!
//! | module | subject |
//! | --- | --- |
//! | `history` | operations, and how they are recorded |
//! | `model` | what a correct key-value store or register would do |
//! | `search`, `hints`, `timeline`, `states`, `bits`, `budget` | looking for an order |
//! | `explain` | the smallest part of a history that has none |
//! | `html` | drawing that |
//! | `read`, `write` | histories in files |
//! | `conformance` | directories of histories with known verdicts |
//! | `appends` | a cheap oracle for keys to which distinguishable tokens are appended |
//! | `demand` | for tests |
//!
//! Left out: models of several keys at once (a multi-key command is recorded as one operation for each key), and
//! the order of one client's operations where they overlap (pipelining).

mod appends;
mod bits;
mod budget;
mod conformance;
mod demand;
mod explain;
mod hints;
mod history;
mod html;
mod model;
mod read;
mod search;
mod states;
#[cfg(test)]
mod tests;
mod timeline;
mod write;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

pub use appends::check_appends;
pub use budget::Budget;
pub use conformance::{KnownHistory, known_histories};
pub use demand::assert_linearizable;
pub use explain::{Explanation, Part};
pub use history::{
    Answer, Command, Condition, Deadline, History, ModelKind, Operation, OperationId, Outcome, Unit,
};
pub use html::html;
pub use model::{Kv, KvState, Model, Register, not_for_a_register};
pub use read::{ReadError, RecordedHistory, read_history};
pub use write::write_history;

use history::show_value;
use search::{Found, search};

/// What the checker found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none.
    NotLinearizable(Box<Explanation>),
    /// The budget was used up before either was certain: why.
    Unknown(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Linearizable => write!(f, "linearizable"),
            Self::NotLinearizable(_) => write!(f, "not linearizable"),
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// Judges a history of keys with values.
#[must_use]
pub fn check_kv(history: &History, budget: &Budget) -> Verdict {
    let model = Kv {
        absent_is_empty: history.absent_is_empty(),
    };
    check(&model, history, budget)
}

/// Judges a history of one integer register, or of several (each key is one).
#[must_use]
pub fn check_register(history: &History, budget: &Budget) -> Verdict {
    check(&Register, history, budget)
}

/// Illegal keys of which the smallest explanation is looked for.
const EXPLAINED_KEYS_MAX: usize = 4;

/// Judges a history by any model of one key. When there is no order, explaining it may cost as much again.
#[must_use]
pub fn check<M: Model>(model: &M, history: &History, budget: &Budget) -> Verdict {
    let mut by_key: BTreeMap<&Bytes, Vec<&Operation>> = BTreeMap::new();
    for operation in history.operations() {
        by_key.entry(&operation.key).or_default().push(operation);
    }
    let mut keys: Vec<_> = by_key.into_iter().collect();
    keys.sort_by_key(|(_, operations)| operations.len());
    let limits = budget.start();
    let mut illegal = Vec::new();
    let mut unknown = None;
    for (key, operations) in &keys {
        match search(model, operations, limits, None).0 {
            Found::Order(_) => {}
            Found::Nothing => illegal.push(operations),
            Found::Gave(why) => {
                unknown.get_or_insert_with(|| {
                    let count = operations.len();
                    format!("key {} with {count} operations: {why}", show_value(key))
                });
            }
        }
    }
    let limits = budget.start();
    let explained = illegal
        .into_iter()
        .take(EXPLAINED_KEYS_MAX)
        .map(|operations| explain::explain(model, operations, limits, history.unit()))
        .min_by_key(|explanation| explanation.core().count());
    match (explained, unknown) {
        (Some(explanation), _) => Verdict::NotLinearizable(Box::new(explanation)),
        (None, Some(why)) => Verdict::Unknown(why),
        (None, None) => Verdict::Linearizable,
    }
}
