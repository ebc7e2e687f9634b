//! The replicated state machine beside the key-value one: what shard 0 hosts for the controller.
//!
//! A machine keeps its state in memory and as rows, which lie in the shard's part of the engine under a kind of their
//! own (`kv`). So they are in the batch that carries the applied index, in snapshots and in digests, without the
//! machine knowing of any of these.

use bytes::Bytes;
use quorate_proto::{
    Answer, CommandError, ControlCommand, ControlQuery, Heartbeat, Op, Order, Outcome, Query, Recovery,
    Survivor,
};
use quorate_raft::Term;
use quorate_storage::engine::{Engine, EngineError, Pair, View};
use quorate_storage::{ShardId, StoreId};

use crate::descriptor::{Descriptor, damaged};
use crate::io::Times;
use crate::kv::{self, Space, Txn};
use crate::replica::PendingRead;
use crate::store::Store;

/// The shard that hosts the controller.
pub const CONTROLLER: ShardId = ShardId(0);

/// Rows that a command changed; `None`: it goes.
pub type RowChanges = Vec<(Bytes, Option<Bytes>)>;

/// The moment, for the leader of the machine's shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reign {
    /// In which it leads.
    pub term: Term,
    /// Monotonic microseconds of its process.
    pub now_us: u64,
}

/// What the machine says on the leader to a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// This.
    Answer(Answer),
    /// Nothing before this command is applied; then it is to be asked again.
    After(ControlCommand),
}

/// How much the schedulers may have under way at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Shards whose members change.
    pub changes: usize,
    /// Of these, replicas that a store is getting.
    pub incoming: usize,
    /// Leaders moved in one round.
    pub leaders: usize,
}

/// By what the schedulers work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Microseconds of silence after which others are to hold what a store holds.
    pub replace_after_us: u64,
    /// Microseconds between two rounds, at least.
    pub round_us: u64,
    /// How much may be under way.
    pub limits: Limits,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            replace_after_us: 1_800_000_000,
            round_us: 1_000_000,
            limits: Limits {
                changes: 16,
                incoming: 4,
                leaders: 16,
            },
        }
    }
}

/// What became of the schedulers' operators in a round.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tally {
    /// Decided.
    pub given: u64,
    /// The shard is as it was to be.
    pub done: u64,
    /// Overtaken by something else, or not wanted any more.
    pub void: u64,
    /// The shard went back (M2).
    pub failed: u64,
    /// Not begun or not ended in time.
    pub timed_out: u64,
}

impl Tally {
    /// Adds another round's.
    pub fn add(&mut self, round: Self) {
        self.given += round.given;
        self.done += round.done;
        self.void += round.void;
        self.failed += round.failed;
        self.timed_out += round.timed_out;
    }
}

/// A state machine that a shard's log drives.
pub trait StateMachine: Send {
    /// Takes over the state that rows hold, in ascending order of their keys, and forgets what it had. Without rows it
    /// is the state before the first command.
    ///
    /// # Errors
    ///
    /// Why the rows are not what [`StateMachine::apply`] has made: they are damaged, or of a newer version.
    fn load(&mut self, rows: &[Pair]) -> Result<(), String>;

    /// Applies a command at the shard's time `stamp_ms` (T1): a pure function of the state and the arguments, the same
    /// on every replica. `rows` takes the rows that changed, with keys that are not empty. An [`Answer::Error`] changes
    /// nothing.
    fn apply(&mut self, stamp_ms: u64, command: &ControlCommand, rows: &mut RowChanges) -> Answer;

    /// The leader looks at a command before it proposes it, with what it has heard: that is not replicated, so
    /// [`StateMachine::apply`] cannot judge by it. `reign` is none while the leader has not applied what others had
    /// proposed before it. A refusal is the command's answer, and nothing is proposed. Commands that change groups or the
    /// service of stores are considered one after the other, each when those before it are applied. For the others things
    /// may change in between, so whatever must never happen is refused by `apply` as well.
    ///
    /// # Errors
    ///
    /// Why it is not proposed.
    fn consider(&self, _reign: Option<Reign>, _command: &ControlCommand) -> Result<(), CommandError> {
        Ok(())
    }

    /// The leader hears a store. What the machine makes of it is its own and neither replicated nor kept: the leader of
    /// another term hears all anew. Returns how many of the shards told of are refused; none if the store is to be left
    /// without an answer.
    fn hear(&mut self, reign: Reign, beat: &Heartbeat) -> Option<u64>;

    /// The leader's schedulers: what is ordered of a store that was just heard, of the shards that it leads, and what
    /// became of earlier orders. As [`StateMachine::hear`], neither replicated nor kept.
    fn orders(&mut self, reign: Reign, store: StoreId, policy: &Policy) -> (Vec<Order>, Tally);

    /// The leader hears which replicas on a store hear no leader. As [`StateMachine::hear`], neither replicated nor kept.
    fn hear_survivors(&mut self, _reign: Reign, _store: StoreId, _survivors: Vec<Survivor>) {}

    /// What a store that was just heard is to go on with alone: what the log says and is not known to be done.
    fn recoveries(&self, _reign: Reign, _store: StoreId) -> Vec<Recovery> {
        Vec::new()
    }

    /// What the leader has heard and the log is to say: each is proposed, and again if that comes to nothing.
    fn due(&self, reign: Reign) -> Vec<ControlCommand>;

    /// Answers a read, on the leader.
    fn query(&self, reign: Reign, query: &ControlQuery) -> Answer;

    /// Gives so many timestamps, on the leader, which was confirmed after it was asked ([`Query::Timestamps`]).
    fn timestamps(&mut self, reign: Reign, count: u32) -> Said;
}

/// Applies a command to the machine and puts the rows that it changed into the batch.
pub(crate) fn apply<V: View + ?Sized>(
    txn: &mut Txn<'_, V>,
    machine: &mut dyn StateMachine,
    (shard, space): (ShardId, Space),
    stamp_ms: u64,
    command: &ControlCommand,
) -> Answer {
    if shard != CONTROLLER {
        return Answer::Error(CommandError::NotController);
    }
    let mut rows = RowChanges::new();
    let answer = machine.apply(stamp_ms, command, &mut rows);
    assert!(
        rows.is_empty() || !matches!(answer, Answer::Error(_)),
        "{command:?} was refused and changed {} rows",
        rows.len()
    );
    for (row, value) in rows {
        let key = kv::control_key(space, &row);
        match value {
            Some(value) => txn.put(key, value),
            None => txn.delete(key),
        }
    }
    answer
}

/// The rows of a shard's machine, in ascending order.
pub(crate) fn rows(view: &impl View, space: Space) -> Result<Vec<Pair>, EngineError> {
    let (start, end) = kv::control_range(space);
    let header = kv::control_key(space, &[]).len();
    let pairs = view.scan(&start, &end);
    pairs
        .map(|pair| pair.map(|(key, value)| (key.slice(header..), value)))
        .collect()
}

impl<E: Engine> Store<E> {
    /// Answers a read of the machine, by who leads: one that was deposed and whose lease still runs has applied what those
    /// after it did, and knows nothing of what it did not hear.
    pub(crate) fn serve_machine(&mut self, times: Times, at: usize, read: PendingRead) {
        let replica = &self.replicas[at];
        if !replica.serves() {
            return self.retry_read(at, read);
        }
        let reign = replica.reign(times);
        let said = match &read.query {
            Query::Control(query) => Said::Answer(self.machine.query(reign, query)),
            Query::Timestamps { count } => self.machine.timestamps(reign, *count),
            query => unreachable!("{query:?} is not the machine's"),
        };
        match said {
            Said::Answer(answer) => self.answer(read.waiter, Outcome::Done(answer)),
            Said::After(command) => {
                let index = self.take_own_write(times, at, Op::Control(Box::new(command)));
                let waiting = self.replicas[at].reads_applied.entry(index);
                waiting.or_default().push(read);
            }
        }
    }

    /// What the engine holds of the machine's state; none without a replica of shard 0 here. For the simulator's checks.
    ///
    /// # Errors
    /// When the engine cannot be read.
    pub fn controller_rows(&self) -> Result<Option<Vec<Pair>>, EngineError> {
        let Some(of) = self.descriptor(CONTROLLER) else {
            return Ok(None);
        };
        rows(&self.engine, of.sessions).map(Some)
    }

    /// The machine takes over what the engine holds for a replica of shard 0, which was opened or fed a snapshot.
    pub(crate) fn load_machine(&mut self, of: &Descriptor) -> Result<(), EngineError> {
        if of.shard != CONTROLLER {
            return Ok(());
        }
        let rows = rows(&self.engine, of.sessions)?;
        self.machine.load(&rows).map_err(|reason| EngineError {
            reason: format!("the controller's rows: {reason}"),
            ..damaged("controller")
        })
    }
}
