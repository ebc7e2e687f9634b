//! Every slot belongs to exactly one shard, as each store knows it: the shards meet without a gap and without
//! an overlap.

use quorate_store::{SLOTS, ShardRoute};

use super::Violation;

/// Checks that a store's routes, which are in slot order, do not overlap. Some may be missing: a store that holds no
/// replica of a shard hears of it now and then.
pub(crate) fn overlaps(node: usize, routes: &[ShardRoute]) -> Result<(), Violation> {
    for pair in routes.windows(2) {
        if pair[1].start_slot < pair[0].end_slot {
            let detail = format!(
                "node {}: shards {} and {} overlap at slot {}",
                node + 1,
                pair[0].shard,
                pair[1].shard,
                pair[1].start_slot
            );
            return Err(Violation::new("every slot is in exactly one shard", detail));
        }
    }
    Ok(())
}

/// Checks that a store's routes cover every slot.
pub(crate) fn check(node: usize, routes: &[ShardRoute]) -> Result<(), Violation> {
    let mut end = 0;
    for route in routes {
        if route.start_slot != end || route.end_slot <= route.start_slot {
            let detail = format!(
                "node {}: shard {} serves slots [{}, {}), the one before it ends at {end}",
                node + 1,
                route.shard,
                route.start_slot,
                route.end_slot
            );
            return Err(Violation::new("every slot is in exactly one shard", detail));
        }
        end = route.end_slot;
    }
    if end != SLOTS {
        let detail = format!("node {}: the last shard ends at slot {end}", node + 1);
        return Err(Violation::new("every slot is in exactly one shard", detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_storage::ShardId;

    #[test]
    fn a_gap_an_overlap_and_a_missing_end_are_seen() {
        let routes = |bounds: &[(u16, u16)]| -> Vec<ShardRoute> {
            let route = |(start_slot, end_slot): &(u16, u16)| ShardRoute {
                shard: ShardId(u64::from(*start_slot)),
                start_slot: *start_slot,
                end_slot: *end_slot,
                leader: None,
                stores: Vec::new(),
            };
            bounds.iter().map(route).collect()
        };
        assert_eq!(check(0, &routes(&[(0, 5), (5, SLOTS)])), Ok(()));
        assert!(check(0, &routes(&[(0, 5), (6, SLOTS)])).is_err());
        assert!(check(0, &routes(&[(0, 5), (4, SLOTS)])).is_err());
        assert!(check(0, &routes(&[(0, 5)])).is_err());
        assert!(check(0, &[]).is_err());
        assert_eq!(overlaps(0, &routes(&[(0, 5), (6, 9)])), Ok(()));
        assert!(overlaps(0, &routes(&[(0, 5), (4, 9)])).is_err());
    }
}
