//! A look at the data directory of a node that does not run.
//!
//! The directory is locked meanwhile, so that no node starts in it. The Raft log is read, not recovered: its files
//! stay as they are. The state engine is opened as a start would open it, which may finish what the last process
//! left half done in its own files.

use std::io;
use std::path::{Path, PathBuf};

use quorate_storage::Identity;
use quorate_storage::disk::OverlayDisk;
use quorate_storage::engine::{BufferedEngine, EngineError};
use quorate_storage::log::{LogOptions, OpenError, RaftLog, Recovered};
use quorate_store::inspect::{self, ShardReport};

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
    /// The state engine cannot be read.
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

    /// Names the directory in an error of the engine.
    #[must_use]
    pub fn engine_failed(&self, source: EngineError) -> OfflineError {
        OfflineError::Engine {
            path: self.dir.engine(),
            source,
        }
    }
}
