//! The calls and returns of known operations that are still to come, by time: a list from which an operation's
//! two ends are taken out when it takes effect, and put back in constant time.

/// A call or a return.
#[derive(Clone, Copy)]
struct Node {
    operation: u32,
    is_call: bool,
    previous: u32,
    next: u32,
}

/// The list's head; it is neither call nor return.
const HEAD: u32 = 0;

/// The list. Operations are numbers from 0.
pub(super) struct Timeline {
    /// A ring behind [`HEAD`].
    nodes: Vec<Node>,
    /// Of each operation: the nodes of its call and its return.
    ends: Vec<(u32, u32)>,
}

impl Timeline {
    /// Of each operation: when it was invoked and when it ended. At one moment calls come first: operations that
    /// touch overlap, and either may have been first.
    pub(super) fn new(operations: &[(u64, u64)]) -> Self {
        let mut events = Vec::with_capacity(operations.len() * 2);
        for (operation, (invoked, ended)) in (0..).zip(operations) {
            events.push((*invoked, false, operation));
            events.push((*ended, true, operation));
        }
        events.sort_unstable();
        let count = events.len() as u32 + 1;
        let mut nodes = vec![Node {
            operation: u32::MAX,
            is_call: false,
            previous: count - 1,
            next: 1 % count,
        }];
        let mut ends = vec![(0, 0); operations.len()];
        for (at, (_, is_return, operation)) in (1..).zip(events) {
            nodes.push(Node {
                operation,
                is_call: !is_return,
                previous: at - 1,
                next: (at + 1) % count,
            });
            let (call, back) = &mut ends[operation as usize];
            *(if is_return { back } else { call }) = at;
        }
        Self { nodes, ends }
    }

    /// The first operation that could be next, or the one behind `operation`, as long as no return comes before.
    pub(super) fn candidate(&self, behind: Option<usize>) -> Option<usize> {
        let from = behind.map_or(HEAD, |operation| self.ends[operation].0);
        let node = self.nodes[self.nodes[from as usize].next as usize];
        node.is_call.then_some(node.operation as usize)
    }

    /// The operation that ends first; none if there are none left.
    pub(super) fn ends_first(&self) -> Option<usize> {
        let mut at = self.nodes[HEAD as usize].next;
        while self.nodes[at as usize].is_call {
            at = self.nodes[at as usize].next;
        }
        (at != HEAD).then(|| self.nodes[at as usize].operation as usize)
    }

    /// Takes an operation out.
    pub(super) fn take(&mut self, operation: usize) {
        let (call, back) = self.ends[operation];
        for node in [call, back] {
            let Node { previous, next, .. } = self.nodes[node as usize];
            self.nodes[previous as usize].next = next;
            self.nodes[next as usize].previous = previous;
        }
    }

    /// Puts the operation back that was taken out last.
    pub(super) fn put_back(&mut self, operation: usize) {
        let (call, back) = self.ends[operation];
        for node in [back, call] {
            let Node { previous, next, .. } = self.nodes[node as usize];
            self.nodes[previous as usize].next = node;
            self.nodes[next as usize].previous = node;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(timeline: &Timeline) -> Vec<usize> {
        let mut found: Vec<usize> = Vec::new();
        while let Some(next) = timeline.candidate(found.last().copied()) {
            found.push(next);
        }
        found
    }

    #[test]
    fn candidates_are_those_invoked_before_the_first_return() {
        let mut timeline = Timeline::new(&[(1, 4), (2, 3), (3, 9), (5, 6)]);
        assert_eq!(candidates(&timeline), [0, 1, 2], "touching counts as overlapping");
        assert_eq!(timeline.ends_first(), Some(1));
        timeline.take(1);
        assert_eq!(candidates(&timeline), [0, 2]);
        timeline.take(0);
        assert_eq!(candidates(&timeline), [2, 3]);
        timeline.take(3);
        timeline.take(2);
        assert_eq!((candidates(&timeline), timeline.ends_first()), (vec![], None));
        for operation in [2, 3, 0, 1] {
            timeline.put_back(operation);
        }
        assert_eq!(candidates(&timeline), [0, 1, 2]);
    }
}
