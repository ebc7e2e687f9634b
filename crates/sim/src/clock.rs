//! A node's two clocks: the monotonic one drifts within the stated bound, the wall clock drifts and jumps.

use quorate_store::Times;

use crate::rng::Rng;

/// Milliseconds since the Unix epoch at which every simulation starts.
const WALL_START_MS: i64 = 1_700_000_000_000;

/// Clocks of one machine. True time is the simulation's, in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// How much faster than true time, in parts per million.
    rate_ppm: i64,
    /// True time at the last boot of the machine, and the monotonic clock then.
    origin_us: u64,
    origin_mono_us: u64,
    /// What jumps left, in milliseconds.
    wall_offset_ms: i64,
}

impl Clock {
    /// `drift_max`: how far two clocks may drift apart, as a fraction; each takes at most half of it.
    pub(crate) fn new(rng: &mut Rng, drift_max: f64) -> Self {
        let half = (drift_max * 490_000.0) as u64;
        // The ends are the likeliest to find a mistake.
        let rate_ppm = match rng.below(4) {
            0 => -(half as i64),
            1 => half as i64,
            _ => rng.range(0, 2 * half) as i64 - half as i64,
        };
        let mut clock = Self {
            rate_ppm,
            origin_us: 0,
            origin_mono_us: 0,
            wall_offset_ms: rng.below(200) as i64 - 100,
        };
        clock.boot(0, rng);
        clock
    }

    /// The machine booted: its monotonic clock starts anew.
    pub(crate) fn boot(&mut self, now_us: u64, rng: &mut Rng) {
        self.origin_us = now_us;
        self.origin_mono_us = rng.range(1_000_000, 3_000_000);
    }

    /// The wall clock is set forward or back.
    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.wall_offset_ms += by_ms;
    }

    /// What a jumping wall clock is off by; healing sets it right.
    pub(crate) fn settle(&mut self) {
        self.wall_offset_ms = 0;
    }

    pub(crate) fn times(&self, now_us: u64) -> Times {
        let passed = (now_us - self.origin_us) as i64;
        let mono_us = self.origin_mono_us + (passed + passed * self.rate_ppm / 1_000_000) as u64;
        let wall_ms = WALL_START_MS
            + self.wall_offset_ms
            + (now_us as i64 + now_us as i64 * self.rate_ppm / 1_000_000) / 1000;
        Times {
            mono_us,
            wall_ms: wall_ms as u64,
        }
    }

    /// The first true time at which the monotonic clock shows at least `mono_us`.
    pub(crate) fn when(&self, now_us: u64, mono_us: u64) -> u64 {
        let left = mono_us.saturating_sub(self.times(now_us).mono_us);
        let mut at = now_us + left * 1_000_000 / (1_000_000 + self.rate_ppm) as u64;
        while self.times(at).mono_us < mono_us {
            at += 1;
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_stays_within_half_the_bound_and_time_never_goes_back() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let clock = Clock::new(&mut rng, 0.01);
            assert!(clock.rate_ppm.abs() <= 5000, "{}", clock.rate_ppm);
            let mut last = 0;
            for now in (0..10_000).map(|i| i * 37) {
                let mono = clock.times(now).mono_us;
                assert!(mono >= last);
                last = mono;
            }
        }
    }

    #[test]
    fn when_is_the_first_moment_that_is_not_too_early() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let clock = Clock::new(&mut rng, 0.01);
            let now = rng.below(1_000_000);
            let target = clock.times(now).mono_us + rng.below(100_000);
            let at = clock.when(now, target);
            assert!(clock.times(at).mono_us >= target && clock.times(at).mono_us <= target + 2);
        }
    }
}
