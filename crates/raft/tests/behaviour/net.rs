//! Lone members, and clusters whose messages travel in one thread, in order and at once.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_raft::{
    ConfState, Config, Entry, HardState, Index, MemStorage, Message, MessageBody, Payload, RawNode,
    ReadOnlyOption, ReplicaId, Role, SnapshotMeta, StepError, Storage, Term,
};

pub(crate) type Node = RawNode<MemStorage>;

pub(crate) const ELECTION_TICKS: u32 = 10;

/// What these tests start from: no pre-vote, no check-quorum, as in the paper.
pub(crate) fn config(id: u64) -> Config {
    Config {
        id: ReplicaId(id),
        election_ticks: ELECTION_TICKS,
        heartbeat_ticks: 1,
        priority: 0,
        applied: Index(0),
        max_bytes_per_message: u64::MAX,
        max_committed_bytes_per_ready: u64::MAX,
        max_uncommitted_bytes: u64::MAX,
        max_inflight_messages: 256,
        max_inflight_bytes: u64::MAX,
        pre_vote: false,
        check_quorum: false,
        read_only: ReadOnlyOption::Safe,
        async_storage_writes: false,
        gather_appends: false,
        disable_proposal_forwarding: false,
        disable_conf_change_validation: false,
        step_down_on_removal: true,
        seed: id,
    }
}

pub(crate) fn voters(ids: impl IntoIterator<Item = u64>) -> ConfState {
    ConfState {
        voters: ids.into_iter().map(ReplicaId).collect(),
        ..ConfState::default()
    }
}

pub(crate) fn entry(index: u64, term: u64) -> Entry {
    Entry {
        term: Term(term),
        index: Index(index),
        payload: Payload::Normal(Bytes::new()),
    }
}

pub(crate) fn text(entry: &Entry) -> String {
    match &entry.payload {
        Payload::Normal(data) => String::from_utf8_lossy(data).into_owned(),
        Payload::ConfChange(change) => format!("{change:?}"),
    }
}

/// A fresh member 1 of a group of `size`.
pub(crate) fn member(size: u64) -> Node {
    with_log(config(1), size, &[], HardState::default())
}

/// A member of a group of `size` that restarts with entries of `terms` at 1, 2, ….
pub(crate) fn with_log(config: Config, size: u64, terms: &[u64], hard_state: HardState) -> Node {
    let mut storage = MemStorage::with_conf_state(voters(1..=size));
    let entries: Vec<Entry> = (1..)
        .zip(terms)
        .map(|(index, term)| entry(index, *term))
        .collect();
    storage.append(&entries).expect("contiguous");
    storage.set_hard_state(hard_state);
    RawNode::new(config, storage).expect("valid storage")
}

/// A hard state of a member that voted for nobody.
pub(crate) fn hard_state(term: u64, commit: u64) -> HardState {
    HardState {
        term: Term(term),
        vote: None,
        commit: Index(commit),
    }
}

/// What a member did while it settled.
#[derive(Default)]
pub(crate) struct Done {
    /// Messages to others.
    pub(crate) messages: Vec<Message>,
    pub(crate) applied: Vec<Entry>,
}

/// Does all the work that a member asks for.
pub(crate) fn settle(node: &mut Node) -> Done {
    let mut done = Done::default();
    while node.has_ready() {
        let ready = node.ready().expect("storage in memory does not fail");
        done.messages.extend(ready.send_now);
        if let Some(work) = ready.append {
            let storage = node.storage_mut();
            if let Some(hard_state) = work.hard_state {
                storage.set_hard_state(hard_state);
            }
            if let Some(snapshot) = work.snapshot {
                storage
                    .apply_snapshot(*snapshot)
                    .expect("newer than the stored one");
            }
            storage.append(&work.entries).expect("no gap");
            done.messages.extend(work.responses);
        }
        for entry in ready.apply.into_iter().flat_map(|work| work.entries) {
            if let Payload::ConfChange(change) = &entry.payload {
                let state = node.apply_conf_change(change).expect("fits the configuration");
                node.storage_mut().set_conf_state(state);
            }
            done.applied.push(entry);
        }
        node.advance().expect("own messages are consistent");
    }
    done
}

pub(crate) fn step(node: &mut Node, from: u64, term: u64, body: MessageBody) {
    step_with(node, from, term, body).expect("message is taken");
}

/// As `step`, for any storage and any outcome.
pub(crate) fn step_with<S: Storage>(
    node: &mut RawNode<S>,
    from: u64,
    term: u64,
    body: MessageBody,
) -> Result<(), StepError> {
    node.step(Message {
        from: ReplicaId(from),
        to: node.id(),
        term: Term(term),
        body,
    })
}

pub(crate) fn append(prev_index: u64, prev_term: u64, commit: u64, entries: Vec<Entry>) -> MessageBody {
    MessageBody::Append {
        prev_index: Index(prev_index),
        prev_term: Term(prev_term),
        commit: Index(commit),
        entries,
    }
}

pub(crate) fn heartbeat(commit: u64) -> MessageBody {
    MessageBody::Heartbeat {
        commit: Index(commit),
        context: None,
    }
}

pub(crate) fn vote(last_index: u64, last_term: u64) -> MessageBody {
    MessageBody::Vote {
        last_index: Index(last_index),
        last_term: Term(last_term),
        transfer: false,
    }
}

pub(crate) fn accepted(index: u64) -> MessageBody {
    MessageBody::AppendResponse {
        index: Index(index),
        reject: None,
    }
}

/// Makes `node` the leader of its next term with the votes of all `size` members.
pub(crate) fn elect(node: &mut Node, size: u64) -> Done {
    node.campaign().expect("campaign");
    let mut done = settle(node);
    for peer in 1..=size {
        if ReplicaId(peer) != node.id() {
            step(
                node,
                peer,
                node.term().0,
                MessageBody::VoteResponse { reject: false },
            );
        }
    }
    let more = settle(node);
    done.messages.extend(more.messages);
    done.applied.extend(more.applied);
    assert_eq!(node.role(), Role::Leader);
    done
}

pub(crate) fn propose(node: &mut Node, data: &str) {
    node.propose(Bytes::copy_from_slice(data.as_bytes()))
        .expect("accepted");
}

pub(crate) fn terms(node: &Node) -> Vec<u64> {
    node.storage().log().iter().map(|entry| entry.term.0).collect()
}

/// A cluster. Dead members swallow what they are sent.
pub(crate) struct Net {
    pub(crate) nodes: BTreeMap<u64, Node>,
    pub(crate) applied: BTreeMap<u64, Vec<Entry>>,
    cut: BTreeSet<(u64, u64)>,
    /// Messages for which this is true are lost.
    pub(crate) lost: fn(&Message) -> bool,
}

impl Net {
    pub(crate) fn new(size: u64) -> Net {
        Net::with(size, &[], |_| {})
    }

    pub(crate) fn with_dead(size: u64, dead: &[u64]) -> Net {
        Net::with(size, dead, |_| {})
    }

    pub(crate) fn with(size: u64, dead: &[u64], adjust: impl Fn(&mut Config)) -> Net {
        let live = (1..=size).filter(|id| !dead.contains(id)).map(|id| {
            let mut config = config(id);
            adjust(&mut config);
            with_log(config, size, &[], HardState::default())
        });
        Net::of(live)
    }

    pub(crate) fn of(nodes: impl IntoIterator<Item = Node>) -> Net {
        let nodes: BTreeMap<u64, Node> = nodes.into_iter().map(|node| (node.id().0, node)).collect();
        Net {
            nodes,
            applied: BTreeMap::new(),
            cut: BTreeSet::new(),
            lost: |_| false,
        }
    }

    pub(crate) fn node(&mut self, id: u64) -> &mut Node {
        self.nodes.get_mut(&id).expect("a live member")
    }

    pub(crate) fn cut(&mut self, a: u64, b: u64) {
        self.cut.extend([(a, b), (b, a)]);
    }

    pub(crate) fn isolate(&mut self, id: u64) {
        let others: Vec<u64> = self.nodes.keys().copied().filter(|other| *other != id).collect();
        others.into_iter().for_each(|other| self.cut(id, other));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.lost = |_| false;
    }

    /// Until no member has anything to do or to say.
    pub(crate) fn run(&mut self) {
        loop {
            let mut messages = Vec::new();
            for (id, node) in &mut self.nodes {
                let done = settle(node);
                messages.extend(done.messages);
                self.applied.entry(*id).or_default().extend(done.applied);
            }
            if messages.is_empty() {
                return;
            }
            for message in messages {
                if self.cut.contains(&(message.from.0, message.to.0)) || (self.lost)(&message) {
                    continue;
                }
                if let Some(node) = self.nodes.get_mut(&message.to.0) {
                    // A forwarded proposal may be refused; the cluster goes on.
                    let _ = node.step(message);
                }
            }
        }
    }

    pub(crate) fn campaign(&mut self, id: u64) {
        self.node(id).campaign().expect("campaign");
        self.run();
    }

    pub(crate) fn propose(&mut self, id: u64, data: &str) {
        propose(self.node(id), data);
        self.run();
    }

    pub(crate) fn tick(&mut self, id: u64, ticks: u32) {
        for _ in 0..ticks {
            self.node(id).tick().expect("tick");
        }
        self.run();
    }

    pub(crate) fn transfer(&mut self, at: u64, target: u64) {
        self.node(at)
            .transfer_leader(ReplicaId(target))
            .expect("transfer");
        self.run();
    }

    pub(crate) fn role(&self, id: u64) -> Role {
        self.nodes[&id].role()
    }

    pub(crate) fn commit(&self, id: u64) -> u64 {
        self.nodes[&id].commit().0
    }

    pub(crate) fn assert_leader(&self, leader: u64, term: u64) {
        for (id, node) in &self.nodes {
            let expected = if *id == leader {
                Role::Leader
            } else {
                Role::Follower
            };
            assert_eq!((node.role(), node.term()), (expected, Term(term)), "member {id}");
            assert_eq!(node.leader(), Some(ReplicaId(leader)), "member {id}");
        }
    }

    /// All live members have the same log and commit index.
    pub(crate) fn assert_equal_logs(&self) {
        let mut nodes = self.nodes.values();
        let first = nodes.next().expect("a live member");
        for node in nodes {
            assert_eq!(
                node.storage().log(),
                first.storage().log(),
                "members {} and {}",
                node.id(),
                first.id()
            );
            assert_eq!(node.commit(), first.commit());
        }
    }

    /// Compacts a member's log at what it applied, behind a snapshot.
    pub(crate) fn compact(&mut self, id: u64) {
        let node = self.node(id);
        let (index, state) = (node.applied(), node.conf_state());
        let storage = node.storage_mut();
        let made = storage.create_snapshot(index, state, Bytes::from_static(b"state"));
        let SnapshotMeta { index, .. } = made.expect("newer than the last").meta;
        storage.compact(index).expect("not compacted yet");
    }
}
