//! Join, Leave, Move and Query: rows C-01 to C-11, on the state machine by itself.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use quorate_controller::{Controller, DEFAULT_GROUP};
use quorate_proto::{Answer, CommandError, Config, ControlCommand, GroupId, Groups, PlacementCommand};
use quorate_storage::{ShardId, StoreId};
use support::Hosted;

/// Data shards of the cluster: what the labs have.
const SHARDS: u16 = 10;

/// A cluster without groups: the labs begin so.
fn bare() -> Hosted {
    let mut hosted = Hosted::begun(SHARDS);
    hosted.place(leave(&[DEFAULT_GROUP.0])).unwrap();
    hosted
}

/// Groups with three stores each.
fn groups(ids: &[u64]) -> Groups {
    let stores = |id: u64| (0..3).map(|at| StoreId(100 * id + at)).collect();
    ids.iter().map(|id| (GroupId(*id), stores(*id))).collect()
}

fn join(ids: &[u64]) -> PlacementCommand {
    PlacementCommand::Join(groups(ids))
}

fn leave(ids: &[u64]) -> PlacementCommand {
    PlacementCommand::Leave(ids.iter().copied().map(GroupId).collect())
}

fn move_shard(shard: u64, group: u64) -> PlacementCommand {
    PlacementCommand::Move {
        shard: ShardId(shard),
        group: GroupId(group),
    }
}

/// What must hold of every config that no `Move` made: exactly these groups with exactly their stores, everything
/// owned by a group that exists, nobody with two shards more than another.
fn check(config: &Config, ids: &[u64]) {
    assert_eq!(config.groups, groups(ids), "config {}", config.num);
    let mut counts: BTreeMap<GroupId, usize> = config.groups.keys().map(|group| (*group, 0)).collect();
    for (shard, place) in &config.shards {
        match place.group {
            Some(group) => {
                *counts
                    .get_mut(&group)
                    .unwrap_or_else(|| panic!("{shard} has {group}, gone")) += 1
            }
            None => assert!(ids.is_empty(), "{shard} has no group"),
        }
    }
    let most = counts.values().max().unwrap_or(&0);
    let least = counts.values().min().unwrap_or(&0);
    assert!(most - least <= 1, "config {}: {counts:?}", config.num);
    check_ranges(config);
}

/// The ranges cover every slot once.
fn check_ranges(config: &Config) {
    let mut ranges: Vec<(u16, u16)> = config
        .shards
        .values()
        .map(|place| (place.start_slot, place.end_slot))
        .collect();
    ranges.sort_unstable();
    let mut next = 0;
    for (start, end) in ranges {
        assert_eq!(start, next, "a hole or an overlap");
        assert!(start < end, "{start}..{end} is empty");
        next = end;
    }
    assert_eq!(next, quorate_store::SLOTS);
}

fn owners(config: &Config) -> BTreeMap<ShardId, Option<GroupId>> {
    let places = config.shards.iter();
    places.map(|(shard, place)| (*shard, place.group)).collect()
}

/// Shards whose group changed.
fn moved(before: &Config, after: &Config) -> BTreeSet<ShardId> {
    let (before, after) = (owners(before), owners(after));
    let moved = after.into_iter().filter(|(shard, group)| before[shard] != *group);
    moved.map(|(shard, _)| shard).collect()
}

#[test]
fn c_01_groups_join_and_leave() {
    let mut hosted = bare();
    for (command, ids) in [
        (join(&[1]), &[1][..]),
        (join(&[2]), &[1, 2]),
        (leave(&[1]), &[2]),
        (leave(&[2]), &[]),
    ] {
        let before = hosted.newest().num;
        hosted.place(command).unwrap();
        assert_eq!(hosted.newest().num, before + 1);
        check(hosted.newest(), ids);
    }
}

#[test]
fn c_02_old_configs_are_answered_as_they_were() {
    let mut hosted = bare();
    let mut seen: Vec<Config> = (0..=2).map(|num| hosted.machine.history().query(num)).collect();
    for step in 0..40 {
        let command = match step % 4 {
            0 => join(&[step + 1]),
            1 => join(&[step + 1, step + 100]),
            2 => move_shard(1 + step % u64::from(SHARDS), step - 1),
            _ => leave(&[step - 1]),
        };
        hosted.place(command).unwrap();
        // A shard may be where it is moved to.
        if hosted.newest().num == seen.len() as u64 {
            seen.push(hosted.newest().clone());
        }
        for machine in [&hosted.machine, &hosted.loaded().unwrap()] {
            for (num, config) in seen.iter().enumerate() {
                assert_eq!(config.num, num as u64);
                assert_eq!(machine.history().query(num as i64), *config);
            }
            for num in [-1, -7, seen.len() as i64, i64::MAX, i64::MIN] {
                assert_eq!(
                    machine.history().query(num),
                    *hosted.newest(),
                    "{num} is the newest"
                );
            }
        }
    }
}

#[test]
fn c_03_a_shard_is_moved() {
    let mut hosted = bare();
    hosted.place(join(&[1, 2])).unwrap();
    for round in 0..2 {
        for shard in 1..=u64::from(SHARDS) {
            let before = hosted.newest().clone();
            let group = 1 + (shard + round) % 2;
            hosted.place(move_shard(shard, group)).unwrap();
            let after = hosted.newest();
            let is_there = before.shards[&ShardId(shard)].group == Some(GroupId(group));
            assert_eq!(after.num, before.num + u64::from(!is_there), "shard {shard}");
            assert_eq!(after.shards[&ShardId(shard)].group, Some(GroupId(group)));
            assert!(
                moved(&before, after).iter().all(|at| at.0 == shard),
                "shard {shard} alone"
            );
        }
    }
    let config = hosted.newest().clone();
    assert_eq!(hosted.place(move_shard(11, 1)), Err(CommandError::UnknownShard));
    assert_eq!(hosted.place(move_shard(0, 1)), Err(CommandError::UnknownShard));
    assert_eq!(hosted.place(move_shard(1, 3)), Err(CommandError::UnknownGroup));
    assert_eq!(*hosted.newest(), config, "what is refused changes nothing");
}

/// What is moved by hand stays until groups come or go, or balance is asked for.
#[test]
fn c_03_a_moved_shard_stays_until_balance_is_asked_for() {
    let mut hosted = bare();
    hosted.place(join(&[1, 2])).unwrap();
    for shard in 1..=u64::from(SHARDS) {
        hosted.place(move_shard(shard, 2)).unwrap();
    }
    hosted
        .place(PlacementCommand::Split {
            parent: ShardId(3),
            child: ShardId(77),
            slot: hosted.newest().shards[&ShardId(3)].start_slot + 1,
        })
        .unwrap();
    assert!(
        hosted
            .newest()
            .shards
            .values()
            .all(|place| place.group == Some(GroupId(2)))
    );
    check_ranges(hosted.newest());
    hosted.place(PlacementCommand::Rebalance).unwrap();
    check(hosted.newest(), &[1, 2]);
    let config = hosted.newest().clone();
    hosted.place(PlacementCommand::Rebalance).unwrap();
    assert_eq!(*hosted.newest(), config, "balanced already");
}

/// The steps of ten clients, in an order that the seed decides.
fn interleaved(seed: u64, clients: Vec<Vec<PlacementCommand>>) -> Vec<PlacementCommand> {
    let mut rng = support::Rng::new(seed);
    let mut left: Vec<_> = clients.into_iter().map(Vec::into_iter).collect();
    let mut order = Vec::new();
    while !left.is_empty() {
        let at = rng.below(left.len());
        match left[at].next() {
            Some(command) => order.push(command),
            None => drop(left.swap_remove(at)),
        }
    }
    order
}

#[test]
fn c_04_ten_clients_join_and_leave() {
    for seed in 0..200 {
        let mut hosted = bare();
        let steps = |client: u64| vec![join(&[client]), join(&[client + 100]), leave(&[client + 100])];
        for command in interleaved(seed, (1..=10).map(steps).collect()) {
            hosted.place(command).unwrap();
        }
        check(hosted.newest(), &(1..=10).collect::<Vec<_>>());
    }
}

#[test]
fn c_05_groups_that_neither_come_nor_go_keep_what_they_have() {
    let mut hosted = bare();
    hosted.place(join(&[1])).unwrap();
    hosted.place(join(&[2])).unwrap();
    let new: Vec<u64> = (3..8).collect();
    for id in &new {
        minimal(&mut hosted, join(&[*id]), &[*id]);
    }
    for id in &new {
        minimal(&mut hosted, leave(&[*id]), &[*id]);
    }
}

/// Runs the command, after which a shard has changed its group only to or from those that came or went.
fn minimal(hosted: &mut Hosted, command: PlacementCommand, changed: &[u64]) {
    let before = hosted.newest().clone();
    hosted.place(command).unwrap();
    let after = hosted.newest();
    let is_changed = |group: Option<GroupId>| group.is_some_and(|group| changed.contains(&group.0));
    for shard in moved(&before, after) {
        let (from, to) = (before.shards[&shard].group, after.shards[&shard].group);
        assert!(
            is_changed(from) || is_changed(to),
            "shard {shard} went from {from:?} to {to:?}"
        );
    }
}

#[test]
fn c_06_one_comes_and_another_goes() {
    let mut hosted = bare();
    hosted.place(join(&[1])).unwrap();
    hosted.place(join(&[2])).unwrap();
    for (command, id) in [(join(&[3]), 3), (leave(&[1]), 1)] {
        let before = hosted.newest().clone();
        minimal(&mut hosted, command, &[id]);
        let count = moved(&before, hosted.newest()).len();
        assert!(count <= usize::from(SHARDS) / 3 + 1, "{count} shards moved");
    }
    check(hosted.newest(), &[2, 3]);
}

#[test]
fn c_07_two_groups_at_once() {
    let mut hosted = bare();
    hosted.place(join(&[1, 2])).unwrap();
    check(hosted.newest(), &[1, 2]);
    hosted.place(join(&[3])).unwrap();
    check(hosted.newest(), &[1, 2, 3]);
    hosted.place(leave(&[1, 3])).unwrap();
    check(hosted.newest(), &[2]);
    hosted.place(leave(&[2])).unwrap();
    check(hosted.newest(), &[]);
}

#[test]
fn c_08_ten_clients_join_three_and_leave_two() {
    for seed in 0..200 {
        let mut hosted = bare();
        let steps = |client: u64| {
            vec![
                join(&[client, client + 100, client + 200]),
                leave(&[client + 100, client + 200]),
            ]
        };
        for command in interleaved(seed, (1..=10).map(steps).collect()) {
            hosted.place(command).unwrap();
        }
        check(hosted.newest(), &(1..=10).collect::<Vec<_>>());
    }
}

#[test]
fn c_09_several_groups_come_and_go_at_once() {
    let mut hosted = bare();
    hosted.place(join(&[1, 2])).unwrap();
    let new: Vec<u64> = (3..8).collect();
    minimal(&mut hosted, join(&new), &new);
    check(hosted.newest(), &(1..8).collect::<Vec<_>>());
    minimal(&mut hosted, leave(&new), &new);
    check(hosted.newest(), &[1, 2]);
}

/// Two machines that are told the same are the same, and so is one that loads what another wrote.
#[test]
fn c_10_replicas_agree() {
    for seed in 0..200 {
        let (mut one, mut two) = (bare(), bare());
        let mut rng = support::Rng::new(seed);
        for _ in 0..20 {
            let command = any_command(&mut rng);
            assert_eq!(one.place(command.clone()), two.place(command));
            two.machine = two.loaded().unwrap();
            assert_eq!(one.newest(), two.newest());
        }
    }
}

/// Whatever is asked for: a config is balanced unless shards were moved by hand since, and covers every slot; what is
/// refused changes nothing, which [`Hosted`] looks at.
#[test]
fn c_11_any_commands_leave_a_config_in_order() {
    for seed in 0..200 {
        let mut hosted = bare();
        let mut rng = support::Rng::new(seed);
        for _ in 0..40 {
            let command = any_command(&mut rng);
            let is_by_hand = matches!(
                command,
                PlacementCommand::Move { .. } | PlacementCommand::Split { .. }
            );
            let is_rebalance = command == PlacementCommand::Rebalance;
            let before = hosted.newest().num;
            let is_done = hosted.place(command).is_ok() && !is_by_hand;
            // What held already leaves shards where they were moved to by hand.
            if is_done && (is_rebalance || hosted.newest().num > before) {
                let ids: Vec<u64> = hosted.newest().groups.keys().map(|group| group.0).collect();
                check(hosted.newest(), &ids);
            }
            check_ranges(hosted.newest());
        }
    }
}

fn any_command(rng: &mut support::Rng) -> PlacementCommand {
    let mut group = || 1 + rng.below(8) as u64;
    let (one, other) = (group(), group());
    let shard = 1 + rng.below(12) as u64;
    match rng.below(10) {
        0..=2 => join(&[one]),
        3 => join(&[one, other]),
        4 | 5 => leave(&[one]),
        6 => leave(&[one, other]),
        7 => move_shard(shard, one),
        8 => PlacementCommand::Split {
            parent: ShardId(shard),
            child: ShardId(11 + rng.below(6) as u64),
            slot: rng.below(16400) as u16,
        },
        _ => PlacementCommand::Rebalance,
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let mut hosted = Hosted::begun(SHARDS);
    let with = |of: &[(u64, &[u64])]| {
        let stores = |ids: &[u64]| ids.iter().copied().map(StoreId).collect();
        PlacementCommand::Join(
            of.iter()
                .map(|(group, ids)| (GroupId(*group), stores(ids)))
                .collect(),
        )
    };
    for (command, why) in [
        (with(&[]), CommandError::JoinsNothing),
        (with(&[(2, &[])]), CommandError::JoinsNothing),
        (with(&[(0, &[9])]), CommandError::OutOfRange),
        (with(&[(1, &[9])]), CommandError::GroupExists),
        (with(&[(2, &[9, 1])]), CommandError::StoreElsewhere),
        (with(&[(2, &[9]), (3, &[9])]), CommandError::StoreElsewhere),
        (leave(&[]), CommandError::UnknownGroup),
        (leave(&[1, 2]), CommandError::UnknownGroup),
    ] {
        assert_eq!(hosted.place(command.clone()), Err(why), "{command:?}");
        assert_eq!(hosted.newest().num, 1, "{command:?}");
    }
    let mut unbegun = Controller::default();
    let command = ControlCommand::Place(join(&[1]));
    let answer = quorate_store::rsm::StateMachine::apply(&mut unbegun, 0, &command, &mut Vec::new());
    assert_eq!(answer, Answer::Error(CommandError::NotBootstrapped));
}

#[test]
fn a_split_that_is_told_again_changes_nothing() {
    let mut hosted = Hosted::begun(4);
    let split = |parent: u64, child: u64, slot: u16| PlacementCommand::Split {
        parent: ShardId(parent),
        child: ShardId(child),
        slot,
    };
    hosted.place(split(1, 20, 1000)).unwrap();
    let inherited = hosted.newest().shards[&ShardId(20)];
    assert_eq!(
        (inherited.start_slot, inherited.end_slot, inherited.group),
        (1000, 4096, Some(DEFAULT_GROUP))
    );
    // The new one is split in its turn, and the first one again; then the first split is told once more.
    hosted.place(split(20, 21, 2000)).unwrap();
    hosted.place(split(1, 22, 500)).unwrap();
    let config = hosted.newest().clone();
    hosted.place(split(1, 20, 1000)).unwrap();
    assert_eq!(*hosted.newest(), config);
    for wrong in [
        split(1, 23, 0),
        split(1, 23, 500),
        split(1, 23, 16383),
        split(2, 20, 5000),
    ] {
        assert_eq!(
            hosted.place(wrong.clone()),
            Err(CommandError::SlotNotInside),
            "{wrong:?}"
        );
    }
    assert_eq!(hosted.place(split(99, 23, 1)), Err(CommandError::UnknownShard));
    check_ranges(hosted.newest());
}
