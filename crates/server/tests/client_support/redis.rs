//! A real Redis beside a session of ours.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{FakeStore, Harness, encode, view};

/// A Redis of our own, killed at the end. It listens on a socket file and on no port: a port that was free a moment ago may
/// be another test's by the time that Redis binds it.
pub struct Redis {
    process: Child,
    socket: PathBuf,
}

impl Redis {
    pub fn start() -> Option<Redis> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let socket = std::env::temp_dir().join(format!("quorate-redis-{}-{number}", std::process::id()));
        let process = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir(std::env::temp_dir())
            .spawn();
        match process {
            Ok(process) => Some(Redis { process, socket }),
            Err(error) => {
                assert_ne!(
                    std::env::var("CI").as_deref(),
                    Ok("true"),
                    "redis-server: {error}"
                );
                println!("skipped: redis-server: {error}");
                None
            }
        }
    }

    pub fn connect(&self) -> Peer {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(socket) => {
                    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    return Peer { socket, marks: 0 };
                }
                Err(error) => assert!(Instant::now() < end, "redis-server does not answer: {error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// A connection to Redis.
pub struct Peer {
    socket: UnixStream,
    marks: u32,
}

impl Peer {
    /// The raw reply. It ends where that of an ECHO sent behind begins, or with the connection.
    pub fn ask(&mut self, request: &[u8]) -> Vec<u8> {
        self.marks += 1;
        let mark = format!("end of reply {}", self.marks);
        let end = format!("${}\r\n{mark}\r\n", mark.len()).into_bytes();
        self.socket.write_all(request).unwrap();
        // After a protocol error the other side may be closed already.
        let _ = self.socket.write_all(&encode(&[b"ECHO", mark.as_bytes()]));
        let mut reply = Vec::new();
        let mut piece = [0; 65536];
        while !reply.ends_with(&end) {
            match self.socket.read(&mut piece) {
                Ok(0) | Err(_) => return reply,
                Ok(length) => reply.extend_from_slice(&piece[..length]),
            }
        }
        reply.truncate(reply.len() - end.len());
        reply
    }
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A session of ours beside a connection to Redis.
pub struct Pair {
    peer: Peer,
    pub ours: Harness,
    store: FakeStore,
    compared: usize,
    differences: Vec<String>,
}

impl Pair {
    pub fn new(redis: &Redis) -> Self {
        let mut peer = redis.connect();
        peer.ask(b"FLUSHALL\r\n");
        let id = String::from_utf8(peer.ask(b"CLIENT ID\r\n")).unwrap();
        let mut view = view(&[0]);
        view.config.wire.frame_bytes_max = 600 << 20;
        let store = FakeStore::new(view.routes.clone());
        let ours = Harness::new(view, id[1..].trim_end().parse().unwrap());
        Pair {
            peer,
            ours,
            store,
            compared: 0,
            differences: Vec::new(),
        }
    }

    pub fn compare(&mut self, shown: &str, request: &[u8]) {
        self.ours.wall_ms = wall_ms();
        self.ours.send(request);
        self.ours.settle(&mut self.store);
        let ours = self.ours.session.output().split();
        let theirs = self.peer.ask(request);
        self.compared += 1;
        if ours != theirs {
            let text = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(600)]).into_owned();
            self.differences.push(format!(
                "{shown}\n   ours: {:?}\n  redis: {:?}",
                text(&ours),
                text(&theirs)
            ));
        }
    }

    /// Commands with plain words, one to a line.
    pub fn lines(&mut self, script: &str) {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            self.compare(line, format!("{line}\r\n").as_bytes());
        }
    }

    pub fn finish(self) -> usize {
        assert!(
            self.differences.is_empty(),
            "{} of {} differ:\n{}",
            self.differences.len(),
            self.compared,
            self.differences.join("\n")
        );
        self.compared
    }
}
