//! ONCE: writes that run once however often they are sent (rules S), for clients that speak plain Redis.

use std::hash::Hasher as _;

use quorate_proto::{Answer, ForwardBody, Op, Session};
use quorate_store::Target;
use quorate_store::kv::sessions::session_id;
use quorate_store::kv::slot_of;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

use super::failure::Failure;
use super::gather::{Gather, Part};
use super::{ClientContext, ClientSession, Handled, multi, table};
use crate::resp::{Args, parse_i64};

/// Keys of one command. A shard keeps an answer for each, and more than that for a session.
const KEYS_MAX: usize = 1024;
const _: () = assert!(KEYS_MAX * 2 <= quorate_store::kv::sessions::HELD_MAX);

const ID_DIGITS: usize = 32;

const BAD_ID: Failure =
    Failure::Fixed("ERR invalid session, must be the 32 hexadecimal digits that ONCE OPEN gave");
const BAD_SEQ: Failure = Failure::Fixed("ERR invalid seq, must be an integer from 1 to 9223372036854775807");
const BAD_LOWEST: Failure =
    Failure::Fixed("ERR invalid ACK, must be an integer from 1 to the seq of this command");
const NO_WRITE: Failure =
    Failure::Fixed("ERR ONCE takes commands that write keys; send others without it, they may be repeated");
const TOO_MANY_KEYS: Failure = Failure::Fixed("ERR ONCE takes at most 1024 keys in one command");

/// `ONCE OPEN`, `ONCE STATUS session seq key [key ...]`, and `ONCE session seq [ACK lowest] command [arg ...]`
pub(super) fn once(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    let first = args.get(1);
    if args.len() == 2 && first.eq_ignore_ascii_case(b"open") {
        return open(session, ctx);
    }
    if args.len() == 2 && first.eq_ignore_ascii_case(b"help") {
        return help(session);
    }
    if first.eq_ignore_ascii_case(b"status") {
        return status(session, args, ctx);
    }
    if args.len() < 4 {
        return Err(Failure::Arity("once"));
    }
    let client = id_of(first).ok_or(BAD_ID)?;
    let seq = positive(args.get(2)).ok_or(BAD_SEQ)?;
    let (lowest, at) = if args.get(3).eq_ignore_ascii_case(b"ack") {
        if args.len() < 6 {
            return Err(Failure::Arity("once"));
        }
        let lowest = positive(args.get(4)).filter(|lowest| *lowest <= seq);
        (lowest.ok_or(BAD_LOWEST)?, 5)
    } else {
        (0, 3)
    };
    let inner = args.behind(at);
    let spec = match table::resolve(&inner) {
        Ok(spec) => spec,
        Err(text) => {
            session.reply(|writer| writer.error(&text));
            return Ok(());
        }
    };
    let (first_key, _, step) = spec.keys;
    if first_key == 0 || !spec.flags.split_whitespace().any(|flag| flag == "write") {
        return Err(NO_WRITE);
    }
    if (inner.len() - 1) / step as usize > KEYS_MAX && spec.keys.1 < 0 {
        return Err(TOO_MANY_KEYS);
    }
    session.once = Some(Session {
        client,
        seq,
        lowest,
        position: 0,
    });
    let handled = (spec.run)(session, &inner, ctx);
    session.once = None;
    handled
}

/// Whether a write ran, key by key; where it did not, it never will: each part goes through its shard's log.
fn status(session: &mut ClientSession, args: &Args, ctx: &mut ClientContext<'_>) -> Handled {
    if args.len() < 5 {
        return Err(Failure::Arity("once"));
    }
    let identity = Session {
        client: id_of(args.get(2)).ok_or(BAD_ID)?,
        seq: positive(args.get(3)).ok_or(BAD_SEQ)?,
        lowest: 0,
        position: 0,
    };
    // The keys, behind one word.
    let args = args.behind(3);
    let keys = args.len() - 1;
    if keys > KEYS_MAX {
        return Err(TOO_MANY_KEYS);
    }
    let slot = multi::slot(session, &args, 1)?;
    session.once = Some(identity);
    // Not a write to whoever asks: its failure says nothing about the write in question.
    let gather = Gather::Statuses(vec![None; keys]);
    session.send_group(
        ctx,
        &args,
        (slot, false, gather),
        (keys, |args, part| Part {
            target: Target::Slot(slot_of(args.get(part + 1))),
            body: ForwardBody::Write(Op::Settle {
                key: args.bytes(part + 1),
            }),
        }),
    );
    session.once = None;
    Ok(())
}

/// What is known of a write on one key, in a reply.
pub(super) fn state_of(status: Option<&Answer>) -> &'static [u8] {
    match status {
        None => b"forgotten",
        Some(Answer::NeverRuns) => b"never",
        Some(_) => b"ran",
    }
}

/// S1: the id holds the time and is not to be guessed.
fn open(session: &mut ClientSession, ctx: &ClientContext<'_>) -> Handled {
    session.opened += 1;
    let mut hasher = SipHasher24::new_with_key(&ctx.node.secret.to_le_bytes());
    for word in [u64::from(session.id), session.created_ms, session.opened] {
        hasher.write_u64(word);
    }
    let id = session_id(ctx.wall_ms, hasher.finish128().as_u128());
    session.reply(|writer| writer.bulk(format!("{id:032x}").as_bytes()));
    Ok(())
}

fn help(session: &mut ClientSession) -> Handled {
    session.reply_help(
        "ONCE",
        &[
            ("OPEN", "Open a session; return its id."),
            (
                "<session> <seq> [ACK <lowest>] <command> [<arg> ...]",
                "Run a write, unless it ran before; return the answer that it gave then.",
            ),
            (
                "STATUS <session> <seq> <key> [<key> ...]",
                "Tell for each key whether the write ran, and its answer; if it did not, it never will.",
            ),
            (
                "",
                "<seq> counts the session's writes; those below <lowest> are not asked for again.",
            ),
        ],
    );
    Ok(())
}

fn id_of(text: &[u8]) -> Option<u128> {
    // `from_str_radix` alone would take a sign.
    let digits = text.len() == ID_DIGITS && text.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(text).ok().filter(|_| digits)?;
    u128::from_str_radix(text, 16).ok()
}

fn positive(text: &[u8]) -> Option<u64> {
    parse_i64(text)
        .and_then(|number| u64::try_from(number).ok())
        .filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_digits() {
        assert_eq!(id_of(b"0000000000000000000000000000000f"), Some(15));
        assert_eq!(id_of(b"FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"), Some(u128::MAX));
        for bad in [&b""[..], b"f", b"+000000000000000000000000000000f", &[0xff; 32]] {
            assert_eq!(id_of(bad), None);
        }
    }
}
