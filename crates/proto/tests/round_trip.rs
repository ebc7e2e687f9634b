//! What is encoded decodes to the same value, for every variant.

mod common;

use common::{BODIES, Gen, NODE_MESSAGES, OPS, OUTCOMES, QUERIES};
use quorate_proto::*;
use quorate_storage::StoreId;

const ROUNDS: u64 = 500;

fn peer_round_trip(message: &PeerMessage) {
    let mut out = vec![];
    message.encode(&mut out);
    assert_eq!(PeerMessage::decode(out.into()).as_ref(), Ok(message));
}

#[test]
fn commands_of_every_kind() {
    let mut g = Gen(1);
    for kind in (0..OPS).cycle().take((OPS * ROUNDS) as usize) {
        let command = g.command(kind);
        assert_eq!(Command::decode(&command.encode_to_bytes()), Ok(command));
    }
}

#[test]
fn a_plain_set_encoded_by_itself_is_the_same_command() {
    let mut g = Gen(2);
    for _ in 0..ROUNDS {
        let (stamp_ms, session, key, value) = (g.u64(), g.option(Gen::session_write), g.bytes(), g.bytes());
        let bytes = encode_set_to_bytes(stamp_ms, session.as_ref(), &key, &value);
        let (expiry, condition) = (SetExpiry::Clear, SetCondition::Always);
        let command = Command {
            stamp_ms,
            session,
            op: Op::Set {
                key,
                value,
                expiry,
                condition,
                get: false,
            },
        };
        assert_eq!(bytes, command.encode_to_bytes());
    }
}

#[test]
fn the_example_in_the_documentation() {
    let drawn = "01 00 00 68 e5 cf 8b 01 00 00   01 00   01 6b   05 68 65 6c 6c 6f";
    let page = include_str!("../../../docs/formats-wire.md");
    assert!(page.contains(drawn));
    let hex: Vec<_> = drawn.split_whitespace().collect();
    let bytes = encode_set_to_bytes(1_700_000_000_000, None, b"k", b"hello");
    assert_eq!(bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>(), hex);
}

#[test]
fn peer_messages_of_every_kind() {
    let mut g = Gen(3);
    for _ in 0..ROUNDS {
        for kind in 0..BODIES {
            peer_round_trip(&g.envelope(kind));
        }
        for kind in 0..OPS {
            let op = g.op(kind);
            peer_round_trip(&g.request(ForwardBody::Write(op)));
        }
        for kind in 0..QUERIES {
            let query = g.query(kind);
            peer_round_trip(&g.request(ForwardBody::Read(query)));
        }
        for kind in 0..OUTCOMES {
            peer_round_trip(&g.response(kind));
        }
        peer_round_trip(&g.chunk());
        peer_round_trip(&g.ack());
        peer_round_trip(&g.snapshot_request());
        peer_round_trip(&g.snapshot_report());
        (0..3).for_each(|kind| peer_round_trip(&g.health(kind)));
        (0..2).for_each(|kind| peer_round_trip(&g.heartbeat(kind)));
        (0..2).for_each(|kind| peer_round_trip(&g.recovery_message(kind)));
        let (op, query) = (g.recover(), g.losses_query());
        peer_round_trip(&g.request(ForwardBody::Write(op)));
        peer_round_trip(&g.request(ForwardBody::Read(query)));
    }
}

/// Every way in which a request can fail, as it goes back to the node that forwarded it. The kinds of reasons come from
/// what encodes them, so that a new one is among them; a new kind of outcome does not compile here.
#[test]
fn ps_10_every_kind_of_failure_survives_the_wire() {
    let mut g = Gen(8);
    let info = g.shard_info();
    let mut outcomes = vec![
        Outcome::NotLeader { leader: None },
        Outcome::NotLeader {
            leader: Some(StoreId(u64::MAX)),
        },
        Outcome::StaleEpoch {
            epoch: info.epoch,
            shards: vec![info.clone(), info],
        },
        Outcome::Busy,
        Outcome::Superseded,
        Outcome::DiskFull,
    ];
    outcomes.extend(
        CommandError::ALL
            .iter()
            .map(|error| Outcome::Done(Answer::Error(*error))),
    );
    outcomes.extend(
        SessionRefusal::ALL
            .iter()
            .map(|refusal| Outcome::Session(*refusal)),
    );
    outcomes.extend(UnknownReason::ALL.iter().map(|reason| Outcome::Unknown(*reason)));
    let kind = |outcome: &Outcome| match outcome {
        Outcome::Done(_) => 0,
        Outcome::NotLeader { .. } => 1,
        Outcome::StaleEpoch { .. } => 2,
        Outcome::Busy => 3,
        Outcome::Superseded => 4,
        Outcome::DiskFull => 5,
        Outcome::Session(_) => 6,
        Outcome::Unknown(_) => 7,
    };
    let kinds: std::collections::BTreeSet<_> = outcomes.iter().map(kind).collect();
    assert_eq!(kinds.len(), 8, "each kind of outcome");
    let mut forms = std::collections::BTreeSet::new();
    for outcome in outcomes {
        let message = PeerMessage::Response(Response { id: 1, outcome });
        peer_round_trip(&message);
        let mut bytes = vec![];
        message.encode(&mut bytes);
        assert!(forms.insert(bytes), "{message:?} has the bytes of another");
    }
}

#[test]
fn node_messages_of_every_kind() {
    let mut g = Gen(7);
    for kind in (0..NODE_MESSAGES).cycle().take((NODE_MESSAGES * ROUNDS) as usize) {
        let message = g.node_message(kind);
        let mut out = vec![];
        message.encode(&mut out);
        assert_eq!(NodeMessage::decode(out.into()), Ok(message));
    }
}

#[test]
fn many_messages_in_a_row() {
    let mut g = Gen(4);
    let messages: Vec<_> = (0..200).map(|_| g.peer_message()).collect();
    let mut out = vec![];
    messages.iter().for_each(|m| m.encode(&mut out));
    let decoded: Result<Vec<_>, _> = PeerMessage::decode_all(out.into()).collect();
    assert_eq!(decoded, Ok(messages));
}

#[test]
fn messages_behind_an_error_are_not_invented() {
    let mut out = vec![];
    let message = Gen(5).ack();
    message.encode(&mut out);
    out.push(0xff);
    message.encode(&mut out);
    let mut messages = PeerMessage::decode_all(out.into());
    assert_eq!(messages.next(), Some(Ok(message)));
    assert_eq!(
        messages.next().map(|m| m.map_err(|e| e.problem)),
        Some(Err(DecodeProblem::UnknownTag(0xff)))
    );
    assert_eq!(messages.next(), None);
}

#[test]
fn stored_forms() {
    let mut g = Gen(6);
    for _ in 0..ROUNDS {
        macro_rules! check {
            ($encode:ident, $decode:ident, $value:expr) => {
                let (mut out, value) = (vec![], $value);
                $encode(&mut out, &value);
                assert_eq!($decode(&out.into()), Ok(value));
            };
        }
        check!(encode_conf_state, decode_conf_state, g.conf_state());
        check!(encode_conf_change, decode_conf_change, g.conf_change());
        check!(encode_snapshot_meta, decode_snapshot_meta, g.snapshot_meta());
        check!(encode_entry, decode_entry, g.entry());
        check!(encode_payload, decode_payload, g.payload());
        check!(encode_epoch, decode_epoch, g.epoch());
        check!(encode_recovery, decode_recovery, g.recovery());
        let losses = g.list(Gen::loss);
        assert_eq!(decode_losses(&encode_losses(&losses)), Ok(losses));
    }
}

#[test]
fn pairs_in_a_row() {
    let mut g = Gen(7);
    let pairs: Vec<_> = (0..100).map(|_| (g.bytes(), g.bytes())).collect();
    let mut out = vec![];
    pairs
        .iter()
        .for_each(|(key, value)| encode_pair(&mut out, key, value));
    let decoded: Result<Vec<_>, _> = decode_pairs(out.clone().into()).collect();
    assert_eq!(decoded, Ok(pairs));
    out.pop();
    let last = decode_pairs(out.into()).last();
    assert!(
        matches!(
            last,
            Some(Err(DecodeError {
                problem: DecodeProblem::Truncated { .. },
                ..
            }))
        ),
        "{last:?}"
    );
}

#[test]
fn decoding_borrows_from_the_input() {
    let bytes = encode_set_to_bytes(1, None, b"key", b"value");
    let Ok(Command {
        op: Op::Set { key, value, .. },
        ..
    }) = Command::decode(&bytes)
    else {
        panic!("not a set")
    };
    for slice in [&key, &value] {
        assert!(bytes.as_ptr_range().contains(&slice.as_ptr()), "copied");
    }
}

#[test]
fn rows_of_the_session_table() {
    let mut g = Gen(11);
    for _ in 0..ROUNDS {
        let lowest = g.u64() / 2;
        let answer = |g: &mut Gen| {
            let kind = g.below(6);
            let Outcome::Done(answer) = g.outcome(kind) else {
                unreachable!("the first six kinds are answers");
            };
            AnswerRow {
                fingerprint: g.next(),
                slot: g.option(|g| g.below(16384) as u16),
                answer,
            }
        };
        let mut held = g.list(|g| HeldAnswer {
            seq: lowest + g.below(1000),
            position: g.u64() as u32,
            kept: if g.bool() {
                Kept::Here(answer(g))
            } else {
                Kept::Apart {
                    bytes: 1 + g.below(1 << 20) as u32,
                }
            },
        });
        held.sort_by_key(|held| (held.seq, held.position));
        let row = SessionRow { lowest, held };
        assert_eq!(SessionRow::decode(&row.encode().into()), Ok(row));
        let row = answer(&mut g);
        assert_eq!(AnswerRow::decode(&row.encode().into()), Ok(row));
        let totals = SessionTotals {
            expired_through_ms: g.u64(),
            sessions: g.u64(),
            answers: g.u64(),
            bytes: g.u64(),
        };
        assert_eq!(SessionTotals::decode(&totals.encode().into()), Ok(totals));
    }
}
