//! Who takes ids and timestamps: nodes ask the controller for some all the time, and none is ever given twice (design,
//! section 6).
//!
//! What is asked before a node dies may never be answered; everything else must be, once faults have ended. Now and then
//! somebody wants the cluster to begin again (PS-08), or comes under the id of a store that has registered (P7), and is
//! refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_proto::{
    Answer, CommandError, ControlCommand, FirstState, ForwardBody, Labels, Query, StoreRecord,
};
use quorate_storage::{Identity, Incarnation, StoreId};
use quorate_store::rsm::CONTROLLER;
use quorate_store::{ClientOutcome, ClientRequest, Input, RequestId, RouteMode, Target};

use crate::oracle::Violation;
use crate::rng::{Rng, mix};
use crate::world::{Event, World};

/// Their requests are counted from here, above the operator's.
const FIRST: u64 = 7 << 60;
/// Two in so many questions are such that they must be refused.
const REFUSED: u64 = 16;

/// How long timestamps may take, in milliseconds.
const TIMEOUT_MS: u32 = 2_000;

const UNIQUE: &str = "ids are given once and rise";
const TIMESTAMPS: &str = "timestamps are given once and rise";
const ONCE: &str = "a cluster begins once";
const IDENTITY: &str = "a store's id belongs to one incarnation";

/// What was asked and what was given.
pub(crate) struct IdTakers {
    /// Of their own, so that they draw from nothing else.
    rng: Rng,
    asked: u64,
    open: BTreeMap<RequestId, Asked>,
    given: Given,
    timestamps: Given,
}

/// The number behind the last of each run that was given, by its first.
#[derive(Default)]
struct Given(BTreeMap<u64, u64>);

impl Given {
    /// Behind the highest.
    fn end(&self) -> u64 {
        let (_, end) = self.0.last_key_value().unwrap_or((&0, &0));
        *end
    }

    /// A run is given that was asked for when all below `above` had been.
    fn give(&mut self, property: &'static str, first: u64, count: u32, above: u64) -> Result<(), Violation> {
        let end = first + u64::from(count);
        let before = self.0.range(..end).next_back();
        if let Some((other, other_end)) = before.filter(|(_, other_end)| **other_end > first) {
            let detail = format!("{first}..{end} was given, and {other}..{other_end} before");
            return Err(Violation::new(property, detail));
        }
        if first < above {
            let detail = format!("{first}..{end} was asked for when all below {above} had been given");
            return Err(Violation::new(property, detail));
        }
        self.0.insert(first, end);
        Ok(())
    }
}

/// What the controller is asked for.
#[derive(Clone, Copy, Debug)]
enum Wish {
    Ids(u32),
    Timestamps(u32),
    /// The cluster is to begin again.
    Begin,
    /// The store on this node has another incarnation.
    Impostor(usize),
}

struct Asked {
    node: usize,
    wish: Wish,
    /// The number behind the last that had been given when it was asked.
    above: u64,
}

impl IdTakers {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(mix(seed, FIRST)),
            asked: 0,
            open: BTreeMap::new(),
            given: Given::default(),
            timestamps: Given::default(),
        }
    }

    pub(crate) fn is_theirs(id: RequestId) -> bool {
        id.0 >= FIRST
    }

    /// Questions that nodes which are up have not answered.
    pub(crate) fn under_way(&self) -> usize {
        self.open.len()
    }

    /// Runs of ids that were given.
    pub(crate) fn given(&self) -> u64 {
        self.given.0.len() as u64
    }

    /// The highest id that was given.
    fn last(&self) -> Option<u64> {
        self.given.end().checked_sub(1)
    }

    /// A node died, and with it what it was asked.
    pub(crate) fn lost(&mut self, node: usize) {
        self.open.retain(|_, asked| asked.node != node);
    }

    pub(crate) fn answered(
        &mut self,
        node: usize,
        id: RequestId,
        outcome: &ClientOutcome,
    ) -> Result<(), Violation> {
        let asked = self.open.remove(&id).filter(|asked| asked.node == node);
        let Some(Asked { wish, above, .. }) = asked else {
            let detail = format!(
                "node {} answers question {} again, or one that it never got",
                node + 1,
                id.0
            );
            return Err(Violation::new("every request is answered once", detail));
        };
        match (wish, outcome) {
            (Wish::Begin, ClientOutcome::Done(Answer::Error(CommandError::AlreadyBootstrapped)))
            | (
                Wish::Impostor(_),
                ClientOutcome::Done(Answer::Error(
                    CommandError::OtherIncarnation | CommandError::StoreRemoved,
                )),
            ) => Ok(()),
            (Wish::Begin, other) => Err(Violation::new(ONCE, format!("a second bootstrap got {other:?}"))),
            (Wish::Impostor(of), other) => {
                let detail = format!("whoever came as store {} got {other:?}", of + 1);
                Err(Violation::new(IDENTITY, detail))
            }
            (Wish::Ids(count), ClientOutcome::Done(Answer::Int(first))) => {
                self.given.give(UNIQUE, *first as u64, count, above)
            }
            (Wish::Timestamps(count), ClientOutcome::Done(Answer::Int(first))) => {
                self.timestamps.give(TIMESTAMPS, *first as u64, count, above)
            }
            (Wish::Timestamps(count), ClientOutcome::Done(other)) => {
                let detail = format!("{count} timestamps were asked for, and the answer is {other:?}");
                Err(Violation::new(TIMESTAMPS, detail))
            }
            // Nobody led for too long.
            (Wish::Timestamps(_), _) => Ok(()),
            (Wish::Ids(count), other) => {
                let detail = format!("{count} ids were asked for, and the answer is {other:?}");
                Err(Violation::new(UNIQUE, detail))
            }
        }
    }
}

impl World {
    /// Some node asks for ids, and another one later.
    pub(crate) fn take_ids(&mut self) {
        let Some(most_us) = self.plan.load.take_ids_us_max.filter(|_| !self.quiet) else {
            return;
        };
        let rng = &mut self.id_takers.rng;
        let node = rng.below(self.nodes.len() as u64) as usize;
        let other = rng.below(self.nodes.len() as u64) as usize;
        let (kind, count) = (rng.below(REFUSED), rng.range(1, 5) as u32);
        let at = self.now_us + rng.below(most_us);
        let wish = match kind {
            0 => Wish::Begin,
            // Not before the true one is known.
            1 if self.is_registered(other) => Wish::Impostor(other),
            2..8 => Wish::Timestamps(count * 100),
            _ => Wish::Ids(count),
        };
        self.ask_controller(node, wish);
        self.queue.push(at, Event::TakeIds);
    }

    /// A node asks the controller for so many ids, or for the cluster to begin again. Nothing happens while it is down.
    pub fn ask_for_ids(&mut self, node: usize, count: Option<u32>) {
        self.ask_controller(node, count.map_or(Wish::Begin, Wish::Ids));
    }

    /// A node asks the controller for so many timestamps. Nothing happens while it is down.
    pub fn ask_for_timestamps(&mut self, node: usize, count: u32) {
        self.ask_controller(node, Wish::Timestamps(count));
    }

    fn ask_controller(&mut self, node: usize, wish: Wish) {
        if !self.nodes[node].is_up() {
            return;
        }
        let takers = &mut self.id_takers;
        let id = RequestId(FIRST + takers.asked);
        takers.asked += 1;
        let above = match wish {
            // Who leads must be confirmed, or what comes from an earlier leader may be lower.
            Wish::Timestamps(_) if self.plan.leases_may_lie() => 0,
            Wish::Timestamps(_) => takers.timestamps.end(),
            _ => takers.given.end(),
        };
        takers.open.insert(id, Asked { node, wish, above });
        let command = match wish {
            Wish::Timestamps(count) => {
                self.trace.event(self.now_us, &[18, node as u64, id.0], || {
                    format!("n{} asks for {count} timestamps", node + 1)
                });
                let request = ClientRequest {
                    id,
                    stream: id.0,
                    target: Target::Shard(CONTROLLER),
                    body: ForwardBody::Read(Query::Timestamps { count }),
                    session: None,
                    mode: RouteMode::Proxy,
                    timeout_ms: TIMEOUT_MS,
                };
                return self.input(node, Input::Client(request));
            }
            Wish::Ids(count) => ControlCommand::AllocateIds { count },
            Wish::Begin => ControlCommand::Bootstrap(FirstState {
                cluster: self.nodes[node].identity.cluster,
                stores: vec![StoreId(1)],
                shards: 1,
                replicas: 1,
                next_id: 1000,
            }),
            Wish::Impostor(of) => {
                let Identity {
                    store, incarnation, ..
                } = self.nodes[of].identity;
                ControlCommand::Register(StoreRecord {
                    store,
                    incarnation: Incarnation(incarnation.0 + 1),
                    client: Bytes::new(),
                    peer: Bytes::new(),
                    http: Bytes::new(),
                    labels: Labels::new(),
                    roles: Default::default(),
                })
            }
        };
        self.trace.event(self.now_us, &[17, node as u64, id.0], || {
            format!("n{} asks the controller: {command:?}", node + 1)
        });
        self.input(node, Input::AskController { id, command });
    }

    /// Whether the controller has taken down a node's store since its last start.
    pub(crate) fn is_registered(&self, node: usize) -> bool {
        let process = self.nodes[node].process.as_ref();
        process.is_some_and(|process| process.store.is_registered())
    }

    /// Runs of ids that the controller gave, and what it was asked and has not answered.
    #[must_use]
    pub fn ids_given(&self) -> (u64, usize) {
        (self.id_takers.given(), self.id_takers.under_way())
    }

    /// Runs of timestamps that the controller gave.
    #[must_use]
    pub fn timestamps_given(&self) -> u64 {
        self.id_takers.timestamps.0.len() as u64
    }

    /// The highest id that the controller gave.
    #[must_use]
    pub fn last_id_given(&self) -> Option<u64> {
        self.id_takers.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(takers: &mut IdTakers, wish: Wish) -> RequestId {
        let id = RequestId(FIRST + takers.asked);
        takers.asked += 1;
        let above = takers.given.end();
        takers.open.insert(id, Asked { node: 0, wish, above });
        id
    }

    fn given(first: i64) -> ClientOutcome {
        ClientOutcome::Done(Answer::Int(first))
    }

    #[test]
    fn ids_that_overlap_or_fall_are_found() {
        let mut takers = IdTakers::new(1);
        let early = asked(&mut takers, Wish::Ids(2));
        let first = asked(&mut takers, Wish::Ids(3));
        takers.answered(0, first, &given(10)).unwrap();
        // Asked before the other was answered, so it may be below.
        takers.answered(0, early, &given(8)).unwrap();
        for (count, wrong) in [(1, 12), (5, 6), (3, 10), (1, 7)] {
            let id = asked(&mut takers, Wish::Ids(count));
            let found = takers.answered(0, id, &given(wrong)).unwrap_err();
            assert_eq!(found.property, UNIQUE, "{count} from {wrong}");
        }
        let id = asked(&mut takers, Wish::Ids(1));
        takers.answered(0, id, &given(13)).unwrap();
        assert!(takers.answered(0, id, &given(14)).is_err(), "answered twice");
    }

    #[test]
    fn timestamps_that_come_twice_or_fall_are_found() {
        let mut given = Given::default();
        given.give(TIMESTAMPS, 100, 10, 0).unwrap();
        for (wrong, above) in [(109, 0), (95, 0), (99, 0), (200, 210)] {
            let found = given.give(TIMESTAMPS, wrong, 10, above).unwrap_err();
            assert_eq!(found.property, TIMESTAMPS, "{wrong}");
        }
        given.give(TIMESTAMPS, 90, 10, 0).unwrap();
        assert_eq!(given.end(), 110);
    }

    #[test]
    fn a_second_beginning_is_found() {
        let mut takers = IdTakers::new(1);
        let refused = ClientOutcome::Done(Answer::Error(CommandError::AlreadyBootstrapped));
        let id = asked(&mut takers, Wish::Begin);
        takers.answered(0, id, &refused).unwrap();
        let id = asked(&mut takers, Wish::Begin);
        let done = ClientOutcome::Done(Answer::Ok);
        assert_eq!(takers.answered(0, id, &done).unwrap_err().property, ONCE);
    }

    #[test]
    fn an_impostor_that_is_taken_in_is_found() {
        let mut takers = IdTakers::new(1);
        let refused = ClientOutcome::Done(Answer::Error(CommandError::OtherIncarnation));
        let id = asked(&mut takers, Wish::Impostor(2));
        takers.answered(0, id, &refused).unwrap();
        let id = asked(&mut takers, Wish::Impostor(2));
        let done = ClientOutcome::Done(Answer::Ok);
        assert_eq!(takers.answered(0, id, &done).unwrap_err().property, IDENTITY);
    }
}
