//! Why a command was refused, in the words clients know.

use bytes::Bytes;
use quorate_proto::UnknownReason;
use quorate_store::Refusal;

/// An error reply. The first word is the code that client libraries look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("ERR syntax error")]
    Syntax,
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    #[error("ERR value is not a valid float")]
    NotAFloat,
    #[error("ERR invalid expire time in '{0}' command")]
    InvalidExpire(&'static str),
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    #[error("CROSSSLOT Keys in request don't hash to the same slot")]
    CrossSlot,
    /// The whole text, code included.
    #[error("{0}")]
    Fixed(&'static str),
}

/// Where an error reply's text is put together.
pub(super) type Text = Vec<u8>;

/// At most this many bytes of what a client sent are quoted back, as in Redis.
const QUOTED_BYTES_MAX: usize = 128;

/// The start of what a client sent, as C's `%.128s` prints it: up to a zero byte.
pub(super) fn quoted(bytes: &[u8], bytes_max: usize) -> &[u8] {
    let bytes = &bytes[..bytes.len().min(bytes_max)];
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Longest quotation of an option; Redis has no limit here, which lets a client have megabytes sent back.
const OPTION_BYTES_MAX: usize = 1024;

/// A text around an option that is not known.
pub(super) fn quoting(before: &str, bytes: &[u8], after: &str) -> Text {
    [
        before.as_bytes(),
        quoted(bytes, OPTION_BYTES_MAX),
        after.as_bytes(),
    ]
    .concat()
}

/// Redis's answer to a command that it does not know.
pub(super) fn unknown_command<'a>(name: &[u8], args: impl Iterator<Item = &'a [u8]>) -> Text {
    let mut quotes: Text = Vec::new();
    for arg in args {
        if quotes.len() >= QUOTED_BYTES_MAX {
            break;
        }
        let room = QUOTED_BYTES_MAX - quotes.len();
        quotes.push(b'\'');
        quotes.extend_from_slice(quoted(arg, room));
        quotes.extend_from_slice(b"' ");
    }
    let mut text = quoting(
        "ERR unknown command '",
        quoted(name, QUOTED_BYTES_MAX),
        "', with args beginning with: ",
    );
    text.extend_from_slice(&quotes);
    text
}

/// Redis's answer to a subcommand that it does not know.
pub(super) fn unknown_subcommand(container: &str, subcommand: &[u8]) -> Text {
    quoting(
        "ERR unknown subcommand '",
        quoted(subcommand, QUOTED_BYTES_MAX),
        &format!("'. Try {} HELP.", container.to_ascii_uppercase()),
    )
}

/// A write that was certainly not applied.
pub(super) fn not_applied(refusal: Refusal) -> Text {
    match refusal {
        Refusal::KeyTooLong | Refusal::SessionFromFuture | Refusal::OtherCommand => {
            return bad_request(refusal);
        }
        _ => {}
    }
    format!("NOTAPPLIED {refusal}; the write was not applied").into_bytes()
}

/// A write that may or may not be applied, now or later.
pub(super) fn unknown(reason: UnknownReason) -> Text {
    if reason == UnknownReason::Forgotten {
        return b"UNKNOWN the shard has forgotten the session or this seq of it; \
                 the write did not run now, it may or may not have run before"
            .to_vec();
    }
    format!(
        "UNKNOWN {}; the write may or may not have been applied",
        unknown_reason(reason)
    )
    .into_bytes()
}

/// A read that was refused.
pub(super) fn not_read(refusal: Refusal) -> Text {
    if matches!(refusal, Refusal::KeyTooLong | Refusal::SessionFromFuture) {
        bad_request(refusal)
    } else {
        unavailable(refusal)
    }
}

/// The client's mistake: sending it again is of no use.
fn bad_request(refusal: Refusal) -> Text {
    format!("ERR {refusal}").into_bytes()
}

/// A write of several keys of which some were written and, at least, one was not.
pub(super) fn partial(reason: &str) -> Text {
    format!("UNKNOWN {reason}; some of the keys were written and some were not").into_bytes()
}

/// A read that got no answer.
pub(super) fn unavailable(reason: impl std::fmt::Display) -> Text {
    format!("CLUSTERDOWN {reason}").into_bytes()
}

/// Words for why an outcome is unknown.
pub(super) fn unknown_reason(reason: UnknownReason) -> &'static str {
    match reason {
        UnknownReason::Timeout => "no answer came within the deadline",
        UnknownReason::ConnectionLost => "the connection to the leader broke",
        UnknownReason::ShuttingDown => "the leader is shutting down",
        UnknownReason::LeaderChanged => "the leader changed, and nobody answered within the deadline",
        UnknownReason::Snapshot => "the outcome was lost to a snapshot",
        UnknownReason::Removed => "the replica that took it was removed",
        _ => "the outcome was lost",
    }
}

/// A text that stays.
pub(super) fn keep(text: Text) -> Bytes {
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the client is told begins with the word that says what became of the write, and no two reasons look alike.
    #[test]
    fn ps_10_every_unknown_outcome_says_so_and_why() {
        let texts: std::collections::BTreeSet<Text> =
            UnknownReason::ALL.iter().map(|why| unknown(*why)).collect();
        assert_eq!(texts.len(), UnknownReason::ALL.len());
        for text in texts {
            let text = String::from_utf8(text).unwrap();
            assert!(
                text.starts_with("UNKNOWN ") && text.contains("may or may not have"),
                "{text}"
            );
            assert!(
                !text.contains("the outcome was lost;"),
                "a reason without words: {text}"
            );
        }
    }
}
