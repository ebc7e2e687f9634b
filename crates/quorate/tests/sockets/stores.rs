//! Rows T: stores with shards that move and split.

use std::time::{Duration, Instant};

use quorate::client::Reply;
use quorate::client::slots::slot_of;
use quorate_client::Options;
use tokio::runtime::Runtime;

use crate::generic::{FULL, Generic, SHORT, Work, runtime};
use crate::kv::generic_rows;
use crate::net::{M, Net, PATIENCE};
use crate::support::control::{Shard, ctl, shards};
use crate::support::{ask, bulk, ok, quorate};

generic_rows! {
    t_33_split_conf_change_snapshot_unreliable_recover_concurrent_partition,
    t_33_split_conf_change_snapshot_unreliable_recover_concurrent_partition_full:
        Generic {
            work: Work::Ranges, clients: 5, unreliable: true, crash: true, partition: Some((500, 700)),
            log_bound: Some(M), conf: true, split: true,
        };
}

/// What `quorate debug` finds of a key in the directory of a node that was killed, which is started again.
fn offline_value(net: &mut Net, node: usize, key: &str) -> serde_json::Value {
    net.cluster.nodes[node].kill();
    let output = quorate()
        .args(["debug", "key", key, "--json", "--data"])
        .arg(&net.cluster.nodes[node].data)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    net.cluster.nodes[node].start();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The leader in the majority: the others' disks do not get the write. The leader in the minority: another one is
/// elected, and the old side has both keys once it is healed.
#[test]
fn t_04_one_partition() {
    let mut net = Net::start("t_04_one_partition", 5, &[]);
    let leader = net.leader(1, &net.all());
    let majority: Vec<usize> = (0..3).map(|step| (leader + step) % 5).collect();
    let minority: Vec<usize> = net
        .all()
        .into_iter()
        .filter(|node| !majority.contains(node))
        .collect();
    net.proxy.partition(5, &[&majority, &minority]);
    assert_eq!(ask(&mut net.at(leader), "SET k1 v1"), ok());
    assert_eq!(ask(&mut net.at(majority[1]), "GET k1"), bulk("v1"));
    std::thread::sleep(Duration::from_millis(500));
    for node in &minority {
        let found = offline_value(&mut net, *node, "k1");
        assert!(
            found["value"].is_null() && found["history"].as_array().unwrap().is_empty(),
            "{found}"
        );
    }
    net.proxy.heal();
    net.cluster.wait_ready();
    let leader = net.leader(1, &net.all());
    net.wait("all have it", |net| {
        let applied: Vec<u64> = net
            .all()
            .iter()
            .filter_map(|node| Some(net.rows(*node).get(&1)?.applied))
            .collect();
        applied.len() == 5 && applied.iter().all(|at| *at == applied[0])
    });
    for node in &minority {
        net.make_leader(1, *node);
        assert_eq!(ask(&mut net.at(*node), "GET k1"), bulk("v1"));
    }
    net.make_leader(1, leader);

    let minority = [leader, (leader + 1) % 5];
    let majority = net.all_but(&minority);
    net.proxy.partition(5, &[&majority, &minority]);
    let elected = net.leader(1, &majority);
    for (key, value) in [("k1", "changed"), ("k2", "v2")] {
        assert_eq!(ask(&mut net.at(elected), &format!("SET {key} {value}")), ok());
    }
    let lags = minority
        .iter()
        .all(|node| net.rows(*node)[&1].applied < net.rows(elected)[&1].applied);
    assert!(lags, "the minority has applied what only the majority committed");
    net.proxy.heal();
    for node in minority {
        net.make_leader(1, node);
        for (key, value) in [("k1", "changed"), ("k2", "v2")] {
            assert_eq!(ask(&mut net.at(node), &format!("GET {key}")), bulk(value));
        }
    }
    net.report();
}

/// A node is away while 15 keys are written and one is deleted, ten of which the log keeps. A snapshot brings both, and
/// that survives `kill -9`.
#[test]
fn t_12_one_snapshot() {
    let m = M.to_string();
    let mut net = Net::start("t_12_one_snapshot", 3, &["--log-retention-bytes-per-shard", &m]);
    let leader = net.leader(1, &net.all());
    let away = (leader + 1) % 3;
    let others: Vec<usize> = net.all().into_iter().filter(|node| *node != away).collect();
    assert_eq!(ask(&mut net.at(leader), "SET k1 v1"), ok());
    net.proxy.lose_held();
    net.proxy.partition(3, &[&others]);
    let value = |n: usize| format!("v{n}.{}", "-".repeat(M as usize / 10));
    let mut client = net.at(leader);
    for n in 0..15 {
        assert_eq!(ask(&mut client, &format!("SET k{} {}", 100 + n, value(n))), ok());
    }
    assert_eq!(ask(&mut client, "DEL k1"), quorate::client::Reply::Int(1));
    let stood = net.rows(away)[&1].last;
    net.wait("the log is cut past the node that is away", |net| {
        others.iter().all(|node| net.rows(*node)[&1].log_base > stood)
    });
    net.proxy.heal();
    net.wait("a snapshot is installed", |net| net.snapshots_installed(away) > 0);
    for is_after in [false, true] {
        if is_after {
            net.cluster.nodes[away].kill();
            net.cluster.nodes[away].start();
            net.cluster.wait_ready();
        }
        net.make_leader(1, away);
        let mut client = net.at(away);
        for n in 0..15 {
            assert_eq!(ask(&mut client, &format!("GET k{}", 100 + n)), bulk(&value(n)));
        }
        assert_eq!(
            ask(&mut client, "GET k1"),
            quorate::client::Reply::Nil,
            "its deletion came with the snapshot"
        );
    }
    for node in net.all() {
        let row = net.rows(node)[&1].clone();
        assert!(row.applied - row.log_base <= 20, "node {node}: {row:?}");
    }
    net.report();
}

/// Asks for a change until the shard is held by these stores: a wish that was forwarded over a link that broke may or may
/// not have come about.
fn change(net: &Net, words: &str, stores: &[u64]) {
    net.wait(words, |net| {
        if held_by(net) == stores {
            return true;
        }
        let (code, _, err) = ctl(&net.cluster, 0, words);
        let may_pass = [
            "BUSY",
            "not connected",
            "lags behind",
            "UNKNOWN",
            "NOTAPPLIED",
            "no membership change",
        ];
        let is_done = ["already", "holds no voter"];
        let is_known = may_pass.iter().chain(&is_done).any(|why| err.contains(why));
        assert!(code == Some(0) || is_known, "{words}: {err}");
        false
    });
}

/// Four of five replicas are removed, one after the other, and come back, one of them under another id.
#[test]
fn t_19_basic_conf_change() {
    let net = Net::start("t_19_basic_conf_change", 5, &[]);
    net.proxy.weather(crate::net::BETWEEN_NODES);
    assert_eq!(ask(&mut net.at(0), "SET k1 v1"), ok());
    let mut stores = vec![1, 2, 3, 4, 5];
    for gone in [4, 3, 2, 1] {
        stores.pop();
        change(&net, &format!("replica remove 1 {}", gone + 1), &stores);
        net.wait("the removed replica is gone", |net| {
            !net.rows(gone).contains_key(&1)
        });
    }
    assert_eq!(ask(&mut net.at(0), "SET k2 v2"), ok());
    for come in [1, 2, 3, 4] {
        stores.push(come as u64 + 1);
        change(&net, &format!("replica add 1 {}", come + 1), &stores);
        net.make_leader(1, come);
        for (key, value) in [("k1", "v1"), ("k2", "v2")] {
            assert_eq!(ask(&mut net.at(come), &format!("GET {key}")), bulk(value));
        }
    }
    let before = net.rows(2)[&1].replica;
    change(&net, "replica remove 1 3", &[1, 2, 4, 5]);
    net.wait("it is gone", |net| !net.rows(2).contains_key(&1));
    change(&net, "replica add 1 3", &stores);
    net.wait("it is back", |net| {
        net.rows(2).get(&1).is_some_and(|row| row.replica > before)
    });
    net.make_leader(1, 2);
    assert_eq!(ask(&mut net.at(2), "GET k2"), bulk("v2"));
    net.report();
}

fn held_by(net: &Net) -> Vec<u64> {
    shards(&net.cluster, 0)
        .into_iter()
        .find(|shard| shard.id == 1)
        .map(|shard| shard.stores)
        .unwrap_or_default()
}

/// Whoever leads one part of what was split, and none of a key's, does not answer for the key: in cluster mode it says who
/// does, and that node has the value. A client whose map is from before the split needs one more round trip for it, and
/// from then on none.
fn the_wrong_part_says_who_is_right(net: &Net, runtime: &Runtime, stale: &quorate_client::Client) {
    let parts = shards(&net.cluster, 0);
    let (left, right) = (&parts[0], &parts[parts.len() - 1]);
    let slot = |n: &usize| slot_of(format!("k{n}").as_bytes());
    let n = (0..100).find(|n| right.slots.contains(&slot(n))).unwrap();
    let leads = |shard: &Shard, node: usize| net.rows(node).get(&shard.id).is_some_and(|row| row.leads);
    let (mut shown, mut hinted) = (0, false);
    // Leaders go back by themselves to the store that is to lead; then nothing is shown.
    for round in 0..20 {
        let (wrong, other) = (round % 5, (round + 1 + round / 5 % 4) % 5);
        net.make_leader(left.id, wrong);
        net.make_leader(right.id, other);
        let stands = || leads(right, other) && leads(left, wrong);
        let moved = Reply::Error(format!("MOVED {} {}", slot(&n), net.addrs[other]));
        // It may take a moment until all have heard who leads.
        for node in net.all_but(&[other]) {
            let mut direct = net.at(node);
            assert_eq!(ask(&mut direct, "QUORATE MODE cluster"), ok());
            let deadline = Instant::now() + PATIENCE;
            let mut reply = ask(&mut direct, &format!("GET k{n}"));
            while reply != moved && stands() {
                assert!(
                    Instant::now() < deadline,
                    "{reply:?} from node {node}, not {moved:?}"
                );
                std::thread::sleep(Duration::from_millis(20));
                reply = ask(&mut direct, &format!("GET k{n}"));
            }
        }
        if !stands() {
            continue;
        }
        let before = stale.counters();
        let value = runtime.block_on(stale.get(format!("k{n}"))).unwrap();
        let after = stale.counters();
        assert_eq!(value.as_deref(), Some(format!("v{n}").as_bytes()));
        if !stands() {
            continue;
        }
        let (attempts, hints) = (after.attempts - before.attempts, after.hints - before.hints);
        assert!(
            attempts <= 2 && hints == attempts - 1,
            "{attempts} attempts, {hints} hints"
        );
        hinted |= hints == 1;
        assert_eq!(
            ask(&mut net.at(other), &format!("GET k{n}")),
            bulk(&format!("v{n}"))
        );
        shown += 1;
        if hinted && shown >= 3 {
            return;
        }
    }
    panic!("leaders stayed {shown} times only; the map was old: {hinted}");
}

/// A node is away while 100 keys arrive and the shard becomes too large. The halves meet, each node sends a key to the
/// half that has it, the half that does not have it says so, and the one that was away gets both halves.
#[test]
fn t_27_one_split() {
    let net = Net::start("t_27_one_split", 5, &["--split-bytes", "800"]);
    let runtime = runtime();
    let stale =
        quorate_client::Client::connect_with(net.addrs.clone(), Options::default().deadline(PATIENCE));
    let stale = runtime.block_on(stale).unwrap();
    net.proxy.partition(5, &[&[0, 1, 2, 3]]);
    let near = [0, 1, 2, 3];
    let leader = net.leader(1, &near);
    let mut client = net.at(leader);
    for n in 0..100 {
        assert_eq!(ask(&mut client, &format!("SET k{n} v{n}")), ok());
    }
    let meet = |found: &[Shard]| {
        let ends = found
            .windows(2)
            .all(|pair| pair[0].slots.end() + 1 == *pair[1].slots.start());
        found.len() >= 2
            && ends
            && *found[0].slots.start() == 0
            && *found[found.len() - 1].slots.end() == 16_383
    };
    net.wait("the shard is split, and the parts meet", |net| {
        meet(&shards(&net.cluster, leader))
    });
    for n in 0..100 {
        assert_eq!(
            ask(&mut net.at(near[n % 4]), &format!("GET k{n}")),
            bulk(&format!("v{n}"))
        );
    }
    net.proxy.heal();
    net.wait("the node that was away has all parts", |net| {
        let rows = net.rows(4);
        shards(&net.cluster, leader)
            .iter()
            .all(|shard| rows.get(&shard.id).is_some_and(|row| row.applied > 1))
    });
    for shard in shards(&net.cluster, leader) {
        net.make_leader(shard.id, 4);
        let own = (0..100).filter(|n| shard.slots.contains(&slot_of(format!("k{n}").as_bytes())));
        for n in own {
            assert_eq!(
                ask(&mut net.at(4), &format!("GET k{n}")),
                bulk(&format!("v{n}")),
                "shard {}",
                shard.id
            );
        }
    }
    the_wrong_part_says_who_is_right(&net, &runtime, &stale);
    net.report();
}
