//! The changes of one turn, seen by the commands that follow in it.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use bytes::Bytes;
use quorate_storage::engine::{EngineError, View, WriteBatch};
use siphasher::sip::SipHasher13;

/// Reads through to a view and sees its own writes. One spans all the commands, of many shards, that are applied
/// in a turn, and ends as one engine batch.
///
/// Writes are appended to a list. Most turns are plain SETs, which never look at it, so an index over the list
/// is made when the first read asks for it and brought up to date by each further one; from then on, a write to a
/// key that was written already replaces the earlier one (a counter raised a hundred times in a turn is one change).
pub struct Txn<'a, V: View + ?Sized> {
    view: &'a V,
    changes: Vec<(Bytes, Option<Bytes>)>,
    /// Behind a `RefCell` because reading extends it.
    index: RefCell<Index>,
}

impl<'a, V: View + ?Sized> Txn<'a, V> {
    /// Nothing changed yet.
    #[must_use]
    pub fn new(view: &'a V) -> Self {
        Self {
            view,
            changes: Vec::new(),
            index: RefCell::default(),
        }
    }

    /// The value of an engine key, with the changes made so far.
    ///
    /// # Errors
    ///
    /// What the view reports.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        if !self.changes.is_empty() {
            let mut index = self.index.borrow_mut();
            index.catch_up(&self.changes);
            if let Some(at) = index.find(&self.changes, hash_of(key), key) {
                return Ok(self.changes[at].1.clone());
            }
        }
        self.view.get(key)
    }

    /// Sets an engine key.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.change(key.into(), Some(value.into()));
    }

    /// Removes an engine key.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.change(key.into(), None);
    }

    /// Whether nothing was changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The number of changes gathered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// The changes, to be written at once.
    #[must_use]
    pub fn into_batch(self) -> WriteBatch {
        WriteBatch {
            changes: self.changes,
        }
    }

    fn change(&mut self, key: Bytes, value: Option<Bytes>) {
        let index = self.index.get_mut();
        // Replacing is right only if the index knows the whole list: a later change further down would win.
        if index.is_current(&self.changes) {
            let hash = hash_of(&key);
            if let Some(at) = index.find(&self.changes, hash, &key) {
                self.changes[at].1 = value;
                return;
            }
            index.push(hash);
        }
        self.changes.push((key, value));
    }
}

impl<V: View + ?Sized> std::fmt::Debug for Txn<'_, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Txn")
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}

/// The latest change of each key, found by hash. Holds numbers, not keys: a copy of a `Bytes` that was made from a
/// vector allocates.
#[derive(Default)]
struct Index {
    /// From a key's hash to the latest change with that hash.
    latest: HashMap<u64, u32, BuildHasherDefault<AlreadyHashed>>,
    /// For each change, the one before it with the same hash, or [`NONE`]. Its length is how far the index goes.
    previous: Vec<u32>,
}

const NONE: u32 = u32::MAX;

impl Index {
    /// Whether the index is in use and knows every change.
    fn is_current(&self, changes: &[(Bytes, Option<Bytes>)]) -> bool {
        !self.previous.is_empty() && self.previous.len() == changes.len()
    }

    fn catch_up(&mut self, changes: &[(Bytes, Option<Bytes>)]) {
        for (key, _) in &changes[self.previous.len()..] {
            self.push(hash_of(key));
        }
    }

    fn push(&mut self, hash: u64) {
        let at = self.previous.len() as u32;
        assert!(at < NONE, "a turn has fewer than 2^32 changes");
        self.previous.push(self.latest.insert(hash, at).unwrap_or(NONE));
    }

    fn find(&self, changes: &[(Bytes, Option<Bytes>)], hash: u64, key: &[u8]) -> Option<usize> {
        let mut at = self.latest.get(&hash).copied().unwrap_or(NONE);
        while at != NONE {
            if changes[at as usize].0 == key {
                return Some(at as usize);
            }
            at = self.previous[at as usize];
        }
        None
    }
}

/// Fixed: the index is never iterated, so the hash decides nothing but speed.
fn hash_of(key: &[u8]) -> u64 {
    SipHasher13::new_with_key(&[0; 16]).hash(key)
}

/// Passes a hash through.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `u64` is ever hashed here; this keeps the trait's promise for anything else.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
