//! Row PS-11 of the scenario table: get, put, delete and scan, in each of several keyspaces that share an engine.

#![allow(clippy::unwrap_used, reason = "an error is a failed test, in helpers too")]

mod kv_model;

use bytes::Bytes;
use kv_model::{MapView, bulk, set};
use quorate_proto::{Answer, Op, Query, ScanPosition};
use quorate_storage::engine::View as _;
use quorate_store::kv::{Read, ReadTime, Space, Txn, apply, data_range, query, scan_position};

const SPACES: [Space; 3] = [Space(1), Space(2), Space(3)];
const NOW: ReadTime = ReadTime {
    shard_ms: 1,
    wall_ms: 1,
};

fn run(view: &mut MapView, space: Space, op: &Op) -> Answer {
    let mut txn = Txn::new(&*view);
    let answer = apply(&mut txn, space, 1, op).unwrap();
    let batch = txn.into_batch();
    view.write(batch);
    answer
}

fn ask(view: &MapView, space: Space, asked: &Query) -> Answer {
    match query(view, space, NOW, asked).unwrap() {
        Read::Answer(answer) => answer,
        Read::ExpiredByWall => panic!("nothing expires here"),
    }
}

fn get(view: &MapView, space: Space, key: &'static str) -> Answer {
    ask(view, space, &Query::Get { key: key.into() })
}

fn delete(key: &'static str) -> Op {
    Op::Delete { key: key.into() }
}

/// Keys as a scan gives them, at most `limit` for each page, and what the first page said.
fn scan(view: &MapView, space: Space, limit: u32) -> (Vec<Bytes>, usize) {
    let (mut from, mut all, mut first) = (Some(ScanPosition::default()), Vec::new(), None);
    while let Some(position) = from {
        let asked = Query::Scan {
            from: position,
            end_slot: 16_384,
            limit,
            pattern: None,
            count_only: false,
        };
        let Answer::Page { next, keys, .. } = ask(view, space, &asked) else {
            panic!("not a page")
        };
        first.get_or_insert(keys.len());
        (from, all) = (next, [all, keys].concat());
    }
    (all, first.unwrap_or_default())
}

/// Keys in the order of their places, which is that of slots.
fn in_order(keys: &[&'static str]) -> Vec<Bytes> {
    let mut keys = keys.to_vec();
    keys.sort_by_key(|key| scan_position(key.as_bytes()));
    keys.into_iter().map(Bytes::from).collect()
}

#[test]
fn ps_11_get_tells_an_absent_key_from_an_empty_value() {
    let mut view = MapView::default();
    for space in SPACES {
        assert_eq!(get(&view, space, "k"), Answer::Nil);
        assert_eq!(run(&mut view, space, &set("k", "")), Answer::Ok);
        assert_eq!(get(&view, space, "k"), bulk(""));
        assert_eq!(get(&view, space, "other"), Answer::Nil);
    }
}

#[test]
fn ps_11_put_writes_and_overwrites_in_its_keyspace_only() {
    let mut view = MapView::default();
    for (space, value) in SPACES.into_iter().zip(["1", "2", "3"]) {
        assert_eq!(run(&mut view, space, &set("k", "before")), Answer::Ok);
        assert_eq!(get(&view, space, "k"), bulk("before"));
        assert_eq!(run(&mut view, space, &set("k", value)), Answer::Ok);
    }
    for (space, value) in SPACES.into_iter().zip(["1", "2", "3"]) {
        assert_eq!(get(&view, space, "k"), bulk(value));
    }
}

#[test]
fn ps_11_delete_removes_and_says_whether_there_was_anything() {
    let mut view = MapView::default();
    for space in SPACES {
        run(&mut view, space, &set("k", "v"));
    }
    assert_eq!(run(&mut view, SPACES[1], &delete("k")), Answer::Int(1));
    assert_eq!(run(&mut view, SPACES[1], &delete("k")), Answer::Int(0));
    assert_eq!(get(&view, SPACES[1], "k"), Answer::Nil);
    for space in [SPACES[0], SPACES[2]] {
        assert_eq!(get(&view, space, "k"), bulk("v"), "{space:?}");
    }
    run(&mut view, SPACES[1], &set("k", "again"));
    assert_eq!(get(&view, SPACES[1], "k"), bulk("again"));
}

#[test]
fn ps_11_a_scan_keeps_to_its_limit_and_order_and_skips_what_was_deleted() {
    let keys = ["1", "2", "3", "4", "5"];
    let mut view = MapView::default();
    for space in SPACES {
        for key in keys {
            run(&mut view, space, &set(key, "v"));
        }
    }
    for (limit, first) in [(1, 1), (2, 2), (3, 3), (5, 5), (100, 5)] {
        assert_eq!(
            scan(&view, SPACES[1], limit),
            (in_order(&keys), first),
            "limit {limit}"
        );
    }
    run(&mut view, SPACES[1], &delete("3"));
    run(&mut view, SPACES[1], &set("6", "v"));
    for limit in [1, 3, 100] {
        assert_eq!(
            scan(&view, SPACES[1], limit).0,
            in_order(&["1", "2", "4", "5", "6"]),
            "limit {limit}"
        );
        for space in [SPACES[0], SPACES[2]] {
            assert_eq!(
                scan(&view, space, limit).0,
                in_order(&keys),
                "{space:?}, limit {limit}"
            );
        }
    }
}

#[test]
fn ps_11_an_iterator_skips_what_was_deleted_in_both_directions() {
    let mut view = MapView::default();
    for space in SPACES {
        for key in ["1", "2", "3"] {
            run(&mut view, space, &set(key, key));
        }
    }
    run(&mut view, SPACES[1], &delete("2"));
    let (start, end) = data_range(SPACES[1]);
    let forward: Vec<Bytes> = view.scan(&start, &end).map(|pair| pair.unwrap().0).collect();
    let mut backward: Vec<Bytes> = view
        .scan_reverse(&start, &end)
        .map(|pair| pair.unwrap().0)
        .collect();
    backward.reverse();
    assert_eq!(forward, backward);
    let keys: Vec<&[u8]> = forward.iter().map(|key| &key[key.len() - 1..]).collect();
    let expected = in_order(&["1", "3"]);
    assert_eq!(keys, expected.iter().map(|key| &key[..]).collect::<Vec<_>>());
}
