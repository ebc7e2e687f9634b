//! PS-02 and PS-07: what a replica leaves, and what a snapshot carries.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use quorate_proto::{
    Answer, ForwardBody, Manage, Outcome, PeerMessage, Session, SnapshotChunk, decode_pairs,
};
use quorate_storage::StoreId;
use quorate_storage::log::LogOp;
use quorate_store::{StoreOptions, kv};

use crate::cluster::{Cluster, Node, SHARD, put};

const KEYS: usize = 60;
const CHUNK_BYTES: usize = 1_500;

/// Few entries kept, so that a store that was away is fed a snapshot, in several chunks.
fn options() -> StoreOptions {
    StoreOptions {
        log_retention_entries: 10,
        durable_every_bytes: 500,
        snapshot_chunk_bytes: CHUNK_BYTES,
        low_space_bytes: 0,
        ..StoreOptions::default()
    }
}

/// Kinds of records that belong to one replica: descriptor, how far it applied, data, session, answer, totals.
fn records(node: &Node) -> usize {
    let of_shard = |prefix: u8| {
        let mut key = vec![prefix];
        key.extend_from_slice(&SHARD.0.to_be_bytes());
        node.keys(&key).len()
    };
    let space = |encoded: Vec<u8>| node.keys(&encoded[..5]).len();
    // Shard 1 begins in space 2, and nobody else has session rows or data.
    let all = [
        kv::data_range(kv::Space(0)).0,
        kv::session_range(kv::Space(0)).0,
        kv::answer_range(kv::Space(0)).0,
    ];
    let rows: usize = all.iter().map(|start| node.keys(&start[..1]).len()).sum();
    of_shard(b'm') + of_shard(b'a') + rows + space(kv::expiry_range(kv::Space(2)).0)
}

#[test]
fn ps_02_nothing_of_a_replica_is_left_but_its_tombstone() {
    let mut cluster = Cluster::new(3, &options());
    let leader = cluster.wait_leader();
    let (other, gone) = ((leader + 1) % 3, (leader + 2) % 3);
    let client = kv::sessions::session_id(cluster.times.wall_ms, 7);
    let session = Session {
        client,
        seq: 1,
        lowest: 1,
        position: 0,
    };
    let done = cluster.forward(other, leader, put("k1", "v1"), |request| {
        request.session = Some(session)
    });
    assert_eq!(done, Outcome::Done(Answer::Ok));
    cluster.put(other, leader, "k2", "v2");
    cluster.tick(10);
    let before = records(&cluster.nodes[gone]);
    assert!(
        before >= 6,
        "two records, two keys, a session and its answer: {before}"
    );

    let removed = StoreId(gone as u64 + 1);
    let wish = ForwardBody::Manage(Manage::Change {
        add: vec![],
        remove: vec![removed],
    });
    assert_eq!(
        cluster.forward(other, leader, wish, |_| {}),
        Outcome::Done(Answer::Ok)
    );
    cluster.wait("the replica is removed", |cluster| !cluster.nodes[gone].holds());
    cluster.tick(20);
    let node = &cluster.nodes[gone];
    assert_eq!(records(node), 0, "of {before}");
    assert_eq!(node.keys(b"t").len(), 1, "one tombstone");
    let last = node.log.iter().rfind(|op| match op {
        LogOp::Append { shard, .. }
        | LogOp::HardState { shard, .. }
        | LogOp::Compact { shard, .. }
        | LogOp::Reset { shard, .. }
        | LogOp::Tombstone { shard, .. } => *shard == SHARD,
    });
    assert!(matches!(last, Some(LogOp::Tombstone { .. })), "{last:?}");
    assert!(records(&cluster.nodes[other]) >= before, "the others keep theirs");
}

/// A leader, and a store that is away and needs a snapshot.
fn one_is_away() -> (Cluster, [usize; 2]) {
    let mut cluster = Cluster::new(3, &options());
    let leader = cluster.wait_leader();
    let (other, away) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.put(other, leader, "gone", "before the snapshot");
    cluster.put(other, leader, "k1", "old");
    cluster.tick(5);
    cluster.cut(away);
    for n in 0..KEYS {
        cluster.put(other, leader, &format!("k{n}"), &format!("value {n:090}"));
    }
    let delete = quorate_proto::Op::Delete {
        key: Bytes::from_static(b"gone"),
    };
    let deleted = cluster.forward(other, leader, ForwardBody::Write(delete), |_| {});
    assert_eq!(deleted, Outcome::Done(Answer::Int(1)));
    cluster.tick(20);
    (cluster, [leader, away])
}

fn wait_fed(cluster: &mut Cluster, [leader, away]: [usize; 2]) {
    cluster.wait("the snapshot is installed and confirmed", |cluster| {
        let counters = |node: usize| cluster.nodes[node].store.counters();
        counters(away).snapshots_installed == 1 && counters(leader).snapshots_sent == 1
    });
    cluster.tick(50);
}

/// A store that was away is fed a snapshot. `tap` sees each chunk and may change it. Returns the chunks as they arrived,
/// and the one that was fed.
fn feed(mut tap: impl FnMut(&mut SnapshotChunk) + 'static) -> (Cluster, Vec<SnapshotChunk>, [usize; 2]) {
    let (mut cluster, [leader, away]) = one_is_away();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let chunks = seen.clone();
    cluster.tap = Box::new(move |message| {
        if let PeerMessage::SnapshotChunk(chunk) = message {
            tap(chunk);
            chunks.borrow_mut().push(chunk.clone());
        }
    });
    cluster.rejoin(away);
    wait_fed(&mut cluster, [leader, away]);
    cluster.tap = Box::new(|_| {});
    let chunks = seen.take();
    (cluster, chunks, [leader, away])
}

/// Applied data equals the source's, and what the engines hold comes back to what the shard needs: neither what was
/// staged nor what was there before is left.
fn check_fed(cluster: &Cluster, [leader, away]: [usize; 2]) {
    let digest = |node: usize| cluster.nodes[node].store.digest(SHARD).unwrap().unwrap();
    assert_eq!(digest(away).1, digest(leader).1);
    assert_eq!(digest(away).0.index, digest(leader).0.index);
    for node in &cluster.nodes {
        assert_eq!(
            node.data_pairs(),
            KEYS,
            "store {}: one pair a key",
            node.store.id()
        );
    }
}

#[test]
fn ps_07_a_snapshot_says_its_sizes_and_checksums_and_leaves_nothing_behind() {
    let (cluster, chunks, places) = feed(|_| {});
    check_fed(&cluster, places);
    let first = &chunks[0];
    assert!(chunks.len() > 3, "{} chunks", chunks.len());
    let mut keys = 0;
    for (seq, chunk) in (0..).zip(&chunks) {
        assert_eq!((chunk.seq, chunk.id), (seq, first.id), "in order, once each");
        assert_eq!(chunk.header, first.header);
        assert_eq!(chunk.last, seq as usize + 1 == chunks.len());
        assert_eq!(crc32c::crc32c(&chunk.pairs), chunk.crc);
        let pairs: Vec<_> = decode_pairs(chunk.pairs.clone()).map(Result::unwrap).collect();
        let bytes: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
        assert!(bytes <= CHUNK_BYTES, "chunk {seq} has {bytes} bytes");
        keys += pairs.iter().filter(|(key, _)| key[0] == b'd').count();
    }
    assert_eq!(keys, KEYS);
    let [leader, _] = places;
    let header = &first.header;
    let source = cluster.nodes[leader].store.descriptor(SHARD).unwrap();
    assert_eq!(
        (header.start_slot, header.end_slot),
        (source.start_slot, source.end_slot)
    );
    assert_eq!(
        (header.epoch, &header.membership),
        (source.epoch, &source.membership)
    );
    assert_eq!(header.meta.conf_state, source.conf_state);
}

/// Whoever reads chunks serves nobody meanwhile: two at first, and two more for each that is acknowledged.
#[test]
fn a_snapshot_begins_with_two_chunks_and_each_acknowledgement_sends_two() {
    let (mut cluster, places) = one_is_away();
    let on_their_way = Rc::new(RefCell::new(vec![0]));
    let counts = on_their_way.clone();
    cluster.tap = Box::new(move |message| {
        let mut counts = counts.borrow_mut();
        let now = counts[counts.len() - 1];
        match message {
            PeerMessage::SnapshotChunk(_) => counts.push(now + 1),
            PeerMessage::SnapshotAck(ack) if !ack.done => counts.push(now - 1),
            _ => {}
        }
    });
    cluster.rejoin(places[1]);
    wait_fed(&mut cluster, places);
    let counts = on_their_way.take();
    assert_eq!(counts[..4], [0, 1, 2, 1], "{counts:?}");
    assert!(counts.iter().any(|count| *count > 2), "{counts:?}");
}

/// One byte of the third chunk is wrong the first time that it is sent.
#[test]
fn ps_07_a_damaged_chunk_is_never_installed() {
    let mut damaged = false;
    let (cluster, chunks, places) = feed(move |chunk| {
        if chunk.seq == 2 && !std::mem::replace(&mut damaged, true) {
            let mut bytes = chunk.pairs.to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            chunk.pairs = bytes.into();
        }
    });
    check_fed(&cluster, places);
    let bad: Vec<_> = chunks
        .iter()
        .filter(|chunk| crc32c::crc32c(&chunk.pairs) != chunk.crc)
        .collect();
    assert_eq!(bad.len(), 1);
    let last = chunks.iter().rfind(|chunk| chunk.last).unwrap();
    assert_ne!((last.from, last.id), (bad[0].from, bad[0].id), "it was sent anew");
    let begun = |node: usize| cluster.nodes[node].store.counters().snapshots_begun;
    assert_eq!((0..cluster.nodes.len()).map(begun).sum::<u64>(), 2);
}

/// A disk that does not keep up for a few seconds, as long as nobody gives up: nothing is taken meanwhile, and the snapshot
/// goes on from there.
#[test]
fn ps_07_a_store_whose_disk_does_not_keep_up_puts_chunks_off() {
    let (mut cluster, places) = one_is_away();
    let [_, away] = places;
    cluster.nodes[away].disk.set_behind(true);
    let before = cluster.nodes[away].data_pairs();
    cluster.rejoin(away);
    cluster.tick(100);
    let counters = cluster.nodes[away].store.counters();
    assert!(counters.snapshot_chunks_put_off > 0, "{counters:?}");
    assert_eq!(
        (counters.snapshots_installed, cluster.nodes[away].data_pairs()),
        (0, before)
    );
    cluster.nodes[away].disk.set_behind(false);
    wait_fed(&mut cluster, places);
    check_fed(&cluster, places);
    let begun = |node: usize| cluster.nodes[node].store.counters().snapshots_begun;
    assert_eq!((0..cluster.nodes.len()).map(begun).sum::<u64>(), 1, "it went on");
}
