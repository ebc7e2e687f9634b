//! Rows PS-01, PS-03, PS-04 and PS-05 of the scenario table, and the core's suite for storages.

use bytes::Bytes;
use quorate_raft::Payload;
use quorate_raft::storage_suite::{self, TestStorage};

use super::*;

fn entries(positions: &[(u64, u64)]) -> Vec<Entry> {
    let entry = |(index, term): &(u64, u64)| Entry {
        index: Index(*index),
        term: Term(*term),
        payload: Payload::Normal(Bytes::from(format!("{index}@{term}"))),
    };
    positions.iter().map(entry).collect()
}

/// Entries 4 and 5 behind a base at 3, as after log GC.
fn log() -> ShardLog {
    let mut log = ShardLog::new(
        HardState::default(),
        SnapshotMeta::default(),
        (Index(0), Term(0)),
        entries(&[(1, 1), (2, 2), (3, 3), (4, 4), (5, 5)]),
    );
    assert_eq!(log.compact(Index(3)), (Index(3), Term(3)));
    log
}

fn read(log: &ShardLog, low: u64, end: u64, max_bytes: u64) -> Result<Vec<Entry>, StorageError> {
    let mut found = Vec::new();
    log.entries(Index(low), Index(end), max_bytes, &mut found)
        .map(|()| found)
}

#[test]
fn ps_01_terms_are_known_from_the_truncated_entry_on() {
    let log = log();
    let compacted = StorageError::Compacted {
        first: Index(4),
        asked: Index(2),
    };
    assert_eq!(log.term(Index(2)), Err(compacted));
    for index in 3..=5 {
        assert_eq!(log.term(Index(index)), Ok(Term(index)));
    }
    let unavailable = StorageError::Unavailable {
        last: Index(5),
        asked: Index(6),
    };
    assert_eq!(log.term(Index(6)), Err(unavailable));
}

#[test]
fn ps_03_what_is_cut_is_compacted_and_the_rest_exact() {
    let mut log = log();
    log.append(&entries(&[(6, 6)]));
    for low in [2, 3] {
        let compacted = StorageError::Compacted {
            first: Index(4),
            asked: Index(low),
        };
        assert_eq!(read(&log, low, 6, u64::MAX), Err(compacted));
    }
    assert_eq!(read(&log, 4, 5, u64::MAX), Ok(entries(&[(4, 4)])));
    assert_eq!(read(&log, 4, 6, u64::MAX), Ok(entries(&[(4, 4), (5, 5)])));
    let all = entries(&[(4, 4), (5, 5), (6, 6)]);
    assert_eq!(read(&log, 4, 7, u64::MAX), Ok(all.clone()));
    let unavailable = StorageError::Unavailable {
        last: Index(6),
        asked: Index(7),
    };
    assert_eq!(read(&log, 4, 8, u64::MAX), Err(unavailable));
    // At least one, however little is asked for; and never more bytes than asked for beyond that.
    let sizes: Vec<u64> = all.iter().map(|entry| entry.payload.len() as u64).collect();
    for (max_bytes, count) in [
        (0, 1),
        (sizes[0] + sizes[1], 2),
        (sizes[0] + sizes[1] + sizes[2] - 1, 2),
        (sizes.iter().sum(), 3),
    ] {
        assert_eq!(
            read(&log, 4, 7, max_bytes),
            Ok(all[..count].to_vec()),
            "{max_bytes} bytes"
        );
    }
}

/// What is cut off an incoming message because it is below the base is the core's business (`raft_log`); here such an
/// append is a broken promise.
#[test]
fn ps_04_appends_replace_what_stands_at_and_behind_them() {
    for (what, appended, expected) in [
        ("the same", &[(4, 4), (5, 5)][..], &[(4, 4), (5, 5)][..]),
        ("conflicting", &[(4, 6), (5, 6)], &[(4, 6), (5, 6)]),
        ("further", &[(4, 4), (5, 5), (6, 5)], &[(4, 4), (5, 5), (6, 5)]),
        ("an old tail is cut", &[(4, 5)], &[(4, 5)]),
        ("behind the last", &[(6, 5)], &[(4, 4), (5, 5), (6, 5)]),
        ("nothing", &[], &[(4, 4), (5, 5)]),
    ] {
        let mut log = log();
        log.append(&entries(appended));
        let expected = entries(expected);
        assert_eq!(log.iter().cloned().collect::<Vec<_>>(), expected, "{what}");
        assert_eq!(
            log.bytes(),
            expected.iter().map(entry_bytes).sum::<u64>(),
            "{what}"
        );
        assert_eq!(
            log.last_index(),
            Ok(expected.last().map_or(Index(3), |entry| entry.index)),
            "{what}"
        );
    }
}

#[test]
#[should_panic(expected = "append at 3 does not continue the log (3, 5]")]
fn ps_04_an_append_below_the_base_is_refused() {
    log().append(&entries(&[(3, 3), (4, 4)]));
}

/// 100 entries, cut to 10, 50, nothing, 60.
#[test]
fn ps_05_log_gc_removes_what_it_should_and_no_more() {
    let all: Vec<(u64, u64)> = (1..=100).map(|index| (index, 1)).collect();
    let mut log = ShardLog::new(
        HardState::default(),
        SnapshotMeta::default(),
        (Index(0), Term(0)),
        entries(&all),
    );
    for (to, removed) in [(10, 10), (50, 40), (50, 0), (60, 10)] {
        let before = (log.len(), log.bytes());
        let gone: u64 = entries(&all[(log.base().0.0 as usize)..to])
            .iter()
            .map(entry_bytes)
            .sum();
        assert_eq!(log.compact(Index(to as u64)), (Index(to as u64), Term(1)));
        assert_eq!(
            (before.0 - log.len(), before.1 - log.bytes()),
            (removed, gone),
            "to {to}"
        );
        assert_eq!(log.iter().cloned().collect::<Vec<_>>(), entries(&all[to..]));
    }
    // By count and by bytes, whichever asks for more.
    let each = entry_bytes(&entries(&all[60..61])[0]);
    assert_eq!(log.excess(u64::MAX, 40), Index(60), "nothing in excess");
    assert_eq!(log.excess(u64::MAX, 15), Index(85));
    assert_eq!(log.excess(30 * each + each / 2, 100), Index(70));
    assert_eq!(log.excess(0, 0), Index(100));
}

/// Beside the log there is what a restart finds elsewhere: the hard state in the log on disk, data in the engine.
#[derive(Debug)]
struct Driven {
    log: ShardLog,
    hard_state: HardState,
    data: Bytes,
}

impl Storage for Driven {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        self.log.initial_state()
    }
    fn entries(&self, low: Index, end: Index, max: u64, found: &mut Vec<Entry>) -> Result<(), StorageError> {
        self.log.entries(low, end, max, found)
    }
    fn term(&self, index: Index) -> Result<Term, StorageError> {
        self.log.term(index)
    }
    fn first_index(&self) -> Result<Index, StorageError> {
        self.log.first_index()
    }
    fn last_index(&self) -> Result<Index, StorageError> {
        self.log.last_index()
    }
    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        let data = self.data.clone();
        self.log.snapshot().map(|found| Snapshot { data, ..found })
    }
}

impl TestStorage for Driven {
    fn append(&mut self, entries: &[Entry]) {
        self.log.append(entries);
    }
    fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
        self.reread();
    }
    fn install(&mut self, snapshot: Snapshot) {
        self.log.reset(&snapshot.meta);
        self.data = snapshot.data;
        self.reread();
    }
    fn compact(&mut self, snapshot: Snapshot) {
        self.log.set_applied(snapshot.meta.index, snapshot.meta.term);
        self.log.set_conf_state(snapshot.meta.conf_state);
        self.data = snapshot.data;
        self.log.compact(snapshot.meta.index);
        self.reread();
    }
    fn reopen(mut self) -> Self {
        self.reread();
        self
    }
}

impl Driven {
    /// As a restart finds it.
    fn reread(&mut self) {
        let kept = self.log.iter().cloned().collect();
        self.log = ShardLog::new(self.hard_state, self.log.applied().clone(), self.log.base(), kept);
    }
}

#[test]
fn the_cores_suite_for_storages_passes() {
    let open = || Driven {
        log: ShardLog::new(
            HardState::default(),
            SnapshotMeta::default(),
            (Index(0), Term(0)),
            Vec::new(),
        ),
        hard_state: HardState::default(),
        data: Bytes::new(),
    };
    if let Err(violation) = storage_suite::check(open) {
        panic!("{violation}");
    }
}
