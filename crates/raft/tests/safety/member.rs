//! One member: a core, its disk, its state machine, and the storage work that is queued.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_raft::{
    AppendWork, ApplyWork, ConfState, Config, Entry, Index, MemStorage, Message, Payload, RawNode, ReplicaId,
    Snapshot, SnapshotMeta, Storage as _,
};

use crate::properties::{Properties, View};
use crate::rng::Rng;

pub(crate) type Node = RawNode<MemStorage>;

/// What applying entries leads to.
#[derive(Clone, Default)]
pub(crate) struct StateMachine {
    pub(crate) applied: Index,
    /// Of all that was applied, in order.
    pub(crate) digest: u64,
    conf_state: ConfState,
}

impl StateMachine {
    pub(crate) fn new(applied: Index, conf_state: ConfState) -> StateMachine {
        StateMachine {
            applied,
            digest: 0,
            conf_state,
        }
    }

    fn mix(&mut self, entry: &Entry) {
        let mut mix = |word: u64| {
            self.digest = (self.digest.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        };
        mix(entry.index.0);
        mix(entry.term.0);
        match &entry.payload {
            Payload::Normal(data) => data.iter().for_each(|byte| mix(u64::from(*byte))),
            Payload::ConfChange(change) => change
                .changes
                .iter()
                .for_each(|c| mix(c.replica.0 + 256 * c.kind as u64)),
        }
        self.applied = entry.index;
    }
}

pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) config: Config,
    pub(crate) node: Option<Node>,
    /// What survives a crash. Moved into the node while it runs.
    disk: Option<MemStorage>,
    /// The commit index that the last sync covered; later ones may be lost.
    synced_commit: Index,
    /// In memory: a crash may take it back to `checkpoint`.
    pub(crate) machine: StateMachine,
    checkpoint: StateMachine,
    pub(crate) append_work: VecDeque<AppendWork>,
    pub(crate) apply_work: VecDeque<ApplyWork>,
    /// It applied, while leading, that it is no voter any more.
    pub(crate) led_its_own_removal: bool,
}

impl Member {
    pub(crate) fn new(config: Config, disk: MemStorage, machine: StateMachine) -> Member {
        Member {
            id: config.id.0,
            config,
            node: None,
            disk: Some(disk),
            synced_commit: Index(0),
            checkpoint: machine.clone(),
            machine,
            append_work: VecDeque::new(),
            apply_work: VecDeque::new(),
            led_its_own_removal: false,
        }
    }

    pub(crate) fn start(&mut self) {
        if self.node.is_some() {
            return;
        }
        let mut disk = self.disk.take().expect("a stopped member has a disk");
        // The configuration is part of the state machine's state.
        disk.set_conf_state(self.machine.conf_state.clone());
        let config = Config {
            applied: self.machine.applied,
            ..self.config.clone()
        };
        self.node = Some(RawNode::new(config, disk).expect("a crash leaves valid storage"));
    }

    pub(crate) fn has_work(&self) -> bool {
        let queued = !self.append_work.is_empty() || !self.apply_work.is_empty();
        queued || self.node.as_ref().is_some_and(Node::has_ready)
    }

    /// The process ends. Of the queued writes some may have reached the disk, in order, the last one in part; what
    /// was not synced may be lost; the state machine may go back to its checkpoint.
    pub(crate) fn crash(&mut self, rng: &mut Rng) -> bool {
        let Some(mut node) = self.node.take() else {
            return false;
        };
        let queued: Vec<AppendWork> = self.append_work.drain(..).collect();
        let reached = rng.below(queued.len() as u64 + 1) as usize;
        let disk = node.storage_mut();
        for (at, work) in queued.into_iter().take(reached).enumerate() {
            // Only whole snapshots are installed, and with them what belongs to them.
            let torn = at + 1 == reached && work.snapshot.is_none() && rng.chance(50);
            let keep = if torn {
                rng.below(work.entries.len() as u64 + 1) as usize
            } else {
                work.entries.len()
            };
            self.store(disk, &work, keep);
        }
        if rng.chance(50) {
            let mut hard_state = disk.hard_state();
            hard_state.commit = hard_state.commit.min(self.synced_commit);
            disk.set_hard_state(hard_state);
        }
        if rng.chance(50) {
            self.machine = self.checkpoint.clone();
        } else {
            self.checkpoint = self.machine.clone();
        }
        self.apply_work.clear();
        self.disk = Some(disk.clone());
        true
    }

    /// Writes a piece of work and the first `keep` of its entries, synced.
    fn store(&mut self, disk: &mut MemStorage, work: &AppendWork, keep: usize) {
        if let Some(snapshot) = &work.snapshot {
            assert!(snapshot.meta.index > self.machine.applied, "a snapshot goes back");
            self.machine = StateMachine {
                applied: snapshot.meta.index,
                digest: u64::from_le_bytes(snapshot.data.as_ref().try_into().expect("eight bytes")),
                conf_state: snapshot.meta.conf_state.clone(),
            };
            self.checkpoint = self.machine.clone();
            disk.apply_snapshot(Snapshot::clone(snapshot))
                .expect("newer than the stored one");
        }
        disk.append(&work.entries[..keep]).expect("no gap");
        if let Some(mut hard_state) = work.hard_state {
            // The commit index may speak of entries that are lost; what stood in their place is not committed.
            if let Some(lost) = work.entries.get(keep) {
                hard_state.commit = hard_state.commit.min(lost.index.prev());
            }
            disk.set_hard_state(hard_state);
        }
        if work.must_sync {
            self.synced_commit = disk.hard_state().commit;
        }
    }

    /// Does a piece of log work: what it releases is for others, or was stepped.
    pub(crate) fn append(&mut self, work: AppendWork, released: &mut Vec<Message>) {
        let mut node = self.node.take().expect("runs");
        self.store(node.storage_mut(), &work, work.entries.len());
        for response in work.responses {
            if response.to == node.id() {
                node.step(response).expect("own message");
            } else {
                released.push(response);
            }
        }
        if let Some(done) = work.done {
            node.append_done(done).expect("done");
        }
        self.node = Some(node);
    }

    pub(crate) fn apply(&mut self, work: ApplyWork, properties: &mut Properties) {
        let node = self.node.as_mut().expect("runs");
        for entry in work.entries {
            let id = node.id();
            assert_eq!(
                entry.index,
                self.machine.applied.next(),
                "{id} applies in order, without gaps"
            );
            let stored = node.storage().term(entry.index);
            assert_eq!(stored, Ok(entry.term), "{id} applies what it has not stored");
            properties.applied(id, &entry);
            self.machine.mix(&entry);
            properties.state(id, entry.index, self.machine.digest);
            if let Payload::ConfChange(change) = &entry.payload {
                let led = node.role() == quorate_raft::Role::Leader;
                let state = node.apply_conf_change(change).expect("fits");
                self.led_its_own_removal |= led && !state.voters.contains(&id);
                self.machine.conf_state = state;
            }
        }
    }

    /// Makes the state machine durable, and compacts the log behind it. Returns whether there was something to do.
    pub(crate) fn compact(&mut self) -> bool {
        let Some(node) = self.node.as_mut() else {
            return false;
        };
        // The core may still ask for what is not reported applied.
        if node.applied() < self.machine.applied {
            return false;
        }
        self.checkpoint = self.machine.clone();
        let (index, conf_state) = (self.machine.applied, self.machine.conf_state.clone());
        let data = Bytes::copy_from_slice(&self.machine.digest.to_le_bytes());
        let storage = node.storage_mut();
        if storage.create_snapshot(index, conf_state, data).is_err() {
            return false;
        }
        storage
            .compact(index)
            .expect("the snapshot is newer than the last compaction");
        true
    }

    /// Tells the properties what this member looks like.
    pub(crate) fn show(&self, properties: &mut Properties) {
        let id = ReplicaId(self.id);
        let Some(node) = &self.node else {
            properties.stopped(id);
            return;
        };
        let first = node.first_index().expect("memory");
        let end = node.last_index().next();
        let log = node.entries(first, end, u64::MAX).expect("memory");
        properties.check(&View {
            id,
            role: node.role(),
            hard_state: node.status().hard_state,
            base: (first.prev(), node.term_at(first.prev()).expect("kept")),
            log: &log,
        });
    }
}

/// A disk that holds the snapshot with which a group starts.
pub(crate) fn founded(start: Index, conf_state: ConfState) -> MemStorage {
    let mut disk = MemStorage::new();
    let meta = SnapshotMeta {
        index: start,
        term: quorate_raft::Term(1),
        conf_state,
    };
    let data = Bytes::copy_from_slice(&0_u64.to_le_bytes());
    disk.apply_snapshot(Snapshot { meta, data }).expect("first one");
    disk
}
