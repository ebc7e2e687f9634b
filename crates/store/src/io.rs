//! What the store takes in and gives out. The driver performs the effects and reports their completion.

use quorate_raft::mutant;
use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_proto::{ControlCommand, Labels, PeerMessage, Roles, StoreRecord};
use quorate_storage::engine::BatchSeq;
use quorate_storage::log::LogBatch;
use quorate_storage::{ShardId, StoreId};

use crate::rsm::Policy;
use crate::{ClientOutcome, ClientRequest, RequestId};

/// The two clocks that every call is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// Monotonic microseconds; counts suspension; read after the last input it is passed with.
    pub mono_us: u64,
    /// Milliseconds since the Unix epoch; may jump. Decides when keys expire, never agreement (T).
    pub wall_ms: u64,
}

/// Number of a log write, counted from 1 per process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct LogToken(pub u64);

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client of this node asks.
    Client(ClientRequest),
    /// A peer says something.
    Peer {
        /// Who.
        from: StoreId,
        /// What.
        message: PeerMessage,
    },
    /// The connection to a peer is ready.
    PeerUp {
        /// Who.
        store: StoreId,
    },
    /// The connection to a peer broke; what was in flight may or may not have arrived.
    PeerDown {
        /// Who.
        store: StoreId,
    },
    /// One tick passed. Two ticks are never less than [`crate::StoreOptions::tick_us`] apart: the leases
    /// count on it (L1).
    Tick,
    /// Every log write up to this one is durable.
    LogWritten {
        /// The newest.
        token: LogToken,
    },
    /// Every engine batch up to this one is durable.
    EngineDurable {
        /// The newest.
        up_to: BatchSeq,
    },
    /// An operator wants another store to lead a shard that is led here. Nothing happens if it is not, or if
    /// that store holds no replica that is nearly up to date; whether it came about, the shard's leader shows.
    TransferLeader {
        /// The shard.
        shard: ShardId,
        /// Who is to lead.
        to: StoreId,
    },
    /// What others are to know of this node, such as where it can be reached; once, after the store was opened. The controller is told too,
    /// then and now and again, and says where the others are ([`Effects::stores`]). If it does not admit the store, a
    /// later call says so ([`crate::StoreError::NotAdmitted`]).
    Register(Registration),
    /// The driver asks the controller. It is answered like a client's request, if ever: the store asks until it has an
    /// answer, or until it stops.
    AskController {
        /// The driver's name for it.
        id: RequestId,
        /// What is asked.
        command: ControlCommand,
    },
    /// The driver has looked at the disk of the Raft log (H1).
    DiskSpace {
        /// Bytes left.
        available_bytes: u64,
    },
    /// Hand leaderships away and take no new requests.
    Shutdown,
}

/// What others are to know of a node. Addresses are at most [`quorate_proto::ADDRESS_BYTES_MAX`] long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// Where clients reach it.
    pub client: Bytes,
    /// Where other nodes reach it.
    pub peer: Bytes,
    /// Where tools reach it.
    pub http: Bytes,
    /// What its operator says of it; as [`quorate_proto::are_labels`] wants them.
    pub labels: Labels,
    /// What it may hold.
    pub roles: Roles,
}

/// What the driver has to do, in the order of the fields.
#[derive(Debug, Default)]
pub struct Effects {
    /// To be sent; losing them is allowed.
    pub sends: Vec<(StoreId, PeerMessage)>,
    /// To be written to the Raft log; durability is reported by [`Input::LogWritten`].
    pub log: Vec<(LogToken, LogBatch)>,
    /// Answers, each request exactly once.
    pub replies: Vec<(RequestId, ClientOutcome)>,
    /// The engine is to be made durable at least up to this batch; reported by [`Input::EngineDurable`].
    pub make_durable: Option<BatchSeq>,
    /// Where stores can be reached, as the controller has just said; for the driver's connections.
    pub stores: Option<Vec<StoreRecord>>,
}

impl Effects {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty()
            && self.log.is_empty()
            && self.replies.is_empty()
            && self.make_durable.is_none()
            && self.stores.is_none()
    }
}

/// A store's settings.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Microseconds of one tick.
    pub tick_us: u64,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: u32,
    /// Ticks without a leader before a campaign, randomized in `[T, 2T)`.
    pub election_ticks: u32,
    /// Read leases (rules L); without them every read takes a ReadIndex round.
    pub leases: bool,
    /// How far two clocks may drift apart, as a fraction (L1).
    pub clock_drift_max: f64,
    /// Bytes of log entries kept per shard for followers that lag; beyond, they get a snapshot.
    pub log_retention_bytes: u64,
    /// The same for all shards of the store together.
    pub log_retention_store_bytes: u64,
    /// Entries kept per shard.
    pub log_retention_entries: u64,
    /// Bytes applied, over all shards, before the engine is asked to become durable.
    pub durable_every_bytes: u64,
    /// Bytes of one append message.
    pub append_bytes_max: u64,
    /// Bytes of one snapshot chunk.
    pub snapshot_chunk_bytes: usize,
    /// Milliseconds after its opening that a session is forgotten (S3).
    pub session_ttl_ms: u64,
    /// Sessions that a shard remembers; with more, the oldest are forgotten (S3).
    pub sessions_max: u64,
    /// Bytes that a shard's session table may take; with more, the oldest sessions are forgotten (S3).
    pub session_bytes_max: u64,
    /// Bytes of snapshots sent in a second, to all followers together; 0: as fast as they go. Counted by
    /// the tick, and chunks are sent whole.
    pub snapshot_bytes_per_second: u64,
    /// A shard with more bytes of keys and values is split; 0: only by hand.
    pub split_bytes: u64,
    /// Requests under way through this node; more are refused as busy.
    pub requests_max: usize,
    /// By what the controller's schedulers work while this store leads it; none: they do not.
    pub schedule: Option<Policy>,
    /// Move leaderships to each shard's preferred store, unless the schedulers do so.
    pub spread_leaders: bool,
    /// With fewer bytes left on the disk of the Raft log the store is full (H1); 0: never.
    pub low_space_bytes: u64,
    /// Seed of all randomness.
    pub seed: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            tick_us: 50_000,
            heartbeat_ticks: 2,
            election_ticks: 10,
            leases: true,
            clock_drift_max: 0.01,
            log_retention_bytes: 16 << 20,
            log_retention_store_bytes: 1 << 30,
            log_retention_entries: 1_000_000,
            durable_every_bytes: 32 << 20,
            append_bytes_max: 1 << 20,
            snapshot_chunk_bytes: 64 << 10,
            session_ttl_ms: 24 * 3_600_000,
            sessions_max: 100_000,
            session_bytes_max: 64 << 20,
            snapshot_bytes_per_second: 8 << 20,
            split_bytes: 4 << 30,
            requests_max: 200_000,
            schedule: Some(Policy::default()),
            spread_leaders: true,
            low_space_bytes: 256 << 20,
            seed: 0,
        }
    }
}

impl StoreOptions {
    /// The election timeout T in microseconds.
    #[must_use]
    pub fn election_timeout_us(&self) -> u64 {
        self.tick_us * u64::from(self.election_ticks)
    }

    /// How long a lease lasts from the send time of a round that a quorum acknowledged (L1).
    #[must_use]
    pub fn lease_us(&self) -> u64 {
        if mutant!("drift-ignored") {
            return self.election_timeout_us();
        }
        let timeout = self.tick_us * u64::from(self.election_ticks.saturating_sub(1));
        (timeout as f64 / (1.0 + self.clock_drift_max)) as u64
    }
}

/// Which peers are reachable, and since when.
#[derive(Debug, Default)]
pub(crate) struct PeerTable {
    up_since_us: BTreeMap<StoreId, u64>,
}

impl PeerTable {
    pub(crate) fn up(&mut self, store: StoreId, now_us: u64) {
        self.up_since_us.insert(store, now_us);
    }
    pub(crate) fn down(&mut self, store: StoreId) {
        self.up_since_us.remove(&store);
    }
    pub(crate) fn all_up(&self) -> impl Iterator<Item = StoreId> + '_ {
        self.up_since_us.keys().copied()
    }
    pub(crate) fn is_up(&self, store: StoreId) -> bool {
        self.up_since_us.contains_key(&store)
    }
    /// Microseconds that the connection has lasted; zero when it is down.
    pub(crate) fn up_for_us(&self, store: StoreId, now_us: u64) -> u64 {
        self.up_since_us
            .get(&store)
            .map_or(0, |since| now_us.saturating_sub(*since))
    }
}
