//! The example program as three processes on loopback: its leader is killed with SIGKILL, what it acknowledged
//! survives, the others go on, and it catches up when it is started again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for the slowest machine; a test that comes here has failed.
const DEADLINE: Duration = Duration::from_secs(60);

struct Group {
    dir: tempfile::TempDir,
    peers: Vec<String>,
    clients: Vec<String>,
    processes: BTreeMap<usize, Child>,
}

/// Cargo builds the examples of a package before its tests run, beside them.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the test's path");
    let target = test.parent().and_then(Path::parent).expect("target/PROFILE/deps");
    let program = target.join("examples").join("kv");
    assert!(
        program.exists(),
        "{}: build it with the tests of the package",
        program.display()
    );
    program
}

fn free_addresses(count: usize) -> Vec<String> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("bind"))
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().expect("address").to_string())
        .collect()
}

impl Group {
    fn new() -> Self {
        let mut addresses = free_addresses(6);
        let clients = addresses.split_off(3);
        let mut group = Group {
            dir: tempfile::tempdir().expect("a directory"),
            peers: addresses,
            clients,
            processes: BTreeMap::new(),
        };
        (1..=3).for_each(|id| group.spawn(id));
        group
    }

    fn spawn(&mut self, id: usize) {
        let members = (1..=3).map(|id| format!("{id}={}", self.peers[id - 1]));
        let child = Command::new(program())
            .arg(id.to_string())
            .arg(self.dir.path().join(id.to_string()))
            .arg(&self.clients[id - 1])
            .args(members)
            .stdout(Stdio::null())
            .spawn()
            .expect("the example starts");
        self.processes.insert(id, child);
    }

    /// `kill -9`.
    fn kill(&mut self, id: usize) {
        let mut child = self.processes.remove(&id).expect("it runs");
        child.kill().expect("kill");
        child.wait().expect("wait");
    }

    /// Asks one member one thing; `None` if it cannot be reached.
    fn ask(&self, id: usize, line: &str) -> Option<String> {
        let client = TcpStream::connect(&self.clients[id - 1]).ok()?;
        client.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        (&client).write_all(format!("{line}\n").as_bytes()).ok()?;
        let mut answer = String::new();
        BufReader::new(&client).read_line(&mut answer).ok()?;
        (!answer.is_empty()).then(|| answer.trim_end().to_owned())
    }

    /// Asks whoever runs until it works. A command whose outcome is unknown is sent again: these are idempotent.
    fn write(&self, line: &str) -> usize {
        self.until(line, |group| {
            group
                .processes
                .keys()
                .copied()
                .find(|id| group.ask(*id, line).is_some_and(|answer| answer == "OK"))
        })
    }

    fn until<T>(&self, what: &str, mut attempt: impl FnMut(&Self) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = attempt(self) {
                return found;
            }
            assert!(Instant::now() < end, "in vain: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn digests(&self) -> Option<Vec<String>> {
        let digest = |id| {
            let status = self.ask(id, "STATUS")?;
            status.rsplit(' ').next().map(str::to_owned)
        };
        (1..=3).map(digest).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for child in self.processes.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn three_processes_survive_the_kill_of_their_leader() {
    let mut group = Group::new();
    let leader = group.write("SET before 0");
    for n in 1..=50 {
        group.write(&format!("SET key-{n} {n}"));
    }
    group.kill(leader);
    // Every acknowledged write is there, read linearizably from each member that is left.
    for id in group.processes.keys().copied().collect::<Vec<_>>() {
        for n in [1, 25, 50] {
            let value = group.until("a read without the leader", |group| {
                group
                    .ask(id, &format!("GET key-{n}"))
                    .filter(|answer| !answer.starts_with("ERROR"))
            });
            assert_eq!(value, format!("VALUE {n}"), "member {id}");
        }
    }
    let second = group.write("SET after 1");
    assert_ne!(second, leader);
    for n in 51..=100 {
        group.write(&format!("SET key-{n} {n}"));
    }
    group.spawn(leader);
    group.until("the killed member has all of it again", |group| {
        group
            .ask(leader, "GET key-100")
            .filter(|answer| answer == "VALUE 100")
    });
    group.until("all three have the same state", |group| {
        group
            .digests()
            .filter(|digests| digests.windows(2).all(|pair| pair[0] == pair[1]))
    });
    // And once more, all at once.
    (1..=3).for_each(|id| group.kill(id));
    (1..=3).for_each(|id| group.spawn(id));
    let value = group.until("a read after all were killed", |group| {
        group
            .ask(2, "GET key-77")
            .filter(|answer| !answer.starts_with("ERROR"))
    });
    assert_eq!(value, "VALUE 77");
}

#[test]
fn the_readme_shows_the_program_as_it_is_and_it_is_short() {
    let program = include_str!("../examples/kv.rs");
    assert!(program.lines().count() < 150, "{} lines", program.lines().count());
    let readme = include_str!("../README.md");
    assert!(
        readme.contains(program),
        "crates/node/README.md must hold examples/kv.rs to the letter"
    );
}
