//! A member that runs the peer, driven as its documentation says.

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, Message, MessageType};
use raft::storage::MemStorage;
use raft::{Config, RawNode, StateRole, Storage};

use crate::cluster::{Applied, COMPACT_EVERY, Command, MEMBERS, Member, Outbox};

/// Modes:
/// - `plain`: its defaults.
/// - `batch_append`: appends to the same follower are united until the Ready is taken.
/// - `lazy_commit`: that, and the commit index is told with the next append (`skip_bcast_commit`).
pub(crate) struct RaftRs {
    node: RawNode<MemStorage>,
    applied: Applied,
    compacted: u64,
}

impl Member for RaftRs {
    type Message = Message;

    fn new(id: u64, mode: &str) -> Self {
        let (batch_append, skip_bcast_commit) = match mode {
            "plain" => (false, false),
            "batch_append" => (true, false),
            "lazy_commit" => (true, true),
            other => panic!("mode {other} is none of plain, batch_append and lazy_commit"),
        };
        let config = Config {
            id,
            election_tick: 10,
            heartbeat_tick: 1,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            batch_append,
            skip_bcast_commit,
            ..Config::default()
        };
        let voters: Vec<u64> = (1..=MEMBERS as u64).collect();
        let storage = MemStorage::new_with_conf_state(ConfState {
            voters,
            ..ConfState::default()
        });
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        Self {
            node: RawNode::new(&config, storage, &logger).expect("valid"),
            applied: Applied::default(),
            compacted: 0,
        }
    }

    fn campaign(&mut self) {
        self.node.campaign().expect("campaign");
    }

    fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    fn heartbeat(&mut self) {
        self.node.tick();
    }

    fn propose(&mut self, command: Command) {
        match command {
            Command::Owned(data) => self.node.propose(Vec::new(), data),
            Command::Shared(data) => self.node.step(self.proposal(vec![entry(data)])),
        }
        .expect("leads");
    }

    fn propose_batch(&mut self, commands: impl Iterator<Item = Command>) {
        let entries = commands.map(|command| entry(command.into_bytes())).collect();
        self.node.step(self.proposal(entries)).expect("leads");
    }

    fn step(&mut self, message: Message) {
        self.node.step(message).expect("taken");
    }

    fn turn(&mut self, outbox: &mut Outbox<Message>) -> bool {
        if !self.node.has_ready() {
            return false;
        }
        let mut ready = self.node.ready();
        send(ready.take_messages(), outbox);
        self.apply(&ready.take_committed_entries());
        if !ready.entries().is_empty() {
            self.node
                .mut_store()
                .wl()
                .append(ready.entries())
                .expect("no gap");
        }
        if let Some(hard_state) = ready.hs() {
            self.node.mut_store().wl().set_hardstate(hard_state.clone());
        }
        send(ready.take_persisted_messages(), outbox);
        let mut light = self.node.advance(ready);
        if let Some(commit) = light.commit_index() {
            self.node.mut_store().wl().mut_hard_state().commit = commit;
        }
        send(light.take_messages(), outbox);
        self.apply(&light.take_committed_entries());
        self.node.advance_apply();
        true
    }

    fn applied(&self) -> &Applied {
        &self.applied
    }
}

impl RaftRs {
    /// What its `propose` makes of one command; it has no method that takes several, or shared ones.
    fn proposal(&self, entries: Vec<Entry>) -> Message {
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.node.raft.id;
        message.set_entries(entries.into());
        message
    }

    fn apply(&mut self, entries: &[Entry]) {
        for entry in entries {
            if !entry.data.is_empty() {
                self.applied.apply(&entry.data);
            }
        }
        let Some(last) = entries.last().map(|entry| entry.index) else {
            return;
        };
        // It may still read what it was not told to be applied.
        if last - self.compacted >= COMPACT_EVERY {
            let applied = self.node.raft.raft_log.applied;
            let first = self.node.store().first_index().expect("in memory");
            if applied > first {
                self.node
                    .mut_store()
                    .wl()
                    .compact(applied)
                    .expect("above the last");
            }
            self.compacted = last;
        }
    }
}

fn entry(data: Bytes) -> Entry {
    Entry {
        data,
        ..Entry::default()
    }
}

fn send(messages: Vec<Message>, outbox: &mut Outbox<Message>) {
    for message in messages {
        outbox.send(message.to, message);
    }
}
