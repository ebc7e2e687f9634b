//! Machines that come while the cluster runs and ask to be stores, as a node does that is started with `--join`; and
//! stores that were removed, which are told so when they register.

use bytes::Bytes;
use quorate_proto::{Admission, Answer, CommandError, ControlCommand, Labels, Roles, Service, StoreRecord};
use quorate_storage::{Identity, Incarnation, StoreId};
use quorate_store::ClientOutcome;

use super::{Stage, Wish};
use crate::node::Death;
use crate::oracle::Violation;
use crate::world::{Event, World};

/// Virtual microseconds after which a machine looks whether it has an id.
const PATIENCE_US: u64 = 3_000_000;
/// So often a removed store comes back and is told so.
const RETURNS: u64 = 2;

/// What a machine is to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// It has no id.
    Unborn,
    /// It has one.
    Store,
    /// It had one, and was told so many times that it is gone.
    Gone(u64),
}

/// A machine that asks for an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Coming {
    node: usize,
    incarnation: Incarnation,
}

impl World {
    /// The next machine that is no store asks to be one, unless another is about to.
    pub(crate) fn begin_birth(&mut self) {
        let unborn = |node: &usize| self.nodes[*node].standing == Standing::Unborn;
        let next = (0..self.nodes.len()).find(unborn);
        if let Some(node) = next.filter(|_| self.placement.coming.is_none()) {
            let incarnation = Incarnation(u128::from(self.fault_rng.next_u64()));
            self.placement.coming = Some(Coming { node, incarnation });
            self.ask_for_admission();
        }
    }

    fn ask_for_admission(&mut self) {
        let Some(coming) = self.placement.coming else {
            return;
        };
        let name = Bytes::from(format!("n{}", coming.node + 1));
        let record = StoreRecord {
            store: StoreId(0),
            incarnation: coming.incarnation,
            client: name.clone(),
            peer: name.clone(),
            http: name,
            labels: Labels::new(),
            roles: Roles::BOTH,
        };
        self.ask_for_placement(Wish::Admit(coming), ControlCommand::Admit(record));
        self.queue
            .push(self.now_us + PATIENCE_US, Event::Placement(Stage::Birth));
    }

    /// Asks again, through another node: the first one may be dead, or take long.
    pub(super) fn await_birth(&mut self) {
        self.ask_for_admission();
    }

    /// A machine has its id: it formats its disks and starts.
    pub(super) fn admitted(&mut self, coming: Coming, admission: &Admission) -> Result<(), Violation> {
        let Coming { node, incarnation } = coming;
        let identity = Identity {
            cluster: admission.cluster,
            store: admission.store,
            incarnation,
        };
        let cluster = self.nodes[0].identity.cluster;
        // Ids of stores are counted up, and machines come one by one.
        if (identity.cluster, identity.store) != (cluster, StoreId(node as u64 + 1)) {
            let detail = format!("the machine that would be n{} got {admission:?}", node + 1);
            return Err(Violation::new("a new store gets the next id, once", detail));
        }
        self.placement.coming.take_if(|other| *other == coming);
        let state = &mut self.nodes[node];
        if state.standing == Standing::Unborn {
            state.standing = Standing::Store;
            state.identity = identity;
            self.counts.placement.births += 1;
            let at = self.now_us + self.rng.range_log(1_000, 1_000_000);
            self.queue.push(at, Event::Start { node });
        }
        Ok(())
    }

    pub(super) fn not_admitted(&mut self, coming: Coming, outcome: &ClientOutcome) -> Result<(), Violation> {
        let refused = |reason| *outcome == ClientOutcome::Done(Answer::Error(reason));
        // Whoever has just come to lead says so, and is asked again.
        if refused(CommandError::NotHeardYet)
            || refused(CommandError::StoreRemoved) && self.is_removed(coming.node)
        {
            return Ok(());
        }
        let detail = format!("the machine that would be n{} got {outcome:?}", coming.node + 1);
        Err(Violation::new("a new store is admitted", detail))
    }

    /// Whether a node's store was removed.
    fn is_removed(&self, node: usize) -> bool {
        let state = &self.nodes[node];
        state.standing != Standing::Unborn
            && self.oracles.configs.service(state.identity.store) == Service::Removed
    }

    /// A process stops because it was told that its store's id is gone (P7). It comes back once more, to be told again.
    pub(crate) fn told_gone(&mut self, node: usize) -> Result<(), Violation> {
        if !self.is_removed(node) {
            let detail = format!("node {} was told so, and is not", node + 1);
            return Err(Violation::new("only a removed store is told that it is", detail));
        }
        let state = &mut self.nodes[node];
        let times = match state.standing {
            Standing::Gone(times) => times + 1,
            Standing::Store | Standing::Unborn => 1,
        };
        state.standing = Standing::Gone(times);
        state.held_down = times >= RETURNS || self.healing;
        self.counts.placement.told_gone += 1;
        self.die(node, Death::Kill, "is told that its id is gone");
        Ok(())
    }

    /// Stores that were removed, run, and have not been told so.
    pub(crate) fn untold(&self) -> usize {
        let runs = |node: &usize| self.nodes[*node].is_up() && self.is_removed(*node);
        (0..self.nodes.len()).filter(runs).count()
    }
}
