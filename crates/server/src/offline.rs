//! A look at the data directory of a node that does not run.
//!
//! The directory is locked meanwhile, so that no node starts in it. The Raft log is read, not recovered: its files
//! stay as they are. The state engine is opened as a start would open it, which may finish what the last process
//! left half done in its own files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use quorate_storage::Identity;
pub use quorate_storage::ShardId;
use quorate_storage::disk::OverlayDisk;
use quorate_storage::engine::{BufferedEngine, Engine as _, EngineError, WriteBatch};
use quorate_storage::log::{LogOptions, OpenError, RaftLog, Recovered};
use quorate_store::inspect::{self, ShardReport};
use quorate_store::recovery_offline::{self, Standing};

use crate::data_dir::{DataDir, DataDirError};

/// Why a directory cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    /// It is in use, or no store's.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The Raft log is another store's, newer than this program, or damaged where it begins.
    #[error("{path}: {source}")]
    Log {
        /// Its directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: OpenError,
    },
    /// A shard cannot go on with the replica here.
    #[error("shard {shard} cannot go on with the replica here: {reason}")]
    CannotGoOn {
        /// The shard.
        shard: ShardId,
        /// Why.
        reason: &'static str,
    },
    /// The state engine cannot be read or written.
    #[error("{path}: {source}")]
    Engine {
        /// Its directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: EngineError,
    },
}

/// A store that does not run.
pub struct Offline {
    dir: DataDir,
    identity: Identity,
    engine: BufferedEngine,
    recovered: Recovered,
}

impl Offline {
    /// Opens the directory of a store.
    ///
    /// # Errors
    ///
    /// If it is none, if a node runs in it, or if its files cannot be read.
    pub fn open(path: &Path) -> Result<Self, OfflineError> {
        let (dir, identity) = DataDir::open_formatted(path)?;
        let disk = OverlayDisk::open(dir.log()).map_err(|source| OfflineError::Io {
            path: dir.log(),
            source,
        })?;
        let (_, recovered) =
            RaftLog::open(disk, identity, LogOptions::default()).map_err(|source| OfflineError::Log {
                path: dir.log(),
                source,
            })?;
        let engine = BufferedEngine::open(dir.engine()).map_err(|source| OfflineError::Engine {
            path: dir.engine(),
            source,
        })?;
        Ok(Self {
            dir,
            identity,
            engine,
            recovered,
        })
    }

    /// Whose directory it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The state engine, for the functions of [`inspect`].
    #[must_use]
    pub fn engine(&self) -> &BufferedEngine {
        &self.engine
    }

    /// What was found wrong in the log, a line each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.recovered.notes
    }

    /// Every shard that the log or the engine knows, in order.
    ///
    /// # Errors
    ///
    /// If the engine cannot be read or holds something else than a store's state.
    pub fn shards(&self) -> Result<Vec<ShardReport>, OfflineError> {
        inspect::shards(&self.engine, &self.recovered).map_err(|source| self.engine_failed(source))
    }

    /// Lets shards go on with their replicas here alone, all at once and durably (docs/adr/0006). `others` are the standings
    /// of their replicas elsewhere, by shard.
    ///
    /// # Errors
    ///
    /// If one cannot go on, which changes nothing, or if the engine cannot be written.
    pub fn force(
        &mut self,
        reports: &[&ShardReport],
        others: &BTreeMap<ShardId, Vec<Standing>>,
    ) -> Result<(), OfflineError> {
        let mut all = WriteBatch::default();
        for report in reports {
            let others = others.get(&report.shard).map_or(&[][..], Vec::as_slice);
            let batch = recovery_offline::force(report, self.identity.store, others).map_err(|reason| {
                OfflineError::CannotGoOn {
                    shard: report.shard,
                    reason,
                }
            })?;
            all.changes.extend(batch.changes);
        }
        let written = self
            .engine
            .write(all)
            .and_then(|_| self.engine.durability().make_durable());
        written.map_err(|source| self.engine_failed(source))
    }

    /// Names the directory in an error of the engine.
    #[must_use]
    pub fn engine_failed(&self, source: EngineError) -> OfflineError {
        OfflineError::Engine {
            path: self.dir.engine(),
            source,
        }
    }
}
