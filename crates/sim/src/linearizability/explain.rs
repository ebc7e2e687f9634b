//! Why a key's history has no order: the smallest set of outcomes that contradict each other.
//!
//! Leaving out an operation proves nothing: a read without the write that it saw is illegal, too. What loses no
//! order is to *forget an outcome*: to treat an operation as one of unknown outcome. So the history is first cut
//! behind the first answer that cannot be (what is under way there has no outcome yet), and then outcomes are
//! forgotten, in large parts and in small ones, as long as there is no order nevertheless. The outcomes that are
//! left, the *core*, contradict each other whatever became of all other operations; forgetting any one of them
//! resolves the contradiction.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;

use super::budget::Limits;
use super::history::{Operation, Outcome, Unit, show_value};
use super::model::Model;
use super::search::{Found, Longest, search};

/// Steps for one of the many searches of an explanation.
const STEPS_OF_A_SEARCH: u64 = 2_000_000;
/// Steps for all of them.
const STEPS_MAX: u64 = 100_000_000;

/// A part that an operation plays in an explanation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// Its outcome is one of those that contradict each other.
    Core,
    /// It is near them, or may be where a value came from; its outcome makes no difference.
    Context,
}

/// The smallest part of a history that was found to have no order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The key.
    pub key: Bytes,
    /// Operations on the key in the whole history.
    pub key_operations: usize,
    /// The operations by invocation.
    pub operations: Vec<(Operation, Part)>,
    /// From the first invocation to the last answer in the core.
    pub window: (u64, u64),
    /// The longest order of the core that the model allows, as positions in `operations`.
    pub order: Vec<usize>,
    /// What the key then holds, for people.
    pub then_holds: String,
    /// The operations of the core of which one would have to be next and none can be, as positions.
    pub stuck: Vec<usize>,
    /// Whether the core is known to be minimal; otherwise the budget ended before.
    pub is_minimal: bool,
    /// The history's unit of time.
    pub unit: Unit,
}

impl Explanation {
    /// The operations whose outcomes contradict each other.
    pub fn core(&self) -> impl Iterator<Item = &Operation> {
        self.operations
            .iter()
            .filter(|(_, part)| *part == Part::Core)
            .map(|(operation, _)| operation)
    }
}

struct Shrinker<'a, M: Model> {
    model: &'a M,
    limits: Limits,
    steps: u64,
    is_certain: bool,
}

impl<M: Model> Shrinker<'_, M> {
    /// Whether there certainly is no order.
    fn is_illegal(&mut self, operations: &[Operation]) -> bool {
        if self.steps > STEPS_MAX {
            self.is_certain = false;
            return false;
        }
        let operations: Vec<&Operation> = operations.iter().collect();
        let limits = self.limits.with_steps(STEPS_OF_A_SEARCH);
        let (found, steps) = search(self.model, &operations, limits, None);
        self.steps += steps;
        self.is_certain &= !matches!(found, Found::Gave(_));
        found == Found::Nothing
    }

    /// The history up to the first answer that cannot be.
    fn cut(&mut self, operations: Vec<Operation>) -> Vec<Operation> {
        let mut ends: Vec<u64> = operations.iter().filter_map(Operation::ended).collect();
        ends.sort_unstable();
        ends.dedup();
        // `ends[high]` is illegal; what is below `low` is not, as far as is known.
        let (mut low, mut high) = (0, ends.len().saturating_sub(1));
        let mut best = None;
        while low < high {
            let middle = low + (high - low) / 2;
            let prefix = until(&operations, ends[middle]);
            if self.is_illegal(&prefix) {
                high = middle;
                best = Some(prefix);
            } else {
                low = middle + 1;
            }
        }
        best.unwrap_or(operations)
    }

    /// Forgets outcomes as long as there is no order.
    fn forget(&mut self, operations: &mut Vec<Operation>) {
        let mut size = operations.len().div_ceil(2).max(1);
        loop {
            let mut changed = false;
            let known: Vec<usize> = (0..operations.len())
                .filter(|at| operations[*at].answer().is_some())
                .collect();
            for chunk in known.chunks(size) {
                let mut tried = operations.clone();
                for at in chunk {
                    tried[*at].outcome = Outcome::Unknown;
                }
                if self.is_illegal(&tried) {
                    *operations = tried;
                    changed = true;
                }
            }
            if size == 1 && !changed {
                return;
            }
            size = if changed { size.min(known.len()) } else { size }
                .div_ceil(2)
                .max(1);
        }
    }
}

/// The history as it stood right after `time`.
fn until(operations: &[Operation], time: u64) -> Vec<Operation> {
    operations
        .iter()
        .filter(|operation| operation.invoked <= time)
        .map(|operation| {
            let mut operation = operation.clone();
            if operation.ended().is_some_and(|at| at > time) {
                operation.outcome = Outcome::Unknown;
            }
            operation
        })
        .collect()
}

/// Explains the history of one key, for which there is no order.
pub(super) fn explain<M: Model>(
    model: &M,
    operations: &[&Operation],
    limits: Limits,
    unit: Unit,
) -> Explanation {
    let mut whole: Vec<Operation> = operations
        .iter()
        .filter(|operation| !matches!(operation.outcome, Outcome::NotApplied { .. }))
        .map(|operation| (*operation).clone())
        .collect();
    whole.sort_by_key(|operation| operation.invoked);
    let mut shrinker = Shrinker {
        model,
        limits,
        steps: 0,
        is_certain: true,
    };
    let mut shrunk = shrinker.cut(whole.clone());
    shrinker.forget(&mut shrunk);

    let mut longest = Longest::default();
    let references: Vec<&Operation> = shrunk.iter().collect();
    let limits = limits.with_steps(STEPS_OF_A_SEARCH);
    let _ = search(model, &references, limits, Some(&mut longest));
    describe(model, &whole, &shrunk, &longest.order, shrinker.is_certain, unit)
}

/// `shrunk` begins as `whole` does, with outcomes forgotten and the end cut off.
fn describe<M: Model>(
    model: &M,
    whole: &[Operation],
    shrunk: &[Operation],
    order: &[usize],
    is_minimal: bool,
    unit: Unit,
) -> Explanation {
    let core: Vec<usize> = (0..shrunk.len())
        .filter(|at| shrunk[*at].answer().is_some())
        .collect();
    let first = core.iter().map(|at| shrunk[*at].invoked).min().unwrap_or(0);
    let last = core
        .iter()
        .filter_map(|at| shrunk[*at].ended())
        .max()
        .unwrap_or(0);

    let mut states = vec![model.initial()];
    for at in order {
        let mut next = Vec::new();
        for state in &states {
            model.step(state, &shrunk[*at], &mut next);
        }
        next.sort_unstable();
        next.dedup();
        states = next;
    }
    let holds: Vec<String> = states.iter().map(|state| model.show(state)).collect();

    let left: Vec<usize> = core.iter().copied().filter(|at| !order.contains(at)).collect();
    let first_end = left.iter().filter_map(|at| shrunk[*at].ended()).min();
    let stuck = left
        .iter()
        .copied()
        .filter(|at| first_end.is_none_or(|end| shrunk[*at].invoked <= end));

    let near = |operation: &Operation| {
        operation.invoked <= last && operation.ended().is_some_and(|ended| ended >= first)
    };
    let mut shown: BTreeSet<usize> = core.iter().chain(order).copied().collect();
    shown.extend((0..shrunk.len()).filter(|at| near(&whole[*at])));
    let place = |at: usize| shown.range(..at).count();
    Explanation {
        key: whole
            .first()
            .map_or_else(Bytes::new, |operation| operation.key.clone()),
        key_operations: whole.len(),
        order: order.iter().map(|at| place(*at)).collect(),
        stuck: stuck.map(place).collect(),
        operations: shown
            .iter()
            .map(|at| {
                let part = if core.contains(at) {
                    Part::Core
                } else {
                    Part::Context
                };
                (whole[*at].clone(), part)
            })
            .collect(),
        window: (first, last),
        then_holds: holds.join(" or "),
        is_minimal,
        unit,
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.window;
        let size = if self.is_minimal {
            "these outcomes"
        } else {
            "these outcomes (perhaps not the fewest)"
        };
        writeln!(
            f,
            "key {}, {} to {}: of its {} operations {size} contradict each other, whatever became of the others:",
            show_value(&self.key),
            self.unit.show(first),
            self.unit.show(last),
            self.key_operations,
        )?;
        for operation in self.core() {
            self.line(f, operation)?;
        }
        if self.order.is_empty() {
            writeln!(f, "none of them can be first; the key holds {}", self.then_holds)?;
        } else {
            writeln!(f, "the longest order that fits:")?;
            for at in &self.order {
                let (operation, part) = &self.operations[*at];
                match part {
                    Part::Core => self.line(f, operation)?,
                    Part::Context => writeln!(
                        f,
                        "  client {}: {} (if it took effect here)",
                        operation.client, operation.command
                    )?,
                }
            }
            writeln!(
                f,
                "the key then holds {}, and next would have to be one of:",
                self.then_holds
            )?;
            for at in &self.stuck {
                self.line(f, &self.operations[*at].0)?;
            }
        }
        Ok(())
    }
}

impl Explanation {
    fn line(&self, f: &mut fmt::Formatter<'_>, operation: &Operation) -> fmt::Result {
        let ended = operation
            .ended()
            .map_or_else(|| "no answer".into(), |at| self.unit.show(at));
        writeln!(
            f,
            "  {operation}  [{} to {ended}]",
            self.unit.show(operation.invoked)
        )
    }
}
