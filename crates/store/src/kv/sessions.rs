//! The session table: what a shard remembers of its clients, so that a repeated write does not run again (rules S).
//!
//! The table is part of the shard's state (S2): it is changed by entries alone, lies in the engine beside the data,
//! and travels in snapshots. A session has a row with the lowest number that its client still wants and the answers
//! that are kept. A large one, or one of many, has a row of its own instead, so that it is not written again with each
//! further write; the session's row tells that it is there.
//!
//! The table is bounded (S3): by acknowledgement, as a client names the lowest number it may still ask for; by
//! [`HELD_MAX`] answers a session; and by expiry, which the leader proposes when sessions are too old or too many.
//! Whatever was dropped is refused as forgotten and never runs: by the row's lowest number, or, without a row, by
//! the totals' `expired_through_ms`, since a session that was opened later has no row only because it has written
//! nothing here.

use bytes::Bytes;
use quorate_proto::{
    Answer, AnswerRow, HeldAnswer, Kept, Op, Outcome, Session, SessionRefusal, SessionRow, SessionTotals,
    SessionWrite, UnknownReason,
};
use quorate_raft::mutant;
use quorate_storage::engine::{EngineError, View};
use siphasher::sip::SipHasher13;

use super::{
    layout::{Space, answer_key, client_of, session_key, session_range, slot_of_op, totals_key},
    txn::Txn,
    value::malformed,
};

/// A session may be opened later than the shard's time by so many milliseconds (S1): clocks differ.
pub const FUTURE_MS_MAX: u64 = 300_000;

/// Answers that a shard keeps for one session. With one more, those of the lowest number are dropped, as if the
/// client had acknowledged them.
pub const HELD_MAX: usize = 4096;

/// Bytes of an answer that its session's row holds, and how many it holds.
const HERE_BYTES_MAX: usize = 48;
const HERE_MAX: usize = 64;

const RANDOM_BITS: u32 = 80;

/// The id of a session opened at `opened_ms` (48 bits), made unique by 80 of the bits of `random` (S1).
#[must_use]
pub fn session_id(opened_ms: u64, random: u128) -> u128 {
    u128::from(opened_ms) << RANDOM_BITS | random & ((1 << RANDOM_BITS) - 1)
}

/// When a session was opened, in milliseconds since the Unix epoch.
#[must_use]
pub fn opened_ms(client: u128) -> u64 {
    (client >> RANDOM_BITS) as u64
}

/// A hash of a write as the client sent it. Retries hash alike because deadlines are still relative.
#[must_use]
pub fn fingerprint(op: &Op) -> u64 {
    let mut bytes = Vec::new();
    op.encode(&mut bytes);
    SipHasher13::new_with_key(b"quorate/session1").hash(&bytes)
}

/// The totals as they are stored; all zero if no session ever wrote.
///
/// # Errors
///
/// The engine's, and damage found in it.
pub fn totals(view: &impl View, space: Space) -> Result<SessionTotals, EngineError> {
    match view.get(&totals_key(space))? {
        Some(bytes) => SessionTotals::decode(&bytes).map_err(|_| malformed("session totals")),
        None => Ok(SessionTotals::default()),
    }
}

/// Where a session's write stands.
#[derive(Debug)]
pub enum Standing {
    /// It did not run: let it run, then [`record`] its answer.
    New(Place),
    /// It ran, or will never run.
    Settled(Outcome),
}

/// The session's row as it was found, if there is one.
#[derive(Debug)]
pub struct Place(Option<(SessionRow, usize)>);

/// What the table says about a write, at the shard's time `stamp_ms` (S4). `get` reads an engine key.
///
/// [`Op::Settle`] asks about another write under its own identity, so it gets the answer whatever the fingerprint.
/// Where there is none it runs like a write, and what is recorded for it keeps the other one from running ever after.
///
/// # Errors
///
/// The engine's, and damage found in it.
pub fn standing(
    get: impl Fn(&[u8]) -> Result<Option<Bytes>, EngineError>,
    space: Space,
    totals: &SessionTotals,
    stamp_ms: u64,
    write: &SessionWrite,
    op: &Op,
) -> Result<Standing, EngineError> {
    let session = &write.session;
    let forgotten = Ok(Standing::Settled(Outcome::Unknown(UnknownReason::Forgotten)));
    let Some(bytes) = get(&session_key(space, session.client))? else {
        let opened_ms = opened_ms(session.client);
        if opened_ms <= totals.expired_through_ms && !mutant!("expired-session-runs-again") {
            return forgotten;
        }
        if opened_ms > stamp_ms.saturating_add(FUTURE_MS_MAX) {
            let refusal = Outcome::Session(SessionRefusal::FromFuture);
            return Ok(Standing::Settled(refusal));
        }
        return if session.seq < session.lowest {
            forgotten
        } else {
            Ok(Standing::New(Place(None)))
        };
    };
    let mut row = SessionRow::decode(&bytes).map_err(|_| malformed("session row"))?;
    let below_lowest = session.seq < row.lowest.max(session.lowest);
    if below_lowest && !mutant!("acknowledged-write-runs-again") {
        return forgotten;
    }
    let Ok(at) = find(&row, session) else {
        return Ok(Standing::New(Place(Some((row, bytes.len())))));
    };
    let answer = match row.held.swap_remove(at).kept {
        Kept::Here(answer) => answer,
        Kept::Apart { .. } => {
            let key = answer_key(space, session.client, session.seq, session.position);
            let bytes = get(&key)?.ok_or_else(|| malformed("session row without its answer"))?;
            AnswerRow::decode(&bytes).map_err(|_| malformed("answer row"))?
        }
    };
    let is_status = matches!(op, Op::Settle { .. });
    if answer.answer == Answer::NeverRuns && !is_status {
        if mutant!("settled-write-runs") {
            let row = SessionRow::decode(&bytes).map_err(|_| malformed("session row"))?;
            return Ok(Standing::New(Place(Some((row, bytes.len())))));
        }
        let refusal = Outcome::Session(SessionRefusal::NeverRuns);
        return Ok(Standing::Settled(refusal));
    }
    let same = is_status || answer.fingerprint == write.fingerprint || mutant!("fingerprint-ignored");
    Ok(Standing::Settled(if same {
        Outcome::Done(answer.answer)
    } else {
        Outcome::Session(SessionRefusal::OtherCommand)
    }))
}

fn find(row: &SessionRow, session: &Session) -> Result<usize, usize> {
    let wanted = (session.seq, session.position);
    row.held
        .binary_search_by_key(&wanted, |held| (held.seq, held.position))
}

/// Keeps the answer of a write that ran (S2), and drops what its client does not want any more (S3).
pub fn record<V: View + ?Sized>(
    txn: &mut Txn<'_, V>,
    space: Space,
    totals: &mut SessionTotals,
    place: Place,
    write: &SessionWrite,
    op: &Op,
    answer: &Answer,
) {
    let session = &write.session;
    let (mut row, old_bytes) = match place.0 {
        Some((row, bytes)) => (row, row_bytes(bytes)),
        None => {
            totals.sessions += 1;
            (SessionRow::default(), 0)
        }
    };
    if let Err(at) = find(&row, session) {
        let answer = AnswerRow {
            fingerprint: write.fingerprint,
            slot: slot_of_op(op),
            answer: answer.clone(),
        };
        let value = answer.encode();
        let kept = if value.len() <= HERE_BYTES_MAX && row.held.len() < HERE_MAX {
            Kept::Here(answer)
        } else {
            let key = answer_key(space, session.client, session.seq, session.position);
            let bytes = (key.len() + value.len()) as u32;
            totals.bytes += u64::from(bytes);
            txn.put(key, value);
            Kept::Apart { bytes }
        };
        let (seq, position) = (session.seq, session.position);
        let held = HeldAnswer { seq, position, kept };
        row.held.insert(at, held);
        totals.answers += 1;
    }
    row.lowest = row.lowest.max(session.lowest);
    if row.held.len() > HELD_MAX {
        row.lowest = row.lowest.max(row.held[0].seq.saturating_add(1));
    }
    let lowest = if mutant!("answer-forgotten-before-it-is-acknowledged") {
        session.seq
    } else {
        row.lowest
    };
    let wanted = row.held.partition_point(|held| held.seq < lowest);
    for held in row.held.drain(..wanted) {
        drop_answer(txn, space, totals, session.client, &held);
    }
    let encoded = row.encode();
    totals.bytes = totals.bytes + row_bytes(encoded.len()) - old_bytes;
    txn.put(session_key(space, session.client), encoded);
}

/// An answer goes that is not in its session's row any more.
fn drop_answer<V: View + ?Sized>(
    txn: &mut Txn<'_, V>,
    space: Space,
    totals: &mut SessionTotals,
    client: u128,
    held: &HeldAnswer,
) {
    totals.answers -= 1;
    if let Kept::Apart { bytes } = held.kept {
        totals.bytes -= u64::from(bytes);
        txn.delete(answer_key(space, client, held.seq, held.position));
    }
}

/// Bytes of a session's row, the key included.
fn row_bytes(value: usize) -> u64 {
    (session_key(Space(0), 0).len() + value) as u64
}

/// Forgets sessions (S3); returns how many had a row. Those without one are left alone: they were forgotten before.
///
/// # Errors
///
/// The engine's, and damage found in it.
pub fn expire<V: View + ?Sized>(
    txn: &mut Txn<'_, V>,
    space: Space,
    totals: &mut SessionTotals,
    clients: &[u128],
) -> Result<i64, EngineError> {
    let mut forgotten = 0;
    for client in clients {
        let key = session_key(space, *client);
        let Some(bytes) = txn.get(&key)? else { continue };
        let row = SessionRow::decode(&bytes).map_err(|_| malformed("session row"))?;
        for held in &row.held {
            drop_answer(txn, space, totals, *client, held);
        }
        totals.sessions -= 1;
        totals.bytes -= row_bytes(bytes.len());
        totals.expired_through_ms = totals.expired_through_ms.max(opened_ms(*client));
        txn.delete(key);
        forgotten += 1;
    }
    Ok(forgotten)
}

/// Divides the table in `from` for a split at `slot`: what clients did to slots from there on goes to a new table in
/// the empty space `to`, whose totals are returned (S2, S5). Every session is in both, since both must refuse what it
/// has acknowledged; both know how far sessions were forgotten (S3). Nothing of `from` may be in the transaction.
///
/// # Errors
///
/// The engine's, and damage found in it.
pub fn divide<V: View>(
    txn: &mut Txn<'_, V>,
    view: &V,
    (from, to): (Space, Space),
    totals: &mut SessionTotals,
    slot: u16,
) -> Result<SessionTotals, EngineError> {
    let mut theirs = SessionTotals {
        expired_through_ms: totals.expired_through_ms,
        ..SessionTotals::default()
    };
    if mutant!("forgotten-sessions-forgotten-at-a-split") {
        theirs.expired_through_ms = 0;
    }
    let (start, end) = session_range(from);
    for pair in view.scan(&start, &end) {
        let (key, value) = pair?;
        let Some(client) = client_of(&key) else { continue };
        if mutant!("session-table-lost-at-a-split") {
            continue;
        }
        let mut kept = SessionRow::decode(&value).map_err(|_| malformed("session row"))?;
        let mut given = SessionRow {
            lowest: kept.lowest,
            held: Vec::new(),
        };
        let all = std::mem::take(&mut kept.held);
        for held in all {
            let apart = match &held.kept {
                Kept::Here(_) => None,
                Kept::Apart { .. } => {
                    let key = answer_key(from, client, held.seq, held.position);
                    let bytes = view
                        .get(&key)?
                        .ok_or_else(|| malformed("session row without its answer"))?;
                    Some((key, bytes))
                }
            };
            let routed_by = match (&held.kept, &apart) {
                (Kept::Apart { .. }, Some((_, bytes))) => {
                    AnswerRow::decode(bytes)
                        .map_err(|_| malformed("answer row"))?
                        .slot
                }
                (Kept::Here(answer), _) => answer.slot,
                (Kept::Apart { .. }, None) => None,
            };
            // One on the whole shard stays: that is where it is asked for again.
            if routed_by.is_none_or(|of| of < slot) {
                kept.held.push(held);
                continue;
            }
            totals.answers -= 1;
            theirs.answers += 1;
            if let Some((key, bytes)) = apart {
                let size = (key.len() + bytes.len()) as u64;
                totals.bytes -= size;
                theirs.bytes += size;
                txn.delete(key);
                txn.put(answer_key(to, client, held.seq, held.position), bytes);
            }
            given.held.push(held);
        }
        if !given.held.is_empty() {
            let encoded = kept.encode();
            totals.bytes = totals.bytes + row_bytes(encoded.len()) - row_bytes(value.len());
            txn.put(key, encoded);
        }
        let encoded = given.encode();
        theirs.sessions += 1;
        theirs.bytes += row_bytes(encoded.len());
        txn.put(session_key(to, client), encoded);
    }
    Ok(theirs)
}

/// Stores the totals.
pub fn put_totals<V: View + ?Sized>(txn: &mut Txn<'_, V>, space: Space, totals: &SessionTotals) {
    txn.put(totals_key(space), totals.encode());
}

/// A session and what it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Oldest {
    /// Its id.
    pub client: u128,
    /// Bytes of its row and its answers.
    pub bytes: u64,
}

/// The oldest sessions, at most `limit`, of which no more than about `answers_max` answers are kept together.
///
/// # Errors
///
/// The engine's, and damage found in it.
pub fn oldest(
    view: &impl View,
    space: Space,
    limit: usize,
    answers_max: usize,
) -> Result<Vec<Oldest>, EngineError> {
    let (start, end) = session_range(space);
    let mut found = Vec::new();
    let mut answers = 0;
    for pair in view.scan(&start, &end) {
        let (key, value) = pair?;
        let Some(client) = client_of(&key) else { continue };
        if found.len() >= limit || answers >= answers_max {
            break;
        }
        let row = SessionRow::decode(&value).map_err(|_| malformed("session row"))?;
        answers += row.held.len();
        let apart = |held: &HeldAnswer| match held.kept {
            Kept::Here(_) => 0,
            Kept::Apart { bytes } => u64::from(bytes),
        };
        let held: u64 = row.held.iter().map(apart).sum();
        found.push(Oldest {
            client,
            bytes: row_bytes(value.len()) + held,
        });
    }
    Ok(found)
}

/// Counts the whole table anew: what the totals must say. For checks.
///
/// # Errors
///
/// The engine's, and damage found in it.
pub fn count(view: &impl View, space: Space) -> Result<SessionTotals, EngineError> {
    let mut counted = SessionTotals {
        expired_through_ms: totals(view, space)?.expired_through_ms,
        ..SessionTotals::default()
    };
    let (mut apart, mut found) = (0, 0);
    let (start, end) = session_range(space);
    for pair in view.scan(&start, &end) {
        let (key, value) = pair?;
        if client_of(&key).is_some() {
            let row = SessionRow::decode(&value).map_err(|_| malformed("session row"))?;
            counted.sessions += 1;
            counted.answers += row.held.len() as u64;
            counted.bytes += (key.len() + value.len()) as u64;
            apart += row
                .held
                .iter()
                .filter(|held| matches!(held.kept, Kept::Apart { .. }))
                .count();
        }
    }
    let (start, end) = super::layout::answer_range(space);
    for pair in view.scan(&start, &end) {
        let (key, value) = pair?;
        found += 1;
        counted.bytes += (key.len() + value.len()) as u64;
    }
    if found != apart {
        return Err(malformed(
            "session rows and answer rows that do not fit each other",
        ));
    }
    Ok(counted)
}
