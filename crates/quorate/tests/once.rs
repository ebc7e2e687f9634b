//! Rows K-04 and X-01 on real sockets and disks, as far as there are no splits: a write that is sent again runs once,
//! through whichever node and after every process was killed.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use quorate::client::Reply;
use support::{Cluster, ask, ok};

fn text(reply: Reply) -> String {
    match reply {
        Reply::Bulk(bytes) => String::from_utf8(bytes).unwrap(),
        Reply::Error(text) | Reply::Simple(text) => text,
        other => panic!("{other:?} is no text"),
    }
}

#[test]
fn a_repeated_write_runs_once_through_every_node_and_after_they_were_killed() {
    let mut cluster = Cluster::start(3, &[]);
    cluster.wait_ready();
    let id = text(ask(&mut cluster.client(0), "ONCE OPEN"));
    for node in 0..3 {
        let mut client = cluster.client(node);
        assert_eq!(ask(&mut client, &format!("ONCE {id} 1 INCR n")), Reply::Int(1));
        let other = ask(&mut client, &format!("ONCE {id} 2 ACK 1 SET {{n}}a {node}"));
        if node == 0 {
            assert_eq!(other, ok());
        } else {
            assert!(text(other).starts_with("ERR another command ran"));
        }
    }
    cluster.restart();
    for node in 0..3 {
        let mut client = cluster.client(node);
        assert_eq!(ask(&mut client, &format!("ONCE {id} 1 INCR n")), Reply::Int(1));
    }
    let mut client = cluster.client(1);
    assert_eq!(
        ask(&mut client, &format!("ONCE {id} 3 ACK 3 INCR n")),
        Reply::Int(2)
    );
    let forgotten = text(ask(&mut client, &format!("ONCE {id} 1 INCR n")));
    assert!(
        forgotten.starts_with("UNKNOWN the shard has forgotten"),
        "{forgotten}"
    );
    let future = "ffffffffffff00000000000000000001";
    let refused = text(ask(&mut client, &format!("ONCE {future} 1 INCR n")));
    assert!(
        refused.starts_with("ERR the session was opened in the future"),
        "{refused}"
    );
    assert_eq!(ask(&mut client, &format!("ONCE {id} 4 INCR n")), Reply::Int(3));
}
