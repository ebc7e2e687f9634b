//! Order within a connection.
//!
//! The requests of one stream (a connection) for one target (a slot) form a **lane**. They take effect in the
//! order in which they came, however they travel. Several may be under way at once, because a leader takes what
//! one connection brings in its order. Four rules keep it so where that is not enough:
//!
//! 1. All that are under way are at one store. A request that would go to another one waits until the others
//!    have ended: neither would know of the other.
//! 2. A request that came back (unproposed, or under a session: O1, O2) is sent again only when nothing behind it
//!    is under way, and only if nothing behind it had its effect or may have had it. Otherwise it is refused. So of
//!    several writes that were under way at a leader that is gone, only the last is sent again.
//! 3. What comes while others wait waits behind them.
//! 4. A write waits for the reads before it: a read has its effect when it is answered, which may be later than
//!    the next write's.
//!
//! A read behind others is taken `in_order` by the leader, which is enough for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use quorate_proto::{ForwardBody, UnknownReason};
use quorate_raft::mutant;
use quorate_storage::{ShardId, StoreId};

use crate::{ClientRequest, RequestId, RouteMode, Target};

/// Names a lane.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct LaneKey {
    stream: u64,
    target: Target,
}

/// A client's request with its place among the others.
#[derive(Clone, Debug)]
pub(crate) struct Routed {
    pub(crate) request: ClientRequest,
    /// Counts the node's requests; a lane's are in this order.
    pub(crate) order: u64,
    /// For a write on a whole shard: the shard's version when it came. It is not meant for what a split leaves.
    pub(crate) version: Option<u64>,
    pub(crate) deadline_us: u64,
    /// Why the outcome of an attempt at this write is unknown, if that of any is: it may have run.
    pub(crate) unsure: Option<UnknownReason>,
    /// The shard for which this node opened the write's session (S6).
    pub(crate) own_session: Option<ShardId>,
}

impl Routed {
    /// A request of which only the ticket and what it asks were kept.
    pub(crate) fn again(ticket: Ticket, body: ForwardBody, deadline_us: u64) -> Self {
        let LaneKey { stream, target } = ticket.lane;
        Self {
            request: ClientRequest {
                id: ticket.id,
                stream,
                target,
                body,
                session: None,
                mode: RouteMode::Proxy,
                timeout_ms: 0, // the deadline says it
            },
            order: ticket.order,
            version: None,
            deadline_us,
            unsure: None,
            own_session: None,
        }
    }

    /// Whether it could go on under another identity: this node gave it the one it has, and under that it
    /// certainly did not run.
    pub(crate) fn may_change_session(&self) -> bool {
        self.own_session.is_some() && self.unsure.is_none()
    }

    pub(crate) fn ticket(&self) -> Ticket {
        Ticket {
            id: self.request.id,
            lane: LaneKey {
                stream: self.request.stream,
                target: self.request.target,
            },
            order: self.order,
            write: !matches!(self.request.body, ForwardBody::Read(_)),
        }
    }
}

/// What whoever answers a request has to know of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) id: RequestId,
    pub(crate) lane: LaneKey,
    pub(crate) order: u64,
    pub(crate) write: bool,
}

/// What may be done with a request now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It goes. `in_order`: others are under way before it.
    Go { in_order: bool },
    /// Not yet.
    Wait,
    /// Never: a later one had its effect.
    Overtaken,
}

/// Invariants: `waiting` is sorted by order; while anything is under way, nothing above `newest` is.
#[derive(Debug)]
pub(crate) struct Lane {
    waiting: VecDeque<Routed>,
    reads: u32,
    writes: u32,
    /// Where those under way are (rule 1).
    at: StoreId,
    /// The highest order that went there.
    newest: u64,
    /// The highest order that had its effect or may still have it.
    decided: u64,
    /// Who leads, by the word of whoever sent the waiting ones back.
    hint: Option<StoreId>,
    /// Nothing is known that would be better than before: wait for a tick or for news of a leader.
    held: bool,
}

impl Lane {
    fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            reads: 0,
            writes: 0,
            at: StoreId(0),
            newest: 0,
            decided: 0,
            hint: None,
            held: false,
        }
    }

    fn is_busy(&self) -> bool {
        self.reads > 0 || self.writes > 0
    }

    /// Whether the oldest request that is not under way may go to `to`.
    fn judge(&self, ticket: &Ticket, to: Option<StoreId>) -> Verdict {
        if ticket.order < self.decided {
            return Verdict::Overtaken;
        }
        let Some(to) = to.filter(|_| !self.held) else {
            return Verdict::Wait;
        };
        let busy = self.is_busy();
        if busy && (self.at != to || ticket.order < self.newest)
            || ticket.write && self.reads > 0 && !mutant!("write-does-not-wait-for-reads")
        {
            return Verdict::Wait;
        }
        Verdict::Go {
            in_order: busy && !mutant!("read-does-not-wait-for-writes"),
        }
    }
}

/// All lanes that have something under way or waiting.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    lanes: BTreeMap<LaneKey, Lane>,
    /// Those with requests that wait.
    crowded: BTreeSet<LaneKey>,
    /// Those of which something ended, so that the next may go.
    ready: Vec<LaneKey>,
}

impl Lanes {
    /// What may be done with a request that has just come, if its leader is at `to`.
    pub(crate) fn arrive(&mut self, ticket: &Ticket, to: Option<StoreId>) -> Verdict {
        let lane = self.lanes.entry(ticket.lane).or_insert_with(Lane::new);
        // Rule 3.
        if lane.waiting.is_empty() {
            lane.judge(ticket, to)
        } else {
            Verdict::Wait
        }
    }

    /// The lane's oldest waiting request.
    pub(crate) fn first(&self, key: LaneKey) -> Option<&Routed> {
        self.lanes.get(&key)?.waiting.front()
    }

    pub(crate) fn hint(&self, key: LaneKey) -> Option<StoreId> {
        self.lanes.get(&key)?.hint
    }

    /// Takes the oldest waiting request out, unless it has to wait. `to`: where its leader is.
    pub(crate) fn take_first(&mut self, key: LaneKey, to: Option<StoreId>) -> Option<(Routed, Verdict)> {
        let lane = self.lanes.get_mut(&key)?;
        let verdict = lane.judge(&lane.waiting.front()?.ticket(), to);
        if verdict == Verdict::Wait {
            return None;
        }
        let first = lane.waiting.pop_front()?;
        Some((first, verdict))
    }

    /// The request goes to `to`.
    pub(crate) fn sent(&mut self, ticket: &Ticket, to: StoreId) {
        let lane = self.lanes.entry(ticket.lane).or_insert_with(Lane::new);
        debug_assert!(
            !lane.is_busy() || lane.at == to && lane.newest <= ticket.order,
            "request {} leaves its lane's order",
            ticket.id.0
        );
        *(if ticket.write {
            &mut lane.writes
        } else {
            &mut lane.reads
        }) += 1;
        lane.at = to;
        lane.newest = ticket.order;
    }

    /// A request that was under way has ended. `effect`: it had its effect, or may have it.
    pub(crate) fn ended(&mut self, ticket: &Ticket, effect: bool) {
        let Some(lane) = self.lanes.get_mut(&ticket.lane) else {
            debug_assert!(false, "request {} ends without a lane", ticket.id.0);
            return;
        };
        *(if ticket.write {
            &mut lane.writes
        } else {
            &mut lane.reads
        }) -= 1;
        if effect {
            lane.decided = lane.decided.max(ticket.order);
        }
        if !lane.waiting.is_empty() {
            self.ready.push(ticket.lane);
        } else if !lane.is_busy() {
            self.lanes.remove(&ticket.lane);
        }
    }

    /// A waiting request ended, and may have its effect.
    pub(crate) fn decided(&mut self, ticket: &Ticket) {
        if let Some(lane) = self.lanes.get_mut(&ticket.lane) {
            lane.decided = lane.decided.max(ticket.order);
        }
    }

    /// A request has to wait.
    pub(crate) fn wait(&mut self, routed: Routed) {
        let key = routed.ticket().lane;
        let lane = self.lanes.entry(key).or_insert_with(Lane::new);
        let at = lane.waiting.partition_point(|other| other.order < routed.order);
        lane.waiting.insert(at, routed);
        self.crowded.insert(key);
    }

    /// A request that was under way came back to be tried again. `hint`: who leads.
    pub(crate) fn returned(&mut self, routed: Routed, hint: Option<StoreId>) {
        let ticket = routed.ticket();
        // What may have had its effect must not be overtaken by what was before it.
        let effect = routed.unsure.is_some();
        self.wait(routed);
        self.ended(&ticket, effect);
        if let Some(lane) = self.lanes.get_mut(&ticket.lane) {
            lane.hint = hint;
            lane.held = hint.is_none();
        }
    }

    /// A lane was looked at as far as it goes for now.
    pub(crate) fn looked_at(&mut self, key: LaneKey) {
        let Some(lane) = self.lanes.get_mut(&key) else {
            return;
        };
        if !lane.is_busy() {
            // It was good for one attempt.
            lane.hint = None;
        }
        if lane.waiting.is_empty() {
            self.crowded.remove(&key);
            if !lane.is_busy() {
                self.lanes.remove(&key);
            }
        }
    }

    /// Something changed for a lane: another attempt is worth it.
    pub(crate) fn release(&mut self, key: LaneKey) {
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.held = false;
            self.ready.push(key);
        }
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(crate) fn take_ready(&mut self) -> Vec<LaneKey> {
        let mut ready = std::mem::take(&mut self.ready);
        ready.sort_unstable();
        ready.dedup();
        ready
    }

    /// The lanes in which requests wait.
    pub(crate) fn crowded(&self) -> Vec<LaneKey> {
        self.crowded.iter().copied().collect()
    }

    /// Takes out the waiting requests of a lane that match.
    pub(crate) fn extract(&mut self, key: LaneKey, which: impl Fn(&Routed) -> bool) -> Vec<Routed> {
        let Some(lane) = self.lanes.get_mut(&key) else {
            return Vec::new();
        };
        let (taken, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut lane.waiting).into_iter().partition(which);
        lane.waiting = kept;
        self.looked_at(key);
        taken.into()
    }
}

#[cfg(test)]
mod tests;
