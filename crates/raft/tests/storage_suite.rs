//! The storage suite passes what is right, and finds what is not.

use quorate_raft::storage_suite::{TestStorage, check};
use quorate_raft::{
    ConfState, Entry, HardState, Index, MemStorage, Snapshot, SnapshotMeta, Storage, StorageError, Term,
};

#[test]
fn storage_in_memory_passes() {
    if let Err(violation) = check(MemStorage::new) {
        panic!("{violation}");
    }
}

/// What an implementer may get wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    IgnoresTheLimit,
    GivesNothingWhenNothingFits,
    ReplacesWhatTheVectorHolds,
    TakesEndAsInclusive,
    KeepsTheTailWhenOverwriting,
    ForgetsTheTermBeforeTheFirstEntry,
    IsOffByOneWhenEmpty,
    CallsCompactedUnavailable,
    GivesWhatIsLeftOfACompactedRange,
    GivesWhatThereIsPastTheEnd,
    ForgetsTheHardStateWhenReopened,
    ForgetsTheConfigurationWhenReopened,
    ForgetsTheHardStateWithASnapshot,
    KeepsTheLogBehindASnapshot,
    ForgetsTheSnapshotWhenReopened,
}

use Fault::*;

const FAULTS: [Fault; 15] = [
    IgnoresTheLimit,
    GivesNothingWhenNothingFits,
    ReplacesWhatTheVectorHolds,
    TakesEndAsInclusive,
    KeepsTheTailWhenOverwriting,
    ForgetsTheTermBeforeTheFirstEntry,
    IsOffByOneWhenEmpty,
    CallsCompactedUnavailable,
    GivesWhatIsLeftOfACompactedRange,
    GivesWhatThereIsPastTheEnd,
    ForgetsTheHardStateWhenReopened,
    ForgetsTheConfigurationWhenReopened,
    ForgetsTheHardStateWithASnapshot,
    KeepsTheLogBehindASnapshot,
    ForgetsTheSnapshotWhenReopened,
];

#[test]
fn each_fault_is_found() {
    for fault in FAULTS {
        let inner = MemStorage::new();
        let found = check(|| Broken {
            inner: inner.clone(),
            fault,
        });
        let violation = found.expect_err("nothing was found");
        assert!(
            !violation.claim.is_empty() && !violation.found.is_empty(),
            "{fault:?}: {violation}"
        );
    }
}

struct Broken {
    inner: MemStorage,
    fault: Fault,
}

impl Broken {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

impl Storage for Broken {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        self.inner.initial_state()
    }

    fn entries(
        &self,
        low: Index,
        end: Index,
        max_bytes: u64,
        found: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        let (first, last) = (self.inner.first_index()?, self.inner.last_index()?);
        let max_bytes = if self.is(IgnoresTheLimit) {
            u64::MAX
        } else {
            max_bytes
        };
        let low = if self.is(GivesWhatIsLeftOfACompactedRange) {
            low.max(first)
        } else {
            low
        };
        let end = match self.fault {
            GivesWhatThereIsPastTheEnd => end.min(last.next()),
            TakesEndAsInclusive if end <= last => end.next(),
            _ => end,
        };
        if self.is(ReplacesWhatTheVectorHolds) {
            found.clear();
        }
        let before = found.len();
        self.inner.entries(low, end, max_bytes, found)?;
        let one_too_large = found.len() == before + 1 && found[before].payload.len() as u64 > max_bytes;
        if self.is(GivesNothingWhenNothingFits) && one_too_large {
            found.pop();
        }
        Ok(())
    }

    fn term(&self, index: Index) -> Result<Term, StorageError> {
        let first = self.inner.first_index()?;
        if self.is(ForgetsTheTermBeforeTheFirstEntry) && index > Index(0) && index.next() == first {
            return Err(StorageError::Compacted { first, asked: index });
        }
        match self.inner.term(index) {
            Err(StorageError::Compacted { asked, .. }) if self.is(CallsCompactedUnavailable) => {
                let last = self.inner.last_index()?;
                Err(StorageError::Unavailable { last, asked })
            }
            found => found,
        }
    }

    fn first_index(&self) -> Result<Index, StorageError> {
        self.inner.first_index()
    }

    fn last_index(&self) -> Result<Index, StorageError> {
        let (first, last) = (self.inner.first_index()?, self.inner.last_index()?);
        let wrong = self.is(IsOffByOneWhenEmpty) && last < first && first > Index(1);
        Ok(if wrong { first } else { last })
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.inner.snapshot()
    }
}

impl TestStorage for Broken {
    fn append(&mut self, entries: &[Entry]) {
        let tail = match entries.last() {
            Some(last) if self.is(KeepsTheTailWhenOverwriting) => {
                let kept = self.inner.log().iter().filter(|entry| entry.index > last.index);
                kept.cloned().collect()
            }
            _ => Vec::new(),
        };
        TestStorage::append(&mut self.inner, entries);
        TestStorage::append(&mut self.inner, &tail);
    }

    fn set_hard_state(&mut self, hard_state: HardState) {
        self.inner.set_hard_state(hard_state);
    }

    fn install(&mut self, snapshot: Snapshot) {
        let at = snapshot.meta.index;
        let kept: Vec<Entry> = self
            .inner
            .log()
            .iter()
            .filter(|entry| entry.index > at)
            .cloned()
            .collect();
        self.inner.install(snapshot);
        if self.is(KeepsTheLogBehindASnapshot) {
            TestStorage::append(&mut self.inner, &kept);
        }
        if self.is(ForgetsTheHardStateWithASnapshot) {
            self.inner.set_hard_state(HardState::default());
        }
    }

    fn compact(&mut self, snapshot: Snapshot) {
        TestStorage::compact(&mut self.inner, snapshot);
    }

    fn reopen(mut self) -> Self {
        match self.fault {
            ForgetsTheHardStateWhenReopened => self.inner.set_hard_state(HardState::default()),
            ForgetsTheConfigurationWhenReopened => self.inner.set_conf_state(ConfState::default()),
            ForgetsTheSnapshotWhenReopened => {
                let first = self.inner.first_index().expect("memory");
                let (hard_state, conf_state) = self.inner.initial_state().expect("memory");
                if first > Index(1) {
                    let term = self.inner.term(first.prev()).expect("kept");
                    let log = self.inner.log().to_vec();
                    let mut fresh = MemStorage::new();
                    let meta = SnapshotMeta {
                        index: first.prev(),
                        term,
                        conf_state: conf_state.clone(),
                    };
                    // Data lost, position kept.
                    fresh
                        .apply_snapshot(Snapshot {
                            meta,
                            ..Snapshot::default()
                        })
                        .expect("first one");
                    TestStorage::append(&mut fresh, &log);
                    fresh.set_hard_state(hard_state);
                    self.inner = fresh;
                }
            }
            _ => {}
        }
        self
    }
}
