//! QUORATE MAP and REGISTRY: shards and stores by the word of the controller's leader, asked through any node.

use bytes::Bytes;
use quorate_proto::{
    ControlQuery, ForwardBody, MemberRole, Query, Service, ShardLookup, ShardMember, ShardRow,
    StoreHeartbeat, StoreRow, StoreState, decode_config, decode_losses, decode_moves, decode_plan,
    decode_shards, decode_store_rows,
};
use quorate_storage::ShardId;
use quorate_store::kv::slot_of;
use quorate_store::rsm::CONTROLLER;
use quorate_store::{SLOTS, Target};

use super::failure::Failure;
use super::gather::Part;
use super::reply::Shape;
use super::ring::Entry;
use super::{ClientContext, ClientSession, Handled, listing, manage, recover};
use crate::resp::{Args, Writer};

const MAP_USAGE: Failure = Failure::Fixed(
    "ERR usage: QUORATE MAP [SHARD <shard> | KEY <key> | SLOT <slot> | BEFORE <slot> | FROM <slot> <limit>]",
);

/// `QUORATE MAP …`: per shard that its leader has told of, the controller's included, where it is and how it stands; or
/// those only that are looked for.
pub(super) fn map(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if args.len() == 2 {
        read(session, ControlQuery::Shards, ctx);
        return Ok(());
    }
    let number = |at: usize| {
        let found = manage::id(args.get(at), MAP_USAGE)?;
        u16::try_from(found).map_err(|_| MAP_USAGE)
    };
    let slot = |at: usize| {
        let wrong = Failure::Fixed("ERR the slot is not a number from 0 to 16383");
        number(at).ok().filter(|slot| *slot < SLOTS).ok_or(wrong)
    };
    let what = args.get(2).to_ascii_lowercase();
    let lookup = match (what.as_slice(), args.len()) {
        (b"shard", 4) => {
            let wrong = Failure::Fixed("ERR the shard is not a number");
            ShardLookup::Id(ShardId(manage::id(args.get(3), wrong)?))
        }
        (b"key", 4) => ShardLookup::At {
            slot: slot_of(args.get(3)),
        },
        (b"slot", 4) => ShardLookup::At { slot: slot(3)? },
        (b"before", 4) => ShardLookup::Before { slot: slot(3)? },
        (b"from", 5) => ShardLookup::From {
            slot: slot(3)?,
            limit: number(4)?,
        },
        _ => return Err(MAP_USAGE),
    };
    read(session, ControlQuery::FindShards(lookup), ctx);
    Ok(())
}

/// `QUORATE REGISTRY [store]`: per store that has registered who and where it is, and whether it lives; or of one only.
pub(super) fn registry(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let query = match args.len() {
        2 => ControlQuery::Stores,
        3 => ControlQuery::FindStore(manage::store(args.get(2))?),
        _ => return Err(Failure::Arity("quorate|registry")),
    };
    read(session, query, ctx);
    Ok(())
}

pub(super) fn read(session: &mut ClientSession, query: ControlQuery, ctx: &mut ClientContext<'_>) {
    let shape = Shape::Controller(Listing::of(&query));
    ask(session, shape, ForwardBody::Read(Query::Control(query)), ctx);
}

/// Asks the controller; `shape` says how its answer is written.
pub(super) fn ask(session: &mut ClientSession, shape: Shape, body: ForwardBody, ctx: &mut ClientContext<'_>) {
    let number = session.ring.push(Entry::Single {
        shape,
        protocol: session.protocol,
        slot: 0,
        write: matches!(body, ForwardBody::Write(_)),
    });
    let request = Part {
        target: Target::Shard(CONTROLLER),
        body,
    };
    session.send(number, request, None, ctx);
}

/// What a query lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Listing {
    /// Stores.
    Stores,
    /// Shards.
    Shards,
    /// One config: its number, its groups, its shards.
    Config,
    /// Shards that would change their group.
    Plan,
    /// Shards that are on their way.
    Moves,
    /// Shards that lost their majority.
    Losses,
}

impl Listing {
    fn of(query: &ControlQuery) -> Self {
        match query {
            ControlQuery::Stores | ControlQuery::FindStore(_) => Listing::Stores,
            ControlQuery::Shards | ControlQuery::FindShards(_) => Listing::Shards,
            ControlQuery::Config { .. } => Listing::Config,
            ControlQuery::Plan(_) => Listing::Plan,
            ControlQuery::Moves => Listing::Moves,
            ControlQuery::Losses { .. } => Listing::Losses,
        }
    }
}

/// Writes the controller's answer.
pub(super) fn write_answer(listing: Listing, bytes: &Bytes, writer: &mut Writer<'_>) {
    fn rows<T>(of: impl Fn(&T) -> Row, list: &[T]) -> Field {
        Field::Rows(list.iter().map(of).collect())
    }
    let field = match listing {
        Listing::Stores => decode_store_rows(bytes).map(|list| rows(store, &list)),
        Listing::Shards => decode_shards(bytes).map(|list| rows(shard, &list)),
        Listing::Config => decode_config(bytes).map(|config| Field::Row(listing::config(&config))),
        Listing::Plan => decode_plan(bytes).map(|list| rows(listing::planned, &list)),
        Listing::Losses => decode_losses(bytes).map(|list| rows(recover::row, &list)),
        Listing::Moves => decode_moves(bytes).map(|list| rows(listing::under_way, &list)),
    };
    match field {
        Ok(field) => field.write(writer),
        Err(error) => {
            let text = format!("ERR the controller's answer cannot be read: {error}");
            writer.error(text.as_bytes());
        }
    }
}

impl Field {
    fn write(self, writer: &mut Writer<'_>) {
        match self {
            Field::Number(Some(number)) => writer.int(i64::try_from(number).unwrap_or(i64::MAX)),
            Field::Number(None) => writer.null(),
            Field::Text(text) => writer.bulk(&text),
            Field::Numbers(numbers) => {
                writer.array(numbers.len());
                numbers.into_iter().for_each(|number| writer.int(number as i64));
            }
            Field::Texts(texts) => {
                writer.array(texts.len());
                texts.iter().for_each(|text| writer.bulk(text));
            }
            Field::Row(row) => {
                writer.map(row.len());
                for (name, field) in row {
                    writer.bulk(name.as_bytes());
                    field.write(writer);
                }
            }
            Field::Rows(rows) => {
                writer.array(rows.len());
                rows.into_iter().for_each(|row| Field::Row(row).write(writer));
            }
        }
    }
}

/// A value in a row.
pub(super) enum Field {
    Number(Option<u64>),
    Text(Bytes),
    Numbers(Vec<u64>),
    Texts(Vec<Bytes>),
    Row(Row),
    Rows(Vec<Row>),
}

pub(super) type Row = Vec<(&'static str, Field)>;

pub(super) fn number(value: impl Into<u64>) -> Field {
    Field::Number(Some(value.into()))
}

fn shard(row: &ShardRow) -> Row {
    let last = &row.last;
    let slots = (last.start_slot < last.end_slot).then(|| (last.start_slot, last.end_slot - 1));
    let stores = |which: &dyn Fn(&ShardMember) -> bool| {
        let members = last.members.iter().filter(|member| which(member));
        let mut stores: Vec<u64> = members.map(|member| member.store.0).collect();
        stores.sort_unstable();
        Field::Numbers(stores)
    };
    let changes = |member: &ShardMember| matches!(member.role, MemberRole::Incoming | MemberRole::Outgoing);
    vec![
        ("shard", number(last.shard.0)),
        ("first-slot", Field::Number(slots.map(|(first, _)| first.into()))),
        ("last-slot", Field::Number(slots.map(|(_, end)| end.into()))),
        ("leader", Field::Number(last.leader_store().map(|store| store.0))),
        ("stores", stores(&|_| true)),
        ("learners", stores(&|member| member.role == MemberRole::Learner)),
        ("joint", stores(&changes)),
        ("pending", stores(&|member| member.is_pending)),
        ("version", number(last.epoch.version)),
        ("conf-ver", number(last.epoch.conf_ver)),
        ("term", number(last.term.0)),
        ("bytes", Field::Number(last.bytes)),
        ("operations-per-second", Field::Number(last.load)),
        ("age-ms", number(row.age_ms)),
    ]
}

fn store(row: &StoreRow) -> Row {
    let StoreRow {
        record, last, counts, ..
    } = row;
    let state: &'static str = match row.state {
        StoreState::Up => "up",
        StoreState::Unheard => "unheard",
        StoreState::Down => "down",
    };
    let service: &'static str = match row.service {
        Service::Active => "active",
        Service::Draining => "draining",
        Service::Removed => "removed",
    };
    let labels = record
        .labels
        .iter()
        .map(|(name, value)| Bytes::from([name, &b"="[..], value].concat()));
    let of_last = |of: fn(&StoreHeartbeat) -> u64| Field::Number(last.as_ref().map(of));
    vec![
        ("store", number(record.store.0)),
        ("state", Field::Text(state.into())),
        ("service", Field::Text(service.into())),
        (
            "roles",
            Field::Texts(record.roles.names().map(Bytes::from).collect()),
        ),
        ("labels", Field::Texts(labels.collect())),
        ("silent-ms", number(row.silent_ms)),
        ("client", Field::Text(record.client.clone())),
        ("peer", Field::Text(record.peer.clone())),
        ("http", Field::Text(record.http.clone())),
        ("shards", number(counts.replicas)),
        ("leads", number(counts.leads)),
        ("learners", number(counts.learners)),
        ("pending", number(counts.pending)),
        ("bytes", number(counts.bytes)),
        (
            "free-bytes",
            Field::Number(last.as_ref().and_then(|last| last.available_bytes)),
        ),
        ("full", of_last(|last| last.is_full.into())),
        ("slow", of_last(|last| last.is_slow.into())),
        ("incarnation", Field::Text(record.incarnation.to_string().into())),
    ]
}
