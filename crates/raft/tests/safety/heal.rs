//! The end of a run: faults stop, and the cluster must make progress.

use quorate_raft::{ConfState, Index, ReplicaId};

use crate::cluster::{Cluster, ELECTION_TICKS};
use crate::faults::Weather;
use crate::member::Member;

/// Rounds within which a healed cluster must be live. Most need a few; a joint configuration to leave, snapshots and
/// elections of late priorities come one after the other.
const ROUNDS: u32 = 200;

impl Cluster {
    /// Faults end; whoever is a member must get to the same, longer log.
    pub(crate) fn heal(&mut self) {
        self.loss = 0;
        self.cut = (false, false);
        self.crash_while_working = 0;
        self.weather = Weather::new();
        let size = self.size();
        (1..=size).for_each(|id| self.restart(id));
        self.quiet_round(20 * ELECTION_TICKS);
        // Removed members that have not heard of it would campaign for ever.
        let state = self.newest_configuration();
        for id in (1..=size).filter(|id| !keeps(&state, *id)) {
            self.crash(id);
        }
        let (before, reads) = (self.properties.committed(), self.tried.reads);
        for _ in 0..ROUNDS {
            (1..=size).for_each(|id| self.propose(id));
            (1..=size).for_each(|id| self.read(id));
            self.quiet_round(5 * ELECTION_TICKS);
            if self.properties.committed().0 > before.0 + 10 && self.tried.reads > reads && self.together() {
                return;
            }
        }
        // A leader applied its own removal or demotion. If nobody heard from it that this was committed, those who
        // may vote can be left with shorter logs than those who no longer may, and nobody can be elected: the
        // reference shares this. Hence leadership is to be transferred first (M1); such runs are checked for safety
        // only.
        let stuck = self.members.values().any(|member| member.led_its_own_removal);
        assert!(
            stuck,
            "no progress: committed up to {before}, then up to {}, {} reads answered\n{}",
            self.properties.committed(),
            self.tried.reads - reads,
            self.describe()
        );
    }

    /// Whether all members have applied the same.
    fn together(&self) -> bool {
        // A joint configuration may have been left meanwhile.
        let state = self.newest_configuration();
        let ends: Vec<(Index, u64)> = self
            .members
            .values()
            .filter(|member| keeps(&state, member.id) && member.node.is_some())
            .map(|member| (member.machine.applied, member.machine.digest))
            .collect();
        ends.windows(2).all(|pair| pair[0] == pair[1])
    }

    fn newest_configuration(&self) -> ConfState {
        let running = self.members.values().filter(|member| member.node.is_some());
        let newest = running
            .max_by_key(|member| member.machine.applied)
            .expect("one runs");
        newest.node.as_ref().expect("runs").conf_state()
    }

    /// Ticks, work and deliveries without faults.
    fn quiet_round(&mut self, ticks: u32) {
        let size = self.size();
        for _ in 0..ticks {
            (1..=size).for_each(|id| self.tick(id));
            // A member that was added after the newest snapshot is not in it and cannot take it.
            (1..=size).for_each(|id| self.compact(id));
            // With one tick between rounds of messages nobody waits for longer than a tick.
            for _ in 0..30 {
                let messages = std::mem::take(&mut self.network);
                let idle = messages.is_empty() && !self.members.values().any(Member::has_work);
                if idle {
                    break;
                }
                messages.into_iter().for_each(|message| self.receive(message));
                (1..=size).for_each(|id| self.work(id));
            }
        }
    }
}

fn keeps(state: &ConfState, id: u64) -> bool {
    let lists = [
        &state.voters,
        &state.voters_outgoing,
        &state.learners,
        &state.learners_next,
    ];
    lists.iter().any(|list| list.contains(&ReplicaId(id)))
}
