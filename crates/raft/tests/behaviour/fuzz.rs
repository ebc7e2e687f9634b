//! Arbitrary messages into one member: no panic, and what must hold for any member whatever it hears.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_raft::{
    ConfChange, ConfChangeForm, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, ConfState, Entry,
    HardState, Index, Message, MessageBody, Payload, ReadContext, RejectHint, ReplicaId, Role, Snapshot,
    SnapshotMeta, StepError, Storage as _, Term,
};

use crate::net::{Node, config, with_log};
use crate::rng::{Rng, named, seeds};

#[test]
fn arbitrary_messages_never_break_a_member() {
    for seed in seeds(300) {
        named(seed, || arbitrary_messages(seed));
    }
}

fn arbitrary_messages(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut node = start(&mut rng);
    let mut watch = Watch::new(&node);
    for _ in 0..200 {
        if let Err(error) = act(&mut node, &mut rng) {
            match error {
                // The member must stop: it was lied to.
                StepError::Contradiction(_) => return,
                StepError::Propose(_) => {}
                other => panic!("unexpected error: {other}"),
            }
        }
        watch.check(&node);
        if rng.chance(40) && !work(&mut node, &mut watch) {
            return;
        }
        watch.check(&node);
    }
}

fn start(rng: &mut Rng) -> Node {
    let mut settings = config(1);
    settings.pre_vote = rng.chance(50);
    settings.check_quorum = rng.chance(50);
    settings.gather_appends = rng.chance(50);
    settings.max_inflight_messages = 1 + rng.below(4) as usize;
    settings.max_inflight_bytes = if rng.chance(50) { 8 } else { u64::MAX };
    settings.max_bytes_per_message = rng.below(16);
    settings.max_committed_bytes_per_ready = rng.below(32);
    settings.max_uncommitted_bytes = 64;
    settings.priority = rng.below(3) as u8;
    settings.disable_proposal_forwarding = rng.chance(50);
    settings.step_down_on_removal = rng.chance(50);
    settings.seed = rng.below(1 << 40);
    let mut terms = Vec::new();
    let mut term = 1;
    for _ in 0..rng.below(6) {
        term += rng.below(2);
        terms.push(term);
    }
    let commit = rng.below(terms.len() as u64 + 1);
    let hard_state = HardState {
        term: Term(term),
        vote: None,
        commit: Index(commit),
    };
    with_log(settings, 1 + 2 * rng.below(3), &terms, hard_state)
}

/// One arbitrary input.
fn act(node: &mut Node, rng: &mut Rng) -> Result<(), StepError> {
    let peer = ReplicaId(1 + rng.below(6));
    match rng.below(13) {
        12 => node.propose_conf_change(conf_change(rng)).map(drop),
        0 => node.tick(),
        1 => node.campaign(),
        2 => node
            .propose(Bytes::from(vec![b'x'; rng.below(20) as usize]))
            .map(|_| ()),
        3 => node.read_index(ReadContext(u128::from(rng.below(4)))),
        4 => node.transfer_leader(peer),
        5 => {
            node.report_unreachable(peer);
            node.report_snapshot(peer, rng.chance(50));
            node.forget_leader()
        }
        _ => {
            let message = message(node, rng);
            node.step(message)
        }
    }
}

/// A message of any kind with positions near the member's, and now and then far away.
fn message(node: &Node, rng: &mut Rng) -> Message {
    let near = |rng: &mut Rng, center: u64| match rng.below(20) {
        0 => 0,
        1 => u64::MAX - rng.below(2),
        _ => (center + rng.below(5)).saturating_sub(2),
    };
    let index = |rng: &mut Rng, node: &Node| Index(near(rng, node.last_index().0));
    let term = |rng: &mut Rng, node: &Node| match rng.below(200) {
        0 => Term(u64::MAX - rng.below(2)),
        1 => Term((1 << 63) - rng.below(3)),
        _ => Term((node.term().0 + rng.below(4)).saturating_sub(2)),
    };
    let entries = |rng: &mut Rng, prev: Index, node: &Node| {
        let mut at = prev.0;
        let mut entries = Vec::new();
        for _ in 0..rng.below(4) {
            // Now and then a gap.
            at = at.saturating_add(if rng.chance(97) { 1 } else { 2 });
            let payload = if rng.chance(10) {
                Payload::ConfChange(Box::new(conf_change(rng)))
            } else {
                Payload::Normal(Bytes::from(vec![b'y'; rng.below(10) as usize]))
            };
            entries.push(Entry {
                term: term(rng, node),
                index: Index(at),
                payload,
            });
        }
        entries.sort_by_key(|entry| entry.index);
        entries
    };
    let context = ReadContext(u128::from(rng.below(4)));
    let body = match rng.below(16) {
        0..3 => {
            let prev_index = index(rng, node);
            let prev_term = node.term_at(prev_index).unwrap_or_else(|_| term(rng, node));
            let entries = entries(rng, prev_index, node);
            MessageBody::Append {
                prev_index,
                prev_term,
                commit: index(rng, node),
                entries,
            }
        }
        3..5 => {
            let reject = rng.chance(40).then(|| RejectHint {
                index: index(rng, node),
                term: term(rng, node),
            });
            MessageBody::AppendResponse {
                index: index(rng, node),
                reject,
            }
        }
        5 => MessageBody::Heartbeat {
            commit: Index(node.commit().0.saturating_sub(rng.below(2)) + u64::from(rng.chance(5))),
            context: Some(context),
        },
        6 => MessageBody::HeartbeatResponse {
            context: rng.chance(50).then_some(context),
        },
        7 => MessageBody::Vote {
            last_index: index(rng, node),
            last_term: term(rng, node),
            transfer: rng.chance(50),
        },
        8 => MessageBody::VoteResponse {
            reject: rng.chance(30),
        },
        9 => MessageBody::PreVote {
            last_index: index(rng, node),
            last_term: term(rng, node),
            transfer: rng.chance(50),
        },
        10 => MessageBody::PreVoteResponse {
            reject: rng.chance(30),
        },
        11 => {
            let at = if rng.chance(3) {
                u64::MAX - rng.below(2)
            } else {
                node.commit().0 + rng.below(4)
            };
            let meta = SnapshotMeta {
                index: Index(at),
                term: term(rng, node),
                conf_state: conf_state(rng),
            };
            MessageBody::Snapshot(Box::new(Snapshot {
                meta,
                data: Bytes::new(),
            }))
        }
        12 => MessageBody::TimeoutNow,
        13 => MessageBody::TransferLeader {
            target: ReplicaId(rng.below(6)),
        },
        14 if rng.chance(50) => MessageBody::ReadIndex { context },
        14 => MessageBody::ReadIndexResponse {
            index: index(rng, node),
            context,
        },
        _ => MessageBody::Propose {
            payloads: vec![
                Payload::Normal(Bytes::from_static(b"p")),
                Payload::ConfChange(Box::new(conf_change(rng))),
            ],
        },
    };
    Message {
        from: ReplicaId(rng.below(7)),
        to: if rng.chance(2) { ReplicaId(2) } else { node.id() },
        term: term(rng, node),
        body,
    }
}

/// Any change, mostly of a few members, often one that fits nowhere.
fn conf_change(rng: &mut Rng) -> ConfChange {
    let kinds = [
        ConfChangeKind::AddVoter,
        ConfChangeKind::AddLearner,
        ConfChangeKind::Remove,
        ConfChangeKind::Update,
    ];
    let transitions = [
        ConfChangeTransition::Auto,
        ConfChangeTransition::Implicit,
        ConfChangeTransition::Explicit,
    ];
    let changes = (0..rng.below(4)).map(|_| ConfChangeSingle {
        kind: kinds[rng.below(4) as usize],
        replica: ReplicaId(rng.below(6)),
    });
    ConfChange {
        changes: changes.collect(),
        form: if rng.chance(20) {
            ConfChangeForm::V1
        } else {
            ConfChangeForm::V2
        },
        transition: transitions[rng.below(3) as usize],
        context: Bytes::new(),
    }
}

/// Any configuration: one in two is what a group could have.
fn conf_state(rng: &mut Rng) -> ConfState {
    let some =
        |rng: &mut Rng| -> Vec<ReplicaId> { (0..rng.below(4)).map(|_| ReplicaId(rng.below(7))).collect() };
    if rng.chance(50) {
        let voters = (1..=1 + rng.below(5)).map(ReplicaId).collect();
        return ConfState {
            voters,
            ..ConfState::default()
        };
    }
    ConfState {
        voters: some(rng),
        learners: some(rng),
        voters_outgoing: some(rng),
        learners_next: some(rng),
        auto_leave: rng.chance(50),
    }
}

/// Does one Ready's work. False when the member must stop.
fn work(node: &mut Node, watch: &mut Watch) -> bool {
    let ready = node.ready().expect("storage in memory does not fail");
    if let Some(work) = ready.append {
        let storage = node.storage_mut();
        if let Some(hard_state) = work.hard_state {
            storage.set_hard_state(hard_state);
        }
        if let Some(snapshot) = work.snapshot {
            assert!(
                snapshot.meta.index > watch.applied,
                "a snapshot goes back to {}",
                snapshot.meta.index
            );
            watch.applied = snapshot.meta.index;
            storage
                .apply_snapshot(*snapshot)
                .expect("newer than the stored one");
        }
        storage.append(&work.entries).expect("entries leave no gap");
    }
    for entry in ready.apply.into_iter().flat_map(|work| work.entries) {
        assert_eq!(
            entry.index,
            watch.applied.next(),
            "applied in order and without gaps"
        );
        watch.applied = entry.index;
        if let Payload::ConfChange(change) = &entry.payload {
            match node.apply_conf_change(change) {
                Ok(state) => assert_eq!(state.validate(), Ok(()), "{state:?} by {change:?}"),
                // A leader that was lied about would have refused it.
                Err(StepError::Contradiction(_)) => return false,
                Err(error) => panic!("unexpected error: {error}"),
            }
        }
    }
    // A snapshot in the list of applied ones is needed where the leader's log does not reach back.
    if node.applied() < watch.applied && node.storage().snapshot().is_ok_and(|s| s.meta.index == Index(0)) {
        let (at, state) = (watch.applied, node.conf_state());
        let _ = node.storage_mut().create_snapshot(at, state, Bytes::new());
    }
    match node.advance() {
        Ok(()) => true,
        Err(StepError::Contradiction(_)) => false,
        Err(error) => panic!("unexpected error: {error}"),
    }
}

/// What may never go back, and what always fits together.
struct Watch {
    term: Term,
    vote: Option<ReplicaId>,
    commit: Index,
    /// Every entry that was committed and in the log at some check.
    committed: BTreeMap<Index, Entry>,
    applied: Index,
}

impl Watch {
    fn new(node: &Node) -> Watch {
        Watch {
            term: node.term(),
            vote: node.vote(),
            commit: node.commit(),
            committed: BTreeMap::new(),
            applied: node.applied(),
        }
    }

    fn check(&mut self, node: &Node) {
        assert!(
            node.term() >= self.term,
            "term fell from {} to {}",
            self.term,
            node.term()
        );
        if node.term() == self.term && self.vote.is_some() {
            assert_eq!(node.vote(), self.vote, "the vote of term {} changed", self.term);
        }
        assert!(
            node.commit() >= self.commit,
            "commit fell from {} to {}",
            self.commit,
            node.commit()
        );
        assert!(node.applied() <= node.commit() && node.commit() <= node.last_index());
        let (first, last) = (node.first_index().expect("memory"), node.last_index());
        assert!(
            first.prev() <= node.commit(),
            "compacted up to {first}, past the commit index"
        );
        let entries = node.entries(first, last.next(), u64::MAX).expect("memory");
        let mut previous = (first.prev(), node.term_at(first.prev()).expect("kept"));
        for entry in &entries {
            assert_eq!(entry.index, previous.0.next(), "the log has a gap");
            assert!(
                entry.term >= previous.1 && entry.term <= node.term(),
                "terms fall in the log"
            );
            previous = (entry.index, entry.term);
            if entry.index <= node.commit() {
                let known = self.committed.entry(entry.index).or_insert_with(|| entry.clone());
                assert_eq!(known, entry, "a committed entry changed");
            }
        }
        let log = node.storage().log();
        for pair in log.windows(2) {
            assert_eq!(pair[1].index, pair[0].index.next(), "the log has a gap");
            assert!(pair[1].term >= pair[0].term, "terms fall in the log");
        }
        assert_eq!(
            node.role() == Role::Leader,
            node.leader() == Some(node.id()),
            "leads and knows it"
        );
        assert!(node.term_at(node.last_index()).expect("known") <= node.term());
        self.term = node.term();
        self.vote = node.vote();
        self.commit = node.commit();
    }
}
