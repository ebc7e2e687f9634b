//! Row X-17: very many keys in flight while their shards move.

use std::collections::BTreeMap;

use quorate_proto::Manage;
use quorate_sim::script::{CallId, MILLISECOND};
use quorate_sim::{Call, Ended, Retry, SECOND, Setup, Violation, World};
use quorate_storage::StoreId;
use quorate_store::kv;

use crate::support::{BUG_SEEDS, Chance, close, row};

const NODES: u64 = 6;
const SHARDS: u16 = 4;
const KEYS: u64 = 2_000;
/// Writes of one session; they are in flight together, so none acknowledges another.
const SESSION_WRITES: u64 = 1_000;
/// What a client waits longer than its call may take: for the attempt that was under way, and for the answer's way.
const GRACE_US: u64 = SECOND;
const DEADLINES_MS: [u64; 4] = [300, 1_000, 3_000, 10_000];

fn key_of(n: u64) -> String {
    format!("key {n}")
}

/// A write to a key of its own. One third are sent once, one third again if they were refused, and one third again under
/// a session until they are answered.
fn begin(world: &mut World, chance: &mut Chance, keys: u64) -> Vec<(CallId, u64)> {
    let clients: Vec<_> = (0..16).map(|n| world.client(format!("client {n}"))).collect();
    let mut session = world.open_session();
    let mut begun = Vec::new();
    for n in 0..keys {
        let within_ms = DEADLINES_MS[chance.below(DEADLINES_MS.len() as u64) as usize];
        let attempt_ms = chance.range(100, within_ms.min(3_000) + 1) as u32;
        let append = Call::append(key_of(n), "once;")
            .within_ms(within_ms)
            .attempt_ms(attempt_ms);
        let seq = n % SESSION_WRITES + 1;
        if seq == 1 {
            session = world.open_session();
        }
        let call = match chance.below(3) {
            0 => append.retry(Retry::Never),
            1 => append.retry(Retry::IfRefused),
            _ => append.retry(Retry::Always).session(session.write(seq, 1)),
        };
        let client = clients[chance.below(16) as usize];
        begun.push((world.begin(client, call), within_ms));
    }
    begun
}

/// Shards get three other stores, all at once, in an order by chance.
fn move_all(world: &mut World, chance: &mut Chance) {
    for shard in 1..=u64::from(SHARDS) {
        let holders = world.holders(shard);
        let others = (1..=NODES)
            .map(StoreId)
            .filter(|store| !holders.contains(store))
            .collect();
        let wish = Manage::Change {
            add: others,
            remove: holders,
        };
        world.wish(chance.below(NODES) as usize, shard, wish);
    }
}

/// Nothing hangs past its deadline, every outcome is one of three, and what it says is true. Prints how many there were.
fn judge(world: &World, begun: &[(CallId, u64)]) -> Result<(), Violation> {
    let mut holder_of = BTreeMap::new();
    for shard in 1..=u64::from(SHARDS) {
        let (start, end) = world.slots_of(shard);
        let node = world.followed_leader(shard).expect("all is well again");
        holder_of.insert(start, (end, shard, node));
    }
    let (mut done, mut refused, mut unknown) = (0u64, 0u64, 0u64);
    for (n, ((_, within_ms), operation)) in (0..).zip(begun.iter().zip(world.history())) {
        let key = key_of(n);
        let (ended_us, ended) = operation.ended.as_ref().unwrap_or_else(|| panic!("{key} hangs"));
        let took_us = ended_us - operation.called_us;
        assert!(
            took_us <= within_ms * MILLISECOND + GRACE_US,
            "{key} may take {within_ms} ms, and took {took_us} us"
        );
        let slot = kv::slot_of(key.as_bytes());
        let (_, (end, shard, node)) = holder_of
            .range(..=slot)
            .next_back()
            .expect("every slot has a shard");
        assert!(slot < *end);
        let found = world.local_value(*node, *shard, key.as_bytes())?;
        let times = found.map_or(0, |value| {
            assert!(value.chunks(5).all(|token| token == b"once;"), "{key}: {value:?}");
            value.len() / 5
        });
        let right = match ended {
            Ended::Done(_) => 1..=1,
            Ended::NotApplied(_) => 0..=0,
            Ended::Unknown(_) => 0..=1,
        };
        assert!(
            right.contains(&times),
            "{key}: {ended:?}, and it was applied {times} times"
        );
        match ended {
            Ended::Done(_) => done += 1,
            Ended::NotApplied(_) => refused += 1,
            Ended::Unknown(_) => unknown += 1,
        }
    }
    println!(
        "X-17: {} keys: {done} applied, {refused} not applied, {unknown} unknown",
        begun.len()
    );
    assert!(done > 0);
    Ok(())
}

fn keys_in_flight_across_moves(seed: u64, keys: u64) -> Result<(), Violation> {
    let mut chance = Chance::new(seed);
    let mut world = Setup::new(NODES).shards(SHARDS).replicas(3).seed(seed).start();
    for shard in 0..=u64::from(SHARDS) {
        world.await_leader(shard)?;
    }
    world.run_for(3 * SECOND)?;
    // Disks so slow that what is in flight meets the moves.
    for node in 0..NODES as usize {
        world.slow_disk(node, chance.range(20, 200), 5 * SECOND);
    }
    let before: Vec<_> = (1..=u64::from(SHARDS))
        .map(|shard| world.holders(shard))
        .collect();
    if chance.percent(50) {
        move_all(&mut world, &mut chance);
        world.run_for(chance.below(200 * MILLISECOND))?;
    }
    let begun = begin(&mut world, &mut chance, keys);
    for _ in 0..chance.range(1, 4) {
        world.run_for(chance.below(500 * MILLISECOND))?;
        move_all(&mut world, &mut chance);
    }
    if chance.percent(30) {
        let node = chance.below(NODES) as usize;
        world.crash(node);
        world.run_for(chance.below(2 * SECOND))?;
        world.start_node(node);
    }
    let longest_us = DEADLINES_MS[3] * MILLISECOND + GRACE_US;
    let mut open = begun.iter().peekable();
    world.wait_until("every call ends", longest_us, |world| {
        while open.next_if(|(call, _)| world.ended(*call).is_some()).is_some() {}
        open.peek().is_none()
    })?;
    world.run_for(5 * SECOND)?;
    for shard in 1..=u64::from(SHARDS) {
        world.await_leader(shard)?;
        world.await_equal(shard, 20 * SECOND)?;
    }
    let moved = (1..=u64::from(SHARDS))
        .zip(before)
        .filter(|(shard, before)| world.holders(*shard) != *before);
    assert!(moved.count() > 0, "no shard moved");
    judge(&world, &begun)?;
    close(world)
}

#[test]
fn x_17_keys_in_flight_across_moves() {
    row("x_17_keys_in_flight_across_moves", BUG_SEEDS, |seed| {
        keys_in_flight_across_moves(seed, KEYS)
    });
}

#[test]
#[ignore = "takes minutes and gigabytes; the row's full number of keys"]
fn x_17_a_million_keys_in_flight_across_moves() {
    row("x_17_a_million_keys_in_flight_across_moves", 1, |seed| {
        keys_in_flight_across_moves(seed, 1_000_000)
    });
}
