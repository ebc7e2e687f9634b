//! The replicated state machine layer: RSM-01 to RSM-08, on a counter.

use std::collections::BTreeMap;

use quorate_node::sim::{Cluster, Options, SplitMix64};
use quorate_node::{NodeId, NotDone, Replica, StateMachine};

use crate::Row;
use crate::lab::MS;

/// A counter: a command adds a number to it.
struct Counter(i64);

impl StateMachine for Counter {
    type Output = i64;
    fn apply(&mut self, command: &[u8]) -> i64 {
        self.0 += i64::from_le_bytes(command[..8].try_into().expect("8 bytes"));
        self.0
    }
    fn snapshot(&self) -> Vec<u8> {
        self.0.to_le_bytes().to_vec()
    }
    fn restore(&mut self, snapshot: &[u8]) {
        self.0 = i64::from_le_bytes(snapshot.try_into().expect("8 bytes"));
    }
}

type Outcome = Result<i64, NotDone>;

/// Servers, numbered from 0, and what became of the commands submitted to them.
struct Servers {
    cluster: Cluster,
    rng: SplitMix64,
    replicas: Vec<Replica<Counter, u64>>,
    snapshot_bytes: u64,
    next: u64,
    outcomes: BTreeMap<u64, (Outcome, u64)>,
}

const SERVERS: usize = 3;

impl Servers {
    fn new(seed: u64, snapshot_bytes: u64) -> Self {
        Self {
            cluster: Cluster::new(Options::default(), seed),
            rng: SplitMix64::new(seed ^ 0x7273_6d21),
            replicas: (0..SERVERS)
                .map(|_| Replica::new(Counter(0), snapshot_bytes))
                .collect(),
            snapshot_bytes,
            next: 0,
            outcomes: BTreeMap::new(),
        }
    }

    fn id(server: usize) -> NodeId {
        NodeId(server as u64 + 1)
    }

    /// Submits a command to a server; `None`: it does not lead.
    fn submit(&mut self, server: usize, add: i64) -> Option<u64> {
        let started = self.cluster.start(Self::id(server), &add.to_le_bytes()).ok()?;
        self.next += 1;
        self.replicas[server].wait(started, self.next);
        Some(self.next)
    }

    fn sleep(&mut self, us: u64) {
        let until = self.cluster.now_us() + us;
        while let Some(id) = self.cluster.step(until) {
            let server = id.0 as usize - 1;
            for thing in self.cluster.take_applied(id) {
                let done = self.replicas[server].take(thing);
                self.settle(done);
                if let Some((index, data)) = self.replicas[server].snapshot_due() {
                    assert_eq!(self.cluster.snapshot(id, index, data), Ok(()));
                }
            }
        }
    }

    fn settle(&mut self, done: Vec<(u64, Outcome)>) {
        for (ticket, outcome) in done {
            let again = self.outcomes.insert(ticket, (outcome, self.cluster.now_us()));
            assert!(
                again.is_none(),
                "submit {ticket} was answered twice: {again:?}, {outcome:?}"
            );
        }
    }

    /// Until it holds, for at most 10 s.
    fn until(&mut self, what: &str, condition: impl Fn(&Servers) -> bool) {
        let end = self.cluster.now_us() + 10_000 * MS;
        while !condition(self) {
            assert!(self.cluster.now_us() < end, "not within 10 s: {what}");
            self.sleep(10 * MS);
        }
    }

    /// A leader among those connected that will be asked, within 10 s.
    fn leader(&mut self) -> usize {
        for _ in 0..1000 {
            for server in 0..SERVERS {
                let connected = self.cluster.network().is_connected(Self::id(server));
                if connected && self.cluster.is_leader(Self::id(server)) {
                    return server;
                }
            }
            self.sleep(10 * MS);
        }
        panic!("no leader within 10 s");
    }

    /// Adds one, wherever it works; the result.
    fn increment(&mut self) -> i64 {
        for _ in 0..100 {
            let leader = self.leader();
            let Some(ticket) = self.submit(leader, 1) else {
                continue;
            };
            let end = self.cluster.now_us() + 2_000 * MS;
            while !self.outcomes.contains_key(&ticket) && self.cluster.now_us() < end {
                self.sleep(MS);
            }
            match self.outcomes.get(&ticket) {
                Some((Ok(value), _)) => return *value,
                Some((Err(NotDone::NotApplied), _)) => {}
                other => panic!("the increment ended as {other:?}"),
            }
        }
        panic!("no increment in a hundred tries");
    }

    fn value(&self, server: usize) -> i64 {
        self.replicas[server].state().0
    }

    fn all_equal(&mut self, value: i64) {
        self.until("all servers have the value", |servers| {
            (0..SERVERS).all(|server| servers.value(server) == value)
        });
    }

    /// Stops a server; those who wait there are answered.
    fn stop(&mut self, server: usize) {
        if self.rng.below(2) == 0 {
            self.cluster.crash_kill(Self::id(server));
        } else {
            self.cluster.crash_power_loss(Self::id(server));
        }
        let done = self.replicas[server].give_up();
        self.settle(done);
        self.replicas[server] = Replica::new(Counter(0), self.snapshot_bytes);
    }

    fn restart_all(&mut self) {
        (0..SERVERS).for_each(|server| self.cluster.restart(Self::id(server)));
    }
}

fn never_snapshot(seed: u64) -> Servers {
    Servers::new(seed, u64::MAX)
}

macro_rules! rows {
    ($servers:ident; $($name:ident: $make:expr => $body:block)+) => {
        $(
            #[test]
            fn $name() {
                crate::runs::a_few_seeds(ROWS.iter().find(|row| row.name == stringify!($name)).unwrap());
            }
        )+
        pub(crate) const ROWS: &[Row] = &[$(Row {
            name: stringify!($name),
            run: |seed| {
                let make: fn(u64) -> Servers = $make;
                let mut servers = make(seed);
                let $servers = &mut servers;
                $body
                servers.cluster.digest()
            },
        }),+];
    };
}

rows! { servers;

rsm_01_basic: never_snapshot => {
    for value in 1..=10 {
        assert_eq!(servers.increment(), value);
    }
    servers.all_equal(10);
}

rsm_02_concurrent: never_snapshot => {
    let leader = servers.leader();
    let tickets: Vec<u64> = (0..50).filter_map(|_| servers.submit(leader, 1)).collect();
    assert_eq!(tickets.len(), 50);
    servers.until("50 submits are answered", |servers| servers.outcomes.len() == 50);
    let mut results: Vec<i64> = servers.outcomes.values().map(|(outcome, _)| outcome.expect("applied")).collect();
    results.sort_unstable();
    assert!(results.iter().copied().eq(1..=50), "each has a result of its own");
    servers.all_equal(50);
}

rsm_03_leader_failure: never_snapshot => {
    servers.increment();
    let leader = servers.leader();
    servers.cluster.network().disconnect(Servers::id(leader));
    assert_eq!(servers.increment(), 2);
    servers.cluster.network().connect(Servers::id(leader));
    servers.all_equal(2);
}

rsm_04_leader_partition: never_snapshot => {
    servers.increment();
    let leader = servers.leader();
    let id = Servers::id(leader);
    servers.cluster.network().disconnect(id);
    let tickets: Vec<u64> = (0..100).filter_map(|_| servers.submit(leader, -1)).collect();
    assert_eq!(tickets.len(), 100, "the leader does not know yet that it is cut off");
    assert_eq!(servers.increment(), 2, "the others go on");
    assert!(servers.outcomes.keys().all(|ticket| !tickets.contains(ticket)), "nobody can know yet");
    servers.cluster.network().connect(id);
    let healed = servers.cluster.now_us();
    servers.until("all submits return", |servers| {
        tickets.iter().all(|ticket| servers.outcomes.contains_key(ticket))
    });
    for ticket in &tickets {
        let (outcome, at) = servers.outcomes[ticket];
        assert!(outcome.is_err(), "a decrement at a cut leader was reported done");
        assert!(at <= healed + 1000 * MS, "it returned {} us after the heal", at - healed);
    }
    servers.all_equal(2);
    assert_eq!(servers.increment(), 3);
}

rsm_05_restart_replay: never_snapshot => {
    for value in 1..=100 {
        assert_eq!(servers.increment(), value);
    }
    (0..SERVERS).for_each(|server| servers.stop(server));
    servers.restart_all();
    assert_eq!(servers.increment(), 101);
    servers.all_equal(101);
}

rsm_06_shutdown: never_snapshot => {
    let leader = servers.leader();
    let tickets: Vec<u64> = (0..100).filter_map(|_| servers.submit(leader, 1)).collect();
    assert_eq!(tickets.len(), 100);
    // Killed at any moment of the commands' lives.
    let wait = servers.rng.below(4 * MS);
    servers.sleep(wait);
    (0..SERVERS).for_each(|server| servers.stop(server));
    assert!(tickets.iter().all(|ticket| servers.outcomes.contains_key(ticket)), "a submit did not return");
}

rsm_07_restart_submit: never_snapshot => {
    for value in 1..=20 {
        assert_eq!(servers.increment(), value);
    }
    let leader = servers.leader();
    let before: Vec<u64> = (0..50).filter_map(|_| servers.submit(leader, 1000)).collect();
    let wait = servers.rng.below(3 * MS);
    servers.sleep(wait);
    (0..SERVERS).for_each(|server| servers.stop(server));
    let answered = servers.outcomes.clone();
    servers.restart_all();
    let value = servers.increment();
    // Which of the fifty survived is up to the crash; the results before it are a prefix of what is there now.
    let survived = (value - 21) / 1000;
    assert_eq!((value - 21) % 1000, 0, "{value}");
    for ticket in &before {
        if let (Ok(result), _) = answered[ticket] {
            assert!((result - 20) / 1000 <= survived, "acknowledged {result}, and {value} is there");
        }
        assert_eq!(servers.outcomes[ticket], answered[ticket], "answered again after the restart");
    }
    let leader = servers.leader();
    let after: Vec<u64> = (0..50).filter_map(|_| servers.submit(leader, 1)).collect();
    servers.until("submits after the restart are answered", |servers| {
        after.iter().all(|ticket| servers.outcomes.contains_key(ticket))
    });
    for (ticket, result) in after.iter().zip(value + 1..) {
        assert_eq!(servers.outcomes[ticket].0, Ok(result), "the results of before and after are not mixed");
    }
}

rsm_08_snapshot: |seed| Servers::new(seed, 400) => {
    for value in 1..=100 {
        assert_eq!(servers.increment(), value);
        for server in 0..SERVERS {
            let bytes = servers.cluster.status(Servers::id(server)).map_or(0, |status| status.log_bytes);
            assert!(bytes <= 2 * 1000, "{bytes} bytes of persisted log");
        }
    }
    (0..SERVERS).for_each(|server| servers.stop(server));
    servers.restart_all();
    let snapshots = (0..SERVERS).filter_map(|server| servers.cluster.status(Servers::id(server)));
    assert!(snapshots.into_iter().any(|status| status.snapshot.0 > 0), "nobody restarts from a snapshot");
    assert_eq!(servers.increment(), 101);
    servers.all_equal(101);
}
}
