//! What a seed stands for: cluster, settings, network, disks, faults and load, all derived from seed and
//! profile. Most seeds use a random subset of what the profile allows, so that one kind of fault cannot hide
//! what another would find.

use std::fmt;
use std::str::FromStr;

use quorate_storage::log::LogOptions;
use quorate_store::StoreOptions;

use crate::rng::Rng;

/// How hostile the surroundings are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// No faults; clocks drift and messages take their time.
    Calm,
    /// Messages are lost, repeated, reordered; links break; the network is divided.
    Lossy,
    /// Processes die, power fails, disks are slow and fail.
    Crashy,
    /// All of it at once, and the wall clocks jump.
    Everything,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Profile; 4] = [
        Profile::Calm,
        Profile::Lossy,
        Profile::Crashy,
        Profile::Everything,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Profile::Calm => "calm",
            Profile::Lossy => "lossy",
            Profile::Crashy => "crashy",
            Profile::Everything => "everything",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|profile| profile.name() == name);
        known.ok_or_else(|| format!("{name}: no such profile; there are calm, lossy, crashy and everything"))
    }
}

/// What a caller fixes instead of leaving it to the seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Stores.
    pub nodes: Option<u64>,
    /// Data shards.
    pub shards: Option<u16>,
    /// Virtual milliseconds of the phase with faults.
    pub fault_ms: Option<u64>,
    /// Called with a line for each event.
    pub trace: Option<fn(&str)>,
}

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// `kill -9`: what was written stays in the page cache.
    Kill,
    /// Power loss: what was not synced may be gone, whole or in part.
    PowerLoss,
    /// The process dies inside one of its next log operations.
    DieInLog,
    /// Every process dies at once.
    KillAll,
    /// Power fails everywhere at once.
    PowerLossAll,
    /// A node is told to stop, hands over, and is started again.
    Shutdown,
    /// A process stands still for a while.
    Pause,
    /// A disk takes long.
    SlowDisk,
    /// A write or sync of the log fails; the process must stop (P2).
    LogFault,
    /// The state engine fails; the process must stop.
    EngineFault,
    /// The nodes are divided into two halves that do not hear each other.
    Partition,
    /// One node hears nobody, or is heard by nobody.
    OneWay,
    /// One link is cut.
    CutLink,
    /// A connection breaks and what is in flight is lost.
    BreakLink,
    /// A wall clock is set.
    WallJump,
}

/// Network behaviour.
#[derive(Clone, Debug)]
pub struct NetPlan {
    /// Fastest delivery, in microseconds.
    pub delay_us_min: u64,
    /// Slowest usual delivery.
    pub delay_us_max: u64,
    /// Parts per million of messages that take up to `tail_us`.
    pub tail_ppm: u64,
    /// The longest delay.
    pub tail_us: u64,
    /// Parts per million of messages that are lost.
    pub drop_ppm: u64,
    /// Parts per million of consensus messages that arrive twice.
    pub duplicate_ppm: u64,
    /// Consensus messages overtake each other.
    pub reorder: bool,
    /// Messages go through their wire encoding.
    pub wire: bool,
}

/// Disk behaviour.
#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// Fastest log sync, in microseconds.
    pub sync_us_min: u64,
    /// Slowest usual log sync.
    pub sync_us_max: u64,
    /// Slowest usual "make durable" of the engine.
    pub durable_us_max: u64,
}

/// Client behaviour.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// Clients, each with one connection at a time.
    pub clients: u64,
    /// Virtual think time between two operations, at most, in microseconds.
    pub think_us_max: u64,
    /// Append keys per shard.
    pub keys: u64,
    /// Out of 100 operations, how many are reads.
    pub read_percent: u64,
    /// Shortest deadline.
    pub timeout_ms_min: u32,
    /// Longest deadline.
    pub timeout_ms_max: u32,
}

/// Everything that a seed decides before the start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Stores.
    pub nodes: u64,
    /// Data shards.
    pub shards: u16,
    /// Settings of every store; each gets a seed of its own.
    pub store: StoreOptions,
    /// Settings of the Raft log.
    pub log: LogOptions,
    /// The network.
    pub net: NetPlan,
    /// The disks.
    pub disk: DiskPlan,
    /// The load.
    pub load: LoadPlan,
    /// Virtual microseconds of the phase with faults.
    pub fault_us: u64,
    /// Average virtual microseconds between two faults.
    pub fault_gap_us: u64,
    /// The kinds used, each with its weight.
    pub faults: Vec<(Fault, u64)>,
    /// The longest time that a dead node stays away.
    pub down_us_max: u64,
    /// Parts per million of starts with a death inside the first log operations.
    pub die_at_start_ppm: u64,
}

impl Plan {
    /// Derives the plan of a seed.
    #[must_use]
    pub fn derive(seed: u64, profile: Profile, options: &Options) -> Self {
        let mut rng = Rng::new(seed ^ 0xC0FF_EE00);
        let rng = &mut rng;
        let nodes = options
            .nodes
            .unwrap_or(*rng.pick(&[1, 2, 3, 3, 3, 3, 3, 3, 4, 5]));
        let shards = options.shards.unwrap_or(*rng.pick(&[1, 1, 2, 3, 4]));
        let tick_us = *rng.pick(&[10_000, 20_000, 50_000]);
        let election_ticks = *rng.pick(&[6, 10, 10, 14]);
        let store = StoreOptions {
            tick_us,
            heartbeat_ticks: *rng.pick(&[1, 2, 2, 3]),
            election_ticks,
            leases: !rng.one_in(8),
            clock_drift_max: *rng.pick(&[0.001, 0.01, 0.05]),
            log_retention_bytes: rng.range_log(2_000, 200_000),
            log_retention_store_bytes: rng.range_log(5_000, 1_000_000),
            log_retention_entries: rng.range_log(10, 2_000),
            durable_every_bytes: rng.range_log(500, 50_000),
            append_bytes_max: rng.range_log(200, 100_000),
            snapshot_chunk_bytes: rng.range_log(64, 8_192) as usize,
            requests_max: if rng.one_in(8) { 2 } else { 1_000 },
            spread_leaders: rng.one_in(2),
            seed: 0,
        };
        let log = LogOptions {
            segment_bytes: rng.range_log(8_192, 131_072),
            recycled_segments_max: rng.below(3) as usize,
        };
        let lossy = matches!(profile, Profile::Lossy | Profile::Everything);
        let delay_us_min = rng.range_log(20, 1_000);
        let net = NetPlan {
            delay_us_min,
            delay_us_max: delay_us_min + rng.range_log(50, tick_us / 3),
            tail_ppm: if lossy && rng.one_in(2) {
                rng.range_log(100, 100_000)
            } else {
                0
            },
            tail_us: rng.range_log(tick_us, tick_us * u64::from(election_ticks) * 3),
            drop_ppm: if lossy && !rng.one_in(3) {
                rng.range_log(100, 150_000)
            } else {
                0
            },
            duplicate_ppm: if lossy && rng.one_in(2) {
                rng.range_log(1_000, 200_000)
            } else {
                0
            },
            reorder: lossy && rng.one_in(2),
            wire: rng.one_in(4),
        };
        let sync_us_min = rng.range_log(20, 2_000);
        let disk = DiskPlan {
            sync_us_min,
            sync_us_max: sync_us_min + rng.range_log(20, 10_000),
            durable_us_max: rng.range_log(100, 200_000),
        };
        let timeout_ms_min = rng.range_log(20, 500) as u32;
        let load = LoadPlan {
            clients: rng.range(1, 8),
            think_us_max: rng.range_log(10_000, 100_000),
            keys: rng.range(1, 3),
            read_percent: rng.range(10, 80),
            timeout_ms_min,
            timeout_ms_max: timeout_ms_min + rng.range_log(100, 3_000) as u32,
        };
        Self {
            nodes,
            shards,
            fault_us: options
                .fault_ms
                .map_or(rng.range(3_000_000, 12_000_000), |ms| ms * 1000),
            fault_gap_us: rng.range_log(50_000, 2_000_000),
            faults: faults_of(profile, rng),
            down_us_max: rng.range_log(20_000, 4_000_000),
            die_at_start_ppm: match profile {
                Profile::Crashy | Profile::Everything => rng.range_log(1, 300_000),
                Profile::Calm | Profile::Lossy => 0,
            },
            store,
            log,
            net,
            disk,
            load,
        }
    }
}

fn faults_of(profile: Profile, rng: &mut Rng) -> Vec<(Fault, u64)> {
    use Fault::*;
    const NETWORK: [Fault; 5] = [Partition, OneWay, CutLink, BreakLink, Pause];
    const DEATH: [Fault; 9] = [
        Kill,
        PowerLoss,
        DieInLog,
        KillAll,
        PowerLossAll,
        Shutdown,
        SlowDisk,
        LogFault,
        EngineFault,
    ];
    let allowed: Vec<Fault> = match profile {
        Profile::Calm => Vec::new(),
        Profile::Lossy => NETWORK.to_vec(),
        Profile::Crashy => DEATH.to_vec(),
        Profile::Everything => NETWORK.into_iter().chain(DEATH).chain([WallJump]).collect(),
    };
    let all = rng.one_in(4);
    let mut used = Vec::new();
    for fault in &allowed {
        if all || rng.one_in(2) {
            used.push((*fault, rng.range(1, 5)));
        }
    }
    if used.is_empty() {
        allowed.into_iter().map(|fault| (fault, 1)).collect()
    } else {
        used
    }
}
