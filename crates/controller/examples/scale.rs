//! What the controller's machine costs in a large cluster: 100 stores, and as many shards as there are slots.
//!
//! ```text
//! cargo run --release -p quorate-controller --example scale
//! ```
//!
//! One thread, no log and no network: what a leader of the controller does with commands and heartbeats.

use std::time::Instant;

use quorate_controller::Controller;
use quorate_proto::{
    Answer, ControlCommand, ControlQuery, Epoch, FirstState, GroupId, Heartbeat, Labels, MemberRole,
    PlacementCommand, ShardHeartbeat, ShardMember, StoreHeartbeat, StoreRecord,
};
use quorate_raft::{ReplicaId, Term};
use quorate_storage::{ClusterId, Incarnation, ShardId, StoreId};
use quorate_store::rsm::{Policy, Reign, RowChanges, StateMachine};
use quorate_store::{SLOTS, first_slots};

const STORES: u64 = 100;
const SHARDS: u16 = SLOTS;
const REIGN: Reign = Reign {
    term: Term(2),
    now_us: 1,
};

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kib.unwrap_or_default() / 1024.0
}

struct Bench {
    machine: Controller,
    row_bytes: usize,
}

impl Bench {
    fn apply(&mut self, what: &str, command: &ControlCommand) {
        let (began, mut rows) = (Instant::now(), RowChanges::new());
        let answer = self.machine.apply(0, command, &mut rows);
        let took = began.elapsed();
        assert!(!matches!(answer, Answer::Error(_)), "{what}: {answer:?}");
        let of = |(row, value): &(bytes::Bytes, Option<bytes::Bytes>)| {
            row.len() + value.as_ref().map_or(0, bytes::Bytes::len)
        };
        let bytes: usize = rows.iter().map(of).sum();
        self.row_bytes += bytes;
        if !what.is_empty() {
            println!(
                "{what:<44} {took:>12.1?} {bytes:>9} bytes written {:>7.1} MiB resident",
                resident_mib()
            );
        }
    }

    fn place(&mut self, what: &str, command: PlacementCommand) {
        let before = self.machine.history().newest().clone();
        self.apply(what, &ControlCommand::Place(command));
        let after = self.machine.history().newest();
        let moved = after.shards.iter().filter(|(shard, place)| {
            before
                .shards
                .get(shard)
                .is_some_and(|was| was.group != place.group)
        });
        println!("{:<44} {} shards get another group", "", moved.count());
    }
}

/// Rounds of the schedulers, in a reign of their own: what they cost, and what they give. All stores are heard, and then
/// again, after so many microseconds, those that `silent` leaves.
fn rounds(machine: &Controller, what: &str, later_us: u64, silent: u64) {
    const ROUNDS: u64 = 10;
    let mut machine = machine.clone();
    let policy = Policy::default();
    let at = |now_us: u64| Reign {
        term: Term(4),
        now_us,
    };
    for store in 1..=STORES {
        assert_eq!(machine.hear(at(1), &beat(store, 1, 5, leads(store))), Some(0));
    }
    let (mut given, mut took) = (0, std::time::Duration::ZERO);
    for round in 0..ROUNDS {
        let now = at(1 + later_us + round * policy.round_us);
        for store in (1..=STORES).filter(|store| *store != silent) {
            assert_eq!(
                machine.hear(now, &beat(store, 2 + round, 5, std::iter::empty())),
                Some(0)
            );
        }
        // Whoever is heard first has the round made; what it is ordered itself comes on top.
        let began = Instant::now();
        let (_, tally) = machine.orders(now, StoreId(STORES), &policy);
        took += began.elapsed();
        given += tally.given;
    }
    println!(
        "a round of schedulers, {what:<21} {:>12.1?} {:>9} operators in {ROUNDS} rounds",
        took / ROUNDS as u32,
        given
    );
}

fn group(id: u64, stores: std::ops::RangeInclusive<u64>) -> PlacementCommand {
    PlacementCommand::Join([(GroupId(id), stores.map(StoreId).collect())].into())
}

/// The shards that a store leads: every hundredth, and the first one the controller's own.
fn leads(store: u64) -> impl Iterator<Item = u64> {
    (0..=u64::from(SHARDS)).filter(move |shard| shard % STORES + 1 == store)
}

/// The word of a store about shards that it leads. Shards are heard in term `term`.
fn beat(store: u64, seq: u64, term: u64, shards: impl Iterator<Item = u64>) -> Heartbeat {
    let word = |shard: u64| {
        let slots = match shard {
            0 => 0..0,
            shard => first_slots(ShardId(shard), SHARDS),
        };
        let member = |nth: u64| ShardMember {
            replica: ReplicaId(nth + 1),
            store: StoreId((shard + 33 * nth) % STORES + 1),
            role: MemberRole::Voter,
            is_pending: false,
        };
        ShardHeartbeat {
            shard: ShardId(shard),
            start_slot: slots.start,
            end_slot: slots.end,
            epoch: Epoch {
                conf_ver: 1,
                version: 1,
            },
            term: Term(term),
            leader: ReplicaId(1),
            members: (0..3).map(member).collect(),
            bytes: Some(1 << 20),
            load: None,
        }
    };
    Heartbeat {
        seq,
        store: StoreHeartbeat {
            store: StoreId(store),
            incarnation: Incarnation(u128::from(store)),
            process: store,
            replicas: 500,
            leads: 164,
            available_bytes: Some(1 << 40),
            is_full: false,
            is_slow: false,
            tells_after_ms: 3_500,
        },
        shards: shards.map(word).collect(),
    }
}

fn main() {
    println!("{STORES} stores, {SHARDS} shards with three replicas each; one thread");
    let mut bench = Bench {
        machine: Controller::default(),
        row_bytes: 0,
    };
    let first = FirstState {
        cluster: ClusterId(1),
        stores: (1..=STORES).map(StoreId).collect(),
        shards: SHARDS,
        replicas: 3,
        next_id: 1 << 20,
    };
    bench.apply("Bootstrap", &ControlCommand::Bootstrap(first));
    for store in 1..=STORES {
        let address = |port: u64| bytes::Bytes::from(format!("10.0.0.{store}:{port}"));
        let record = StoreRecord {
            store: StoreId(store),
            incarnation: Incarnation(u128::from(store)),
            client: address(7000),
            peer: address(7001),
            http: address(7002),
            labels: Labels::new(),
            roles: Default::default(),
        };
        bench.apply("", &ControlCommand::Register(record));
    }

    let whole: Vec<Heartbeat> = (1..=STORES)
        .map(|store| beat(store, 1, 5, leads(store)))
        .collect();
    let began = Instant::now();
    for beat in &whole {
        assert_eq!(bench.machine.hear(REIGN, beat), Some(0));
    }
    let took = began.elapsed();
    println!(
        "{:<44} {took:>12.1?} {:>33.1} MiB resident",
        "all shards are heard of for the first time",
        resident_mib()
    );

    for (what, per_beat) in [
        ("idle", 0),
        ("ten shards with news", 10),
        ("all of its shards", usize::MAX),
    ] {
        let rounds = if per_beat == usize::MAX { 20 } else { 400 };
        let beats: Vec<Heartbeat> = (0..rounds)
            .flat_map(|round| {
                (1..=STORES).map(move |store| beat(store, 2 + round, 6 + round, leads(store).take(per_beat)))
            })
            .collect();
        // Each kind begins in a reign of its own, so that numbers and terms begin anew.
        let mut machine = bench.machine.clone();
        let reign = Reign {
            term: Term(3),
            ..REIGN
        };
        for beat in &whole {
            assert_eq!(machine.hear(reign, beat), Some(0));
        }
        let began = Instant::now();
        for beat in &beats {
            assert_eq!(machine.hear(reign, beat), Some(0));
        }
        let took = began.elapsed().as_secs_f64();
        let shards: usize = beats.iter().map(|beat| beat.shards.len()).sum();
        println!(
            "heartbeats, {what:<32} {:>11.0} a second {:>14.0} shards a second",
            beats.len() as f64 / took,
            shards as f64 / took
        );
    }

    for (what, query) in [
        ("the map is listed", ControlQuery::Shards),
        ("the stores are listed", ControlQuery::Stores),
    ] {
        let began = Instant::now();
        let Answer::Bulk(bytes) = bench.machine.query(REIGN, &query) else {
            panic!("a list")
        };
        println!("{what:<44} {:>12.1?} {:>9} bytes", began.elapsed(), bytes.len());
    }

    rounds(&bench.machine, "all is well", 0, 0);
    rounds(
        &bench.machine,
        "a store is lost",
        Policy::default().replace_after_us,
        1,
    );

    // The one group gives stores away first: a store is in one group.
    let begins = PlacementCommand::Leave([GroupId(1)].into());
    bench.place("Leave: the only group", begins);
    for id in 1..=10 {
        let what = format!("Join: group {id} of ten stores");
        bench.place(&what, group(id + 1, (id - 1) * 10 + 1..=id * 10));
    }
    rounds(&bench.machine, "ten groups came", 0, 0);
    bench.place("Rebalance", PlacementCommand::Rebalance);
    bench.place(
        "Leave: one of ten groups",
        PlacementCommand::Leave([GroupId(4)].into()),
    );
    bench.place("Join: it comes back", group(4, 21..=30));
    let group = GroupId(2);
    let config = bench.machine.history().newest();
    let others = config
        .shards
        .iter()
        .filter(|(_, place)| place.group != Some(group));
    let others: Vec<ShardId> = others.map(|(shard, _)| *shard).take(200).collect();
    for shard in others {
        bench.apply(
            "",
            &ControlCommand::Place(PlacementCommand::Move { shard, group }),
        );
    }
    bench.place(
        "Rebalance after 200 moves to one group",
        PlacementCommand::Rebalance,
    );
    println!(
        "{} configs, {} bytes of rows, {:.1} MiB resident",
        bench.machine.history().newest().num,
        bench.row_bytes,
        resident_mib()
    );
}
