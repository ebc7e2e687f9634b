//! What each command answers and leaves, as Redis 7 does it.

#![allow(clippy::unwrap_used, reason = "an error is a failed test, in helpers too")]

mod kv_model;

use bytes::Bytes;
use kv_model::{MapView, bulk, set, set_full, set_with};
use quorate_proto::{
    Answer::{self, Int, Nil},
    CommandError::{NotAFloat, NotAnInteger, NotFinite, Overflow, TooLong},
    ExpireCondition::{self, Always as Any, IfEarlier, IfLater, IfNone, IfSome},
    Expiry::At,
    Op, Query,
    SetCondition::{Always, IfAbsent, IfPresent},
    SetExpiry::{Clear, Keep, Set},
};
use quorate_store::kv::VALUE_BYTES_MAX;

const NOW: u64 = 1_000;
const LATER: i64 = 5_000;

fn append(key: &'static str, value: &'static str) -> Op {
    Op::Append {
        key: key.into(),
        value: value.into(),
    }
}

fn set_range(key: &'static str, offset: u64, value: &'static str) -> Op {
    Op::SetRange {
        key: key.into(),
        offset,
        value: value.into(),
    }
}

fn increment(key: &'static str, delta: i64) -> Op {
    Op::Increment {
        key: key.into(),
        delta,
    }
}

fn increment_float(key: &'static str, delta: f64) -> Op {
    Op::IncrementFloat {
        key: key.into(),
        delta,
    }
}

fn expire(key: &'static str, at_ms: i64, condition: ExpireCondition) -> Op {
    Op::Expire {
        key: key.into(),
        expiry: At(at_ms),
        condition,
    }
}

fn delete(key: &'static str) -> Op {
    Op::Delete { key: key.into() }
}

fn persist(key: &'static str) -> Op {
    Op::Persist { key: key.into() }
}

fn get_expire(key: &'static str, at_ms: Option<i64>) -> Op {
    Op::GetExpire {
        key: key.into(),
        expiry: at_ms.map(At),
    }
}

/// Runs steps on the key `k` and looks at its value and deadline after each.
fn check(steps: &[(Op, Answer, Answer, i64)]) {
    let mut view = MapView::default();
    for (number, (op, answer, value, deadline)) in steps.iter().enumerate() {
        assert_eq!(view.run(NOW, op), *answer, "step {number}: {op:?}");
        assert_eq!(view.get(NOW, "k"), *value, "value after step {number}: {op:?}");
        assert_eq!(
            view.deadline(NOW, "k"),
            Int(*deadline),
            "deadline after step {number}: {op:?}"
        );
    }
}

#[test]
fn set_answers_and_its_conditions() {
    check(&[
        (set_full("k", "no", Clear, IfPresent, false), Nil, Nil, -2),
        (
            set_full("k", "a", Clear, IfAbsent, false),
            Answer::Ok,
            bulk("a"),
            -1,
        ),
        (set_full("k", "b", Clear, IfAbsent, false), Nil, bulk("a"), -1),
        (
            set_full("k", "c", Set(At(LATER)), IfPresent, false),
            Answer::Ok,
            bulk("c"),
            LATER,
        ),
        (
            set_full("k", "d", Keep, Always, false),
            Answer::Ok,
            bulk("d"),
            LATER,
        ),
        (
            set_full("k", "e", Keep, IfPresent, false),
            Answer::Ok,
            bulk("e"),
            LATER,
        ),
        (set("k", "f"), Answer::Ok, bulk("f"), -1),
        (set_full("k", "g", Keep, Always, false), Answer::Ok, bulk("g"), -1),
    ]);
}

#[test]
fn set_with_get_answers_the_old_value_whether_or_not_it_sets() {
    check(&[
        (set_full("k", "a", Clear, Always, true), Nil, bulk("a"), -1),
        (
            set_full("k", "b", Set(At(LATER)), Always, true),
            bulk("a"),
            bulk("b"),
            LATER,
        ),
        (
            set_full("k", "c", Clear, IfAbsent, true),
            bulk("b"),
            bulk("b"),
            LATER,
        ),
        (
            set_full("k", "d", Clear, IfPresent, true),
            bulk("b"),
            bulk("d"),
            -1,
        ),
        (delete("k"), Int(1), Nil, -2),
        (set_full("k", "e", Clear, IfPresent, true), Nil, Nil, -2),
        (set_full("k", "f", Clear, IfAbsent, true), Nil, bulk("f"), -1),
    ]);
}

#[test]
fn set_with_a_deadline_in_the_past_leaves_no_key() {
    for past in [i64::MIN, -1, 0, 999, 1_000] {
        check(&[
            (set_with("k", "a", Set(At(past))), Answer::Ok, Nil, -2),
            (set("k", "b"), Answer::Ok, bulk("b"), -1),
            (set_with("k", "c", Set(At(past))), Answer::Ok, Nil, -2),
            (set_with("k", "d", Set(At(1_001))), Answer::Ok, bulk("d"), 1_001),
            (
                set_full("k", "e", Set(At(past)), Always, true),
                bulk("d"),
                Nil,
                -2,
            ),
            (
                set_full("k", "f", Set(At(past)), IfAbsent, false),
                Answer::Ok,
                Nil,
                -2,
            ),
        ]);
    }
}

#[test]
fn plain_set_reads_nothing() {
    let mut view = MapView::default();
    for expiry in [Clear, Set(At(LATER)), Set(At(0)), Clear] {
        view.run(NOW, &set_with("k", "v", expiry));
    }
    assert_eq!(view.gets.get(), 0);
}

#[test]
fn append_extends_and_keeps_the_deadline() {
    check(&[
        (append("k", ""), Int(0), bulk(""), -1),
        (append("k", "ab"), Int(2), bulk("ab"), -1),
        (set_with("k", "x", Set(At(LATER))), Answer::Ok, bulk("x"), LATER),
        (append("k", "yz"), Int(3), bulk("xyz"), LATER),
    ]);
}

#[test]
fn set_range_overwrites_pads_and_keeps_the_deadline() {
    check(&[
        (set_range("k", 5, ""), Int(0), Nil, -2),
        (set_range("k", 2, "ab"), Int(4), bulk("\0\0ab"), -1),
        (set_range("k", 0, "x"), Int(4), bulk("x\0ab"), -1),
        (set_range("k", 1, "yz"), Int(4), bulk("xyzb"), -1),
        (set_range("k", 3, "123"), Int(6), bulk("xyz123"), -1),
        (set_range("k", 7, "!"), Int(8), bulk("xyz123\0!"), -1),
        (set_range("k", u64::MAX, ""), Int(8), bulk("xyz123\0!"), -1),
        (set_with("k", "v", Set(At(LATER))), Answer::Ok, bulk("v"), LATER),
        (set_range("k", 1, "w"), Int(2), bulk("vw"), LATER),
    ]);
}

#[test]
fn values_longer_than_allowed_are_refused_before_they_are_made() {
    let mut view = MapView::default();
    let refused = Answer::Error(TooLong);
    for offset in [VALUE_BYTES_MAX, u64::MAX, u64::MAX - 1] {
        assert_eq!(view.run(NOW, &set_range("k", offset, "a")), refused);
    }
    assert_eq!(view.get(NOW, "k"), Nil);
    let longest = Bytes::from(vec![0; VALUE_BYTES_MAX as usize + 1]);
    let key = Bytes::from_static(b"k");
    for op in [
        Op::Set {
            key: key.clone(),
            value: longest.clone(),
            expiry: Clear,
            condition: Always,
            get: false,
        },
        Op::Set {
            key: key.clone(),
            value: longest.clone(),
            expiry: Clear,
            condition: IfAbsent,
            get: true,
        },
        Op::Append {
            key: key.clone(),
            value: longest.clone(),
        },
        Op::SetAllIfAbsent {
            pairs: vec![(key, longest)],
        },
    ] {
        assert_eq!(view.run(NOW, &op), refused);
    }
    assert!(view.pairs.is_empty());
}

#[test]
fn increment_counts_and_keeps_the_deadline() {
    check(&[
        (increment("k", 5), Int(5), bulk("5"), -1),
        (increment("k", -7), Int(-2), bulk("-2"), -1),
        (
            set_with("k", "9223372036854775806", Set(At(LATER))),
            Answer::Ok,
            bulk("9223372036854775806"),
            LATER,
        ),
        (
            increment("k", 1),
            Int(i64::MAX),
            bulk("9223372036854775807"),
            LATER,
        ),
        (
            increment("k", 1),
            Answer::Error(Overflow),
            bulk("9223372036854775807"),
            LATER,
        ),
        (
            set("k", "-9223372036854775808"),
            Answer::Ok,
            bulk("-9223372036854775808"),
            -1,
        ),
        (
            increment("k", -1),
            Answer::Error(Overflow),
            bulk("-9223372036854775808"),
            -1,
        ),
        (increment("k", i64::MAX), Int(-1), bulk("-1"), -1),
        (set("k", " 1"), Answer::Ok, bulk(" 1"), -1),
        (increment("k", 1), Answer::Error(NotAnInteger), bulk(" 1"), -1),
        (set("k", ""), Answer::Ok, bulk(""), -1),
        (increment("k", 1), Answer::Error(NotAnInteger), bulk(""), -1),
    ]);
}

#[test]
fn increment_float_adds_and_keeps_the_deadline() {
    check(&[
        (increment_float("k", 0.1), bulk("0.1"), bulk("0.1"), -1),
        (increment_float("k", 0.2), bulk("0.3"), bulk("0.3"), -1),
        (
            set_with("k", "3.0e3", Set(At(LATER))),
            Answer::Ok,
            bulk("3.0e3"),
            LATER,
        ),
        (increment_float("k", 200.0), bulk("3200"), bulk("3200"), LATER),
        (increment("k", 1), Int(3201), bulk("3201"), LATER),
        (set("k", "x"), Answer::Ok, bulk("x"), -1),
        (increment_float("k", 1.0), Answer::Error(NotAFloat), bulk("x"), -1),
        (set("k", "1e308"), Answer::Ok, bulk("1e308"), -1),
        (
            increment_float("k", f64::MAX),
            Answer::Error(NotFinite),
            bulk("1e308"),
            -1,
        ),
    ]);
}

#[test]
fn delete_and_get_delete() {
    check(&[
        (delete("k"), Int(0), Nil, -2),
        (Op::GetDelete { key: "k".into() }, Nil, Nil, -2),
        (set_with("k", "v", Set(At(LATER))), Answer::Ok, bulk("v"), LATER),
        (Op::GetDelete { key: "k".into() }, bulk("v"), Nil, -2),
        (set("k", "v"), Answer::Ok, bulk("v"), -1),
        (delete("k"), Int(1), Nil, -2),
    ]);
}

#[test]
fn get_expire_changes_the_deadline() {
    check(&[
        (get_expire("k", Some(LATER)), Nil, Nil, -2),
        (get_expire("k", None), Nil, Nil, -2),
        (set("k", "v"), Answer::Ok, bulk("v"), -1),
        (get_expire("k", None), bulk("v"), bulk("v"), -1),
        (get_expire("k", Some(LATER)), bulk("v"), bulk("v"), LATER),
        (get_expire("k", Some(LATER + 1)), bulk("v"), bulk("v"), LATER + 1),
        (get_expire("k", None), bulk("v"), bulk("v"), -1),
        (get_expire("k", Some(1_000)), bulk("v"), Nil, -2),
    ]);
}

#[test]
fn expire_and_its_conditions() {
    check(&[
        (expire("k", LATER, Any), Int(0), Nil, -2),
        (set("k", "v"), Answer::Ok, bulk("v"), -1),
        (expire("k", LATER, IfSome), Int(0), bulk("v"), -1),
        // Without a deadline counts as without end: nothing is later, everything is earlier.
        (expire("k", LATER, IfLater), Int(0), bulk("v"), -1),
        (expire("k", LATER, IfEarlier), Int(1), bulk("v"), LATER),
        (expire("k", LATER + 1, IfNone), Int(0), bulk("v"), LATER),
        (expire("k", LATER, IfLater), Int(0), bulk("v"), LATER),
        (expire("k", LATER, IfEarlier), Int(0), bulk("v"), LATER),
        (expire("k", LATER + 1, IfLater), Int(1), bulk("v"), LATER + 1),
        (expire("k", LATER, IfEarlier), Int(1), bulk("v"), LATER),
        (expire("k", LATER, Any), Int(1), bulk("v"), LATER),
        (expire("k", LATER + 2, IfSome), Int(1), bulk("v"), LATER + 2),
        (expire("k", 0, IfLater), Int(0), bulk("v"), LATER + 2),
        (persist("k"), Int(1), bulk("v"), -1),
        (persist("k"), Int(0), bulk("v"), -1),
        (expire("k", LATER, IfNone), Int(1), bulk("v"), LATER),
        (expire("k", -5, IfEarlier), Int(1), Nil, -2),
        (persist("k"), Int(0), Nil, -2),
        (set("k", "v"), Answer::Ok, bulk("v"), -1),
        (expire("k", 1_000, Any), Int(1), Nil, -2),
    ]);
}

#[test]
fn set_all_if_absent_sets_all_or_nothing() {
    let pairs = |pairs: &[(&'static str, &'static str)]| Op::SetAllIfAbsent {
        pairs: pairs
            .iter()
            .map(|(key, value)| (Bytes::from(*key), Bytes::from(*value)))
            .collect(),
    };
    check(&[
        (pairs(&[("{k}1", "x"), ("k", "a")]), Int(1), bulk("a"), -1),
        (delete("k"), Int(1), Nil, -2),
        (pairs(&[("k", "b"), ("{k}1", "y")]), Int(0), Nil, -2),
        (
            pairs(&[("k", "b"), ("{k}2", "y"), ("k", "c")]),
            Int(1),
            bulk("c"),
            -1,
        ),
    ]);
}

#[test]
fn flush_and_noop_change_nothing_here() {
    check(&[
        (set("k", "v"), Answer::Ok, bulk("v"), -1),
        (Op::Flush, Answer::Ok, bulk("v"), -1),
        (Op::Noop, Answer::Ok, bulk("v"), -1),
    ]);
}

#[test]
fn queries_answer() {
    let mut view = MapView::default();
    view.run(NOW, &set("k", "This is"));
    let key = || Bytes::from_static(b"k");
    let missing = || Bytes::from_static(b"missing");
    let table = [
        (Query::Get { key: key() }, bulk("This is")),
        (Query::Get { key: missing() }, Nil),
        (Query::Exists { key: key() }, Int(1)),
        (Query::Exists { key: missing() }, Int(0)),
        (Query::StrLen { key: key() }, Int(7)),
        (Query::StrLen { key: missing() }, Int(0)),
        (
            Query::GetRange {
                key: key(),
                start: 0,
                end: 3,
            },
            bulk("This"),
        ),
        (
            Query::GetRange {
                key: key(),
                start: -2,
                end: -1,
            },
            bulk("is"),
        ),
        (
            Query::GetRange {
                key: missing(),
                start: 0,
                end: -1,
            },
            bulk(""),
        ),
        (Query::Deadline { key: key() }, Int(-1)),
        (Query::Deadline { key: missing() }, Int(-2)),
        (Query::Barrier, Answer::Ok),
    ];
    for (asked, answer) in table {
        assert_eq!(view.ask(NOW, &asked), answer, "{asked:?}");
    }
}

#[test]
fn the_empty_key_is_a_key() {
    let mut view = MapView::default();
    assert_eq!(view.run(NOW, &set_with("", "v", Set(At(LATER)))), Answer::Ok);
    assert_eq!(view.get(NOW, ""), bulk("v"));
    assert_eq!(view.run(NOW, &delete("")), Int(1));
    assert!(view.pairs.is_empty());
}
