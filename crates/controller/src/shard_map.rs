//! Where the shards are: the fact, as their leaders tell it, beside the intent that the log holds.
//!
//! The map lives in the memory of the controller's leader and is made anew by each, from heartbeats. No two shards in it
//! share a slot. Word comes late and out of order, from leaders that were deposed too: what is older than what is known
//! is refused, by epoch first and by term for an equal epoch. Slots whose shard nobody has told of are a gap; nothing is
//! guessed.

use std::collections::BTreeMap;

use quorate_proto::{Epoch, MemberRole, ShardHeartbeat, StoreCounts};
use quorate_raft::{ReplicaId, Term, mutant};
use quorate_storage::{ShardId, StoreId};
use quorate_store::SLOTS;
use quorate_store::rsm::CONTROLLER;

/// A shard, and when it was last heard of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Known {
    /// The last word.
    pub last: ShardHeartbeat,
    /// When it came.
    pub heard_us: u64,
    /// The highest id of a replica that anybody told of; a new one is above it (M3).
    pub last_replica: ReplicaId,
    /// Operations per second by the last leader that had counted them.
    pub load: u64,
}

/// All shards that were told of.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ShardMap {
    shards: BTreeMap<ShardId, Known>,
    /// By first slot; shard 0 has none.
    by_slot: BTreeMap<u16, ShardId>,
}

/// Why a heartbeat is refused. The map is as before.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// It is older than what is known of the shard.
    #[error(
        "stale heartbeat of shard {shard}: epoch {}.{} in term {} is told, epoch {}.{} in term {} is known",
        told.0.version, told.0.conf_ver, told.1, known.0.version, known.0.conf_ver, known.1
    )]
    Stale {
        /// The shard.
        shard: ShardId,
        /// What the heartbeat says.
        told: (Epoch, Term),
        /// What is known.
        known: (Epoch, Term),
    },
    /// Another shard has some of its slots since a later version.
    #[error(
        "stale heartbeat of shard {shard}: epoch {}.{} is told, and shard {other} has slot {slot} since epoch {}.{}",
        told.version, told.conf_ver, known.version, known.conf_ver
    )]
    Overlap {
        /// The shard.
        shard: ShardId,
        /// What the heartbeat says.
        told: Epoch,
        /// Who has the slot.
        other: ShardId,
        /// The other's epoch.
        known: Epoch,
        /// The first slot that both claim.
        slot: u16,
    },
    /// A change of the members brings an id back that the shard had given before (M3). No shard's log does that.
    #[error(
        "heartbeat of shard {shard} with replica {replica} on store {store}, an id that is used: new ones are above {last}"
    )]
    ReplicaIdUsed {
        /// The shard.
        shard: ShardId,
        /// The replica.
        replica: ReplicaId,
        /// Where it is said to be.
        store: StoreId,
        /// The highest id that was told of.
        last: ReplicaId,
    },
    /// No shard is like that.
    #[error("heartbeat of shard {shard} that no shard can send: {what}")]
    Malformed {
        /// The shard.
        shard: ShardId,
        /// What is wrong.
        what: &'static str,
    },
}

impl ShardMap {
    /// Takes a leader's word over. Returns whether it is news.
    ///
    /// # Errors
    /// Word that is older than what is known, or cannot be. Nothing changes then.
    pub fn hear(&mut self, now_us: u64, told: ShardHeartbeat) -> Result<bool, Refused> {
        check(&told)?;
        let shard = told.shard;
        if !mutant!("stale-heartbeat-accepted") {
            self.check_age(&told)?;
        }
        self.check_new_replicas(&told)?;
        let ids = told.members.iter().map(|member| member.replica);
        let before = self.shards.get(&shard).map(|known| known.last_replica);
        let last_replica = ids.chain(before).max().unwrap_or_default();
        let load = told.load.or_else(|| Some(self.shards.get(&shard)?.load));
        let slots = told.start_slot..told.end_slot;
        if let Some(known) = self.shards.get(&shard)
            && known.last.start_slot < known.last.end_slot
        {
            self.by_slot.remove(&known.last.start_slot);
        }
        // What had these slots before has given them away, and will tell what it has left.
        for other in self.overlapping(&slots) {
            if let Some(known) = self.shards.remove(&other) {
                self.by_slot.remove(&known.last.start_slot);
            }
        }
        if !slots.is_empty() {
            self.by_slot.insert(slots.start, shard);
        }
        let is_same = |known: &Known| known.last == told;
        let is_news = !self.shards.get(&shard).is_some_and(is_same);
        let known = Known {
            last: told,
            heard_us: now_us,
            last_replica,
            load: load.unwrap_or_default(),
        };
        self.shards.insert(shard, known);
        debug_assert!(self.has_no_overlap(), "{:?}", self.by_slot);
        Ok(is_news)
    }

    fn check_age(&self, told: &ShardHeartbeat) -> Result<(), Refused> {
        let age = |word: &ShardHeartbeat| (word.epoch.version, word.epoch.conf_ver, word.term);
        if let Some(known) = self.shards.get(&told.shard).map(|known| &known.last)
            && age(told) < age(known)
        {
            return Err(Refused::Stale {
                shard: told.shard,
                told: (told.epoch, told.term),
                known: (known.epoch, known.term),
            });
        }
        // Every split and merge raises the version of all that it touches: of two shards that claim a slot, the one of the
        // higher version has it.
        for other in self.overlapping(&(told.start_slot..told.end_slot)) {
            let Some(known) = self.shards.get(&other).filter(|_| other != told.shard) else {
                continue;
            };
            if known.last.epoch.version >= told.epoch.version {
                return Err(Refused::Overlap {
                    shard: told.shard,
                    told: told.epoch,
                    other,
                    known: known.last.epoch,
                    slot: told.start_slot.max(known.last.start_slot),
                });
            }
        }
        Ok(())
    }

    /// whom a change of the members brings has an id that nobody had.
    fn check_new_replicas(&self, told: &ShardHeartbeat) -> Result<(), Refused> {
        let Some(known) = self.shards.get(&told.shard) else {
            return Ok(());
        };
        if told.epoch.conf_ver <= known.last.epoch.conf_ver {
            return Ok(());
        }
        let is_known = |replica, store| {
            let mut members = known.last.members.iter();
            members.any(|member| (member.replica, member.store) == (replica, store))
        };
        let is_used = |replica, store| replica <= known.last_replica && !is_known(replica, store);
        let mut members = told.members.iter();
        match members.find(|member| is_used(member.replica, member.store)) {
            None => Ok(()),
            Some(member) => Err(Refused::ReplicaIdUsed {
                shard: told.shard,
                replica: member.replica,
                store: member.store,
                last: known.last_replica,
            }),
        }
    }

    /// The shards that have some of these slots, from the last to the first.
    #[must_use]
    pub fn overlapping(&self, slots: &std::ops::Range<u16>) -> Vec<ShardId> {
        if slots.is_empty() {
            return Vec::new();
        }
        let before = self.by_slot.range(..slots.end).rev();
        let reaches = |shard: &ShardId| {
            let known = self.shards.get(shard);
            known.is_some_and(|known| known.last.end_slot > slots.start)
        };
        before.map(|(_, shard)| *shard).take_while(reaches).collect()
    }

    /// A shard, if it was told of.
    #[must_use]
    pub fn get(&self, shard: ShardId) -> Option<&Known> {
        self.shards.get(&shard)
    }

    /// The shard that has a slot, if it was told of.
    #[must_use]
    pub fn at_slot(&self, slot: u16) -> Option<&Known> {
        let (_, shard) = self.by_slot.range(..=slot).next_back()?;
        self.shards.get(shard).filter(|known| slot < known.last.end_slot)
    }

    /// The shard that ends where the one begins that has a slot, if both were told of.
    #[must_use]
    pub fn before(&self, slot: u16) -> Option<&Known> {
        let start = self.at_slot(slot)?.last.start_slot;
        self.at_slot(start.checked_sub(1)?)
    }

    /// The shards that have this slot or later ones, by slot. Slots that nobody has told of are passed over.
    pub fn from_slot(&self, slot: u16) -> impl Iterator<Item = &Known> + '_ {
        let first = self.at_slot(slot).map_or(slot, |known| known.last.start_slot);
        let behind = self.by_slot.range(first..);
        behind.filter_map(|(_, shard)| self.shards.get(shard))
    }

    /// One of the shards that lie wholly within these slots, each as likely as another if `draw` is any number as likely as
    /// another. None if none does. Looks at each of them.
    #[must_use]
    pub fn pick(&self, slots: std::ops::Range<u16>, draw: u64) -> Option<&Known> {
        if slots.is_empty() {
            return None;
        }
        let begins = self.by_slot.range(slots.clone());
        let within: Vec<&Known> = begins
            .filter_map(|(_, shard)| self.shards.get(shard))
            .filter(|known| known.last.end_slot <= slots.end)
            .collect();
        let at = draw.checked_rem(within.len() as u64)?;
        within.get(at as usize).copied()
    }

    /// All of them: the controller's first, the others by slot.
    pub fn all(&self) -> impl Iterator<Item = &Known> + '_ {
        let without = self
            .shards
            .values()
            .filter(|known| known.last.start_slot == known.last.end_slot);
        without.chain(self.by_slot.values().filter_map(|shard| self.shards.get(shard)))
    }

    /// Runs of slots that nobody has told of.
    #[must_use]
    pub fn gaps(&self) -> Vec<std::ops::Range<u16>> {
        let mut gaps = Vec::new();
        let mut next = 0;
        for known in self.by_slot.values().filter_map(|shard| self.shards.get(shard)) {
            if next < known.last.start_slot {
                gaps.push(next..known.last.start_slot);
            }
            next = known.last.end_slot;
        }
        if next < SLOTS {
            gaps.push(next..SLOTS);
        }
        gaps
    }

    /// Whether every slot's shard was told of, and the controller's own.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.gaps().is_empty() && self.get(CONTROLLER).is_some()
    }

    /// What each store has. Looks at every replica.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<StoreId, StoreCounts> {
        let mut counts = BTreeMap::<StoreId, StoreCounts>::new();
        for last in self.shards.values().map(|known| &known.last) {
            for member in &last.members {
                let of = counts.entry(member.store).or_default();
                of.replicas += 1;
                of.learners += u32::from(member.role == MemberRole::Learner);
                of.pending += u32::from(member.is_pending);
                of.leads += u32::from(member.replica == last.leader);
                of.bytes = of.bytes.saturating_add(last.bytes.unwrap_or_default());
            }
        }
        counts
    }

    fn has_no_overlap(&self) -> bool {
        let slots: Vec<_> = self
            .by_slot
            .values()
            .filter_map(|shard| self.shards.get(shard))
            .collect();
        slots.len() == self.by_slot.len()
            && slots
                .windows(2)
                .all(|pair| pair[0].last.end_slot <= pair[1].last.start_slot)
    }
}

/// What holds of every shard.
fn check(told: &ShardHeartbeat) -> Result<(), Refused> {
    let refuse = |what| {
        Err(Refused::Malformed {
            shard: told.shard,
            what,
        })
    };
    if told.start_slot > told.end_slot || told.end_slot > SLOTS {
        return refuse("its slots");
    }
    if (told.shard == CONTROLLER) != (told.start_slot == told.end_slot) {
        return refuse("slots are what all shards but 0 have");
    }
    if told.leader_store().is_none() {
        return refuse("its leader is no member");
    }
    Ok(())
}
