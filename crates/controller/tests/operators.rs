//! Rows B-07 and B-08: what becomes of the schedulers' wishes, and who is told of them.

mod support;

use std::collections::BTreeMap;

use quorate_controller::{
    BEGIN_US, ClusterView, Condition, END_US, Operators, REST_US, RETURN_US, Reason, Running, Task,
};
use quorate_proto::{
    Answer, ControlCommand, Epoch, Heartbeat, Manage, MemberRole, Order, PlacementCommand, ShardHeartbeat,
    ShardMember, StoreHeartbeat, StoreRecord,
};
use quorate_raft::{ReplicaId, Term};
use quorate_storage::{Incarnation, ShardId, StoreId};
use quorate_store::rsm::{Limits, Policy, Reign, RowChanges, StateMachine, Tally};
use support::Hosted;
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

const REIGN: Term = Term(7);

fn at(seconds: u64) -> Reign {
    Reign {
        term: REIGN,
        now_us: seconds * SECOND,
    }
}

/// The controller of stores 1, 2 and 5 with two data shards; all have registered.
fn controller() -> Hosted {
    let mut hosted = Hosted::begun(2);
    for store in [1, 2, 5] {
        let record = StoreRecord {
            store: StoreId(store),
            incarnation: Incarnation(u128::from(store)),
            client: "c".into(),
            peer: "p".into(),
            http: "h".into(),
            labels: Default::default(),
            roles: Default::default(),
        };
        let answer = hosted.apply(&ControlCommand::Register(record));
        assert!(matches!(answer, Answer::Bulk(_)), "{answer:?}");
    }
    hosted
}

fn shard(id: u64, (start_slot, end_slot): (u16, u16), stores: &[u64], version: u64) -> ShardHeartbeat {
    let member = |store: &u64| ShardMember {
        replica: ReplicaId(10 * id + store),
        store: StoreId(*store),
        role: MemberRole::Voter,
        is_pending: false,
    };
    ShardHeartbeat {
        shard: ShardId(id),
        start_slot,
        end_slot,
        epoch: Epoch { conf_ver: 1, version },
        term: Term(3),
        leader: ReplicaId(10 * id + stores[0]),
        members: stores.iter().map(member).collect(),
        bytes: None,
        load: None,
    }
}

/// What a store is told that says this.
fn told(hosted: &mut Hosted, seconds: u64, store: u64, shards: Vec<ShardHeartbeat>) -> Vec<Order> {
    let beat = Heartbeat {
        seq: seconds + 1,
        store: StoreHeartbeat {
            store: StoreId(store),
            incarnation: Incarnation(u128::from(store)),
            process: 1,
            replicas: 3,
            leads: shards.len() as u32,
            available_bytes: None,
            is_full: false,
            is_slow: false,
        },
        shards,
    };
    assert_eq!(hosted.machine.hear(at(seconds), &beat), Some(0));
    let (orders, _) = hosted
        .machine
        .orders(at(seconds), StoreId(store), &Policy::default());
    orders
}

const ALL: [u64; 3] = [1, 2, 5];

#[test]
fn b_07_nothing_is_wanted_before_every_shard_was_heard() {
    let mut hosted = controller();
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
    let mut hosted = controller();
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
    let mut hosted = controller();
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
        let mut hosted = controller();
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
    let mut hosted = controller();
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
