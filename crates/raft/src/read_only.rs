//! Reads that wait for a round of heartbeats to confirm the leader (Raft paper §8, thesis §6.4).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::{Index, ReadContext, ReplicaId};

/// Who asked, and what for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ReadRequest {
    /// `None`: this member.
    pub(crate) from: Option<ReplicaId>,
    pub(crate) context: ReadContext,
}

#[derive(Clone, Debug)]
struct Pending {
    request: ReadRequest,
    /// The commit index when the request came.
    index: Index,
    acks: Vec<ReplicaId>,
}

/// Requests in the order in which they came. A round that confirms one confirms all before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadOnly {
    queue: VecDeque<Pending>,
}

impl ReadOnly {
    /// A request joins the queue; one with a known context is there already.
    pub(crate) fn add(&mut self, request: ReadRequest, index: Index) {
        if self.position(request.context).is_none() {
            self.queue.push_back(Pending {
                request,
                index,
                acks: Vec::new(),
            });
        }
    }

    fn position(&self, context: ReadContext) -> Option<usize> {
        // Answers are nearly always for the newest.
        self.queue
            .iter()
            .rposition(|pending| pending.request.context == context)
    }

    /// A member acknowledged the heartbeat that carried `context`. Returns who has, if it is still waited for.
    pub(crate) fn acknowledge(&mut self, from: ReplicaId, context: ReadContext) -> Option<&[ReplicaId]> {
        let at = self.position(context)?;
        let acks = &mut self.queue[at].acks;
        if !acks.contains(&from) {
            acks.push(from);
        }
        Some(acks)
    }

    /// A quorum acknowledged `context`: that request and all before it are confirmed.
    pub(crate) fn confirm(&mut self, context: ReadContext) -> Vec<(ReadRequest, Index)> {
        match self.position(context) {
            Some(at) => self
                .queue
                .drain(..=at)
                .map(|pending| (pending.request, pending.index))
                .collect(),
            None => Vec::new(),
        }
    }

    /// What heartbeats carry: the newest context waits for everything before it.
    pub(crate) fn newest(&self) -> Option<ReadContext> {
        self.queue.back().map(|pending| pending.request.context)
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(context: u128) -> ReadRequest {
        ReadRequest {
            from: None,
            context: ReadContext(context),
        }
    }

    #[test]
    fn a_round_confirms_all_that_came_before_it() {
        let mut reads = ReadOnly::default();
        for context in 1..=4 {
            reads.add(request(context), Index(10 * context as u64));
        }
        assert_eq!(
            reads.newest(),
            Some(ReadContext(4)),
            "heartbeats carry the newest"
        );
        assert_eq!(
            reads.acknowledge(ReplicaId(2), ReadContext(3)),
            Some(&[ReplicaId(2)][..])
        );
        let confirmed = reads.confirm(ReadContext(3));
        let expected = [1, 2, 3].map(|context| (request(context), Index(10 * context as u64)));
        assert_eq!(confirmed, expected);
        assert_eq!(
            reads.acknowledge(ReplicaId(3), ReadContext(2)),
            None,
            "answered already"
        );
        assert_eq!(reads.confirm(ReadContext(2)), []);
        assert_eq!(
            reads.newest(),
            Some(ReadContext(4)),
            "it came after that round was sent (R1)"
        );
        reads.clear();
        assert_eq!(reads.newest(), None);
    }

    #[test]
    fn a_context_waits_once_and_a_member_counts_once() {
        let mut reads = ReadOnly::default();
        reads.add(request(1), Index(5));
        reads.add(request(1), Index(9));
        for _ in 0..2 {
            let acks = reads.acknowledge(ReplicaId(2), ReadContext(1)).map(<[_]>::len);
            assert_eq!(acks, Some(1));
        }
        assert_eq!(reads.confirm(ReadContext(1)), [(request(1), Index(5))]);
    }
}
