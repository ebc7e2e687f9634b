//! Replays frames into the index and the entries that the log hands over at open.

use std::collections::BTreeMap;

use quorate_raft::{Entry, Index, mutant};

use super::entries::Entries;
use super::frame::{self, Frame};
use super::index::{LogIndex, Place};
use super::op::{self, Op, Run};
use super::scan::Hole;
use super::segment;
use super::{OpenError, Recovered, RecoveredShard};
use crate::ShardId;

/// What the frames so far amount to.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) index: LogIndex,
    entries: BTreeMap<ShardId, Entries>,
    /// The segment with damage that may belong to any shard and that no frame so far accounts for.
    damage_open: Option<u64>,
    /// There is damage that no frame so far accounts for.
    pub(super) damage_unaccounted: bool,
    pub(super) notes: Vec<String>,
}

impl Replay {
    /// Applies a frame that lies, or is about to lie, at `offset` of `segment`.
    pub(super) fn frame(&mut self, frame: &Frame<'_>, segment: u64, offset: u64) -> Result<(), OpenError> {
        if let Some(damaged) = self.damage_open {
            // A shard that was not seen before the damage may have been in it.
            for shard in frame::shards(frame.table) {
                if !self.index.contains(shard) {
                    self.index.suspect(shard, damaged);
                }
            }
        }
        for op in op::ops(frame) {
            let Some((at, op)) = op else {
                let reason = format!("the record at offset {} cannot be read", frame.offset);
                return Err(OpenError::Damaged {
                    file: segment::name(segment),
                    reason,
                });
            };
            let place = Place {
                segment,
                offset: at - frame.offset + offset,
            };
            if self.op(&op, place).is_none() {
                let reason = format!("the entries at offset {at} cannot be read");
                return Err(OpenError::Damaged {
                    file: segment::name(segment),
                    reason,
                });
            }
        }
        Ok(())
    }

    fn op(&mut self, op: &Op<'_>, place: Place) -> Option<()> {
        match op {
            Op::Append(run) => {
                let entries = self.entries.entry(run.shard).or_default();
                read_entries(run, |read| entries.append(read))?;
                self.index
                    .append(run.shard, run.first, run.last(), run.len(), place);
            }
            Op::Relocated(run) => {
                let entries = self.entries.entry(run.shard).or_default();
                read_entries(run, |read| {
                    if mutant!("moved-entries-cut-the-tail") {
                        entries.append(read);
                    } else {
                        entries.insert(read);
                    }
                })?;
                self.index
                    .relocated(run.shard, run.first, run.last(), run.len(), place);
            }
            Op::HardState {
                shard,
                replica,
                state,
            } => {
                self.index.hard_state(*shard, *replica, *state, place.segment);
            }
            Op::Compact { shard, index, term } => {
                self.index.compact(*shard, *index, *term, place.segment);
                self.drop_entries_through(*shard, *index);
            }
            Op::Reset { shard, index, term } => {
                self.index.reset(*shard, *index, *term, place.segment);
                self.entries.remove(shard);
            }
            Op::Tombstone { shard, replica } => {
                self.index.tombstone(*shard, *replica, place.segment);
                if self.index.last(*shard) == Index(0) {
                    self.entries.remove(shard);
                }
            }
            Op::State { shard, state } => {
                self.index.set_state(*shard, *state, place.segment);
                self.drop_entries_through(*shard, state.base.0);
            }
            Op::DamageKnown { unlisted } => {
                self.damage_open = None;
                self.damage_unaccounted = false;
                if *unlisted {
                    self.index.set_unlisted_suspect(place.segment);
                }
            }
        }
        Some(())
    }

    fn drop_entries_through(&mut self, shard: ShardId, index: Index) {
        if let Some(entries) = self.entries.get_mut(&shard) {
            entries.drop_through(index.0);
        }
    }

    /// Damage below a synced offset (P3): quarantines every shard whose records it may have held.
    pub(super) fn damage(&mut self, hole: &Hole, segment: u64) {
        self.damage_unaccounted = true;
        let (name, start, end) = (segment::name(segment), hole.start, hole.end);
        let whose = match &hole.shards {
            Some(shards) => {
                for shard in shards {
                    self.index.suspect(*shard, segment);
                }
                let list: Vec<String> = shards.iter().map(ToString::to_string).collect();
                format!("shards {}", list.join(", "))
            }
            None => {
                self.damage_open = Some(segment);
                for shard in self.index.shards().collect::<Vec<_>>() {
                    self.index.suspect(shard, segment);
                }
                "any shard".into()
            }
        };
        self.notes.push(format!(
            "{name}: damage at offsets {start} to {end}, which were synced; it may have hit {whose}: quarantined"
        ));
    }

    /// Whether damage that no frame accounts for may have hit shards that the log does not list.
    pub(super) fn unlisted_suspect(&self) -> bool {
        self.damage_open.is_some() || self.index.unlisted_suspect()
    }

    /// Treats what lies behind a gap in a shard's log as damaged: a record in front of it is missing.
    pub(super) fn check_gaps(&mut self, newest_segment: u64) {
        for shard in self.index.shards().collect::<Vec<_>>() {
            if self.index.has_gap(shard) {
                let last = self.index.last(shard);
                self.notes.push(format!(
                    "shard {shard}: entries behind {last} are missing: quarantined"
                ));
                self.index.forget_above(shard, last);
                self.index.suspect(shard, newest_segment);
                self.damage_unaccounted = true;
            }
        }
    }

    /// What the log held, and the index of it.
    pub(super) fn finish(mut self) -> (LogIndex, Recovered) {
        let mut recovered = Recovered {
            notes: self.notes,
            ..Recovered::default()
        };
        recovered.unlisted_quarantined = self.index.unlisted_suspect();
        for shard in self.index.shards() {
            let state = self.index.state(shard);
            let last = self.index.last(shard);
            let mut entries = self.entries.remove(&shard).unwrap_or_default();
            entries.cut_from(last.0 + 1);
            let entries = entries.into_vec();
            debug_assert_eq!(
                entries.len() as u64,
                last.0 - state.base.0.0,
                "shard {shard}: entries and index"
            );
            let shard_state = RecoveredShard {
                replica: state.replica,
                hard_state: state.hard_state,
                base: state.base,
                entries,
                quarantined: state.suspect_entries || state.suspect_hard_state,
                tombstone: state.tombstone,
            };
            recovered.shards.insert(shard, shard_state);
        }
        (self.index, recovered)
    }
}

/// Hands the entries of a run over; `None` if one of them cannot be read or is missing.
fn read_entries(run: &Run<'_>, take: impl FnOnce(&mut dyn Iterator<Item = Entry>)) -> Option<()> {
    let mut count = 0;
    let entries = run.raw().map_while(|(index, raw)| op::entry(index, raw));
    take(&mut entries.inspect(|_| count += 1));
    (count == run.count).then_some(())
}
