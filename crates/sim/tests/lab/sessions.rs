//! Rows on exactly-once: what is repeated runs once, and the table of what ran stays small.
//!
//! retry after everything that may happen to a shard but a split; that is in `splits`.

use quorate_proto::{Answer, ForwardBody, Op, Session};
use quorate_sim::script::{CallId, Opened};
use quorate_sim::{Call, Ended, Retry, SECOND, Setup, Violation, World};

use crate::support::{BUG_SEEDS, CLUSTER_SEEDS, Chance, close, row};

/// What a row prints and asserts of a session table.
pub(crate) fn table(world: &World, row: &str, sessions_max: u64, bytes_max: u64) -> Result<(), Violation> {
    for node in 0..world.node_count() {
        let totals = world.session_totals(node, 1)?.expect("it is up");
        println!(
            "{row}: node {}: {} sessions, {} answers, {} bytes (bound: {sessions_max} and {bytes_max})",
            node + 1,
            totals.sessions,
            totals.answers,
            totals.bytes
        );
        assert!(
            totals.sessions <= sessions_max && totals.bytes <= bytes_max,
            "{totals:?}, more than {sessions_max} sessions or {bytes_max} bytes"
        );
    }
    Ok(())
}

fn once(call: Call, session: Session) -> Call {
    call.session(session).retry(Retry::Always).within_ms(60_000)
}

/// Finishes calls of which each must have an answer.
fn all_done(world: &mut World, calls: &[CallId]) -> Result<(), Violation> {
    for call in calls {
        let ended = world.finish(*call)?;
        assert!(ended.is_done(), "{ended:?}");
    }
    Ok(())
}

/// Many clients write once and stay idle; a few write values of a megabyte. An idle client costs less than 200
/// bytes, whatever its last answer was; answers of finished requests are freed; the count is bounded.
#[test]
fn k_24_mem() {
    row("k_24_mem", CLUSTER_SEEDS, |seed| {
        let clients = if seed == 2 { 100_000 } else { 2_000 };
        let mut setup = Setup::new(3).seed(seed);
        setup.plan.store.sessions_max = clients / 2;
        setup.plan.store.session_ttl_ms = 3_600_000;
        let mut world = setup.start();
        world.await_leader(1)?;
        let client = world.client("a");
        let (mut sessions, mut under_way): (Vec<Opened>, Vec<CallId>) = (Vec::new(), Vec::new());
        for n in 0..clients {
            let mut session = world.open_session();
            let put = Call::put(format!("k{}", n % 10), "v");
            under_way.push(world.begin(client, once(put, session.next_write())));
            sessions.push(session);
            if under_way.len() == 100 || n + 1 == clients / 2 || n + 1 == clients {
                all_done(&mut world, &std::mem::take(&mut under_way))?;
            }
            if n + 1 == clients / 2 {
                world.await_equal(1, 5 * SECOND)?;
                // Two gateways beside the leader have sessions of their own.
                table(
                    &world,
                    "K-24, idle clients",
                    clients / 2 + 2,
                    200 * (clients / 2 + 2),
                )?;
            }
        }
        // The oldest are forgotten, a batch at a time.
        world.run_for(SECOND + clients * 100)?;
        world.await_equal(1, 5 * SECOND)?;
        table(&world, "K-24, too many clients", clients / 2, 200 * clients / 2)?;
        let forgotten = once(Call::append("k0", "again"), sessions[0].write(1, 1)).within_ms(1_000);
        let ended = world.ask(client, forgotten.retry(Retry::Never))?;
        assert!(
            matches!(&ended, Ended::Unknown(why) if why == "Forgotten"),
            "{ended:?}"
        );

        // Answers of a megabyte, ten of them; the last is freed by the next write.
        let large = "x".repeat(1 << 20);
        let mut session = world.open_session();
        for _ in 0..10 {
            let put = Call::put("large", &large);
            assert!(world.ask(client, once(put, session.next_write()))?.is_done());
            let key = Call::get("large").target;
            let take = Call {
                target: key,
                ..Call::new(
                    b"large",
                    ForwardBody::Write(Op::GetDelete { key: "large".into() }),
                )
            };
            let ended = world.ask(client, once(take, session.next_write()))?;
            assert_eq!(ended.bytes().map(<[u8]>::len), Some(large.len()));
        }
        let held = world.session_totals(0, 1)?.expect("it is up").bytes;
        assert!(
            held < 2 * (1 << 20) + 200 * clients,
            "{held} bytes: one answer is not acknowledged"
        );
        assert!(
            world
                .ask(client, once(Call::put("large", ""), session.next_write()))?
                .is_done()
        );
        world.await_equal(1, 5 * SECOND)?;
        table(
            &world,
            "K-24, large answers",
            clients / 2 + 1,
            200 * (clients / 2 + 1),
        )?;
        close(world)
    });
}

/// A write is acknowledged and its answer lost. Then everything happens to the shard that can: another leader, a
/// snapshot to a replica that was away, power loss of all nodes. The client asks again through every node.
#[test]
fn x_01_a_write_is_repeated_after_snapshots_and_restarts() {
    row(
        "x_01_a_write_is_repeated_after_snapshots_and_restarts",
        BUG_SEEDS,
        |seed| {
            let mut chance = Chance::new(seed);
            let mut world = Setup::new(3).seed(seed).log_bytes(1000).start();
            let leader = world.await_leader(1)?;
            let away = (leader + 1) % 3;
            world.isolate(away);
            let client = world.client("a");
            world.limit_client(client, &[leader, (leader + 2) % 3]);
            let session = world.open_session();
            let append = |token: &str, seq: u64| once(Call::append("k", token), session.write(seq, 1));
            assert_eq!(
                world.ask(client, append("first;", 1))?.answer(),
                Some(&Answer::Int(6))
            );
            // Others write, so that the log is cut past the replica that is away.
            let mut calls = Vec::new();
            for n in 0..50 {
                calls.push(world.begin(client, append(&format!("{n};"), 2 + n)));
            }
            all_done(&mut world, &calls)?;
            world.run_for(SECOND)?;
            let snapshots = world.counts().snapshots;
            world.rejoin(away);
            world.limit_client(client, &[]);
            world.await_equal(1, 10 * SECOND)?;
            assert!(world.counts().snapshots > snapshots, "it came back by a snapshot");
            if chance.percent(50) {
                world.transfer_leader(1, away)?;
            } else {
                world.power_loss_everywhere();
                world.start_all();
            }
            for node in 0..3 {
                let again = append("first;", 1).via(node);
                assert_eq!(
                    world.ask(client, again)?.answer(),
                    Some(&Answer::Int(6)),
                    "by node {}",
                    node + 1
                );
            }
            let value = world.ask(client, Call::get("k"))?;
            let value = String::from_utf8_lossy(value.bytes().expect("it is there")).into_owned();
            assert_eq!(value.matches("first;").count(), 1, "{value}");
            // The client names what it still wants, and the rest is freed.
            assert!(
                world
                    .ask(client, once(Call::append("k", ""), session.write(100, 100)))?
                    .is_done()
            );
            world.await_equal(1, 5 * SECOND)?;
            table(&world, "X-01", 3, 600)?;
            close(world)
        },
    );
}

/// A write on keys of three shards, as parts with positions (S5): one shard has no quorum, so a part of the parts is
/// applied. The client asks again until all are answered: each part ran once.
#[test]
fn x_21_a_write_on_many_shards_is_repeated_after_a_part_of_it() {
    row(
        "x_21_a_write_on_many_shards_is_repeated_after_a_part_of_it",
        BUG_SEEDS,
        |seed| {
            let mut chance = Chance::new(seed);
            let mut setup = Setup::new(3).shards(3).seed(seed);
            setup.plan.store.spread_leaders = true;
            let mut world = setup.start();
            for shard in 1..=3 {
                world.await_leader(shard)?;
            }
            world.run_for(5 * SECOND)?;
            let client = world.client("a");
            let session = world.open_session();
            let parts = |attempt_ms: u32| {
                let part = |position: u32| {
                    let session = Session {
                        position,
                        ..session.write(1, 1)
                    };
                    let append = Call::append(format!("key {position}"), format!("part {position};"));
                    append.session(session).attempt_ms(attempt_ms).retry(Retry::Never)
                };
                (0..9).map(part).collect::<Vec<_>>()
            };
            let first: Vec<CallId> = parts(300)
                .into_iter()
                .map(|part| world.begin(client, part))
                .collect();
            // One leader dies or is cut off while they are under way.
            world.run_for(chance.below(3_000))?;
            let victim = chance.below(3) as usize;
            if chance.percent(50) {
                world.isolate(victim);
            } else {
                world.crash_power(victim);
            }
            for call in &first {
                world.finish(*call)?;
            }
            let parts_done = first
                .iter()
                .filter(|call| world.ended(**call).is_some_and(Ended::is_done))
                .count();
            world.start_all();
            world.heal_network();
            for part in parts(1_000) {
                let ended = world.ask(client, part.retry(Retry::Always).within_ms(60_000))?;
                assert!(ended.is_done(), "{ended:?}");
            }
            for (position, call) in first.iter().enumerate() {
                let value = world.ask(client, Call::get(format!("key {position}")))?;
                let text = format!("part {position};");
                assert_eq!(value.bytes(), Some(text.as_bytes()));
                if let Some(Ended::Done(answer)) = world.ended(*call) {
                    assert_eq!(answer, &Answer::Int(text.len() as i64), "the first answer stays");
                }
            }
            println!("X-21: {parts_done} of 9 parts were answered at first");
            for shard in 1..=3 {
                world.await_equal(shard, 5 * SECOND)?;
            }
            table(&world, "X-21", 3, 9 * 100 + 3 * 100)?;
            close(world)
        },
    );
}
