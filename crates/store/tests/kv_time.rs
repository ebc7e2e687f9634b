//! The time rules (T): deadlines, the shard's time against the wall clock, sweeps.

#![allow(clippy::unwrap_used, reason = "an error is a failed test, in helpers too")]

mod kv_model;

use bytes::Bytes;
use kv_model::{MapView, SPACE, bulk, set, set_full, set_with};
use quorate_proto::{
    Answer::{self, Int, Nil},
    ExpireCondition,
    Expiry::{At, In},
    Op, Query,
    SetCondition::{Always, IfAbsent, IfPresent},
    SetExpiry::{Clear, Keep, Set},
};
use quorate_store::kv::{Read, ReadTime, Space, data_key, due, expiry_key, resolve};

fn sweep(due: &[(u64, &'static str)]) -> Op {
    Op::Sweep {
        due: due.iter().map(|(at, key)| (*at, Bytes::from(*key))).collect(),
    }
}

fn all_due(view: &MapView, until_ms: u64) -> Vec<(u64, Bytes)> {
    due(view, SPACE, until_ms, None, usize::MAX).unwrap().entries
}

#[test]
fn t1_relative_deadlines_become_absolute() {
    let key = || Bytes::from_static(b"k");
    for (in_ms, now_ms, at_ms) in [
        (5, 100, 105),
        (-5, 100, 95),
        (0, 100, 100),
        (i64::MAX, 1, i64::MAX),
        (1, u64::MAX, i64::MAX),
        (i64::MIN, 0, i64::MIN),
    ] {
        assert_eq!(
            resolve(set_with("k", "v", Set(In(in_ms))), now_ms),
            set_with("k", "v", Set(At(at_ms))),
            "{in_ms} ms after {now_ms}"
        );
        assert_eq!(
            resolve(
                Op::GetExpire {
                    key: key(),
                    expiry: Some(In(in_ms))
                },
                now_ms
            ),
            Op::GetExpire {
                key: key(),
                expiry: Some(At(at_ms))
            }
        );
        let expire = |expiry| Op::Expire {
            key: key(),
            expiry,
            condition: ExpireCondition::IfNone,
        };
        assert_eq!(resolve(expire(In(in_ms)), now_ms), expire(At(at_ms)));
        assert_eq!(resolve(expire(At(in_ms)), now_ms), expire(At(in_ms)));
    }
    for op in [
        set("k", "v"),
        set_with("k", "v", Keep),
        Op::GetExpire {
            key: key(),
            expiry: None,
        },
        Op::Noop,
    ] {
        assert_eq!(resolve(op.clone(), 100), op);
    }
}

#[test]
fn t1_apply_knows_only_the_stamp() {
    let mut view = MapView::default();
    view.run(10, &set_with("k", "v", Set(At(20))));
    // The stamp of the entry decides, whatever the time is when it is applied.
    assert_eq!(
        view.clone().run(19, &set_full("k", "w", Clear, IfAbsent, false)),
        Nil
    );
    assert_eq!(
        view.run(20, &set_full("k", "w", Clear, IfAbsent, false)),
        Answer::Ok
    );
}

#[test]
fn an_expired_key_is_absent_for_every_write() {
    let key = || Bytes::from_static(b"k");
    // What each answers on the expired key, and the value it leaves.
    let table = [
        (set_full("k", "w", Clear, IfPresent, false), Nil, Nil),
        (set_full("k", "w", Clear, IfAbsent, false), Answer::Ok, bulk("w")),
        (set_full("k", "w", Keep, Always, true), Nil, bulk("w")),
        (set_with("k", "w", Keep), Answer::Ok, bulk("w")),
        (
            Op::Append {
                key: key(),
                value: "w".into(),
            },
            Int(1),
            bulk("w"),
        ),
        (
            Op::SetRange {
                key: key(),
                offset: 1,
                value: "w".into(),
            },
            Int(2),
            bulk("\0w"),
        ),
        (
            Op::SetRange {
                key: key(),
                offset: 1,
                value: "".into(),
            },
            Int(0),
            Nil,
        ),
        (Op::Increment { key: key(), delta: 3 }, Int(3), bulk("3")),
        (
            Op::IncrementFloat {
                key: key(),
                delta: 0.5,
            },
            bulk("0.5"),
            bulk("0.5"),
        ),
        (Op::GetDelete { key: key() }, Nil, Nil),
        (
            Op::GetExpire {
                key: key(),
                expiry: Some(At(99)),
            },
            Nil,
            Nil,
        ),
        (
            Op::GetExpire {
                key: key(),
                expiry: None,
            },
            Nil,
            Nil,
        ),
        (Op::Delete { key: key() }, Int(0), Nil),
        (
            Op::Expire {
                key: key(),
                expiry: At(99),
                condition: ExpireCondition::Always,
            },
            Int(0),
            Nil,
        ),
        (Op::Persist { key: key() }, Int(0), Nil),
        (
            Op::SetAllIfAbsent {
                pairs: vec![(key(), "w".into())],
            },
            Int(1),
            bulk("w"),
        ),
    ];
    for (op, answer, value) in table {
        let mut view = MapView::default();
        view.run(10, &set_with("k", "7", Set(At(20))));
        assert_eq!(view.run(20, &op), answer, "{op:?}");
        assert_eq!(view.get(20, "k"), value, "{op:?}");
        let deadline = if value == Nil { -2 } else { -1 };
        assert_eq!(view.deadline(20, "k"), Int(deadline), "{op:?}");
        // The write met what was left of the old key, and took its index entry along.
        assert_eq!(all_due(&view, u64::MAX), [], "{op:?}");
    }
}

#[test]
fn t2_reads_between_the_two_clocks_ask_for_an_expiry() {
    let mut view = MapView::default();
    view.run(10, &set_with("k", "v", Set(At(20))));
    let key = || Bytes::from_static(b"k");
    let queries = [
        (Query::Get { key: key() }, bulk("v"), Nil),
        (Query::Exists { key: key() }, Int(1), Int(0)),
        (Query::StrLen { key: key() }, Int(1), Int(0)),
        (
            Query::GetRange {
                key: key(),
                start: 0,
                end: -1,
            },
            bulk("v"),
            bulk(""),
        ),
        (Query::Deadline { key: key() }, Int(20), Int(-2)),
    ];
    for (asked, present, absent) in queries {
        let read = |shard_ms, wall_ms| view.ask_at(ReadTime { shard_ms, wall_ms }, &asked);
        assert_eq!(read(10, 19), Read::Answer(present.clone()), "{asked:?}");
        assert_eq!(read(19, 3), Read::Answer(present), "{asked:?}");
        assert_eq!(read(10, 20), Read::ExpiredByWall, "{asked:?}");
        assert_eq!(read(19, u64::MAX), Read::ExpiredByWall, "{asked:?}");
        // The shard's time decides, even against a wall clock that is behind.
        assert_eq!(read(20, 19), Read::Answer(absent.clone()), "{asked:?}");
        assert_eq!(read(20, 20), Read::Answer(absent), "{asked:?}");
    }
}

#[test]
fn t3_the_index_gives_what_is_due_in_order_and_in_bounds() {
    let mut view = MapView::default();
    for (key, at) in [("c", 30), ("a", 10), ("b", 20), ("d", i64::MAX)] {
        view.run(1, &set_with(key, "v", Set(At(at))));
    }
    let keys = |until, limit| -> Vec<u64> {
        due(&view, SPACE, until, None, limit)
            .unwrap()
            .entries
            .into_iter()
            .map(|(at, _)| at)
            .collect()
    };
    assert_eq!(keys(9, 10), []);
    assert_eq!(keys(20, 10), [10, 20]);
    assert_eq!(keys(29, 1), [10]);
    assert_eq!(keys(u64::MAX, 10), [10, 20, 30, i64::MAX as u64]);
    assert_eq!(keys(u64::MAX, 0), []);
    let other = due(&view, Space(SPACE.0 + 1), u64::MAX, None, 10).unwrap();
    assert_eq!((other.entries, other.more), (vec![], None));
    assert_eq!(all_due(&view, 10), [(10, Bytes::from_static(b"a"))]);
}

#[test]
fn t3_a_sweep_removes_expired_keys_and_their_entries() {
    let mut view = MapView::default();
    view.run(1, &set_with("a", "v", Set(At(10))));
    view.run(1, &set_with("b", "v", Set(At(20))));
    assert_eq!(
        view.run(
            15,
            &Op::Sweep {
                due: all_due(&view, 15)
            }
        ),
        Int(1)
    );
    assert_eq!((view.count(b'd'), view.count(b'x')), (1, 1));
    assert_eq!(view.get(15, "b"), bulk("v"));
    assert_eq!(
        view.run(
            20,
            &Op::Sweep {
                due: all_due(&view, 20)
            }
        ),
        Int(1)
    );
    assert!(view.pairs.is_empty());
    // The same sweep again, from a leader that did not know of the first.
    assert_eq!(view.run(20, &sweep(&[(10, "a"), (20, "b")])), Int(0));
    assert!(view.pairs.is_empty());
}

#[test]
fn t3_a_sweep_spares_keys_that_were_written_since() {
    let mut view = MapView::default();
    view.run(1, &set_with("k", "v", Set(At(10))));
    view.run(2, &set("k", "w"));
    assert_eq!(view.count(b'x'), 1, "a plain SET leaves the entry");
    assert_eq!(view.run(10, &sweep(&[(10, "k")])), Int(0));
    assert_eq!((view.get(10, "k"), view.count(b'x')), (bulk("w"), 0));

    view.run(11, &set_with("k", "v", Set(At(20))));
    view.run(12, &set_with("k", "v", Set(At(30))));
    assert_eq!(view.run(20, &sweep(&[(20, "k")])), Int(0));
    assert_eq!((view.deadline(20, "k"), view.count(b'x')), (Int(30), 1));
    // One sweep late enough for both entries removes the key once.
    view.run(21, &set_with("k", "v", Set(At(29))));
    assert_eq!(
        view.run(
            30,
            &Op::Sweep {
                due: all_due(&view, 30)
            }
        ),
        Int(1)
    );
    assert!(view.pairs.is_empty());
}

#[test]
fn t3_a_sweep_before_its_time_changes_nothing() {
    let mut view = MapView::default();
    view.run(1, &set_with("k", "v", Set(At(10))));
    let before = view.pairs.clone();
    assert_eq!(view.run(9, &sweep(&[(10, "k"), (11, "k")])), Int(0));
    assert_eq!(view.pairs, before);
}

#[test]
fn writes_that_read_keep_the_index_exact() {
    let mut view = MapView::default();
    let key = || Bytes::from_static(b"k");
    view.run(1, &set_with("k", "1", Set(At(100))));
    // A session that is refreshed all day must not leave an entry for each time.
    for at in 101..200 {
        view.run(
            1,
            &Op::Expire {
                key: key(),
                expiry: At(at),
                condition: ExpireCondition::Always,
            },
        );
        view.run(
            1,
            &Op::GetExpire {
                key: key(),
                expiry: Some(At(at + 1)),
            },
        );
    }
    view.run(1, &Op::Increment { key: key(), delta: 1 });
    assert_eq!(all_due(&view, u64::MAX), [(200, key())]);
    view.run(1, &Op::Persist { key: key() });
    assert_eq!(all_due(&view, u64::MAX), []);
    view.run(1, &set_full("k", "v", Set(At(50)), IfPresent, false));
    assert_eq!(all_due(&view, u64::MAX), [(50, key())]);
    view.run(1, &Op::Delete { key: key() });
    assert!(view.pairs.is_empty());
}

#[test]
fn stored_pairs_look_as_documented() {
    let mut view = MapView::default();
    view.run(1, &set("k", "v"));
    view.run(1, &set_with("t", "w", Set(At(0x0102))));
    let pairs: Vec<_> = view
        .pairs
        .iter()
        .map(|(key, value)| (key.to_vec(), value.to_vec()))
        .collect();
    let mut expected = vec![
        (data_key(SPACE, b"k"), b"\0v".to_vec()),
        (data_key(SPACE, b"t"), b"\x01\x02\x01\0\0\0\0\0\0w".to_vec()),
        (expiry_key(SPACE, 0x0102, b"t"), vec![]),
    ];
    expected.sort();
    assert_eq!(pairs, expected);
    assert_eq!(
        expiry_key(SPACE, 0x0102, b"t"),
        b"x\0\0\0\x07\0\0\0\0\0\0\x01\x02t"
    );
    assert_eq!(data_key(SPACE, b"foo")[..7], *b"d\0\0\0\x07\x2f\x96");
    assert_eq!(data_key(SPACE, b"foo")[11..], *b"foo");
}
