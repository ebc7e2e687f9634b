//! Rows S about bytes: what moved is given back, and logs stay small.

use std::collections::BTreeMap;

use quorate_sim::{SECOND, Violation, World};

use crate::groups::{Book, Groups, SHARDS, Stop, appenders, nodes_of};
use crate::support::{CLUSTER_SEEDS, close, row};

/// Term, vote and commit index of a replica.
const HARD_STATE_BYTES: u64 = 24;
/// How long the last log GC and the last removal of what moved may take.
const SETTLE_US: u64 = 3 * SECOND;

/// What a store holds of shards: everything in its engine; and the entries that its logs keep, with hard states.
fn kept(world: &World, node: usize) -> Result<(u64, u64), Violation> {
    let logs = (1..=u64::from(SHARDS)).filter_map(|shard| world.log_kept(node, shard));
    let logs: u64 = logs.map(|(bytes, _)| bytes + HARD_STATE_BYTES).sum();
    Ok((world.engine_bytes(node)?.unwrap_or_default(), logs))
}

fn kept_by(groups: &Groups, count: u64) -> Result<BTreeMap<u64, u64>, Violation> {
    let bytes_of = |nth| {
        let nodes = nodes_of(nth).into_iter();
        let bytes = nodes.map(|node| kept(&groups.world, node).map(|(engine, logs)| engine + logs));
        Ok((nth, bytes.sum::<Result<u64, _>>()?))
    };
    (0..count).map(bytes_of).collect()
}

/// Encoded bytes of all snapshots of all shards, as if each replica took one.
fn snapshots(world: &World) -> Result<u64, Violation> {
    let mut sum = 0;
    for node in 0..world.node_count() {
        for shard in 1..=u64::from(SHARDS) {
            sum += world.snapshot_bytes(node, shard)?.unwrap_or_default();
        }
    }
    Ok(sum)
}

#[test]
fn s_04_snapshots_and_three_groups() {
    row("s_04_snapshots_and_three_groups", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(3, seed, |setup| setup.log_bytes(1_000))?;
        let stop = Stop::default();
        let clients = appenders(&mut groups.world, 3, &stop);
        for (joins, leaves) in [(1, 0), (2, 1), (0, 2)] {
            groups.world.run_for(SECOND)?;
            groups.join(&[joins])?;
            groups.await_carried()?;
            groups.world.run_for(SECOND)?;
            groups.leave(&[leaves])?;
            groups.await_carried()?;
        }
        stop.set(true);
        groups.world.finish_programs(60 * SECOND)?;
        for client in &clients {
            client.check(&mut groups)?;
        }
        groups.world.run_for(SECOND)?;
        for shard in 1..=u64::from(SHARDS) {
            for node in nodes_of(0) {
                let (bytes, _) = groups.world.log_kept(node, shard).expect("it holds the shard");
                assert!(bytes <= 8_000, "node {node}, shard {shard}: {bytes} bytes of log");
            }
        }
        groups.world.crash_all();
        groups.world.run_for(SECOND)?;
        groups.world.start_all();
        for client in &clients {
            client.check(&mut groups)?;
        }
        close(groups.world)
    });
}

/// Thirty keys of 1000 bytes on three stores each, after two rounds through three groups: what is kept of them anywhere is
/// no more than three times `(30 - 3) x 1000 + 2 x 3 x 1000 + 6000`.
#[test]
fn s_12_what_moved_is_deleted() {
    row("s_12_what_moved_is_deleted", CLUSTER_SEEDS, |seed| {
        let bound = 3 * ((30 - 3) * 1_000 + 2 * 3 * 1_000 + 6_000);
        let mut groups = Groups::start(3, seed, |setup| {
            let mut setup = setup.log_entries(1);
            setup.plan.store.durable_every_bytes = 1;
            setup
        })?;
        let mut book = Book::open(&mut groups, 3, &"x".repeat(990))?;
        for _ in 0..2 {
            for (joins, leaves) in [(1, 0), (2, 1), (0, 2)] {
                groups.join(&[joins])?;
                groups.await_carried()?;
                groups.leave(&[leaves])?;
                groups.await_carried()?;
                groups.world.run_for(SETTLE_US)?;
                let held = kept_by(&groups, 3)?;
                for (nth, bytes) in held.iter().filter(|(nth, _)| **nth != joins) {
                    assert!(
                        *bytes <= 6_000,
                        "group {nth} holds nothing and keeps {bytes} bytes"
                    );
                }
                book.turn(&mut groups)?;
            }
        }
        groups.join(&[1, 2])?;
        groups.await_carried()?;
        book.turn(&mut groups)?;
        groups.world.run_for(SETTLE_US)?;
        let held = kept_by(&groups, 3)?;
        let total: u64 = held.values().sum();
        println!("  {total} bytes of at most {bound}: {held:?}");
        assert!(total <= bound, "{total} bytes, at most {bound}: {held:?}");
        close(groups.world)
    });
}

/// All that a move adds to what all snapshots together would carry is at most 10,000 bytes, and no more to the engines.
#[test]
fn s_23_a_move_adds_no_bytes() {
    row("s_23_a_move_adds_no_bytes", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(2, seed, |setup| setup.log_bytes(1_000))?;
        let book = Book::open(&mut groups, 5, &"x".repeat(1_000))?;
        groups.world.run_for(SETTLE_US)?;
        let held = |groups: &Groups| -> Result<(u64, u64), Violation> {
            let nodes = (0..2).flat_map(nodes_of);
            let engines = nodes.map(|node| Ok(kept(&groups.world, node)?.0));
            Ok((
                snapshots(&groups.world)?,
                engines.sum::<Result<u64, Violation>>()?,
            ))
        };
        let before = held(&groups)?;
        assert!(before.0 >= 3 * 50 * 1_000, "{before:?}");
        groups.join(&[1])?;
        groups.await_carried()?;
        groups.world.run_for(SETTLE_US)?;
        let after = held(&groups)?;
        assert!(
            after.0 <= before.0 + 10_000 && after.1 <= before.1 + 10_000,
            "{after:?} bytes after {before:?}"
        );
        book.check(&mut groups, &crate::groups::all_shards(), 60_000)?;
        close(groups.world)
    });
}
