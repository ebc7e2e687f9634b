//! Hot-shard: what is asked for much is led apart, and then stays there.

mod support;

use quorate_controller::{ClusterView, Condition, Reason, Task, operators};
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::Limits;
use support::Rng;
use support::view::{add_shard, carry_out, cluster, set_condition};

const UNLIMITED: Limits = Limits {
    changes: usize::MAX,
    incoming: usize::MAX,
    leaders: usize::MAX,
};

/// Three stores that hold everything; each shard by who leads it and what is asked of it.
fn loaded(shards: &[(u64, u64)]) -> ClusterView {
    let mut view = cluster(3, 3);
    for (leader, load) in shards {
        let others = (1..=3).filter(|store| store != leader);
        let stores: Vec<u64> = std::iter::once(*leader).chain(others).collect();
        let shard = add_shard(&mut view, &stores);
        view.shards.get_mut(&shard).unwrap().load = *load;
    }
    view
}

/// Which shards get which leaders, and why.
fn leaders(view: &ClusterView) -> Vec<(u64, u64, Reason)> {
    let operators = operators(view, &UNLIMITED).into_iter();
    let leader = operators.map(|operator| match operator.task {
        Task::Leader { to } => (operator.shard.0, to.0, operator.reason),
        Task::Members { .. } => panic!("{operator:?}"),
    });
    leader.collect()
}

fn served(view: &ClusterView) -> [u64; 3] {
    let of = |store: u64| {
        let shards = view.shards.values();
        let led = shards.filter(|shard| shard.leader == StoreId(store));
        led.map(|shard| shard.load).sum()
    };
    [1, 2, 3].map(of)
}

#[test]
fn two_hot_shards_of_one_store_are_led_by_two() {
    let mut view = loaded(&[(1, 4_000), (1, 3_000), (2, 10), (2, 10), (3, 20), (3, 10)]);
    assert_eq!(
        leaders(&view)[0],
        (1, 2, Reason::Hot),
        "to the one with the least to do"
    );
    set_condition(&mut view, 2, Condition::Away);
    assert_eq!(leaders(&view)[0], (1, 3, Reason::Hot), "of those that are up");
    for shard in view.shards.values_mut() {
        shard.members[2].is_pending = true;
    }
    assert!(
        leaders(&view).iter().all(|(shard, ..)| *shard > 2),
        "nobody that is up and level could lead it: {:?}",
        leaders(&view)
    );
}

#[test]
fn what_would_not_help_is_left_alone() {
    let alone = loaded(&[(1, 9_000), (1, 100), (2, 10), (2, 10), (3, 10), (3, 10)]);
    assert_eq!(
        leaders(&alone),
        [],
        "one shard outweighs all others wherever it is"
    );
    let close = loaded(&[(1, 700), (1, 700), (2, 700), (2, 600), (3, 700), (3, 600)]);
    assert_eq!(
        leaders(&close),
        [],
        "a difference that is not worth a change of leaders"
    );
    let cold = loaded(&[(1, 400), (1, 400), (2, 0), (2, 0), (3, 0), (3, 0)]);
    assert_eq!(leaders(&cold), [], "little is asked for");
    let mut controller = loaded(&[(1, 4_000), (1, 3_000), (2, 0), (2, 0), (3, 0), (3, 0)]);
    let of = controller.shards.remove(&ShardId(1)).unwrap();
    controller.shards.insert(ShardId(0), of);
    assert_eq!(
        leaders(&controller),
        [(2, 2, Reason::Hot), (3, 1, Reason::Balance)],
        "who leads the controller next hears all anew"
    );
}

#[test]
fn the_number_of_shards_does_not_outweigh_what_is_asked_of_them() {
    // Store 2 leads one shard, store 1 three; but store 2 has more to do.
    let view = loaded(&[(1, 900), (1, 900), (1, 900), (2, 3_000), (3, 0), (3, 0)]);
    assert_eq!(leaders(&view), [(1, 3, Reason::Hot), (5, 2, Reason::Balance)]);
    let mut view = loaded(&[(1, 0), (1, 900), (1, 900), (2, 2_000), (3, 900), (3, 900)]);
    assert_eq!(leaders(&view), [(1, 2, Reason::Balance)], "a cold one may go");
    for load in [300, 600] {
        view.shards.get_mut(&ShardId(1)).unwrap().load = load;
        assert_eq!(
            leaders(&view),
            [],
            "a hot one may not, nor one that is hot now and then"
        );
    }
}

/// As many as there are on a node that was alone when the others joined.
#[test]
fn shards_that_are_neither_hot_nor_cold_are_spread() {
    let mut view = loaded(&[(1, 330); 8]);
    for _ in 0..10 {
        let operators = operators(&view, &UNLIMITED);
        carry_out(&mut view, operators);
    }
    let mut loads = served(&view);
    loads.sort_unstable();
    assert_eq!(loads, [660, 990, 990]);
}

/// Whatever is asked of the shards, it comes to rest, and hot shards could not be shared out much better by one step.
#[test]
fn any_load_comes_to_rest() {
    let mut rng = Rng::new(11);
    for case in 0..500 {
        let count = 1 + rng.below(40);
        let shards: Vec<(u64, u64)> = (0..count)
            .map(|_| {
                let load = match rng.below(3) {
                    0 => rng.below(200),
                    1 => rng.below(2_000),
                    _ => rng.below(50_000),
                };
                (1 + rng.below(3) as u64, load as u64)
            })
            .collect();
        let mut view = loaded(&shards);
        let limits = Limits {
            leaders: 1 + rng.below(16),
            ..UNLIMITED
        };
        let mut rounds = 0;
        loop {
            let operators = operators(&view, &limits);
            if operators.is_empty() {
                break;
            }
            carry_out(&mut view, operators);
            rounds += 1;
            assert!(rounds < 300, "case {case}: to and fro for ever: {shards:?}");
        }
        let loads = served(&view);
        let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
        for shard in view.shards.values().filter(|shard| shard.load >= 500) {
            let from = loads[shard.leader.0 as usize - 1];
            assert!(
                least + shard.load > from - from / 8,
                "case {case}: a shard of {} stays where {from} is asked for, and another has {least}; the most is {most}",
                shard.load
            );
        }
    }
}
