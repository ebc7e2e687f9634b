//! Many seeds, on as many threads as wanted, and what they amount to.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::placement::PlacementCounts;
use crate::plan::{Options, Profile};
use crate::rng::mix;
use crate::run::{Failure, Report, run};

/// What many runs amount to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs that ended.
    pub runs: u64,
    /// Those in which something did not hold, in the order of their seeds.
    pub failures: Vec<Failure>,
    /// A hash over the digests of all runs that succeeded, whatever the order in which they ended.
    pub digest: u64,
    /// Virtual time.
    pub virtual_us: u64,
    /// Events in the traces.
    pub events: u64,
    /// Messages delivered.
    pub messages: u64,
    /// Operations of clients, each of which was judged.
    pub operations: u64,
    /// Of those, how many have an unknown outcome.
    pub unknown: u64,
    /// Runs whose history as a whole was beyond the linearizability checker's budget.
    pub unjudged: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Ends of processes.
    pub deaths: u64,
    /// Changes of leader.
    pub elections: u64,
    /// Snapshots installed.
    pub snapshots: u64,
    /// Snapshots that a follower has sent for its leader.
    pub snapshots_by_followers: u64,
    /// The fewest operations of a run, and the fewest faults.
    pub least: Option<(u64, u64)>,
    /// What became of the placement.
    pub placement: PlacementCounts,
    /// The slowest recovery, until writes went through everywhere.
    pub progress_us_max: u64,
    /// From then until the placement had come about.
    pub settled_us_max: u64,
    /// And from then until all replicas were equal.
    pub convergence_us_max: u64,
    /// Wall time of the slowest run, and its seed.
    pub slowest: (Duration, u64),
    /// Wall time of all.
    pub wall: Duration,
}

impl Summary {
    fn add(&mut self, report: &Report, took: Duration) {
        self.digest = self.digest.wrapping_add(mix(report.seed, report.digest));
        self.virtual_us += report.virtual_us;
        self.events += report.events;
        self.messages += report.counts.messages;
        let operations = report.outcomes.total();
        self.operations += operations;
        self.unknown += report.outcomes.unknown;
        self.unjudged += report.outcomes.unjudged;
        self.faults += report.counts.faults;
        self.deaths += report.counts.deaths;
        self.elections += report.counts.elections;
        self.snapshots += report.counts.snapshots;
        self.snapshots_by_followers += report.counts.snapshots_by_followers;
        self.placement.add(&report.counts.placement);
        let least = self.least.unwrap_or((u64::MAX, u64::MAX));
        self.least = Some((least.0.min(operations), least.1.min(report.counts.faults)));
        if let Some(recovery) = report.recovery {
            self.progress_us_max = self.progress_us_max.max(recovery.progress_us);
            self.settled_us_max = self.settled_us_max.max(recovery.settled_us);
            self.convergence_us_max = self.convergence_us_max.max(recovery.convergence_us);
        }
        self.slowest = self.slowest.max((took, report.seed));
    }
}

/// How many seeds are run.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Which.
    pub seeds: Range<u64>,
    /// On how many threads; the results do not depend on it.
    pub threads: usize,
    /// Go on after a failure.
    pub keep_going: bool,
}

impl Batch {
    /// Simulates them all, or until one fails.
    #[must_use]
    pub fn run(&self, profile: Profile, options: &Options) -> Summary {
        let began = Instant::now();
        let next = AtomicU64::new(self.seeds.start);
        let stop = AtomicBool::new(false);
        let summary = Mutex::new(Summary::default());
        let lock = || summary.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end {
                            return;
                        }
                        let began = Instant::now();
                        let result = run(seed, profile, options);
                        let mut summary = lock();
                        summary.runs += 1;
                        match result {
                            Ok(report) => summary.add(&report, began.elapsed()),
                            Err(failure) => {
                                summary.failures.push(*failure);
                                stop.fetch_or(!self.keep_going, Ordering::Relaxed);
                            }
                        }
                    }
                });
            }
        });
        let mut summary = summary
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        summary.failures.sort_by_key(|failure| failure.seed);
        summary.wall = began.elapsed();
        summary
    }
}
