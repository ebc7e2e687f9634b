//! QUORATE JOIN, STORE, PLACE, PLAN, CONFIG, MOVES and TSO: what the controller is told and asked, through any node.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_proto::{
    ControlCommand, ControlQuery, ForwardBody, GroupId, Groups, LABELS_MAX, Labels, Op, PlacementCommand,
    Query, Service, StoreRecord, TIMESTAMPS_MAX,
};
use quorate_storage::{Incarnation, ShardId, StoreId};

use super::failure::Failure;
use super::reply::Shape;
use super::{ClientContext, ClientSession, Handled, manage, overview};
use crate::resp::{Args, parse_i64};

fn tell(session: &mut ClientSession, command: ControlCommand, ctx: &mut ClientContext<'_>) {
    let body = ForwardBody::Write(Op::Control(Box::new(command)));
    overview::ask(session, Shape::Plain, body, ctx);
}

/// `QUORATE STORE DRAIN|UNDRAIN|REMOVE store`: OK once it is taken down; QUORATE REGISTRY shows what becomes of it.
pub(super) fn store(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if args.len() != 4 {
        return Err(Failure::Arity("quorate|store"));
    }
    let service = match args.get(2).to_ascii_lowercase().as_slice() {
        b"drain" => Service::Draining,
        b"undrain" => Service::Active,
        b"remove" => Service::Removed,
        _ => {
            return Err(Failure::Fixed(
                "ERR usage: QUORATE STORE DRAIN|UNDRAIN|REMOVE <store>",
            ));
        }
    };
    let store = manage::store(args.get(3))?;
    tell(session, ControlCommand::SetStore { store, service }, ctx);
    Ok(())
}

/// `QUORATE PLACE …`: the number of the config that holds it.
pub(super) fn place(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let command = placement(args)?;
    tell(session, ControlCommand::Place(command), ctx);
    Ok(())
}

/// `QUORATE PLAN …`: the shards that would change their group if the same words came behind PLACE.
pub(super) fn plan(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let command = placement(args)?;
    overview::read(session, ControlQuery::Plan(command), ctx);
    Ok(())
}

const PLACE_USAGE: Failure = Failure::Fixed(
    "ERR usage: QUORATE PLACE|PLAN JOIN <group>=<store>[,<store> ...] ..., LEAVE <group> ..., MOVE <shard> <group>, \
     GROUP <group> ADD|REMOVE <store> ... or REBALANCE",
);

fn placement(args: &Args) -> Result<PlacementCommand, Failure> {
    let group = |text: &[u8]| manage::id(text, Failure::Fixed("ERR the group is not a number")).map(GroupId);
    if args.len() < 3 {
        return Err(PLACE_USAGE);
    }
    let behind = |from: usize| (from..args.len()).map(|at| args.get(at));
    Ok(match (args.get(2).to_ascii_lowercase().as_slice(), args.len()) {
        (b"join", _) => {
            let mut groups = Groups::new();
            for text in behind(3) {
                let equals = text.iter().position(|byte| *byte == b'=').ok_or(PLACE_USAGE)?;
                let stores = text[equals + 1..].split(|byte| *byte == b',');
                let stores = stores.filter(|store| !store.is_empty()).map(manage::store);
                let stores = stores.collect::<Result<_, _>>()?;
                if groups.insert(group(&text[..equals])?, stores).is_some() {
                    return Err(Failure::Fixed("ERR a group is given twice"));
                }
            }
            PlacementCommand::Join(groups)
        }
        (b"leave", 4..) => PlacementCommand::Leave(behind(3).map(group).collect::<Result<_, _>>()?),
        (b"move", 5) => PlacementCommand::Move {
            shard: ShardId(manage::id(
                args.get(3),
                Failure::Fixed("ERR the shard is not a number"),
            )?),
            group: group(args.get(4))?,
        },
        (b"group", 6..) => {
            let stores = behind(5).map(manage::store).collect::<Result<_, _>>()?;
            let (add, remove) = match args.get(4).to_ascii_lowercase().as_slice() {
                b"add" => (stores, BTreeSet::new()),
                b"remove" => (BTreeSet::new(), stores),
                _ => return Err(PLACE_USAGE),
            };
            PlacementCommand::Regroup {
                group: group(args.get(3))?,
                add,
                remove,
            }
        }
        (b"rebalance", 3) => PlacementCommand::Rebalance,
        _ => return Err(PLACE_USAGE),
    })
}

/// `QUORATE CONFIG [num]`: the config of that number, or the newest.
pub(super) fn config(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let num = match args.len() {
        2 => -1,
        3 => parse_i64(args.get(2))
            .filter(|num| *num >= -1)
            .ok_or(Failure::Fixed(
                "ERR the number of the config is not a number from -1",
            ))?,
        _ => return Err(Failure::Arity("quorate|config")),
    };
    overview::read(session, ControlQuery::Config { num }, ctx);
    Ok(())
}

/// `QUORATE MOVES`: per shard that is not where the config wants it, or is changing, where it goes.
pub(super) fn moves(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if args.len() != 2 {
        return Err(Failure::Arity("quorate|moves"));
    }
    overview::read(session, ControlQuery::Moves, ctx);
    Ok(())
}

/// `QUORATE TSO [count]`: the first of so many timestamps that were never given before, one if none is said.
pub(super) fn timestamps(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let count = match args.len() {
        2 => Some(1),
        3 => std::str::from_utf8(args.get(2))
            .ok()
            .and_then(|text| text.parse().ok()),
        _ => return Err(Failure::Arity("quorate|tso")),
    };
    let count = count
        .filter(|count| (1..=TIMESTAMPS_MAX).contains(count))
        .ok_or(Failure::Fixed("ERR the count is not a number from 1 to 262144"))?;
    let body = ForwardBody::Read(Query::Timestamps { count });
    overview::ask(session, Shape::Plain, body, ctx);
    Ok(())
}

/// `QUORATE JOIN incarnation client peer http roles [name=value ...]`: a new store asks for an id. The answer is an
/// [`Admission`](quorate_proto::Admission) as a bulk string.
pub(super) fn join(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if !(7..=7 + LABELS_MAX).contains(&args.len()) {
        return Err(Failure::Arity("quorate|join"));
    }
    let mut labels = Labels::new();
    for at in 7..args.len() {
        let label = args.get(at);
        let equals = label.iter().position(|byte| *byte == b'=');
        let equals = equals.ok_or(Failure::Fixed("ERR a label is not name=value"))?;
        let (name, value) = label.split_at(equals);
        labels.insert(Bytes::copy_from_slice(name), Bytes::copy_from_slice(&value[1..]));
    }
    let incarnation = std::str::from_utf8(args.get(2))
        .ok()
        .and_then(|text| u128::from_str_radix(text, 16).ok())
        .ok_or(Failure::Fixed(
            "ERR the incarnation is not a number in hexadecimal",
        ))?;
    let roles = std::str::from_utf8(args.get(6))
        .ok()
        .and_then(|text| text.parse().ok());
    let roles = roles.ok_or(Failure::Fixed(
        "ERR the roles are not controller, store or controller,store",
    ))?;
    let address = |at: usize| Bytes::copy_from_slice(args.get(at));
    let record = StoreRecord {
        store: StoreId(0),
        incarnation: Incarnation(incarnation),
        client: address(3),
        peer: address(4),
        http: address(5),
        labels,
        roles,
    };
    tell(session, ControlCommand::Admit(record), ctx);
    Ok(())
}
