//! Leases (rules L): when a leader may answer reads alone, and when a replica must refuse its vote.
//!
//! The core's tick-based lease is not used: it cannot see when a round was sent. Here every message of a
//! leader carries its monotonic send time, followers echo the newest that they heard, and the lease counts
//! from the send time that a quorum echoed (L1). A follower that echoed it heard the leader later than
//! that, so it refuses votes at least until the lease has ended (L2).

use std::collections::BTreeMap;

use quorate_raft::{ReplicaId, Term, mutant};

/// A replica's lease bookkeeping, as leader and as follower.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    /// As leader: the term that `echoes` belongs to.
    term: Term,
    /// As leader: the newest send time that each follower echoed.
    echoes: BTreeMap<ReplicaId, u64>,
    /// As leader: the newest send time that a quorum echoed.
    quorum_sent_us: Option<u64>,
    /// No lease for the rest of this term: a TimeoutNow was sent (L3).
    off_in: Option<Term>,
    /// As follower: leader's term, its newest send time heard, and when it was heard by our clock.
    heard: Option<Heard>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    term: Term,
    sent_us: u64,
    at_us: u64,
}

impl Lease {
    /// A follower heard the leader of `term`.
    pub(crate) fn hear(&mut self, term: Term, sent_us: u64, now_us: u64) {
        let sent_us = match self.heard {
            Some(heard) if heard.term == term || mutant!("echo-of-another-leaders-clock") => {
                heard.sent_us.max(sent_us)
            }
            _ => sent_us,
        };
        self.heard = Some(Heard {
            term,
            sent_us,
            at_us: now_us,
        });
    }

    /// What a follower's response in `term` echoes.
    pub(crate) fn echo(&self, term: Term) -> u64 {
        self.heard
            .filter(|heard| heard.term == term)
            .map_or(0, |heard| heard.sent_us)
    }

    /// When the leader was last heard by our clock.
    pub(crate) fn heard_at_us(&self) -> Option<u64> {
        self.heard.map(|heard| heard.at_us)
    }

    /// Whether a vote must be refused now (L2).
    pub(crate) fn refuses_votes(&self, started_us: u64, timeout_us: u64, now_us: u64) -> bool {
        let heard = self.heard.map_or(0, |heard| heard.at_us);
        if mutant!("votes-inside-a-lease-after-a-restart") {
            return now_us < heard.saturating_add(timeout_us);
        }
        now_us < heard.max(started_us).saturating_add(timeout_us)
    }

    /// A leader got an echo in its current term.
    pub(crate) fn echoed(
        &mut self,
        term: Term,
        from: ReplicaId,
        own: ReplicaId,
        sent_us: u64,
        is_quorum: impl Fn(&dyn Fn(ReplicaId) -> bool) -> bool,
    ) {
        if sent_us == 0 {
            return;
        }
        if self.term != term {
            self.term = term;
            self.echoes.clear();
            self.quorum_sent_us = None;
        }
        let newest = self.echoes.entry(from).or_default();
        if sent_us <= *newest {
            return;
        }
        *newest = sent_us;
        // The newest time that a quorum reached is one of the echoed ones; try them from the newest down.
        let mut times: Vec<u64> = self.echoes.values().copied().collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let echoes = &self.echoes;
        self.quorum_sent_us = times.into_iter().find(|time| {
            mutant!("lease-by-the-newest-echo")
                || is_quorum(&|replica| {
                    replica == own || echoes.get(&replica).is_some_and(|echo| echo >= time)
                })
        });
    }

    /// No lease for the rest of `term` (L3).
    pub(crate) fn switch_off(&mut self, term: Term) {
        if !mutant!("lease-after-timeout-now") {
            self.off_in = Some(term);
        }
    }

    /// Whether it may be used after its leader stepped down: never, unless a mutant says so.
    pub(crate) fn outlives_leadership(&self, lease_us: u64, now_us: u64) -> bool {
        mutant!("lease-kept-after-stepping-down")
            && self
                .quorum_sent_us
                .is_some_and(|sent| now_us < sent.saturating_add(lease_us))
    }

    /// Whether the leader of `term` may answer reads alone now (L1, L3).
    pub(crate) fn holds(&self, term: Term, lease_us: u64, now_us: u64) -> bool {
        self.term == term
            && self.off_in != Some(term)
            && self
                .quorum_sent_us
                .is_some_and(|sent| now_us < sent.saturating_add(lease_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: ReplicaId = ReplicaId(1);
    const LEASE: u64 = 1000;

    fn of_three(acked: &dyn Fn(ReplicaId) -> bool) -> bool {
        [1, 2, 3].into_iter().filter(|id| acked(ReplicaId(*id))).count() >= 2
    }

    fn of_joint(acked: &dyn Fn(ReplicaId) -> bool) -> bool {
        of_three(acked) && [4, 5, 6].into_iter().filter(|id| acked(ReplicaId(*id))).count() >= 2
    }

    #[test]
    fn l1_counts_from_the_send_time_that_a_quorum_echoed() {
        let mut lease = Lease::default();
        assert!(!lease.holds(Term(2), LEASE, 1), "nothing echoed yet");
        lease.echoed(Term(2), ReplicaId(2), ME, 100, of_three);
        assert!(lease.holds(Term(2), LEASE, 1099));
        assert!(!lease.holds(Term(2), LEASE, 1100));
        lease.echoed(Term(2), ReplicaId(3), ME, 50, of_three);
        assert!(
            lease.holds(Term(2), LEASE, 1099),
            "an older echo takes nothing away"
        );
        assert!(
            !lease.holds(Term(3), LEASE, 200),
            "echoes of another term count for nothing"
        );
    }

    #[test]
    fn l1_needs_both_halves_when_joint() {
        let mut lease = Lease::default();
        lease.echoed(Term(2), ReplicaId(2), ME, 100, of_joint);
        assert!(!lease.holds(Term(2), LEASE, 150));
        lease.echoed(Term(2), ReplicaId(4), ME, 100, of_joint);
        lease.echoed(Term(2), ReplicaId(5), ME, 80, of_joint);
        assert!(lease.holds(Term(2), LEASE, 1079));
        assert!(!lease.holds(Term(2), LEASE, 1080));
    }

    #[test]
    fn l2_refuses_votes_after_hearing_and_after_start() {
        let mut lease = Lease::default();
        assert!(lease.refuses_votes(500, 1000, 1499), "just started");
        assert!(!lease.refuses_votes(500, 1000, 1500));
        lease.hear(Term(2), 7, 2000);
        assert!(lease.refuses_votes(500, 1000, 2999));
        assert!(!lease.refuses_votes(500, 1000, 3000));
    }

    #[test]
    fn l3_is_off_from_timeout_now_to_the_end_of_the_term() {
        let mut lease = Lease::default();
        lease.echoed(Term(2), ReplicaId(2), ME, 100, of_three);
        lease.switch_off(Term(2));
        lease.echoed(Term(2), ReplicaId(2), ME, 200, of_three);
        assert!(!lease.holds(Term(2), LEASE, 210));
        lease.echoed(Term(3), ReplicaId(2), ME, 300, of_three);
        assert!(lease.holds(Term(3), LEASE, 310));
    }

    #[test]
    fn echoes_name_the_newest_send_time_of_the_same_term() {
        let mut lease = Lease::default();
        lease.hear(Term(2), 70, 1);
        lease.hear(Term(2), 60, 2);
        assert_eq!(lease.echo(Term(2)), 70);
        assert_eq!(lease.echo(Term(3)), 0);
        lease.hear(Term(3), 10, 3);
        assert_eq!(lease.echo(Term(3)), 10);
    }
}
