//! Snapshots: taking, sending and what follows.

use bytes::Bytes;
use quorate_raft::{
    ConfState, HardState, Index, MessageBody, ProgressState, RejectHint, ReplicaId, Snapshot, SnapshotMeta,
    Storage as _, Term,
};

use crate::net::{Net, config, elect, hard_state, member, settle, step, voters, with_log};

fn snapshot(index: u64, term: u64, conf_state: ConfState) -> MessageBody {
    let meta = SnapshotMeta {
        index: Index(index),
        term: Term(term),
        conf_state,
    };
    MessageBody::Snapshot(Box::new(Snapshot {
        meta,
        data: Bytes::new(),
    }))
}

#[test]
fn tr_24_restore_snapshot() {
    let mut node = member(2);
    step(&mut node, 2, 11, snapshot(11, 11, voters(1..=3)));
    settle(&mut node);
    assert_eq!(node.last_index(), Index(11));
    assert_eq!(node.term_at(Index(11)), Ok(Term(11)));
    assert_eq!(node.conf_state(), voters(1..=3));
    assert_eq!((node.commit(), node.applied()), (Index(11), Index(11)));
}

#[test]
fn tr_25_ignore_a_snapshot_behind_commit() {
    let mut node = with_log(config(1), 2, &[1, 1, 1], hard_state(1, 1));
    settle(&mut node);
    let answer = |node: &mut crate::net::Node, index| {
        step(node, 2, 1, snapshot(index, 1, voters(1..=2)));
        settle(node).messages.pop().expect("an answer").body
    };
    assert_eq!(answer(&mut node, 1), crate::net::accepted(1));
    assert_eq!((node.commit(), node.last_index()), (Index(1), Index(3)));
    // One that the log holds already only moves the commit index; the log stays.
    assert_eq!(answer(&mut node, 2), crate::net::accepted(2));
    assert_eq!((node.commit(), node.last_index()), (Index(2), Index(3)));
}

#[test]
fn tr_26_provide_a_snapshot() {
    let mut node = with_log(config(1), 2, &[], HardState::default());
    step(&mut node, 2, 11, snapshot(11, 11, voters(1..=2)));
    settle(&mut node);
    elect(&mut node, 2);
    let before = node.progress(ReplicaId(2)).expect("leads").next;
    let hint = Some(RejectHint {
        index: Index(0),
        term: Term(0),
    });
    let rejected = MessageBody::AppendResponse {
        index: before.prev(),
        reject: hint,
    };
    step(&mut node, 2, 12, rejected);
    let sent = settle(&mut node).messages;
    assert_eq!(sent.len(), 1, "{sent:?}");
    assert!(
        matches!(&sent[0].body, MessageBody::Snapshot(s) if s.meta.index == Index(11)),
        "{sent:?}"
    );
    assert_eq!(
        node.progress(ReplicaId(2)).expect("leads").state,
        ProgressState::Snapshot
    );
}

#[test]
fn tr_27_a_snapshot_names_the_leader() {
    let mut node = member(2);
    step(&mut node, 2, 11, snapshot(11, 11, voters(1..=2)));
    assert_eq!(node.leader(), Some(ReplicaId(2)));
}

#[test]
fn tr_28_a_snapshot_replaces_the_members() {
    let mut settings = config(3);
    settings.election_ticks = 20;
    let mut node = with_log(settings, 3, &[], HardState::default());
    step(&mut node, 2, 11, snapshot(11, 11, voters(2..=4)));
    settle(&mut node);
    assert_eq!(node.conf_state(), voters(2..=4));
}

/// A snapshot of a group without this member is not for it.
#[test]
fn a_snapshot_without_the_receiver_is_not_installed() {
    let mut node = member(2);
    step(&mut node, 2, 11, snapshot(11, 11, voters(2..=4)));
    settle(&mut node);
    assert_eq!((node.last_index(), node.conf_state()), (Index(0), voters(1..=2)));
}

#[test]
fn tr_29_slow_node_restores() {
    for gather in [false, true] {
        let mut net = Net::with(3, &[], |config| config.gather_appends = gather);
        net.campaign(1);
        net.isolate(3);
        for _ in 0..100 {
            net.propose(1, "x");
        }
        net.compact(1);
        net.heal();
        net.tick(1, 1);
        net.propose(1, "y");
        // Gathering announces a commit index with the next append or heartbeat, not on its own.
        net.tick(1, 1);
        assert_eq!((net.commit(3), net.commit(1)), (102, 102));
        assert_eq!(
            net.node(3).storage().first_index(),
            Ok(Index(102)),
            "by snapshot, not by 100 appends"
        );
    }
}

#[test]
fn a_failed_snapshot_is_sent_again_after_a_heartbeat() {
    let mut net = Net::new(3);
    net.isolate(3);
    net.campaign(1);
    net.propose(1, "x");
    net.compact(1);
    net.heal();
    net.lost = |message| matches!(message.body, MessageBody::Snapshot(_));
    net.tick(1, 1);
    let state = |net: &mut Net| net.node(1).progress(ReplicaId(3)).expect("leads").state;
    assert_eq!(state(&mut net), ProgressState::Snapshot);
    // While it is pending nothing else is sent.
    net.tick(1, 1);
    assert_eq!((state(&mut net), net.commit(3)), (ProgressState::Snapshot, 0));
    net.node(1).report_snapshot(ReplicaId(3), false);
    assert_eq!(state(&mut net), ProgressState::Probe);
    net.heal();
    net.tick(1, 1);
    assert_eq!((state(&mut net), net.commit(3)), (ProgressState::Replicate, 2));
}

/// With asynchronous storage a membership change may be on its way to be applied when a snapshot arrives. It
/// was then applied on top of the snapshot's configuration; now the snapshot is not taken before it is applied.
#[test]
fn a_snapshot_is_not_taken_while_entries_are_being_applied() {
    let mut settings = config(1);
    settings.async_storage_writes = true;
    let mut node = with_log(settings, 2, &[1], hard_state(1, 1));
    let work = node.ready().expect("memory").apply.expect("a committed entry");
    assert_eq!(work.entries.len(), 1);
    step(&mut node, 2, 11, snapshot(11, 11, voters(1..=3)));
    assert_eq!((node.last_index(), node.conf_state()), (Index(1), voters(1..=2)));
    node.apply_done(Index(1)).expect("applied");
    step(&mut node, 2, 11, snapshot(11, 11, voters(1..=3)));
    assert_eq!((node.last_index(), node.conf_state()), (Index(11), voters(1..=3)));
}
