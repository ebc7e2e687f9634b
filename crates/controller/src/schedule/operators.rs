//! What the schedulers want, over a reign: since when, and what became of it.
//!
//! At most one operator for a shard. What is wanted is worked out anew in each round; an operator is what stays the same
//! from round to round. It is done when the shard is as it was to be; void when the shard's epoch moved on otherwise or
//! nobody wants it any more; it has failed when the shard went back (M2), or when it was not begun or not ended in time.
//! Then the shard is let rest, longer each time, and the stores that were to get something are not chosen again soon if
//! there are others.

use std::collections::{BTreeMap, BTreeSet};

use quorate_proto::Order;
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::{Limits, Tally};

use super::view::{ClusterView, ShardView};
use super::{Operator, Task, operators};

/// Microseconds within which a shard's leader must have begun.
pub const BEGIN_US: u64 = 30_000_000;
/// Microseconds within which an operator must be done.
pub const END_US: u64 = 600_000_000;
/// Microseconds for which a shard rests after a failure; twice as long after each further one, up to [`END_US`].
pub const REST_US: u64 = 10_000_000;

/// Microseconds for which nothing is replaced once half of the stores have looked down: where one comes back, the others
/// are likely to follow.
pub const RETURN_US: u64 = 60_000_000;

/// Operators, and shards that rest from them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Operators {
    /// When half of the stores looked down last.
    cut_off_us: Option<u64>,
    running: BTreeMap<ShardId, Running>,
    resting: BTreeMap<ShardId, Rest>,
}

/// An operator that is not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Running {
    /// What.
    pub operator: Operator,
    /// Since when, by the clock of the controller's leader.
    pub since_us: u64,
    /// Whether the shard's leader has begun.
    pub has_begun: bool,
    /// Who led the shard when it was decided.
    led_by: StoreId,
    /// Who held it then.
    held_by: BTreeSet<StoreId>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Rest {
    until_us: u64,
    failures: u32,
    avoid: BTreeSet<StoreId>,
    avoid_until_us: u64,
}

/// How an operator stands.
enum Standing {
    Waits,
    UnderWay,
    Done,
    Void,
    Failed,
    TimedOut,
}

impl Running {
    fn standing(&self, now_us: u64, of: Option<&ShardView>) -> Standing {
        let age_us = now_us.saturating_sub(self.since_us);
        let bound_us = if self.has_begun { END_US } else { BEGIN_US };
        let late = |standing| {
            if age_us >= bound_us {
                Standing::TimedOut
            } else {
                standing
            }
        };
        // It is not heard of for now: two shards may have told of the same slots.
        let Some(of) = of else {
            return late(Standing::Waits);
        };
        let is_version = of.epoch.version == self.operator.epoch.version;
        let is_epoch = of.epoch == self.operator.epoch;
        let is_wish_taken = of.epoch.conf_ver == self.operator.epoch.conf_ver + 1;
        match &self.operator.task {
            Task::Leader { to } if of.leader == *to => Standing::Done,
            Task::Leader { .. } if !is_epoch || of.leader != self.led_by => Standing::Void,
            Task::Leader { .. } => late(Standing::Waits),
            Task::Members { add, remove } => {
                let members: BTreeSet<StoreId> = of.members.iter().map(|member| member.store).collect();
                let goal = self.goal(add, remove);
                let is_ours = members
                    .iter()
                    .all(|store| self.held_by.contains(store) || goal.contains(store));
                match (of.is_changing, is_ours && is_version) {
                    (true, true) => late(Standing::UnderWay),
                    (true, false) => Standing::Void,
                    (false, _) if members == goal => Standing::Done,
                    (false, _) if is_epoch => late(Standing::Waits),
                    // A leader that takes a wish writes it down before it changes anything: one change of the
                    // epoch. To go back is another wish.
                    (false, true) if members == self.held_by && is_wish_taken && age_us < BEGIN_US => {
                        Standing::UnderWay
                    }
                    // It has changed, and is as it was.
                    (false, true) if members == self.held_by => Standing::Failed,
                    (false, _) => Standing::Void,
                }
            }
        }
    }

    fn goal(&self, add: &[StoreId], remove: &[StoreId]) -> BTreeSet<StoreId> {
        let stays = self.held_by.iter().filter(|store| !remove.contains(store));
        stays.chain(add).copied().collect()
    }
}

impl Operators {
    /// Those that are not done, by shard.
    pub fn running(&self) -> impl Iterator<Item = &Running> + '_ {
        self.running.values()
    }

    /// What is to be told to the store that leads these shards: what it has not begun, the most urgent first.
    #[must_use]
    pub fn orders(&self, leads: impl Fn(ShardId) -> bool, most: usize) -> Vec<Order> {
        let waits = |running: &&Running| !running.has_begun && leads(running.operator.shard);
        let mut waiting: Vec<&Running> = self.running.values().filter(waits).collect();
        waiting.sort_by_key(|running| !running.operator.reason.is_urgent());
        waiting.truncate(most);
        waiting
            .into_iter()
            .map(|running| running.operator.order())
            .collect()
    }

    /// Looks what became of the operators, and decides anew what is to be done.
    pub fn round(&mut self, now_us: u64, mut view: ClusterView, limits: &Limits) -> Tally {
        let mut tally = Tally::default();
        if view.is_cut_off() {
            self.cut_off_us = Some(now_us);
        } else if self
            .cut_off_us
            .is_some_and(|cut_off_us| now_us < cut_off_us + RETURN_US)
        {
            view.replace_nobody();
        }
        self.settle(now_us, &view, &mut tally);
        self.mark(now_us, &mut view);
        let running = std::mem::take(&mut self.running).into_iter();
        let (begun, mut waiting): (BTreeMap<_, _>, BTreeMap<_, _>) =
            running.partition(|(_, running)| running.has_begun);
        self.running = begun;
        for operator in operators(&view, limits) {
            let shard = operator.shard;
            let Some(of) = view.shards.get(&shard) else {
                continue;
            };
            let earlier = waiting.remove(&shard);
            let is_same = |earlier: &Running| {
                let is_above = operator.reason.is_urgent() && !earlier.operator.reason.is_urgent();
                earlier.operator.epoch == operator.epoch && !is_above
            };
            let since_us = match &earlier {
                Some(earlier) if is_same(earlier) => earlier.since_us,
                earlier => {
                    tally.void += u64::from(earlier.is_some());
                    tally.given += 1;
                    now_us
                }
            };
            let running = Running {
                since_us,
                has_begun: false,
                led_by: of.leader,
                held_by: of.members.iter().map(|member| member.store).collect(),
                operator,
            };
            self.running.insert(shard, running);
        }
        // Nobody wants these any more.
        tally.void += waiting.len() as u64;
        self.validate(&view, limits);
        tally
    }

    fn settle(&mut self, now_us: u64, view: &ClusterView, tally: &mut Tally) {
        let shards: Vec<ShardId> = self.running.keys().copied().collect();
        for shard in shards {
            let Some(running) = self.running.get_mut(&shard) else {
                continue;
            };
            match running.standing(now_us, view.shards.get(&shard)) {
                Standing::Waits => continue,
                Standing::UnderWay => {
                    running.has_begun = true;
                    continue;
                }
                Standing::Done => {
                    tally.done += 1;
                    self.resting.remove(&shard);
                }
                Standing::Void => tally.void += 1,
                Standing::Failed => {
                    tally.failed += 1;
                    self.let_rest(now_us, shard);
                }
                Standing::TimedOut => {
                    tally.timed_out += 1;
                    self.let_rest(now_us, shard);
                }
            }
            self.running.remove(&shard);
        }
        self.resting
            .retain(|_, rest| now_us < rest.until_us.max(rest.avoid_until_us));
    }

    fn let_rest(&mut self, now_us: u64, shard: ShardId) {
        let Some(running) = self.running.get(&shard) else {
            return;
        };
        let before = self.resting.get(&shard);
        let failures = before.map_or(0, |rest| rest.failures) + 1;
        let mut avoid = before.map_or_else(BTreeSet::new, |rest| rest.avoid.clone());
        match &running.operator.task {
            Task::Members { add, .. } => avoid.extend(add),
            Task::Leader { to } => _ = avoid.insert(*to),
        }
        let rest_us = (REST_US << (failures - 1).min(16)).min(END_US);
        let rest = Rest {
            until_us: now_us + rest_us,
            failures,
            avoid,
            avoid_until_us: now_us + END_US,
        };
        self.resting.insert(shard, rest);
    }

    /// Puts into the view what is under way and what is to rest.
    fn mark(&self, now_us: u64, view: &mut ClusterView) {
        for (shard, running) in self.running.iter().filter(|(_, running)| running.has_begun) {
            let Some(of) = view.shards.get_mut(shard) else {
                continue;
            };
            of.is_changing = true;
            // What goes is counted as gone, what comes as there, however far the shard has got.
            if let Task::Members { add, remove } = &running.operator.task {
                of.members.retain(|member| !remove.contains(&member.store));
                for store in add {
                    if of.members.iter().all(|member| member.store != *store) {
                        of.members.push(super::MemberView {
                            store: *store,
                            is_pending: true,
                            is_joining: true,
                        });
                    }
                }
            }
        }
        for (shard, rest) in &self.resting {
            if let Some(of) = view.shards.get_mut(shard) {
                of.is_resting |= now_us < rest.until_us;
                of.avoid.clone_from(&rest.avoid);
            }
        }
    }

    /// What holds after each round.
    fn validate(&self, view: &ClusterView, limits: &Limits) {
        let mut changes = view.shards.values().filter(|of| of.is_changing).count();
        let under_way = changes;
        let mut incoming: BTreeMap<StoreId, usize> = BTreeMap::new();
        for (shard, running) in self.running.iter().filter(|(_, running)| !running.has_begun) {
            let operator = &running.operator;
            assert!(
                view.shards
                    .get(shard)
                    .is_some_and(|of| !of.is_changing && of.epoch == operator.epoch),
                "{operator:?} is for a shard that changes"
            );
            assert!(
                !view.is_cut_off(),
                "{operator:?} although half of the stores look down: {:?}",
                view.stores
            );
            if let Task::Members { add, remove } = &operator.task {
                changes += 1;
                for store in add {
                    *incoming.entry(*store).or_default() += 1;
                }
                let goal = running.goal(add, remove);
                let of = view.shards.get(shard);
                let lags = |store: StoreId| of.is_some_and(|of| of.lags(store));
                assert!(
                    !goal.is_empty() && (!add.is_empty() || !goal.iter().any(|store| lags(*store))),
                    "{operator:?} would leave {goal:?} of {of:?}"
                );
            }
        }
        assert!(
            changes <= limits.changes.max(under_way),
            "{changes} shards change at a time, {} may",
            limits.changes
        );
        assert!(
            incoming.values().all(|count| *count <= limits.incoming),
            "replicas come to {incoming:?} at a time, {} may",
            limits.incoming
        );
    }
}
