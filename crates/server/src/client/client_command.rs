//! CLIENT.
//!
//! A session sees its own connection only, so CLIENT LIST is a list of one.

use std::fmt::Write as _;

use bytes::Bytes;

use super::connection::{check_name, is_plain};
use super::failure::{self, Failure};
use super::{ClientContext, ClientSession, Handled};
use crate::resp::{Args, Protocol, parse_i64};

impl ClientSession {
    /// Remembers a name; an empty one is none. It is copied: a slice would keep the input buffer alive for as
    /// long as the connection lives.
    pub(super) fn set_name(&mut self, name: &[u8]) {
        self.name = Bytes::copy_from_slice(name);
    }
}

/// CLIENT ID
pub(super) fn id(session: &mut ClientSession, _args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    let id = session.id;
    session.reply(|writer| writer.int(i64::from(id)));
    Ok(())
}

/// CLIENT GETNAME
pub(super) fn getname(session: &mut ClientSession, _args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    let name = session.name.clone();
    session.reply(|writer| {
        if name.is_empty() {
            writer.null()
        } else {
            writer.bulk(&name)
        }
    });
    Ok(())
}

/// CLIENT SETNAME name
pub(super) fn setname(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    check_name(args.get(2))?;
    session.set_name(args.get(2));
    session.reply(|writer| writer.ok());
    Ok(())
}

/// CLIENT SETINFO LIB-NAME name | LIB-VER version
pub(super) fn setinfo(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    let plain = is_plain(args.get(3));
    let value = Bytes::copy_from_slice(args.get(3));
    if args.get(2).eq_ignore_ascii_case(b"lib-name") {
        if !plain {
            return Err(Failure::Fixed(
                "ERR lib-name cannot contain spaces, newlines or special characters.",
            ));
        }
        session.library_name = value;
    } else if args.get(2).eq_ignore_ascii_case(b"lib-ver") {
        if !plain {
            return Err(Failure::Fixed(
                "ERR lib-ver cannot contain spaces, newlines or special characters.",
            ));
        }
        session.library_version = value;
    } else {
        let text = failure::quoting("ERR Unrecognized option '", args.get(2), "'");
        session.reply(|writer| writer.error(&text));
        return Ok(());
    }
    session.reply(|writer| writer.ok());
    Ok(())
}

/// CLIENT INFO
pub(super) fn info(session: &mut ClientSession, _args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let line = describe(session, ctx, "info");
    session.reply(|writer| writer.verbatim(&line));
    Ok(())
}

/// `CLIENT LIST [TYPE type] [ID id ...]`
pub(super) fn list(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let mut listed = true;
    if args.len() == 4 && args.get(2).eq_ignore_ascii_case(b"type") {
        match args.get(3).to_ascii_lowercase().as_slice() {
            b"normal" => {}
            b"master" | b"replica" | b"slave" | b"pubsub" => listed = false,
            _ => {
                let text = failure::quoting("ERR Unknown client type '", args.get(3), "'");
                session.reply(|writer| writer.error(&text));
                return Ok(());
            }
        }
    } else if args.len() > 3 && args.get(2).eq_ignore_ascii_case(b"id") {
        listed = false;
        for id in args.iter().skip(3) {
            let id = parse_i64(id).filter(|id| *id >= 0);
            let id = id.ok_or(Failure::Fixed("ERR Invalid client ID"))?;
            listed |= id == i64::from(session.id);
        }
    } else if args.len() != 2 {
        return Err(Failure::Syntax);
    }
    let line = if listed {
        describe(session, ctx, "list")
    } else {
        String::new()
    };
    session.reply(|writer| writer.verbatim(&line));
    Ok(())
}

/// The connection in Redis's words.
fn describe(session: &ClientSession, ctx: &ClientContext<'_>, subcommand: &str) -> String {
    let age_s = ctx.wall_ms.saturating_sub(session.created_ms) / 1000;
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut line = format!(
        "id={} addr={} name={} age={age_s} idle=0 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 qbuf={} oll={} omem={} \
         events=r cmd=client|{subcommand} user=default redir=-1 resp={}",
        session.id,
        session.peer_addr,
        text(&session.name),
        session.input.len(),
        session.ring.len(),
        session.output.len(),
        if session.protocol == Protocol::Resp2 { 2 } else { 3 },
    );
    let (name, version) = (text(&session.library_name), text(&session.library_version));
    // Writing to a string cannot fail.
    let _ = writeln!(line, " lib-name={name} lib-ver={version}");
    line
}

/// CLIENT REPLY ON: the only one. Without replies a client could not tell which writes are safe.
pub(super) fn reply(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    match args.get(2).to_ascii_lowercase().as_slice() {
        b"on" => session.reply(|writer| writer.ok()),
        b"off" | b"skip" => return Err(Failure::Fixed("ERR CLIENT REPLY OFF and SKIP are not supported")),
        _ => return Err(Failure::Syntax),
    }
    Ok(())
}

/// CLIENT NO-EVICT and NO-TOUCH ON | OFF: accepted, for there is no eviction.
pub(super) fn no_evict(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    if !args.get(2).eq_ignore_ascii_case(b"on") && !args.get(2).eq_ignore_ascii_case(b"off") {
        return Err(Failure::Syntax);
    }
    session.reply(|writer| writer.ok());
    Ok(())
}

/// CLIENT HELP
pub(super) fn help(session: &mut ClientSession, _args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    session.reply_help(
        "CLIENT",
        &[
            ("GETNAME", "Return the name of the current connection."),
            ("ID", "Return the ID of the current connection."),
            ("INFO", "Return information about the current client connection."),
            (
                "LIST [options ...]",
                "Return information about the current client connection, if it matches.",
            ),
            ("NO-EVICT (ON|OFF)", "Accepted; there is no eviction."),
            ("NO-TOUCH (ON|OFF)", "Accepted; there is no eviction."),
            ("REPLY ON", "Accepted; replies are always sent."),
            (
                "SETINFO (LIB-NAME|LIB-VER) <value>",
                "Set the client library's name or version.",
            ),
            (
                "SETNAME <name>",
                "Assign the name <name> to the current connection.",
            ),
        ],
    );
    Ok(())
}

impl ClientSession {
    /// The reply of a HELP subcommand, in Redis's form.
    pub(super) fn reply_help(&mut self, container: &str, subcommands: &[(&str, &str)]) {
        self.reply(|writer| {
            writer.array(2 * subcommands.len() + 3);
            writer.simple(&format!(
                "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
            ));
            for (usage, meaning) in subcommands {
                writer.simple(usage);
                writer.simple(&format!("    {meaning}"));
            }
            writer.simple("HELP");
            writer.simple("    Prints this help.");
        });
    }
}
