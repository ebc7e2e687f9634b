//! What a turn of the core asks of its driver, in the order in which it must be done.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::{Entry, HardState, Index, Message, ReadContext, ReplicaId, Snapshot, Term};

/// One turn's work. The type says what must be durable before what may be sent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ready {
    /// Set when the role or the known leader changed. Not to be stored.
    pub soft_state: Option<SoftState>,
    /// Reads that may be answered once their index is applied.
    pub read_states: Vec<ReadState>,
    /// May be sent at once, before anything is durable (thesis 10.2.1).
    pub send_now: Vec<Message>,
    /// Must become durable; its messages may be sent only then.
    pub append: Option<AppendWork>,
    /// Committed (and, unless configured otherwise, locally durable) entries to apply, in order.
    pub apply: Option<ApplyWork>,
}

/// Work for the log. Pieces are done in the order in which they were handed out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AppendWork {
    /// To be stored when set.
    pub hard_state: Option<HardState>,
    /// To be appended; an entry at an index that exists replaces it and cuts all behind it.
    pub entries: Vec<Entry>,
    /// To be installed before `entries`; replaces the log.
    pub snapshot: Option<Box<Snapshot>>,
    /// Whether the work must be synced before `responses` may go out. False only when nothing but the
    /// commit index changed.
    pub must_sync: bool,
    /// To be sent once durable; those addressed to this member are stepped into it.
    pub responses: Vec<Message>,
    /// To be given back with [`crate::RawNode::append_done`] once durable, after `responses`.
    pub done: Option<AppendDone>,
}

/// Proof that an [`AppendWork`] is durable. Given back, it is the acknowledgement of a leader that gathers appends
/// ([`crate::Config::gather_appends`]).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppendDone {
    /// The member's term when the work was handed out; stale completions are recognised by it.
    pub term: Term,
    /// The last entry then in the log, and its term; `None` when only a snapshot was installed.
    pub last: Option<(Index, Term)>,
    /// The installed snapshot's index.
    pub snapshot: Option<Index>,
}

/// Work for the state machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ApplyWork {
    /// Contiguous, starting behind the last that was handed out.
    pub entries: Vec<Entry>,
}

/// A batch of reads that a quorum confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadState {
    /// Reads may be answered once this is applied.
    pub index: Index,
    /// The batch.
    pub context: ReadContext,
}

/// Volatile state that callers like to watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SoftState {
    /// The known leader.
    pub leader: Option<ReplicaId>,
    /// This member's role.
    pub role: Role,
}

/// A member's role.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Role {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether it could win, without raising its term.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}
