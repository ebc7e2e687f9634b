//! PS-09: what is stale, and which requests which part of the epoch stops.

use bytes::Bytes;
use quorate_proto::{Answer, ForwardBody, Manage, Outcome, Query, SplitIds};
use quorate_raft::ReplicaId;
use quorate_storage::{ShardId, StoreId};
use quorate_store::StoreOptions;

use crate::cluster::{Cluster, SHARD, put};

fn get(key: &str) -> ForwardBody {
    ForwardBody::Read(Query::Get {
        key: Bytes::copy_from_slice(key.as_bytes()),
    })
}

/// The wishes to a shard's leader, none of which does anything here. Lists every kind, so that a new one forces a
/// decision.
fn wishes() -> Vec<Manage> {
    let all = vec![
        Manage::Change {
            add: vec![],
            remove: vec![StoreId(77)],
        },
        Manage::Abort,
        Manage::Split {
            slot: Some(0),
            ids: None,
        },
        Manage::Transfer { to: StoreId(77) },
    ];
    for wish in &all {
        match wish {
            Manage::Change { .. } | Manage::Abort | Manage::Split { .. } | Manage::Transfer { .. } => {}
        }
    }
    all
}

/// Three nodes, the one that leads, and another.
fn three() -> (Cluster, usize, usize) {
    let options = StoreOptions {
        low_space_bytes: 0,
        ..StoreOptions::default()
    };
    let mut cluster = Cluster::new(3, &options);
    let leader = cluster.wait_leader();
    (cluster, leader, (leader + 1) % 3)
}

/// Keys have shards by the version; membership changes move no key, so that conf_ver stops no request.
#[test]
fn ps_09_a_request_is_stopped_by_another_version_and_not_by_another_conf_ver() {
    let (mut cluster, leader, other) = three();
    cluster.put(other, leader, "k", "1");
    let mut requests = vec![put("k", "2"), get("k")];
    requests.extend(wishes().into_iter().map(ForwardBody::Manage));
    for body in requests {
        for by in [-1i64, 1] {
            let changed = |part: &mut u64| *part = part.checked_add_signed(by).unwrap();
            let outcome = cluster.forward(other, leader, body.clone(), |r| changed(&mut r.epoch.version));
            assert!(
                matches!(outcome, Outcome::StaleEpoch { .. }),
                "version {by:+}: {body:?}: {outcome:?}"
            );
            let outcome = cluster.forward(other, leader, body.clone(), |r| changed(&mut r.epoch.conf_ver));
            assert!(
                !matches!(outcome, Outcome::StaleEpoch { .. }),
                "conf_ver {by:+}: {body:?}: {outcome:?}"
            );
        }
    }
    assert_eq!(
        cluster.forward(other, leader, get("k"), |_| {}),
        Outcome::Done(Answer::Bulk("2".into()))
    );
}

/// After a split, a request by the old version is answered with what serves its slot: shard, epoch, leader.
#[test]
fn ps_09_the_answer_to_a_stale_request_is_what_serves_its_slot_now() {
    let (mut cluster, leader, other) = three();
    let before = cluster.nodes[leader].store.descriptor(SHARD).unwrap().epoch;
    let child = ShardId(60);
    let ids = SplitIds {
        child,
        replicas: (61..64).map(ReplicaId).collect(),
    };
    let split = Manage::Split {
        slot: Some(8192),
        ids: Some(ids),
    };
    assert_eq!(
        cluster.forward(other, leader, ForwardBody::Manage(split), |_| {}),
        Outcome::Done(Answer::Ok)
    );
    cluster.wait("all have applied it", |cluster| {
        cluster
            .nodes
            .iter()
            .all(|node| node.store.descriptor(child).is_some_and(|d| !d.is_new))
    });
    cluster.tick(40);
    // Slots 12182 and 5061.
    for (key, shard) in [("foo", child), ("bar", SHARD)] {
        for body in [put(key, "v"), get(key)] {
            let outcome = cluster.forward(other, leader, body.clone(), |request| request.epoch = before);
            let Outcome::StaleEpoch { epoch, shards } = outcome else {
                panic!("{body:?}: {outcome:?}")
            };
            assert_eq!(epoch.version, before.version + 1);
            let cure = shards.iter().find(|info| info.shard == shard);
            let cure = cure.unwrap_or_else(|| panic!("{key}: {shards:?} without shard {shard}"));
            assert_eq!(cure.epoch.version, before.version + 1);
            assert!(cure.leader.is_some(), "{key}: {cure:?}");
            assert!((cure.start_slot..cure.end_slot).contains(&quorate_store::kv::slot_of(key.as_bytes())));
        }
    }
    // With the epoch of now it is served, and only where its slot is.
    let done = cluster.forward(other, leader, put("bar", "v"), |_| {});
    assert_eq!(done, Outcome::Done(Answer::Ok));
    let outcome = cluster.forward(other, leader, put("foo", "v"), |_| {});
    assert!(!matches!(outcome, Outcome::Done(_)), "{outcome:?}");
}
