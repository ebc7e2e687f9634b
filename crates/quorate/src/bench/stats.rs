//! What one thread of the load generator counts.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

/// Distinct error texts that are kept; the rest are counted only.
const ERROR_TEXTS_MAX: usize = 12;
/// Five minutes: longer than any sensible timeout.
const LATENCY_NS_MAX: u64 = 300_000_000_000;

/// Counts and latencies of operations that succeeded, counts and texts of those that did not.
#[derive(Clone, Debug)]
pub(super) struct Stats {
    /// Nanoseconds, to three significant digits.
    pub(super) latency_ns: Histogram<u64>,
    pub(super) reads: u64,
    pub(super) writes: u64,
    /// Reads of absent keys; also in `reads`.
    pub(super) misses: u64,
    pub(super) redirects: u64,
    pub(super) errors: u64,
    pub(super) error_texts: BTreeMap<String, u64>,
}

impl Stats {
    pub(super) fn new() -> Self {
        #[expect(
            clippy::expect_used,
            reason = "the bounds are constants: 1 <= low, 2 * low <= high, digits <= 5"
        )]
        let latency_ns = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("constant bounds are valid");
        Self {
            latency_ns,
            reads: 0,
            writes: 0,
            misses: 0,
            redirects: 0,
            errors: 0,
            error_texts: BTreeMap::new(),
        }
    }

    pub(super) fn ops(&self) -> u64 {
        self.reads + self.writes
    }

    pub(super) fn error(&mut self, text: &str, n: u64) {
        self.errors += n;
        if let Some(count) = self.error_texts.get_mut(text) {
            *count += n;
        } else if self.error_texts.len() < ERROR_TEXTS_MAX {
            self.error_texts.insert(text.to_owned(), n);
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        // Cannot fail: both have the same bounds.
        let _ = self.latency_ns.add(&other.latency_ns);
        self.reads += other.reads;
        self.writes += other.writes;
        self.misses += other.misses;
        self.redirects += other.redirects;
        self.errors += other.errors;
        for (text, n) in &other.error_texts {
            *self.error_texts.entry(text.clone()).or_insert(0) += n;
        }
    }
}
