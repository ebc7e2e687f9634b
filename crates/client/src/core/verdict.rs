//! What a reply says about its command.

use crate::error::{Reason, ServerError};
use crate::resp::Reply;
use crate::slots::parse_moved;

/// What follows from a reply.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Verdict {
    /// It ran.
    Done(Reply),
    /// Refused by its form or by the value that it met. Sending it again is of no use.
    Refused(ServerError),
    /// Another node leads the slot. It did not run.
    Moved {
        /// As the node counts.
        slot: u16,
        /// `host:port`, the host empty for the one that was asked.
        addr: String,
    },
    /// It did not run, and may be sent again.
    NotApplied(Reason),
    /// It did not run and never will.
    NeverRuns,
    /// It may have run, or may still.
    Unknown(Reason),
    /// The session is unknown to the shard; this attempt did not run.
    Forgotten,
    /// The session's opening time is ahead of the shard's time; this attempt did not run.
    SessionFromFuture,
}

/// Reads a reply; `docs/commands.md` of the server tells what its errors mean.
pub(crate) fn of(reply: Reply) -> Verdict {
    let text = match reply {
        Reply::Error(text) => text,
        reply => return Verdict::Done(reply),
    };
    if let Some((slot, addr)) = parse_moved(&text) {
        let addr = addr.to_owned();
        return Verdict::Moved { slot, addr };
    }
    let (code, message) = text.split_once(' ').unwrap_or((&text, ""));
    match code {
        "NOTAPPLIED" if message.contains("settled that it never runs") => Verdict::NeverRuns,
        "NOTAPPLIED" | "CLUSTERDOWN" => Verdict::NotApplied(Reason::Server(text)),
        "UNKNOWN" if message.starts_with("the shard has forgotten") => Verdict::Forgotten,
        "UNKNOWN" => Verdict::Unknown(Reason::Server(text)),
        "ERR" if message.starts_with("the session was opened in the future") => Verdict::SessionFromFuture,
        "ERR" if message.starts_with("max number of clients") => Verdict::NotApplied(Reason::Server(text)),
        _ => Verdict::Refused(ServerError(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_may_be_done() {
        let of = |text: &str| of(Reply::Error(text.into()));
        let server = |text: &str| Reason::Server(text.into());
        let busy = "NOTAPPLIED too many requests under way; the write was not applied";
        assert_eq!(of(busy), Verdict::NotApplied(server(busy)));
        assert_eq!(
            of(
                "NOTAPPLIED a STATUS of this session and number settled that it never runs; the write was not applied"
            ),
            Verdict::NeverRuns
        );
        let unknown =
            "UNKNOWN no answer came within the deadline; the write may or may not have been applied";
        assert_eq!(of(unknown), Verdict::Unknown(server(unknown)));
        assert_eq!(
            of("UNKNOWN the shard has forgotten the session or this seq of it; the write did not run now"),
            Verdict::Forgotten
        );
        assert_eq!(
            of("ERR the session was opened in the future by more than 300 s"),
            Verdict::SessionFromFuture
        );
        assert_eq!(
            of("MOVED 12182 10.0.0.1:7001"),
            Verdict::Moved {
                slot: 12182,
                addr: "10.0.0.1:7001".into()
            }
        );
        for refused in ["ERR syntax error", "CROSSSLOT Keys", "MOVED here", "WRONGTYPE"] {
            assert_eq!(of(refused), Verdict::Refused(ServerError(refused.into())));
        }
    }
}
