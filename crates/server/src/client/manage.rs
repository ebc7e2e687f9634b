//! QUORATE REPLICA, TRANSFER, SPLIT and STORES: who holds a shard, and who is to hold what.
//!
//! Any node takes these and forwards them to the shard's leader, whatever the mode of the connection.

use quorate_proto::{ForwardBody, Manage};
use quorate_storage::{ShardId, StoreId};
use quorate_store::Target;

use super::by_hand::ByHand;
use super::failure::Failure;
use super::gather::Part;
use super::reply::Shape;
use super::ring::Entry;
use super::{ClientContext, ClientSession, Handled};
use crate::resp::Args;

const REPLICA_USAGE: Failure = Failure::Fixed(
    "ERR usage: QUORATE REPLICA ADD|REMOVE <shard> <store> [<store> ...], QUORATE REPLICA MOVE <shard> <from> <to> or \
     QUORATE REPLICA ABORT <shard>",
);

pub(super) fn id(text: &[u8], what: Failure) -> Result<u64, Failure> {
    let digits = std::str::from_utf8(text)
        .ok()
        .filter(|text| !text.starts_with('+'));
    digits.and_then(|text| text.parse().ok()).ok_or(what)
}

pub(super) fn store(text: &[u8]) -> Result<StoreId, Failure> {
    id(text, Failure::Fixed("ERR the store is not a number")).map(StoreId)
}

/// `QUORATE REPLICA ADD|REMOVE shard store...`, `MOVE shard from to`, `ABORT shard`. OK once the shard has taken the
/// wish down; QUORATE SHARDS shows what becomes of it.
pub(super) fn replica(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if args.len() < 4 {
        return Err(REPLICA_USAGE);
    }
    let mut stores = Vec::new();
    for at in 4..args.len() {
        stores.push(store(args.get(at))?);
    }
    let wish = match (args.get(2).to_ascii_lowercase().as_slice(), stores.as_slice()) {
        (b"add", [_, ..]) => Manage::Change {
            add: stores,
            remove: Vec::new(),
        },
        (b"remove", [_, ..]) => Manage::Change {
            add: Vec::new(),
            remove: stores,
        },
        (b"move", [from, to]) => Manage::Change {
            add: vec![*to],
            remove: vec![*from],
        },
        (b"abort", []) => Manage::Abort,
        _ => return Err(REPLICA_USAGE),
    };
    send(session, args.get(3), wish, ctx)
}

/// `QUORATE TRANSFER shard store`: OK once the shard's leader has begun to hand over.
pub(super) fn transfer(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if args.len() != 4 {
        return Err(Failure::Arity("quorate|transfer"));
    }
    let to = store(args.get(3))?;
    send(session, args.get(2), Manage::Transfer { to }, ctx)
}

/// `QUORATE SPLIT shard [slot]`: OK once the slots from `slot` on are a shard of their own; without a slot, about half
/// of the data.
pub(super) fn split(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let slot = match args.len() {
        3 => None,
        4 => {
            let wrong = || Failure::Fixed("ERR the slot is not a number from 1 to 16383");
            let slot = id(args.get(3), wrong())?;
            Some(
                u16::try_from(slot)
                    .ok()
                    .filter(|slot| (1..16384).contains(slot))
                    .ok_or_else(wrong)?,
            )
        }
        _ => return Err(Failure::Arity("quorate|split")),
    };
    send(session, args.get(2), Manage::Split { slot, ids: None }, ctx)
}

fn send(session: &mut ClientSession, shard: &[u8], wish: Manage, ctx: &mut ClientContext<'_>) -> Handled {
    let shard = ShardId(id(shard, Failure::Fixed("ERR the shard is not a number"))?);
    let route = ctx.node.routes.iter().find(|route| route.shard == shard);
    if route.is_none() && shard != ShardId(0) {
        return Err(Failure::Fixed(
            "ERR no such shard is known here; QUORATE SHARDS lists them",
        ));
    }
    let slot = route.map_or(0, |route| route.start_slot);
    if matches!(&wish, Manage::Change { add, .. } if !add.is_empty()) {
        session.send_by_hand(ctx, slot, ByHand { shard, wish });
        return Ok(());
    }
    let number = session.ring.push(Entry::Single {
        shape: Shape::Plain,
        protocol: session.protocol,
        slot,
        write: true,
    });
    let request = Part {
        target: Target::Shard(shard),
        body: ForwardBody::Manage(wish),
    };
    session.send(number, request, None, ctx);
    Ok(())
}

/// QUORATE STORES: per store its id, addresses, whether this node hears from it, and how many shards it holds and
/// leads by this node's knowledge; shard 0 is not counted.
pub(super) fn stores(session: &mut ClientSession, args: &Args, ctx: &ClientContext<'_>) -> Handled {
    if args.len() != 2 {
        return Err(Failure::Arity("quorate|stores"));
    }
    let (stores, routes) = (&ctx.node.stores, &ctx.node.routes);
    session.reply(|writer| {
        writer.array(stores.len());
        for info in stores {
            let holds = routes.iter().filter(|route| route.stores.contains(&info.id));
            let leads = routes.iter().filter(|route| route.leader == Some(info.id));
            writer.map(7);
            writer.bulk(b"store");
            writer.int(info.id.0 as i64);
            writer.bulk(b"host");
            writer.bulk(info.client_host.as_bytes());
            writer.bulk(b"port");
            writer.int(i64::from(info.client_port));
            writer.bulk(b"peer-port");
            writer.int(i64::from(info.peer_port));
            writer.bulk(b"up");
            writer.int(i64::from(info.up));
            writer.bulk(b"shards");
            writer.int(holds.count() as i64);
            writer.bulk(b"leads");
            writer.int(leads.count() as i64);
        }
    });
    Ok(())
}
