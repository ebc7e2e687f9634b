//! The node as sessions see it, kept up to date.
//!
//! Routes follow the store's at the end of every turn in which they changed, so that MOVED and CLUSTER SLOTS are
//! as right as this node can know. Counters follow once per tick.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use quorate_proto::StoreRecord;
use quorate_storage::StoreId;
use quorate_storage::engine::Engine;
use quorate_store::{RouteMode, SLOTS, Store};

use crate::client::{ClientLimits, NodeStats, NodeView, StoreInfo};
use crate::config::{HostPort, RedisMode, ServerConfig};
use crate::connections::Connections;
use crate::resp::Limits;
use crate::status::Counters;

/// Above this many bytes of unsent replies a connection is no longer read.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Refreshes between two looks at the memory that the process takes: a system call is not for every tick.
const REFRESHES_PER_MEMORY: u32 = 20;

/// Owns the [`NodeView`].
pub(crate) struct ViewKeeper {
    view: NodeView,
    /// Of the routes in the view.
    routes_version: u64,
    started: Instant,
    refreshes: u32,
}

impl ViewKeeper {
    /// `addresses`: where the peers listen, as far as known. How clients reach them is known once they connect.
    pub(crate) fn new<E: Engine>(
        config: &ServerConfig,
        addresses: &BTreeMap<StoreId, String>,
        store: &Store<E>,
        secret: u128,
    ) -> Self {
        let routes = store.routes();
        let ids: BTreeSet<StoreId> = routes
            .iter()
            .flat_map(|route| &route.stores)
            .chain(addresses.keys())
            .copied()
            .chain([store.id()])
            .collect();
        let stores = ids.into_iter().map(|id| {
            if id == store.id() {
                return own_info(id, config);
            }
            let peer = addresses
                .get(&id)
                .and_then(|address| address.parse::<HostPort>().ok());
            StoreInfo {
                id,
                client_host: peer.as_ref().map_or_else(String::new, |peer| peer.host.clone()),
                client_port: 0,
                peer_port: peer.map_or(0, |peer| peer.port),
                http_port: 0,
                up: false,
            }
        });
        let view = NodeView {
            store: store.id(),
            cluster: store.cluster(),
            mode_default: match config.redis_mode {
                RedisMode::Proxy => RouteMode::Proxy,
                RedisMode::Cluster => RouteMode::Redirect,
            },
            stores: stores.collect(),
            stats: NodeStats {
                replicas: routes.len() as u64,
                ..NodeStats::default()
            },
            routes,
            config: ClientLimits {
                wire: Limits {
                    bulk_bytes_max: config.frame_bytes_max,
                    frame_bytes_max: config.frame_bytes_max,
                },
                pipeline_depth_max: config.pipeline_depth_max,
                output_bytes_max: OUTPUT_BYTES_MAX,
                request_timeout_ms: config.request_timeout_ms,
                connections_max: config.connections_max as u64,
            },
            secret,
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            tcp_port: config.listen.port(),
        };
        Self {
            view,
            routes_version: store.routes_version(),
            started: Instant::now(),
            refreshes: 0,
        }
    }

    /// For sessions.
    pub(crate) fn view(&self) -> &NodeView {
        &self.view
    }

    /// There is such a store; without a peer address: there was one.
    pub(crate) fn meet(&mut self, record: &StoreRecord) {
        if record.peer.is_empty() {
            self.view
                .stores
                .retain(|info| info.id != record.store || info.up || info.id == self.view.store);
            return;
        }
        let parse = |address: &[u8]| std::str::from_utf8(address).ok()?.parse::<HostPort>().ok();
        let (client, peer, http) = (parse(&record.client), parse(&record.peer), parse(&record.http));
        let info = self.info(record.store);
        info.peer_port = peer.map_or(info.peer_port, |peer| peer.port);
        // What a connected peer says of itself is newer.
        if !info.up {
            if let Some(client) = client {
                (info.client_host, info.client_port) = (client.host, client.port);
            }
            info.http_port = http.map_or(info.http_port, |http| http.port);
        }
    }

    /// A peer is connected and has told its addresses.
    pub(crate) fn peer_up(&mut self, store: StoreId, client_address: &str, http_address: &str) {
        let info = self.info(store);
        info.up = true;
        match client_address.parse::<HostPort>() {
            Ok(client) => {
                info.client_host = client.host;
                info.client_port = client.port;
            }
            Err(error) => tracing::warn!(peer = store.0, error, "client address of a peer is not one"),
        }
        match http_address.parse::<HostPort>() {
            Ok(http) => info.http_port = http.port,
            Err(error) => tracing::warn!(peer = store.0, error, "HTTP address of a peer is not one"),
        }
    }

    /// A peer's connection broke. Its addresses stay: clients may still reach it.
    pub(crate) fn peer_down(&mut self, store: StoreId) {
        self.info(store).up = false;
    }

    /// What is known of a store, which may be new.
    fn info(&mut self, id: StoreId) -> &mut StoreInfo {
        let stores = &mut self.view.stores;
        let at = stores.partition_point(|info| info.id < id);
        if stores.get(at).is_none_or(|info| info.id != id) {
            let info = StoreInfo {
                id,
                client_host: String::new(),
                client_port: 0,
                peer_port: 0,
                http_port: 0,
                up: false,
            };
            stores.insert(at, info);
        }
        &mut stores[at]
    }

    /// Peers that are connected.
    pub(crate) fn peers_connected(&self) -> u64 {
        let connected = |info: &&StoreInfo| info.up && info.id != self.view.store;
        self.view.stores.iter().filter(connected).count() as u64
    }

    /// Takes over the store's routes if they changed. To be called every turn.
    pub(crate) fn follow_routes<E: Engine>(&mut self, store: &Store<E>) {
        let version = store.routes_version();
        if version != self.routes_version {
            self.routes_version = version;
            self.view.routes = store.routes();
        }
    }

    /// Slots whose shard is unknown here, or has no leader as far as is known.
    pub(crate) fn slots_without_leader(&self) -> u32 {
        let led = self.view.routes.iter().filter(|route| route.leader.is_some());
        let led: u32 = led
            .map(|route| u32::from(route.end_slot - route.start_slot))
            .sum();
        u32::from(SLOTS).saturating_sub(led)
    }

    /// Takes over counters. To be called every tick.
    pub(crate) fn refresh(&mut self, connections: &Connections, counters: &Counters) {
        let (bytes_in, bytes_out) = connections.bytes();
        let stats = &mut self.view.stats;
        stats.uptime_s = self.started.elapsed().as_secs();
        stats.connections = connections.open() as u64;
        stats.connections_total = counters.connections_accepted;
        stats.connections_rejected = counters.connections_refused;
        stats.commands_total = counters.commands;
        stats.client_bytes_in = bytes_in;
        stats.client_bytes_out = bytes_out;
        if self.refreshes.is_multiple_of(REFRESHES_PER_MEMORY) {
            stats.memory_bytes = memory_bytes();
        }
        self.refreshes = self.refreshes.wrapping_add(1);
    }
}

fn own_info(id: StoreId, config: &ServerConfig) -> StoreInfo {
    StoreInfo {
        id,
        client_host: config.advertise_listen.host.clone(),
        client_port: config.advertise_listen.port,
        peer_port: config.advertise_peer.port,
        http_port: config.advertise_http.port,
        up: true,
    }
}

/// Resident memory of the process; 0 where the system does not say.
fn memory_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
