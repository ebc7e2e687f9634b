//! COMMAND: what the table of commands says, in Redis's form.

use quorate_store::kv::glob_match;

use super::command_list::COMMANDS;
use super::failure::Failure;
use super::table::{CommandSpec, find};
use super::{ClientContext, ClientSession, Handled};
use crate::resp::{Args, Writer};

/// COMMAND
pub(super) fn all(session: &mut ClientSession, _args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    session.reply(write_all);
    Ok(())
}

fn write_all(writer: &mut Writer<'_>) {
    writer.array(COMMANDS.len());
    COMMANDS.iter().for_each(|spec| write_info(spec, writer));
}

/// COMMAND COUNT
pub(super) fn count(session: &mut ClientSession, _args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    session.reply(|writer| writer.int(COMMANDS.len() as i64));
    Ok(())
}

/// `COMMAND INFO [name ...]`
pub(super) fn info(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    session.reply(|writer| {
        if args.len() == 2 {
            return write_all(writer);
        }
        writer.array(args.len() - 2);
        for name in args.iter().skip(2) {
            match find(name) {
                Some(spec) => write_info(spec, writer),
                None => writer.null(),
            }
        }
    });
    Ok(())
}

fn write_info(spec: &CommandSpec, writer: &mut Writer<'_>) {
    let (first, last, step) = spec.keys;
    writer.array(10);
    writer.bulk(spec.name.as_bytes());
    writer.int(i64::from(spec.arity));
    write_flags(spec.flags, writer);
    writer.int(i64::from(first));
    writer.int(i64::from(last));
    writer.int(i64::from(step));
    write_flags(spec.acl, writer);
    writer.set(spec.tips.split_whitespace().count());
    spec.tips
        .split_whitespace()
        .for_each(|tip| writer.bulk(tip.as_bytes()));
    writer.set(usize::from(first != 0));
    if first != 0 {
        write_key_spec(spec, writer);
    }
    writer.set(spec.subcommands.len());
    spec.subcommands
        .iter()
        .for_each(|subcommand| write_info(subcommand, writer));
}

fn write_flags(flags: &str, writer: &mut Writer<'_>) {
    writer.set(flags.split_whitespace().count());
    flags.split_whitespace().for_each(|flag| writer.simple(flag));
}

fn write_key_spec(spec: &CommandSpec, writer: &mut Writer<'_>) {
    let (first, last, step) = spec.keys;
    writer.map(if spec.key_notes.is_empty() { 3 } else { 4 });
    if !spec.key_notes.is_empty() {
        writer.bulk(b"notes");
        writer.bulk(spec.key_notes.as_bytes());
    }
    writer.bulk(b"flags");
    write_flags(spec.key_flags, writer);
    writer.bulk(b"begin_search");
    writer.map(2);
    writer.bulk(b"type");
    writer.bulk(b"index");
    writer.bulk(b"spec");
    writer.map(1);
    writer.bulk(b"index");
    writer.int(i64::from(first));
    writer.bulk(b"find_keys");
    writer.map(2);
    writer.bulk(b"type");
    writer.bulk(b"range");
    writer.bulk(b"spec");
    writer.map(3);
    writer.bulk(b"lastkey");
    // Counted from the first key here.
    writer.int(i64::from(if last > 0 { last - first } else { last }));
    writer.bulk(b"keystep");
    writer.int(i64::from(step));
    writer.bulk(b"limit");
    writer.int(0);
}

/// `COMMAND DOCS [name ...]`
pub(super) fn docs(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    let named: Vec<&CommandSpec> = if args.len() == 2 {
        COMMANDS.iter().collect()
    } else {
        args.iter().skip(2).filter_map(find).collect()
    };
    session.reply(|writer| write_docs(&named, writer));
    Ok(())
}

fn write_docs(specs: &[&CommandSpec], writer: &mut Writer<'_>) {
    writer.map(specs.len());
    for spec in specs {
        writer.bulk(spec.name.as_bytes());
        writer.map(if spec.subcommands.is_empty() { 3 } else { 4 });
        for (field, text) in [
            ("summary", spec.summary),
            ("since", spec.since),
            ("group", spec.group),
        ] {
            writer.bulk(field.as_bytes());
            writer.bulk(text.as_bytes());
        }
        if !spec.subcommands.is_empty() {
            writer.bulk(b"subcommands");
            write_docs(&spec.subcommands.iter().collect::<Vec<_>>(), writer);
        }
    }
}

/// `COMMAND LIST [FILTERBY (MODULE name | ACLCAT category | PATTERN pattern)]`
pub(super) fn list(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    let matching: Vec<&str> = match args.len() {
        2 => COMMANDS.iter().map(|spec| spec.name).collect(),
        5 if args.get(2).eq_ignore_ascii_case(b"filterby") => {
            let value = args.get(4);
            let matches: &dyn Fn(&CommandSpec) -> bool = match args.get(3).to_ascii_lowercase().as_slice() {
                b"module" => &|_| false,
                b"aclcat" => &|spec| {
                    let mut categories = spec.acl.split_whitespace();
                    categories.any(|category| category.as_bytes()[1..].eq_ignore_ascii_case(value))
                },
                b"pattern" => &|spec| glob_match(&value.to_ascii_lowercase(), spec.name.as_bytes()),
                _ => return Err(Failure::Syntax),
            };
            let all = COMMANDS
                .iter()
                .flat_map(|spec| std::iter::once(spec).chain(spec.subcommands));
            all.filter(|spec| matches(spec)).map(|spec| spec.name).collect()
        }
        _ => return Err(Failure::Syntax),
    };
    session.reply(|writer| {
        writer.array(matching.len());
        matching.iter().for_each(|name| writer.bulk(name.as_bytes()));
    });
    Ok(())
}

/// `COMMAND GETKEYS command [arg ...]`
pub(super) fn getkeys(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    if args.len() > 6
        && args.get(2).eq_ignore_ascii_case(b"once")
        && args.get(3).eq_ignore_ascii_case(b"status")
    {
        let keys: Vec<&[u8]> = args.iter().skip(6).collect();
        reply_keys(session, &keys);
        return Ok(());
    }
    let inner = run_by_once(args);
    let args = inner.as_ref().unwrap_or(args);
    let arguments = args.len() - 2;
    let mut spec = find(args.get(2)).ok_or(Failure::Fixed("ERR Invalid command specified"))?;
    if !spec.subcommands.is_empty() {
        let name = [args.get(2), b"|", args.get(3)].concat();
        spec = find(&name).ok_or(Failure::Fixed("ERR Invalid command specified"))?;
    }
    let (first, last, step) = spec.keys;
    if first == 0 {
        return Err(Failure::Fixed("ERR The command has no key arguments"));
    }
    if !spec.arity_fits(arguments) {
        return Err(Failure::Fixed(
            "ERR Invalid number of arguments specified for command",
        ));
    }
    // The position behind the last key, in the request as it was sent.
    let end = if last < 0 {
        args.len().saturating_add_signed(last as isize + 1)
    } else {
        last as usize + 3
    };
    let places = (first as usize + 2..end).step_by(step as usize);
    let keys: Vec<&[u8]> = places.map(|at| args.get(at)).collect();
    reply_keys(session, &keys);
    Ok(())
}

fn reply_keys(session: &mut ClientSession, keys: &[&[u8]]) {
    session.reply(|writer| {
        writer.array(keys.len());
        keys.iter().for_each(|key| writer.bulk(key));
    });
}

/// The request for the keys of the command that ONCE runs, which are ONCE's.
fn run_by_once(args: &Args) -> Option<Args> {
    let is = |at: usize, word: &[u8]| at < args.len() && args.get(at).eq_ignore_ascii_case(word);
    if !is(2, b"once") {
        return None;
    }
    let command = if is(5, b"ack") { 7 } else { 5 };
    // The two words before the command stand for COMMAND GETKEYS.
    (command < args.len()).then(|| args.behind(command - 2))
}

/// COMMAND HELP
pub(super) fn help(session: &mut ClientSession, _args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    session.reply_help(
        "COMMAND",
        &[
            ("(no subcommand)", "Return details about all commands."),
            ("COUNT", "Return the total number of commands in this server."),
            ("LIST", "Return a list of all commands in this server."),
            (
                "INFO [<command-name> ...]",
                "Return details about commands, by default all.",
            ),
            (
                "DOCS [<command-name> ...]",
                "Return documentation of commands, by default all.",
            ),
            ("GETKEYS <full-command>", "Return the keys from a full command."),
        ],
    );
    Ok(())
}
