//! For tests: a history must be linearizable.

use super::budget::Budget;
use super::history::History;
use super::{Verdict, check_kv, html};

/// Judges a history of keys with values. Says on standard output if the budget did not suffice.
///
/// # Panics
///
/// When it is not linearizable: with the explanation, and the name of a page that draws it, in the directory for
/// temporary files.
pub fn assert_linearizable(name: &str, history: &History, budget: &Budget) {
    let verdict = check_kv(history, budget);
    match &verdict {
        Verdict::Linearizable => {}
        Verdict::Unknown(why) => println!(
            "{name}: {} operations, unknown: {why}",
            history.operations().len()
        ),
        Verdict::NotLinearizable(explanation) => {
            let explanation = explanation.to_string();
            let path = std::env::temp_dir().join(format!("quorate-history-{name}.html"));
            let drawn = match std::fs::write(&path, html(&[(name.to_owned(), verdict)])) {
                Ok(()) => format!("drawn in {}", path.display()),
                Err(error) => format!("cannot be drawn in {}: {error}", path.display()),
            };
            panic!("{name} is not linearizable ({drawn})\n{explanation}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{Answer, Command};
    use super::*;

    #[test]
    #[should_panic(expected = "not linearizable (drawn in")]
    fn an_illegal_history_fails_and_is_drawn() {
        let mut history = History::default();
        let id = history.invoke(1, "k", Command::Get, 1);
        history.done(id, 2, Answer::Int(3));
        assert_linearizable("demand-test", &history, &Budget::default());
    }
}
