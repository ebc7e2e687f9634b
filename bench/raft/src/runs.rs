//! One run: a library, a mode, a workload; and what is measured of it.

use std::process::Command as Process;
use std::time::Instant;

use crate::allocations;
use crate::cluster::{Cluster, Member, Proposing, Source};
use crate::quorate::Quorate;
use crate::raft_rs::RaftRs;

/// Entries that every run commits before it is measured.
const WARM_UP: u64 = 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Library {
    RaftRs,
    Quorate,
}

/// What runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) library: Library,
    /// See [`RaftRs`] and [`Quorate`].
    pub(crate) mode: &'static str,
    pub(crate) proposing: Proposing,
    pub(crate) source: Source,
}

/// What all members together took.
pub(crate) struct Taken {
    pub(crate) seconds: f64,
    pub(crate) allocations: u64,
}

impl Run {
    /// Commits and applies `entries` on all members.
    pub(crate) fn take(&self, entries: u64) -> Taken {
        match self.library {
            Library::RaftRs => self.take_with::<RaftRs>(entries),
            Library::Quorate => self.take_with::<Quorate>(entries),
        }
    }

    fn take_with<M: Member>(&self, entries: u64) -> Taken {
        let mut cluster = Cluster::<M>::new(self.mode, self.source);
        cluster.run(self.proposing, WARM_UP);
        let (allocations, start) = (allocations::so_far(), Instant::now());
        cluster.run(self.proposing, entries);
        Taken {
            seconds: start.elapsed().as_secs_f64(),
            allocations: allocations::so_far() - allocations,
        }
    }

    /// Allocations per entry.
    pub(crate) fn allocations(&self) -> f64 {
        let entries = 16_384;
        self.take(entries).allocations as f64 / entries as f64
    }

    /// Instructions per entry: the slope between two lengths, so that what is done once cancels out.
    pub(crate) fn instructions(&self) -> f64 {
        let entries = 2048;
        let (short, long) = (self.collected(entries), self.collected(2 * entries));
        (long - short) as f64 / entries as f64
    }

    /// Instructions of a whole process that does this run, counted by callgrind.
    fn collected(&self, entries: u64) -> u64 {
        let program = std::env::current_exe().expect("this program has a path");
        let output = Process::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(program)
            .args(self.arguments(entries))
            .output()
            .expect("valgrind is installed");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        text.lines()
            .find_map(|line| line.split_once("Collected :"))
            .and_then(|(_, count)| count.trim().parse().ok())
            .unwrap_or_else(|| panic!("callgrind says how many instructions it counted:\n{text}"))
    }

    /// The command line of a process that does this run and nothing else.
    pub(crate) fn arguments(&self, entries: u64) -> [String; 7] {
        let library = match self.library {
            Library::RaftRs => "raft-rs",
            Library::Quorate => "quorate",
        };
        let (how, count) = match self.proposing {
            Proposing::Each(count) => ("each", count),
            Proposing::Batch(count) => ("batch", count),
        };
        let source = match self.source {
            Source::Owned => "owned",
            Source::Shared => "shared",
        };
        [
            "run".into(),
            library.into(),
            self.mode.into(),
            how.into(),
            count.to_string(),
            source.into(),
            entries.to_string(),
        ]
    }

    /// The inverse of [`Run::arguments`], with the entries to commit.
    pub(crate) fn parse(arguments: &[String]) -> Option<(Self, u64)> {
        let [run, library, mode, how, count, source, entries] = arguments else {
            return None;
        };
        let count = count.parse().ok()?;
        let run = Self {
            library: match (run.as_str(), library.as_str()) {
                ("run", "raft-rs") => Library::RaftRs,
                ("run", "quorate") => Library::Quorate,
                _ => return None,
            },
            mode: MODES.into_iter().find(|known| mode == known)?,
            proposing: match how.as_str() {
                "each" => Proposing::Each(count),
                "batch" => Proposing::Batch(count),
                _ => return None,
            },
            source: match source.as_str() {
                "owned" => Source::Owned,
                "shared" => Source::Shared,
                _ => return None,
            },
        };
        Some((run, entries.parse().ok()?))
    }
}

/// All modes of both libraries.
const MODES: [&str; 6] = ["plain", "batch_append", "lazy_commit", "store", "sync", "eager"];
