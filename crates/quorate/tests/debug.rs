//! `quorate debug` on the directories of nodes that have stopped.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::{Cluster, ask, files_under, ok, quorate};

const END: Duration = Duration::from_secs(10);

/// Exit code, standard output, standard error.
fn debug(args: &[&str], data: &Path) -> (Option<i32>, String, String) {
    let output = quorate()
        .arg("debug")
        .args(args)
        .arg("--data")
        .arg(data)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn json(args: &[&str], data: &Path) -> Value {
    let (code, out, err) = debug(&[args, &["--json"]].concat(), data);
    assert_eq!(code, Some(0), "{err}");
    serde_json::from_str(&out).unwrap()
}

fn log_files(data: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files_under(&data.join("log"))
        .into_iter()
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

#[test]
fn a_stopped_store_tells_its_shards_a_keys_history_and_digests_and_its_log_stays_untouched() {
    let mut cluster = Cluster::start(3, &[]);
    let mut client = cluster.client(0);
    assert_eq!(ask(&mut client, "SET k first"), ok());
    ask(&mut client, "APPEND k -second");
    assert_eq!(ask(&mut client, "SET other 1"), ok());
    assert_eq!(ask(&mut client, "SET k third"), ok());
    let data: Vec<PathBuf> = cluster.nodes.iter().map(|node| node.data.clone()).collect();

    let (code, _, err) = debug(&["shards"], &data[0]);
    assert_eq!(code, Some(1));
    assert!(err.contains("in use by another process"), "{err}");

    for node in 0..3 {
        cluster.nodes[node].signal(Signal::TERM);
        assert_eq!(cluster.nodes[node].wait_exit(END).code(), Some(0));
    }
    let before = log_files(&data[0]);

    let shards = json(&["shards"], &data[0]);
    assert_eq!(shards["store"], 1);
    assert_eq!(
        shards["shards"].as_array().unwrap().len(),
        9,
        "eight, and shard 0"
    );
    let (_, table, _) = debug(&["shards"], &data[0]);
    assert!(table.contains("[0, 2048)"), "{table}");

    // Whether it is in the engine or only in the log: it is there, in order, and the last one counts.
    let key = json(&["key", "k"], &data[0]);
    let contents: Vec<&str> = key["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["content"].as_str().unwrap())
        .collect();
    assert_eq!(
        contents,
        [
            r#"SET "k" "first""#,
            r#"APPEND "k" "-second""#,
            r#"SET "k" "third""#
        ]
    );
    if key["history"][2]["applied"] == true {
        assert_eq!(key["value"]["shown"], r#""third""#);
    }
    let log = json(&["log", "--shard", &key["shard"].to_string()], &data[0]);
    assert!(log["entries"].as_array().unwrap().len() >= 3, "{log}");

    // Replicas that have applied the same hold the same.
    let mut digests = BTreeMap::new();
    for data in &data {
        for row in json(&["digest"], data).as_array().unwrap() {
            let at = (row["shard"].as_u64().unwrap(), row["applied"].as_u64().unwrap());
            let first = digests.entry(at).or_insert_with(|| row["digest"].clone());
            assert_eq!(first, &row["digest"], "shard and applied index {at:?}");
        }
    }

    assert!(log_files(&data[0]) == before, "looking changed the log");
    // And the node starts as if nobody had looked.
    cluster.nodes.iter_mut().for_each(support::Node::start);
    cluster.wait_ready();
    assert_eq!(ask(&mut cluster.client(1), "GET k"), support::bulk("third"));
}

#[test]
fn what_is_no_store_and_what_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("missing")] {
        let (code, _, err) = debug(&["shards"], &path);
        assert_eq!(code, Some(1));
        assert!(err.contains("not a store's directory"), "{err}");
        assert!(!dir.path().join("missing").exists(), "looking made a directory");
    }

    let mut cluster = Cluster::start(1, &[]);
    let data = cluster.nodes[0].data.clone();
    cluster.nodes[0].kill();
    for command in ["log", "digest"] {
        let (code, _, err) = debug(&[command, "--shard", "99"], &data);
        assert_eq!(code, Some(1));
        assert!(
            err.contains("no shard 99 here") && err.contains("0, 1, 2"),
            "{err}"
        );
    }
    let absent = json(&["key", "nobody"], &data);
    assert_eq!(absent["value"], Value::Null);
}
