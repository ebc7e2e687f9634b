//! Crashes between any two steps (P6), on a disk that forgets and tears.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_raft::{ConfState, Entry, HardState, Index, Payload, Snapshot, SnapshotMeta, Term};
use quorate_storage::disk::SimDisk;
use quorate_storage::log::{LogBatch, LogOp};
use quorate_storage::{ClusterId, Incarnation};

use super::{Durable, LOG, Restored, Write, hard_state_op};
use crate::members::{Book, SnapshotBody};
use crate::{Config, FatalError, NodeId, OpenError, Start};

const OWN: NodeId = NodeId(1);

fn config() -> Config {
    let voters = BTreeMap::from([(OWN, "a:1".to_owned()), (NodeId(2), "b:2".to_owned())]);
    let mut config = Config::new(ClusterId(5), OWN, Start::Bootstrap { voters });
    config.log.segment_bytes = 16 << 10;
    config
}

fn open(disk: &SimDisk) -> Result<(Durable<SimDisk>, Restored), OpenError> {
    Durable::open(disk.clone(), &config(), Incarnation(7))
}

fn snapshot(index: u64, term: u64, commands: u64) -> Snapshot {
    let body = SnapshotBody {
        commands,
        book: Book::default(),
        data: Bytes::from(vec![index as u8; 3000]),
    };
    Snapshot {
        meta: SnapshotMeta {
            index: Index(index),
            term: Term(term),
            conf_state: ConfState {
                voters: vec![OWN, NodeId(2)],
                ..ConfState::default()
            },
        },
        data: body.encode(),
    }
}

fn write(snapshot: Option<Snapshot>, ops: Vec<LogOp>) -> Write {
    Write {
        token: 1,
        snapshot,
        batch: LogBatch { ops, sync: true },
    }
}

fn append(from: u64, to: u64, term: u64) -> LogOp {
    let entry = |index| Entry {
        term: Term(term),
        index: Index(index),
        payload: Payload::Normal(Bytes::from_static(b"\x01x")),
    };
    LogOp::Append {
        shard: LOG,
        entries: (from..=to).map(entry).collect(),
    }
}

fn hard_state(term: u64) -> LogOp {
    let state = HardState {
        term: Term(term),
        vote: None,
        commit: Index(1),
    };
    hard_state_op(OWN, state)
}

fn perform(durable: &mut Durable<SimDisk>, write: &Write) -> Result<(), FatalError> {
    durable.write(write)?;
    durable.sync()
}

/// The process or the machine dies in the `n`-th change of what `steps` does, for every `n`, and the directory is
/// opened again.
fn at_every_step(
    prepare: impl Fn(&SimDisk),
    steps: impl Fn(&SimDisk) -> bool,
    check: impl Fn(u64, Restored, bool),
) {
    for n in 1..200 {
        for fate in 0..4 {
            let disk = SimDisk::new(n * 10 + fate);
            prepare(&disk);
            disk.crash_at(n);
            let done = steps(&disk);
            if fate == 0 {
                disk.process_kill();
            } else {
                disk.crash(n + fate);
            }
            let (_, restored) = open(&disk).unwrap_or_else(|error| panic!("step {n}, fate {fate}: {error}"));
            check(n, restored, done);
            if done && fate == 3 {
                return;
            }
        }
    }
    panic!("there is no end to the steps");
}

#[test]
fn p4_a_crash_anywhere_in_formatting_begins_it_again_or_finds_it_done() {
    at_every_step(
        |_| {},
        |disk| open(disk).is_ok(),
        |n, restored, _| {
            let meta = &restored.log.durable_snapshot().meta;
            assert_eq!((meta.index, restored.commands), (Index(1), 0), "step {n}");
            assert_eq!(restored.book.addresses.len(), 2, "step {n}");
        },
    );
}

#[test]
fn p5_a_crash_anywhere_in_an_installation_leaves_the_old_state_or_the_new_one() {
    at_every_step(
        |disk| {
            let (mut durable, _) = open(disk).unwrap();
            // A log in the way of the snapshot: other entries, of an older term.
            perform(&mut durable, &write(None, vec![append(2, 40, 2), hard_state(2)])).unwrap();
        },
        |disk| {
            let Ok((mut durable, _)) = open(disk) else {
                return false;
            };
            let reset = LogOp::Reset {
                shard: LOG,
                index: Index(30),
                term: Term(3),
            };
            let install = write(Some(snapshot(30, 3, 25)), vec![reset, hard_state(3)]);
            perform(&mut durable, &install).is_ok()
        },
        |n, restored, done| {
            let log = &restored.log;
            let index = log.durable_snapshot().meta.index;
            if index == Index(30) {
                assert_eq!(
                    (log.base(), log.commands(), restored.commands),
                    (Index(30), 25, 25),
                    "step {n}"
                );
            } else {
                assert!(!done, "step {n}: acknowledged, and gone");
                assert_eq!(
                    (index, log.base(), log.commands()),
                    (Index(1), Index(1), 39),
                    "step {n}"
                );
            }
        },
    );
}

#[test]
fn p5_a_crash_anywhere_in_making_a_snapshot_and_forgetting_the_log_loses_no_command() {
    at_every_step(
        |disk| {
            let (mut durable, _) = open(disk).unwrap();
            perform(&mut durable, &write(None, vec![append(2, 40, 2), hard_state(2)])).unwrap();
        },
        |disk| {
            let Ok((mut durable, _)) = open(disk) else {
                return false;
            };
            let compact = LogOp::Compact {
                shard: LOG,
                index: Index(20),
                term: Term(2),
            };
            perform(&mut durable, &write(Some(snapshot(20, 2, 19)), vec![])).is_ok()
                && perform(&mut durable, &write(None, vec![compact])).is_ok()
        },
        |n, restored, _| {
            let (log, index) = (&restored.log, restored.log.durable_snapshot().meta.index);
            assert!(
                index == Index(20) || (index == Index(1) && log.base() == Index(1)),
                "step {n}"
            );
            assert_eq!(
                log.commands(),
                39,
                "step {n}: the entries behind the snapshot, or all of them"
            );
        },
    );
}

#[test]
fn p2_after_a_failed_sync_nothing_more_is_written() {
    use quorate_storage::disk::Fault;
    let disk = SimDisk::new(3);
    let (mut durable, _) = open(&disk).unwrap();
    disk.fail_sync(1, Fault::Device);
    assert!(perform(&mut durable, &write(None, vec![append(2, 3, 2), hard_state(2)])).is_err());
    assert!(perform(&mut durable, &write(None, vec![append(4, 5, 2)])).is_err());
}
