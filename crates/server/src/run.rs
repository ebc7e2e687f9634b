//! Starts a node: opens or formats its directory, then runs the reactor until it is told to stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use quorate_controller::Controller;
use quorate_storage::disk::RealDisk;
use quorate_storage::engine::{BufferedEngine, Engine, EngineError};
use quorate_storage::log::{LogError, LogOptions, OpenError, RaftLog, Recovered};
use quorate_storage::{Identity, StoreId};
use quorate_store::rsm::Policy;
use quorate_store::{Store, StoreError, StoreOptions};
use quorate_transport::{PeerConfig, Peers};

use crate::address_book::AddressBook;
use crate::config::ServerConfig;
use crate::data_dir::{DataDir, DataDirError};
use crate::engine_worker::EngineWorker;
use crate::log_writer::LogWriter;
use crate::reactor::{FIRST_PEER_TOKEN, Parts, Reactor, WAKE};
use crate::status::Shared;
use crate::view::ViewKeeper;
use crate::{birth, clock, http};

/// Why a node did not start, or stopped by itself. One line for the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The Raft log cannot be used.
    #[error("{dir}: {source}")]
    Log {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: OpenError,
    },
    /// The Raft log could not be written: nothing more is acknowledged (P2).
    #[error("{0}; the node stops, because nothing more can be acknowledged safely")]
    LogWrite(#[from] LogError),
    /// The state engine failed.
    #[error("{dir}: {source}")]
    Engine {
        /// The directory.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: EngineError,
    },
    /// The node's shards cannot go on.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state engine holds nothing although the store was formatted.
    #[error(
        "{dir}: the state engine is empty although the store was formatted; a first member is rebuilt from its log and \
         from the other nodes with the first --bootstrap given again, another store has to join anew with an empty directory"
    )]
    EngineLost {
        /// The directory.
        dir: PathBuf,
    },
    /// An address cannot be bound.
    #[error("cannot listen on {addr} ({what}): {source}")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// For whom.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A peer knows the store that was to be formatted (P7).
    #[error("{dir}: --bootstrap refused, nothing was written: store {peer} at {addr} says: {reason}")]
    Bootstrap {
        /// The directory.
        dir: PathBuf,
        /// The peer.
        peer: StoreId,
        /// Its address.
        addr: String,
        /// Its words.
        reason: String,
    },
    /// A new cluster needs of its first nodes what this one is not there for.
    #[error("{dir}: nothing was written: --roles is {roles}, but {reason}")]
    FirstRoles {
        /// The directory.
        dir: PathBuf,
        /// What was given.
        roles: quorate_proto::Roles,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// No node of the cluster gave a new store an id.
    #[error("{dir}: not joined, nothing was written: {reason}")]
    Join {
        /// The directory.
        dir: PathBuf,
        /// What the last node that was asked said.
        reason: String,
    },
    /// A peer refuses this store's identity (P7).
    #[error("refused by a peer: {0}")]
    Refused(String),
    /// The system refused something that a node cannot do without.
    #[error("{what}: {source}")]
    Os {
        /// What.
        what: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl RunError {
    pub(crate) fn os(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Os { what, source }
    }
}

/// Runs a node until `shutdown` is set; then it hands its leaderships away and returns.
///
/// # Errors
///
/// When it cannot start, and when it must stop by itself. What it acknowledged before is safe.
pub fn run(config: ServerConfig, shutdown: Arc<AtomicBool>) -> Result<(), RunError> {
    let dir = DataDir::open(&config.data)?;
    let found = dir.identity()?;
    if let Some(found) = &found {
        check_identity(&dir, found, &config)?;
    }
    let opened = match found {
        Some(identity) => {
            let mut opened = open(&dir, identity, &config)?;
            restore_engine(&mut opened, &dir, &config)?;
            opened
        }
        None => birth::format(&dir, &config)?,
    };
    let Opened {
        identity,
        engine,
        log,
        recovered,
    } = opened;
    for note in &recovered.notes {
        tracing::warn!(note = note.as_str(), "raft log recovered");
    }
    let book = AddressBook::open(dir, identity.store, &config)?;

    let poll = mio::Poll::new().map_err(RunError::os("epoll"))?;
    let registry = || poll.registry().try_clone().map_err(RunError::os("epoll"));
    let waker = Arc::new(mio::Waker::new(poll.registry(), WAKE).map_err(RunError::os("eventfd"))?);
    let wake = {
        let waker = Arc::clone(&waker);
        move || drop(waker.wake())
    };
    let process = random_u64()?;
    let options = StoreOptions {
        tick_us: u64::from(config.tick_ms) * 1000,
        heartbeat_ticks: config.heartbeat_ticks,
        election_ticks: config.election_ticks,
        leases: config.leases,
        clock_drift_max: config.clock_drift_max,
        log_retention_bytes: config.log_retention_bytes_per_shard,
        log_retention_store_bytes: config.log_retention_bytes,
        low_space_bytes: config.low_space_bytes,
        session_ttl_ms: u64::from(config.session_ttl_s) * 1000,
        sessions_max: u64::from(config.sessions_max_per_shard),
        session_bytes_max: config.session_bytes_max_per_shard,
        snapshot_bytes_per_second: config.snapshot_bytes_per_second,
        split_bytes: config.split_bytes,
        schedule: config.schedule.then(|| Policy {
            replace_after_us: u64::from(config.replace_after_s) * 1_000_000,
            ..Policy::default()
        }),
        seed: random_u64()?,
        ..StoreOptions::default()
    };
    let durability = engine.durability();
    let store = {
        let machine = Box::new(Controller::default());
        Store::open(
            identity,
            process,
            options,
            engine,
            recovered,
            machine,
            clock::now(),
        )?
    };
    let view = ViewKeeper::new(&config, book.peers(), &store, random_u128()?);
    let peers = PeerConfig {
        identity,
        process,
        listen: config.peer,
        addresses: book.peers().clone(),
        client_address: config.advertise_listen.to_string(),
        http_address: config.advertise_http.to_string(),
        frame_bytes_max: config.frame_bytes_max + (64 << 20),
        first_token: FIRST_PEER_TOKEN,
    };
    let peers = Peers::bind(peers, store.bindings()?, registry()?).map_err(|source| RunError::Bind {
        addr: config.peer,
        what: "peers",
        source,
    })?;
    let listener = mio::net::TcpListener::bind(config.listen).map_err(|source| RunError::Bind {
        addr: config.listen,
        what: "clients",
        source,
    })?;
    let shared = Shared::new();
    let node = http::Node::new(config.listen, config.request_timeout_ms);
    let http = http::spawn(config.http, Arc::clone(&shared), node).map_err(|source| RunError::Bind {
        addr: config.http,
        what: "HTTP",
        source,
    })?;
    let log = LogWriter::spawn(log, config.log_sync, wake.clone())
        .map_err(RunError::os("starting the log thread"))?;
    let engine_worker =
        EngineWorker::spawn(durability, wake).map_err(RunError::os("starting the engine thread"))?;
    tracing::info!(
        store = identity.store.0,
        cluster = %identity.cluster,
        clients = %config.listen,
        peers = %config.peer,
        http = %http.addr(),
        "node started"
    );
    let parts = Parts {
        config,
        poll,
        listener,
        store,
        peers,
        log,
        engine: engine_worker,
        shared,
        shutdown,
        view,
        book,
    };
    Reactor::new(parts)?.run()
}

pub(crate) struct Opened {
    pub(crate) identity: Identity,
    pub(crate) engine: BufferedEngine,
    pub(crate) log: RaftLog<RealDisk>,
    pub(crate) recovered: Recovered,
}

fn check_identity(dir: &DataDir, found: &Identity, config: &ServerConfig) -> Result<(), RunError> {
    if let Some(store) = config.store_id
        && store != found.store
    {
        return Err(dir.wrong_store(found, format!("store {store}")).into());
    }
    if let Some(bootstrap) = &config.bootstrap
        && bootstrap.cluster_id() != found.cluster
    {
        let expected = format!(
            "cluster {} (from --bootstrap, --bootstrap-token, --shards and --replicas)",
            bootstrap.cluster_id()
        );
        return Err(dir.wrong_store(found, expected).into());
    }
    Ok(())
}

pub(crate) fn open(dir: &DataDir, identity: Identity, config: &ServerConfig) -> Result<Opened, RunError> {
    let log_failed = |source| RunError::Log {
        dir: dir.log(),
        source,
    };
    let disk = RealDisk::open(dir.log()).map_err(RunError::os("opening the Raft log's directory"))?;
    let options = LogOptions {
        segment_bytes: config.log_segment_bytes,
        ..LogOptions::default()
    };
    let (log, recovered) = RaftLog::open(disk, identity, options).map_err(log_failed)?;
    let engine = BufferedEngine::open(dir.engine()).map_err(|source| RunError::Engine {
        dir: dir.engine(),
        source,
    })?;
    // What a killed process left in the page cache must not be vouched for (P1).
    engine
        .durability()
        .make_durable()
        .map_err(|source| RunError::Engine {
            dir: dir.engine(),
            source,
        })?;
    Ok(Opened {
        identity,
        engine,
        log,
        recovered,
    })
}

/// Gives a formatted store that has lost its engine the first state back; what came after it comes from the log, or
/// from the peers if the log does not reach back so far (P3).
fn restore_engine(opened: &mut Opened, dir: &DataDir, config: &ServerConfig) -> Result<(), RunError> {
    if !Store::is_unformatted(&opened.engine)? {
        return Ok(());
    }
    let Some(bootstrap) = &config.bootstrap else {
        return Err(RunError::EngineLost { dir: dir.engine() });
    };
    let engine_failed = |source| RunError::Engine {
        dir: dir.engine(),
        source,
    };
    let first = birth::first_state(opened.identity.cluster, bootstrap);
    first
        .write(
            &mut opened.engine,
            opened.identity.store,
            &mut Controller::default(),
        )
        .map_err(engine_failed)?;
    opened.engine.durability().make_durable().map_err(engine_failed)?;
    tracing::warn!(dir = %dir.engine().display(), "state engine lost: rebuilt from the log and from the peers");
    Ok(())
}

fn random_u64() -> Result<u64, RunError> {
    Ok(random_u128()? as u64)
}

pub(crate) fn random_u128() -> Result<u128, RunError> {
    let mut bytes = [0; 16];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| RunError::Os {
                what: "getrandom",
                source: error.into(),
            })?;
    }
    Ok(u128::from_le_bytes(bytes))
}
