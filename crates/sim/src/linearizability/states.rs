//! The states that the search meets. What is possible at a point of the search is a set of states; states and
//! sets are kept once, each with a number.

use std::collections::HashMap;

use super::bits::Fast;
use super::history::Operation;
use super::model::Model;

/// States and sets of them, each with a number.
pub(super) struct States<M: Model> {
    numbers: HashMap<M::State, u32>,
    states: Vec<M::State>,
    set_numbers: HashMap<Box<[u32]>, u32, Fast>,
    sets: Vec<StateSet>,
}

struct StateSet {
    /// Ascending.
    elements: Box<[u32]>,
    leads_to_goal: bool,
}

impl<M: Model> Default for States<M> {
    fn default() -> Self {
        Self {
            numbers: HashMap::new(),
            states: Vec::new(),
            set_numbers: HashMap::default(),
            sets: Vec::new(),
        }
    }
}

impl<M: Model> States<M> {
    pub(super) fn of(&self, set: u32) -> impl Iterator<Item = &M::State> {
        let elements = self.sets[set as usize].elements.iter();
        elements.map(|number| &self.states[*number as usize])
    }

    /// Whether what is possible in the small set is possible in the large one.
    pub(super) fn includes(&self, large: u32, small: u32) -> bool {
        if large == small {
            return true;
        }
        let large = &self.sets[large as usize].elements;
        let small = &self.sets[small as usize].elements;
        small.len() < large.len() && small.iter().all(|number| large.binary_search(number).is_ok())
    }

    /// Whether several states are possible.
    pub(super) fn is_wide(&self, set: u32) -> bool {
        self.sets[set as usize].elements.len() > 1
    }

    /// Whether the goal can be reached, as far as the model can tell.
    pub(super) fn leads_to_goal(&self, set: u32) -> bool {
        self.sets[set as usize].leads_to_goal
    }

    /// The set's number, and the bytes that it takes if it is new.
    pub(super) fn intern(
        &mut self,
        states: Vec<M::State>,
        model: &M,
        goal: Option<&Operation>,
    ) -> (u32, usize) {
        let mut bytes = 0;
        let mut elements = Vec::with_capacity(states.len());
        for state in states {
            if let Some(number) = self.numbers.get(&state) {
                elements.push(*number);
                continue;
            }
            let number = self.states.len() as u32;
            bytes += 64 + 2 * model.size(&state);
            self.states.push(state.clone());
            self.numbers.insert(state, number);
            elements.push(number);
        }
        elements.sort_unstable();
        elements.dedup();
        let elements = elements.into_boxed_slice();
        if let Some(number) = self.set_numbers.get(&elements) {
            return (*number, bytes);
        }
        let number = self.sets.len() as u32;
        bytes += 96 + elements.len() * 8;
        let leads = |number: &u32| {
            let state = &self.states[*number as usize];
            goal.is_none_or(|goal| model.leads_to(state, goal))
        };
        self.sets.push(StateSet {
            leads_to_goal: elements.iter().any(leads),
            elements: elements.clone(),
        });
        self.set_numbers.insert(elements, number);
        (number, bytes)
    }
}
