//! Commands in pipes: what they do when nobody takes what they print.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::fs::File;
use std::io::PipeWriter;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::process::Signal;
use support::control::shards;
use support::{Cluster, ask, bulk, ok, quorate};

/// A pipe whose reader has gone.
fn unread() -> PipeWriter {
    std::io::pipe().unwrap().1
}

fn ends_quietly(mut command: Command) {
    let Output { status, stderr, .. } = command.stdout(unread()).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    let by = status.signal();
    assert_eq!(
        (by, said.as_str()),
        (Some(Signal::PIPE.as_raw()), ""),
        "{command:?}"
    );
}

fn with(args: &[&str]) -> Command {
    let mut command = quorate();
    command
        .args(args)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/tests/histories"));
    command
}

#[test]
fn commands_of_a_cluster_and_of_its_directory_end_quietly_when_their_reader_has_gone() {
    let mut cluster = Cluster::alone();
    let mut client = cluster.client(0);
    assert_eq!(ask(&mut client, "SET k v"), ok());
    // Until then `ctl shards` has something to say on standard error.
    shards(&cluster, 0);
    let endpoint = cluster.nodes[0].addr();
    let at = |args: &[&str]| {
        let mut command = with(args);
        command.env("QUORATE_ENDPOINTS", &endpoint);
        command
    };
    ends_quietly(at(&["ctl", "shards"]));
    ends_quietly(at(&["ctl", "--json", "config"]));
    ends_quietly(at(&["get", "k"]));
    ends_quietly(at(&["append", "k", "ed"]));
    // It was done all the same.
    assert_eq!(ask(&mut client, "GET k"), bulk("ved"));

    let node = &mut cluster.nodes[0];
    node.signal(Signal::TERM);
    assert_eq!(node.wait_exit(Duration::from_secs(10)).code(), Some(0));
    let data = node.data.to_str().unwrap();
    ends_quietly(with(&["debug", "shards", "--data", data]));
    ends_quietly(with(&["debug", "digest", "--json", "--data", data]));
}

#[test]
fn commands_without_a_cluster_end_quietly_when_their_reader_has_gone() {
    ends_quietly(with(&["check", "cas-ok.jsonl", "register-ok.jsonl"]));
    ends_quietly(with(&["sim", "--seed", "1", "--short"]));
    let mut complains = with(&["check", "stale-read-bad.jsonl"]);
    let Output { status, stdout, .. } = complains.stderr(unread()).output().unwrap();
    let by = status.signal();
    assert_eq!(by, Some(Signal::PIPE.as_raw()), "standard error has no reader");
    assert_eq!(stdout, b"stale-read-bad.jsonl: not linearizable\n");
}

#[test]
fn an_output_that_is_full_is_told() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let Output { status, stderr, .. } = with(&["check", "cas-ok.jsonl"]).stdout(full).output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(
        said.starts_with("quorate: cannot write to standard output: No space left"),
        "{said}"
    );
    assert_eq!(status.code(), Some(1));
}
