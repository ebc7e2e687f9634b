//! SCAN: every key once, in pages, from a cursor that needs no state.

#![allow(clippy::unwrap_used, reason = "an error is a failed test, in helpers too")]

mod kv_model;

use std::collections::BTreeSet;

use bytes::Bytes;
use kv_model::{MapView, SPACE, set_with};
use quorate_proto::{Answer, Expiry::At, Op, Query, ScanPosition, SetCondition, SetExpiry};
use quorate_store::kv::{Read, ReadTime, Space, Txn, apply, data_key, scan_position};

const SLOTS: u16 = 16384;

struct Page {
    next: Option<ScanPosition>,
    keys: Vec<Bytes>,
    count: u64,
}

fn filled(keys: impl IntoIterator<Item = String>) -> MapView {
    let mut view = MapView::default();
    for key in keys {
        view.run(
            1,
            &Op::Set {
                key: key.into(),
                value: "v".into(),
                expiry: SetExpiry::Clear,
                condition: SetCondition::Always,
                get: false,
            },
        );
    }
    view
}

fn scan(from: ScanPosition, end_slot: u16, limit: u32, pattern: Option<&'static str>) -> Query {
    Query::Scan {
        from,
        end_slot,
        limit,
        pattern: pattern.map(Bytes::from),
        count_only: false,
    }
}

fn page(view: &MapView, asked: &Query) -> Page {
    match view.ask(1, asked) {
        Answer::Page { next, keys, count } => Page { next, keys, count },
        other => panic!("not a page: {other:?}"),
    }
}

fn all_pages(view: &MapView, end_slot: u16, limit: u32, pattern: Option<&'static str>) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut from = Some(ScanPosition::default());
    while let Some(position) = from {
        let page = page(view, &scan(position, end_slot, limit, pattern));
        assert!(
            page.next.is_none_or(|next| next > position),
            "a scan goes forward"
        );
        assert_eq!(page.count, page.keys.len() as u64);
        from = page.next;
        pages.push(page);
    }
    pages
}

#[test]
fn every_key_comes_once_whatever_the_page() {
    let names: BTreeSet<String> = (0..300).map(|n| format!("key:{n}")).collect();
    let view = filled(names.clone());
    for limit in [0, 1, 7, 100, 299, 300, 301, u32::MAX] {
        let pages = all_pages(&view, SLOTS, limit, None);
        let keys: Vec<Bytes> = pages.iter().flat_map(|page| page.keys.clone()).collect();
        assert_eq!(keys.len(), names.len(), "limit {limit}");
        assert!(keys.iter().map(|key| scan_position(key)).is_sorted());
        let unique: BTreeSet<_> = keys
            .iter()
            .map(|key| String::from_utf8(key.to_vec()).unwrap())
            .collect();
        assert_eq!(unique, names, "limit {limit}");
        let (_, full) = pages.split_last().unwrap();
        assert!(
            full.iter().all(|page| page.keys.len() == limit.max(1) as usize),
            "limit {limit}"
        );
    }
}

#[test]
fn a_huge_slot_is_scanned_in_pages() {
    let view = filled((0..500).map(|n| format!("{{tag}}{n}")));
    let pages = all_pages(&view, SLOTS, 10, None);
    assert_eq!(pages.len(), 50);
    assert!(pages.iter().all(|page| {
        page.next
            .is_none_or(|next| next.slot == scan_position(b"tag").slot)
    }));
}

/// Keys that collide in slot and hash, put into the engine by hand.
#[test]
fn a_run_of_equal_positions_is_never_cut() {
    let mut view = MapView::default();
    let mut put = |prefix: &[u8], key: &[u8]| {
        view.pairs
            .insert([prefix, key].concat().into(), Bytes::from_static(b"\0v"));
    };
    let first = data_key(SPACE, b"");
    for key in [&b"a"[..], b"b", b"c"] {
        put(&first, key);
    }
    let mut second = first.clone();
    second[10] ^= 0xff;
    put(&second, b"d");
    let pages = all_pages(&view, SLOTS, 1, None);
    let mut lengths: Vec<usize> = pages.iter().map(|page| page.keys.len()).collect();
    lengths.sort_unstable();
    assert_eq!(lengths, [1, 3]);
    assert!(pages.last().unwrap().next.is_none());
}

#[test]
fn the_range_ends_before_its_end_slot() {
    let view = filled(["foo", "bar", "{foo}2"].map(str::to_owned));
    let (low, high) = (scan_position(b"bar").slot, scan_position(b"foo").slot);
    assert!(low < high);
    let keys = |from: u16, end: u16| {
        page(&view, &scan(ScanPosition { slot: from, hash: 0 }, end, 10, None))
            .keys
            .len()
    };
    assert_eq!(keys(0, SLOTS), 3);
    assert_eq!(keys(0, u16::MAX), 3);
    assert_eq!(keys(0, high), 1);
    assert_eq!(keys(low, low + 1), 1);
    assert_eq!(keys(low + 1, high), 0);
    assert_eq!(keys(high, high + 1), 2);
    assert_eq!(keys(high, high), 0);
    assert_eq!(keys(high, low), 0);
    assert_eq!(keys(0, 0), 0);
}

#[test]
fn the_limit_counts_keys_looked_at_not_keys_matched() {
    let view = filled((0..100).map(|n| format!("key:{n}")));
    let pages = all_pages(&view, SLOTS, 10, Some("*:7"));
    assert_eq!(pages.len(), 10);
    let keys: Vec<_> = pages.into_iter().flat_map(|page| page.keys).collect();
    assert_eq!(keys, ["key:7"]);
}

#[test]
fn counting_leaves_the_keys_out() {
    let view = filled((0..100).map(|n| format!("key:{n}")));
    let asked = Query::Scan {
        from: ScanPosition::default(),
        end_slot: SLOTS,
        limit: u32::MAX,
        pattern: Some("key:?".into()),
        count_only: true,
    };
    assert_eq!(
        view.ask(1, &asked),
        Answer::Page {
            next: None,
            keys: vec![],
            count: 10
        }
    );
}

#[test]
fn expired_keys_are_hidden_by_either_clock() {
    let mut view = MapView::default();
    view.run(1, &set_with("k", "v", SetExpiry::Set(At(20))));
    let seen = |shard_ms, wall_ms| {
        let asked = scan(ScanPosition::default(), SLOTS, 10, None);
        match view.ask_at(ReadTime { shard_ms, wall_ms }, &asked) {
            Read::Answer(Answer::Page { count, .. }) => count,
            other => panic!("not a page: {other:?}"),
        }
    };
    assert_eq!((seen(19, 19), seen(20, 19), seen(19, 20)), (1, 0, 0));
}

#[test]
fn other_spaces_are_not_seen() {
    let mut view = filled(["mine".to_owned()]);
    for space in [Space(SPACE.0 - 1), Space(SPACE.0 + 1), Space(u32::MAX)] {
        let mut txn = Txn::new(&view);
        apply(
            &mut txn,
            space,
            1,
            &set_with("theirs", "v", SetExpiry::Set(At(99))),
        )
        .unwrap();
        let batch = txn.into_batch();
        view.write(batch);
    }
    assert_eq!(
        page(&view, &scan(ScanPosition::default(), SLOTS, 10, None)).keys,
        ["mine"]
    );
}
