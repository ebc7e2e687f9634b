//! What the oracles are shown: each turn's effects, and now and then the whole of a replica.

use quorate_raft::{Entry, Payload, Role};
use quorate_storage::ShardId;
use quorate_storage::log::LogOp;
use quorate_store::ReplicaStatus;
use quorate_store::rsm::CONTROLLER;

use super::World;
use crate::oracle::{Leases, Standing, Violation, coverage, decides};
use crate::process::Turn;

/// Ticks after which log GC must have done something, on a disk that needs no time.
const GC_TICKS_MAX: u64 = 40;

impl World {
    /// Shows the oracles what a turn did.
    pub(super) fn observe(&mut self, node: usize, turn: &Turn, lives: bool) -> Result<(), Violation> {
        for (_, message) in &turn.sends {
            self.oracles.sent(node, message)?;
        }
        for op in &turn.log {
            self.oracles.logged(node, op)?;
        }
        self.check_leaving(node, turn)?;
        let mut is_decided = false;
        for (shard, entry) in &turn.applied {
            self.counts.applied += 1;
            let is_first = self.oracles.applied((node, *shard), entry)?;
            // What shard 0 holds is not the clients', and it is emptied now and then.
            if is_first && *shard != CONTROLLER {
                self.workload.applied(self.now_us, *shard, entry);
            }
            is_decided |= is_first && decides(*shard, entry);
            // It may have answered before it stepped down or died.
            let led = |status: &ReplicaStatus| (status.shard, status.role) == (*shard, Role::Leader);
            if self.status[node].iter().any(led) {
                self.workload.led(self.now_us, *shard, entry.index);
            }
        }
        if !lives {
            return Ok(());
        }
        if is_decided {
            self.check_decided(node)?;
        }
        let times = self.nodes[node].clock.times(self.now_us);
        let Some(process) = &self.nodes[node].process else {
            return Ok(());
        };
        process.store.validate();
        let now = process.status(times);
        // Most turns leave most replicas as they were, and then there is nothing to check.
        let is_idle = turn.log.is_empty() && turn.applied.is_empty();
        let is_same =
            |before: Option<&ReplicaStatus>, status: &ReplicaStatus| is_idle && before == Some(status);
        let mut words = Vec::with_capacity(2 + 6 * now.len());
        words.extend([2, node as u64]);
        let all_before = std::mem::take(&mut self.status[node]);
        for before in &all_before {
            if same_replica(&now, before).is_none() {
                self.oracles.gone((node, before.shard));
            }
        }
        for status in &now {
            let before = same_replica(&all_before, status);
            if is_same(before, status) {
                continue;
            }
            self.oracles.status(node, before, status)?;
            if status.role == Role::Leader {
                self.workload.led(self.now_us, status.shard, status.applied);
            }
            words.extend([
                status.shard.0,
                status.term.0,
                status.role as u64,
                status.commit.0,
                status.applied.0,
                status.last.0,
            ]);
            if before.is_none_or(|before| (before.role, before.term) != (status.role, status.term)) {
                let (term, role, lease) = (status.term, status.role, status.lease);
                self.trace
                    .event(self.now_us, &[3, node as u64, status.shard.0], || {
                        format!(
                            "n{} s{} is {role:?} in term {term}{}",
                            node + 1,
                            status.shard,
                            if lease { " (lease)" } else { "" }
                        )
                    });
            }
            if status.installing && before.is_some_and(|before| !before.installing) {
                self.counts.snapshots += 1;
            }
        }
        let now_us = self.now_us;
        self.trace.event(now_us, &words, || {
            let shards = now.iter().map(|s| {
                format!(
                    "s{} {:?}@{} applied={} commit={} last={}",
                    s.shard, s.role, s.term, s.applied, s.commit, s.last
                )
            });
            format!("n{} turn: {}", node + 1, shards.collect::<Vec<_>>().join("; "))
        });
        self.oracles.ranges.check()?;
        for status in &now {
            if let Err(at) = self.shards.binary_search(&status.shard.0) {
                self.shards.insert(at, status.shard.0);
            }
        }
        let led = now
            .iter()
            .find(|status| status.shard == CONTROLLER && status.role == Role::Leader);
        self.overviews
            .leads(node, led.map(|status| status.term), times.mono_us);
        self.status[node] = now;
        for at in 0..self.status[node].len() {
            let status = &self.status[node][at];
            if !is_same(same_replica(&all_before, status), status) {
                let (shard, stands) = (status.shard, standing(status));
                self.check_lease((node, shard), stands)?;
            }
        }
        Ok(())
    }

    /// M1: whoever proposes to leave a joint configuration is a voter of its incoming half.
    fn check_leaving(&self, node: usize, turn: &Turn) -> Result<(), Violation> {
        let Some(process) = &self.nodes[node].process else {
            return Ok(());
        };
        for op in &turn.log {
            let LogOp::Append { shard, entries } = op else {
                continue;
            };
            let leaves = |entry: &Entry| {
                matches!(&entry.payload, Payload::ConfChange(change) if change.leaves_joint())
                    && process.store.leads_in(*shard) == Some(entry.term)
            };
            let Some(descriptor) = process
                .store
                .descriptor(*shard)
                .filter(|_| entries.iter().any(leaves))
            else {
                continue;
            };
            if !descriptor.conf_state.voters.contains(&descriptor.replica) {
                let detail = format!(
                    "shard {shard}: replica {} on node {} leads out of {:?}",
                    descriptor.replica,
                    node + 1,
                    descriptor.conf_state
                );
                return Err(Violation::new("who leaves a joint configuration stays", detail));
            }
        }
        Ok(())
    }

    /// Looks at the leases that may be in conflict with how a replica stands now, each by its own clock. One that
    /// stands as it did was looked at then; the other gets a lease, or a term to lead, only by a turn of its own.
    pub(super) fn check_lease(&mut self, at: (usize, ShardId), stands: Standing) -> Result<(), Violation> {
        if self.plan.leases_may_lie() {
            return Ok(());
        }
        for other in self.oracles.leases.stands(at, stands) {
            let times = self.nodes[other].clock.times(self.now_us);
            let Some(process) = &self.nodes[other].process else {
                continue;
            };
            if let Some(theirs) = process.status(times).iter().find(|status| status.shard == at.1) {
                Leases::check(at.1, (at.0, stands), (other, standing(theirs)))?;
            }
        }
        Ok(())
    }

    /// What is checked once per tick of a node.
    pub(super) fn check_tick(&mut self, node: usize) -> Result<(), Violation> {
        if self.nodes[node].is_gone {
            return Ok(());
        }
        if !self.nodes[node].has_good_disk(self.now_us) {
            self.oracles.log_bounds.excused(node);
        } else {
            let ticks_max = GC_TICKS_MAX + 4 * self.plan.disk.durable_us_max / self.plan.store.tick_us;
            for status in &self.status[node] {
                self.oracles
                    .log_bounds
                    .ticked(node, status, &self.plan.store, ticks_max)?;
            }
        }
        self.check_overview(node)?;
        self.sample(node)
    }

    /// Compares a replica's content and log with what is known, now and then: it reads all of it.
    fn sample(&mut self, node: usize) -> Result<(), Violation> {
        if !self.rng.one_in(8) {
            return Ok(());
        }
        if let Some(process) = &self.nodes[node].process {
            coverage::overlaps(node, &process.store.routes())?;
        }
        let nth = self.rng.below(self.shards.len() as u64);
        let shard = ShardId(self.shards[nth as usize]);
        self.check_content(node, shard)?;
        let Some(process) = &self.nodes[node].process else {
            return Ok(());
        };
        let at = (node, shard);
        if self.status[node]
            .iter()
            .any(|status| status.shard == shard && status.installing)
        {
            return Ok(());
        }
        let entries: Vec<_> = process
            .store
            .log_entries(shard)
            .map(|entry| (entry.index, entry.term, crate::oracle::hash_of(entry)))
            .collect();
        let mirror: Vec<_> = self.oracles.mirrors.entry(at).iter().collect();
        // What the store forgets goes to the log with its next write.
        let kept = mirror.len().saturating_sub(entries.len());
        if mirror[kept..] != entries {
            let detail = format!(
                "shard {shard} on node {}: memory holds another log than what was given to the disk",
                node + 1
            );
            return Err(Violation::new("the log in memory is the one on disk", detail));
        }
        Ok(())
    }

    /// Digests a replica and compares it with others at the same position.
    pub(crate) fn check_content(
        &mut self,
        node: usize,
        shard: ShardId,
    ) -> Result<Option<(u64, u64)>, Violation> {
        let Some(process) = &self.nodes[node].process else {
            return Ok(None);
        };
        let broken = |detail: String| Violation::new("the state engine can be read", detail);
        let found = process
            .store
            .digest(shard)
            .map_err(|error| broken(error.to_string()))?;
        let Some((applied, digest)) = found else {
            return Ok(None);
        };
        let sessions = process
            .store
            .sessions(shard)
            .map_err(|error| broken(error.to_string()))?;
        if let Some((kept, counted)) = sessions
            && kept != counted
        {
            let detail = format!(
                "shard {shard} on node {}: the totals say {kept:?}, the table holds {counted:?}",
                node + 1
            );
            return Err(Violation::new("a session table's totals are exact", detail));
        }
        self.counts.digests += 1;
        self.oracles
            .state_machine
            .digest((node, shard), applied.index, digest ^ applied.stamp_ms)?;
        Ok(Some((applied.index.0, digest)))
    }
}

/// The same replica in another account.
fn same_replica<'a>(among: &'a [ReplicaStatus], status: &ReplicaStatus) -> Option<&'a ReplicaStatus> {
    let is_it = |other: &&ReplicaStatus| (other.shard, other.replica) == (status.shard, status.replica);
    among.iter().find(is_it)
}

fn standing(status: &ReplicaStatus) -> Standing {
    Standing {
        term: status.term,
        leads: status.role == Role::Leader,
        lease: status.lease,
    }
}
