//! What is live and in which segment: ranges per shard, bytes per segment. No payloads.
//!
//! An extent says that the entries `first..=last` of a shard lie in one segment, each exactly once at or
//! behind the offset `from`. Older versions of the same entries may lie in front of `from`, or in other
//! segments; they are dead. That is enough to tell a live entry when a segment is read again.

use std::collections::BTreeMap;

use quorate_raft::{HardState, Index, ReplicaId, Term};

use crate::ShardId;

/// What a shard's hard state, base, tombstone or suspicion is taken to occupy.
const STATE_LIVE_BYTES: u64 = 64;

/// Where a record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// All that is known of a shard beside its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct ShardState {
    pub(super) replica: Option<ReplicaId>,
    pub(super) hard_state: HardState,
    pub(super) base: (Index, Term),
    pub(super) tombstone: Option<ReplicaId>,
    /// Damage may have hit entries or the base (P3); cleared by a reset.
    pub(super) suspect_entries: bool,
    /// Damage may have hit the newest hard state (P3); cleared by a new one.
    pub(super) suspect_hard_state: bool,
}

/// The segments that hold the newest record of each part of the state; zero if there is none.
#[derive(Clone, Copy, Debug, Default)]
struct StateAt {
    hard_state: u64,
    base: u64,
    tombstone: u64,
    suspect: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Extent {
    first: u64,
    last: u64,
    segment: u64,
    from: u64,
    /// Shared out evenly among the entries when the extent is cut.
    bytes: u64,
}

/// One shard's part of the index.
#[derive(Debug, Default)]
pub(super) struct ShardIndex {
    state: ShardState,
    at: StateAt,
    /// By index, not overlapping; without gaps once the log is open.
    extents: Vec<Extent>,
}

/// Live bytes per segment.
#[derive(Debug, Default)]
struct Live(BTreeMap<u64, u64>);

impl Live {
    fn add(&mut self, segment: u64, bytes: u64) {
        *self.0.entry(segment).or_default() += bytes;
    }
    fn remove(&mut self, segment: u64, bytes: u64) {
        let live = self.0.entry(segment).or_default();
        debug_assert!(
            *live >= bytes,
            "segment {segment}: {live} live bytes, {bytes} to remove"
        );
        *live = live.saturating_sub(bytes);
        if *live == 0 {
            self.0.remove(&segment);
        }
    }
    /// Moves one part of a state; zero is nowhere.
    fn set(&mut self, at: &mut u64, segment: u64) {
        if *at == segment {
            return;
        }
        if *at != 0 {
            self.remove(*at, STATE_LIVE_BYTES);
        }
        if segment != 0 {
            self.add(segment, STATE_LIVE_BYTES);
        }
        *at = segment;
    }
}

/// The index of the whole log.
#[derive(Debug, Default)]
pub(super) struct LogIndex {
    shards: BTreeMap<ShardId, ShardIndex>,
    live: Live,
    /// The segment with the newest note that unlisted shards may be damaged; zero if they are not.
    unlisted_suspect_at: u64,
}

impl LogIndex {
    /// Live bytes of a segment, by estimate; zero exactly if nothing in it is live.
    pub(super) fn live(&self, segment: u64) -> u64 {
        self.live.0.get(&segment).copied().unwrap_or_default()
    }

    /// Live bytes of the log.
    pub(super) fn live_total(&self) -> u64 {
        self.live.0.values().sum()
    }

    pub(super) fn contains(&self, shard: ShardId) -> bool {
        self.shards.contains_key(&shard)
    }

    pub(super) fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.shards.keys().copied()
    }

    /// What is known of a shard beside its entries.
    pub(super) fn state(&self, shard: ShardId) -> ShardState {
        self.shards
            .get(&shard)
            .map(|shard| shard.state)
            .unwrap_or_default()
    }

    /// The last index of the shard's contiguous entries, or its base.
    pub(super) fn last(&self, shard: ShardId) -> Index {
        let Some(shard) = self.shards.get(&shard) else {
            return Index(0);
        };
        let mut last = shard.state.base.0.0;
        for extent in &shard.extents {
            if extent.first > last + 1 {
                break;
            }
            last = last.max(extent.last);
        }
        Index(last)
    }

    /// Whether an append at `first` leaves the shard's log without a gap.
    pub(super) fn accepts(&self, shard: ShardId, first: Index) -> bool {
        let Some(shard) = self.shards.get(&shard) else {
            return first == Index(1);
        };
        let base = shard.state.base.0.0;
        let last = shard.extents.last().map_or(base, |extent| extent.last);
        first.0 > base && first.0 <= last + 1
    }

    pub(super) fn append(&mut self, shard: ShardId, first: Index, last: Index, bytes: u64, place: Place) {
        let entry = self.shards.entry(shard).or_default();
        let (first, last) = (first.0, last.0);
        self.live.add(place.segment, bytes);
        if let Some(tail) = entry.extents.last_mut() {
            if tail.last + 1 == first && tail.segment == place.segment {
                tail.last = last;
                tail.bytes += bytes;
                return;
            }
            if tail.last >= first {
                entry.cut(&mut self.live, first, u64::MAX);
            }
        }
        let Place {
            segment,
            offset: from,
        } = place;
        entry.extents.push(Extent {
            first,
            last,
            segment,
            from,
            bytes,
        });
    }

    /// The entries now lie at `place`; what is behind them stays.
    pub(super) fn relocated(&mut self, shard: ShardId, first: Index, last: Index, bytes: u64, place: Place) {
        let entry = self.shards.entry(shard).or_default();
        let (first, last) = (first.0, last.0);
        entry.cut(&mut self.live, first, last);
        self.live.add(place.segment, bytes);
        let at = entry.extents.partition_point(|extent| extent.last < first);
        if let Some(before) = at.checked_sub(1).and_then(|at| entry.extents.get_mut(at))
            && before.segment == place.segment
            && before.last + 1 == first
            && before.from < place.offset
        {
            before.last = last;
            before.bytes += bytes;
            return;
        }
        let Place {
            segment,
            offset: from,
        } = place;
        entry.extents.insert(
            at,
            Extent {
                first,
                last,
                segment,
                from,
                bytes,
            },
        );
    }

    pub(super) fn hard_state(&mut self, shard: ShardId, replica: ReplicaId, state: HardState, segment: u64) {
        let entry = self.shards.entry(shard).or_default();
        entry.state.replica = Some(replica);
        entry.state.hard_state = state;
        entry.state.suspect_hard_state = false;
        self.live.set(&mut entry.at.hard_state, segment);
        entry.settle_suspicion(&mut self.live);
    }

    pub(super) fn compact(&mut self, shard: ShardId, index: Index, term: Term, segment: u64) {
        let entry = self.shards.entry(shard).or_default();
        if index < entry.state.base.0 {
            return;
        }
        entry.state.base = (index, term);
        entry.cut(&mut self.live, 0, index.0);
        self.live.set(&mut entry.at.base, segment);
    }

    pub(super) fn reset(&mut self, shard: ShardId, index: Index, term: Term, segment: u64) {
        let entry = self.shards.entry(shard).or_default();
        entry.cut(&mut self.live, 0, u64::MAX);
        entry.state.base = (index, term);
        entry.state.suspect_entries = false;
        self.live.set(&mut entry.at.base, segment);
        entry.settle_suspicion(&mut self.live);
    }

    /// Voids the records of `replica`; those of a later replica of the shard stay (M3: ids are not reused).
    pub(super) fn tombstone(&mut self, shard: ShardId, replica: ReplicaId, segment: u64) {
        let entry = self.shards.entry(shard).or_default();
        if entry.state.replica.is_none_or(|current| current == replica) {
            entry.cut(&mut self.live, 0, u64::MAX);
            let tombstone = entry.state.tombstone;
            entry.state = ShardState {
                tombstone,
                ..ShardState::default()
            };
            self.live.set(&mut entry.at.hard_state, 0);
            self.live.set(&mut entry.at.base, 0);
            self.live.set(&mut entry.at.suspect, 0);
        }
        entry.state.tombstone = Some(replica);
        self.live.set(&mut entry.at.tombstone, segment);
    }

    /// The shard's whole state now lies in `segment`.
    pub(super) fn set_state(&mut self, shard: ShardId, state: ShardState, segment: u64) {
        let entry = self.shards.entry(shard).or_default();
        // A state says nothing about entries, so it does not clear them of a suspicion.
        let suspect_entries = entry.state.suspect_entries || state.suspect_entries;
        entry.state = ShardState {
            suspect_entries,
            ..state
        };
        entry.cut(&mut self.live, 0, state.base.0.0);
        let hard_state = state.replica.is_some() || state.hard_state != HardState::default();
        for (at, present) in [
            (&mut entry.at.hard_state, hard_state),
            (&mut entry.at.base, state.base != Default::default()),
            (&mut entry.at.tombstone, state.tombstone.is_some()),
            (&mut entry.at.suspect, suspect_entries || state.suspect_hard_state),
        ] {
            self.live.set(at, if present { segment } else { 0 });
        }
    }

    /// Damage in `segment` may have hit the shard (P3).
    pub(super) fn suspect(&mut self, shard: ShardId, segment: u64) {
        let entry = self.shards.entry(shard).or_default();
        entry.state.suspect_entries = true;
        entry.state.suspect_hard_state = true;
        self.live.set(&mut entry.at.suspect, segment);
    }

    /// Whether unlisted shards may be damaged.
    pub(super) fn unlisted_suspect(&self) -> bool {
        self.unlisted_suspect_at != 0
    }

    /// The note that unlisted shards may be damaged now lies in `segment`.
    pub(super) fn set_unlisted_suspect(&mut self, segment: u64) {
        self.live.set(&mut self.unlisted_suspect_at, segment);
    }

    /// Whether that note lies in `segment`.
    pub(super) fn unlisted_suspect_in(&self, segment: u64) -> bool {
        self.unlisted_suspect_at == segment
    }

    /// The shards of whose state something lies in `segment`.
    pub(super) fn states_in(&self, segment: u64) -> Vec<ShardId> {
        let has = |at: &StateAt| [at.hard_state, at.base, at.tombstone, at.suspect].contains(&segment);
        self.shards
            .iter()
            .filter(|(_, shard)| has(&shard.at))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Whether the entry that was read at `place` is the live one.
    pub(super) fn is_live(&self, shard: ShardId, index: Index, place: Place) -> bool {
        let Some(shard) = self.shards.get(&shard) else {
            return false;
        };
        let at = shard.extents.partition_point(|extent| extent.last < index.0);
        shard.extents.get(at).is_some_and(|extent| {
            extent.first <= index.0 && extent.segment == place.segment && extent.from <= place.offset
        })
    }

    /// Forgets entries of the shard above `last`.
    pub(super) fn forget_above(&mut self, shard: ShardId, last: Index) {
        if let Some(entry) = self.shards.get_mut(&shard) {
            entry.cut(&mut self.live, last.0.saturating_add(1), u64::MAX);
        }
    }

    /// Entries that lie above the first gap in the shard's log, if there is one.
    pub(super) fn has_gap(&self, shard: ShardId) -> bool {
        let last = self.last(shard).0;
        let extents = self.shards.get(&shard).map(|shard| shard.extents.as_slice());
        extents
            .and_then(<[Extent]>::last)
            .is_some_and(|extent| extent.last > last)
    }
}

impl ShardIndex {
    /// Removes the entries `first..=last` from the extents.
    fn cut(&mut self, live: &mut Live, first: u64, last: u64) {
        let start = self.extents.partition_point(|extent| extent.last < first);
        let end = self.extents.partition_point(|extent| extent.first <= last);
        if start >= end {
            return;
        }
        let mut kept: [Option<Extent>; 2] = [None, None];
        for extent in &self.extents[start..end] {
            let count = extent.last - extent.first + 1;
            let mut removed = extent.bytes;
            if extent.first < first {
                let bytes = extent.bytes * (first - extent.first) / count;
                kept[0] = Some(Extent {
                    last: first - 1,
                    bytes,
                    ..*extent
                });
                removed -= bytes;
            }
            if extent.last > last {
                let bytes = extent.bytes * (extent.last - last) / count;
                kept[1] = Some(Extent {
                    first: last + 1,
                    bytes,
                    ..*extent
                });
                removed -= bytes;
            }
            live.remove(extent.segment, removed);
        }
        self.extents.splice(start..end, kept.into_iter().flatten());
    }

    /// Once nothing is suspect any more, no record has to say so: those that said otherwise lie in front of
    /// those that cleared it, so they are freed first.
    fn settle_suspicion(&mut self, live: &mut Live) {
        if !self.state.suspect_entries && !self.state.suspect_hard_state {
            live.set(&mut self.at.suspect, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(1);

    fn at(segment: u64, offset: u64) -> Place {
        Place { segment, offset }
    }

    fn append(index: &mut LogIndex, first: u64, last: u64, place: Place) {
        index.append(SHARD, Index(first), Index(last), (last - first + 1) * 10, place);
    }

    #[test]
    fn contiguous_appends_to_one_segment_are_one_extent() {
        let mut index = LogIndex::default();
        append(&mut index, 1, 3, at(1, 1024));
        append(&mut index, 4, 9, at(1, 2048));
        append(&mut index, 10, 10, at(2, 1024));
        assert_eq!(index.shards[&SHARD].extents.len(), 2);
        assert_eq!((index.live(1), index.live(2)), (90, 10));
    }

    #[test]
    fn an_overwritten_entry_is_dead_even_in_the_same_segment() {
        let mut index = LogIndex::default();
        append(&mut index, 1, 5, at(1, 1024));
        append(&mut index, 3, 4, at(1, 2048));
        assert!(index.is_live(SHARD, Index(2), at(1, 1024)));
        assert!(!index.is_live(SHARD, Index(3), at(1, 1024)));
        assert!(index.is_live(SHARD, Index(3), at(1, 2048)));
        assert!(!index.is_live(SHARD, Index(5), at(1, 1024)));
        assert_eq!(index.live(1), 40);
    }

    #[test]
    fn relocated_entries_leave_those_behind_them_alone() {
        let mut index = LogIndex::default();
        append(&mut index, 1, 5, at(1, 1024));
        append(&mut index, 6, 9, at(2, 1024));
        index.relocated(SHARD, Index(2), Index(3), 20, at(3, 1024));
        index.relocated(SHARD, Index(4), Index(5), 20, at(3, 2048));
        assert_eq!((index.live(1), index.live(2), index.live(3)), (10, 40, 40));
        assert_eq!(index.last(SHARD), Index(9));
        index.compact(SHARD, Index(9), Term(1), 3);
        assert_eq!(
            (index.live(1), index.live(2), index.live(3)),
            (0, 0, STATE_LIVE_BYTES)
        );
    }

    #[test]
    fn relocated_entries_fill_the_place_of_a_freed_segment() {
        let mut index = LogIndex::default();
        append(&mut index, 6, 9, at(2, 1024));
        assert!(index.has_gap(SHARD));
        index.relocated(SHARD, Index(1), Index(5), 50, at(3, 1024));
        assert!(!index.has_gap(SHARD));
        assert_eq!(index.last(SHARD), Index(9));
    }

    #[test]
    fn a_tombstone_of_an_older_replica_leaves_the_newer_one_alone() {
        let mut index = LogIndex::default();
        index.hard_state(SHARD, ReplicaId(5), HardState::default(), 1);
        append(&mut index, 1, 5, at(1, 1024));
        index.tombstone(SHARD, ReplicaId(4), 1);
        assert_eq!(index.last(SHARD), Index(5));
        index.tombstone(SHARD, ReplicaId(5), 2);
        assert_eq!((index.last(SHARD), index.live(1)), (Index(0), 0));
        assert_eq!(index.state(SHARD).tombstone, Some(ReplicaId(5)));
    }
}
