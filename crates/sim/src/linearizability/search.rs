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
//! - an unknown operation that would change nothing now is left for later;
//! - one is left out if the next one, unknown as well, leads to the same state without it (it is overwritten);
//! - of equal unknown operations the one that was invoked first is used first;
//! - a point that failed fails as well with more of the unknown operations used up: of the sets seen with the same
//!   known operations and the same state only the minimal ones are kept.
//!
//! The depth of the search is on the heap, and its memory and its steps are bounded by a [`Budget`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::bits::{Bits, Fast, is_subset};
use super::history::{Command, Operation, Outcome};
use super::model::Model;

/// What a check may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Steps that the search may take for one key: points visited and transitions tried.
    pub steps: u64,
    /// Bytes that may be kept at a time, about.
    pub bytes: usize,
    /// Wall time, if any, for all keys together. A verdict then depends on the machine.
    pub time: Option<Duration>,
}

impl Default for Budget {
    /// Fifty million steps, half a gigabyte, any time.
    fn default() -> Self {
        Self {
            steps: 50_000_000,
            bytes: 512 << 20,
            time: None,
        }
    }
}

/// A budget that is being used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    steps: u64,
    bytes: usize,
    until: Option<(Instant, Duration)>,
}

impl Budget {
    pub(super) fn start(&self) -> Limits {
        Limits {
            steps: self.steps,
            bytes: self.bytes,
            until: self.time.map(|time| (Instant::now() + time, time)),
        }
    }
}

impl Limits {
    /// The same with another number of steps.
    pub(super) fn with_steps(self, steps: u64) -> Self {
        Self {
            steps: steps.min(self.steps),
            ..self
        }
    }
}

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
    let found = search.run(&mut longest);
    (found, search.steps)
}

/// An operation of the search.
struct Item {
    /// In the caller's slice.
    at: usize,
    invoked: u64,
    /// None: unknown.
    ended: Option<u64>,
    only_reads: bool,
    /// The equal unknown operation that was invoked before, as a position among the unknown ones.
    twin: Option<usize>,
}

/// A call or a return in the list of those to come.
#[derive(Clone, Copy)]
struct Node {
    known: u32,
    is_call: bool,
    previous: u32,
    next: u32,
}

/// The list's head; it is neither call nor return.
const HEAD: u32 = 0;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// A known operation, as the node of its call.
    Known(u32),
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
    nodes: Vec<Node>,
    /// Of a known operation: the nodes of its call and its return.
    ends: Vec<(u32, u32)>,
    states: States<M>,
    steps_to: HashMap<(u32, u32), Option<u32>, Fast>,
    /// By known operations done and state: the minimal sets of unknown ones used.
    seen: HashMap<Box<[u64]>, Antichain, Fast>,
    known_done: Bits,
    unknown_done: Bits,
    known_count: usize,
    state: u32,
    frames: Vec<Frame>,
    limits: Limits,
    steps: u64,
    turns: u64,
    bytes: usize,
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
        let mut twins: HashMap<&Command, usize> = HashMap::new();
        for (position, item) in unknown.iter_mut().enumerate() {
            item.twin = twins.insert(&operations[item.at].command, position);
        }
        let goal = model
            .goal(operations)
            .and_then(|goal| Some((known.iter().position(|item| item.at == goal)?, operations[goal])));
        let (nodes, ends) = list(&known);
        let mut states = States::default();
        let (state, bytes) = states.intern(vec![model.initial()], model, goal.map(|(_, goal)| goal));
        Self {
            known_done: Bits::new(known.len()),
            unknown_done: Bits::new(unknown.len()),
            model,
            operations,
            known,
            unknown,
            goal,
            nodes,
            ends,
            states,
            steps_to: HashMap::default(),
            seen: HashMap::default(),
            known_count: 0,
            state,
            frames: Vec::new(),
            limits,
            steps: 0,
            turns: 0,
            bytes,
        }
    }

    fn run(&mut self, longest: &mut Option<&mut Longest>) -> Found {
        let mut after: Option<Choice> = None;
        loop {
            if self.known_count == self.known.len() {
                return Found::Order(self.order());
            }
            self.turns += 1;
            self.steps += 1;
            if let Some(why) = self.used_up() {
                return Found::Gave(why);
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
                    return Found::Nothing;
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
            Choice::Known(node) => self.known[self.nodes[node as usize].known as usize].at,
            Choice::Unknown(position) => self.unknown[position].at,
        };
        self.frames.iter().map(place).collect()
    }

    /// A read that could be next and changes nothing: whatever comes can as well come after it.
    fn harmless_read(&mut self) -> Option<Choice> {
        let mut node = self.nodes[HEAD as usize].next;
        while self.nodes[node as usize].is_call {
            let known = self.nodes[node as usize].known as usize;
            if self.known[known].only_reads && self.step(self.known[known].at) == Some(self.state) {
                return Some(Choice::Known(node));
            }
            node = self.nodes[node as usize].next;
        }
        None
    }

    /// The next choice behind `after` that leads to a point not seen yet, with its state.
    fn choose(&mut self, after: Option<Choice>) -> Option<(Choice, u32)> {
        let mut node = match after {
            None => self.nodes[HEAD as usize].next,
            Some(Choice::Known(node)) => self.nodes[node as usize].next,
            Some(Choice::Unknown(_)) => self.first_return(),
        };
        while self.nodes[node as usize].is_call {
            let known = self.nodes[node as usize].known as usize;
            if let Some(state) = self.step(self.known[known].at) {
                self.known_done.set(known);
                let new = self.may_lead_on(state) && self.is_new(state);
                self.known_done.clear(known);
                if new {
                    return Some((Choice::Known(node), state));
                }
            }
            node = self.nodes[node as usize].next;
        }
        // Known operations remain, so this is a return.
        let first_return = self.known[self.nodes[node as usize].known as usize].ended?;
        let from = match after {
            Some(Choice::Unknown(position)) => position + 1,
            _ => 0,
        };
        for position in from..self.unknown.len() {
            let item = &self.unknown[position];
            if item.invoked > first_return {
                break;
            }
            let twin_waits = item.twin.is_some_and(|twin| !self.unknown_done.has(twin));
            if twin_waits || self.unknown_done.has(position) {
                continue;
            }
            let at = item.at;
            let Some(state) = self.step(at).filter(|state| *state != self.state) else {
                continue;
            };
            if self.overwrites_unknown(at, state) {
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
                self.step_from(before, at) == Some(state)
            }
            _ => false,
        }
    }

    fn first_return(&self) -> u32 {
        let mut node = self.nodes[HEAD as usize].next;
        while self.nodes[node as usize].is_call {
            node = self.nodes[node as usize].next;
        }
        node
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
        for state in &self.states.sets[from as usize].states {
            self.model.step(state, self.operations[at], &mut next);
        }
        next.sort_unstable();
        next.dedup();
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
        !waits || self.states.sets[state as usize].leads_to_goal
    }

    /// Whether this point was not tried before; from now on it was.
    fn is_new(&mut self, state: u32) -> bool {
        self.steps += 1;
        let mut key = self.known_done.compact();
        key.push(u64::from(state));
        let used = self.unknown_done.trimmed();
        let cost = 64 + key.len() * 8;
        let bytes = &mut self.bytes;
        let sets = self.seen.entry(key.into_boxed_slice()).or_insert_with(|| {
            *bytes += cost;
            Vec::new()
        });
        if sets.iter().any(|set| is_subset(set, used)) {
            return false;
        }
        sets.retain(|set| !is_subset(used, set));
        sets.push(used.into());
        self.bytes += 16 + used.len() * 8;
        // Each set that was compared is work as well.
        self.steps += sets.len() as u64 / 8;
        true
    }

    fn take(&mut self, choice: Choice, state: u32, forced: bool) {
        match choice {
            Choice::Known(node) => {
                let known = self.nodes[node as usize].known as usize;
                let (call, back) = self.ends[known];
                self.unlink(call);
                self.unlink(back);
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
            Choice::Known(node) => {
                let known = self.nodes[node as usize].known as usize;
                let (call, back) = self.ends[known];
                // In the order opposite to that of taking out.
                self.link(back);
                self.link(call);
                self.known_done.clear(known);
                self.known_count -= 1;
            }
            Choice::Unknown(position) => self.unknown_done.clear(position),
        }
        self.state = frame.state_before;
    }

    fn unlink(&mut self, node: u32) {
        let Node { previous, next, .. } = self.nodes[node as usize];
        self.nodes[previous as usize].next = next;
        self.nodes[next as usize].previous = previous;
    }

    fn link(&mut self, node: u32) {
        let Node { previous, next, .. } = self.nodes[node as usize];
        self.nodes[previous as usize].next = node;
        self.nodes[next as usize].previous = node;
    }
}

/// Calls and returns by time, as a ring behind [`HEAD`]. At one moment calls come first: operations that touch
/// overlap, and either may have been first.
fn list(known: &[Item]) -> (Vec<Node>, Vec<(u32, u32)>) {
    let mut events = Vec::with_capacity(known.len() * 2);
    for (position, item) in known.iter().enumerate() {
        events.push((item.invoked, false, position));
        events.push((item.ended.unwrap_or(u64::MAX), true, position));
    }
    events.sort_unstable();
    let count = events.len() as u32 + 1;
    let mut nodes = vec![Node {
        known: u32::MAX,
        is_call: false,
        previous: count - 1,
        next: 1 % count,
    }];
    let mut ends = vec![(0, 0); known.len()];
    for (at, (_, is_return, position)) in (1..).zip(events) {
        nodes.push(Node {
            known: position as u32,
            is_call: !is_return,
            previous: at - 1,
            next: (at + 1) % count,
        });
        if is_return {
            ends[position].1 = at;
        } else {
            ends[position].0 = at;
        }
    }
    (nodes, ends)
}

/// Sets of states, each with a number.
struct States<M: Model> {
    numbers: HashMap<Vec<M::State>, u32>,
    sets: Vec<StateSet<M::State>>,
}

struct StateSet<S> {
    states: Vec<S>,
    leads_to_goal: bool,
}

impl<M: Model> Default for States<M> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            sets: Vec::new(),
        }
    }
}

impl<M: Model> States<M> {
    /// The set's number, and the bytes that it takes if it is new.
    fn intern(&mut self, states: Vec<M::State>, model: &M, goal: Option<&Operation>) -> (u32, usize) {
        if let Some(number) = self.numbers.get(&states) {
            return (*number, 0);
        }
        let number = self.sets.len() as u32;
        let bytes = 96 + states.iter().map(|state| model.size(state)).sum::<usize>();
        self.sets.push(StateSet {
            leads_to_goal: goal.is_none_or(|goal| states.iter().any(|state| model.leads_to(state, goal))),
            states: states.clone(),
        });
        self.numbers.insert(states, number);
        (number, bytes)
    }
}
