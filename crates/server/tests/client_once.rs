//! ONCE: what a session's write asks of the store, and what a client is told.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod client_support;

use client_support::{FakeStore, Harness, view};
use quorate_proto::{Answer, CommandError, ForwardBody, Op, Session, UnknownReason};
use quorate_store::kv::sessions::opened_ms;
use quorate_store::{ClientOutcome, Refusal};

const ID: &str = "018bcfe568000000000000000000002a";

fn harness() -> Harness {
    Harness::new(view(&[0, 3000, 6000, 9000, 12_000]), 7)
}

/// The sessions of the requests that a command makes.
fn sessions(line: &str) -> Vec<Session> {
    let mut harness = harness();
    harness.line(line);
    assert_eq!(harness.output(), "", "{line}");
    let requests = harness.take();
    requests.iter().map(|request| request.session.unwrap()).collect()
}

fn error(line: &str) -> String {
    let mut harness = harness();
    harness.line(line);
    assert_eq!(harness.take().len(), 0, "{line}");
    harness.output()
}

#[test]
fn open_gives_ids_that_hold_the_time_and_differ() {
    let mut harness = harness();
    harness.line("ONCE OPEN");
    harness.line("once open");
    let output = harness.output();
    let ids: Vec<&str> = output.split("\r\n").filter(|line| line.len() == 32).collect();
    assert_eq!(ids.len(), 2, "{output}");
    assert_ne!(ids[0], ids[1]);
    for id in ids {
        let id = u128::from_str_radix(id, 16).unwrap();
        assert_eq!(opened_ms(id), harness.wall_ms);
    }
    let mut other_connection = Harness::new(view(&[0]), 8);
    other_connection.line("ONCE OPEN");
    assert_ne!(other_connection.output()[5..], output[5..43]);
}

#[test]
fn a_write_goes_out_under_its_identity_and_answers_as_without() {
    let client = u128::from_str_radix(ID, 16).unwrap();
    let session = |seq, lowest, position| Session {
        client,
        seq,
        lowest,
        position,
    };
    assert_eq!(sessions(&format!("ONCE {ID} 7 INCR k")), [session(7, 0, 0)]);
    assert_eq!(
        sessions(&format!("once {ID} 7 ack 3 set k v EX 5")),
        [session(7, 3, 0)]
    );
    let parts = [session(9, 0, 0), session(9, 0, 1), session(9, 0, 2)];
    assert_eq!(sessions(&format!("ONCE {ID} 9 MSET a 1 b 2 c 3")), parts);
    assert_eq!(sessions(&format!("ONCE {ID} 9 DEL a b c")), parts);

    let mut harness = harness();
    harness.line(&format!("ONCE {ID} 1 SETNX k v"));
    harness.line("GET k");
    let requests = harness.take();
    assert_eq!(requests[1].session, None, "it ends with its command");
    harness.complete(&requests[0], ClientOutcome::Done(Answer::Nil));
    assert_eq!(harness.output(), ":0\r\n");
}

#[test]
fn parts_that_are_sent_later_keep_their_positions() {
    let mut harness = harness();
    harness.view.config.pipeline_depth_max = 2;
    let pairs: String = (0..7).map(|n| format!(" k{n} v")).collect();
    harness.line(&format!("ONCE {ID} 1 MSET{pairs}"));
    let mut positions = Vec::new();
    loop {
        let requests = harness.take();
        if requests.is_empty() {
            break;
        }
        for request in requests {
            positions.push(request.session.unwrap().position);
            harness.complete(&request, ClientOutcome::Done(Answer::Ok));
        }
    }
    assert_eq!(positions, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(harness.output(), "+OK\r\n");
}

#[test]
fn bad_requests_are_named() {
    let arity = "-ERR wrong number of arguments for 'once' command\r\n";
    let cases = [
        ("ONCE".to_owned(), arity),
        ("ONCE x".into(), arity),
        (format!("ONCE {ID} 1"), arity),
        (format!("ONCE {ID} 1 ACK 1"), arity),
        ("ONCE 12 1 INCR k".into(), "-ERR invalid session"),
        (format!("ONCE {ID}0 1 INCR k"), "-ERR invalid session"),
        (format!("ONCE {ID} 0 INCR k"), "-ERR invalid seq"),
        (format!("ONCE {ID} -1 INCR k"), "-ERR invalid seq"),
        (format!("ONCE {ID} x INCR k"), "-ERR invalid seq"),
        (format!("ONCE {ID} 3 ACK 4 INCR k"), "-ERR invalid ACK"),
        (format!("ONCE {ID} 3 ACK 0 INCR k"), "-ERR invalid ACK"),
        (
            format!("ONCE {ID} 3 GET k"),
            "-ERR ONCE takes commands that write keys",
        ),
        (
            format!("ONCE {ID} 3 FLUSHALL"),
            "-ERR ONCE takes commands that write keys",
        ),
        (
            format!("ONCE {ID} 3 PING"),
            "-ERR ONCE takes commands that write keys",
        ),
        (
            format!("ONCE {ID} 3 ONCE {ID} 4 INCR k"),
            "-ERR ONCE takes commands that write keys",
        ),
        (format!("ONCE {ID} 3 NOPE k"), "-ERR unknown command 'NOPE'"),
        (
            format!("ONCE {ID} 3 INCR"),
            "-ERR wrong number of arguments for 'incr'",
        ),
        (
            format!("ONCE {ID} 3 DEL{}", " k".repeat(1025)),
            "-ERR ONCE takes at most 1024 keys",
        ),
    ];
    for (line, text) in cases {
        let output = error(&line);
        assert!(output.starts_with(text), "{line}: {output}");
    }
    assert_eq!(
        sessions(&format!("ONCE {ID} 3 DEL{}", " k".repeat(1024))).len(),
        1024
    );
}

#[test]
fn what_the_table_refuses_is_told() {
    let cases = [
        (
            ClientOutcome::Unknown(UnknownReason::Forgotten),
            "-UNKNOWN the shard has forgotten",
        ),
        (
            ClientOutcome::NotApplied(Refusal::OtherCommand),
            "-ERR another command ran",
        ),
        (
            ClientOutcome::NotApplied(Refusal::SessionFromFuture),
            "-ERR the session was opened in the future",
        ),
    ];
    for (outcome, text) in cases {
        let mut harness = harness();
        harness.line(&format!("ONCE {ID} 1 INCR k"));
        let request = harness.take().remove(0);
        harness.complete(&request, outcome);
        let output = harness.output();
        assert!(output.starts_with(text), "{output}");
    }
}

#[test]
fn a_status_asks_each_key_under_its_position() {
    let client = u128::from_str_radix(ID, 16).unwrap();
    let mut harness = harness();
    harness.line(&format!("ONCE STATUS {ID} 9 a b c d"));
    let requests = harness.take();
    let asked = |key: &'static str, position| {
        let session = Session {
            client,
            seq: 9,
            lowest: 0,
            position,
        };
        (ForwardBody::Write(Op::Settle { key: key.into() }), Some(session))
    };
    let sent: Vec<_> = requests
        .iter()
        .map(|one| (one.body.clone(), one.session))
        .collect();
    assert_eq!(sent, [asked("a", 0), asked("b", 1), asked("c", 2), asked("d", 3)]);
    let outcomes = [
        ClientOutcome::Done(Answer::Int(5)),
        ClientOutcome::Done(Answer::NeverRuns),
        ClientOutcome::Unknown(UnknownReason::Forgotten),
        ClientOutcome::Done(Answer::Error(CommandError::NotAnInteger)),
    ];
    for (request, outcome) in requests.iter().zip(outcomes) {
        harness.complete(request, outcome);
    }
    assert_eq!(
        harness.output(),
        "*8\r\n$3\r\nran\r\n:5\r\n$5\r\nnever\r\n$-1\r\n$9\r\nforgotten\r\n$-1\r\n\
         $3\r\nran\r\n-ERR value is not an integer or out of range\r\n"
    );
}

/// An error must not be mistaken for what became of the write in question.
#[test]
fn a_status_that_fails_says_nothing_about_the_write() {
    let outcomes = [
        ClientOutcome::NotApplied(Refusal::Busy),
        ClientOutcome::NotApplied(Refusal::DiskFull),
        ClientOutcome::Unknown(UnknownReason::Timeout),
    ];
    for outcome in outcomes {
        let mut harness = harness();
        harness.line(&format!("ONCE STATUS {ID} 9 a b"));
        let requests = harness.take();
        harness.complete(&requests[0], ClientOutcome::Done(Answer::Int(5)));
        harness.complete(&requests[1], outcome);
        let output = harness.output();
        assert!(output.starts_with("-CLUSTERDOWN "), "{output}");
    }
    for (line, text) in [
        (format!("ONCE STATUS {ID} 9"), "-ERR wrong number of arguments"),
        ("ONCE STATUS x 9 k".into(), "-ERR invalid session"),
        (format!("ONCE STATUS {ID} 0 k"), "-ERR invalid seq"),
        (
            format!("ONCE STATUS {ID} 1{}", " k".repeat(1025)),
            "-ERR ONCE takes at most 1024 keys",
        ),
    ] {
        let output = error(&line);
        assert!(output.starts_with(text), "{line}: {output}");
    }
}

#[test]
fn cas_compares_values() {
    let mut harness = harness();
    let mut store = FakeStore::new(harness.view.routes.clone());
    for (line, reply) in [
        ("CAS k a b", ":-1\r\n"),
        ("SET k a PX 5000", "+OK\r\n"),
        ("CAS k x b", ":0\r\n"),
        ("CAS k a b KEEPTTL", ":1\r\n"),
        ("PTTL k", ":5000\r\n"),
        ("CAS k b c", ":1\r\n"),
        ("PTTL k", ":-1\r\n"),
        ("CAS k c d EX 7", ":1\r\n"),
        ("PTTL k", ":7000\r\n"),
        ("GET k", "$1\r\nd\r\n"),
        ("CAS k d", "-ERR wrong number of arguments for 'cas' command\r\n"),
        ("CAS k d e PERSIST", "-ERR syntax error\r\n"),
        ("CAS k d e EX 5 KEEPTTL", "-ERR syntax error\r\n"),
        ("CAS k d e EX 0", "-ERR invalid expire time in 'cas' command\r\n"),
    ] {
        assert_eq!(harness.ask(&mut store, line), reply, "{line}");
    }
}

#[test]
fn cluster_clients_find_the_keys() {
    let mut harness = harness();
    harness.line(&format!("COMMAND GETKEYS ONCE {ID} 3 ACK 2 MSET a 1 b 2"));
    assert_eq!(harness.output(), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    harness.line(&format!("COMMAND GETKEYS ONCE STATUS {ID} 3 a b"));
    assert_eq!(harness.output(), "*2\r\n$1\r\na\r\n$1\r\nb\r\n");
    harness.line(&format!("COMMAND GETKEYS ONCE {ID} 3 INCR k"));
    assert_eq!(harness.output(), "*1\r\n$1\r\nk\r\n");
    for line in ["COMMAND GETKEYS ONCE OPEN", "COMMAND GETKEYS ONCE a 1 ONCE b"] {
        harness.line(line);
        assert!(harness.output().starts_with('-'), "{line}");
    }
}
