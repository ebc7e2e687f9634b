//! Membership changes at the surface; the arithmetic is tested by transcripts.

use quorate_raft::{
    ConfChange, ConfChangeError, ConfChangeForm, ConfChangeKind, ConfChangeSingle, ConfChangeTransition,
    HardState, Index, MessageBody, Payload, ProposeError, ReadContext, ReadState, ReplicaId, Role, StepError,
    Term,
};

use crate::net::{
    ELECTION_TICKS, Net, Node, accepted, append, config, elect, entry, hard_state, member, propose, settle,
    step, text, voters, with_log,
};

pub(crate) fn change(kind: ConfChangeKind, id: u64) -> ConfChange {
    let changes = vec![ConfChangeSingle {
        kind,
        replica: ReplicaId(id),
    }];
    ConfChange {
        changes,
        ..ConfChange::default()
    }
}

fn members(node: &Node) -> Vec<u64> {
    node.tracker().progress.iter().map(|(id, _)| id.0).collect()
}

#[test]
fn tr_30_add_node() {
    let mut node = member(1);
    assert_eq!(members(&node), [1]);
    let state = node
        .apply_conf_change(&change(ConfChangeKind::AddVoter, 2))
        .expect("fits");
    assert_eq!(state, voters([1, 2]));
    assert_eq!((members(&node), node.conf_state()), (vec![1, 2], state));
}

/// Whatever was committed takes effect, even the removal of the last member. A leader does not let a user
/// propose that one by mistake.
#[test]
fn tr_31_remove_node() {
    let mut node = member(2);
    elect(&mut node, 2);
    let removed = node.apply_conf_change(&change(ConfChangeKind::Remove, 2));
    assert_eq!((removed, members(&node)), (Ok(voters([1])), vec![1]));
    step(&mut node, 2, 1, accepted(1));
    settle(&mut node);
    let refused = node.propose_conf_change(change(ConfChangeKind::Remove, 1));
    let no_voters = ProposeError::ConfChange(ConfChangeError::NoVoters);
    assert_eq!(refused, Err(StepError::Propose(no_voters)));
    let removed = node.apply_conf_change(&change(ConfChangeKind::Remove, 1));
    assert_eq!((removed, members(&node)), (Ok(voters([])), vec![]));
    for _ in 0..100 {
        node.tick().expect("tick");
        settle(&mut node);
    }
    assert_eq!(
        (node.role(), node.term()),
        (Role::Follower, Term(1)),
        "nobody leads nobody"
    );
}

#[test]
fn tr_33_commit_after_remove_node() {
    let mut node = member(2);
    elect(&mut node, 2);
    step(&mut node, 2, 1, accepted(1));
    settle(&mut node);
    // The removal is replicated; behind it waits a proposal that 2 has not stored.
    node.propose_conf_change(change(ConfChangeKind::Remove, 2))
        .expect("accepted");
    propose(&mut node, "waiting");
    settle(&mut node);
    step(&mut node, 2, 1, accepted(2));
    let applied = settle(&mut node).applied;
    assert!(
        matches!(applied[0].payload, Payload::ConfChange(_)),
        "{applied:?}"
    );
    assert_eq!(
        (applied.len(), node.commit()),
        (2, Index(3)),
        "a quorum of one commits what waited"
    );
}

/// A user is told why a change is not taken. One that a follower forwarded, or that comes in a batch, has nobody
/// to tell and becomes an empty entry.
#[test]
fn one_change_at_a_time() {
    let mut net = Net::new(3);
    net.campaign(1);
    net.isolate(1);
    let add = |id| change(ConfChangeKind::AddVoter, id);
    assert_eq!(net.node(1).propose_conf_change(add(4)), Ok((Term(1), Index(2))));
    let refused = net.node(1).propose_conf_change(add(5));
    let pending = ProposeError::ConfChangePending { until: Index(2) };
    assert_eq!(refused, Err(StepError::Propose(pending)));
    let payloads = vec![Payload::ConfChange(Box::new(add(5))), Payload::Normal("x".into())];
    assert_eq!(net.node(1).propose_payloads(payloads), Ok((Term(1), Index(3))));
    net.run();
    let log = net.node(1).storage().log().to_vec();
    assert!(matches!(log[1].payload, Payload::ConfChange(_)));
    assert!(log[2].payload.is_empty(), "{:?}", log[2]);
    assert_eq!(text(&log[3]), "x");
    net.heal();
    net.tick(1, 1);
    assert!(
        net.node(1).propose_conf_change(add(5)).is_ok(),
        "the first is applied"
    );
}

/// A new leader cannot know what waits in its log until it is applied.
#[test]
fn a_new_leader_takes_no_change_before_it_applied_its_first_entry() {
    let mut node = member(3);
    elect(&mut node, 3);
    let refused = node.propose_conf_change(change(ConfChangeKind::AddVoter, 4));
    let pending = ProposeError::ConfChangePending { until: Index(0) };
    assert_eq!(refused.err(), None, "{pending:?}: an empty log holds no change");
    let mut node = with_log(config(1), 3, &[1], hard_state(1, 0));
    elect(&mut node, 3);
    let refused = node.propose_conf_change(change(ConfChangeKind::AddVoter, 4));
    let pending = ProposeError::ConfChangePending { until: Index(1) };
    assert_eq!(refused, Err(StepError::Propose(pending)));
    step(&mut node, 2, 2, accepted(2));
    settle(&mut node);
    assert!(
        node.propose_conf_change(change(ConfChangeKind::AddVoter, 4))
            .is_ok()
    );
}

/// What would stop every member when it is applied is refused when it is proposed.
#[test]
fn changes_that_do_not_fit_are_refused_by_name() {
    let single = |kind, id| ConfChangeSingle {
        kind,
        replica: ReplicaId(id),
    };
    let of = |transition, changes: &[ConfChangeSingle]| ConfChange {
        transition,
        changes: changes.to_vec(),
        ..ConfChange::default()
    };
    let remove = |id| single(ConfChangeKind::Remove, id);
    let (auto, explicit) = (ConfChangeTransition::Auto, ConfChangeTransition::Explicit);
    let two_in_v1 = ConfChange {
        form: ConfChangeForm::V1,
        ..of(auto, &[remove(1), remove(2)])
    };
    let simple = [
        (of(auto, &[]), ConfChangeError::NotJoint),
        (of(explicit, &[]), ConfChangeError::NotJoint),
        (
            of(auto, &[remove(1), remove(2), remove(3)]),
            ConfChangeError::NoVoters,
        ),
        (two_in_v1, ConfChangeError::NotV1),
    ];
    let mut net = Net::new(3);
    net.campaign(1);
    for (change, expected) in simple {
        let refused = net.node(1).propose_conf_change(change.clone());
        let expected = Err(StepError::Propose(ProposeError::ConfChange(expected)));
        assert_eq!(refused, expected, "{change:?}");
    }
    let enter = of(explicit, &[remove(3)]);
    assert!(net.node(1).propose_conf_change(enter.clone()).is_ok());
    net.run();
    let refused = net.node(1).propose_conf_change(enter);
    assert_eq!(refused, Err(StepError::Propose(ProposeError::ConfChangeInJoint)));
    // An explicit empty change would enter a joint configuration, not leave it.
    let refused = net.node(1).propose_conf_change(of(explicit, &[]));
    let joint = ProposeError::ConfChange(ConfChangeError::AlreadyJoint);
    assert_eq!(refused, Err(StepError::Propose(joint)));
    // Forwarded, it does no harm either.
    let payloads = vec![Payload::ConfChange(Box::new(of(explicit, &[])))];
    step(net.node(1), 2, 0, MessageBody::Propose { payloads });
    net.run();
    assert!(net.node(1).propose_conf_change(of(auto, &[])).is_ok());
    net.run();
    assert_eq!(net.node(1).conf_state(), voters([1, 2]));
}

/// A change that is refused for its size left "a change is pending" behind, until later entries were applied.
#[test]
fn a_refused_change_is_not_pending() {
    let mut settings = config(1);
    settings.max_uncommitted_bytes = 10;
    let mut node = with_log(settings, 3, &[], HardState::default());
    elect(&mut node, 3);
    step(&mut node, 2, 1, accepted(1));
    settle(&mut node);
    propose(&mut node, "12345");
    for _ in 0..2 {
        let refused = node.propose_conf_change(change(ConfChangeKind::AddVoter, 4));
        assert_eq!(
            refused,
            Err(StepError::Propose(ProposeError::TooManyUncommittedBytes))
        );
    }
}

/// The leaving of a joint configuration was refused while leadership was handed over, and nobody tried again when
/// that failed; an idle group stayed joint for ever.
#[test]
fn an_abandoned_transfer_does_not_keep_a_group_in_a_joint_configuration() {
    for cancelled in [false, true] {
        let mut net = Net::new(3);
        net.campaign(1);
        net.lost = |message| matches!(message.body, MessageBody::TimeoutNow);
        let joint = ConfChange {
            transition: ConfChangeTransition::Implicit,
            ..change(ConfChangeKind::AddLearner, 3)
        };
        net.node(1).propose_conf_change(joint).expect("accepted");
        net.transfer(1, 2);
        assert_eq!(net.node(1).transferring_to(), Some(ReplicaId(2)));
        assert_eq!(net.node(1).conf_state().voters_outgoing.len(), 3);
        if cancelled {
            net.transfer(1, 1);
        } else {
            net.tick(1, ELECTION_TICKS);
        }
        assert_eq!(
            net.node(1).conf_state().voters_outgoing,
            [],
            "cancelled: {cancelled}"
        );
    }
}

/// Whoever leads when the entering is applied leaves, also if it was elected since.
#[test]
fn a_later_leader_leaves_a_joint_configuration() {
    let mut net = Net::new(3);
    net.campaign(1);
    let joint = ConfChange {
        transition: ConfChangeTransition::Implicit,
        ..change(ConfChangeKind::AddLearner, 1)
    };
    net.node(1).propose_conf_change(joint).expect("accepted");
    // Everybody stores it; nobody hears that it is committed, and the proposer is gone.
    net.lost = |message| message.to == ReplicaId(1);
    net.run();
    net.isolate(1);
    net.heal();
    net.isolate(1);
    net.campaign(2);
    let state = net.node(2).conf_state();
    assert_eq!(
        (state.voters, state.learners),
        (voters([2, 3]).voters, voters([1]).voters)
    );
    assert_eq!(state.voters_outgoing, []);
}

#[test]
fn a_joint_configuration_needs_both_majorities_and_is_left_by_itself() {
    let mut net = Net::with(5, &[], |_| {});
    // Start with voters 1-3; 4 and 5 run but are not members yet.
    for id in 1..=5 {
        let fresh = with_log(config(id), 3, &[], HardState::default());
        net.nodes.insert(id, fresh);
    }
    net.campaign(1);
    let single = |kind, id| ConfChangeSingle {
        kind,
        replica: ReplicaId(id),
    };
    let changes = vec![
        single(ConfChangeKind::AddVoter, 4),
        single(ConfChangeKind::AddVoter, 5),
        single(ConfChangeKind::Remove, 2),
        single(ConfChangeKind::Remove, 3),
    ];
    // The incoming half is {1, 4, 5}: without 4 and 5 the leaving cannot commit.
    for new in [4, 5] {
        net.isolate(new);
    }
    let joint = ConfChange {
        changes,
        transition: ConfChangeTransition::Implicit,
        ..ConfChange::default()
    };
    net.node(1).propose_conf_change(joint).expect("accepted");
    net.run();
    assert_eq!(net.node(1).conf_state().voters_outgoing, voters(1..=3).voters);
    assert_eq!(net.commit(1), 2);
    net.heal();
    net.tick(1, 1);
    assert_eq!(net.node(1).conf_state(), voters([1, 4, 5]));
    assert_eq!((net.commit(1), net.commit(4), net.commit(5)), (3, 3, 3));
}

#[test]
fn a_removed_leader_steps_down() {
    let mut net = Net::new(3);
    net.campaign(1);
    net.node(1)
        .propose_conf_change(change(ConfChangeKind::Remove, 1))
        .expect("accepted");
    net.run();
    assert_eq!(net.role(1), Role::Follower);
    net.campaign(1);
    assert_eq!(net.role(1), Role::Follower, "who is no member cannot campaign");
    net.campaign(2);
    assert_eq!(net.role(2), Role::Leader);
}

/// A leader that was demoted and still leads may face a single voter, which could have elected itself since.
/// Answering a read without asking it returned stale data; the fix is to ask unless that voter is oneself.
#[test]
fn a_leader_without_a_vote_asks_the_only_voter_before_it_answers_a_read() {
    let mut settings = config(1);
    settings.step_down_on_removal = false;
    let mut node = with_log(settings, 2, &[], HardState::default());
    elect(&mut node, 2);
    step(&mut node, 2, 1, accepted(1));
    settle(&mut node);
    node.apply_conf_change(&change(ConfChangeKind::AddLearner, 1))
        .expect("fits");
    assert_eq!(node.role(), Role::Leader);
    let context = ReadContext(7);
    node.read_index(context).expect("a leader");
    assert!(node.ready().expect("memory").read_states.is_empty());
    node.advance().expect("advance");
    step(
        &mut node,
        2,
        1,
        MessageBody::HeartbeatResponse {
            context: Some(context),
        },
    );
    let answered = node.ready().expect("memory").read_states;
    assert_eq!(
        answered,
        [ReadState {
            index: Index(1),
            context
        }]
    );
}

/// Found by seed 3979 of the safety runs: a sole member that had entered a joint configuration with itself as both
/// halves waited for a heartbeat's answer that nobody was there to give. Its own acknowledgement is a quorum of both.
#[test]
fn a_sole_voter_in_both_halves_answers_reads_without_a_round() {
    let mut node = member(1);
    node.campaign().expect("campaign");
    settle(&mut node);
    let joint = ConfChange {
        transition: ConfChangeTransition::Explicit,
        ..change(ConfChangeKind::AddLearner, 2)
    };
    let conf_state = node.apply_conf_change(&joint).expect("fits");
    assert_eq!(
        (conf_state.voters, conf_state.voters_outgoing),
        (vec![ReplicaId(1)], vec![ReplicaId(1)])
    );
    let context = ReadContext(7);
    node.read_index(context).expect("a leader");
    let index = Index(1);
    assert_eq!(
        node.ready().expect("memory").read_states,
        [ReadState { index, context }]
    );
}

/// A committed change that is not applied may have taken this member's vote, or given others one. Campaigning before
/// it is applied would count the majority of a configuration that is past (thesis §4.1).
#[test]
fn nobody_campaigns_with_a_committed_change_unapplied() {
    let mut settings = config(2);
    settings.async_storage_writes = true;
    let mut node = with_log(settings, 3, &[], HardState::default());
    let mut entries = vec![entry(1, 1), entry(2, 1)];
    entries[1].payload = Payload::ConfChange(Box::new(change(ConfChangeKind::AddVoter, 4)));
    step(&mut node, 1, 1, append(0, 0, 2, entries));
    let stored = node.ready().expect("memory").append.expect("entries");
    node.storage_mut().append(&stored.entries).expect("no gap");
    node.append_done(stored.done.expect("entries")).expect("done");
    let handed_out = node.ready().expect("memory").apply.expect("committed").entries;
    node.campaign().expect("nothing");
    step(&mut node, 1, 1, MessageBody::TimeoutNow);
    assert_eq!((node.role(), node.term()), (Role::Follower, Term(1)));
    for entry in &handed_out {
        if let Payload::ConfChange(change) = &entry.payload {
            node.apply_conf_change(change).expect("fits");
        }
    }
    node.apply_done(Index(2)).expect("applied");
    node.campaign().expect("campaign");
    assert_eq!((node.role(), node.term()), (Role::Candidate, Term(2)));
    let asked = node.ready().expect("memory").send_now.len();
    assert_eq!(asked, 3, "the new voter too");
}
