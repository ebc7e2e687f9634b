//! What happened, in order: always as a digest, as readable lines when asked for.

use std::fmt;
use std::sync::Arc;

use crate::rng::mix;

/// Takes the lines of a readable trace.
#[derive(Clone)]
pub struct Sink(Arc<dyn Fn(&str) + Send + Sync>);

impl Sink {
    /// Calls `take` with each line.
    pub fn new(take: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(take))
    }
}

impl fmt::Debug for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sink")
    }
}

/// The record of a simulation.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: u64,
    events: u64,
    sink: Option<Sink>,
}

impl Trace {
    pub(crate) fn new(sink: Option<Sink>) -> Self {
        Self {
            digest: 0,
            events: 0,
            sink,
        }
    }

    /// Records an event by the numbers that tell it from others, and by its line.
    pub(crate) fn event(&mut self, now_us: u64, words: &[u64], line: impl FnOnce() -> String) {
        self.events += 1;
        self.digest = words
            .iter()
            .fold(mix(self.digest, now_us), |digest, word| mix(digest, *word));
        if let Some(Sink(take)) = &self.sink {
            take(&format!(
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
