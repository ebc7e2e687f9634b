//! A shard goes on with the replica on a store that does not run: the form for when the controller has lost its own
//! majority, and with it whoever could decide (docs/adr/0006).
//!
//! The engine alone is written, in one batch. The log stays as it is, and the next start finds the mark.

use quorate_proto::{Epoch, RECOVERY_STRIDE, Recovery};
use quorate_raft::{Entry, Index, Payload, ReplicaId, Term};
use quorate_storage::engine::WriteBatch;
use quorate_storage::{ShardId, StoreId};

use crate::inspect::ShardReport;
use crate::recovery::{Forced, alone, runs};

/// Where a stopped replica stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The replica.
    pub replica: ReplicaId,
    /// Who votes, as far as it has applied.
    pub voters: Vec<(ReplicaId, StoreId)>,
    /// The shard's version.
    pub epoch: Epoch,
    /// Its term.
    pub term: Term,
    /// What the engine holds.
    pub applied: Index,
    /// What the log says to be committed, or the engine, at least.
    pub commit: Index,
    /// The end of its log.
    pub last: (Index, Term),
    /// Where the terms of the log begin, from `commit` on.
    runs: Vec<(Index, Term)>,
}

impl Standing {
    /// Where the replica of a report stands.
    ///
    /// # Errors
    /// Why it cannot go on: nothing of it is left, or its log is damaged.
    pub fn of(report: &ShardReport) -> Result<Self, &'static str> {
        let state = report.state.as_ref().ok_or("the engine does not know it")?;
        let log = report.log.as_ref().ok_or("its log is lost")?;
        if log.quarantined || state.rebuilt_from.is_some() {
            return Err("its log was damaged");
        }
        let (descriptor, applied) = (&state.descriptor, state.applied);
        if applied.index == Index(0) {
            return Err("it never had the shard's state");
        }
        if log.base.0 > applied.index {
            return Err("its engine lost what it had made durable");
        }
        let is_unapplied_split = |entry: &Entry| {
            entry.index > applied.index
                && matches!(&entry.payload, Payload::Normal(data) if quorate_proto::is_split(data))
        };
        // It would be void, and the slots would have two shards.
        if log.entries.iter().any(is_unapplied_split) {
            return Err("its log holds a split that its engine has not applied");
        }
        let entries = log.entries.iter().map(|entry| (entry.index, entry.term));
        let all = std::iter::once(log.base).chain(entries);
        let own_end = log
            .entries
            .last()
            .map_or(log.base, |entry| (entry.index, entry.term));
        // A snapshot was installed and the log not reset: what it holds is older.
        let last = own_end.max((applied.index, applied.term));
        let commit = log.hard_state.commit.max(applied.index).min(last.0);
        let voters = descriptor.conf_state.voters.iter();
        Ok(Self {
            replica: descriptor.replica,
            voters: voters
                .filter_map(|id| descriptor.store_of(*id).map(|store| (*id, store)))
                .collect(),
            epoch: descriptor.epoch,
            term: log.hard_state.term.max(applied.term),
            applied: applied.index,
            commit,
            last,
            runs: runs(all.collect::<Vec<_>>().into_iter(), commit),
        })
    }

    fn term_at(&self, index: Index) -> Option<Term> {
        let run = self.runs.iter().rev().find(|(first, _)| *first <= index);
        run.filter(|_| index <= self.last.0).map(|(_, term)| *term)
    }
}

/// Which of several is to go on: its log holds what any knows to be committed, and is the most advanced of those. None if
/// none is left, or none has that.
#[must_use]
pub fn best(standings: &[Standing]) -> Option<usize> {
    let most = standings.iter().max_by_key(|of| of.commit)?;
    let term = most.term_at(most.commit);
    let has_history =
        |of: &Standing| of.commit == most.commit || term.is_some() && of.term_at(most.commit) == term;
    let mut sound: Vec<usize> = (0..standings.len())
        .filter(|at| has_history(&standings[*at]))
        .collect();
    sound.sort_by_key(|at| {
        let of = &standings[*at];
        (of.last.1, of.last.0, std::cmp::Reverse(of.replica))
    });
    sound.pop()
}

/// The batch by which the replica of a report goes on alone, beyond all that any of `others` knows. The caller makes it
/// durable. Done again it goes further beyond, and does no harm.
///
/// # Errors
/// As [`Standing::of`].
pub fn force(report: &ShardReport, own: StoreId, others: &[Standing]) -> Result<WriteBatch, &'static str> {
    let standing = Standing::of(report)?;
    let state = report.state.as_ref().ok_or("the engine does not know it")?;
    let descriptor = &state.descriptor;
    let all = || others.iter().chain([&standing]);
    let most = |of: &dyn Fn(&Standing) -> u64| all().map(of).max().unwrap_or_default() + RECOVERY_STRIDE;
    let recovery = Recovery {
        shard: report.shard,
        replica: descriptor.replica,
        store: own,
        start_slot: descriptor.start_slot,
        end_slot: descriptor.end_slot,
        epoch: Epoch {
            conf_ver: most(&|of| of.epoch.conf_ver),
            version: most(&|of| of.epoch.version),
        },
        term: Term(most(&|of| of.term.0)),
        last_replica: ReplicaId(most(&|of| {
            let ids = of.voters.iter().map(|(id, _)| id.0);
            ids.chain([of.replica.0]).max().unwrap_or_default()
        })),
        left: None,
    };
    let forced = Forced {
        term: recovery.term,
        through: standing.last.0,
    };
    let (key, value) = alone(descriptor, own, &recovery).record();
    Ok(WriteBatch {
        changes: vec![(key, Some(value)), forced.record(report.shard)],
    })
}

/// The shards that a store cannot lead without others, by their reports.
pub fn without_majority(reports: &[ShardReport], own: StoreId) -> impl Iterator<Item = ShardId> + '_ {
    let is_short = move |report: &&ShardReport| {
        let state = report.state.as_ref();
        state.is_some_and(|state| {
            let voters = &state.descriptor.conf_state.voters;
            voters
                .iter()
                .any(|id| state.descriptor.store_of(*id) != Some(own))
        })
    };
    reports.iter().filter(is_short).map(|report| report.shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(replica: u64, commit: u64, log: &[u64]) -> Standing {
        let entries: Vec<(Index, Term)> = (1..).map(Index).zip(log.iter().copied().map(Term)).collect();
        let last = entries[entries.len() - 1];
        Standing {
            replica: ReplicaId(replica),
            voters: Vec::new(),
            epoch: Epoch::default(),
            term: last.1,
            applied: Index(commit),
            commit: Index(commit),
            last,
            runs: runs(entries.into_iter(), Index(commit)),
        }
    }

    #[test]
    fn the_most_advanced_that_has_what_is_committed_goes_on() {
        let behind = standing(1, 3, &[1, 1, 1]);
        let ahead = standing(2, 2, &[1, 1, 1, 2, 2]);
        assert_eq!(
            best(&[behind.clone(), ahead]),
            Some(1),
            "a longer log of a later term"
        );
        // Cut off in term 4, with an entry where the leader of term 5 has committed one of term 3.
        let cut_off = standing(2, 1, &[1, 4, 4]);
        let committed = standing(1, 2, &[1, 3]);
        assert_eq!(
            best(&[cut_off, committed]),
            Some(1),
            "the committed entry is not in the other"
        );
        assert_eq!(best(&[]), None);
        assert_eq!(
            best(&[behind.clone(), standing(2, 3, &[1, 1, 1])]),
            Some(0),
            "the lower id of equals"
        );
    }
}
