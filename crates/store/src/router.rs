//! Which shard holds a slot, and where it is served: by a replica of this store, or by other stores.

use std::collections::BTreeMap;

use quorate_proto::ShardInfo;
use quorate_storage::{ShardId, StoreId};

use crate::Target;
use crate::bootstrap::SLOTS;
use crate::replica::Replica;

/// Where requests for a shard begin their way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// A replica of this store.
    Here(usize),
    /// Other stores hold the shard.
    Elsewhere(ShardId),
}

/// The slots that a replica here has, as of a version of its shard.
#[derive(Clone, Copy, Debug)]
struct Claim {
    version: u64,
    start_slot: u16,
    end_slot: u16,
    place: Place,
}

/// The shards of this store, and what it was told of the others.
///
/// Every split raises the version of both halves, so of two shards that claim a slot the one of the higher version has
/// it; a replica here may lag behind what other stores tell.
#[derive(Debug, Default)]
pub(crate) struct Router {
    by_slot: Vec<Option<Place>>,
    here: Vec<Claim>,
    by_shard: BTreeMap<ShardId, usize>,
    /// Told by other stores (`shard_map`), of shards that have no replica here, or one that knows less.
    told: BTreeMap<ShardId, ShardInfo>,
}

impl Router {
    /// Replicas came, went or learned their range.
    pub(crate) fn rebuild(&mut self, replicas: &[Replica]) {
        self.by_shard.clear();
        self.here.clear();
        for (at, replica) in replicas.iter().enumerate() {
            let descriptor = &replica.descriptor;
            self.by_shard.insert(descriptor.shard, at);
            if descriptor.start_slot < descriptor.end_slot {
                self.here.push(Claim {
                    version: descriptor.epoch.version,
                    start_slot: descriptor.start_slot,
                    end_slot: descriptor.end_slot,
                    place: Place::Here(at),
                });
            }
        }
        self.here.sort_unstable_by_key(|claim| claim.start_slot);
        for pair in self.here.windows(2) {
            assert!(
                pair[0].end_slot <= pair[1].start_slot,
                "slot {} lies in two shards of this store: {pair:?}",
                pair[1].start_slot
            );
        }
        self.fill();
    }

    fn fill(&mut self) {
        // What was told before the replica here knew more would claim slots that it has given away.
        let is_newer = |info: &&ShardInfo| match self.by_shard.get(&info.shard) {
            None => true,
            Some(at) => {
                let own = self.here.iter().find(|claim| claim.place == Place::Here(*at));
                own.is_none_or(|own| own.version < info.epoch.version)
            }
        };
        let told = self.told.values().filter(is_newer).map(|info| Claim {
            version: info.epoch.version,
            start_slot: info.start_slot,
            end_slot: info.end_slot,
            // A replica that lags behind its shard's split knows who leads all the same.
            place: match self.by_shard.get(&info.shard) {
                Some(at) => Place::Here(*at),
                None => Place::Elsewhere(info.shard),
            },
        });
        let mut claims: Vec<Claim> = told.chain(self.here.iter().copied()).collect();
        // Of equal ones, what is here comes last and wins.
        claims.sort_by_key(|claim| claim.version);
        self.by_slot.clear();
        self.by_slot.resize(usize::from(SLOTS), None);
        for claim in claims {
            if claim.start_slot < claim.end_slot {
                let slots = usize::from(claim.start_slot)..usize::from(claim.end_slot.min(SLOTS));
                self.by_slot[slots].fill(Some(claim.place));
            }
        }
    }

    pub(crate) fn replica_of(&self, shard: ShardId) -> Option<usize> {
        self.by_shard.get(&shard).copied()
    }

    /// Where a request goes; none if nobody has told so far.
    pub(crate) fn place_of(&self, target: Target) -> Option<Place> {
        match target {
            Target::Slot(slot) => self.by_slot.get(usize::from(slot)).copied().flatten(),
            Target::Shard(shard) => match self.by_shard.get(&shard) {
                Some(at) => Some(Place::Here(*at)),
                None => self.told.contains_key(&shard).then_some(Place::Elsewhere(shard)),
            },
        }
    }

    /// Runs of slots that are served at one place: first slot, the slot behind the last, place.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u16, u16, Place)> + '_ {
        let mut start = 0;
        self.by_slot.chunk_by(|a, b| a == b).filter_map(move |run| {
            let first = start;
            start += run.len() as u16;
            run[0].map(|place| (first, start, place))
        })
    }

    /// What was told of a shard.
    pub(crate) fn told(&self, shard: ShardId) -> Option<&ShardInfo> {
        self.told.get(&shard)
    }

    /// Takes over what another store tells, unless it is older than what is known. Returns whether it is news.
    pub(crate) fn hear(&mut self, info: ShardInfo) -> bool {
        let age = |info: &ShardInfo| (info.epoch.version, info.epoch.conf_ver, info.term);
        match self.told.get(&info.shard) {
            Some(known) if age(known) > age(&info) => false,
            Some(known) if age(known) == age(&info) && info.leader.is_none() => false,
            known => {
                let is_news =
                    known.is_none_or(|known| age(known) != age(&info) || known.leader != info.leader);
                let is_moved = known.is_none_or(|known| known.epoch.version != info.epoch.version);
                self.told.insert(info.shard, info);
                if is_moved {
                    self.fill();
                }
                is_news
            }
        }
    }

    /// Where a request for a shard that is not here goes: to its leader, if that is known and reachable, or else to
    /// any store that holds it and may know more.
    pub(crate) fn store_for(
        &self,
        shard: ShardId,
        is_reachable: impl Fn(StoreId) -> bool,
    ) -> Option<StoreId> {
        let info = self.told.get(&shard)?;
        let members = info.membership.members.iter().map(|(_, store)| *store);
        info.leader
            .into_iter()
            .chain(members)
            .find(|store| is_reachable(*store))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_proto::{Epoch, Membership};
    use quorate_raft::Term;

    fn told(shard: u64, version: u64, (start_slot, end_slot): (u16, u16)) -> ShardInfo {
        ShardInfo {
            shard: ShardId(shard),
            start_slot,
            end_slot,
            epoch: Epoch { conf_ver: 1, version },
            membership: Membership::default(),
            leader: None,
            term: Term(1),
            session_ms: 0,
        }
    }

    /// A router with a replica of shard 1 here, which has the slots below 50 as of version 2.
    fn router() -> Router {
        Router {
            here: vec![Claim {
                version: 2,
                start_slot: 0,
                end_slot: 50,
                place: Place::Here(0),
            }],
            by_shard: BTreeMap::from([(ShardId(1), 0)]),
            ..Router::default()
        }
    }

    /// Found by whole seeds 54 and 64 of the simulator's profile splits: word from before a split claimed the slots
    /// that the replica here had given away, so their requests went to that replica and back, in one turn without end.
    #[test]
    fn what_was_told_before_a_split_claims_no_slots() {
        let mut router = router();
        router.hear(told(1, 1, (0, 100)));
        let places = |router: &Router| [10, 60].map(|slot| router.place_of(Target::Slot(slot)));
        assert_eq!(places(&router), [Some(Place::Here(0)), None]);
        router.hear(told(7, 2, (50, 100)));
        let elsewhere = Some(Place::Elsewhere(ShardId(7)));
        assert_eq!(places(&router), [Some(Place::Here(0)), elsewhere]);
    }

    #[test]
    fn a_replica_that_lags_behind_a_split_gives_its_slots_away() {
        let mut router = router();
        router.hear(told(1, 3, (0, 30)));
        router.hear(told(7, 3, (30, 50)));
        let places = [10, 40].map(|slot| router.place_of(Target::Slot(slot)));
        let elsewhere = Some(Place::Elsewhere(ShardId(7)));
        assert_eq!(places, [Some(Place::Here(0)), elsewhere]);
    }
}
