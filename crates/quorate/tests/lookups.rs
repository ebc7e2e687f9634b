//! B-12 on real nodes: the client library, `ctl` and HTTP find shards and stores, and timestamps rise, while whoever leads
//! the controller is killed.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use quorate_client::{Client, Options, Shard};
use serde_json::Value;
use support::control::{ctl, shards};
use support::http::http;
use support::{Cluster, SHARDS};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

const DEADLINE: Duration = Duration::from_secs(30);

/// Asks until whoever leads the controller has heard of it.
async fn heard(client: &Client, key: &str) -> Shard {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(shard) = client.shard_of(key).await.unwrap() {
            return shard;
        }
        assert!(Instant::now() < until, "the shard of {key} is not known");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn b_12_clients_find_the_new_leader_of_the_controller() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.wait_ready();
    let truth = shards(&cluster, 0);
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let options = Options::default().deadline(DEADLINE);
    let client = runtime
        .block_on(Client::connect_with(cluster.addrs(), options))
        .unwrap();
    let mut given = BTreeSet::new();
    for round in 0..3 {
        // TSO race: several take timestamps while the controller's leader dies.
        let mut takers = JoinSet::new();
        for _ in 0..4 {
            let client = client.clone();
            let take = async move {
                let mut taken: Vec<u64> = Vec::new();
                for _ in 0..40 {
                    let first = client.timestamps(10).await.unwrap();
                    assert!(taken.last().is_none_or(|last| *last < first));
                    taken.extend(first..first + 10);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                taken
            };
            takers.spawn_on(take, runtime.handle());
        }
        let leader = runtime.block_on(async {
            let until = Instant::now() + DEADLINE;
            loop {
                let controller = client.shard(0).await.unwrap();
                if let Some(leader) = controller.and_then(|shard| shard.leader) {
                    break leader as usize - 1;
                }
                assert!(Instant::now() < until, "the controller's shard is not known");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        cluster.nodes[leader].kill();
        for taken in runtime.block_on(takers.join_all()) {
            for timestamp in taken {
                assert!(
                    given.insert(timestamp),
                    "round {round}: {timestamp} was given twice"
                );
            }
        }
        runtime.block_on(async {
            for key in ["a", "b", "c{tag}", "another key"] {
                let shard = heard(&client, key).await;
                let slot = quorate_client::slots::slot_of(key.as_bytes());
                assert!(shard.slots.contains(&slot), "{shard:?} has no slot {slot}");
                let known = truth.iter().find(|known| known.id == shard.id).unwrap();
                assert_eq!(*known.slots.start(), shard.slots.start);
                assert_eq!(known.stores, shard.stores);
                let by_id = client.shard(shard.id).await.unwrap().unwrap();
                assert_eq!(by_id.slots, shard.slots);
            }
        });
        cluster.nodes[leader].start();
        cluster.wait_ready();
    }
    runtime.block_on(async {
        let until = Instant::now() + DEADLINE;
        let all = loop {
            let all = client.shards_from(0, 100).await.unwrap();
            if all.len() == usize::from(SHARDS) {
                break all;
            }
            assert!(Instant::now() < until, "{all:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let key = "b";
        let own = heard(&client, key).await;
        let at = all.iter().position(|shard| shard.id == own.id).unwrap();
        let before = client.shard_before(key).await.unwrap();
        assert_eq!(
            before.map(|shard| shard.id),
            at.checked_sub(1).map(|before| all[before].id)
        );
        let two = client.shards_from(all[3].slots.start, 2).await.unwrap();
        assert_eq!(
            two.iter().map(|shard| shard.id).collect::<Vec<_>>(),
            [all[3].id, all[4].id]
        );
        assert_eq!(client.shard(999).await.unwrap(), None);
        let store = client.store(2).await.unwrap().unwrap();
        assert_eq!((store.id, store.service.as_str()), (2, "active"));
        assert_eq!(store.client, cluster.nodes[1].addr());
        assert_eq!(client.store(9).await.unwrap(), None);
        assert!(client.shards_from(16_384, 1).await.is_err());
    });
    by_ctl_and_http(&cluster);
}

fn by_ctl_and_http(cluster: &Cluster) {
    let said = |words: &str| -> Value {
        let (code, out, err) = ctl(cluster, 0, &format!("{words} --json"));
        assert_eq!(code, Some(0), "{words}: {err}");
        serde_json::from_str(&out).unwrap()
    };
    let get = |path: &str| http(&cluster.nodes[0], "GET", path, "");
    let ids = |rows: &Value| -> Vec<u64> {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["shard"].as_u64().unwrap()).collect()
    };
    // The key has bytes that a URL escapes; its slot is another one than that of the escaped text.
    let slot = quorate_client::slots::slot_of("a b%".as_bytes());
    let by_slot = said(&format!("shards --slot {slot}"));
    assert_eq!(ids(&get("/v1/shards?key=a%20b%25").1), ids(&by_slot));
    assert_eq!(ids(&get(&format!("/v1/shards?slot={slot}")).1), ids(&by_slot));
    assert_eq!(
        ids(&said("shards --key another")),
        ids(&get("/v1/shards?key=another").1)
    );
    assert_eq!(
        ids(&said("shards --from 0,3")),
        ids(&get("/v1/shards?from=0&limit=3").1)
    );
    assert_eq!(ids(&said("shards --from 0")).len(), usize::from(SHARDS));
    assert_eq!(ids(&said("shards --shard 0")), [0]);
    assert_eq!(get("/v1/shards?before=0"), (200, Value::Array(vec![])));
    assert_eq!(said("stores 2")[0]["store"], 2);
    assert_eq!(get("/v1/stores?store=2").1[0]["store"], 2);
    for wrong in [
        "key=%2",
        "slot=16384",
        "slot=x",
        "slot=1&key=a",
        "limit=4",
        "store=1",
    ] {
        assert_eq!(get(&format!("/v1/shards?{wrong}")).0, 400, "{wrong}");
    }
    for (words, why) in [
        ("shards --shard 999", "no such shard"),
        ("shards --slot 16384", "not a number from 0 to 16383"),
        ("stores 9", "no store 9"),
    ] {
        let (code, out, err) = ctl(cluster, 0, words);
        assert!(code == Some(1) && err.contains(why), "{words}: {out} {err}");
    }
}
