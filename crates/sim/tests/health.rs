//! Disks that are slow or full (rules H): the shards go on, nothing acknowledged is lost, and it ends by itself.

use quorate_sim::{Options, Plan, Profile, World};

const SECOND: u64 = 1_000_000;
const SHARD: usize = 1;

/// Three nodes and one data shard in calm surroundings; clients that mostly write.
fn plan() -> Plan {
    let options = Options {
        nodes: Some(3),
        shards: Some(1),
        ..Options::short()
    };
    let mut plan = Plan::derive(1, Profile::Calm, &options);
    plan.load.clients = 4;
    plan.load.think_us_max = 10_000;
    plan.load.read_percent = 20;
    plan.store.tick_us = 20_000;
    plan.store.election_ticks = 10;
    plan.store.heartbeat_ticks = 2;
    plan.store.leases = true;
    plan.store.requests_max = 1_000;
    plan.store.log_retention_entries = 50;
    plan.store.log_retention_bytes = 8_000;
    plan.store.durable_every_bytes = 4_000;
    plan.store.low_space_bytes = 64_000;
    plan.log.segment_bytes = 8_192;
    plan.disk.durable_us_max = 20_000;
    plan
}

/// the leader's disk stalls for 10 s while its network works, so that its heartbeats hold the others off.
/// Its leadership leaves within two election timeouts, and does not come back while the disk stalls.
#[test]
fn x_07_leadership_leaves_a_store_whose_disk_stalls() {
    for seed in 0..10 {
        let mut world = World::new(seed, plan(), None);
        world.run_until(4 * SECOND).unwrap();
        let timeout_us = plan().store.election_timeout_us();
        let leader = world
            .leader_of(1)
            .expect("four seconds are enough for an election");
        world.stall_disk(leader, 10 * SECOND);
        let stalled_at = world.now_us();
        while world.leader_of(1).is_none_or(|now| now == leader) {
            assert!(
                world.now_us() < stalled_at + 2 * timeout_us,
                "seed {seed}: node {leader} leads {} us after its disk stalled",
                world.now_us() - stalled_at
            );
            let now = world.now_us();
            world.run_until(now + timeout_us / 100).unwrap();
        }
        let done = world.outcomes().writes_done;
        while world.now_us() < stalled_at + 9 * SECOND {
            let now = world.now_us();
            world.run_until(now + SECOND / 4).unwrap();
            assert_ne!(world.leader_of(1), Some(leader), "seed {seed}");
        }
        assert!(
            world.outcomes().writes_done > done + 500,
            "seed {seed}: the others serve meanwhile: {:?}",
            world.outcomes()
        );
        world.heal_and_check().unwrap();
        assert_eq!(world.counts().deaths, 0);
    }
}

/// the leader's disk runs full, then space comes back. It hands its leadership away and goes on as a
/// follower; its log is collected. When the other follower goes away the quorum needs the full store: writes are
/// refused, reads are not. With space again writes resume, and no process was restarted for it.
#[test]
fn x_08_a_store_that_is_nearly_full_leads_nothing_and_resumes_by_itself() {
    for seed in 0..10 {
        let mut world = World::new(seed, plan(), None);
        world.run_until(4 * SECOND).unwrap();
        let full = world
            .leader_of(1)
            .expect("four seconds are enough for an election");
        let base = world.status(full)[SHARD].log_base;
        world.set_space_left(full, 40_000);
        world.run_until(6 * SECOND).unwrap();
        let leader = world.leader_of(1).expect("two are not full");
        assert_ne!(leader, full, "seed {seed}");
        let done = world.outcomes().writes_done;
        world.run_until(8 * SECOND).unwrap();
        assert!(
            world.outcomes().writes_done > done + 100,
            "seed {seed}: two are not full"
        );
        let status = &world.status(full)[SHARD];
        assert!(
            status.log_base > base,
            "seed {seed}: the full store collects its log"
        );
        assert!(
            status.last.0 + 200 > world.status(leader)[SHARD].last.0,
            "seed {seed}: and appends"
        );

        let other = 3 - full - leader;
        world.hold_down(other);
        world.run_until(9 * SECOND).unwrap();
        let before = world.outcomes();
        world.run_until(12 * SECOND).unwrap();
        let after = world.outcomes();
        let (done, refused) = (
            after.writes_done - before.writes_done,
            after.refused - before.refused,
        );
        assert!(
            done > 0 && refused > 100 && refused > 4 * done,
            "seed {seed}: the quorum needs the full store, so deletes only: {done} done, {refused} refused"
        );
        assert_eq!(
            after.unknown, before.unknown,
            "seed {seed}: a refused write was not applied"
        );
        assert!(
            after.reads_done > before.reads_done + 100,
            "seed {seed}: {after:?}"
        );

        world.set_space_left(full, 1_000_000);
        world.run_until(15 * SECOND).unwrap();
        assert!(
            world.outcomes().writes_done > after.writes_done + 100,
            "seed {seed}: writes resume: {:?}",
            world.outcomes()
        );
        world.release(other);
        world.heal_and_check().unwrap();
        assert_eq!(world.counts().deaths, 1, "the one that was held down");
    }
}
