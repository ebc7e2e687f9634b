//! A network in memory, on virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use bytes::Bytes;
use quorate_storage::disk::SplitMix64;

use crate::NodeId;

/// What happens to messages on their way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Faults {
    /// The least and the most microseconds that a message takes.
    pub delay_us: (u64, u64),
    /// Messages between the same two members overtake each other; otherwise they stay in order, as on one
    /// connection.
    pub reorder: bool,
    /// Of 100 messages that ask, so many are lost.
    pub lose_requests_percent: u64,
    /// Of 100 messages that answer, so many are lost.
    pub lose_replies_percent: u64,
    /// Of 100 messages, so many arrive twice.
    pub repeat_percent: u64,
    /// Two of three answers are late by 200 ms and up to 2 s more, so that they overtake each other.
    pub long_reordering: bool,
    /// Whoever writes to a member that is cut off learns of it within 7 s instead of 100 ms.
    pub long_delays: bool,
}

impl Faults {
    /// Messages take 0.1 to 0.5 ms and arrive in order.
    #[must_use]
    pub fn none() -> Self {
        Self {
            delay_us: (100, 500),
            reorder: false,
            lose_requests_percent: 0,
            lose_replies_percent: 0,
            repeat_percent: 0,
            long_reordering: false,
            long_delays: false,
        }
    }

    /// Messages take up to 26 ms, overtake each other, and one in ten is lost.
    #[must_use]
    pub fn unreliable() -> Self {
        Self {
            delay_us: (0, 26_000),
            reorder: true,
            lose_requests_percent: 10,
            lose_replies_percent: 10,
            ..Self::none()
        }
    }
}

/// What was sent, whether or not it arrived.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Messages.
    pub messages: u64,
    /// Messages that ask something (calls, where others answer them).
    pub calls: u64,
    /// Bytes of all messages.
    pub bytes: u64,
    /// Calls to each member.
    pub calls_to: BTreeMap<NodeId, u64>,
    /// Messages that were not delivered: lost, or cut off.
    pub lost: u64,
}

/// Something comes out of the network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// Who sent it.
    pub from: NodeId,
    /// Whom it was sent to.
    pub to: NodeId,
    /// A message for `to`, or a notice for `from`.
    pub what: What,
}

/// What comes out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// A message, for `to`.
    Message(Bytes),
    /// `to` cannot be reached: a notice for `from`, where a real transport sees a connection break.
    Unreachable,
}

/// A network in memory: messages go in with the time, and come out when they are due. One seed decides all
/// delays and losses.
#[derive(Debug)]
pub struct Network {
    faults: Faults,
    rng: SplitMix64,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    sequence: u64,
    cut: BTreeSet<NodeId>,
    /// By member; those in none are in part 0.
    parts: BTreeMap<NodeId, u32>,
    /// When the newest message in order from one to another is due.
    in_order: BTreeMap<(NodeId, NodeId), u64>,
    /// Who will be told of whom.
    notices: BTreeSet<(NodeId, NodeId)>,
    counters: Counters,
}

/// Ordered by time, then by when it was sent.
#[derive(Debug)]
struct InFlight {
    due: (u64, u64),
    delivery: Delivery,
}

impl PartialEq for InFlight {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}
impl Eq for InFlight {}
impl PartialOrd for InFlight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for InFlight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

impl Network {
    /// A network without faults.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            faults: Faults::none(),
            rng: SplitMix64::new(seed),
            in_flight: BinaryHeap::new(),
            sequence: 0,
            cut: BTreeSet::new(),
            parts: BTreeMap::new(),
            in_order: BTreeMap::new(),
            notices: BTreeSet::new(),
            counters: Counters::default(),
        }
    }

    /// Changes what happens to messages that are sent from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// What happens to messages.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.faults
    }

    /// Cuts a member off from all others, in both directions; what is on its way is lost.
    pub fn disconnect(&mut self, id: NodeId) {
        self.cut.insert(id);
    }

    /// Undoes [`Network::disconnect`].
    pub fn connect(&mut self, id: NodeId) {
        self.cut.remove(&id);
    }

    /// Whether a member is not cut off by [`Network::disconnect`].
    #[must_use]
    pub fn is_connected(&self, id: NodeId) -> bool {
        !self.cut.contains(&id)
    }

    /// Divides the network: messages between two of the parts are lost. Members that are not named are a part
    /// of their own together. Takes the place of an earlier division.
    pub fn divide(&mut self, parts: &[&[NodeId]]) {
        self.parts = parts
            .iter()
            .zip(1..)
            .flat_map(|(part, number)| part.iter().map(move |id| (*id, number)))
            .collect();
    }

    /// Undoes [`Network::divide`].
    pub fn unite(&mut self) {
        self.parts.clear();
    }

    /// What was sent so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes a message at the time `now_us`. `is_reply` says that it answers another.
    pub fn send(&mut self, now_us: u64, from: NodeId, to: NodeId, is_reply: bool, message: Bytes) {
        self.counters.messages += 1;
        self.counters.bytes += message.len() as u64;
        if !is_reply {
            self.counters.calls += 1;
            *self.counters.calls_to.entry(to).or_default() += 1;
        }
        if !self.passes(from, to) {
            self.counters.lost += 1;
            if self.notices.insert((from, to)) {
                let most = if self.faults.long_delays {
                    7_000_000
                } else {
                    100_000
                };
                let due = now_us + self.rng.below(most);
                let what = What::Unreachable;
                self.push(due, Delivery { from, to, what });
            }
            return;
        }
        let lose = if is_reply {
            self.faults.lose_replies_percent
        } else {
            self.faults.lose_requests_percent
        };
        if lose > 0 && self.rng.below(100) < lose {
            self.counters.lost += 1;
            return;
        }
        let copies =
            1 + u64::from(self.faults.repeat_percent > 0 && self.rng.below(100) < self.faults.repeat_percent);
        for _ in 0..copies {
            let (least, most) = self.faults.delay_us;
            let mut delay = least + self.rng.below(most.saturating_sub(least) + 1);
            if is_reply && self.faults.long_reordering && self.rng.below(3) < 2 {
                let more = self.rng.below(2_000_000);
                delay += 200_000 + self.rng.below(more + 1);
            }
            let what = What::Message(message.clone());
            let mut due = now_us + delay;
            if !self.faults.reorder {
                let newest = self.in_order.entry((from, to)).or_default();
                due = due.max(*newest);
                *newest = due;
            }
            self.push(due, Delivery { from, to, what });
        }
    }

    /// When the next thing comes out.
    #[must_use]
    pub fn next_due_us(&self) -> Option<u64> {
        self.in_flight.peek().map(|Reverse(next)| next.due.0)
    }

    /// What is due at `now_us`, one after the other.
    pub fn receive(&mut self, now_us: u64) -> Option<Delivery> {
        while self.next_due_us()? <= now_us {
            let Reverse(InFlight { delivery, .. }) = self.in_flight.pop()?;
            match delivery.what {
                What::Unreachable => {
                    self.notices.remove(&(delivery.from, delivery.to));
                    return Some(delivery);
                }
                What::Message(_) if self.passes(delivery.from, delivery.to) => return Some(delivery),
                What::Message(_) => self.counters.lost += 1,
            }
        }
        None
    }

    fn passes(&self, from: NodeId, to: NodeId) -> bool {
        let part = |id| self.parts.get(&id).copied().unwrap_or_default();
        !self.cut.contains(&from) && !self.cut.contains(&to) && part(from) == part(to)
    }

    fn push(&mut self, due_us: u64, delivery: Delivery) {
        self.sequence += 1;
        self.in_flight.push(Reverse(InFlight {
            due: (due_us, self.sequence),
            delivery,
        }));
    }
}
