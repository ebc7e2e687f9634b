//! Every slot belongs to exactly one shard, as each store knows it: the shards meet without a gap and without
//! an overlap.

use quorate_store::{SLOTS, ShardRoute};

use super::Violation;

/// Checks a store's routes, which are in slot order.
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
    }
}
