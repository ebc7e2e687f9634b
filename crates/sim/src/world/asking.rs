//! Clients: when they ask, and what they do after an answer.

use quorate_store::Input;

use super::{Event, World};
use crate::rng::Rng;
use crate::workload::{Asker, Issued};

impl World {
    pub(super) fn next_request(&mut self, asker: Asker) {
        if self.quiet {
            return;
        }
        let nodes = &self.nodes;
        match self
            .workload
            .next(self.now_us, asker, &|node| nodes[node].is_up())
        {
            Some(issued) => {
                self.issue(issued);
                if let Asker::Client(client) = asker
                    && let Some(after_us) = self.workload.sends_on_us(client)
                {
                    self.ask_later(self.now_us + after_us, asker);
                }
            }
            None => {
                let at = self.now_us + self.rng.range(1_000, 20_000);
                self.ask_later(at, asker);
            }
        }
    }

    fn ask_later(&mut self, at: u64, asker: Asker) {
        let event = match asker {
            Asker::Client(client) => Event::Client { client },
            Asker::Burst { left: 0, .. } => return,
            Asker::Burst { client, hot, left } => Event::Burst {
                client,
                hot,
                left: left - 1,
            },
            Asker::Last(task) => Event::Last { task },
        };
        self.queue.push(at, event);
    }

    /// A fault strikes at a time that the clients do not know: they are busy about then and until somebody else may
    /// lead, so that their requests meet what it does. Half of those requests are about one key.
    pub(crate) fn plan_bursts(&mut self, strike_us: u64, mut rng: Rng) {
        let timeout_us = self.plan.store.election_timeout_us();
        let Some(left) = self.plan.load.burst.checked_sub(1) else {
            return;
        };
        let hot = rng.below(self.workload.keys() as u64) as usize;
        for client in 0..self.workload.clients() {
            let at = (strike_us + rng.below(timeout_us * 2)).saturating_sub(timeout_us / 8);
            if rng.one_in(2) {
                let event = Event::Burst { client, hot, left };
                self.queue.push(at.max(self.now_us), event);
            }
        }
    }

    /// A request reaches its node.
    pub(crate) fn issue(&mut self, issued: Issued) {
        let (node, id) = (issued.node, issued.request.id.0);
        self.trace.event(self.now_us, &[10, node as u64, id], || {
            format!(
                "n{} is asked {id}: {:?} {:?}",
                node + 1,
                issued.request.target,
                issued.request.body
            )
        });
        self.input(node, Input::Client(issued.request));
    }

    /// A request ended: its client thinks, the last phase goes on.
    pub(crate) fn asked(&mut self, asker: Asker, ok: bool) {
        match asker {
            Asker::Client(client) => {
                if let Some(after_us) = self.workload.thinks_us(client) {
                    self.ask_later(self.now_us + after_us, asker);
                }
            }
            Asker::Burst { client, .. } => {
                let most_us = self.plan.store.election_timeout_us() / 4;
                let at = self.now_us + self.workload.think_in_burst_us(client, most_us);
                self.ask_later(at, asker);
            }
            Asker::Last(_) if ok => self.tasks -= 1,
            Asker::Last(_) => self.ask_later(self.now_us + 10_000, asker),
        }
    }
}
