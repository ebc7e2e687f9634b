//! The controller's commands: their bytes, and that others are refused.

use quorate_proto::*;
use quorate_raft::{Index, ReplicaId, Term};
use quorate_storage::{ClusterId, Incarnation, ShardId, StoreId};

/// Each command and its bytes, drawn in `docs/formats-wire.md`. They are stored: a change of them is a change of format.
fn cases() -> Vec<(ControlCommand, &'static str)> {
    vec![
        (
            ControlCommand::Bootstrap(FirstState {
                cluster: ClusterId(0x0102),
                stores: vec![StoreId(1), StoreId(300)],
                shards: 128,
                replicas: 3,
                next_id: 301,
            }),
            "01 02010000000000000000000000000000 02 01ac02 8001 03 ad02",
        ),
        (ControlCommand::AllocateIds { count: 200 }, "02 c801"),
        (
            ControlCommand::Recover {
                lost: [4, 5].map(StoreId).into(),
                shards: vec![Recovery {
                    shard: ShardId(3),
                    replica: ReplicaId(9),
                    store: StoreId(2),
                    start_slot: 5,
                    end_slot: 200,
                    epoch: Epoch {
                        conf_ver: 2,
                        version: 3,
                    },
                    term: Term(7),
                    last_replica: ReplicaId(11),
                    left: Some(Left {
                        commit: Index(8),
                        last: (Index(10), Term(6)),
                    }),
                }],
            },
            "12 02 04 05 01 03 09 02 05 c801 02 03 07 0b 01 08 0a 06",
        ),
        (
            ControlCommand::NameSplit {
                shard: ShardId(200),
                epoch: Epoch {
                    conf_ver: 2,
                    version: 3,
                },
                count: 4,
            },
            "11 c801 02 03 04",
        ),
        (
            ControlCommand::Register(StoreRecord {
                store: StoreId(2),
                incarnation: Incarnation(0x0304),
                client: "c".into(),
                peer: "pe".into(),
                http: "".into(),
                labels: [("zone".into(), "a".into())].into(),
                roles: "store".parse().unwrap(),
            }),
            "03 02 04030000000000000000000000000000 0163 027065 00 01 047a6f6e65 0161 02",
        ),
        (
            ControlCommand::Admit(StoreRecord {
                store: StoreId(0),
                incarnation: Incarnation(0x0304),
                client: "c".into(),
                peer: "pe".into(),
                http: "".into(),
                labels: Labels::new(),
                roles: Roles::BOTH,
            }),
            "04 00 04030000000000000000000000000000 0163 027065 00 00 03",
        ),
        (
            ControlCommand::SetStore {
                store: StoreId(300),
                service: Service::Removed,
            },
            "05 ac02 03",
        ),
        (
            ControlCommand::ReserveTimestamps {
                term: Term(5),
                above: 300,
            },
            "08 05 ac02",
        ),
        (
            ControlCommand::Place(PlacementCommand::Join(
                [
                    (GroupId(1), [StoreId(3), StoreId(4)].into()),
                    (GroupId(300), [StoreId(9)].into()),
                ]
                .into(),
            )),
            "10 01 02 01 020304 ac02 0109",
        ),
        (
            ControlCommand::Place(PlacementCommand::Leave([GroupId(2), GroupId(5)].into())),
            "10 02 02 02 05",
        ),
        (
            ControlCommand::Place(PlacementCommand::Move {
                shard: ShardId(7),
                group: GroupId(2),
            }),
            "10 03 07 02",
        ),
        (ControlCommand::Place(PlacementCommand::Rebalance), "10 04"),
        (
            ControlCommand::Place(PlacementCommand::Split {
                parent: ShardId(7),
                child: ShardId(9),
                slot: 300,
            }),
            "10 05 07 09 ac02",
        ),
        (
            ControlCommand::Place(PlacementCommand::Regroup {
                group: GroupId(2),
                add: [StoreId(7), StoreId(8)].into(),
                remove: [StoreId(300)].into(),
            }),
            "10 06 02 020708 01ac02",
        ),
    ]
}

#[test]
fn commands_have_the_bytes_that_are_documented() {
    for (command, drawn) in cases() {
        let whole = Command {
            stamp_ms: 5,
            session: None,
            op: Op::Control(Box::new(command)),
        };
        let bytes = whole.encode_to_bytes();
        // Version, flags, time; then the operation.
        let hex: String = bytes[10..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, format!("20{}", drawn.replace(' ', "")), "{whole:?}");
        assert_eq!(Command::decode(&bytes), Ok(whole));
        for end in 0..bytes.len() {
            assert!(Command::decode(&bytes.slice(..end)).is_err(), "cut at {end}");
        }
    }
}

#[test]
fn unknown_commands_are_refused() {
    let mut bytes = Command {
        stamp_ms: 5,
        session: None,
        op: Op::Control(Box::new(ControlCommand::AllocateIds { count: 1 })),
    }
    .encode_to_bytes()
    .to_vec();
    bytes[11] = 99;
    let error = Command::decode(&bytes.into()).unwrap_err();
    assert_eq!(error.problem, DecodeProblem::UnknownTag(99));
}

#[test]
fn a_set_has_one_form() {
    let leave = ControlCommand::Place(PlacementCommand::Leave([GroupId(2), GroupId(5)].into()));
    let whole = Command {
        stamp_ms: 5,
        session: None,
        op: Op::Control(Box::new(leave)),
    };
    let mut bytes = whole.encode_to_bytes().to_vec();
    let last = bytes.len() - 1;
    for twice_or_descending in [2, 1] {
        bytes[last] = twice_or_descending;
        let error = Command::decode(&bytes.clone().into()).unwrap_err();
        assert_eq!(error.problem, DecodeProblem::Order);
    }
}

#[test]
fn what_is_stored_of_configs_comes_back() {
    let place = |start_slot, end_slot, group| Place {
        start_slot,
        end_slot,
        group,
    };
    let mut config = Config {
        num: 300,
        groups: [(GroupId(1), [StoreId(1), StoreId(2)].into())].into(),
        shards: [
            (ShardId(1), place(0, 8192, Some(GroupId(1)))),
            (ShardId(2), place(8192, 16384, None)),
        ]
        .into(),
    };
    let delta = Delta {
        groups: [(GroupId(1), None), (GroupId(2), Some([StoreId(3)].into()))].into(),
        shards: [(ShardId(2), place(8192, 16384, Some(GroupId(2))))].into(),
    };
    let mut bytes = Vec::new();
    encode_delta(&mut bytes, &delta);
    assert_eq!(decode_delta(&bytes.into()), Ok(delta.clone()));
    let mut bytes = Vec::new();
    encode_config(&mut bytes, &config);
    assert_eq!(decode_config(&bytes.into()), Ok(config.clone()));
    config.change(&delta);
    assert_eq!(config.num, 301);
    assert_eq!(config.groups, [(GroupId(2), [StoreId(3)].into())].into());
    assert_eq!(config.shards[&ShardId(2)].group, Some(GroupId(2)));
    let admission = Admission {
        cluster: ClusterId(7),
        store: StoreId(3),
        stores: Vec::new(),
    };
    let mut bytes = Vec::new();
    encode_admission(&mut bytes, &admission);
    assert_eq!(decode_admission(&bytes.into()), Ok(admission));
}

/// Each query and its bytes, behind the tag of [`Query::Control`].
#[test]
fn queries_have_the_bytes_that_are_documented() {
    for (query, drawn) in [
        (ControlQuery::Stores, "01"),
        (ControlQuery::Shards, "02"),
        (ControlQuery::Config { num: -1 }, "03 ffffffffffffffff"),
        (ControlQuery::Plan(PlacementCommand::Rebalance), "04 04"),
        (ControlQuery::Moves, "05"),
        (
            ControlQuery::FindShards(ShardLookup::Id(ShardId(200))),
            "06 01 c801",
        ),
        (
            ControlQuery::FindShards(ShardLookup::At { slot: 200 }),
            "06 02 c801",
        ),
        (
            ControlQuery::FindShards(ShardLookup::Before { slot: 5 }),
            "06 03 05",
        ),
        (
            ControlQuery::FindShards(ShardLookup::From { slot: 5, limit: 7 }),
            "06 04 05 07",
        ),
        (ControlQuery::FindStore(StoreId(3)), "07 03"),
        (
            ControlQuery::Losses {
                lost: [4, 5].map(StoreId).into(),
            },
            "08 02 04 05",
        ),
    ] {
        let request = PeerMessage::Request(Request {
            id: 1,
            shard: ShardId(0),
            epoch: Epoch {
                conf_ver: 1,
                version: 1,
            },
            timeout_ms: 5,
            in_order: false,
            session: None,
            body: ForwardBody::Read(Query::Control(query)),
        });
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let tail = format!("0220{}", drawn.replace(' ', ""));
        assert!(hex.ends_with(&tail), "{hex} does not end with {tail}");
        let bytes: bytes::Bytes = bytes.into();
        assert_eq!(PeerMessage::decode(bytes), Ok(request));
    }
}

#[test]
fn answers_about_moves_come_back() {
    let plan = vec![
        PlannedMove {
            shard: ShardId(300),
            from: None,
            to: Some(GroupId(2)),
            bytes: None,
        },
        PlannedMove {
            shard: ShardId(7),
            from: Some(GroupId(1)),
            to: None,
            bytes: Some(1 << 40),
        },
    ];
    assert_eq!(decode_plan(&encode_plan(&plan)), Ok(plan));
    let moves = vec![MoveRow {
        shard: ShardId(7),
        group: Some(GroupId(2)),
        from: vec![StoreId(1)],
        to: vec![StoreId(4), StoreId(5)],
        ready: vec![StoreId(4)],
        bytes: Some(9),
    }];
    let bytes = encode_moves(&moves);
    for end in 0..bytes.len() {
        assert!(decode_moves(&bytes.slice(..end)).is_err(), "cut at {end}");
    }
    assert_eq!(decode_moves(&bytes), Ok(moves));
}
