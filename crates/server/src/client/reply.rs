//! From a part's outcome to the reply.

use quorate_proto::Answer;

use super::failure::Failure;
use super::overview::{self, Listing};
use crate::resp::Writer;

/// How the answer to a request becomes a command's reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Shape {
    /// As it is: OK, null, a number, a string or an error.
    Plain,
    /// 1 if it was done, 0 if its condition failed (SETNX).
    Flag,
    /// The key's type: it is a string or not there (TYPE).
    Type,
    /// A deadline as it is, in milliseconds (PEXPIRETIME).
    DeadlineMs,
    /// A deadline in seconds (EXPIRETIME).
    DeadlineS,
    /// What is left until the deadline, in milliseconds (PTTL).
    RemainingMs,
    /// What is left until the deadline, in seconds (TTL).
    RemainingS,
    /// A string; none is an empty one (GETRANGE).
    BulkOrEmpty,
    /// What the controller knows (QUORATE MAP, REGISTRY and the like).
    Controller(Listing),
    /// Null if the key is not there, otherwise this error (GETEX with a bad time).
    NullOr(Failure),
}

impl Shape {
    /// Turns what depends on the moment into a number that does not, so that a reply may wait for its turn.
    pub(super) fn settle(self, answer: Answer, wall_ms: u64) -> Answer {
        let Answer::Int(deadline_ms) = answer else {
            return answer;
        };
        // Without a key or a deadline the answer is negative and stays.
        if deadline_ms < 0 {
            return answer;
        }
        let remaining_ms = deadline_ms.saturating_sub_unsigned(wall_ms).max(0);
        Answer::Int(match self {
            Shape::DeadlineS => rounded_s(deadline_ms),
            Shape::RemainingMs => remaining_ms,
            Shape::RemainingS => rounded_s(remaining_ms),
            Shape::Plain
            | Shape::Flag
            | Shape::Type
            | Shape::DeadlineMs
            | Shape::BulkOrEmpty
            | Shape::Controller(_)
            | Shape::NullOr(_) => deadline_ms,
        })
    }

    /// Writes a settled answer.
    pub(super) fn write(self, answer: &Answer, writer: &mut Writer<'_>) {
        match (self, answer) {
            (_, Answer::Error(error)) => writer.error(error.to_string().as_bytes()),
            (Shape::Flag, Answer::Ok) => writer.int(1),
            (Shape::Flag, Answer::Nil) => writer.int(0),
            (Shape::Type, Answer::Int(exists)) => writer.simple(if *exists == 0 { "none" } else { "string" }),
            (Shape::BulkOrEmpty, Answer::Nil) => writer.bulk(b""),
            (Shape::NullOr(_), Answer::Int(0)) => writer.null(),
            (Shape::NullOr(failure), _) => writer.error(failure.to_string().as_bytes()),
            (Shape::Controller(listing), Answer::Bulk(bytes)) => {
                overview::write_answer(listing, bytes, writer)
            }
            (_, Answer::Ok) => writer.ok(),
            (_, Answer::Nil) => writer.null(),
            (_, Answer::Int(number)) => writer.int(*number),
            (_, Answer::Bulk(bytes)) => writer.bulk(bytes),
            (_, Answer::Page { .. } | Answer::NeverRuns) => {
                debug_assert!(false, "pages belong to walks, settled writes to ONCE STATUS");
                writer.error(b"ERR internal error: unexpected answer");
            }
        }
    }
}

/// Seconds as Redis rounds them. Near the end of time the sum leaves the signed range, in Redis too, whose result is
/// that of unsigned numbers.
fn rounded_s(ms: i64) -> i64 {
    ((ms.max(0) as u64 + 500) / 1000) as i64
}
