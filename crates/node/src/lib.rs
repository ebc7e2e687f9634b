//! A replicated log to embed: the same commands, in the same order, on every member of a group, over real
//! sockets and files, surviving crashes of any minority at a time, and of all at once.
//!
//! Two levels:
//!
//! - [`Node::spawn`] starts a member and gives a [`Handle`] and an [`AppliedStream`]. You start commands with the
//!   one and apply what comes out of the other.
//! - [`Replicated`] does that for a [`StateMachine`] of yours: commands in, their results out, linearizable reads,
//!   snapshots by themselves.
//!
//! [`sim`] runs whole groups on virtual time with simulated networks and disks, for your tests too.
//!
//! # A first group
//!
//! A group of one, which is enough to see how it goes; `examples/kv.rs` is a group of three.
//!
//! ```
//! use std::collections::BTreeMap;
//! use quorate_node::{Applied, ClusterId, Config, Directory, Node, NodeId, Start, StartError, Transport};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("member-1");
//! let transport = Transport::bind("127.0.0.1:0")?;
//! let voters = BTreeMap::from([(NodeId(1), transport.local_addr()?.to_string())]);
//! let config = Config::new(ClusterId(7), NodeId(1), Start::Bootstrap { voters });
//! let (handle, mut applied) = Node::spawn(config, transport, Directory::new(path))?;
//!
//! let started = loop {
//!     match handle.start("hello") {
//!         Ok(started) => break started,
//!         // No election yet. With others there would be a hint whom to ask.
//!         Err(StartError::NotLeader { .. }) => std::thread::sleep(std::time::Duration::from_millis(20)),
//!         Err(error) => return Err(error.into()),
//!     }
//! };
//! while let Some(thing) = applied.recv() {
//!     if let Applied::Command { index, term, data } = thing {
//!         assert_eq!((index, term, &data[..]), (started.index, started.term, &b"hello"[..]));
//!         break;
//!     }
//! }
//! handle.shutdown();
//! # Ok(())
//! # }
//! ```
//!
//! # What it guarantees
//!
//! - **Order.** All members hand up the same commands at the same [`CommandIndex`], 1, 2, 3, … without gaps. After a
//!   restart the newest snapshot comes first, if there is one, then what follows it; nothing is remembered about what
//!   the application had taken before, so its state begins empty with every start (or with a snapshot).
//! - **Durability.** A command is handed up only once a majority of the voters has it on disk, synced, and never
//!   disappears after that: not by `kill -9`, power loss, or loss of any minority of the disks for ever. After a
//!   failed sync a member stops rather than guess (P2), and what was in the page cache when it died is synced before
//!   it speaks again (P1).
//! - **Linearizable reads.** Whoever has applied [`Handle::read_barrier`]'s answer may answer a read that came before
//!   it was asked, on the leader, on followers and on learners (thesis, §6.4). It uses no clock.
//! - **Liveness.** While a majority of the voters runs and can talk, there is a leader after at most a few election
//!   timeouts. A member that was cut off does not disturb the others when it comes back (pre-vote, thesis §9.6), and
//!   a leader without a majority steps down after an election timeout (check-quorum).
//!
//! It does not guarantee that a command runs once: if the outcome is unknown and you start it again, both may be
//! applied. Put an id into the command and let your state machine remember it.
//!
//! # How a command ends
//!
//! [`Handle::start`] returns once the command is in the leader's log. From then on there are three ways, and
//! [`Applied`] says which (rule O1):
//!
//! | you see | it is |
//! | --- | --- |
//! | a [`StartError`] other than `Stopped` | not applied: it was never appended |
//! | [`Applied::Command`] with its index and term | applied |
//! | its index with another term, or anything with a higher term before it | not applied, ever |
//! | [`Applied::Snapshot`] at or past its index; the end of the stream; nothing for too long | unknown |
//!
//! Losing leadership alone decides nothing: the command may be on a majority already.
//! [`Replica`] does this bookkeeping, [`Replicated::submit`] waits for it.
//!
//! # Errors
//!
//! - [`StartError::NotLeader`] has a hint whom to ask. Hints can be old: after a refusal without one, try the others
//!   in turn with a short pause, not in a tight loop.
//! - [`StartError::TransferInProgress`] lasts an election timeout at most.
//! - [`StartError::TooManyUncommittedBytes`] is back-pressure: the majority, or the application on the leader, does
//!   not keep up. Slow down.
//! - A member that cannot go on stops: its stream ends, everything returns `Stopped`, and [`Handle::failure`] says
//!   why. [`FatalError::Log`] is a failed disk. [`FatalError::Identity`] is a member of another group, or one whose
//!   disk was wiped or restored (P7): its peers remember its incarnation and refuse it. Give a replacement a new id.
//! - [`OpenError`] names the file and what is wrong with it. A damaged log is never repaired by forgetting: the
//!   member may have acknowledged what was lost (P3). Remove it and add a fresh one under a new id.
//!
//! # Times
//!
//! All times are ticks ([`Config::tick_us`]). A heartbeat should take a few ticks, an election timeout at least five
//! heartbeats, and much more than a round trip plus the slowest sync you expect: entries and votes are acknowledged
//! only after a sync. The default, an election after 0.5 to 1 s, suits a data centre. Over long distances, or with
//! disks that stall, use two to five times as much. Shorter timeouts find a dead leader sooner and depose live ones
//! more often. All members of a group should have the same.
//!
//! # Membership
//!
//! A group begins with [`Start::Bootstrap`] and the same list everywhere. Later members start with [`Start::Join`]
//! and an empty directory, and wait until the leader is told [`Handle::add_learner`]; when [`Status::matched`] shows
//! that it has caught up, [`Handle::add_voter`] makes it a voter. [`Handle::replace`] and lists of [`Change`]s go
//! through a joint configuration (Raft paper, §6). Ids are never reused (M3); a removed member is told so, takes no
//! further part, and its directory is refused (M4).
//!
//! # Common mistakes
//!
//! - **Treating `start` as done.** It is done when it comes out of the stream.
//! - **Acknowledging on `Unknown`.** Neither yes nor no is true. Say so, or make the command idempotent.
//! - **A state machine that looks at the clock, at randomness, at a hash map's order or at its own address.** Members
//!   then differ, and nobody notices for months. Put the time into the command.
//! - **Not taking from the stream.** The member hands up a bounded number of bytes ahead and then waits; as the
//!   leader it then refuses commands.
//! - **Never making snapshots.** The log then grows for ever, and every restart replays all of it.
//! - **Snapshots from another thread's state.** Give [`Handle::snapshot`] the index of the last command that the
//!   bytes contain, not the newest one.
//! - **Copying a data directory,** or putting an old one back: the member forgets what it promised. Two members with
//!   one id are refused as far as they can be told apart.
//! - **An even number of voters.** Four survive one failure, like three.
//!
//! # Inside
//!
//! `machine` is a member as a deterministic machine: inputs with the time in, effects out. `durable` is what survives:
//! the Raft log and the snapshot file, above `quorate_storage`'s `Disk`. `driver` runs both with two threads, one for
//! sockets and the machine, one for the disk, so that a slow sync stops no heartbeat. [`sim`] runs both on virtual
//! time. Left out: authentication and encryption between members (whoever reaches the port and knows the group's id is
//! believed), snapshots larger than memory, and more than one group on a socket.

mod config;
mod driver;
mod durable;
mod error;
mod machine;
mod member_log;
mod members;
mod rsm;
pub mod sim;
mod types;

pub use config::{Config, LogFiles, Start};
pub use driver::{AppliedStream, Directory, Handle, Node, Replicated, SubmitError, Transport};
pub use error::{
    ChangeError, FatalError, OpenError, ReadError, SnapshotError, SpawnError, StartError, TransferError,
};
pub use quorate_raft::{Index, Role, Term};
pub use quorate_storage::ClusterId;
pub use rsm::{Decided, NotDone, Replica, StateMachine};
pub use types::{Applied, Change, CommandIndex, Membership, NodeId, Started, Status};
