//! The client library on a real cluster whose leaders are killed: every write runs once, in its client's order, and no
//! error reaches the user.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate_client::resp::Reply;
use quorate_client::{Client, Command, Options, Status, Swapped, WriteId};
use support::tokens::slot_of_shard;
use support::{Cluster, SHARDS};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

const CLIENTS: usize = 16;
const KILLS: usize = 4;
/// Longer than any recovery: an error within it is a failure of the library.
const DEADLINE: Duration = Duration::from_secs(30);

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn options() -> Options {
    Options::default().deadline(DEADLINE)
}

/// Waits until `count` has grown by this much.
fn wait_progress(count: &AtomicU64, by: u64) {
    let (from, deadline) = (count.load(Ordering::Relaxed), Instant::now() + DEADLINE);
    while count.load(Ordering::Relaxed) < from + by {
        assert!(Instant::now() < deadline, "no progress");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn appends_run_once_and_in_order_while_leaders_are_killed() {
    let mut cluster = Cluster::start(3, &[]);
    let runtime = runtime();
    let client = runtime
        .block_on(Client::connect_with(cluster.addrs(), options()))
        .unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut work = JoinSet::new();
    for n in 0..CLIENTS {
        let (client, stop, done) = (client.clone(), stop.clone(), done.clone());
        // A key of its own for each, in every shard; and a counter that all share.
        let append = async move {
            let (mut value, mut sums, mut longest) = (String::new(), 0, Duration::ZERO);
            for token in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let token = format!("{token};");
                value += &token;
                let begun = Instant::now();
                let length = client.append(format!("log-{n}"), &token).await.unwrap();
                assert_eq!(length, value.len() as u64, "client {n}, token {token}");
                let sum = client.increment("sum", 1).await.unwrap();
                assert!(sum > sums, "client {n}: {sum} after {sums}");
                sums = sum;
                longest = longest.max(begun.elapsed());
                done.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            (n, value, longest)
        };
        work.spawn_on(append, runtime.handle());
    }
    wait_progress(&done, 100);
    for kill in 0..KILLS {
        let shard = (kill as u16 * 3) % SHARDS;
        let leader = cluster.wait_leader_of(slot_of_shard(shard));
        cluster.nodes[leader].kill();
        wait_progress(&done, 200);
        cluster.nodes[leader].start();
        cluster.wait_ready();
        wait_progress(&done, 100);
    }
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(async {
        let (mut total, mut slowest) = (0, Duration::ZERO);
        while let Some(ended) = work.join_next().await {
            let (n, value, longest) = ended.unwrap();
            let found = client.get(format!("log-{n}")).await.unwrap().unwrap_or_default();
            assert_eq!(found, value, "client {n}");
            total += value.matches(';').count();
            slowest = slowest.max(longest);
        }
        let sum = client.increment("sum", 0).await.unwrap();
        assert_eq!(sum, total as i64, "each increment ran once");
        println!("{total} appends and increments, {KILLS} leaders killed; slowest pair {slowest:?}");
    });
}

#[test]
fn typed_commands_do_on_a_cluster_what_they_say() {
    let cluster = Cluster::start(3, &[]);
    runtime().block_on(async {
        let client = Client::connect_with(cluster.addrs(), options()).await.unwrap();
        assert_eq!(client.compare_and_set("k", "1", "2").await, Ok(Swapped::Absent));
        client.set("k", "1").await.unwrap();
        assert_eq!(
            client.compare_and_set("k", "0", "2").await,
            Ok(Swapped::Different)
        );
        assert_eq!(client.compare_and_set("k", "1", "2").await, Ok(Swapped::Yes));
        assert_eq!(client.get("k").await.unwrap().unwrap(), "2");
        assert_eq!(client.expire("k", Duration::from_secs(500)).await, Ok(true));
        assert!(client.time_to_live("k").await.unwrap().unwrap() <= Duration::from_secs(500));
        assert_eq!(client.persist("k").await, Ok(true));
        assert_eq!(client.get_delete("k").await.unwrap().unwrap(), "2");
        assert_eq!(client.exists("k").await, Ok(false));

        let keys: Vec<String> = (0..300).map(|n| format!("many-{n}")).collect();
        client.set_many(keys.iter().map(|key| (key, key))).await.unwrap();
        let values = client.get_many(&keys).await.unwrap();
        assert!(
            values
                .iter()
                .zip(&keys)
                .all(|(value, key)| value.as_deref() == Some(key.as_bytes()))
        );
        let mut scan = client.scan().matching("many-*");
        let mut found = Vec::new();
        while let Some(page) = scan.next_page().await.unwrap() {
            found.extend(page);
        }
        found.sort();
        let mut wanted = keys.clone();
        wanted.sort();
        assert_eq!(found, wanted, "SCAN covers the leaders of all shards");
        assert_eq!(client.delete_many(&keys).await, Ok(300));
        let size = client.command(&Command::read("DBSIZE")).await;
        assert_eq!(size, Ok(Reply::Int(0)));
    });
}

/// A write by hand under a session, so that its fate is known: STATUS tells it from any node, and fences what has not
/// run.
#[test]
fn a_status_tells_what_ran_and_fences_what_did_not() {
    let mut cluster = Cluster::start(3, &[]);
    let id = match support::ask(&mut cluster.client(0), "ONCE OPEN") {
        Reply::Bulk(id) => String::from_utf8(id).unwrap(),
        other => panic!("{other:?}"),
    };
    let ran = support::ask(&mut cluster.client(1), &format!("ONCE {id} 1 APPEND k abc"));
    assert_eq!(ran, Reply::Int(3));
    let write = |seq| WriteId {
        session: id.parse().unwrap(),
        seq,
        key: "k".into(),
    };
    let runtime = runtime();
    let status = |cluster: &Cluster, seq| {
        runtime.block_on(async {
            let client = Client::connect_with(cluster.addrs(), options()).await.unwrap();
            client.status(&write(seq)).await.unwrap()
        })
    };
    assert_eq!(status(&cluster, 1), Status::Ran(Reply::Int(3)));
    assert_eq!(status(&cluster, 2), Status::NeverRuns);
    cluster.restart();
    for node in 0..3 {
        let late = support::ask(&mut cluster.client(node), &format!("ONCE {id} 2 APPEND k late"));
        assert!(
            matches!(&late, Reply::Error(text) if text.starts_with("NOTAPPLIED a STATUS")),
            "{late:?}"
        );
    }
    assert_eq!(status(&cluster, 1), Status::Ran(Reply::Int(3)));
    assert_eq!(status(&cluster, 2), Status::NeverRuns);
    let value = support::ask(&mut cluster.client(0), "GET k");
    assert_eq!(value, support::bulk("abc"));
}
