//! The requests of one stream on one key take effect in the order in which they were sent, pipelined or not.
//!
//! On lists and counters every answered operation names the version that it saw or made, so order among
//! operations is order among versions: a later one sees no older version, and a write makes a newer one than any
//! operation before it saw. Requests whose outcome is unknown are not judged: they may happen later.

use std::collections::BTreeMap;

use quorate_store::RequestId;

use crate::oracle::Violation;

/// What an operation named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// The version that it read or made.
    pub(crate) version: i64,
    /// Whether it made it.
    pub(crate) made: bool,
}

impl Seen {
    fn may_follow(self, earlier: Seen) -> bool {
        self.version > earlier.version || !self.made && self.version == earlier.version
    }
}

/// One key's answered operations, by stream and in the order in which they were sent.
#[derive(Debug, Default)]
pub(crate) struct ProgramOrder(BTreeMap<u64, BTreeMap<RequestId, Seen>>);

impl ProgramOrder {
    /// The request with this id, which are given out in order, was answered.
    pub(crate) fn answered(&mut self, stream: u64, id: RequestId, seen: Seen) -> Result<(), Violation> {
        let stream = self.0.entry(stream).or_default();
        let wrong = |(first, a): (RequestId, Seen), (second, b): (RequestId, Seen)| {
            let detail = format!(
                "request {} saw {a:?}, but {}, sent after it on the same connection, {b:?}",
                first.0, second.0
            );
            Err(Violation::new(
                "a connection's requests take effect in order",
                detail,
            ))
        };
        // All others fit each other, so only the neighbours can be violated.
        if let Some((before, earlier)) = stream.range(..id).next_back()
            && !seen.may_follow(*earlier)
        {
            return wrong((*before, *earlier), (id, seen));
        }
        if let Some((after, later)) = stream.range(id..).next()
            && !later.may_follow(seen)
        {
            return wrong((id, seen), (*after, *later));
        }
        stream.insert(id, seen);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(version: i64) -> Seen {
        Seen { version, made: true }
    }

    fn read(version: i64) -> Seen {
        Seen { version, made: false }
    }

    fn order(answers: &[(u64, Seen)]) -> bool {
        let mut order = ProgramOrder::default();
        answers
            .iter()
            .all(|(id, seen)| order.answered(1, RequestId(*id), *seen).is_ok())
    }

    #[test]
    fn answers_may_come_in_any_order_if_the_effects_do_not() {
        assert!(order(&[(3, made(5)), (1, read(3)), (2, read(3)), (4, read(5))]));
        let mut two = ProgramOrder::default();
        assert!(two.answered(1, RequestId(1), made(2)).is_ok());
        assert!(two.answered(2, RequestId(2), made(1)).is_ok(), "another stream");
    }

    #[test]
    fn what_overtakes_is_seen() {
        assert!(!order(&[(1, made(2)), (2, made(1))]), "write, write");
        assert!(
            !order(&[(2, made(1)), (1, made(2))]),
            "answered the other way round"
        );
        assert!(!order(&[(1, read(2)), (2, made(2))]), "a read saw a later write");
        assert!(
            !order(&[(1, made(2)), (2, read(1))]),
            "a read missed an earlier write"
        );
        assert!(!order(&[(1, read(2)), (2, read(1))]), "reads go back");
    }
}
