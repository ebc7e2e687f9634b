//! A checker that is too simple to be wrong: it tries every subset of the unknown operations in every order.

use crate::linearizability::history::{Operation, Outcome};
use crate::linearizability::model::Model;

/// Whether there is an order. Only for a handful of operations.
pub(super) fn is_linearizable<M: Model>(model: &M, operations: &[Operation]) -> bool {
    extend(
        model,
        operations,
        &mut vec![false; operations.len()],
        &model.initial(),
    )
}

fn extend<M: Model>(model: &M, operations: &[Operation], done: &mut Vec<bool>, state: &M::State) -> bool {
    let must = |operation: &Operation| matches!(operation.outcome, Outcome::Done { .. });
    let left = |at: usize, done: &[bool]| must(&operations[at]) && !done[at];
    if !(0..operations.len()).any(|at| left(at, done)) {
        return true;
    }
    for at in 0..operations.len() {
        let operation = &operations[at];
        if done[at] || matches!(operation.outcome, Outcome::NotApplied { .. }) {
            continue;
        }
        let too_late = (0..operations.len()).any(|other| {
            left(other, done)
                && operations[other]
                    .ended()
                    .is_some_and(|ended| ended < operation.invoked)
        });
        if too_late {
            continue;
        }
        let mut next = Vec::new();
        model.step(state, operation, &mut next);
        done[at] = true;
        for state in &next {
            if extend(model, operations, done, state) {
                return true;
            }
        }
        done[at] = false;
    }
    false
}
