//! Replication over whole clusters.

use bytes::Bytes;
use quorate_raft::{HardState, Index, MessageBody, ProgressState, ReplicaId, Term};

use crate::net::{
    Net, accepted, append, config, elect, entry, hard_state, member, propose, settle, step, terms, text,
    with_log,
};

#[test]
fn tr_01_leader_keeps_its_own_progress() {
    let mut node = member(2);
    elect(&mut node, 2);
    // Behind the empty entry.
    for last in 2..=6 {
        propose(&mut node, "x");
        settle(&mut node);
        let own = node.progress(ReplicaId(1)).expect("leads");
        assert_eq!((own.matched, own.next), (Index(last), Index(last + 1)));
    }
}

#[test]
fn tr_06_log_replication() {
    let mut net = Net::new(3);
    net.campaign(1);
    net.propose(1, "one");
    assert_eq!([1, 2, 3].map(|id| net.commit(id)), [2; 3]);
    net.campaign(2);
    net.propose(2, "two");
    assert_eq!([1, 2, 3].map(|id| net.commit(id)), [4; 3]);
    for (id, applied) in &net.applied {
        let applied: Vec<String> = applied.iter().map(text).collect();
        assert_eq!(applied, ["", "one", "", "two"], "member {id}");
    }
}

#[test]
fn tr_07_single_node_commit() {
    let mut net = Net::new(1);
    net.campaign(1);
    net.propose(1, "a");
    net.propose(1, "b");
    assert_eq!(net.commit(1), 3);
}

#[test]
fn tr_08_old_terms_commit_with_the_new_leaders_entry() {
    let mut net = Net::new(5);
    net.campaign(1);
    // 2 gets the entries, but no quorum does.
    for id in 3..=5 {
        net.cut(1, id);
    }
    net.propose(1, "a");
    net.propose(1, "b");
    assert_eq!(net.commit(1), 1);
    net.heal();
    net.lost = |message| matches!(message.body, MessageBody::Append { .. });
    net.campaign(2);
    assert_eq!(net.commit(2), 1, "elected, but its own entry is not replicated");
    net.heal();
    net.tick(2, 1);
    assert_eq!(net.commit(2), 4);
    net.assert_equal_logs();
}

#[test]
fn tr_09_commit_with_heartbeat() {
    let mut net = Net::new(5);
    net.campaign(1);
    net.isolate(5);
    net.propose(1, "a");
    net.propose(1, "b");
    assert_eq!(net.commit(5), 1);
    net.heal();
    net.tick(1, 1);
    assert_eq!(net.commit(5), 3);
}

#[test]
fn tr_13_old_messages_are_ignored() {
    let mut net = Net::new(3);
    for leader in [1, 2, 1] {
        net.campaign(leader);
    }
    // An append of the leader of term 2, long replaced.
    step(net.node(1), 2, 2, append(2, 2, 0, vec![entry(3, 2)]));
    net.propose(1, "x");
    net.assert_equal_logs();
    assert_eq!(terms(net.node(1)), [1, 2, 3, 3]);
}

#[test]
fn tr_14_proposal() {
    let cases: [(u64, &[u64], bool); 5] = [
        (3, &[], true),
        (3, &[3], true),
        (3, &[2, 3], false),
        (4, &[3, 4], false),
        (5, &[4, 5], true),
    ];
    for (size, dead, commits) in cases {
        let mut net = Net::with_dead(size, dead);
        net.campaign(1);
        let shown = format!("{size} members, dead {dead:?}");
        let refused = net.node(1).propose(Bytes::from_static(b"x")).is_err();
        net.run();
        assert_eq!(refused, !commits, "{shown}");
        let live: Vec<u64> = net.nodes.keys().copied().collect();
        for id in live {
            assert_eq!(
                net.commit(id),
                if commits { 2 } else { 0 },
                "{shown}, member {id}"
            );
            let log: Vec<String> = net.node(id).storage().log().iter().map(text).collect();
            assert_eq!(
                log,
                if commits { vec!["", "x"] } else { vec![] },
                "{shown}, member {id}"
            );
        }
    }
}

#[test]
fn tr_15_append_is_checked_against_the_log() {
    // The follower's log: (1, 1), (2, 2); its term is 2. Wanted: last index, commit, accepted.
    let cases = [
        (append(2, 3, 3, vec![]), 2, 0, false),
        (append(3, 3, 3, vec![]), 2, 0, false),
        (append(1, 1, 1, vec![]), 2, 1, true),
        (append(0, 0, 1, vec![entry(1, 2)]), 1, 1, true),
        (append(2, 2, 3, vec![entry(3, 2), entry(4, 2)]), 4, 3, true),
        (append(2, 2, 4, vec![entry(3, 2)]), 3, 3, true),
        (append(1, 1, 4, vec![entry(2, 2)]), 2, 2, true),
        (append(1, 1, 3, vec![]), 2, 1, true),
        (append(1, 1, 3, vec![entry(2, 2)]), 2, 2, true),
        (append(2, 2, 3, vec![]), 2, 2, true),
        (append(2, 2, 4, vec![]), 2, 2, true),
    ];
    for (body, last, commit, taken) in cases {
        let mut node = with_log(config(1), 3, &[1, 2], hard_state(2, 0));
        let shown = format!("{body:?}");
        step(&mut node, 2, 2, body);
        assert_eq!(
            (node.last_index(), node.commit()),
            (Index(last), Index(commit)),
            "{shown}"
        );
        let answer = settle(&mut node).messages.pop().expect("an answer").body;
        assert_eq!(
            matches!(answer, MessageBody::AppendResponse { reject: None, .. }),
            taken,
            "{shown}: {answer:?}"
        );
    }
}

#[test]
fn tr_21_heartbeats_do_not_commit_a_wrong_tail() {
    for (lost, won) in [(1, 1), (5, 3), (5, 10)] {
        let mut net = Net::new(5);
        net.campaign(1);
        net.isolate(1);
        for _ in 0..lost {
            net.propose(1, "lost");
        }
        net.campaign(2);
        for _ in 0..won {
            net.propose(2, "won");
        }
        // The old leader hears heartbeats of the new one, and nothing else.
        net.heal();
        net.lost =
            |message| message.to == ReplicaId(1) && !matches!(message.body, MessageBody::Heartbeat { .. });
        net.tick(2, 1);
        assert_eq!(net.commit(1), 1, "{lost} lost, {won} won");
        net.heal();
        net.tick(2, 2);
        assert_eq!(net.commit(1), 2 + won, "{lost} lost, {won} won");
        net.assert_equal_logs();
    }
}

#[test]
fn tr_23_leader_increases_next() {
    for pipelined in [false, true] {
        let mut node = with_log(config(1), 2, &[1, 2, 3], hard_state(3, 0));
        elect(&mut node, 2);
        if pipelined {
            step(&mut node, 2, 4, accepted(4));
        }
        propose(&mut node, "x");
        let peer = node.progress(ReplicaId(2)).expect("leads");
        // Old entries, the empty one, the proposal, and one; a probed follower's waits for an answer.
        let expected = if pipelined {
            (ProgressState::Replicate, 3 + 1 + 1 + 1)
        } else {
            (ProgressState::Probe, 4)
        };
        assert_eq!((peer.state, peer.next), (expected.0, Index(expected.1)));
    }
}

/// One message per follower and turn, however many proposals; and the same log.
#[test]
fn gathered_appends_are_one_message_per_follower() {
    let mut net = Net::with(3, &[], |config| config.gather_appends = true);
    net.campaign(1);
    for _ in 0..16 {
        propose(net.node(1), "x");
    }
    let ready = net.node(1).ready().expect("memory");
    let appends: Vec<_> = ready
        .send_now
        .iter()
        .map(|message| match &message.body {
            MessageBody::Append { entries, .. } => (message.to, entries.len()),
            other => panic!("unexpected {other:?}"),
        })
        .collect();
    assert_eq!(appends, [(ReplicaId(2), 16), (ReplicaId(3), 16)]);
    let work = ready.append.expect("entries to store");
    net.node(1).storage_mut().append(&work.entries).expect("no gap");
    net.node(1).advance().expect("advance");
    for message in ready.send_now {
        net.node(message.to.0).step(message).expect("taken");
    }
    net.run();
    // The commit index goes with the next append or heartbeat, not on its own.
    assert_eq!([1, 2, 3].map(|id| net.commit(id)), [17, 1, 1]);
    net.tick(1, 1);
    assert_eq!([1, 2, 3].map(|id| net.commit(id)), [17; 3]);
    net.assert_equal_logs();
}

/// Followers that lag, lose and conflict catch up with gathered appends as well.
#[test]
fn gathered_appends_recover_what_was_lost() {
    let mut net = Net::with(3, &[], |config| config.gather_appends = true);
    net.campaign(1);
    net.isolate(3);
    for _ in 0..5 {
        net.propose(1, "x");
    }
    net.isolate(1);
    net.propose(1, "lost");
    net.heal();
    net.cut(1, 2);
    net.cut(1, 3);
    net.campaign(2);
    net.propose(2, "y");
    net.heal();
    net.tick(2, 1);
    net.assert_leader(2, 2);
    net.assert_equal_logs();
    assert_eq!(net.commit(1), 8);
}

#[test]
fn uncommitted_bytes_are_limited_and_freed_by_applying() {
    let mut settings = config(1);
    settings.max_uncommitted_bytes = 10;
    let mut node = with_log(settings, 2, &[], HardState::default());
    elect(&mut node, 2);
    step(&mut node, 2, 1, accepted(1));
    settle(&mut node);
    propose(&mut node, "12345");
    propose(&mut node, "12345");
    let refused = node
        .propose(Bytes::from_static(b"6"))
        .expect_err("over the limit");
    let expected = quorate_raft::StepError::Propose(quorate_raft::ProposeError::TooManyUncommittedBytes);
    assert_eq!(refused, expected);
    settle(&mut node);
    step(&mut node, 2, 1, accepted(3));
    settle(&mut node);
    assert_eq!(node.applied(), Index(3));
    propose(&mut node, "123456789012345 is taken: one proposal always fits");
    assert_eq!(node.term(), Term(1));
}
