//! Commands about the node, the cluster and the connection.

use quorate_proto::ForwardBody;
use quorate_server::client::ClientSession;
use quorate_server::resp::RespValue;
use quorate_storage::StoreId;
use quorate_store::{ClientRequest, RouteMode};

use crate::harness;

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
