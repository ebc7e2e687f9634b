//! CONFIG, for clients that look before they start. Quorate is configured by flags and a file.

use quorate_store::kv::glob_match;

use super::failure::{self, Failure};
use super::{ClientContext, ClientSession, Handled};
use crate::resp::Args;

/// The settings that clients ask for. What Redis calls durability settings is given as the nearest truth:
/// every write is on the disks of a majority before it is acknowledged.
fn settings(ctx: &ClientContext<'_>) -> [(&'static str, String); 24] {
    let config = &ctx.node.config;
    [
        ("appendfsync", "always".into()),
        ("appendonly", "yes".into()),
        ("bind", String::new()),
        (
            "client-query-buffer-limit",
            config.wire.frame_bytes_max.to_string(),
        ),
        (
            "cluster-enabled",
            match ctx.node.mode_default {
                quorate_store::RouteMode::Proxy => "no".into(),
                quorate_store::RouteMode::Redirect => "yes".into(),
            },
        ),
        ("databases", "1".into()),
        ("dir", String::new()),
        ("io-threads", "1".into()),
        ("lazyfree-lazy-user-flush", "no".into()),
        ("list-max-listpack-size", "-2".into()),
        ("maxclients", config.connections_max.to_string()),
        ("maxmemory", "0".into()),
        ("maxmemory-policy", "noeviction".into()),
        ("maxmemory-samples", "5".into()),
        (
            "min-replicas-to-write",
            ctx.node.replicas_of_acknowledged().to_string(),
        ),
        ("notify-keyspace-events", String::new()),
        ("port", ctx.node.tcp_port.to_string()),
        ("proto-max-bulk-len", config.wire.argument_bytes_max().to_string()),
        ("requirepass", String::new()),
        ("save", String::new()),
        ("slowlog-log-slower-than", "-1".into()),
        ("tcp-keepalive", "300".into()),
        ("timeout", "0".into()),
        ("tls-port", "0".into()),
    ]
}

/// `CONFIG GET parameter [parameter ...]`
pub(super) fn get(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let settings = settings(ctx);
    // The names are in lower case, and case is not regarded.
    let patterns: Vec<Vec<u8>> = args.iter().skip(2).map(<[u8]>::to_ascii_lowercase).collect();
    let asked = |name: &str| {
        patterns
            .iter()
            .any(|pattern| glob_match(pattern, name.as_bytes()))
    };
    let found: Vec<_> = settings.iter().filter(|(name, _)| asked(name)).collect();
    session.reply(|writer| {
        writer.map(found.len());
        for (name, value) in &found {
            writer.bulk(name.as_bytes());
            writer.bulk(value.as_bytes());
        }
    });
    Ok(())
}

/// `CONFIG SET parameter value [parameter value ...]`: nothing can be set.
pub(super) fn set(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if !args.len().is_multiple_of(2) {
        return Err(Failure::Syntax);
    }
    let known = |name: &[u8]| {
        settings(ctx)
            .iter()
            .any(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()))
    };
    let names = (2..args.len()).step_by(2).map(|at| args.get(at));
    let text = match names.clone().find(|name| !known(name)) {
        Some(name) => failure::quoting(
            "ERR Unknown option or number of arguments for CONFIG SET - '",
            name,
            "'",
        ),
        None => failure::quoting(
            "ERR CONFIG SET failed (possibly related to argument '",
            args.get(2),
            "') - can't set immutable config",
        ),
    };
    session.reply(|writer| writer.error(&text));
    Ok(())
}

/// CONFIG RESETSTAT: refused, because the counters are also the monitoring's.
pub(super) fn resetstat(_: &mut ClientSession, _: &Args, _: &mut ClientContext<'_>) -> Handled {
    Err(Failure::Fixed("ERR CONFIG RESETSTAT is not supported"))
}

/// CONFIG REWRITE
pub(super) fn rewrite(_: &mut ClientSession, _: &Args, _: &mut ClientContext<'_>) -> Handled {
    Err(Failure::Fixed("ERR The server is running without a config file"))
}

/// CONFIG HELP
pub(super) fn help(session: &mut ClientSession, _args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    session.reply_help(
        "CONFIG",
        &[
            (
                "GET <pattern>",
                "Return parameters matching the glob-like <pattern> and their values.",
            ),
            (
                "SET <directive> <value>",
                "Refused: configuration is by flags and file.",
            ),
            ("RESETSTAT", "Refused: the counters are also the monitoring's."),
            ("REWRITE", "Refused: there is no configuration to write back."),
        ],
    );
    Ok(())
}
