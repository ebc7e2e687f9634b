//! A cluster with a proxy on every link.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use quorate::client::{Client, Reply};

use crate::support::proxy::{End, Proxy, Weather};
use crate::support::{Cluster, TIMEOUT, ask};

/// Recovery of any kind.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// NET-01's delays and losses.
pub(crate) const BETWEEN_NODES: Weather = Weather {
    delay_ms_max: 26,
    loss: 50,
};
pub(crate) const BEFORE_NODES: Weather = Weather {
    delay_ms_max: 26,
    loss: 1_000,
};
/// The list's m; a node keeps no less.
pub(crate) const M: u64 = 64 << 10;

/// One cluster at a time: rows have times in them, and the machine has few cores.
static TURN: Mutex<()> = Mutex::new(());

/// Chance of a row, from its seed.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % end
    }

    pub(crate) fn range(&mut self, from: u64, end: u64) -> u64 {
        from + self.below(end - from)
    }
}

/// A replica, as its node shows it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) replica: u64,
    pub(crate) leads: bool,
    pub(crate) applied: u64,
    pub(crate) last: u64,
    pub(crate) log_base: u64,
    pub(crate) log_bytes: u64,
}

pub(crate) struct Net {
    pub(crate) cluster: Cluster,
    pub(crate) proxy: Proxy,
    /// Where clients find the nodes through the proxy.
    pub(crate) addrs: Vec<String>,
    pub(crate) seed: u64,
    _turn: MutexGuard<'static, ()>,
}

impl Net {
    /// `nodes` nodes with one shard of data on all of them, ready. Who holds and who leads it is the row's to say.
    pub(crate) fn start(row: &str, nodes: u16, more: &[&str]) -> Self {
        let replicas = nodes.to_string();
        let all = ["--replicas", &replicas, "--schedule", "off"];
        Self::start_with(row, nodes, 1, &[&all, more].concat())
    }

    /// `nodes` nodes with so many shards, ready.
    pub(crate) fn start_with(row: &str, nodes: u16, shards: u16, more: &[&str]) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let seed = std::env::var("QUORATE_SEED")
            .ok()
            .and_then(|seed| seed.parse().ok());
        let clock = || {
            u64::from(
                std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .unwrap()
                    .subsec_micros(),
            )
        };
        let seed = seed.unwrap_or_else(clock);
        println!("row {row}, QUORATE_SEED={seed}");
        let proxy = Proxy::new(seed);
        let more = [&["--log-segment-bytes", "4MiB"], more].concat();
        let mut cluster = Cluster::prepare_each(nodes, shards, &more, |own, peers| {
            let reached = |(to, port): (usize, &u16)| {
                if to == own {
                    *port
                } else {
                    proxy.link(End::Node(own), End::Node(to), *port)
                }
            };
            peers.iter().enumerate().map(reached).collect()
        });
        let mut addrs = Vec::new();
        for (at, node) in cluster.nodes.iter_mut().enumerate() {
            let addr = format!(
                "127.0.0.1:{}",
                proxy.link(End::Clients, End::Node(at), node.client)
            );
            node.args.extend(["--advertise-listen".to_owned(), addr.clone()]);
            addrs.push(addr);
            node.start();
        }
        cluster.wait_ready();
        Self {
            cluster,
            proxy,
            addrs,
            seed,
            _turn: turn,
        }
    }

    pub(crate) fn nodes(&self) -> usize {
        self.cluster.nodes.len()
    }

    pub(crate) fn chance(&self) -> Chance {
        Chance::new(self.seed)
    }

    pub(crate) fn unreliable(&self) {
        self.proxy.weather(BETWEEN_NODES);
        self.proxy.client_weather(BEFORE_NODES);
    }

    pub(crate) fn reliable(&self) {
        self.proxy.weather(Weather::default());
        self.proxy.client_weather(Weather::default());
        self.proxy.heal();
    }

    /// A client of one node, not through the proxy.
    pub(crate) fn at(&self, node: usize) -> Client {
        Client::connect(&self.cluster.nodes[node].addr(), TIMEOUT).unwrap()
    }

    /// The replicas of a node by shard; none while it is down.
    pub(crate) fn rows(&self, node: usize) -> BTreeMap<u64, Row> {
        let addr = self.cluster.nodes[node].addr();
        let reply =
            Client::connect(&addr, TIMEOUT).and_then(|mut client| client.command(&[b"QUORATE", b"STATUS"]));
        let Ok(Reply::Array(rows)) = reply else {
            return BTreeMap::new();
        };
        let row = |row: Reply| {
            let Reply::Array(fields) = row else {
                panic!("{row:?}")
            };
            let field = |name: &str| {
                let is_it = |pair: &&[Reply]| {
                    pair[0] == Reply::Bulk(name.into()) || pair[0] == Reply::Simple(name.into())
                };
                fields
                    .chunks(2)
                    .find(is_it)
                    .map(|pair| pair[1].clone())
                    .unwrap_or_else(|| panic!("{name} in {fields:?}"))
            };
            let number = |name: &str| match field(name) {
                Reply::Int(number) => number as u64,
                other => panic!("{name}: {other:?}"),
            };
            let leads = matches!(field("role"), Reply::Bulk(role) if role == b"leader")
                || field("role") == Reply::Simple("leader".into());
            let row = Row {
                replica: number("replica"),
                leads,
                applied: number("applied"),
                last: number("last"),
                log_base: number("log-base"),
                log_bytes: number("log-bytes"),
            };
            (number("shard"), row)
        };
        rows.into_iter().map(row).collect()
    }

    /// The node of `among` that leads a shard, once one does and answers a read.
    pub(crate) fn leader(&self, shard: u64, among: &[usize]) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leads = |node: &&usize| self.rows(**node).get(&shard).is_some_and(|row| row.leads);
            if let Some(node) = among.iter().find(leads)
                && !matches!(ask(&mut self.at(*node), "GET any"), Reply::Error(_))
            {
                return *node;
            }
            assert!(Instant::now() < deadline, "none of {among:?} leads shard {shard}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn all(&self) -> Vec<usize> {
        self.all_but(&[])
    }

    pub(crate) fn all_but(&self, these: &[usize]) -> Vec<usize> {
        (0..self.nodes()).filter(|node| !these.contains(node)).collect()
    }

    /// Makes a node lead a shard: what it answers then is from its own engine.
    pub(crate) fn make_leader(&self, shard: u64, node: usize) {
        let deadline = Instant::now() + PATIENCE;
        while !self.rows(node).get(&shard).is_some_and(|row| row.leads) {
            let wish = format!("QUORATE TRANSFER {shard} {}", node + 1);
            let said = ask(&mut self.at(node), &wish);
            assert!(
                Instant::now() < deadline,
                "node {node} does not come to lead shard {shard}: {said:?}"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Lets time pass until it holds.
    pub(crate) fn wait(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            let rows: Vec<_> = (0..self.nodes()).map(|node| self.rows(node)).collect();
            assert!(Instant::now() < deadline, "not in {PATIENCE:?}: {what}; {rows:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How many snapshots a node has installed since it was started.
    pub(crate) fn snapshots_installed(&self, node: usize) -> u64 {
        let page = crate::support::page(&self.cluster.nodes[node], "/status");
        let page: serde_json::Value = serde_json::from_str(&page).unwrap();
        // A node that was started a moment ago has no account of itself yet.
        let counters = page["node"].as_object().map(|node| &node["counters"]);
        counters.map_or(0, |counters| counters["snapshots_installed"].as_u64().unwrap())
    }

    /// `kill -9` to all, a pause, and all are started.
    pub(crate) fn crash_all(&mut self, pause: Duration) {
        for node in &mut self.cluster.nodes {
            node.kill();
        }
        std::thread::sleep(pause);
        for node in &mut self.cluster.nodes {
            node.start();
        }
    }

    /// Divides the nodes into two random sets, one of which may be empty.
    pub(crate) fn split_in_two(&self, chance: &mut Chance) {
        let (a, b): (Vec<_>, Vec<_>) = self.all().into_iter().partition(|_| chance.below(2) == 0);
        self.proxy.partition(self.nodes(), &[&a, &b]);
    }

    pub(crate) fn report(&self) {
        println!("  {:?}", self.proxy.passed());
    }
}
