//! The session table (rules S): what ran does not run again, what was dropped is refused, and the totals are exact.

#![allow(clippy::unwrap_used, reason = "an error is a failed test, in helpers too")]

mod kv_model;

use kv_model::{MapView, SPACE};
use quorate_proto::{
    Answer, Expiry, Op, Outcome, Session, SessionRefusal, SessionTotals, SessionWrite, SetCondition,
    SetExpiry, UnknownReason,
};
use quorate_store::kv::sessions::{
    FUTURE_MS_MAX, HELD_MAX, Standing, count, expire, fingerprint, oldest, opened_ms, put_totals, record,
    session_id, standing, totals,
};
use quorate_store::kv::{Exported, Space, Txn, apply, digest, export, import_key, resolve};

const NOW_MS: u64 = 1_700_000_000_000;
const FORGOTTEN: Outcome = Outcome::Unknown(UnknownReason::Forgotten);

/// A shard's state, and how it applies a session's write.
struct Shard {
    view: MapView,
    totals: SessionTotals,
}

impl Shard {
    fn new() -> Self {
        Self {
            view: MapView::default(),
            totals: SessionTotals::default(),
        }
    }

    /// Applies writes in one turn, as an entry each.
    fn turn(&mut self, writes: &[(Session, Op)]) -> Vec<Outcome> {
        let mut txn = Txn::new(&self.view);
        let mut outcomes = Vec::new();
        for (session, op) in writes {
            let write = SessionWrite {
                session: *session,
                fingerprint: fingerprint(op),
            };
            let get = |key: &[u8]| txn.get(key);
            outcomes.push(
                match standing(get, SPACE, &self.totals, NOW_MS, &write, op).unwrap() {
                    Standing::Settled(outcome) => outcome,
                    Standing::New(place) => {
                        let op = resolve(op.clone(), NOW_MS);
                        let answer = apply(&mut txn, SPACE, NOW_MS, &op).unwrap();
                        record(&mut txn, SPACE, &mut self.totals, place, &write, &op, &answer);
                        Outcome::Done(answer)
                    }
                },
            );
        }
        put_totals(&mut txn, SPACE, &self.totals);
        let batch = txn.into_batch();
        self.view.write(batch);
        self.check();
        outcomes
    }

    fn run(&mut self, session: Session, op: Op) -> Outcome {
        self.turn(&[(session, op)]).remove(0)
    }

    fn expire(&mut self, clients: &[u128]) -> i64 {
        let mut txn = Txn::new(&self.view);
        let forgotten = expire(&mut txn, SPACE, &mut self.totals, clients).unwrap();
        put_totals(&mut txn, SPACE, &self.totals);
        let batch = txn.into_batch();
        self.view.write(batch);
        self.check();
        forgotten
    }

    fn check(&self) {
        assert_eq!(totals(&self.view, SPACE).unwrap(), self.totals);
        assert_eq!(count(&self.view, SPACE).unwrap(), self.totals);
    }
}

fn id(number: u128) -> u128 {
    session_id(NOW_MS, number)
}

fn session(client: u128, seq: u64, lowest: u64) -> Session {
    Session {
        client,
        seq,
        lowest,
        position: 0,
    }
}

fn append(value: &'static str) -> Op {
    Op::Append {
        key: "k".into(),
        value: value.into(),
    }
}

fn int(value: i64) -> Outcome {
    Outcome::Done(Answer::Int(value))
}

fn status() -> Op {
    Op::Settle { key: "k".into() }
}

const NEVER: Outcome = Outcome::Done(Answer::NeverRuns);

#[test]
fn a_status_tells_what_ran_and_fences_what_did_not() {
    let mut shard = Shard::new();
    let refused = Outcome::Session(SessionRefusal::NeverRuns);
    let (first, second) = (session(id(1), 1, 0), session(id(1), 2, 0));
    assert_eq!(shard.run(first, append("x")), int(1));
    assert_eq!(shard.run(first, status()), int(1), "whatever its fingerprint");
    // In the log before the write: the write that comes late never runs, in the same turn or later.
    let turn = [(second, status()), (second, append("y")), (second, status())];
    assert_eq!(shard.turn(&turn), [NEVER, refused.clone(), NEVER]);
    assert_eq!(shard.run(second, append("y")), refused);
    assert_eq!(shard.view.get(NOW_MS, "k"), Answer::Bulk("x".into()));
    // Other positions and numbers are other writes (S5).
    let part = Session {
        position: 1,
        ..second
    };
    assert_eq!(shard.run(part, append("z")), int(2));
    // An answer that is an error ran as well.
    let third = session(id(1), 3, 0);
    let increment = Op::Increment {
        key: "k".into(),
        delta: 1,
    };
    let Outcome::Done(error @ Answer::Error(_)) = shard.run(third, increment) else {
        panic!("the value is no number")
    };
    assert_eq!(shard.run(third, status()), Outcome::Done(error));
}

#[test]
fn what_a_status_settled_stays_settled_when_it_is_forgotten() {
    let mut shard = Shard::new();
    // A session that wrote nothing: the fence makes its row, which counts and expires like any.
    assert_eq!(shard.run(session(id(1), 5, 0), status()), NEVER);
    assert_eq!(shard.totals.sessions, 1);
    assert_eq!(shard.run(session(id(1), 6, 6), append("x")), int(1));
    assert_eq!(shard.run(session(id(1), 5, 0), append("never")), FORGOTTEN);
    assert_eq!(shard.run(session(id(1), 5, 0), status()), FORGOTTEN);
    assert_eq!(shard.run(session(id(2), 1, 0), status()), NEVER);
    assert_eq!(shard.expire(&[id(2)]), 1);
    assert_eq!(shard.run(session(id(2), 1, 0), append("never")), FORGOTTEN);
    let future = session(session_id(NOW_MS + FUTURE_MS_MAX + 1, 0), 1, 0);
    let refused = Outcome::Session(SessionRefusal::FromFuture);
    assert_eq!(shard.run(future, status()), refused, "it could still run later");
    assert_eq!(shard.view.get(NOW_MS, "k"), Answer::Bulk("x".into()));
}

#[test]
fn a_repeat_gets_the_first_answer_in_the_same_turn_and_later() {
    let mut shard = Shard::new();
    let (a, b) = (session(id(1), 1, 1), session(id(1), 2, 1));
    let turn = [
        (a, append("x")),
        (a, append("x")),
        (b, append("yy")),
        (a, append("x")),
    ];
    assert_eq!(shard.turn(&turn), [int(1), int(1), int(3), int(1)]);
    assert_eq!(shard.run(b, append("yy")), int(3));
    assert_eq!(shard.view.get(NOW_MS, "k"), Answer::Bulk("xyy".into()));
    assert_eq!((shard.totals.sessions, shard.totals.answers), (1, 2));
}

#[test]
fn another_command_under_the_same_identity_is_refused() {
    let mut shard = Shard::new();
    let refused = Outcome::Session(SessionRefusal::OtherCommand);
    assert_eq!(shard.run(session(id(1), 1, 1), append("x")), int(1));
    assert_eq!(shard.run(session(id(1), 1, 1), append("y")), refused);
    // The same, but for the position: another part of a multi-key write (S5).
    let other_part = Session {
        position: 1,
        ..session(id(1), 1, 1)
    };
    assert_eq!(shard.run(other_part, append("y")), int(2));
}

#[test]
fn a_repeat_with_a_relative_deadline_is_the_same_command() {
    let set = |in_ms| Op::Set {
        key: "k".into(),
        value: "v".into(),
        expiry: SetExpiry::Set(Expiry::In(in_ms)),
        condition: SetCondition::IfAbsent,
        get: false,
    };
    let mut shard = Shard::new();
    let done = Outcome::Done(Answer::Ok);
    assert_eq!(shard.run(session(id(1), 1, 1), set(5000)), done);
    assert_eq!(shard.run(session(id(1), 1, 1), set(5000)), done);
    let refused = Outcome::Session(SessionRefusal::OtherCommand);
    assert_eq!(shard.run(session(id(1), 1, 1), set(6000)), refused);
}

#[test]
fn what_is_acknowledged_is_freed_and_then_forgotten() {
    let mut shard = Shard::new();
    for seq in 1..=10 {
        shard.run(session(id(1), seq, 1), append("x"));
    }
    assert_eq!(shard.totals.answers, 10);
    assert_eq!(shard.run(session(id(1), 11, 9), append("x")), int(11));
    assert_eq!(shard.totals.answers, 3, "9 to 11");
    assert_eq!(shard.run(session(id(1), 8, 1), append("x")), FORGOTTEN);
    assert_eq!(shard.run(session(id(1), 9, 1), append("x")), int(9));
    // The request itself says that its answer is not wanted.
    assert_eq!(shard.run(session(id(1), 12, 13), append("x")), FORGOTTEN);
    assert_eq!(shard.run(session(id(2), 12, 13), append("x")), FORGOTTEN);
    assert_eq!(shard.run(session(id(1), 12, 12), append("x")), int(12));
    assert_eq!(shard.totals.answers, 1);
    // A client that wants only its last answer costs less than 200 bytes.
    assert!(shard.totals.bytes < 100, "{:?}", shard.totals);
}

#[test]
fn a_session_that_never_acknowledges_is_bounded() {
    let mut shard = Shard::new();
    let most = HELD_MAX as u64;
    let writes: Vec<_> = (1..=most + 5)
        .map(|seq| (session(id(1), seq, 1), append("x")))
        .collect();
    shard.turn(&writes);
    assert_eq!(shard.totals.answers, most);
    assert_eq!(shard.run(session(id(1), 5, 1), append("x")), FORGOTTEN);
    assert_eq!(shard.run(session(id(1), 6, 1), append("x")), int(6));
}

#[test]
fn sessions_from_the_future_are_refused_and_leave_nothing() {
    let mut shard = Shard::new();
    let at = |opened_ms| session(session_id(opened_ms, 7), 1, 1);
    let refused = Outcome::Session(SessionRefusal::FromFuture);
    assert_eq!(shard.run(at(NOW_MS + FUTURE_MS_MAX + 1), append("x")), refused);
    assert_eq!(shard.run(at((1 << 48) - 1), append("x")), refused);
    assert_eq!(shard.totals, SessionTotals::default());
    assert_eq!(shard.run(at(NOW_MS + FUTURE_MS_MAX), append("x")), int(1));
}

#[test]
fn an_expired_session_is_forgotten_whether_or_not_it_had_a_row() {
    let mut shard = Shard::new();
    let old = session_id(NOW_MS - 1000, 5);
    let late = session_id(NOW_MS - 1000, 6);
    let young = session_id(NOW_MS - 999, 5);
    for client in [old, young] {
        shard.run(session(client, 1, 1), append("x"));
    }
    assert_eq!(oldest(&shard.view, SPACE, 1, 1).unwrap()[0].client, old);
    assert_eq!(shard.expire(&[old]), 1);
    assert_eq!(
        shard.expire(&[old, late]),
        0,
        "those were forgotten before, or never known"
    );
    assert_eq!(shard.totals.expired_through_ms, opened_ms(old));
    assert_eq!(shard.run(session(old, 1, 1), append("x")), FORGOTTEN);
    assert_eq!(shard.run(session(late, 1, 1), append("x")), FORGOTTEN);
    assert_eq!(shard.run(session(young, 1, 1), append("x")), int(2));
    assert_eq!(shard.expire(&[young]), 1);
    assert_eq!(
        (shard.totals.sessions, shard.totals.answers, shard.totals.bytes),
        (0, 0, 0)
    );
}

#[test]
fn the_table_travels_with_the_data_from_wherever_it_lies() {
    let mut shard = Shard::new();
    for client in 0..20 {
        let write = session(session_id(NOW_MS + client as u64, client), 1, 1);
        shard.run(write, append("x"));
    }
    let large = "x".repeat(1000);
    let set = |get| Op::Set {
        key: "k".into(),
        value: large.clone().into(),
        expiry: SetExpiry::Clear,
        condition: SetCondition::Always,
        get,
    };
    shard.run(session(session_id(NOW_MS, 0), 2, 1), set(false));
    let answer = shard.run(session(session_id(NOW_MS, 0), 3, 1), set(true));
    let repeat = shard.run(session(session_id(NOW_MS, 0), 3, 1), set(true));
    assert_eq!(answer, Outcome::Done(Answer::Bulk(large.clone().into())));
    assert_eq!(answer, repeat);
    let Exported { pairs, more } = export(&shard.view, SPACE, None, usize::MAX).unwrap();
    assert!(more.is_none() && pairs.iter().map(|(key, _)| key).is_sorted());
    assert_eq!(
        pairs.len(),
        1 + 1 + 20 + 1,
        "data, totals, sessions, the large answer"
    );
    let target = Space(99);
    let mut copy = MapView::default();
    for (key, value) in &pairs {
        copy.pairs
            .insert(import_key(target, key).unwrap().into(), value.clone());
    }
    assert_eq!(totals(&copy, target).unwrap(), shard.totals);
    assert_eq!(
        digest(&copy, target).unwrap(),
        digest(&shard.view, SPACE).unwrap()
    );
    for damaged in [&b"s123"[..], b"w", b"w0123456789012345678901234567"] {
        let fits = damaged.len() == 29;
        assert_eq!(import_key(target, damaged).is_some(), fits);
    }
    // A digest sees the answers.
    shard.run(session(session_id(NOW_MS, 0), 1, 1), append("x"));
    assert_eq!(
        digest(&copy, target).unwrap(),
        digest(&shard.view, SPACE).unwrap()
    );
    shard.run(session(session_id(NOW_MS, 0), 4, 1), append(""));
    assert_ne!(
        digest(&copy, target).unwrap(),
        digest(&shard.view, SPACE).unwrap()
    );
}

#[test]
fn damaged_rows_are_errors_not_answers() {
    let mut shard = Shard::new();
    shard.run(session(id(1), 1, 1), append("x"));
    let write = SessionWrite {
        session: session(id(1), 1, 1),
        fingerprint: 0,
    };
    let many: Vec<_> = (2..100)
        .map(|seq| (session(id(1), seq, 1), append("x")))
        .collect();
    shard.turn(&many);
    let write = SessionWrite {
        session: session(id(1), 99, 1),
        ..write
    };
    for kind in *b"sw" {
        let mut view = shard.view.clone();
        let key = view.pairs.keys().rfind(|key| key[0] == kind).cloned().unwrap();
        view.pairs.insert(key, "\x09".into());
        let get = |key: &[u8]| Ok(view.pairs.get(key).cloned());
        assert!(standing(get, SPACE, &shard.totals, NOW_MS, &write, &append("x")).is_err());
    }
}
