//! The few file operations that the Raft log needs, so that a simulator can tear and forget below the real
//! log code.
//!
//! Calls block; the caller chooses the thread. A log write is completed by token one level up, where the
//! store hands a batch to its driver and hears of it later (see docs/adr/0001).

use std::io;
use std::sync::Arc;

mod overlay;
mod real;
mod shrinker;
mod sim;

pub use overlay::{Overlaid, OverlayDisk, OverlayFile};
pub use real::RealDisk;
pub(crate) use shrinker::Shrinker;
pub use sim::{Counts, Down, Fault, SimDisk, SimFile, SplitMix64, is_down};

/// A flat directory of files.
pub trait Disk {
    /// An open file.
    type File;
    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Creates a file of `len` zero bytes, allocated on the device, so that later writes inside it need no
    /// allocation. Neither content nor name is durable before `sync` and `sync_dir`.
    fn create(&self, name: &str, len: u64) -> io::Result<Self::File>;
    /// Makes a file longer, as [`Disk::create`] would have: with allocated zeros up to `len`.
    fn extend(&self, file: &Self::File, len: u64) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self, file: &Self::File) -> io::Result<u64>;
    /// Reads exactly `buf.len()` bytes at `offset`.
    fn read_at(&self, file: &Self::File, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes all of `buf` at `offset`.
    fn write_at(&self, file: &Self::File, offset: u64, buf: &[u8]) -> io::Result<()>;
    /// Makes the file's content durable.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Renames over whatever has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Bytes that files may still grow by.
    fn available(&self) -> io::Result<u64>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// Shared: a log and what lies beside it in the same directory.
impl<D: Disk> Disk for Arc<D> {
    type File = D::File;
    fn list(&self) -> io::Result<Vec<String>> {
        (**self).list()
    }
    fn open(&self, name: &str) -> io::Result<Self::File> {
        (**self).open(name)
    }
    fn create(&self, name: &str, len: u64) -> io::Result<Self::File> {
        (**self).create(name, len)
    }
    fn len(&self, file: &Self::File) -> io::Result<u64> {
        (**self).len(file)
    }
    fn read_at(&self, file: &Self::File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_at(file, offset, buf)
    }
    fn write_at(&self, file: &Self::File, offset: u64, buf: &[u8]) -> io::Result<()> {
        (**self).write_at(file, offset, buf)
    }
    fn sync(&self, file: &Self::File) -> io::Result<()> {
        (**self).sync(file)
    }
    fn sync_dir(&self) -> io::Result<()> {
        (**self).sync_dir()
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        (**self).rename(from, to)
    }
    fn extend(&self, file: &Self::File, len: u64) -> io::Result<()> {
        (**self).extend(file, len)
    }
    fn available(&self) -> io::Result<u64> {
        (**self).available()
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        (**self).remove(name)
    }
}
