//! A leader commits by counting only entries of its own term (Raft, section 5.4.2): where its commit index rises to,
//! there is one. An earlier term's entry on a majority may still be replaced (figure 8 of the paper).

use quorate_raft::{Index, Term};

use super::{At, Violation};

/// A leader's commit index rose to `commit`, where its log has an entry of `entry_term`.
pub(crate) fn check_commit(
    at: At,
    leads_in: Term,
    commit: Index,
    entry_term: Option<Term>,
) -> Result<(), Violation> {
    // None: compacted already.
    if entry_term.is_none_or(|term| term == leads_in) {
        return Ok(());
    }
    let detail = format!(
        "shard {} on node {}: the leader of term {leads_in} committed up to {commit}, an entry of term {}",
        at.1,
        at.0 + 1,
        entry_term.unwrap_or_default()
    );
    Err(Violation::new(
        "a leader commits by counting in its own term",
        detail,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_storage::ShardId;

    #[test]
    fn an_earlier_terms_entry_committed_by_counting_is_seen() {
        let check = |entry| check_commit((0, ShardId(1)), Term(4), Index(7), entry);
        assert_eq!(check(Some(Term(4))), Ok(()));
        assert_eq!(check(None), Ok(()));
        assert!(check(Some(Term(3))).is_err());
    }
}
