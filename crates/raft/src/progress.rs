//! A follower as its leader sees it.

use crate::inflights::Inflights;
use crate::{Index, ProgressState};

/// What a gathering leader owes a follower when the Ready is taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum Owed {
    #[default]
    Nothing,
    /// An append if it would say something new: entries, or a higher commit index.
    News,
    /// An append, even an empty one.
    Append,
}

/// Replication state of one member. Invariant: `matched < next`.
///
/// - Probe: where the logs agree is unknown; one append is sent, then the flow pauses until it is answered or
///   a heartbeat is.
/// - Replicate: appends are pipelined, within the in-flight limits.
/// - Snapshot: the follower needs a snapshot; nothing else is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// The last index known to be stored by the member.
    pub matched: Index,
    /// The next index to send.
    pub next: Index,
    /// The highest commit index sent that the member will have when all in-flight appends arrive.
    sent_commit: Index,
    /// How it is fed.
    pub state: ProgressState,
    /// In [`ProgressState::Snapshot`]: the snapshot's index. Zero otherwise.
    pub pending_snapshot: Index,
    /// Heard from since the last check-quorum.
    pub recent_active: bool,
    /// The flow of appends waits for an answer.
    pub flow_paused: bool,
    /// Appends on their way.
    pub inflights: Inflights,
    /// Receives entries but has no vote.
    pub is_learner: bool,
    pub(crate) owed: Owed,
}

impl Progress {
    pub(crate) fn new(matched: Index, next: Index, inflights: Inflights, is_learner: bool) -> Self {
        Self {
            matched,
            next,
            sent_commit: Index(0),
            state: ProgressState::Probe,
            pending_snapshot: Index(0),
            recent_active: false,
            flow_paused: false,
            inflights,
            is_learner,
            owed: Owed::Nothing,
        }
    }

    fn enter(&mut self, state: ProgressState) {
        self.flow_paused = false;
        self.pending_snapshot = Index(0);
        self.state = state;
        self.inflights.clear();
    }

    pub(crate) fn become_probe(&mut self) {
        // A snapshot that was sent may have arrived: probe behind it.
        let after_snapshot = if self.state == ProgressState::Snapshot {
            self.pending_snapshot.next()
        } else {
            Index(0)
        };
        self.enter(ProgressState::Probe);
        self.next = self.matched.next().max(after_snapshot);
        self.sent_commit = self.sent_commit.min(self.next.prev());
    }

    pub(crate) fn become_replicate(&mut self) {
        self.enter(ProgressState::Replicate);
        self.next = self.matched.next();
    }

    pub(crate) fn become_snapshot(&mut self, index: Index) {
        self.enter(ProgressState::Snapshot);
        self.pending_snapshot = index;
        self.next = index.next();
        self.sent_commit = index;
    }

    /// An append with `entries` entries and `bytes` of payload was sent.
    #[inline]
    pub(crate) fn sent_entries(&mut self, entries: usize, bytes: u64) {
        match self.state {
            ProgressState::Replicate => {
                if entries > 0 {
                    self.next = Index(self.next.0 + entries as u64);
                    self.inflights.add(self.next.prev(), bytes);
                }
                // When the window is full, this append is the probe whose answer opens it again.
                self.flow_paused = self.inflights.is_full();
            }
            ProgressState::Probe => self.flow_paused |= entries > 0,
            ProgressState::Snapshot => unreachable!("appends are not sent while a snapshot is pending"),
        }
    }

    #[inline]
    pub(crate) fn sent_commit(&mut self, commit: Index) {
        self.sent_commit = commit;
    }

    /// Whether sending `commit` would raise the commit index that the member will end up with.
    #[inline]
    pub(crate) fn can_bump_commit(&self, commit: Index) -> bool {
        commit > self.sent_commit && self.sent_commit < self.next.prev()
    }

    /// The member has stored everything up to `index`. Returns whether that is news.
    #[inline]
    pub(crate) fn maybe_update(&mut self, index: Index) -> bool {
        if index <= self.matched {
            return false;
        }
        self.matched = index;
        self.next = self.next.max(index.next());
        self.flow_paused = false;
        true
    }

    /// The member refused an append behind `rejected` and may match at `hint`. Returns whether `next` went back;
    /// false if the refusal is stale.
    pub(crate) fn maybe_decrease(&mut self, rejected: Index, hint: Index) -> bool {
        if self.state == ProgressState::Replicate {
            if rejected <= self.matched {
                return false;
            }
            self.next = self.matched.next();
        } else {
            // Probes go one at a time, so only an answer to the last one counts.
            if self.next.prev() != rejected {
                return false;
            }
            self.next = rejected.min(hint.next()).max(self.matched.next());
            self.flow_paused = false;
        }
        self.sent_commit = self.sent_commit.min(self.next.prev());
        true
    }

    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        match self.state {
            ProgressState::Probe | ProgressState::Replicate => self.flow_paused,
            ProgressState::Snapshot => true,
        }
    }

    #[inline]
    pub(crate) fn owe(&mut self, owed: Owed) {
        self.owed = self.owed.max(owed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(matched: u64, next: u64) -> Progress {
        Progress::new(Index(matched), Index(next), Inflights::new(3, u64::MAX), false)
    }

    #[test]
    fn a_probe_goes_alone_and_waits() {
        let mut probed = progress(0, 5);
        probed.sent_entries(0, 0);
        assert!(!probed.is_paused(), "an empty append is no probe");
        probed.sent_entries(2, 20);
        assert_eq!((probed.is_paused(), probed.next), (true, Index(5)));
        assert!(probed.maybe_update(Index(4)));
        assert!(!probed.is_paused());
    }

    #[test]
    fn replication_runs_ahead_until_the_window_is_full() {
        let mut fed = progress(4, 5);
        fed.become_replicate();
        for (next, paused) in [(7, false), (9, false), (11, true)] {
            fed.sent_entries(2, 20);
            assert_eq!((fed.next, fed.is_paused()), (Index(next), paused));
        }
        fed.inflights.free_up_to(Index(6));
        assert!(fed.maybe_update(Index(6)));
        assert_eq!((fed.next, fed.is_paused()), (Index(11), false));
        assert!(
            !fed.maybe_update(Index(6)) && !fed.maybe_update(Index(3)),
            "old news"
        );
    }

    #[test]
    fn a_refusal_takes_next_back_unless_it_is_stale() {
        let mut fed = progress(4, 5);
        fed.become_replicate();
        fed.sent_entries(3, 30);
        assert!(
            !fed.maybe_decrease(Index(4), Index(4)),
            "what matched is not refused"
        );
        assert!(fed.maybe_decrease(Index(6), Index(5)));
        assert_eq!(fed.next, Index(5), "right behind what is known to match");
        let mut probed = progress(2, 9);
        assert!(!probed.maybe_decrease(Index(5), Index(1)), "not the last probe");
        assert!(probed.maybe_decrease(Index(8), Index(5)));
        assert_eq!(probed.next, Index(6), "behind the hint");
        assert!(probed.maybe_decrease(Index(5), Index(0)));
        assert_eq!(probed.next, Index(3), "never at or below what matched");
        let mut lied_to = progress(0, 9);
        assert!(lied_to.maybe_decrease(Index(8), Index(u64::MAX)));
        assert_eq!(lied_to.next, Index(8), "a hint does not lead forward");
    }

    #[test]
    fn a_snapshot_stops_everything_and_is_probed_behind() {
        let mut fed = progress(2, 9);
        fed.become_snapshot(Index(20));
        assert_eq!(
            (fed.is_paused(), fed.next, fed.pending_snapshot),
            (true, Index(21), Index(20))
        );
        fed.become_probe();
        assert_eq!(
            (fed.is_paused(), fed.next, fed.pending_snapshot),
            (false, Index(21), Index(0))
        );
        fed.become_snapshot(Index(30));
        // It failed.
        fed.pending_snapshot = Index(0);
        fed.become_probe();
        assert_eq!(fed.next, Index(3));
    }

    #[test]
    fn a_commit_index_is_sent_while_it_tells_something() {
        let mut fed = progress(9, 10);
        fed.become_replicate();
        assert!(fed.can_bump_commit(Index(5)));
        fed.sent_commit(Index(5));
        assert!(!fed.can_bump_commit(Index(5)) && fed.can_bump_commit(Index(8)));
        fed.sent_commit(Index(9));
        assert!(
            !fed.can_bump_commit(Index(12)),
            "the member will have no more than 9"
        );
    }
}
