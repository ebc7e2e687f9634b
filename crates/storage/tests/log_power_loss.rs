//! After power loss at any disk operation the log holds an exact prefix of its batches, at least up to the
//! last sync that succeeded, and what it showed once after an open it shows for ever (P1, P2).
//!
//! Each seed drives a random workload over a few shards with small segments, so that overwriting, rotation,
//! recycling and moving of stragglers happen all the time, and lets the process or the machine die at random
//! operations, those of the recovery included. `QUORATE_SEEDS=10000` sets the number of seeds,
//! `QUORATE_SEED=n` runs a single one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod log_common;

use std::collections::BTreeMap;

use log_common::{Model, ModelShard, SHARDS, describe, identity, model_of, payload};
use quorate_raft::{Entry, HardState, Index, ReplicaId, Term};
use quorate_storage::ShardId;
use quorate_storage::disk::{Fault, SimDisk, SplitMix64, is_down};
use quorate_storage::log::{LogBatch, LogError, LogOp, LogOptions, OpenError, RaftLog};

const ROUNDS: u64 = 6;
const DEFAULT_SEEDS: u64 = 1000;

#[test]
fn power_loss_leaves_a_prefix_of_the_batches_that_holds_every_synced_one() {
    let env = |name| {
        std::env::var(name)
            .ok()
            .and_then(|value: String| value.parse::<u64>().ok())
    };
    let seeds = match env("QUORATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..env("QUORATE_SEEDS").unwrap_or(DEFAULT_SEEDS),
    };
    let mut totals = Totals::default();
    for seed in seeds.clone() {
        let run = std::panic::catch_unwind(|| run(seed));
        match run {
            Ok(counted) => totals.add(&counted),
            Err(panic) => {
                eprintln!(
                    "seed {seed} failed; replay: QUORATE_SEED={seed} cargo test -p quorate-storage --test \
                     log_power_loss -- --nocapture"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{} seeds: {totals:?}", seeds.end - seeds.start);
    if seeds.end - seeds.start >= 100 {
        // The run is worth nothing if it does not reach what it is about.
        assert!(totals.power_losses > 100 && totals.kills > 100 && totals.failed_syncs > 20);
        assert!(totals.failed_writes > 20 && totals.lost_in_open > 20 && totals.unsynced_lost > 20);
        assert!(totals.recycled > 100 && totals.moved > 20, "{totals:?}");
    }
}

/// One seed. Panics at the first thing that does not hold.
pub(crate) fn run(seed: u64) -> Totals {
    Run::new(seed).run()
}

/// What happened.
#[derive(Default, Debug)]
pub(crate) struct Totals {
    batches: u64,
    power_losses: u64,
    kills: u64,
    failed_syncs: u64,
    failed_writes: u64,
    lost_in_open: u64,
    unsynced_lost: u64,
    recycled: u64,
    moved: u64,
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        self.batches += other.batches;
        self.power_losses += other.power_losses;
        self.kills += other.kills;
        self.failed_syncs += other.failed_syncs;
        self.failed_writes += other.failed_writes;
        self.lost_in_open += other.lost_in_open;
        self.unsynced_lost += other.unsynced_lost;
        self.recycled += other.recycled;
        self.moved += other.moved;
    }
}

struct Run {
    rng: SplitMix64,
    disk: SimDisk,
    options: LogOptions,
    /// The states after each batch since the last one known to be durable, which is the first. The last one
    /// may belong to a batch whose write failed.
    states: Vec<Model>,
    /// States up to this one were durable when a sync succeeded.
    synced: usize,
    next_replica: u64,
    totals: Totals,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let options = LogOptions {
            segment_bytes: 2048 + 512 * rng.below(12),
            recycled_segments_max: rng.below(4) as usize,
        };
        let disk = SimDisk::new(rng.next_u64());
        let states = vec![BTreeMap::new()];
        Self {
            rng,
            disk,
            options,
            states,
            synced: 0,
            next_replica: 1,
            totals: Totals::default(),
        }
    }

    fn run(mut self) -> Totals {
        for _ in 0..ROUNDS {
            let log = self.open();
            self.work(log);
            self.die();
        }
        self.open();
        self.totals
    }

    /// Opens the log, dying in between now and then, and judges what it holds.
    fn open(&mut self) -> RaftLog<SimDisk> {
        loop {
            let fault = self.rng.below(6);
            let n = 1 + self.rng.below(9);
            match fault {
                0 => self.disk.crash_at(n),
                1 => self.disk.fail_sync(n, Fault::Device),
                2 => self.disk.fail_write(n, Fault::NoSpace),
                _ => {}
            }
            match RaftLog::open(self.disk.clone(), identity(), self.options.clone()) {
                Ok((log, recovered)) => {
                    self.judge(&model_of(&recovered));
                    return log;
                }
                Err(OpenError::Io { .. }) if fault < 3 => {
                    self.totals.lost_in_open += 1;
                    self.die();
                }
                Err(error) => panic!("open: {error}"),
            }
        }
    }

    fn judge(&mut self, recovered: &Model) {
        // The newest one: batches without effect leave equal states.
        let Some(at) = self.states.iter().rposition(|state| state == recovered) else {
            let expected: Vec<String> = self.states[self.synced..].iter().map(describe).collect();
            let (found, expected) = (describe(recovered), expected.join("\n"));
            panic!("recovered what never was:\n{found}\nsynced or later:\n{expected}");
        };
        assert!(
            at >= self.synced,
            "state {at} recovered, {} was synced",
            self.synced
        );
        self.totals.unsynced_lost += u64::from(at + 1 < self.states.len());
        // What an open has shown is durable (P1).
        self.states = vec![recovered.clone()];
        self.synced = 0;
    }

    fn work(&mut self, mut log: RaftLog<SimDisk>) {
        match self.rng.below(5) {
            0 => self.disk.fail_sync(1 + self.rng.below(12), Fault::Device),
            1 => self.disk.fail_write(1 + self.rng.below(30), Fault::NoSpace),
            2 => self.disk.crash_at(1 + self.rng.below(60)),
            _ => {}
        }
        let steps = self.rng.below(60);
        for _ in 0..steps {
            let result = match self.rng.below(10) {
                0..=5 => self.write(&mut log),
                6..=7 => log.sync().inspect(|()| self.synced = self.states.len() - 1),
                _ => self.maintain(&mut log),
            };
            if let Err(error) = result {
                self.check_failed(log, &error);
                return;
            }
        }
    }

    fn write(&mut self, log: &mut RaftLog<SimDisk>) -> Result<(), LogError> {
        let mut model = self.states[self.states.len() - 1].clone();
        let batch = self.batch(&mut model);
        self.totals.batches += 1;
        self.states.push(model);
        log.write(&batch)
    }

    fn maintain(&mut self, log: &mut RaftLog<SimDisk>) -> Result<(), LogError> {
        let renames = |disk: &SimDisk| {
            disk.visible()
                .keys()
                .filter(|name| name.starts_with("spare"))
                .count()
        };
        let (before, size) = (renames(&self.disk), log.bytes_on_disk());
        for _ in 0..self.rng.below(12) {
            let before = self.disk.counts();
            if !log.maintain()? {
                break;
            }
            // Preparing a segment writes too, but syncs the directory as well.
            let after = self.disk.counts();
            self.totals.moved +=
                u64::from(after.writes > before.writes && after.dir_syncs == before.dir_syncs);
        }
        self.totals.recycled += u64::from(renames(&self.disk) > before && log.bytes_on_disk() < size);
        Ok(())
    }

    /// P2: after a failure nothing succeeds.
    fn check_failed(&mut self, mut log: RaftLog<SimDisk>, error: &LogError) {
        if !is_down(&error.source) {
            if error.action.starts_with("syncing") {
                self.totals.failed_syncs += 1;
            } else {
                self.totals.failed_writes += 1;
            }
        }
        assert!(log.sync().is_err(), "a sync succeeded after {error}");
        let op = LogOp::Reset {
            shard: ShardId(0),
            index: Index(1000),
            term: Term(1000),
        };
        assert!(
            log.write(&LogBatch {
                ops: vec![op],
                sync: true
            })
            .is_err(),
            "a write succeeded after {error}"
        );
        assert!(log.maintain().is_err(), "maintenance succeeded after {error}");
    }

    fn die(&mut self) {
        if self.rng.below(3) == 0 {
            self.totals.kills += 1;
            self.disk.process_kill();
        } else {
            self.totals.power_losses += 1;
            let seed = self.rng.next_u64();
            self.disk.crash(seed);
        }
    }

    /// A random batch, applied to the model.
    fn batch(&mut self, model: &mut Model) -> LogBatch {
        let mut ops = Vec::new();
        for _ in 0..1 + self.rng.below(4) {
            // The last shard is a straggler: it rarely moves.
            let shard = ShardId(if self.rng.below(12) == 0 {
                SHARDS
            } else {
                self.rng.below(SHARDS)
            });
            let op = self.op(shard, model.entry(shard).or_default());
            model.entry(shard).or_default().apply(&op);
            ops.push(op);
        }
        LogBatch {
            ops,
            sync: self.rng.below(2) == 0,
        }
    }

    fn op(&mut self, shard: ShardId, state: &ModelShard) -> LogOp {
        let last = state.last();
        let term = Term(state.hard_state.term.0.max(1));
        match self.rng.below(20) {
            0..=9 => {
                let base = state.base.0.0;
                let overwritten = if self.rng.below(4) == 0 {
                    self.rng.below(4)
                } else {
                    0
                };
                let first = (last + 1).saturating_sub(overwritten).max(base + 1);
                let count = 1 + self.rng.below(5);
                let len = if self.rng.below(100) == 0 {
                    6000
                } else {
                    self.rng.below(120)
                };
                let salt = self.rng.next_u64();
                let entry = |index| Entry {
                    term,
                    index: Index(index),
                    payload: payload(index, salt, len as usize),
                };
                LogOp::Append {
                    shard,
                    entries: (first..first + count).map(entry).collect(),
                }
            }
            10..=13 => {
                let replica = state.replica.unwrap_or_else(|| {
                    self.next_replica += 1;
                    ReplicaId(self.next_replica)
                });
                let vote = self.rng.below(4);
                let vote = (vote > 0).then_some(ReplicaId(vote));
                let term = Term(state.hard_state.term.0 + self.rng.below(2));
                LogOp::HardState {
                    shard,
                    replica,
                    state: HardState {
                        term,
                        vote,
                        commit: Index(last),
                    },
                }
            }
            14..=17 => {
                let base = state.base.0.0;
                LogOp::Compact {
                    shard,
                    index: Index(base + self.rng.below(last - base + 1)),
                    term,
                }
            }
            18 => LogOp::Reset {
                shard,
                index: Index(last + self.rng.below(20)),
                term,
            },
            _ => LogOp::Tombstone {
                shard,
                replica: state.replica.unwrap_or(ReplicaId(1)),
            },
        }
    }
}
