//! INFO, TIME, WAIT and DEBUG.

use std::fmt::Write as _;

use quorate_store::RouteMode;

use super::failure::Failure;
use super::numbers::integer;
use super::{ClientContext, ClientSession, Handled, REDIS_VERSION};
use crate::resp::{Args, parse_i64};

/// The sections of INFO, in the order in which they are given.
const SECTIONS: [(&str, Section); 9] = [
    ("server", server),
    ("clients", clients),
    ("memory", memory),
    ("persistence", persistence),
    ("stats", stats),
    ("replication", replication),
    ("cluster", cluster),
    ("keyspace", keyspace),
    ("quorate", quorate),
];

/// Writes a section's lines.
type Section = fn(&mut String, &ClientSession, &ClientContext<'_>);

/// `INFO [section ...]`
pub(super) fn info(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let all = |name: &[u8]| {
        ["all", "default", "everything"]
            .iter()
            .any(|all| name.eq_ignore_ascii_case(all.as_bytes()))
    };
    let everything = args.len() == 1 || args.iter().skip(1).any(all);
    let mut text = String::new();
    for (name, section) in SECTIONS {
        if !everything
            && !args
                .iter()
                .skip(1)
                .any(|asked| asked.eq_ignore_ascii_case(name.as_bytes()))
        {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let (first, rest) = name.split_at(1);
        line(&mut text, format_args!("# {}{rest}", first.to_ascii_uppercase()));
        section(&mut text, session, ctx);
    }
    session.reply(|writer| writer.verbatim(&text));
    Ok(())
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{line}\r\n");
}

fn server(text: &mut String, session: &ClientSession, ctx: &ClientContext<'_>) {
    let node = ctx.node;
    line(text, format_args!("redis_version:{REDIS_VERSION}"));
    line(text, format_args!("quorate_version:{}", node.version));
    line(
        text,
        format_args!(
            "redis_mode:{}",
            match session.mode {
                RouteMode::Proxy => "standalone",
                RouteMode::Redirect => "cluster",
            }
        ),
    );
    line(text, format_args!("os:{}", std::env::consts::OS));
    line(text, format_args!("arch_bits:{}", usize::BITS));
    line(text, format_args!("process_id:{}", node.pid));
    line(text, format_args!("run_id:{}", node.cluster_node_id(node.store)));
    line(text, format_args!("tcp_port:{}", node.tcp_port));
    line(text, format_args!("server_time_usec:{}", ctx.wall_ms * 1000));
    line(text, format_args!("uptime_in_seconds:{}", node.stats.uptime_s));
    line(
        text,
        format_args!("uptime_in_days:{}", node.stats.uptime_s / 86_400),
    );
}

fn clients(text: &mut String, _session: &ClientSession, ctx: &ClientContext<'_>) {
    line(
        text,
        format_args!("connected_clients:{}", ctx.node.stats.connections),
    );
    line(
        text,
        format_args!("maxclients:{}", ctx.node.config.connections_max),
    );
    line(text, format_args!("blocked_clients:0"));
}

fn memory(text: &mut String, _session: &ClientSession, ctx: &ClientContext<'_>) {
    let bytes = ctx.node.stats.memory_bytes;
    line(text, format_args!("used_memory:{bytes}"));
    line(text, format_args!("used_memory_rss:{bytes}"));
    line(text, format_args!("maxmemory:0"));
    line(text, format_args!("maxmemory_policy:noeviction"));
}

fn persistence(text: &mut String, _session: &ClientSession, _ctx: &ClientContext<'_>) {
    line(text, format_args!("loading:0"));
    line(text, format_args!("aof_enabled:1"));
}

fn stats(text: &mut String, _session: &ClientSession, ctx: &ClientContext<'_>) {
    let stats = &ctx.node.stats;
    line(
        text,
        format_args!("total_connections_received:{}", stats.connections_total),
    );
    line(
        text,
        format_args!("total_commands_processed:{}", stats.commands_total),
    );
    line(
        text,
        format_args!("total_net_input_bytes:{}", stats.client_bytes_in),
    );
    line(
        text,
        format_args!("total_net_output_bytes:{}", stats.client_bytes_out),
    );
    line(
        text,
        format_args!("rejected_connections:{}", stats.connections_rejected),
    );
}

/// Redis's replicas follow one master; here every node takes writes, which is what "master" tells clients.
fn replication(text: &mut String, _session: &ClientSession, _ctx: &ClientContext<'_>) {
    line(text, format_args!("role:master"));
    line(text, format_args!("connected_slaves:0"));
}

fn cluster(text: &mut String, session: &ClientSession, _ctx: &ClientContext<'_>) {
    line(
        text,
        format_args!(
            "cluster_enabled:{}",
            u8::from(session.mode == RouteMode::Redirect)
        ),
    );
}

/// Left empty without an estimate: an exact count is what DBSIZE is for.
fn keyspace(text: &mut String, _session: &ClientSession, ctx: &ClientContext<'_>) {
    if let Some(keys) = ctx.node.stats.keys_estimate.filter(|keys| *keys > 0) {
        line(text, format_args!("db0:keys={keys},expires=0,avg_ttl=0"));
    }
}

fn quorate(text: &mut String, _session: &ClientSession, ctx: &ClientContext<'_>) {
    let node = ctx.node;
    let led = node
        .routes
        .iter()
        .filter(|route| route.leader == Some(node.store))
        .count();
    line(text, format_args!("cluster_id:{}", node.cluster));
    line(text, format_args!("store_id:{}", node.store));
    line(text, format_args!("stores:{}", node.stores.len()));
    line(
        text,
        format_args!(
            "stores_up:{}",
            node.stores.iter().filter(|store| store.up).count()
        ),
    );
    line(text, format_args!("shards:{}", node.routes.len()));
    line(text, format_args!("shards_led:{led}"));
    line(text, format_args!("replicas:{}", node.stats.replicas));
}

/// TIME
pub(super) fn time(session: &mut ClientSession, _args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let wall_ms = ctx.wall_ms;
    session.reply(|writer| {
        writer.array(2);
        writer.bulk_int(wall_ms / 1000);
        writer.bulk_int(wall_ms % 1000 * 1000);
    });
    Ok(())
}

/// WAIT numreplicas timeout: an acknowledged write is on a majority already, so this never waits, and tells
/// how many replicas beside the leader that makes at least.
pub(super) fn wait(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    integer(args.get(1))?;
    match parse_i64(args.get(2)) {
        None => return Err(Failure::Fixed("ERR timeout is not an integer or out of range")),
        Some(timeout) if timeout < 0 => return Err(Failure::Fixed("ERR timeout is negative")),
        Some(_) => {}
    }
    let replicas = ctx.node.replicas_of_acknowledged();
    session.reply(|writer| writer.int(replicas as i64));
    Ok(())
}

/// DEBUG
pub(super) fn debug(_: &mut ClientSession, _: &Args, _: &mut ClientContext<'_>) -> Handled {
    Err(Failure::Fixed(
        "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it \
         from a local connection, otherwise you need to set this option in the configuration file, and then \
         restart the server.",
    ))
}
