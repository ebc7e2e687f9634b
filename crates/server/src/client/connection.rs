//! Commands about the connection itself.

use quorate_store::RouteMode;

use super::failure::{self, Failure};
use super::numbers::integer;
use super::{ClientContext, ClientSession, Handled, REDIS_VERSION};
use crate::resp::{Args, Protocol, parse_i64};

/// `PING [message]`
pub(super) fn ping(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    match args.len() {
        1 => session.reply(|writer| writer.simple("PONG")),
        2 => session.reply(|writer| writer.bulk(args.get(1))),
        _ => return Err(Failure::Arity("ping")),
    }
    Ok(())
}

/// ECHO message
pub(super) fn echo(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    session.reply(|writer| writer.bulk(args.get(1)));
    Ok(())
}

const WRONG_PASSWORD: Failure =
    Failure::Fixed("WRONGPASS invalid username-password pair or user is disabled.");

/// There are no passwords: as in a Redis without one, the default user may come in with any.
fn check_user(user: &[u8]) -> Handled {
    if user == b"default" {
        Ok(())
    } else {
        Err(WRONG_PASSWORD)
    }
}

/// `AUTH [username] password`
pub(super) fn auth(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    match args.len() {
        2 => {
            return Err(Failure::Fixed(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        3 => check_user(args.get(1))?,
        _ => return Err(Failure::Syntax),
    }
    session.reply(|writer| writer.ok());
    Ok(())
}

/// `HELLO [protover [AUTH username password] [SETNAME clientname]]`
pub(super) fn hello(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    let mut protocol = session.protocol;
    if args.len() > 1 {
        protocol = match parse_i64(args.get(1)) {
            Some(2) => Protocol::Resp2,
            Some(3) => Protocol::Resp3,
            Some(_) => return Err(Failure::Fixed("NOPROTO unsupported protocol version")),
            None => {
                return Err(Failure::Fixed(
                    "ERR Protocol version is not an integer or out of range",
                ));
            }
        };
    }
    let mut name = None;
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args.get(at).eq_ignore_ascii_case(b"auth") && left >= 2 {
            check_user(args.get(at + 1))?;
            at += 3;
        } else if args.get(at).eq_ignore_ascii_case(b"setname") && left >= 1 {
            check_name(args.get(at + 1))?;
            name = Some(args.bytes(at + 1));
            at += 2;
        } else {
            let text = failure::quoting("ERR Syntax error in HELLO option '", args.get(at), "'");
            session.reply(|writer| writer.error(&text));
            return Ok(());
        }
    }
    session.protocol = protocol;
    if let Some(name) = name {
        session.set_name(&name);
    }
    let (id, mode) = (session.id, session.mode);
    session.reply(|writer| {
        writer.map(7);
        writer.bulk(b"server");
        writer.bulk(b"redis");
        writer.bulk(b"version");
        writer.bulk(REDIS_VERSION.as_bytes());
        writer.bulk(b"proto");
        writer.int(if protocol == Protocol::Resp2 { 2 } else { 3 });
        writer.bulk(b"id");
        writer.int(i64::from(id));
        writer.bulk(b"mode");
        writer.bulk(match mode {
            RouteMode::Proxy => b"standalone",
            RouteMode::Redirect => b"cluster",
        });
        writer.bulk(b"role");
        writer.bulk(b"master");
        writer.bulk(b"modules");
        writer.array(0);
    });
    Ok(())
}

/// Names are shown in lists separated by blanks.
pub(super) fn check_name(name: &[u8]) -> Handled {
    if is_plain(name) {
        Ok(())
    } else {
        Err(Failure::Fixed(
            "ERR Client names cannot contain spaces, newlines or special characters.",
        ))
    }
}

/// Whether text has printable characters only, and no blanks.
pub(super) fn is_plain(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

/// SELECT index: there is one database.
pub(super) fn select(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    let index = integer(args.get(1))?;
    if i32::try_from(index).is_err() {
        return Err(Failure::Fixed(
            "ERR value is out of range, value must between -2147483648 and 2147483647",
        ));
    }
    match (index, session.mode) {
        (0, _) => session.reply(|writer| writer.ok()),
        (_, RouteMode::Proxy) => return Err(Failure::Fixed("ERR DB index is out of range")),
        (_, RouteMode::Redirect) => {
            return Err(Failure::Fixed("ERR SELECT is not allowed in cluster mode"));
        }
    }
    Ok(())
}

/// QUIT
pub(super) fn quit(session: &mut ClientSession, _args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    session.reply(|writer| writer.ok());
    session.end();
    Ok(())
}

/// RESET: the connection is as at its beginning.
pub(super) fn reset(session: &mut ClientSession, _args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    session.protocol = Protocol::Resp2;
    session.mode = ctx.node.mode_default;
    session.set_name(b"");
    session.reply(|writer| writer.simple("RESET"));
    Ok(())
}
