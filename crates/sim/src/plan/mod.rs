//! What a seed stands for: cluster, settings, network, disks, faults and load, all derived from seed and
//! profile. Most seeds use a random subset of what the profile allows, so that one kind of fault cannot hide
//! what another would find.

mod fault;
mod options;
mod profile;
mod schedule;

use quorate_storage::log::LogOptions;
use quorate_store::StoreOptions;
use quorate_store::rsm::{Limits, Policy};

use crate::rng::Rng;

pub use fault::Fault;
pub use options::{Options, Size};
pub use profile::Profile;
pub(crate) use schedule::{Schedule, Strike};

/// How long messages usually take, between the fastest and the slowest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delays {
    /// Every delay is as likely as the next.
    Uniform,
    /// Most are near the fastest; every order of magnitude is as likely as the next.
    Skewed,
    /// Either end.
    Bimodal,
}

/// Operations of a whole run, at least.
const OPERATIONS_MIN: u64 = 2_000;
/// Faults that strike in a whole run of any profile but calm, at least.
const FAULTS_MIN: u64 = 5;

/// Network behaviour.
#[derive(Clone, Debug)]
pub struct NetPlan {
    /// Fastest delivery, in microseconds.
    pub delay_us_min: u64,
    /// Slowest usual delivery.
    pub delay_us_max: u64,
    /// How delays spread between the two.
    pub delays: Delays,
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
    /// Two of three answers are 200 ms and up to two seconds late, so that they overtake each other.
    pub late_answers: bool,
    /// Of the messages on a blocked link one in so many is late instead of lost, as when the sender's kernel sends
    /// again what was not acknowledged.
    pub held_one_in: u64,
    /// Messages go through their wire encoding.
    pub wire: bool,
}

/// The links between the clients of scripts and the nodes.
#[derive(Clone, Debug, Default)]
pub struct ClientNetPlan {
    /// Fastest delivery, in microseconds.
    pub delay_us_min: u64,
    /// Slowest usual delivery.
    pub delay_us_max: u64,
    /// Parts per million of requests that are lost.
    pub drop_request_ppm: u64,
    /// Parts per million of answers that are lost.
    pub drop_answer_ppm: u64,
    /// Two of three answers are 200 ms and up to two seconds late.
    pub late_answers: bool,
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
    /// Requests that each client sends, one after the other and without thinking long, about when a fault strikes.
    pub burst: u64,
    /// Virtual time between two questions for ids, at most, in microseconds; none: nobody asks.
    pub take_ids_us_max: Option<u64>,
}

/// Bounds of the session tables.
struct SessionBounds {
    ttl_ms: u64,
    most: u64,
    bytes_max: u64,
}

impl SessionBounds {
    /// By randomness of its own, so that it moves nothing else. Tight bounds are met; wide ones show what tight
    /// ones hide, since a forgotten session does no harm.
    fn derive(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5E55_1045);
        let usual = StoreOptions::default();
        let mut tight = |usual: u64, low: u64, high: u64| {
            let tight = rng.range_log(low, high);
            if rng.one_in(3) { tight } else { usual }
        };
        Self {
            ttl_ms: tight(usual.session_ttl_ms, 500, 60_000),
            most: tight(usual.sessions_max, 1, 50),
            bytes_max: tight(usual.session_bytes_max, 100, 20_000),
        }
    }
}

/// The size above which shards are split, by randomness of its own; half of the seeds have none.
fn split_bytes(seed: u64) -> u64 {
    let mut rng = Rng::new(seed ^ 0x5B11_7B17);
    let bytes = rng.range_log(200, 20_000);
    if rng.one_in(2) { 0 } else { bytes }
}

/// What an operator does with groups and stores.
struct Placing {
    /// Machines that are no stores at first.
    spares: u64,
    faults: Vec<(Fault, u64)>,
}

/// By randomness of its own; half of the seeds of profile everything have none.
fn placing(seed: u64, profile: Profile) -> Option<Placing> {
    let mut rng = Rng::new(seed ^ 0x91AC_E0F5);
    let placing = Placing {
        spares: rng.range(1, 3),
        faults: [Fault::Place, Fault::Drain, Fault::Birth, Fault::MidChange]
            .map(|fault| (fault, rng.range(2, 6)))
            .to_vec(),
    };
    let is_placed = match profile {
        Profile::Placement => true,
        Profile::Everything => rng.one_in(2),
        _ => false,
    };
    is_placed.then_some(placing)
}

/// The schedulers' settings, by randomness of its own; half of the seeds have none, where shards are moved at random.
/// Hurried ones replace a store that was away for a moment.
fn schedule(seed: u64, profile: Profile, is_placed: bool) -> Option<Policy> {
    let mut rng = Rng::new(seed ^ 0x5C4E_D01E);
    let may = matches!(profile, Profile::Everything | Profile::Moves | Profile::Splits);
    let policy = Policy {
        replace_after_us: rng.range_log(1_500_000, 60_000_000),
        round_us: rng.range_log(50_000, 1_000_000),
        limits: Limits {
            changes: rng.range(1, 4) as usize,
            incoming: rng.range(1, 3) as usize,
            leaders: rng.range(1, 4) as usize,
        },
    };
    (is_placed || may && rng.one_in(2)).then_some(policy)
}

/// Everything that a seed decides before the start.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Stores that the cluster begins with.
    pub nodes: u64,
    /// Machines that are no stores at first, and may ask to be.
    pub spares: u64,
    /// Data shards.
    pub shards: u16,
    /// Replicas of each data shard, if there are as many stores.
    pub replicas: u8,
    /// Settings of every store; each gets a seed of its own.
    pub store: StoreOptions,
    /// Settings of the Raft log.
    pub log: LogOptions,
    /// The network.
    pub net: NetPlan,
    /// The links of scripted clients.
    pub client_net: ClientNetPlan,
    /// The disks.
    pub disk: DiskPlan,
    /// The load.
    pub load: LoadPlan,
    /// Virtual microseconds of the phase with faults.
    pub fault_us: u64,
    /// Average virtual microseconds between two faults.
    pub fault_gap_us: u64,
    /// The kinds of the seed, each with its weight.
    pub faults: Vec<(Fault, u64)>,
    /// Of those, only these strike.
    pub only_faults: Option<Vec<Fault>>,
    /// Numbers of faults that do not strike.
    pub skip_faults: Vec<u64>,
    /// The longest time that a dead node stays away.
    pub down_us_max: u64,
    /// Parts per million of starts with a death inside the first log operations.
    pub die_at_start_ppm: u64,
    /// Operations and faults below which a run proves nothing.
    pub operations_min: u64,
    /// See `operations_min`.
    pub faults_min: u64,
}

impl Plan {
    /// Derives the plan of a seed. What is fixed by `options` moves nothing else.
    #[must_use]
    pub fn derive(seed: u64, profile: Profile, options: &Options) -> Self {
        let mut rng = Rng::new(seed ^ 0xC0FF_EE00);
        let rng = &mut rng;
        let sessions = SessionBounds::derive(seed);
        let full = options.size == Size::Full;
        let sizes: &[u64] = match (full, profile) {
            (true, Profile::Everything | Profile::Moves | Profile::Splits) => &[3, 3, 3, 3, 4, 5, 5, 5, 6, 7],
            (true, Profile::Placement) => &[3, 4, 5, 5, 6, 6, 7],
            (true, _) => &[1, 2, 3, 3, 3, 3, 4, 5, 5, 7],
            (false, _) => &[1, 2, 3, 3, 3, 3, 3, 3, 4, 5],
        };
        let nodes = options.nodes.unwrap_or(*rng.pick(sizes));
        let shards = *rng.pick(&[1, 1, 2, 3, 4]);
        let shards = match profile {
            // Groups need something to share.
            Profile::Placement => Rng::new(seed ^ 0x5AAD).range(2, 9) as u16,
            _ => shards,
        };
        let shards = options.shards.unwrap_or(shards);
        let tick_us = *rng.pick(&[10_000, 20_000, 50_000]);
        let election_ticks = *rng.pick(&[6, 10, 10, 14]);
        let calm = profile == Profile::Calm;
        // Short logs are left behind by whoever is away for a moment, so that snapshots are common.
        let short = !calm && rng.one_in(2);
        let retention = |rng: &mut Rng, short_range: [u64; 2], range: [u64; 2]| {
            let [low, high] = if short { short_range } else { range };
            rng.range_log(low, high)
        };
        let store = StoreOptions {
            tick_us,
            heartbeat_ticks: *rng.pick(&[1, 2, 2, 3]),
            election_ticks,
            leases: !rng.one_in(if calm { 8 } else { 4 }),
            clock_drift_max: *rng.pick(&[0.001, 0.01, 0.05]),
            log_retention_bytes: retention(rng, [500, 5_000], [2_000, 200_000]),
            log_retention_store_bytes: rng.range_log(5_000, 1_000_000),
            log_retention_entries: retention(rng, [3, 60], [10, 2_000]),
            durable_every_bytes: rng.range_log(500, 50_000),
            append_bytes_max: rng.range_log(200, 100_000),
            snapshot_chunk_bytes: rng.range_log(64, 8_192) as usize,
            session_ttl_ms: sessions.ttl_ms,
            sessions_max: sessions.most,
            session_bytes_max: sessions.bytes_max,
            snapshot_bytes_per_second: if rng.one_in(2) {
                0
            } else {
                rng.range_log(20_000, 10_000_000)
            },
            split_bytes: if profile == Profile::Splits {
                split_bytes(seed)
            } else {
                0
            },
            requests_max: if rng.one_in(8) { 2 } else { 1_000 },
            low_space_bytes: 64 << 10,
            spread_leaders: rng.one_in(2),
            schedule: None,
            seed: 0,
        };
        // Mostly not everywhere, where that can be.
        let drawn = *Rng::new(seed ^ 0x5245_504C).pick(&[3, 3, 3, 2, 9]);
        let replicas = options.replicas.unwrap_or(drawn);
        let log = LogOptions {
            segment_bytes: rng.range_log(8_192, 131_072),
            recycled_segments_max: rng.below(3) as usize,
        };
        let mut faults = faults_of(profile, rng);
        // Decided apart, so that it moves nothing else.
        let mut apart = Rng::new(seed ^ 0x4D45_4D42);
        if profile == Profile::Moves || profile == Profile::Everything && apart.one_in(2) {
            let weight = if profile == Profile::Moves {
                12
            } else {
                apart.range(2, 8)
            };
            faults.push((Fault::Members, weight));
            // Not together yet: see docs/testing.md.
            faults.retain(|(fault, _)| *fault != Fault::Rot);
        }
        if profile == Profile::Everything && apart.one_in(3) {
            faults.push((Fault::Split, apart.range(2, 8)));
            faults.retain(|(fault, _)| *fault != Fault::Rot);
        }
        if profile == Profile::Splits {
            faults.push((Fault::Split, apart.range(4, 12)));
            if apart.one_in(2) {
                faults.push((Fault::Members, apart.range(2, 8)));
            }
        }
        let placing = placing(seed, profile);
        if let Some(Placing { faults: further, .. }) = &placing {
            faults.extend(further);
            if profile == Profile::Placement && apart.one_in(2) {
                faults.push((Fault::Split, apart.range(2, 6)));
            }
            if profile == Profile::Placement && apart.one_in(4) {
                faults.push((Fault::Members, apart.range(1, 4)));
            }
            faults.retain(|(fault, _)| *fault != Fault::Rot);
        }
        // Where disks rot nothing moves yet: see docs/testing.md.
        let store = StoreOptions {
            schedule: schedule(seed, profile, placing.is_some())
                .filter(|_| faults.iter().all(|(fault, _)| *fault != Fault::Rot)),
            ..store
        };
        let only_faults = options.faults.clone();
        let uses = |fault| is_used(&faults, only_faults.as_ref(), fault);
        let delay_us_min = rng.range_log(20, 1_000);
        let rate = |rng: &mut Rng, fault: Fault, low: u64, high: u64| {
            let ppm = rng.range_log(low, high);
            if uses(fault) { ppm } else { 0 }
        };
        let net = NetPlan {
            delay_us_min,
            delay_us_max: delay_us_min + rng.range_log(50, tick_us / 3),
            delays: *rng.pick(&[Delays::Uniform, Delays::Skewed, Delays::Bimodal]),
            tail_ppm: rate(rng, Fault::Delay, 100, 100_000),
            tail_us: rng.range_log(tick_us, tick_us * u64::from(election_ticks) * 3),
            drop_ppm: rate(rng, Fault::Loss, 100, 150_000),
            duplicate_ppm: rate(rng, Fault::Repetition, 1_000, 200_000),
            reorder: uses(Fault::Reordering),
            late_answers: false,
            held_one_in: if calm { 8 } else { *rng.pick(&[8, 8, 3, 1]) },
            wire: rng.one_in(4),
        };
        let sync_us_min = rng.range_log(20, 2_000);
        let disk = DiskPlan {
            sync_us_min,
            sync_us_max: sync_us_min + rng.range_log(20, 10_000),
            durable_us_max: rng.range_log(100, 200_000),
        };
        let timeout_ms_min = rng.range_log(20, 500) as u32;
        let clients = rng.range(if full { 4 } else { 1 }, if full { 12 } else { 8 });
        let mut load = LoadPlan {
            clients: options.clients.map_or(clients, |wanted| wanted.min(clients)),
            think_us_max: {
                let wanted = clients * 2_000_000 / rng.range_log(50, 200);
                let short = rng.range_log(10_000, 100_000);
                if full { wanted } else { short }
            },
            keys: rng.range(1, 3),
            read_percent: rng.range(10, 80),
            timeout_ms_min,
            timeout_ms_max: timeout_ms_min + rng.range_log(100, 3_000) as u32,
            burst: 0,
            take_ids_us_max: Some(apart.range_log(100_000, 3_000_000)),
        };
        let fault_ms = if full {
            rng.range(60_000, 70_000)
        } else {
            rng.range(3_000, 12_000)
        };
        let gap = if full {
            rng.range_log(200_000, 5_000_000)
        } else {
            rng.range_log(50_000, 2_000_000)
        };
        // As many requests again as there are anyway, where they meet the faults.
        let strikes = fault_ms * 1000 / gap + 1;
        let again = if full { 4_000 } else { 600 };
        load.burst = (again / (strikes * clients)).clamp(1, 16);
        let whole = full && options.is_whole();
        Self {
            nodes,
            spares: placing.map_or(0, |placing| placing.spares),
            shards,
            replicas,
            fault_us: options.fault_ms.unwrap_or(fault_ms) * 1000,
            fault_gap_us: gap,
            only_faults: options.faults.clone(),
            skip_faults: options.skip_faults.clone(),
            down_us_max: rng.range_log(20_000, 4_000_000),
            die_at_start_ppm: rate(rng, Fault::DieAtStart, 1, 300_000),
            operations_min: if whole { OPERATIONS_MIN } else { 0 },
            faults_min: if whole && profile != Profile::Calm {
                FAULTS_MIN
            } else {
                0
            },
            faults,
            store,
            log,
            net,
            client_net: ClientNetPlan::default(),
            disk,
            load,
        }
    }

    /// Whether faults of this kind happen.
    #[must_use]
    pub fn uses(&self, fault: Fault) -> bool {
        is_used(&self.faults, self.only_faults.as_ref(), fault)
    }

    /// Whether clocks may leave the stated bound, so that reads by lease may be stale. All else must hold.
    #[must_use]
    pub fn leases_may_lie(&self) -> bool {
        self.store.leases && self.uses(Fault::BadClock)
    }
}

fn is_used(faults: &[(Fault, u64)], only: Option<&Vec<Fault>>, fault: Fault) -> bool {
    faults.iter().any(|(used, _)| *used == fault) && only.is_none_or(|only| only.contains(&fault))
}

/// Most seeds use about half of the kinds, so that one cannot hide what another would find.
fn faults_of(profile: Profile, rng: &mut Rng) -> Vec<(Fault, u64)> {
    let mut allowed = profile.faults();
    allowed.retain(|fault| !matches!(fault, Fault::Members | Fault::Split) && !fault.is_placement());
    let all = rng.one_in(4);
    let mut used = Vec::new();
    for fault in &allowed {
        // What makes less of what is checked is the exception.
        let chosen = match fault {
            Fault::BadClock => rng.one_in(if profile == Profile::Clock { 3 } else { 8 }),
            _ => rng.one_in(2) || all,
        };
        let weight = rng.range(1, 5);
        if chosen {
            used.push((*fault, weight));
        }
    }
    if !used.iter().any(|(fault, _)| fault.strikes()) {
        let strikes = allowed.into_iter().filter(|fault| fault.strikes());
        used = strikes.map(|fault| (fault, 1)).collect();
    }
    used
}
