//! Connections and messages between the nodes.

use quorate_proto::PeerMessage;
use quorate_store::Input;

use super::{Event, World};
use crate::message;
use crate::network::Channel;

impl World {
    pub(super) fn send(&mut self, from: usize, to: usize, message: PeerMessage) {
        let channel = Channel::of(&message);
        let arrivals = self.network.send(self.now_us, from, to, channel);
        let (now_us, wire) = (self.now_us, self.network.uses_wire());
        self.trace.event(
            now_us,
            &[
                4,
                from as u64,
                to as u64,
                message::kind(&message),
                arrivals.len() as u64,
            ],
            || {
                let fate = match arrivals.first() {
                    None => "lost".into(),
                    Some((at, _)) => format!(
                        "+{} us{}",
                        at - now_us,
                        if arrivals.len() > 1 { ", twice" } else { "" }
                    ),
                };
                format!(
                    "n{} -> n{} {} ({fate})",
                    from + 1,
                    to + 1,
                    message::text(&message)
                )
            },
        );
        let mut message = Some(message);
        for (i, (at, number)) in arrivals.iter().enumerate() {
            let one = if i + 1 == arrivals.len() {
                message.take()
            } else {
                message.clone()
            };
            let Some(one) = one else { continue };
            let one = if wire { message::through_wire(&one) } else { one };
            self.queue.push(
                *at,
                Event::Deliver {
                    from,
                    to,
                    number: *number,
                    message: Box::new(one),
                },
            );
        }
    }

    /// A message arrives; it counts if its connection is still open.
    pub(super) fn deliver(&mut self, from: usize, to: usize, number: u64, message: PeerMessage) {
        if self.nodes[to].is_up() && self.network.open_number(to, from) == Some(number) {
            self.counts.messages += 1;
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

    pub(super) fn connect(&mut self, a: usize, b: usize) {
        if self.network.is_connected(a, b) {
            return;
        }
        if !self.nodes[a].is_up() || !self.nodes[b].is_up() {
            return; // a start tries again
        }
        if self.network.is_blocked(a, b) || self.network.is_blocked(b, a) {
            let at = self.now_us + self.rng.range(20_000, 200_000);
            self.queue.push(at, Event::Connect { a, b });
            return;
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
