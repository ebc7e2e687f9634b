//! A node's two clocks. The monotonic one drifts, within the stated bound unless a fault says otherwise; the
//! wall clock drifts as well, and jumps.

use quorate_store::Times;

use crate::rng::Rng;

/// Milliseconds since the Unix epoch at which every simulation starts.
pub(crate) const WALL_START_MS: i64 = 1_700_000_000_000;

/// Clocks of one machine. True time is the simulation's, in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// The most that the rate may be off by, in parts per million: half of what two clocks may drift apart.
    bound_ppm: i64,
    /// How much faster than true time, in parts per million.
    rate_ppm: i64,
    /// A moment of true time, and what the clocks showed then.
    origin_us: u64,
    origin_mono_us: u64,
    origin_wall_us: i64,
}

impl Clock {
    /// `drift_max`: how far two clocks may drift apart, as a fraction; each takes at most half of it.
    pub(crate) fn new(rng: &mut Rng, drift_max: f64) -> Self {
        let bound_ppm = (drift_max * 490_000.0) as i64;
        let mut clock = Self {
            bound_ppm,
            rate_ppm: 0,
            origin_us: 0,
            origin_mono_us: 0,
            origin_wall_us: WALL_START_MS * 1000 + rng.below(200_000) as i64 - 100_000,
        };
        clock.drift(0, rng);
        clock.boot(0, rng);
        clock
    }

    /// Another rate within the bound.
    pub(crate) fn drift(&mut self, now_us: u64, rng: &mut Rng) {
        let half = self.bound_ppm;
        // The ends are the likeliest to find a mistake.
        let rate_ppm = match rng.below(4) {
            0 => -half,
            1 => half,
            _ => rng.range(0, 2 * half as u64) as i64 - half,
        };
        self.set_rate(now_us, rate_ppm);
    }

    /// From now on so much faster than true time; anything above -1,000,000.
    pub(crate) fn set_rate(&mut self, now_us: u64, rate_ppm: i64) {
        assert!(rate_ppm > -1_000_000, "a clock that stands still: {rate_ppm} ppm");
        let passed = self.passed(now_us);
        self.origin_us = now_us;
        self.origin_mono_us += passed;
        self.origin_wall_us += passed as i64;
        self.rate_ppm = rate_ppm;
    }

    /// The machine booted: its monotonic clock starts anew.
    pub(crate) fn boot(&mut self, now_us: u64, rng: &mut Rng) {
        self.set_rate(now_us, self.rate_ppm);
        self.origin_mono_us = rng.range(1_000_000, 3_000_000);
    }

    /// The wall clock is set forward or back.
    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.origin_wall_us += by_ms * 1000;
    }

    /// The monotonic clock skips so much time that did not pass.
    pub(crate) fn skip(&mut self, by_us: u64) {
        self.origin_mono_us += by_us;
    }

    /// The wall clock is right again and the rate within the bound.
    pub(crate) fn settle(&mut self, now_us: u64) {
        let rate_ppm = self.rate_ppm.clamp(-self.bound_ppm, self.bound_ppm);
        self.set_rate(now_us, rate_ppm);
        self.origin_wall_us = WALL_START_MS * 1000 + now_us as i64;
    }

    /// What it shows as passed since the origin.
    fn passed(&self, now_us: u64) -> u64 {
        let passed = (now_us - self.origin_us) as i64;
        (passed + passed * self.rate_ppm / 1_000_000) as u64
    }

    pub(crate) fn times(&self, now_us: u64) -> Times {
        let passed = self.passed(now_us);
        Times {
            mono_us: self.origin_mono_us + passed,
            wall_ms: ((self.origin_wall_us + passed as i64) / 1000) as u64,
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
            let mut clock = Clock::new(&mut rng, 0.01);
            let mut last = 0;
            for now in (0..10_000).map(|i| i * 37) {
                if rng.one_in(100) {
                    clock.drift(now, &mut rng);
                }
                assert!(clock.rate_ppm.abs() <= 5000, "{}", clock.rate_ppm);
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
            let mut clock = Clock::new(&mut rng, 0.01);
            let now = rng.below(1_000_000);
            if rng.one_in(2) {
                clock.set_rate(now, rng.range(0, 1_500_000) as i64 - 900_000);
            }
            let target = clock.times(now).mono_us + rng.below(100_000);
            let at = clock.when(now, target);
            assert!(clock.times(at).mono_us >= target);
            assert!(at == now || clock.times(at - 1).mono_us <= target);
        }
    }

    #[test]
    fn a_clock_that_left_its_bound_settles() {
        let mut clock = Clock::new(&mut Rng::new(3), 0.01);
        clock.set_rate(1_000_000, 500_000);
        clock.jump(-40_000);
        clock.skip(2_000_000);
        clock.settle(3_000_000);
        assert!(clock.rate_ppm.abs() <= 5000, "{}", clock.rate_ppm);
        assert_eq!(clock.times(3_000_000).wall_ms, WALL_START_MS as u64 + 3_000);
    }
}
