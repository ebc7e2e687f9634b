//! How a config and moves are listed.

use quorate_proto::{Config, MoveRow, PlannedMove};
use quorate_storage::StoreId;

use super::overview::{Field, Row, number};

fn stores<'a>(of: impl IntoIterator<Item = &'a StoreId>) -> Field {
    Field::Numbers(of.into_iter().map(|store| store.0).collect())
}

pub(super) fn config(config: &Config) -> Row {
    let groups = config.groups.iter().map(|(group, of)| {
        let held = config.shards.values().filter(|place| place.group == Some(*group));
        vec![
            ("group", number(group.0)),
            ("stores", stores(of)),
            ("shards", number(held.count() as u64)),
        ]
    });
    let mut shards: Vec<_> = config.shards.iter().collect();
    shards.sort_unstable_by_key(|(_, place)| place.start_slot);
    let shards = shards.into_iter().map(|(shard, place)| {
        vec![
            ("shard", number(shard.0)),
            ("first-slot", number(place.start_slot)),
            ("last-slot", number(place.end_slot.saturating_sub(1))),
            ("group", Field::Number(place.group.map(|group| group.0))),
        ]
    });
    vec![
        ("config", number(config.num)),
        ("groups", Field::Rows(groups.collect())),
        ("shards", Field::Rows(shards.collect())),
    ]
}

pub(super) fn planned(row: &PlannedMove) -> Row {
    vec![
        ("shard", number(row.shard.0)),
        ("from", Field::Number(row.from.map(|group| group.0))),
        ("to", Field::Number(row.to.map(|group| group.0))),
        ("bytes", Field::Number(row.bytes)),
    ]
}

pub(super) fn under_way(row: &MoveRow) -> Row {
    let bytes_of = |stores: &[StoreId]| row.bytes.map(|bytes| bytes.saturating_mul(stores.len() as u64));
    vec![
        ("shard", number(row.shard.0)),
        ("group", Field::Number(row.group.map(|group| group.0))),
        ("from", stores(&row.from)),
        ("to", stores(&row.to)),
        ("ready", stores(&row.ready)),
        ("bytes-done", Field::Number(bytes_of(&row.ready))),
        ("bytes-total", Field::Number(bytes_of(&row.to))),
    ]
}
