//! Appends on their way to one follower, bounded by number and by bytes.

use alloc::collections::VecDeque;

use crate::Index;

/// A window of unacknowledged appends, oldest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inflights {
    messages_max: usize,
    bytes_max: u64,
    bytes: u64,
    /// The last index of each append, and its payload bytes.
    window: VecDeque<(Index, u64)>,
}

impl Inflights {
    /// An empty window. `bytes_max` of `u64::MAX` is no limit.
    #[must_use]
    pub fn new(messages_max: usize, bytes_max: u64) -> Self {
        Self {
            messages_max,
            bytes_max,
            bytes: 0,
            window: VecDeque::new(),
        }
    }

    /// Whether nothing more may be sent. One append more than the byte limit allows is taken, so that a limit
    /// below the size of an entry does not stop replication.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.window.len() >= self.messages_max || self.bytes >= self.bytes_max
    }

    /// Appends on their way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.window.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.window.is_empty()
    }

    #[inline]
    pub(crate) fn add(&mut self, last: Index, bytes: u64) {
        assert!(
            !self.is_full(),
            "cannot add {last} to a full window of {}",
            self.window.len()
        );
        self.bytes += bytes;
        self.window.push_back((last, bytes));
    }

    /// Appends up to `index` arrived.
    #[inline]
    pub(crate) fn free_up_to(&mut self, index: Index) {
        while let Some((last, bytes)) = self.window.front().copied()
            && last <= index
        {
            self.bytes -= bytes;
            self.window.pop_front();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.window.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_full_by_number() {
        let mut window = Inflights::new(2, u64::MAX);
        window.add(Index(3), 100);
        assert!(!window.is_full());
        window.add(Index(5), 100);
        assert!(window.is_full());
        window.free_up_to(Index(2));
        assert!(window.is_full(), "nothing that was sent arrived");
        window.free_up_to(Index(4));
        assert_eq!((window.is_full(), window.len()), (false, 1));
        window.free_up_to(Index(9));
        assert!(window.is_empty());
    }

    #[test]
    fn a_window_is_full_by_bytes_once_it_passes_the_limit() {
        let mut window = Inflights::new(100, 10);
        window.add(Index(1), 9);
        assert!(!window.is_full());
        window.add(Index(2), 50);
        assert!(
            window.is_full(),
            "the append that passes the limit is still taken"
        );
        window.free_up_to(Index(1));
        assert!(window.is_full(), "50 bytes are on their way");
        window.free_up_to(Index(2));
        assert!(!window.is_full());
        window.add(Index(3), 10);
        window.clear();
        assert!(!window.is_full() && window.is_empty());
    }

    #[test]
    #[should_panic(expected = "to a full window of 1")]
    fn a_full_window_takes_no_more() {
        let mut window = Inflights::new(1, u64::MAX);
        window.add(Index(1), 0);
        window.add(Index(2), 0);
    }
}
