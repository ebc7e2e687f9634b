//! What every [`Storage`] must do, to be run from the tests of an implementation.
//!
//! ```
//! use quorate_raft::{MemStorage, storage_suite};
//!
//! // For a storage of your own, implement `TestStorage` in its tests and run:
//! assert_eq!(storage_suite::check(MemStorage::new), Ok(()));
//! ```

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;

use crate::rng::Rng;
use crate::{
    ConfChange, ConfState, Entry, HardState, Index, MemStorage, Payload, ReplicaId, Snapshot, SnapshotMeta,
    Storage, StorageError, Term,
};

/// How the suite changes what it reads. The methods do what a driver does with a [`crate::Ready`]; they may panic
/// when the implementation fails.
pub trait TestStorage: Storage + Sized {
    /// Stores entries; those at positions that exist replace them and cut everything behind. There is no gap, and
    /// none is compacted.
    fn append(&mut self, entries: &[Entry]);
    /// Stores the hard state.
    fn set_hard_state(&mut self, hard_state: HardState);
    /// Replaces log and configuration by a snapshot's; the hard state stays. The snapshot is newer than any before.
    fn install(&mut self, snapshot: Snapshot);
    /// Makes `snapshot` the newest snapshot and the configuration that a restart finds, and forgets the entries up
    /// to its index, keeping that one's term.
    fn compact(&mut self, snapshot: Snapshot);
    /// Ends the process in order and starts it again.
    #[must_use]
    fn reopen(self) -> Self;
}

impl TestStorage for MemStorage {
    fn append(&mut self, entries: &[Entry]) {
        if let Err(error) = MemStorage::append(self, entries) {
            panic!("{error}");
        }
    }

    fn set_hard_state(&mut self, hard_state: HardState) {
        MemStorage::set_hard_state(self, hard_state);
    }

    fn install(&mut self, snapshot: Snapshot) {
        if let Err(error) = self.apply_snapshot(snapshot) {
            panic!("{error}");
        }
    }

    fn compact(&mut self, snapshot: Snapshot) {
        let Snapshot { meta, data } = snapshot;
        self.set_conf_state(meta.conf_state.clone());
        let made = self.create_snapshot(meta.index, meta.conf_state, data).map(drop);
        if let Err(error) = made.and_then(|()| MemStorage::compact(self, meta.index)) {
            panic!("{error}");
        }
    }

    fn reopen(self) -> Self {
        self
    }
}

/// A claim that did not hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// What should be.
    pub claim: &'static str,
    /// What was done, expected and found.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.claim, self.found)
    }
}

impl core::error::Error for Violation {}

/// Checks the storage that `open` makes, fresh and empty at each call.
///
/// # Errors
///
/// The first claim of [`Storage`]'s contract that does not hold.
///
/// # Panics
///
/// Where the implementation's [`TestStorage`] does.
pub fn check<S: TestStorage>(mut open: impl FnMut() -> S) -> Result<(), Violation> {
    starts_empty(&open())?;
    limits(open())?;
    overwriting(open())?;
    compaction(open())?;
    snapshots(open())?;
    for seed in 0..20 {
        arbitrary(open(), seed)?;
    }
    Ok(())
}

fn expect<T: PartialEq + fmt::Debug>(
    claim: &'static str,
    what: &str,
    found: &T,
    right: &T,
) -> Result<(), Violation> {
    if found == right {
        return Ok(());
    }
    let found = format!("{what} gives {found:?}, and {right:?} is right");
    Err(Violation { claim, found })
}

fn entry(index: u64, term: u64, payload: Payload) -> Entry {
    Entry {
        term: Term(term),
        index: Index(index),
        payload,
    }
}

/// `from..=to` in one term, with payloads of ten bytes.
fn entries(from: u64, to: u64, term: u64) -> Vec<Entry> {
    let payload = |index: u64| Payload::Normal(Bytes::from(format!("{index:05}{term:05}")));
    (from..=to)
        .map(|index| entry(index, term, payload(index)))
        .collect()
}

fn snapshot(index: u64, term: u64, voters: u64) -> Snapshot {
    let conf_state = ConfState {
        voters: (1..=voters).map(ReplicaId).collect(),
        ..ConfState::default()
    };
    let meta = SnapshotMeta {
        index: Index(index),
        term: Term(term),
        conf_state,
    };
    let data = Bytes::from(format!("state at {index}"));
    Snapshot { meta, data }
}

fn read<S: Storage>(storage: &S, low: u64, end: u64, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
    let mut found = Vec::new();
    storage.entries(Index(low), Index(end), max_bytes, &mut found)?;
    Ok(found)
}

fn starts_empty<S: Storage>(storage: &S) -> Result<(), Violation> {
    let claim = "an empty storage has first index 1, last index 0, and term 0 at 0";
    let bounds = (
        storage.first_index(),
        storage.last_index(),
        storage.term(Index(0)),
    );
    expect(
        claim,
        "reading the bounds",
        &bounds,
        &(Ok(Index(1)), Ok(Index(0)), Ok(Term(0))),
    )?;
    let state = Ok((HardState::default(), ConfState::default()));
    expect(
        "an empty storage has an empty state",
        "initial_state",
        &storage.initial_state(),
        &state,
    )
}

fn limits<S: TestStorage>(mut storage: S) -> Result<(), Violation> {
    let mut log = entries(1, 4, 1);
    let change = ConfChange {
        context: Bytes::from_static(b"whatever"),
        ..ConfChange::default()
    };
    log.push(entry(5, 1, Payload::ConfChange(Box::new(change))));
    log.push(entry(6, 2, Payload::Normal(Bytes::new())));
    storage.append(&log);
    let claim = "what was appended is read, byte for byte";
    expect(
        claim,
        "entries(1, 7)",
        &read(&storage, 1, 7, u64::MAX),
        &Ok(log.clone()),
    )?;
    let claim = "a range holds low and not end";
    expect(
        claim,
        "entries(2, 4)",
        &read(&storage, 2, 4, u64::MAX),
        &Ok(log[1..3].to_vec()),
    )?;
    for (max_bytes, count) in [(0, 1), (9, 1), (10, 1), (19, 1), (20, 2), (39, 3), (40, 4)] {
        let claim = "at least one entry is read, then as many as fit max_bytes of payload";
        let what = format!("entries(1, 5) with max_bytes {max_bytes} and payloads of 10");
        expect(
            claim,
            &what,
            &read(&storage, 1, 5, max_bytes),
            &Ok(log[..count].to_vec()),
        )?;
    }
    let mut found = vec![log[0].clone()];
    let result = storage.entries(Index(2), Index(4), u64::MAX, &mut found);
    let claim = "entries are added to those that the vector holds";
    expect(
        claim,
        "entries(2, 4) behind 1",
        &(result, found),
        &(Ok(()), log[..3].to_vec()),
    )?;
    let unavailable = |asked| StorageError::Unavailable {
        last: Index(6),
        asked: Index(asked),
    };
    let claim = "a position past the end is Unavailable, with the last index";
    expect(
        claim,
        "term(7) of 6",
        &storage.term(Index(7)),
        &Err(unavailable(7)),
    )?;
    expect(
        claim,
        "entries(5, 9) of 6",
        &read(&storage, 5, 9, u64::MAX),
        &Err(unavailable(8)),
    )
}

fn overwriting<S: TestStorage>(mut storage: S) -> Result<(), Violation> {
    storage.append(&entries(1, 5, 1));
    storage.append(&entries(3, 3, 2));
    let claim = "an entry at a position that exists replaces it and cuts all behind";
    expect(claim, "last_index", &storage.last_index(), &Ok(Index(3)))?;
    expect(claim, "term(3)", &storage.term(Index(3)), &Ok(Term(2)))?;
    let right = [entries(1, 2, 1), entries(3, 3, 2)].concat();
    expect(
        claim,
        "entries(1, 4)",
        &read(&storage, 1, 4, u64::MAX),
        &Ok(right.clone()),
    )?;
    let storage = storage.reopen();
    expect(
        claim,
        "entries(1, 4) after reopening",
        &read(&storage, 1, 4, u64::MAX),
        &Ok(right),
    )
}

fn compaction<S: TestStorage>(mut storage: S) -> Result<(), Violation> {
    storage.append(&entries(1, 5, 3));
    storage.compact(snapshot(3, 3, 2));
    for reopened in [false, true] {
        if reopened {
            storage = storage.reopen();
        }
        let compacted = |asked| StorageError::Compacted {
            first: Index(4),
            asked: Index(asked),
        };
        let claim = "compaction moves the first index and nothing else";
        let bounds = (storage.first_index(), storage.last_index());
        expect(
            claim,
            "reading the bounds",
            &bounds,
            &(Ok(Index(4)), Ok(Index(5))),
        )?;
        expect(
            claim,
            "entries(4, 6)",
            &read(&storage, 4, 6, u64::MAX),
            &Ok(entries(4, 5, 3)),
        )?;
        let claim = "the term before the first entry is kept";
        expect(
            claim,
            "term(3) after compacting 3",
            &storage.term(Index(3)),
            &Ok(Term(3)),
        )?;
        let claim = "a compacted position is Compacted, with the first index";
        expect(claim, "term(2)", &storage.term(Index(2)), &Err(compacted(2)))?;
        expect(
            claim,
            "entries(3, 5)",
            &read(&storage, 3, 5, u64::MAX),
            &Err(compacted(3)),
        )?;
        expect(
            "the snapshot is kept",
            "snapshot",
            &storage.snapshot(),
            &Ok(snapshot(3, 3, 2)),
        )?;
        let conf_state = storage.initial_state().map(|(_, conf_state)| conf_state);
        let right = Ok(snapshot(3, 3, 2).meta.conf_state);
        expect(
            "a restart finds the configuration",
            "initial_state",
            &conf_state,
            &right,
        )?;
    }
    storage.compact(snapshot(5, 3, 2));
    let claim = "a log that is compacted to its end is empty, and goes on there";
    let bounds = (
        storage.first_index(),
        storage.last_index(),
        storage.term(Index(5)),
    );
    expect(
        claim,
        "reading the bounds",
        &bounds,
        &(Ok(Index(6)), Ok(Index(5)), Ok(Term(3))),
    )?;
    storage.append(&entries(6, 6, 4));
    expect(
        claim,
        "entries(6, 7)",
        &read(&storage, 6, 7, u64::MAX),
        &Ok(entries(6, 6, 4)),
    )
}

fn snapshots<S: TestStorage>(mut storage: S) -> Result<(), Violation> {
    let hard_state = HardState {
        term: Term(7),
        vote: Some(ReplicaId(2)),
        commit: Index(4),
    };
    storage.append(&entries(1, 12, 2));
    storage.set_hard_state(hard_state);
    storage.install(snapshot(9, 5, 3));
    for reopened in [false, true] {
        if reopened {
            storage = storage.reopen();
        }
        let claim = "a snapshot replaces the whole log";
        let bounds = (
            storage.first_index(),
            storage.last_index(),
            storage.term(Index(9)),
        );
        expect(
            claim,
            "reading the bounds",
            &bounds,
            &(Ok(Index(10)), Ok(Index(9)), Ok(Term(5))),
        )?;
        expect(claim, "snapshot", &storage.snapshot(), &Ok(snapshot(9, 5, 3)))?;
        let claim = "hard state and configuration survive: the first as set, the second the snapshot's";
        let right = Ok((hard_state, snapshot(9, 5, 3).meta.conf_state));
        expect(claim, "initial_state", &storage.initial_state(), &right)?;
    }
    storage.append(&entries(10, 11, 7));
    let claim = "the log goes on behind a snapshot";
    expect(
        claim,
        "entries(10, 12)",
        &read(&storage, 10, 12, u64::MAX),
        &Ok(entries(10, 11, 7)),
    )
}

/// Random changes, compared with [`MemStorage`] after each.
fn arbitrary<S: TestStorage>(mut storage: S, seed: u64) -> Result<(), Violation> {
    let mut model = MemStorage::new();
    let mut rng = Rng::new(seed);
    let mut below = |end: u64| u64::from(rng.below(end as u32));
    let mut term = 1;
    for _ in 0..100 {
        let (first, last) = bounds(&model);
        term += below(2);
        let done = match below(8) {
            0..4 => {
                let from = first + below(last + 2 - first);
                let new = entries(from, from + below(4), term);
                TestStorage::append(&mut storage, &new);
                TestStorage::append(&mut model, &new);
                format!("appending from {from} in term {term}")
            }
            4 => {
                let hard_state = HardState {
                    term: Term(term),
                    vote: Some(ReplicaId(1 + below(3))),
                    commit: Index(last),
                };
                storage.set_hard_state(hard_state);
                model.set_hard_state(hard_state);
                format!("setting {hard_state:?}")
            }
            5 if last >= first => {
                let at = first + below(last + 1 - first);
                let at_term = model.term(Index(at)).map_or(0, |term| term.0);
                let made = snapshot(at, at_term, 1 + below(4));
                storage.compact(made.clone());
                TestStorage::compact(&mut model, made);
                format!("compacting {at}")
            }
            6 => {
                let new = snapshot(last + 1 + below(3), term, 1 + below(4));
                storage.install(new.clone());
                TestStorage::install(&mut model, new);
                format!("a snapshot behind {last}")
            }
            _ => {
                storage = storage.reopen();
                String::from("reopening")
            }
        };
        let claim = "after any sequence of changes storage reads as a log in memory does";
        let (first, last) = bounds(&model);
        let all = |storage: &dyn Fn(Index) -> Result<Term, StorageError>| {
            (first.saturating_sub(2)..=last + 1)
                .map(|at| storage(Index(at)))
                .collect::<Vec<_>>()
        };
        expect(
            claim,
            &done,
            &all(&|at| storage.term(at)),
            &all(&|at| model.term(at)),
        )?;
        let bounds = (storage.first_index(), storage.last_index());
        expect(claim, &done, &bounds, &(model.first_index(), model.last_index()))?;
        if last >= first {
            let max_bytes = below(50);
            let right = read(&model, first, last + 1, max_bytes);
            expect(claim, &done, &read(&storage, first, last + 1, max_bytes), &right)?;
        }
        expect(claim, &done, &storage.initial_state(), &model.initial_state())?;
        expect(claim, &done, &storage.snapshot(), &model.snapshot())?;
    }
    Ok(())
}

fn bounds(model: &MemStorage) -> (u64, u64) {
    let last = model.last_index().unwrap_or_default().0;
    (model.first_index().map_or(1, |first| first.0), last)
}
