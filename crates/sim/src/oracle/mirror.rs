//! What each replica's log holds, as far as the properties need it: terms and hashes, kept up to date from what
//! the replica gives to its log.

use std::collections::{BTreeMap, VecDeque};

use quorate_raft::{Entry, Index, Payload, Term};

use super::At;
use crate::rng::{hash_bytes, mix};

/// A hash of what an entry carries.
pub(crate) fn hash_of(entry: &Entry) -> u64 {
    match &entry.payload {
        Payload::Normal(data) => hash_bytes(data),
        Payload::ConfChange(change) => mix(1, hash_bytes(format!("{change:?}").as_bytes())),
    }
}

/// One replica's log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Mirror {
    base: Index,
    /// Unknown where a process found a compacted log that nobody has committed so far.
    base_term: Option<Term>,
    entries: VecDeque<(Term, u64)>,
    /// The replica's term after its last turn.
    pub(crate) seen_term: Term,
}

impl Mirror {
    pub(crate) fn new<'a>(
        base: Index,
        base_term: Option<Term>,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Self {
        let entries = entries.map(|entry| (entry.term, hash_of(entry))).collect();
        Self {
            base,
            base_term,
            entries,
            seen_term: Term(0),
        }
    }

    pub(crate) fn base(&self) -> Index {
        self.base
    }

    pub(crate) fn last(&self) -> Index {
        Index(self.base.0 + self.entries.len() as u64)
    }

    pub(crate) fn get(&self, index: Index) -> Option<(Term, u64)> {
        self.entries
            .get(index.0.checked_sub(self.base.0 + 1)? as usize)
            .copied()
    }

    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.base {
            self.base_term
        } else {
            self.get(index).map(|(term, _)| term)
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Index, Term, u64)> + '_ {
        self.range(self.base.next(), self.last())
    }

    /// The entries of `[first, last]` that are there.
    pub(crate) fn range(&self, first: Index, last: Index) -> impl Iterator<Item = (Index, Term, u64)> + '_ {
        (first.0..=last.0).filter_map(|i| self.get(Index(i)).map(|(term, hash)| (Index(i), term, hash)))
    }

    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        self.entries
            .truncate(first.index.0.saturating_sub(self.base.0 + 1) as usize);
        self.entries
            .extend(entries.iter().map(|entry| (entry.term, hash_of(entry))));
    }

    pub(crate) fn reset(&mut self, index: Index, term: Option<Term>) {
        (self.base, self.base_term) = (index, term);
        self.entries.clear();
    }

    pub(crate) fn compact(&mut self, index: Index, term: Term) {
        while self.base < index && self.entries.pop_front().is_some() {
            self.base = self.base.next();
        }
        self.base = index;
        self.base_term = Some(term);
    }
}

/// Every replica's.
#[derive(Debug, Default)]
pub(crate) struct Mirrors(BTreeMap<At, Mirror>);

impl Mirrors {
    pub(crate) fn get(&self, at: At) -> Option<&Mirror> {
        self.0.get(&at)
    }

    pub(crate) fn entry(&mut self, at: At) -> &mut Mirror {
        self.0.entry(at).or_default()
    }

    /// The shards of a node.
    pub(crate) fn shards(&self, node: usize) -> Vec<At> {
        self.0.keys().filter(|at| at.0 == node).copied().collect()
    }

    pub(crate) fn remove(&mut self, at: At) {
        self.0.remove(&at);
    }

    pub(crate) fn put(&mut self, at: At, mirror: Mirror) {
        self.0.insert(at, mirror);
    }
}
