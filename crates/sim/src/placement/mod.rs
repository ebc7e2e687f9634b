//! The operator of the placement: has groups join and leave, moves shards, drains and removes stores, and brings new
//! machines, by asking the controller through nodes that may die meanwhile.
//!
//! | module | subject |
//! | --- | --- |
//! | `wishes` | what is asked for |
//! | `births` | machines that become stores, and those that are told that their id is gone |
//! | `settled` | once faults have ended, everything is where the config says |

mod births;
mod settled;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto::{Answer, ControlCommand, Service, decode_admission};
use quorate_storage::StoreId;
use quorate_store::{ClientOutcome, Input, RequestId};

use crate::oracle::Violation;
use crate::rng::{Rng, mix};
use crate::world::World;

pub(crate) use births::{Coming, Standing};

/// Their requests are counted from here: above the operator's, below those of who takes ids.
const FIRST: u64 = 13 << 59;

const REFUSED: &str = "what cannot be is refused";

/// What became of the placement, in numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PlacementCounts {
    /// Configs in which groups came.
    pub joins: u64,
    /// Configs from which groups went.
    pub leaves: u64,
    /// Shards that got another group.
    pub moves: u64,
    /// Configs in which the stores of a group changed.
    pub regroups: u64,
    /// Stores that were to be emptied.
    pub drains: u64,
    /// Stores that were removed.
    pub removals: u64,
    /// Machines that became stores.
    pub births: u64,
    /// Times that a removed store was told so.
    pub told_gone: u64,
    /// Strikes at the controller's leader in the middle of a change.
    pub controllers_struck: u64,
    /// Strikes at other stores in the middle of a change.
    pub others_struck: u64,
}

impl PlacementCounts {
    /// Adds another run's.
    pub(crate) fn add(&mut self, other: &Self) {
        self.joins += other.joins;
        self.leaves += other.leaves;
        self.moves += other.moves;
        self.regroups += other.regroups;
        self.drains += other.drains;
        self.removals += other.removals;
        self.births += other.births;
        self.told_gone += other.told_gone;
        self.controllers_struck += other.controllers_struck;
        self.others_struck += other.others_struck;
    }
}

/// What was asked and what is wanted.
pub(crate) struct Placement {
    /// Of its own, for what is asked again.
    rng: Rng,
    asked: u64,
    open: BTreeMap<RequestId, Asked>,
    coming: Option<Coming>,
    /// Stores that are to be removed once they are empty.
    removing: BTreeSet<StoreId>,
}

struct Asked {
    node: usize,
    wish: Wish,
}

/// What the controller was asked for.
#[derive(Clone, Debug)]
enum Wish {
    /// May be refused.
    Change,
    /// Must be refused.
    Nonsense(ControlCommand),
    /// A machine asks for an id.
    Admit(Coming),
}

/// What is looked at again later.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    /// Whether the machine that asked has an id.
    Birth,
    /// Whether a store is removed.
    Removal(StoreId),
}

impl Placement {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(mix(seed, FIRST)),
            asked: 0,
            open: BTreeMap::new(),
            coming: None,
            removing: BTreeSet::new(),
        }
    }

    pub(crate) fn is_theirs(id: RequestId) -> bool {
        id.0 >= FIRST
    }

    /// Questions that nodes which are up have not answered, and machines that are waiting for an id.
    pub(crate) fn under_way(&self) -> usize {
        self.open.len() + usize::from(self.coming.is_some())
    }

    /// A node died, and with it what it was asked.
    pub(crate) fn lost(&mut self, node: usize) {
        self.open.retain(|_, asked| asked.node != node);
    }
}

impl World {
    /// Asks the controller through any node that is up.
    fn ask_for_placement(&mut self, wish: Wish, command: ControlCommand) {
        let up: Vec<usize> = (0..self.nodes.len())
            .filter(|node| self.nodes[*node].is_up() && self.is_of_cluster(*node))
            .collect();
        if up.is_empty() {
            return;
        }
        let placement = &mut self.placement;
        let node = *placement.rng.pick(&up);
        let id = RequestId(FIRST + placement.asked);
        placement.asked += 1;
        placement.open.insert(id, Asked { node, wish });
        self.trace.event(self.now_us, &[19, node as u64, id.0], || {
            format!("n{} is to ask the controller: {command:?}", node + 1)
        });
        self.input(node, Input::AskController { id, command });
    }

    /// The controller has answered through a node.
    pub(crate) fn placement_answered(
        &mut self,
        node: usize,
        id: RequestId,
        outcome: &ClientOutcome,
    ) -> Result<(), Violation> {
        let asked = self.placement.open.remove(&id).filter(|asked| asked.node == node);
        let Some(Asked { wish, .. }) = asked else {
            let detail = format!("node {} answers question {}, which is not open", node + 1, id.0);
            return Err(Violation::new("every request is answered once", detail));
        };
        match (wish, outcome) {
            (Wish::Nonsense(_), ClientOutcome::Done(Answer::Error(_))) => Ok(()),
            (Wish::Nonsense(command), other) => {
                Err(Violation::new(REFUSED, format!("{command:?} got {other:?}")))
            }
            (Wish::Admit(coming), ClientOutcome::Done(Answer::Bulk(bytes))) => {
                let admission = decode_admission(bytes).map_err(|error| {
                    Violation::new("an admission can be read", format!("{error}: {bytes:?}"))
                })?;
                self.admitted(coming, &admission)
            }
            (Wish::Admit(coming), other) => self.not_admitted(coming, other),
            (Wish::Change, _) => Ok(()),
        }
    }

    /// Something is looked at again.
    pub(crate) fn placement_goes_on(&mut self, stage: Stage) {
        match stage {
            Stage::Birth => self.await_birth(),
            Stage::Removal(store) if !self.healing => self.await_removal(store),
            Stage::Removal(_) => {}
        }
    }

    /// Whether a node's store is of the cluster: it has an id, and was not removed.
    #[must_use]
    pub fn is_of_cluster(&self, node: usize) -> bool {
        let state = &self.nodes[node];
        state.standing == Standing::Store
            && self.oracles.configs.service(state.identity.store) != Service::Removed
    }
}
