//! Connections and messages between the nodes.

use quorate_proto::{PeerMessage, SnapshotState};
use quorate_store::Input;

use super::{Event, World};
use crate::message;
use crate::network::{Arrivals, Channel, Sent};
use crate::oracle::Violation;
use crate::script::{Passing, Verdict};

impl World {
    pub(super) fn send(&mut self, from: usize, to: usize, message: PeerMessage) {
        let sent = Sent {
            channel: Channel::of(&message),
            is_answer: message::is_answer(&message),
        };
        let mut arrivals = self.network.send(self.now_us, from, to, sent);
        let bytes = if self.counts_bytes {
            message::encoded_len(&message)
        } else {
            0
        };
        self.network.count(from, to, bytes);
        match self.filters.judge(&Passing {
            now_us: self.now_us,
            from,
            to,
            message: &message,
        }) {
            Verdict::Pass => {}
            Verdict::Drop => arrivals = Arrivals::lost(),
            Verdict::Delay(us) => arrivals.at_us = arrivals.at_us.map(|at| at.map(|at| at + us)),
            Verdict::Repeat(us) => arrivals.at_us[1] = arrivals.at_us[0].map(|at| at + us),
        }
        let (now_us, wire) = (self.now_us, self.network.uses_wire());
        let words = [
            4,
            from as u64,
            to as u64,
            message::kind(&message),
            arrivals.count() as u64,
        ];
        self.trace.event(now_us, &words, || {
            let fate = match arrivals.at_us {
                [None, _] => "lost".into(),
                [Some(at), None] => format!("+{} us", at - now_us),
                [Some(at), Some(_)] => format!("+{} us, twice", at - now_us),
            };
            format!(
                "n{} -> n{} {} ({fate})",
                from + 1,
                to + 1,
                message::text(&message)
            )
        });
        let [first, again] = arrivals.at_us;
        let mut arrive = |at_us: u64, message: PeerMessage| {
            let message = Box::new(if wire {
                message::through_wire(&message)
            } else {
                message
            });
            self.queue.push(
                at_us,
                Event::Deliver {
                    from,
                    to,
                    number: arrivals.number,
                    message,
                },
            );
        };
        if let Some(at_us) = again {
            arrive(at_us, message.clone());
        }
        if let Some(at_us) = first {
            arrive(at_us, message);
        }
    }

    /// A message arrives; it counts if its connection is still open.
    pub(super) fn deliver(&mut self, from: usize, to: usize, number: u64, message: PeerMessage) {
        if self.nodes[to].is_up() && self.network.open_number(to, from) == Some(number) {
            self.counts.messages += 1;
            if matches!(message, PeerMessage::SnapshotChunk(_)) {
                self.piece_arrives(to);
            }
            if let PeerMessage::SnapshotReport(report) = &message
                && report.state == SnapshotState::Delivered
            {
                self.counts.snapshots_by_followers += 1;
            }
            let from = self.nodes[from].identity.store;
            self.input(to, Input::Peer { from, message });
        }
    }

    /// A side learns that a connection begins.
    pub(super) fn opened(&mut self, side: usize, other: usize, number: u64) {
        if self.network.is_current(side, other, number) {
            let store = self.nodes[other].identity.store;
            if self.network.opened(side, other, number) {
                self.input(side, Input::PeerDown { store });
            }
            self.input(side, Input::PeerUp { store });
        }
    }

    /// A side learns that a connection ended.
    pub(super) fn closed(&mut self, side: usize, other: usize, number: u64) {
        if self.nodes[side].is_up()
            && self.network.open_number(side, other) == Some(number)
            && self.network.closed(side, other)
        {
            let store = self.nodes[other].identity.store;
            self.input(side, Input::PeerDown { store });
        }
    }

    pub(super) fn connect(&mut self, a: usize, b: usize) -> Result<(), Violation> {
        if self.network.is_connected(a, b) {
            return Ok(());
        }
        if !self.nodes[a].is_up() || !self.nodes[b].is_up() {
            return Ok(()); // a start tries again
        }
        if self.network.is_blocked(a, b) || self.network.is_blocked(b, a) {
            let at = self.now_us + self.rng.range(20_000, 200_000);
            self.queue.push(at, Event::Connect { a, b });
            return Ok(());
        }
        if !self.greet(a, b)? {
            return Ok(());
        }
        let number = self.network.connect(a, b);
        self.trace
            .event(self.now_us, &[7, a as u64, b as u64, number], || {
                format!("n{} and n{} connect", a + 1, b + 1)
            });
        for (side, other) in [(a, b), (b, a)] {
            let at = self.now_us + self.rng.range(50, 3_000);
            self.queue.push(
                at,
                Event::Opened {
                    side,
                    other,
                    number,
                    life: self.nodes[side].life,
                },
            );
        }
        Ok(())
    }

    /// Breaks a connection. Each side learns of it within `notice_us`.
    pub(crate) fn break_connection(&mut self, a: usize, b: usize, notice_us: u64) {
        if !self.network.is_connected(a, b) {
            return;
        }
        self.network.break_connection(a, b);
        for (side, other) in [(a, b), (b, a)] {
            if let Some(number) = self.network.open_number(side, other) {
                let at = self.now_us + self.rng.below(notice_us);
                self.queue.push(at, Event::Closed { side, other, number });
            }
        }
        let at = self.now_us + self.rng.range(notice_us / 2, notice_us * 2 + 20_000);
        self.queue.push(
            at,
            Event::Connect {
                a: a.min(b),
                b: a.max(b),
            },
        );
    }
}
