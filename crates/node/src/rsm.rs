//! A replicated state machine on top of the log: commands in, their results out, snapshots by themselves.
//!
//! [`StateMachine`] is the application. [`Replica`] is its bookkeeping on one member: it applies what is handed
//! up, finds out how each command that was started here ended (O1), and says when a snapshot is due. It has no
//! thread and no clock, so it runs on virtual time as well; [`crate::Replicated`] drives it for real.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{Applied, CommandIndex, Started, Term};

/// What is replicated: the same on every member, because it does the same with the same commands.
pub trait StateMachine {
    /// What a command results in.
    type Output;

    /// Applies a command. Called in the same order on every member; it must depend on nothing but the state and
    /// the command, and must cope with any bytes that anybody may start.
    fn apply(&mut self, command: &[u8]) -> Self::Output;

    /// The state as bytes.
    fn snapshot(&self) -> Vec<u8>;

    /// Takes over a state. `snapshot` is what [`StateMachine::snapshot`] gave on some member.
    fn restore(&mut self, snapshot: &[u8]);
}

/// How a command that was started here ended, if it was not applied with a result.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotDone {
    /// Another leader's commands took its place: it is not applied and never will be (O1).
    #[error("the command was not applied: leadership changed first")]
    NotApplied,
    /// It may or may not be applied, now or later.
    #[error("the command's outcome is unknown")]
    Unknown,
}

/// Who waited, and how the command ended.
pub type Decided<S, W> = (W, Result<<S as StateMachine>::Output, NotDone>);

/// A state machine on one member, with those who wait for the results of what they started here.
#[derive(Debug)]
pub struct Replica<S: StateMachine, W> {
    state: S,
    applied: CommandIndex,
    term: Term,
    waiting: BTreeMap<(CommandIndex, Term), W>,
    /// Bytes of commands since the newest snapshot, and the bound.
    bytes: u64,
    snapshot_bytes: u64,
}

impl<S: StateMachine, W> Replica<S, W> {
    /// `state` is that of before the first command. A snapshot is due whenever the commands since the last one
    /// have `snapshot_bytes` or more.
    pub fn new(state: S, snapshot_bytes: u64) -> Self {
        Self {
            state,
            applied: CommandIndex(0),
            term: Term(0),
            waiting: BTreeMap::new(),
            bytes: 0,
            snapshot_bytes,
        }
    }

    /// The state: that of the last command applied here.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The last command applied.
    pub fn applied(&self) -> CommandIndex {
        self.applied
    }

    /// Somebody waits for a command that was started here. To be called before what is handed up after the start
    /// is given to [`Replica::take`].
    pub fn wait(&mut self, started: Started, waiter: W) {
        self.waiting.insert((started.index, started.term), waiter);
    }

    /// Takes what was handed up; gives the results that are decided by it to those who wait.
    pub fn take(&mut self, thing: Applied) -> Vec<Decided<S, W>> {
        let mut done = Vec::new();
        let term = match thing {
            Applied::Command { index, term, data } => {
                let output = self.state.apply(&data);
                self.applied = index;
                self.bytes += data.len() as u64;
                if let Some(waiter) = self.waiting.remove(&(index, term)) {
                    done.push((waiter, Ok(output)));
                }
                term
            }
            Applied::Snapshot { index, term, data } => {
                self.state.restore(&data);
                self.applied = index;
                self.bytes = 0;
                let later = self.waiting.split_off(&(CommandIndex(index.0 + 1), Term(0)));
                let covered = std::mem::replace(&mut self.waiting, later);
                done.extend(
                    covered
                        .into_values()
                        .map(|waiter| (waiter, Err(NotDone::Unknown))),
                );
                term
            }
            Applied::NewTerm { term, .. } => term,
            Applied::Removed => return self.give_up(),
        };
        // What an earlier leader started and is not here by now never will be.
        if term <= self.term {
            return done;
        }
        self.term = term;
        let waiting = std::mem::take(&mut self.waiting);
        let (lost, waiting) = waiting.into_iter().partition(|((_, of), _)| *of < term);
        self.waiting = waiting;
        let lost: BTreeMap<_, W> = lost;
        done.extend(
            lost.into_values()
                .map(|waiter| (waiter, Err(NotDone::NotApplied))),
        );
        done
    }

    /// Nothing more will be handed up: what is not decided stays unknown.
    pub fn give_up(&mut self) -> Vec<Decided<S, W>> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting
            .into_values()
            .map(|waiter| (waiter, Err(NotDone::Unknown)))
            .collect()
    }

    /// A snapshot, if one is due: to be given to `snapshot` of the log.
    pub fn snapshot_due(&mut self) -> Option<(CommandIndex, Bytes)> {
        if self.bytes < self.snapshot_bytes {
            return None;
        }
        self.bytes = 0;
        Some((self.applied, self.state.snapshot().into()))
    }
}
