//! What the appending clients saw: as a history for `quorate check`, and how long it took.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::{Duration, Instant};

use quorate_sim::linearizability::{
    Answer, Command, History, ModelKind, Operation, Outcome, Unit, write_history,
};

use super::quorate;
use super::tokens::{Fate, Sent, token};

fn ns(time: Duration) -> u64 {
    time.as_nanos() as u64
}

/// All appends, with times since `started`; reads may be added.
pub struct Record {
    history: History,
    started: Instant,
}

impl Record {
    pub fn new(clients: &[Vec<Sent>], started: Instant) -> Self {
        let mut history = History::new(Unit::Nanoseconds);
        for (client, sent) in clients.iter().enumerate() {
            for sent in sent {
                let at = ns(sent.end);
                let outcome = match (sent.fate, sent.length) {
                    (Fate::Acknowledged, Some(length)) => Outcome::Done {
                        at,
                        answer: Answer::Int(length),
                    },
                    (Fate::Acknowledged, None) => panic!("an append without its length"),
                    (Fate::NotApplied, _) => Outcome::NotApplied { at },
                    (Fate::Unknown, _) => Outcome::Unknown,
                };
                history.push(Operation {
                    client: client as u64,
                    key: sent.key.clone().into(),
                    command: Command::append(token(client, sent.n)),
                    invoked: ns(sent.call),
                    outcome,
                });
            }
        }
        Self { history, started }
    }

    /// Reads a key, and takes that down as another client's.
    pub fn read(&mut self, key: &str, read: impl FnOnce() -> String) -> String {
        let invoked = ns(self.started.elapsed());
        let value = read();
        let at = ns(self.started.elapsed());
        let found = (!value.is_empty()).then(|| value.clone().into());
        self.history.push(Operation {
            client: u64::from(u32::MAX),
            key: key.to_owned().into(),
            command: Command::Get,
            invoked,
            outcome: Outcome::Done {
                at,
                answer: Answer::Value(found),
            },
        });
        value
    }

    /// Writes the history to a file and has `quorate check` judge it; anything but "linearizable" fails the test.
    pub fn check(&self, path: &Path) {
        let began = Instant::now();
        let mut out = BufWriter::new(File::create(path).unwrap());
        write_history(&self.history, ModelKind::Kv, &mut out).unwrap();
        drop(out);
        let output = quorate()
            .args(["check", "--budget", "300", "--memory", "4096"])
            .arg(path)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let why = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}{why}");
        println!(
            "quorate check: {} ({} operations, {} MiB, {:.1} s)",
            said.trim().rsplit(": ").next().unwrap(),
            self.history.operations().len(),
            std::fs::metadata(path).unwrap().len() >> 20,
            began.elapsed().as_secs_f64()
        );
    }
}

/// Latencies of the acknowledged appends that were sent in a span of time, sorted, each with when it was sent.
pub struct Latencies(Vec<(Duration, Duration)>);

impl Latencies {
    /// Those of the clients that `which` names, sent in `[from, to)` since the start.
    pub fn of(
        clients: &[Vec<Sent>],
        which: impl Fn(usize) -> bool,
        (from, to): (Duration, Duration),
    ) -> Self {
        let chosen = clients.iter().enumerate().filter(|(client, _)| which(*client));
        let mut all: Vec<(Duration, Duration)> = chosen
            .flat_map(|(_, sent)| sent)
            .filter(|sent| sent.fate == Fate::Acknowledged && from <= sent.call && sent.call < to)
            .map(|sent| (sent.end - sent.call, sent.call))
            .collect();
        all.sort_unstable();
        assert!(!all.is_empty(), "no append between {from:?} and {to:?}");
        Self(all)
    }

    /// Those that were sent at such a time; there may be none.
    pub fn only(&self, at: impl Fn(Duration) -> bool) -> Self {
        Self(self.0.iter().copied().filter(|(_, call)| at(*call)).collect())
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// In milliseconds; not a number if there are none.
    pub fn percentile(&self, percent: usize) -> f64 {
        self.per_mille(percent * 10)
    }

    /// In milliseconds; not a number if there are none.
    pub fn per_mille(&self, share: usize) -> f64 {
        let rank = (self.0.len() * share).div_ceil(1000).max(1) - 1;
        let found = self.0.get(rank);
        found.map_or(f64::NAN, |(latency, _)| latency.as_secs_f64() * 1e3)
    }
}
