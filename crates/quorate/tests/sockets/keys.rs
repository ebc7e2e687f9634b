//! Row X-17: very many keys in flight while their shards move and split.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate_client::{Client, Error, Options, Outcome};
use tokio::task::JoinSet;

use crate::generic::runtime;
use crate::net::{Net, PATIENCE};
use crate::support::control::{ctl, done, shards};

/// A call may end so much after its deadline: the tasks of the test wait for each other on a busy machine.
const GRACE: Duration = Duration::from_secs(5);
/// Keys read back by one command.
const READ: usize = 500;

struct Ended {
    key: String,
    outcome: Outcome<u64>,
    took: Duration,
}

/// Each key is appended to once, all at the same time, over a few clients. What a client may not send yet, by its limit
/// of commands under way, waits in it, within its deadline. Meanwhile shards move and split. No call outlasts its
/// deadline, each says whether it was applied, not applied, or that this is unknown, and what it says is true.
fn keys_in_flight(row: &str, keys: u64, clients: u64, deadline: Duration) {
    let net = Net::start(row, 4, &[]);
    let runtime = runtime();
    let options = Options::default().deadline(deadline);
    let connect = || Client::connect_with(net.addrs.clone(), options.clone());
    let pool: Vec<Client> = (0..clients)
        .map(|_| runtime.block_on(connect()).unwrap())
        .collect();
    done(&net.cluster, 0, "replica remove 1 4");

    let (began, over) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut work = JoinSet::new();
    for n in 0..keys {
        let (client, over) = (pool[(n % clients) as usize].clone(), over.clone());
        let append = async move {
            let (key, begun) = (format!("key {n}"), Instant::now());
            let outcome = Outcome::from(client.append(&key, "once;").await);
            over.fetch_add(1, Ordering::Relaxed);
            Ended {
                key,
                outcome,
                took: begun.elapsed(),
            }
        };
        work.spawn_on(append, runtime.handle());
    }
    // From the store that leads to the one without a replica, for every part that there is, as long as calls are under
    // way. A node with so many commands before it may not answer a wish in time; then the next one does.
    let (mut moves, mut splits) = (0, 0);
    while over.load(Ordering::Relaxed) < keys && began.elapsed() < deadline || moves == 0 {
        assert!(began.elapsed() < deadline + PATIENCE, "no shard moves");
        let parts = shards(&net.cluster, 1);
        for part in &parts {
            let leads = |store: &&u64| Some(**store) == part.leader;
            let gone = part.stores.iter().find(leads).unwrap_or(&part.stores[0]);
            if let Some(come) = (1..=4).find(|store| !part.stores.contains(store)) {
                let wish = format!("replica move {} {gone} {come}", part.id);
                moves += u64::from(ctl(&net.cluster, 1, &wish).0 == Some(0));
            }
        }
        if parts.len() < 4 {
            let wish = format!("split {}", parts[parts.len() - 1].id);
            splits += u64::from(ctl(&net.cluster, 2, &wish).0 == Some(0));
        }
    }
    let ended = runtime.block_on(work.join_all());
    let lasted = began.elapsed();
    assert_eq!(ended.len() as u64, keys);
    let slowest = ended.iter().map(|ended| ended.took).max().unwrap();
    assert!(
        slowest <= deadline + GRACE,
        "a call with a deadline of {deadline:?} took {slowest:?}"
    );

    let reader = pool[0].within(PATIENCE);
    let mut count = [0u64; 3];
    for some in ended.chunks(READ) {
        let names: Vec<&str> = some.iter().map(|ended| ended.key.as_str()).collect();
        let found = runtime.block_on(reader.get_many(&names)).unwrap();
        for (ended, value) in some.iter().zip(found) {
            let times = value.map_or(0, |value| {
                assert!(
                    value.chunks(5).all(|token| token == b"once;"),
                    "{}: {value:?}",
                    ended.key
                );
                value.len() / 5
            });
            let (kind, right) = match &ended.outcome {
                Outcome::Applied(length) => {
                    assert_eq!(*length, 5, "{}", ended.key);
                    (0, 1..=1)
                }
                Outcome::NotApplied(Error::NotApplied(_)) => (1, 0..=0),
                Outcome::Unknown(Error::Unknown { .. }) => (2, 0..=1),
                other => panic!("{}: {other:?}", ended.key),
            };
            assert!(
                right.contains(&times),
                "{}: {:?}, and applied {times} times",
                ended.key,
                ended.outcome
            );
            count[kind] += 1;
        }
    }
    let [applied, not_applied, unknown] = count;
    println!(
        "  {keys} keys in flight over {clients} clients, {moves} moves and {splits} splits: {applied} applied, \
         {not_applied} not applied, {unknown} unknown; all over after {lasted:?}, the slowest after {slowest:?}"
    );
    assert!(applied > 0);
    net.report();
}

#[test]
fn x_17_keys_in_flight_across_moves_and_splits() {
    keys_in_flight(
        "x_17_keys_in_flight_across_moves_and_splits",
        20_000,
        4,
        Duration::from_secs(30),
    );
}

#[test]
#[ignore = "a million keys; minutes and gigabytes"]
fn x_17_a_million_keys_in_flight_across_moves_and_splits() {
    let row = "x_17_a_million_keys_in_flight_across_moves_and_splits";
    keys_in_flight(row, 1_000_000, 16, Duration::from_secs(120));
}
