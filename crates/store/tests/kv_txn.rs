//! A transaction sees its own writes, whatever order reads and writes come in.

#![allow(clippy::unwrap_used, reason = "an error is a failed test, in helpers too")]

mod kv_model;

use std::collections::BTreeMap;

use bytes::Bytes;
use kv_model::{MapView, Rng, SPACE, bulk, set};
use quorate_proto::{Answer, Op};
use quorate_store::kv::{Space, Txn, apply};

fn get(txn: &Txn<'_, MapView>, key: &'static str) -> Option<Bytes> {
    txn.get(key.as_bytes()).unwrap()
}

#[test]
fn a_transaction_sees_its_own_writes() {
    let mut view = MapView::default();
    view.pairs.insert("a".into(), "old".into());
    view.pairs.insert("b".into(), "old".into());
    let mut txn = Txn::new(&view);
    assert!(txn.is_empty());
    txn.put("a", "new");
    assert_eq!(get(&txn, "a"), Some("new".into()));
    assert_eq!(get(&txn, "b"), Some("old".into()));
    txn.delete("a");
    assert_eq!(get(&txn, "a"), None);
    txn.delete("b");
    txn.put("b", "1");
    txn.put("b", "2");
    assert_eq!(get(&txn, "b"), Some("2".into()));
    assert!(!txn.is_empty());
    assert_eq!(view.pairs.len(), 2, "the view has not changed");
    let batch = txn.into_batch();
    view.write(batch);
    assert_eq!(view.pairs, BTreeMap::from([("b".into(), "2".into())]));
}

#[test]
fn a_counter_raised_often_in_a_turn_is_one_change() {
    let view = MapView::default();
    let mut txn = Txn::new(&view);
    for raised in 1..=100 {
        let op = Op::Increment {
            key: "k".into(),
            delta: 1,
        };
        assert_eq!(apply(&mut txn, SPACE, 1, &op).unwrap(), Answer::Int(raised));
    }
    assert_eq!(txn.len(), 1);
}

#[test]
fn commands_of_many_shards_share_a_transaction() {
    let mut view = MapView::default();
    let mut txn = Txn::new(&view);
    let append = Op::Append {
        key: "k".into(),
        value: "+".into(),
    };
    apply(&mut txn, Space(1), 1, &set("k", "one")).unwrap();
    apply(&mut txn, Space(2), 1, &set("k", "two!")).unwrap();
    assert_eq!(apply(&mut txn, Space(1), 1, &append).unwrap(), Answer::Int(4));
    assert_eq!(apply(&mut txn, Space(2), 1, &append).unwrap(), Answer::Int(5));
    assert_eq!(apply(&mut txn, SPACE, 1, &append).unwrap(), Answer::Int(1));
    let batch = txn.into_batch();
    view.write(batch);
    assert_eq!(view.get(1, "k"), bulk("+"));
}

#[test]
fn random_transactions_end_as_a_map_would() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let keys: Vec<Bytes> = (0..=rng.below(20))
            .map(|key| Bytes::from(vec![key as u8]))
            .collect();
        let mut view = MapView::default();
        for key in &keys {
            if rng.below(2) == 0 {
                view.pairs.insert(key.clone(), "before".into());
            }
        }
        let mut expected = view.pairs.clone();
        let reads = rng.below(4);
        let mut txn = Txn::new(&view);
        for step in 0..rng.below(200) {
            let key = rng.pick(&keys);
            if rng.below(4) < reads {
                assert_eq!(
                    txn.get(&key).unwrap(),
                    expected.get(&key).cloned(),
                    "seed {seed} step {step}"
                );
            } else if rng.below(3) == 0 {
                txn.delete(key.clone());
                expected.remove(&key);
            } else {
                let value = Bytes::from(step.to_string());
                txn.put(key.clone(), value.clone());
                expected.insert(key, value);
            }
        }
        let batch = txn.into_batch();
        view.write(batch);
        assert_eq!(view.pairs, expected, "seed {seed}");
    }
}
