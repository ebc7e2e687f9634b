//! Membership changes at the surface; the arithmetic is tested by transcripts.

use quorate_raft::{
    ConfChange, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, HardState, Index, MessageBody,
    Payload, ReadContext, ReadState, ReplicaId, Role, StepError,
};

use crate::net::{Net, accepted, config, elect, member, propose, settle, step, voters, with_log};

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

#[test]
fn tr_30_add_node() {
    let mut node = member(1);
    let state = node
        .apply_conf_change(&change(ConfChangeKind::AddVoter, 2))
        .expect("fits");
    assert_eq!(state, voters([1, 2]));
    assert_eq!(node.conf_state(), state);
}

/// Removing the last voter is refused, as in the reference: nobody could ever decide again.
#[test]
fn tr_31_remove_node() {
    let mut node = member(2);
    assert_eq!(
        node.apply_conf_change(&change(ConfChangeKind::Remove, 2)),
        Ok(voters([1]))
    );
    let last = node.apply_conf_change(&change(ConfChangeKind::Remove, 1));
    assert!(matches!(last, Err(StepError::Contradiction(_))), "{last:?}");
    assert_eq!(node.conf_state(), voters([1]));
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

#[test]
fn one_change_at_a_time() {
    let mut net = Net::new(3);
    net.campaign(1);
    net.isolate(1);
    for id in [4, 5] {
        let proposed = net
            .node(1)
            .propose_conf_change(change(ConfChangeKind::AddVoter, id));
        assert!(proposed.is_ok());
    }
    net.run();
    let log = net.node(1).storage().log().to_vec();
    assert!(matches!(log[1].payload, Payload::ConfChange(_)));
    assert!(
        log[2].payload.is_empty(),
        "the second becomes an empty entry: {:?}",
        log[2]
    );
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
