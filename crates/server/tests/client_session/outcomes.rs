//! What a client reads when a request ended.

use quorate_proto::{Answer, UnknownReason};
use quorate_storage::{ShardId, StoreId};
use quorate_store::{ClientOutcome, Refusal, RouteMode};

use crate::harness;

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
