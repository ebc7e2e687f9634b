//! How long to wait before the next attempt.

use std::time::Duration;

/// The second failure in a row waits up to this; each further one up to twice as long as the one before.
const FIRST: Duration = Duration::from_millis(10);
/// Never longer: an election is over in less.
const MAX: Duration = Duration::from_millis(300);

/// Small and seeded; what it draws need not be hard to guess.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// xorshift64*.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

/// The wait after so many failures in a row: none after the first, since another node may do better at once; then
/// doubling, capped, and jittered by half, so that clients that failed together do not come back together.
pub(crate) fn wait(failures: u32, rng: &mut Rng) -> Duration {
    let Some(doublings) = failures.checked_sub(2) else {
        return Duration::ZERO;
    };
    let full = FIRST.saturating_mul(1 << doublings.min(10)).min(MAX);
    let half_us = full.as_micros() as u64 / 2;
    Duration::from_micros(half_us + rng.next() % (half_us + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_stay_capped_and_differ() {
        let mut rng = Rng::new(7);
        assert_eq!(wait(1, &mut rng), Duration::ZERO);
        for failures in 2..100 {
            let full = FIRST.saturating_mul(1 << (failures - 2).min(10)).min(MAX);
            let waits: Vec<_> = (0..50).map(|_| wait(failures, &mut rng)).collect();
            assert!(
                waits.iter().all(|wait| (full / 2..=full).contains(wait)),
                "{failures}: {waits:?}"
            );
            assert!(waits.iter().any(|wait| *wait != waits[0]), "{failures}");
        }
    }
}
