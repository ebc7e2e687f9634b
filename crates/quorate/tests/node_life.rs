//! How a node starts, stops, and refuses to start.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::time::Duration;

use quorate::client::Reply;
use rustix::process::Signal;
use support::tokens::{Load, Reader, judge};
use support::{Cluster, ask, bulk, files_under, free_ports, ok, quorate, run_to_end};

const REFUSAL: Duration = Duration::from_secs(10);

/// One line that begins with the program's name, and exit code 1.
fn assert_refused(code: Option<i32>, said: &str, about: &[&str]) {
    let last = said.lines().last().unwrap_or_default();
    assert_eq!(code, Some(1), "{said}");
    assert!(last.starts_with("quorate: "), "{said}");
    for word in about {
        assert!(
            last.to_lowercase().contains(&word.to_lowercase()),
            "no `{word}` in: {last}"
        );
    }
}

#[test]
fn sigterm_ends_a_node_with_code_0_and_loses_nothing() {
    let mut cluster = Cluster::start(3, &[]);
    let addrs = cluster.addrs();
    let load = Load::start(&addrs, 8, 0);
    load.wait_progress(5, Duration::from_secs(30));
    for node in 0..3 {
        cluster.nodes[node].signal(Signal::TERM);
        let status = cluster.nodes[node].wait_exit(Duration::from_secs(5));
        assert_eq!(status.code(), Some(0), "node {}", node + 1);
        cluster.nodes[node].start();
        cluster.wait_ready();
        load.wait_progress(3, Duration::from_secs(30));
    }
    let mut reader = Reader::new(&addrs);
    judge(&load.finish(), |key| reader.read(key)).check();
}

#[test]
fn a_node_alone_forms_a_cluster_and_finds_its_data_again() {
    let mut cluster = Cluster::start(1, &[]);
    assert_eq!(ask(&mut cluster.client(0), "SET k v"), ok());
    cluster.nodes[0].signal(Signal::TERM);
    assert_eq!(cluster.nodes[0].wait_exit(Duration::from_secs(5)).code(), Some(0));
    cluster.nodes[0].start();
    cluster.wait_ready();
    assert_eq!(ask(&mut cluster.client(0), "GET k"), bulk("v"));
}

/// P7: an id is given by `--bootstrap` or by the cluster that is joined.
#[test]
fn a_store_id_is_not_taken_from_a_flag() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = quorate();
    command
        .args(["serve", "--store-id", "2", "--data"])
        .arg(dir.path().join("empty"));
    for (flag, port) in ["--listen", "--peer", "--http"].iter().zip(free_ports::<3>()) {
        command.arg(flag).arg(format!("127.0.0.1:{port}"));
    }
    let (code, said) = run_to_end(command, REFUSAL);
    assert_refused(code, &said, &["--bootstrap", "empty"]);
}

/// P7. Store 1 dials nobody and store 3 everybody; both are told before they write anything.
#[test]
fn x_04_a_wiped_store_is_refused_before_it_is_formatted_again() {
    let mut cluster = Cluster::start(3, &[]);
    for (node, store) in [(0, "store 1 is known here"), (2, "store 3 is known here")] {
        cluster.nodes[node].kill();
        let data = cluster.nodes[node].data.clone();
        let kept = data.with_extension("kept");
        std::fs::rename(&data, &kept).unwrap();
        let (code, said) = run_to_end(cluster.nodes[node].command(), REFUSAL);
        assert_refused(
            code,
            &said,
            &["--bootstrap refused", store, &data.display().to_string()],
        );
        let written: Vec<_> = files_under(&data);
        assert_eq!(written, [data.join("LOCK")]);
        // With its directory it is welcome again.
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::rename(&kept, &data).unwrap();
        cluster.nodes[node].start();
        cluster.wait_ready();
    }
}

#[test]
fn a_node_without_a_quorum_answers_within_the_deadline() {
    let mut cluster = Cluster::start(3, &["--request-timeout-ms", "500"]);
    assert_eq!(ask(&mut cluster.client(0), "SET k v"), ok());
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    // At first some shards are led here still, and what is proposed to them is unknown; later none is.
    let mut client = cluster.client(0);
    for key in 0..5 {
        let write = error_of(ask(&mut client, &format!("SET key-{key} v")));
        assert!(
            write.starts_with("UNKNOWN ") || write.starts_with("NOTAPPLIED "),
            "{write}"
        );
        let read = error_of(ask(&mut client, &format!("GET key-{key}")));
        assert!(read.starts_with("CLUSTERDOWN "), "{read}");
    }
    assert_eq!(ask(&mut client, "PING"), Reply::Simple("PONG".into()));
}

fn error_of(reply: Reply) -> String {
    match reply {
        Reply::Error(text) => text,
        other => panic!("{other:?} instead of an error"),
    }
}

#[test]
fn a_directory_in_use_is_refused() {
    let cluster = Cluster::start(1, &[]);
    // On ports of its own, so that it is the directory that is in the way.
    let (code, said) = run_to_end(cluster.nodes[0].command_on(free_ports()), REFUSAL);
    assert_refused(
        code,
        &said,
        &["in use", &cluster.nodes[0].data.display().to_string()],
    );
}

#[test]
fn a_directory_of_another_store_is_refused() {
    let mut cluster = Cluster::start(1, &[]);
    cluster.nodes[0].kill();
    let mut command = quorate();
    command
        .args(["serve", "--store-id", "2", "--data"])
        .arg(&cluster.nodes[0].data);
    for (flag, port) in ["--listen", "--peer", "--http"].iter().zip(free_ports::<3>()) {
        command.arg(flag).arg(format!("127.0.0.1:{port}"));
    }
    let (code, said) = run_to_end(command, REFUSAL);
    assert_refused(
        code,
        &said,
        &["store 1", &cluster.nodes[0].data.display().to_string()],
    );
}

#[test]
fn a_directory_of_another_cluster_is_refused() {
    let mut cluster = Cluster::start(1, &[]);
    cluster.nodes[0].kill();
    let mut other = Cluster::prepare(1, &[]);
    std::fs::rename(&cluster.nodes[0].data, &other.nodes[0].data).unwrap();
    other.nodes[0].start();
    let status = other.nodes[0].wait_exit(REFUSAL);
    let said = std::fs::read_to_string(other.nodes[0].log()).unwrap();
    assert_refused(
        status.code(),
        &said,
        &["cluster", &other.nodes[0].data.display().to_string()],
    );
}

/// Each file of ours that holds something (it begins with our magic and is no spare) is damaged in turn, at its head:
/// the node refuses and names the file.
#[test]
fn a_damaged_file_is_refused_by_name() {
    let mut cluster = Cluster::start(1, &[]);
    let mut client = cluster.client(0);
    for n in 0..100 {
        assert_eq!(ask(&mut client, &format!("SET key-{n} value-{n}")), ok());
    }
    drop(client);
    cluster.nodes[0].signal(Signal::TERM);
    cluster.nodes[0].wait_exit(Duration::from_secs(5));

    let ours: Vec<_> = files_under(&cluster.nodes[0].data)
        .into_iter()
        .filter(|path| std::fs::read(path).is_ok_and(|bytes| bytes.len() >= 32 && bytes.starts_with(b"QUOR")))
        .filter(|path| {
            !path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("spare"))
        })
        .collect();
    assert!(ours.len() >= 2, "the identity and the log at least: {ours:?}");
    for path in ours {
        let whole = std::fs::read(&path).unwrap();
        let mut damaged = whole.clone();
        // Behind the magic: version, identity or their checksum.
        damaged[13] ^= 0x40;
        std::fs::write(&path, &damaged).unwrap();
        let (code, said) = run_to_end(cluster.nodes[0].command(), REFUSAL);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert_refused(code, &said, &[&name]);
        std::fs::write(&path, &whole).unwrap();
    }
    cluster.nodes[0].start();
    cluster.wait_ready();
    assert_eq!(ask(&mut cluster.client(0), "GET key-99"), bulk("value-99"));
}

#[test]
fn bad_settings_are_usage_errors_that_say_what_would_be_right() {
    let cases: [(&[&str], &[&str]); 5] = [
        (&["serve"], &["--data"]),
        (
            &["serve", "--data", "x", "--tick-ms", "1"],
            &["tick_ms", "from 5 to 1000"],
        ),
        (
            &["serve", "--data", "x", "--listen", "nowhere"],
            &["--listen", "HOST:PORT"],
        ),
        (&["serve", "--data", "x", "--log-level", "=loud="], &["log_level"]),
        (
            &["serve", "--config", "/nonexistent.toml"],
            &["/nonexistent.toml"],
        ),
    ];
    for (args, about) in cases {
        let mut command = quorate();
        command.args(args);
        let (code, said) = run_to_end(command, REFUSAL);
        assert_eq!(code, Some(2), "{said}");
        for word in about {
            assert!(said.contains(word), "no `{word}` in: {said}");
        }
    }
}
