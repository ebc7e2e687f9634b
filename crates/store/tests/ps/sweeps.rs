//! T3 and S3: what a leader removes because its time has come, though it looks only when something may be due.

use bytes::Bytes;
use quorate_proto::{Answer, Expiry, ForwardBody, Op, Outcome, Session, SetCondition, SetExpiry};
use quorate_store::{StoreOptions, kv};

use crate::cluster::{Cluster, SHARD, put};

const TICKS_PER_SECOND: usize = 20;

fn put_for(key: &'static str, ms: i64) -> ForwardBody {
    ForwardBody::Write(Op::Set {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(b"value"),
        expiry: SetExpiry::Set(Expiry::In(ms)),
        condition: SetCondition::Always,
        get: false,
    })
}

#[test]
fn t3_a_key_is_swept_in_time_though_the_next_deadline_was_far_away() {
    let options = StoreOptions {
        low_space_bytes: 0,
        ..StoreOptions::default()
    };
    let mut cluster = Cluster::new(3, &options);
    let leader = cluster.wait_leader();
    let other = (leader + 1) % 3;
    let put_for = |cluster: &mut Cluster, key, ms| {
        let outcome = cluster.forward(other, leader, put_for(key, ms), |_| {});
        assert_eq!(outcome, Outcome::Done(Answer::Ok), "{key}");
    };
    let held = |cluster: &Cluster| {
        cluster
            .nodes
            .iter()
            .map(|node| node.data_pairs())
            .collect::<Vec<_>>()
    };
    put_for(&mut cluster, "late", 60_000);
    cluster.tick(5 * TICKS_PER_SECOND);
    put_for(&mut cluster, "soon", 1_000);
    cluster.tick(5);
    assert_eq!(held(&cluster), [2; 3]);
    cluster.tick(2 * TICKS_PER_SECOND);
    assert_eq!(held(&cluster), [1; 3], "nobody has read it");
    cluster.tick(50 * TICKS_PER_SECOND);
    assert_eq!(held(&cluster), [1; 3], "not yet");
    cluster.tick(5 * TICKS_PER_SECOND);
    assert_eq!(held(&cluster), [0; 3]);
    // The index is empty now.
    cluster.tick(5 * TICKS_PER_SECOND);
    put_for(&mut cluster, "again", 1_000);
    cluster.tick(2 * TICKS_PER_SECOND);
    assert_eq!(held(&cluster), [0; 3]);
}

#[test]
fn s3_a_session_is_forgotten_in_time_though_an_earlier_look_found_nothing() {
    let options = StoreOptions {
        low_space_bytes: 0,
        session_ttl_ms: 5_000,
        ..StoreOptions::default()
    };
    let mut cluster = Cluster::new(3, &options);
    let leader = cluster.wait_leader();
    let other = (leader + 1) % 3;
    let write = |cluster: &mut Cluster, random| {
        let session = Session {
            client: kv::sessions::session_id(cluster.times.wall_ms, random),
            seq: 1,
            lowest: 1,
            position: 0,
        };
        let done = cluster.forward(other, leader, put("k", "v"), |request| {
            request.session = Some(session)
        });
        assert_eq!(done, Outcome::Done(Answer::Ok));
    };
    let held = |cluster: &Cluster| {
        let (totals, counted) = cluster.nodes[leader].store.sessions(SHARD).unwrap().unwrap();
        assert_eq!(totals, counted);
        totals.sessions
    };
    write(&mut cluster, 1);
    cluster.tick(2 * TICKS_PER_SECOND);
    write(&mut cluster, 2);
    assert_eq!(held(&cluster), 2);
    cluster.tick(4 * TICKS_PER_SECOND);
    assert_eq!(held(&cluster), 1, "the older one is gone");
    cluster.tick(2 * TICKS_PER_SECOND);
    assert_eq!(held(&cluster), 0);
}
