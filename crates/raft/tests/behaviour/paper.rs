//! One test a sentence of the Raft paper (Ongaro and Ousterhout, "In Search of an Understandable Consensus
//! Algorithm", extended version).

use std::collections::BTreeSet;

use quorate_raft::{HardState, Index, Message, MessageBody, RejectHint, ReplicaId, Role, Term};

use crate::net::{
    ELECTION_TICKS, Net, Node, accepted, append, config, elect, entry, hard_state, member, propose, settle,
    step, terms, text, vote, with_log,
};

fn in_role(role: Role) -> Node {
    let mut node = member(3);
    match role {
        Role::Leader => drop(elect(&mut node, 3)),
        Role::Candidate => {
            node.campaign().expect("campaign");
            settle(&mut node);
        }
        Role::Follower | Role::PreCandidate => {}
    }
    node
}

/// §5.1: "If one server's current term is smaller than the other's, then it updates its current term to the
/// larger value. If a candidate or leader discovers that its term is out of date, it immediately reverts to
/// follower state."
fn adopts_a_higher_term(role: Role) {
    let mut node = in_role(role);
    assert_eq!(node.role(), role);
    step(&mut node, 2, 5, append(0, 0, 0, vec![]));
    assert_eq!((node.term(), node.role()), (Term(5), Role::Follower));
}

#[test]
fn tp_01_follower_adopts_a_higher_term() {
    adopts_a_higher_term(Role::Follower);
}

#[test]
fn tp_02_candidate_adopts_a_higher_term() {
    adopts_a_higher_term(Role::Candidate);
}

#[test]
fn tp_03_leader_adopts_a_higher_term() {
    adopts_a_higher_term(Role::Leader);
}

/// §5.1: "If a server receives a request with a stale term number, it rejects the request."
#[test]
fn requests_of_a_stale_term_change_nothing() {
    let mut node = with_log(config(1), 3, &[], hard_state(4, 0));
    step(&mut node, 2, 3, append(0, 0, 1, vec![entry(1, 3)]));
    step(&mut node, 3, 3, vote(9, 3));
    settle(&mut node);
    assert_eq!(
        (node.last_index(), node.commit(), node.vote()),
        (Index(0), Index(0), None)
    );
}

/// §5.2: "When servers start up, they begin as followers."
#[test]
fn tp_04_start_as_follower() {
    assert_eq!(member(3).role(), Role::Follower);
}

/// §5.2: "Leaders send periodic heartbeats (AppendEntries RPCs that carry no log entries) to all followers".
#[test]
fn tp_05_leader_broadcasts_heartbeats() {
    for interval in [1, 3] {
        let mut settings = config(1);
        settings.heartbeat_ticks = interval;
        let mut node = with_log(settings, 3, &[], HardState::default());
        elect(&mut node, 3);
        propose(&mut node, "stored, and not in a heartbeat");
        settle(&mut node);
        // A heartbeat has no place for entries or positions; its commit index is what the member has.
        let expected = [2, 3].map(|to| Message {
            from: ReplicaId(1),
            to: ReplicaId(to),
            term: Term(1),
            body: crate::net::heartbeat(0),
        });
        for tick in 1..=9 {
            node.tick().expect("tick");
            let sent = settle(&mut node).messages;
            if tick % interval == 0 {
                assert_eq!(sent, expected, "tick {tick}");
            } else {
                assert_eq!(sent, [], "tick {tick}");
            }
        }
    }
}

/// §5.2: "To begin an election, a follower increments its current term and transitions to candidate state. It
/// then votes for itself and issues RequestVote RPCs in parallel to each of the other servers"; a candidate
/// whose election times out does the same again.
fn starts_an_election_within_two_timeouts(role: Role) {
    let mut node = in_role(role);
    let term = node.term().0 + 1;
    for _ in 1..2 * ELECTION_TICKS {
        node.tick().expect("tick");
    }
    let sent = settle(&mut node).messages;
    let expected = (term, Role::Candidate, Some(ReplicaId(1)));
    assert_eq!((node.term().0, node.role(), node.vote()), expected);
    // Who does not answer is asked again; a candidate did so before this election as well.
    assert!(sent.iter().all(|message| message.body == vote(0, 0)), "{sent:?}");
    let mut asked: Vec<_> = sent
        .iter()
        .map(|message| (message.term.0, message.to.0))
        .collect();
    asked.retain(|(in_term, _)| *in_term >= term);
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked, [(term, 2), (term, 3)]);
}

#[test]
fn tp_06_follower_starts_an_election() {
    starts_an_election_within_two_timeouts(Role::Follower);
}

#[test]
fn tp_07_candidate_starts_a_new_election() {
    starts_an_election_within_two_timeouts(Role::Candidate);
}

/// §5.2: "A candidate wins an election if it receives votes from a majority of the servers in the full cluster
/// for the same term."
#[test]
fn tp_08_a_majority_elects() {
    /// Who answered what.
    type Votes = &'static [(u64, bool)];
    let cases: [(u64, Votes, Role); 13] = [
        (1, &[], Role::Leader),
        (3, &[(2, true), (3, true)], Role::Leader),
        (3, &[(2, true)], Role::Leader),
        (5, &[(2, true), (3, true), (4, true), (5, true)], Role::Leader),
        (5, &[(2, true), (3, true), (4, true)], Role::Leader),
        (5, &[(2, true), (3, true)], Role::Leader),
        (3, &[(2, false), (3, false)], Role::Follower),
        (
            5,
            &[(2, false), (3, false), (4, false), (5, false)],
            Role::Follower,
        ),
        (
            5,
            &[(2, true), (3, false), (4, false), (5, false)],
            Role::Follower,
        ),
        (3, &[], Role::Candidate),
        (5, &[(2, true)], Role::Candidate),
        (5, &[(2, false), (3, false)], Role::Candidate),
        (5, &[(2, true), (2, true), (2, true)], Role::Candidate),
    ];
    for (size, votes, expected) in cases {
        let mut node = member(size);
        node.campaign().expect("campaign");
        settle(&mut node);
        for (voter, granted) in votes {
            step(
                &mut node,
                *voter,
                1,
                MessageBody::VoteResponse { reject: !granted },
            );
        }
        assert_eq!(
            (node.role(), node.term()),
            (expected, Term(1)),
            "{size} members, votes {votes:?}"
        );
    }
}

/// §5.2: "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis".
#[test]
fn tp_09_one_vote_per_term() {
    for (voted, candidate, granted) in [
        (None, 2, true),
        (None, 3, true),
        (Some(2), 2, true),
        (Some(3), 3, true),
        (Some(2), 3, false),
        (Some(3), 2, false),
    ] {
        let prior = HardState {
            vote: voted.map(ReplicaId),
            ..hard_state(1, 0)
        };
        let mut node = with_log(config(1), 3, &[], prior);
        step(&mut node, candidate, 1, vote(0, 0));
        let answer = settle(&mut node).messages.pop().expect("an answer");
        assert_eq!(
            answer.body,
            MessageBody::VoteResponse { reject: !granted },
            "{voted:?}, asked by {candidate}"
        );
    }
}

/// §5.2: a candidate that hears of a leader of a term "at least as large as the candidate's current term"
/// "recognizes the leader as legitimate and returns to follower state".
#[test]
fn tp_10_candidate_falls_back() {
    for term in [1, 2] {
        let mut node = in_role(Role::Candidate);
        step(&mut node, 2, term, append(0, 0, 0, vec![]));
        assert_eq!(
            (node.role(), node.term(), node.leader()),
            (Role::Follower, Term(term), Some(ReplicaId(2)))
        );
    }
}

/// How many ticks pass until the term rises.
fn ticks_to_campaign(node: &mut Node) -> u32 {
    let term = node.term();
    (1..=4 * ELECTION_TICKS)
        .find(|_| {
            node.tick().expect("tick");
            settle(node);
            node.term() > term
        })
        .expect("an election starts")
}

/// §5.2: "Raft uses randomized election timeouts".
fn every_timeout_occurs(role: Role) {
    let mut node = in_role(role);
    let mut seen = BTreeSet::new();
    for _ in 0..500 {
        if role == Role::Follower {
            let term = node.term().0 + 1;
            step(&mut node, 2, term, append(0, 0, 0, vec![]));
            settle(&mut node);
        }
        assert_eq!(node.role(), role);
        seen.insert(ticks_to_campaign(&mut node));
    }
    let all: BTreeSet<u32> = (ELECTION_TICKS..2 * ELECTION_TICKS).collect();
    assert_eq!(seen, all);
}

#[test]
fn tp_11_follower_election_timeouts_are_randomized() {
    every_timeout_occurs(Role::Follower);
}

#[test]
fn tp_12_candidate_election_timeouts_are_randomized() {
    every_timeout_occurs(Role::Candidate);
}

/// §5.2: randomized timeouts "spread out the servers so that in most cases only a single server will time out".
fn simultaneous_timeouts_are_rare(role: Role) {
    let mut nodes: Vec<Node> = (1..=5)
        .map(|id| with_log(config(id), 5, &[], HardState::default()))
        .collect();
    let mut conflicts = 0;
    for round in 1..=1000_u64 {
        let mut first = (u32::MAX, 0);
        for node in &mut nodes {
            match role {
                // A new leader sets everybody's timer anew.
                Role::Follower => step(node, 9, round * 3, append(0, 0, 0, vec![])),
                _ => node.campaign().expect("campaign"),
            }
            settle(node);
            let ticks = ticks_to_campaign(node);
            match ticks.cmp(&first.0) {
                std::cmp::Ordering::Less => first = (ticks, 1),
                std::cmp::Ordering::Equal => first.1 += 1,
                std::cmp::Ordering::Greater => {}
            }
        }
        conflicts += u32::from(first.1 > 1);
    }
    assert!(
        conflicts <= 300,
        "{conflicts} of 1000 rounds have several first {role:?}s"
    );
}

#[test]
fn tp_13_simultaneous_follower_timeouts_are_rare() {
    simultaneous_timeouts_are_rare(Role::Follower);
}

#[test]
fn tp_14_simultaneous_candidate_timeouts_are_rare() {
    simultaneous_timeouts_are_rare(Role::Candidate);
}

/// §5.3: "The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel
/// to each of the other servers to replicate the entry", including "the index and term of the entry in its log
/// that immediately precedes the new entries".
#[test]
fn tp_15_leader_starts_replication() {
    let mut net = Net::new(3);
    net.campaign(1);
    let node = net.node(1);
    propose(node, "some data");
    let ready = node.ready().expect("memory");
    assert_eq!(ready.apply, None, "nothing new is committed");
    let work = ready.append.expect("the entry is not stable yet");
    assert_eq!((work.entries.len(), work.entries[0].index), (1, Index(2)));
    let expected = [2, 3].map(|to| Message {
        from: ReplicaId(1),
        to: ReplicaId(to),
        term: Term(1),
        body: append(1, 1, 1, work.entries.clone()),
    });
    assert_eq!(ready.send_now, expected, "before the leader's own disk has it");
}

/// §5.3: "When the entry has been safely replicated, the leader applies the entry to its state machine"; it
/// "keeps track of the highest index it knows to be committed, and it includes that index in future
/// AppendEntries RPCs".
#[test]
fn tp_16_leader_commits_and_announces() {
    let mut net = Net::new(3);
    net.campaign(1);
    let node = net.node(1);
    propose(node, "x");
    settle(node);
    step(node, 2, 1, accepted(2));
    let done = settle(node);
    assert_eq!((node.commit(), done.applied.len()), (Index(2), 1));
    for message in &done.messages {
        assert!(
            matches!(message.body, MessageBody::Append { commit: Index(2), .. }),
            "{message:?}"
        );
    }
    assert_eq!(done.messages.len(), 2);
}

/// §5.3: "A log entry is committed once the leader that created the entry has replicated it on a majority".
#[test]
fn tp_17_leader_acknowledges_commit() {
    let cases: [(u64, &[u64], bool); 9] = [
        (1, &[], true),
        (3, &[], false),
        (3, &[2], true),
        (3, &[2, 3], true),
        (5, &[], false),
        (5, &[2], false),
        (5, &[2, 3], true),
        (5, &[2, 3, 4], true),
        (5, &[2, 3, 4, 5], true),
    ];
    for (size, acks, committed) in cases {
        let mut net = Net::new(size);
        net.campaign(1);
        let node = net.node(1);
        propose(node, "x");
        settle(node);
        for peer in acks {
            step(node, *peer, 1, accepted(2));
        }
        assert_eq!(
            node.commit() == Index(2),
            committed,
            "{size} members, acknowledged by {acks:?}"
        );
    }
}

/// §5.3: committing "also commits all preceding entries in the leader's log, including entries created by
/// previous leaders".
#[test]
fn tp_18_leader_commits_preceding_entries() {
    for old in [&[][..], &[2], &[1, 2], &[1]] {
        let mut node = with_log(config(1), 3, old, hard_state(2, 0));
        elect(&mut node, 3);
        propose(&mut node, "new");
        settle(&mut node);
        let last = node.last_index();
        step(&mut node, 2, 3, accepted(last.0));
        let applied: Vec<(u64, u64, String)> = settle(&mut node)
            .applied
            .iter()
            .map(|e| (e.index.0, e.term.0, text(e)))
            .collect();
        let mut expected: Vec<_> = (1..)
            .zip(old)
            .map(|(index, term)| (index, *term, String::new()))
            .collect();
        expected.push((last.0 - 1, 3, String::new()));
        expected.push((last.0, 3, "new".to_owned()));
        assert_eq!(applied, expected, "after {old:?}");
    }
}

/// §5.3: "Once a follower learns that a log entry is committed, it applies the entry to its local state machine
/// (in log order)."
#[test]
fn tp_19_follower_applies_the_committed_prefix() {
    for (count, commit) in [(1, 1), (2, 2), (2, 1), (3, 2)] {
        let mut node = member(3);
        let entries: Vec<_> = (1..=count).map(|index| entry(index, 1)).collect();
        step(&mut node, 2, 1, append(0, 0, commit, entries.clone()));
        let applied = settle(&mut node).applied;
        assert_eq!(applied, entries[..commit as usize]);
    }
}

/// §5.3: "If the follower does not find an entry in its log with the same index and term, then it refuses the
/// new entries."
#[test]
fn tp_20_follower_checks_the_previous_entry() {
    let cases = [
        (0, 0, None),
        (1, 1, None),
        (2, 2, None),
        (
            1,
            2,
            Some(RejectHint {
                index: Index(1),
                term: Term(1),
            }),
        ),
        (
            3,
            3,
            Some(RejectHint {
                index: Index(2),
                term: Term(2),
            }),
        ),
    ];
    for (index, term, reject) in cases {
        let mut node = with_log(config(1), 3, &[1, 2], hard_state(2, 1));
        settle(&mut node);
        step(&mut node, 2, 3, append(index, term, 0, vec![]));
        let answer = settle(&mut node).messages.pop().expect("an answer").body;
        // What is below the commit index matches; the answer says so at once.
        let index = Index(if reject.is_none() { index.max(1) } else { index });
        assert_eq!(answer, MessageBody::AppendResponse { index, reject });
    }
}

/// §5.3: "conflicting entries in follower logs will be overwritten with entries from the leader's log"; and
/// figure 2: only from the first conflict on.
#[test]
fn tp_21_follower_overwrites_conflicts_only() {
    let cases = [
        (2, 2, vec![entry(3, 3)], vec![1, 2, 3], vec![entry(3, 3)]),
        (
            1,
            1,
            vec![entry(2, 3), entry(3, 4)],
            vec![1, 3, 4],
            vec![entry(2, 3), entry(3, 4)],
        ),
        (0, 0, vec![entry(1, 1)], vec![1, 2], vec![]),
        (0, 0, vec![entry(1, 3)], vec![3], vec![entry(1, 3)]),
    ];
    for (prev, prev_term, entries, expected, written) in cases {
        let mut node = with_log(config(1), 3, &[1, 2], hard_state(2, 0));
        step(&mut node, 2, 4, append(prev, prev_term, 0, entries));
        let ready = node.ready().expect("memory");
        let work = ready.append.expect("an answer at least");
        assert_eq!(work.entries, written, "nothing is rewritten needlessly");
        node.storage_mut().append(&work.entries).expect("no gap");
        node.advance().expect("advance");
        assert_eq!(terms(&node), expected);
    }
}

/// §5.3, figure 7: the leader brings each of the followers (a) to (f) to its own log.
#[test]
fn tp_22_leader_syncs_follower_logs() {
    let leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for log in followers {
        for gather in [false, true] {
            let adjusted = |id| {
                let mut config = config(id);
                config.gather_appends = gather;
                config
            };
            // The third member votes for the leader where this follower would not.
            let mut net = Net::of([
                with_log(adjusted(1), 3, &leader, hard_state(8, 10)),
                with_log(adjusted(2), 3, log, hard_state(7, 0)),
                with_log(adjusted(3), 3, &[], hard_state(7, 0)),
            ]);
            net.campaign(1);
            net.propose(1, "x");
            net.tick(1, 1);
            assert_eq!(net.role(1), Role::Leader);
            net.assert_equal_logs();
        }
    }
}

/// §5.4.1: "The RequestVote RPC [...] includes information about the candidate's log".
#[test]
fn tp_23_vote_request_carries_the_log_position() {
    for (log, last, last_term) in [(&[1][..], 1, 1), (&[1, 2], 2, 2)] {
        let mut node = with_log(config(1), 3, log, hard_state(2, 0));
        node.campaign().expect("campaign");
        let sent = settle(&mut node).messages;
        let asked: Vec<_> = sent
            .iter()
            .map(|message| (message.to.0, message.body.clone()))
            .collect();
        assert_eq!(asked, [(2, vote(last, last_term)), (3, vote(last, last_term))]);
    }
}

/// §5.4.1: "If the logs have last entries with different terms, then the log with the later term is more
/// up-to-date. If the logs end with the same term, then whichever log is longer is more up-to-date."
#[test]
fn tp_24_voter_compares_logs() {
    let cases: [(&[u64], u64, u64, bool); 9] = [
        (&[1], 1, 1, true),
        (&[1], 2, 1, true),
        (&[1, 1], 1, 1, false),
        (&[1], 1, 2, true),
        (&[1], 2, 2, true),
        (&[1, 1], 1, 2, true),
        (&[2], 1, 1, false),
        (&[2], 2, 1, false),
        (&[2, 1], 1, 1, false),
    ];
    for (log, index, term, granted) in cases {
        let mut node = with_log(config(1), 2, log, hard_state(2, 0));
        step(&mut node, 2, 3, vote(index, term));
        let answer = settle(&mut node).messages.pop().expect("an answer").body;
        assert_eq!(
            answer,
            MessageBody::VoteResponse { reject: !granted },
            "{log:?} against ({index}, {term})"
        );
    }
}

/// §5.4.2: "Raft never commits log entries from previous terms by counting replicas. Only log entries from the
/// leader's current term are committed by counting replicas".
#[test]
fn tp_25_leader_commits_only_its_own_term_by_counting() {
    // The old log is (1, 1), (2, 2); the leader's own entry is (3, 3).
    for (acknowledged, commit) in [(1, 0), (2, 0), (3, 3)] {
        let mut node = with_log(config(1), 2, &[1, 2], hard_state(2, 0));
        elect(&mut node, 2);
        step(&mut node, 2, 3, accepted(acknowledged));
        assert_eq!(node.commit(), Index(commit), "acknowledged up to {acknowledged}");
    }
}

/// §5.2 and figure 2: votes and terms are durable before they are answered.
#[test]
fn answers_wait_for_the_disk() {
    let mut node = member(3);
    step(&mut node, 2, 1, vote(0, 0));
    let ready = node.ready().expect("memory");
    assert!(ready.send_now.is_empty(), "{:?}", ready.send_now);
    let work = ready.append.expect("a vote to store");
    assert!(work.must_sync);
    assert_eq!(work.hard_state.and_then(|state| state.vote), Some(ReplicaId(2)));
    assert_eq!(
        work.responses[0].body,
        MessageBody::VoteResponse { reject: false }
    );
}
