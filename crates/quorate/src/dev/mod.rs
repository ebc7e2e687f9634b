//! `dev`: a cluster on this machine, for trying things out: three nodes, or controllers and groups of stores.
//!
//! The nodes are processes of their own (`serve`, the same executable), so that one of them can be killed to see
//! what happens; `dev` starts them, says where they are, and stops them with itself. What must outlast it (the
//! bootstrap token, the number of shards, which nodes there are) is in a small file beside the data, so that a second `dev` on the same
//! directory finds its cluster.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use quorate_server::config::RedisMode;
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::cli::Failure;
use groups::Forming;
use layout::{Asked, Layout};
use memory::Memory;
use node::{Node, Ports};

mod groups;
mod layout;
mod memory;
mod node;
pub mod probe;

/// How often children and signals are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// After this time without a ready cluster the reasons are shown.
const PATIENCE: Duration = Duration::from_secs(15);

/// `dev`
#[derive(Args, Debug)]
#[command(
    after_help = "Clients connect to ports BASE, BASE+1…, peers to BASE+100…, HTTP is at BASE+200….\n\
                        `--controllers 3 --groups 2 --stores 3`: nine nodes, the first three without shards of their own.\n\
                        Other settings reach the nodes through the environment, see `quorate serve --help`."
)]
pub struct DevArgs {
    /// Where the nodes keep their data and logs
    #[arg(long, default_value = "quorate-dev", value_name = "DIR")]
    data: PathBuf,
    /// The first client port; all other ports move with it
    #[arg(long, default_value_t = 7001, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..=65_000))]
    base_port: u16,
    /// Shards that a new cluster is cut into, 1 to 1024 [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    shards: Option<u32>,
    #[command(flatten)]
    nodes: Asked,
    /// proxy: any node serves every key. cluster: MOVED, as in Redis Cluster
    #[arg(long, default_value = "proxy", value_name = "MODE")]
    redis_mode: RedisMode,
}

/// Starts the nodes and stays until it is told to stop.
pub fn run(args: DevArgs) -> Result<(), Failure> {
    let signals = Signals::watch().map_err(|e| Failure::new(format!("cannot watch for signals: {e}")))?;
    let mut memory = Memory::open(&args.data, args.shards, args.nodes).map_err(Failure::new)?;
    let layout = memory.layout;
    let ports: Vec<Ports> = (0..layout.nodes())
        .map(|n| Ports::of(args.base_port, n))
        .collect();
    check_ports(&ports)?;

    let started = Instant::now();
    print_title(&args.data, &memory);
    let mut nodes: Vec<Node> = Vec::new();
    let mut stage = Stage::Starting { complained: false };
    // The first members have what they are to have from the start.
    let mut forming = if memory.is_grouped || layout.first_members() == layout.nodes() {
        Forming::Done
    } else {
        Forming::Config
    };
    while !signals.take() {
        // Nodes already started are stopped by their standard input when this function returns.
        while let Some(id) = next_to_start(&nodes, layout, &args.data) {
            let node = Node::start(id, &args.data, &ports, &memory, args.redis_mode).map_err(Failure::new)?;
            print_row(&node, layout);
            nodes.push(node);
        }
        for node in &mut nodes {
            if let Some(why) = node.newly_dead() {
                println!("{why}");
            }
        }
        if nodes.iter().all(|node| !node.is_running()) {
            return Err(Failure::new("all nodes have stopped"));
        }
        let unstarted = usize::from(layout.nodes()) - nodes.len();
        stage = stage.next(started, &nodes, unstarted, args.redis_mode, || {
            forming = forming.next(args.base_port, layout);
            forming == Forming::Done
        });
        if matches!(stage, Stage::Ready) && !memory.is_grouped {
            memory.grouped(&args.data).map_err(Failure::new)?;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    println!("stopping");
    stop(nodes, &signals);
    Ok(())
}

/// The node to start now, if any. A new one that joins comes when the one before it is ready: so it gets the next id.
fn next_to_start(nodes: &[Node], layout: Layout, data: &Path) -> Option<u16> {
    let id = nodes.len() as u16 + 1;
    let may_start = id <= layout.first_members()
        || Node::is_formatted(id, data)
        || nodes
            .last()
            .is_some_and(|last| probe::ready(last.ports().http).is_ok());
    (id <= layout.nodes() && may_start).then_some(id)
}

/// How far the start has come, in what has been told.
enum Stage {
    Starting { complained: bool },
    Ready,
}

impl Stage {
    fn next(
        self,
        started: Instant,
        nodes: &[Node],
        unstarted: usize,
        mode: RedisMode,
        mut is_formed: impl FnMut() -> bool,
    ) -> Self {
        let Self::Starting { complained } = self else {
            return self;
        };
        let mut waiting: Vec<(u16, String)> = nodes
            .iter()
            .filter(|node| node.is_running())
            .filter_map(|node| probe::ready(node.ports().http).err().map(|why| (node.id(), why)))
            .collect();
        if waiting.is_empty() && unstarted == 0 && !is_formed() {
            waiting.push((1, "shards are on their way to where they are to be".to_owned()));
        }
        if waiting.is_empty() && unstarted == 0 {
            println!("\nready after {:.1} s", started.elapsed().as_secs_f64());
            print_hints(nodes, mode);
            return Self::Ready;
        }
        if !complained && started.elapsed() > PATIENCE {
            println!("\nnot ready after {} s:", PATIENCE.as_secs());
            for (id, why) in waiting {
                println!("  node {id}: {why}");
            }
            return Self::Starting { complained: true };
        }
        Self::Starting { complained }
    }
}

/// Binds each port for a moment: a message that names the port is worth more than three dead children. The moment
/// between this and the child's own bind is no matter of correctness; the child would say the same.
fn check_ports(ports: &[Ports]) -> Result<(), Failure> {
    for (n, ports) in ports.iter().enumerate() {
        for (port, whose) in [
            (ports.client, "clients"),
            (ports.peer, "peers"),
            (ports.http, "HTTP"),
        ] {
            if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
                let why = match error.kind() {
                    std::io::ErrorKind::AddrInUse => "it is already in use".to_owned(),
                    _ => error.to_string(),
                };
                return Err(Failure::new(format!(
                    "cannot listen on port {port} ({whose} of node {}): {why}; stop what uses it, or move all \
                     ports with --base-port",
                    n + 1
                )));
            }
        }
    }
    Ok(())
}

fn print_title(data: &Path, memory: &Memory) {
    let layout = memory.layout;
    let nodes = match layout.nodes() {
        3 => "three nodes".to_owned(),
        nodes => format!("{nodes} nodes"),
    };
    println!(
        "Quorate {}: {nodes} on this machine, {} shards, {} data in {}\n",
        env!("CARGO_PKG_VERSION"),
        memory.shards,
        if memory.found { "existing" } else { "new" },
        data.display()
    );
    println!(
        "  {:<6}{:<18}{:<18}{:<18}{:<9}{:<12}log",
        "node", "clients", "peers", "http", "pid", "holds"
    );
}

fn print_row(node: &Node, layout: Layout) {
    let at = |port: u16| format!("127.0.0.1:{port}");
    let ports = node.ports();
    let holds = match layout.group(node.id()) {
        None => "controller".to_owned(),
        Some(group) if layout.groups() > 1 => format!("group {group}"),
        Some(_) => "shards".to_owned(),
    };
    println!(
        "  {:<6}{:<18}{:<18}{:<18}{:<9}{holds:<12}{}",
        node.id(),
        at(ports.client),
        at(ports.peer),
        at(ports.http),
        node.pid(),
        node.log().display()
    );
}

fn print_hints(nodes: &[Node], mode: RedisMode) {
    let flag = if mode == RedisMode::Cluster { " -c" } else { "" };
    let port = |n: usize| nodes.get(n).map_or(0, |node| node.ports().client);
    println!("\n  redis-cli{flag} -p {} set greeting hello", port(0));
    println!("  redis-cli{flag} -p {} get greeting", port(1));
    println!("  quorate bench --endpoints 127.0.0.1:{}", port(2));
    if let Some(node) = nodes.first() {
        println!("  curl http://127.0.0.1:{}/status", node.ports().http);
    }
    println!("\nCtrl-C stops all of them; the data stays.");
}

/// SIGTERM to all, 5 seconds, then SIGKILL. A second signal to `dev` shortens the wait.
fn stop(mut nodes: Vec<Node>, signals: &Signals) {
    let asked = Instant::now();
    for node in &mut nodes {
        node.terminate();
    }
    while nodes.iter_mut().any(|node| node.look())
        && asked.elapsed() < Duration::from_secs(5)
        && !signals.take()
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    for node in &mut nodes {
        if node.look() {
            println!(
                "node {} did not stop in time and was killed; its data is safe",
                node.id()
            );
            node.kill();
        }
    }
}

/// SIGTERM and SIGINT.
struct Signals(Arc<AtomicBool>);

impl Signals {
    fn watch() -> std::io::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, flag.clone())?;
        }
        Ok(Self(flag))
    }

    /// Whether there was one since the last call.
    fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}
