//! Clients that append tokens, what they were told, and the judgement of what is there in the end.
//!
//! Each client appends tokens `c<client>-<n>;` with growing `n` to the keys of one shard. What the server says of an
//! append is one of three things (rule O): applied, not applied (the same token is sent again), unknown (the client
//! goes on with a new token). In the end every acknowledged token is there exactly once and in its client's order,
//! and an unknown one at most once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quorate::client::slots::{SLOTS, slot_of};
use quorate::client::{Client, Reply};

use super::SHARDS;

/// Slots of each shard that are written to.
const TAGS_PER_SHARD: usize = 4;
/// After this many tokens a client goes on to fresh keys: an append costs as much as its value is long.
const TOKENS_PER_ROUND: u64 = 100;
/// The shard that extra clients write to.
const BUSY_SHARD: usize = 5;
/// A client's rest after each token. Enough load to catch a mistake, and the gaps are to show the cluster's recovery,
/// not a busy machine's queues.
const REST: Duration = Duration::from_millis(4);
/// Longer than the server's own request timeout: it should be the one to say what happened.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(10);

/// What became of a token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Acknowledged,
    Unknown,
    /// Sent, refused as not applied, and not sent again before the end.
    NotApplied,
}

/// One token of a client.
#[derive(Clone, Debug)]
pub struct Sent {
    pub n: u64,
    pub key: String,
    pub fate: Fate,
    /// When it was first sent and when its fate was known, since the clients were started.
    pub call: Duration,
    pub end: Duration,
    /// The length of the value that was answered.
    pub length: Option<i64>,
}

/// The times of a shard's successes, boiled down to the longest time without one.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    last: Instant,
    pub longest: Duration,
    /// When the longest ended, since the clients were started.
    pub at: Duration,
    /// Acknowledged appends.
    pub acknowledged: u64,
}

/// Clients at work.
pub struct Load {
    stop: Arc<AtomicBool>,
    gaps: Arc<Vec<Mutex<Gap>>>,
    /// What clients were told that was no success, and how often.
    errors: Arc<Mutex<BTreeMap<String, u64>>>,
    pub started: Instant,
    threads: Vec<JoinHandle<Vec<Sent>>>,
}

/// The `n`th token of a client.
pub fn token(client: usize, n: u64) -> String {
    format!("c{client}-{n};")
}

/// Shard of a slot, when the slots are cut into equal runs.
pub fn shard_of_slot(slot: u16) -> u16 {
    (u32::from(slot) * u32::from(SHARDS) / u32::from(SLOTS)) as u16
}

/// A slot of the shard.
pub fn slot_of_shard(shard: u16) -> u16 {
    SLOTS / SHARDS * shard + SLOTS / SHARDS / 2
}

/// Key tags for each shard, found by trying. A tag decides its keys' slot.
fn tags() -> Vec<Vec<String>> {
    let mut tags = vec![Vec::new(); usize::from(SHARDS)];
    for n in 0.. {
        let tag = format!("tag-{n}");
        let of = &mut tags[usize::from(shard_of_slot(slot_of(tag.as_bytes())))];
        if of.len() < TAGS_PER_SHARD {
            of.push(tag);
        }
        if tags.iter().all(|tags| tags.len() == TAGS_PER_SHARD) {
            return tags;
        }
    }
    unreachable!("the numbers do not end")
}

impl Load {
    /// Starts `clients` threads, over any of the nodes: client c works on shard c modulo the shards, and `extra`
    /// more on one shard, which so becomes the busiest.
    pub fn start(addrs: &[String], clients: usize, extra: usize) -> Self {
        Self::paced(addrs, clients, extra, REST)
    }

    /// The same with another rest after each token.
    pub fn paced(addrs: &[String], clients: usize, extra: usize, rest: Duration) -> Self {
        let started = Instant::now();
        let gap = Gap {
            last: started,
            longest: Duration::ZERO,
            at: Duration::ZERO,
            acknowledged: 0,
        };
        let gaps: Arc<Vec<_>> = Arc::new((0..SHARDS).map(|_| Mutex::new(gap)).collect());
        let errors = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let tags = tags();
        let threads = (0..clients + extra)
            .map(|client| {
                let shard = if client < clients {
                    client % usize::from(SHARDS)
                } else {
                    BUSY_SHARD
                };
                let work = Work {
                    client,
                    addrs: addrs.to_vec(),
                    tags: tags[shard].clone(),
                    shard,
                    rest,
                    started,
                    gaps: gaps.clone(),
                    errors: Arc::clone(&errors),
                    stop: stop.clone(),
                };
                std::thread::spawn(move || work.run())
            })
            .collect();
        Self {
            stop,
            gaps,
            errors,
            started,
            threads,
        }
    }

    /// The gaps so far, by shard, counting the time since each shard's last success.
    pub fn gaps(&self) -> Vec<Gap> {
        self.gaps
            .iter()
            .map(|gap| {
                let mut gap = *gap.lock().unwrap();
                gap.extend(Instant::now(), self.started);
                gap
            })
            .collect()
    }

    /// What clients were told so far that was no success, and how often.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().unwrap().clone()
    }

    /// The shard with the most acknowledged appends.
    pub fn busiest(&self) -> u16 {
        let gaps = self.gaps();
        (0..SHARDS)
            .max_by_key(|shard| gaps[usize::from(*shard)].acknowledged)
            .unwrap()
    }

    /// Waits until every shard has acknowledged `n` further appends: the cluster serves again.
    pub fn wait_progress(&self, n: u64, within: Duration) {
        let counts = || self.gaps().iter().map(|gap| gap.acknowledged).collect::<Vec<_>>();
        let before = counts();
        let deadline = Instant::now() + within;
        while counts()
            .iter()
            .zip(&before)
            .any(|(now, before)| *now < before + n)
        {
            assert!(
                Instant::now() < deadline,
                "no progress in {within:?}: {before:?} -> {:?}",
                counts()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the clients; by client, what each token came to.
    pub fn finish(self) -> Vec<Vec<Sent>> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads
            .into_iter()
            .map(|thread| thread.join().expect("a client panicked"))
            .collect()
    }
}

impl Gap {
    fn extend(&mut self, now: Instant, started: Instant) {
        let gap = now.saturating_duration_since(self.last);
        if gap > self.longest {
            (self.longest, self.at) = (gap, now - started);
        }
        self.last = self.last.max(now);
    }
}

struct Work {
    client: usize,
    addrs: Vec<String>,
    tags: Vec<String>,
    shard: usize,
    rest: Duration,
    started: Instant,
    gaps: Arc<Vec<Mutex<Gap>>>,
    errors: Arc<Mutex<BTreeMap<String, u64>>>,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn run(self) -> Vec<Sent> {
        let mut sent = Vec::new();
        let mut connection = None;
        let mut node = self.client;
        for n in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let tag = &self.tags[n as usize % self.tags.len()];
            let key = format!("{{{tag}}}:{}", n / TOKENS_PER_ROUND);
            let token = token(self.client, n);
            let call = self.started.elapsed();
            let (fate, length) = self.append(&mut connection, &mut node, &key, &token);
            sent.push(Sent {
                n,
                key,
                fate,
                call,
                end: self.started.elapsed(),
                length,
            });
            std::thread::sleep(self.rest);
        }
        sent
    }

    /// Appends one token; comes back when it is acknowledged, with the value's length, unknown, or the end has come.
    fn append(
        &self,
        connection: &mut Option<Client>,
        node: &mut usize,
        key: &str,
        token: &str,
    ) -> (Fate, Option<i64>) {
        loop {
            let addr = &self.addrs[*node % self.addrs.len()];
            let client = match connection {
                Some(client) => client,
                None => match Client::connect(addr, COMMAND_TIMEOUT) {
                    Ok(client) => connection.insert(client),
                    Err(_) => {
                        *node += 1;
                        if self.stop.load(Ordering::Relaxed) {
                            return (Fate::NotApplied, None);
                        }
                        std::thread::sleep(PAUSE);
                        continue;
                    }
                },
            };
            let reply = client.command(&[b"APPEND", key.as_bytes(), token.as_bytes()]);
            let error = match &reply {
                Ok(Reply::Error(error)) => Some(error.clone()),
                Ok(_) => None,
                Err(error) => Some(error.to_string()),
            };
            if let Some(error) = error {
                *self.errors.lock().unwrap().entry(error).or_default() += 1;
            }
            match reply {
                Ok(Reply::Int(length)) => {
                    let mut gap = self.gaps[self.shard].lock().unwrap();
                    gap.extend(Instant::now(), self.started);
                    gap.acknowledged += 1;
                    return (Fate::Acknowledged, Some(length));
                }
                Ok(Reply::Error(error)) if error.starts_with("UNKNOWN") => return (Fate::Unknown, None),
                Ok(Reply::Error(error))
                    if error.starts_with("NOTAPPLIED") || error.starts_with("CLUSTERDOWN") =>
                {
                    if self.stop.load(Ordering::Relaxed) {
                        return (Fate::NotApplied, None);
                    }
                    std::thread::sleep(PAUSE);
                }
                Ok(other) => panic!("APPEND {key} {token} on {addr}: {other:?}"),
                Err(_) => {
                    // Sent, and no answer.
                    *connection = None;
                    *node += 1;
                    return (Fate::Unknown, None);
                }
            }
        }
    }
}

/// What the judge found.
#[derive(Debug, Default)]
pub struct Verdict {
    pub acknowledged: u64,
    pub unknown: u64,
    /// Unknown tokens that are there.
    pub unknown_applied: u64,
    /// Each is a broken promise.
    pub violations: Vec<String>,
}

/// Compares what the clients were told with what `read` finds under each key.
pub fn judge(clients: &[Vec<Sent>], mut read: impl FnMut(&str) -> String) -> Verdict {
    let mut verdict = Verdict::default();
    // By key and client, the numbers in the order in which they are in the value.
    let mut found: BTreeMap<String, BTreeMap<usize, Vec<u64>>> = BTreeMap::new();
    let keys: BTreeSet<&String> = clients.iter().flatten().map(|sent| &sent.key).collect();
    for key in keys {
        let value = read(key);
        let of = found.entry(key.clone()).or_default();
        for token in value.split_terminator(';') {
            match parse(token) {
                Some((client, n)) => of.entry(client).or_default().push(n),
                None => verdict.violations.push(format!("{key}: not a token: {token}")),
            }
        }
        if !value.is_empty() && !value.ends_with(';') {
            verdict.violations.push(format!("{key}: ends inside a token"));
        }
    }
    for (client, sent) in clients.iter().enumerate() {
        let mut fates: BTreeMap<u64, &Sent> = sent.iter().map(|sent| (sent.n, sent)).collect();
        for (key, by_client) in &mut found {
            let numbers = by_client.remove(&client).unwrap_or_default();
            let mut last_acknowledged = None;
            for n in numbers {
                let Some(sent) = fates.get(&n).copied() else {
                    verdict.violations.push(format!(
                        "{key}: c{client}-{n} is there and was never sent, or twice"
                    ));
                    continue;
                };
                if sent.key != *key {
                    verdict
                        .violations
                        .push(format!("{key}: c{client}-{n} was sent to {}", sent.key));
                }
                match sent.fate {
                    Fate::Acknowledged => {
                        if last_acknowledged.is_some_and(|last| last > n) {
                            verdict
                                .violations
                                .push(format!("{key}: c{client}-{n} is out of order"));
                        }
                        last_acknowledged = last_acknowledged.max(Some(n));
                    }
                    Fate::Unknown => {}
                    Fate::NotApplied => {
                        verdict
                            .violations
                            .push(format!("{key}: c{client}-{n} is there, but was not applied"));
                    }
                }
                verdict.unknown_applied += u64::from(sent.fate == Fate::Unknown);
                // A second time it is not found any more.
                fates.remove(&n);
            }
        }
        for sent in sent {
            match sent.fate {
                Fate::Acknowledged => {
                    verdict.acknowledged += 1;
                    if fates.contains_key(&sent.n) {
                        verdict
                            .violations
                            .push(format!("{}: c{client}-{} is lost", sent.key, sent.n));
                    }
                }
                Fate::Unknown => verdict.unknown += 1,
                Fate::NotApplied => {}
            }
        }
    }
    for (key, by_client) in found {
        for client in by_client.keys() {
            verdict
                .violations
                .push(format!("{key}: tokens of an unknown client {client}"));
        }
    }
    verdict
}

fn parse(token: &str) -> Option<(usize, u64)> {
    let (client, n) = token.strip_prefix('c')?.split_once('-')?;
    Some((client.parse().ok()?, n.parse().ok()?))
}

impl Verdict {
    /// Panics with the first violations, if there are any.
    pub fn check(&self) {
        let first: Vec<&str> = self.violations.iter().take(20).map(String::as_str).collect();
        assert!(
            first.is_empty(),
            "{} violations:\n{}",
            self.violations.len(),
            first.join("\n")
        );
        assert!(self.acknowledged > 0, "nothing was acknowledged");
    }
}

/// Reads keys through the cluster, waiting out its recovery.
pub struct Reader {
    addrs: Vec<String>,
    next: usize,
    client: Option<Client>,
}

impl Reader {
    pub fn new(addrs: &[String]) -> Self {
        Self {
            addrs: addrs.to_vec(),
            next: 0,
            client: None,
        }
    }

    /// The value, empty if there is none.
    pub fn read(&mut self, key: &str) -> String {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let addr = &self.addrs[self.next % self.addrs.len()];
            let client = self
                .client
                .take()
                .map_or_else(|| Client::connect(addr, COMMAND_TIMEOUT), Ok);
            let reply = client.and_then(|mut client| {
                let reply = client.command(&[b"GET", key.as_bytes()])?;
                self.client = Some(client);
                Ok(reply)
            });
            match reply {
                Ok(Reply::Bulk(value)) => return String::from_utf8(value).expect("tokens are ASCII"),
                Ok(Reply::Nil) => return String::new(),
                other => assert!(Instant::now() < deadline, "GET {key} on {addr}: {other:?}"),
            }
            (self.client, self.next) = (None, self.next + 1);
            std::thread::sleep(PAUSE);
        }
    }
}
