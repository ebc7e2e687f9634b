//! Leadership transfer (thesis §3.10).

use quorate_raft::{ConfChangeKind, Message, MessageBody, ReplicaId, Role, Term};

use crate::membership::change;
use crate::net::{ELECTION_TICKS, Net, member, settle, step};

fn led_by_1(size: u64) -> Net {
    let mut net = Net::with(size, &[], |config| config.check_quorum = true);
    net.campaign(1);
    net
}

/// 1 leads; 3 is away and lags; a transfer to it is pending.
fn pending_transfer_to_3() -> Net {
    let mut net = led_by_1(3);
    net.isolate(3);
    net.propose(1, "missed");
    net.transfer(1, 3);
    assert_eq!(net.node(1).transferring_to(), Some(ReplicaId(3)));
    net
}

#[test]
fn tr_34_transfer_to_up_to_date_node_and_back() {
    let mut net = led_by_1(3);
    net.transfer(1, 2);
    net.assert_leader(2, 2);
    net.propose(2, "x");
    net.transfer(2, 1);
    net.assert_leader(1, 3);
}

#[test]
fn tr_35_transfer_asked_at_a_follower() {
    let mut net = led_by_1(3);
    net.transfer(2, 2);
    net.assert_leader(2, 2);
    net.propose(2, "x");
    net.transfer(1, 1);
    net.assert_leader(1, 3);
}

#[test]
fn tr_36_transfer_to_slow_follower() {
    let mut net = led_by_1(3);
    net.isolate(3);
    net.propose(1, "missed");
    net.heal();
    net.transfer(1, 3);
    net.assert_leader(3, 2);
    net.assert_equal_logs();
}

#[test]
fn tr_37_transfer_after_snapshot() {
    let mut net = led_by_1(3);
    net.isolate(3);
    net.propose(1, "missed");
    net.compact(1);
    net.heal();
    net.transfer(1, 3);
    net.tick(1, 1);
    net.assert_leader(3, 2);
}

#[test]
fn tr_38_transfer_to_self() {
    let mut net = led_by_1(3);
    net.transfer(1, 1);
    net.assert_leader(1, 1);
    assert_eq!(net.node(1).transferring_to(), None);
}

#[test]
fn tr_39_transfer_to_non_member() {
    let mut net = led_by_1(3);
    net.transfer(1, 4);
    net.assert_leader(1, 1);
    assert_eq!(net.node(1).transferring_to(), None);
}

#[test]
fn tr_40_transfer_ends_when_the_target_is_removed() {
    let mut net = led_by_1(3);
    // 3 stores everything, but never hears that it is to campaign.
    net.lost = |message| matches!(message.body, MessageBody::TimeoutNow);
    net.transfer(1, 3);
    assert_eq!(net.node(1).transferring_to(), Some(ReplicaId(3)));
    net.node(1)
        .apply_conf_change(&change(ConfChangeKind::Remove, 3))
        .expect("fits");
    assert_eq!(net.node(1).transferring_to(), None);
    assert_eq!(net.role(1), Role::Leader);
}

#[test]
fn tr_41_transfer_ends_with_a_higher_term() {
    let mut net = pending_transfer_to_3();
    net.node(2).forget_leader().expect("a follower");
    let (term, last) = (net.node(1).term(), net.node(1).last_index());
    let body = MessageBody::Vote {
        last_index: last,
        last_term: term,
        transfer: true,
    };
    step(net.node(1), 2, term.0 + 1, body);
    net.run();
    assert_eq!(
        (net.role(1), net.node(1).transferring_to()),
        (Role::Follower, None)
    );
}

#[test]
fn tr_42_transfer_back() {
    let mut net = pending_transfer_to_3();
    net.transfer(1, 1);
    assert_eq!((net.role(1), net.node(1).transferring_to()), (Role::Leader, None));
}

#[test]
fn tr_43_a_newer_transfer_replaces_a_pending_one() {
    let mut net = pending_transfer_to_3();
    net.transfer(1, 2);
    assert_eq!((net.role(2), net.node(2).term()), (Role::Leader, Term(2)));
}

#[test]
fn tr_44_transfer_to_a_removed_node_is_harmless() {
    let mut node = member(1);
    node.apply_conf_change(&change(ConfChangeKind::AddVoter, 2))
        .expect("fits");
    node.apply_conf_change(&change(ConfChangeKind::Remove, 1))
        .expect("fits");
    step(&mut node, 2, 1, MessageBody::TimeoutNow);
    settle(&mut node);
    for from in [2, 3] {
        for reject in [false, true] {
            let body = MessageBody::VoteResponse { reject };
            let message = Message {
                from: ReplicaId(from),
                to: ReplicaId(1),
                term: Term(1),
                body,
            };
            node.step(message).expect("ignored");
        }
    }
    assert_eq!((node.role(), node.term()), (Role::Follower, Term(1)));
}

#[test]
fn a_transfer_that_takes_an_election_timeout_is_given_up() {
    let mut net = pending_transfer_to_3();
    let refused = net.node(1).propose(bytes::Bytes::from_static(b"x"));
    assert!(refused.is_err(), "no proposals meanwhile");
    net.tick(1, ELECTION_TICKS);
    assert_eq!((net.role(1), net.node(1).transferring_to()), (Role::Leader, None));
    net.propose(1, "x");
}
