//! Rows B-07 and B-08: when the controller's leader wants anything, of whom, and what it writes down.

mod support;

use std::collections::BTreeMap;

use quorate_proto::{
    Answer, CommandError, ControlCommand, Manage, Order, PlacementCommand, Service, ShardHeartbeat,
    StoreRecord,
};
use quorate_raft::Term;
use quorate_storage::{Incarnation, ShardId, StoreId};
use quorate_store::rsm::{Policy, Reign, RowChanges, StateMachine};
use support::Hosted;
use support::heard::{beat, shard};

const SECOND: u64 = 1_000_000;
const REIGN: Term = Term(7);

fn at(seconds: u64) -> Reign {
    Reign {
        term: REIGN,
        now_us: seconds * SECOND,
    }
}

/// What a store is told that says this.
fn told(hosted: &mut Hosted, seconds: u64, store: u64, shards: Vec<ShardHeartbeat>) -> Vec<Order> {
    let beat = beat((store, store.into()), seconds + 1, 3, &shards);
    assert_eq!(hosted.machine.hear(at(seconds), &beat), Some(0));
    let (orders, _) = hosted
        .machine
        .orders(at(seconds), StoreId(store), &Policy::default());
    orders
}

const ALL: [u64; 3] = [1, 2, 5];

#[test]
fn b_07_nothing_is_wanted_before_every_shard_was_heard() {
    let mut hosted = Hosted::registered(2);
    assert_eq!(told(&mut hosted, 0, 2, vec![]), []);
    let lacks = shard(1, (0, 8192), &[1], 1);
    assert_eq!(
        told(&mut hosted, 1, 1, vec![shard(0, (0, 0), &ALL, 1), lacks]),
        []
    );
    assert_eq!(told(&mut hosted, 2, 5, vec![]), [], "half of the slots lack");
    let other = shard(2, (8192, 16384), &[2, 1, 5], 1);
    assert_eq!(
        told(&mut hosted, 3, 2, vec![other]),
        [],
        "it is shard 1 that lacks"
    );
    let orders = told(&mut hosted, 4, 1, vec![]);
    let wish = Manage::Change {
        add: vec![StoreId(2), StoreId(5)],
        remove: vec![],
    };
    assert_eq!((orders[0].shard, &orders[0].wish), (ShardId(1), &wish));
    // Whoever leads next has heard nothing.
    let next = Reign {
        term: Term(8),
        ..at(5)
    };
    let (orders, _) = hosted.machine.orders(next, StoreId(1), &Policy::default());
    assert_eq!(orders, []);
}

/// Whoever led a shard and is silent takes no orders: what is wanted of others does not wait for it.
#[test]
fn b_08_nothing_is_wanted_of_a_shard_whose_leader_is_silent() {
    let mut hosted = Hosted::registered(2);
    let lacks = shard(1, (0, 8192), &[1], 1);
    let first = vec![shard(0, (0, 0), &ALL, 1), lacks.clone()];
    told(&mut hosted, 0, 1, first);
    let other = shard(2, (8192, 16384), &[2, 1, 5], 1);
    told(&mut hosted, 0, 2, vec![other]);
    let mut wanted = |seconds: u64, is_heard: bool| {
        if is_heard {
            told(&mut hosted, seconds, 1, vec![lacks.clone()]);
        }
        told(&mut hosted, seconds, 2, vec![]);
        told(&mut hosted, seconds, 5, vec![]);
        let (orders, _) = hosted.machine.orders(at(seconds), StoreId(1), &Policy::default());
        orders.len()
    };
    assert_eq!(wanted(1, true), 1);
    assert_eq!(wanted(5, false), 1);
    assert_eq!(wanted(11, false), 0, "for ten seconds");
    assert_eq!(wanted(20, false), 0);
    assert_eq!(wanted(21, true), 1, "it is back");
}

/// A shard that lost its majority is not heard of, and is no reason to let the others alone for ever.
#[test]
fn b_07_what_is_never_heard_does_not_stop_the_rest() {
    let mut hosted = Hosted::registered(2);
    let lacks = shard(1, (0, 8192), &[1], 1);
    let mut orders = Vec::new();
    for seconds in 0..60 {
        orders = told(&mut hosted, seconds, 1, vec![lacks.clone()]);
        told(&mut hosted, seconds, 2, vec![]);
        told(&mut hosted, seconds, 5, vec![]);
        assert!(
            orders.is_empty() || seconds >= 30,
            "after {seconds} s: {orders:?}"
        );
    }
    assert_eq!(orders.len(), 1, "{orders:?}");
}

#[test]
fn splits_that_were_heard_of_are_written_down_in_whatever_order() {
    // Shard 1 gave 7 away, 7 gave 9 away.
    let parts = [
        shard(1, (0, 2000), &ALL, 2),
        shard(7, (2000, 5000), &ALL, 3),
        shard(9, (5000, 8192), &ALL, 3),
        shard(2, (8192, 16384), &ALL, 1),
    ];
    for order in [[0, 1, 2, 3], [2, 1, 0, 3], [1, 2, 3, 0], [3, 2, 0, 1]] {
        let mut hosted = Hosted::registered(2);
        for (seconds, part) in (1..).zip(order) {
            let leader = parts[part].clone();
            told(&mut hosted, seconds, 1, vec![leader]);
            let due = hosted.machine.due(at(seconds));
            for command in &due {
                // Told again, it changes nothing.
                for _ in 0..2 {
                    let answer = hosted.machine.apply(7, command, &mut RowChanges::new());
                    assert!(matches!(answer, Answer::Int(_)), "{command:?}: {answer:?}");
                }
            }
        }
        assert_eq!(hosted.machine.due(at(9)), []);
        let ranges: BTreeMap<u64, (u16, u16)> = hosted
            .newest()
            .shards
            .iter()
            .map(|(shard, place)| (shard.0, (place.start_slot, place.end_slot)))
            .collect();
        let heard = parts
            .iter()
            .map(|part| (part.shard.0, (part.start_slot, part.end_slot)));
        assert_eq!(ranges, heard.collect::<BTreeMap<_, _>>(), "{order:?}");
        let groups = hosted.newest().shards.values().map(|place| place.group);
        assert!(
            groups
                .clone()
                .all(|group| group == groups.clone().next().unwrap())
        );
    }
}

/// A store that is silent for as long as the limit says is replaced, one that is silent for less is not.
#[test]
fn a_store_is_replaced_once_it_was_silent_for_long_enough() {
    let mut hosted = Hosted::registered(2);
    let join = PlacementCommand::Rebalance;
    hosted.place(join).unwrap();
    let record = StoreRecord {
        store: StoreId(0),
        incarnation: Incarnation(6),
        client: "c".into(),
        peer: "p".into(),
        http: "h".into(),
        labels: Default::default(),
        roles: Default::default(),
    };
    assert!(matches!(
        hosted.apply(&ControlCommand::Admit(record)),
        Answer::Bulk(_)
    ));
    let all = || {
        let mut shards = vec![shard(0, (0, 0), &ALL, 1)];
        shards.push(shard(1, (0, 8192), &ALL, 1));
        shards.push(shard(2, (8192, 16384), &ALL, 1));
        shards
    };
    let limit_s = Policy::default().replace_after_us / SECOND;
    let mut first = None;
    for seconds in 0..limit_s + 60 {
        for store in [1, 2, 6] {
            let shards = if store == 1 { all() } else { vec![] };
            let orders = told(&mut hosted, seconds, store, shards);
            let replaces = orders.iter().any(
                |order| matches!(&order.wish, Manage::Change { remove, .. } if remove.contains(&StoreId(5))),
            );
            if replaces && first.is_none() {
                first = Some(seconds);
            }
        }
    }
    assert_eq!(first, Some(limit_s), "store 5 was never heard");
}

/// The shard's leader has written down that it wants store 5 as well, and has told of no replica there so far.
#[test]
fn a_store_that_an_operator_puts_something_on_is_not_removed() {
    let mut hosted = Hosted::registered(1);
    let all = |conf_ver| {
        let mut lacks = shard(1, (0, 16384), &[1, 2], 1);
        lacks.epoch.conf_ver = conf_ver;
        vec![shard(0, (0, 0), &[1, 2, 5], 1), lacks]
    };
    for store in [2, 5, 1] {
        let shards = if store == 1 { all(1) } else { vec![] };
        let orders = told(&mut hosted, 1, store, shards);
        assert_eq!(orders.len(), usize::from(store == 1), "{orders:?}");
    }
    let set = |service| ControlCommand::SetStore {
        store: StoreId(5),
        service,
    };
    let answer = hosted
        .machine
        .apply(7, &set(Service::Draining), &mut RowChanges::new());
    assert_eq!(answer, Answer::Ok);
    let mut moved = all(2);
    moved[0] = shard(0, (0, 0), &[1, 2], 2);
    let considered =
        |hosted: &Hosted, seconds| hosted.machine.consider(Some(at(seconds)), &set(Service::Removed));
    for seconds in 2..20 {
        let mut beat = beat((1, 1), seconds + 1, 3, &moved);
        assert_eq!(hosted.machine.hear(at(seconds), &beat), Some(0));
        beat.store.store = StoreId(5);
        beat.store.incarnation = Incarnation(5);
        (beat.store.replicas, beat.shards) = (0, vec![]);
        assert_eq!(hosted.machine.hear(at(seconds), &beat), Some(0));
        hosted.machine.orders(at(seconds), StoreId(1), &Policy::default());
        let holds = Err(CommandError::HoldsReplicas);
        assert_eq!(considered(&hosted, seconds), holds, "after {seconds} s");
    }
}
