//! CLUSTER: where the slots are, for clients that go straight to the leaders.
//!
//! The answers are the truth in both modes. A slot without a known leader is left out, so that a client sends
//! what concerns it to any node. Every store counts as a master, also one that leads nothing just now: which
//! leads a shard changes from shard to shard.

use std::fmt::Write as _;

use quorate_storage::StoreId;
use quorate_store::ShardRoute;
use quorate_store::kv::slot_of;

use super::failure::{self, Failure};
use super::numbers::integer;
use super::scan::PAGE_KEYS;
use super::view::{NodeView, StoreInfo};
use super::walk::{Aim, SLOTS, Walk};
use super::{ClientContext, ClientSession, Handled};
use crate::resp::{Args, Writer};

/// READONLY, READWRITE and ASKING: accepted. Reads are linearizable wherever they are sent.
pub(super) fn accept(session: &mut ClientSession, _args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    session.reply(|writer| writer.ok());
    Ok(())
}

/// Whether a store leads nothing. Only such ones are listed as replicas: clients fix a node's role at its first
/// mention (redis-py), and would then leave out of SCAN and DBSIZE what a listed replica leads elsewhere.
fn is_only_replica(node: &NodeView, store: StoreId) -> bool {
    node.routes.iter().all(|route| route.leader != Some(store))
}

/// A route's leader, then the other stores that are up and hold a replica.
fn servers<'a>(node: &'a NodeView, route: &'a ShardRoute) -> Option<(&'a StoreInfo, Vec<&'a StoreInfo>)> {
    let leader = node.store_info(route.leader?)?;
    let others = route.stores.iter().filter(|store| is_only_replica(node, **store));
    let others = others
        .filter_map(|store| node.store_info(*store))
        .filter(|store| store.up);
    Some((leader, others.collect()))
}

/// CLUSTER SLOTS
pub(super) fn slots(session: &mut ClientSession, _args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let node = ctx.node;
    let served: Vec<_> = node
        .routes
        .iter()
        .filter_map(|route| Some((route, servers(node, route)?)))
        .collect();
    session.reply(|writer| {
        writer.array(served.len());
        for (route, (leader, others)) in &served {
            writer.array(3 + others.len());
            writer.int(i64::from(route.start_slot));
            writer.int(i64::from(route.end_slot) - 1);
            for store in std::iter::once(leader).chain(others) {
                writer.array(4);
                writer.bulk(store.client_host.as_bytes());
                writer.int(i64::from(store.client_port));
                writer.bulk(node.cluster_node_id(store.id).as_bytes());
                // Further names of the endpoint: none.
                writer.map(0);
            }
        }
    });
    Ok(())
}

/// CLUSTER SHARDS
pub(super) fn shards(session: &mut ClientSession, _args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let node = ctx.node;
    session.reply(|writer| {
        writer.array(node.routes.len());
        for route in &node.routes {
            writer.map(2);
            writer.bulk(b"slots");
            writer.array(2);
            writer.int(i64::from(route.start_slot));
            writer.int(i64::from(route.end_slot) - 1);
            writer.bulk(b"nodes");
            let stores: Vec<_> = route
                .stores
                .iter()
                .filter(|store| route.leader == Some(**store) || is_only_replica(node, **store))
                .filter_map(|store| node.store_info(*store))
                .collect();
            writer.array(stores.len());
            for store in stores {
                write_shard_node(node, route, store, writer);
            }
        }
    });
    Ok(())
}

fn write_shard_node(node: &NodeView, route: &ShardRoute, store: &StoreInfo, writer: &mut Writer<'_>) {
    let leads = route.leader == Some(store.id);
    writer.map(7);
    for (field, value) in [
        ("id", &node.cluster_node_id(store.id)),
        ("ip", &store.client_host),
        ("endpoint", &store.client_host),
    ] {
        writer.bulk(field.as_bytes());
        writer.bulk(value.as_bytes());
        if field == "id" {
            writer.bulk(b"port");
            writer.int(i64::from(store.client_port));
        }
    }
    writer.bulk(b"role");
    writer.bulk(if leads { b"master" } else { b"replica" });
    writer.bulk(b"replication-offset");
    writer.int(0);
    writer.bulk(b"health");
    writer.bulk(if store.up { b"online" } else { b"fail" });
}

/// CLUSTER NODES
pub(super) fn nodes(session: &mut ClientSession, _args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let node = ctx.node;
    let mut text = String::new();
    for store in &node.stores {
        let myself = if store.id == node.store { "myself," } else { "" };
        let (failed, link) = if store.up {
            ("", "connected")
        } else {
            (",fail", "disconnected")
        };
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{} {}:{}@{} {myself}master{failed} - 0 0 0 {link}",
            node.cluster_node_id(store.id),
            store.client_host,
            store.client_port,
            store.peer_port,
        );
        for route in node.routes.iter().filter(|route| route.leader == Some(store.id)) {
            let (first, last) = (route.start_slot, route.end_slot - 1);
            let _ = if first == last {
                write!(text, " {first}")
            } else {
                write!(text, " {first}-{last}")
            };
        }
        text.push('\n');
    }
    session.reply(|writer| writer.verbatim(&text));
    Ok(())
}

/// CLUSTER INFO
pub(super) fn info(session: &mut ClientSession, _args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let node = ctx.node;
    let slots = |routes: &mut dyn Iterator<Item = &ShardRoute>| -> u32 {
        routes
            .map(|route| u32::from(route.end_slot - route.start_slot))
            .sum()
    };
    let assigned = slots(&mut node.routes.iter());
    let served = slots(&mut node.routes.iter().filter(|route| servers(node, route).is_some()));
    let mut leaders: Vec<_> = node.routes.iter().filter_map(|route| route.leader).collect();
    leaders.sort_unstable();
    leaders.dedup();
    let text = format!(
        "cluster_state:{}\r\ncluster_slots_assigned:{assigned}\r\ncluster_slots_ok:{served}\r\n\
         cluster_slots_pfail:0\r\ncluster_slots_fail:{}\r\ncluster_known_nodes:{}\r\ncluster_size:{}\r\n\
         cluster_current_epoch:0\r\ncluster_my_epoch:0\r\ncluster_stats_messages_sent:0\r\n\
         cluster_stats_messages_received:0\r\ntotal_cluster_links_buffer_limit_exceeded:0\r\n",
        if served == u32::from(SLOTS) { "ok" } else { "fail" },
        assigned - served,
        node.stores.len(),
        leaders.len(),
    );
    session.reply(|writer| writer.verbatim(&text));
    Ok(())
}

/// CLUSTER KEYSLOT key
pub(super) fn keyslot(session: &mut ClientSession, args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    let slot = slot_of(args.get(2));
    session.reply(|writer| writer.int(i64::from(slot)));
    Ok(())
}

/// CLUSTER MYID
pub(super) fn myid(session: &mut ClientSession, _args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let id = ctx.node.cluster_node_id(ctx.node.store);
    session.reply(|writer| writer.bulk(id.as_bytes()));
    Ok(())
}

/// CLUSTER COUNTKEYSINSLOT slot
pub(super) fn countkeysinslot(
    session: &mut ClientSession,
    args: &Args,
    ctx: &mut ClientContext<'_>,
) -> Handled {
    let slot = u16::try_from(integer(args.get(2))?)
        .ok()
        .filter(|slot| *slot < SLOTS);
    let slot = slot.ok_or(Failure::Fixed("ERR Invalid slot"))?;
    if ctx.node.route_of(slot).is_none() {
        let text = failure::unavailable(quorate_store::Refusal::NoShard);
        session.reply(|writer| writer.error(&text));
        return Ok(());
    }
    let mut walk = Walk::new(Aim::Count(0), session.mode, PAGE_KEYS);
    walk.from.slot = slot;
    walk.end_slot = slot + 1;
    session.send_walk(ctx, walk);
    Ok(())
}

/// CLUSTER HELP
pub(super) fn help(session: &mut ClientSession, _args: &Args, _ctx: &mut ClientContext<'_>) -> Handled {
    session.reply_help(
        "CLUSTER",
        &[
            ("COUNTKEYSINSLOT <slot>", "Return the number of keys in <slot>."),
            ("INFO", "Return information about the cluster."),
            ("KEYSLOT <key>", "Return the hash slot for <key>."),
            ("MYID", "Return the node id."),
            (
                "NODES",
                "Return the nodes and the slots that each leads. Output format:",
            ),
            ("", "<id> <ip:port@peer-port> <flags> - 0 0 0 <link> <slot> ..."),
            ("SHARDS", "Return slot range mappings and the nodes of each."),
            ("SLOTS", "Return information about slots range mappings."),
        ],
    );
    Ok(())
}
