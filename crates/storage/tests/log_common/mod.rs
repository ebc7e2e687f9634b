//! The model that the tests of the log compare with, and small helpers.
#![allow(dead_code, unreachable_pub, reason = "not every test file uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_raft::{
    ConfChange, ConfChangeKind, ConfChangeSingle, Entry, HardState, Index, Payload, ReplicaId, Term,
};
use quorate_storage::disk::{Disk, SimDisk};
use quorate_storage::log::{LogBatch, LogOp, LogOptions, RaftLog, Recovered};
use quorate_storage::{ClusterId, Identity, Incarnation, ShardId, StoreId};

/// Busy shards are numbered below this, a straggler has this number.
pub const SHARDS: u64 = 4;

/// What the log should hold.
pub type Model = BTreeMap<ShardId, ModelShard>;

/// What the log should hold for one shard.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ModelShard {
    pub replica: Option<ReplicaId>,
    pub hard_state: HardState,
    pub base: (Index, Term),
    pub entries: Vec<Entry>,
    pub tombstone: Option<ReplicaId>,
    pub quarantined: bool,
}

impl ModelShard {
    pub fn last(&self) -> u64 {
        self.base.0.0 + self.entries.len() as u64
    }

    /// What the documentation of the operations says, in the simplest way.
    pub fn apply(&mut self, op: &LogOp) {
        match op {
            LogOp::Append { entries, .. } => {
                self.entries.retain(|entry| entry.index < entries[0].index);
                self.entries.extend(entries.iter().cloned());
            }
            LogOp::HardState { replica, state, .. } => {
                self.replica = Some(*replica);
                self.hard_state = *state;
            }
            LogOp::Compact { index, term, .. } => {
                self.entries.retain(|entry| entry.index > *index);
                self.base = (*index, *term);
            }
            LogOp::Reset { index, term, .. } => {
                self.entries.clear();
                self.base = (*index, *term);
            }
            LogOp::Tombstone { replica, .. } => {
                if self.replica.is_none_or(|current| current == *replica) {
                    *self = ModelShard::default();
                }
                self.tombstone = Some(*replica);
            }
        }
    }
}

/// What was recovered, in the model's terms. Shards without anything are left out of neither.
pub fn model_of(recovered: &Recovered) -> Model {
    let shards = recovered.shards.iter().map(|(shard, found)| {
        let found = found.clone();
        let model = ModelShard {
            replica: found.replica,
            hard_state: found.hard_state,
            base: found.base,
            entries: found.entries,
            tombstone: found.tombstone,
            quarantined: found.quarantined,
        };
        (*shard, model)
    });
    shards.collect()
}

/// A line for each shard, short enough to compare by eye.
pub fn describe(model: &Model) -> String {
    let shards = model.iter().map(|(shard, state)| {
        let entries: Vec<String> = state.entries.iter().map(|e| format!("{}@{}", e.index, e.term)).collect();
        let HardState { term, vote, commit } = state.hard_state;
        format!(
            "  shard {shard}: replica {:?} term {term} vote {vote:?} commit {commit} base {}@{} [{}] tombstone {:?} \
             quarantined {}\n",
            state.replica,
            state.base.0,
            state.base.1,
            entries.join(" "),
            state.tombstone,
            state.quarantined
        )
    });
    shards.collect()
}

/// The model after `batches`.
pub fn model_after(batches: &[LogBatch]) -> Model {
    let mut model = Model::new();
    for op in batches.iter().flat_map(|batch| &batch.ops) {
        model.entry(shard_of(op)).or_default().apply(op);
    }
    model
}

fn shard_of(op: &LogOp) -> ShardId {
    match op {
        LogOp::Append { shard, .. }
        | LogOp::HardState { shard, .. }
        | LogOp::Compact { shard, .. }
        | LogOp::Reset { shard, .. }
        | LogOp::Tombstone { shard, .. } => *shard,
    }
}

pub fn identity() -> Identity {
    Identity {
        cluster: ClusterId(7),
        store: StoreId(1),
        incarnation: Incarnation(42),
    }
}

pub fn options(segment_bytes: u64) -> LogOptions {
    LogOptions {
        segment_bytes,
        recycled_segments_max: 2,
    }
}

pub fn open(disk: &SimDisk, segment_bytes: u64) -> (RaftLog<SimDisk>, Recovered) {
    RaftLog::open(disk.clone(), identity(), options(segment_bytes)).unwrap()
}

/// A payload of every kind, by chance.
pub fn payload(index: u64, salt: u64, len: usize) -> Payload {
    if salt.is_multiple_of(7) {
        let change = ConfChangeSingle {
            kind: ConfChangeKind::AddLearner,
            replica: ReplicaId(salt),
        };
        let context = Bytes::from(salt.to_le_bytes().to_vec());
        return Payload::ConfChange(Box::new(ConfChange {
            changes: vec![change; 1 + len % 3],
            context,
            ..ConfChange::default()
        }));
    }
    let mut data = vec![salt as u8; len];
    data.iter_mut()
        .zip(index.to_le_bytes())
        .for_each(|(to, from)| *to = from);
    Payload::Normal(data.into())
}

pub fn append(shard: u64, first: u64, count: u64, term: u64) -> LogOp {
    let entry = |index| Entry {
        term: Term(term),
        index: Index(index),
        payload: payload(index, 8 * term + 1, 60),
    };
    LogOp::Append {
        shard: ShardId(shard),
        entries: (first..first + count).map(entry).collect(),
    }
}

pub fn hard_state(shard: u64, replica: u64, term: u64, commit: u64) -> LogOp {
    let state = HardState {
        term: Term(term),
        vote: Some(ReplicaId(replica)),
        commit: Index(commit),
    };
    LogOp::HardState {
        shard: ShardId(shard),
        replica: ReplicaId(replica),
        state,
    }
}

pub fn compact(shard: u64, index: u64, term: u64) -> LogOp {
    LogOp::Compact {
        shard: ShardId(shard),
        index: Index(index),
        term: Term(term),
    }
}

pub fn reset(shard: u64, index: u64, term: u64) -> LogOp {
    LogOp::Reset {
        shard: ShardId(shard),
        index: Index(index),
        term: Term(term),
    }
}

pub fn tombstone(shard: u64, replica: u64) -> LogOp {
    LogOp::Tombstone {
        shard: ShardId(shard),
        replica: ReplicaId(replica),
    }
}

pub fn batch(ops: impl Into<Vec<LogOp>>) -> LogBatch {
    LogBatch {
        ops: ops.into(),
        sync: true,
    }
}

/// Writes and syncs.
pub fn commit<D: Disk>(log: &mut RaftLog<D>, ops: impl Into<Vec<LogOp>>) {
    log.write(&batch(ops)).unwrap();
    log.sync().unwrap();
}

/// Runs the housekeeping to its end.
pub fn maintain_all<D: Disk>(log: &mut RaftLog<D>) {
    for _ in 0..100_000 {
        if !log.maintain().unwrap() {
            return;
        }
    }
    panic!("the housekeeping finds no end");
}

/// The newest segment's name.
pub fn newest_segment(disk: &SimDisk) -> String {
    let mut names = disk
        .visible()
        .into_keys()
        .filter(|name| name.starts_with("raft-"));
    names.next_back().unwrap()
}
