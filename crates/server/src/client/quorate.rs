//! QUORATE: what Redis has no command for.

use quorate_store::RouteMode;

use super::failure::Failure;
use super::{ClientContext, ClientSession, Handled, control, manage, overview, recover};
use crate::resp::Args;

/// QUORATE MODE, SHARDS, STORES, MAP, REGISTRY, CONFIG, MOVES, JOIN, STORE, TSO, PLACE, PLAN, RECOVER, REPLICA, TRANSFER and SPLIT; all others are the node's.
pub(super) fn quorate(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    match args.get(1).to_ascii_lowercase().as_slice() {
        b"mode" => mode(session, args),
        b"shards" => shards(session, args, ctx),
        b"stores" => manage::stores(session, args, ctx),
        b"map" => overview::map(session, args, ctx),
        b"registry" => overview::registry(session, args, ctx),
        b"join" => control::join(session, args, ctx),
        b"store" => control::store(session, args, ctx),
        b"config" => control::config(session, args, ctx),
        b"moves" => control::moves(session, args, ctx),
        b"place" => control::place(session, args, ctx),
        b"recover" => recover::recover(session, args, ctx),
        b"plan" => control::plan(session, args, ctx),
        b"tso" => control::timestamps(session, args, ctx),
        b"replica" => manage::replica(session, args, ctx),
        b"transfer" => manage::transfer(session, args, ctx),
        b"split" => manage::split(session, args, ctx),
        _ => {
            session.send_to_node(ctx, args);
            Ok(())
        }
    }
}

/// `QUORATE MODE [proxy | cluster]`: how the commands behind it are served on this connection.
fn mode(session: &mut ClientSession, args: &Args) -> Handled {
    match args.len() {
        2 => {
            let mode = session.mode;
            session.reply(|writer| {
                writer.bulk(match mode {
                    RouteMode::Proxy => b"proxy",
                    RouteMode::Redirect => b"cluster",
                })
            });
            return Ok(());
        }
        3 => {}
        _ => return Err(Failure::Arity("quorate|mode")),
    }
    session.mode = match args.get(2).to_ascii_lowercase().as_slice() {
        b"proxy" => RouteMode::Proxy,
        b"cluster" => RouteMode::Redirect,
        _ => return Err(Failure::Syntax),
    };
    session.reply(|writer| writer.ok());
    Ok(())
}

/// QUORATE SHARDS: per shard its id, first and last slot, leader (or null) and stores.
fn shards(session: &mut ClientSession, args: &Args, ctx: &ClientContext<'_>) -> Handled {
    if args.len() != 2 {
        return Err(Failure::Arity("quorate|shards"));
    }
    let routes = &ctx.node.routes;
    session.reply(|writer| {
        writer.array(routes.len());
        for route in routes {
            writer.map(5);
            writer.bulk(b"shard");
            writer.int(route.shard.0 as i64);
            writer.bulk(b"first-slot");
            writer.int(i64::from(route.start_slot));
            writer.bulk(b"last-slot");
            writer.int(i64::from(route.end_slot) - 1);
            writer.bulk(b"leader");
            match route.leader {
                Some(leader) => writer.int(leader.0 as i64),
                None => writer.null(),
            }
            writer.bulk(b"stores");
            writer.array(route.stores.len());
            route.stores.iter().for_each(|store| writer.int(store.0 as i64));
        }
    });
    Ok(())
}
