//! Which stores hold which shards when a cluster begins: a pure function, computed alike by every member.

/// Replicas of the controller's shard: on the first stores.
const CONTROLLER_REPLICAS: usize = 3;

/// For each shard, the controller's first, the stores that hold a replica, by their places in the cluster's list.
///
/// Every shard but the controller's is held by `replicas` stores, or by all if there are fewer. No store holds or leads
/// two shards more than another, the controller's excepted. The places are in such an order that the store which
/// `Store` prefers as leader is the one that is to lead.
pub(crate) fn first_placement(stores: usize, shards: u16, replicas: usize) -> Vec<Vec<usize>> {
    let replicas = replicas.clamp(1, stores);
    let (mut held, mut led) = (vec![0u32; stores], vec![0u32; stores]);
    let mut placed = vec![(0..stores.min(CONTROLLER_REPLICAS)).collect()];
    for shard in 1..=usize::from(shards) {
        // Whoever holds least, in turn: each shard begins the round with another store.
        let turn = |store: &usize| (store + stores - shard % stores) % stores;
        let mut order: Vec<usize> = (0..stores).collect();
        order.sort_by_key(|store| (held[*store], turn(store)));
        let mut chosen = order[..replicas].to_vec();
        chosen.sort_unstable();
        let leader = *chosen
            .iter()
            .min_by_key(|store| (led[**store], turn(store)))
            .unwrap_or(&0);
        for store in &chosen {
            held[*store] += 1;
        }
        led[leader] += 1;
        let at = chosen
            .iter()
            .position(|store| *store == leader)
            .unwrap_or_default();
        // The preferred one is the voter whose number is the shard's, counted round.
        chosen.rotate_right((shard % replicas + replicas - at) % replicas);
        placed.push(chosen);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_store_holds_and_leads_as_many_shards_as_another() {
        for stores in 1..=9 {
            for replicas in 1..=9 {
                for shards in [1, 2, 3, 5, 8, 16, 37] {
                    let placed = first_placement(stores, shards, replicas);
                    assert_eq!(placed.len(), usize::from(shards) + 1);
                    assert_eq!(placed[0], (0..stores.min(3)).collect::<Vec<_>>());
                    let (mut held, mut led) = (vec![0; stores], vec![0; stores]);
                    for (shard, places) in placed.iter().enumerate().skip(1) {
                        assert_eq!(places.len(), replicas.min(stores));
                        for (i, place) in places.iter().enumerate() {
                            assert!(!places[..i].contains(place), "{places:?}");
                            held[*place] += 1;
                        }
                        led[places[shard % places.len()]] += 1;
                    }
                    let spread = |counts: &[u32]| {
                        counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
                    };
                    let what = format!("{stores} stores, {replicas} replicas, {shards} shards");
                    assert!(spread(&held) <= 1, "{what}: held {held:?}");
                    // With few choices left, the leader is the best of those.
                    assert!(spread(&led) <= 2, "{what}: led {led:?}");
                }
            }
        }
    }

    #[test]
    fn with_a_replica_everywhere_the_stores_keep_their_order() {
        for places in &first_placement(3, 8, 3)[1..] {
            assert_eq!(places, &[0, 1, 2]);
        }
    }

    #[test]
    fn six_stores_share_the_shards_out() {
        assert_eq!(
            first_placement(6, 4, 3),
            [
                vec![0, 1, 2],
                vec![3, 1, 2],
                vec![5, 0, 4],
                vec![3, 4, 5],
                vec![2, 0, 1],
            ]
        );
    }
}
