//! A seeded generator, so that a failure can be run again.

pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, end)`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Seeds of a randomized test: `QUORATE_SEED` alone, or as many as `QUORATE_SEEDS` says, which may be a range, as in
/// `10000..20000`.
pub(crate) fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |text: &str| text.parse::<u64>().expect("a number");
    if let Ok(seed) = std::env::var("QUORATE_SEED") {
        let seed = number(&seed);
        return seed..seed + 1;
    }
    match std::env::var("QUORATE_SEEDS") {
        Ok(range) => match range.split_once("..") {
            Some((first, end)) => number(first)..number(end),
            None => 0..number(&range),
        },
        Err(_) => 0..default,
    }
}

/// Runs `test`; a failure names its seed.
pub(crate) fn named(seed: u64, test: impl FnOnce()) {
    struct Named(u64);
    impl Drop for Named {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with QUORATE_SEED={}", self.0);
            }
        }
    }
    let _named = Named(seed);
    test();
}
