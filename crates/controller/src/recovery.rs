//! Shards that lost their majority for ever: what is left of them, who goes on, and that nobody else does
//! (docs/adr/0006).
//!
//! An operator names stores that are gone for good. Which replica of a shard goes on is decided by what survivors tell, and
//! written down before anybody acts by it, together with the removal of the stores: so two replicas of a shard are never
//! made to go on alone, whoever leads the controller and however often the command comes.
//!
//! The choice. Let `c` be the highest index that a survivor knows to be committed. What is up to there is the shard's
//! history, and whoever goes on must have it. Of those, the one with the most advanced log goes on, as in an election
//! (Raft, section 5.4.1). The most advanced of *all* would not do: one that was cut off in an earlier term may have entries
//! that a later leader replaced elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto::{
    Answer, CommandError, Delta, Epoch, Left, LossRow, MemberRole, RECOVERY_STRIDE, Recovery, Service,
    ShardHeartbeat, ShardMember, StoreState, Survivor,
};
use quorate_raft::{ReplicaId, Term, mutant};
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::{CONTROLLER, Reign, RowChanges};

use crate::liveness::{DOWN_AFTER_US, GAP_US};
use crate::overview::Overview;
use crate::shard_map::Known;
use crate::state::Controller;
use crate::{placement, rows};

/// Microseconds for which a store must have been heard all the time, at least, so that it has told what survives there: a
/// replica tells of itself when it has heard no leader for three election timeouts, or its process has run for so long.
/// Stores say how long that takes with theirs; the lost ones must have been silent for as long.
const STEADY_US: u64 = DOWN_AFTER_US;

/// What survivors have told, by shard.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Survivors(BTreeMap<ShardId, BTreeMap<StoreId, (u64, Survivor)>>);

impl Survivors {
    /// A store tells of its replicas that hear no leader.
    pub fn hear(&mut self, now_us: u64, store: StoreId, told: Vec<Survivor>) {
        for survivor in told {
            self.0
                .entry(survivor.shard)
                .or_default()
                .insert(store, (now_us, survivor));
        }
    }

    /// Those that were heard lately; they tell it with every heartbeat.
    fn of(&self, now_us: u64, shard: ShardId) -> BTreeMap<StoreId, &Survivor> {
        let told = self.0.get(&shard).into_iter().flatten();
        let fresh = told.filter(|(_, (at, _))| now_us < at.saturating_add(GAP_US));
        fresh.map(|(store, (_, survivor))| (*store, survivor)).collect()
    }
}

impl Controller {
    /// What becomes of every shard that has no majority without the stores that are lost or were removed, in ascending
    /// order.
    ///
    /// # Errors
    /// A store that is not lost, since it was heard; or too little was heard to judge.
    pub(crate) fn losses(
        &self,
        reign: Reign,
        overview: &Overview,
        lost: &BTreeSet<StoreId>,
    ) -> Result<Vec<LossRow>, CommandError> {
        let mut gone = lost.clone();
        let first = self.first.as_ref().ok_or(CommandError::NotBootstrapped)?;
        let stores: BTreeSet<StoreId> = first.stores.iter().chain(self.stores.keys()).copied().collect();
        let live = stores
            .difference(lost)
            .filter_map(|store| overview.liveness.last(*store));
        let steady_us = live
            .map(|last| last.tells_after_ms.saturating_mul(1000))
            .max()
            .unwrap_or_default();
        let steady_us = steady_us.max(STEADY_US);
        for store in &stores {
            let state = overview.liveness.state(reign.now_us, *store);
            let silent_us = overview.liveness.silent_us(reign.now_us, *store);
            match (self.service(*store), lost.contains(store)) {
                (Service::Removed, _) => {
                    gone.insert(*store);
                }
                (_, true) if state == StoreState::Up => return Err(CommandError::StoreAlive),
                (_, true) if silent_us < steady_us => return Err(CommandError::NotHeardYet),
                // It may hold more than those that were heard.
                (_, false) if state != StoreState::Up => return Err(CommandError::StoreSilent),
                (_, false)
                    if overview.liveness.steady_us(reign.now_us, *store) < steady_us
                        && !mutant!("recovered-before-all-have-told") =>
                {
                    return Err(CommandError::NotHeardYet);
                }
                _ => {}
            }
        }
        if !lost.is_subset(&stores) {
            return Err(CommandError::UnknownStore);
        }
        let config = self.history.newest();
        let told = overview.survivors.0.keys().copied();
        let mapped = overview.map.all().map(|known| known.last.shard);
        let shards: BTreeSet<ShardId> = config.shards.keys().copied().chain(told).chain(mapped).collect();
        let mut found = Vec::new();
        for shard in shards.into_iter().filter(|shard| *shard != CONTROLLER) {
            found.extend(self.loss(reign, overview, &gone, shard));
        }
        cut(overview, &mut found);
        Ok(found)
    }

    /// None: the shard has its majority.
    fn loss(
        &self,
        reign: Reign,
        overview: &Overview,
        gone: &BTreeSet<StoreId>,
        shard: ShardId,
    ) -> Option<LossRow> {
        let mut survivors = overview.survivors.of(reign.now_us, shard);
        survivors.retain(|store, _| !gone.contains(store));
        // They erase themselves as soon as they are told, too (M4).
        let removed: BTreeSet<ReplicaId> = survivors
            .values()
            .flat_map(|of| of.removed.iter().copied())
            .collect();
        survivors.retain(|_, survivor| !removed.contains(&survivor.replica));
        let known = overview.map.get(shard);
        if is_led(known, gone, &removed, &survivors) {
            return None;
        }
        let place = self.history.newest().shards.get(&shard);
        // The committed prefix, and who holds it by the newest membership that is known.
        let most = survivors.values().max_by_key(|survivor| survivor.commit).copied();
        let Some(most) = most else {
            // Nobody who lives holds it, or its replica there has nothing; unless they hear a leader that is not heard here.
            if known
                .is_some_and(|known| has_quorum(&known.last.members, |member| !gone.contains(&member.store)))
            {
                return None;
            }
            let place = place?;
            let slots = (place.start_slot, place.end_slot);
            return Some(LossRow {
                recovery: self.anew(overview, gone, shard, known, slots),
                shard,
                start_slot: slots.0,
                end_slot: slots.1,
                survivors: Vec::new(),
                heard: None,
                silent_ms: None,
                sessions: 0,
                conf_ver: None,
                known_conf_ver: known.map(|known| known.last.epoch.conf_ver),
            });
        };
        if could_elect(known, gone, &removed, &survivors) && !mutant!("recovered-though-a-majority-lives") {
            return None;
        }
        let (commit, term) = (most.commit, most.term_at(most.commit));
        let has_history = |survivor: &Survivor| {
            !survivor.is_unfit
                && if survivor.commit >= commit {
                    survivor.commit == commit
                } else {
                    term.is_some() && survivor.term_at(commit) == term
                }
        };
        // Who was chosen before and lives has to go on: it may have begun to.
        let chosen = self.recoveries.get(&shard);
        let chosen = chosen
            .filter(|chosen| !gone.contains(&chosen.store) && !is_done(chosen, most.epoch))
            .filter(|_| !mutant!("second-survivor-chosen"));
        let best = survivors
            .iter()
            .filter(|(store, survivor)| {
                has_history(survivor)
                    && chosen.is_none_or(|of| (of.store, of.replica) == (**store, survivor.replica))
            })
            .max_by_key(|(store, survivor)| {
                let last = if mutant!("survivor-by-its-commit-index") {
                    (Term(0), survivor.commit)
                } else {
                    (survivor.last_term(), survivor.last)
                };
                (last, std::cmp::Reverse(**store))
            });
        let recovery = best.map(|(store, survivor)| {
            let all = survivors.values();
            let epochs = all.clone().flat_map(|of| [of.epoch, of.known]);
            let ids = all.clone().map(|of| of.last_replica.max(of.replica));
            let terms = all.map(|of| of.term);
            let beyond = Beyond::of(known, epochs, ids, terms);
            Recovery {
                shard,
                replica: survivor.replica,
                store: *store,
                start_slot: survivor.start_slot,
                end_slot: survivor.end_slot,
                epoch: beyond.epoch,
                term: beyond.term,
                last_replica: beyond.last_replica,
                left: Some(Left {
                    commit: if mutant!("unsure-entries-said-to-be-certain") {
                        survivor.last
                    } else {
                        commit
                    },
                    last: (survivor.last, survivor.last_term()),
                }),
            }
        });
        let kept = best.map(|(_, survivor)| *survivor);
        Some(LossRow {
            recovery,
            shard,
            start_slot: kept.unwrap_or(most).start_slot,
            end_slot: kept.unwrap_or(most).end_slot,
            survivors: survivors.keys().copied().collect(),
            heard: survivors.values().filter_map(|of| of.heard).max(),
            silent_ms: survivors.values().filter_map(|of| of.silent_ms).min(),
            sessions: kept.map_or(0, |of| of.sessions),
            conf_ver: survivors.values().map(|of| of.epoch.conf_ver).max(),
            known_conf_ver: survivors
                .values()
                .map(|of| of.known.conf_ver.max(of.epoch.conf_ver))
                .chain(known.map(|known| known.last.epoch.conf_ver))
                .max(),
        })
    }

    /// A shard of which nothing is left begins anew, on the store of its group that holds least.
    fn anew(
        &self,
        overview: &Overview,
        gone: &BTreeSet<StoreId>,
        shard: ShardId,
        known: Option<&Known>,
        (start_slot, end_slot): (u16, u16),
    ) -> Option<Recovery> {
        let config = self.history.newest();
        let group = config.shards.get(&shard)?.group?;
        let counts = overview.map.counts();
        let chosen = self.recoveries.get(&shard).filter(|of| !gone.contains(&of.store));
        let stores = config
            .groups
            .get(&group)?
            .iter()
            .filter(|store| !gone.contains(store));
        let least = stores.min_by_key(|store| (counts.get(store).map_or(0, |of| of.replicas), **store));
        if let Some(chosen) = chosen {
            return chosen.left.is_none().then(|| chosen.clone());
        }
        let beyond = Beyond::of(
            known,
            [Epoch {
                conf_ver: 1,
                version: 1,
            }]
            .into_iter(),
            std::iter::empty(),
            std::iter::empty(),
        );
        Some(Recovery {
            shard,
            replica: beyond.last_replica,
            store: *least?,
            start_slot,
            end_slot,
            epoch: beyond.epoch,
            term: beyond.term,
            last_replica: beyond.last_replica,
            left: None,
        })
    }
}

/// What a newer shard has of an older one's slots is the newer one's: a survivor may not have applied a split. Splits give
/// the upper part away, so that is cut off; whoever overlaps in another way does not go on.
fn cut(overview: &Overview, losses: &mut [LossRow]) {
    let lost: BTreeSet<ShardId> = losses.iter().map(|loss| loss.shard).collect();
    let range = |start: u16, end: u16| (start < end).then_some((start, end));
    let led = overview
        .map
        .all()
        .filter(|known| !lost.contains(&known.last.shard));
    let led: Vec<(u16, u16)> = led
        .filter_map(|known| range(known.last.start_slot, known.last.end_slot))
        .collect();
    let all: Vec<(ShardId, u16)> = losses.iter().map(|loss| (loss.shard, loss.start_slot)).collect();
    for loss in losses {
        let begin_inside = led.iter().map(|(start, _)| *start);
        let others = all.iter().filter(|(shard, _)| *shard != loss.shard);
        let begin_inside = begin_inside.chain(others.map(|(_, start)| *start));
        let first = begin_inside.filter(|start| *start > loss.start_slot).min();
        loss.end_slot = loss.end_slot.min(first.unwrap_or(loss.end_slot));
        let reaches_in = |(start, end): &(u16, u16)| *start <= loss.start_slot && loss.start_slot < *end;
        if led.iter().any(reaches_in) {
            loss.recovery = None;
        }
        if let Some(recovery) = &mut loss.recovery {
            recovery.end_slot = loss.end_slot;
        }
    }
}

/// Beyond what those who are lost can have reached.
struct Beyond {
    epoch: Epoch,
    term: Term,
    last_replica: ReplicaId,
}

impl Beyond {
    fn of(
        known: Option<&Known>,
        epochs: impl Iterator<Item = Epoch>,
        ids: impl Iterator<Item = ReplicaId>,
        terms: impl Iterator<Item = Term>,
    ) -> Self {
        let heard = known.map(|known| known.last.epoch);
        let most = epochs.chain(heard).fold(Epoch::default(), |most, epoch| Epoch {
            conf_ver: most.conf_ver.max(epoch.conf_ver),
            version: most.version.max(epoch.version),
        });
        let id = ids.chain(known.map(|known| known.last_replica)).max();
        let term = terms.chain(known.map(|known| known.last.term)).max();
        Self {
            epoch: Epoch {
                conf_ver: most.conf_ver + RECOVERY_STRIDE,
                version: most.version + RECOVERY_STRIDE,
            },
            term: Term(term.map_or(0, |term| term.0) + RECOVERY_STRIDE),
            last_replica: ReplicaId(id.map_or(0, |id| id.0) + RECOVERY_STRIDE),
        }
    }
}

/// Whether a shard that was told of has a leader that lives, and does not say itself that it hears none.
fn is_led(
    known: Option<&Known>,
    gone: &BTreeSet<StoreId>,
    removed: &BTreeSet<ReplicaId>,
    survivors: &BTreeMap<StoreId, &Survivor>,
) -> bool {
    let last = known
        .map(|known| &known.last)
        .filter(|last| !removed.contains(&last.leader));
    let leader = last.and_then(ShardHeartbeat::leader_store);
    leader.is_some_and(|store| !gone.contains(&store) && !survivors.contains_key(&store))
}

/// Whether those that are not gone could elect a leader by themselves. The newest membership that a survivor has applied
/// decides; a newer one that nobody who lives has applied elects nobody (docs/adr/0006). Members that have been removed since
/// have no vote: a survivor may lag behind its shard, and think of a majority that erased itself long ago.
fn could_elect(
    known: Option<&Known>,
    gone: &BTreeSet<StoreId>,
    removed: &BTreeSet<ReplicaId>,
    survivors: &BTreeMap<StoreId, &Survivor>,
) -> bool {
    let Some(newest) = survivors.values().max_by_key(|of| (of.epoch.conf_ver, of.commit)) else {
        return false;
    };
    let newer = known.filter(|known| known.last.epoch.conf_ver > newest.epoch.conf_ver);
    // Ids of removed replicas never come back (M3).
    let has_left = |known: &Known, id| known.last.members.iter().all(|member| member.replica != id);
    let is_removed = |id| {
        (removed.contains(&id) || newer.is_some_and(|known| has_left(known, id)))
            && !mutant!("removed-members-taken-for-alive")
    };
    has_quorum(&newest.members, |member| {
        !gone.contains(&member.store) && !is_removed(member.replica)
    })
}

/// Whether those of a shard's members that live are a majority, of both halves if the configuration is joint.
fn has_quorum(members: &[ShardMember], lives: impl Fn(&ShardMember) -> bool) -> bool {
    let is_majority = |votes: &dyn Fn(MemberRole) -> bool| {
        let voters = members.iter().filter(|member| votes(member.role));
        let (all, live) = voters.fold((0, 0), |(all, live), member| {
            (all + 1, live + usize::from(lives(member)))
        });
        all == 0 || live > all / 2
    };
    is_majority(&|role| matches!(role, MemberRole::Voter | MemberRole::Incoming))
        && is_majority(&|role| matches!(role, MemberRole::Voter | MemberRole::Outgoing))
}

/// Whether the shard was recovered so, or has gone on since.
fn is_done(recovery: &Recovery, epoch: Epoch) -> bool {
    epoch.conf_ver >= recovery.epoch.conf_ver
}

impl Controller {
    /// What is asked holds by what the leader has heard: the stores are silent, and the shards go on as it was shown.
    pub(crate) fn consider_recovery(
        &self,
        reign: Option<Reign>,
        lost: &BTreeSet<StoreId>,
        shards: &[Recovery],
    ) -> Result<(), CommandError> {
        // Asked again: nothing is left to judge.
        let is_removed = |store: &StoreId| self.service(*store) == Service::Removed;
        let is_written = |of: &Recovery| self.recoveries.get(&of.shard) == Some(of);
        if lost.iter().all(is_removed) && shards.iter().all(is_written) {
            return Ok(());
        }
        let reign = reign.ok_or(CommandError::NotHeardYet)?;
        let overview = self.heard_in(reign).ok_or(CommandError::NotHeardYet)?;
        let planned = self.losses(reign, overview, lost)?;
        let is_planned = |recovery: &Recovery| {
            is_written(recovery)
                || planned
                    .iter()
                    .any(|loss| loss.recovery.as_ref() == Some(recovery))
        };
        if shards.iter().all(is_planned) {
            Ok(())
        } else {
            Err(CommandError::ShardChanged)
        }
    }

    /// Stores are gone for good, and so shards go on with what is left.
    pub(crate) fn recover(
        &mut self,
        lost: &BTreeSet<StoreId>,
        shards: &[Recovery],
        rows: &mut RowChanges,
    ) -> Result<Answer, CommandError> {
        if lost.iter().any(|store| !self.is_known(*store)) {
            return Err(CommandError::UnknownStore);
        }
        for recovery in shards {
            let is_out_of_range = recovery.shard == CONTROLLER
                || recovery.start_slot >= recovery.end_slot
                || recovery.replica > recovery.last_replica
                || lost.contains(&recovery.store);
            if is_out_of_range || !self.is_known(recovery.store) {
                return Err(CommandError::OutOfRange);
            }
            self.check_removed(recovery.store)?;
            // Two that may both live are never chosen for one version of a shard.
            if let Some(before) = self.recoveries.get(&recovery.shard) {
                let is_same = (before.store, before.replica) == (recovery.store, recovery.replica);
                let is_gone = lost.contains(&before.store) || self.service(before.store) == Service::Removed;
                let is_behind = recovery.epoch.conf_ver >= before.epoch.conf_ver + RECOVERY_STRIDE;
                if !is_same && !is_gone && !is_behind {
                    return Err(CommandError::ShardChanged);
                }
            }
        }
        let mut config = self.history.newest().clone();
        let mut deltas: Vec<Delta> = Vec::new();
        let gone = lost
            .iter()
            .filter(|store| self.service(**store) != Service::Removed);
        let gone: Vec<StoreId> = gone.copied().collect();
        for store in &gone {
            if let Some(delta) = placement::removal(&config, *store)? {
                config.change(&delta);
                deltas.push(delta);
            }
        }
        for delta in deltas {
            self.push_config(delta, rows);
        }
        for store in gone {
            self.forget_addresses(store, rows);
            if !mutant!("lost-store-stays-in-service") {
                self.put_service(store, Service::Removed, rows);
            }
        }
        for recovery in shards {
            let (row, value) = rows::recovery_row(recovery);
            rows.push((row, Some(value)));
            self.recoveries.insert(recovery.shard, recovery.clone());
        }
        Ok(Answer::Ok)
    }

    /// What a store is to go on with alone, as far as it is not known to have done so.
    pub(crate) fn recoveries_on(&self, overview: &Overview, store: StoreId) -> Vec<Recovery> {
        let is_due = |of: &&Recovery| {
            let known = overview.map.get(of.shard);
            of.store == store && !known.is_some_and(|known| is_done(of, known.last.epoch))
        };
        self.recoveries.values().filter(is_due).cloned().collect()
    }
}
