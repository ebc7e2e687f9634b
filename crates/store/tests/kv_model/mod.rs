//! What the key-value tests share: an engine view in memory, seeded randomness, short ways to write commands.

#![allow(dead_code, reason = "every test file uses another part")]
#![allow(unreachable_pub, reason = "a module of several test programs")]

use std::{cell::Cell, collections::BTreeMap};

use bytes::Bytes;
use quorate_proto::{Answer, Op, Query, SetCondition, SetExpiry};
use quorate_storage::engine::{EngineError, Pair, Pairs, View, WriteBatch};
use quorate_store::kv::{Read, ReadTime, Space, Txn, apply, query};

pub const SPACE: Space = Space(7);

/// A view over a map, which counts what is read.
#[derive(Clone, Default)]
pub struct MapView {
    pub pairs: BTreeMap<Bytes, Bytes>,
    pub gets: Cell<usize>,
}

impl MapView {
    pub fn write(&mut self, batch: WriteBatch) {
        for (key, value) in batch.changes {
            match value {
                Some(value) => self.pairs.insert(key, value),
                None => self.pairs.remove(&key),
            };
        }
    }

    /// Applies one write in a turn of its own.
    pub fn run(&mut self, stamp_ms: u64, op: &Op) -> Answer {
        let mut txn = Txn::new(&*self);
        let answer = apply(&mut txn, SPACE, stamp_ms, op).unwrap();
        let batch = txn.into_batch();
        self.write(batch);
        answer
    }

    /// Reads with the wall clock at the shard's time.
    pub fn ask(&self, now_ms: u64, asked: &Query) -> Answer {
        match self.ask_at(
            ReadTime {
                shard_ms: now_ms,
                wall_ms: now_ms,
            },
            asked,
        ) {
            Read::Answer(answer) => answer,
            Read::ExpiredByWall => panic!("the wall clock is not ahead"),
        }
    }

    pub fn ask_at(&self, time: ReadTime, asked: &Query) -> Read {
        query(self, SPACE, time, asked).unwrap()
    }

    pub fn get(&self, now_ms: u64, key: &'static str) -> Answer {
        self.ask(now_ms, &Query::Get { key: key.into() })
    }

    pub fn deadline(&self, now_ms: u64, key: &'static str) -> Answer {
        self.ask(now_ms, &Query::Deadline { key: key.into() })
    }

    /// Pairs whose engine key begins with this byte.
    pub fn count(&self, kind: u8) -> usize {
        self.pairs.keys().filter(|key| key[0] == kind).count()
    }
}

impl View for MapView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.gets.set(self.gets.get() + 1);
        Ok(self.pairs.get(key).cloned())
    }

    fn scan(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        Box::new(self.range(start, end).into_iter().map(Ok))
    }

    fn scan_reverse(&self, start: &[u8], end: &[u8]) -> Pairs<'_> {
        Box::new(self.range(start, end).into_iter().rev().map(Ok))
    }
}

impl MapView {
    fn range(&self, start: &[u8], end: &[u8]) -> Vec<Pair> {
        self.pairs
            .range(Bytes::copy_from_slice(start)..)
            .take_while(|(key, _)| end.is_empty() || key[..] < *end)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

/// xorshift64*: the same numbers from the same seed on every machine.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

pub fn set(key: &'static str, value: &'static str) -> Op {
    set_with(key, value, SetExpiry::Clear)
}

pub fn set_with(key: &'static str, value: &'static str, expiry: SetExpiry) -> Op {
    set_full(key, value, expiry, SetCondition::Always, false)
}

pub fn set_full(
    key: &'static str,
    value: &'static str,
    expiry: SetExpiry,
    condition: SetCondition,
    get: bool,
) -> Op {
    Op::Set {
        key: key.into(),
        value: value.into(),
        expiry,
        condition,
        get,
    }
}

pub fn bulk(value: &'static str) -> Answer {
    Answer::Bulk(value.into())
}
