//! The bytes of one value of every kind, kept in `tests/golden/*.hex`, so that no format drifts unnoticed.
//!
//! After a change that is meant (with a new version number where one is due), run with
//! `QUORATE_GOLDEN=write` and read the difference as carefully as code.

mod common;

use std::fmt::Write as _;
use std::path::PathBuf;

use bytes::Bytes;
use common::{BODIES, Gen, NODE_MESSAGES, OPS, OUTCOMES, QUERIES};
use quorate_proto::*;

/// A named value's bytes, and what decoding them must give back, as text.
struct Case {
    name: String,
    bytes: Vec<u8>,
    shown: String,
}

fn check(file: &str, cases: &[Case], decode: impl Fn(Bytes) -> Result<String, DecodeError>) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(file);
    let mut text = String::new();
    for case in cases {
        let hex: String = case.bytes.iter().map(|b| format!("{b:02x}")).collect();
        writeln!(text, "# {}\n{}: {hex}", case.shown, case.name).expect("a string takes everything");
        assert_eq!(
            decode(case.bytes.clone().into()).as_ref(),
            Ok(&case.shown),
            "{}",
            case.name
        );
    }
    if std::env::var_os("QUORATE_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::write(&path, text).expect("golden file can be written");
        return;
    }
    let golden = std::fs::read_to_string(&path).expect("golden file is there");
    // Line by line, because the first line that differs says what drifted.
    for (ours, theirs) in text.lines().zip(golden.lines()) {
        assert_eq!(ours, theirs, "{file} drifted");
    }
    assert_eq!(
        text.lines().count(),
        golden.lines().count(),
        "{file} has another number of cases"
    );
}

fn peer_cases(cases: impl Iterator<Item = (String, PeerMessage)>) -> Vec<Case> {
    cases
        .map(|(name, message)| {
            let mut bytes = vec![];
            message.encode(&mut bytes);
            Case {
                name,
                bytes,
                shown: format!("{message:?}"),
            }
        })
        .collect()
}

fn decode_peer(bytes: Bytes) -> Result<String, DecodeError> {
    PeerMessage::decode(bytes).map(|m| format!("{m:?}"))
}

#[test]
fn commands() {
    let mut g = Gen(21);
    let cases: Vec<_> = (0..OPS * 2)
        .map(|kind| {
            let command = g.command(kind);
            let bytes = command.encode_to_bytes().to_vec();
            Case {
                name: format!("command {kind}"),
                bytes,
                shown: format!("{command:?}"),
            }
        })
        .collect();
    check("command.hex", &cases, |bytes| {
        Command::decode(&bytes).map(|c| format!("{c:?}"))
    });
}

#[test]
fn raft_messages() {
    let mut g = Gen(22);
    let cases = peer_cases((0..BODIES * 2).map(|kind| (format!("raft {kind}"), g.envelope(kind))));
    check("raft.hex", &cases, decode_peer);
}

#[test]
fn requests() {
    let mut g = Gen(23);
    let cases = peer_cases((0..OPS + QUERIES).map(|kind| {
        let body = match kind.checked_sub(OPS) {
            None => ForwardBody::Write(g.op(kind)),
            Some(kind) => ForwardBody::Read(g.query(kind)),
        };
        (format!("request {kind}"), g.request(body))
    }));
    check("request.hex", &cases, decode_peer);
}

#[test]
fn responses() {
    let mut g = Gen(24);
    let cases = peer_cases((0..OUTCOMES * 2).map(|kind| (format!("response {kind}"), g.response(kind))));
    check("response.hex", &cases, decode_peer);
}

#[test]
fn snapshots() {
    let mut g = Gen(25);
    let cases = peer_cases((0..10u64).map(|kind| match kind {
        0 | 1 => (format!("chunk {kind}"), g.chunk()),
        2 | 3 => (format!("ack {kind}"), g.ack()),
        4 | 5 => (format!("request {kind}"), g.snapshot_request()),
        _ => (format!("report {kind}"), g.snapshot_report()),
    }));
    check("snapshot.hex", &cases, decode_peer);
}

#[test]
fn health() {
    let mut g = Gen(28);
    let cases = peer_cases((0..6u64).map(|kind| (format!("health {kind}"), g.health(kind))));
    check("health.hex", &cases, decode_peer);
}

#[test]
fn heartbeats() {
    let mut g = Gen(30);
    let cases = peer_cases((0..8u64).map(|kind| (format!("heartbeat {kind}"), g.heartbeat(kind))));
    check("heartbeat.hex", &cases, decode_peer);
}

#[test]
fn placement() {
    let mut g = Gen(29);
    let cases = peer_cases((0..12u64).map(|kind| (format!("placement {kind}"), g.placement(kind))));
    check("placement.hex", &cases, decode_peer);
}

#[test]
fn node_messages() {
    let mut g = Gen(27);
    let cases: Vec<_> = (0..NODE_MESSAGES * 2)
        .map(|kind| {
            let (mut bytes, message) = (vec![], g.node_message(kind));
            message.encode(&mut bytes);
            Case {
                name: format!("node {kind}"),
                bytes,
                shown: format!("{message:?}"),
            }
        })
        .collect();
    check("node.hex", &cases, |bytes| {
        NodeMessage::decode(bytes).map(|m| format!("{m:?}"))
    });
}

#[test]
fn stored_forms() {
    let mut g = Gen(26);
    macro_rules! form {
        ($file:literal, $encode:ident, $decode:ident, $value:ident) => {
            let cases: Vec<_> = (0..3)
                .map(|number| {
                    let (mut bytes, value) = (vec![], g.$value());
                    $encode(&mut bytes, &value);
                    Case {
                        name: format!("{} {number}", stringify!($value)),
                        bytes,
                        shown: format!("{value:?}"),
                    }
                })
                .collect();
            check($file, &cases, |bytes| {
                $decode(&bytes).map(|v| format!("{v:?}"))
            });
        };
    }
    form!("conf_state.hex", encode_conf_state, decode_conf_state, conf_state);
    form!(
        "conf_change.hex",
        encode_conf_change,
        decode_conf_change,
        conf_change
    );
    form!(
        "snapshot_meta.hex",
        encode_snapshot_meta,
        decode_snapshot_meta,
        snapshot_meta
    );
    form!("entry.hex", encode_entry, decode_entry, entry);
    form!("payload.hex", encode_payload, decode_payload, payload);
    form!("epoch.hex", encode_epoch, decode_epoch, epoch);
    form!("membership.hex", encode_membership, decode_membership, membership);
    form!("shard_info.hex", encode_shard_info, decode_shard_info, shard_info);
}

#[test]
fn pairs() {
    let mut g = Gen(27);
    let pairs: Vec<_> = (0..3).map(|_| (g.bytes(), g.bytes())).collect();
    let mut bytes = vec![];
    pairs
        .iter()
        .for_each(|(key, value)| encode_pair(&mut bytes, key, value));
    let cases = [Case {
        name: "pairs".into(),
        bytes,
        shown: format!("{pairs:?}"),
    }];
    check("pairs.hex", &cases, |bytes| {
        decode_pairs(bytes)
            .collect::<Result<Vec<_>, _>>()
            .map(|p| format!("{p:?}"))
    });
}
