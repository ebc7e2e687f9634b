//! A machine as a store hosts it.

#![allow(
    dead_code,
    reason = "part of several test programs, each of which uses some of it"
)]

pub(crate) mod heard;
pub(crate) mod view;

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_controller::Controller;
use quorate_proto::{
    Answer, CommandError, Config, ControlCommand, FirstState, PlacementCommand, StoreRecord,
};
use quorate_storage::{ClusterId, Incarnation, StoreId};
use quorate_store::rsm::{RowChanges, StateMachine};

/// What a cluster with so many data shards begins with.
pub(crate) fn first(shards: u16) -> FirstState {
    FirstState {
        cluster: ClusterId(9),
        stores: [1, 2, 5].map(StoreId).to_vec(),
        shards,
        replicas: 3,
        next_id: 16,
    }
}

/// A machine and the rows that it has made, as a store keeps them.
#[derive(Default)]
pub(crate) struct Hosted {
    pub(crate) machine: Controller,
    pub(crate) rows: BTreeMap<Bytes, Bytes>,
}

impl Hosted {
    /// That of a cluster that begins with three stores and so many data shards.
    pub(crate) fn begun(shards: u16) -> Self {
        let mut hosted = Self::default();
        let begin = ControlCommand::Bootstrap(first(shards));
        assert_eq!(hosted.apply(&begin), Answer::Ok);
        hosted
    }

    /// The same; all three have registered, each under its id as its incarnation.
    pub(crate) fn registered(shards: u16) -> Self {
        let mut hosted = Self::begun(shards);
        for store in [1, 2, 5] {
            hosted.register(store);
        }
        hosted
    }

    /// A store registers, under its id as its incarnation.
    pub(crate) fn register(&mut self, store: u64) {
        let answer = self.apply(&ControlCommand::Register(StoreRecord {
            store: StoreId(store),
            incarnation: Incarnation(u128::from(store)),
            client: "c".into(),
            peer: "p".into(),
            http: "h".into(),
            labels: Default::default(),
            roles: Default::default(),
        }));
        assert!(matches!(answer, Answer::Bulk(_)), "{answer:?}");
    }

    /// Applies a command, and looks whether a machine that loads the rows is the same.
    pub(crate) fn apply(&mut self, command: &ControlCommand) -> Answer {
        let before = self.machine.clone();
        let mut changes = RowChanges::new();
        let answer = self.machine.apply(7, command, &mut changes);
        if matches!(answer, Answer::Error(_)) {
            assert_eq!(self.machine, before, "{command:?} was refused");
            assert!(changes.is_empty(), "{command:?} was refused");
        }
        for (row, value) in changes {
            match value {
                Some(value) => self.rows.insert(row, value),
                None => self.rows.remove(&row),
            };
        }
        assert_eq!(self.loaded().as_ref(), Ok(&self.machine));
        answer
    }

    /// A machine that loads the rows.
    pub(crate) fn loaded(&self) -> Result<Controller, String> {
        let rows: Vec<_> = self.rows.clone().into_iter().collect();
        // What it had before does not matter.
        let mut machine = Controller::default();
        machine.apply(
            0,
            &ControlCommand::AllocateIds { count: 1 },
            &mut RowChanges::new(),
        );
        machine.load(&rows).map(|()| machine)
    }

    /// The number of the newest config after the command.
    pub(crate) fn place(&mut self, command: PlacementCommand) -> Result<i64, CommandError> {
        match self.apply(&ControlCommand::Place(command)) {
            Answer::Int(num) => Ok(num),
            Answer::Error(error) => Err(error),
            answer => panic!("{answer:?}"),
        }
    }

    pub(crate) fn newest(&self) -> &Config {
        self.machine.history().newest()
    }
}

/// A sequence of numbers that the seed decides (SplitMix64).
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}
