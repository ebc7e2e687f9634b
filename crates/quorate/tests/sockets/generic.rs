//! The list's generic runs: rounds of clients at work while the network and the nodes fail.
//!
//! Clients use the client library, which sends a write under a session until it is answered. So every append is there
//! exactly once, and no error reaches a client within its deadline.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quorate_client::{Client, Options};
use quorate_sim::linearizability::{Answer, Budget, Command, History, OperationId, assert_linearizable};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::net::{Chance, Net, PATIENCE};

/// An election timeout and more, by default settings.
const TIMEOUT: Duration = Duration::from_secs(1);
/// What a client thinks between two operations.
const THINK: Duration = Duration::from_millis(5);

/// How long it takes.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub(crate) rounds: u64,
    pub(crate) round: Duration,
}

pub(crate) const SHORT: Form = Form {
    rounds: 1,
    round: Duration::from_millis(1500),
};
pub(crate) const FULL: Form = Form {
    rounds: 3,
    round: Duration::from_secs(5),
};

/// What a client does.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Work {
    /// Rows K: appends to a key of its own, and reads of it.
    #[default]
    Appends,
    /// Rows T: puts of further keys, and scans of its own range.
    Ranges,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Generic {
    pub(crate) work: Work,
    pub(crate) clients: u64,
    /// NET-01; "drop" of rows T.
    pub(crate) unreliable: bool,
    pub(crate) crash: bool,
    /// Divides the nodes anew after times in this range, in milliseconds.
    pub(crate) partition: Option<(u64, u64)>,
    /// The list's m or gc.
    pub(crate) log_bound: Option<u64>,
    /// Replicas come and go.
    pub(crate) conf: bool,
    /// Shards are split by size and by hand.
    pub(crate) split: bool,
}

/// What all clients record.
pub(crate) struct Recorder {
    began: Instant,
    history: Mutex<History>,
}

impl Recorder {
    pub(crate) fn begin() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            history: Mutex::default(),
        })
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_micros() as u64
    }

    pub(crate) fn invoke(&self, client: u64, key: &str, command: Command) -> OperationId {
        let at = self.now();
        self.history
            .lock()
            .unwrap()
            .invoke(client, key.to_owned(), command, at)
    }

    pub(crate) fn done(&self, id: OperationId, answer: Answer) {
        let at = self.now();
        self.history.lock().unwrap().done(id, at, answer);
    }

    /// H-06.
    pub(crate) fn judge(&self, row: &str) {
        assert_linearizable(row, &self.history.lock().unwrap(), &Budget::default());
    }
}

/// What a client leaves: its key or range, and what must be there.
struct Left {
    own: String,
    value: String,
    keys: Vec<String>,
    operations: u64,
}

#[derive(Clone)]
struct Worker {
    id: u64,
    round: u64,
    client: Client,
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
    /// Bytes that make a write long enough for the log's bound to matter.
    padding: usize,
}

impl Worker {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// H-05: half appends, half reads that must see what this client has written.
    async fn append(self, mut chance: Chance) -> Left {
        let (key, mut value, mut operations) = (format!("{}.{}", self.round, self.id), String::new(), 0);
        let id = self.recorder.invoke(self.id, &key, Command::put(""));
        self.client.set(&key, "").await.unwrap();
        self.recorder.done(id, Answer::Done);
        while self.goes_on() {
            if chance.below(2) == 0 {
                let token = format!("x {} {operations} y{}", self.id, "-".repeat(self.padding));
                let id = self
                    .recorder
                    .invoke(self.id, &key, Command::append(token.clone()));
                let length = self.client.append(&key, &token).await.unwrap();
                self.recorder.done(id, Answer::Int(length as i64));
                value += &token;
                assert_eq!(
                    length,
                    value.len() as u64,
                    "{key}: {token} is there once, behind the others"
                );
            } else {
                let id = self.recorder.invoke(self.id, &key, Command::Get);
                let found = self
                    .client
                    .get(&key)
                    .await
                    .unwrap()
                    .unwrap_or_else(|| panic!("{key} is gone"));
                assert!(
                    found == value.as_bytes(),
                    "{key}: {} bytes instead of {}",
                    found.len(),
                    value.len()
                );
                self.recorder.done(id, Answer::Value(Some(found)));
            }
            operations += 1;
            tokio::time::sleep(THINK).await;
        }
        Left {
            own: key,
            value,
            keys: Vec::new(),
            operations,
        }
    }

    /// Half puts of the next key, half scans of the own range. A client's keys share a slot, so that they are a range.
    async fn put_and_scan(self, mut chance: Chance) -> Left {
        let own = format!("{} {{{}}} ", self.round, self.id);
        let (mut keys, mut operations) = (Vec::new(), 0);
        while self.goes_on() {
            if chance.below(2) == 0 {
                let key = format!("{own}{:08}", keys.len());
                let value = value_of(&key, self.padding);
                let id = self.recorder.invoke(self.id, &key, Command::put(value.clone()));
                self.client.set(&key, &value).await.unwrap();
                self.recorder.done(id, Answer::Done);
                keys.push(key);
            } else {
                assert_eq!(scan(&self.client, &own).await, keys, "own range of {own}");
            }
            operations += 1;
            tokio::time::sleep(THINK).await;
        }
        Left {
            own,
            value: String::new(),
            keys,
            operations,
        }
    }
}

fn value_of(key: &str, padding: usize) -> String {
    format!("value of {key}{}", "-".repeat(padding))
}

/// The keys of a range in order.
async fn scan(client: &Client, own: &str) -> Vec<String> {
    let mut scan = client.scan().matching(format!("{own}*"));
    let mut found = Vec::new();
    while let Some(page) = scan.next_page().await.unwrap() {
        found.extend(page.iter().map(|key| String::from_utf8(key.to_vec()).unwrap()));
    }
    found.sort();
    found
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

impl Generic {
    pub(crate) fn run(self, row: &str, form: Form) {
        let m = format!("{}", self.log_bound.unwrap_or(16 << 20));
        let split_bytes = if self.split { "800" } else { "0" };
        let mut net = Net::start(
            row,
            5,
            &[
                "--log-retention-bytes-per-shard",
                &m,
                "--split-bytes",
                split_bytes,
            ],
        );
        let mut chance = net.chance();
        let runtime = runtime();
        let options = Options::default()
            .deadline(PATIENCE)
            .attempt_max(Duration::from_millis(1500));
        let client = runtime
            .block_on(Client::connect_with(net.addrs.clone(), options))
            .unwrap();
        let recorder = Recorder::begin();
        let (mut operations, mut largest) = (0, 0);
        for round in 0..form.rounds {
            if self.unreliable {
                net.unreliable();
            }
            let stop = Arc::new(AtomicBool::new(false));
            let mut work = JoinSet::new();
            for id in 0..self.clients {
                let worker = Worker {
                    id,
                    round,
                    client: client.clone(),
                    recorder: recorder.clone(),
                    stop: stop.clone(),
                    padding: if self.log_bound.is_some() { 600 } else { 0 },
                };
                let own = Chance::new(net.seed ^ (round << 32) ^ ((id + 1) << 16));
                match self.work {
                    Work::Appends => work.spawn_on(worker.append(own), runtime.handle()),
                    Work::Ranges => work.spawn_on(worker.put_and_scan(own), runtime.handle()),
                };
            }
            self.faults(&mut net, &mut chance, form.round);
            stop.store(true, Ordering::Relaxed);
            if self.crash {
                net.crash_all(TIMEOUT);
            }
            net.proxy.heal();
            let left: Vec<Left> = runtime.block_on(async {
                let mut left = Vec::new();
                while let Some(ended) = work.join_next().await {
                    left.push(ended.unwrap());
                }
                left
            });
            net.reliable();
            net.cluster.wait_ready();
            for left in left {
                operations += left.operations;
                runtime.block_on(self.check(&client, &left));
            }
            largest = largest.max(self.check_log(&net));
        }
        if self.split {
            // Any one node may have been removed from all of them but one.
            let nodes = 0..net.cluster.nodes.len();
            let shards: BTreeSet<u64> = nodes.flat_map(|node| net.rows(node).into_keys()).collect();
            let shards = shards.len();
            assert!(shards > 2, "nothing was split");
            println!("  {} shards in the end", shards - 1);
            check_map(&net);
        }
        net.report();
        println!("  {operations} operations, largest log {largest} bytes");
        let least = self.clients * form.rounds;
        assert!(
            operations >= least,
            "{operations} operations prove little, {least} are the least"
        );
        recorder.judge(row);
    }

    async fn check(self, client: &Client, left: &Left) {
        match self.work {
            Work::Appends => {
                let found = client.get(&left.own).await.unwrap().unwrap();
                assert!(
                    found == left.value.as_bytes(),
                    "{}: not each token once and in order",
                    left.own
                );
            }
            Work::Ranges => {
                assert_eq!(scan(client, &left.own).await, left.keys);
                for key in &left.keys {
                    let found = client.get(key).await.unwrap();
                    let padding = if self.log_bound.is_some() { 600 } else { 0 };
                    assert!(
                        found.is_some_and(|found| found == value_of(key, padding).as_bytes()),
                        "{key}"
                    );
                }
                let gone = client.delete_many(&left.keys).await.unwrap();
                assert_eq!(gone, left.keys.len() as u64);
                assert_eq!(scan(client, &left.own).await, Vec::<String>::new());
            }
        }
    }

    fn faults(self, net: &mut Net, chance: &mut Chance, round: Duration) {
        let end = Instant::now() + round;
        let mut next_split = Instant::now() + Duration::from_millis(300);
        // A partition begins after a while without any.
        std::thread::sleep(round / 5);
        while Instant::now() < end {
            let pause = match self.partition {
                Some((from, to)) => {
                    net.split_in_two(chance);
                    Duration::from_millis(chance.range(from, to))
                }
                None => Duration::from_millis(100),
            };
            let until = (Instant::now() + pause).min(end);
            while Instant::now() < until {
                if self.conf {
                    let word = if chance.below(2) == 0 { "ADD" } else { "REMOVE" };
                    let shard = 1;
                    let wish = format!("QUORATE REPLICA {word} {shard} {}", chance.range(1, 6));
                    wish_for(net, chance, &wish);
                }
                if self.split && Instant::now() > next_split {
                    let wish = format!("QUORATE SPLIT 1 {}", chance.range(1, 16_384));
                    wish_for(net, chance, &wish);
                    next_split = Instant::now() + Duration::from_millis(chance.range(100, 2_000));
                }
                let rest = Duration::from_millis(if self.conf { chance.below(200) } else { 50 });
                std::thread::sleep(rest.min(until.saturating_duration_since(Instant::now())));
            }
        }
        if self.partition.is_some() {
            net.proxy.heal();
            std::thread::sleep(TIMEOUT);
        }
    }

    /// No replica keeps more of its log than the bound allows; returns the most that one keeps.
    fn check_log(self, net: &Net) -> u64 {
        let allowed = match (self.log_bound, self.work) {
            (None, _) => u64::MAX,
            (Some(m), Work::Appends) => 8 * m,
            (Some(m), Work::Ranges) => 2 * m,
        };
        // Log GC waits for the engine to be durable.
        let most = |net: &Net| {
            let of = |node| {
                net.rows(node)
                    .into_values()
                    .map(|row| row.log_bytes)
                    .max()
                    .unwrap_or_default()
            };
            net.all().into_iter().map(of).max().unwrap_or_default()
        };
        let first = most(net);
        net.wait("every log is within its bound", |net| most(net) <= allowed);
        if self.log_bound.is_none() && self.work == Work::Appends {
            for node in net.all() {
                assert_eq!(
                    net.snapshots_installed(node),
                    0,
                    "a snapshot although no log was cut"
                );
            }
        }
        first
    }
}

/// Sends an operator's wish through some node, and does not care what becomes of it.
fn wish_for(net: &Net, chance: &mut Chance, wish: &str) {
    let node = chance.below(net.nodes() as u64) as usize;
    let addr = net.cluster.nodes[node].addr();
    let words: Vec<&[u8]> = wish.split(' ').map(str::as_bytes).collect();
    if let Ok(mut client) = quorate::client::Client::connect(&addr, Duration::from_millis(500)) {
        let _ = client.command(&words);
    }
}

/// The shards have every slot, and none twice.
fn check_map(net: &Net) {
    net.wait("the shards meet", |net| {
        let shards = crate::support::control::shards(&net.cluster, 0);
        let mut next = 0u32;
        for shard in &shards {
            if u32::from(*shard.slots.start()) != next {
                return false;
            }
            next = u32::from(*shard.slots.end()) + 1;
        }
        next == 16_384
    });
}
