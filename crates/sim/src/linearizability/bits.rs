//! Sets of small numbers, as the search keeps them by the million, and a fast hash for them.

use std::hash::{BuildHasherDefault, Hasher};

/// A set of small numbers.
pub(super) struct Bits {
    words: Vec<u64>,
    count: usize,
    /// Words before this one are full.
    full: usize,
}

impl Bits {
    pub(super) fn new(length: usize) -> Self {
        Self {
            words: vec![0; length.div_ceil(64)],
            count: 0,
            full: 0,
        }
    }

    pub(super) fn has(&self, at: usize) -> bool {
        self.words[at / 64] & (1 << (at % 64)) != 0
    }

    pub(super) fn set(&mut self, at: usize) {
        debug_assert!(!self.has(at), "{at} is in the set already");
        self.words[at / 64] |= 1 << (at % 64);
        self.count += 1;
        while self.words.get(self.full) == Some(&u64::MAX) {
            self.full += 1;
        }
    }

    pub(super) fn clear(&mut self, at: usize) {
        debug_assert!(self.has(at), "{at} is not in the set");
        self.words[at / 64] &= !(1 << (at % 64));
        self.count -= 1;
        self.full = self.full.min(at / 64);
    }

    /// The set without the words at its beginning that are full and those at its end that are empty, and how many
    /// are full: a long history differs from point to point in a short window only.
    pub(super) fn compact(&self) -> Vec<u64> {
        let mut key = vec![self.full as u64];
        let mut left = self.count - self.full * 64;
        for word in &self.words[self.full..] {
            if left == 0 {
                break;
            }
            left -= word.count_ones() as usize;
            key.push(*word);
        }
        key
    }

    /// The words up to the last that is not empty.
    pub(super) fn trimmed(&self) -> &[u64] {
        let length = self
            .words
            .iter()
            .rposition(|word| *word != 0)
            .map_or(0, |at| at + 1);
        &self.words[..length]
    }
}

/// Whether every member of `small` is one of `large`; both may lack empty words at their ends.
pub(super) fn is_subset(small: &[u64], large: &[u64]) -> bool {
    small.len() <= large.len() && small.iter().zip(large).all(|(a, b)| a & !b == 0)
}

/// A fast hash for keys that come from the search itself.
pub(super) type Fast = BuildHasherDefault<WordHasher>;

#[derive(Default)]
pub(super) struct WordHasher(u64);

impl WordHasher {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for WordHasher {
    fn finish(&self) -> u64 {
        // The upper bits are the better ones; the table uses both ends.
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.word(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.word(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.word(word as u64);
    }
}
