//! Rows T: the cluster tests of a multi-shard store, with its timing: ticks of 50 ms, heartbeats every 100 ms,
//! elections after 500 ms.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use bytes::Bytes;
use quorate_proto::{Answer, ForwardBody, Manage, Query, ScanPosition};
use quorate_sim::script::{MILLISECOND, Next};
use quorate_sim::{Call, Ended, Retry, SECOND, Setup, Violation, World};
use quorate_storage::StoreId;
use quorate_store::kv;

use crate::support::{CLUSTER_SEEDS, Chance, close, partitions, row};

const TIMEOUT_US: u64 = SECOND;
const THINK_US: u64 = 20 * MILLISECOND;
const ATTEMPT_MS: u32 = 300;
const END_US: u64 = 60 * SECOND;
/// Within this time of the network being whole again, every client has [`ANSWERS_MIN`] further answers.
const HEALED_WITHIN_US: u64 = 10 * SECOND;
const ANSWERS_MIN: u64 = 3;
/// The log GC limit of rows with `gc`, and what a replica may keep then.
const GC_ENTRIES: u64 = 100;
const GC_BOUND: u64 = 200;
/// The size of a shard of rows with `split` above which it is split by itself.
const SPLIT_BYTES: u64 = 800;

/// What is left to a row.
#[derive(Clone, Copy, Default)]
struct Generic {
    clients: u64,
    drop: bool,
    part: bool,
    crash: bool,
    gc: bool,
    conf: bool,
    split: bool,
}

fn setup(nodes: u64, seed: u64) -> Setup {
    Setup::new(nodes).seed(seed).ticks(50, 2, 10)
}

/// A client's keys share a slot, so that they are a range: `<round> {<client>} <number>`.
fn key_of(round: u64, client: u64, number: u64) -> String {
    format!("{round} {{{client}}} {number:08}")
}

fn value_of(key: &str) -> String {
    format!("value of {key}")
}

/// Reads a client's own range.
fn scan(round: u64, client: u64) -> Call {
    let slot = kv::slot_of(key_of(round, client, 0).as_bytes());
    let query = Query::Scan {
        from: ScanPosition { slot, hash: 0 },
        end_slot: slot + 1,
        limit: 1_000_000,
        pattern: Some(Bytes::from(format!("{round} {{{client}}} *"))),
        count_only: false,
    };
    Call::new(key_of(round, client, 0).as_bytes(), ForwardBody::Read(query))
}

fn keys_of(ended: &Ended) -> Option<BTreeSet<Vec<u8>>> {
    match ended.answer() {
        Some(Answer::Page { next: None, keys, .. }) => Some(keys.iter().map(|key| key.to_vec()).collect()),
        Some(other) => panic!("a scan answered {other:?}"),
        None => None,
    }
}

#[derive(Default)]
struct Own {
    /// Numbers of the keys whose put was answered, and of those whose put was not.
    put: BTreeSet<u64>,
    open: BTreeSet<u64>,
    reads: u64,
}

impl Own {
    fn answers(&self) -> u64 {
        self.put.len() as u64 + self.reads
    }

    /// All own puts are there, and nothing that was not put.
    fn judge(&self, round: u64, client: u64, found: &BTreeSet<Vec<u8>>) {
        for number in &self.put {
            let key = key_of(round, client, *number);
            assert!(found.contains(key.as_bytes()), "{key} was put and is gone");
        }
        for key in found {
            let known = self
                .put
                .union(&self.open)
                .any(|n| key_of(round, client, *n).as_bytes() == key);
            assert!(known, "{} was never put", key.escape_ascii());
        }
    }
}

/// 50 % puts of the next key, 25 % reads of a key's value, 25 % scans of the own range.
fn client(
    own: Rc<RefCell<Own>>,
    round: u64,
    id: u64,
    mut chance: Chance,
    stop: Rc<RefCell<bool>>,
) -> impl FnMut(u64, Option<&Ended>) -> Next {
    enum Doing {
        Put(u64),
        Read(u64),
        Scan,
    }
    let (mut doing, mut number, mut is_thinking) = (Doing::Scan, 0, false);
    move |_, ended| {
        let mut own = own.borrow_mut();
        if let Some(ended) = ended {
            match doing {
                Doing::Put(number) if ended.is_done() => {
                    own.open.remove(&number);
                    own.put.insert(number);
                }
                Doing::Read(number) if ended.is_done() => {
                    let wanted = value_of(&key_of(round, id, number));
                    assert_eq!(
                        ended.bytes(),
                        Some(wanted.as_bytes()),
                        "key {number} of client {id}"
                    );
                    own.reads += 1;
                }
                Doing::Scan => {
                    if let Some(found) = keys_of(ended) {
                        own.judge(round, id, &found);
                        own.reads += 1;
                    }
                }
                Doing::Put(_) | Doing::Read(_) => {}
            }
            is_thinking = true;
        }
        if std::mem::take(&mut is_thinking) {
            return Next::Sleep(THINK_US);
        }
        if *stop.borrow() {
            return Next::End;
        }
        if chance.percent(50) {
            number += 1;
            own.open.insert(number);
            doing = Doing::Put(number);
            let key = key_of(round, id, number);
            let value = value_of(&key);
            Call::put(key, value).attempt_ms(ATTEMPT_MS).into()
        } else if chance.percent(50) && !own.put.is_empty() {
            let nth = chance.below(own.put.len() as u64) as usize;
            let number = own.put.iter().nth(nth).copied().expect("it is not empty");
            doing = Doing::Read(number);
            Call::get(key_of(round, id, number)).attempt_ms(ATTEMPT_MS).into()
        } else {
            doing = Doing::Scan;
            scan(round, id).attempt_ms(ATTEMPT_MS).into()
        }
    }
}

/// Every 0 to 200 ms a random store gets a replica of the shard, or loses it, unless it is the last.
fn operator(mut chance: Chance, stop: Rc<RefCell<bool>>) -> impl FnMut(u64, Option<&Ended>) -> Next {
    let mut is_resting = false;
    move |_, ended| {
        is_resting |= ended.is_some();
        if std::mem::take(&mut is_resting) {
            return Next::Sleep(chance.below(200 * MILLISECOND));
        }
        if *stop.borrow() {
            return Next::End;
        }
        let store = vec![StoreId(chance.range(1, 6))];
        let (add, remove) = if chance.percent(50) {
            (store, Vec::new())
        } else {
            (Vec::new(), store)
        };
        let wish = ForwardBody::Manage(Manage::Change { add, remove });
        Call::new(b"any", wish)
            .retry(Retry::Never)
            .attempt_ms(ATTEMPT_MS)
            .into()
    }
}

impl Generic {
    fn run(self, seed: u64) -> Result<(), Violation> {
        let mut chance = Chance::new(seed);
        let mut setup = setup(5, seed);
        if self.drop {
            setup = setup.loss_percent(10);
        }
        if self.gc {
            setup = setup.log_entries(GC_ENTRIES);
            setup.plan.store.durable_every_bytes = 2_000;
        }
        if self.split {
            setup.plan.store.split_bytes = SPLIT_BYTES;
        }
        let mut world = setup.start();
        world.await_leader(1)?;
        for round in 0..3 {
            let stop = Rc::new(RefCell::new(false));
            let owns: Vec<Rc<RefCell<Own>>> = (0..self.clients).map(|_| Rc::default()).collect();
            for (id, own) in owns.iter().enumerate() {
                let id = id as u64;
                let own_chance = Chance::new(seed ^ (round << 32) ^ (id << 16));
                world.spawn(
                    format!("client {round}.{id}"),
                    client(own.clone(), round, id, own_chance, stop.clone()),
                );
            }
            if self.conf {
                let own_chance = Chance::new(seed ^ (round << 40));
                world.spawn(format!("operator {round}"), operator(own_chance, stop.clone()));
            }
            if self.split {
                let own_chance = Chance::new(seed ^ (round << 48));
                world.spawn(format!("splitter {round}"), splitter(own_chance, stop.clone()));
            }
            if self.part {
                let every_us = (500 * MILLISECOND, 700 * MILLISECOND);
                partitions(&mut world, &mut chance, 300 * MILLISECOND, every_us)?;
                // An election takes 500 to 1,000 ms, more than a partition lasts: till here there may have been no leader.
                let before: Vec<u64> = owns.iter().map(|own| own.borrow().answers()).collect();
                world.wait_until(
                    "every client goes on once the network is whole",
                    HEALED_WITHIN_US,
                    |_| {
                        let mut both = owns.iter().zip(&before);
                        both.all(|(own, before)| own.borrow().answers() >= before + ANSWERS_MIN)
                    },
                )?;
                world.run_for(TIMEOUT_US)?;
            } else {
                world.run_for(5 * SECOND)?;
            }
            *stop.borrow_mut() = true;
            if self.crash {
                world.crash_all();
                world.run_for(TIMEOUT_US)?;
                world.start_all();
            }
            world.finish_programs(END_US)?;
            for (id, own) in owns.iter().enumerate() {
                let answers = own.borrow().answers();
                assert!(answers >= ANSWERS_MIN, "client {id} got only {answers} answers");
                self.check_and_delete(&mut world, round, id as u64, &own.borrow())?;
            }
            if self.gc {
                world.run_for(SECOND)?;
                check_gc(&world, GC_BOUND);
            }
        }
        if self.split {
            assert!(world.shards().len() > 2, "nothing was split");
        }
        close(world)
    }

    /// The range holds what was put; then it is deleted and is empty.
    fn check_and_delete(self, world: &mut World, round: u64, id: u64, own: &Own) -> Result<(), Violation> {
        let reader = world.client(format!("reader {round}.{id}"));
        let ended = world.ask(reader, scan(round, id).within_ms(60_000))?;
        let found = keys_of(&ended).unwrap_or_else(|| panic!("{ended:?}"));
        own.judge(round, id, &found);
        for key in &found {
            let wanted = value_of(&String::from_utf8_lossy(key));
            let ended = world.ask(reader, Call::get(key).within_ms(60_000))?;
            assert_eq!(ended.bytes(), Some(wanted.as_bytes()), "{}", key.escape_ascii());
            assert!(world.ask(reader, Call::delete(key).within_ms(60_000))?.is_done());
        }
        let ended = world.ask(reader, scan(round, id).within_ms(60_000))?;
        let left = keys_of(&ended).unwrap_or_else(|| panic!("{ended:?}"));
        let open: BTreeSet<Vec<u8>> = own
            .open
            .iter()
            .map(|n| key_of(round, id, *n).into_bytes())
            .collect();
        assert!(
            left.is_subset(&open),
            "{left:?} are there although all were deleted"
        );
        Ok(())
    }
}

/// No replica keeps more than `bound` applied entries.
fn check_gc(world: &World, bound: u64) {
    for node in 0..world.node_count() {
        let Some(status) = world.replica(node, 1) else {
            continue;
        };
        let kept = status.applied.0 - status.log_base.0;
        assert!(
            kept <= bound,
            "node {} keeps {kept} applied entries, more than {bound}",
            node + 1
        );
    }
}

macro_rules! generic_rows {
    ($($name:ident: T($clients:literal $(, $flag:ident)*);)*) => {
        $(#[test]
        #[allow(clippy::needless_update)]
        fn $name() {
            let generic = Generic { clients: $clients, $($flag: true,)* ..Generic::default() };
            row(stringify!($name), CLUSTER_SEEDS, |seed| generic.run(seed));
        })*
    };
}

generic_rows! {
    t_01_basic: T(1);
    t_02_concurrent: T(5);
    t_03_unreliable: T(5, drop);
    t_05_many_partitions_one_client: T(1, part);
    t_06_many_partitions_many_clients: T(5, part);
    t_07_persist_one_client: T(1, crash);
    t_08_persist_concurrent: T(5, crash);
    t_09_persist_concurrent_unreliable: T(5, crash, drop);
    t_10_persist_partition: T(5, crash, part);
    t_11_persist_partition_unreliable: T(5, crash, drop, part);
    t_13_snapshot_recover: T(1, crash, gc);
    t_14_snapshot_recover_many_clients: T(20, crash, gc);
    t_15_snapshot_unreliable: T(5, drop, gc);
    t_16_snapshot_unreliable_recover: T(5, drop, crash, gc);
    t_17_snapshot_unreliable_recover_concurrent_partition: T(5, drop, crash, part, gc);
    t_21_conf_change_recover: T(1, crash, conf);
    t_22_conf_change_recover_many_clients: T(20, crash, conf);
    t_23_conf_change_unreliable: T(5, drop, conf);
    t_24_conf_change_unreliable_recover: T(5, drop, crash, conf);
    t_25_conf_change_snapshot_unreliable_recover: T(5, drop, crash, conf, gc);
    t_26_conf_change_snapshot_unreliable_recover_concurrent_partition: T(5, drop, crash, part, conf, gc);
    t_28_split_recover: T(1, crash, split);
    t_29_split_recover_many_clients: T(20, crash, split);
    t_30_split_unreliable: T(5, drop, split);
    t_31_split_unreliable_recover: T(5, drop, crash, split);
    t_32_split_conf_change_snapshot_unreliable_recover: T(5, drop, crash, conf, gc, split);
    t_33_split_conf_change_snapshot_unreliable_recover_concurrent_partition:
        T(5, drop, crash, part, conf, gc, split);
}

/// Splits by hand, wherever that may be: one client's keys are all in one slot.
fn splitter(mut chance: Chance, stop: Rc<RefCell<bool>>) -> impl FnMut(u64, Option<&Ended>) -> Next {
    let mut rests = false;
    move |_, _| {
        if *stop.borrow() {
            return Next::End;
        }
        rests = !rests;
        if rests {
            return Next::Sleep(chance.range(100, 2_000) * MILLISECOND);
        }
        let slot = Some(chance.range(1, 16_384) as u16);
        let wish = ForwardBody::Manage(Manage::Split { slot, ids: None });
        let call = Call::new(b"", wish).to_shard(1).retry(Retry::Never);
        call.attempt_ms(ATTEMPT_MS).into()
    }
}

fn others(nodes: usize, not: &[usize]) -> Vec<usize> {
    (0..nodes).filter(|node| !not.contains(node)).collect()
}

/// Waits until a node's own engine holds what it should.
fn await_local(world: &mut World, node: usize, key: &str, value: Option<&str>) -> Result<(), Violation> {
    world.wait_until("a node's engine holds what it should", 10 * SECOND, |world| {
        world
            .local_value(node, 1, key.as_bytes())
            .is_ok_and(|found| found.as_deref() == value.map(str::as_bytes))
    })?;
    Ok(())
}

#[test]
fn t_04_one_partition() {
    row("t_04_one_partition", CLUSTER_SEEDS, |seed| {
        let mut world = setup(5, seed).start();
        let leader = world.await_leader(1)?;
        let client = world.client("a");
        let put = |world: &mut World, key: &str, value: &str| {
            let ended = world.ask(client, Call::put(key, value))?;
            assert!(ended.is_done(), "{ended:?}");
            Ok::<(), Violation>(())
        };
        // The leader in the majority: the others' engines do not get the write.
        let majority: Vec<usize> = (0..3).map(|step| (leader + step) % 5).collect();
        let minority = others(5, &majority);
        world.partition(&[&majority, &minority]);
        world.limit_client(client, &majority);
        put(&mut world, "k1", "v1")?;
        assert_eq!(world.ask(client, Call::get("k1"))?.bytes(), Some(&b"v1"[..]));
        world.run_for(SECOND)?;
        for node in &minority {
            assert_eq!(world.local_value(*node, 1, b"k1")?, None);
        }
        world.heal_network();
        let leader = world.await_leader(1)?;
        for node in 0..5 {
            await_local(&mut world, node, "k1", Some("v1"))?;
        }
        // The leader in the minority: another is elected, and the old side gets both keys once it is healed.
        let minority = [leader, (leader + 1) % 5];
        let majority = others(5, &minority);
        world.partition(&[&majority, &minority]);
        world.limit_client(client, &majority);
        put(&mut world, "k1", "changed")?;
        put(&mut world, "k2", "v2")?;
        let elected = world.await_leader(1)?;
        assert!(majority.contains(&elected));
        for node in minority {
            assert_eq!(world.local_value(node, 1, b"k1")?.as_deref(), Some(&b"v1"[..]));
            assert_eq!(world.local_value(node, 1, b"k2")?, None);
        }
        world.heal_network();
        for node in minority {
            await_local(&mut world, node, "k1", Some("changed"))?;
            await_local(&mut world, node, "k2", Some("v2"))?;
        }
        close(world)
    });
}

#[test]
fn t_12_one_snapshot() {
    row("t_12_one_snapshot", CLUSTER_SEEDS, |seed| {
        let mut setup = setup(3, seed).log_entries(10);
        setup.plan.store.durable_every_bytes = 200;
        let mut world = setup.start();
        let leader = world.await_leader(1)?;
        let away = (leader + 1) % 3;
        let client = world.client("a");
        assert!(world.ask(client, Call::put("k1", "v1"))?.is_done());
        for node in 0..3 {
            await_local(&mut world, node, "k1", Some("v1"))?;
        }
        world.isolate(away);
        world.limit_client(client, &others(3, &[away]));
        for n in 0..15 {
            assert!(
                world
                    .ask(client, Call::put(format!("k{}", 100 + n), format!("v{n}")))?
                    .is_done()
            );
        }
        assert!(world.ask(client, Call::delete("k1"))?.is_done());
        world.run_for(SECOND)?;
        let stood = world.replica(away, 1).expect("it is up").applied;
        assert_eq!(world.local_value(away, 1, b"k1")?.as_deref(), Some(&b"v1"[..]));
        world.wait_until("the log is cut past the node that is away", 5 * SECOND, |world| {
            (0..3)
                .filter(|node| *node != away)
                .any(|node| world.replica(node, 1).is_some_and(|s| s.log_base > stood))
        })?;
        world.rejoin(away);
        for n in 0..15 {
            await_local(&mut world, away, &format!("k{}", 100 + n), Some(&format!("v{n}")))?;
        }
        await_local(&mut world, away, "k1", None)?;
        assert!(world.counts().snapshots > 0);
        world.crash(away);
        world.start_node(away);
        world.wait_until("the node is back", SECOND, |world| {
            world.replica(away, 1).is_some()
        })?;
        await_local(&mut world, away, "k114", Some("v14"))?;
        await_local(&mut world, away, "k1", None)?;
        world.run_for(SECOND)?;
        check_gc(&world, 20);
        close(world)
    });
}

#[test]
fn t_18_transfer_leader() {
    row("t_18_transfer_leader", CLUSTER_SEEDS, |seed| {
        let mut world = setup(5, seed).start();
        world.await_leader(1)?;
        let client = world.client("a");
        for round in 0..2 {
            for node in 0..5 {
                world.transfer_leader(1, node)?;
                assert_eq!(world.followed_leader(1), Some(node));
                let value = format!("{round}.{node}");
                assert!(world.ask(client, Call::put("k", &value))?.is_done());
                assert_eq!(
                    world.ask(client, Call::get("k").via(node))?.bytes(),
                    Some(value.as_bytes())
                );
            }
        }
        close(world)
    });
}
