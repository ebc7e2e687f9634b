//! The harness that the rows assume (section 0): peers by number, cuts, crashes, and the checks H-01 to H-04.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_node::sim::{Cluster, Faults, Options, SplitMix64};
use quorate_node::{Applied, CommandIndex, NodeId, Started, Term};

pub(crate) const MS: u64 = 1000;
/// The rows' election timeout.
pub(crate) const ELECTION: u64 = 1000 * MS;
/// H-02: how long a command may take in all, how long one attempt is waited for, and how often it is looked at.
const AGREE_US: u64 = 10_000 * MS;
const ATTEMPT_US: u64 = 2_000 * MS;
const POLL_US: u64 = 20 * MS;
/// H-04: a row takes less than this, of virtual time.
const ROW_US: u64 = 120_000 * MS;
/// With snapshots on, one is made behind every so many commands.
const SNAPSHOT_EVERY: u64 = 10;

/// A peer's application: it keeps nothing but how far it is and what the state amounts to.
#[derive(Default)]
struct App {
    applied: u64,
    /// Set by a restart: the snapshot that must be handed up before anything else (H-03).
    owed_snapshot: Option<u64>,
}

/// A group of peers, numbered from 0, and what is known of them.
pub(crate) struct Lab {
    pub(crate) cluster: Cluster,
    pub(crate) rng: SplitMix64,
    apps: Vec<App>,
    /// Command number `i + 1`, its term, and a number for the state behind it.
    committed: Vec<(Bytes, Term, u64)>,
    leaders: BTreeMap<Term, usize>,
    snapshots: bool,
    next_value: u64,
    /// Snapshots that came from another peer.
    pub(crate) installed: u64,
    first_asked: usize,
}

/// A command on its way to being agreed on (H-02).
pub(crate) struct Agreement {
    command: Bytes,
    peers: usize,
    retry: bool,
    deadline_us: u64,
    attempt: Option<(Started, u64)>,
    not_before_us: u64,
}

impl Lab {
    pub(crate) fn new(peers: u64, seed: u64) -> Lab {
        Self::with(
            Options {
                members: peers,
                ..Options::default()
            },
            seed,
        )
    }

    pub(crate) fn with(options: Options, seed: u64) -> Lab {
        let peers = options.members;
        Lab {
            cluster: Cluster::new(options, seed),
            rng: SplitMix64::new(seed ^ 0x6c61_6221),
            apps: (0..peers).map(|_| App::default()).collect(),
            committed: Vec::new(),
            leaders: BTreeMap::new(),
            snapshots: false,
            next_value: 0,
            installed: 0,
            first_asked: 0,
        }
    }

    pub(crate) fn with_snapshots(mut self) -> Lab {
        self.snapshots = true;
        self
    }

    pub(crate) fn unreliable(mut self) -> Lab {
        self.cluster.network().set_faults(Faults::unreliable());
        self
    }

    pub(crate) fn reliable(&mut self) {
        self.cluster.network().set_faults(Faults::none());
    }

    pub(crate) fn len(&self) -> usize {
        self.apps.len()
    }

    pub(crate) fn id(peer: usize) -> NodeId {
        NodeId(peer as u64 + 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.rng.below(end)
    }

    pub(crate) fn peer(&mut self) -> usize {
        self.rng.below(self.apps.len() as u64) as usize
    }

    /// A command that no other is equal to.
    pub(crate) fn value(&mut self) -> Bytes {
        self.next_value += 1;
        Bytes::from(format!("{}-{}", self.next_value, self.rng.below(1 << 30)))
    }

    /// As [`Lab::value`], of a given length.
    pub(crate) fn long_value(&mut self, length: usize) -> Bytes {
        let mut value = self.value().to_vec();
        value.resize_with(length, || self.rng.next_u64() as u8);
        value.into()
    }

    // ---- faults ----

    pub(crate) fn disconnect(&mut self, peer: usize) {
        self.cluster.network().disconnect(Self::id(peer));
    }

    pub(crate) fn connect(&mut self, peer: usize) {
        self.cluster.network().connect(Self::id(peer));
    }

    pub(crate) fn is_up(&self, peer: usize) -> bool {
        self.cluster.is_running(Self::id(peer))
    }

    pub(crate) fn is_connected(&mut self, peer: usize) -> bool {
        self.is_up(peer) && self.cluster.network().is_connected(Self::id(peer))
    }

    /// The process is killed, or the power fails, as the seed wants.
    pub(crate) fn crash(&mut self, peer: usize) {
        if self.rng.below(2) == 0 {
            self.cluster.crash_kill(Self::id(peer));
        } else {
            self.cluster.crash_power_loss(Self::id(peer));
        }
    }

    pub(crate) fn restart(&mut self, peer: usize) {
        self.cluster.restart(Self::id(peer));
        let snapshot = self
            .cluster
            .status(Self::id(peer))
            .map_or(0, |status| status.snapshot.0);
        self.apps[peer] = App {
            applied: 0,
            owed_snapshot: (snapshot > 0).then_some(snapshot),
        };
        self.connect(peer);
        self.observe(peer);
    }

    pub(crate) fn restart_all(&mut self) {
        for peer in 0..self.len() {
            if !self.is_up(peer) {
                self.restart(peer);
            }
        }
    }

    pub(crate) fn crash_all(&mut self) {
        (0..self.len()).for_each(|peer| self.crash(peer));
    }

    // ---- time ----

    /// Lets time pass; every step is checked.
    pub(crate) fn sleep(&mut self, us: u64) {
        let until = self.cluster.now_us() + us;
        while let Some(id) = self.cluster.step(until) {
            self.observe(id.0 as usize - 1);
        }
        assert!(self.cluster.now_us() < ROW_US, "the row takes more than 120 s");
    }

    // ---- what peers hand up (H-03) ----

    fn observe(&mut self, peer: usize) {
        if peer >= self.apps.len() {
            return;
        }
        if let Some((term, true)) = self.cluster.state(Self::id(peer)) {
            // Election safety (Raft paper, figure 3), after every step.
            let first = *self.leaders.entry(term).or_insert(peer);
            assert_eq!(first, peer, "peers {first} and {peer} both lead in term {term}");
        }
        for thing in self.cluster.take_applied(Self::id(peer)) {
            match thing {
                Applied::Command { index, term, data } => self.command(peer, index, term, data),
                Applied::Snapshot { index, data, .. } => self.snapshot(peer, index, &data),
                Applied::NewTerm { .. } => {}
                other => panic!("peer {peer} handed up {other:?}"),
            }
        }
    }

    fn command(&mut self, peer: usize, index: CommandIndex, term: Term, data: Bytes) {
        let app = &mut self.apps[peer];
        assert_eq!(
            app.owed_snapshot, None,
            "peer {peer} did not hand its snapshot up first"
        );
        assert_eq!(
            index.0,
            app.applied + 1,
            "peer {peer}: commands are handed up in order, without gaps"
        );
        app.applied = index.0;
        let at = (index.0 - 1) as usize;
        match self.committed.get(at) {
            Some((known, known_term, _)) => assert!(
                *known == data && *known_term == term,
                "peer {peer} applies {data:?} of term {term} as command {index}, another applied {known:?} of term \
                 {known_term}"
            ),
            None => {
                assert_eq!(
                    at,
                    self.committed.len(),
                    "command {index} is the first that anybody applies"
                );
                let state = digest(at.checked_sub(1).map_or(0, |at| self.committed[at].2), &data);
                self.committed.push((data, term, state));
            }
        }
        if self.snapshots && index.0.is_multiple_of(SNAPSHOT_EVERY) {
            let state = self.committed[at].2.to_le_bytes();
            let taken = self.cluster.snapshot(Self::id(peer), index, state.to_vec());
            assert_eq!(taken, Ok(()));
        }
    }

    fn snapshot(&mut self, peer: usize, index: CommandIndex, data: &[u8]) {
        let app = &mut self.apps[peer];
        match app.owed_snapshot.take() {
            Some(owed) => assert_eq!(
                owed, index.0,
                "peer {peer} hands up the snapshot that it was restarted with"
            ),
            None => {
                self.installed += 1;
                assert!(
                    index.0 > app.applied,
                    "peer {peer} goes back from command {} to a snapshot at {index}",
                    app.applied
                );
            }
        }
        app.applied = index.0;
        let Some((_, _, state)) = self.committed.get((index.0 - 1) as usize) else {
            panic!("peer {peer} hands up a snapshot at {index}, which nobody has applied");
        };
        assert_eq!(
            data,
            state.to_le_bytes(),
            "peer {peer}: the snapshot at {index} is of another state"
        );
    }

    /// How many peers have applied that many commands.
    pub(crate) fn peers_at(&self, index: u64) -> usize {
        self.apps.iter().filter(|app| app.applied >= index).count()
    }

    pub(crate) fn applied(&self, index: u64) -> Option<&Bytes> {
        self.committed.get(index as usize - 1).map(|(data, ..)| data)
    }

    pub(crate) fn commands(&self) -> impl Iterator<Item = &Bytes> {
        self.committed.iter().map(|(data, ..)| data)
    }

    // ---- leaders (H-01, H-04) ----

    /// Exactly one leader among those that are connected; within 5 s.
    pub(crate) fn one_leader(&mut self) -> usize {
        for _ in 0..10 {
            let wait = 450 * MS + self.below(100 * MS);
            self.sleep(wait);
            let mut newest: BTreeMap<Term, Vec<usize>> = BTreeMap::new();
            for peer in 0..self.len() {
                if self.is_connected(peer)
                    && let Some((term, true)) = self.cluster.state(Self::id(peer))
                {
                    newest.entry(term).or_default().push(peer);
                }
            }
            for (term, leaders) in &newest {
                assert_eq!(leaders.len(), 1, "term {term} has the leaders {leaders:?}");
            }
            if let Some((_, leaders)) = newest.last_key_value() {
                return leaders[0];
            }
        }
        panic!("no leader within 5 s");
    }

    /// Nobody who is connected leads.
    pub(crate) fn no_leader(&mut self) {
        for peer in 0..self.len() {
            let leads = self.is_connected(peer) && self.cluster.is_leader(Self::id(peer));
            assert!(!leads, "peer {peer} leads without a quorum");
        }
    }

    /// The term that all who are connected agree on.
    pub(crate) fn term(&mut self) -> Term {
        let mut found = None;
        for peer in 0..self.len() {
            if self.is_connected(peer)
                && let Some((term, _)) = self.cluster.state(Self::id(peer))
            {
                assert_eq!(*found.get_or_insert(term), term, "peer {peer} is in another term");
            }
        }
        found.expect("somebody is connected")
    }

    pub(crate) fn start(&mut self, peer: usize, command: &Bytes) -> Option<Started> {
        self.cluster.start(Self::id(peer), command).ok()
    }

    // ---- agreement (H-02) ----

    /// Agrees on a command: at least `peers` apply it at the same position. Returns the position.
    pub(crate) fn one(&mut self, command: &Bytes, peers: usize, retry: bool) -> u64 {
        self.all_of(vec![(command.clone(), peers, retry)])[0]
    }

    /// Agrees on a fresh command.
    pub(crate) fn one_more(&mut self, peers: usize) -> u64 {
        let value = self.value();
        self.one(&value, peers, true)
    }

    /// Agrees on several commands at the same time.
    pub(crate) fn all_of(&mut self, commands: Vec<(Bytes, usize, bool)>) -> Vec<u64> {
        let now = self.cluster.now_us();
        let mut waiting: VecDeque<(usize, Agreement)> = commands
            .into_iter()
            .map(|(command, peers, retry)| Agreement {
                command,
                peers,
                retry,
                deadline_us: now + AGREE_US,
                attempt: None,
                not_before_us: now,
            })
            .enumerate()
            .collect();
        let mut found = vec![0; waiting.len()];
        while !waiting.is_empty() {
            for _ in 0..waiting.len() {
                let Some((at, mut agreement)) = waiting.pop_front() else {
                    break;
                };
                match self.try_agree(&mut agreement) {
                    Some(index) => found[at] = index,
                    None => waiting.push_back((at, agreement)),
                }
            }
            if !waiting.is_empty() {
                self.sleep(POLL_US);
            }
        }
        found
    }

    fn try_agree(&mut self, agreement: &mut Agreement) -> Option<u64> {
        let now = self.cluster.now_us();
        if let Some((started, until)) = agreement.attempt {
            let index = started.index.0;
            if self.peers_at(index) >= agreement.peers && self.applied(index) == Some(&agreement.command) {
                return Some(index);
            }
            if now >= until {
                assert!(
                    agreement.retry,
                    "no agreement on {:?}: {} of {} peers applied command {index}, {:?}",
                    agreement.command,
                    self.peers_at(index),
                    agreement.peers,
                    self.applied(index)
                );
                agreement.attempt = None;
                agreement.not_before_us = now + POLL_US;
            }
        } else if now >= agreement.not_before_us {
            for _ in 0..self.len() {
                self.first_asked = (self.first_asked + 1) % self.len();
                let peer = self.first_asked;
                if self.is_connected(peer)
                    && let Some(started) = self.start(peer, &agreement.command.clone())
                {
                    agreement.attempt = Some((started, now + ATTEMPT_US));
                    break;
                }
            }
            if agreement.attempt.is_none() {
                agreement.not_before_us = now + 50 * MS;
            }
        }
        let (command, peers) = (&agreement.command, agreement.peers);
        assert!(
            now < agreement.deadline_us,
            "no agreement on {command:?} by {peers} peers within 10 s"
        );
        None
    }

    /// Waits until `peers` peers have applied command `index`, at most 10 s.
    pub(crate) fn wait_for(&mut self, index: u64, peers: usize) {
        let until = self.cluster.now_us() + AGREE_US;
        while self.peers_at(index) < peers {
            assert!(
                self.cluster.now_us() < until,
                "{peers} peers do not apply command {index} within 10 s"
            );
            self.sleep(POLL_US);
        }
    }

    /// The longest persisted state of the log, in bytes, over all peers that run.
    pub(crate) fn log_bytes_max(&self) -> u64 {
        let bytes = |id| self.cluster.status(id).map_or(0, |status| status.log_bytes);
        (0..self.len())
            .map(|peer| bytes(Self::id(peer)))
            .max()
            .unwrap_or_default()
    }
}

/// A number for the state behind one more command.
fn digest(before: u64, command: &[u8]) -> u64 {
    let sum = u64::from(crc32c::crc32c(command)) ^ ((command.len() as u64) << 32);
    let mixed = (before ^ sum).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}
