//! The search for an order of one key's operations that a model allows.
//!
//! Sources: Wing and Gong, "Testing and verifying concurrent objects" (1993), whose search tries, at every point,
//! each operation that was invoked before the first answer among the remaining ones; Lowe, "Testing for
//! linearizability" (2017), which never explores the same set of operations with the same state twice; and Horn
//! and Kroening, "Faster linearizability checking via P-compositionality" (2015), for doing it key by key.
//!
//! Operations of unknown outcome are what makes histories of a faulty system hard: each may take effect at any
//! later moment or never, so n of them allow 2^n subsets. Five rules, each of which loses no order, keep that small:
//!
//! - what is known is tried before what is unknown, and reads that change nothing are taken at once;
//! - an unknown operation that would make nothing new possible now is left for later;
//! - one is left out if the next one, unknown as well, leads as far without it (it is overwritten);
//! - of unknown operations with one effect the one that was invoked first is used first;
//! - a point that failed fails as well with more of the unknown operations used up, and with fewer of the states
//!   that are possible: of the points seen with the same known operations only the most promising are kept.
//!
//! Which of several possible operations is tried first makes the difference between a walk and a labyrinth, and no
//! rule for it is right for all histories. So the search is given up after some steps and begun anew with another
//! preference: what began first, what was overwritten first as far as reads tell, what ended first, chance. Every
//! second attempt may take twice as many steps as those before. Of a history that has an order some attempt soon
//! finds one; that there is none is known once an attempt has tried everything. What chance draws is fixed, so a
//! verdict is too.
//!
//! The depth of the search is on the heap, and its memory and its steps are bounded by a [`Budget`](super::Budget).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Instant;

use super::bits::{Bits, Fast, is_subset};
use super::budget::Limits;
use super::history::{Command, Operation, Outcome};
use super::model::Model;
use super::states::States;
use super::timeline::Timeline;
use crate::rng::mix;

/// What the search found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// An order that the model allows: indices of operations, those of unknown outcome that are needed included.
    Order(Vec<usize>),
    /// There is none.
    Nothing,
    /// The budget was used up: why.
    Gave(String),
}

/// The longest order that the model allows, found while there was none of all.
#[derive(Clone, Default, Debug)]
pub(super) struct Longest {
    known: usize,
    pub(super) order: Vec<usize>,
}

/// Looks for an order of the operations of one key. With `longest`, what came closest is kept there.
pub(super) fn search<M: Model>(
    model: &M,
    operations: &[&Operation],
    limits: Limits,
    mut longest: Option<&mut Longest>,
) -> (Found, u64) {
    let mut search = Search::new(model, operations, limits);
    let first = limits
        .first_attempt
        .unwrap_or(FIRST_ATTEMPT + FIRST_ATTEMPT_EACH * operations.len() as u64);
    let mut attempt: u64 = 0;
    loop {
        search.begin(attempt, first.saturating_mul(1 << (attempt / 2).min(60)));
        if let Some(found) = search.run(&mut longest) {
            return (found, search.steps);
        }
        attempt += 1;
    }
}

/// Steps of the first attempt.
const FIRST_ATTEMPT: u64 = 50_000;
/// And for each operation.
const FIRST_ATTEMPT_EACH: u64 = 64;

/// An operation of the search.
struct Item {
    /// In the caller's slice.
    at: usize,
    invoked: u64,
    /// None: unknown.
    ended: Option<u64>,
    only_reads: bool,
    /// The unknown operation with the same effect that was invoked before, as a position among the unknown ones.
    twin: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// A position among the known operations.
    Known(usize),
    /// A position among the unknown ones.
    Unknown(usize),
}

/// A choice that was made.
struct Frame {
    choice: Choice,
    state_before: u32,
    /// Nothing else needs to be tried in its place.
    forced: bool,
}

/// A set of states, and the unknown operations used.
type WidePoint = (u32, Box<[u64]>);
/// Sets none of which contains another.
type Antichain = Vec<Box<[u64]>>;

struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [&'a Operation],
    /// By invocation.
    known: Vec<Item>,
    /// By invocation.
    unknown: Vec<Item>,
    goal: Option<(usize, &'a Operation)>,
    timeline: Timeline,
    states: States<M>,
    steps_to: HashMap<(u32, u32), Option<u32>, Fast>,
    /// By known operations done and state: the minimal sets of unknown ones used.
    seen: HashMap<Box<[u64]>, Antichain, Fast>,
    /// By known operations done: points at which several states are possible, with the unknown ones used.
    wide: HashMap<Box<[u64]>, Vec<WidePoint>, Fast>,
    known_done: Bits,
    unknown_done: Bits,
    known_count: usize,
    state: u32,
    frames: Vec<Frame>,
    /// By known operation: what is tried first.
    ranks: Vec<u32>,
    /// Positions of unknown operations in the order in which they are tried, and the place of each in it.
    unknown_order: Vec<u32>,
    unknown_ranks: Vec<u32>,
    /// Known operations that could be next, with their ranks before them.
    window: Vec<(u32, u32)>,
    limits: Limits,
    steps: u64,
    /// Steps at which the attempt ends.
    attempt_until: u64,
    turns: u64,
    bytes: usize,
    /// Of those, what is forgotten between attempts.
    attempt_bytes: usize,
}

impl<'a, M: Model> Search<'a, M> {
    fn new(model: &'a M, operations: &'a [&'a Operation], limits: Limits) -> Self {
        let mut known = Vec::new();
        let mut unknown = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            let item = Item {
                at,
                invoked: operation.invoked,
                ended: operation.ended(),
                only_reads: model.only_reads(operation),
                twin: None,
            };
            match operation.outcome {
                Outcome::Done { .. } => known.push(item),
                Outcome::Unknown if !operation.command.is_read() => unknown.push(item),
                Outcome::Unknown | Outcome::NotApplied { .. } => {}
            }
        }
        known.sort_by_key(|item| item.invoked);
        unknown.sort_by_key(|item| item.invoked);
        let mut twins: HashMap<Command, usize> = HashMap::new();
        for (position, item) in unknown.iter_mut().enumerate() {
            item.twin = twins.insert(operations[item.at].command.effect(), position);
        }
        let goal = model
            .goal(operations)
            .and_then(|goal| Some((known.iter().position(|item| item.at == goal)?, operations[goal])));
        let ends: Vec<(u64, u64)> = known
            .iter()
            .map(|item| (item.invoked, item.ended.unwrap_or(u64::MAX)))
            .collect();
        let mut states = States::default();
        let (state, bytes) = states.intern(vec![model.initial()], model, goal.map(|(_, goal)| goal));
        let (ranks, unknown_ranks) = (vec![0; known.len()], vec![0; unknown.len()]);
        Self {
            known_done: Bits::new(known.len()),
            unknown_done: Bits::new(unknown.len()),
            model,
            operations,
            known,
            unknown,
            goal,
            timeline: Timeline::new(&ends),
            states,
            steps_to: HashMap::default(),
            seen: HashMap::default(),
            wide: HashMap::default(),
            known_count: 0,
            state,
            frames: Vec::new(),
            ranks,
            unknown_order: Vec::new(),
            unknown_ranks,
            window: Vec::new(),
            limits,
            steps: 0,
            attempt_until: 0,
            turns: 0,
            bytes,
            attempt_bytes: 0,
        }
    }

    /// Goes back to the beginning, with another preference.
    fn begin(&mut self, attempt: u64, allowance: u64) {
        while let Some(frame) = self.frames.pop() {
            self.undo(&frame);
        }
        self.seen.clear();
        self.wide.clear();
        self.bytes -= std::mem::take(&mut self.attempt_bytes);
        self.attempt_until = self.steps.saturating_add(allowance);
        let mut order: Vec<u32> = (0..self.known.len() as u32).collect();
        self.unknown_order = (0..self.unknown.len() as u32).collect();
        match attempt {
            0 => {}
            1 => {
                let shown = self.model.last_shown(self.operations);
                let until = |item: &Item| shown[item.at].max(Some(item.invoked));
                order.sort_by_key(|at| until(&self.known[*at as usize]));
                // First those that took effect for certain.
                let is_dark = |at: &u32| shown[self.unknown[*at as usize].at].is_none();
                self.unknown_order.sort_by_key(is_dark);
            }
            2 => order.sort_by_key(|at| self.known[*at as usize].ended),
            _ => {
                // Near to the order of invocation, more or less.
                let reach = 2 << (attempt % 6);
                order.sort_by_key(|at| u64::from(*at) + mix(attempt, u64::from(*at)) % reach);
                self.unknown_order.sort_by_key(|at| mix(!attempt, u64::from(*at)));
            }
        }
        for (rank, at) in (0..).zip(order) {
            self.ranks[at as usize] = rank;
        }
        for (rank, at) in (0..).zip(&self.unknown_order) {
            self.unknown_ranks[*at as usize] = rank;
        }
    }

    /// None: the attempt has used up its steps.
    fn run(&mut self, longest: &mut Option<&mut Longest>) -> Option<Found> {
        let mut after: Option<Choice> = None;
        loop {
            if self.known_count == self.known.len() {
                return Some(Found::Order(self.order()));
            }
            self.turns += 1;
            self.steps += 1;
            if let Some(why) = self.used_up() {
                return Some(Found::Gave(why));
            }
            if self.steps >= self.attempt_until {
                return None;
            }
            let forced = if after.is_none() {
                self.harmless_read()
            } else {
                None
            };
            let chosen = match forced {
                Some(choice) => Some((choice, self.state)),
                None => self.choose(after),
            };
            if let Some((choice, state)) = chosen {
                self.take(choice, state, forced.is_some());
                after = None;
                if let Some(longest) = longest
                    && self.known_count > longest.known
                {
                    longest.known = self.known_count;
                    longest.order = self.order();
                }
                continue;
            }
            loop {
                let Some(frame) = self.frames.pop() else {
                    return Some(Found::Nothing);
                };
                self.undo(&frame);
                if !frame.forced {
                    after = Some(frame.choice);
                    break;
                }
            }
        }
    }

    fn used_up(&self) -> Option<String> {
        if self.steps >= self.limits.steps {
            return Some(format!("no verdict after {} steps", self.steps));
        }
        if self.bytes > self.limits.bytes {
            return Some(format!(
                "the search needs more than {} MB",
                self.limits.bytes >> 20
            ));
        }
        let (until, time) = self.limits.until?;
        // A look at the clock costs more than a step.
        let late = self.turns.is_multiple_of(256) && Instant::now() > until;
        late.then(|| format!("no verdict within {} s", time.as_secs_f64()))
    }

    fn order(&self) -> Vec<usize> {
        let place = |frame: &Frame| match frame.choice {
            Choice::Known(known) => self.known[known].at,
            Choice::Unknown(position) => self.unknown[position].at,
        };
        self.frames.iter().map(place).collect()
    }

    /// A read that could be next and changes nothing: whatever comes can as well come after it.
    fn harmless_read(&mut self) -> Option<Choice> {
        let mut next = self.timeline.candidate(None);
        while let Some(known) = next {
            if self.known[known].only_reads && self.step(self.known[known].at) == Some(self.state) {
                return Some(Choice::Known(known));
            }
            next = self.timeline.candidate(next);
        }
        None
    }

    /// The next choice behind `after` that leads to a point not seen yet, with its state.
    fn choose(&mut self, after: Option<Choice>) -> Option<(Choice, u32)> {
        let (behind, from) = match after {
            None => (None, 0),
            Some(Choice::Known(known)) => (Some(self.ranks[known]), 0),
            Some(Choice::Unknown(position)) => (Some(u32::MAX), self.unknown_ranks[position] as usize + 1),
        };
        let mut window = std::mem::take(&mut self.window);
        self.fill(&mut window, behind);
        let chosen = window.iter().find_map(|(_, known)| {
            let known = *known as usize;
            let state = self.step(self.known[known].at)?;
            self.known_done.set(known);
            let new = self.may_lead_on(state) && self.is_new(state);
            self.known_done.clear(known);
            new.then_some((Choice::Known(known), state))
        });
        self.window = window;
        chosen.or_else(|| self.choose_unknown(from))
    }

    /// The known operations that could be next and have a rank above `behind`, by rank.
    fn fill(&self, window: &mut Vec<(u32, u32)>, behind: Option<u32>) {
        window.clear();
        let mut next = self.timeline.candidate(None);
        while let Some(known) = next {
            let rank = self.ranks[known];
            if behind.is_none_or(|behind| rank > behind) {
                window.push((rank, known as u32));
            }
            next = self.timeline.candidate(next);
        }
        window.sort_unstable();
    }

    /// The same among the unknown operations, from this rank on.
    fn choose_unknown(&mut self, from: usize) -> Option<(Choice, u32)> {
        if from >= self.unknown_order.len() {
            return None;
        }
        let first_return = self.known[self.timeline.ends_first()?].ended?;
        for rank in from..self.unknown_order.len() {
            let position = self.unknown_order[rank] as usize;
            let item = &self.unknown[position];
            let twin_waits = item.twin.is_some_and(|twin| !self.unknown_done.has(twin));
            if item.invoked > first_return || twin_waits || self.unknown_done.has(position) {
                continue;
            }
            let at = item.at;
            let Some(state) = self.step(at) else {
                continue;
            };
            if self.states.includes(self.state, state) || self.overwrites_unknown(at, state) {
                continue;
            }
            self.unknown_done.set(position);
            let new = self.may_lead_on(state) && self.is_new(state);
            self.unknown_done.clear(position);
            if new {
                return Some((Choice::Unknown(position), state));
            }
        }
        None
    }

    /// Whether the choice before was an unknown operation that makes no difference to this one's result.
    fn overwrites_unknown(&mut self, at: usize, state: u32) -> bool {
        match self.frames.last() {
            Some(frame) if matches!(frame.choice, Choice::Unknown(_)) => {
                let before = frame.state_before;
                self.step_from(before, at)
                    .is_some_and(|without| self.states.includes(without, state))
            }
            _ => false,
        }
    }

    /// Where an operation leads from the present state.
    fn step(&mut self, at: usize) -> Option<u32> {
        self.step_from(self.state, at)
    }

    fn step_from(&mut self, from: u32, at: usize) -> Option<u32> {
        let key = (from, at as u32);
        if let Some(next) = self.steps_to.get(&key) {
            return *next;
        }
        self.steps += 1;
        let mut next = Vec::new();
        for state in self.states.of(from) {
            self.model.step(state, self.operations[at], &mut next);
        }
        let state = if next.is_empty() {
            None
        } else {
            let goal = self.goal.map(|(_, goal)| goal);
            let (state, bytes) = self.states.intern(next, self.model, goal);
            self.bytes += bytes;
            Some(state)
        };
        self.bytes += 32;
        self.steps_to.insert(key, state);
        state
    }

    fn may_lead_on(&self, state: u32) -> bool {
        let waits = self.goal.is_some_and(|(goal, _)| !self.known_done.has(goal));
        !waits || self.states.leads_to_goal(state)
    }

    /// Whether this point promises more than those that were tried before; from now on it was.
    fn is_new(&mut self, state: u32) -> bool {
        self.steps += 1;
        let mut key = self.known_done.compact();
        let used = self.unknown_done.trimmed();
        // Points with several possible states, which may include this one's.
        if let Some(points) = self.wide.get(key.as_slice()) {
            self.steps += points.len() as u64 / 8;
            let mut points = points.iter();
            if points.any(|(wide, set)| self.states.includes(*wide, state) && is_subset(set, used)) {
                return false;
            }
        }
        let known = self.states.is_wide(state).then(|| key.clone());
        key.push(u64::from(state));
        let mut cost = 16 + used.len() * 8;
        let sets = match self.seen.entry(key.into_boxed_slice()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                cost += 64 + entry.key().len() * 8;
                entry.insert(Vec::new())
            }
        };
        if sets.iter().any(|set| is_subset(set, used)) {
            return false;
        }
        sets.retain(|set| !is_subset(used, set));
        sets.push(used.into());
        // Each set that was compared is work as well.
        self.steps += sets.len() as u64 / 8;
        if let Some(known) = known {
            cost += 96 + (known.len() + used.len()) * 8;
            let points = self.wide.entry(known.into_boxed_slice()).or_default();
            points.push((state, used.into()));
        }
        self.bytes += cost;
        self.attempt_bytes += cost;
        true
    }

    fn take(&mut self, choice: Choice, state: u32, forced: bool) {
        match choice {
            Choice::Known(known) => {
                self.timeline.take(known);
                self.known_done.set(known);
                self.known_count += 1;
            }
            Choice::Unknown(position) => self.unknown_done.set(position),
        }
        self.frames.push(Frame {
            choice,
            state_before: self.state,
            forced,
        });
        self.state = state;
    }

    fn undo(&mut self, frame: &Frame) {
        match frame.choice {
            Choice::Known(known) => {
                self.timeline.put_back(known);
                self.known_done.clear(known);
                self.known_count -= 1;
            }
            Choice::Unknown(position) => self.unknown_done.clear(position),
        }
        self.state = frame.state_before;
    }
}
