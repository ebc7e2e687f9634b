//! QUORATE RECOVER: shards that lost their majority for ever.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bytes::Bytes;
use quorate_proto::{
    ControlCommand, ControlQuery, ForwardBody, LossRow, Op, Recovery, decode_recovery, encode_recovery,
};
use quorate_storage::StoreId;

use super::failure::Failure;
use super::overview::{self, Field, Row, number};
use super::reply::Shape;
use super::{ClientContext, ClientSession, Handled, manage};
use crate::resp::Args;

const USAGE: Failure = Failure::Fixed(
    "ERR usage: QUORATE RECOVER PLAN <store>[,<store> ...] or RUN <store>[,<store> ...] [<token> ...]",
);

/// `QUORATE RECOVER PLAN stores`: per shard that has no majority without them, what would become of it.
/// `QUORATE RECOVER RUN stores token…`: they are removed, and the shards go on whose tokens the plan gave.
pub(super) fn recover(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if args.len() < 4 {
        return Err(USAGE);
    }
    let stores = args.get(3).split(|byte| *byte == b',').map(manage::store);
    let lost: BTreeSet<StoreId> = stores.collect::<Result<_, _>>()?;
    match (args.get(2).to_ascii_lowercase().as_slice(), args.len()) {
        (b"plan", 4) => overview::read(session, ControlQuery::Losses { lost }, ctx),
        (b"run", _) => {
            let shards = (4..args.len()).map(|at| recovery(args.get(at)));
            let shards = shards.collect::<Option<_>>().ok_or(Failure::Fixed(
                "ERR a token is not one that QUORATE RECOVER PLAN gave",
            ))?;
            let command = ControlCommand::Recover { lost, shards };
            let body = ForwardBody::Write(Op::Control(Box::new(command)));
            overview::ask(session, Shape::Plain, body, ctx);
        }
        _ => return Err(USAGE),
    }
    Ok(())
}

/// A recovery as a text that is given back unchanged.
fn token(recovery: &Recovery) -> Bytes {
    let mut bytes = Vec::new();
    encode_recovery(&mut bytes, recovery);
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Into a string it does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

fn recovery(token: &[u8]) -> Option<Recovery> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pairs = token.chunks(2).map(|pair| match pair {
        [high, low] => Some((digit(high)? << 4 | digit(low)?) as u8),
        _ => None,
    });
    let bytes: Vec<u8> = pairs.collect::<Option<_>>()?;
    decode_recovery(&bytes.into()).ok()
}

/// How a shard is listed that lost its majority.
pub(super) fn row(loss: &LossRow) -> Row {
    let recovery = loss.recovery.as_ref();
    let left = recovery.and_then(|of| of.left);
    let is_empty = recovery.is_some_and(|of| of.left.is_none());
    let survivors = loss.survivors.iter().map(|store| store.0);
    vec![
        ("shard", number(loss.shard.0)),
        ("first-slot", number(loss.start_slot)),
        ("last-slot", number(loss.end_slot.saturating_sub(1))),
        ("survivors", Field::Numbers(survivors.collect())),
        ("store", Field::Number(recovery.map(|of| of.store.0))),
        ("empty", number(u64::from(is_empty))),
        ("committed", Field::Number(left.map(|left| left.commit.0))),
        ("last-index", Field::Number(left.map(|left| left.last.0.0))),
        ("last-term", Field::Number(left.map(|left| left.last.1.0))),
        ("heard-index", Field::Number(loss.heard.map(|index| index.0))),
        ("silent-ms", Field::Number(loss.silent_ms)),
        ("sessions", number(loss.sessions)),
        ("conf-ver", Field::Number(loss.conf_ver)),
        ("known-conf-ver", Field::Number(loss.known_conf_ver)),
        ("token", Field::Text(recovery.map(token).unwrap_or_default())),
    ]
}

#[cfg(test)]
mod tests {
    use quorate_proto::{Epoch, Left};
    use quorate_raft::{Index, ReplicaId, Term};
    use quorate_storage::ShardId;

    use super::*;

    #[test]
    fn a_token_is_read_back_and_anything_else_is_none() {
        let known = Recovery {
            shard: ShardId(3),
            replica: ReplicaId(9),
            store: StoreId(2),
            start_slot: 5,
            end_slot: 16_384,
            epoch: Epoch {
                conf_ver: 1 << 20,
                version: 7,
            },
            term: Term(300),
            last_replica: ReplicaId(400),
            left: Some(Left {
                commit: Index(5),
                last: (Index(8), Term(3)),
            }),
        };
        let text = token(&known);
        assert_eq!(recovery(&text), Some(known));
        for wrong in [&text[1..], &text[2..], b"", b"zz", "é".as_bytes()] {
            assert_eq!(recovery(wrong), None, "{wrong:?}");
        }
    }
}
