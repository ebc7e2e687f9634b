//! Who waits for whom when the processor is short: what the engine does in the background goes behind the rest.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot set up its engine has failed"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use quorate_storage::engine::suite::Factory;
use support::{Buffered, Fjall};

/// How nice each thread of this process is; the system keeps 15 bytes of a name.
fn niceness() -> BTreeMap<String, i32> {
    let threads = fs::read_dir("/proc/self/task").unwrap();
    let stats = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).ok());
    stats
        .map(|stat| {
            let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
            let nice = rest.split_whitespace().nth(16).unwrap();
            (name.to_owned(), nice.parse().unwrap())
        })
        .collect()
}

#[test]
fn flushes_go_behind_others_and_compactions_behind_flushes() {
    let own = niceness().values().copied().max().unwrap();
    let mut factory = Buffered(Fjall::new("threads"));
    let engine = factory.open();
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let found = niceness();
        let of = |name: &str| found.get(name).copied();
        let by = |more: i32| Some((own + more).min(19));
        // Threads say so of themselves, when they begin.
        if [
            of("engine-flush"),
            of("fjall:worker"),
            of("engine-compact"),
            of("engine-seal"),
        ] == [by(5), by(5), by(10), by(0)]
        {
            break;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(engine);
}
