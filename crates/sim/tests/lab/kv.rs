//! Rows K: a replicated key-value store with clients that append and read.

use quorate_sim::{Call, Ended, Retry, SECOND, Setup};

use crate::generic::{Generic, check_log};
use crate::sessions::table;
use crate::support::{CLUSTER_SEEDS, close, row};

macro_rules! generic_rows {
    ($($name:ident: G($clients:literal, $servers:literal) $({ $($field:ident: $value:expr),* })?;)*) => {
        $(#[test]
        #[allow(clippy::needless_update)]
        fn $name() {
            let generic = Generic { clients: $clients, servers: $servers, $($($field: $value,)*)? ..Generic::default() };
            row(stringify!($name), CLUSTER_SEEDS, |seed| generic.run(seed));
        })*
    };
}

generic_rows! {
    k_01_basic: G(1, 5);
    k_03_concurrent: G(5, 5);
    k_04_unreliable: G(5, 5) { unreliable: true };
    k_07_many_partitions_one_client: G(1, 5) { partition: true };
    k_08_many_partitions_many_clients: G(5, 5) { partition: true };
    k_09_persist_one_client: G(1, 5) { crash: true };
    k_10_persist_concurrent: G(5, 5) { crash: true };
    k_11_persist_concurrent_unreliable: G(5, 5) { unreliable: true, crash: true };
    k_12_persist_partition: G(5, 5) { crash: true, partition: true };
    k_13_persist_partition_unreliable: G(5, 5) { unreliable: true, crash: true, partition: true };
    k_14_persist_partition_unreliable_linearizable: G(15, 7) { unreliable: true, crash: true, partition: true, random: true };
    k_17_snapshot_recover: G(1, 5) { crash: true, log_bytes: Some(1000) };
    k_18_snapshot_recover_many_clients: G(20, 5) { crash: true, log_bytes: Some(1000) };
    k_19_snapshot_unreliable: G(5, 5) { unreliable: true, log_bytes: Some(1000) };
    k_20_snapshot_unreliable_recover: G(5, 5) { unreliable: true, crash: true, log_bytes: Some(1000) };
    k_21_snapshot_unreliable_recover_concurrent_partition:
        G(5, 5) { unreliable: true, crash: true, partition: true, log_bytes: Some(1000) };
    k_22_snapshot_unreliable_recover_concurrent_partition_linearizable:
        G(15, 7) { unreliable: true, crash: true, partition: true, random: true, log_bytes: Some(1000) };
}

/// A commit does not wait for the next heartbeat, which comes every 100 ms.
#[test]
fn k_02_speed() {
    for log_bytes in [None, Some(1000)] {
        row("k_02_speed", CLUSTER_SEEDS, |seed| {
            let mut setup = Setup::new(3).seed(seed).ticks(50, 2, 20);
            if let Some(bytes) = log_bytes {
                setup = setup.log_bytes(bytes);
            }
            let mut world = setup.start();
            world.await_leader(1)?;
            let client = world.client("a");
            let began_us = world.now_us();
            for n in 0..1000 {
                let ended = world.ask(client, Call::append("k", format!("x 0 {n} y")))?;
                assert!(ended.is_done(), "{ended:?}");
            }
            let each_us = (world.now_us() - began_us) / 1000;
            assert!(each_us <= 33_300, "{each_us} us an operation");
            check_log(&world, log_bytes);
            close(world)
        });
    }
}

/// Five clients append ten tokens each to one key, over links that lose requests and answers: all 50 are there once,
/// each client's in order.
#[test]
fn k_05_unreliable_one_key() {
    row("k_05_unreliable_one_key", CLUSTER_SEEDS, |seed| {
        let mut world = Setup::new(3).seed(seed).unreliable().start();
        world.await_leader(1)?;
        let reader = world.client("reader");
        let mut calls = Vec::new();
        let mut sessions: Vec<_> = (0..5).map(|_| world.open_session()).collect();
        for n in 0..10 {
            for (id, session) in sessions.iter_mut().enumerate() {
                let client = world.client(format!("client {id}"));
                let token = format!("x {id} {n} y");
                let append = Call::append("k", &token).session(session.next_write());
                let append = append.retry(Retry::Always).within_ms(60_000);
                calls.push((token, world.begin(client, append)));
            }
            for (_, call) in calls.iter().rev().take(5) {
                world.finish(*call)?;
            }
        }
        let ended = world.ask(reader, Call::get("k").within_ms(60_000))?;
        let value = String::from_utf8(ended.bytes().unwrap_or_default().to_vec()).expect("tokens are text");
        let mut explained = 0;
        for id in 0..5 {
            let mut last = 0;
            for (token, call) in calls.iter().skip(id).step_by(5) {
                let places: Vec<usize> = value.match_indices(token.as_str()).map(|(at, _)| at).collect();
                assert!(world.ended(*call).is_some_and(Ended::is_done), "{token}");
                assert_eq!(places.len(), 1, "{token} in {value}");
                assert!(places[0] >= last, "{token} stands before an older one: {value}");
                last = places[0];
                explained += places.len() * token.len();
            }
        }
        assert_eq!(explained, value.len(), "something else is there: {value}");
        world.await_equal(1, 5 * SECOND)?;
        // Five clients, and two nodes that forward.
        table(&world, "K-05", 7, 200 * 7)?;
        close(world)
    });
}

#[test]
fn k_06_one_partition() {
    row("k_06_one_partition", CLUSTER_SEEDS, |seed| {
        let mut world = Setup::new(5).seed(seed).start();
        let leader = world.await_leader(1)?;
        let (client, cut_off, cut_off_reader) = (world.client("a"), world.client("b"), world.client("c"));
        assert!(world.ask(client, Call::put("1", "13"))?.is_done());
        let minority = [leader, (leader + 1) % 5];
        let majority: Vec<usize> = (0..5).filter(|node| !minority.contains(node)).collect();
        world.partition(&[&minority, &majority]);
        world.limit_client(client, &majority);
        world.limit_client(cut_off, &minority);
        world.limit_client(cut_off_reader, &minority);
        assert!(world.ask(client, Call::put("1", "14"))?.is_done());
        assert_eq!(world.ask(client, Call::get("1"))?.bytes(), Some(&b"14"[..]));

        let put = Call::put("1", "15")
            .retry(Retry::IfRefused)
            .attempt_ms(10_000)
            .via(leader);
        let put = world.begin(cut_off, put);
        let get = world.begin(cut_off_reader, Call::get("1").attempt_ms(10_000));
        world.run_for(SECOND)?;
        assert_eq!(
            (world.ended(put), world.ended(get)),
            (None, None),
            "blocked without a quorum"
        );
        assert_eq!(world.ask(client, Call::get("1"))?.bytes(), Some(&b"14"[..]));
        assert!(world.ask(client, Call::put("1", "16"))?.is_done());
        assert_eq!(world.ask(client, Call::get("1"))?.bytes(), Some(&b"16"[..]));

        world.heal_network();
        world.wait_until("both finish within 3 s of healing", 3 * SECOND, |world| {
            world.ended(put).is_some() && world.ended(get).is_some()
        })?;
        assert!(
            world.ended(put).is_some_and(Ended::is_done),
            "{:?}",
            world.ended(put)
        );
        assert!(
            world.ended(get).is_some_and(Ended::is_done),
            "{:?}",
            world.ended(get)
        );
        // It was asked again after the 16 had been acknowledged, since nothing of it had taken effect.
        assert_eq!(world.ask(client, Call::get("1"))?.bytes(), Some(&b"15"[..]));
        close(world)
    });
}

#[test]
fn k_15_snapshot_to_one_that_was_away() {
    row("k_15_snapshot_to_one_that_was_away", CLUSTER_SEEDS, |seed| {
        let mut world = Setup::new(3).seed(seed).log_bytes(1000).start();
        let leader = world.await_leader(1)?;
        let (other, away) = ((leader + 1) % 3, (leader + 2) % 3);
        let client = world.client("a");
        assert!(world.ask(client, Call::put("a", "A"))?.is_done());
        world.partition(&[&[leader, other], &[away]]);
        world.limit_client(client, &[leader, other]);
        for n in 0..50 {
            assert!(
                world
                    .ask(client, Call::put(n.to_string(), n.to_string()))?
                    .is_done()
            );
        }
        assert!(world.ask(client, Call::put("b", "B"))?.is_done());
        world.run_for(SECOND)?;
        check_log(&world, Some(1000));
        let (applied, base) = world
            .replica(away, 1)
            .map(|s| (s.applied, s.log_base))
            .expect("it is up");
        let cut = world.replica(leader, 1).expect("it is up").log_base;
        assert!(
            cut > applied && base <= applied,
            "cut at {cut} past {applied}, where the one away stands"
        );

        // The one that was away must serve, so it needs the snapshot.
        world.partition(&[&[leader, away], &[other]]);
        world.limit_client(client, &[leader, away]);
        for (key, value) in [("c", "C"), ("d", "D")] {
            assert!(world.ask(client, Call::put(key, value))?.is_done());
        }
        assert!(world.counts().snapshots > 0);
        for (key, value) in [("a", "A"), ("b", "B"), ("c", "C"), ("1", "1"), ("49", "49")] {
            let ended = world.ask(client, Call::get(key).via(away))?;
            assert_eq!(ended.bytes(), Some(value.as_bytes()), "{key}");
            let local = world.local_value(away, 1, key.as_bytes())?;
            assert_eq!(
                local.as_deref(),
                Some(value.as_bytes()),
                "{key} in its own engine"
            );
        }
        close(world)
    });
}

#[test]
fn k_16_sizes() {
    row("k_16_sizes", CLUSTER_SEEDS, |seed| {
        let mut world = Setup::new(3).seed(seed).log_bytes(1000).start();
        world.await_leader(1)?;
        let client = world.client("a");
        for _ in 0..200 {
            for value in ["0", "1"] {
                assert!(world.ask(client, Call::put("x", value))?.is_done());
                assert_eq!(world.ask(client, Call::get("x"))?.bytes(), Some(value.as_bytes()));
            }
        }
        world.run_for(SECOND)?;
        check_log(&world, Some(1000));
        for node in 0..3 {
            let bytes = world.snapshot_bytes(node, 1)?.expect("it is up");
            assert!(bytes <= 500, "a snapshot of {bytes} bytes on node {}", node + 1);
        }
        close(world)
    });
}
