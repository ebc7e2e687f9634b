//! Clusters of real processes for the tests.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "part of several test programs, each of which uses some of it"
)]

pub mod bulk;
pub mod control;
pub mod host;
pub mod http;
pub mod proxy;
pub mod record;
pub mod tokens;

use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use quorate::client::slots::SlotMap;
use quorate::client::{Client, Reply};
use quorate::dev::probe;
use rustix::process::{Pid, Signal, kill_process};

pub const SHARDS: u16 = 8;
pub const TIMEOUT: Duration = Duration::from_secs(10);

pub fn quorate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    // What the tests run must not depend on who runs them.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORATE_") && !name.to_string_lossy().contains("_STUB_") {
            command.env_remove(name);
        }
    }
    command
}

/// Ports that were free a moment ago. They are chosen below the range from which the system takes the ports of
/// outgoing connections, so that a node that is down does not lose its port to one of them; and by process, so
/// that test programs that run side by side do not meet.
pub fn free_ports<const N: usize>() -> [u16; N] {
    let mut ports = [0; N];
    ports.fill_with(free_port);
    ports
}

fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 10_000 + (std::process::id() % 200) as u16 * 100;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 2000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// One node: how it is started, and its process while it runs.
pub struct Node {
    pub id: u16,
    pub client: u16,
    pub peer: u16,
    pub http: u16,
    pub data: PathBuf,
    pub child: Option<Child>,
    pub args: Vec<String>,
}

impl Node {
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.client)
    }

    pub fn command(&self) -> Command {
        self.command_on([self.client, self.peer, self.http])
    }

    /// The same node on other ports.
    pub fn command_on(&self, [client, peer, http]: [u16; 3]) -> Command {
        let mut command = quorate();
        command
            .arg("serve")
            .args(&self.args)
            .arg("--data")
            .arg(&self.data);
        for (flag, port) in [("--listen", client), ("--peer", peer), ("--http", http)] {
            command.arg(flag).arg(format!("127.0.0.1:{port}"));
        }
        command
    }

    pub fn start(&mut self) {
        assert!(self.child.is_none(), "node {} runs already", self.id);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        // The node watches the pipe: it stops when the test program is gone, however that ended.
        let mut command = self.command();
        command.arg("--exit-with-stdin");
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    pub fn log(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    /// Bytes of memory that its process has (`VmRSS`) or had at most (`VmHWM`).
    pub fn memory(&self, which: &str) -> u64 {
        let id = self.child.as_ref().expect("the node runs").id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(which)).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("the node runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(
            Pid::from_child(self.child.as_ref().expect("the node runs")),
            signal,
        )
        .unwrap();
    }

    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        let child = self.child.as_mut().expect("the node runs");
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                self.child = None;
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "node {} has not stopped after {within:?}",
                self.id
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Nodes on loopback, in a temporary directory.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub dir: tempfile::TempDir,
}

impl Cluster {
    /// Starts `n` nodes with further arguments for all of them, and waits until they are ready.
    pub fn start(n: u16, more: &[&str]) -> Self {
        let mut cluster = Self::prepare(n, more);
        for node in &mut cluster.nodes {
            node.start();
        }
        cluster.wait_ready();
        cluster
    }

    /// One node, which has begun a cluster by itself.
    pub fn alone() -> Self {
        Self::alone_with(&[])
    }

    /// The same with arguments.
    pub fn alone_with(args: &[&str]) -> Self {
        let mut cluster = Self {
            nodes: Vec::new(),
            dir: tempfile::Builder::new()
                .prefix("quorate-test-")
                .tempdir()
                .unwrap(),
        };
        cluster.add(args);
        cluster.wait_ready();
        cluster
    }

    /// The same without starting them.
    pub fn prepare(n: u16, more: &[&str]) -> Self {
        Self::prepare_each(n, SHARDS, more, |_, peers| peers.to_vec())
    }

    /// The same with so many shards, and with the peer ports by which each node is to reach the others: `reached_by` is
    /// given the node's number from 0 and the peer ports of all.
    pub fn prepare_each(
        n: u16,
        shards: u16,
        more: &[&str],
        mut reached_by: impl FnMut(usize, &[u16]) -> Vec<u16>,
    ) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("quorate-test-")
            .tempdir()
            .unwrap();
        let ports: Vec<[u16; 3]> = (0..n).map(|_| free_ports()).collect();
        let peers: Vec<u16> = ports.iter().map(|[_, peer, _]| *peer).collect();
        let nodes = (1..)
            .zip(ports)
            .map(|(id, [client, peer, http]): (u16, _)| {
                let data = dir.path().join(format!("node-{id}"));
                let members: Vec<String> = (1..)
                    .zip(reached_by(usize::from(id) - 1, &peers))
                    .map(|(id, peer): (u16, _)| format!("{id}=127.0.0.1:{peer}"))
                    .collect();
                let mut args: Vec<String> = Vec::new();
                for (flag, value) in [
                    ("--store-id", id.to_string()),
                    ("--bootstrap", members.join(",")),
                    ("--bootstrap-token", dir.path().display().to_string()),
                    ("--shards", shards.to_string()),
                ] {
                    args.extend([flag.to_owned(), value]);
                }
                args.extend(more.iter().map(|arg| (*arg).to_owned()));
                Node {
                    id,
                    client,
                    peer,
                    http,
                    data,
                    child: None,
                    args,
                }
            })
            .collect();
        Self { nodes, dir }
    }

    /// A node that is not one of the first members: with no other arguments it begins a cluster of its own, with `--join`
    /// it joins one. It is started, and not waited for.
    pub fn add(&mut self, args: &[&str]) {
        let id = self.nodes.len() as u16 + 1;
        let [client, peer, http] = free_ports();
        let mut node = Node {
            id,
            client,
            peer,
            http,
            data: self.dir.path().join(format!("node-{id}")),
            child: None,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        };
        node.start();
        self.nodes.push(node);
    }

    /// SIGKILL to all nodes, one after the other; then they are started, and ready.
    pub fn restart(&mut self) {
        for node in &mut self.nodes {
            node.kill();
        }
        for node in &mut self.nodes {
            node.start();
        }
        self.wait_ready();
    }

    pub fn addrs(&self) -> Vec<String> {
        self.nodes.iter().map(Node::addr).collect()
    }

    /// Waits until every node that runs is ready; panics with its log if it is not in a minute.
    pub fn wait_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        for node in self.nodes.iter_mut() {
            let Some(child) = &mut node.child else { continue };
            while let Err(why) = probe::ready(node.http) {
                let ended = child.try_wait().unwrap();
                if ended.is_some() || Instant::now() > deadline {
                    let log = std::fs::read_to_string(node.data.with_extension("log")).unwrap_or_default();
                    let tail: Vec<&str> = log.lines().rev().take(20).collect();
                    let tail: Vec<&str> = tail.into_iter().rev().collect();
                    panic!(
                        "node {} is not ready: {why}; ended: {ended:?}\n{}",
                        node.id,
                        tail.join("\n")
                    );
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// The node that leads the shard of `slot`, as the first node that answers sees it; `None` if none is known.
    pub fn leader_of(&self, slot: u16) -> Option<usize> {
        let asked = self
            .nodes
            .iter()
            .filter(|node| node.child.is_some())
            .find_map(|node| {
                let mut client = Client::connect(&node.addr(), Duration::from_secs(2)).ok()?;
                let reply = client.command(&[b"CLUSTER", b"SLOTS"]).ok()?;
                let mut map = SlotMap::default();
                map.take(&reply, &node.addr()).then_some(map)
            })?;
        let addr = &asked.addrs()[asked.node_of_slot(slot)?];
        self.nodes.iter().position(|node| node.addr() == *addr)
    }

    /// The same, once it is known. No answer is a failure of the test: a test that means to kill leaders must not
    /// quietly kill somebody else.
    pub fn wait_leader_of(&self, slot: u16) -> usize {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(node) = self.leader_of(slot) {
                return node;
            }
            assert!(
                Instant::now() < deadline,
                "CLUSTER SLOTS names no leader for slot {slot}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn client(&self, node: usize) -> Client {
        Client::connect(&self.nodes[node].addr(), TIMEOUT).unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if std::thread::panicking() {
            for node in &self.nodes {
                let log = std::fs::read_to_string(node.log()).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let from = lines.len().saturating_sub(15);
                eprintln!("--- end of node {}'s log\n{}", node.id, lines[from..].join("\n"));
            }
        }
    }
}

/// One command; errors of the server are replies.
pub fn ask(client: &mut Client, command: &str) -> Reply {
    let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
    client.command(&words).unwrap()
}

pub fn ok() -> Reply {
    Reply::Simple("OK".to_owned())
}

pub fn bulk(text: &str) -> Reply {
    Reply::Bulk(text.as_bytes().to_vec())
}

/// Runs a command that should end by itself; its exit code and standard error.
pub fn run_to_end(mut command: Command, within: Duration) -> (Option<i32>, String) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = pipe.read_to_string(&mut text);
        text
    });
    let deadline = Instant::now() + within;
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!(
                "still running after {within:?}; it said: {}",
                reader.join().unwrap()
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    (code, reader.join().unwrap())
}

/// A page of the node's HTTP port. Asked for again if it takes long: the machine may be busy, and a test of other things
/// does not judge that.
pub fn page(node: &Node, path: &str) -> String {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        match probe::get(node.http, path) {
            Ok((code, body)) => {
                assert_eq!(code, 200, "{path} of node {}: {body}", node.id);
                return body;
            }
            Err(error) => assert!(Instant::now() < deadline, "{path} of node {}: {error}", node.id),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A number of `/metrics`, by its name behind `quorate_`, labels included; summed up over all labels without them.
pub fn metric(node: &Node, name: &str) -> f64 {
    let body = page(node, "/metrics");
    let of = |line: &str| {
        let (left, value) = line.strip_prefix("quorate_")?.rsplit_once(' ')?;
        let matches = left == name || left.split_once('{').is_some_and(|(family, _)| family == name);
        matches.then(|| value.parse::<f64>().unwrap())
    };
    let found: Vec<f64> = body.lines().filter_map(of).collect();
    assert!(!found.is_empty(), "no metric {name}");
    found.iter().sum()
}

/// Bytes of the files under a directory; one that goes while this looks is passed over.
pub fn bytes_under(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => bytes_under(&entry.path()),
            Ok(about) => about.len(),
            Err(_) => 0,
        })
        .sum()
}

/// All files under a directory.
pub fn files_under(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path)
            } else {
                found.push(path)
            }
        }
    }
    found.sort();
    found
}
