//! A cluster loses stores for ever, in the middle of a history in which replicas lag behind, and the operator has it go on
//! with what is left. What is reported is checked against what is so; afterwards all shards serve, replication has grown
//! again, and who comes back is refused.

use std::cell::Cell;
use std::collections::BTreeMap;

use quorate_proto::{Answer, CommandError, LossRow, Recovery};
use quorate_raft::Index;
use quorate_sim::script::{CallId, MILLISECOND, MessageKind, Verdict};
use quorate_sim::{Call, SECOND, Setup, Violation, World};
use quorate_storage::StoreId;
use quorate_store::kv::slot_of;

use crate::support::Chance;

const SHARDS: u16 = 4;
pub(crate) const PATIENCE_US: u64 = 60 * SECOND;

/// How large the cluster is, and what it loses.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    nodes: usize,
    replicas: u8,
    lost: usize,
}

/// One replica survives of a shard that loses its majority.
pub(crate) const TWO_OF_FIVE: Shape = Shape {
    nodes: 5,
    replicas: 3,
    lost: 2,
};

/// Two survive, so that one is chosen.
pub(crate) const THREE_OF_EIGHT: Shape = Shape {
    nodes: 8,
    replicas: 5,
    lost: 3,
};

/// Over all seeds. Without any of these the row would show nothing.
#[derive(Default)]
pub(crate) struct Seen {
    /// Acknowledged writes that were lost.
    pub(crate) lost_writes: Cell<u64>,
    /// Entries that were kept though nobody knows whether they were acknowledged.
    pub(crate) kept_unsure: Cell<u64>,
    /// Shards with survivors whose logs differ.
    pub(crate) choices: Cell<u64>,
    /// Shards whose newest members nobody who lives has applied.
    pub(crate) outdated: Cell<u64>,
    /// Seeds that were not judged.
    pub(crate) skipped: Cell<u64>,
}

fn add(to: &Cell<u64>, more: u64) {
    to.set(to.get() + more);
}

fn start(seed: u64, shape: Shape) -> Result<World, Violation> {
    let mut setup = Setup::new(shape.nodes as u64)
        .seed(seed)
        .shards(SHARDS)
        .replicas(shape.replicas)
        .scheduled();
    if let Some(policy) = &mut setup.plan.store.schedule {
        // Only recovery moves anything here before stores are named as lost.
        policy.replace_after_us = 3_600 * SECOND;
    }
    let mut world = setup.start();
    for shard in shards() {
        world.await_leader(shard)?;
    }
    Ok(world)
}

fn shards() -> impl Iterator<Item = u64> {
    0..=u64::from(SHARDS)
}

/// The nodes that hold each shard.
type Held = BTreeMap<u64, Vec<usize>>;

/// Whether a shard keeps its majority without these nodes.
pub(crate) fn has_majority(held: &[usize], lost: &[usize]) -> bool {
    let live = held.iter().filter(|node| !lost.contains(node)).count();
    live > held.len() / 2
}

/// Nodes without which the controller keeps its majority, and some shard has lost its own.
fn choose_lost(held: &Held, shape: Shape, chance: &mut Chance) -> Vec<usize> {
    for _ in 0..1_000 {
        let mut lost: Vec<usize> = Vec::new();
        while lost.len() < shape.lost {
            let node = chance.below(shape.nodes as u64) as usize;
            if !lost.contains(&node) {
                lost.push(node);
            }
        }
        if has_majority(&held[&0], &lost) && shards().any(|shard| !has_majority(&held[&shard], &lost)) {
            return lost;
        }
    }
    panic!("no shard can lose its majority alone: {held:?}");
}

/// Every key is written once, with its own name for a value: which keys are acknowledged.
#[derive(Default)]
pub(crate) struct Writes {
    begun: Vec<(String, CallId)>,
}

impl Writes {
    pub(crate) fn write(&mut self, world: &mut World, chance: &mut Chance) {
        let key = format!("key {}", self.begun.len());
        let client = world.client(key.clone());
        let via = chance.below(world.node_count() as u64) as usize;
        let call = Call::put(&key, &key).via(via).within_ms(2_000);
        self.begun.push((key, world.begin(client, call)));
    }

    pub(crate) fn acknowledged(&self, world: &World) -> Vec<String> {
        let done = |(_, call): &&(String, CallId)| world.ended(*call).is_some_and(|ended| ended.is_done());
        self.begun
            .iter()
            .filter(done)
            .map(|(key, _)| key.clone())
            .collect()
    }
}

/// Writes all the time, while nodes are cut off now and then, so that replicas lag behind.
fn random_history(world: &mut World, chance: &mut Chance, writes: &mut Writes) -> Result<(), Violation> {
    let nodes = world.node_count();
    for _ in 0..chance.range(3, 8) {
        if chance.percent(60) {
            let node = chance.below(nodes as u64) as usize;
            if chance.percent(50) {
                world.isolate(node);
            } else {
                let other = (node + 1 + chance.below(nodes as u64 - 1) as usize) % nodes;
                world.cut(node, other);
            }
        }
        for _ in 0..chance.range(5, 25) {
            writes.write(world, chance);
            world.run_for(chance.below(20 * MILLISECOND))?;
        }
        if chance.percent(70) {
            world.heal_network();
            world.run_for(chance.below(SECOND))?;
        }
    }
    world.heal_network();
    for shard in shards() {
        world.await_leader(shard)?;
    }
    Ok(())
}

/// Those who survive hear of the last writes late, or not, or not even of the last elections.
fn lag_behind(
    world: &mut World,
    chance: &mut Chance,
    writes: &mut Writes,
    (alive, lost): (&[usize], &[usize]),
) -> Result<(), Violation> {
    for node in alive {
        for gone in lost {
            if chance.percent(60) {
                world.cut(*node, *gone);
            }
        }
    }
    let pause_us = if chance.percent(30) { 100 } else { 10 } * MILLISECOND;
    for _ in 0..chance.range(5, 40) {
        writes.write(world, chance);
        world.run_for(chance.below(pause_us))?;
    }
    Ok(())
}

/// The last writes reach one survivor and not another, and are committed nowhere: for a moment, hardly anybody hears another.
fn spread_unevenly(world: &mut World, chance: &mut Chance, writes: &mut Writes) -> Result<(), Violation> {
    for a in 0..world.node_count() {
        for b in a + 1..world.node_count() {
            if chance.percent(70) {
                world.cut(a, b);
            }
        }
    }
    for _ in 0..chance.range(5, 20) {
        writes.write(world, chance);
        world.run_for(chance.below(10 * MILLISECOND))?;
    }
    Ok(())
}

pub(crate) fn crash(world: &mut World, chance: &mut Chance, node: usize) {
    if chance.percent(50) {
        world.crash(node);
    } else {
        world.crash_power(node);
    }
}

/// The report, once the controller's leader has heard enough for one.
pub(crate) fn report(world: &mut World, lost: &[usize]) -> Result<Vec<LossRow>, Violation> {
    world.wait_until("the losses are known", PATIENCE_US, |world| {
        matches!(world.losses(lost), Some(Ok(_)))
    })?;
    Ok(world.losses(lost).and_then(Result::ok).unwrap_or_default())
}

/// As [`report`], while something goes on that must change nothing: two who live do not hear each other, so that a shard may
/// have no leader though its majority lives; or one who lives has just started, and not told yet what it holds.
fn report_in_trouble(
    world: &mut World,
    chance: &mut Chance,
    (alive, lost): (&[usize], &[usize]),
) -> Result<Vec<LossRow>, Violation> {
    world.wait_until("the losses are known", PATIENCE_US, |world| {
        matches!(world.losses(lost), Some(Ok(_)))
    })?;
    let pick = |chance: &mut Chance| alive[chance.below(alive.len() as u64) as usize];
    match (chance.below(3), world.leader_of(0)) {
        (0, Some(leader)) => {
            // The controller's leader hears both.
            let (a, b) = (pick(chance), pick(chance));
            if a != b && a != leader && b != leader {
                world.cut(a, b);
                world.run_for(2 * SECOND)?;
            }
        }
        (1, Some(_)) => {
            let node = pick(chance);
            crash(world, chance, node);
            // Until its word of before does not count any more.
            world.run_for(chance.range(6, 9) * SECOND)?;
            world.start_node(node);
        }
        _ => {}
    }
    let losses = report(world, lost)?;
    world.heal_network();
    Ok(losses)
}

pub(crate) fn node_of(store: StoreId) -> usize {
    store.0 as usize - 1
}

/// How many of the keys a client of the cluster finds, with the values that they were given.
pub(crate) fn present(world: &mut World, keys: &[String]) -> Result<Vec<bool>, Violation> {
    let client = world.client("reader");
    let mut found = Vec::new();
    for key in keys {
        let ended = world.ask(client, Call::get(key).within_ms(20_000))?;
        assert!(ended.is_done(), "{key}: {ended:?}");
        let value = ended.bytes();
        assert!(
            value.is_none_or(|value| value == key.as_bytes()),
            "{key} has {value:?}"
        );
        found.push(value.is_some());
    }
    Ok(found)
}

/// What was promised of a shard: positions that are given up, and values that are kept.
#[derive(Default)]
pub(crate) struct Promised {
    given_up: BTreeMap<u64, Vec<Index>>,
    kept: BTreeMap<u64, BTreeMap<Vec<u8>, Vec<u8>>>,
}

impl Promised {
    /// A shard is to go on with a node's replica, of which so much is said to be committed.
    pub(crate) fn promise(&mut self, world: &mut World, shard: u64, keeper: usize, commit: Index) {
        self.kept.insert(shard, world.logged_values(keeper, shard));
        let positions = world.give_up(shard, keeper);
        for index in &positions {
            assert!(
                *index > commit,
                "shard {shard}: {index} is given up and {commit} said to be committed"
            );
        }
        self.given_up.insert(shard, positions);
    }
}

/// The report is exact: of the shards that lost their majority, and of no others, it says what is certain, and the survivor
/// goes on that holds all of that and most beyond.
fn check_report(
    world: &mut World,
    losses: &[LossRow],
    held: &Held,
    (alive, lost): (&[usize], &[usize]),
    seen: &Seen,
) -> Promised {
    let named: Vec<u64> = losses.iter().map(|loss| loss.shard.0).collect();
    let expected = shards().filter(|shard| !has_majority(&held[shard], lost));
    let expected: Vec<u64> = expected.collect();
    let standing =
        |shard: &u64| -> Vec<_> { alive.iter().map(|node| world.replica(*node, *shard)).collect() };
    assert_eq!(
        named,
        expected,
        "shards without a majority: {:?}",
        expected.iter().map(standing).collect::<Vec<_>>()
    );
    let mut promised = Promised::default();
    for loss in losses {
        let shard = loss.shard.0;
        let recovery = loss.recovery.as_ref().expect("one survives");
        let left = recovery.left.as_ref().expect("it has something");
        let keeper = node_of(recovery.store);
        assert!(!lost.contains(&keeper));
        let status = world.replica(keeper, shard).expect("it lives");
        assert_eq!(status.last, left.last.0, "shard {shard}");
        let survivors: Vec<usize> = alive
            .iter()
            .copied()
            .filter(|node| held[&shard].contains(node))
            .collect();
        let told: Vec<usize> = loss.survivors.iter().map(|store| node_of(*store)).collect();
        assert_eq!(told, survivors, "survivors of shard {shard}");
        let commits = survivors.iter().filter_map(|node| world.replica(*node, shard));
        let certain = commits.map(|status| status.commit).max();
        assert_eq!(Some(left.commit), certain, "what is certain of shard {shard}");
        let own = world.log_terms(keeper, shard);
        let mut ends = Vec::new();
        for node in survivors {
            let log = world.log_terms(node, shard);
            if log.get(&left.commit) == own.get(&left.commit) {
                ends.push((log.last_key_value().map(|(index, term)| (*term, *index)), node));
            }
        }
        let most = ends.iter().map(|(end, _)| *end).max();
        let goes_on = own.last_key_value().map(|(index, term)| (*term, *index));
        assert_eq!(Some(goes_on), most, "shard {shard}: {ends:?}, {keeper} goes on");
        add(
            &seen.choices,
            u64::from(ends.iter().any(|(end, _)| Some(*end) != most)),
        );
        add(&seen.kept_unsure, left.last.0.0 - left.commit.0);
        promised.promise(world, shard, keeper, left.commit);
    }
    promised
}

/// Nobody else is named for a shard while who was named first may live.
fn check_offers(world: &World, lost: &[usize], recoveries: &[Recovery]) {
    let Some(Ok(losses)) = world.losses(lost) else {
        return;
    };
    for offer in losses.iter().filter_map(|loss| loss.recovery.as_ref()) {
        let first = recoveries.iter().find(|first| first.shard == offer.shard);
        assert_eq!(
            Some((offer.store, offer.replica)),
            first.map(|first| (first.store, first.replica)),
            "shard {} was to go on with another one",
            offer.shard
        );
    }
}

/// Asks for it once or twice, and whoever goes on may crash between two steps.
fn recover(
    world: &mut World,
    chance: &mut Chance,
    lost: &[usize],
    recoveries: &[Recovery],
) -> Result<(), Violation> {
    let operator = world.client("operator");
    if chance.percent(40) {
        // What is said to one of those who were chosen, and what it says of itself, is lost, until its word of before does not
        // count any more. The others' does.
        let keeper = node_of(recoveries[chance.below(recoveries.len() as u64) as usize].store);
        let late = world.filter(move |passing| match passing.kind() {
            MessageKind::Survivors if passing.from == keeper => Verdict::Drop,
            MessageKind::Recover if passing.to == keeper => Verdict::Drop,
            _ => Verdict::Pass,
        });
        let ended = world.recover(operator, lost, recoveries.to_vec())?;
        assert_eq!(ended.answer(), Some(&Answer::Ok));
        for _ in 0..30 {
            check_offers(world, lost, recoveries);
            world.run_for(250 * MILLISECOND)?;
        }
        world.unfilter(late);
    }
    for _ in 0..=chance.below(2) {
        let ended = world.recover(operator, lost, recoveries.to_vec())?;
        assert_eq!(ended.answer(), Some(&Answer::Ok));
        if chance.percent(60) {
            // Somewhere between two steps.
            let recovery = &recoveries[chance.below(recoveries.len() as u64) as usize];
            let keeper = node_of(recovery.store);
            if chance.percent(50) {
                // Its new membership may not be durable yet.
                world.wait_until("it goes on alone", PATIENCE_US, |world| {
                    let status = world.replica(keeper, recovery.shard.0);
                    status.is_some_and(|status| status.conf_ver >= recovery.epoch.conf_ver)
                })?;
                world.run_for(chance.below(2 * MILLISECOND))?;
            } else {
                world.run_for(chance.below(SECOND))?;
            }
            crash(world, chance, keeper);
            // Its word may not count any more when it starts.
            let away_us = if chance.percent(30) { 6 * SECOND } else { 0 };
            world.run_for(away_us + chance.below(SECOND))?;
            world.start_node(keeper);
        }
        for _ in 0..20 {
            check_offers(world, lost, recoveries);
            world.run_for(chance.below(200 * MILLISECOND))?;
        }
    }
    world.wait_until("every shard is led again", PATIENCE_US, |world| {
        shards().all(|shard| world.followed_leader(shard).is_some())
    })?;
    Ok(())
}

/// What is there is what was said to be kept, and what is gone was said to be.
pub(crate) fn check_kept(
    world: &mut World,
    losses: &[LossRow],
    promised: &Promised,
    acknowledged: &[String],
    seen: &Seen,
) -> Result<(), Violation> {
    let found = present(world, acknowledged)?;
    let mut missing: BTreeMap<u64, usize> = BTreeMap::new();
    for (key, is_there) in acknowledged.iter().zip(found) {
        let slot = u64::from(slot_of(key.as_bytes()));
        let of = losses
            .iter()
            .find(|loss| (u64::from(loss.start_slot)..u64::from(loss.end_slot)).contains(&slot));
        if is_there {
            continue;
        }
        let Some(loss) = of else {
            panic!("{key} was in no shard that lost its majority");
        };
        assert!(
            !promised.kept[&loss.shard.0].contains_key(key.as_bytes()),
            "{key} was said to be kept"
        );
        *missing.entry(loss.shard.0).or_default() += 1;
        add(&seen.lost_writes, 1);
    }
    for (shard, count) in missing {
        let positions = promised.given_up[&shard].len();
        assert!(
            count <= positions,
            "shard {shard}: {count} writes, {positions} positions"
        );
    }
    for values in promised.kept.values() {
        let keys: Vec<String> = values
            .keys()
            .map(|key| String::from_utf8_lossy(key).into_owned())
            .collect();
        assert!(present(world, &keys)?.iter().all(|is_there| *is_there));
    }
    Ok(())
}

/// The newest version of a shard's membership that a node which is up has applied.
fn conf_ver(world: &World, shard: u64) -> u64 {
    let replicas = (0..world.node_count()).filter_map(|node| world.replica(node, shard));
    replicas.map(|status| status.conf_ver).max().unwrap_or(0)
}

/// One seed.
pub(crate) fn run(seed: u64, shape: Shape, seen: &Seen) -> Result<(), Violation> {
    let mut chance = Chance::new(seed);
    let chance = &mut chance;
    let mut world = start(seed, shape)?;
    let mut writes = Writes::default();
    random_history(&mut world, chance, &mut writes)?;
    world.wait_until("nothing moves", PATIENCE_US, |world| {
        shards().all(|shard| {
            let leader = world.leader_of(shard).and_then(|node| world.replica(node, shard));
            leader.is_some_and(|status| !status.changing)
        })
    })?;
    let on_nodes = |shard| world.holders(shard).into_iter().map(node_of).collect();
    let held: Held = shards().map(|shard| (shard, on_nodes(shard))).collect();
    let versions: BTreeMap<u64, u64> = shards().map(|shard| (shard, conf_ver(&world, shard))).collect();
    let lost = choose_lost(&held, shape, chance);
    let alive: Vec<usize> = (0..shape.nodes).filter(|node| !lost.contains(node)).collect();
    let sides = (&alive[..], &lost[..]);
    if chance.percent(60) {
        lag_behind(&mut world, chance, &mut writes, sides)?;
    }
    if chance.percent(40) {
        spread_unevenly(&mut world, chance, &mut writes)?;
    }
    for node in &lost {
        crash(&mut world, chance, *node);
        world.run_for(chance.below(5 * MILLISECOND))?;
    }
    for node in &lost {
        world.lose(*node);
    }
    world.heal_network();
    // Writes go on; shards without a majority take none.
    for _ in 0..20 {
        writes.write(&mut world, chance);
        world.run_for(chance.below(50 * MILLISECOND))?;
    }
    let early = world.losses(&lost);
    assert!(!matches!(early, Some(Ok(_))), "they may only be late: {early:?}");
    let losses = report_in_trouble(&mut world, chance, sides)?;
    let known = |shard: &u64| conf_ver(&world, *shard);
    if versions.iter().any(|(shard, version)| known(shard) > *version) {
        // The schedulers changed members at the last moment: the row does not know who held the shards.
        add(&seen.skipped, 1);
        return Ok(());
    }
    // Those who knew the newest members may be lost.
    let outdated = versions
        .iter()
        .filter(|(shard, version)| known(shard) < **version);
    add(&seen.outdated, outdated.count() as u64);
    let acknowledged = writes.acknowledged(&world);
    let promised = check_report(&mut world, &losses, &held, sides, seen);

    let operator = world.client("operator");
    let recoveries: Vec<_> = losses.iter().filter_map(|loss| loss.recovery.clone()).collect();
    // Not what was shown; nothing changes.
    let mut other = recoveries.clone();
    other[0].epoch.conf_ver += 1;
    let ended = world.recover(operator, &lost, other)?;
    assert_eq!(ended.answer(), Some(&Answer::Error(CommandError::ShardChanged)));
    let more: Vec<usize> = lost.iter().chain(&alive[..1]).copied().collect();
    let ended = world.recover(operator, &more, Vec::new())?;
    assert_eq!(ended.answer(), Some(&Answer::Error(CommandError::StoreAlive)));
    recover(&mut world, chance, &lost, &recoveries)?;
    check_kept(&mut world, &losses, &promised, &acknowledged, seen)?;

    // Who comes back is refused, with its old disks or empty ones; nothing changes by it.
    let returns = lost[chance.below(lost.len() as u64) as usize];
    world.start_node(returns);
    world.wait_until("who comes back is refused", PATIENCE_US, |world| {
        !world.is_up(returns)
    })?;
    world.run_for(SECOND)?;
    assert!(!world.is_up(returns), "it stays away");
    let replicas = usize::from(shape.replicas);
    world.wait_until("every shard has all its replicas", 2 * PATIENCE_US, |world| {
        (1..=u64::from(SHARDS)).all(|shard| {
            let holders: Vec<usize> = world.holders(shard).into_iter().map(node_of).collect();
            holders.len() == replicas && world.is_held_by(shard, &holders)
        })
    })?;
    let ended = world.recover(operator, &lost, recoveries)?;
    assert_eq!(ended.answer(), Some(&Answer::Ok), "asked again");
    let before = writes.acknowledged(&world);
    for _ in 0..10 {
        writes.write(&mut world, chance);
    }
    world.run_for(3 * SECOND)?;
    let mut now = writes.acknowledged(&world);
    now.retain(|key| !before.contains(key));
    assert!(!now.is_empty(), "it takes writes");
    assert!(present(&mut world, &now)?.iter().all(|is_there| *is_there));
    for shard in shards() {
        world.await_equal(shard, PATIENCE_US)?;
    }
    Ok(())
}
