//! The state, and what each command does to it.

use quorate_proto::{Answer, CommandError, ControlCommand, FirstState, IDS_MAX};
use quorate_raft::mutant;
use quorate_storage::engine::Pair;
use quorate_store::rsm::{RowChanges, StateMachine};

use crate::rows;

/// The controller's replicated state.
///
/// Invariants: the rows that were written say the same as the fields; `next_id` never falls, and no id at or above it
/// was ever given out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Controller {
    /// What the cluster began with; none before.
    first: Option<FirstState>,
    next_id: u64,
}

impl Controller {
    /// What the cluster began with; none if it has not.
    #[must_use]
    pub fn first(&self) -> Option<&FirstState> {
        self.first.as_ref()
    }

    /// The least id that was never given out.
    #[must_use]
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// PS-08: once.
    fn bootstrap(&mut self, first: &FirstState, rows: &mut RowChanges) -> Result<Answer, CommandError> {
        if self.first.is_some() && !mutant!("second-bootstrap-accepted") {
            return Err(CommandError::AlreadyBootstrapped);
        }
        let is_sorted = first.stores.is_sorted_by(|a, b| a < b);
        let is_named = first.stores.iter().all(|store| store.0 < first.next_id);
        if first.stores.is_empty()
            || !is_sorted
            || !is_named
            || first.shards == 0
            || !(1..=9).contains(&first.replicas)
        {
            return Err(CommandError::OutOfRange);
        }
        self.first = Some(first.clone());
        let (row, value) = rows::first_row(first);
        rows.push((row, Some(value)));
        self.set_next_id(first.next_id, rows);
        Ok(Answer::Ok)
    }

    fn allocate_ids(&mut self, count: u32, rows: &mut RowChanges) -> Result<Answer, CommandError> {
        if self.first.is_none() {
            return Err(CommandError::NotBootstrapped);
        }
        let first = self.next_id;
        // Answers are signed.
        let next = first
            .checked_add(u64::from(count))
            .filter(|next| *next <= i64::MAX as u64);
        let Some(next) = next.filter(|_| (1..=IDS_MAX).contains(&count)) else {
            return Err(CommandError::OutOfRange);
        };
        self.set_next_id(next, rows);
        Ok(Answer::Int(first as i64))
    }

    fn set_next_id(&mut self, next_id: u64, rows: &mut RowChanges) {
        assert!(
            next_id > self.next_id,
            "the next id would go from {} to {next_id}",
            self.next_id
        );
        self.next_id = next_id;
        let (row, value) = rows::next_id_row(next_id);
        rows.push((row, Some(value)));
    }
}

impl StateMachine for Controller {
    fn load(&mut self, rows: &[Pair]) -> Result<(), String> {
        *self = Self::default();
        for (row, value) in rows {
            match row.as_ref() {
                rows::FIRST => self.first = Some(rows::read_first(value)?),
                rows::NEXT_ID => self.next_id = rows::read_next_id(value)?,
                row => return Err(format!("unknown row \"{}\"", row.escape_ascii())),
            }
        }
        if mutant!("ids-begin-anew-at-a-start") {
            self.next_id = self.first.as_ref().map_or(0, |first| first.next_id);
        }
        match &self.first {
            Some(first) if self.next_id < first.next_id => Err(format!(
                "the next id {} is below {}, with which the cluster began",
                self.next_id, first.next_id
            )),
            None if self.next_id != 0 => Err("a next id, and no first state".to_owned()),
            _ => Ok(()),
        }
    }

    fn apply(&mut self, _stamp_ms: u64, command: &ControlCommand, rows: &mut RowChanges) -> Answer {
        let answer = match command {
            ControlCommand::Bootstrap(first) => self.bootstrap(first, rows),
            ControlCommand::AllocateIds { count } => self.allocate_ids(*count, rows),
        };
        answer.unwrap_or_else(Answer::Error)
    }
}
