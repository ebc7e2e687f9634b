//! Clients: when they ask, and what they do after an answer.

use quorate_store::Input;

use super::{Event, World};
use crate::workload::{Asker, Issued};

impl World {
    pub(super) fn next_request(&mut self, client: usize) {
        if self.quiet {
            return;
        }
        let nodes = &self.nodes;
        match self
            .workload
            .next(self.now_us, client, &|node| nodes[node].is_up())
        {
            Some(issued) => self.issue(issued),
            None => {
                let at = self.now_us + self.rng.range(1_000, 20_000);
                self.queue.push(at, Event::Client { client });
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
                let at = self.now_us + self.workload.think_us(client);
                self.queue.push(at, Event::Client { client });
            }
            Asker::Last(_) if ok => self.tasks -= 1,
            Asker::Last(task) => {
                let at = self.now_us + 10_000;
                self.queue.push(at, Event::Last { task });
            }
        }
    }
}
