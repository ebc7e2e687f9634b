//! Snapshots carry a shard's pairs from one space to another.

#![allow(clippy::unwrap_used, reason = "an error is a failed test, in helpers too")]

mod kv_model;

use bytes::Bytes;
use kv_model::{MapView, SPACE, set_with};
use quorate_proto::{Expiry::At, SetExpiry};
use quorate_storage::engine::Pair;
use quorate_store::kv::{Exported, Space, Txn, apply, data_range, digest, export, import_key};

/// Some keys with and without deadlines, and another shard's on both sides.
fn filled() -> MapView {
    let mut view = MapView::default();
    let keys = ["", "a", "b", "foo", "{foo}1", "{foo}2", "long key with spaces"];
    for space in [Space(SPACE.0 - 1), SPACE, Space(SPACE.0 + 1)] {
        let mut txn = Txn::new(&view);
        for (number, key) in keys.into_iter().enumerate() {
            let expiry = match number % 2 {
                0 => SetExpiry::Clear,
                _ => SetExpiry::Set(At(1_000 + number as i64 + i64::from(space.0))),
            };
            apply(&mut txn, space, 1, &set_with(key, "value", expiry)).unwrap();
        }
        let batch = txn.into_batch();
        view.write(batch);
    }
    view
}

fn export_all(view: &MapView, space: Space, max_bytes: usize) -> Vec<Vec<Pair>> {
    let mut chunks: Vec<Vec<Pair>> = Vec::new();
    loop {
        let after = chunks
            .last()
            .and_then(|chunk| chunk.last())
            .map(|(key, _)| key.clone());
        let Exported { pairs, more } = export(view, space, after.as_deref(), max_bytes).unwrap();
        let last = pairs.last().map(|(key, _)| key.clone());
        assert!(more.is_none() || more == last, "it goes on behind what it gave");
        let is_last = more.is_none();
        chunks.push(pairs);
        if is_last {
            return chunks;
        }
    }
}

#[test]
fn what_is_exported_arrives_whatever_the_chunk() {
    let source = filled();
    let whole = export_all(&source, SPACE, usize::MAX);
    assert_eq!(whole.len(), 1);
    assert!(whole[0].iter().map(|(key, _)| key).is_sorted());
    assert_eq!(whole[0].len(), 7 + 3);
    for max_bytes in [0, 1, 20, 50, 100] {
        let chunks = export_all(&source, SPACE, max_bytes);
        for chunk in &chunks {
            let bytes: usize = chunk.iter().map(|(key, value)| key.len() + value.len()).sum();
            assert!(chunk.len() == 1 || bytes <= max_bytes);
        }
        assert_eq!(chunks.concat(), whole[0], "chunks of {max_bytes} bytes");
    }
    let mut target = MapView::default();
    for (relative, value) in &whole[0] {
        target.pairs.insert(
            import_key(Space(u32::MAX), relative).unwrap().into(),
            value.clone(),
        );
    }
    assert_eq!(
        digest(&target, Space(u32::MAX)).unwrap(),
        digest(&source, SPACE).unwrap()
    );
    assert_eq!(export_all(&target, Space(u32::MAX), usize::MAX), whole);
}

#[test]
fn an_export_behind_the_last_key_is_empty() {
    let view = filled();
    let last = export_all(&view, SPACE, usize::MAX)[0].last().unwrap().0.clone();
    for nothing in [
        export(&view, SPACE, Some(&last), 1),
        export(&view, Space(99), None, 1),
    ] {
        let Exported { pairs, more } = nothing.unwrap();
        assert_eq!((pairs, more), (vec![], None));
    }
}

#[test]
fn malformed_keys_are_not_imported() {
    let good = export_all(&filled(), SPACE, usize::MAX)[0][3].0.clone();
    assert!(import_key(SPACE, &good).is_some());
    for at in 0..good.len() {
        let mut bad = good.to_vec();
        bad[at] ^= 0x40;
        assert_eq!(import_key(SPACE, &bad), None, "byte {at} changed");
    }
    for bad in [&b""[..], b"d", b"dslhas", b"x", b"xdeadlin", b"yxxxxxxxxxxxx"] {
        assert_eq!(import_key(SPACE, bad), None, "{}", bad.escape_ascii());
    }
    assert_eq!(import_key(SPACE, b"xdeadline").unwrap(), b"x\0\0\0\x07deadline");
}

#[test]
fn the_digest_depends_on_every_byte_and_not_on_the_space() {
    let view = filled();
    let all = digest(&view, SPACE).unwrap();
    let (start, end) = data_range(SPACE);
    let own: Vec<Bytes> = view
        .pairs
        .keys()
        .filter(|key| key[1..5] == SPACE.0.to_be_bytes())
        .cloned()
        .collect();
    assert!(own.iter().any(|key| key[..] < end[..] && key[..] >= start[..]));
    for key in own {
        let mut without = view.clone();
        let value = without.pairs.remove(&key).unwrap();
        assert_ne!(digest(&without, SPACE).unwrap(), all);
        let mut other = view.clone();
        other
            .pairs
            .insert(key.clone(), [&value[..], b"!"].concat().into());
        assert_ne!(digest(&other, SPACE).unwrap(), all);
    }
    let mut others_changed = view.clone();
    others_changed
        .pairs
        .retain(|key, _| key[1..5] == SPACE.0.to_be_bytes());
    assert_eq!(digest(&others_changed, SPACE).unwrap(), all);
    assert_eq!(
        digest(&view, Space(98)).unwrap(),
        digest(&view, Space(99)).unwrap()
    );
}
