//! The append oracle: a key to which clients append distinguishable tokens shows by its value alone what became
//! of each append. It costs nothing, and its message is plainer than that of a search.

use std::collections::BTreeMap;

use super::history::{Command, History, Operation, Outcome, show_value};

/// Judges a key by its value at the end: each acknowledged append is there once, each of unknown outcome at most
/// once, a refused one never; those of one client stand in the order in which it sent them; and there is nothing
/// else. Tokens must not contain each other, such as `x 1 7 y` (the seventh of client 1).
///
/// # Errors
///
/// What is not so.
pub fn check_appends(history: &History, key: &[u8], value: &[u8]) -> Result<(), String> {
    let mut by_client: BTreeMap<u64, Vec<(&Operation, &[u8])>> = BTreeMap::new();
    for operation in history
        .operations()
        .iter()
        .filter(|operation| operation.key == key)
    {
        if let Command::Append { value } = &operation.command {
            by_client
                .entry(operation.client)
                .or_default()
                .push((operation, value));
        }
    }
    let mut explained = 0;
    for (client, mut appends) in by_client {
        appends.sort_by_key(|(operation, _)| operation.invoked);
        let mut last: Option<(usize, &[u8])> = None;
        for (operation, token) in appends {
            let places = places(value, token);
            let (least, most, said) = match operation.outcome {
                Outcome::Done { .. } => (1, 1, "acknowledged"),
                Outcome::NotApplied { .. } => (0, 0, "refused"),
                Outcome::Unknown => (0, 1, "of unknown outcome"),
            };
            if !(least..=most).contains(&places.len()) {
                return Err(format!(
                    "the append of {} by client {client} was {said}, and it is there {} times",
                    show_value(token),
                    places.len()
                ));
            }
            explained += places.len() * token.len();
            let Some(place) = places.first() else { continue };
            if let Some((_, before)) = last.filter(|(before, _)| before > place) {
                return Err(format!(
                    "client {client} appended {} before {}, and they stand the other way round",
                    show_value(before),
                    show_value(token)
                ));
            }
            last = Some((*place, token));
        }
    }
    if explained == value.len() {
        Ok(())
    } else {
        Err(format!(
            "{} of the {} bytes of the value were appended by nobody",
            value.len().abs_diff(explained),
            value.len()
        ))
    }
}

fn places(value: &[u8], token: &[u8]) -> Vec<usize> {
    if token.is_empty() {
        return Vec::new();
    }
    let starts = value.windows(token.len()).enumerate();
    starts
        .filter(|(_, part)| *part == token)
        .map(|(at, _)| at)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::history::Answer;
    use super::*;

    #[test]
    fn lost_repeated_swapped_refused_and_foreign_tokens_are_seen() {
        let mut history = History::default();
        for n in 0..2 {
            let id = history.invoke(7, "k", Command::append(format!("x 7 {n} y")), n * 10);
            history.done(id, n * 10 + 5, Answer::Done);
        }
        history.invoke(8, "k", Command::append("x 8 0 y"), 3);
        let id = history.invoke(9, "k", Command::append("x 9 0 y"), 4);
        history.not_applied(id, 5);
        let check = |value: &str| check_appends(&history, b"k", value.as_bytes());
        assert_eq!(check("x 7 0 yx 7 1 y"), Ok(()));
        assert_eq!(check("x 7 0 yx 8 0 yx 7 1 y"), Ok(()));
        for (value, seen) in [
            ("x 7 0 y", "0 times"),
            ("x 7 0 yx 7 1 yx 7 0 y", "2 times"),
            ("x 7 0 yx 8 0 yx 7 1 yx 8 0 y", "2 times"),
            ("x 7 1 yx 7 0 y", "the other way round"),
            ("x 7 0 yx 7 1 yx 9 0 y", "refused"),
            ("x 7 0 yx 7 1 y!", "1 of the 15 bytes"),
        ] {
            let said = check(value).unwrap_err();
            assert!(said.contains(seen), "{value}: {said}");
        }
    }
}
