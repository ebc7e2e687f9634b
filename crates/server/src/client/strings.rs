//! Commands on one string.

use bytes::Bytes;
use quorate_proto::{Expiry, Op, Query, SetCondition, SetExpiry};

use super::failure::Failure;
use super::numbers::{TimeUnit, float, integer};
use super::reply::Shape;
use super::{ClientContext, ClientSession, Handled};
use crate::resp::Args;

/// GET key
pub(super) fn get(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    session.read(ctx, args.get(1), Query::Get { key: args.bytes(1) }, Shape::Plain)
}

/// The time options of SET and GETEX.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TimeOption {
    /// The deadline given by the argument at this position.
    Unit(TimeUnit, usize),
    Keep,
    Persist,
}

/// Reads one time option at `at`. Redis lets an option repeat, the last one counting, but not two different.
fn time_option(args: &Args, at: usize, before: Option<TimeOption>) -> Option<TimeOption> {
    let unit = |unit| (at + 1 < args.len()).then_some(TimeOption::Unit(unit, at + 1));
    let option = match args.get(at).to_ascii_lowercase().as_slice() {
        b"ex" => unit(TimeUnit::EX),
        b"px" => unit(TimeUnit::PX),
        b"exat" => unit(TimeUnit::EXAT),
        b"pxat" => unit(TimeUnit::PXAT),
        b"keepttl" => Some(TimeOption::Keep),
        b"persist" => Some(TimeOption::Persist),
        _ => None,
    }?;
    let same = match (before, option) {
        (None, _) => true,
        (Some(TimeOption::Unit(before, _)), TimeOption::Unit(unit, _)) => before == unit,
        (Some(before), option) => before == option,
    };
    same.then_some(option)
}

/// `SET key value [NX | XX] [GET] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`
pub(super) fn set(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let mut condition = SetCondition::Always;
    let mut old = false;
    let mut time = None;
    let mut at = 3;
    while at < args.len() {
        let option = args.get(at);
        if option.eq_ignore_ascii_case(b"nx") && condition != SetCondition::IfPresent {
            condition = SetCondition::IfAbsent;
        } else if option.eq_ignore_ascii_case(b"xx") && condition != SetCondition::IfAbsent {
            condition = SetCondition::IfPresent;
        } else if option.eq_ignore_ascii_case(b"get") {
            old = true;
        } else {
            let option = time_option(args, at, time).filter(|option| *option != TimeOption::Persist);
            at += usize::from(matches!(option, Some(TimeOption::Unit(..))));
            time = Some(option.ok_or(Failure::Syntax)?);
        }
        at += 1;
    }
    let op = Op::Set {
        key: args.bytes(1),
        value: args.bytes(2),
        expiry: set_expiry(args, time, ctx, "set")?,
        condition,
        get: old,
    };
    session.write(ctx, args.get(1), op, Shape::Plain)
}

/// `CAS key expected value [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`
pub(super) fn compare_and_set(
    session: &mut ClientSession,
    args: &Args,
    ctx: &mut ClientContext<'_>,
) -> Handled {
    let mut time = None;
    let mut at = 4;
    while at < args.len() {
        let option = time_option(args, at, time).filter(|option| *option != TimeOption::Persist);
        at += usize::from(matches!(option, Some(TimeOption::Unit(..)))) + 1;
        time = Some(option.ok_or(Failure::Syntax)?);
    }
    let op = Op::CompareAndSet {
        key: args.bytes(1),
        expected: args.bytes(2),
        value: args.bytes(3),
        expiry: set_expiry(args, time, ctx, "cas")?,
    };
    session.write(ctx, args.get(1), op, Shape::Plain)
}

fn set_expiry(
    args: &Args,
    time: Option<TimeOption>,
    ctx: &ClientContext<'_>,
    command: &'static str,
) -> Result<SetExpiry, Failure> {
    Ok(match time {
        Some(TimeOption::Unit(unit, at)) => {
            SetExpiry::Set(unit.positive_expiry(args.get(at), ctx.wall_ms, command)?)
        }
        Some(TimeOption::Keep) => SetExpiry::Keep,
        Some(TimeOption::Persist) | None => SetExpiry::Clear,
    })
}

/// SETNX key value
pub(super) fn setnx(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let op = Op::Set {
        key: args.bytes(1),
        value: args.bytes(2),
        expiry: SetExpiry::Clear,
        condition: SetCondition::IfAbsent,
        get: false,
    };
    session.write(ctx, args.get(1), op, Shape::Flag)
}

/// SETEX key seconds value
pub(super) fn setex(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let expiry = TimeUnit::EX.positive_expiry(args.get(2), ctx.wall_ms, "setex")?;
    set_until(session, args, ctx, expiry)
}

/// PSETEX key milliseconds value
pub(super) fn psetex(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let expiry = TimeUnit::PX.positive_expiry(args.get(2), ctx.wall_ms, "psetex")?;
    set_until(session, args, ctx, expiry)
}

fn set_until(
    session: &mut ClientSession,
    args: &Args,
    ctx: &mut ClientContext<'_>,
    expiry: Expiry,
) -> Handled {
    let op = Op::Set {
        key: args.bytes(1),
        value: args.bytes(3),
        expiry: SetExpiry::Set(expiry),
        condition: SetCondition::Always,
        get: false,
    };
    session.write(ctx, args.get(1), op, Shape::Plain)
}

/// GETSET key value
pub(super) fn getset(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let op = Op::Set {
        key: args.bytes(1),
        value: args.bytes(2),
        expiry: SetExpiry::Clear,
        condition: SetCondition::Always,
        get: true,
    };
    session.write(ctx, args.get(1), op, Shape::Plain)
}

/// GETDEL key
pub(super) fn getdel(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    session.write(
        ctx,
        args.get(1),
        Op::GetDelete { key: args.bytes(1) },
        Shape::Plain,
    )
}

/// `GETEX key [EX s | PX ms | EXAT s | PXAT ms | PERSIST]`
pub(super) fn getex(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let mut time = None;
    let mut at = 2;
    while at < args.len() {
        let option = time_option(args, at, time).filter(|option| *option != TimeOption::Keep);
        at += usize::from(matches!(option, Some(TimeOption::Unit(..)))) + 1;
        time = Some(option.ok_or(Failure::Syntax)?);
    }
    let expiry = match time {
        None => return get(session, args, ctx),
        Some(TimeOption::Unit(unit, at)) => {
            match unit.positive_expiry(args.get(at), ctx.wall_ms, "getex") {
                Ok(expiry) => Some(expiry),
                // As in Redis: of a key that is not there, nothing is asked.
                Err(failure) => {
                    let query = Query::Exists { key: args.bytes(1) };
                    return session.read(ctx, args.get(1), query, Shape::NullOr(failure));
                }
            }
        }
        Some(TimeOption::Persist | TimeOption::Keep) => None,
    };
    session.write(
        ctx,
        args.get(1),
        Op::GetExpire {
            key: args.bytes(1),
            expiry,
        },
        Shape::Plain,
    )
}

/// APPEND key value
pub(super) fn append(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    session.write(
        ctx,
        args.get(1),
        Op::Append {
            key: args.bytes(1),
            value: args.bytes(2),
        },
        Shape::Plain,
    )
}

/// STRLEN key
pub(super) fn strlen(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    session.read(
        ctx,
        args.get(1),
        Query::StrLen { key: args.bytes(1) },
        Shape::Plain,
    )
}

/// GETRANGE key start end, and SUBSTR
pub(super) fn getrange(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let (start, end) = (integer(args.get(2))?, integer(args.get(3))?);
    session.read(
        ctx,
        args.get(1),
        Query::GetRange {
            key: args.bytes(1),
            start,
            end,
        },
        Shape::BulkOrEmpty,
    )
}

/// SETRANGE key offset value
pub(super) fn setrange(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let offset = integer(args.get(2))?;
    let offset = u64::try_from(offset).map_err(|_| Failure::Fixed("ERR offset is out of range"))?;
    let value: Bytes = args.bytes(3);
    if value.is_empty() {
        // Nothing is changed, so nothing needs to be agreed on.
        return strlen(session, args, ctx);
    }
    let end = offset.saturating_add(value.len() as u64);
    if end > ctx.node.config.wire.argument_bytes_max() as u64 {
        return Err(Failure::Fixed(
            "ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ));
    }
    session.write(
        ctx,
        args.get(1),
        Op::SetRange {
            key: args.bytes(1),
            offset,
            value,
        },
        Shape::Plain,
    )
}

/// INCR key
pub(super) fn incr(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    increment(session, args, ctx, 1)
}

/// DECR key
pub(super) fn decr(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    increment(session, args, ctx, -1)
}

/// INCRBY key increment
pub(super) fn incrby(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let delta = integer(args.get(2))?;
    increment(session, args, ctx, delta)
}

/// DECRBY key decrement
pub(super) fn decrby(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let delta = integer(args.get(2))?;
    let delta = delta
        .checked_neg()
        .ok_or(Failure::Fixed("ERR decrement would overflow"))?;
    increment(session, args, ctx, delta)
}

fn increment(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>, delta: i64) -> Handled {
    session.write(
        ctx,
        args.get(1),
        Op::Increment {
            key: args.bytes(1),
            delta,
        },
        Shape::Plain,
    )
}

/// INCRBYFLOAT key increment
pub(super) fn incrbyfloat(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let delta = float(args.get(2))?;
    session.write(
        ctx,
        args.get(1),
        Op::IncrementFloat {
            key: args.bytes(1),
            delta,
        },
        Shape::Plain,
    )
}
