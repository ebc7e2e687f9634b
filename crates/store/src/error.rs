//! Why a node must stop.

use quorate_proto::CommandError;
use quorate_raft::{Index, StartError, StepError, StorageError};
use quorate_storage::engine::EngineError;
use quorate_storage::{ShardId, StoreId};

/// Why the node must stop. What it acknowledged before is safe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The state engine failed; an engine error never becomes an answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The consensus core refuses to go on.
    #[error("shard {shard}: {source}")]
    Raft {
        /// The shard.
        shard: ShardId,
        /// The cause.
        #[source]
        source: StepError,
    },
    /// The consensus core refuses to start on what the log holds.
    #[error("shard {shard}: {source}")]
    Start {
        /// The shard.
        shard: ShardId,
        /// The cause, with the positions that do not fit together.
        #[source]
        source: StartError,
    },
    /// An entry that a quorum stored cannot be read; another version may have written it.
    #[error("shard {shard}: entry {index} cannot be decoded: {reason}")]
    Entry {
        /// The shard.
        shard: ShardId,
        /// The entry.
        index: Index,
        /// What is wrong with it.
        reason: String,
    },
    /// The controller does not admit the store (P7).
    #[error("store {store} is not admitted to the cluster: {reason}")]
    NotAdmitted {
        /// The store.
        store: StoreId,
        /// Why.
        reason: CommandError,
    },
    /// The engine is another store's.
    #[error(
        "shard {shard}: the state engine holds replica {replica}, which is not on store {store}; the data directory mixes files of different stores"
    )]
    WrongEngine {
        /// The shard.
        shard: ShardId,
        /// What the engine says.
        replica: quorate_raft::ReplicaId,
        /// Whose directory it is.
        store: StoreId,
    },
}

impl StoreError {
    pub(crate) fn raft(shard: ShardId) -> impl FnOnce(StepError) -> Self {
        move |source| Self::Raft { shard, source }
    }
}

impl From<StorageError> for StoreError {
    fn from(source: StorageError) -> Self {
        Self::Raft {
            shard: ShardId(0),
            source: source.into(),
        }
    }
}
