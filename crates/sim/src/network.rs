//! Between the nodes: connections that come and go, and messages that take their time or get lost.
//!
//! Each pair of nodes has one connection at a time, numbered; each side learns of its beginning and its end in
//! its own time. A message belongs to the connection that it was sent on and is delivered only while the
//! receiver still regards that one as open. Consensus messages may be repeated and overtake each other;
//! requests, answers and snapshot chunks keep their order (each on a channel of its own), as on a stream.

use std::collections::BTreeMap;

use quorate_proto::PeerMessage;

use crate::plan::NetPlan;
use crate::rng::Rng;

/// A connection between two nodes.
#[derive(Clone, Debug, Default)]
struct Connection {
    /// Counts the connections of this pair.
    number: u64,
    /// It broke, whether or not the sides know.
    is_broken: bool,
}

/// Which order a message keeps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Channel {
    Consensus,
    Requests,
    Bulk,
}

impl Channel {
    pub(crate) fn of(message: &PeerMessage) -> Self {
        match message {
            PeerMessage::Raft(_)
            | PeerMessage::TermQuery(_)
            | PeerMessage::TermAnswer(_)
            | PeerMessage::StoreHealth(_) => Channel::Consensus,
            PeerMessage::Request(_) | PeerMessage::Response(_) => Channel::Requests,
            PeerMessage::SnapshotChunk(_) | PeerMessage::SnapshotAck(_) => Channel::Bulk,
        }
    }
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    plan: NetPlan,
    rng: Rng,
    /// By pair, the smaller node first.
    connections: BTreeMap<(usize, usize), Connection>,
    /// What each side (first) regards as the open connection to the other.
    open: BTreeMap<(usize, usize), u64>,
    /// Directions in which nothing gets through, with how many faults cause it.
    blocked: BTreeMap<(usize, usize), u32>,
    /// The newest delivery of each ordered channel.
    last_us: BTreeMap<(usize, usize, Channel), u64>,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Network {
    pub(crate) fn new(plan: NetPlan, rng: Rng) -> Self {
        Self {
            plan,
            rng,
            connections: BTreeMap::new(),
            open: BTreeMap::new(),
            blocked: BTreeMap::new(),
            last_us: BTreeMap::new(),
        }
    }

    pub(crate) fn uses_wire(&self) -> bool {
        self.plan.wire
    }

    /// From here on the network loses, repeats and delays nothing unduly.
    pub(crate) fn calm_down(&mut self) {
        self.plan.drop_ppm = 0;
        self.plan.duplicate_ppm = 0;
        self.plan.tail_ppm = 0;
        self.blocked.clear();
    }

    /// Stops or restores one direction; faults may overlap.
    pub(crate) fn block(&mut self, from: usize, to: usize) {
        *self.blocked.entry((from, to)).or_default() += 1;
    }

    pub(crate) fn unblock(&mut self, from: usize, to: usize) {
        if let Some(count) = self.blocked.get_mut(&(from, to)) {
            *count -= 1;
            if *count == 0 {
                self.blocked.remove(&(from, to));
            }
        }
    }

    pub(crate) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.contains_key(&(from, to))
    }

    /// Whether the newest connection of a pair works.
    pub(crate) fn is_connected(&self, a: usize, b: usize) -> bool {
        self.connections
            .get(&pair(a, b))
            .is_some_and(|connection| !connection.is_broken)
    }

    /// Begins a new connection; the sides learn of it by [`Network::opened`].
    pub(crate) fn connect(&mut self, a: usize, b: usize) -> u64 {
        for (from, to) in [(a, b), (b, a)] {
            self.last_us.retain(|(f, t, _), _| (*f, *t) != (from, to));
        }
        let connection = self.connections.entry(pair(a, b)).or_default();
        connection.number += 1;
        connection.is_broken = false;
        connection.number
    }

    /// Ends the connection; what is in flight is lost once the receiver knows, what is sent now at once.
    pub(crate) fn break_connection(&mut self, a: usize, b: usize) {
        if let Some(connection) = self.connections.get_mut(&pair(a, b)) {
            connection.is_broken = true;
        }
    }

    /// Whether connection `number` is the newest and works.
    pub(crate) fn is_current(&self, a: usize, b: usize, number: u64) -> bool {
        self.connections
            .get(&pair(a, b))
            .is_some_and(|c| c.number == number && !c.is_broken)
    }

    /// A side learns that a connection is open; returns whether it thought an earlier one still was.
    pub(crate) fn opened(&mut self, side: usize, other: usize, number: u64) -> bool {
        self.open.insert((side, other), number).is_some()
    }

    /// A side learns that a connection ended; false if it had nothing open.
    pub(crate) fn closed(&mut self, side: usize, other: usize) -> bool {
        self.open.remove(&(side, other)).is_some()
    }

    pub(crate) fn open_number(&self, side: usize, other: usize) -> Option<u64> {
        self.open.get(&(side, other)).copied()
    }

    /// A process died: it knows nothing any more.
    pub(crate) fn forget(&mut self, node: usize) {
        self.open.retain(|(side, _), _| *side != node);
    }

    /// When, and on which connection, a message arrives; none, one or two times.
    pub(crate) fn send(&mut self, now_us: u64, from: usize, to: usize, channel: Channel) -> Vec<(u64, u64)> {
        let Some(number) = self
            .open_number(from, to)
            .filter(|number| self.is_current(from, to, *number))
        else {
            return Vec::new();
        };
        let plan = &self.plan;
        let rng = &mut self.rng;
        let mut delay = rng.range(plan.delay_us_min, plan.delay_us_max);
        if rng.chance(plan.tail_ppm) {
            delay += rng.below(plan.tail_us);
        }
        if self.blocked.contains_key(&(from, to)) {
            // Mostly lost; some of it is what the sender's kernel sends again after the fault.
            if !rng.one_in(8) {
                return Vec::new();
            }
            delay += rng.below(plan.tail_us * 2);
        } else if rng.chance(plan.drop_ppm) {
            return Vec::new();
        }
        let mut at = now_us + delay;
        if channel != Channel::Consensus || !plan.reorder {
            let last = self.last_us.entry((from, to, channel)).or_default();
            at = at.max(*last);
            *last = at;
        }
        let mut arrivals = vec![(at, number)];
        if channel == Channel::Consensus && rng.chance(plan.duplicate_ppm) {
            arrivals.push((at + rng.below(plan.delay_us_max * 4), number));
        }
        arrivals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let plan = NetPlan {
            delay_us_min: 10,
            delay_us_max: 1000,
            tail_ppm: 0,
            tail_us: 1,
            drop_ppm: 0,
            duplicate_ppm: 0,
            reorder: false,
            wire: false,
        };
        Network::new(plan, Rng::new(1))
    }

    #[test]
    fn nothing_is_sent_without_a_connection_that_the_sender_knows_and_that_works() {
        let mut network = network();
        assert!(
            network.send(0, 0, 1, Channel::Consensus).is_empty(),
            "no connection"
        );
        let number = network.connect(0, 1);
        assert!(
            network.send(0, 0, 1, Channel::Consensus).is_empty(),
            "not yet known"
        );
        network.opened(0, 1, number);
        assert_eq!(network.send(0, 0, 1, Channel::Consensus).len(), 1);
        network.break_connection(1, 0);
        assert!(network.send(0, 0, 1, Channel::Consensus).is_empty(), "broken");
    }

    #[test]
    fn a_channel_keeps_its_order() {
        let mut network = network();
        let number = network.connect(0, 1);
        network.opened(0, 1, number);
        let mut last = 0;
        for now in 0..200 {
            let at = network.send(now, 0, 1, Channel::Requests)[0].0;
            assert!(at >= last);
            last = at;
        }
    }
}
