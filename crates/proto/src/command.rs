//! Commands on keys: what a client asks, what the log carries, what is answered.

use bytes::Bytes;
use quorate_raft::ReplicaId;
use quorate_storage::{ShardId, StoreId};

use crate::Epoch;

use crate::{ControlCommand, ControlQuery};

/// What a log entry carries: one write, with what makes applying it a pure function.
#[derive(Clone, PartialEq, Debug)]
pub struct Command {
    /// The shard's time in milliseconds since the Unix epoch, given by the proposing leader (T1).
    pub stamp_ms: u64,
    /// Identity for exactly-once, when the client has one (S).
    pub session: Option<SessionWrite>,
    /// The write. Relative deadlines were made absolute (T1).
    pub op: Op,
}

/// A client's identity for one exactly-once write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Session {
    /// The session's id: opening time and randomness (S1).
    pub client: u128,
    /// The write's number.
    pub seq: u64,
    /// The lowest number whose answer the client may still ask for (S3).
    pub lowest: u64,
    /// Which of the single-key writes that make up a multi-key write this is, counted from 0 (S5).
    pub position: u32,
}

/// A session's write as the log carries it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionWrite {
    /// Whose it is.
    pub session: Session,
    /// A hash of the write as the client sent it, before its deadline was made absolute: another command under
    /// the same identity is refused by it (S4).
    pub fingerprint: u64,
}

/// A session in a shard's state: what the shard remembers of a client (S2).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionRow {
    /// The lowest number that the client may still ask for; lower ones are refused as forgotten (S3).
    pub lowest: u64,
    /// The answers that are kept, in ascending order of number and position.
    pub held: Vec<HeldAnswer>,
}

/// An answer that a shard keeps for a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldAnswer {
    /// The write's number.
    pub seq: u64,
    /// Its position in a multi-key write.
    pub position: u32,
    /// Where it is.
    pub kept: Kept,
}

/// Where an answer is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kept {
    /// In the session's row: most are small.
    Here(AnswerRow),
    /// In a row of its own.
    Apart {
        /// Bytes that the row takes, key and value; above zero.
        bytes: u32,
    },
}

/// An answer in a shard's state, in its session's row or in one of its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AnswerRow {
    /// See [`SessionWrite::fingerprint`].
    pub fingerprint: u64,
    /// The slot that the write was routed by, so that a split can divide the table; `None` for a write on the
    /// whole shard.
    pub slot: Option<u16>,
    /// What the write answered.
    pub answer: Answer,
}

/// What a shard knows of its sessions as a whole (S3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SessionTotals {
    /// Sessions opened at or before this, in milliseconds since the Unix epoch, that have no row are forgotten.
    pub expired_through_ms: u64,
    /// Sessions with a row.
    pub sessions: u64,
    /// Answers kept.
    pub answers: u64,
    /// Bytes of all rows, keys and values.
    pub bytes: u64,
}

/// A point in time for a deadline, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    /// Milliseconds from now; becomes [`Expiry::At`] when the leader proposes (T1).
    In(i64),
    /// Milliseconds since the Unix epoch. In the past: expired at once.
    At(i64),
}

/// What a SET does with the deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetExpiry {
    /// The key gets no deadline.
    Clear,
    /// The key keeps the one it has.
    Keep,
    /// The key gets this one.
    Set(Expiry),
}

/// When a SET takes effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetCondition {
    /// Always.
    Always,
    /// Only if the key does not exist (NX).
    IfAbsent,
    /// Only if it exists (XX).
    IfPresent,
}

/// When an EXPIRE takes effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExpireCondition {
    /// Always.
    Always,
    /// NX: only without a deadline.
    IfNone,
    /// XX: only with one.
    IfSome,
    /// GT: only if later than the current one (none counts as infinite).
    IfLater,
    /// LT: only if earlier than the current one (none counts as infinite).
    IfEarlier,
    /// XX and LT: only if there is one and this one is earlier.
    IfSomeEarlier,
}

/// A write on the keys of one shard.
#[derive(Clone, PartialEq, Debug)]
pub enum Op {
    /// SET and its kin. Answers Ok; Nil if the condition failed; with `get` the old value or Nil.
    Set {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
        /// The deadline.
        expiry: SetExpiry,
        /// When.
        condition: SetCondition,
        /// Answer the old value instead of Ok.
        get: bool,
    },
    /// Answers the new length.
    Append {
        /// The key.
        key: Bytes,
        /// What is appended.
        value: Bytes,
    },
    /// Answers the new length; pads with zeros. An empty value changes nothing.
    SetRange {
        /// The key.
        key: Bytes,
        /// Where, in bytes.
        offset: u64,
        /// What.
        value: Bytes,
    },
    /// INCR and its kin. Answers the new value.
    Increment {
        /// The key.
        key: Bytes,
        /// Added.
        delta: i64,
    },
    /// INCRBYFLOAT. Answers the new value as a bulk string.
    IncrementFloat {
        /// The key.
        key: Bytes,
        /// Added; finite.
        delta: f64,
    },
    /// Answers the old value or Nil.
    GetDelete {
        /// The key.
        key: Bytes,
    },
    /// GETEX with a change of the deadline; `None` removes it. Answers the value or Nil.
    GetExpire {
        /// The key.
        key: Bytes,
        /// The new deadline.
        expiry: Option<Expiry>,
    },
    /// Answers 1 if the key existed, else 0.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Answers 1 if the deadline was set (or the key deleted, being past it), else 0.
    Expire {
        /// The key.
        key: Bytes,
        /// The deadline.
        expiry: Expiry,
        /// When.
        condition: ExpireCondition,
    },
    /// Answers 1 if a deadline was removed, else 0.
    Persist {
        /// The key.
        key: Bytes,
    },
    /// Answers 1 if none of the keys existed and all were set, else 0. All keys have one slot.
    SetAllIfAbsent {
        /// Keys and values.
        pairs: Vec<(Bytes, Bytes)>,
    },
    /// Sets the value if the key holds `expected`. Answers 1 if it did, 0 if the key holds another value, -1 if there is
    /// no such key.
    CompareAndSet {
        /// The key.
        key: Bytes,
        /// What the key must hold.
        expected: Bytes,
        /// The new value.
        value: Bytes,
        /// The deadline.
        expiry: SetExpiry,
    },
    /// Settles the session's write that has this op's identity: if it did not run, it never will. Answers what the
    /// write answered, or [`Answer::NeverRuns`].
    Settle {
        /// The key of the write in question.
        key: Bytes,
    },
    /// Removes every key of the shard. Answers Ok.
    Flush,
    /// Removes keys whose deadline has passed by the shard's time (T3). Answers the number removed.
    Sweep {
        /// Deadline and key, as the expiry index holds them.
        due: Vec<(u64, Bytes)>,
    },
    /// Advances the shard's time (T2). Answers Ok.
    Noop,
    /// Forgets sessions (S3). Answers how many there were.
    ExpireSessions {
        /// Their ids.
        clients: Vec<u128>,
    },
    /// A command of the controller, for shard 0 only.
    Control(Box<ControlCommand>),
    /// Gives the slots from `slot` on to a new shard. Answers Ok. Proposed by the shard's leader only.
    Split(Box<Split>),
}

/// A split of a shard: the shard keeps what is below `slot`, a new one gets the rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Split {
    /// The new shard's first slot, above the first one of the shard that is split.
    pub slot: u16,
    /// The new shard.
    pub child: ShardId,
    /// Its replicas: one on each store that holds a voter of the shard, sorted by replica.
    pub replicas: Vec<(ReplicaId, StoreId)>,
    /// The shard as the proposing leader knew it. One that has changed since is not split.
    pub epoch: Epoch,
}

impl Op {
    /// The keys that it names, in their order; none for one on the whole shard.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        let (key, pairs, due): (_, &[_], &[_]) = match self {
            Op::Set { key, .. }
            | Op::Append { key, .. }
            | Op::SetRange { key, .. }
            | Op::Increment { key, .. }
            | Op::IncrementFloat { key, .. }
            | Op::GetDelete { key }
            | Op::GetExpire { key, .. }
            | Op::Delete { key }
            | Op::Expire { key, .. }
            | Op::Persist { key }
            | Op::CompareAndSet { key, .. }
            | Op::Settle { key } => (Some(key), &[], &[]),
            Op::SetAllIfAbsent { pairs } => (None, pairs, &[]),
            Op::Sweep { due } => (None, &[], due),
            Op::Flush | Op::Noop | Op::ExpireSessions { .. } | Op::Control(_) | Op::Split(_) => {
                (None, &[], &[])
            }
        };
        let pairs = pairs.iter().map(|(key, _)| key);
        key.into_iter().chain(pairs).chain(due.iter().map(|(_, key)| key))
    }
}

/// A read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Query {
    /// The value or Nil.
    Get {
        /// The key.
        key: Bytes,
    },
    /// 1 or 0.
    Exists {
        /// The key.
        key: Bytes,
    },
    /// Length in bytes, 0 if absent.
    StrLen {
        /// The key.
        key: Bytes,
    },
    /// Part of the value as Redis's GETRANGE defines it.
    GetRange {
        /// The key.
        key: Bytes,
        /// First byte; negative counts from the end.
        start: i64,
        /// Last byte, inclusive; negative counts from the end.
        end: i64,
    },
    /// The absolute deadline in ms ([`Answer::Int`]), -1 without one, -2 without the key.
    Deadline {
        /// The key.
        key: Bytes,
    },
    /// Keys of the shard from `from` on, at slots below `end_slot`.
    Scan {
        /// Where to start, inclusive.
        from: ScanPosition,
        /// Exclusive.
        end_slot: u16,
        /// How many keys to look at; a run of equal positions is never cut.
        limit: u32,
        /// Glob; `None` matches all.
        pattern: Option<Bytes>,
        /// Only count them: the answer's keys stay empty.
        count_only: bool,
    },
    /// A read of the controller's state, for shard 0 only.
    Control(ControlQuery),
    /// Takes timestamps that were never given before, one after the other, and higher than all that were given to whoever
    /// had an answer by now. Answers the first ([`Answer::Int`]). For shard 0 only.
    Timestamps {
        /// How many, 1 to [`TIMESTAMPS_MAX`](crate::TIMESTAMPS_MAX).
        count: u32,
    },
    /// Nothing: confirms that the shard answers (used by barriers). Answers Ok.
    Barrier,
}

/// A position in SCAN's order: keys of a slot are ordered by a hash, so that a cursor fits 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct ScanPosition {
    /// The slot, below 16384.
    pub slot: u16,
    /// The key's hash inside the slot.
    pub hash: u32,
}

/// What a command answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Done.
    Ok,
    /// No such key, or a condition that failed.
    Nil,
    /// A number.
    Int(i64),
    /// A value.
    Bulk(Bytes),
    /// A page of a scan.
    Page {
        /// Where to go on; `None` at the end of the asked range.
        next: Option<ScanPosition>,
        /// The keys that matched.
        keys: Vec<Bytes>,
        /// How many matched.
        count: u64,
    },
    /// The command cannot be run on what the key holds; nothing was changed.
    Error(CommandError),
    /// Kept in place of an answer: the write was settled before it ran, so it never will.
    NeverRuns,
}

/// Why a command was refused by the state it met. Every replica refuses alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The stored value is not a 64-bit integer.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// The sum leaves 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// The stored value is not a float.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// The sum is not finite.
    #[error("ERR increment would produce NaN or Infinity")]
    NotFinite,
    /// A membership change is under way.
    #[error("BUSY a membership change of the shard is under way; wait for it, or abort it")]
    ChangeUnderWay,
    /// A store that is to hold the shard holds it already.
    #[error("ERR the store holds a replica of the shard already")]
    AlreadyMember,
    /// A store is to be removed, or to lead, that has no voter of the shard.
    #[error("ERR the store holds no voter of the shard")]
    NotAMember,
    /// A shard cannot be without replicas.
    #[error("ERR the last replica of a shard cannot be removed")]
    LastReplica,
    /// More replicas than a shard may have.
    #[error("ERR a shard has at most 9 replicas")]
    TooManyReplicas,
    /// A store that is to hold the shard, or to lead it, is not connected to its leader.
    #[error("ERR the store is unknown or not connected to the shard's leader")]
    StoreAway,
    /// No change is asked for, or none is under way that could be aborted.
    #[error("ERR there is no membership change to make or to abort")]
    NoChange,
    /// A replica id that the shard had before (M3).
    #[error("ERR replica ids are never used again")]
    ReplicaIdUsed,
    /// The store that is to lead lags behind.
    #[error("ERR the store's replica lags behind or is being handed leadership already")]
    NotReady,
    /// A command of the controller for a shard that is not the controller's.
    #[error("ERR only shard 0 takes commands of the controller")]
    NotController,
    /// The cluster has begun already (PS-08).
    #[error("ERR the cluster has been bootstrapped already")]
    AlreadyBootstrapped,
    /// The cluster has not begun.
    #[error("ERR the cluster has not been bootstrapped")]
    NotBootstrapped,
    /// A store without an id of this cluster.
    #[error("ERR the store has no id of this cluster")]
    UnknownStore,
    /// A store under the id of another one: its disk was wiped, or it was copied (P7).
    #[error(
        "ERR the store's id was first seen with another incarnation: its disk was wiped, and it may only come back under a new id"
    )]
    OtherIncarnation,
    /// A store that was removed.
    #[error(
        "ERR the store was removed and its id is gone for good; with an empty directory it can join under a new one"
    )]
    StoreRemoved,
    /// A store is to be removed that is not draining.
    #[error("ERR only a store that is draining can be removed: drain it first")]
    NotDraining,
    /// A store is to be removed that still has something.
    #[error("BUSY the store still holds replicas; send the command again when they have been moved away")]
    HoldsReplicas,
    /// The controller's leader knows too little so far.
    #[error(
        "BUSY the controller's leader has not heard of all shards and stores for long enough; send the command again"
    )]
    NotHeardYet,
    /// A store is said to be lost that is heard.
    #[error(
        "ERR a store that is named as lost is alive: it was heard within the last seconds; nothing is lost with it"
    )]
    StoreAlive,
    /// A store that is not said to be lost is not heard.
    #[error(
        "BUSY a store that is not named as lost is silent, and may hold more than the others; wait for it, or name it too if it is gone for good"
    )]
    StoreSilent,
    /// A store with labels that it cannot have.
    #[error(
        "ERR a store has at most 16 labels, with names and values of 1 to 64 letters, digits and - _ . / :"
    )]
    WrongLabels,
    /// A command of the controller that asks for nothing, or for too much.
    #[error("ERR the controller's command is out of range")]
    OutOfRange,
    /// A group is to join that is there already.
    #[error("ERR there is a group with that id already; `config` lists the groups")]
    GroupExists,
    /// A group is meant that is not there.
    #[error("ERR there is no group with that id; `config` lists the groups")]
    UnknownGroup,
    /// A group without stores, or no group, is to join.
    #[error("ERR a join needs at least one group, and each group at least one store")]
    JoinsNothing,
    /// A store is to be in two groups.
    #[error("ERR the store is in another group; it can be in one only")]
    StoreElsewhere,
    /// A node is to be in a group that is not there for that.
    #[error(
        "ERR the node has no store role and holds no shards; it gets it by a start with --roles controller,store"
    )]
    NoStoreRole,
    /// The last store of a group is to go, or a group is to come without any.
    #[error("ERR the group would be left without stores; let the group leave, or give it other stores first")]
    GroupEmptied,
    /// The last group is to leave, and somebody has to hold the shards.
    #[error("ERR the last group cannot leave: nobody would hold its shards; join another group first")]
    LastGroup,
    /// A shard is meant that is not there.
    #[error("ERR there is no shard with that id; `config` lists the shards")]
    UnknownShard,
    /// A shard is to be split at a slot that is not behind its first one.
    #[error(
        "ERR the shard cannot be split there; the slot must lie inside the shard and behind its first one"
    )]
    SlotNotInside,
    /// The new shard or its replicas cannot have the ids that they were given.
    #[error("ERR the new shard needs an id of its own and one for each of its replicas")]
    WrongIds,
    /// The shard is not any more what the command was meant for.
    #[error("BUSY the shard has changed meanwhile; look at it and send the command again")]
    ShardChanged,
    /// A split of the shard is under way.
    #[error("BUSY a split of the shard is under way")]
    SplitUnderWay,
    /// The result would be longer than a value may be.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    TooLong,
}
