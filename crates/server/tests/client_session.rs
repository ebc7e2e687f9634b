//! Sessions above a store that answers in any order.

#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod client_support;

use client_support::{FakeStore, Harness, Random, view};
use quorate_proto::{Answer, ForwardBody, UnknownReason};
use quorate_server::client::ClientSession;
use quorate_server::resp::RespValue;
use quorate_storage::{ShardId, StoreId};
use quorate_store::{ClientOutcome, ClientRequest, Refusal, RequestId, RouteMode, Target};

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

/// Runs one command with the given outcomes for its requests, in order.
fn outcomes(mode: RouteMode, line: &str, outcomes: &[ClientOutcome]) -> String {
    let (mut node, _) = harness();
    if mode == RouteMode::Redirect {
        node.line("QUORATE MODE cluster");
        node.output();
    }
    node.line(line);
    let requests = node.take();
    assert_eq!(requests.len(), outcomes.len(), "{line}");
    for (request, outcome) in requests.iter().zip(outcomes) {
        node.complete(request, outcome.clone());
    }
    assert!(node.requests.is_empty());
    node.output()
}

#[test]
fn outcomes_have_their_error_texts() {
    use ClientOutcome::{Done, NotApplied, Redirect, Unknown};
    let done = || Done(Answer::Int(1));
    let no_leader = || NotApplied(Refusal::NoLeader(ShardId(3)));
    let timeout = || Unknown(UnknownReason::Timeout);
    let moved = || Redirect { leader: StoreId(2) };
    let (proxy, cluster) = (RouteMode::Proxy, RouteMode::Redirect);
    let cases: Vec<(RouteMode, &str, Vec<ClientOutcome>, &str)> = vec![
        (
            proxy,
            "SET a b",
            vec![no_leader()],
            "NOTAPPLIED shard 3 has no leader that a quorum follows; the write was not applied",
        ),
        (
            proxy,
            "SET a b",
            vec![NotApplied(Refusal::Superseded)],
            "NOTAPPLIED the write was superseded by another leader's; the write was not applied",
        ),
        (
            proxy,
            "SET a b",
            vec![NotApplied(Refusal::Busy)],
            "NOTAPPLIED too many requests under way; the write was not applied",
        ),
        (
            proxy,
            "INCR a",
            vec![timeout()],
            "UNKNOWN no answer came within the deadline; the write may or may not have been applied",
        ),
        (
            proxy,
            "INCR a",
            vec![Unknown(UnknownReason::ConnectionLost)],
            "UNKNOWN the connection to the leader broke; the write may or may not have been applied",
        ),
        (
            proxy,
            "INCR a",
            vec![Unknown(UnknownReason::ShuttingDown)],
            "UNKNOWN the leader is shutting down; the write may or may not have been applied",
        ),
        (
            proxy,
            "GET a",
            vec![no_leader()],
            "CLUSTERDOWN shard 3 has no leader that a quorum follows",
        ),
        (
            proxy,
            "GET a",
            vec![NotApplied(Refusal::NoShard)],
            "CLUSTERDOWN no shard holds the slot",
        ),
        (
            proxy,
            "GET a",
            vec![timeout()],
            "CLUSTERDOWN no answer came within the deadline",
        ),
        (cluster, "GET a", vec![moved()], "MOVED 15495 10.0.0.2:7002"),
        (cluster, "SET a b", vec![moved()], "MOVED 15495 10.0.0.2:7002"),
        (
            cluster,
            "GET a",
            vec![Redirect { leader: StoreId(9) }],
            "CLUSTERDOWN the address of store 9 is not known",
        ),
        (
            cluster,
            "SET a b",
            vec![Redirect { leader: StoreId(9) }],
            "NOTAPPLIED the address of store 9 is not known; the write was not applied",
        ),
        (
            proxy,
            "GET a",
            vec![NotApplied(Refusal::KeyTooLong)],
            "ERR the key is longer than 65000 bytes",
        ),
        (
            proxy,
            "SET a b",
            vec![NotApplied(Refusal::KeyTooLong)],
            "ERR the key is longer than 65000 bytes",
        ),
        // Several keys: the first error, unless another is worse; "not applied" only if none was applied.
        (
            proxy,
            "DEL a b",
            vec![no_leader(), NotApplied(Refusal::Busy)],
            "NOTAPPLIED shard 3 has no leader that a quorum follows; the write was not applied",
        ),
        (
            proxy,
            "DEL a b",
            vec![no_leader(), timeout()],
            "UNKNOWN no answer came within the deadline; the write may or may not have been applied",
        ),
        (
            proxy,
            "DEL a b",
            vec![timeout(), done()],
            "UNKNOWN no answer came within the deadline; the write may or may not have been applied",
        ),
        (
            proxy,
            "DEL a b",
            vec![done(), no_leader()],
            "UNKNOWN a write was not applied; some of the keys were written and some were not",
        ),
        (
            proxy,
            "MGET a b",
            vec![done(), no_leader()],
            "CLUSTERDOWN shard 3 has no leader that a quorum follows",
        ),
        (
            cluster,
            "DEL {a}1 {a}2",
            vec![moved(), moved()],
            "MOVED 15495 10.0.0.2:7002",
        ),
        (
            cluster,
            "DEL {a}1 {a}2",
            vec![done(), moved()],
            "UNKNOWN another store leads the shard; some of the keys were written and some were not",
        ),
        (
            cluster,
            "EXISTS {a}1 {a}2",
            vec![done(), moved()],
            "MOVED 15495 10.0.0.2:7002",
        ),
        // Refused without a request.
        (
            cluster,
            "MGET a b",
            vec![],
            "CROSSSLOT Keys in request don't hash to the same slot",
        ),
        (
            cluster,
            "MSET a 1 b 2",
            vec![],
            "CROSSSLOT Keys in request don't hash to the same slot",
        ),
        (
            cluster,
            "DEL a b",
            vec![],
            "CROSSSLOT Keys in request don't hash to the same slot",
        ),
        (
            cluster,
            "EXISTS a b",
            vec![],
            "CROSSSLOT Keys in request don't hash to the same slot",
        ),
        (
            proxy,
            "MSETNX a 1 b 2",
            vec![],
            "CROSSSLOT Keys in request don't hash to the same slot",
        ),
        (
            cluster,
            "SELECT 1",
            vec![],
            "ERR SELECT is not allowed in cluster mode",
        ),
        (proxy, "SELECT 1", vec![], "ERR DB index is out of range"),
        (
            proxy,
            "MULTI",
            vec![],
            "ERR unknown command 'MULTI', with args beginning with: ",
        ),
        (
            proxy,
            "SUBSCRIBE 'a b' c",
            vec![],
            "ERR unknown command 'SUBSCRIBE', with args beginning with: 'a b' 'c' ",
        ),
        (
            proxy,
            "CLIENT REPLY OFF",
            vec![],
            "ERR CLIENT REPLY OFF and SKIP are not supported",
        ),
        (
            proxy,
            "CLIENT SETINFO lib-name 'a b'",
            vec![],
            "ERR lib-name cannot contain spaces, newlines or special characters.",
        ),
        (
            proxy,
            "CLIENT SETINFO foo a",
            vec![],
            "ERR Unrecognized option 'foo'",
        ),
        (
            proxy,
            "CONFIG SET maxmemory 1",
            vec![],
            "ERR CONFIG SET failed (possibly related to argument 'maxmemory') - can't set immutable config",
        ),
        (
            proxy,
            "CLUSTER NOPE",
            vec![],
            "ERR unknown subcommand 'NOPE'. Try CLUSTER HELP.",
        ),
        (proxy, "CLUSTER COUNTKEYSINSLOT 16384", vec![], "ERR Invalid slot"),
        (proxy, "QUORATE MODE x", vec![], "ERR syntax error"),
        (
            proxy,
            "QUORATE",
            vec![],
            "ERR wrong number of arguments for 'quorate' command",
        ),
    ];
    for (mode, line, given, want) in cases {
        assert_eq!(
            outcomes(mode, line, &given),
            format!("-{want}\r\n"),
            "{line} {given:?}"
        );
    }
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

/// SCAN to the end; the keys and the number of calls.
fn scan_all(node: &mut Harness, store: &mut FakeStore, options: &str) -> (Vec<String>, usize) {
    let (mut keys, mut calls, mut cursor) = (Vec::new(), 0, "0".to_owned());
    loop {
        let reply = node.ask(store, &format!("SCAN {cursor} {options}"));
        let lines: Vec<&str> = reply.split("\r\n").collect();
        assert_eq!(lines[0], "*2", "{reply}");
        cursor = lines[2].to_owned();
        keys.extend(lines[4..].iter().skip(1).step_by(2).map(ToString::to_string));
        calls += 1;
        assert!(calls < 10_000);
        if cursor == "0" {
            return (keys, calls);
        }
    }
}

fn fill(node: &mut Harness, store: &mut FakeStore, keys: usize) {
    for key in 0..keys {
        assert_eq!(node.ask(store, &format!("SET key:{key} x")), "+OK\r\n");
    }
}

#[test]
fn walks_cover_every_shard_and_every_key_once() {
    let (mut node, mut store) = harness();
    fill(&mut node, &mut store, 500);
    assert_eq!(node.ask(&mut store, "DBSIZE"), ":500\r\n");
    assert!(node.ask(&mut store, "KEYS *").starts_with("*500\r\n"));
    assert!(node.ask(&mut store, "KEYS key:1?").starts_with("*10\r\n"));
    for options in ["", "COUNT 1", "COUNT 100 TYPE string", "COUNT 1000000 MATCH *"] {
        let (mut keys, _) = scan_all(&mut node, &mut store, options);
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 500, "{options}");
    }
    assert_eq!(scan_all(&mut node, &mut store, "COUNT 1000").1, SHARDS.len());
    assert_eq!(scan_all(&mut node, &mut store, "MATCH key:49?").0.len(), 10);
    assert_eq!(scan_all(&mut node, &mut store, "TYPE list"), (vec![], 1));
    assert_eq!(
        node.ask(&mut store, "SCAN 70368744177664"),
        "*2\r\n$1\r\n0\r\n*0\r\n"
    );

    let slot = node.ask(&mut store, "CLUSTER KEYSLOT key:1");
    let slot = slot.trim_start_matches(':').trim_end();
    assert_ne!(
        node.ask(&mut store, &format!("CLUSTER COUNTKEYSINSLOT {slot}")),
        ":0\r\n"
    );

    assert_eq!(node.ask(&mut store, "FLUSHALL ASYNC"), "+OK\r\n");
    assert_eq!(node.ask(&mut store, "DBSIZE"), ":0\r\n");
}

#[test]
fn in_cluster_mode_walks_cover_the_shards_led_here() {
    let (mut node, mut store) = harness();
    fill(&mut node, &mut store, 500);
    let mut total = 0;
    for id in 1..=3 {
        node.view.store = StoreId(id);
        node.line("QUORATE MODE cluster");
        node.output();
        let (keys, _) = scan_all(&mut node, &mut store, "COUNT 7");
        let led = |key: &String| {
            let slot = quorate_store::kv::slot_of(key.as_bytes());
            node.view
                .route_of(slot)
                .is_some_and(|route| route.leader == Some(StoreId(id)))
        };
        assert!(keys.iter().all(led));
        let count = keys.len();
        total += count;
        assert_eq!(node.ask(&mut store, "DBSIZE"), format!(":{count}\r\n"));
        assert!(
            node.ask(&mut store, "KEYS *")
                .starts_with(&format!("*{count}\r\n"))
        );
    }
    assert_eq!(total, 500);
    node.line("FLUSHALL");
    let targets: Vec<Target> = node.requests.iter().map(|request| request.target).collect();
    assert_eq!(targets, [Target::Shard(ShardId(3))]);
}

#[test]
fn a_walk_leaves_out_a_shard_that_is_no_longer_led_here() {
    let (mut node, mut store) = harness();
    fill(&mut node, &mut store, 50);
    node.line("QUORATE MODE cluster");
    node.output();
    // Store 1 leads the first and the fourth shard.
    node.line("DBSIZE");
    let request = node.take().remove(0);
    assert_eq!(request.target, Target::Slot(0));
    node.complete(&request, ClientOutcome::Redirect { leader: StoreId(2) });
    assert_eq!(node.requests[0].target, Target::Slot(9000));
    node.settle(&mut store);
    assert_ne!(node.output(), ":0\r\n");

    node.line("SCAN 0");
    let request = node.take().remove(0);
    node.complete(&request, ClientOutcome::Redirect { leader: StoreId(2) });
    // Nothing to answer yet: on to the next shard led here.
    assert_eq!(node.requests[0].target, Target::Slot(9000));
    node.settle(&mut store);
    let page = node.output();
    assert!(page.starts_with("*2\r\n$1\r\n0\r\n*9\r\n"), "{page}");
}

#[test]
fn walks_fail_without_shards_and_without_progress() {
    let (mut node, _) = harness();
    node.view.routes.remove(2);
    node.line("DBSIZE");
    for _ in 0..2 {
        let request = node.take().remove(0);
        node.complete(
            &request,
            ClientOutcome::Done(Answer::Page {
                next: None,
                keys: vec![],
                count: 1,
            }),
        );
    }
    assert_eq!(node.output(), "-CLUSTERDOWN no shard holds the slot\r\n");

    node.view.routes.clear();
    node.line("SCAN 0");
    assert_eq!(node.output(), "-CLUSTERDOWN no shard holds the slot\r\n");
    node.line("FLUSHALL");
    assert_eq!(
        node.output(),
        "-NOTAPPLIED no shard holds the slot; the write was not applied\r\n"
    );

    let (mut node, _) = harness();
    node.line("KEYS *");
    let request = node.take().remove(0);
    let stuck = Answer::Page {
        next: Some(Default::default()),
        keys: vec![],
        count: 0,
    };
    node.complete(&request, ClientOutcome::Done(stuck));
    assert_eq!(node.output(), "-CLUSTERDOWN the scan made no progress\r\n");
}

#[test]
fn cluster_replies_tell_where_the_slots_are() {
    let (mut node, mut store) = harness();
    node.view.routes[1].leader = None;
    node.view.stores[2].up = false;
    let id = |store: u64| node.view.cluster_node_id(StoreId(store));
    let ids = [id(1), id(2), id(3)];
    assert!(
        ids.iter()
            .all(|id| id.len() == 40 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    );
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);

    let slots = node.ask(&mut store, "CLUSTER SLOTS");
    let server = |at: usize| {
        format!(
            "*4\r\n$8\r\n10.0.0.{}\r\n:{}\r\n$40\r\n{}\r\n*0\r\n",
            at + 1,
            7001 + at,
            ids[at]
        )
    };
    // The second shard's leader is not known; store 3 is down, but leads the third as far as is known. Every store
    // leads something, so none is listed as a replica.
    let want = format!(
        "*4\r\n*3\r\n:0\r\n:2999\r\n{}*3\r\n:6000\r\n:8999\r\n{}",
        server(0),
        server(2)
    );
    assert!(slots.starts_with(&want), "{slots}");

    let nodes = node.ask(&mut store, "CLUSTER NODES");
    assert!(
        nodes.contains(&format!(
            "{} 10.0.0.1:7001@8001 myself,master - 0 0 0 connected 0-2999 9000-11999\n",
            ids[0]
        )),
        "{nodes}"
    );
    assert!(
        nodes.contains(&format!(
            "{} 10.0.0.3:7003@8003 master,fail - 0 0 0 disconnected 6000-8999\n",
            ids[2]
        )),
        "{nodes}"
    );
    let info = node.ask(&mut store, "CLUSTER INFO");
    assert!(
        info.contains("cluster_state:fail\r\n") && info.contains("cluster_slots_ok:13384\r\n"),
        "{info}"
    );
    let shards = node.ask(&mut store, "CLUSTER SHARDS");
    assert!(
        shards.starts_with(
            "*5\r\n*4\r\n$5\r\nslots\r\n*2\r\n:0\r\n:2999\r\n$5\r\nnodes\r\n*1\r\n*14\r\n$2\r\nid\r\n"
        ),
        "{shards}"
    );
    assert_eq!(
        node.ask(&mut store, "CLUSTER MYID"),
        format!("$40\r\n{}\r\n", ids[0])
    );
}

#[test]
fn the_rest_of_quorate_is_left_to_the_node() {
    let (mut node, _) = harness();
    node.send(b"QUORATE digest 1\r\nPING\r\nHELLO 3\r\nQUORATE SHARDS\r\n");
    let command = node.node_commands.remove(0);
    assert_eq!(command.args, ["QUORATE", "digest", "1"]);
    assert_eq!(node.output(), "");
    let value = RespValue::Map(vec![(RespValue::text("shard"), RespValue::Int(1))]);
    node.session.complete_raw(command.id, value);
    node.with(ClientSession::process);
    let output = node.output();
    assert!(
        output.starts_with("*2\r\n$5\r\nshard\r\n:1\r\n+PONG\r\n%7\r\n"),
        "{output}"
    );
    assert!(
        output.contains("*5\r\n%5\r\n$5\r\nshard\r\n:1\r\n$10\r\nfirst-slot\r\n:0\r\n"),
        "{output}"
    );
}

#[test]
fn modes_are_per_connection_and_reset_forgets() {
    let (mut node, mut store) = harness();
    assert_eq!(node.ask(&mut store, "QUORATE MODE"), "$5\r\nproxy\r\n");
    assert_eq!(node.ask(&mut store, "QUORATE MODE cluster"), "+OK\r\n");
    assert_eq!(node.ask(&mut store, "CLIENT SETNAME me"), "+OK\r\n");
    assert!(node.ask(&mut store, "INFO cluster").contains("cluster_enabled:1"));
    node.line("GET a");
    assert_eq!(node.requests[0].mode, RouteMode::Redirect);
    node.settle(&mut store);
    node.output();
    assert_eq!(node.ask(&mut store, "RESET"), "+RESET\r\n");
    assert_eq!(node.ask(&mut store, "QUORATE MODE"), "$5\r\nproxy\r\n");
    assert_eq!(node.ask(&mut store, "CLIENT GETNAME"), "$-1\r\n");
}

#[test]
fn information_commands_answer_plausibly() {
    let (mut node, mut store) = harness();
    let info = node.ask(&mut store, "INFO");
    for field in [
        "# Server",
        "redis_version:7.0.15",
        "quorate_version:0.1.0",
        "tcp_port:7001",
        "role:master",
        "cluster_enabled:0",
        "# Keyspace",
        "shards:5",
        "shards_led:2",
    ] {
        assert!(info.contains(&format!("{field}\r\n")), "{field} in {info}");
    }
    assert!(!info.contains("db0:"), "no estimate, no number");
    node.view.stats.keys_estimate = Some(5);
    assert!(
        node.ask(&mut store, "INFO keyspace")
            .ends_with("# Keyspace\r\ndb0:keys=5,expires=0,avg_ttl=0\r\n\r\n")
    );
    let list = node.ask(&mut store, "CLIENT LIST");
    assert!(list.contains("id=7 addr=127.0.0.1:5555 name= "), "{list}");
    assert_eq!(
        node.ask(&mut store, "CONFIG GET Save maxm*m?ry"),
        "*4\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n$4\r\nsave\r\n$0\r\n\r\n"
    );
    // Three voters: two of them hold every acknowledged write, one beside the leader.
    assert_eq!(node.ask(&mut store, "WAIT 2 100"), ":1\r\n");
    assert_eq!(
        node.ask(&mut store, "TIME"),
        "*2\r\n$10\r\n1700000000\r\n$1\r\n0\r\n"
    );
    assert!(node.ask(&mut store, "COMMAND").len() > 10_000);
    assert!(node.ask(&mut store, "COMMAND DOCS").len() > 5_000);
    node.line("COMMAND COUNT");
    assert!(node.session.take_commands() > 5);
}

#[test]
fn writes_carry_relative_times_for_the_leader_to_fix() {
    use quorate_proto::{Expiry, Op, SetExpiry};
    let (mut node, _) = harness();
    node.line("SET a b EX 10");
    node.line("SET a b PXAT 5");
    let expiry = |request: &ClientRequest| match &request.body {
        ForwardBody::Write(Op::Set { expiry, .. }) => *expiry,
        other => panic!("{other:?}"),
    };
    let given: Vec<SetExpiry> = node.take().iter().map(expiry).collect();
    assert_eq!(
        given,
        [SetExpiry::Set(Expiry::In(10_000)), SetExpiry::Set(Expiry::At(5))]
    );
}
