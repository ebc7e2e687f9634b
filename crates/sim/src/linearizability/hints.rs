//! Where a value came from. Clients mostly write values that can be told apart, so a value that was read tells
//! which write it saw last, and that this write took effect before that read and was not overwritten yet. The
//! search uses this only to choose what it tries first; a wrong guess costs time, never a verdict.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::history::{Answer, Command, Operation};

/// Of each operation: the latest invocation of an operation whose answer shows what it wrote.
pub(super) fn last_shown(operations: &[&Operation]) -> Vec<Option<u64>> {
    let mut writes: HashMap<&[u8], Vec<usize>> = HashMap::new();
    let (mut put_lengths, mut append_lengths) = (BTreeSet::new(), BTreeSet::new());
    for (at, operation) in operations.iter().enumerate() {
        let (value, lengths) = match &operation.command {
            Command::Put { value, .. } => (value, &mut put_lengths),
            Command::Append { value } => (value, &mut append_lengths),
            _ => continue,
        };
        if !value.is_empty() {
            writes.entry(value).or_default().push(at);
            lengths.insert(value.len());
        }
    }
    let mut shown = vec![None; operations.len()];
    if put_lengths.len().max(append_lengths.len()) > LENGTHS_MAX {
        return shown;
    }
    for operation in operations {
        let Some(Answer::Value(Some(value))) = operation.answer() else {
            continue;
        };
        for part in parts(value, &put_lengths, &append_lengths) {
            // A value that many wrote tells nothing.
            if let Some([write]) = writes.get(part).map(Vec::as_slice) {
                shown[*write] = shown[*write].max(Some(operation.invoked));
            }
        }
    }
    shown
}

/// Lengths of values beyond which looking for parts would cost more than it helps.
const LENGTHS_MAX: usize = 16;

/// What was put may be the beginning of a value, what was appended its end.
fn parts<'a>(
    value: &'a Bytes,
    put_lengths: &'a BTreeSet<usize>,
    append_lengths: &'a BTreeSet<usize>,
) -> impl Iterator<Item = &'a [u8]> {
    let heads = put_lengths.iter().filter_map(|length| value.get(..*length));
    let tails = append_lengths
        .iter()
        .filter_map(|length| value.get(value.len().checked_sub(*length)?..));
    heads.chain(tails)
}

#[cfg(test)]
mod tests {
    use super::super::history::History;
    use super::*;

    #[test]
    fn a_write_is_known_by_the_beginning_or_the_end_of_what_was_read() {
        let mut history = History::default();
        for command in [
            Command::put("a1"),
            Command::append("b22"),
            Command::put("c3"),
            Command::put("same"),
            Command::put("same"),
        ] {
            history.invoke(1, "k", command, 1);
        }
        for (at, value) in [(5, "a1"), (7, "a1b22"), (6, "c3"), (9, "same")] {
            let id = history.invoke(2, "k", Command::Get, at);
            history.done(id, at, Answer::Value(Some(value.into())));
        }
        let operations: Vec<&Operation> = history.operations().iter().collect();
        let shown = last_shown(&operations);
        assert_eq!(shown[..5], [Some(7), Some(7), Some(6), None, None]);
    }
}
