//! What is said and drawn about an illegal history.

use crate::linearizability::history::{Answer, Command, History, Outcome, Unit};
use crate::linearizability::{Budget, Explanation, Part, Verdict, check_kv, check_register, html};

fn explained(verdict: &Verdict) -> &Explanation {
    match verdict {
        Verdict::NotLinearizable(explanation) => explanation,
        other => panic!("{other}"),
    }
}

/// A stale read among a thousand operations on five keys.
fn stale_read() -> History {
    let mut history = History::new(Unit::Microseconds);
    for n in 0..1000u64 {
        let key = format!("k{}", n % 5);
        let at = n * 10;
        if n % 2 == 0 {
            let id = history.invoke(n % 7, key, Command::put(n.to_string()), at);
            history.done(id, at + 5, Answer::Done);
        } else {
            // The write five operations ago was to the same key.
            let seen = n.checked_sub(5).map(|last| last.to_string().into());
            let id = history.invoke(n % 7, key, Command::Get, at);
            history.done(id, at + 5, Answer::Value(seen));
        }
    }
    history
}

#[test]
fn a_stale_read_is_explained_by_itself_and_what_came_before() {
    let mut history = stale_read();
    assert_eq!(check_kv(&history, &Budget::default()), Verdict::Linearizable);
    // This read comes after the next write.
    let id = history.invoke(50, "k0", Command::Get, 5106);
    history.done(id, 5109, Answer::Value(Some("500".into())));
    let verdict = check_kv(&history, &Budget::default());
    let explanation = explained(&verdict);
    assert_eq!(explanation.key, "k0");
    assert_eq!(explanation.key_operations, 201);
    assert!(explanation.is_minimal);
    let core: Vec<String> = explanation.core().map(ToString::to_string).collect();
    assert_eq!(
        core,
        [
            r#"client 1: get -> "500""#,
            r#"client 6: put "510" -> done"#,
            r#"client 50: get -> "500""#
        ]
    );
    assert_eq!(explanation.window, (5050, 5109));
    let text = verdict_text(explanation);
    assert!(text.contains(r#"the key then holds "510""#), "{text}");
    let stuck = &explanation.operations[explanation.stuck[0]].0;
    assert_eq!((stuck.client, explanation.stuck.len()), (50, 1));
    assert!(
        explanation
            .operations
            .iter()
            .any(|(_, part)| *part == Part::Context)
    );
}

fn verdict_text(explanation: &Explanation) -> String {
    let text = explanation.to_string();
    assert!(text.lines().count() > 3, "{text}");
    text
}

/// Every core must contradict itself with all else forgotten, and no longer when any of it is forgotten.
#[test]
fn a_core_is_illegal_and_minimal() {
    let mut history = stale_read();
    // `put "510"` is under way from 5100 to 5105.
    for (client, value, call, end) in [
        (50, "500", 5101, 5160),
        (51, "510", 5102, 5110),
        (52, "500", 5120, 5160),
    ] {
        let id = history.invoke(client, "k0", Command::Get, call);
        history.done(id, end, Answer::Value(Some(value.into())));
    }
    let verdict = check_kv(&history, &Budget::default());
    let explanation = explained(&verdict);
    let with_outcomes = |known: &dyn Fn(usize) -> bool| {
        let mut weaker = History::default();
        let mut core = 0;
        for operation in history.operations() {
            let mut operation = operation.clone();
            if explanation.core().any(|other| *other == operation) {
                core += 1;
                if known(core) {
                    weaker.push(operation);
                    continue;
                }
            }
            operation.outcome = Outcome::Unknown;
            weaker.push(operation);
        }
        matches!(check_kv(&weaker, &Budget::default()), Verdict::NotLinearizable(_))
    };
    assert!(with_outcomes(&|_| true));
    for forgotten in 1..=explanation.core().count() {
        assert!(
            !with_outcomes(&|at| at != forgotten),
            "{forgotten} of {explanation}"
        );
    }
}

#[test]
fn an_answer_that_no_order_gives_stands_alone() {
    let mut history = History::default();
    let id = history.invoke(1, "r", Command::Get, 5);
    history.done(id, 6, Answer::Value(Some("7".into())));
    let verdict = check_register(&history, &Budget::default());
    let text = explained(&verdict).to_string();
    assert!(
        text.contains("none of them can be first; the key holds nothing"),
        "{text}"
    );
}

#[test]
fn the_drawing_is_whole_and_escaped() {
    let mut history = History::new(Unit::Nanoseconds);
    history.invoke(4, "<k>", Command::put("</div><script>"), 1);
    let id = history.invoke(1, "<k>", Command::put("a&\"b"), 2);
    history.done(id, 8, Answer::Done);
    let id = history.invoke(1, "<k>", Command::append("x"), 4);
    history.done(id, 10, Answer::Int(99));
    let verdict = check_kv(&history, &Budget::default());
    let page = html(&[
        ("file.jsonl".into(), verdict),
        ("good".into(), Verdict::Linearizable),
    ]);
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    assert!(
        !page.contains("<script") && !page.contains("http"),
        "nothing from outside, nothing that runs"
    );
    assert!(page.contains("&lt;k&gt;") && page.contains("a&amp;") && page.contains("good: linearizable"));
    for tag in ["div", "span", "p", "pre", "h2", "body", "html", "style"] {
        let count = |text: &str| page.matches(text).count();
        let opened = count(&format!("<{tag}>")) + count(&format!("<{tag} "));
        assert_eq!(opened, count(&format!("</{tag}>")), "{tag}");
    }
    for class in ["op stuck", "window", "client 1", "op core"] {
        assert!(page.contains(class), "{class}");
    }
}
