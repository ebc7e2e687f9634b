//! Three members in one thread. Whatever library they run, they are given the same proposals, their messages are
//! delivered in the same order, and what they apply is checked the same way.

use bytes::Bytes;

/// Bytes of each proposal.
pub(crate) const PAYLOAD_BYTES: usize = 128;
/// Members of the group; the first leads.
pub(crate) const MEMBERS: usize = 3;
/// A member forgets what it applied once it holds this many entries more, so that memory stays bounded.
pub(crate) const COMPACT_EVERY: u64 = 1024;

/// A member of the group, driven by one of the libraries.
pub(crate) trait Member {
    type Message;

    /// A voter of the group of [`MEMBERS`], ids counted from 1, with nothing in its log.
    fn new(id: u64, mode: &str) -> Self;
    fn campaign(&mut self);
    fn is_leader(&self) -> bool;
    /// Enough ticks that a leader sends heartbeats.
    fn heartbeat(&mut self);
    /// Proposes one command.
    fn propose(&mut self, command: Command);
    /// Proposes several commands as one.
    fn propose_batch(&mut self, commands: impl Iterator<Item = Command>);
    fn step(&mut self, message: Self::Message);
    /// Stores, sends and applies what there is to store, send and apply. Returns whether there was any.
    fn turn(&mut self, outbox: &mut Outbox<Self::Message>) -> bool;
    fn applied(&self) -> &Applied;
}

/// Messages on their way, by the index of their receiver.
pub(crate) struct Outbox<M>([Vec<M>; MEMBERS]);

impl<M> Outbox<M> {
    /// Sends to the member with this id.
    pub(crate) fn send(&mut self, to: u64, message: M) {
        self.0[to as usize - 1].push(message);
    }
}

/// What a member applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Applied {
    /// Commands.
    pub(crate) count: u64,
    /// Depends on each command's number and its place in the order.
    pub(crate) digest: u64,
}

impl Applied {
    pub(crate) fn apply(&mut self, payload: &[u8]) {
        let mut number = [0; 8];
        number.copy_from_slice(&payload[..8]);
        self.count += 1;
        self.digest = (self.digest ^ u64::from_le_bytes(number))
            .wrapping_add(payload.len() as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A command as it comes to the library.
pub(crate) enum Command {
    /// In memory of its own.
    Owned(Vec<u8>),
    /// A slice of a larger buffer, as a server has it that reads many commands from a socket at once.
    Shared(Bytes),
}

impl Command {
    pub(crate) fn into_owned(self) -> Vec<u8> {
        match self {
            Command::Owned(data) => data,
            Command::Shared(data) => data.into(),
        }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self {
            Command::Owned(data) => data.into(),
            Command::Shared(data) => data,
        }
    }
}

/// Where commands come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// [`Command::Owned`].
    Owned,
    /// [`Command::Shared`].
    Shared,
}

/// Commands numbered from 1: the number, then zeros.
struct Commands {
    source: Source,
    last: u64,
    buffer: Bytes,
}

impl Commands {
    fn next(&mut self) -> Command {
        self.last += 1;
        match self.source {
            Source::Owned => {
                let mut data = vec![0; PAYLOAD_BYTES];
                data[..8].copy_from_slice(&self.last.to_le_bytes());
                Command::Owned(data)
            }
            Source::Shared => {
                if self.buffer.is_empty() {
                    let mut buffer = vec![0; 256 * PAYLOAD_BYTES];
                    for (number, data) in (self.last..).zip(buffer.chunks_exact_mut(PAYLOAD_BYTES)) {
                        data[..8].copy_from_slice(&number.to_le_bytes());
                    }
                    self.buffer = buffer.into();
                }
                Command::Shared(self.buffer.split_to(PAYLOAD_BYTES))
            }
        }
    }
}

/// How a turn's commands are proposed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proposing {
    /// This many, one after the other.
    Each(u64),
    /// This many as one proposal.
    Batch(u64),
}

pub(crate) struct Cluster<M: Member> {
    members: Vec<M>,
    outbox: Outbox<M::Message>,
    inbox: Vec<M::Message>,
    commands: Commands,
}

impl<M: Member> Cluster<M> {
    /// A group whose first member leads.
    pub(crate) fn new(mode: &str, source: Source) -> Self {
        let mut cluster = Self {
            members: (1..=MEMBERS as u64).map(|id| M::new(id, mode)).collect(),
            outbox: Outbox(std::array::from_fn(|_| Vec::new())),
            inbox: Vec::new(),
            commands: Commands {
                source,
                last: 0,
                buffer: Bytes::new(),
            },
        };
        cluster.members[0].campaign();
        cluster.settle();
        assert!(cluster.members[0].is_leader(), "the first member leads");
        cluster
    }

    /// Proposes `entries` commands, a turn's worth at a time, each turn until nothing is left to do; then checks
    /// that all members applied all of them in the same order.
    pub(crate) fn run(&mut self, proposing: Proposing, entries: u64) {
        let target = self.commands.last + entries;
        while self.commands.last < target {
            self.propose(proposing);
            self.settle();
        }
        // Followers that were not told of the last commit at once hear of it now.
        self.members[0].heartbeat();
        self.settle();
        for member in &self.members {
            assert_eq!(member.applied().count, self.commands.last, "commands applied");
            assert_eq!(member.applied(), self.members[0].applied(), "the same commands");
        }
    }

    fn propose(&mut self, proposing: Proposing) {
        let leader = &mut self.members[0];
        match proposing {
            Proposing::Each(count) => {
                for _ in 0..count {
                    leader.propose(self.commands.next());
                }
            }
            Proposing::Batch(count) => {
                leader.propose_batch((0..count).map(|_| self.commands.next()));
            }
        }
    }

    /// Turns, one member after the other, until there is no message and no work.
    fn settle(&mut self) {
        loop {
            let mut worked = false;
            for (at, member) in self.members.iter_mut().enumerate() {
                std::mem::swap(&mut self.inbox, &mut self.outbox.0[at]);
                worked |= !self.inbox.is_empty();
                for message in self.inbox.drain(..) {
                    member.step(message);
                }
                worked |= member.turn(&mut self.outbox);
            }
            if !worked {
                return;
            }
        }
    }
}
