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
