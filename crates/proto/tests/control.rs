//! The controller's commands: their bytes, and that others are refused.

use quorate_proto::*;
use quorate_storage::{ClusterId, Incarnation, StoreId};

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
            ControlCommand::Register(StoreRecord {
                store: StoreId(2),
                incarnation: Incarnation(0x0304),
                client: "c".into(),
                peer: "pe".into(),
                http: "".into(),
            }),
            "03 02 04030000000000000000000000000000 0163 027065 00",
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
