//! Which stores live: judged by the clock of the controller's leader, anew by each, from what it heard itself.

use std::collections::BTreeMap;

use quorate_proto::{StoreHeartbeat, StoreState};
use quorate_storage::StoreId;

/// Microseconds of silence after which a store is taken to be down. A store sends a heartbeat every twenty ticks, one
/// second at default settings.
pub const DOWN_AFTER_US: u64 = 10_000_000;

/// Microseconds between two words of a store's process from which on it was not heard all the time. What survivors tell
/// with their heartbeats counts for as long.
pub(crate) const GAP_US: u64 = 5_000_000;

/// What was heard of the stores.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Liveness {
    /// When the listening began. Nothing that anybody heard before counts: this clock did not measure it.
    since_us: u64,
    stores: BTreeMap<StoreId, Heard>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Heard {
    at_us: u64,
    /// Since when its process has been heard without a gap.
    steady_since_us: u64,
    seq: u64,
    last: StoreHeartbeat,
}

impl Liveness {
    /// Begins to listen.
    #[must_use]
    pub fn new(now_us: u64) -> Self {
        Self {
            since_us: now_us,
            stores: BTreeMap::new(),
        }
    }

    /// A store is heard. Returns whether it is the newest word of its process; older word may have overtaken it.
    pub fn hear(&mut self, now_us: u64, seq: u64, last: &StoreHeartbeat) -> bool {
        let before = self.stores.get(&last.store);
        let before = before.filter(|before| before.last.process == last.process);
        if before.is_some_and(|before| before.seq >= seq) {
            return false;
        }
        let steady = before.filter(|before| now_us < before.at_us.saturating_add(GAP_US));
        let heard = Heard {
            at_us: now_us,
            steady_since_us: steady.map_or(now_us, |before| before.steady_since_us),
            seq,
            last: last.clone(),
        };
        self.stores.insert(last.store, heard);
        true
    }

    /// The last word of a store.
    #[must_use]
    pub fn last(&self, store: StoreId) -> Option<&StoreHeartbeat> {
        self.stores.get(&store).map(|heard| &heard.last)
    }

    /// Microseconds since a store was heard, or since the listening began.
    #[must_use]
    pub fn silent_us(&self, now_us: u64, store: StoreId) -> u64 {
        let since_us = self.stores.get(&store).map_or(self.since_us, |heard| heard.at_us);
        now_us.saturating_sub(since_us)
    }

    /// Microseconds for which a store's process has been heard without a gap up to now: for so long it could have told
    /// whatever there is to tell.
    #[must_use]
    pub fn steady_us(&self, now_us: u64, store: StoreId) -> u64 {
        let heard = self.stores.get(&store);
        let steady = heard.filter(|heard| now_us < heard.at_us.saturating_add(GAP_US));
        steady.map_or(0, |heard| now_us.saturating_sub(heard.steady_since_us))
    }

    /// Whether a store lives.
    #[must_use]
    pub fn state(&self, now_us: u64, store: StoreId) -> StoreState {
        if self.silent_us(now_us, store) >= DOWN_AFTER_US {
            StoreState::Down
        } else if self.stores.contains_key(&store) {
            StoreState::Up
        } else {
            StoreState::Unheard
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_storage::Incarnation;

    use super::*;

    const SECOND: u64 = 1_000_000;

    fn beat(store: u64, process: u64) -> StoreHeartbeat {
        StoreHeartbeat {
            store: StoreId(store),
            incarnation: Incarnation(1),
            process,
            replicas: 0,
            leads: 0,
            available_bytes: None,
            is_full: false,
            is_slow: false,
            tells_after_ms: 3_500,
        }
    }

    #[test]
    fn a_store_is_up_while_it_is_heard_and_down_after_a_silence() {
        let mut liveness = Liveness::new(100 * SECOND);
        let state = |liveness: &Liveness, seconds: u64| liveness.state(seconds * SECOND, StoreId(1));
        assert_eq!(state(&liveness, 100), StoreState::Unheard);
        assert_eq!(state(&liveness, 109), StoreState::Unheard);
        assert_eq!(state(&liveness, 110), StoreState::Down, "it had its time");
        assert!(liveness.hear(111 * SECOND, 7, &beat(1, 5)));
        assert_eq!(state(&liveness, 120), StoreState::Up);
        assert_eq!(state(&liveness, 121), StoreState::Down);
        assert_eq!(liveness.silent_us(121 * SECOND, StoreId(1)), 10 * SECOND);
        assert!(liveness.hear(122 * SECOND, 8, &beat(1, 5)));
        assert_eq!(state(&liveness, 122), StoreState::Up);
    }

    #[test]
    fn a_new_process_and_a_gap_begin_the_steady_time_anew() {
        let mut liveness = Liveness::new(0);
        let steady =
            |liveness: &Liveness, seconds: u64| liveness.steady_us(seconds * SECOND, StoreId(1)) / SECOND;
        assert_eq!(steady(&liveness, 9), 0, "never heard");
        for seconds in [10, 12, 16] {
            liveness.hear(seconds * SECOND, seconds, &beat(1, 5));
        }
        assert_eq!(steady(&liveness, 20), 10);
        assert_eq!(steady(&liveness, 21), 0, "silent for five seconds");
        liveness.hear(21 * SECOND, 21, &beat(1, 5));
        assert_eq!(steady(&liveness, 23), 2, "it counts from the end of the gap");
        liveness.hear(24 * SECOND, 1, &beat(1, 6));
        assert_eq!(steady(&liveness, 25), 1, "another process");
    }

    #[test]
    fn word_that_was_overtaken_does_not_count_and_a_new_process_counts_anew() {
        let mut liveness = Liveness::new(0);
        assert!(liveness.hear(SECOND, 7, &beat(1, 5)));
        assert!(!liveness.hear(2 * SECOND, 7, &beat(1, 5)), "the same");
        assert!(!liveness.hear(2 * SECOND, 6, &beat(1, 5)), "older");
        assert_eq!(liveness.silent_us(2 * SECOND, StoreId(1)), SECOND);
        assert!(liveness.hear(3 * SECOND, 1, &beat(1, 6)));
        assert_eq!(liveness.last(StoreId(1)), Some(&beat(1, 6)));
    }
}
