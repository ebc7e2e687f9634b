//! A turn of a process: what came in, what it did, what follows from it.

use quorate_store::{ClientOutcome, Input};

use super::{Event, World};
use crate::id_takers::IdTakers;
use crate::node::Death;
use crate::operator::Operator;
use crate::oracle::Violation;
use crate::placement::Placement;
use crate::process::Turn;
use crate::script::Callers;
use crate::workload::node_of;

impl World {
    /// Something came in for a node.
    pub(crate) fn input(&mut self, node: usize, input: Input) {
        if let Some(process) = &mut self.nodes[node].process {
            process.inbox.push_back(input);
            self.wake(node);
        }
    }

    /// Plans a turn, unless one is planned or the process stands still.
    pub(crate) fn wake(&mut self, node: usize) {
        let delay = self.rng.below(100);
        let state = &mut self.nodes[node];
        if !state.turn_planned && self.now_us >= state.paused_until_us {
            state.turn_planned = true;
            self.queue.push(
                self.now_us + delay,
                Event::Turn {
                    node,
                    life: state.life,
                },
            );
        }
    }

    pub(super) fn turn(&mut self, node: usize) -> Result<(), Violation> {
        self.nodes[node].turn_planned = false;
        if self.now_us < self.nodes[node].paused_until_us {
            return Ok(());
        }
        self.counts.turns += 1;
        let times = self.nodes[node].clock.times(self.now_us);
        let Some(process) = &mut self.nodes[node].process else {
            return Ok(());
        };
        let mut ticked = false;
        if times.mono_us >= process.next_tick_us {
            process.next_tick_us = times.mono_us + self.plan.store.tick_us;
            process.inbox.push_back(Input::Tick);
            ticked = true;
        }
        for input in &process.inbox {
            if let Input::Client(request) = input {
                if Operator::is_theirs(request.id) {
                } else if Callers::is_theirs(request.id) {
                    self.callers.taken(request.id, times.mono_us);
                } else {
                    self.workload.taken(request.id, times.mono_us);
                }
            }
        }
        let mut turn = Turn::default();
        let result = process.turn(times, &mut turn);
        let next_tick_us = process.next_tick_us;
        if self.nodes[node].is_impostor() {
            self.check_impostor(node, &turn)?;
        } else {
            self.observe(node, &turn, result.is_ok())?;
        }
        self.hunt(node);
        self.lurk(node);
        let begin_sync = turn.begin_sync;
        for (to, message) in turn.sends {
            self.send(node, node_of(to), message);
        }
        for (id, outcome) in &turn.replies {
            let is_done = matches!(outcome, ClientOutcome::Done(_));
            let words = [1, node as u64, id.0, u64::from(is_done)];
            self.trace.event(self.now_us, &words, || {
                format!(
                    "n{} answers request {}: {}",
                    node + 1,
                    id.0,
                    outcome_text(outcome)
                )
            });
            if IdTakers::is_theirs(*id) {
                self.id_takers.answered(node, *id, outcome)?;
            } else if Placement::is_theirs(*id) {
                self.placement_answered(node, *id, outcome)?;
            } else if Operator::is_theirs(*id) {
                self.operator.told(*id, outcome);
            } else if Callers::is_theirs(*id) {
                self.caller_answered(node, *id, outcome)?;
            } else {
                let answered = self.workload.answered(self.now_us, node, *id, outcome)?;
                self.asked(answered.asker, answered.ok);
            }
        }
        if let Err(stop) = result {
            return self.stopped(node, stop);
        }
        let life = self.nodes[node].life;
        if begin_sync {
            self.begin_sync(node);
        }
        if let Some(up_to) = turn.make_durable {
            self.nodes[node].engine.begin_make_durable();
            let slowness = self.nodes[node].slowness(self.now_us);
            let delay = self.rng.range(50, self.plan.disk.durable_us_max) * slowness;
            if slowness > 1 {
                self.nodes[node].late_until_us = self.now_us + delay;
            }
            self.queue
                .push(self.now_us + delay, Event::Durable { node, life, up_to });
        }
        if ticked {
            let jitter = self.rng.below(self.plan.store.tick_us / 20);
            let at = self.nodes[node].clock.when(self.now_us, next_tick_us) + jitter;
            self.queue.push(at, Event::Tick { node, life });
            self.workload
                .ticked(node, times.mono_us, self.plan.store.tick_us)?;
            self.callers
                .ticked(node, times.mono_us, self.plan.store.tick_us)?;
            if !self.nodes[node].is_impostor() {
                self.check_tick(node)?;
            }
        }
        if self.nodes[node].is_stopping
            && self.nodes[node]
                .process
                .as_ref()
                .is_some_and(|p| p.store.is_drained())
        {
            self.die(node, Death::Kill, "has shut down");
        }
        Ok(())
    }
}

fn outcome_text(outcome: &ClientOutcome) -> String {
    match outcome {
        ClientOutcome::Done(answer) => format!("{answer:?}"),
        other => format!("{other:?}"),
    }
}
