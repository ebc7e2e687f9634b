//! Much data, fast: pipelined `SET`s with values that do not compress.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quorate::client::Reply;
use quorate::client::resp;
use quorate::rng::Rng;

/// Commands on their way on a connection.
const DEPTH: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(30);
/// Beyond this a key that is always refused fails the test.
const ATTEMPTS: usize = 1_000;

/// `count` values under the names that `key` gives, through all of `addrs` at once; an answer that is no OK is asked
/// for again. Returns how many were.
pub fn load(addrs: &[String], count: u64, value_bytes: usize, key: impl Fn(u64) -> String + Sync) -> u64 {
    let next = AtomicU64::new(0);
    let repeated = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for (lane, addr) in addrs.iter().enumerate() {
            let (next, repeated, key) = (&next, &repeated, &key);
            scope.spawn(move || {
                let mut lane = Lane::connect(addr, lane as u64, value_bytes);
                loop {
                    let from = next.fetch_add(DEPTH as u64, Ordering::Relaxed);
                    if from >= count {
                        return;
                    }
                    let mut names: Vec<String> = (from..count.min(from + DEPTH as u64)).map(key).collect();
                    for _ in 0..ATTEMPTS {
                        names = lane.set(names);
                        if names.is_empty() {
                            break;
                        }
                        repeated.fetch_add(names.len() as u64, Ordering::Relaxed);
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    assert!(names.is_empty(), "never set: {names:?}");
                }
            });
        }
    });
    repeated.into_inner()
}

struct Lane {
    stream: TcpStream,
    rng: Rng,
    value: Vec<u8>,
    out: Vec<u8>,
    buf: Vec<u8>,
}

impl Lane {
    fn connect(addr: &str, seed: u64, value_bytes: usize) -> Self {
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_write_timeout(Some(TIMEOUT)).unwrap();
        Self {
            stream,
            rng: Rng::new(seed),
            value: vec![0; value_bytes],
            out: Vec::new(),
            buf: Vec::new(),
        }
    }

    /// Sets each; returns those that are not known to be set.
    fn set(&mut self, names: Vec<String>) -> Vec<String> {
        self.out.clear();
        for name in &names {
            self.rng.fill(&mut self.value);
            resp::encode(&mut self.out, &[b"SET", name.as_bytes(), &self.value]);
        }
        self.stream.write_all(&self.out).unwrap();
        let deadline = Instant::now() + TIMEOUT;
        let mut failed = Vec::new();
        for name in names {
            match self.reply(deadline) {
                Reply::Simple(_) => {}
                Reply::Error(_) => failed.push(name),
                other => panic!("SET {name}: {other:?}"),
            }
        }
        failed
    }

    fn reply(&mut self, deadline: Instant) -> Reply {
        loop {
            if let Some((reply, len)) = resp::decode(&self.buf).unwrap() {
                self.buf.drain(..len);
                return reply;
            }
            assert!(Instant::now() < deadline, "no answer in {TIMEOUT:?}");
            let mut some = [0; 4096];
            let n = self.stream.read(&mut some).unwrap();
            assert!(n > 0, "the node closed the connection");
            self.buf.extend_from_slice(&some[..n]);
        }
    }
}
