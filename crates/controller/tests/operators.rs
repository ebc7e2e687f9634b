//! Rows B-07 and B-08: what becomes of the schedulers' wishes.

mod support;

use std::collections::BTreeMap;

use quorate_controller::{
    BEGIN_US, ClusterView, Condition, END_US, Operators, REST_US, RETURN_US, Reason, Running, Task,
};
use quorate_proto::{Manage, Order};
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::{Limits, Policy, Tally};
use support::view::{add_shard, carry_out, cluster, held, led, set_condition};

const SECOND: u64 = 1_000_000;

fn round(operators: &mut Operators, seconds: u64, view: &ClusterView) -> Tally {
    operators.round(seconds * SECOND, view.clone(), &Policy::default().limits)
}

fn tally(given: u64, done: u64, void: u64) -> Tally {
    Tally {
        given,
        done,
        void,
        ..Tally::default()
    }
}

fn one(operators: &Operators) -> &Running {
    let mut running = operators.running();
    let one = running.next().expect("there is one");
    assert!(running.next().is_none(), "there is but one");
    one
}

/// Shard 1 on stores 1 and 2 of three.
fn lacks_one() -> (ClusterView, Operators) {
    let mut view = cluster(3, 3);
    add_shard(&mut view, &[1, 2]);
    let mut operators = Operators::default();
    assert_eq!(round(&mut operators, 1, &view), tally(1, 0, 0));
    (view, operators)
}

/// The shard's leader has begun: the new replica is a learner.
fn begin(view: &mut ClusterView, joining: u64) {
    let of = view.shards.get_mut(&ShardId(1)).unwrap();
    of.epoch.conf_ver += 1;
    of.is_changing = true;
    of.members.push(quorate_controller::MemberView {
        store: StoreId(joining),
        is_pending: true,
        is_joining: true,
    });
}

fn end(view: &mut ClusterView) {
    let of = view.shards.get_mut(&ShardId(1)).unwrap();
    of.epoch.conf_ver += 1;
    of.is_changing = false;
    for member in &mut of.members {
        (member.is_pending, member.is_joining) = (false, false);
    }
}

fn everything(operators: &Operators) -> Vec<Order> {
    operators.orders(|_| true, 100)
}

#[test]
fn b_07_one_operator_for_a_shard_until_it_is_done() {
    let (mut view, mut operators) = lacks_one();
    let order = Order {
        shard: ShardId(1),
        epoch: view.shards[&ShardId(1)].epoch,
        wish: Manage::Change {
            add: vec![StoreId(3)],
            remove: vec![],
        },
    };
    assert_eq!(one(&operators).operator.reason, Reason::Missing);
    // Until the leader has begun it is told again.
    for second in 2..9 {
        assert_eq!(everything(&operators), std::slice::from_ref(&order));
        assert_eq!(round(&mut operators, second, &view), tally(0, 0, 0));
        assert_eq!(one(&operators).since_us, SECOND);
    }
    begin(&mut view, 3);
    assert_eq!(round(&mut operators, 9, &view), tally(0, 0, 0));
    assert!(one(&operators).has_begun);
    assert_eq!(everything(&operators), []);
    end(&mut view);
    assert_eq!(round(&mut operators, 10, &view), tally(0, 1, 0));
    assert_eq!(operators.running().count(), 0);
}

#[test]
fn b_07_only_the_store_that_leads_a_shard_is_told_and_of_so_much_at_a_time() {
    let mut view = cluster(3, 3);
    for leader in [1, 1, 2, 1] {
        add_shard(&mut view, &[leader]);
    }
    let mut operators = Operators::default();
    round(&mut operators, 1, &view);
    let told = |store: u64, most| {
        let orders = operators.orders(|shard| view.shards[&shard].leader == StoreId(store), most);
        orders.iter().map(|order| order.shard.0).collect::<Vec<_>>()
    };
    assert_eq!(told(1, 100), [1, 2, 4]);
    assert_eq!(told(2, 100), [3]);
    assert_eq!(told(3, 100), []);
    assert_eq!(told(1, 2), [1, 2]);
}

#[test]
fn b_08_a_wish_for_an_earlier_version_is_void() {
    // A split, or an operator's change, came before it.
    for (version, conf_ver) in [(1, 0), (0, 1)] {
        let (mut view, mut operators) = lacks_one();
        let of = view.shards.get_mut(&ShardId(1)).unwrap();
        of.epoch.version += version;
        of.epoch.conf_ver += conf_ver;
        if conf_ver > 0 {
            of.members[1].store = StoreId(3);
        }
        let now = of.epoch;
        assert_eq!(round(&mut operators, 2, &view), tally(1, 0, 1));
        assert_eq!(one(&operators).operator.epoch, now);
    }
    // Somebody else changes the members.
    let (mut view, mut operators) = lacks_one();
    view.stores.insert(StoreId(4), view.stores[&StoreId(1)].clone());
    begin(&mut view, 4);
    assert_eq!(round(&mut operators, 2, &view), tally(0, 0, 1));
    assert_eq!(operators.running().count(), 0);
}

#[test]
fn b_08_what_is_not_begun_in_time_rests_and_another_store_is_chosen() {
    let (mut view, mut operators) = lacks_one();
    let mut spare = view.stores[&StoreId(3)].clone();
    spare.condition = Condition::Up;
    view.stores.insert(StoreId(4), spare);
    let group = view.config.groups.values_mut().next().unwrap();
    group.insert(StoreId(4));
    let late = 1 + BEGIN_US / SECOND;
    assert_eq!(round(&mut operators, late - 1, &view), tally(0, 0, 0));
    let lost = Tally {
        timed_out: 1,
        ..Tally::default()
    };
    assert_eq!(round(&mut operators, late, &view), lost);
    let again = late + REST_US / SECOND;
    assert_eq!(
        round(&mut operators, again - 1, &view),
        tally(0, 0, 0),
        "it rests"
    );
    assert_eq!(round(&mut operators, again, &view), tally(1, 0, 0));
    let Task::Members { add, .. } = &one(&operators).operator.task else {
        panic!("a member is added")
    };
    assert_eq!(add, &[StoreId(4)], "store 3 did not come");
    // The second failure in a row costs twice the rest.
    let late = again + BEGIN_US / SECOND;
    assert_eq!(round(&mut operators, late, &view), lost);
    let again = late + 2 * REST_US / SECOND;
    assert_eq!(round(&mut operators, again - 1, &view), tally(0, 0, 0));
    // Both have failed, and there is no other: a group may have no more stores than a shard has replicas.
    assert_eq!(round(&mut operators, again, &view), tally(1, 0, 0));
}

/// A heartbeat may go out between the entry that says who is wanted and the first that changes who is there.
#[test]
fn b_08_a_wish_that_was_written_down_is_under_way() {
    let (mut view, mut operators) = lacks_one();
    view.shards.get_mut(&ShardId(1)).unwrap().epoch.conf_ver += 1;
    assert_eq!(round(&mut operators, 2, &view), tally(0, 0, 0));
    assert!(one(&operators).has_begun);
    begin(&mut view, 3);
    assert_eq!(round(&mut operators, 3, &view), tally(0, 0, 0));
    end(&mut view);
    assert_eq!(round(&mut operators, 4, &view), tally(0, 1, 0));
    // One that nothing ever comes of has failed.
    let (mut view, mut operators) = lacks_one();
    view.shards.get_mut(&ShardId(1)).unwrap().epoch.conf_ver += 1;
    assert_eq!(round(&mut operators, 2, &view), tally(0, 0, 0));
    let late = 1 + BEGIN_US / SECOND;
    assert_eq!(round(&mut operators, late, &view).failed, 1);
}

#[test]
fn b_08_what_goes_back_or_takes_too_long_has_failed() {
    let (mut view, mut operators) = lacks_one();
    begin(&mut view, 3);
    round(&mut operators, 2, &view);
    // M2: the new replica is away, and the shard goes back.
    view.shards.get_mut(&ShardId(1)).unwrap().members.pop();
    end(&mut view);
    let back = round(&mut operators, 3, &view);
    assert_eq!((back.failed, back.given), (1, 0));

    let (mut view, mut operators) = lacks_one();
    begin(&mut view, 3);
    round(&mut operators, 2, &view);
    let end_s = 1 + END_US / SECOND;
    assert_eq!(round(&mut operators, end_s - 1, &view), tally(0, 0, 0));
    assert_eq!(round(&mut operators, end_s, &view).timed_out, 1);
    // The shard goes on by itself. Nothing is wanted of it as long as it changes.
    assert_eq!(round(&mut operators, end_s + 3600, &view), tally(0, 0, 0));
}

#[test]
fn b_08_what_matters_more_takes_the_place_of_balance() {
    let mut view = cluster(4, 3);
    for _ in 0..4 {
        add_shard(&mut view, &[1, 2, 3]);
    }
    let mut operators = Operators::default();
    let one_at_a_time = Limits {
        changes: 1,
        incoming: 1,
        leaders: 0,
    };
    operators.round(SECOND, view.clone(), &one_at_a_time);
    assert_eq!(one(&operators).operator.reason, Reason::Balance);
    assert_eq!(one(&operators).operator.shard, ShardId(1));
    set_condition(&mut view, 2, Condition::Down);
    view.shards.get_mut(&ShardId(1)).unwrap().epoch.conf_ver = 1;
    let found = operators.round(2 * SECOND, view, &one_at_a_time);
    assert_eq!((found.given, found.void), (1, 1));
    assert_eq!(one(&operators).operator.reason, Reason::Down);
    assert_eq!(one(&operators).since_us, 2 * SECOND);
}

#[test]
fn b_08_no_more_at_a_time_than_the_limits_say() {
    let mut view = cluster(6, 3);
    for _ in 0..40 {
        add_shard(&mut view, &[1]);
    }
    let limits = Limits {
        changes: 5,
        incoming: 2,
        leaders: 3,
    };
    let mut operators = Operators::default();
    operators.round(SECOND, view.clone(), &limits);
    let mut incoming: BTreeMap<u64, usize> = BTreeMap::new();
    for running in operators.running() {
        if let Task::Members { add, .. } = &running.operator.task {
            add.iter()
                .for_each(|store| *incoming.entry(store.0).or_default() += 1);
        }
    }
    assert!(incoming.values().all(|count| *count <= 2), "{incoming:?}");
    assert_eq!(operators.running().count(), 5);
    // What is under way counts.
    for shard in 1..=5 {
        let of = view.shards.get_mut(&ShardId(shard)).unwrap();
        of.is_changing = true;
        of.epoch.conf_ver += 1;
    }
    operators.round(2 * SECOND, view, &limits);
    assert_eq!(operators.running().count(), 5);
    assert!(operators.running().all(|running| running.has_begun));
}

/// Where one of many comes back the others are likely to follow.
#[test]
fn nothing_is_replaced_as_soon_as_less_than_half_look_down() {
    let mut view = cluster(5, 3);
    add_shard(&mut view, &[1, 2, 3]);
    let mut operators = Operators::default();
    for store in [3, 4, 5] {
        set_condition(&mut view, store, Condition::Down);
    }
    assert_eq!(round(&mut operators, 1, &view), tally(0, 0, 0));
    set_condition(&mut view, 4, Condition::Up);
    let soon = RETURN_US / SECOND;
    assert_eq!(round(&mut operators, 2, &view), tally(0, 0, 0));
    assert_eq!(round(&mut operators, soon, &view), tally(0, 0, 0));
    assert_eq!(round(&mut operators, soon + 1, &view), tally(1, 0, 0));
    assert_eq!(one(&operators).operator.reason, Reason::Down);
}

/// The schedulers, the leaders and time: an uneven cluster becomes even, and then nothing is wanted any more.
#[test]
fn b_07_a_balanced_cluster_is_left_alone() {
    let mut view = cluster(5, 3);
    for _ in 0..30 {
        add_shard(&mut view, &[1]);
    }
    let mut operators = Operators::default();
    let mut last = 0;
    for second in 1..2000 {
        round(&mut operators, second, &view);
        let begun: Vec<_> = operators
            .running()
            .map(|running| running.operator.clone())
            .collect();
        if !begun.is_empty() {
            last = second;
        }
        carry_out(&mut view, begun);
    }
    assert!(last < 200, "something was wanted for {last} seconds");
    for counts in [held(&view), led(&view)] {
        let (most, least) = (counts.values().max().unwrap(), counts.values().min().unwrap());
        assert!(most - least <= 1, "{counts:?}");
    }
}
