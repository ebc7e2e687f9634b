//! The one source of randomness: a seed, and streams that are split off it.

/// A small generator of pseudo-random numbers (splitmix64); the same seed gives the same numbers for ever.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

/// Mixes a word into a running hash (the finalizer of splitmix64).
pub(crate) fn mix(hash: u64, word: u64) -> u64 {
    let mut z = (hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hash of bytes; stable over releases.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut chunks = bytes.chunks_exact(8);
    let mut hash = bytes.len() as u64;
    for chunk in &mut chunks {
        // A chunk of `chunks_exact(8)` has eight bytes.
        hash = mix(hash, u64::from_le_bytes(chunk.try_into().unwrap_or_default()));
    }
    let mut last = [0; 8];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    mix(hash, u64::from_le_bytes(last))
}

impl Rng {
    /// Starts at `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed, 0x51_75_6f_72_61_74_65))
    }

    /// A stream of its own, so that what one part draws does not move what another one gets.
    pub(crate) fn fork(&mut self) -> Rng {
        Rng::new(self.next_u64())
    }

    /// The next number.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0, 0)
    }

    /// A number in `[0, end)`; zero if `end` is zero. The bias is too small to matter.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next_u64() % end }
    }

    /// A number in `[low, high]`.
    pub(crate) fn range(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// As [`Rng::range`], but every order of magnitude is as likely as the next.
    pub(crate) fn range_log(&mut self, low: u64, high: u64) -> u64 {
        let (low, high) = (low.max(1), high.max(low).max(1));
        let spread = (high as f64 / low as f64).ln();
        let unit = self.below(1 << 32) as f64 / (1u64 << 32) as f64;
        ((low as f64 * (spread * unit).exp()) as u64).clamp(low, high)
    }

    /// True in `ppm` of a million cases.
    pub(crate) fn chance(&mut self, ppm: u64) -> bool {
        ppm > 0 && self.below(1_000_000) < ppm
    }

    /// True in one of `n` cases.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of the items; there must be one.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        assert!(!items.is_empty(), "nothing to pick from");
        &items[self.below(items.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_both_ends_and_nothing_else() {
        let mut rng = Rng::new(7);
        let (mut low, mut high) = (u64::MAX, 0);
        for _ in 0..1000 {
            let x = rng.range(3, 9);
            let y = rng.range_log(10, 1000);
            assert!((3..=9).contains(&x) && (10..=1000).contains(&y));
            (low, high) = (low.min(x), high.max(x));
        }
        assert_eq!((low, high), (3, 9));
    }

    #[test]
    fn streams_of_different_seeds_differ_and_repeat() {
        let draw = |seed| {
            let mut rng = Rng::new(seed);
            [rng.next_u64(), rng.fork().next_u64()]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_ne!(hash_bytes(b"ab"), hash_bytes(b"ab\0"));
    }
}
