//! A disk in memory that forgets and tears what was not synced, and fails when told to.
//!
//! A file's durable content and what processes see (the page cache) are two things. A write changes the
//! second; a sync carries it to the first. Power loss ([`SimDisk::crash`]) keeps of each write that was not
//! synced all, nothing or any of its 512-byte sectors, and of the directory operations that were not synced a
//! prefix. Killing the process ([`SimDisk::process_kill`]) loses nothing and makes nothing durable. After a
//! failed sync the writes are *in doubt*, as on Linux: they count as clean, so no later sync carries them, yet
//! power loss may keep or forget them. Everything follows from the seeds given.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Disk;

/// What the device writes whole or not at all.
const SECTOR: usize = 512;

/// The simulated disk; clones are handles of the same one.
#[derive(Clone, Debug)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

/// An open file of a [`SimDisk`]. Void after the process or the machine went down.
#[derive(Clone, Copy, Debug)]
pub struct SimFile {
    id: u64,
    life: u64,
}

/// A failure to inject.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// There is no space left.
    NoSpace,
    /// The device failed.
    Device,
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Fault::NoSpace => io::Error::new(io::ErrorKind::StorageFull, "no space left (injected)"),
            Fault::Device => io::Error::other("input/output error (injected)"),
        }
    }
}

/// The process is dead: nothing works before `crash` or `process_kill`.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the simulated process is down")]
pub struct Down;

/// Whether an error says that the process is dead, rather than that the device failed.
pub fn is_down(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Down>())
}

/// How often each kind of operation was called.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// All operations that change something: writes, syncs, creations, renames, removals.
    pub operations: u64,
    /// Writes.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
    /// Syncs of the directory.
    pub dir_syncs: u64,
    /// Creations.
    pub creates: u64,
}

#[derive(Debug)]
struct Inner {
    rng: SplitMix64,
    files: BTreeMap<u64, FileState>,
    next_file: u64,
    /// What processes see.
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending_names: Vec<NameChange>,
    counts: Counts,
    /// Counts the lives of the process; handles of an earlier one are void.
    life: u64,
    down: bool,
    crash_at: Option<u64>,
    write_fault: Option<(u64, Fault)>,
    sync_fault: Option<(u64, Fault)>,
    create_fault: Option<Fault>,
    /// Bytes that all files together may have.
    capacity: u64,
}

#[derive(Debug, Default)]
struct FileState {
    durable: Vec<u8>,
    cache: Vec<u8>,
    /// In order, those in doubt included.
    writes: Vec<Write>,
    /// The length is not durable.
    grown: bool,
}

/// What a write left in each sector that it touched.
#[derive(Debug)]
struct Write {
    sectors: BTreeMap<usize, Vec<u8>>,
    in_doubt: bool,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            NameChange::Create(name, id) => {
                names.insert(name.clone(), *id);
            }
            NameChange::Rename(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            NameChange::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            rng: SplitMix64::new(seed),
            files: BTreeMap::new(),
            next_file: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            counts: Counts::default(),
            life: 1,
            down: false,
            crash_at: None,
            write_fault: None,
            sync_fault: None,
            create_fault: None,
            capacity: u64::MAX,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Power loss and restart. Handles from before are void; injected faults are forgotten.
    pub fn crash(&self, seed: u64) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let mut rng = SplitMix64::new(seed);
        let kept = match rng.below(3) {
            0 => 0,
            1 => inner.pending_names.len(),
            _ => rng.below(inner.pending_names.len() as u64 + 1) as usize,
        };
        for change in &inner.pending_names[..kept] {
            change.apply(&mut inner.durable_names);
        }
        inner.pending_names.clear();
        inner.names = inner.durable_names.clone();
        let named: BTreeSet<u64> = inner.names.values().copied().collect();
        inner.files.retain(|id, _| named.contains(id));
        for file in inner.files.values_mut() {
            file.lose_power(&mut rng);
        }
        inner.restart();
    }

    /// `kill -9` and restart: what was written stays visible and is as little durable as before. Handles from
    /// before are void; injected faults are forgotten.
    pub fn process_kill(&self) {
        self.lock().restart();
    }

    /// The process dies in the `n`-th changing operation from now (1 is the next): a write reaches the cache
    /// in part, anything else happens or not. All calls fail with [`Down`] until `crash` or `process_kill`.
    pub fn crash_at(&self, n: u64) {
        let mut inner = self.lock();
        inner.crash_at = Some(inner.counts.operations + n);
    }

    /// Fails the `n`-th write from now (1 is the next); a part of it may reach the cache.
    pub fn fail_write(&self, n: u64, fault: Fault) {
        let mut inner = self.lock();
        inner.write_fault = Some((inner.counts.writes + n, fault));
    }

    /// Fails the `n`-th sync of a file from now (1 is the next); what it was to sync is in doubt.
    pub fn fail_sync(&self, n: u64, fault: Fault) {
        let mut inner = self.lock();
        inner.sync_fault = Some((inner.counts.syncs + n, fault));
    }

    /// Fails every creation until called again with `None`.
    pub fn fail_creates(&self, fault: Option<Fault>) {
        self.lock().create_fault = fault;
    }

    /// From now on all files together have at most so many bytes (`u64::MAX`: no bound); what is there stays.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = bytes;
    }

    /// Flips one bit of a file, durably.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        let mut inner = self.lock();
        let Some(id) = inner.names.get(name).copied() else {
            return;
        };
        let Some(file) = inner.files.get_mut(&id) else {
            return;
        };
        let at = (bit / 8) as usize;
        for content in [&mut file.durable, &mut file.cache] {
            if let Some(byte) = content.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// How often each kind of operation was called so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// The names and the content that power loss can no longer take away.
    pub fn durable(&self) -> BTreeMap<String, Vec<u8>> {
        let inner = self.lock();
        let content = |id: &u64| {
            inner
                .files
                .get(id)
                .map(|file| file.durable.clone())
                .unwrap_or_default()
        };
        inner
            .durable_names
            .iter()
            .map(|(name, id)| (name.clone(), content(id)))
            .collect()
    }

    /// The names and the content that the process sees.
    pub fn visible(&self) -> BTreeMap<String, Vec<u8>> {
        let inner = self.lock();
        let content = |id: &u64| {
            inner
                .files
                .get(id)
                .map(|file| file.cache.clone())
                .unwrap_or_default()
        };
        inner
            .names
            .iter()
            .map(|(name, id)| (name.clone(), content(id)))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere, in a test that failed, leaves nothing half done that matters.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn restart(&mut self) {
        self.life += 1;
        self.down = false;
        self.crash_at = None;
        self.write_fault = None;
        self.sync_fault = None;
        self.create_fault = None;
    }

    fn available(&self) -> u64 {
        if self.create_fault == Some(Fault::NoSpace) {
            return 0;
        }
        if self.capacity == u64::MAX {
            return u64::MAX;
        }
        let files = self.names.values().filter_map(|id| self.files.get(id));
        let used: usize = files.map(|file| file.cache.len()).sum();
        self.capacity.saturating_sub(used as u64)
    }

    fn check_up(&self) -> io::Result<()> {
        if self.down {
            Err(io::Error::other(Down))
        } else {
            Ok(())
        }
    }

    /// Counts a changing operation. True: the process dies in it.
    fn begin_change(&mut self) -> io::Result<bool> {
        self.check_up()?;
        self.counts.operations += 1;
        let dies = self.crash_at == Some(self.counts.operations);
        self.down |= dies;
        Ok(dies)
    }

    fn file(&mut self, file: &SimFile) -> io::Result<&mut FileState> {
        self.check_up()?;
        if file.life != self.life {
            return Err(io::Error::other(Down));
        }
        self.files
            .get_mut(&file.id)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }

    /// A change of the directory; one in which the process dies happens or not.
    fn change_names(&mut self, change: NameChange, dies: bool) -> io::Result<()> {
        if !dies || self.rng.below(2) == 0 {
            change.apply(&mut self.names);
            self.pending_names.push(change);
        }
        if dies { Err(io::Error::other(Down)) } else { Ok(()) }
    }

    fn existing(&self, name: &str) -> io::Result<u64> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{name}: no such file"));
        self.names.get(name).copied().ok_or_else(missing)
    }
}

impl FileState {
    fn write(&mut self, offset: usize, buf: &[u8]) {
        if buf.is_empty() {
            return;
        }
        let end = offset + buf.len();
        if end > self.cache.len() {
            self.cache.resize(end, 0);
            self.grown = true;
        }
        self.cache[offset..end].copy_from_slice(buf);
        let sectors = (offset / SECTOR..end.div_ceil(SECTOR)).map(|sector| (sector, self.sector(sector)));
        let write = Write {
            sectors: sectors.collect(),
            in_doubt: false,
        };
        self.writes.push(write);
    }

    fn sector(&self, sector: usize) -> Vec<u8> {
        let start = sector * SECTOR;
        self.cache[start..self.cache.len().min(start + SECTOR)].to_vec()
    }

    fn sync(&mut self) {
        if self.grown {
            self.durable.resize(self.cache.len(), 0);
            self.grown = false;
        }
        let mut newest = BTreeSet::new();
        let mut in_doubt = Vec::new();
        for mut write in std::mem::take(&mut self.writes).into_iter().rev() {
            if write.in_doubt {
                // A sector that was synced since is no longer in doubt.
                write.sectors.retain(|sector, _| !newest.contains(sector));
                in_doubt.push(write);
                continue;
            }
            for (sector, content) in write.sectors {
                if newest.insert(sector) {
                    put(&mut self.durable, sector, &content);
                }
            }
        }
        in_doubt.reverse();
        in_doubt.retain(|write| !write.sectors.is_empty());
        self.writes = in_doubt;
    }

    fn fail_sync(&mut self) {
        for write in &mut self.writes {
            write.in_doubt = true;
        }
    }

    fn lose_power(&mut self, rng: &mut SplitMix64) {
        if self.grown {
            let len = match rng.below(3) {
                0 => self.durable.len(),
                1 => self.cache.len(),
                _ => {
                    self.durable.len()
                        + rng.below((self.cache.len() - self.durable.len()) as u64 + 1) as usize
                }
            };
            self.durable.resize(len, 0);
            self.grown = false;
        }
        for write in std::mem::take(&mut self.writes) {
            let fate = rng.below(3);
            for (sector, content) in write.sectors {
                let kept = match fate {
                    0 => false,
                    1 => true,
                    _ => rng.below(2) == 0,
                };
                if kept {
                    put(&mut self.durable, sector, &content);
                }
            }
        }
        self.cache = self.durable.clone();
    }
}

/// Puts a sector's content as far as the file reaches.
fn put(content: &mut [u8], sector: usize, bytes: &[u8]) {
    let start = (sector * SECTOR).min(content.len());
    let end = (start + bytes.len()).min(content.len());
    content[start..end].copy_from_slice(&bytes[..end - start]);
}

impl Disk for SimDisk {
    type File = SimFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let inner = self.lock();
        inner.check_up()?;
        Ok(inner.names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let inner = self.lock();
        inner.check_up()?;
        Ok(SimFile {
            id: inner.existing(name)?,
            life: inner.life,
        })
    }

    fn create(&self, name: &str, len: u64) -> io::Result<SimFile> {
        let mut inner = self.lock();
        let dies = inner.begin_change()?;
        inner.counts.creates += 1;
        if inner.names.contains_key(name) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{name}: exists"),
            ));
        }
        let mut file = FileState {
            grown: true,
            ..FileState::default()
        };
        let room = inner.available();
        let fault = inner.create_fault.or((len > room).then_some(Fault::NoSpace));
        let mut full = len as usize;
        if dies || fault.is_some() {
            full = inner.rng.below(len.min(room) + 1) as usize;
        }
        file.cache.resize(full, 0);
        let id = inner.next_file;
        inner.next_file += 1;
        inner.files.insert(id, file);
        inner.change_names(NameChange::Create(name.into(), id), dies)?;
        match fault {
            Some(fault) => Err(fault.error()),
            None => Ok(SimFile { id, life: inner.life }),
        }
    }

    fn extend(&self, file: &SimFile, len: u64) -> io::Result<()> {
        let mut inner = self.lock();
        let dies = inner.begin_change()?;
        let room = inner.available();
        let grows = len.saturating_sub(inner.files.get(&file.id).map_or(0, |file| file.cache.len()) as u64);
        let fault = inner.create_fault.or((grows > room).then_some(Fault::NoSpace));
        let by = if dies || fault.is_some() {
            inner.rng.below(grows.min(room) + 1)
        } else {
            grows
        };
        if let Some(state) = inner.files.get_mut(&file.id).filter(|_| grows > 0) {
            let reached = state.cache.len() + by as usize;
            state.cache.resize(reached, 0);
            state.grown = true;
        }
        match fault {
            _ if dies => Err(io::Error::other(Down)),
            Some(fault) => Err(fault.error()),
            None => Ok(()),
        }
    }

    fn len(&self, file: &SimFile) -> io::Result<u64> {
        Ok(self.lock().file(file)?.cache.len() as u64)
    }

    fn read_at(&self, file: &SimFile, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut inner = self.lock();
        let start = offset as usize;
        let content = inner
            .file(file)?
            .cache
            .get(start..start.saturating_add(buf.len()));
        buf.copy_from_slice(content.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn write_at(&self, file: &SimFile, offset: u64, buf: &[u8]) -> io::Result<()> {
        let mut inner = self.lock();
        let dies = inner.begin_change()?;
        inner.counts.writes += 1;
        let fault = inner.write_fault.filter(|(n, _)| *n == inner.counts.writes);
        let len = if dies || fault.is_some() {
            inner.rng.below(buf.len() as u64 + 1) as usize
        } else {
            buf.len()
        };
        if !dies {
            inner.file(file)?.write(offset as usize, &buf[..len]);
        } else if let Some(state) = inner.files.get_mut(&file.id) {
            state.write(offset as usize, &buf[..len]);
            return Err(io::Error::other(Down));
        }
        fault.map_or(Ok(()), |(_, fault)| Err(fault.error()))
    }

    fn sync(&self, file: &SimFile) -> io::Result<()> {
        let mut inner = self.lock();
        let dies = inner.begin_change()?;
        inner.counts.syncs += 1;
        if dies {
            // What it carried is the crash's to decide.
            return Err(io::Error::other(Down));
        }
        let fault = inner.sync_fault.filter(|(n, _)| *n == inner.counts.syncs);
        let state = inner.file(file)?;
        match fault {
            Some((_, fault)) => {
                state.fail_sync();
                Err(fault.error())
            }
            None => {
                state.sync();
                Ok(())
            }
        }
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut inner = self.lock();
        let dies = inner.begin_change()?;
        inner.counts.dir_syncs += 1;
        if dies {
            return Err(io::Error::other(Down));
        }
        let inner = &mut *inner;
        for change in inner.pending_names.drain(..) {
            change.apply(&mut inner.durable_names);
        }
        let named: BTreeSet<u64> = inner.names.values().copied().collect();
        inner.files.retain(|id, _| named.contains(id));
        Ok(())
    }

    fn available(&self) -> io::Result<u64> {
        let inner = self.lock();
        inner.check_up()?;
        Ok(inner.available())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let dies = inner.begin_change()?;
        inner.existing(from)?;
        inner.change_names(NameChange::Rename(from.into(), to.into()), dies)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let dies = inner.begin_change()?;
        inner.existing(name)?;
        inner.change_names(NameChange::Remove(name.into()), dies)
    }
}

/// A small generator of pseudo-random numbers; the same seed gives the same numbers for ever.
#[derive(Clone, Debug)]
pub struct SplitMix64(u64);

impl SplitMix64 {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `[0, end)`; zero if `end` is zero. The bias is too small to matter here.
    pub fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next_u64() % end }
    }
}
