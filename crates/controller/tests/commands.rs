//! What each command does, what it refuses, and that rows say the same as the state.

mod support;

use bytes::Bytes;
use quorate_controller::{Controller, DOWN_AFTER_US};
use quorate_proto::{
    ADDRESS_BYTES_MAX, Answer, CommandError, ControlCommand, ControlQuery, Epoch, FirstState, IDS_MAX,
    StoreRecord, StoreState, decode_store_rows, decode_stores,
};
use quorate_raft::Term;
use quorate_storage::{Incarnation, ShardId, StoreId};
use quorate_store::rsm::{Reign, StateMachine};
use support::Hosted;
use support::heard::{beat, shard};

fn first() -> FirstState {
    support::first(4)
}

fn begun() -> Hosted {
    Hosted::begun(4)
}

fn ids(count: u32) -> ControlCommand {
    ControlCommand::AllocateIds { count }
}

#[test]
fn ps_08_a_cluster_begins_once() {
    let mut hosted = Hosted::default();
    let none = Answer::Error(CommandError::NotBootstrapped);
    assert_eq!(hosted.apply(&ids(1)), none);
    assert_eq!(hosted.apply(&ControlCommand::Bootstrap(first())), Answer::Ok);
    let refused = Answer::Error(CommandError::AlreadyBootstrapped);
    for again in [
        first(),
        FirstState {
            next_id: 99,
            ..first()
        },
    ] {
        assert_eq!(hosted.apply(&ControlCommand::Bootstrap(again)), refused);
    }
    assert_eq!(hosted.machine.first(), Some(&first()));
}

#[test]
fn a_first_state_that_cannot_be_is_refused() {
    let wrong = [
        FirstState {
            stores: vec![],
            ..first()
        },
        FirstState {
            stores: [2, 1].map(StoreId).to_vec(),
            ..first()
        },
        FirstState {
            stores: vec![StoreId(16)],
            ..first()
        },
        FirstState {
            replicas: 0,
            ..first()
        },
        FirstState {
            replicas: 10,
            ..first()
        },
        FirstState { shards: 0, ..first() },
    ];
    for first in wrong {
        let mut hosted = Hosted::default();
        let answer = hosted.apply(&ControlCommand::Bootstrap(first.clone()));
        assert_eq!(answer, Answer::Error(CommandError::OutOfRange), "{first:?}");
    }
}

#[test]
fn ids_follow_one_another_and_are_never_given_twice() {
    let mut hosted = begun();
    for (count, first) in [(1, 16), (3, 17), (IDS_MAX, 20), (1, 20 + i64::from(IDS_MAX))] {
        assert_eq!(hosted.apply(&ids(count)), Answer::Int(first));
        // Another replica goes on from the rows.
        hosted.machine = hosted.loaded().unwrap();
    }
    for count in [0, IDS_MAX + 1, u32::MAX] {
        assert_eq!(
            hosted.apply(&ids(count)),
            Answer::Error(CommandError::OutOfRange),
            "{count}"
        );
    }
}

#[test]
fn ids_end_before_answers_turn_negative() {
    let mut hosted = Hosted::default();
    let last = FirstState {
        next_id: i64::MAX as u64 - 1,
        ..first()
    };
    assert_eq!(hosted.apply(&ControlCommand::Bootstrap(last)), Answer::Ok);
    let refused = Answer::Error(CommandError::OutOfRange);
    assert_eq!(hosted.apply(&ids(2)), refused);
    assert_eq!(hosted.apply(&ids(1)), Answer::Int(i64::MAX - 1));
    assert_eq!(hosted.apply(&ids(1)), refused);
}

#[test]
fn rows_that_are_damaged_are_not_loaded() {
    let sound = begun();
    let mut machine = Controller::default();
    assert!(machine.load(&[]).is_ok());
    assert_eq!(machine, Controller::default());
    for (row, value) in &sound.rows {
        let without: Vec<_> = sound
            .rows
            .iter()
            .filter(|(other, _)| *other != row)
            .map(|(row, value)| (row.clone(), value.clone()))
            .collect();
        assert!(machine.load(&without).is_err(), "without {row:?}");
        for wrong in [value.slice(1..), Bytes::new(), {
            let mut newer = value.to_vec();
            newer[0] = 200;
            newer.into()
        }] {
            let mut rows = sound.rows.clone();
            rows.insert(row.clone(), wrong.clone());
            let rows: Vec<_> = rows.into_iter().collect();
            assert!(machine.load(&rows).is_err(), "{row:?}: {wrong:?}");
        }
    }
    let stranger = (Bytes::from_static(b"?"), Bytes::new());
    let said = machine.load(&[stranger]).unwrap_err();
    assert!(said.contains("unknown row \"?\""), "{said}");
}

/// What is stored must be read by every later version.
#[test]
fn the_rows_never_change() {
    let hosted = begun();
    let hex = |bytes: &Bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let rows: Vec<_> = hosted
        .rows
        .iter()
        .map(|(row, value)| format!("{} {}", row.escape_ascii(), hex(value)))
        .collect();
    assert_eq!(
        rows,
        [
            "b 0109000000000000000000000000000000030102050403 10"
                .replace(' ', "")
                .replacen('b', "b ", 1),
            "i 011000000000000000".to_owned(),
        ]
    );
}

fn record(store: u64, incarnation: u128, client: &'static str) -> StoreRecord {
    StoreRecord {
        store: StoreId(store),
        incarnation: Incarnation(incarnation),
        client: client.into(),
        peer: "host:7101".into(),
        http: "host:7201".into(),
        labels: [("zone".into(), "a".into())].into(),
        roles: Default::default(),
    }
}

const REIGN: Reign = Reign {
    term: Term(3),
    now_us: 7_000_000,
};

fn stores(machine: &Controller) -> Vec<StoreRecord> {
    match machine.query(REIGN, &ControlQuery::Stores) {
        Answer::Bulk(bytes) => decode_store_rows(&bytes)
            .unwrap()
            .into_iter()
            .map(|row| row.record)
            .collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_store_registers_at_each_start_and_its_addresses_may_change() {
    let mut hosted = begun();
    assert_eq!(stores(&hosted.machine), []);
    for record in [record(2, 7, "a:1"), record(1, 8, "b:1"), record(2, 7, "c:1")] {
        let answer = hosted.apply(&ControlCommand::Register(record));
        // It is told where the others are.
        let Answer::Bulk(told) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(decode_stores(&told).unwrap(), stores(&hosted.machine));
    }
    let known = [record(1, 8, "b:1"), record(2, 7, "c:1")];
    assert_eq!(stores(&hosted.machine), known);
    assert_eq!(stores(&hosted.loaded().unwrap()), known);
}

#[test]
fn x_04_an_id_belongs_to_the_incarnation_that_it_was_first_seen_with() {
    let mut hosted = begun();
    let first = ControlCommand::Register(record(2, 7, "a:1"));
    assert!(matches!(hosted.apply(&first), Answer::Bulk(_)));
    let long: Bytes = vec![b'x'; ADDRESS_BYTES_MAX + 1].into();
    for (wrong, why) in [
        (record(2, 70, "a:1"), CommandError::OtherIncarnation),
        (record(3, 9, "a:1"), CommandError::UnknownStore),
        (
            StoreRecord {
                http: long,
                ..record(2, 7, "a:1")
            },
            CommandError::OutOfRange,
        ),
        (
            StoreRecord {
                labels: [("zone".into(), "".into())].into(),
                ..record(2, 7, "a:1")
            },
            CommandError::WrongLabels,
        ),
    ] {
        let answer = hosted.apply(&ControlCommand::Register(wrong));
        assert_eq!(answer, Answer::Error(why));
    }
    assert_eq!(stores(&hosted.machine), [record(2, 7, "a:1")]);
    let nobody = Hosted::default().apply(&first);
    assert_eq!(nobody, Answer::Error(CommandError::NotBootstrapped));
}

/// What the leader hears is judged by its own clock and forgotten with its term; whoever has not registered, or comes under
/// the id of another, is not heard (P7).
#[test]
fn a_store_is_heard_by_its_incarnation_and_by_each_leader_anew() {
    let mut hosted = begun();
    for store in [1, 2] {
        let register = ControlCommand::Register(record(store, u128::from(store), "a:1"));
        assert!(matches!(hosted.apply(&register), Answer::Bulk(_)));
    }
    let beat = |store: u64, incarnation: u128| beat((store, incarnation), 1, 1, &[]);
    let machine = &mut hosted.machine;
    let states = |machine: &Controller, reign: Reign| match machine.query(reign, &ControlQuery::Stores) {
        Answer::Bulk(bytes) => {
            let rows = decode_store_rows(&bytes).unwrap();
            rows.iter().map(|row| row.state).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(machine.hear(REIGN, &beat(1, 1)), Some(0));
    assert_eq!(machine.hear(REIGN, &beat(1, 1)), None, "the same again");
    assert_eq!(machine.hear(REIGN, &beat(2, 77)), None, "another incarnation");
    assert_eq!(machine.hear(REIGN, &beat(3, 3)), None, "not registered");
    assert_eq!(states(machine, REIGN), [StoreState::Up, StoreState::Unheard]);
    let later = Reign {
        now_us: REIGN.now_us + DOWN_AFTER_US,
        ..REIGN
    };
    assert_eq!(states(machine, later), [StoreState::Down; 2]);
    let next = Reign {
        term: Term(4),
        ..later
    };
    assert_eq!(states(machine, next), [StoreState::Unheard; 2]);
    assert_eq!(machine.hear(next, &beat(2, 2)), Some(0));
    assert_eq!(states(machine, next), [StoreState::Unheard, StoreState::Up]);
}

/// B-09: a split gets ids only if whoever asks knows the shard in its newest version, as far as the controller's leader has
/// heard; both parts of the epoch count. Whether it was heard is the leader's to say: every replica applies alike.
#[test]
fn b_09_ids_for_a_split_are_for_a_current_epoch_only() {
    let mut hosted = begun();
    hosted.apply(&ControlCommand::Register(record(1, 7, "a:1")));
    let ask = |version, conf_ver| ControlCommand::NameSplit {
        shard: ShardId(1),
        epoch: Epoch { conf_ver, version },
        count: 4,
    };
    let consider = |hosted: &Hosted, reign, version, conf_ver| {
        hosted.machine.consider(Some(reign), &ask(version, conf_ver))
    };
    assert_eq!(consider(&hosted, REIGN, 1, 1), Ok(()), "it has heard nothing");
    let mut told = shard(1, (0, 4096), &[1], 3);
    told.epoch.conf_ver = 5;
    let beat = beat((1, 7), 1, 1, &[told]);
    assert_eq!(hosted.machine.hear(REIGN, &beat), Some(0));
    let stale = Err(CommandError::ShardChanged);
    for (version, conf_ver, judged) in [
        (3, 5, Ok(())),
        (2, 5, stale),
        (3, 4, stale),
        (2, 9, stale),
        // The asking leader knows more than it has told so far.
        (3, 6, Ok(())),
        (4, 5, Ok(())),
    ] {
        assert_eq!(
            consider(&hosted, REIGN, version, conf_ver),
            judged,
            "{version}.{conf_ver}"
        );
    }
    let next = Reign {
        term: Term(4),
        ..REIGN
    };
    assert_eq!(
        consider(&hosted, next, 1, 1),
        Ok(()),
        "the next leader has not heard"
    );
    // Ids are given once, whoever asks.
    let mut hosted = begun();
    assert_eq!(hosted.apply(&ask(3, 5)), Answer::Int(16));
    assert_eq!(hosted.apply(&ids(1)), Answer::Int(20));
    assert_eq!(
        hosted.apply(&ask(1, 1)),
        Answer::Int(21),
        "applied as it is written"
    );
}
