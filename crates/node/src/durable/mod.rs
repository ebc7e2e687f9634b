//! What survives a crash: the identity, the Raft log and the newest snapshot, all in one directory of a
//! [`Disk`], so that the same code runs on real files and on simulated ones.
//!
//! ```text
//! NODE              whose directory it is (P8); written last when it is formatted
//! NODE.formatting   exists while it is being formatted
//! raft-*.log        the Raft log
//! snapshot          the newest snapshot; snapshot.new while one is written
//! ```
//!
//! Order (P5): a snapshot is durable before the log forgets what it covers, and before the log is reset to a
//! received one. A crash in between leaves a snapshot ahead of the log, and opening finishes the reset.

mod file;
mod identity;
mod snapshot;

use std::collections::BTreeMap;

use quorate_raft::{ConfState, HardState, Index, Snapshot, SnapshotMeta, Term};
use quorate_storage::disk::Disk;
use quorate_storage::log::{LogBatch, LogError, LogOp, RaftLog, RecoveredShard};
use quorate_storage::{Identity, Incarnation, ShardId, StoreId};

use crate::member_log::MemberLog;
use crate::members::{Book, SnapshotBody};
use crate::{Config, FatalError, NodeId, OpenError, Start};

/// The one log in the shared log's terms.
pub(crate) const LOG: ShardId = ShardId(1);
/// A group begins behind this entry, which stands for the voters that it begins with: a member that is added
/// later needs it and therefore gets a snapshot.
const FIRST: (Index, Term) = (Index(1), Term(1));

/// One thing to be made durable, in the order in which it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    /// Named when it is done.
    pub(crate) token: u64,
    /// Before everything else: this snapshot becomes the newest.
    pub(crate) snapshot: Option<Snapshot>,
    /// For the log.
    pub(crate) batch: LogBatch,
}

/// What a member finds when it starts.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) log: MemberLog,
    /// The newest snapshot's.
    pub(crate) commands: u64,
    pub(crate) book: Book,
}

/// An open directory.
pub(crate) struct Durable<D: Disk> {
    disk: D,
    identity: Identity,
    log: RaftLog<D>,
}

impl<D: Disk + Clone> Durable<D> {
    /// Opens a member's directory, or formats an empty one if the configuration says so. `incarnation` is
    /// drawn at random by the caller, and used only for formatting (P7).
    pub(crate) fn open(
        disk: D,
        config: &Config,
        incarnation: Incarnation,
    ) -> Result<(Self, Restored), OpenError> {
        let identity = match identity::read(&disk)? {
            Some(found) => {
                identity::check(found, config.cluster, StoreId(config.id.0))?;
                found
            }
            None => {
                let voters = match &config.start {
                    Start::Bootstrap { voters } => Some(voters),
                    Start::Join => None,
                    Start::Resume => return Err(OpenError::Empty),
                };
                let identity = Identity {
                    cluster: config.cluster,
                    store: StoreId(config.id.0),
                    incarnation,
                };
                format(&disk, config, identity, voters)?;
                identity
            }
        };
        let (log, mut recovered) = RaftLog::open(disk.clone(), identity, config.log.options())?;
        for note in &recovered.notes {
            tracing::warn!(note, "found when opening the Raft log");
        }
        let damaged = |reason: String| OpenError::Damaged {
            file: "the Raft log".into(),
            reason,
        };
        let shard = recovered.shards.remove(&LOG);
        if recovered.unlisted_quarantined || shard.as_ref().is_some_and(|shard| shard.quarantined) {
            // P3: it may have forgotten a vote or an entry that it had acknowledged.
            return Err(damaged(recovered.notes.join("; ")));
        }
        let shard = shard.unwrap_or_default();
        if shard.tombstone == Some(config.id) {
            return Err(OpenError::Removed(config.id));
        }
        let snapshot = snapshot::read(&disk, identity)?;
        let mut durable = Self { disk, identity, log };
        let restored = durable.restore(config.id, shard, snapshot)?;
        Ok((durable, restored))
    }

    /// Fits log and snapshot together.
    fn restore(
        &mut self,
        id: NodeId,
        shard: RecoveredShard,
        snapshot: Option<Snapshot>,
    ) -> Result<Restored, OpenError> {
        let damaged = |file: &str, reason: String| OpenError::Damaged {
            file: file.into(),
            reason,
        };
        let RecoveredShard {
            mut hard_state,
            mut base,
            mut entries,
            ..
        } = shard;
        let snapshot = snapshot.unwrap_or_default();
        let body = if snapshot.meta.index == Index(0) {
            SnapshotBody {
                commands: 0,
                book: Book::default(),
                data: bytes::Bytes::new(),
            }
        } else {
            SnapshotBody::decode(snapshot.data.clone()).map_err(|reason| damaged(snapshot::NAME, reason))?
        };
        let (index, term) = (snapshot.meta.index, snapshot.meta.term);
        if index < base.0 {
            return Err(damaged(
                snapshot::NAME,
                format!(
                    "ends at {index}, but the log begins behind {}: files of different times",
                    base.0
                ),
            ));
        }
        let at = |index: Index| (index.0 - base.0.0) as usize;
        let known = match at(index) {
            0 => Some(base.1),
            at => entries.get(at - 1).map(|entry| entry.term),
        };
        if known != Some(term) {
            // Installing it was interrupted (P5): the log knows nothing of the snapshot's position yet.
            if hard_state.term < term {
                hard_state.term = term;
                hard_state.vote = None;
            }
            hard_state.commit = hard_state.commit.max(index);
            base = (index, term);
            entries.clear();
            let batch = LogBatch {
                ops: vec![
                    LogOp::Reset {
                        shard: LOG,
                        index,
                        term,
                    },
                    hard_state_op(id, hard_state),
                ],
                sync: true,
            };
            self.write_log(&batch).map_err(|error| OpenError::Io {
                file: error.file.clone(),
                source: std::io::Error::other(error),
            })?;
        }
        Ok(Restored {
            log: MemberLog::new(hard_state, snapshot, body.commands, base, entries),
            commands: body.commands,
            book: body.book,
        })
    }

    /// Whose directory it is.
    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// Does the first half of a write: what a crash from now on may keep.
    pub(crate) fn write(&mut self, write: &Write) -> Result<(), FatalError> {
        if let Some(snapshot) = &write.snapshot {
            snapshot::write(&self.disk, self.identity, snapshot).map_err(|source| FatalError::File {
                file: snapshot::NAME.into(),
                source,
            })?;
        }
        self.log.write(&write.batch)?;
        Ok(())
    }

    /// Makes durable all that was written; a failure is final (P2).
    pub(crate) fn sync(&mut self) -> Result<(), FatalError> {
        self.log.sync()?;
        Ok(())
    }

    /// A step of housekeeping; whether there is more to do.
    pub(crate) fn maintain(&mut self) -> Result<bool, FatalError> {
        Ok(self.log.maintain()?)
    }

    /// The incarnations of the peers that this member met (P7).
    pub(crate) fn bindings(&self) -> Result<BTreeMap<StoreId, Incarnation>, OpenError> {
        identity::read_bindings(&self.disk, self.identity)
    }

    /// Keeps the incarnations of the peers.
    pub(crate) fn write_bindings(
        &mut self,
        bindings: &BTreeMap<StoreId, Incarnation>,
    ) -> Result<(), FatalError> {
        identity::write_bindings(&self.disk, self.identity, bindings).map_err(|source| FatalError::File {
            file: identity::BINDINGS.into(),
            source,
        })
    }

    fn write_log(&mut self, batch: &LogBatch) -> Result<(), LogError> {
        self.log.write(batch)?;
        self.log.sync()
    }
}

/// The operation that stores a hard state.
pub(crate) fn hard_state_op(id: NodeId, state: HardState) -> LogOp {
    LogOp::HardState {
        shard: LOG,
        replica: id,
        state,
    }
}

/// The first start of a member (P4): its first state, then the file that says whose it is.
fn format<D: Disk + Clone>(
    disk: &D,
    config: &Config,
    identity: Identity,
    voters: Option<&BTreeMap<NodeId, String>>,
) -> Result<(), OpenError> {
    identity::begin_format(disk)?;
    if let Some(voters) = voters {
        let body = SnapshotBody {
            commands: 0,
            book: Book {
                addresses: voters.clone(),
                ..Book::default()
            },
            data: bytes::Bytes::new(),
        };
        let (index, term) = FIRST;
        let conf_state = ConfState {
            voters: voters.keys().copied().collect(),
            ..ConfState::default()
        };
        let first = Snapshot {
            meta: SnapshotMeta {
                index,
                term,
                conf_state,
            },
            data: body.encode(),
        };
        snapshot::write(disk, identity, &first).map_err(|source| OpenError::Io {
            file: snapshot::NAME.into(),
            source,
        })?;
        // The log is reset to it at the opening that follows, like after an interrupted installation.
    }
    // The log's files must carry the same identity from their first byte on.
    let (log, _) = RaftLog::open(disk.clone(), identity, config.log.options())?;
    drop(log);
    identity::end_format(disk, identity)
}

#[cfg(test)]
mod tests;
