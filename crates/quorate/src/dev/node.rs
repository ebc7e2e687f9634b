//! One node of the development cluster: a child process and its log file.

use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use clap::ValueEnum as _;
use quorate_server::config::RedisMode;
use rustix::process::{Pid, Signal, kill_process};

use super::memory::Memory;

/// Lines of a dead node's log that are shown.
const TAIL_LINES: usize = 12;
/// Settings of single nodes: from the environment they would reach all of them.
const NOT_INHERITED: [&str; 6] = [
    "QUORATE_CONFIG",
    "QUORATE_JOIN",
    "QUORATE_ROLES",
    "QUORATE_ADVERTISE_LISTEN",
    "QUORATE_ADVERTISE_PEER",
    "QUORATE_ADVERTISE_HTTP",
];

/// A node's three ports, on loopback.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) client: u16,
    pub(super) peer: u16,
    pub(super) http: u16,
}

impl Ports {
    /// Of the n-th node, counted from 0.
    pub(super) fn of(base: u16, n: u16) -> Self {
        Self {
            client: base + n,
            peer: base + 100 + n,
            http: base + 200 + n,
        }
    }
}

/// A child process.
///
/// It holds the reading end of a pipe as its standard input and stops when the pipe closes. That happens however
/// `dev` ends, SIGKILL included, so no node is left behind.
pub(super) struct Node {
    id: u16,
    ports: Ports,
    child: Child,
    log: PathBuf,
    /// Length of the log when the child was started: what is before is another run's.
    log_from: u64,
    ended: Option<ExitStatus>,
    /// Its end has been reported, or was wanted.
    reported: bool,
}

impl Node {
    /// Starts node `id` of the cluster whose ports are `all`.
    pub(super) fn start(
        id: u16,
        data: &Path,
        all: &[Ports],
        memory: &Memory,
        mode: RedisMode,
    ) -> Result<Self, String> {
        let ports = all[usize::from(id) - 1];
        let log = data.join(format!("node-{id}.log"));
        let cannot = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what}: {error}");
        let out = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|e| cannot(&format!("write {}", log.display()), &e))?;
        let log_from = out.metadata().map_or(0, |meta| meta.len());
        let err = out.try_clone().map_err(|e| cannot("share the log file", &e))?;
        let layout = memory.layout;
        let first = usize::from(layout.first_members());
        let mut birth = Vec::new();
        if usize::from(id) > first {
            birth.push(("--join", format!("127.0.0.1:{}", all[0].client)));
        } else if first > 1 {
            let members = all[..first].iter().enumerate();
            let members = members.map(|(n, p)| format!("{}=127.0.0.1:{}", n + 1, p.peer));
            birth.push(("--store-id", id.to_string()));
            birth.push(("--bootstrap", members.collect::<Vec<_>>().join(",")));
            birth.push(("--bootstrap-token", memory.bootstrap_token.clone()));
        }
        let mode = mode
            .to_possible_value()
            .map(|v| v.get_name().to_owned())
            .unwrap_or_default();

        let exe = std::env::current_exe().map_err(|e| cannot("find the own executable", &e))?;
        let mut command = Command::new(exe);
        command
            .arg("serve")
            .arg("--exit-with-stdin")
            .arg("--data")
            .arg(data.join(format!("node-{id}")));
        for (flag, value) in [
            ("--roles", layout.roles(id).to_owned()),
            ("--shards", memory.shards.to_string()),
            ("--listen", format!("127.0.0.1:{}", ports.client)),
            ("--peer", format!("127.0.0.1:{}", ports.peer)),
            ("--http", format!("127.0.0.1:{}", ports.http)),
            ("--redis-mode", mode),
        ]
        .into_iter()
        .chain(birth)
        {
            command.arg(flag).arg(value);
        }
        for name in NOT_INHERITED {
            command.env_remove(name);
        }
        // A process group of its own: Ctrl-C in the terminal must reach `dev` only, which then stops the nodes
        // once; a node that gets two signals ends at once.
        let child = command
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .process_group(0)
            .spawn()
            .map_err(|e| cannot(&format!("start node {id}"), &e))?;
        Ok(Self {
            id,
            ports,
            child,
            log,
            log_from,
            ended: None,
            reported: false,
        })
    }

    /// Whether the directory of node `id` holds a store already.
    pub(super) fn is_formatted(id: u16, data: &Path) -> bool {
        data.join(format!("node-{id}")).join("STORE").exists()
    }

    pub(super) fn id(&self) -> u16 {
        self.id
    }

    pub(super) fn ports(&self) -> Ports {
        self.ports
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it ran when it was last looked at.
    pub(super) fn is_running(&self) -> bool {
        self.ended.is_none()
    }

    /// Looks whether it runs.
    pub(super) fn look(&mut self) -> bool {
        if self.ended.is_none() {
            // An error here means that there is no such child, which cannot be before it was waited for.
            self.ended = self.child.try_wait().unwrap_or(None);
        }
        self.ended.is_none()
    }

    /// Looks whether it runs; the first time that it does not, tells how it ended and what it said last.
    pub(super) fn newly_dead(&mut self) -> Option<String> {
        if self.look() || self.reported {
            return None;
        }
        self.reported = true;
        let status = self.ended?;
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => status.to_string(),
        };
        let mut text = format!("\nnode {} (pid {}) stopped: {how}", self.id, self.pid());
        match self.tail() {
            Ok(tail) if tail.is_empty() => text.push_str("; it logged nothing"),
            Ok(tail) => {
                text.push_str(&format!("; the end of {}:", self.log.display()));
                for line in tail {
                    text.push_str("\n  | ");
                    text.push_str(&line);
                }
            }
            Err(error) => text.push_str(&format!("; its log cannot be read: {error}")),
        }
        text.push_str("\nthe other nodes go on");
        Some(text)
    }

    /// Asks it to stop.
    pub(super) fn terminate(&mut self) {
        if self.look() {
            // Not waited for yet, so the pid is still this child's. It may have ended meanwhile; then there is
            // nothing to do.
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
    }

    /// Ends it, whatever it does, and waits for that.
    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        self.ended = self.child.wait().ok();
    }

    fn tail(&self) -> std::io::Result<Vec<String>> {
        let mut file = std::fs::File::open(&self.log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(self.log_from.max(end.saturating_sub(16 * 1024))))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        Ok(lines[from..].iter().map(|line| (*line).to_owned()).collect())
    }
}
