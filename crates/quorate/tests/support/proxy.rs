//! A proxy on loopback between nodes, and before them, that delays, loses and cuts what passes.
//!
//! Every ordered pair of nodes has a port of its own: what node `a` dials to reach node `b`. A connection carries both
//! directions, and each direction is delayed and blocked for itself.
//!
//! What faults mean on a stream:
//!
//! - **Delay**: what was read at once waits for a time drawn anew, uniformly, and what comes behind it waits too. Nothing
//!   is overtaken within a connection.
//! - **Loss**: TCP loses nothing in the middle. A message that is lost is a connection that breaks with the message
//!   still in the proxy: it is not delivered, nor is anything else that was under way on the connection, and the two
//!   ends find out. The chance is for each piece read, a request or an answer mostly.
//! - **Block**: what comes is held, the ends are told nothing, as by a router that drops packets. When the link is
//!   healed, one half of the connections goes on with what was held, as TCP does when packets pass again, and the other
//!   half breaks; or all of them break, so that nothing that was sent meanwhile arrives.
//!
//! Chances are drawn from the seed, for each connection and direction in the order of what passes; when something passes
//! depends on the machine, so a seed makes runs alike, not equal.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate::rng::Rng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// How often a held connection looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);
const PIECE_BYTES: usize = 64 << 10;

/// One end of a link: a node by its number from 0, or the clients.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum End {
    Node(usize),
    Clients,
}

/// What happens to what passes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Weather {
    /// The longest delay in milliseconds.
    pub delay_ms_max: u64,
    /// Chance in ten thousand that a piece is lost.
    pub loss: u64,
}

#[derive(Default)]
struct Rules {
    weather: Weather,
    /// Weather of the links of clients.
    clients: Weather,
    /// Directions that hold what comes.
    blocked: BTreeSet<(End, End)>,
    /// Whether every connection that was held breaks.
    lose_held: bool,
}

struct Shared {
    seed: u64,
    rules: Mutex<Rules>,
    connections: AtomicU64,
    lost: AtomicU64,
    held: AtomicU64,
}

/// See the module.
pub struct Proxy {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// What it did.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    pub connections: u64,
    /// Connections broken by losses.
    pub lost: u64,
    /// Pieces that were held for a while.
    pub held: u64,
}

impl Proxy {
    pub fn new(seed: u64) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("proxy")
            .enable_all()
            .build()
            .unwrap();
        let shared = Shared {
            seed,
            rules: Mutex::default(),
            connections: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            held: AtomicU64::new(0),
        };
        Self {
            shared: Arc::new(shared),
            runtime: Some(runtime),
        }
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it runs until it is dropped")
    }

    /// A port on which `from` finds `to`, which listens on `port`.
    pub fn link(&self, from: End, to: End, port: u16) -> u16 {
        let listener = self
            .runtime()
            .block_on(TcpListener::bind(("127.0.0.1", 0)))
            .unwrap();
        let own = listener.local_addr().unwrap().port();
        let shared = self.shared.clone();
        self.runtime().spawn(async move {
            while let Ok((dialer, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(connection(shared.clone(), [from, to], dialer, port, number));
            }
        });
        own
    }

    fn change(&self, how: impl FnOnce(&mut Rules)) {
        how(&mut self.shared.rules.lock().unwrap());
    }

    /// Between nodes, from now on.
    pub fn weather(&self, weather: Weather) {
        self.change(|rules| rules.weather = weather);
    }

    /// Between clients and nodes, from now on.
    pub fn client_weather(&self, weather: Weather) {
        self.change(|rules| rules.clients = weather);
    }

    /// Holds what one node sends to another; the other direction stays.
    pub fn cut_one_way(&self, from: usize, to: usize) {
        self.change(|rules| {
            rules.blocked.insert((End::Node(from), End::Node(to)));
        });
    }

    /// Only nodes of the same set reach each other; a node in no set reaches nobody. Clients reach all.
    pub fn partition(&self, nodes: usize, sets: &[&[usize]]) {
        let of = |node: usize| sets.iter().position(|set| set.contains(&node));
        self.change(|rules| {
            rules.blocked.clear();
            for from in 0..nodes {
                for to in (0..nodes).filter(|to| *to != from) {
                    if of(from).is_none() || of(from) != of(to) {
                        rules.blocked.insert((End::Node(from), End::Node(to)));
                    }
                }
            }
        });
    }

    /// From now on a connection that was held always breaks.
    pub fn lose_held(&self) {
        self.change(|rules| rules.lose_held = true);
    }

    /// Lifts all blocks.
    pub fn heal(&self) {
        self.change(|rules| rules.blocked.clear());
    }

    pub fn passed(&self) -> Passed {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        Passed {
            connections: count(&self.shared.connections),
            lost: count(&self.shared.lost),
            held: count(&self.shared.held),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Both directions of a connection; when one ends, both do.
async fn connection(shared: Arc<Shared>, [from, to]: [End; 2], dialer: TcpStream, port: u16, number: u64) {
    let Ok(target) = TcpStream::connect(("127.0.0.1", port)).await else {
        return;
    };
    if dialer
        .set_nodelay(true)
        .and_then(|()| target.set_nodelay(true))
        .is_err()
    {
        return;
    }
    let ((read_dialer, write_dialer), (read_target, write_target)) =
        (dialer.into_split(), target.into_split());
    let there = direction(&shared, (from, to), read_dialer, write_target, 2 * number);
    let back = direction(&shared, (to, from), read_target, write_dialer, 2 * number + 1);
    either(there, back).await;
}

/// Waits for whichever ends first.
async fn either(a: impl Future<Output = ()>, b: impl Future<Output = ()>) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    std::future::poll_fn(|context| {
        if a.as_mut().poll(context).is_ready() {
            return std::task::Poll::Ready(());
        }
        b.as_mut().poll(context)
    })
    .await;
}

async fn direction(
    shared: &Shared,
    link: (End, End),
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    number: u64,
) {
    let mut chance = Rng::new(shared.seed ^ number.wrapping_mul(0xD134_2543_DE82_EF95));
    let is_clients = link.0 == End::Clients || link.1 == End::Clients;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let Ok(length @ 1..) = from.read(&mut piece).await else {
            return;
        };
        let weather = {
            let rules = shared.rules.lock().unwrap();
            if is_clients { rules.clients } else { rules.weather }
        };
        if weather.loss > 0 && chance.below(10_000) < weather.loss {
            shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if weather.delay_ms_max > 0 {
            let us = chance.below(weather.delay_ms_max * 1000);
            tokio::time::sleep(Duration::from_micros(us)).await;
        }
        let mut was_held = false;
        while shared.rules.lock().unwrap().blocked.contains(&link) {
            was_held = true;
            tokio::time::sleep(LOOK).await;
        }
        if was_held {
            shared.held.fetch_add(1, Ordering::Relaxed);
            if chance.below(2) == 0 || shared.rules.lock().unwrap().lose_held {
                return;
            }
        }
        if to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
