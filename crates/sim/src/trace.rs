//! What happened, in order: always as a digest, as readable lines when asked for.

use crate::rng::mix;

/// The record of a simulation.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: u64,
    events: u64,
    print: Option<fn(&str)>,
}

impl Trace {
    pub(crate) fn new(print: Option<fn(&str)>) -> Self {
        Self {
            digest: 0,
            events: 0,
            print,
        }
    }

    /// Records an event by the numbers that tell it from others, and by its line.
    pub(crate) fn event(&mut self, now_us: u64, words: &[u64], line: impl FnOnce() -> String) {
        self.events += 1;
        self.digest = words
            .iter()
            .fold(mix(self.digest, now_us), |digest, word| mix(digest, *word));
        if let Some(print) = self.print {
            print(&format!(
                "{:>4}.{:06} {}",
                now_us / 1_000_000,
                now_us % 1_000_000,
                line()
            ));
        }
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }
}
