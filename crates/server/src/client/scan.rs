//! Commands over all keys.
//!
//! In cluster mode they cover the shards led here, because cluster clients ask every node and add up.

use quorate_proto::{ForwardBody, Op};
use quorate_store::{Refusal, RouteMode, Target};

use super::failure::{self, Failure};
use super::gather::Part;
use super::numbers::integer;
use super::walk::{Aim, Walk, position};
use super::{ClientContext, ClientSession, Handled};
use crate::resp::Args;

/// Keys that one request looks at when all are wanted.
pub(super) const PAGE_KEYS: u32 = 4096;
/// Keys that SCAN looks at unless told otherwise, as in Redis.
const SCAN_COUNT: u32 = 10;

/// A cursor as Redis reads one, which is with C's `strtoul`: signs are allowed, and nothing at all is 0.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let number = match digits {
        [] => (text.is_empty()).then_some(0),
        digits => std::str::from_utf8(digits)
            .ok()
            .filter(|text| !text.starts_with('+'))
            .and_then(|text| text.parse::<u64>().ok()),
    }?;
    Some(if negative { number.wrapping_neg() } else { number })
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
///
/// The cursor is a position, so it holds on every node and after restarts.
pub(super) fn scan(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let cursor = parse_cursor(args.get(1)).ok_or(Failure::Fixed("ERR invalid cursor"))?;
    let mut walk = Walk::new(Aim::Page(Vec::new()), session.mode, SCAN_COUNT);
    walk.from = position(cursor);
    let mut at = 2;
    while at < args.len() {
        let option = args.get(at).to_ascii_lowercase();
        if at + 1 >= args.len() {
            return Err(Failure::Syntax);
        }
        match option.as_slice() {
            b"count" => {
                let count = integer(args.get(at + 1))?;
                if count < 1 {
                    return Err(Failure::Syntax);
                }
                // A hint, as in Redis; the cap bounds what one request costs its shard.
                walk.limit = u32::try_from(count).unwrap_or(u32::MAX).min(PAGE_KEYS);
            }
            b"match" => walk.pattern = Some(args.bytes(at + 1)).filter(|pattern| pattern != "*"),
            // Every key is a string: no other type has anything to walk over.
            b"type" if !args.get(at + 1).eq_ignore_ascii_case(b"string") => walk.from = position(u64::MAX),
            b"type" => {}
            _ => return Err(Failure::Syntax),
        }
        at += 2;
    }
    session.send_walk(ctx, walk);
    Ok(())
}

/// KEYS pattern
pub(super) fn keys(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let mut walk = Walk::new(Aim::Keys(Vec::new()), session.mode, PAGE_KEYS);
    walk.pattern = Some(args.bytes(1)).filter(|pattern| pattern != "*");
    session.send_walk(ctx, walk);
    Ok(())
}

/// DBSIZE, counted: there is no exact live count to look up.
pub(super) fn dbsize(session: &mut ClientSession, _args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    session.send_walk(ctx, Walk::new(Aim::Count(0), session.mode, PAGE_KEYS));
    Ok(())
}

/// `FLUSHDB [ASYNC | SYNC]` and FLUSHALL: there is one database, and memory is never freed in the client's way.
pub(super) fn flush(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let option_known =
        |option: &[u8]| option.eq_ignore_ascii_case(b"async") || option.eq_ignore_ascii_case(b"sync");
    if args.len() > 2 || (args.len() == 2 && !option_known(args.get(1))) {
        return Err(Failure::Syntax);
    }
    let part = |shard| Part {
        target: Target::Shard(shard),
        body: ForwardBody::Write(Op::Flush),
    };
    let parts: Vec<Part> = ctx
        .node
        .covered(session.mode)
        .map(|route| part(route.shard))
        .collect();
    let slot = ctx
        .node
        .covered(session.mode)
        .next()
        .map_or(0, |route| route.start_slot);
    if parts.is_empty() {
        match session.mode {
            RouteMode::Proxy => session.reply(|writer| writer.error(&failure::not_applied(Refusal::NoShard))),
            RouteMode::Redirect => session.reply(|writer| writer.ok()),
        }
        return Ok(());
    }
    session.send_writes(ctx, slot, parts);
    Ok(())
}
