//! How long to wait before dialing again.

/// The first wait.
const DELAY_US_MIN: u64 = 20_000;
/// The longest.
const DELAY_US_MAX: u64 = 1_000_000;
/// A connection that held for this long was a good one: waits begin from the shortest again. Shorter-lived
/// ones keep doubling, or a peer that we cannot talk to (a frame it sends breaks us) would be hammered.
pub(crate) const GOOD_US: u64 = 1_000_000;

/// Waits for one store and channel.
#[derive(Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure: 20 ms doubling to 1 s, of which the second half is random, so that
    /// nodes that lost a peer together do not come back together.
    pub(crate) fn next_delay_us(&mut self, random: &mut Random) -> u64 {
        let delay = (DELAY_US_MIN << self.failures.min(16)).min(DELAY_US_MAX);
        self.failures = self.failures.saturating_add(1);
        delay / 2 + random.below(delay / 2 + 1)
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// SplitMix64, seeded: reconnects in a replayed run happen at the same times.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// Below `end`, which is not zero. The slight bias does not matter for jitter.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_a_second_and_start_over() {
        let (mut backoff, mut random) = (Backoff::default(), Random::new(1));
        for round in 0..100 {
            let full = (20_000u64 << round.min(6)).min(1_000_000);
            let delay = backoff.next_delay_us(&mut random);
            assert!((full / 2..=full).contains(&delay), "round {round}: {delay}");
        }
        backoff.reset();
        assert!(backoff.next_delay_us(&mut random) <= 20_000);
    }
}
