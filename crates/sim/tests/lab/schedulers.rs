//! The schedulers inside a group: what is down is replaced, what comes back is welcome, and what is even is let alone.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use quorate_sim::script::{MILLISECOND, Next};
use quorate_sim::{Call, Ended, SECOND, Setup, Violation, World};
use quorate_storage::StoreId;
use quorate_store::kv;

use crate::support::{CLUSTER_SEEDS, Chance, close, row};

const NODES: u64 = 5;
const SHARDS: u16 = 10;
/// How long a store may be silent here.
const REPLACE_AFTER_US: u64 = 15 * SECOND;
const PATIENCE_US: u64 = 60 * SECOND;

fn start(seed: u64) -> Result<World, Violation> {
    let mut setup = Setup::new(NODES)
        .seed(seed)
        .shards(SHARDS)
        .replicas(3)
        .scheduled();
    if let Some(policy) = &mut setup.plan.store.schedule {
        policy.replace_after_us = REPLACE_AFTER_US;
    }
    let mut world = setup.start();
    for shard in 0..=u64::from(SHARDS) {
        world.await_leader(shard)?;
    }
    Ok(world)
}

/// Replicas and leaders by node.
fn shares(world: &World) -> (Vec<usize>, Vec<usize>) {
    let mut held = BTreeMap::new();
    let mut led = vec![0; world.node_count()];
    for shard in world.shards() {
        for store in world.holders(*shard) {
            *held.entry(store).or_insert(0) += 1;
        }
        if let Some(leader) = world.leader_of(*shard) {
            led[leader] += 1;
        }
    }
    let held = (1..=NODES).map(|store| held.get(&StoreId(store)).copied().unwrap_or(0));
    (held.collect(), led)
}

/// Nobody has two more than another.
fn is_even(world: &World) -> bool {
    let (held, led) = shares(world);
    let spread = |counts: &[usize]| counts.iter().max().zip(counts.iter().min()).map(|(a, b)| a - b);
    let is_settled = world.shards().iter().all(|shard| {
        let nodes: Vec<usize> = world
            .holders(*shard)
            .iter()
            .map(|store| store.0 as usize - 1)
            .collect();
        nodes.len() == 3 && world.is_held_by(*shard, &nodes)
    });
    // The controller's shard is not moved for balance.
    is_settled && spread(&held) <= Some(2) && spread(&led) <= Some(2)
}

#[test]
fn a_store_that_is_down_for_long_is_replaced_and_welcome_when_it_is_back() {
    row(
        "a_store_that_is_down_for_long_is_replaced",
        CLUSTER_SEEDS,
        |seed| {
            let mut chance = Chance::new(seed);
            let mut world = start(seed)?;
            world.wait_until("the cluster is even", PATIENCE_US, is_even)?;
            let client = world.client("a");
            let keys: Vec<String> = (0..40).map(|n| format!("key {n}")).collect();
            for key in &keys {
                assert!(world.ask(client, Call::put(key, key))?.is_done());
            }
            let gone = chance.below(NODES) as usize;
            let holds = |world: &World| {
                let holders = world.shards().iter().map(|shard| world.holders(*shard));
                holders.flatten().any(|store| store.0 as usize == gone + 1)
            };
            world.crash(gone);
            world.run_for(REPLACE_AFTER_US - 5 * SECOND)?;
            assert!(holds(&world), "it may come back");
            world.wait_until("others hold what it held", PATIENCE_US, |world| !holds(world))?;
            for key in &keys {
                let ended = world.ask(client, Call::get(key))?;
                assert_eq!(ended.bytes(), Some(key.as_bytes()));
            }
            // A second one may go now: every shard has three others.
            let other = (gone + 1) % NODES as usize;
            world.crash(other);
            for key in &keys {
                let ended = world.ask(client, Call::get(key).within_ms(30_000))?;
                assert_eq!(ended.bytes(), Some(key.as_bytes()));
            }
            world.start_node(other);
            world.start_node(gone);
            world.wait_until("it has its share again", 2 * PATIENCE_US, is_even)?;
            assert!(holds(&world));
            close(world)
        },
    );
}

/// Three of five die, and the controller keeps its majority: what they hold is not given to others, however late it is.
#[test]
fn nothing_is_replaced_while_half_of_the_stores_look_down() {
    row("nothing_is_replaced_while_half", CLUSTER_SEEDS, |seed| {
        let mut world = start(seed)?;
        world.wait_until("the cluster is even", PATIENCE_US, is_even)?;
        let leader = world.await_leader(0)?;
        let rest: Vec<usize> = (0..NODES as usize).filter(|node| *node != leader).collect();
        // The controller's shard keeps its majority, the others may not.
        let holders = world.holders(0);
        let dies: Vec<usize> = rest
            .into_iter()
            .filter(|node| !holders.contains(&StoreId(*node as u64 + 1)))
            .chain(
                holders
                    .iter()
                    .map(|store| store.0 as usize - 1)
                    .filter(|node| *node != leader),
            )
            .take(3)
            .collect();
        let before: Vec<Vec<StoreId>> = world.shards().iter().map(|shard| world.holders(*shard)).collect();
        dies.iter().for_each(|node| world.crash(*node));
        world.run_for(3 * REPLACE_AFTER_US)?;
        dies.iter().for_each(|node| world.start_node(*node));
        // Before anybody has had time to decide anything else.
        for shard in world.shards().to_vec() {
            world.await_leader(shard)?;
        }
        let after: Vec<Vec<StoreId>> = world.shards().iter().map(|shard| world.holders(*shard)).collect();
        assert_eq!(after, before);
        close(world)
    });
}

#[test]
fn a_cluster_that_is_even_is_let_alone() {
    row("a_cluster_that_is_even_is_let_alone", CLUSTER_SEEDS, |seed| {
        let mut world = start(seed)?;
        world.wait_until("the cluster is even", PATIENCE_US, is_even)?;
        world.run_for(5 * SECOND)?;
        let given = |world: &World| -> u64 {
            let counters = (0..world.node_count()).filter_map(|node| world.counters(node));
            counters.map(|counters| counters.operators.given).sum()
        };
        let (before, shares_before) = (given(&world), shares(&world));
        world.run_for(120 * SECOND)?;
        assert_eq!(given(&world), before);
        assert_eq!(shares(&world), shares_before);
        close(world)
    });
}

/// A key that the shard has.
fn key_in(world: &World, shard: u64) -> String {
    let (start, end) = world.slots_of(shard);
    let mut keys = (0..).map(|n: u32| format!("key {n}"));
    let key = keys.find(|key| (start..end).contains(&kv::slot_of(key.as_bytes())));
    key.expect("every slot has a key")
}

/// Both of a store's shards are asked for much: one of them is led by another, and then both stay where they are.
#[test]
fn two_hot_shards_of_one_store_are_led_by_two() {
    row("two_hot_shards_of_one_store", CLUSTER_SEEDS, |seed| {
        let mut world = start(seed)?;
        world.wait_until("the cluster is even", PATIENCE_US, is_even)?;
        world.run_for(5 * SECOND)?;
        let hot = (0..NODES as usize).find_map(|node| {
            let mut shards = (1..=u64::from(SHARDS)).filter(|shard| world.leader_of(*shard) == Some(node));
            Some([shards.next()?, shards.next()?])
        });
        let hot = hot.expect("ten shards have five leaders");
        let stop = Rc::new(Cell::new(false));
        for shard in hot {
            let key = key_in(&world, shard);
            for nth in 0..20 {
                let (stop, key) = (stop.clone(), key.clone());
                let mut is_resting = false;
                world.spawn(
                    format!("reader {shard}.{nth}"),
                    move |_, ended: Option<&Ended>| {
                        is_resting |= ended.is_some();
                        if std::mem::take(&mut is_resting) {
                            return Next::Sleep(5 * MILLISECOND);
                        }
                        match stop.get() {
                            true => Next::End,
                            false => Call::get(&key).into(),
                        }
                    },
                );
            }
        }
        let leaders = |world: &World| hot.map(|shard| world.leader_of(shard));
        world.wait_until("two stores lead them", 15 * SECOND, |world| {
            let [one, other] = leaders(world);
            one.is_some() && other.is_some() && one != other
        })?;
        let then = leaders(&world);
        for _ in 0..10 {
            world.run_for(SECOND / 2)?;
            assert_eq!(leaders(&world), then, "of shards {hot:?}");
        }
        stop.set(true);
        world.finish_programs(20 * SECOND)?;
        close(world)
    });
}
