//! Sessions above a store that answers in any order.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod by_hand;
#[path = "../client_support/mod.rs"]
mod client_support;
mod information;
mod outcomes;
mod walks;

use client_support::{FakeStore, Harness, Random, view};
use quorate_proto::{Answer, ForwardBody};
use quorate_server::client::ClientSession;
use quorate_store::{ClientOutcome, ClientRequest, RequestId};

const SHARDS: [u16; 5] = [0, 3000, 6000, 9000, 12_000];

fn harness() -> (Harness, FakeStore) {
    let view = view(&SHARDS);
    let store = FakeStore::new(view.routes.clone());
    (Harness::new(view, 7), store)
}

/// Commands take effect in the order in which their requests were pushed; the outcomes come back in any order.
fn random_command(random: &mut Random) -> String {
    let key = |random: &mut Random| format!("k{}", random.below(5));
    let (a, b, c) = (key(random), key(random), key(random));
    let n = random.below(100);
    match random.below(16) {
        0 => format!("GET {a}"),
        1 => format!("SET {a} {n}"),
        2 => format!("INCRBY {a} {n}"),
        3 => format!("MGET {a} {b} {c} {a}"),
        4 => format!("MSET {a} {n} {b} x{n} {a} {n}"),
        5 => format!("DEL {a} {b} {a}"),
        6 => format!("EXISTS {a} {b} {c}"),
        7 => format!("APPEND {a} {n}"),
        8 => "PING".into(),
        9 => format!("ECHO {n}"),
        10 => format!("SETNX {a} {n}"),
        11 => format!("GETRANGE {a} 0 {n}"),
        12 => "NOPE x".into(),
        13 => format!("HELLO {}", 2 + random.below(2)),
        14 => format!("MGET {}", vec![a; 1 + random.below(30)].join(" ")),
        _ => format!("GETDEL {a}"),
    }
}

#[test]
fn replies_keep_the_order_of_commands_whatever_the_order_of_outcomes() {
    for seed in 1..200u64 {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let commands: Vec<String> = (0..60).map(|_| random_command(&mut random)).collect();

        let (mut one_by_one, mut store) = harness();
        let want: String = commands
            .iter()
            .map(|command| one_by_one.ask(&mut store, command))
            .collect();

        let (mut piped, mut store) = harness();
        piped.view.config.pipeline_depth_max = 1 + random.below(20);
        let stream = commands
            .iter()
            .map(|command| format!("{command}\r\n"))
            .collect::<String>();
        let (first, rest) = stream.split_at(random.below(stream.len()));
        piped.send(first.as_bytes());
        let mut answered: Vec<(ClientRequest, Answer)> = Vec::new();
        let mut rest = Some(rest);
        loop {
            for request in piped.take() {
                let answer = store.answer(&request, piped.wall_ms);
                answered.push((request, answer));
            }
            if random.below(4) == 0
                && let Some(rest) = rest.take()
            {
                piped.send(rest.as_bytes());
            } else if !answered.is_empty() {
                let (request, answer) = answered.swap_remove(random.below(answered.len()));
                piped.complete(&request, ClientOutcome::Done(answer));
            } else if rest.is_none() {
                break;
            }
        }
        assert_eq!(piped.output(), want, "seed {seed}");
        assert!(piped.session.idle() && piped.session.wants_read(), "seed {seed}");
    }
}

#[test]
fn request_ids_name_connection_and_place() {
    let (mut node, _) = harness();
    node.line("GET a");
    node.line("GET b");
    let ids: Vec<RequestId> = node.take().iter().map(|request| request.id).collect();
    assert_eq!(ids, [RequestId(7 << 32), RequestId(7 << 32 | 1)]);
    assert_eq!(ClientSession::connection_of(ids[1]), 7);
}

#[test]
fn outcomes_of_unknown_requests_change_nothing() {
    let (mut node, mut store) = harness();
    node.line("GET a");
    let request = node.take().remove(0);
    let stranger = ClientRequest {
        id: RequestId(7 << 32 | 99),
        ..request.clone()
    };
    node.complete(&stranger, ClientOutcome::Done(Answer::Ok));
    let answer = store.answer(&request, 0);
    node.complete(&request, ClientOutcome::Done(answer.clone()));
    node.complete(&request, ClientOutcome::Done(answer));
    assert_eq!(node.output(), "$-1\r\n");
}

#[test]
fn requests_name_their_connection_and_are_handed_over_in_the_order_of_the_commands() {
    let (mut node, _) = harness();
    node.send(b"GET a\r\nSET a 1\r\nMSET a 2 a 3\r\nGET a\r\n");
    let requests = node.take();
    assert!(requests.iter().all(|request| request.stream == 7));
    let writes: Vec<bool> = requests
        .iter()
        .map(|request| matches!(request.body, ForwardBody::Write(_)))
        .collect();
    assert_eq!(writes, [false, true, true, true, false]);
}

#[test]
fn a_command_on_all_keys_has_the_connection_to_itself() {
    let (mut node, mut store) = harness();
    node.send(b"SET a 1\r\nDBSIZE\r\nSET b 1\r\nDBSIZE\r\nPING\r\nFLUSHALL\r\nDBSIZE\r\n");
    let mut most = 0;
    loop {
        let requests = node.take();
        if requests.is_empty() {
            break;
        }
        most = most.max(requests.len());
        for request in requests {
            let answer = store.answer(&request, 0);
            node.complete(&request, ClientOutcome::Done(answer));
        }
    }
    assert_eq!(node.output(), "+OK\r\n:1\r\n+OK\r\n:2\r\n+PONG\r\n+OK\r\n:0\r\n");
    assert!(most <= SHARDS.len(), "{most} at once: more than FLUSHALL's");
    assert!(node.session.idle() && node.session.wants_read());
}

/// A client that asks for large values and reads nothing.
#[test]
fn large_replies_make_few_commands_go_at_once() {
    const BYTES: usize = 1 << 20;
    let (mut node, _) = harness();
    node.view.config.output_bytes_max = BYTES;
    node.send("GET a\r\n".repeat(300).as_bytes());
    let value = bytes::Bytes::from(vec![b'v'; BYTES]);
    let (mut rounds, mut replies) = (Vec::new(), 0);
    while replies < 300 {
        let requests = node.take();
        rounds.push(requests.len());
        for request in requests {
            node.complete(&request, ClientOutcome::Done(Answer::Bulk(value.clone())));
        }
        let unsent = node.session.output().len();
        assert!(unsent <= 40 * BYTES, "{unsent} bytes wait to be sent");
        // Nothing more is asked before the client reads.
        node.with(ClientSession::process);
        assert!(node.take().is_empty());
        replies += node.session.output().split().len() / BYTES;
        node.with(ClientSession::process);
    }
    assert!(
        rounds[0] <= 32 && rounds[1..].iter().all(|round| *round <= 8),
        "{rounds:?}"
    );
}

#[test]
fn a_refused_command_on_all_keys_holds_nothing_up() {
    let (mut node, _) = harness();
    node.send(b"GET a\r\nSCAN nope\r\nGET b\r\n");
    let first = node.take();
    assert_eq!(first.len(), 1);
    node.complete(&first[0], ClientOutcome::Done(Answer::Nil));
    assert_eq!(node.output(), "$-1\r\n-ERR invalid cursor\r\n");
    assert_eq!(node.take().len(), 1);
}

#[test]
fn hello_does_not_change_the_replies_before_it() {
    let (mut node, mut store) = harness();
    node.send(b"GET a\r\nMGET a\r\nHELLO 3\r\nGET a\r\n");
    node.settle(&mut store);
    let output = node.output();
    assert!(
        output.starts_with("$-1\r\n*1\r\n$-1\r\n%7\r\n") && output.ends_with("\r\n*0\r\n_\r\n"),
        "{output}"
    );
}

#[test]
fn replies_that_wait_are_sent_in_their_turn() {
    let (mut node, mut store) = harness();
    node.send(b"SET a 1\r\nPING\r\nGET a\r\nNOPE\r\n");
    let requests = node.take();
    let answers: Vec<Answer> = requests.iter().map(|request| store.answer(request, 0)).collect();
    node.complete(&requests[1], ClientOutcome::Done(answers[1].clone()));
    assert_eq!(node.output(), "");
    node.complete(&requests[0], ClientOutcome::Done(answers[0].clone()));
    assert_eq!(
        node.output(),
        "+OK\r\n+PONG\r\n$1\r\n1\r\n-ERR unknown command 'NOPE', with args beginning with: \r\n"
    );
}

#[test]
fn quit_and_protocol_errors_end_the_connection_behind_earlier_replies() {
    for (end, reply) in [
        (&b"QUIT\r\nSET b 1\r\n"[..], "+OK\r\n"),
        (
            b"*x\r\nSET b 1\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
    ] {
        let (mut node, mut store) = harness();
        node.send(&[b"SET a 1\r\n", end].concat());
        assert!(!node.session.wants_read() && !node.session.closing());
        assert_eq!(node.requests.len(), 1);
        node.settle(&mut store);
        assert!(node.session.closing());
        assert_eq!(node.output(), format!("+OK\r\n{reply}"));
    }
}

#[test]
fn a_full_pipeline_and_unsent_replies_stop_the_reading() {
    let (mut node, mut store) = harness();
    node.view.config.pipeline_depth_max = 4;
    node.view.config.output_bytes_max = 1000;
    node.send(&b"SET a 1\r\n".repeat(10));
    assert_eq!((node.requests.len(), node.session.wants_read()), (4, false));
    node.settle(&mut store);
    assert_eq!(node.output(), "+OK\r\n".repeat(10));
    assert!(node.session.wants_read());

    node.send(format!("ECHO {}\r\nPING\r\n", "x".repeat(2000)).as_bytes());
    assert!(!node.session.wants_read());
    assert!(!node.output().ends_with("+PONG\r\n"));
    assert!(node.session.wants_read());
    node.with(ClientSession::process);
    assert_eq!(node.output(), "+PONG\r\n");
}

#[test]
fn a_command_of_very_many_keys_is_sent_a_window_at_a_time() {
    let (mut node, mut store) = harness();
    node.view.config.pipeline_depth_max = 8;
    let keys: Vec<String> = (0..100).map(|key| format!("k{key} {key}")).collect();
    node.send(format!("MSET {}\r\nSET k99 later\r\nGET k99\r\n", keys.join(" ")).as_bytes());
    assert_eq!(node.requests.len(), 8);
    let mut seen_max = 0;
    let mut answered = 0;
    while let Some(request) = (!node.requests.is_empty()).then(|| node.requests.remove(0)) {
        seen_max = seen_max.max(node.requests.len() + 1);
        let answer = store.answer(&request, node.wall_ms);
        node.complete(&request, ClientOutcome::Done(answer));
        answered += 1;
    }
    assert_eq!((answered, seen_max), (102, 8));
    assert_eq!(node.output(), "+OK\r\n+OK\r\n$5\r\nlater\r\n");
}
