//! A group of members on one thread and virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bytes::Bytes;
use quorate_proto::NodeMessage;
use quorate_storage::disk::{SimDisk, SplitMix64};
use quorate_storage::{ClusterId, Incarnation};

use super::network::{Delivery, Network, What};
use crate::durable::Durable;
use crate::machine::{Effects, Machine, Reply, RequestId};
use crate::{
    Applied, Change, ChangeError, CommandIndex, Config, FatalError, LogFiles, Membership, NodeId, OpenError,
    ReadError, SnapshotError, Start, StartError, Started, Status, Term, TransferError,
};

/// What a group is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Members `1..=members` form the group at its beginning.
    pub members: u64,
    /// The members' settings; who they are and how they start is filled in.
    pub config: Config,
    /// The least and the most microseconds of a sync.
    pub sync_us: (u64, u64),
}

impl Default for Options {
    /// Three members with ticks of 25 ms, heartbeats of 100 ms, elections after 800 ms to 1.6 s, and small files.
    fn default() -> Self {
        let mut config = Config::new(ClusterId(1), NodeId(1), Start::Join);
        config.tick_us = 25_000;
        config.heartbeat_ticks = 4;
        config.election_ticks = 32;
        config.log_keep_bytes = 0;
        config.snapshot_chunk_bytes = 4 << 10;
        config.log = LogFiles {
            segment_bytes: 32 << 10,
            recycled_segments_max: 1,
        };
        Self {
            members: 3,
            config,
            sync_us: (100, 1000),
        }
    }
}

/// A request whose answer comes later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(u64);

/// A group of members.
pub struct Cluster {
    options: Options,
    now_us: u64,
    rng: SplitMix64,
    network: Network,
    members: BTreeMap<NodeId, Member>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    sequence: u64,
    replies: BTreeMap<Ticket, Reply>,
    next_ticket: u64,
    digest: u64,
}

struct Member {
    disk: SimDisk,
    config: Config,
    /// Counts starts; events of an earlier life are void.
    life: u64,
    running: Option<Running>,
}

struct Running {
    machine: Machine,
    durable: Durable<SimDisk>,
    /// When the last write that is under way will be synced.
    synced_us: u64,
    turn_due: bool,
    applied: Vec<Applied>,
    taken: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Event {
    Tick { id: NodeId, life: u64 },
    Turn { id: NodeId, life: u64 },
    Synced { id: NodeId, life: u64, token: u64 },
}

impl Cluster {
    /// A group whose members have just been started for the first time.
    #[must_use]
    pub fn new(options: Options, seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let network = Network::new(rng.next_u64());
        let mut cluster = Self {
            now_us: 0,
            network,
            rng,
            members: BTreeMap::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            replies: BTreeMap::new(),
            next_ticket: 1,
            digest: 0xcbf2_9ce4_8422_2325,
            options,
        };
        let voters: BTreeMap<NodeId, String> = (1..=cluster.options.members)
            .map(|id| (NodeId(id), format!("member-{id}")))
            .collect();
        for id in voters.keys().copied().collect::<Vec<_>>() {
            let voters = voters.clone();
            cluster.add(id, Start::Bootstrap { voters });
        }
        cluster
    }

    /// Starts a member with an empty disk that waits to be added to the group.
    pub fn join(&mut self, id: NodeId) {
        self.add(id, Start::Join);
    }

    fn add(&mut self, id: NodeId, start: Start) {
        let mut config = self.options.config.clone();
        config.id = id;
        config.start = start;
        let disk = SimDisk::new(self.rng.next_u64());
        let member = Member {
            disk,
            config,
            life: 0,
            running: None,
        };
        let replaced = self.members.insert(id, member);
        assert!(replaced.is_none(), "member {id} is there already");
        self.restart(id);
    }

    // ---- time ----

    /// Microseconds since the beginning.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Tells this run from others: the same seed and the same calls give the same number.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// Lets `us` microseconds pass.
    pub fn run_for(&mut self, us: u64) {
        let until = self.now_us + us;
        while self.step(until).is_some() {}
    }

    /// Does the next thing that is due until then, and says on which member; `None` when the time has come.
    pub fn step(&mut self, until_us: u64) -> Option<NodeId> {
        loop {
            let event = self.events.peek().map(|Reverse((due, ..))| *due);
            let message = self.network.next_due_us();
            let due = event
                .into_iter()
                .chain(message)
                .min()
                .filter(|due| *due <= until_us);
            let Some(due) = due else {
                self.now_us = self.now_us.max(until_us);
                return None;
            };
            self.now_us = self.now_us.max(due);
            let touched = if message == Some(due) && event.is_none_or(|event| event > due) {
                self.deliver()
            } else {
                let Reverse((_, _, event)) = self.events.pop()?;
                self.happen(event)
            };
            if touched.is_some() {
                return touched;
            }
        }
    }

    // ---- members ----

    /// The members that run.
    pub fn running(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members
            .iter()
            .filter(|(_, member)| member.running.is_some())
            .map(|(id, _)| *id)
    }

    /// Whether a member runs.
    #[must_use]
    pub fn is_running(&self, id: NodeId) -> bool {
        self.members
            .get(&id)
            .is_some_and(|member| member.running.is_some())
    }

    /// Kills a member's process: what it wrote stays visible and is as little durable as before.
    pub fn crash_kill(&mut self, id: NodeId) {
        self.stop(id).disk.process_kill();
    }

    /// Cuts a member's power: of what was not synced, the seed decides what is left.
    pub fn crash_power_loss(&mut self, id: NodeId) {
        let seed = self.rng.next_u64();
        self.stop(id).disk.crash(seed);
    }

    fn stop(&mut self, id: NodeId) -> &mut Member {
        self.mix(&[self.now_us, 1, id.0]);
        let Some(member) = self.members.get_mut(&id) else {
            panic!("there is no member {id}");
        };
        member.running = None;
        member
    }

    /// Starts a member again from its disk.
    ///
    /// # Panics
    ///
    /// If it runs, or if it cannot start: use [`Cluster::try_restart`] where that is to be seen.
    pub fn restart(&mut self, id: NodeId) {
        if let Err(error) = self.try_restart(id) {
            panic!("member {id} cannot start: {error}");
        }
    }

    /// Starts a member again from its disk.
    ///
    /// # Errors
    ///
    /// As a real member would refuse its directory.
    pub fn try_restart(&mut self, id: NodeId) -> Result<(), OpenError> {
        let (incarnation, process) = (u128::from(self.rng.next_u64()), self.rng.next_u64());
        let now_us = self.now_us;
        self.mix(&[now_us, 2, id.0]);
        let Some(member) = self.members.get_mut(&id) else {
            panic!("there is no member {id}");
        };
        assert!(member.running.is_none(), "member {id} runs already");
        let (durable, restored) =
            Durable::open(member.disk.clone(), &member.config, Incarnation(incarnation))?;
        let machine = Machine::new(&member.config, restored, process, now_us);
        let machine = machine.unwrap_or_else(|error| panic!("{error}"));
        member.life += 1;
        let life = member.life;
        let tick_us = machine.next_tick_us();
        member.running = Some(Running {
            machine,
            durable,
            synced_us: now_us,
            turn_due: false,
            applied: Vec::new(),
            taken: 0,
        });
        self.push(tick_us, Event::Tick { id, life });
        self.turn(id);
        Ok(())
    }

    /// A member's disk, to damage it.
    #[must_use]
    pub fn disk(&self, id: NodeId) -> Option<&SimDisk> {
        self.members.get(&id).map(|member| &member.disk)
    }

    /// The network.
    pub fn network(&mut self) -> &mut Network {
        &mut self.network
    }

    // ---- what an application does ----

    /// As [`crate::Handle::start`]. What it sends leaves at this same instant, together with what else is
    /// started in it.
    ///
    /// # Errors
    ///
    /// As there; [`StartError::Stopped`] if the member does not run.
    pub fn start(&mut self, id: NodeId, command: &[u8]) -> Result<Started, StartError> {
        let Some(running) = self.running_mut(id) else {
            return Err(StartError::Stopped);
        };
        let started = running.machine.start(command);
        if started.is_ok() {
            self.mix(&[self.now_us, 3, id.0, u64::from(crc32c::crc32c(command))]);
            self.turn_later(id);
        }
        started
    }

    /// Term, and whether the member leads as far as it knows; `None` if it does not run.
    #[must_use]
    pub fn state(&self, id: NodeId) -> Option<(Term, bool)> {
        let member = self.members.get(&id)?;
        member.running.as_ref().map(|running| running.machine.state())
    }

    /// Whether the member leads as far as it knows.
    #[must_use]
    pub fn is_leader(&self, id: NodeId) -> bool {
        self.state(id).is_some_and(|(_, leads)| leads)
    }

    /// The member's account of itself; `None` if it does not run.
    #[must_use]
    pub fn status(&self, id: NodeId) -> Option<Status> {
        let member = self.members.get(&id)?;
        member.running.as_ref().map(|running| running.machine.status())
    }

    /// What was handed up since the last call. Taking it is what the application does.
    pub fn take_applied(&mut self, id: NodeId) -> Vec<Applied> {
        let Some(running) = self.running_mut(id) else {
            return Vec::new();
        };
        let things = std::mem::take(&mut running.applied);
        if !things.is_empty() {
            running.taken += things.len() as u64;
            let taken = running.taken;
            no_fatal(running.machine.taken(taken));
            self.turn_later(id);
        }
        things
    }

    /// As [`crate::Handle::snapshot`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn snapshot(
        &mut self,
        id: NodeId,
        index: CommandIndex,
        data: impl Into<Bytes>,
    ) -> Result<(), SnapshotError> {
        let Some(running) = self.running_mut(id) else {
            return Err(SnapshotError::Stopped);
        };
        let taken = running.machine.snapshot(index, data.into());
        self.turn_later(id);
        taken
    }

    /// As [`crate::Handle::read_barrier`]; the answer is [`Cluster::take_read`]'s.
    pub fn read_barrier(&mut self, id: NodeId) -> Ticket {
        self.ask(id, Reply::Read(Err(ReadError::Stopped)), |machine, request| {
            machine.read_barrier(request);
        })
    }

    /// The answer to [`Cluster::read_barrier`], once it is there.
    pub fn take_read(&mut self, ticket: Ticket) -> Option<Result<CommandIndex, ReadError>> {
        match self.replies.remove(&ticket)? {
            Reply::Read(outcome) => Some(outcome),
            Reply::Change(_) | Reply::Transfer(_) => None,
        }
    }

    /// As [`crate::Handle::change`]; the answer is [`Cluster::take_change`]'s.
    pub fn change(&mut self, id: NodeId, changes: &[Change]) -> Ticket {
        self.ask(
            id,
            Reply::Change(Err(ChangeError::Stopped)),
            |machine, request| {
                machine.change(request, changes);
            },
        )
    }

    /// The answer to [`Cluster::change`], once it is there.
    pub fn take_change(&mut self, ticket: Ticket) -> Option<Result<Membership, ChangeError>> {
        match self.replies.remove(&ticket)? {
            Reply::Change(outcome) => Some(outcome),
            Reply::Read(_) | Reply::Transfer(_) => None,
        }
    }

    /// As [`crate::Handle::transfer`]; the answer is [`Cluster::take_transfer`]'s.
    pub fn transfer(&mut self, id: NodeId, to: NodeId) -> Ticket {
        self.ask(
            id,
            Reply::Transfer(Err(TransferError::Stopped)),
            |machine, request| {
                no_fatal(machine.transfer(request, to));
            },
        )
    }

    /// The answer to [`Cluster::transfer`], once it is there.
    pub fn take_transfer(&mut self, ticket: Ticket) -> Option<Result<(), TransferError>> {
        match self.replies.remove(&ticket)? {
            Reply::Transfer(outcome) => Some(outcome),
            Reply::Read(_) | Reply::Change(_) => None,
        }
    }

    fn ask(&mut self, id: NodeId, stopped: Reply, ask: impl FnOnce(&mut Machine, RequestId)) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.mix(&[self.now_us, 4, id.0, ticket.0]);
        match self.running_mut(id) {
            Some(running) => {
                ask(&mut running.machine, RequestId(ticket.0));
                self.turn_later(id);
            }
            None => {
                self.replies.insert(ticket, stopped);
            }
        }
        ticket
    }

    // ---- events ----

    fn running_mut(&mut self, id: NodeId) -> Option<&mut Running> {
        self.members.get_mut(&id)?.running.as_mut()
    }

    /// The member, if it is still in that life.
    fn alive(&mut self, id: NodeId, life: u64) -> Option<&mut Running> {
        self.members
            .get_mut(&id)
            .filter(|member| member.life == life)?
            .running
            .as_mut()
    }

    fn push(&mut self, due_us: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((due_us, self.sequence, event)));
    }

    /// Ends the member's turn at this same instant, after what else happens in it.
    fn turn_later(&mut self, id: NodeId) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let life = member.life;
        if let Some(running) = &mut member.running
            && !running.turn_due
        {
            running.turn_due = true;
            self.push(self.now_us, Event::Turn { id, life });
        }
    }

    fn happen(&mut self, event: Event) -> Option<NodeId> {
        let now_us = self.now_us;
        let id = match event {
            Event::Tick { id, life } => {
                let running = self.alive(id, life)?;
                no_fatal(running.machine.tick(now_us));
                let next = running.machine.next_tick_us().max(now_us + 1);
                self.push(next, event);
                id
            }
            Event::Turn { id, life } => {
                self.alive(id, life)?;
                id
            }
            Event::Synced { id, life, token } => {
                let running = self.alive(id, life)?;
                no_fatal(running.durable.sync());
                no_fatal(running.machine.written(token));
                self.mix(&[now_us, 5, id.0, token]);
                id
            }
        };
        self.turn(id);
        Some(id)
    }

    fn deliver(&mut self) -> Option<NodeId> {
        let Delivery { from, to, what } = self.network.receive(self.now_us)?;
        match what {
            What::Message(bytes) => {
                self.mix(&[self.now_us, from.0, to.0, u64::from(crc32c::crc32c(&bytes))]);
                let now_us = self.now_us;
                let running = self.running_mut(to)?;
                match NodeMessage::decode(bytes) {
                    Ok(message) => {
                        no_fatal(running.machine.tick(now_us));
                        no_fatal(running.machine.message(from, message));
                    }
                    Err(error) => panic!("a message that was encoded cannot be decoded: {error}"),
                }
                self.turn(to);
                Some(to)
            }
            What::Unreachable => {
                self.running_mut(from)?.machine.unreachable(to);
                self.turn(from);
                Some(from)
            }
        }
    }

    /// Ends a member's turn, and does what it asks for.
    fn turn(&mut self, id: NodeId) {
        let now_us = self.now_us;
        let (least, most) = self.options.sync_us;
        let sync_us = least + self.rng.below(most.saturating_sub(least) + 1);
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let life = member.life;
        let Some(running) = &mut member.running else {
            return;
        };
        running.turn_due = false;
        no_fatal(running.machine.advance());
        let Effects {
            sends,
            writes,
            applied,
            replies,
            maintain,
            addresses: _,
        } = running.machine.take_effects();
        running.applied.extend(applied);
        let mut last = None;
        for write in &writes {
            no_fatal(running.durable.write(write));
            last = Some(write.token);
        }
        let synced = last.map(|token| {
            running.synced_us = running.synced_us.max(now_us + sync_us);
            (running.synced_us, token)
        });
        if maintain {
            while no_fatal(running.durable.maintain()) {}
        }
        if let Some((due_us, token)) = synced {
            self.push(due_us, Event::Synced { id, life, token });
        }
        for (to, message) in sends {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            self.network
                .send(now_us, id, to, is_reply(&message), bytes.into());
        }
        for (request, reply) in replies {
            self.replies.insert(Ticket(request.0), reply);
        }
    }

    fn mix(&mut self, values: &[u64]) {
        for value in values {
            self.digest = (self.digest ^ value).wrapping_mul(0x0000_0100_0000_01b3);
            self.digest ^= self.digest >> 29;
        }
    }
}

fn is_reply(message: &NodeMessage) -> bool {
    match message {
        NodeMessage::Raft(message) => message.body.is_response(),
        NodeMessage::SnapshotAck(_) => true,
        NodeMessage::SnapshotChunk(_) | NodeMessage::Removed => false,
    }
}

/// A member that must stop is a bug here: nothing was done to its disk while it ran.
fn no_fatal<T>(result: Result<T, FatalError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("a member had to stop: {error}"),
    }
}
