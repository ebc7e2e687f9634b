//! What a node is told at its start.
//!
//! Flags come before environment variables (`QUORATE_*`), these before one TOML file, that before the defaults.
//! The first two are merged by clap into one [`ConfigLayer`], the file is read into another, and
//! [`ServerConfig::resolve`] lays them over each other, fills in the defaults and checks what is left. Nothing
//! is opened or bound here. `docs/configuration.md` is the table for operators; a test keeps it complete.

use std::hash::Hasher as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use quorate_storage::{ClusterId, StoreId};
use serde::Deserialize;
use siphasher::sip128::{Hasher128 as _, SipHasher24};

mod layer;
mod resolve;
mod values;

pub use layer::ConfigLayer;
pub use values::{ByteSize, HostPort, HostPorts, LabelList, Member, Members, RoleList};

/// How Redis clients are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RedisMode {
    /// Any node serves the whole key space and forwards when it must.
    #[default]
    Proxy,
    /// A node answers MOVED for what it does not lead, as in Redis Cluster.
    Cluster,
}

/// Who syncs the Raft log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogSync {
    /// The reactor while syncs are quick, the log thread when they are slow.
    #[default]
    Auto,
    /// Always the reactor.
    Inline,
    /// Always the log thread.
    Thread,
}

/// Form of the log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The first membership, agreed among its members by flags.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bootstrap {
    /// Sorted by id; distinct.
    pub members: Vec<Member>,
    /// Distinguishes clusters; not a secret.
    pub token: String,
    /// Shards of the new cluster; part of the cluster's id.
    pub shards: u32,
    /// Replicas of each shard, if there are as many members; part of the cluster's id if there are more.
    pub replicas: u32,
}

impl Bootstrap {
    /// The cluster's id, the same on every member that was told the same.
    ///
    /// The token, the store ids, the number of shards and, if it leaves a choice, that of replicas count, the addresses
    /// do not: the members must agree on who they are, on how the key space is cut and on who holds what, but may know
    /// each other by different names, and a cluster that moves to other ports stays the same cluster.
    pub fn cluster_id(&self) -> ClusterId {
        // Keys and layout are part of the meaning of existing data directories: never change them.
        let mut hasher = SipHasher24::new_with_keys(0x7175_6f72_6174_6521, 0x636c_7573_7465_7249);
        hasher.write(&(self.token.len() as u64).to_le_bytes());
        hasher.write(self.token.as_bytes());
        hasher.write(&u64::from(self.shards).to_le_bytes());
        for member in &self.members {
            hasher.write(&member.store.to_le_bytes());
        }
        if (self.replicas as usize) < self.members.len() {
            hasher.write(&u64::from(self.replicas).to_le_bytes());
        }
        ClusterId(hasher.finish128().as_u128())
    }
}

/// Everything that a node needs to know before it opens its data directory. Checked: every value is in its range.
#[derive(Clone, PartialEq, Debug)]
pub struct ServerConfig {
    /// Data directory.
    pub data: PathBuf,
    /// This store's id; `None`: the data directory says. Always present with `bootstrap`, and then a member.
    pub store_id: Option<StoreId>,
    /// How to form the cluster with others if the data directory is empty.
    pub bootstrap: Option<Bootstrap>,
    /// The nodes to join if the data directory is empty; never with `bootstrap`. With neither, an empty directory becomes
    /// a cluster of one store.
    pub join: Vec<HostPort>,
    /// What the controller is told of this store, such as its zone.
    pub labels: quorate_proto::Labels,
    /// What it may hold.
    pub roles: quorate_proto::Roles,
    /// Shards of a new cluster.
    pub shards: u32,
    /// Replicas that each of its shards is to have.
    pub replicas: u32,
    /// Where to listen for clients.
    pub listen: SocketAddr,
    /// Where to listen for other nodes.
    pub peer: SocketAddr,
    /// Where to serve HTTP.
    pub http: SocketAddr,
    /// What clients are told (MOVED, CLUSTER SLOTS).
    pub advertise_listen: HostPort,
    /// What other nodes are told.
    pub advertise_peer: HostPort,
    /// What tools are told.
    pub advertise_http: HostPort,
    /// How Redis clients are served.
    pub redis_mode: RedisMode,
    /// The largest command in bytes.
    pub frame_bytes_max: usize,
    /// Client connections at a time.
    pub connections_max: usize,
    /// Commands under way on one connection.
    pub pipeline_depth_max: usize,
    /// A command is answered within this many milliseconds.
    pub request_timeout_ms: u32,
    /// Seconds after its opening that a session is forgotten (S3).
    pub session_ttl_s: u32,
    /// Sessions that a shard remembers (S3).
    pub sessions_max_per_shard: u32,
    /// Bytes that a shard's session table may take (S3).
    pub session_bytes_max_per_shard: u64,
    /// Milliseconds of a tick.
    pub tick_ms: u32,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: u32,
    /// Ticks of an election timeout, T; the real ones are drawn from [T, 2T).
    pub election_ticks: u32,
    /// Whether leases are used for reads (L).
    pub leases: bool,
    /// Bound on the relative drift of two machines' clocks (L1).
    pub clock_drift_max: f64,
    /// Bytes of a log segment.
    pub log_segment_bytes: u64,
    /// Log kept per shard, in bytes.
    pub log_retention_bytes_per_shard: u64,
    /// Log kept by the whole store, in bytes.
    pub log_retention_bytes: u64,
    /// With fewer bytes left on the log's disk the store is full (H1); 0: never.
    pub low_space_bytes: u64,
    /// Bytes of snapshots sent in a second; 0: as fast as they go.
    pub snapshot_bytes_per_second: u64,
    /// A shard with more bytes of keys and values is split; 0: only by hand.
    pub split_bytes: u64,
    /// Whether the controller's schedulers work while this node leads it.
    pub schedule: bool,
    /// Seconds of silence after which others are to hold what a store holds.
    pub replace_after_s: u32,
    /// Who syncs the log.
    pub log_sync: LogSync,
    /// What is logged, in the syntax of `tracing`'s filters; read by the executable, not checked here.
    pub log_level: String,
    /// Form of the log lines; read by the executable.
    pub log_format: LogFormat,
}

/// Why a configuration cannot be used. One line, naming the value and what would be right.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, has a key that does not exist, or a value of a wrong kind.
    #[error("configuration file {path}, line {line}: {reason}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A value is missing that has no default.
    #[error("{what} is missing: {cure}")]
    Missing {
        /// What.
        what: &'static str,
        /// How to give it.
        cure: &'static str,
    },
    /// A value is out of range, or does not fit another.
    #[error("{name} is {value}, but {rule}")]
    Invalid {
        /// The key; the flag is the same with dashes.
        name: &'static str,
        /// As given.
        value: String,
        /// What would be right.
        rule: String,
    },
}

impl ConfigLayer {
    /// Reads a TOML file. Unknown keys are an error: a misspelled setting that silently does nothing is worse
    /// than a node that does not start.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|error| ConfigError::File {
            path: path.to_owned(),
            line: error
                .span()
                .map_or(1, |span| 1 + text[..span.start].matches('\n').count()),
            reason: error.message().replace('\n', " "),
        })
    }
}

impl ServerConfig {
    /// Flags and environment over the file, if there is one, over the defaults.
    pub fn load(layer: ConfigLayer, file: Option<&Path>) -> Result<Self, ConfigError> {
        let below = file.map(ConfigLayer::from_file).transpose()?.unwrap_or_default();
        Self::resolve(layer.over(below))
    }
}
