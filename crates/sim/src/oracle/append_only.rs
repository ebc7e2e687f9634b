//! Leader append-only: a leader never overwrites or deletes entries in its log; it only appends new ones (Raft,
//! section 5.3, figure 3).

use std::collections::BTreeMap;

use quorate_raft::{Index, Term};

use super::{At, Violation};

/// What each replica cut from its log in the turn under way. Whether it led is known only at its end.
#[derive(Debug, Default)]
pub(crate) struct AppendOnly(BTreeMap<At, String>);

impl AppendOnly {
    pub(crate) fn restarted(&mut self, at: At) {
        self.0.remove(&at);
    }

    pub(crate) fn appended(&mut self, at: At, first: Index, last: Index) {
        if first <= last {
            self.0
                .insert(at, format!("wrote entry {first} although its log reached {last}"));
        }
    }

    pub(crate) fn reset(&mut self, at: At) {
        self.0.insert(at, "replaced its log".into());
    }

    /// A turn ended; `led`: the replica led in `term` before the turn and does so after it.
    pub(crate) fn ended(&mut self, at: At, term: Term, led: bool) -> Result<(), Violation> {
        match self.0.remove(&at) {
            Some(what) if led => {
                let detail = format!(
                    "shard {} term {term}: the leader on node {} {what}",
                    at.1,
                    at.0 + 1
                );
                Err(Violation::new("leader append-only", detail))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_storage::ShardId;

    #[test]
    fn a_leader_that_cuts_its_log_is_seen() {
        let at = (0, ShardId(1));
        let mut oracle = AppendOnly::default();
        oracle.appended(at, Index(5), Index(4));
        assert_eq!(oracle.ended(at, Term(2), true), Ok(()), "it appended");
        oracle.appended(at, Index(4), Index(6));
        assert_eq!(oracle.ended(at, Term(2), false), Ok(()), "a follower may");
        oracle.appended(at, Index(4), Index(6));
        assert!(oracle.ended(at, Term(2), true).is_err());
        oracle.reset(at);
        assert!(oracle.ended(at, Term(2), true).is_err());
    }
}
