//! A store's directory: whose it is, and how it comes to be.
//!
//! ```text
//! DIR/LOCK         locked while a process uses the directory
//! DIR/STORE        identity: magic, version, cluster, store, incarnation, checksum (P8)
//! DIR/PEERS        the peers' addresses, a line each
//! DIR/JOINING      the incarnation of a store that asks a cluster for an id
//! DIR/log/         the Raft log
//! DIR/engine/      the state engine
//! ```
//!
//! `STORE.formatting` exists while a directory is being formatted. A crash then leaves it without `STORE`, and
//! the next start begins again: nothing was promised to anybody yet.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use quorate_storage::{ClusterId, Identity, Incarnation, StoreId};

const MAGIC: &[u8; 8] = b"QUORSTOR";
const VERSION: u32 = 1;
const BYTES: usize = 8 + 4 + 16 + 8 + 16 + 4;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// The device failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The identity file is not one.
    #[error("{path}: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Somebody is at work in it.
    #[error("{path}: in use by another process")]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A directory with other files in it.
    #[error("{path}: not a store's directory (it has no STORE file), and not an empty or a new one")]
    NotAStore {
        /// The directory.
        path: PathBuf,
    },
    /// A new store does not choose its id.
    #[error(
        "{path}: empty, and --store-id was given without --bootstrap; a new store gets its id by --bootstrap, by --join, or \
         is store 1 of a new cluster without any of these (P7)"
    )]
    NoBootstrap {
        /// The directory.
        path: PathBuf,
    },
    /// The directory belongs to someone else.
    #[error("{path}: belongs to store {found_store} of cluster {found_cluster}, not to {expected}")]
    WrongStore {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found_store: StoreId,
        /// Its cluster.
        found_cluster: ClusterId,
        /// Who was asked for.
        expected: String,
    },
}

/// A store's directory.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    /// Locked until dropped: two processes that format the same directory would each wipe the other's work.
    _lock: File,
}

impl DataDir {
    /// Opens a directory, which is made if it is not there, and keeps others out of it.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        create_durably(path).map_err(|source| DataDirError::Io {
            path: path.to_owned(),
            source,
        })?;
        let name = path.join("LOCK");
        let failed = |source| DataDirError::Io {
            path: name.clone(),
            source,
        };
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse {
                path: path.to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Opens the directory of a store, which must be there, and keeps others out of it.
    pub(crate) fn open_formatted(path: &Path) -> Result<(Self, Identity), DataDirError> {
        let not_a_store = || DataDirError::NotAStore {
            path: path.to_owned(),
        };
        if !path.join("STORE").exists() {
            return Err(not_a_store());
        }
        let dir = Self::open(path)?;
        let identity = dir.identity()?.ok_or_else(not_a_store)?;
        Ok((dir, identity))
    }

    fn failed(&self, name: &str, source: io::Error) -> DataDirError {
        DataDirError::Io {
            path: if name.is_empty() {
                self.path.clone()
            } else {
                self.path.join(name)
            },
            source,
        }
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub(crate) fn engine(&self) -> PathBuf {
        self.path.join("engine")
    }

    /// The identity, if the directory is formatted; an empty directory has none, nor has one whose formatting
    /// was interrupted.
    pub(crate) fn identity(&self) -> Result<Option<Identity>, DataDirError> {
        match fs::read(self.path.join("STORE")) {
            Ok(bytes) => {
                let identity = decode(&bytes).map_err(|reason| DataDirError::Damaged {
                    path: self.path.join("STORE"),
                    reason,
                })?;
                // A crash may have left it. It must not stay: should STORE ever be lost, it would say that
                // there is nothing in here worth keeping.
                self.remove_marker()?;
                Ok(Some(identity))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.path.join("STORE.formatting").exists() || self.is_empty()? {
                    Ok(None)
                } else {
                    Err(DataDirError::NotAStore {
                        path: self.path.clone(),
                    })
                }
            }
            Err(error) => Err(self.failed("STORE", error)),
        }
    }

    /// Whether it holds nothing but what every directory may: the lock, and what a file system puts at its root.
    fn is_empty(&self) -> Result<bool, DataDirError> {
        for entry in fs::read_dir(&self.path).map_err(|e| self.failed("", e))? {
            let name = entry.map_err(|e| self.failed("", e))?.file_name();
            if name != "LOCK" && name != "lost+found" && name != "JOINING" && name != "JOINING.new" {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The incarnation under which this directory asks a cluster for an id: the same after a crash, so that it does not
    /// get two. `fresh` if it has not asked before.
    pub(crate) fn joining_as(&self, fresh: Incarnation) -> Result<Incarnation, DataDirError> {
        let path = self.path.join("JOINING");
        match fs::read_to_string(&path) {
            Ok(text) => match u128::from_str_radix(text.trim(), 16) {
                Ok(incarnation) => Ok(Incarnation(incarnation)),
                Err(_) => Err(DataDirError::Damaged {
                    path,
                    reason: "not an incarnation in hexadecimal; remove it, and the store asks for a new id"
                        .into(),
                }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.replace("JOINING", format!("{fresh}\n").as_bytes())?;
                Ok(fresh)
            }
            Err(error) => Err(self.failed("JOINING", error)),
        }
    }

    /// Writes a small file so that a crash leaves the old one or the new one.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), DataDirError> {
        let write = || -> io::Result<()> {
            let fresh = self.path.join(format!("{name}.new"));
            let mut file = File::create(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, self.path.join(name))
        };
        write().map_err(|error| self.failed(name, error))?;
        self.sync_dir()
    }

    /// Starts formatting: forgets what an interrupted formatting left.
    pub(crate) fn begin_format(&self) -> Result<(), DataDirError> {
        let marker = self.path.join("STORE.formatting");
        File::create(&marker)
            .and_then(|file| file.sync_all())
            .map_err(|e| self.failed("STORE.formatting", e))?;
        self.sync_dir()?;
        for name in ["log", "engine"] {
            match fs::remove_dir_all(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(self.failed(name, error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Ends formatting: from here on the directory is the store's.
    pub(crate) fn end_format(&self, identity: &Identity) -> Result<(), DataDirError> {
        self.replace("STORE", &encode(identity))?;
        self.remove("JOINING")?;
        self.remove_marker()
    }

    fn remove_marker(&self) -> Result<(), DataDirError> {
        self.remove("STORE.formatting")
    }

    fn remove(&self, name: &str) -> Result<(), DataDirError> {
        match fs::remove_file(self.path.join(name)) {
            Ok(()) => self.sync_dir(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(self.failed(name, error)),
        }
    }

    /// Keeps the peers' addresses, so that a later start needs no list of members.
    pub(crate) fn remember_peers(&self, peers: &BTreeMap<StoreId, String>) -> Result<(), DataDirError> {
        let text: String = peers
            .iter()
            .map(|(store, address)| format!("{store}={address}\n"))
            .collect();
        if fs::read_to_string(self.path.join("PEERS")).is_ok_and(|known| known == text) {
            return Ok(());
        }
        self.replace("PEERS", text.as_bytes())
    }

    /// What [`DataDir::remember_peers`] kept.
    pub(crate) fn remembered_peers(&self) -> Result<BTreeMap<StoreId, String>, DataDirError> {
        let path = self.path.join("PEERS");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(self.failed("PEERS", error)),
        };
        text.lines()
            .map(|line| {
                let (store, address) = line.split_once('=')?;
                Some((StoreId(store.parse().ok()?), address.to_owned()))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| DataDirError::Damaged {
                path,
                reason: "not a list of STORE=HOST:PORT lines".into(),
            })
    }

    fn sync_dir(&self) -> Result<(), DataDirError> {
        File::open(&self.path)
            .and_then(|dir| dir.sync_all())
            .map_err(|e| self.failed("", e))
    }

    pub(crate) fn wrong_store(&self, found: &Identity, expected: String) -> DataDirError {
        DataDirError::WrongStore {
            path: self.path.join("STORE"),
            found_store: found.store,
            found_cluster: found.cluster,
            expected,
        }
    }

    pub(crate) fn no_bootstrap(&self) -> DataDirError {
        DataDirError::NoBootstrap {
            path: self.path.clone(),
        }
    }
}

/// Makes a directory whose name survives a power loss: a store that has vouched for something must not come back
/// as an empty directory.
fn create_durably(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let missing = path.ancestors().take_while(|ancestor| !ancestor.exists()).count();
    fs::create_dir_all(&path)?;
    for parent in path.ancestors().skip(1).take(missing) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn encode(identity: &Identity) -> Vec<u8> {
    let mut out = Vec::with_capacity(BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&identity.cluster.0.to_le_bytes());
    out.extend_from_slice(&identity.store.0.to_le_bytes());
    out.extend_from_slice(&identity.incarnation.0.to_le_bytes());
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Result<Identity, String> {
    let mut at = 0;
    let mut take = |n: usize| {
        let part = bytes.get(at..at + n);
        at += n;
        part.ok_or_else(|| format!("{} bytes long, expected {BYTES}", bytes.len()))
    };
    if take(8)? != MAGIC {
        return Err("not a store's identity file (wrong magic)".into());
    }
    let number = |part: &[u8]| {
        part.iter()
            .rev()
            .fold(0u128, |n, byte| n << 8 | u128::from(*byte))
    };
    let version = number(take(4)?) as u32;
    if version > VERSION {
        return Err(format!(
            "format version {version} is newer than {VERSION}, the newest that this program reads"
        ));
    }
    let cluster = ClusterId(number(take(16)?));
    let store = StoreId(number(take(8)?) as u64);
    let incarnation = Incarnation(number(take(16)?));
    let crc = number(take(4)?) as u32;
    if crc32c::crc32c(&bytes[..BYTES - 4]) != crc {
        return Err("damaged (checksum does not match)".into());
    }
    Ok(Identity {
        cluster,
        store,
        incarnation,
    })
}

#[cfg(test)]
mod tests;
