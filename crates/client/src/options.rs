//! What a client may be told.

use std::time::Duration;

/// Settings of a [`Client`](crate::Client). The defaults are meant to be left alone.
///
/// ```
/// use std::time::Duration;
/// use quorate_client::Options;
///
/// let options = Options::default().deadline(Duration::from_secs(2)).in_flight_max(64);
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) deadline: Duration,
    pub(crate) attempt_max: Duration,
    pub(crate) connect_max: Duration,
    pub(crate) in_flight_max: usize,
    pub(crate) reopen: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            attempt_max: Duration::from_secs(2),
            connect_max: Duration::from_secs(1),
            in_flight_max: 1024,
            reopen: Duration::from_secs(3600),
        }
    }
}

impl Options {
    /// A command is answered or fails within this time, attempts and waits together. 10 s if not set; zero lets every
    /// command fail.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// A node that has not answered for so long is given up for this attempt, and another one is asked. 2 s if not set.
    /// Below an election's time (up to about 1 s) it only makes work.
    #[must_use]
    pub fn attempt_max(mut self, attempt_max: Duration) -> Self {
        self.attempt_max = attempt_max;
        self
    }

    /// Connecting to a node may take so long. 1 s if not set.
    #[must_use]
    pub fn connect_max(mut self, connect_max: Duration) -> Self {
        self.connect_max = connect_max;
        self
    }

    /// So many commands are under way at a time; further ones wait for a place, within their deadline. At least 1; 1024
    /// if not set.
    #[must_use]
    pub fn in_flight_max(mut self, in_flight_max: usize) -> Self {
        self.in_flight_max = in_flight_max.max(1);
        self
    }

    /// A session is used for so long, then another one is opened. Nodes forget sessions, after 24 hours unless
    /// configured otherwise; this should be well below. 1 h if not set.
    #[must_use]
    pub fn reopen(mut self, reopen: Duration) -> Self {
        self.reopen = reopen;
        self
    }
}
