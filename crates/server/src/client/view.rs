//! What surrounds a session: the node as it knows itself, and the queues that a session fills.

use bytes::Bytes;
use quorate_storage::{ClusterId, StoreId};
use quorate_store::{ClientRequest, RequestId, RouteMode, ShardRoute};

use crate::resp::Limits;

/// What a session works with during one call.
#[derive(Debug)]
pub struct ClientContext<'a> {
    /// What the node knows.
    pub node: &'a NodeView,
    /// The wall clock, in milliseconds since the Unix epoch.
    pub wall_ms: u64,
    /// Requests for the store are pushed here, in the order in which they shall take effect.
    pub requests: &'a mut Vec<ClientRequest>,
    /// Commands about the node itself are pushed here.
    pub node_commands: &'a mut Vec<NodeCommand>,
}

/// A `QUORATE` command that the session leaves to the node; it is answered through
/// [`ClientSession::complete_raw`](super::ClientSession::complete_raw).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeCommand {
    /// Comes back with the answer.
    pub id: RequestId,
    /// All arguments, `QUORATE` being the first.
    pub args: Vec<Bytes>,
}

/// What the node knows of itself and of the cluster.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// This node's store.
    pub store: StoreId,
    /// The cluster.
    pub cluster: ClusterId,
    /// How connections are served until they ask otherwise.
    pub mode_default: RouteMode,
    /// Where each run of slots is served, sorted by slot, without overlaps.
    pub routes: Vec<ShardRoute>,
    /// Every store of the cluster, sorted by id.
    pub stores: Vec<StoreInfo>,
    /// Counters for INFO.
    pub stats: NodeStats,
    /// What clients may do.
    pub config: ClientLimits,
    /// Random; ids of sessions are derived from it.
    pub secret: u128,
    /// Quorate's version.
    pub version: &'static str,
    /// The process.
    pub pid: u32,
    /// The port that clients connect to.
    pub tcp_port: u16,
}

/// A store of the cluster and its advertised addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreInfo {
    /// The store.
    pub id: StoreId,
    /// Host name or address for clients.
    pub client_host: String,
    /// Port for clients.
    pub client_port: u16,
    /// Port for other nodes.
    pub peer_port: u16,
    /// Port for HTTP.
    pub http_port: u16,
    /// Whether this node hears from it.
    pub up: bool,
}

/// Counters and gauges of the node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NodeStats {
    /// Seconds since the process started.
    pub uptime_s: u64,
    /// Client connections now.
    pub connections: u64,
    /// Client connections ever accepted.
    pub connections_total: u64,
    /// Client connections refused.
    pub connections_rejected: u64,
    /// Commands ever processed.
    pub commands_total: u64,
    /// Bytes ever received from clients.
    pub client_bytes_in: u64,
    /// Bytes ever sent to clients.
    pub client_bytes_out: u64,
    /// Resident memory in bytes; 0 if not known.
    pub memory_bytes: u64,
    /// Replicas on this store.
    pub replicas: u64,
    /// Keys in the whole key space, by estimate; `None` if there is none.
    pub keys_estimate: Option<u64>,
}

/// What clients may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientLimits {
    /// Longest request and longest argument.
    pub wire: Limits,
    /// Most requests of one connection under way.
    pub pipeline_depth_max: usize,
    /// Above this many bytes of unsent replies a connection is no longer read.
    pub output_bytes_max: usize,
    /// Milliseconds until a request must have its answer.
    pub request_timeout_ms: u32,
    /// Most client connections.
    pub connections_max: u64,
}

impl Default for ClientLimits {
    fn default() -> Self {
        ClientLimits {
            wire: Limits::default(),
            pipeline_depth_max: 1024,
            output_bytes_max: 1 << 20,
            request_timeout_ms: 5_000,
            connections_max: 10_000,
        }
    }
}

impl NodeView {
    /// The store with this id.
    #[must_use]
    pub fn store_info(&self, id: StoreId) -> Option<&StoreInfo> {
        self.stores.iter().find(|store| store.id == id)
    }

    /// The route of a slot.
    #[must_use]
    pub fn route_of(&self, slot: u16) -> Option<&ShardRoute> {
        self.routes
            .iter()
            .find(|route| (route.start_slot..route.end_slot).contains(&slot))
    }

    /// The routes that commands over all keys cover: every shard in proxy mode; in cluster mode those led
    /// here, because cluster clients ask every node and add up.
    pub(super) fn covered(&self, mode: RouteMode) -> impl Iterator<Item = &ShardRoute> {
        let all = mode == RouteMode::Proxy;
        self.routes
            .iter()
            .filter(move |route| all || route.leader == Some(self.store))
    }

    /// A store's name in the Redis Cluster protocol: 40 hexadecimal digits.
    #[must_use]
    pub fn cluster_node_id(&self, store: StoreId) -> String {
        // The cluster's id is folded, so that the store's has room; both are spread over all the digits by
        // the finalizer of SplitMix64, because clients show the first few only.
        let folded = (self.cluster.0 as u64) ^ (self.cluster.0 >> 64) as u64;
        let mixed = |salt: u64| {
            let mut z = folded ^ store.0.wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        format!("{:016x}{:016x}{:08x}", mixed(1), mixed(2), mixed(3) as u32)
    }

    /// How many other replicas are sure to hold every acknowledged write: a majority of the voters, less the
    /// one that answers; the smallest number over all shards.
    #[must_use]
    pub fn replicas_of_acknowledged(&self) -> usize {
        self.routes
            .iter()
            .map(|route| route.stores.len() / 2)
            .min()
            .unwrap_or(0)
    }
}
