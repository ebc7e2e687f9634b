//! Storage that fails: every error comes back as an error, and says what was lost.

use std::cell::Cell;

use bytes::Bytes;
use quorate_raft::{
    ConfState, Entry, HardState, Index, MemStorage, MessageBody, RawNode, ReplicaId, Snapshot, StepError,
    Storage, StorageError, Term,
};

use crate::net::{accepted, append, config, entry, hard_state, heartbeat, step_with, vote, voters};

/// What goes wrong, at one read or from then on.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// An error, once.
    FailsOnce,
    /// An error, from then on.
    Fails,
    /// The log ends earlier than it did.
    LosesItsTail,
    /// Entries are missing from what is read.
    GivesLess,
}

struct Failing {
    inner: MemStorage,
    fault: Fault,
    /// Reads until it fails.
    left: Cell<u32>,
    failed: Cell<bool>,
}

impl Failing {
    /// Whether this read goes wrong.
    fn fails(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        let fails = match self.fault {
            Fault::FailsOnce => left == 1,
            Fault::Fails | Fault::LosesItsTail | Fault::GivesLess => left <= 1,
        };
        self.failed.set(self.failed.get() || fails);
        fails
    }

    fn fault(&self) -> Result<(), StorageError> {
        let fails = self.fails();
        match self.fault {
            Fault::FailsOnce | Fault::Fails if fails => Err(StorageError::Failed("the disk is gone".into())),
            _ => Ok(()),
        }
    }

    /// Where the log ends for one whose tail is lost.
    fn cut(&self) -> Index {
        match self.fault {
            Fault::LosesItsTail if self.left.get() == 0 => Index(2),
            _ => Index(u64::MAX),
        }
    }
}

impl Storage for Failing {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        self.fault()?;
        self.inner.initial_state()
    }

    fn entries(&self, low: Index, end: Index, max: u64, found: &mut Vec<Entry>) -> Result<(), StorageError> {
        self.fault()?;
        if end > self.cut().next() {
            return Err(StorageError::Unavailable {
                last: self.cut(),
                asked: end.prev(),
            });
        }
        self.inner.entries(low, end, max, found)?;
        if matches!(self.fault, Fault::GivesLess) && self.left.get() == 0 {
            found.remove(0);
        }
        Ok(())
    }

    fn term(&self, index: Index) -> Result<Term, StorageError> {
        self.fault()?;
        if index > self.cut() {
            return Err(StorageError::Unavailable {
                last: self.cut(),
                asked: index,
            });
        }
        self.inner.term(index)
    }

    fn first_index(&self) -> Result<Index, StorageError> {
        self.fault()?;
        self.inner.first_index()
    }

    fn last_index(&self) -> Result<Index, StorageError> {
        self.fault()?;
        Ok(self.inner.last_index()?.min(self.cut()))
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        self.fault()?;
        self.inner.snapshot()
    }
}

/// Drives a member through most of what reads storage. What it returns is an error that a driver would stop at.
fn live(fault: Fault, reads: u32) -> (Result<(), String>, bool) {
    let mut inner = MemStorage::with_conf_state(voters(1..=3));
    let entries: Vec<Entry> = (1..=6).map(|index| entry(index, 1 + index / 3)).collect();
    inner.append(&entries).expect("no gap");
    inner.set_hard_state(hard_state(3, 3));
    inner
        .create_snapshot(Index(1), voters(1..=3), Bytes::new())
        .expect("first one");
    inner.compact(Index(1)).expect("first time");
    let storage = Failing {
        inner,
        fault,
        left: Cell::new(reads),
        failed: Cell::new(false),
    };
    let mut settings = config(1);
    (settings.applied, settings.max_committed_bytes_per_ready) = (Index(1), 1);
    let mut node = match RawNode::new(settings, storage) {
        Ok(node) => node,
        Err(error) => return (Err(error.to_string()), true),
    };
    let result = inputs(&mut node).map_err(|error| error.to_string());
    let failed = node.storage().failed.get();
    (result, failed)
}

fn inputs(node: &mut RawNode<Failing>) -> Result<(), StepError> {
    let mut next = 0;
    loop {
        while node.has_ready() {
            let ready = node.ready()?;
            if let Some(work) = ready.append {
                let inner = &mut node.storage_mut().inner;
                inner.append(&work.entries).expect("no gap");
                if let Some(hard_state) = work.hard_state {
                    inner.set_hard_state(hard_state);
                }
            }
            node.advance()?;
        }
        let term = node.term().0;
        match next {
            0 => step_with(node, 2, term, vote(9, 9))?,
            1 => step_with(node, 2, term + 1, append(4, 2, 4, vec![entry(5, 2), entry(6, 3)]))?,
            2 => step_with(node, 2, term, heartbeat(5))?,
            3 => step_with(node, 2, term, append(9, 9, 4, vec![]))?,
            4 => node.campaign()?,
            5 => step_with(node, 2, term, MessageBody::VoteResponse { reject: false })?,
            6 => step_with(node, 2, term, accepted(4))?,
            7 => step_with(node, 3, term, accepted(1))?,
            8 => drop(node.propose(Bytes::from_static(b"x"))?),
            9 => step_with(node, 2, term, accepted(8))?,
            10 => {
                let reject = Some(quorate_raft::RejectHint {
                    index: Index(0),
                    term: Term(0),
                });
                let index = node
                    .progress(ReplicaId(3))
                    .map_or(Index(0), |progress| progress.next.prev());
                step_with(node, 3, term, MessageBody::AppendResponse { index, reject })?;
            }
            11 => node.tick()?,
            _ => return Ok(()),
        }
        next += 1;
    }
}

#[test]
fn every_storage_error_comes_back_and_nothing_panics() {
    for fault in [
        Fault::FailsOnce,
        Fault::Fails,
        Fault::LosesItsTail,
        Fault::GivesLess,
    ] {
        let mut errors = 0;
        for reads in 1..200 {
            let (result, failed) = live(fault, reads);
            match (fault, result) {
                (Fault::FailsOnce | Fault::Fails, Ok(())) => {
                    assert!(!failed, "{fault:?} at {reads} went unnoticed")
                }
                (Fault::FailsOnce | Fault::Fails, Err(error)) => {
                    assert!(
                        error.contains("the disk is gone"),
                        "{fault:?} at {reads}: {error}"
                    );
                    errors += 1;
                }
                (_, Ok(())) => {}
                (Fault::LosesItsTail, Err(error)) => {
                    let named = error.contains("tail") || error.contains("term 3, but the log ends at 2");
                    assert!(named, "{fault:?} at {reads}: {error}");
                    errors += 1;
                }
                (Fault::GivesLess, Err(error)) => {
                    assert!(
                        error.contains("were asked for, and storage gave"),
                        "{reads}: {error}"
                    );
                    errors += 1;
                }
            }
        }
        assert!(errors >= 5, "{fault:?} was met {errors} times only");
    }
}

#[test]
fn a_tail_lost_at_run_time_is_named_with_both_positions() {
    let mut inner = MemStorage::with_conf_state(voters([1]));
    let entries: Vec<Entry> = (1..=6).map(|index| entry(index, 1)).collect();
    inner.append(&entries).expect("no gap");
    inner.set_hard_state(hard_state(1, 6));
    let storage = Failing {
        inner,
        fault: Fault::LosesItsTail,
        left: Cell::new(1000),
        failed: Cell::new(false),
    };
    let mut node = RawNode::new(config(1), storage).expect("nothing is lost yet");
    node.storage().left.set(1);
    let lost = StorageError::LostTail {
        last: Index(2),
        stored: Index(6),
    };
    assert_eq!(
        node.ready().expect_err("entries to apply"),
        StepError::Storage(lost.clone())
    );
    let shown = "storage lost its tail: the log was stored up to 6, and storage has it up to 2";
    assert_eq!(lost.to_string(), shown);
    assert!(StepError::Storage(lost).is_fatal());
}

/// A snapshot that is being made is waited for.
#[test]
fn a_snapshot_that_is_not_ready_is_asked_for_again() {
    struct NoSnapshot(MemStorage, Cell<u32>);
    impl Storage for NoSnapshot {
        fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
            self.0.initial_state()
        }
        fn entries(
            &self,
            low: Index,
            end: Index,
            max: u64,
            found: &mut Vec<Entry>,
        ) -> Result<(), StorageError> {
            self.0.entries(low, end, max, found)
        }
        fn term(&self, index: Index) -> Result<Term, StorageError> {
            self.0.term(index)
        }
        fn first_index(&self) -> Result<Index, StorageError> {
            self.0.first_index()
        }
        fn last_index(&self) -> Result<Index, StorageError> {
            self.0.last_index()
        }
        fn snapshot(&self) -> Result<Snapshot, StorageError> {
            self.1.set(self.1.get() + 1);
            if self.1.get() < 3 {
                return Err(StorageError::SnapshotTemporarilyUnavailable);
            }
            self.0.snapshot()
        }
    }
    let mut inner = MemStorage::with_conf_state(voters(1..=2));
    inner.append(&[entry(1, 1), entry(2, 1)]).expect("no gap");
    inner.set_hard_state(hard_state(1, 2));
    inner
        .create_snapshot(Index(2), voters(1..=2), Bytes::new())
        .expect("first one");
    inner.compact(Index(2)).expect("first time");
    let mut settings = config(1);
    settings.applied = Index(2);
    let mut node = RawNode::new(settings, NoSnapshot(inner, Cell::new(0))).expect("valid storage");
    let mut snapshots = Vec::new();
    let mut settle = |node: &mut RawNode<NoSnapshot>, tick: u32| {
        while node.has_ready() {
            let ready = node.ready().expect("memory");
            node.storage_mut()
                .0
                .append(&ready.append.unwrap_or_default().entries)
                .expect("no gap");
            let sent = |message: &&quorate_raft::Message| matches!(message.body, MessageBody::Snapshot(_));
            snapshots.extend(ready.send_now.iter().filter(sent).map(|_| tick));
            node.advance().expect("advance");
        }
    };
    node.campaign().expect("campaign");
    settle(&mut node, 0);
    step_with(&mut node, 2, 2, MessageBody::VoteResponse { reject: false }).expect("taken");
    for tick in 1..=5 {
        settle(&mut node, tick);
        let reject = Some(quorate_raft::RejectHint {
            index: Index(0),
            term: Term(0),
        });
        let index = node.progress(ReplicaId(2)).expect("leads").next.prev();
        step_with(&mut node, 2, 2, MessageBody::AppendResponse { index, reject }).expect("taken");
        node.tick().expect("tick");
        step_with(&mut node, 2, 2, MessageBody::HeartbeatResponse { context: None }).expect("taken");
    }
    assert_eq!(snapshots.len(), 1, "sent once it was there: {snapshots:?}");
}
