//! One process: the store, its Raft log and its engine, driven turn by turn exactly as the server does it.
//!
//! A turn takes the inputs that have come in, then advances, sends, applies and answers until nothing is left
//! to do. Log batches are written at once, in order; their sync, and the engine's, complete later.

use std::collections::VecDeque;

use bytes::Bytes;
use quorate_controller::Controller;
use quorate_proto::{CommandError, Labels, PeerMessage};
use quorate_raft::{Entry, mutant};
use quorate_storage::disk::{Disk, SimDisk, is_down};
use quorate_storage::engine::{BatchSeq, Durability, Engine, EngineError, ModelDisk, ModelEngine};
use quorate_storage::log::{LogError, LogOp, LogOptions, OpenError, RaftLog};
use quorate_storage::{Identity, ShardId, StoreId};
use quorate_store::{
    Bootstrap, ClientOutcome, Input, LogToken, Registration, ReplicaStatus, RequestId, Store, StoreError,
    StoreOptions, Times,
};

/// Rounds of one turn after which the store is taken to go round in circles.
const ROUNDS_MAX: usize = 1000;

/// Why a process ended by itself.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The simulated disk died under it, as planned.
    Down,
    /// The log failed (P2).
    Log(String),
    /// The engine failed.
    Engine(String),
    /// It was told that its store was removed.
    Gone,
    /// It found itself in a state that must not be.
    Broken(String),
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        if is_down(&error.source) {
            Stop::Down
        } else {
            Stop::Log(error.to_string())
        }
    }
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Stop::Engine(error.to_string())
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Engine(error) => error.into(),
            StoreError::NotAdmitted {
                reason: CommandError::StoreRemoved,
                ..
            } => Stop::Gone,
            other => Stop::Broken(other.to_string()),
        }
    }
}

/// What a turn gave, in order.
#[derive(Default)]
pub(crate) struct Turn {
    pub(crate) sends: Vec<(StoreId, PeerMessage)>,
    pub(crate) replies: Vec<(RequestId, ClientOutcome)>,
    /// What was given to the log, for the oracles.
    pub(crate) log: Vec<LogOp>,
    /// Entries that were applied.
    pub(crate) applied: Vec<(ShardId, Entry)>,
    pub(crate) make_durable: Option<BatchSeq>,
    /// A log write waits for a sync, and none was under way.
    pub(crate) begin_sync: bool,
}

fn open_failed(disk: &SimDisk, error: &OpenError) -> Stop {
    match disk.list() {
        Err(down) if is_down(&down) => Stop::Down,
        _ => Stop::Log(format!("the Raft log cannot be opened: {error}")),
    }
}

/// A running process.
pub(crate) struct Process {
    pub(crate) store: Store<ModelEngine>,
    log: RaftLog<SimDisk>,
    durability: Box<dyn Durability>,
    /// Written and not yet reported as durable; the second: what the sync under way will report.
    written: Option<LogToken>,
    syncing: Option<LogToken>,
    /// The monotonic time before which no tick may come (L1).
    pub(crate) next_tick_us: u64,
    pub(crate) inbox: VecDeque<Input>,
    pub(crate) notes: Vec<String>,
}

/// Whose disks, and how to start from them.
pub(crate) struct Startup<'a> {
    pub(crate) identity: Identity,
    pub(crate) process: u64,
    pub(crate) options: StoreOptions,
    pub(crate) log_options: LogOptions,
    pub(crate) bootstrap: &'a Bootstrap,
    pub(crate) disk: &'a SimDisk,
    pub(crate) engine: &'a ModelDisk,
    /// A process started from these disks before.
    pub(crate) is_formatted: bool,
    /// Something that was synced is damaged, so replicas may be quarantined.
    pub(crate) is_damaged: bool,
}

impl Process {
    /// Starts: formats empty disks first, as the server does.
    pub(crate) fn start(startup: &Startup<'_>, times: Times) -> Result<Self, Stop> {
        let open_log = || {
            RaftLog::open(
                startup.disk.clone(),
                startup.identity,
                startup.log_options.clone(),
            )
            .map_err(|error| open_failed(startup.disk, &error))
        };
        let store = startup.identity.store;
        let (mut log, mut recovered) = open_log()?;
        let mut engine = ModelEngine::open(startup.engine)?;
        // The log comes last when a store is formatted: without it, nothing was promised to anybody. With it, the
        // engine was lost, and what it held comes from the log or from the peers.
        // A store that begins without a replica has nothing to write there.
        let is_unformatted = Store::is_unformatted(&engine)?;
        let has_first = !startup.bootstrap.log_batch(store).ops.is_empty();
        let is_new = !startup.is_formatted && recovered.shards.is_empty() && !startup.is_damaged && has_first;
        if is_new || is_unformatted {
            startup
                .bootstrap
                .write(&mut engine, store, &mut Controller::default())?;
            engine.durability().make_durable()?;
            if is_new {
                log.write(&startup.bootstrap.log_batch(store))?;
                log.sync()?;
            }
            drop((engine, log));
            (log, recovered) = open_log()?;
            engine = ModelEngine::open(startup.engine)?;
        }
        let notes = recovered.notes.clone();
        // What a killed process left in memory must not be vouched for (P1).
        let mut durability = engine.durability();
        if !mutant!("engine-not-durable-at-open") {
            durability.make_durable()?;
        }
        let store = Store::open(
            startup.identity,
            startup.process,
            startup.options.clone(),
            engine,
            recovered,
            Box::new(Controller::default()),
            times,
        )?;
        let name = Bytes::from(format!("n{}", startup.identity.store));
        let register = Input::Register(Registration {
            client: name.clone(),
            peer: name.clone(),
            http: name,
            labels: Labels::new(),
            roles: Default::default(),
        });
        let status = store.status(times);
        if let Some(replica) = status.iter().find(|replica| replica.rebuild.is_some())
            && !startup.is_damaged
        {
            return Err(Stop::Broken(format!(
                "shard {} is quarantined although no disk was damaged: {}",
                replica.shard,
                notes.join("; ")
            )));
        }
        Ok(Self {
            store,
            log,
            durability,
            written: None,
            syncing: None,
            next_tick_us: times.mono_us + startup.options.tick_us,
            inbox: VecDeque::from([register]),
            notes,
        })
    }

    /// Whether a peer is the one that was first seen under its id; from now on it is, if none was (P7).
    pub(crate) fn knows(&mut self, peer: Identity, disk: &ModelDisk) -> Result<bool, Stop> {
        if let Some(known) = self.store.bindings()?.get(&peer.store) {
            return Ok(*known == peer.incarnation);
        }
        self.store.bind_peer(peer.store, peer.incarnation)?;
        disk.begin_make_durable();
        self.durability.make_durable()?;
        Ok(true)
    }

    /// One turn. What it gave before it stopped counts.
    pub(crate) fn turn(&mut self, times: Times, turn: &mut Turn) -> Result<(), Stop> {
        while let Some(input) = self.inbox.pop_front() {
            self.store.handle(times, input)?;
        }
        let mut rounds = 0;
        loop {
            self.store.advance(times)?;
            turn.sends.append(&mut self.store.effects().sends);
            turn.applied.extend(
                self.store
                    .entries_to_apply()
                    .map(|(shard, entry)| (shard, entry.clone())),
            );
            self.store.apply(times)?;
            self.take_effects(turn)?;
            rounds += 1;
            if !self.store.has_work() {
                return Ok(());
            }
            if rounds == ROUNDS_MAX {
                return Err(Stop::Broken(format!("a turn does not end: {ROUNDS_MAX} rounds")));
            }
        }
    }

    fn take_effects(&mut self, turn: &mut Turn) -> Result<(), Stop> {
        let effects = self.store.effects();
        turn.sends.append(&mut effects.sends);
        turn.replies.append(&mut effects.replies);
        // Nodes find each other here whatever they are told.
        effects.stores = None;
        turn.make_durable = effects.make_durable.take().or(turn.make_durable);
        for (token, batch) in std::mem::take(&mut effects.log) {
            let written = self.log.write(&batch);
            turn.log.extend(batch.ops);
            written?;
            self.written = Some(token);
            if self.syncing.is_none() {
                self.syncing = Some(token);
                turn.begin_sync = true;
            }
        }
        // A sync that begins in this turn covers all of the turn.
        if turn.begin_sync {
            self.syncing = self.written;
        }
        Ok(())
    }

    /// The sync under way ends. Returns whether another one begins.
    pub(crate) fn synced(&mut self) -> Result<bool, Stop> {
        let Some(token) = self.syncing.take() else {
            return Ok(false);
        };
        self.log.sync()?;
        self.inbox.push_back(Input::LogWritten { token });
        if self.written > Some(token) {
            self.syncing = self.written;
        }
        Ok(self.syncing.is_some())
    }

    /// The engine's "make durable" ends.
    pub(crate) fn made_durable(&mut self, up_to: BatchSeq) -> Result<(), Stop> {
        self.durability.make_durable()?;
        self.inbox.push_back(Input::EngineDurable { up_to });
        Ok(())
    }

    /// Housekeeping of the log, one step; returns whether there is more.
    pub(crate) fn maintain(&mut self) -> Result<bool, Stop> {
        Ok(self.log.maintain()?)
    }

    /// Bytes on disk that hold the log.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log.bytes_on_disk()
    }

    pub(crate) fn status(&self, times: Times) -> Vec<ReplicaStatus> {
        self.store.status(times)
    }
}
