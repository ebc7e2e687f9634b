//! Rows K: a replicated key-value store with clients that append and read.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use quorate::client::{Client, Reply};

use crate::generic::{FULL, Generic, SHORT};
use crate::net::{M, Net, PATIENCE};
use crate::support::{ask, bulk, ok};

/// A row as a test in its short form, and as an ignored one in its full form.
macro_rules! generic_rows {
    ($($short:ident, $full:ident: $row:expr;)*) => {
        $(#[test]
        fn $short() {
            $row.run(stringify!($short), SHORT);
        }

        #[test]
        #[ignore = "three rounds of five seconds"]
        fn $full() {
            $row.run(stringify!($full), FULL);
        })*
    };
}
pub(crate) use generic_rows;

const K_PARTITION: Option<(u64, u64)> = Some((1_000, 1_200));

generic_rows! {
    k_01_basic, k_01_basic_full: Generic { clients: 1, ..Generic::default() };
    k_04_unreliable, k_04_unreliable_full: Generic { clients: 5, unreliable: true, ..Generic::default() };
    k_11_persist_concurrent_unreliable, k_11_persist_concurrent_unreliable_full:
        Generic { clients: 5, unreliable: true, crash: true, ..Generic::default() };
    k_21_snapshot_unreliable_recover_concurrent_partition, k_21_snapshot_unreliable_recover_concurrent_partition_full:
        Generic {
            clients: 5, unreliable: true, crash: true, partition: K_PARTITION, log_bound: Some(M), ..Generic::default()
        };
}

/// Asks again while the answer says that it was not applied, or not read; returns the answer and when it came.
fn until_answered(addr: &str, command: &str) -> (Reply, Instant) {
    let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    loop {
        let reply = Client::connect(addr, PATIENCE).and_then(|mut client| client.command(&words));
        match reply {
            Ok(Reply::Error(why)) if why.starts_with("NOTAPPLIED") || why.starts_with("CLUSTERDOWN") => {}
            Ok(reply) => return (reply, Instant::now()),
            Err(error) => panic!("{command}: {error}"),
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// A put and a get in the minority, with the old leader, stay blocked, and finish soon after the network has healed.
fn one_partition(row: &str, delay_ms_max: u64) {
    let net = Net::start(row, 5, &["--request-timeout-ms", "20000"]);
    net.proxy.weather(crate::support::proxy::Weather {
        delay_ms_max,
        loss: 0,
    });
    let leader = net.leader(1, &net.all());
    let minority = [leader, (leader + 1) % 5];
    let majority = net.all_but(&minority);
    assert_eq!(ask(&mut net.at(leader), "SET 1 13"), ok());
    net.proxy.partition(5, &[&minority, &majority]);
    let elected = net.leader(1, &majority);
    assert_eq!(ask(&mut net.at(elected), "SET 1 14"), ok());
    assert_eq!(ask(&mut net.at(majority[0]), "GET 1"), bulk("14"));

    let (done, ended) = mpsc::channel();
    for (node, command) in [(minority[0], "SET 1 15"), (minority[1], "GET 1")] {
        let (addr, done) = (net.cluster.nodes[node].addr(), done.clone());
        thread::spawn(move || {
            let _ = done.send((command, until_answered(&addr, command)));
        });
    }
    let blocked = ended.recv_timeout(Duration::from_secs(1));
    assert!(blocked.is_err(), "answered without a quorum: {blocked:?}");
    assert_eq!(ask(&mut net.at(majority[1]), "GET 1"), bulk("14"));
    assert_eq!(ask(&mut net.at(elected), "SET 1 16"), ok());
    assert_eq!(ask(&mut net.at(majority[0]), "GET 1"), bulk("16"));

    net.proxy.heal();
    let healed = Instant::now();
    for _ in 0..2 {
        let (command, (reply, at)) = ended.recv_timeout(PATIENCE).unwrap();
        println!("  {command} after {:?}: {reply:?}", at - healed);
        assert!(
            at - healed <= Duration::from_secs(3),
            "{command} took {:?} after healing",
            at - healed
        );
        let right: &[Reply] = match command {
            "SET 1 15" => &[ok()],
            _ => &[bulk("16"), bulk("15")],
        };
        assert!(right.contains(&reply), "{command}: {reply:?}");
    }
    // It was refused until then, since nothing of it had taken effect, so it is the last writer.
    assert_eq!(ask(&mut net.at(majority[0]), "GET 1"), bulk("15"));
    net.report();
}

#[test]
fn k_06_one_partition() {
    one_partition("k_06_one_partition", 0);
}

#[test]
#[ignore = "the row once more, on slow links"]
fn k_06_one_partition_full() {
    one_partition("k_06_one_partition_full", 26);
}

/// The log is cut although node 2 is away; it catches up by a snapshot, and serves what it has missed.
fn snapshot_to_one_that_was_away(row: &str, puts: usize) {
    let m = M.to_string();
    let net = Net::start(row, 3, &["--log-retention-bytes-per-shard", &m]);
    let leader = net.leader(1, &net.all());
    let (other, away) = ((leader + 1) % 3, (leader + 2) % 3);
    assert_eq!(ask(&mut net.at(leader), "SET a A"), ok());
    net.proxy.lose_held();
    net.proxy.partition(3, &[&[leader, other]]);
    let mut client = net.at(leader);
    let value = |n: usize| format!("{n}.{}", "-".repeat(4096));
    for n in 0..puts {
        assert_eq!(ask(&mut client, &format!("SET {n} {}", value(n))), ok());
    }
    assert_eq!(ask(&mut client, "SET b B"), ok());
    let stood = net.rows(away)[&1].last;
    net.wait("the log is cut past the node that is away", |net| {
        let row = &net.rows(leader)[&1];
        row.log_base > stood && row.log_bytes <= 8 * M
    });
    // The other one goes away, so the one that was away must serve.
    net.proxy.partition(3, &[&[leader, away]]);
    let pair = [leader, away];
    net.wait("a snapshot is installed", |net| net.snapshots_installed(away) > 0);
    let leads = net.leader(1, &pair);
    for (key, value) in [("c", "C"), ("d", "D")] {
        assert_eq!(ask(&mut net.at(leads), &format!("SET {key} {value}")), ok());
    }
    net.make_leader(1, away);
    let mut client = net.at(away);
    for (key, value) in [("a", "A"), ("b", "B"), ("c", "C"), ("d", "D")] {
        assert_eq!(ask(&mut client, &format!("GET {key}")), bulk(value));
    }
    for n in 0..puts {
        assert_eq!(ask(&mut client, &format!("GET {n}")), bulk(&value(n)));
    }
    net.report();
}

#[test]
fn k_15_snapshot_to_one_that_was_away() {
    snapshot_to_one_that_was_away("k_15_snapshot_to_one_that_was_away", 50);
}

#[test]
#[ignore = "the row once more, with ten times the data"]
fn k_15_snapshot_to_one_that_was_away_full() {
    snapshot_to_one_that_was_away("k_15_snapshot_to_one_that_was_away_full", 500);
}
