//! The golden path: `dev`, a client on each port, Ctrl-C, and `dev` again on the same directory.

#![allow(clippy::unwrap_used, reason = "a test; helpers included")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use quorate::client::{Client, Reply};
use quorate::dev::probe;
use rustix::process::{Pid, Signal, kill_process};
use support::{TIMEOUT, bulk, ok, quorate};

/// A `dev` and the lines that it prints.
struct Dev {
    child: Child,
    lines: mpsc::Receiver<String>,
    base: u16,
}

impl Dev {
    fn start(data: &Path, base: u16, more: &[&str]) -> Self {
        let mut command = quorate();
        command
            .arg("dev")
            .arg("--data")
            .arg(data)
            .args(["--base-port", &base.to_string()])
            .args(more);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, base }
    }

    /// The lines up to and including the first that contains `text`.
    fn wait_for(&self, text: &str) -> Vec<String> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    seen.push(line);
                    if seen.last().is_some_and(|line| line.contains(text)) {
                        return seen;
                    }
                }
                Err(error) => panic!("no `{text}` ({error}) in:\n{}", seen.join("\n")),
            }
        }
    }

    fn client(&self, node: u16) -> Client {
        Client::connect(&format!("127.0.0.1:{}", self.base + node), TIMEOUT).unwrap()
    }

    fn stop(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap().code()
    }

    fn anybody_listens(&self) -> bool {
        (0..3).any(|n| probe::get(self.base + 200 + n, "/healthz").is_ok())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Its nodes stop by themselves.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A base whose nine ports are free, and that no other test of this process has been given.
fn free_base() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let of_process = (std::process::id() % 50) as u16 * 30;
    std::iter::repeat_with(|| 30_300 + of_process + NEXT.fetch_add(1, Ordering::Relaxed) % 10 * 3)
        .find(|base| (0..3).all(|n| [0, 100, 200].iter().all(|of| is_free(base + of + n))))
        .unwrap()
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

#[test]
fn set_on_one_node_read_on_the_others_and_find_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("cluster");
    let base = free_base();

    let dev = Dev::start(&data, base, &[]);
    let table = dev.wait_for("ready after").join("\n");
    for port in [base, base + 101, base + 202] {
        assert!(table.contains(&format!("127.0.0.1:{port}")), "{table}");
    }
    dev.wait_for("Ctrl-C");
    assert_eq!(
        dev.client(0).command(&[b"SET", b"greeting", b"hello"]).unwrap(),
        ok()
    );
    for node in 1..3 {
        assert_eq!(
            dev.client(node).command(&[b"GET", b"greeting"]).unwrap(),
            bulk("hello")
        );
    }

    // The commands, on the same cluster.
    let live = format!("127.0.0.1:{}", base + 1);
    // Nobody listens on port 1: the next endpoint is asked.
    let endpoints = format!("127.0.0.1:1,{live}");
    let run = |args: &[&str]| {
        let output = quorate()
            .args(args)
            .args(["--endpoints", &endpoints])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&["put", "k", "-5"]), (Some(0), "OK\n".to_owned()));
    assert_eq!(run(&["append", "k", "0"]), (Some(0), "3\n".to_owned()));
    assert_eq!(run(&["get", "k"]), (Some(0), "-50".to_owned()));
    assert_eq!(run(&["delete", "k", "absent"]), (Some(0), "1\n".to_owned()));
    assert_eq!(run(&["get", "k"]), (Some(1), String::new()));
    let bench = [
        "bench",
        "--ops",
        "500",
        "--warmup",
        "0",
        "--clients",
        "4",
        "--fill",
        "--keys",
        "20",
        "--json",
    ];
    let output = quorate()
        .args(bench)
        .args(["--endpoints", &live])
        .output()
        .unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert!(
        report.contains("\"ops\":500") && report.contains("\"errors\":0"),
        "{report}"
    );

    assert_eq!(dev.stop(Signal::INT), Some(0));

    let dev = Dev::start(&data, base, &[]);
    let table = dev.wait_for("ready after").join("\n");
    assert!(table.contains("existing data"), "{table}");
    assert_eq!(
        dev.client(2).command(&[b"GET", b"greeting"]).unwrap(),
        bulk("hello")
    );
    let second = quorate()
        .args(["dev", "--base-port", &base.to_string(), "--data"])
        .arg(&data)
        .output()
        .unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(
        said.contains(&format!("port {base}")) && said.contains("in use"),
        "{said}"
    );
    assert_eq!(dev.stop(Signal::TERM), Some(0));
}

#[test]
fn controllers_and_groups_have_nodes_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let (data, base) = (dir.path().join("cluster"), free_base());
    let layout = [
        "--controllers",
        "1",
        "--groups",
        "2",
        "--stores",
        "1",
        "--shards",
        "2",
    ];
    let dev = Dev::start(&data, base, &layout);
    let table = dev.wait_for("ready after ").join("\n");
    assert!(
        table.contains(" controller ") && table.contains(" group 2 "),
        "{table}"
    );
    assert_eq!(dev.client(2).command(&[b"SET", b"k", b"v"]).unwrap(), ok());
    let endpoint = format!("127.0.0.1:{base}");
    let listed = |what: &str| -> serde_json::Value {
        let command = ["ctl", "--endpoints", &endpoint, what, "--json"];
        let output = quorate().args(command).output().unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let groups = serde_json::json!([
        {"group": 1, "stores": [2], "shards": 1},
        {"group": 2, "stores": [3], "shards": 1},
    ]);
    assert_eq!(listed("config")["groups"], groups);
    let held: Vec<_> = listed("shards")
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["stores"][0].clone())
        .collect();
    assert_eq!(held.len(), 3);
    assert!(
        [1, 2, 3]
            .iter()
            .all(|store| held.contains(&serde_json::json!(store))),
        "{held:?}"
    );
    assert_eq!(dev.stop(Signal::INT), Some(0));

    // The second run finds it without being told.
    let dev = Dev::start(&data, base, &[]);
    dev.wait_for("ready after ");
    assert_eq!(dev.client(1).command(&[b"GET", b"k"]).unwrap(), bulk("v"));
    assert_eq!(listed("config")["groups"], groups);
    assert_eq!(dev.stop(Signal::TERM), Some(0));
    let other = quorate()
        .args(["dev", "--stores", "5", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    let said = String::from_utf8(other.stderr).unwrap();
    assert!(said.contains("1 controllers and 2 groups of 1 stores"), "{said}");
}

#[test]
fn a_dead_node_is_reported_and_no_node_outlives_dev() {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(dir.path(), free_base(), &["--shards", "2"]);
    let lines = dev.wait_for("ready after");
    let row = lines
        .iter()
        .find(|line| line.trim_start().starts_with("2 "))
        .expect("the row of node 2");
    let pid: i32 = row.split_whitespace().nth(4).unwrap().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let told = dev.wait_for("the other nodes go on").join("\n");
    assert!(told.contains("node 2") && told.contains("signal 9"), "{told}");
    // Two of three serve.
    let deadline = Instant::now() + TIMEOUT;
    while dev.client(0).command(&[b"SET", b"k", b"v"]).unwrap() != ok() {
        assert!(Instant::now() < deadline, "the remaining two nodes do not serve");
    }
    assert!(matches!(
        dev.client(2).command(&[b"GET", b"k"]).unwrap(),
        Reply::Bulk(_)
    ));

    kill_process(Pid::from_child(&dev.child), Signal::KILL).unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while dev.anybody_listens() {
        assert!(Instant::now() < deadline, "nodes have outlived their dev");
        std::thread::sleep(Duration::from_millis(50));
    }
}
