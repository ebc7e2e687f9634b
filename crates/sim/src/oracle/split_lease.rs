//! A leader has no lease from proposing a split until it has applied it (rule L3): the new shard may be led, and
//! written, elsewhere by then.

use std::collections::BTreeMap;

use quorate_raft::{Entry, Index, Payload, Role, Term};
use quorate_store::ReplicaStatus;

use super::{At, Violation};

/// The last split that each replica gave to its log.
#[derive(Debug, Default)]
pub(crate) struct SplitLease(BTreeMap<At, (Term, Index)>);

impl SplitLease {
    /// Entries were given to the log.
    pub(crate) fn appended(&mut self, at: At, entries: &[Entry]) {
        let is_split =
            |entry: &&Entry| matches!(&entry.payload, Payload::Normal(data) if quorate_proto::is_split(data));
        if let Some(split) = entries.iter().rev().find(is_split) {
            self.0.insert(at, (split.term, split.index));
        }
    }

    /// How a replica stands after a turn.
    pub(crate) fn seen(&self, at: At, status: &ReplicaStatus) -> Result<(), Violation> {
        let Some((term, index)) = self.0.get(&at) else {
            return Ok(());
        };
        let is_leader = status.role == Role::Leader && status.term == *term;
        if !(is_leader && status.lease && status.applied < *index) {
            return Ok(());
        }
        let detail = format!(
            "shard {}: node {} has a lease in term {term}, the split at {index} is not applied",
            at.1,
            at.0 + 1
        );
        Err(Violation::new("no lease while a split is under way", detail))
    }

    /// The replica is not there any more.
    pub(crate) fn gone(&mut self, at: At) {
        self.0.remove(&at);
    }
}
