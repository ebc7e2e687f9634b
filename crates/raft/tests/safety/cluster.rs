//! A cluster in one thread: members, and a network that holds what is in flight.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_raft::{
    ConfState, Config, Index, MemStorage, Message, MessageBody, ReadContext, ReadState, ReplicaId, StepError,
};

use crate::faults::Weather;
use crate::member::{Member, Node, StateMachine, founded};
use crate::properties::Properties;
use crate::rng::Rng;

/// The group starts from a snapshot here, so that whoever joins needs one.
const START: Index = Index(2);
pub(crate) const ELECTION_TICKS: u32 = 10;

/// What a run met.
#[derive(Default)]
pub(crate) struct Tried {
    pub(crate) steps: u64,
    pub(crate) reads: u64,
    pub(crate) crashes: u64,
    pub(crate) snapshots: u64,
    pub(crate) changes: u64,
}

pub(crate) struct Cluster {
    pub(crate) rng: Rng,
    pub(crate) members: BTreeMap<u64, Member>,
    pub(crate) network: Vec<Message>,
    pub(crate) properties: Properties,
    pub(crate) tried: Tried,
    /// Reads under way: the highest position that was committed when each was asked for.
    reads: BTreeMap<ReadContext, Index>,
    next_read: u128,
    next_payload: u64,
    pub(crate) weather: Weather,
    /// Percent of messages lost.
    pub(crate) loss: u64,
    /// Members on this side hear those on the other side only in the directions that are open.
    pub(crate) side: Vec<u64>,
    /// Whether messages out of, and into, `side` are lost.
    pub(crate) cut: (bool, bool),
    /// Whether this run removes leaders on purpose.
    pub(crate) removes_leaders: bool,
    /// What `work` may be interrupted with: crashes in a hundred thousand.
    pub(crate) crash_while_working: u64,
}

impl Cluster {
    pub(crate) fn new(seed: u64) -> Cluster {
        let mut rng = Rng::new(seed);
        let size = 3 + rng.below(4);
        let founders = 1 + rng.below(size.min(5));
        let common = common_settings(&mut rng);
        let state = ConfState {
            voters: (1..=founders).map(ReplicaId).collect(),
            ..ConfState::default()
        };
        let mut members = BTreeMap::new();
        for id in 1..=size {
            let config = Config {
                id: ReplicaId(id),
                priority: if rng.chance(20) { rng.below(3) as u8 } else { 0 },
                max_bytes_per_message: if rng.chance(50) { 0 } else { rng.below(64) },
                max_committed_bytes_per_ready: rng.below(64),
                step_down_on_removal: rng.chance(50),
                seed: rng.below(1 << 40),
                ..common.clone()
            };
            let (disk, machine) = if id <= founders {
                (
                    founded(START, state.clone()),
                    StateMachine::new(START, state.clone()),
                )
            } else {
                (MemStorage::new(), StateMachine::default())
            };
            members.insert(id, Member::new(config, disk, machine));
        }
        let mut cluster = Cluster {
            members,
            network: Vec::new(),
            properties: Properties::new(START),
            tried: Tried::default(),
            reads: BTreeMap::new(),
            next_read: 0,
            next_payload: 0,
            loss: 0,
            weather: Weather::new(),
            side: Vec::new(),
            cut: (false, false),
            removes_leaders: rng.chance(25),
            crash_while_working: 0,
            rng,
        };
        for id in 1..=size {
            cluster.restart(id);
        }
        cluster
    }

    pub(crate) fn size(&self) -> u64 {
        self.members.len() as u64
    }

    pub(crate) fn any(&mut self) -> u64 {
        1 + self.rng.below(self.size())
    }

    pub(crate) fn member(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&id).expect("known")
    }

    pub(crate) fn running(&mut self, id: u64) -> Option<&mut Node> {
        self.member(id).node.as_mut()
    }

    /// Asserts everything about a member that a step may have changed.
    pub(crate) fn check(&mut self, id: u64) {
        self.tried.steps += 1;
        self.members[&id].show(&mut self.properties);
    }

    pub(crate) fn restart(&mut self, id: u64) {
        self.member(id).start();
        self.check(id);
    }

    pub(crate) fn crash(&mut self, id: u64) {
        let member = self.members.get_mut(&id).expect("known");
        self.tried.crashes += u64::from(member.crash(&mut self.rng));
        self.check(id);
    }

    // ---- the network ----

    fn post(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            if matches!(message.body, MessageBody::VoteResponse { reject: false }) {
                self.properties.voted(message.from, message.term, message.to);
            }
            self.tried.snapshots += u64::from(matches!(message.body, MessageBody::Snapshot(_)));
            self.network.push(message);
        }
    }

    pub(crate) fn passes(&self, message: &Message) -> bool {
        let (from, to) = (
            self.side.contains(&message.from.0),
            self.side.contains(&message.to.0),
        );
        match (from, to) {
            (true, false) => !self.cut.0,
            (false, true) => !self.cut.1,
            _ => true,
        }
    }

    /// The transport tells the sender what became of a snapshot; nothing else would end the waiting for it.
    pub(crate) fn report_snapshot(&mut self, message: &Message, ok: bool) {
        let from = message.from.0;
        if matches!(message.body, MessageBody::Snapshot(_))
            && let Some(sender) = self.running(from)
        {
            sender.report_snapshot(message.to, ok);
            self.check(from);
        }
    }

    pub(crate) fn receive(&mut self, message: Message) {
        let to = message.to.0;
        let up = self.running(to).is_some();
        self.report_snapshot(&message, up);
        let Some(node) = self.running(to) else { return };
        let shown = format!("{}", DisplayKind(&message));
        match node.step(message) {
            Ok(()) | Err(StepError::Propose(_)) => {}
            Err(error) => panic!("{error}, by {shown}"),
        }
        self.check(to);
    }

    // ---- what members do ----

    pub(crate) fn tick(&mut self, id: u64) {
        if let Some(node) = self.running(id) {
            node.tick().expect("tick");
            self.check(id);
        }
    }

    pub(crate) fn propose(&mut self, id: u64) {
        // No two payloads are equal, so that one entry cannot pass for another.
        self.next_payload += 1;
        let number = self.next_payload.to_le_bytes();
        let length = self.rng.below(24) as usize;
        let data: Vec<u8> = number.iter().copied().chain(vec![b'x'; length]).collect();
        if let Some(node) = self.running(id) {
            let _ = node.propose(Bytes::from(data));
            self.check(id);
        }
    }

    pub(crate) fn read(&mut self, id: u64) {
        let newest = self.properties.committed();
        let context = ReadContext(self.next_read);
        if let Some(node) = self.running(id) {
            node.read_index(context).expect("read");
            self.reads.insert(context, newest);
            self.next_read += 1;
            self.check(id);
        }
    }

    /// A read must see everything that was committed when it was asked for.
    fn check_read(&mut self, state: ReadState) {
        if let Some(newest) = self.reads.remove(&state.context) {
            assert!(
                state.index >= newest,
                "read at {} although {newest} was committed before",
                state.index
            );
            self.tried.reads += 1;
        }
    }

    pub(crate) fn compact(&mut self, id: u64) {
        if self.member(id).compact() {
            self.check(id);
        }
    }

    /// Takes a Ready, or does a piece of queued storage work.
    pub(crate) fn work(&mut self, id: u64) {
        let choice = self.rng.below(3);
        let lazy = self.weather.lazy == Some(id);
        let member = self.members.get_mut(&id).expect("known");
        let Some(node) = member.node.as_mut() else { return };
        if choice == 0
            && let Some(work) = member.append_work.pop_front()
        {
            let mut released = Vec::new();
            member.append(work, &mut released);
            self.check(id);
            self.post(released);
        } else if choice == 1
            && !lazy
            && let Some(work) = member.apply_work.pop_front()
        {
            let last = work.entries.last().map(|entry| entry.index);
            member.apply(work, &mut self.properties);
            if let (Some(last), Some(node)) = (last, self.running(id)) {
                node.apply_done(last).expect("applied");
            }
            self.check(id);
        } else if node.has_ready() {
            self.take_ready(id);
        }
    }

    fn take_ready(&mut self, id: u64) {
        let member = self.members.get_mut(&id).expect("known");
        let asynchronous = member.config.async_storage_writes;
        let ready = member.node.as_mut().expect("runs").ready().expect("memory");
        for state in ready.read_states {
            self.check_read(state);
        }
        // These go out before anything is durable.
        self.post(ready.send_now);
        let member = self.members.get_mut(&id).expect("known");
        if asynchronous {
            member.append_work.extend(ready.append);
            member.apply_work.extend(ready.apply);
            self.check(id);
            return;
        }
        if let Some(work) = ready.append {
            if self.interrupted(id, Some(&work)) {
                return;
            }
            let mut released = Vec::new();
            self.member(id).append(work, &mut released);
            if self.interrupted(id, None) {
                return;
            }
            self.post(released);
        }
        if let Some(work) = ready.apply {
            self.members
                .get_mut(&id)
                .expect("known")
                .apply(work, &mut self.properties);
        }
        if !self.interrupted(id, None) {
            self.running(id).expect("runs").advance().expect("advance");
            self.check(id);
        }
    }

    /// Now and then a process ends in the middle of a Ready: before, while or after its log work is stored.
    fn interrupted(&mut self, id: u64, work: Option<&quorate_raft::AppendWork>) -> bool {
        if self.rng.below(100_000) >= self.crash_while_working {
            return false;
        }
        self.member(id).append_work.extend(work.cloned());
        self.crash(id);
        true
    }

    pub(crate) fn describe(&self) -> String {
        let lines = self.members.values().map(|member| match &member.node {
            None => format!("{}: down, applied {}\n", member.id, member.machine.applied),
            Some(node) => format!(
                "{}: {:?} digest {:x}\n",
                member.id,
                node.status(),
                member.machine.digest
            ),
        });
        lines.collect()
    }
}

/// Settings that members of a group share.
fn common_settings(rng: &mut Rng) -> Config {
    Config {
        election_ticks: ELECTION_TICKS,
        heartbeat_ticks: 1 + rng.below(3) as u32,
        max_uncommitted_bytes: if rng.chance(30) { 50 } else { u64::MAX },
        max_inflight_messages: 1 + rng.below(4) as usize,
        max_inflight_bytes: if rng.chance(30) {
            1 + rng.below(100)
        } else {
            u64::MAX
        },
        pre_vote: rng.chance(50),
        check_quorum: rng.chance(50),
        async_storage_writes: rng.chance(60),
        gather_appends: rng.chance(50),
        disable_proposal_forwarding: rng.chance(20),
        ..Config::new(ReplicaId(1))
    }
}

/// A message's kind and ends, for an error.
struct DisplayKind<'a>(&'a Message);

impl std::fmt::Display for DisplayKind<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Message { from, to, term, body } = self.0;
        write!(
            f,
            "{from} -> {to} in term {term}: {:?}",
            std::mem::discriminant(body)
        )
    }
}
