//! Commands on a key whatever its value, and on its deadline.

use quorate_proto::{ExpireCondition, Op, Query};

use super::failure::{self, Failure};
use super::numbers::{TimeUnit, integer};
use super::reply::Shape;
use super::{ClientContext, ClientSession, Handled};
use crate::resp::Args;

/// TYPE key
pub(super) fn type_of(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    session.read(
        ctx,
        args.get(1),
        Query::Exists { key: args.bytes(1) },
        Shape::Type,
    )
}

/// `EXPIRE key seconds [NX | XX | GT | LT]`
pub(super) fn expire(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    set_deadline(session, args, ctx, TimeUnit::EX, "expire")
}

/// `PEXPIRE key milliseconds [NX | XX | GT | LT]`
pub(super) fn pexpire(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    set_deadline(session, args, ctx, TimeUnit::PX, "pexpire")
}

/// `EXPIREAT key unix-time-seconds [NX | XX | GT | LT]`
pub(super) fn expireat(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    set_deadline(session, args, ctx, TimeUnit::EXAT, "expireat")
}

/// `PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]`
pub(super) fn pexpireat(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    set_deadline(session, args, ctx, TimeUnit::PXAT, "pexpireat")
}

fn set_deadline(
    session: &mut ClientSession,
    args: &Args,
    ctx: &mut ClientContext<'_>,
    unit: TimeUnit,
    command: &'static str,
) -> Handled {
    let condition = match condition(args) {
        Ok(condition) => condition?,
        Err(text) => {
            session.reply(|writer| writer.error(&text));
            return Ok(());
        }
    };
    let expiry = unit.expiry(integer(args.get(2))?, ctx.wall_ms, command)?;
    session.write(
        ctx,
        args.get(1),
        Op::Expire {
            key: args.bytes(1),
            expiry,
            condition,
        },
        Shape::Plain,
    )
}

/// The options behind the time. The outer error quotes what the client sent.
fn condition(args: &Args) -> Result<Result<ExpireCondition, Failure>, Vec<u8>> {
    let (mut none, mut some, mut later, mut earlier) = (false, false, false, false);
    for option in args.iter().skip(3) {
        match option.to_ascii_lowercase().as_slice() {
            b"nx" => none = true,
            b"xx" => some = true,
            b"gt" => later = true,
            b"lt" => earlier = true,
            _ => return Err(failure::quoting("ERR Unsupported option ", option, "")),
        }
    }
    Ok(if none && (some || later || earlier) {
        Err(Failure::Fixed(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ))
    } else if later && earlier {
        Err(Failure::Fixed(
            "ERR GT and LT options at the same time are not compatible",
        ))
    } else if later {
        // XX adds nothing to GT: without a deadline none is later.
        Ok(ExpireCondition::IfLater)
    } else if some && earlier {
        Ok(ExpireCondition::IfSomeEarlier)
    } else if earlier {
        Ok(ExpireCondition::IfEarlier)
    } else if some {
        Ok(ExpireCondition::IfSome)
    } else if none {
        Ok(ExpireCondition::IfNone)
    } else {
        Ok(ExpireCondition::Always)
    })
}

/// TTL key
pub(super) fn ttl(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    deadline(session, args, ctx, Shape::RemainingS)
}

/// PTTL key
pub(super) fn pttl(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    deadline(session, args, ctx, Shape::RemainingMs)
}

/// EXPIRETIME key
pub(super) fn expiretime(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    deadline(session, args, ctx, Shape::DeadlineS)
}

/// PEXPIRETIME key
pub(super) fn pexpiretime(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    deadline(session, args, ctx, Shape::DeadlineMs)
}

fn deadline(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>, shape: Shape) -> Handled {
    session.read(ctx, args.get(1), Query::Deadline { key: args.bytes(1) }, shape)
}

/// PERSIST key
pub(super) fn persist(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    session.write(ctx, args.get(1), Op::Persist { key: args.bytes(1) }, Shape::Plain)
}
