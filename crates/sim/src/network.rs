//! Between the nodes: connections that come and go, and messages that take their time or get lost.
//!
//! Each pair of nodes has one connection at a time, numbered; each side learns of its beginning and its end in
//! its own time. A message belongs to the connection that it was sent on and is delivered only while the
//! receiver still regards that one as open. Consensus messages may be repeated and overtake each other;
//! requests, answers and snapshot chunks keep their order (each on a channel of its own), as on a stream.

use quorate_proto::PeerMessage;

use crate::plan::{Delays, NetPlan};
use crate::rng::Rng;

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
            | PeerMessage::SnapshotRequest(_)
            | PeerMessage::SnapshotReport(_)
            | PeerMessage::TermQuery(_)
            | PeerMessage::TermAnswer(_)
            | PeerMessage::ShardInfo(_)
            | PeerMessage::ShardQuery { .. }
            | PeerMessage::StoreHealth(_)
            | PeerMessage::Heartbeat(_)
            | PeerMessage::HeartbeatAnswer(_)
            | PeerMessage::Survivors(_)
            | PeerMessage::Recover(_) => Channel::Consensus,
            PeerMessage::Request(_) | PeerMessage::Response(_) => Channel::Requests,
            PeerMessage::SnapshotChunk(_) | PeerMessage::SnapshotAck(_) => Channel::Bulk,
        }
    }
}

/// One direction between two nodes, as the sender sees it.
#[derive(Clone, Debug, Default)]
struct Link {
    /// What the sender regards as the open connection.
    open: Option<u64>,
    /// How many faults keep most messages from getting through.
    blocked: u32,
    /// Nothing gets through, by order of a script.
    is_cut: bool,
    /// What each message takes in addition, and until when.
    slow: (u64, u64),
    /// The newest delivery of each ordered channel.
    last_us: [u64; 3],
    traffic: Traffic,
}

/// What was sent in one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Messages, the lost ones included.
    pub messages: u64,
    /// Their bytes, as far as they were counted.
    pub bytes: u64,
}

/// The connection of a pair.
#[derive(Clone, Debug, Default)]
struct Connection {
    /// Counts the connections of this pair.
    number: u64,
    works: bool,
}

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    plan: NetPlan,
    rng: Rng,
    nodes: usize,
    /// By sender, then receiver.
    links: Vec<Link>,
    /// By the smaller node of the pair, then the other.
    connections: Vec<Connection>,
}

impl Network {
    pub(crate) fn new(plan: NetPlan, rng: Rng, nodes: usize) -> Self {
        Self {
            plan,
            rng,
            nodes,
            links: vec![Link::default(); nodes * nodes],
            connections: vec![Connection::default(); nodes * nodes],
        }
    }

    fn link(&self, from: usize, to: usize) -> &Link {
        &self.links[from * self.nodes + to]
    }

    fn link_mut(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.nodes + to]
    }

    fn connection(&self, a: usize, b: usize) -> &Connection {
        &self.connections[a.min(b) * self.nodes + a.max(b)]
    }

    fn connection_mut(&mut self, a: usize, b: usize) -> &mut Connection {
        &mut self.connections[a.min(b) * self.nodes + a.max(b)]
    }

    /// How it behaves; a script may change that.
    pub(crate) fn plan_mut(&mut self) -> &mut NetPlan {
        &mut self.plan
    }

    pub(crate) fn uses_wire(&self) -> bool {
        self.plan.wire
    }

    /// Half as many messages as before are lost or late.
    pub(crate) fn ease(&mut self) {
        self.plan.drop_ppm /= 2;
        self.plan.tail_ppm /= 2;
    }

    /// From here on the network loses, repeats and delays nothing unduly.
    pub(crate) fn calm_down(&mut self) {
        self.plan.drop_ppm = 0;
        self.plan.duplicate_ppm = 0;
        self.plan.tail_ppm = 0;
        self.plan.late_answers = false;
        for link in &mut self.links {
            link.blocked = 0;
            link.is_cut = false;
            link.slow = (0, 0);
        }
    }

    /// Stops or restores one direction; faults may overlap.
    pub(crate) fn block(&mut self, from: usize, to: usize) {
        self.link_mut(from, to).blocked += 1;
    }

    pub(crate) fn unblock(&mut self, from: usize, to: usize) {
        let link = self.link_mut(from, to);
        link.blocked = link.blocked.saturating_sub(1);
    }

    /// Cuts or restores one direction, whole.
    pub(crate) fn cut(&mut self, from: usize, to: usize, is_cut: bool) {
        self.link_mut(from, to).is_cut = is_cut;
    }

    pub(crate) fn is_blocked(&self, from: usize, to: usize) -> bool {
        let link = self.link(from, to);
        link.blocked > 0 || link.is_cut
    }

    /// Every message of one direction takes so much longer for a while.
    pub(crate) fn slow_down(&mut self, from: usize, to: usize, extra_us: u64, until_us: u64) {
        self.link_mut(from, to).slow = (extra_us, until_us);
    }

    /// Whether the newest connection of a pair works.
    pub(crate) fn is_connected(&self, a: usize, b: usize) -> bool {
        self.connection(a, b).works
    }

    /// Begins a new connection; the sides learn of it by [`Network::opened`].
    pub(crate) fn connect(&mut self, a: usize, b: usize) -> u64 {
        self.link_mut(a, b).last_us = [0; 3];
        self.link_mut(b, a).last_us = [0; 3];
        let connection = self.connection_mut(a, b);
        connection.number += 1;
        connection.works = true;
        connection.number
    }

    /// Ends the connection; what is in flight is lost once the receiver knows, what is sent now at once.
    pub(crate) fn break_connection(&mut self, a: usize, b: usize) {
        self.connection_mut(a, b).works = false;
    }

    /// Whether connection `number` is the newest and works.
    pub(crate) fn is_current(&self, a: usize, b: usize, number: u64) -> bool {
        let connection = self.connection(a, b);
        connection.works && connection.number == number
    }

    /// A side learns that a connection is open; returns whether it thought an earlier one still was.
    pub(crate) fn opened(&mut self, side: usize, other: usize, number: u64) -> bool {
        self.link_mut(side, other).open.replace(number).is_some()
    }

    /// A side learns that a connection ended; false if it had nothing open.
    pub(crate) fn closed(&mut self, side: usize, other: usize) -> bool {
        self.link_mut(side, other).open.take().is_some()
    }

    pub(crate) fn open_number(&self, side: usize, other: usize) -> Option<u64> {
        self.link(side, other).open
    }

    /// A process died: it knows nothing any more.
    pub(crate) fn forget(&mut self, node: usize) {
        for other in 0..self.nodes {
            self.link_mut(node, other).open = None;
        }
    }

    /// A message is sent.
    pub(crate) fn count(&mut self, from: usize, to: usize, bytes: u64) {
        let traffic = &mut self.link_mut(from, to).traffic;
        traffic.messages += 1;
        traffic.bytes += bytes;
    }

    pub(crate) fn traffic(&self, from: usize, to: usize) -> Traffic {
        self.link(from, to).traffic
    }

    /// When, and on which connection, a message arrives; none, one or two times.
    pub(crate) fn send(&mut self, now_us: u64, from: usize, to: usize, sent: Sent) -> Arrivals {
        let Some(number) = self
            .open_number(from, to)
            .filter(|number| self.is_current(from, to, *number))
        else {
            return Arrivals::lost();
        };
        let plan = &self.plan;
        let rng = &mut self.rng;
        let link = &mut self.links[from * self.nodes + to];
        let mut delay = usual_delay(plan, rng);
        if rng.chance(plan.tail_ppm) {
            delay += rng.below(plan.tail_us);
        }
        if plan.late_answers && sent.is_answer && !rng.one_in(3) {
            let most = rng.below(2_000_000);
            delay += 200_000 + rng.below(most);
        }
        if now_us < link.slow.1 {
            delay += link.slow.0;
        }
        if link.is_cut {
            return Arrivals::lost();
        }
        if link.blocked > 0 {
            if !rng.one_in(plan.held_one_in) {
                return Arrivals::lost();
            }
            delay += rng.below(plan.tail_us * 2);
        } else if rng.chance(plan.drop_ppm) {
            return Arrivals::lost();
        }
        let mut at = now_us + delay;
        if sent.channel != Channel::Consensus || !(plan.reorder || plan.late_answers) {
            let last = &mut link.last_us[sent.channel as usize];
            at = at.max(*last);
            *last = at;
        }
        let again = (sent.channel == Channel::Consensus && rng.chance(plan.duplicate_ppm))
            .then(|| at + rng.below(plan.delay_us_max * 4));
        Arrivals {
            number,
            at_us: [Some(at), again],
        }
    }
}

/// What the network needs to know of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) channel: Channel,
    pub(crate) is_answer: bool,
}

/// When a message arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Arrivals {
    /// On which connection.
    pub(crate) number: u64,
    /// None, one or two times; the first comes first in the list, not always in time.
    pub(crate) at_us: [Option<u64>; 2],
}

impl Arrivals {
    pub(crate) fn lost() -> Self {
        Self {
            number: 0,
            at_us: [None; 2],
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.at_us.iter().flatten().count()
    }
}

fn usual_delay(plan: &NetPlan, rng: &mut Rng) -> u64 {
    let (low, high) = (plan.delay_us_min, plan.delay_us_max);
    match plan.delays {
        Delays::Uniform => rng.range(low, high),
        Delays::Skewed => low + rng.range_log(1, (high - low).max(1)),
        Delays::Bimodal if rng.one_in(4) => high,
        Delays::Bimodal => low,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSENSUS: Sent = Sent {
        channel: Channel::Consensus,
        is_answer: false,
    };

    fn network() -> Network {
        let plan = NetPlan {
            delay_us_min: 10,
            delay_us_max: 1000,
            delays: Delays::Uniform,
            tail_ppm: 0,
            tail_us: 1,
            drop_ppm: 0,
            duplicate_ppm: 0,
            reorder: false,
            late_answers: false,
            held_one_in: 8,
            wire: false,
        };
        Network::new(plan, Rng::new(1), 2)
    }

    #[test]
    fn nothing_is_sent_without_a_connection_that_the_sender_knows_and_that_works() {
        let mut network = network();
        let lost = Arrivals::lost();
        assert_eq!(network.send(0, 0, 1, CONSENSUS), lost, "no connection");
        let number = network.connect(0, 1);
        assert_eq!(network.send(0, 0, 1, CONSENSUS), lost, "not yet known");
        network.opened(0, 1, number);
        assert_eq!(network.send(0, 0, 1, CONSENSUS).count(), 1);
        network.break_connection(1, 0);
        assert_eq!(network.send(0, 0, 1, CONSENSUS), lost, "broken");
    }

    #[test]
    fn a_channel_keeps_its_order() {
        for delays in [Delays::Uniform, Delays::Skewed, Delays::Bimodal] {
            let mut network = network();
            network.plan.delays = delays;
            let number = network.connect(0, 1);
            network.opened(0, 1, number);
            let mut last = 0;
            for now in 0..200 {
                let sent = Sent {
                    channel: Channel::Requests,
                    is_answer: false,
                };
                let at = network.send(now, 0, 1, sent).at_us[0].unwrap();
                assert!(at >= last && at <= now + 1000);
                last = at;
            }
        }
    }

    #[test]
    fn a_cut_holds_until_it_is_healed_and_a_slow_link_for_its_time() {
        let mut network = network();
        let number = network.connect(0, 1);
        network.opened(0, 1, number);
        network.cut(0, 1, true);
        assert!((0..100).all(|now| network.send(now, 0, 1, CONSENSUS).count() == 0));
        network.cut(0, 1, false);
        network.slow_down(0, 1, 5_000, 1_000);
        assert!(network.send(999, 0, 1, CONSENSUS).at_us[0] > Some(5_999));
        assert!(network.send(10_000, 0, 1, CONSENSUS).at_us[0] <= Some(11_000));
    }
}
