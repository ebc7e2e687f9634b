//! The real engine under a power loss.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "part of several tests, each of which uses some of it; one that cannot set up its engine has failed"
)]

use std::fs;
use std::path::{Path, PathBuf};

use quorate_storage::engine::suite::Factory;
use quorate_storage::engine::{BufferedEngine, Engine, FjallEngine};

/// A directory that is removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("quorate-engine-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Power loss is a copy of the directory as it stands, in which pages of the journal that were not yet synced
/// are lost.
pub struct Fjall {
    scratch: Scratch,
    lives: u32,
    /// The journal being written when it was last synced, and its length then.
    synced: (PathBuf, usize),
}

impl Fjall {
    pub fn new(name: &str) -> Self {
        Fjall {
            scratch: Scratch::new(name),
            lives: 0,
            synced: Default::default(),
        }
    }

    pub fn path(&self) -> PathBuf {
        self.scratch.0.join(self.lives.to_string())
    }
}

impl Factory for Fjall {
    type Engine = FjallEngine;

    fn reset(&mut self) {
        let _ = fs::remove_dir_all(self.path());
        self.lives += 1;
    }

    fn open(&mut self) -> FjallEngine {
        let engine = FjallEngine::open(self.path()).unwrap();
        self.synced = journal(&self.path());
        engine
    }

    fn make_durable(&mut self, engine: &FjallEngine) {
        engine.durability().make_durable().unwrap();
        self.synced = journal(&self.path());
    }

    fn crash(&mut self, engine: FjallEngine, seed: u64) {
        self.lose_power(engine, seed);
    }
}

impl Fjall {
    /// See the type.
    fn lose_power<E>(&mut self, engine: E, seed: u64) {
        let old = self.path();
        self.lives += 1;
        // At one moment: the engine's threads may be at work.
        while {
            let files = walk(&old);
            let _ = fs::remove_dir_all(self.path());
            copy(&old, &self.path()).is_err() || walk(&old) != files
        } {}
        drop(engine);
        fs::remove_dir_all(&old).unwrap();

        let (name, written) = journal(&self.path());
        let synced = if self.synced.0 == name { self.synced.1 } else { 0 };
        assert!(written >= synced);
        let file = self.path().join(&name);
        let mut journal = fs::read(&file).unwrap();
        match seed % 4 {
            // What was written got there.
            0 => {}
            // Nothing that was not synced did.
            1 => journal[synced..].fill(0),
            // The first part did.
            2 => journal[synced + (written - synced) * (seed as usize % 97) / 97..].fill(0),
            // Each page did or did not.
            _ => {
                for (nth, page) in journal.chunks_mut(4096).enumerate().take(written / 4096 + 1) {
                    if nth
                        .wrapping_mul(2_654_435_761)
                        .wrapping_add(seed as usize * 7)
                        .is_multiple_of(3)
                    {
                        let from = synced.saturating_sub(nth * 4096).min(page.len());
                        page[from..].fill(0);
                    }
                }
            }
        }
        fs::write(&file, journal).unwrap();
    }
}

/// The memtable in front of fjall: it loses what was not flushed to fjall, and fjall loses as above.
pub struct Buffered(pub Fjall);

impl Factory for Buffered {
    type Engine = BufferedEngine;

    fn reset(&mut self) {
        self.0.reset();
    }

    fn open(&mut self) -> BufferedEngine {
        let engine = BufferedEngine::open(self.0.path()).unwrap();
        self.0.synced = journal(&self.0.path());
        engine
    }

    fn make_durable(&mut self, engine: &BufferedEngine) {
        engine.durability().make_durable().unwrap();
        self.0.synced = journal(&self.0.path());
    }

    fn crash(&mut self, engine: BufferedEngine, seed: u64) {
        self.0.lose_power(engine, seed);
    }
}

/// The newest journal's name, and how much of it has been written: the rest is zero.
fn journal(path: &Path) -> (PathBuf, usize) {
    let names = fs::read_dir(path)
        .unwrap()
        .map(|entry| PathBuf::from(entry.unwrap().file_name()));
    let journals = names.filter(|name| name.extension().is_some_and(|extension| extension == "jnl"));
    let number = |name: &PathBuf| {
        name.file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let newest = journals.max_by_key(number).unwrap();
    let bytes = fs::read(path.join(&newest)).unwrap();
    let written = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1);
    (newest, written)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// All files under a directory, in order.
pub fn walk(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files.extend(walk(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}
