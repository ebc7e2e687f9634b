//! Rows S: groups of stores join and leave, and the schedulers carry the shards while clients work.
//!
//! Stores 1 to 3 hold the controller and are in no group once a row has begun; stores 4 to 6 are group 1, which is the
//! list's group 0, stores 7 to 9 group 2, and so on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate::client::slots::slot_of;
use quorate_client::{Client, Options};
use quorate_sim::linearizability::{Answer, Command};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::generic::{Recorder, runtime};
use crate::net::{Chance, M, Net, PATIENCE};
use crate::support::control::ctl;
use crate::support::quorate;

const SHARDS: u16 = 10;
const CONTROLLERS: [usize; 3] = [0, 1, 2];
const THINK: Duration = Duration::from_millis(20);

fn nodes_of(group: u64) -> [usize; 3] {
    [0, 1, 2].map(|at| 3 * group as usize + at)
}

/// A key on a shard: the part in braces decides.
fn key_of(shard: u16, name: &str) -> String {
    let bound = |shard: u16| u32::from(shard) * 16_384 / u32::from(SHARDS);
    let slots = bound(shard - 1)..bound(shard);
    let mut tags = (0..).map(|n: u32| format!("{{t{n}}}"));
    let tag = tags.find(|tag| slots.contains(&u32::from(slot_of(tag.as_bytes()))));
    format!("{}{name}", tag.unwrap())
}

/// Clients that append to keys of their own, one on each shard.
struct Appenders {
    stop: Arc<AtomicBool>,
    work: JoinSet<BTreeMap<String, String>>,
    recorder: Arc<Recorder>,
}

impl Appenders {
    /// Every token is there once and in order, and what they saw is linearizable.
    fn end(self, groups: &Groups, row: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let values: Vec<_> = groups.runtime.block_on(self.work.join_all());
        let mut tokens = 0;
        for (key, value) in values.iter().flatten() {
            let found = groups.runtime.block_on(groups.client.get(key)).unwrap();
            let found = found.map(|found| String::from_utf8(found.to_vec()).unwrap());
            assert_eq!(found.as_deref(), Some(value.as_str()), "{key}");
            tokens += value.matches(';').count();
        }
        println!("  {tokens} tokens, each there once");
        assert!(tokens > 10, "{tokens} tokens prove little");
        self.recorder.judge(row);
    }
}

/// Three nodes with the controller and so many groups of three, the first of which has all shards.
struct Groups {
    net: Net,
    runtime: Runtime,
    client: Client,
    /// A node that nobody reaches.
    cut: Option<usize>,
}

impl Groups {
    fn start(row: &str, count: u64, more: &[&str]) -> Self {
        let nodes = 3 + 3 * count as u16;
        let net = Net::start_with(row, nodes, SHARDS, &[&["--replicas", "3"], more].concat());
        let runtime = runtime();
        let options = Options::default()
            .deadline(PATIENCE)
            .attempt_max(Duration::from_millis(1500));
        let client = runtime.block_on(Client::connect_with(net.addrs.clone(), options));
        let groups = Self {
            net,
            runtime,
            client: client.unwrap(),
            cut: None,
        };
        let own = nodes_of(1);
        let others = (0..usize::from(nodes)).filter(|node| !own.contains(node));
        let others: Vec<String> = others.map(|node| (node + 1).to_string()).collect();
        groups.place(&format!("group remove 1 {}", others.join(" ")));
        groups.await_carried();
        groups
    }

    fn json(&self, words: &str) -> Option<Value> {
        let via = CONTROLLERS.into_iter().find(|node| Some(*node) != self.cut)?;
        let (code, out, _) = ctl(&self.net.cluster, via, &format!("{words} --json"));
        (code == Some(0)).then(|| serde_json::from_str(&out).unwrap())
    }

    /// Asks until it is done: each of these is the same when it is told again.
    fn place(&self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (code, _, err) = ctl(&self.net.cluster, 0, words);
            if code == Some(0) {
                return;
            }
            let may_pass = [
                "UNKNOWN",
                "NOTAPPLIED",
                "has not heard",
                "CLUSTERDOWN",
                "deadline",
                "no answer",
            ];
            assert!(
                may_pass.iter().any(|why| err.contains(why)) && Instant::now() < deadline,
                "{words}: {err}"
            );
        }
    }

    fn join(&self, group: u64) {
        let stores = nodes_of(group).map(|node| (node + 1).to_string());
        self.place(&format!("join {group}={}", stores.join(",")));
    }

    fn leave(&self, group: u64) {
        self.place(&format!("leave {group}"));
    }

    /// Which group is to have each shard.
    fn intended(&self) -> Option<BTreeMap<u64, u64>> {
        let config = self.json("config")?;
        let shards = config["shards"].as_array().unwrap().iter();
        let owned: BTreeMap<u64, u64> = shards
            .map(|row| (row["shard"].as_u64().unwrap(), row["group"].as_u64().unwrap()))
            .collect();
        assert_eq!(owned.len(), usize::from(SHARDS));
        Some(owned)
    }

    /// Lets time pass until every shard is held by its group alone, which is told by each store.
    fn await_carried(&self) {
        let begun = Instant::now();
        self.net.wait("the shards get to their groups", |groups| {
            let Some(intended) = self.intended() else {
                return false;
            };
            (3..groups.nodes()).all(|node| {
                let group = node as u64 / 3;
                let held: BTreeSet<u64> = groups.rows(node).into_keys().filter(|shard| *shard > 0).collect();
                let wanted = intended.iter().filter(|(_, owner)| **owner == group);
                held == wanted.map(|(shard, _)| *shard).collect()
            })
        });
        println!("  carried within {:?}", begun.elapsed());
    }

    fn kill(&mut self, group: u64) {
        for node in nodes_of(group) {
            self.net.cluster.nodes[node].kill();
        }
    }

    fn restart(&mut self, group: u64) {
        for node in nodes_of(group) {
            self.net.cluster.nodes[node].start();
        }
    }

    fn appenders(&self, count: u64) -> Appenders {
        let (stop, recorder) = (Arc::new(AtomicBool::new(false)), Recorder::begin());
        let mut work = JoinSet::new();
        for id in 0..count {
            let (client, stop, recorder) = (self.client.clone(), stop.clone(), recorder.clone());
            let append = async move {
                let mut values: BTreeMap<String, String> = BTreeMap::new();
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let key = key_of(1 + (number % u64::from(SHARDS)) as u16, &format!("of {id}"));
                    let token = format!("x {id} {number} y;");
                    let called = recorder.invoke(id, &key, Command::append(token.clone()));
                    let length = client.append(&key, &token).await.unwrap();
                    recorder.done(called, Answer::Int(length as i64));
                    let value = values.entry(key).or_default();
                    value.push_str(&token);
                    assert_eq!(length, value.len() as u64, "{token} is there once");
                    tokio::time::sleep(THINK).await;
                }
                values
            };
            work.spawn_on(append, self.runtime.handle());
        }
        Appenders { stop, work, recorder }
    }

    /// Sets a key on each shard.
    fn set_all(&self, name: &str, value: &str) {
        for shard in 1..=SHARDS {
            let set = self.client.set(key_of(shard, name), value);
            self.runtime.block_on(set).unwrap();
        }
    }

    fn check_all(&self, name: &str, value: &str) {
        for shard in 1..=SHARDS {
            let found = self.runtime.block_on(self.client.get(key_of(shard, name)));
            let found = found.unwrap();
            assert!(
                found.as_deref() == Some(value.as_bytes()),
                "shard {shard}: {:?} bytes",
                found.map(|found| found.len())
            );
        }
    }
}

/// All data is reachable from the second group a second after the first one, which has left, was stopped.
#[test]
fn s_03_join_and_leave() {
    let row = "s_03_join_and_leave";
    let mut groups = Groups::start(row, 2, &[]);
    groups.set_all("key", "value");
    let appenders = groups.appenders(2);
    groups.join(2);
    groups.await_carried();
    let owners = groups.intended().unwrap();
    assert_eq!(owners.values().filter(|owner| **owner == 2).count(), 5);
    groups.leave(1);
    groups.await_carried();
    groups.kill(1);
    std::thread::sleep(Duration::from_secs(1));
    groups.check_all("key", "value");
    appenders.end(&groups, row);
    groups.net.report();
}

/// Whole groups are killed and started while shards move; no append is lost or there twice.
fn whole_groups_stop_and_start(row: &str, clients: u64, rounds: u64) {
    let m = M.to_string();
    let mut groups = Groups::start(row, 3, &["--log-retention-bytes-per-shard", &m]);
    let mut chance = groups.net.chance();
    let pause = |chance: &mut Chance| std::thread::sleep(Duration::from_millis(chance.below(1_000)));
    let appenders = groups.appenders(clients);
    for _ in 0..rounds {
        for group in [2, 3] {
            groups.join(group);
            pause(&mut chance);
        }
        groups.leave(1);
        pause(&mut chance);
        for group in 1..=3 {
            groups.kill(group);
            pause(&mut chance);
            groups.restart(group);
            pause(&mut chance);
        }
        groups.join(1);
        pause(&mut chance);
        for group in [2, 3] {
            groups.leave(group);
            pause(&mut chance);
        }
        groups.await_carried();
    }
    appenders.end(&groups, row);
    groups.net.report();
}

#[test]
fn s_06_whole_groups_stop_and_start() {
    whole_groups_stop_and_start("s_06_whole_groups_stop_and_start", 3, 1);
}

#[test]
#[ignore = "three rounds with ten clients"]
fn s_06_whole_groups_stop_and_start_full() {
    whole_groups_stop_and_start("s_06_whole_groups_stop_and_start_full", 10, 3);
}

/// What moved is deleted. A node keeps at least 64 KiB of a shard's log, so values are 128 times as large as the list's,
/// and so is the bound. Counted is what is kept for each shard by each store: the entries in the log, and keys and values
/// by the leader's count; and whoever does not list a shard has none of its keys in its engine.
fn what_moved_is_deleted(row: &str, rotations: u64) {
    const TIMES: u64 = 128;
    let bound = 3 * ((30 - 3) * 1_000 + 2 * 3 * 1_000 + 6_000) * TIMES;
    let m = M.to_string();
    let mut groups = Groups::start(row, 3, &["--log-retention-bytes-per-shard", &m]);
    let value = "x".repeat(1_000 * TIMES as usize);
    for name in ["a", "b", "c"] {
        groups.set_all(name, &value);
    }
    for _ in 0..rotations {
        for (joins, leaves) in [(2, 1), (3, 2), (1, 3)] {
            groups.join(joins);
            groups.leave(leaves);
            groups.await_carried();
            groups.check_all("a", &value);
        }
    }
    for joins in [2, 3] {
        groups.join(joins);
    }
    groups.await_carried();
    for name in ["a", "b", "c"] {
        groups.check_all(name, &value);
    }
    let kept = |net: &Net| -> Option<(u64, u64)> {
        let rows = groups.json("shards")?;
        let bytes = rows.as_array().unwrap().iter().filter_map(|row| {
            let stores = row["stores"].as_array().unwrap().len() as u64;
            Some(row["bytes"].as_u64()? * stores)
        });
        let logs = (3..net.nodes()).flat_map(|node| net.rows(node).into_values());
        Some((bytes.sum(), logs.map(|row| row.log_bytes).sum()))
    };
    groups.net.wait("what is kept is within the bound", |net| {
        kept(net).is_some_and(|(data, logs)| data + logs <= bound && data >= 30 * 3 * value.len() as u64)
    });
    let (data, logs) = kept(&groups.net).unwrap();
    println!("  {data} bytes of data and {logs} of log, {bound} are the most");
    let owners = groups.intended().unwrap();
    let node = 4;
    groups.net.cluster.nodes[node].kill();
    for shard in 1..=SHARDS {
        let output = quorate()
            .args(["debug", "key", &key_of(shard, "a"), "--json", "--data"])
            .arg(&groups.net.cluster.nodes[node].data)
            .output()
            .unwrap();
        let is_own = owners[&u64::from(shard)] == node as u64 / 3;
        let found = serde_json::from_slice::<Value>(&output.stdout);
        let is_there = found.is_ok_and(|found| !found["value"].is_null());
        assert_eq!(is_there, is_own, "shard {shard}: {output:?}");
    }
    groups.net.report();
}

#[test]
fn s_12_what_moved_is_deleted() {
    what_moved_is_deleted("s_12_what_moved_is_deleted", 1);
}

#[test]
#[ignore = "two rotations"]
fn s_12_what_moved_is_deleted_full() {
    what_moved_is_deleted("s_12_what_moved_is_deleted_full", 2);
}

/// At least 100 gets in four seconds on shards that stay, while another group joins and leaves in a loop.
fn shards_that_stay(row: &str, rounds: u64) {
    let groups = Groups::start(row, 3, &[]);
    groups.set_all("key", "value");
    groups.join(2);
    groups.await_carried();
    let before = groups.intended().unwrap();
    groups.join(3);
    groups.await_carried();
    let during = groups.intended().unwrap();
    let mut stays: Vec<u64> = before.keys().copied().collect();
    stays.retain(|shard| before[shard] == during[shard]);
    assert!(stays.len() >= 6, "{stays:?}");
    let (stop, gets) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stopped, counted, client) = (stop.clone(), gets.clone(), groups.client.clone());
    let reader = groups.runtime.spawn(async move {
        while !stopped.load(Ordering::Relaxed) {
            for shard in &stays {
                let found = client.get(key_of(*shard as u16, "key")).await.unwrap();
                assert_eq!(found.as_deref(), Some(&b"value"[..]));
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    for _ in 0..rounds {
        let (begun, before) = (Instant::now(), gets.load(Ordering::Relaxed));
        groups.leave(3);
        std::thread::sleep(Duration::from_secs(2));
        groups.join(3);
        std::thread::sleep(Duration::from_secs(4).saturating_sub(begun.elapsed()));
        let count = gets.load(Ordering::Relaxed) - before;
        println!("  {count} gets in {:?}", begun.elapsed());
        assert!(count >= 100, "{count} gets");
    }
    stop.store(true, Ordering::Relaxed);
    groups.runtime.block_on(reader).unwrap();
    groups.await_carried();
    groups.check_all("key", "value");
    groups.net.report();
}

#[test]
fn s_29_shards_that_stay_are_not_disturbed() {
    shards_that_stay("s_29_shards_that_stay_are_not_disturbed", 1);
}

#[test]
#[ignore = "five rounds"]
fn s_29_shards_that_stay_are_not_disturbed_full() {
    shards_that_stay("s_29_shards_that_stay_are_not_disturbed_full", 5);
}

/// The controller's leader is cut off in the middle of a change, and whoever follows completes it.
fn a_change_outlives_the_controllers_leader(row: &str, rounds: u64) {
    let mut groups = Groups::start(row, 2, &[]);
    let mut chance = groups.net.chance();
    let appenders = groups.appenders(2);
    for round in 0..rounds {
        let leader = groups.net.leader(0, &CONTROLLERS);
        if round % 2 == 0 {
            groups.join(2);
        } else {
            groups.leave(2);
        }
        std::thread::sleep(Duration::from_millis(chance.below(1_000)));
        let rest = groups.net.all_but(&[leader]);
        groups.net.proxy.partition(groups.net.nodes(), &[&rest]);
        groups.cut = Some(leader);
        let others: Vec<usize> = CONTROLLERS.into_iter().filter(|node| *node != leader).collect();
        let next = groups.net.leader(0, &others);
        groups.await_carried();
        println!("  node {} after node {}", next + 1, leader + 1);
        groups.net.proxy.heal();
        groups.cut = None;
    }
    appenders.end(&groups, row);
    groups.net.report();
}

#[test]
fn s_35_a_change_outlives_the_controllers_leader() {
    a_change_outlives_the_controllers_leader("s_35_a_change_outlives_the_controllers_leader", 1);
}

#[test]
#[ignore = "five changes"]
fn s_35_a_change_outlives_the_controllers_leader_full() {
    a_change_outlives_the_controllers_leader("s_35_a_change_outlives_the_controllers_leader_full", 5);
}
