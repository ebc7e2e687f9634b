//! What is going to happen: events by virtual time; those of one moment in the order in which they were made.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

#[derive(Debug)]
struct Planned<T> {
    at_us: u64,
    number: u64,
    event: T,
}

impl<T> PartialEq for Planned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Planned<T> {}

impl<T> PartialOrd for Planned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Planned<T> {
    /// The earliest is the greatest: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.number).cmp(&(self.at_us, self.number))
    }
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Planned<T>>,
    next_number: u64,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            next_number: 0,
        }
    }

    pub(crate) fn push(&mut self, at_us: u64, event: T) {
        self.next_number += 1;
        self.heap.push(Planned {
            at_us,
            number: self.next_number,
            event,
        });
    }

    /// The next event, if it is due by `until_us`.
    pub(crate) fn pop(&mut self, until_us: u64) -> Option<(u64, T)> {
        if self.heap.peek()?.at_us > until_us {
            return None;
        }
        self.heap.pop().map(|planned| (planned.at_us, planned.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_in_the_order_made() {
        let mut queue = Queue::new();
        for (at, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (3, 'b'), (9, 'e')] {
            queue.push(at, what);
        }
        let order: String = std::iter::from_fn(|| queue.pop(5))
            .map(|(_, what)| what)
            .collect();
        assert_eq!(order, "abcd");
    }
}
