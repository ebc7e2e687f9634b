//! Sharing shards out over groups: a pure function, the same on every replica.

use std::collections::BTreeMap;

use quorate_proto::GroupId;
use quorate_raft::mutant;
use quorate_storage::ShardId;

/// Which shards get which group, so that no group holds two shards more than another, every shard has a group that
/// exists, and the fewest shards change theirs. In ascending order of the shards; empty without groups.
///
/// `owners` says who holds each shard now; a group that is not in `groups` counts as none. Where there is a choice, the
/// group that holds more keeps the odd shard, then the one with the lower id; a group gives its highest shards away.
///
/// The number is the least possible: shards without a group have to get one, and a group above its share has to give
/// what is above. Of the shares, the larger ones (`shards / groups`, rounded up) go to those who hold most.
#[must_use]
pub fn balance(groups: &[GroupId], owners: &BTreeMap<ShardId, Option<GroupId>>) -> Vec<(ShardId, GroupId)> {
    let mut held: BTreeMap<GroupId, Vec<ShardId>> = groups.iter().map(|group| (*group, Vec::new())).collect();
    if held.is_empty() {
        return Vec::new();
    }
    // Shards that are to get a group, and then what groups hold above their share.
    let mut free = Vec::new();
    for (shard, owner) in owners {
        match owner.and_then(|owner| held.get_mut(&owner)) {
            Some(shards) => shards.push(*shard),
            None => free.push(*shard),
        }
    }
    let (share, odd) = (owners.len() / held.len(), owners.len() % held.len());
    let mut by_size: Vec<GroupId> = held.keys().copied().collect();
    // Stable: equal ones stay in the order of their ids.
    if !mutant!("odd-shards-to-whoever-comes-first") {
        by_size.sort_by_key(|group| std::cmp::Reverse(held[group].len()));
    }
    let share_of = |at: usize| share + usize::from(at < odd);
    for (at, group) in by_size.iter().enumerate() {
        let Some(shards) = held.get_mut(group) else {
            continue;
        };
        let keeps = shards.len().min(share_of(at));
        free.extend(shards.split_off(keeps));
    }
    free.sort_unstable();
    let mut free = free.into_iter();
    let mut moves = Vec::new();
    for (at, group) in by_size.iter().enumerate() {
        let lacks = share_of(at) - held[group].len();
        moves.extend(free.by_ref().take(lacks).map(|shard| (shard, *group)));
    }
    assert_eq!(
        free.next(),
        None,
        "shares of {share} and {odd} odd ones leave a shard over"
    );
    moves.sort_unstable();
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(of: &[(u64, u64)]) -> BTreeMap<ShardId, Option<GroupId>> {
        let owner = |group: u64| (group != 0).then_some(GroupId(group));
        of.iter()
            .map(|(shard, group)| (ShardId(*shard), owner(*group)))
            .collect()
    }

    fn moves(groups: &[u64], of: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let groups: Vec<GroupId> = groups.iter().copied().map(GroupId).collect();
        let moves = balance(&groups, &owners(of));
        moves
            .into_iter()
            .map(|(shard, group)| (shard.0, group.0))
            .collect()
    }

    #[test]
    fn without_groups_nothing_is_owned() {
        assert_eq!(moves(&[], &[(1, 1), (2, 0)]), []);
    }

    #[test]
    fn shards_without_a_group_go_to_those_who_hold_least() {
        assert_eq!(
            moves(&[1, 2], &[(1, 0), (2, 0), (3, 0)]),
            [(1, 1), (2, 1), (3, 2)]
        );
        assert_eq!(
            moves(&[1, 2], &[(1, 1), (2, 1), (3, 0), (4, 7)]),
            [(3, 2), (4, 2)]
        );
    }

    #[test]
    fn the_odd_shard_stays_with_who_has_it() {
        assert_eq!(moves(&[1, 2], &[(1, 2), (2, 2), (3, 1)]), []);
        assert_eq!(
            moves(&[1, 2, 3], &[(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]),
            [(5, 3)],
            "two, two and one"
        );
    }

    #[test]
    fn more_groups_than_shards() {
        assert_eq!(moves(&[1, 2, 3], &[(4, 2), (5, 2)]), [(5, 1)]);
    }

    /// Every way that up to 7 shards can lie over up to 4 groups, of which some have gone: balanced, and with the fewest
    /// moves, which is counted here by trying all assignments.
    #[test]
    fn no_assignment_that_is_balanced_moves_fewer() {
        for shards in 0..=6u32 {
            for groups in 1..=3u64 {
                let ways = 5u64.pow(shards);
                for way in 0..ways {
                    let digit = |at: u32| way / 5u64.pow(at) % 5;
                    let of: Vec<(u64, u64)> = (0..shards).map(|at| (u64::from(at), digit(at))).collect();
                    check(groups, &of);
                }
            }
        }
    }

    fn check(groups: u64, of: &[(u64, u64)]) {
        let ids: Vec<u64> = (1..=groups).collect();
        let moved = moves(&ids, of);
        let mut after: BTreeMap<u64, u64> = of.iter().copied().collect();
        for (shard, group) in &moved {
            let before = after.insert(*shard, *group);
            assert_ne!(before, Some(*group), "shard {shard} does not move");
        }
        let mut counts = vec![0usize; groups as usize];
        for group in after.values() {
            counts[*group as usize - 1] += 1;
        }
        let (most, least) = (counts.iter().max().unwrap(), counts.iter().min().unwrap());
        assert!(most - least <= 1, "{of:?} over {groups}: {counts:?}");
        let least_moves = fewest(groups as usize, of, &mut vec![0; groups as usize], 0);
        assert_eq!(Some(moved.len()), least_moves, "{of:?} over {groups}: {moved:?}");
    }

    /// The fewest moves of any balanced assignment of the shards from `at` on.
    fn fewest(groups: usize, of: &[(u64, u64)], counts: &mut Vec<usize>, at: usize) -> Option<usize> {
        let Some((_, owner)) = of.get(at) else {
            let (most, least) = (counts.iter().max()?, counts.iter().min()?);
            return (most - least <= 1).then_some(0);
        };
        let mut best = None;
        for group in 0..groups {
            counts[group] += 1;
            let rest = fewest(groups, of, counts, at + 1);
            counts[group] -= 1;
            let moves = rest.map(|rest| rest + usize::from(*owner != group as u64 + 1));
            best = [best, moves].into_iter().flatten().min();
        }
        best
    }
}
