//! Rows PS-02, PS-04 and PS-05 of the scenario table as the disk sees them: what a restart finds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod log_common;

use log_common::*;
use quorate_raft::{Index, Term};
use quorate_storage::ShardId;
use quorate_storage::disk::SimDisk;
use quorate_storage::log::LogOp;

const SEGMENT: u64 = 8192;

/// Indexes and terms that a restart after `kill -9` finds of shard 1.
fn found(disk: &SimDisk) -> Vec<(u64, u64)> {
    disk.process_kill();
    let shard = open(disk, SEGMENT)
        .1
        .shards
        .remove(&ShardId(1))
        .unwrap_or_default();
    shard
        .entries
        .iter()
        .map(|entry| (entry.index.0, entry.term.0))
        .collect()
}

fn entries(positions: &[(u64, u64)]) -> Vec<LogOp> {
    positions
        .iter()
        .map(|(index, term)| append(1, *index, 1, *term))
        .collect()
}

/// Everything that a log keeps of a shard, and nothing after its tombstone; its neighbour loses nothing.
#[test]
fn ps_02_a_tombstone_clears_all_of_a_shard() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SEGMENT);
    let all = |shard| {
        [
            reset(shard, 10, 2),
            hard_state(shard, 5, 3, 12),
            append(shard, 11, 4, 3),
            compact(shard, 11, 3),
        ]
    };
    commit(&mut log, all(1));
    commit(&mut log, all(2));
    let before = model_of(&open(&disk, SEGMENT).1);
    assert_eq!(before[&ShardId(1)].base, (Index(11), Term(3)));
    assert_eq!(before[&ShardId(1)].entries.len(), 3);
    let (mut log, _) = open(&disk, SEGMENT);
    commit(&mut log, [tombstone(1, 5)]);
    let after = model_of(&open(&disk, SEGMENT).1);
    let cleared = ModelShard {
        tombstone: after[&ShardId(1)].tombstone,
        ..ModelShard::default()
    };
    assert_eq!(after[&ShardId(1)], cleared);
    assert!(cleared.tombstone.is_some());
    assert_eq!(after[&ShardId(2)], before[&ShardId(2)]);
}

#[test]
fn ps_04_a_stale_tail_is_gone_after_a_restart() {
    for (what, appended, expected) in [
        ("the same", &[(4, 4), (5, 5)][..], &[(4, 4), (5, 5)][..]),
        ("conflicting", &[(4, 6), (5, 6)], &[(4, 6), (5, 6)]),
        ("further", &[(4, 4), (5, 5), (6, 5)], &[(4, 4), (5, 5), (6, 5)]),
        ("an old tail is cut", &[(4, 5)], &[(4, 5)]),
        ("behind the last", &[(6, 5)], &[(4, 4), (5, 5), (6, 5)]),
    ] {
        let disk = SimDisk::new(1);
        let (mut log, _) = open(&disk, SEGMENT);
        commit(&mut log, [reset(1, 3, 3), hard_state(1, 5, 5, 3)]);
        commit(&mut log, entries(&[(4, 4), (5, 5)]));
        commit(&mut log, entries(appended));
        drop(log);
        assert_eq!(found(&disk), expected, "{what}");
    }
}

/// 100 entries, cut to 10, 50, nothing, 60.
#[test]
fn ps_05_log_gc_removes_what_it_should_and_no_more() {
    let disk = SimDisk::new(1);
    let (mut log, _) = open(&disk, SEGMENT);
    commit(
        &mut log,
        [hard_state(1, 5, 1, 100), append(1, 1, 100, 1), append(2, 1, 7, 1)],
    );
    drop(log);
    for (to, removed) in [(10, 10), (50, 40), (50, 0), (60, 10)] {
        let before = found(&disk);
        let (mut log, _) = open(&disk, SEGMENT);
        commit(&mut log, [compact(1, to, 1)]);
        maintain_all(&mut log);
        drop(log);
        let after = found(&disk);
        assert_eq!(before.len() - after.len(), removed, "to {to}");
        assert_eq!(after, (to + 1..=100).map(|index| (index, 1)).collect::<Vec<_>>());
        let recovered = open(&disk, SEGMENT).1;
        assert_eq!(recovered.shards[&ShardId(1)].base, (Index(to), Term(1)));
        assert_eq!(recovered.shards[&ShardId(2)].entries.len(), 7);
    }
}
