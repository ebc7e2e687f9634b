//! The five properties of the Raft paper's figure 3, and what they rest on, checked after every step of a run.
//!
//! The checks are told what a member looks like after a step, and keep what they were told for ever: a crash may
//! make a member forget, not them.

use std::collections::BTreeMap;

use quorate_raft::{Entry, HardState, Index, ReplicaId, Role, Term};

/// What a member shows after a step.
pub(crate) struct View<'a> {
    pub(crate) id: ReplicaId,
    pub(crate) role: Role,
    pub(crate) hard_state: HardState,
    /// The position before the first entry of `log`, and its term.
    pub(crate) base: (Index, Term),
    /// All entries behind `base`, stable or not.
    pub(crate) log: &'a [Entry],
}

impl View<'_> {
    fn last(&self) -> Index {
        self.log.last().map_or(self.base.0, |entry| entry.index)
    }

    fn entry(&self, index: Index) -> Option<&Entry> {
        let at = index.0.checked_sub(self.base.0.0 + 1)?;
        self.log.get(usize::try_from(at).expect("fits"))
    }

    /// The term at `index`, if it is known here.
    fn term(&self, index: Index) -> Option<Term> {
        if index == self.base.0 {
            return Some(self.base.1);
        }
        self.entry(index).map(|entry| entry.term)
    }
}

/// What a member showed last.
struct Seen {
    role: Role,
    hard_state: HardState,
    base: Index,
    log: Vec<Entry>,
}

struct Committed {
    entry: Entry,
    /// The term of the first member that knew: the leader that counted, or a follower that it told.
    term: Term,
}

/// Everything that was ever seen of a group.
#[derive(Default)]
pub(crate) struct Properties {
    leaders: BTreeMap<Term, ReplicaId>,
    votes: BTreeMap<(ReplicaId, Term), ReplicaId>,
    /// Each entry ever seen, with the term before it.
    entries: BTreeMap<(Index, Term), (Option<Term>, Entry)>,
    /// From `first_committed` on.
    committed: Vec<Committed>,
    first_committed: Index,
    members: BTreeMap<ReplicaId, Seen>,
    /// A digest of everything applied up to and including each position.
    states: BTreeMap<Index, u64>,
}

impl Properties {
    /// A group whose log begins behind `start`.
    pub(crate) fn new(start: Index) -> Properties {
        Properties {
            first_committed: start.next(),
            ..Properties::default()
        }
    }

    /// The highest position that any member knew to be committed.
    pub(crate) fn committed(&self) -> Index {
        Index(self.first_committed.0 + self.committed.len() as u64 - 1)
    }

    /// How many terms had a leader.
    pub(crate) fn leaders(&self) -> u64 {
        self.leaders.len() as u64
    }

    fn committed_at(&self, index: Index) -> Option<&Committed> {
        let at = index.0.checked_sub(self.first_committed.0)?;
        self.committed.get(usize::try_from(at).expect("fits"))
    }

    /// A member's process ended: what it had not stored is gone.
    pub(crate) fn stopped(&mut self, id: ReplicaId) {
        self.members.remove(&id);
    }

    /// One vote a term (Raft paper §5.2), also over restarts.
    pub(crate) fn voted(&mut self, voter: ReplicaId, term: Term, candidate: ReplicaId) {
        let known = *self.votes.entry((voter, term)).or_insert(candidate);
        assert_eq!(
            known, candidate,
            "member {voter} votes for {known} and for {candidate} in term {term}"
        );
    }

    /// A member after a step.
    pub(crate) fn check(&mut self, view: &View<'_>) {
        self.nothing_falls(view);
        self.election_safety(view);
        self.leader_append_only(view);
        self.log_matching(view);
        let news = self.commits(view);
        self.leader_completeness(view, news);
        self.remember(view);
    }

    /// Terms and commit indexes of a running member never fall, and its log holds what it committed.
    fn nothing_falls(&self, view: &View<'_>) {
        let (id, now) = (view.id, view.hard_state);
        assert!(
            now.commit <= view.last() && view.base.0 <= now.commit,
            "member {id} has commit index {}, and a log in ({}, {}]",
            now.commit,
            view.base.0,
            view.last()
        );
        let Some(before) = self.members.get(&id).map(|seen| seen.hard_state) else {
            return;
        };
        assert!(
            now.term >= before.term,
            "the term of {id} fell from {} to {}",
            before.term,
            now.term
        );
        assert!(
            now.commit >= before.commit,
            "the commit index of {id} fell from {} to {}",
            before.commit,
            now.commit
        );
        if now.term == before.term && before.vote.is_some() {
            assert_eq!(
                now.vote, before.vote,
                "member {id} changed its vote in term {}",
                now.term
            );
        }
    }

    /// "At most one leader can be elected in a given term."
    fn election_safety(&mut self, view: &View<'_>) {
        if view.role == Role::Leader {
            let term = view.hard_state.term;
            let known = *self.leaders.entry(term).or_insert(view.id);
            assert_eq!(known, view.id, "two leaders in term {term}");
        }
    }

    /// "A leader never overwrites or deletes entries in its log; it only appends new entries."
    fn leader_append_only(&self, view: &View<'_>) {
        let Some(before) = self.members.get(&view.id) else {
            return;
        };
        let leads = before.role == Role::Leader && view.role == Role::Leader;
        if !leads || before.hard_state.term != view.hard_state.term {
            return;
        }
        assert!(
            view.base.0 >= before.base,
            "the log of leader {} grew backwards",
            view.id
        );
        for entry in &before.log {
            if entry.index > view.base.0 {
                assert_eq!(
                    view.entry(entry.index),
                    Some(entry),
                    "leader {} of term {} changed its own log",
                    view.id,
                    view.hard_state.term
                );
            }
        }
    }

    /// "If two logs contain an entry with the same index and term, then the logs are identical in all entries up
    /// through the given index." That each entry has but one predecessor and content is the same, by induction.
    fn log_matching(&mut self, view: &View<'_>) {
        let seen = self.members.get(&view.id);
        let mut previous = (view.base.0, Some(view.base.1));
        for entry in view.log {
            assert_eq!(entry.index, previous.0.next(), "the log of {} has a gap", view.id);
            assert!(
                Some(entry.term) >= previous.1 && entry.term <= view.hard_state.term,
                "terms of {} are out of order at {}",
                view.id,
                entry.index
            );
            // Looked up only when it is news here: most steps change nothing.
            let known_here = seen.is_some_and(|seen| {
                let at = entry.index.0.checked_sub(seen.base.0 + 1);
                at.and_then(|at| seen.log.get(at as usize)) == Some(entry)
            });
            if !known_here {
                let known = self
                    .entries
                    .entry((entry.index, entry.term))
                    .or_insert_with(|| (previous.1, entry.clone()));
                assert_eq!(
                    (previous.1, entry),
                    (known.0, &known.1),
                    "member {} has another entry at {} of term {}, or after another",
                    view.id,
                    entry.index,
                    entry.term
                );
            }
            previous = (entry.index, Some(entry.term));
        }
    }

    /// What members know to be committed agrees, for ever. Returns whether this is the first to know something.
    fn commits(&mut self, view: &View<'_>) -> bool {
        let before = self.members.get(&view.id);
        let from = before.map_or(Index(0), |seen| seen.hard_state.commit.next());
        let from = from.max(self.first_committed);
        let newest = self.committed();
        for index in (from.0..=view.hard_state.commit.0).map(Index) {
            let term = view.term(index);
            match self.committed_at(index) {
                Some(known) => assert!(
                    term.is_none_or(|term| term == known.entry.term),
                    "member {} commits {index} of {term:?}, others of term {}",
                    view.id,
                    known.entry.term
                ),
                None => {
                    let entry = view.entry(index).cloned().unwrap_or_else(|| {
                        panic!("member {} compacted {index}, which nobody committed", view.id)
                    });
                    let term = view.hard_state.term;
                    self.committed.push(Committed { entry, term });
                }
            }
        }
        self.committed() > newest
    }

    /// "If a log entry is committed in a given term, then that entry will be present in the logs of the leaders for
    /// all higher-numbered terms."
    fn leader_completeness(&self, view: &View<'_>, news: bool) {
        let leads = view.role == Role::Leader;
        let led = self
            .members
            .get(&view.id)
            .is_some_and(|seen| seen.role == Role::Leader && seen.hard_state.term == view.hard_state.term);
        if leads && !led {
            for committed in self.committed.iter().filter(|c| c.term < view.hard_state.term) {
                self.holds(view.id, view.base.0, view.term(committed.entry.index), committed);
            }
        }
        if !news {
            return;
        }
        // Somebody learned of a commit: leaders of later terms must have had it.
        for (id, seen) in self.members.iter().filter(|(_, seen)| seen.role == Role::Leader) {
            let from = self
                .members
                .get(&view.id)
                .map_or(self.first_committed, |v| v.hard_state.commit.next());
            for index in (from.0..=view.hard_state.commit.0).map(Index) {
                let Some(committed) = self.committed_at(index) else {
                    continue;
                };
                if *id != view.id && committed.term < seen.hard_state.term {
                    let at = index.0.checked_sub(seen.base.0 + 1).map(|at| at as usize);
                    let term = at.and_then(|at| seen.log.get(at)).map(|entry| entry.term);
                    self.holds(*id, seen.base, term, committed);
                }
            }
        }
    }

    fn holds(&self, id: ReplicaId, base: Index, term: Option<Term>, committed: &Committed) {
        let index = committed.entry.index;
        // What is compacted was applied there, which is checked by its digest.
        if index > base {
            assert_eq!(
                term,
                Some(committed.entry.term),
                "leader {id} lacks {index}, committed in term {}",
                committed.term
            );
        }
    }

    /// "If a server has applied a log entry at a given index to its state machine, no other server will ever apply a
    /// different log entry for the same index."
    pub(crate) fn applied(&self, id: ReplicaId, entry: &Entry) {
        match self.committed_at(entry.index) {
            Some(known) => assert_eq!(
                entry, &known.entry,
                "member {id} applies something else at {}",
                entry.index
            ),
            None => panic!("member {id} applies {}, which nobody committed", entry.index),
        }
    }

    /// The state machine of `id` at `index` is `digest`, by entries or by a snapshot.
    pub(crate) fn state(&mut self, id: ReplicaId, index: Index, digest: u64) {
        let known = *self.states.entry(index).or_insert(digest);
        assert_eq!(
            digest, known,
            "the state of member {id} at {index} is not that of others"
        );
    }

    fn remember(&mut self, view: &View<'_>) {
        let seen = self.members.entry(view.id).or_insert_with(|| Seen {
            role: Role::Follower,
            hard_state: HardState::default(),
            base: Index(0),
            log: Vec::new(),
        });
        seen.role = view.role;
        seen.hard_state = view.hard_state;
        seen.base = view.base.0;
        seen.log.clear();
        seen.log.extend_from_slice(view.log);
    }
}

/// Each property, broken by hand.
#[cfg(test)]
mod tests {
    use quorate_raft::Payload;

    use super::*;

    fn entry(index: u64, term: u64, text: &'static str) -> Entry {
        Entry {
            term: Term(term),
            index: Index(index),
            payload: Payload::Normal(text.into()),
        }
    }

    fn view(id: u64, role: Role, term: u64, commit: u64, log: &[Entry]) -> View<'_> {
        View {
            id: ReplicaId(id),
            role,
            hard_state: HardState {
                term: Term(term),
                vote: None,
                commit: Index(commit),
            },
            base: (Index(0), Term(0)),
            log,
        }
    }

    fn caught(what: &str, test: impl FnOnce(&mut Properties) + std::panic::UnwindSafe) {
        let found = std::panic::catch_unwind(|| test(&mut Properties::new(Index(0))));
        let found = found.expect_err("nothing was found");
        let found = found.downcast_ref::<String>().expect("a text");
        assert!(found.contains(what), "{found:?} does not say {what:?}");
    }

    #[test]
    fn election_safety_is_checked() {
        caught("two leaders in term 3", |p| {
            p.check(&view(1, Role::Leader, 3, 0, &[]));
            p.check(&view(2, Role::Leader, 3, 0, &[]));
        });
    }

    #[test]
    fn votes_are_checked() {
        caught("votes for 2 and for 3 in term 4", |p| {
            p.voted(ReplicaId(1), Term(4), ReplicaId(2));
            p.stopped(ReplicaId(1));
            p.voted(ReplicaId(1), Term(4), ReplicaId(3));
        });
    }

    #[test]
    fn leader_append_only_is_checked() {
        caught("changed its own log", |p| {
            p.check(&view(1, Role::Leader, 1, 0, &[entry(1, 1, "a")]));
            p.check(&view(1, Role::Leader, 1, 0, &[]));
        });
    }

    #[test]
    fn log_matching_is_checked() {
        caught("another entry at 1 of term 1", |p| {
            p.check(&view(1, Role::Follower, 1, 0, &[entry(1, 1, "a")]));
            p.check(&view(2, Role::Follower, 1, 0, &[entry(1, 1, "b")]));
        });
        caught("another entry at 2 of term 3, or after another", |p| {
            p.check(&view(
                1,
                Role::Follower,
                3,
                0,
                &[entry(1, 1, "a"), entry(2, 3, "c")],
            ));
            p.check(&view(
                2,
                Role::Follower,
                3,
                0,
                &[entry(1, 2, "b"), entry(2, 3, "c")],
            ));
        });
        caught("has a gap", |p| {
            p.check(&view(
                1,
                Role::Follower,
                1,
                0,
                &[entry(1, 1, "a"), entry(3, 1, "c")],
            ));
        });
    }

    #[test]
    fn leader_completeness_is_checked_at_elections_and_at_commits() {
        caught("leader 2 lacks 1, committed in term 1", |p| {
            p.check(&view(1, Role::Leader, 1, 1, &[entry(1, 1, "a")]));
            p.check(&view(2, Role::Leader, 2, 0, &[]));
        });
        caught("leader 2 lacks 1, committed in term 1", |p| {
            p.check(&view(2, Role::Leader, 2, 0, &[]));
            p.check(&view(1, Role::Leader, 1, 1, &[entry(1, 1, "a")]));
        });
    }

    #[test]
    fn state_machine_safety_is_checked() {
        caught("others of term 1", |p| {
            p.check(&view(1, Role::Leader, 1, 1, &[entry(1, 1, "a")]));
            p.check(&view(2, Role::Follower, 2, 1, &[entry(1, 2, "b")]));
        });
        caught("applies something else at 1", |p| {
            p.check(&view(1, Role::Leader, 1, 1, &[entry(1, 1, "a")]));
            p.applied(ReplicaId(2), &entry(1, 1, "b"));
        });
        caught("which nobody committed", |p| {
            p.check(&view(1, Role::Leader, 1, 0, &[entry(1, 1, "a")]));
            p.applied(ReplicaId(1), &entry(1, 1, "a"));
        });
        caught("the state of member 2 at 1", |p| {
            p.state(ReplicaId(1), Index(1), 7);
            p.state(ReplicaId(2), Index(1), 8);
        });
    }

    #[test]
    fn terms_and_commit_indexes_are_checked() {
        caught("the term of 1 fell", |p| {
            p.check(&view(1, Role::Follower, 2, 0, &[]));
            p.check(&view(1, Role::Follower, 1, 0, &[]));
        });
        caught("the commit index of 1 fell", |p| {
            p.check(&view(1, Role::Follower, 1, 1, &[entry(1, 1, "a")]));
            p.check(&view(1, Role::Follower, 1, 0, &[entry(1, 1, "a")]));
        });
    }
}
