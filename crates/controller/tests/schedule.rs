//! Rows B-01 to B-06: what the schedulers want done.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_controller::{ClusterView, Condition, Operator, Reason, Task, operators};
use quorate_proto::GroupId;
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::{Limits, Policy};
use support::Rng;
use support::view::{add_shard, carry_out, cluster, held, led, set_condition};

/// So much that nothing is held back.
const UNLIMITED: Limits = Limits {
    changes: usize::MAX,
    incoming: usize::MAX,
    leaders: usize::MAX,
};

/// One at a time.
const ONE: Limits = Limits {
    changes: 1,
    incoming: 1,
    leaders: 0,
};

fn set_zones(view: &mut ClusterView, zones: &[(u64, &'static str)]) {
    for (store, zone) in zones {
        view.stores.get_mut(&StoreId(*store)).unwrap().zone = Bytes::from_static(zone.as_bytes());
    }
}

/// Which stores a shard comes to and goes from.
type Change = (u64, Vec<u64>, Vec<u64>, Reason);

fn changes(view: &ClusterView, limits: &Limits) -> Vec<Change> {
    let ids = |stores: Vec<StoreId>| stores.into_iter().map(|store| store.0).collect();
    let change = |operator: Operator| match operator.task {
        Task::Members { add, remove } => Some((operator.shard.0, ids(add), ids(remove), operator.reason)),
        Task::Leader { .. } => None,
    };
    operators(view, limits).into_iter().filter_map(change).collect()
}

/// Rounds until nothing is left to do, which must come.
fn settle(view: &mut ClusterView, limits: &Limits) -> usize {
    for round in 0..1000 {
        let operators = operators(view, limits);
        if operators.is_empty() {
            return round;
        }
        carry_out(view, operators);
    }
    panic!(
        "there is always something left to do: {:?}",
        operators(view, limits)
    );
}

/// Stores with so many replicas each, of shards with one.
fn uneven(counts: &[usize]) -> ClusterView {
    let mut view = cluster(counts.len() as u64, 1);
    for (at, count) in counts.iter().enumerate() {
        for _ in 0..*count {
            add_shard(&mut view, &[at as u64 + 1]);
        }
    }
    view
}

#[test]
fn b_01_a_replica_goes_from_the_fullest_store_to_the_emptiest() {
    let mut view = uneven(&[6, 8, 8, 16]);
    assert_eq!(changes(&view, &ONE), [(23, vec![1], vec![4], Reason::Balance)]);
    // The emptiest is away; the next two are alike, and the first of them is taken.
    set_condition(&mut view, 1, Condition::Away);
    assert_eq!(changes(&view, &ONE), [(23, vec![2], vec![4], Reason::Balance)]);
    // Three replicas are wanted and there is one: that is for the replica checker, not for balance.
    set_condition(&mut view, 1, Condition::Up);
    view.replicas = 3;
    assert!(
        changes(&view, &UNLIMITED)
            .iter()
            .all(|(.., reason)| *reason == Reason::Missing)
    );
}

#[test]
fn b_02_a_replica_never_goes_to_a_fuller_store() {
    let mut view = cluster(3, 3);
    for _ in 0..16 {
        add_shard(&mut view, &[1, 2, 3]);
    }
    assert_eq!(changes(&view, &UNLIMITED), [], "there is nowhere to go");
    // Stores that come are filled, the emptiest first.
    for (id, others) in [(4, 2), (5, 6), (6, 0)] {
        let up = view.stores[&StoreId(1)].clone();
        view.stores.insert(StoreId(id), up);
        view.config
            .groups
            .get_mut(&GroupId(1))
            .unwrap()
            .insert(StoreId(id));
        for _ in 0..others {
            // Shards of one replica each would be put right first: theirs are on a group of their own.
            let shard = add_shard(&mut view, &[id]);
            view.config.shards.remove(&shard);
        }
        let emptiest = if id == 5 { 4 } else { id };
        let found = changes(&view, &ONE);
        assert_eq!(found[0].1, [emptiest], "{found:?}");
    }
    set_condition(&mut view, 6, Condition::Down);
    assert_eq!(changes(&view, &ONE)[0].1, [4], "what is down takes nothing");
    set_condition(&mut view, 4, Condition::Draining);
    assert_eq!(changes(&view, &ONE)[0].1, [5], "nor what is to be emptied");
}

#[test]
fn b_03_with_five_replicas_too() {
    let mut view = cluster(7, 5);
    for _ in 0..4 {
        add_shard(&mut view, &[1, 2, 3, 4, 5]);
    }
    let more = add_shard(&mut view, &[1, 2, 3, 4, 6]);
    // Stores 1 to 4 hold five each, 5 four, 6 one, 7 none. What lies on the fullest goes to the emptiest without one.
    let found = changes(&view, &ONE);
    assert_eq!(found, [(1, vec![7], vec![4], Reason::Balance)]);
    settle(&mut view, &UNLIMITED);
    assert_eq!(view.shards[&more].members.len(), 5);
    let held = held(&view);
    assert!(held.values().all(|count| (3..=4).contains(count)), "{held:?}");
}

#[test]
fn b_04_a_replica_that_lags_is_moved_first() {
    let mut view = uneven(&[0, 5]);
    let lagging = view.shards.get_mut(&ShardId(4)).unwrap();
    lagging.members[0].is_pending = true;
    assert_eq!(changes(&view, &ONE), [(4, vec![1], vec![2], Reason::Balance)]);
}

#[test]
fn b_04_no_other_replica_is_moved_while_one_lags() {
    let mut view = cluster(4, 3);
    for _ in 0..4 {
        let shard = add_shard(&mut view, &[1, 2, 3]);
        let of = view.shards.get_mut(&shard).unwrap();
        of.members[1].is_pending = true;
    }
    for (_, add, remove, _) in changes(&view, &UNLIMITED) {
        assert_eq!((add, remove), (vec![4], vec![2]));
    }
    for of in view.shards.values_mut() {
        of.members[2].is_pending = true;
    }
    assert_eq!(
        changes(&view, &UNLIMITED),
        [],
        "two lag: a third would be too many"
    );
}

fn leaders(view: &ClusterView) -> Vec<(u64, u64)> {
    let leader = |operator: Operator| match operator.task {
        Task::Leader { to } => Some((operator.shard.0, to.0)),
        Task::Members { .. } => None,
    };
    operators(view, &UNLIMITED)
        .into_iter()
        .filter_map(leader)
        .collect()
}

/// Three stores that lead so many shards.
fn led_by(counts: [usize; 3]) -> ClusterView {
    let mut view = cluster(3, 3);
    for (at, count) in counts.iter().enumerate() {
        for _ in 0..*count {
            let first = at as u64;
            add_shard(&mut view, &[1 + first, 1 + (first + 1) % 3, 1 + (first + 2) % 3]);
        }
    }
    view
}

#[test]
fn b_05_leaders_are_spread_by_number_with_a_dead_band() {
    assert_eq!(leaders(&led_by([3, 2, 2])), [], "one more is not worth a move");
    assert_eq!(leaders(&led_by([4, 3, 3])), []);
    assert_eq!(leaders(&led_by([4, 2, 3])), [(1, 2)]);
    let mut view = led_by([9, 0, 0]);
    assert_eq!(leaders(&view).len(), 6);
    settle(&mut view, &UNLIMITED);
    assert!(led(&view).values().all(|count| *count == 3), "{:?}", led(&view));
}

#[test]
fn b_05_stores_that_are_away_or_full_or_lag_do_not_lead() {
    let mut view = led_by([9, 0, 0]);
    set_condition(&mut view, 2, Condition::Away);
    assert!(
        leaders(&view).iter().all(|(_, to)| *to == 3),
        "{:?}",
        leaders(&view)
    );
    for of in view.shards.values_mut() {
        of.members[2].is_pending = true;
    }
    assert_eq!(leaders(&view), []);
    set_condition(&mut view, 2, Condition::Up);
    assert!(
        leaders(&view).iter().all(|(_, to)| *to == 2),
        "{:?}",
        leaders(&view)
    );
}

#[test]
fn b_06_a_missing_replica_is_added_and_one_too_many_goes() {
    let mut view = cluster(4, 3);
    let lacks = add_shard(&mut view, &[1, 2]);
    assert_eq!(
        changes(&view, &UNLIMITED),
        [(lacks.0, vec![3], vec![], Reason::Missing)]
    );
    let mut view = cluster(4, 3);
    let extra = add_shard(&mut view, &[1, 2, 3, 4]);
    let found = changes(&view, &UNLIMITED);
    assert_eq!(
        found,
        [(extra.0, vec![], vec![4], Reason::Extra)],
        "never the leader"
    );
    set_condition(&mut view, 2, Condition::Away);
    assert_eq!(changes(&view, &UNLIMITED)[0].2, [2], "the one that is away");
}

/// With one of three behind, the other two are all that there is, and one of them could die.
#[test]
fn b_06_none_of_many_goes_before_the_others_keep_up() {
    let mut view = cluster(5, 3);
    let extra = add_shard(&mut view, &[1, 2, 3, 4, 5]);
    let lag = |view: &mut ClusterView, stores: &[usize]| {
        for (at, member) in view
            .shards
            .get_mut(&extra)
            .unwrap()
            .members
            .iter_mut()
            .enumerate()
        {
            member.is_pending = stores.contains(&(at + 1));
        }
    };
    lag(&mut view, &[3, 4, 5]);
    assert_eq!(changes(&view, &UNLIMITED), [], "one that lags would be left");
    lag(&mut view, &[2, 3]);
    assert_eq!(
        changes(&view, &UNLIMITED),
        [(extra.0, vec![], vec![3, 2], Reason::Extra)],
        "those that lag go"
    );
}

#[test]
fn b_06_a_store_that_is_down_or_to_be_emptied_is_replaced() {
    for (state, reason) in [
        (Condition::Down, Reason::Down),
        (Condition::Draining, Reason::Draining),
    ] {
        let mut view = cluster(4, 3);
        let shard = add_shard(&mut view, &[1, 2, 3]);
        set_condition(&mut view, 1, state);
        assert_eq!(changes(&view, &UNLIMITED), [(shard.0, vec![4], vec![1], reason)]);
        // There is no other store. What is down keeps its place; what is to be emptied leaves fewer replicas.
        view.stores.remove(&StoreId(4));
        view.config
            .groups
            .get_mut(&GroupId(1))
            .unwrap()
            .remove(&StoreId(4));
        let expected = match state {
            Condition::Draining => vec![(shard.0, vec![], vec![1], reason)],
            _ => vec![],
        };
        assert_eq!(changes(&view, &UNLIMITED), expected);
    }
}

#[test]
fn b_06_a_store_that_nobody_knows_is_one_that_is_down() {
    let mut view = cluster(4, 3);
    let shard = add_shard(&mut view, &[1, 2, 99]);
    assert_eq!(
        changes(&view, &UNLIMITED),
        [(shard.0, vec![3], vec![99], Reason::Down)]
    );
}

#[test]
fn nothing_is_replaced_while_half_of_the_stores_look_down() {
    let mut view = cluster(6, 3);
    add_shard(&mut view, &[1, 2, 3]);
    set_condition(&mut view, 1, Condition::Down);
    set_condition(&mut view, 5, Condition::Away);
    assert_eq!(changes(&view, &UNLIMITED).len(), 1);
    set_condition(&mut view, 6, Condition::Away);
    assert_eq!(
        operators(&view, &UNLIMITED),
        [],
        "it is rather the controller that is cut off"
    );
}

#[test]
fn replicas_are_in_zones_of_their_own() {
    let mut view = cluster(6, 3);
    set_zones(
        &mut view,
        &[(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "c"), (6, "c")],
    );
    let one = add_shard(&mut view, &[1]);
    assert_eq!(
        changes(&view, &UNLIMITED),
        [(one.0, vec![3, 5], vec![], Reason::Missing)]
    );
    // Balance does not undo that: store 6 is empty, but "c" has a replica already.
    let mut view = cluster(4, 3);
    set_zones(&mut view, &[(1, "a"), (2, "b"), (3, "c"), (4, "c")]);
    for _ in 0..8 {
        add_shard(&mut view, &[1, 2, 3]);
    }
    settle(&mut view, &UNLIMITED);
    assert_eq!(held(&view), BTreeMap::from([(1, 8), (2, 8), (3, 4), (4, 4)]));
    for shard in view.shards.values() {
        let zones: BTreeSet<_> = shard
            .members
            .iter()
            .map(|member| &view.stores[&member.store].zone)
            .collect();
        assert_eq!(zones.len(), 3);
    }
}

#[test]
fn a_shard_in_the_wrong_group_goes_to_the_right_one_at_once() {
    let mut view = cluster(6, 3);
    view.config.groups = BTreeMap::from([
        (GroupId(1), (1..=3).map(StoreId).collect()),
        (GroupId(2), (4..=6).map(StoreId).collect()),
    ]);
    let shard = add_shard(&mut view, &[1, 2, 3]);
    view.config.shards.get_mut(&shard).unwrap().group = Some(GroupId(2));
    let moved = [(shard.0, vec![4, 5, 6], vec![1, 2, 3], Reason::Misplaced)];
    assert_eq!(changes(&view, &UNLIMITED), moved);
    // One of the new stores is away: one of the old ones keeps its place until it is back.
    set_condition(&mut view, 5, Condition::Away);
    assert_eq!(
        changes(&view, &UNLIMITED),
        [(shard.0, vec![4, 6], vec![2, 3], Reason::Misplaced)]
    );
    settle(&mut view, &UNLIMITED);
    assert_eq!(view.shards[&shard].members.len(), 3);
    set_condition(&mut view, 5, Condition::Up);
    settle(&mut view, &UNLIMITED);
    assert_eq!(
        held(&view),
        BTreeMap::from([(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 1)])
    );
}

#[test]
fn a_cluster_grows_from_one_store_to_three_and_back() {
    let mut view = cluster(1, 3);
    for _ in 0..8 {
        add_shard(&mut view, &[1]);
    }
    assert_eq!(operators(&view, &UNLIMITED), []);
    let up = view.stores[&StoreId(1)].clone();
    for id in [2, 3] {
        view.stores.insert(StoreId(id), up.clone());
        view.config
            .groups
            .get_mut(&GroupId(1))
            .unwrap()
            .insert(StoreId(id));
        settle(&mut view, &Policy::default().limits);
        // Two tolerate no more failures than one does.
        let held = if id == 3 { 3 } else { 1 };
        assert!(view.shards.values().all(|shard| shard.members.len() == held));
    }
    let led = led(&view);
    assert!(led.values().all(|count| (2..=3).contains(count)), "{led:?}");
    for id in [1, 2] {
        set_condition(&mut view, id, Condition::Draining);
        settle(&mut view, &Policy::default().limits);
        assert_eq!(held(&view)[&id], 0);
    }
    assert_eq!(held(&view)[&3], 8);
}

/// The controller's shard has no group: it may be on any store, and is not moved for balance.
#[test]
fn the_controllers_shard_has_replicas_too() {
    let mut view = cluster(4, 3);
    let shard = add_shard(&mut view, &[1]);
    let of = view.shards.remove(&shard).unwrap();
    view.config.shards.clear();
    view.shards.insert(ShardId(0), of);
    assert_eq!(
        changes(&view, &UNLIMITED),
        [(0, vec![2, 3], vec![], Reason::Missing)]
    );
    settle(&mut view, &UNLIMITED);
    set_condition(&mut view, 1, Condition::Draining);
    assert_eq!(
        changes(&view, &UNLIMITED),
        [(0, vec![4], vec![1], Reason::Draining)]
    );
}

/// The controller's shard is on nodes with that role only. Those that have lost it hold on to it until others have it.
#[test]
fn the_controllers_shard_is_on_nodes_with_the_role() {
    let mut view = cluster(6, 3);
    let shard = add_shard(&mut view, &[1, 2, 3]);
    let of = view.shards.remove(&shard).unwrap();
    view.config.shards.clear();
    view.shards.insert(ShardId(0), of);
    let controls = |view: &mut ClusterView, stores: &[u64]| {
        for (id, store) in &mut view.stores {
            store.controls = stores.contains(&id.0);
        }
    };
    controls(&mut view, &[1, 2, 3]);
    assert_eq!(changes(&view, &UNLIMITED), []);
    set_condition(&mut view, 2, Condition::Draining);
    assert_eq!(
        changes(&view, &UNLIMITED),
        [(0, vec![], vec![2], Reason::Draining)],
        "nobody else has the role"
    );
    set_condition(&mut view, 2, Condition::Up);
    controls(&mut view, &[1, 5, 6]);
    assert_eq!(
        changes(&view, &UNLIMITED),
        [(0, vec![5, 6], vec![2, 3], Reason::Misplaced)]
    );
    controls(&mut view, &[]);
    assert_eq!(changes(&view, &UNLIMITED), [], "it stays where it is");
    controls(&mut view, &[5]);
    settle(&mut view, &UNLIMITED);
    let members = &view.shards[&ShardId(0)].members;
    assert_eq!(
        members.iter().map(|member| member.store.0).collect::<Vec<_>>(),
        [5]
    );
}

/// Whatever the cluster looks like: it comes to rest, balanced, and every shard has its replicas on stores that are up.
#[test]
fn any_cluster_comes_to_rest_in_balance() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let stores = 3 + rng.below(7) as u64;
        let replicas = [1, 3, 3, 5][rng.below(4)];
        let mut view = cluster(stores, replicas);
        for _ in 0..rng.below(60) {
            let mut on: Vec<u64> = (1..=stores).filter(|_| rng.below(2) == 0).collect();
            if on.is_empty() {
                on.push(1 + rng.below(stores as usize) as u64);
            }
            let first = rng.below(on.len());
            on.rotate_left(first);
            add_shard(&mut view, &on);
        }
        let out = 1 + rng.below(stores as usize) as u64;
        let state = [Condition::Up, Condition::Down, Condition::Draining][rng.below(3)];
        set_condition(&mut view, out, state);
        let rounds = settle(&mut view, &Policy::default().limits);
        let usable: Vec<u64> = (1..=stores)
            .filter(|store| *store != out || state == Condition::Up)
            .collect();
        for shard in view.shards.values() {
            let on: BTreeSet<u64> = shard.members.iter().map(|member| member.store.0).collect();
            assert_eq!(
                on.len(),
                shard.members.len(),
                "seed {seed}: two replicas on a store"
            );
            let enough = replicas.min(usable.len());
            let good = on.iter().filter(|store| usable.contains(store)).count();
            // None is added for an even number.
            let is_odd = enough < replicas && enough % 2 == 0 && good == enough - 1;
            assert!(good == enough || is_odd, "seed {seed}: {on:?} of {usable:?}");
        }
        for counts in [held(&view), led(&view)] {
            let counts: Vec<usize> = usable.iter().map(|store| counts[store]).collect();
            let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
            assert!(most - least <= 2, "seed {seed}, {rounds} rounds: {counts:?}");
        }
    }
}
