//! How much a shard is asked for: what the hot-shard scheduler goes by.
//!
//! Only its leader knows, because reads leave no trace anywhere else. Whoever begins to lead counts from nothing, and says
//! nothing until it has counted for long enough.

use quorate_raft::Term;

/// Heartbeats over which a new leader counts before it tells.
const BEATS_MIN: u32 = 2;

/// Reads and writes that a shard's leader took.
#[derive(Debug, Default)]
pub(crate) struct ShardLoad {
    term: Term,
    /// Since the last beat.
    served: u64,
    /// In this term.
    beats: u32,
    /// In a second: half of it the last beat's, a quarter the one's before, and so on.
    per_second: u64,
}

impl ShardLoad {
    pub(crate) fn serve(&mut self, operations: u64) {
        self.served += operations;
    }

    /// So much time has passed since the last beat; `term` is the one that the replica leads in.
    pub(crate) fn beat(&mut self, term: Term, passed_us: u64) {
        let served = std::mem::take(&mut self.served);
        if term != self.term {
            *self = Self {
                term,
                ..Self::default()
            };
            return;
        }
        let last = served.saturating_mul(1_000_000) / passed_us.max(1);
        self.per_second = match self.beats {
            0 => last,
            _ => self.per_second.midpoint(last),
        };
        self.beats += 1;
    }

    /// Operations per second, once they have been counted for long enough in this term.
    pub(crate) fn per_second(&self, term: Term) -> Option<u64> {
        (self.term == term && self.beats >= BEATS_MIN).then_some(self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_leader_says_nothing_at_first_and_then_what_it_counted() {
        let mut load = ShardLoad::default();
        load.serve(1_000_000);
        load.beat(Term(3), 1_000_000);
        assert_eq!(load.per_second(Term(3)), None, "it does not know since when");
        for _ in 0..2 {
            assert_eq!(load.per_second(Term(3)), None);
            load.serve(300);
            load.beat(Term(3), 500_000);
        }
        assert_eq!(load.per_second(Term(3)), Some(600));
        load.beat(Term(3), 500_000);
        assert_eq!(load.per_second(Term(3)), Some(300), "it fades");
        assert_eq!(load.per_second(Term(5)), None, "of an earlier reign");
        load.beat(Term(5), 500_000);
        assert_eq!(load.per_second(Term(5)), None);
    }
}
