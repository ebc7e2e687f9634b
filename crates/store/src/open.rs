//! Opening a store: its replicas as the engine and the log left them.

use std::collections::{BTreeMap, BTreeSet};

use quorate_raft::{Buffers, Config, Entry, HardState, Index, RawNode, SnapshotMeta, Term, mutant};
use quorate_storage::engine::{BatchSeq, Engine};
use quorate_storage::log::{LogOp, Recovered, RecoveredShard};
use quorate_storage::{Identity, ShardId};

use crate::bootstrap::FIRST;
use crate::counters::Counters;
use crate::descriptor::{self, Applied, Descriptor};
use crate::error::StoreError;
use crate::gateway::Gateway;
use crate::health::Health;
use crate::heartbeats::Heartbeats;
use crate::io::{Effects, LogToken, PeerTable, StoreOptions, Times};
use crate::kv::{Txn, sessions};
use crate::lifecycle::first_records;
use crate::rebuild::{self, Rebuild};
use crate::recovery::Forced;
use crate::replica::Replica;
use crate::router::Router;
use crate::rsm::StateMachine;
use crate::scheduler_worker::SchedulerWorker;
use crate::shard_log::ShardLog;
use crate::space::Garbage;
use crate::split;
use crate::store::Store;
use crate::tombstone::Tombstone;

impl<E: Engine> Store<E> {
    /// Whether an engine was never formatted, or was lost.
    pub fn is_unformatted(engine: &E) -> Result<bool, StoreError> {
        Ok(!descriptor::is_formatted(engine)?)
    }

    /// Makes an empty engine that of a store without shards: one that joins a cluster. The caller makes it durable.
    pub fn format(engine: &mut E) -> Result<(), StoreError> {
        let mut txn = Txn::new(engine);
        let (key, value) = descriptor::formatted_record();
        txn.put(key, value);
        let batch = txn.into_batch();
        engine.write(batch)?;
        Ok(())
    }

    /// A store as the engine and the log left it. `process` must differ from that of every earlier process.
    ///
    /// The caller has made the engine durable since it opened it: what a killed process left in the page cache
    /// must not be vouched for (P1), and the log may be reset to it (P5). `machine` is the controller's; what it holds
    /// does not matter.
    pub fn open(
        identity: Identity,
        process: u64,
        options: StoreOptions,
        engine: E,
        recovered: Recovered,
        machine: Box<dyn StateMachine>,
        times: Times,
    ) -> Result<Self, StoreError> {
        let descriptors = Descriptor::load_all(&engine)?;
        let tombstones = Tombstone::load_all(&engine)?;
        let garbage = crate::space::unreferenced(&engine, &descriptors)?;
        let next_space = descriptors
            .iter()
            .flat_map(|d| [d.space, d.sessions])
            .chain(
                garbage
                    .iter()
                    .map(Garbage::space)
                    .filter(|_| !mutant!("space-used-again")),
            )
            .max()
            .map_or(1, |s| s.0 + 1);
        let last_batch = engine.last_batch();
        let mut store = Self {
            identity,
            process,
            engine,
            replicas: Vec::with_capacity(descriptors.len()),
            router: Router::default(),
            machine,
            scheduler_worker: SchedulerWorker::default(),
            gateway: Gateway::new(process, options.seed, identity.store),
            peers: PeerTable::default(),
            health: Health::default(),
            heartbeats: Heartbeats::default(),
            survey: None,
            started_us: times.mono_us,
            ticks: 0,
            shutting_down: false,
            next_read: 0,
            counters: Counters::default(),
            dirty: Vec::new(),
            to_apply: Vec::new(),
            buffers: Buffers::new(),
            last_token: 0,
            log_ops: Vec::new(),
            durable_batch: BatchSeq(0),
            durable_asked: BatchSeq(0),
            out: Effects::default(),
            sending: BTreeMap::new(),
            receiving: BTreeMap::new(),
            asked: BTreeMap::new(),
            waiting_to_feed: BTreeMap::new(),
            last_snapshot: crate::gateway::spread(process),
            snapshot_allowance: 1,
            levelling: BTreeSet::new(),
            snapshots_hurry: false,
            next_space,
            garbage: garbage.into_iter().map(|garbage| (garbage, last_batch)).collect(),
            routes_version: 0,
            tombstones: BTreeMap::new(),
            doomed: Vec::new(),
            erasing: Vec::new(),
            orphans: BTreeMap::new(),
            strangers: BTreeMap::new(),
            options,
        };
        // What the engine knows was written to the log as well (P4): if it is not there, votes may have gone with
        // it (P3).
        let lost = RecoveredShard {
            quarantined: true,
            ..RecoveredShard::default()
        };
        let is_damaged = recovered.unlisted_quarantined;
        let mut recovered = recovered.shards;
        for descriptor in descriptors {
            let log = recovered.remove(&descriptor.shard).unwrap_or_else(|| {
                if descriptor.is_new && !is_damaged {
                    RecoveredShard::default()
                } else {
                    lost.clone()
                }
            });
            // An engine that was lost and written anew may hold what was removed long ago.
            let is_dead = log.tombstone.is_some_and(|dead| descriptor.replica <= dead);
            let (shard, at) = (descriptor.shard, store.replicas.len());
            store.open_replica(descriptor, log)?;
            if is_dead && let Some(info) = store.replicas[at].info() {
                store.doom(shard, info);
            }
        }
        // Records of shards that the engine does not know stay in the log untouched (P4), but for what a removal left.
        for (shard, tombstone) in &tombstones {
            let log = recovered.get(shard);
            let replica = log.and_then(|log| log.replica);
            if let Some(replica) = replica.filter(|replica| *replica <= tombstone.replica) {
                let shard = *shard;
                store.log_ops.push(LogOp::Tombstone { shard, replica });
            }
            store.router.hear(tombstone.info.clone());
        }
        // A lost engine again: what votes and acknowledgements such a replica gave is known to nobody.
        let orphan = |(shard, log): (ShardId, RecoveredShard)| {
            let replica = log.replica.filter(|replica| log.tombstone < Some(*replica));
            replica.map(|replica| (shard, replica))
        };
        store.orphans = recovered.into_iter().filter_map(orphan).collect();
        store.tombstones = tombstones;
        store.router.rebuild(&store.replicas);
        store.erase_doomed(times)?;
        Ok(store)
    }

    fn open_replica(&mut self, descriptor: Descriptor, mut log: RecoveredShard) -> Result<(), StoreError> {
        let shard = descriptor.shard;
        let applied = Applied::load(&self.engine, shard)?;
        let sessions = sessions::totals(&self.engine, descriptor.sessions)?;
        self.load_machine(&descriptor)?;
        let is_removed = descriptor.membership.has_removed(descriptor.replica);
        if !is_removed && descriptor.store_of(descriptor.replica) != Some(self.identity.store) {
            return Err(StoreError::WrongEngine {
                shard,
                replica: descriptor.replica,
                store: self.identity.store,
            });
        }
        if applied.index == Index(0) && (log.replica != Some(descriptor.replica) || log.quarantined) {
            // P4: it was born, and has had neither a vote nor an entry. The log holds nothing of it, or nothing that
            // matters.
            if let Some(replica) = log.replica.filter(|replica| *replica != descriptor.replica) {
                self.log_ops.push(LogOp::Tombstone { shard, replica });
            }
            let base = (Index(0), Term(0));
            let state = HardState::default();
            self.log_ops
                .extend(first_records(shard, descriptor.replica, base, state));
            log = RecoveredShard::default();
        } else if descriptor.is_new && (applied.index, applied.term) == FIRST && log.replica.is_none() {
            // P4: born by a split, which the engine has, and the log nothing of it.
            if !log.quarantined {
                let state = split::first_state(HardState::default());
                self.log_ops
                    .extend(first_records(shard, descriptor.replica, FIRST, state));
                log.base = FIRST;
                log.hard_state = state;
            }
        }
        let at_applied = if log.base.0 == applied.index {
            Some(log.base.1)
        } else {
            log.entries
                .iter()
                .find(|entry| entry.index == applied.index)
                .map(|entry| entry.term)
        };
        let mark = rebuild::load_mark(&self.engine, shard)?;
        // The log begins behind what the engine has: the engine lost what it had made durable.
        let is_damaged = log.quarantined && !mutant!("damage-ignored") || log.base.0 > applied.index;
        let rebuild = Rebuild::at_open(is_damaged, mark, log.hard_state.term);
        if !rebuild.as_ref().is_none_or(Rebuild::is_following) {
            // What the log holds cannot be trusted, or is of no use (P3). The records stay as they are until it
            // is started over, so that the next start knows it too.
            log.entries.clear();
            log.base = (applied.index, applied.term);
        } else if at_applied != Some(applied.term) && !mutant!("log-reset-not-finished") {
            // The log does not reach, or contradicts, what the engine has applied: an installed snapshot whose
            // reset of the log was not written (P5).
            log.entries.clear();
            log.base = (applied.index, applied.term);
            self.log_ops.push(LogOp::Reset {
                shard,
                index: applied.index,
                term: applied.term,
            });
        }
        let mut hard_state = log.hard_state;
        if mutant!("vote-forgotten-at-open") {
            hard_state.vote = None;
        }
        hard_state.commit = hard_state.commit.max(applied.index);
        let last = log.entries.last().map_or(log.base.0, |entry| entry.index);
        // Commit-only updates are not written, but they are also never written ahead of the entries.
        hard_state.commit = hard_state.commit.min(last);
        hard_state.term = hard_state.term.max(applied.term);
        let forced = Forced::load(&self.engine, shard)?;
        // The log need not hold anything of it yet.
        hard_state = forced.map_or(hard_state, |forced| forced.raise(hard_state));
        let raft = self.new_core(&descriptor, applied, hard_state, log.base, log.entries)?;
        self.replicas.push(Replica::new(
            raft, descriptor, applied, sessions, hard_state, rebuild,
        ));
        if let Some(replica) = self.replicas.last_mut() {
            replica.forced = forced;
        }
        if let Some(replica) = self
            .replicas
            .last_mut()
            .filter(|replica| replica.descriptor.is_new)
        {
            replica.first_logged = Some(LogToken(1));
        }
        if is_removed && let Some(info) = self.replicas.last().and_then(Replica::info) {
            self.doom(shard, info);
        }
        Ok(())
    }

    /// The consensus core of a replica whose log is as given.
    pub(crate) fn new_core(
        &self,
        descriptor: &Descriptor,
        applied: Applied,
        hard_state: HardState,
        base: (Index, Term),
        entries: Vec<Entry>,
    ) -> Result<RawNode<ShardLog>, StoreError> {
        let meta = SnapshotMeta {
            index: applied.index,
            term: applied.term,
            conf_state: descriptor.conf_state.clone(),
        };
        let storage = ShardLog::new(hard_state, meta, base, entries);
        let config = Config {
            id: descriptor.replica,
            election_ticks: self.options.election_ticks,
            heartbeat_ticks: self.options.heartbeat_ticks,
            priority: 0,
            applied: applied.index,
            max_bytes_per_message: self.options.append_bytes_max,
            max_committed_bytes_per_ready: 4 << 20,
            max_uncommitted_bytes: 64 << 20,
            max_inflight_messages: 256,
            max_inflight_bytes: 16 << 20,
            pre_vote: true,
            check_quorum: true,
            read_only: quorate_raft::ReadOnlyOption::Safe,
            async_storage_writes: true,
            gather_appends: true,
            disable_proposal_forwarding: true,
            disable_conf_change_validation: false,
            step_down_on_removal: true,
            seed: self.options.seed ^ descriptor.replica.0.wrapping_mul(0x9E37_79B9_7F4A_7C15),
        };
        let shard = descriptor.shard;
        RawNode::new(config, storage).map_err(|source| StoreError::Start { shard, source })
    }
}
