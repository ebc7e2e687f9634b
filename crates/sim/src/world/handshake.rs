//! Who talks to whom: two stores look at each other's identity before they are connected, as the transport does (P7).
//!
//! A node that was started on an empty disk comes under its old id as another incarnation: an *impostor*. Nobody may
//! talk to it, nothing may be served by it, and it stops when it hears why.

use quorate_storage::disk::SimDisk;
use quorate_storage::engine::ModelDisk;
use quorate_storage::{Identity, Incarnation};
use quorate_store::ClientOutcome;

use super::World;
use crate::node::{Death, Node};
use crate::oracle::Violation;
use crate::process::Turn;

/// What belongs to a node whose own disks are not mounted.
pub(crate) struct Unmounted {
    identity: Identity,
    disk: SimDisk,
    engine: ModelDisk,
    is_formatted: bool,
}

impl Node {
    /// Whether the node runs on an empty disk under its old id, or comes back although it was given up.
    pub(crate) fn is_impostor(&self) -> bool {
        self.unmounted.is_some() || self.is_gone
    }
}

impl World {
    /// Both sides of a connection look at each other; returns whether they talk. Each binds the other's incarnation at
    /// first contact, durably.
    pub(super) fn greet(&mut self, a: usize, b: usize) -> Result<bool, Violation> {
        for (side, other) in [(a, b), (b, a)] {
            let theirs = self.nodes[other].identity;
            let Node { process, engine, .. } = &mut self.nodes[side];
            let Some(process) = process else {
                return Ok(false);
            };
            match process.knows(theirs, engine) {
                Ok(true) => {}
                Ok(false) => {
                    self.refused(side, other)?;
                    return Ok(false);
                }
                Err(stop) => {
                    self.stopped(side, stop)?;
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whoever is refused under its identity stops, and stays down.
    fn refused(&mut self, by: usize, node: usize) -> Result<(), Violation> {
        if !self.nodes[node].is_impostor() {
            let detail = format!("node {} refuses node {}", by + 1, node + 1);
            return Err(Violation::new("a store is known by its incarnation", detail));
        }
        self.nodes[node].held_down = true;
        self.die(node, Death::Kill, "is refused by a peer");
        Ok(())
    }

    /// P7, X-04: an impostor serves nobody, so no request of its clients is done.
    pub(super) fn check_impostor(&self, node: usize, turn: &Turn) -> Result<(), Violation> {
        let mut replies = turn.replies.iter();
        match replies.find(|(_, outcome)| matches!(outcome, ClientOutcome::Done(_))) {
            None => Ok(()),
            Some((id, outcome)) => {
                let detail = format!("node {} answers request {}: {outcome:?}", node + 1, id.0);
                Err(Violation::new("who was refused serves nobody", detail))
            }
        }
    }

    /// Puts empty disks in place of a node's own while it is down. Started, it comes under its old id as another
    /// incarnation.
    pub fn mount_empty_disks(&mut self, node: usize) {
        let seed = self.rng.next_u64();
        let state = &mut self.nodes[node];
        assert!(!state.is_up(), "node {} runs", node + 1);
        let own = Unmounted {
            identity: state.identity,
            disk: std::mem::replace(&mut state.disk, SimDisk::new(seed)),
            engine: std::mem::replace(&mut state.engine, ModelDisk::new()),
            is_formatted: std::mem::take(&mut state.is_formatted),
        };
        state.identity.incarnation = Incarnation(u128::from(seed));
        state.unmounted.get_or_insert(own);
    }

    /// Puts a node's own disks back while it is down.
    pub fn mount_own_disks(&mut self, node: usize) {
        let state = &mut self.nodes[node];
        assert!(!state.is_up(), "node {} runs", node + 1);
        if let Some(own) = state.unmounted.take() {
            (state.identity, state.disk, state.engine) = (own.identity, own.disk, own.engine);
            state.is_formatted = own.is_formatted;
        }
    }
}
