//! Commands on several keys: one request per key. Each key is linearizable; the keys are not atomic together,
//! except for MSETNX, whose keys have one slot.

use quorate_proto::{Answer, ForwardBody, Op, Query, SetCondition, SetExpiry};
use quorate_store::kv::slot_of;
use quorate_store::{RouteMode, Target};

use super::failure::Failure;
use super::gather::{Gather, Part};
use super::reply::Shape;
use super::{ClientContext, ClientSession, Handled};
use crate::resp::Args;

/// The slot of the first key; in cluster mode, as in Redis Cluster, of all keys.
pub(super) fn slot(session: &ClientSession, args: &Args, step: usize) -> Result<u16, Failure> {
    match session.mode {
        RouteMode::Proxy => Ok(slot_of(args.get(1))),
        RouteMode::Redirect => one_slot(args, step),
    }
}

fn one_slot(args: &Args, step: usize) -> Result<u16, Failure> {
    let slot = slot_of(args.get(1));
    let same = (1..args.len())
        .step_by(step)
        .all(|at| slot_of(args.get(at)) == slot);
    same.then_some(slot).ok_or(Failure::CrossSlot)
}

fn read_part(args: &Args, at: usize, query: Query) -> Part {
    Part {
        target: Target::Slot(slot_of(args.get(at))),
        body: ForwardBody::Read(query),
    }
}

fn write_part(args: &Args, at: usize, op: Op) -> Part {
    Part {
        target: Target::Slot(slot_of(args.get(at))),
        body: ForwardBody::Write(op),
    }
}

/// `MGET key [key ...]`
pub(super) fn mget(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let slot = slot(session, args, 1)?;
    let keys = args.len() - 1;
    let gather = Gather::Array(vec![Answer::Nil; keys]);
    session.send_group(
        ctx,
        args,
        (slot, false, gather),
        (keys, |args, part| {
            read_part(
                args,
                part + 1,
                Query::Get {
                    key: args.bytes(part + 1),
                },
            )
        }),
    );
    Ok(())
}

/// `MSET key value [key value ...]`
pub(super) fn mset(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if args.len().is_multiple_of(2) {
        return Err(Failure::Arity("mset"));
    }
    let slot = slot(session, args, 2)?;
    session.send_group(
        ctx,
        args,
        (slot, true, Gather::AllOk),
        (args.len() / 2, |args, part| {
            let at = 2 * part + 1;
            let op = Op::Set {
                key: args.bytes(at),
                value: args.bytes(at + 1),
                expiry: SetExpiry::Clear,
                condition: SetCondition::Always,
                get: false,
            };
            write_part(args, at, op)
        }),
    );
    Ok(())
}

/// `MSETNX key value [key value ...]`
pub(super) fn msetnx(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if args.len().is_multiple_of(2) {
        return Err(Failure::Arity("msetnx"));
    }
    one_slot(args, 2)?;
    let pairs = (1..args.len())
        .step_by(2)
        .map(|at| (args.bytes(at), args.bytes(at + 1)))
        .collect();
    session.write(ctx, args.get(1), Op::SetAllIfAbsent { pairs }, Shape::Plain)
}

/// `DEL key [key ...]`, and UNLINK
pub(super) fn delete(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if args.len() == 2 {
        return session.write(ctx, args.get(1), Op::Delete { key: args.bytes(1) }, Shape::Plain);
    }
    let slot = slot(session, args, 1)?;
    session.send_group(
        ctx,
        args,
        (slot, true, Gather::Sum(0)),
        (args.len() - 1, |args, part| {
            write_part(
                args,
                part + 1,
                Op::Delete {
                    key: args.bytes(part + 1),
                },
            )
        }),
    );
    Ok(())
}

/// `EXISTS key [key ...]`, and TOUCH
pub(super) fn exists(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if args.len() == 2 {
        return session.read(
            ctx,
            args.get(1),
            Query::Exists { key: args.bytes(1) },
            Shape::Plain,
        );
    }
    let slot = slot(session, args, 1)?;
    session.send_group(
        ctx,
        args,
        (slot, false, Gather::Sum(0)),
        (args.len() - 1, |args, part| {
            read_part(
                args,
                part + 1,
                Query::Exists {
                    key: args.bytes(part + 1),
                },
            )
        }),
    );
    Ok(())
}
