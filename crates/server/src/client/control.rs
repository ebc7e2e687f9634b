//! QUORATE JOIN and STORE: what the controller is told, through any node.

use bytes::Bytes;
use quorate_proto::{ControlCommand, ForwardBody, LABELS_MAX, Labels, Op, Service, StoreRecord};
use quorate_storage::{Incarnation, StoreId};

use super::failure::Failure;
use super::reply::Shape;
use super::{ClientContext, ClientSession, Handled, manage, overview};
use crate::resp::Args;

fn tell(session: &mut ClientSession, command: ControlCommand, ctx: &mut ClientContext<'_>) {
    let body = ForwardBody::Write(Op::Control(Box::new(command)));
    overview::ask(session, Shape::Plain, body, ctx);
}

/// `QUORATE STORE DRAIN|UNDRAIN|REMOVE store`: OK once it is taken down; QUORATE REGISTRY shows what becomes of it.
pub(super) fn store(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if args.len() != 4 {
        return Err(Failure::Arity("quorate|store"));
    }
    let service = match args.get(2).to_ascii_lowercase().as_slice() {
        b"drain" => Service::Draining,
        b"undrain" => Service::Active,
        b"remove" => Service::Removed,
        _ => {
            return Err(Failure::Fixed(
                "ERR usage: QUORATE STORE DRAIN|UNDRAIN|REMOVE <store>",
            ));
        }
    };
    let store = manage::store(args.get(3))?;
    tell(session, ControlCommand::SetStore { store, service }, ctx);
    Ok(())
}

/// `QUORATE JOIN incarnation client peer http [name=value ...]`: a new store asks for an id. The answer is an
/// [`Admission`](quorate_proto::Admission) as a bulk string.
pub(super) fn join(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if !(6..=6 + LABELS_MAX).contains(&args.len()) {
        return Err(Failure::Arity("quorate|join"));
    }
    let mut labels = Labels::new();
    for at in 6..args.len() {
        let label = args.get(at);
        let equals = label.iter().position(|byte| *byte == b'=');
        let equals = equals.ok_or(Failure::Fixed("ERR a label is not name=value"))?;
        let (name, value) = label.split_at(equals);
        labels.insert(Bytes::copy_from_slice(name), Bytes::copy_from_slice(&value[1..]));
    }
    let incarnation = std::str::from_utf8(args.get(2))
        .ok()
        .and_then(|text| u128::from_str_radix(text, 16).ok())
        .ok_or(Failure::Fixed(
            "ERR the incarnation is not a number in hexadecimal",
        ))?;
    let address = |at: usize| Bytes::copy_from_slice(args.get(at));
    let record = StoreRecord {
        store: StoreId(0),
        incarnation: Incarnation(incarnation),
        client: address(3),
        peer: address(4),
        http: address(5),
        labels,
    };
    tell(session, ControlCommand::Admit(record), ctx);
    Ok(())
}
