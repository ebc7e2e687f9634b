//! One layer of the configuration: what the flags and the environment say, or what the file says.
//!
//! One struct serves both, so that a flag, its variable and its key in the file cannot drift apart. Every field
//! is optional: what is absent is left to the layer below.

use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use super::values::{ByteSize, HostPort, HostPorts, LabelList, Members, RoleList};
use super::{LogFormat, LogSync, RedisMode};

/// What one source says. See [`super::ServerConfig`] for the meaning of each value.
#[derive(Args, Deserialize, Clone, Default, Debug)]
#[serde(deny_unknown_fields)]
pub struct ConfigLayer {
    /// Data directory: made if absent, used by one process at a time
    #[arg(long, env = "QUORATE_DATA", value_name = "DIR", help_heading = "Identity")]
    pub data: Option<PathBuf>,
    /// This store's id, from 1. Needed with --bootstrap; later the data directory knows it
    #[arg(long, env = "QUORATE_STORE_ID", value_name = "ID", help_heading = "Identity")]
    pub store_id: Option<u64>,
    /// The first members and their peer addresses, the same on each of them: 1=HOST:PORT,2=HOST:PORT,3=HOST:PORT.
    /// Ignored once the data directory holds a store
    #[arg(
        long,
        env = "QUORATE_BOOTSTRAP",
        value_name = "MEMBERS",
        help_heading = "Identity"
    )]
    pub bootstrap: Option<Members>,
    /// Any text, the same on each first member and different for each cluster: the cluster's id comes from it
    #[arg(
        long,
        env = "QUORATE_BOOTSTRAP_TOKEN",
        value_name = "TEXT",
        help_heading = "Identity"
    )]
    pub bootstrap_token: Option<String>,
    /// Client addresses of nodes of the cluster that a new store joins, HOST:PORT,HOST:PORT; one that answers is
    /// enough. Ignored once the data directory holds a store
    #[arg(long, env = "QUORATE_JOIN", value_name = "NODES", help_heading = "Identity")]
    pub join: Option<HostPorts>,
    /// What to know of this store, NAME=VALUE,NAME=VALUE. Replicas are spread over stores of different `zone`s
    #[arg(long, env = "QUORATE_LABEL", value_name = "LABELS", help_heading = "Identity")]
    pub label: Option<LabelList>,
    /// What this node is there for: controller (it may hold the controller's shard), store (it may hold shards with
    /// data), or controller,store [default: controller,store]
    #[arg(long, env = "QUORATE_ROLES", value_name = "ROLES", help_heading = "Identity")]
    pub roles: Option<RoleList>,
    /// Shards that a new cluster is cut into, 1 to 1024 [default: 8]
    #[arg(long, env = "QUORATE_SHARDS", value_name = "N", help_heading = "Identity")]
    pub shards: Option<u32>,
    /// Replicas of each shard of a new cluster, 1 to 9; all of its nodes if there are fewer [default: 3]
    #[arg(long, env = "QUORATE_REPLICAS", value_name = "N", help_heading = "Identity")]
    pub replicas: Option<u32>,

    /// Where clients connect (RESP) [default: 127.0.0.1:7001]
    #[arg(long, env = "QUORATE_LISTEN", value_name = "ADDR", help_heading = "Addresses")]
    pub listen: Option<HostPort>,
    /// Where other nodes connect [default: 127.0.0.1:7101]
    #[arg(long, env = "QUORATE_PEER", value_name = "ADDR", help_heading = "Addresses")]
    pub peer: Option<HostPort>,
    /// Where /metrics, /healthz, /readyz and /status are [default: 127.0.0.1:7201]
    #[arg(long, env = "QUORATE_HTTP", value_name = "ADDR", help_heading = "Addresses")]
    pub http: Option<HostPort>,
    /// The client address that others are told [default: --listen]
    #[arg(
        long,
        env = "QUORATE_ADVERTISE_LISTEN",
        value_name = "ADDR",
        help_heading = "Addresses"
    )]
    pub advertise_listen: Option<HostPort>,
    /// The peer address that others are told [default: the one in --bootstrap, else --peer]
    #[arg(
        long,
        env = "QUORATE_ADVERTISE_PEER",
        value_name = "ADDR",
        help_heading = "Addresses"
    )]
    pub advertise_peer: Option<HostPort>,
    /// The HTTP address that others are told [default: --http]
    #[arg(
        long,
        env = "QUORATE_ADVERTISE_HTTP",
        value_name = "ADDR",
        help_heading = "Addresses"
    )]
    pub advertise_http: Option<HostPort>,

    /// proxy: any node serves every key. cluster: MOVED, as in Redis Cluster [default: proxy]
    #[arg(
        long,
        env = "QUORATE_REDIS_MODE",
        value_name = "MODE",
        help_heading = "Clients"
    )]
    pub redis_mode: Option<RedisMode>,
    /// The largest command, 64KiB to 64MiB [default: 64MiB]
    #[arg(
        long,
        env = "QUORATE_FRAME_BYTES_MAX",
        value_name = "SIZE",
        help_heading = "Clients"
    )]
    pub frame_bytes_max: Option<ByteSize>,
    /// Client connections at a time, 1 to 1000000 [default: 10000]
    #[arg(
        long,
        env = "QUORATE_CONNECTIONS_MAX",
        value_name = "N",
        help_heading = "Clients"
    )]
    pub connections_max: Option<u32>,
    /// Commands under way on one connection, 1 to 65536; more wait in the socket [default: 1024]
    #[arg(
        long,
        env = "QUORATE_PIPELINE_DEPTH_MAX",
        value_name = "N",
        help_heading = "Clients"
    )]
    pub pipeline_depth_max: Option<u32>,
    /// A command is answered within this time, with an error if need be, 100 to 600000 [default: 5000]
    #[arg(
        long,
        env = "QUORATE_REQUEST_TIMEOUT_MS",
        value_name = "MS",
        help_heading = "Clients"
    )]
    pub request_timeout_ms: Option<u32>,

    /// Seconds after its opening that a session (ONCE) is forgotten, 600 to 2592000 [default: 86400]
    #[arg(
        long,
        env = "QUORATE_SESSION_TTL_S",
        value_name = "S",
        help_heading = "Sessions"
    )]
    pub session_ttl_s: Option<u32>,
    /// Sessions that a shard remembers; with more, the oldest are forgotten. 100 to 10000000 [default: 100000]
    #[arg(
        long,
        env = "QUORATE_SESSIONS_MAX_PER_SHARD",
        value_name = "N",
        help_heading = "Sessions"
    )]
    pub sessions_max_per_shard: Option<u32>,
    /// What a shard's session table may take; beyond, the oldest sessions are forgotten. 1MiB to 16GiB [default: 64MiB]
    #[arg(
        long,
        env = "QUORATE_SESSION_BYTES_MAX_PER_SHARD",
        value_name = "SIZE",
        help_heading = "Sessions"
    )]
    pub session_bytes_max_per_shard: Option<ByteSize>,

    /// The unit of the next two, 5 to 1000 [default: 50]
    #[arg(long, env = "QUORATE_TICK_MS", value_name = "MS", help_heading = "Consensus")]
    pub tick_ms: Option<u32>,
    /// Ticks between a leader's heartbeats, from 1 [default: 2]
    #[arg(
        long,
        env = "QUORATE_HEARTBEAT_TICKS",
        value_name = "N",
        help_heading = "Consensus"
    )]
    pub heartbeat_ticks: Option<u32>,
    /// Ticks without a leader until an election, at least 3 heartbeats, at most 1000 [default: 10]
    #[arg(
        long,
        env = "QUORATE_ELECTION_TICKS",
        value_name = "N",
        help_heading = "Consensus"
    )]
    pub election_ticks: Option<u32>,
    /// Whether a leader may read without asking the others while its lease holds: on or off [default: on]
    #[arg(long, env = "QUORATE_LEASES", value_name = "on|off", value_parser = parse_switch, help_heading = "Consensus")]
    pub leases: Option<bool>,
    /// How much faster one machine's clock may run than another's, as a fraction, 0 to 0.5; leases are shorter by it
    /// [default: 0.01]
    #[arg(
        long,
        env = "QUORATE_CLOCK_DRIFT_MAX",
        value_name = "SHARE",
        help_heading = "Consensus"
    )]
    pub clock_drift_max: Option<f64>,

    /// Bytes of one segment of the Raft log, 1MiB to 1GiB [default: 64MiB]
    #[arg(
        long,
        env = "QUORATE_LOG_SEGMENT_BYTES",
        value_name = "SIZE",
        help_heading = "Storage"
    )]
    pub log_segment_bytes: Option<ByteSize>,
    /// Log kept per shard for followers that are behind; one further behind gets a snapshot. 64KiB to 64GiB
    /// [default: 16MiB]
    #[arg(
        long,
        env = "QUORATE_LOG_RETENTION_BYTES_PER_SHARD",
        value_name = "SIZE",
        help_heading = "Storage"
    )]
    pub log_retention_bytes_per_shard: Option<ByteSize>,
    /// Log kept by all the shards of the store together, at least two segments [default: 1GiB]
    #[arg(
        long,
        env = "QUORATE_LOG_RETENTION_BYTES",
        value_name = "SIZE",
        help_heading = "Storage"
    )]
    pub log_retention_bytes: Option<ByteSize>,
    /// With less space left on the log's disk the store leads nothing and accepts only deletes; 0: never
    /// [default: 256MiB]
    #[arg(
        long,
        env = "QUORATE_LOW_SPACE_BYTES",
        value_name = "SIZE",
        help_heading = "Storage"
    )]
    pub low_space_bytes: Option<ByteSize>,
    /// Snapshots sent in a second, to all followers together; 0: as fast as they go [default: 8MiB]
    #[arg(
        long,
        env = "QUORATE_SNAPSHOT_BYTES_PER_SECOND",
        value_name = "SIZE",
        help_heading = "Storage"
    )]
    pub snapshot_bytes_per_second: Option<ByteSize>,
    /// A shard with more keys and values is split in two; 0: only by hand [default: 4GiB]
    #[arg(
        long,
        env = "QUORATE_SPLIT_BYTES",
        value_name = "SIZE",
        help_heading = "Storage"
    )]
    pub split_bytes: Option<ByteSize>,
    /// Who syncs the log. inline: the reactor. thread: a thread beside it. auto: inline while syncs are quick
    /// [default: auto]
    #[arg(long, env = "QUORATE_LOG_SYNC", value_name = "HOW", help_heading = "Storage")]
    pub log_sync: Option<LogSync>,

    /// Whether replicas are made and moved and leaders spread by themselves: on or off, the same on every node
    /// [default: on]
    #[arg(long, env = "QUORATE_SCHEDULE", value_name = "on|off", value_parser = parse_switch, help_heading = "Placement")]
    pub schedule: Option<bool>,
    /// Seconds of silence after which other stores are to hold what a store holds, 30 to 2592000 [default: 1800]
    #[arg(
        long,
        env = "QUORATE_REPLACE_AFTER_S",
        value_name = "S",
        help_heading = "Placement"
    )]
    pub replace_after_s: Option<u32>,

    /// error, warn, info, debug, trace; or by part: info,quorate_store=debug [default: info]
    #[arg(long, env = "QUORATE_LOG_LEVEL", value_name = "LEVEL", help_heading = "Logs")]
    pub log_level: Option<String>,
    /// Form of the lines on standard error [default: text]
    #[arg(long, env = "QUORATE_LOG_FORMAT", value_name = "FORM", help_heading = "Logs")]
    pub log_format: Option<LogFormat>,
}

impl ConfigLayer {
    /// This layer, and where it says nothing the one below.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        // Without `..`: a new field that is forgotten here does not compile.
        Self {
            data: self.data.or(below.data),
            store_id: self.store_id.or(below.store_id),
            bootstrap: self.bootstrap.or(below.bootstrap),
            bootstrap_token: self.bootstrap_token.or(below.bootstrap_token),
            join: self.join.or(below.join),
            label: self.label.or(below.label),
            roles: self.roles.or(below.roles),
            shards: self.shards.or(below.shards),
            replicas: self.replicas.or(below.replicas),
            listen: self.listen.or(below.listen),
            peer: self.peer.or(below.peer),
            http: self.http.or(below.http),
            advertise_listen: self.advertise_listen.or(below.advertise_listen),
            advertise_peer: self.advertise_peer.or(below.advertise_peer),
            advertise_http: self.advertise_http.or(below.advertise_http),
            redis_mode: self.redis_mode.or(below.redis_mode),
            frame_bytes_max: self.frame_bytes_max.or(below.frame_bytes_max),
            connections_max: self.connections_max.or(below.connections_max),
            pipeline_depth_max: self.pipeline_depth_max.or(below.pipeline_depth_max),
            request_timeout_ms: self.request_timeout_ms.or(below.request_timeout_ms),
            session_ttl_s: self.session_ttl_s.or(below.session_ttl_s),
            sessions_max_per_shard: self.sessions_max_per_shard.or(below.sessions_max_per_shard),
            session_bytes_max_per_shard: self
                .session_bytes_max_per_shard
                .or(below.session_bytes_max_per_shard),
            tick_ms: self.tick_ms.or(below.tick_ms),
            heartbeat_ticks: self.heartbeat_ticks.or(below.heartbeat_ticks),
            election_ticks: self.election_ticks.or(below.election_ticks),
            leases: self.leases.or(below.leases),
            clock_drift_max: self.clock_drift_max.or(below.clock_drift_max),
            log_segment_bytes: self.log_segment_bytes.or(below.log_segment_bytes),
            log_retention_bytes_per_shard: self
                .log_retention_bytes_per_shard
                .or(below.log_retention_bytes_per_shard),
            log_retention_bytes: self.log_retention_bytes.or(below.log_retention_bytes),
            low_space_bytes: self.low_space_bytes.or(below.low_space_bytes),
            split_bytes: self.split_bytes.or(below.split_bytes),
            snapshot_bytes_per_second: self.snapshot_bytes_per_second.or(below.snapshot_bytes_per_second),
            schedule: self.schedule.or(below.schedule),
            replace_after_s: self.replace_after_s.or(below.replace_after_s),
            log_sync: self.log_sync.or(below.log_sync),
            log_level: self.log_level.or(below.log_level),
            log_format: self.log_format.or(below.log_format),
        }
    }
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("on or off".to_owned()),
    }
}
