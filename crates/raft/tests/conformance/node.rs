//! One node of the environment: a core over in-memory storage, its queued storage work and its state machine.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use quorate_raft::{
    AppendWork, ConfState, Config, Entry, HardState, Index, MemStorage, Payload, RawNode, ReplicaId,
    Snapshot, SnapshotMeta, Storage, StorageError, Term,
};

use crate::in_flight::InFlight;

pub(crate) struct Node {
    pub(crate) raw: RawNode<NodeStorage>,
    pub(crate) config: Config,
    /// As last handed out by a Ready.
    hard_state: HardState,
    pub(crate) append_work: VecDeque<QueuedAppend>,
    pub(crate) apply_work: VecDeque<QueuedApply>,
}

/// Work for the append thread, and what it releases when it is durable.
pub(crate) struct QueuedAppend {
    pub(crate) work: AppendWork,
    pub(crate) releases: Vec<InFlight>,
}

/// Work for the apply thread, and what it releases when it is applied.
pub(crate) struct QueuedApply {
    pub(crate) entries: Vec<Entry>,
    pub(crate) releases: Vec<InFlight>,
}

impl Node {
    /// A node that starts from `snapshot`, or empty when that is at index zero.
    pub(crate) fn new(config: Config, snapshot: Snapshot) -> Result<Node, String> {
        let mut log = MemStorage::new();
        if snapshot.meta.index > Index(0) {
            log.apply_snapshot(snapshot.clone()).map_err(|e| e.to_string())?;
        }
        let storage = NodeStorage {
            log,
            history: vec![snapshot],
        };
        let raw = RawNode::new(config.clone(), storage).map_err(|e| e.to_string())?;
        let hard_state = HardState::default();
        Ok(Node {
            raw,
            config,
            hard_state,
            append_work: VecDeque::new(),
            apply_work: VecDeque::new(),
        })
    }

    pub(crate) fn id(&self) -> ReplicaId {
        self.config.id
    }

    /// The reference's MustSync: entries, term or vote are new. Our core syncs snapshots as well, which the
    /// reference leaves to the application.
    pub(crate) fn must_sync(&mut self, work: &AppendWork) -> bool {
        let seen = self.hard_state;
        self.hard_state = work.hard_state.unwrap_or(seen);
        let voted = (self.hard_state.term, self.hard_state.vote) != (seen.term, seen.vote);
        let must_sync = voted || !work.entries.is_empty();
        assert_eq!(
            work.must_sync,
            must_sync || work.snapshot.is_some(),
            "must_sync of {work:?}"
        );
        must_sync
    }

    /// Makes a piece of append work durable.
    pub(crate) fn append(&mut self, work: &AppendWork) -> Result<(), String> {
        self.raw.storage_mut().append(work).map_err(|e| e.to_string())
    }

    /// Applies committed entries: membership changes to the core, payloads to the state machine, which keeps
    /// a snapshot for each entry.
    pub(crate) fn apply(&mut self, entries: &[Entry]) -> Result<(), String> {
        for entry in entries {
            let (update, conf_state) = match &entry.payload {
                Payload::Normal(data) => (data.clone(), None),
                Payload::ConfChange(change) => {
                    let state = self.raw.apply_conf_change(change).map_err(|e| e.to_string())?;
                    (change.context.clone(), Some(state))
                }
            };
            self.raw
                .storage_mut()
                .record(entry.index, entry.term, &update, conf_state);
        }
        Ok(())
    }
}

/// In-memory storage whose newest snapshot is the state machine's, whatever the log still holds.
pub(crate) struct NodeStorage {
    pub(crate) log: MemStorage,
    /// Never empty: the state at the start, then after each applied entry or installed snapshot.
    history: Vec<Snapshot>,
}

impl NodeStorage {
    fn append(&mut self, work: &AppendWork) -> Result<(), StorageError> {
        if let Some(hard_state) = work.hard_state {
            self.log.set_hard_state(hard_state);
        }
        if let Some(snapshot) = &work.snapshot {
            self.log.apply_snapshot((**snapshot).clone())?;
            self.history.push((**snapshot).clone());
        }
        self.log.append(&work.entries)
    }

    pub(crate) fn newest(&self) -> &Snapshot {
        self.history.last().expect("history starts with one snapshot")
    }

    /// The state machine concatenates what it is given.
    fn record(&mut self, index: Index, term: Term, update: &[u8], conf_state: Option<ConfState>) {
        let last = self.newest();
        let mut data = BytesMut::from(last.data.as_ref());
        data.extend_from_slice(update);
        let conf_state = conf_state.unwrap_or_else(|| last.meta.conf_state.clone());
        self.history.push(Snapshot {
            meta: SnapshotMeta {
                index,
                term,
                conf_state,
            },
            data: Bytes::from(data),
        });
    }
}

impl Storage for NodeStorage {
    fn initial_state(&self) -> Result<(HardState, ConfState), StorageError> {
        self.log.initial_state()
    }
    fn entries(
        &self,
        low: Index,
        end: Index,
        max_bytes: u64,
        found: &mut Vec<Entry>,
    ) -> Result<(), StorageError> {
        self.log.entries(low, end, max_bytes, found)
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
        Ok(self.newest().clone())
    }
}
