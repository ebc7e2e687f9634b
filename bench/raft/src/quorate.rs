//! A member that runs this project's core, driven as a user would.

use quorate_raft::{
    AppendWork, ApplyWork, Buffers, ConfState, Config, Entry, MemStorage, Message, Payload, RawNode,
    ReplicaId, Role,
};

use crate::cluster::{Applied, COMPACT_EVERY, Command, MEMBERS, Member, Outbox};

/// Modes:
/// - `store`: gathered appends and asynchronous storage writes, as the store drives it.
/// - `sync`: gathered appends, synchronous driving.
/// - `eager`: synchronous driving, and appends and commit indexes sent at once: what the reference does.
pub(crate) struct Quorate {
    node: RawNode<MemStorage>,
    buffers: Buffers,
    asynchronous: bool,
    applied: Applied,
    compacted: u64,
}

impl Member for Quorate {
    type Message = Message;

    fn new(id: u64, mode: &str) -> Self {
        let (asynchronous, gather) = match mode {
            "store" => (true, true),
            "sync" => (false, true),
            "eager" => (false, false),
            other => panic!("mode {other} is none of store, sync and eager"),
        };
        let config = Config {
            heartbeat_ticks: 1,
            max_bytes_per_message: 1 << 20,
            async_storage_writes: asynchronous,
            gather_appends: gather,
            seed: id,
            ..Config::new(ReplicaId(id))
        };
        let storage = MemStorage::with_conf_state(ConfState {
            voters: (1..=MEMBERS as u64).map(ReplicaId).collect(),
            ..ConfState::default()
        });
        Self {
            node: RawNode::new(config, storage).expect("valid"),
            buffers: Buffers::new(),
            asynchronous,
            applied: Applied::default(),
            compacted: 0,
        }
    }

    fn campaign(&mut self) {
        self.node.campaign().expect("campaign");
    }

    fn is_leader(&self) -> bool {
        self.node.role() == Role::Leader
    }

    fn heartbeat(&mut self) {
        self.node.tick().expect("tick");
    }

    fn propose(&mut self, command: Command) {
        self.node.propose(command.into_bytes()).expect("leads");
    }

    fn propose_batch(&mut self, commands: impl Iterator<Item = Command>) {
        let mut commands = commands.peekable();
        // Each kind has a method made for it.
        let proposed = if let Some(Command::Owned(_)) = commands.peek() {
            let owned: Vec<Vec<u8>> = commands.map(Command::into_owned).collect();
            self.node.propose_copied(&owned)
        } else {
            self.node
                .propose_batch(commands.map(Command::into_bytes).collect())
        };
        proposed.expect("leads");
    }

    fn step(&mut self, message: Message) {
        self.node.step(message).expect("taken");
    }

    fn turn(&mut self, outbox: &mut Outbox<Message>) -> bool {
        if !self.node.has_ready() {
            return false;
        }
        let mut ready = self
            .node
            .ready_with(&mut self.buffers)
            .expect("storage in memory does not fail");
        for message in ready.send_now.drain(..) {
            outbox.send(message.to.0, message);
        }
        self.buffers.reuse_messages(ready.send_now);
        if let Some(work) = ready.append {
            self.store(work, outbox);
        }
        if let Some(work) = ready.apply {
            self.apply(work);
        }
        if !self.asynchronous {
            self.node.advance().expect("consistent");
        }
        true
    }

    fn applied(&self) -> &Applied {
        &self.applied
    }
}

impl Quorate {
    fn store(&mut self, mut work: AppendWork, outbox: &mut Outbox<Message>) {
        let storage = self.node.storage_mut();
        storage.append_from(&mut work.entries).expect("no gap");
        self.buffers.reuse_entries(work.entries);
        if let Some(hard_state) = work.hard_state {
            storage.set_hard_state(hard_state);
        }
        // Driven synchronously, the core keeps to itself what it tells itself.
        for message in work.responses.drain(..) {
            if message.to == self.node.id() {
                self.node.step(message).expect("taken");
            } else {
                outbox.send(message.to.0, message);
            }
        }
        self.buffers.reuse_messages(work.responses);
        if let Some(done) = work.done {
            self.node.append_done(done).expect("taken");
        }
    }

    fn apply(&mut self, work: ApplyWork) {
        for Entry { payload, .. } in &work.entries {
            if let Payload::Normal(data) = payload
                && !data.is_empty()
            {
                self.applied.apply(data);
            }
        }
        let Some(last) = work.entries.last().map(|entry| entry.index) else {
            return;
        };
        self.buffers.reuse_entries(work.entries);
        if self.asynchronous {
            self.node.apply_done(last).expect("in order");
        }
        if last.0 - self.compacted >= COMPACT_EVERY {
            self.node.storage_mut().compact(last).expect("above the last");
            self.compacted = last.0;
        }
    }
}
