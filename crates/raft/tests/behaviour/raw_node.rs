//! The surface: what a Ready holds after a start, a restart and a proposal.

use bytes::Bytes;
use quorate_raft::{
    ConfChangeKind, ConfChangeSingle, Config, HardState, Index, MemStorage, MessageBody, Payload, RawNode,
    ReplicaId, Role, Snapshot, SnapshotMeta, StartError, Term,
};

use crate::membership::change;
use crate::net::{
    Net, append, config, entry, hard_state, member, propose, settle, step, text, voters, with_log,
};

#[test]
fn rn_01_proposals_are_the_last_entries_unchanged() {
    let mut node = member(1);
    node.campaign().expect("campaign");
    settle(&mut node);
    let mut joint = change(ConfChangeKind::AddLearner, 2);
    joint.changes.push(ConfChangeSingle {
        kind: ConfChangeKind::AddLearner,
        replica: ReplicaId(3),
    });
    joint.context = Bytes::from_static(b"manifest");
    let first = node.propose(Bytes::from_static(b"somedata"));
    let second = node.propose_conf_change(joint.clone());
    assert_eq!(
        (first, second),
        (Ok((Term(1), Index(2))), Ok((Term(1), Index(3))))
    );
    let stored = node.ready().expect("memory").append.expect("entries").entries;
    let payloads: Vec<Payload> = stored.into_iter().map(|entry| entry.payload).collect();
    let data = Payload::Normal(Bytes::from_static(b"somedata"));
    assert_eq!(payloads, [data, Payload::ConfChange(Box::new(joint))]);
}

#[test]
fn copied_proposals_are_those_of_a_batch() {
    let commands: Vec<Vec<u8>> = ["a", "", "longer than the others", "d"].map(Vec::from).into();
    let stored = |copied: bool| {
        let mut node = member(1);
        node.campaign().expect("campaign");
        settle(&mut node);
        let first = if copied {
            node.propose_copied(&commands)
        } else {
            node.propose_batch(commands.iter().cloned().map(Bytes::from).collect())
        };
        assert_eq!(first, Ok((Term(1), Index(2))));
        node.ready().expect("memory").append.expect("entries").entries
    };
    assert_eq!(stored(true), stored(false));
    assert_eq!(stored(true).len(), commands.len());

    let none: [&[u8]; 0] = [];
    let refused = member(2).propose_copied(&none);
    assert_eq!(refused, member(2).propose_batch(Vec::new()));
}

#[test]
fn rn_02_adding_a_member_twice_does_not_block_another() {
    let mut net = Net::new(1);
    net.campaign(1);
    for id in [1, 1, 2] {
        net.node(1)
            .propose_conf_change(change(ConfChangeKind::AddVoter, id))
            .expect("accepted");
        net.run();
    }
    let changes = net
        .node(1)
        .storage()
        .log()
        .iter()
        .filter(|entry| matches!(entry.payload, Payload::ConfChange(_)));
    assert_eq!(changes.count(), 3);
    assert_eq!(net.node(1).conf_state(), voters([1, 2]));
}

#[test]
fn rn_03_start_of_a_single_member() {
    let mut node = member(1);
    assert!(!node.has_ready());
    node.campaign().expect("campaign");
    let vote = node.ready().expect("memory").append.expect("a vote to store");
    let voted = HardState {
        term: Term(1),
        vote: Some(ReplicaId(1)),
        commit: Index(0),
    };
    assert_eq!((vote.hard_state, vote.must_sync), (Some(voted), true));
    node.advance().expect("advance");
    assert_eq!(node.role(), Role::Leader);
    settle(&mut node);
    propose(&mut node, "foo");
    // The entry is handed out to be stored and, once that is done, with its commit index to be applied: this member
    // is the quorum.
    let stored = node.ready().expect("memory");
    assert_eq!(stored.apply, None);
    let stored = stored.append.expect("an entry to store");
    assert_eq!((stored.hard_state, stored.must_sync), (None, true));
    node.storage_mut().append(&stored.entries).expect("no gap");
    node.advance().expect("advance");
    let ready = node.ready().expect("memory");
    let committed = ready
        .append
        .and_then(|work| work.hard_state)
        .map(|state| state.commit);
    assert_eq!(committed, Some(Index(2)));
    let applied = ready.apply.expect("an entry to apply").entries;
    assert_eq!((applied.len(), &applied), (1, &stored.entries));
    assert_eq!(text(&applied[0]), "foo");
    node.advance().expect("advance");
    assert_eq!((node.commit(), node.applied()), (Index(2), Index(2)));
    assert!(!node.has_ready(), "nothing is left after advance");
}

#[test]
fn rn_04_restart_gives_committed_entries_only() {
    let mut node = with_log(config(1), 2, &[1, 1], hard_state(1, 1));
    let ready = node.ready().expect("memory");
    assert_eq!(ready.apply.map(|work| work.entries), Some(vec![entry(1, 1)]));
    assert_eq!((ready.append, ready.soft_state), (None, None));
    node.advance().expect("advance");
    assert!(!node.has_ready());
}

#[test]
fn rn_05_restart_from_snapshot_gives_the_tail() {
    let meta = SnapshotMeta {
        index: Index(2),
        term: Term(1),
        conf_state: voters(1..=2),
    };
    let mut storage = MemStorage::new();
    storage
        .apply_snapshot(Snapshot {
            meta,
            data: Bytes::new(),
        })
        .expect("first one");
    storage.append(&[entry(3, 1)]).expect("no gap");
    storage.set_hard_state(hard_state(1, 3));
    let mut node = RawNode::new(config(1), storage).expect("valid storage");
    let ready = node.ready().expect("memory");
    assert_eq!(ready.apply.map(|work| work.entries), Some(vec![entry(3, 1)]));
    assert_eq!((ready.append, ready.soft_state), (None, None));
    node.advance().expect("advance");
    assert!(!node.has_ready());
}

#[test]
fn a_restart_does_not_apply_again_what_was_applied() {
    let mut settings = config(1);
    settings.applied = Index(2);
    let mut node = with_log(settings, 2, &[1, 1, 1], hard_state(1, 3));
    assert_eq!(settle(&mut node).applied, [entry(3, 1)]);
}

/// What does not fit together is refused with both positions: such a member would take back what it acknowledged.
#[test]
fn storage_that_lost_something_is_refused_with_both_positions() {
    let start = |terms: &[u64], state, applied| {
        let mut storage = MemStorage::with_conf_state(voters([1]));
        let entries: Vec<_> = (1..)
            .zip(terms)
            .map(|(index, term)| entry(index, *term))
            .collect();
        storage.append(&entries).expect("no gap");
        storage.set_hard_state(state);
        let applied = Index(applied);
        let settings = Config { applied, ..config(1) };
        RawNode::new(settings, storage).map(drop)
    };
    assert_eq!(start(&[1], hard_state(1, 1), 1), Ok(()));
    let (commit, applied, last) = (Index(2), Index(2), Index(1));
    assert_eq!(
        start(&[1], hard_state(1, 2), 0),
        Err(StartError::CommitPastLog { commit, last })
    );
    assert_eq!(
        start(&[1], hard_state(1, 1), 2),
        Err(StartError::AppliedPastLog { applied, last })
    );
    let (term, last_term) = (Term(1), Term(2));
    let behind = start(&[2], hard_state(1, 0), 0).expect_err("a vote of term 2 may be lost");
    assert_eq!(
        behind,
        StartError::HardStateBehindLog {
            term,
            last,
            last_term
        }
    );
    let shown = "hard state has term 1, but the log ends at 1 with term 2: the hard state was lost";
    assert_eq!(behind.to_string(), shown);
}

#[test]
fn a_state_machine_that_the_log_does_not_reach_back_to_is_refused() {
    let start = |applied| {
        let mut storage = MemStorage::with_conf_state(voters([1]));
        let entries: Vec<_> = (1..=4).map(|index| entry(index, 1)).collect();
        storage.append(&entries).expect("no gap");
        storage.set_hard_state(hard_state(1, 4));
        storage.compact(Index(3)).expect("first time");
        let applied = Index(applied);
        RawNode::new(Config { applied, ..config(1) }, storage).map(|node| node.applied())
    };
    let (applied, first) = (Index(2), Index(4));
    assert_eq!(start(2), Err(StartError::AppliedBeforeLog { applied, first }));
    assert_eq!((start(3), start(4)), (Ok(Index(3)), Ok(Index(4))));
    assert_eq!(start(0), Ok(Index(3)), "zero is whatever the log begins with");
}

/// A commit index is stored without a sync, so a power loss may take it back behind what was applied.
#[test]
fn an_applied_index_past_the_stored_commit_index_is_committed() {
    let mut settings = config(1);
    settings.applied = Index(2);
    let mut node = with_log(settings, 2, &[1, 1, 1], hard_state(1, 1));
    assert_eq!((node.commit(), node.applied()), (Index(2), Index(2)));
    assert!(settle(&mut node).applied.is_empty());
    let mut settings = config(1);
    settings.applied = Index(2);
    let storage = MemStorage::with_conf_state(voters([1]));
    assert!(
        RawNode::new(settings, storage).is_err(),
        "applied what the log does not hold"
    );
}

/// An entry is replaced and, under a later leader, comes back. The completion of its first writing must not
/// vouch for it: the writing of its replacement is still queued between the two.
#[test]
fn a_completion_of_an_earlier_term_vouches_for_nothing() {
    let mut settings = config(1);
    settings.async_storage_writes = true;
    let mut node = with_log(settings, 3, &[], HardState::default());
    let mut written = Vec::new();
    for (leader, term, entries) in [
        (2, 1, vec![entry(1, 1), entry(2, 1)]),
        (3, 2, vec![entry(1, 1), entry(2, 2)]),
        (2, 3, vec![entry(1, 1), entry(2, 1)]),
    ] {
        step(
            &mut node,
            leader,
            term,
            append(0, 0, if term == 3 { 2 } else { 0 }, entries),
        );
        written.push(node.ready().expect("memory").append.expect("entries"));
    }
    let applied = |node: &mut crate::net::Node| {
        let work = node.ready().expect("memory").apply;
        work.map_or(0, |work| work.entries.len())
    };
    for (work, expected) in written.into_iter().zip([0, 0, 2]) {
        node.storage_mut().append(&work.entries).expect("no gap");
        node.append_done(work.done.expect("entries")).expect("done");
        assert_eq!(applied(&mut node), expected);
    }
}

/// A candidate was elected by others before its own vote was durable, and wrote entries of the term. After a crash it
/// knew nothing of the term, was elected in it again by the same votes, and wrote others at the same places. Now it
/// leads only once its own vote is durable (found by the safety runs, seed 4422).
#[test]
fn a_candidate_whose_own_vote_is_not_durable_does_not_lead() {
    let mut settings = config(1);
    settings.async_storage_writes = true;
    let mut node = with_log(settings, 3, &[], HardState::default());
    node.campaign().expect("campaign");
    let ready = node.ready().expect("memory");
    assert_eq!(
        ready.send_now.len(),
        2,
        "others are asked while the vote is being written"
    );
    for peer in [2, 3] {
        step(&mut node, peer, 1, MessageBody::VoteResponse { reject: false });
        assert_eq!(node.role(), Role::Candidate);
    }
    let work = ready.append.expect("a vote to store");
    assert!(work.must_sync);
    for own in work.responses {
        node.step(own).expect("own vote");
    }
    assert_eq!((node.role(), node.term()), (Role::Leader, Term(1)));
}

#[test]
#[should_panic(expected = "before the last one was reported done")]
fn two_readys_without_advance_are_a_bug_of_the_driver() {
    let mut node = member(1);
    node.campaign().expect("campaign");
    let _ = node.ready();
    let _ = node.ready();
}
