//! The client library while shards are split and get other leaders and stores: what its old map of them costs, that its
//! session stays, and which of the three outcomes a command has.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::time::{Duration, Instant};

use quorate_client::resp::Reply;
use quorate_client::{Client, Command, Error, Options, Outcome, Reason, Status};
use rustix::process::Signal;
use support::Cluster;
use support::control::{Shard, done, shards};
use tokio::runtime::{Builder, Runtime};

/// Slot 12182, which is of shard 6 in the beginning.
const KEY: &str = "foo";
const SLOT: u16 = 12_182;
const PATIENCE: Duration = Duration::from_secs(60);
/// Three heartbeats: by then the map has the term that a shard had before.
const HEARD_WITHIN: Duration = Duration::from_secs(3);

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

fn connect(runtime: &Runtime, cluster: &Cluster) -> Client {
    // A client reads the map anew while a part of it looks wrong; these tests are about when it does not know.
    runtime
        .block_on(Client::connect_with(
            cluster.addrs(),
            Options::default().deadline(PATIENCE),
        ))
        .unwrap()
}

/// The shard of the key, once all nodes say the same of it and it is as it should be.
fn agreed(cluster: &Cluster, what: &str, is_so: impl Fn(&Shard) -> bool) -> Shard {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let by_node: Vec<Option<Shard>> = (0..cluster.nodes.len())
            .map(|node| {
                shards(cluster, node)
                    .into_iter()
                    .find(|shard| shard.slots.contains(&SLOT))
            })
            .collect();
        if let Some(first) = &by_node[0]
            && first.leader.is_some()
            && is_so(first)
            && by_node.iter().all(|other| other.as_ref() == Some(first))
        {
            return first.clone();
        }
        assert!(Instant::now() < deadline, "{what}: {by_node:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the increments of a client cost.
struct Counted<'a> {
    cluster: &'a Cluster,
    runtime: &'a Runtime,
    client: Client,
    sum: i64,
    /// Commands that were judged: nothing changed meanwhile.
    judged: u64,
}

impl Counted<'_> {
    /// Runs one increment. Where `shard` has the same leader before and after it, it must take at most so many attempts,
    /// all but the last of which brought a hint. Leaders may change between any two commands: shards are spread.
    fn next(&mut self, shard: &Shard, attempts_max: u64, when: &str) {
        let before = self.client.counters();
        self.sum += 1;
        assert_eq!(
            self.runtime.block_on(self.client.increment(KEY, 1)),
            Ok(self.sum),
            "{when}"
        );
        let after = self.client.counters();
        let (attempts, hints) = (after.attempts - before.attempts, after.hints - before.hints);
        let is_as_said = attempts <= attempts_max && hints == attempts - 1;
        if !is_as_said {
            // The map lags behind by a heartbeat: the leader may have gone and come back. The term tells, once it is heard of.
            std::thread::sleep(HEARD_WITHIN);
        }
        if (0..self.cluster.nodes.len()).all(|node| shards(self.cluster, node).contains(shard)) {
            assert!(
                is_as_said,
                "{attempts} attempts with {hints} hints {when}; {attempts_max} attempts are enough, and what it learned, it \
                 learned by a hint"
            );
            self.judged += 1;
        }
    }
}

/// After a split, a change of the leader and a move, the next command takes one extra round trip at most, and the one
/// after it none. All of it under one session.
#[test]
fn an_old_map_costs_one_round_trip_and_the_session_stays() {
    let cluster = Cluster::start(4, &["--replicas", "3", "--schedule", "off"]);
    let runtime = runtime();
    let client = connect(&runtime, &cluster);
    let mut shard = agreed(&cluster, "it is led", |_| true);
    let mut counted = Counted {
        cluster: &cluster,
        runtime: &runtime,
        client: client.clone(),
        sum: 0,
        judged: 0,
    };
    counted.next(&shard, 2, "at first");
    for round in 0..3 {
        let lower = SLOT - 100 + 10 * round;
        done(&cluster, 1, &format!("split {} --slot {lower}", shard.id));
        shard = agreed(&cluster, "the new shard has the key", |shard| {
            *shard.slots.start() == lower
        });
        counted.next(&shard, 2, "after a split");
        counted.next(&shard, 1, "once more");

        // It goes back by itself to the store that is to lead it, sooner or later: two changes of the leader.
        let leader = shard.leader.unwrap();
        let to = *shard.stores.iter().find(|store| **store != leader).unwrap();
        done(&cluster, 1, &format!("transfer {} {to}", shard.id));
        for _ in 0..4 {
            shard = agreed(&cluster, "it is led", |_| true);
            counted.next(&shard, 2, "after a change of the leader");
            counted.next(&shard, 1, "once more");
        }

        let gone = shard.leader.unwrap();
        let come = (1..=4).find(|store| !shard.stores.contains(store)).unwrap();
        done(&cluster, 1, &format!("replica move {} {gone} {come}", shard.id));
        shard = agreed(&cluster, "it has moved", |shard| {
            shard.stores.contains(&come) && !shard.stores.contains(&gone) && shard.leader != Some(gone)
        });
        counted.next(&shard, 2, "after the leader's replica has moved away");
        counted.next(&shard, 1, "once more");
    }
    let counters = client.counters();
    println!("{counters:?}, {} commands judged", counted.judged);
    assert!(counters.hints > 0, "the map was never old");
    assert!(
        counted.judged >= 10,
        "{} judged commands prove little",
        counted.judged
    );
    assert_eq!(counters.sessions_opened, 1, "one caller, one session");
}

/// Nodes that are stopped in the middle: what was never sent was not applied, what was sent is unknown, and STATUS
/// settles it. What a node refuses is not applied; a read without an answer is neither.
#[test]
fn each_command_has_one_of_three_outcomes() {
    let mut cluster = Cluster::start(3, &[]);
    let runtime = runtime();
    let client = connect(&runtime, &cluster);
    let set = |client: &Client, value: &str| Outcome::from(runtime.block_on(client.set(KEY, value)));
    assert_eq!(set(&client, "text"), Outcome::Applied(()));
    let refused = Outcome::from(runtime.block_on(client.increment(KEY, 1)));
    assert!(
        matches!(&refused, Outcome::NotApplied(Error::Refused(why)) if why.code() == "ERR"),
        "{refused:?}"
    );
    let none = set(&client.within(Duration::ZERO), "never sent");
    assert!(
        matches!(none, Outcome::NotApplied(Error::NotApplied(_))),
        "{none:?}"
    );

    for node in &cluster.nodes {
        node.signal(Signal::STOP);
    }
    let brief = client.within(Duration::from_millis(500));
    let unknown = set(&brief, "sent");
    let Outcome::Unknown(Error::Unknown {
        write: Some(write),
        reason,
    }) = unknown
    else {
        panic!("{unknown:?}")
    };
    assert!(
        matches!(reason, Reason::Silence { .. } | Reason::ConnectionLost { .. }),
        "{reason:?}"
    );
    let read = runtime.block_on(brief.get(KEY));
    assert!(matches!(read, Err(Error::Unavailable(_))), "{read:?}");
    for node in &cluster.nodes {
        node.signal(Signal::CONT);
    }
    let status = runtime.block_on(client.status(&write)).unwrap();
    let value = runtime.block_on(client.get(KEY)).unwrap().unwrap();
    match &status {
        Status::Ran(reply) => assert_eq!((reply, &value[..]), (&Reply::Simple("OK".into()), &b"sent"[..])),
        Status::NeverRuns => assert_eq!(value, "text"),
        other => panic!("{other:?}"),
    }
    println!("what was unknown: {status:?}");
    // It stays so.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(runtime.block_on(client.get(KEY)).unwrap().unwrap(), value);

    // Nobody is there: certainly not applied, and the client comes back when they do.
    for node in &mut cluster.nodes {
        node.kill();
    }
    let fresh = Client::new(
        cluster.addrs(),
        Options::default().deadline(Duration::from_millis(300)),
    );
    let refused = runtime.block_on(async { Outcome::from(fresh.set(KEY, "nobody hears it").await) });
    assert!(
        matches!(refused, Outcome::NotApplied(Error::NotApplied(_))),
        "{refused:?}"
    );
    for node in &mut cluster.nodes {
        node.start();
    }
    cluster.wait_ready();
    assert_eq!(runtime.block_on(client.get(KEY)).unwrap().unwrap(), value);
    let plain = runtime.block_on(client.command(&Command::read("EXISTS").key(KEY)));
    assert_eq!(plain, Ok(Reply::Int(1)));
}
