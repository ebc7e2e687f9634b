//! Elections over whole clusters.

use quorate_raft::{HardState, Message, MessageBody, ReplicaId, Role, Term};

use crate::net::{
    ELECTION_TICKS, Net, append, config, elect, entry, hard_state, heartbeat, member, settle, step, terms,
    text, vote, with_log,
};

#[test]
fn tr_02_leader_election() {
    let cases: [(u64, &[u64], Role); 5] = [
        (3, &[], Role::Leader),
        (3, &[3], Role::Leader),
        (3, &[2, 3], Role::Candidate),
        (4, &[3, 4], Role::Candidate),
        (5, &[4, 5], Role::Leader),
    ];
    for (size, dead, expected) in cases {
        let mut net = Net::with_dead(size, dead);
        net.campaign(1);
        assert_eq!(net.role(1), expected, "{size} members, dead {dead:?}");
        assert_eq!(net.node(1).term(), Term(1), "{size} members, dead {dead:?}");
    }
}

#[test]
fn tr_03_leader_cycle() {
    for pre_vote in [false, true] {
        let mut net = Net::with(3, &[], |config| config.pre_vote = pre_vote);
        for (term, candidate) in (1..).zip([1, 2, 3, 1]) {
            net.campaign(candidate);
            net.assert_leader(candidate, term);
        }
    }
}

#[test]
fn tr_04_leader_election_overwrites_newer_logs() {
    // 1 won term 1 and told 2; 3 won term 2 with 4 and 5, and told nobody.
    let log = |id, terms: &[u64], term| with_log(config(id), 5, terms, hard_state(term, 0));
    let voted = HardState {
        term: Term(2),
        vote: Some(ReplicaId(3)),
        ..HardState::default()
    };
    let mut net = Net::of([
        log(1, &[1], 1),
        log(2, &[1], 1),
        log(3, &[2], 2),
        with_log(config(4), 5, &[], voted),
        with_log(config(5), 5, &[], voted),
    ]);
    // In term 2 those who voted for 3 refuse.
    net.campaign(1);
    assert_eq!((net.role(1), net.node(1).term()), (Role::Follower, Term(2)));
    // In term 3 nobody but 3 does.
    net.campaign(1);
    net.assert_leader(1, 3);
    for (id, node) in &net.nodes {
        assert_eq!(terms(node), [1, 3], "member {id}");
    }
}

#[test]
fn tr_05_vote_from_any_state() {
    for role in [Role::Follower, Role::Candidate, Role::Leader] {
        let mut node = member(3);
        match role {
            Role::Candidate => {
                node.campaign().expect("campaign");
                settle(&mut node);
            }
            Role::Leader => {
                elect(&mut node, 3);
            }
            Role::Follower | Role::PreCandidate => {}
        }
        assert_eq!(node.role(), role);
        let term = node.term().0 + 1;
        step(&mut node, 2, term, vote(42, term));
        let answers = settle(&mut node).messages;
        let granted = Message {
            from: ReplicaId(1),
            to: ReplicaId(2),
            term: Term(term),
            body: MessageBody::VoteResponse { reject: false },
        };
        assert_eq!(answers, [granted], "from {role:?}");
        assert_eq!(
            (node.role(), node.term(), node.vote()),
            (Role::Follower, Term(term), Some(ReplicaId(2)))
        );
    }
}

#[test]
fn tr_10_duelling_candidates() {
    let mut net = Net::new(3);
    net.cut(1, 3);
    net.campaign(1);
    // 3 cannot reach 1, and 2 has voted.
    net.campaign(3);
    assert_eq!((net.role(1), net.role(3)), (Role::Leader, Role::Candidate));
    net.heal();
    // 3 forces the next term, but its log lacks the leader's entry.
    net.campaign(3);
    for id in 1..=3 {
        assert_eq!(
            (net.role(id), net.node(id).term()),
            (Role::Follower, Term(2)),
            "member {id}"
        );
    }
    assert_eq!((terms(net.node(1)), terms(net.node(2))), (vec![1], vec![1]));
    assert_eq!(terms(net.node(3)), [] as [u64; 0]);
}

#[test]
fn tr_11_candidate_concedes() {
    let mut net = Net::new(3);
    net.isolate(1);
    net.campaign(1);
    net.campaign(3);
    net.heal();
    net.tick(3, 1);
    net.propose(3, "force follower");
    net.tick(3, 1);
    net.assert_leader(3, 1);
    net.assert_equal_logs();
    let log: Vec<String> = net.node(1).storage().log().iter().map(text).collect();
    assert_eq!(
        (log, net.commit(1)),
        (vec![String::new(), "force follower".to_owned()], 2)
    );
}

#[test]
fn tr_12_single_node_candidate() {
    let mut net = Net::new(1);
    net.campaign(1);
    net.assert_leader(1, 1);
}

#[test]
fn tr_16_vote_request_against_own_log() {
    // The voter's log ends at (2, 2); its term is 3.
    let cases: [(u64, u64, bool); 16] = [
        (0, 0, false),
        (0, 1, false),
        (0, 2, false),
        (0, 3, true),
        (1, 0, false),
        (1, 1, false),
        (1, 2, false),
        (1, 3, true),
        (2, 0, false),
        (2, 1, false),
        (2, 2, true),
        (2, 3, true),
        (3, 0, false),
        (3, 1, false),
        (3, 2, true),
        (3, 3, true),
    ];
    for (index, term, granted) in cases {
        let mut node = with_log(config(1), 3, &[2, 2], hard_state(3, 0));
        step(&mut node, 2, 3, vote(index, term));
        let answers = settle(&mut node).messages;
        let bodies: Vec<_> = answers.iter().map(|message| &message.body).collect();
        assert_eq!(
            bodies,
            [&MessageBody::VoteResponse { reject: !granted }],
            "candidate at ({index}, {term})"
        );
    }
}

#[test]
fn tr_16_vote_request_against_prior_vote_and_role() {
    for (voted_for, granted) in [(2, true), (3, false)] {
        let voted = HardState {
            vote: Some(ReplicaId(voted_for)),
            ..hard_state(3, 0)
        };
        let mut node = with_log(config(1), 3, &[2, 2], voted);
        step(&mut node, 2, 3, vote(3, 2));
        assert_eq!(
            settle(&mut node).messages[0].body,
            MessageBody::VoteResponse { reject: !granted }
        );
    }
    // A candidate and a leader have voted for themselves in their term.
    for leads in [false, true] {
        let mut node = with_log(config(1), 3, &[2, 2], hard_state(2, 0));
        if leads {
            elect(&mut node, 3);
        } else {
            node.campaign().expect("campaign");
            settle(&mut node);
        }
        step(&mut node, 2, 3, vote(9, 3));
        assert_eq!(
            settle(&mut node).messages[0].body,
            MessageBody::VoteResponse { reject: true }
        );
    }
}

#[test]
fn tr_17_all_roles_step_down_on_a_higher_term() {
    for role in [Role::Follower, Role::PreCandidate, Role::Candidate, Role::Leader] {
        for by_append in [false, true] {
            let mut settings = config(1);
            settings.pre_vote = role == Role::PreCandidate;
            let mut node = with_log(settings, 3, &[], HardState::default());
            match role {
                Role::Leader => drop(elect(&mut node, 3)),
                Role::Candidate | Role::PreCandidate => {
                    node.campaign().expect("campaign");
                    settle(&mut node);
                }
                Role::Follower => {}
            }
            assert_eq!(node.role(), role);
            let last = node.last_index();
            step(
                &mut node,
                2,
                3,
                if by_append {
                    append(0, 0, 0, Vec::new())
                } else {
                    vote(9, 3)
                },
            );
            assert_eq!(
                (node.role(), node.term(), node.last_index()),
                (Role::Follower, Term(3), last)
            );
            assert_eq!(node.leader(), by_append.then_some(ReplicaId(2)), "from {role:?}");
        }
    }
}

#[test]
fn tr_18_candidate_resets_term_by_heartbeat() {
    for leader_term in [1, 3] {
        let mut net = isolated_candidate(leader_term);
        net.tick(1, 1);
        net.assert_leader(1, leader_term);
    }
}

#[test]
fn tr_19_candidate_resets_term_by_append() {
    for leader_term in [1, 3] {
        let mut net = isolated_candidate(leader_term);
        net.lost = |message| matches!(message.body, MessageBody::Heartbeat { .. });
        net.propose(1, "x");
        // What the leader sends a member whose log it does not know.
        step(net.node(3), 1, leader_term, append(0, 0, 0, vec![entry(1, 1)]));
        net.run();
        net.assert_leader(1, leader_term);
    }
}

/// 1 leads `term`, 1 or 3; 3 could not hear it, became a candidate of term 1, and is back.
fn isolated_candidate(term: u64) -> Net {
    let mut net = Net::new(3);
    net.isolate(3);
    net.campaign(1);
    if term == 3 {
        net.campaign(2);
        net.campaign(1);
    }
    net.campaign(3);
    assert_eq!((net.role(3), net.node(3).term()), (Role::Candidate, Term(1)));
    assert_eq!((net.role(1), net.node(1).term()), (Role::Leader, Term(term)));
    net.heal();
    net
}

#[test]
fn tr_20_disruptive_follower() {
    let mut net = Net::with(3, &[], |config| config.check_quorum = true);
    net.campaign(1);
    // 3 times out although the leader lives: without pre-vote it raises its term.
    net.node(3).set_randomized_election_ticks(ELECTION_TICKS);
    net.cut(1, 3);
    net.cut(2, 3);
    net.tick(3, ELECTION_TICKS);
    assert_eq!((net.role(3), net.node(3).term()), (Role::Candidate, Term(2)));
    net.heal();
    // The leader's heartbeat is answered with the higher term, and it gives way.
    step(net.node(3), 1, 1, heartbeat(0));
    net.run();
    assert_eq!((net.role(1), net.node(1).term()), (Role::Follower, Term(2)));
}

/// Raft paper §5.1: "Servers retry RPCs if they do not receive a response in a timely manner".
#[test]
fn a_candidate_asks_those_again_who_have_not_answered() {
    for pre_vote in [false, true] {
        let mut net = Net::with(5, &[5], |config| {
            config.pre_vote = pre_vote;
            config.heartbeat_ticks = 2;
        });
        net.cut(1, 3);
        net.cut(1, 4);
        net.campaign(1);
        let role = if pre_vote {
            Role::PreCandidate
        } else {
            Role::Candidate
        };
        assert_eq!(net.role(1), role, "two of five are too few");
        let term = net.node(1).term();
        net.heal();
        net.node(1).tick().expect("tick");
        assert_eq!(settle(net.node(1)).messages, []);
        net.node(1).tick().expect("tick");
        let asked: Vec<_> = settle(net.node(1)).messages;
        let of: Vec<_> = asked.iter().map(|message| message.to.0).collect();
        assert_eq!(of, [3, 4, 5], "2 has answered, and its own vote is given");
        for _ in 0..2 {
            net.node(1).tick().expect("tick");
        }
        net.run();
        let elected = (Role::Leader, if pre_vote { term.next() } else { term });
        assert_eq!(
            (net.role(1), net.node(1).term()),
            elected,
            "without another timeout"
        );
    }
}

#[test]
fn tr_22_only_a_leader_beats() {
    let sent_by_a_tick = |node: &mut crate::net::Node| {
        settle(node);
        node.tick().expect("tick");
        settle(node).messages
    };
    let bodies = |sent: &[Message]| -> Vec<_> {
        let of = sent.iter().map(|message| (message.to.0, message.body.clone()));
        of.collect()
    };
    let mut follower = member(3);
    assert_eq!(sent_by_a_tick(&mut follower), []);
    let mut candidate = member(3);
    candidate.campaign().expect("campaign");
    assert_eq!(
        bodies(&sent_by_a_tick(&mut candidate)),
        [(2, vote(0, 0)), (3, vote(0, 0))]
    );
    let mut leader = member(3);
    elect(&mut leader, 3);
    let sent = sent_by_a_tick(&mut leader);
    assert_eq!(bodies(&sent), [(2, heartbeat(0)), (3, heartbeat(0))]);
}

#[test]
fn tr_32_campaign_while_leader_changes_nothing() {
    for pre_vote in [false, true] {
        let mut net = Net::with(3, &[], |config| config.pre_vote = pre_vote);
        net.campaign(1);
        net.campaign(1);
        net.assert_leader(1, 1);
    }
}

#[test]
fn tr_45_split_vote() {
    let started = |id| with_log(config(id), 3, &[], hard_state(1, 0));
    let mut net = Net::of((1..=3).map(started));
    net.campaign(1);
    net.assert_leader(1, 2);
    net.isolate(1);
    net.node(2).campaign().expect("campaign");
    net.node(3).campaign().expect("campaign");
    net.run();
    for id in [2, 3] {
        let expected = (Role::Candidate, Term(3));
        assert_eq!((net.role(id), net.node(id).term()), expected, "member {id}");
    }
    net.campaign(2);
    assert_eq!((net.role(2), net.role(3)), (Role::Leader, Role::Follower));
    assert_eq!((net.node(2).term(), net.node(3).term()), (Term(4), Term(4)));
}

/// A removed member's answer must not depose the leader by its term.
#[test]
fn an_answer_of_a_stranger_is_ignored_whatever_its_term() {
    let mut node = member(3);
    elect(&mut node, 3);
    step(&mut node, 9, 7, MessageBody::HeartbeatResponse { context: None });
    step(&mut node, 9, 7, crate::net::accepted(0));
    assert_eq!((node.role(), node.term()), (Role::Leader, Term(1)));
}

/// Ticks until each of two members campaigns, after its leader fell silent.
fn silent_ticks(priority: u8, seed: u64) -> u32 {
    let mut settings = config(1);
    (settings.priority, settings.seed, settings.pre_vote) = (priority, seed, true);
    let mut node = with_log(settings, 3, &[], HardState::default());
    step(&mut node, 2, 1, heartbeat(0));
    settle(&mut node);
    (1..=5 * ELECTION_TICKS)
        .find(|_| {
            node.tick().expect("tick");
            node.role() == Role::PreCandidate
        })
        .expect("everybody campaigns at last")
}

#[test]
fn a_later_priority_campaigns_in_a_later_window() {
    for seed in 0..100 {
        for priority in 0..3 {
            let first = ELECTION_TICKS * (u32::from(priority) + 1);
            let ticks = silent_ticks(priority, seed);
            assert!(
                (first..first + ELECTION_TICKS).contains(&ticks),
                "{ticks} of priority {priority}"
            );
        }
    }
}

#[test]
fn an_earlier_priority_wins_when_the_leader_is_lost() {
    for seed in 0..50 {
        let mut net = Net::with(4, &[], |config| {
            (config.pre_vote, config.seed) = (true, seed * 10 + config.id.0);
            config.priority = if config.id == ReplicaId(3) { 0 } else { 1 };
        });
        net.campaign(1);
        net.isolate(1);
        for _ in 0..2 * ELECTION_TICKS {
            for id in 2..=4 {
                net.tick(id, 1);
            }
        }
        assert_eq!(net.role(3), Role::Leader, "seed {seed}");
    }
}

/// A member that goes first but whose log is too short raised the term again and again, and each time took the timer
/// of the only one that could win back to its start: nobody ever led. What a member has waited counts now.
#[test]
fn an_earlier_priority_that_cannot_win_does_not_keep_others_from_leading() {
    for pre_vote in [false, true] {
        let started = |id: u64, terms: &[u64]| {
            let mut settings = config(id);
            (settings.pre_vote, settings.priority) = (pre_vote, if id == 1 { 0 } else { 2 });
            with_log(settings, 3, terms, hard_state(1, 0))
        };
        let mut net = Net::of([started(1, &[]), started(2, &[1]), started(3, &[1])]);
        for _ in 0..20 * ELECTION_TICKS {
            for id in 1..=3 {
                net.tick(id, 1);
            }
        }
        let leads = [1, 2, 3].map(|id| net.role(id) == Role::Leader);
        assert!(leads[1] || leads[2], "pre-vote {pre_vote}: {leads:?}");
    }
}

/// The thesis §6.4.1 and §3.10: whoever hears a leader helps nobody to depose it, unless the leader asks.
#[test]
fn votes_are_refused_while_a_leader_is_heard_except_for_a_transfer() {
    let follower = || {
        let mut settings = config(1);
        settings.check_quorum = true;
        let mut node = with_log(settings, 3, &[], HardState::default());
        step(&mut node, 2, 1, heartbeat(0));
        settle(&mut node);
        node
    };
    let request = |transfer| MessageBody::Vote {
        last_index: quorate_raft::Index(9),
        last_term: Term(1),
        transfer,
    };
    let mut node = follower();
    step(&mut node, 3, 2, request(false));
    assert_eq!((settle(&mut node).messages, node.term()), (vec![], Term(1)));
    let mut node = follower();
    step(&mut node, 3, 2, request(true));
    assert_eq!(
        settle(&mut node).messages[0].body,
        MessageBody::VoteResponse { reject: false }
    );
    let mut node = follower();
    for _ in 0..ELECTION_TICKS {
        node.tick().expect("tick");
    }
    settle(&mut node);
    let term = node.term().0 + 1;
    step(&mut node, 3, term, request(false));
    assert_eq!(
        node.vote(),
        Some(ReplicaId(3)),
        "the leader was not heard for an election timeout"
    );
}

/// Local messages have no place on the network, nor have messages from nobody, for others or of terms that no
/// election reaches.
#[test]
fn messages_that_nobody_sends_are_dropped() {
    let mut leader = member(3);
    elect(&mut leader, 3);
    let before = leader.status();
    let payloads = vec![quorate_raft::Payload::Normal("x".into())];
    let propose = MessageBody::Propose { payloads };
    let target = ReplicaId(2);
    let message = |from, to, term, body: &MessageBody| Message {
        from: ReplicaId(from),
        to: ReplicaId(to),
        term: Term(term),
        body: body.clone(),
    };
    for dropped in [
        message(1, 1, 0, &propose),
        message(1, 1, 0, &MessageBody::TransferLeader { target }),
        message(1, 1, 1, &MessageBody::TimeoutNow),
        message(1, 1, 7, &heartbeat(0)),
        message(0, 1, 7, &vote(9, 9)),
        message(2, 3, 7, &vote(9, 9)),
        message(2, 1, 1 << 63, &vote(9, 9)),
        message(2, 1, u64::MAX, &append(0, 0, 0, vec![])),
    ] {
        leader.step(dropped.clone()).expect("dropped");
        assert_eq!(leader.status(), before, "{dropped:?}");
    }
    // The highest term that is believed leaves room to vote, and nobody campaigns beyond it.
    let mut node = member(3);
    let highest = (1 << 63) - 1;
    step(&mut node, 2, highest, vote(0, 0));
    assert_eq!((node.term(), node.vote()), (Term(highest), Some(ReplicaId(2))));
    node.campaign().expect("nothing");
    assert_eq!(node.role(), Role::Follower);
}
