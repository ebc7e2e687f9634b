//! What strikes a cluster: one random event a step.

use quorate_raft::{ConfChange, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, ReplicaId, Role};

use crate::cluster::Cluster;
use crate::member::Member;

/// How it goes for a while. One kind of trouble at a time gets further than all of them at once.
pub(crate) struct Weather {
    steps_left: u64,
    /// Crashes in a thousand steps.
    crashes: u64,
    /// How many proposals come together, at most.
    burst: u64,
    /// Attempts at changing the members in a thousand steps.
    changes: u64,
    /// A member whose state machine does not get on, if any.
    pub(crate) lazy: Option<u64>,
}

impl Weather {
    pub(crate) fn new() -> Weather {
        Weather {
            steps_left: 0,
            crashes: 0,
            burst: 1,
            changes: 10,
            lazy: None,
        }
    }
}

impl Cluster {
    pub(crate) fn fault_step(&mut self) {
        if self.weather.steps_left == 0 {
            self.change_weather();
        }
        self.weather.steps_left -= 1;
        if self.rng.below(1000) < self.weather.crashes {
            let id = self.victim();
            self.crash(id);
        }
        if self.rng.below(1000) < self.weather.changes {
            let leader = self.victim();
            self.change_members(leader);
        }
        let id = self.any();
        match self.rng.below(1000) {
            0..400 => self.deliver(),
            400..580 => self.tick(id),
            580..870 => self.work(id),
            870..895 => {
                // A leader that is cut off goes on taking proposals.
                let at = self.victim();
                for _ in 0..=self.rng.below(self.weather.burst) {
                    self.propose(at);
                }
            }
            895..905 => self.read(id),
            905..915 => self.compact(id),
            915..917 => {
                let leader = self.victim();
                self.transfer(leader);
            }
            917..922 => {
                let lazy = self.weather.lazy.filter(|_| self.rng.chance(50));
                self.nudge(lazy.unwrap_or(id));
            }
            _ => self.restart(id),
        }
    }

    fn change_weather(&mut self) {
        self.weather = Weather {
            steps_left: 100 + self.rng.below(1200),
            crashes: [0, 0, 2, 5, 12][self.rng.below(5) as usize],
            burst: 1 + self.rng.below(6),
            changes: [5, 10, 60][self.rng.below(3) as usize],
            // Its lag outlives a cut or the end of one.
            lazy: match self.rng.below(4) {
                0 => None,
                1 => Some(self.any()),
                _ => self.weather.lazy,
            },
        };
        self.loss = [0, 3, 10, 25][self.rng.below(4) as usize];
        self.crash_while_working = if self.weather.crashes > 0 { 1000 } else { 0 };
        let cut = [(true, true), (true, true), (true, false), (false, true)];
        self.cut = match self.rng.below(100) {
            0..50 => (false, false),
            _ => cut[self.rng.below(4) as usize],
        };
        self.side = match self.rng.below(4) {
            0 => {
                // The leader, and maybe somebody who still hears it.
                let (leader, other) = (self.victim(), self.any());
                vec![leader, if self.rng.chance(50) { other } else { leader }]
            }
            1 => self.leader_with_some_of_its_kind(),
            2 if self.weather.lazy.is_some() => self.lazy_with_those_it_still_counts(),
            _ => (1..=self.size()).filter(|_| self.rng.chance(50)).collect(),
        };
    }

    /// The leader with those who have one part in its configuration: learners, who must not count, or one half of a
    /// joint one, which must not decide alone.
    fn leader_with_some_of_its_kind(&mut self) -> Vec<u64> {
        let (leader, part) = (self.victim(), self.rng.below(3));
        let Some(node) = self.running(leader) else {
            return vec![leader];
        };
        let state = node.conf_state();
        let ids = match part {
            0 => state.learners,
            1 => state.voters,
            _ => state.voters_outgoing,
        };
        let mut side: Vec<u64> = ids.iter().map(|id| id.0).collect();
        side.push(leader);
        side
    }

    /// The member that is behind in applying, with those who have a vote by what it knows and, as far as the leader
    /// knows, have none any more.
    fn lazy_with_those_it_still_counts(&mut self) -> Vec<u64> {
        let (Some(lazy), leader) = (self.weather.lazy, self.victim()) else {
            return Vec::new();
        };
        let mut voters_of = |id| {
            let node = self.running(id)?;
            Some(node.conf_state().voters)
        };
        let (old, new) = (
            voters_of(lazy).unwrap_or_default(),
            voters_of(leader).unwrap_or_default(),
        );
        let mut side = vec![lazy];
        for id in old {
            if !new.contains(&id) || self.rng.chance(30) {
                side.push(id.0);
            }
        }
        side
    }

    /// A leader if there is one, half of the time; else anybody.
    fn victim(&mut self) -> u64 {
        let leads = |member: &&Member| {
            member
                .node
                .as_ref()
                .is_some_and(|node| node.role() == Role::Leader)
        };
        let leader = self.members.values().find(leads).map(|member| member.id);
        let any = self.any();
        leader.filter(|_| self.rng.chance(50)).unwrap_or(any)
    }

    /// Delivers any message in flight; some are lost, some stay to arrive again.
    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        // Mostly old ones, or queues would grow; any now and then.
        let newest = self.network.len() as u64;
        let among = if self.rng.chance(70) {
            newest.min(8)
        } else {
            newest
        };
        let at = self.rng.below(among) as usize;
        let message = if self.rng.chance(self.loss / 2) {
            self.network[at].clone()
        } else {
            self.network.remove(at)
        };
        if !self.passes(&message) || self.rng.chance(self.loss) {
            self.report_snapshot(&message, false);
            if self.rng.chance(10)
                && let Some(node) = self.running(message.from.0)
            {
                node.report_unreachable(message.to);
                self.check(message.from.0);
            }
        } else {
            self.receive(message);
        }
    }

    fn transfer(&mut self, id: u64) {
        let target = ReplicaId(self.any());
        if let Some(node) = self.running(id) {
            node.transfer_leader(target).expect("transfer");
            self.check(id);
        }
    }

    /// What an operator or a layer above may ask at any time.
    fn nudge(&mut self, id: u64) {
        let forget = self.rng.chance(50);
        if let Some(node) = self.running(id) {
            if forget {
                node.forget_leader().expect("forget");
            } else {
                node.campaign().expect("campaign");
            }
            self.check(id);
        }
    }

    fn change_members(&mut self, id: u64) {
        let removes_leaders = self.removes_leaders;
        let ids = [self.any(), self.any()];
        let kinds = [self.rng.below(3), self.rng.below(3)];
        let transition = [
            ConfChangeTransition::Implicit,
            ConfChangeTransition::Explicit,
            ConfChangeTransition::Auto,
        ][self.rng.below(3) as usize];
        let Some(node) = self.running(id).filter(|node| node.role() == Role::Leader) else {
            return;
        };
        let state = node.conf_state();
        let mut change = ConfChange::default();
        if state.voters_outgoing.is_empty() {
            let count = if transition == ConfChangeTransition::Auto {
                1
            } else {
                2
            };
            for (target, kind) in ids.into_iter().zip(kinds).take(count) {
                let kind = match kind {
                    0 | 1 if state.voters.len() <= 2 => ConfChangeKind::AddVoter,
                    0 | 1 if target == id && !removes_leaders => ConfChangeKind::AddVoter,
                    0 => ConfChangeKind::Remove,
                    1 => ConfChangeKind::AddLearner,
                    _ => ConfChangeKind::AddVoter,
                };
                change.changes.push(ConfChangeSingle {
                    kind,
                    replica: ReplicaId(target),
                });
            }
            change.transition = transition;
        }
        let taken = node.propose_conf_change(change).is_ok();
        self.tried.changes += u64::from(taken);
        self.check(id);
    }
}
