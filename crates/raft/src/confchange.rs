//! Membership arithmetic: what a change makes of a configuration (Raft paper §6, thesis §4).

use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use crate::quorum::MajorityConfig;
use crate::tracker::{ProgressMap, Tracker, TrackerConfig};
use crate::{
    ConfChange, ConfChangeForm, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, Index, ReplicaId,
};

/// Why a change does not fit the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ConfChangeError {
    /// Two joint configurations cannot overlap.
    AlreadyJoint,
    /// There is nothing to leave.
    NotJoint,
    /// A joint configuration needs an outgoing half.
    ZeroVoters,
    /// Only joint changes apply to a joint configuration.
    SimpleInJoint,
    /// One step may change one voter only, or two majorities could be disjoint.
    TooManyVoters,
    /// Nobody would be left to decide.
    NoVoters,
    /// The old wire form holds one change, and cannot be joint.
    NotV1,
}

impl fmt::Display for ConfChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlreadyJoint => "config is already joint",
            Self::NotJoint => "can't leave a non-joint config",
            Self::ZeroVoters => "can't make a zero-voter config joint",
            Self::SimpleInJoint => "can't apply simple config change in joint config",
            Self::TooManyVoters => "more than one voter changed without entering joint config",
            Self::NoVoters => "removed all voters",
            Self::NotV1 => "the V1 form holds exactly one change, with transition Auto",
        })
    }
}

impl Error for ConfChangeError {}

/// Applies changes to a copy of a configuration.
#[derive(Debug)]
pub struct Changer<'a> {
    /// The configuration to start from.
    pub tracker: &'a Tracker,
    /// Where new members are probed first.
    pub last_index: Index,
}

type Changed = Result<(TrackerConfig, ProgressMap), ConfChangeError>;

impl Changer<'_> {
    /// Does what the change asks for: leave, enter joint, or a single step.
    ///
    /// # Errors
    ///
    /// [`ConfChangeError`] if it does not fit; nothing is changed.
    pub fn change(&self, change: &ConfChange) -> Changed {
        let single = change.changes.len() == 1 && change.transition == ConfChangeTransition::Auto;
        if change.form == ConfChangeForm::V1 && !single {
            Err(ConfChangeError::NotV1)
        } else if change.leaves_joint() {
            self.leave_joint()
        } else if let Some(auto_leave) = change.enters_joint() {
            self.enter_joint(auto_leave, &change.changes)
        } else {
            self.simple(&change.changes)
        }
    }

    /// Makes the present voters the outgoing half and applies the changes to the incoming one.
    pub fn enter_joint(&self, auto_leave: bool, changes: &[ConfChangeSingle]) -> Changed {
        let (mut config, mut progress) = self.copy();
        if config.voters.is_joint() {
            return Err(ConfChangeError::AlreadyJoint);
        }
        if config.voters.incoming.is_empty() {
            return Err(ConfChangeError::ZeroVoters);
        }
        config.voters.outgoing = config.voters.incoming.clone();
        self.apply(&mut config, &mut progress, changes)?;
        config.auto_leave = auto_leave;
        Ok(checked(config, progress))
    }

    /// Drops the outgoing half; voters demoted meanwhile become learners.
    pub fn leave_joint(&self) -> Changed {
        let (mut config, mut progress) = self.copy();
        if !config.voters.is_joint() {
            return Err(ConfChangeError::NotJoint);
        }
        for id in core::mem::take(&mut config.learners_next) {
            add(&mut config.learners, id);
            if let Some(progress) = progress.get_mut(id) {
                progress.is_learner = true;
            }
        }
        let outgoing = core::mem::take(&mut config.voters.outgoing);
        for id in outgoing.ids() {
            if !config.voters.incoming.contains(*id) && !config.learners.contains(id) {
                progress.remove(*id);
            }
        }
        config.auto_leave = false;
        Ok(checked(config, progress))
    }

    /// Applies changes of which at most one touches a voter.
    pub fn simple(&self, changes: &[ConfChangeSingle]) -> Changed {
        let (mut config, mut progress) = self.copy();
        if config.voters.is_joint() {
            return Err(ConfChangeError::SimpleInJoint);
        }
        self.apply(&mut config, &mut progress, changes)?;
        if difference(&self.tracker.config.voters.incoming, &config.voters.incoming) > 1 {
            return Err(ConfChangeError::TooManyVoters);
        }
        Ok(checked(config, progress))
    }

    /// Whether it removes the last member. [`Changer::simple`] refuses that; once it is committed nobody is left who
    /// could mind.
    pub(crate) fn ends_group(&self, change: &ConfChange) -> bool {
        let config = &self.tracker.config;
        match change.changes.as_slice() {
            [
                ConfChangeSingle {
                    kind: ConfChangeKind::Remove,
                    replica,
                },
            ] => {
                !config.voters.is_joint()
                    && config.learners.is_empty()
                    && config.voters.incoming.ids() == [*replica]
            }
            _ => false,
        }
    }

    fn copy(&self) -> (TrackerConfig, ProgressMap) {
        (self.tracker.config.clone(), self.tracker.progress.clone())
    }

    fn apply(
        &self,
        config: &mut TrackerConfig,
        progress: &mut ProgressMap,
        changes: &[ConfChangeSingle],
    ) -> Result<(), ConfChangeError> {
        for change in changes {
            let id = change.replica;
            // Zero is nobody: an application voids a change by writing it.
            if id == ReplicaId(0) {
                continue;
            }
            match change.kind {
                ConfChangeKind::AddVoter => self.make_voter(config, progress, id),
                ConfChangeKind::AddLearner => self.make_learner(config, progress, id),
                ConfChangeKind::Remove => remove(config, progress, id),
                ConfChangeKind::Update => {}
            }
        }
        if config.voters.incoming.is_empty() {
            Err(ConfChangeError::NoVoters)
        } else {
            Ok(())
        }
    }

    fn make_voter(&self, config: &mut TrackerConfig, progress: &mut ProgressMap, id: ReplicaId) {
        match progress.get_mut(id) {
            Some(progress) => progress.is_learner = false,
            None => progress.insert(id, self.tracker.fresh(self.last_index, false)),
        }
        drop_from(&mut config.learners, id);
        drop_from(&mut config.learners_next, id);
        config.voters.incoming.insert(id);
    }

    fn make_learner(&self, config: &mut TrackerConfig, progress: &mut ProgressMap, id: ReplicaId) {
        let Some(member) = progress.get(id) else {
            progress.insert(id, self.tracker.fresh(self.last_index, true));
            add(&mut config.learners, id);
            return;
        };
        if member.is_learner {
            return;
        }
        let mut kept = member.clone();
        remove(config, progress, id);
        if config.voters.outgoing.contains(id) {
            // It votes in the outgoing half until that is left; nobody is voter and learner at once.
            add(&mut config.learners_next, id);
        } else {
            kept.is_learner = true;
            add(&mut config.learners, id);
        }
        progress.insert(id, kept);
    }
}

fn remove(config: &mut TrackerConfig, progress: &mut ProgressMap, id: ReplicaId) {
    config.voters.incoming.remove(id);
    drop_from(&mut config.learners, id);
    drop_from(&mut config.learners_next, id);
    if !config.voters.outgoing.contains(id) {
        progress.remove(id);
    }
}

fn add(ids: &mut Vec<ReplicaId>, id: ReplicaId) {
    if let Err(at) = ids.binary_search(&id) {
        ids.insert(at, id);
    }
}

fn drop_from(ids: &mut Vec<ReplicaId>, id: ReplicaId) {
    ids.retain(|member| *member != id);
}

fn difference(a: &MajorityConfig, b: &MajorityConfig) -> usize {
    let missing = |from: &MajorityConfig, of: &MajorityConfig| {
        of.ids().iter().filter(|id| !from.contains(**id)).count()
    };
    missing(a, b) + missing(b, a)
}

/// Asserts what every configuration keeps: members have progress, nobody is voter and learner at once, and
/// what belongs to joint configurations is empty outside them.
fn checked(config: TrackerConfig, progress: ProgressMap) -> (TrackerConfig, ProgressMap) {
    for id in config
        .voters
        .ids()
        .iter()
        .chain(&config.learners)
        .chain(&config.learners_next)
    {
        assert!(
            progress.get(*id).is_some(),
            "member {id} has no progress in {config:?}"
        );
    }
    for id in &config.learners_next {
        assert!(
            config.voters.outgoing.contains(*id),
            "{id} is to become a learner but is no outgoing voter"
        );
        assert!(
            progress.get(*id).is_some_and(|p| !p.is_learner),
            "{id} is a learner already"
        );
    }
    for id in &config.learners {
        assert!(
            !config.voters.contains(*id),
            "{id} is voter and learner in {config:?}"
        );
        assert!(
            progress.get(*id).is_some_and(|p| p.is_learner),
            "{id} is not marked as a learner"
        );
    }
    if !config.voters.is_joint() {
        assert!(
            config.learners_next.is_empty() && !config.auto_leave,
            "joint leftovers in {config:?}"
        );
    }
    (config, progress)
}

impl ConfChange {
    /// Whether it asks to leave a joint configuration.
    #[must_use]
    pub fn leaves_joint(&self) -> bool {
        self.changes.is_empty() && self.transition == ConfChangeTransition::Auto
    }

    /// Whether it uses a joint configuration: then whether that one is left by itself.
    #[must_use]
    pub fn enters_joint(&self) -> Option<bool> {
        match self.transition {
            ConfChangeTransition::Auto if self.changes.len() > 1 => Some(true),
            ConfChangeTransition::Auto => None,
            ConfChangeTransition::Implicit => Some(true),
            ConfChangeTransition::Explicit => Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConfState;
    use crate::rng::Rng;

    fn tracker(voters: u64, learners: &[u64]) -> Tracker {
        let state = ConfState {
            voters: (1..=voters).map(ReplicaId).collect(),
            learners: learners.iter().copied().map(ReplicaId).collect(),
            ..ConfState::default()
        };
        Tracker::new(1, u64::MAX).restore(&state, Index(5))
    }

    fn single(kind: ConfChangeKind, id: u64) -> ConfChangeSingle {
        ConfChangeSingle {
            kind,
            replica: ReplicaId(id),
        }
    }

    /// Whatever changes are tried in whatever order, what they lead to is a configuration; one joint step and its
    /// leaving never make two disjoint majorities; and a refusal changes nothing.
    #[test]
    fn any_changes_lead_to_configurations() {
        use ConfChangeKind::{AddLearner, AddVoter, Remove, Update};
        let mut rng = Rng::new(7);
        let mut below = |end| rng.below(end);
        for _ in 0..300 {
            let mut tracker = tracker(3, &[4]);
            for _ in 0..30 {
                let kinds = [AddVoter, AddLearner, Remove, Update];
                let changes: Vec<_> = (0..below(4))
                    .map(|_| single(kinds[below(4) as usize], u64::from(below(8))))
                    .collect();
                let changer = Changer {
                    tracker: &tracker,
                    last_index: Index(9),
                };
                let before = tracker.config.clone();
                let changed = match below(3) {
                    0 => changer.simple(&changes),
                    1 => changer.enter_joint(below(2) == 0, &changes),
                    _ => changer.leave_joint(),
                };
                let Ok((config, progress)) = changed else { continue };
                (tracker.config, tracker.progress) = (config, progress);
                let state = tracker.conf_state();
                assert_eq!(state.validate(), Ok(()), "{before:?} to {state:?}");
                if !before.voters.is_joint() && !tracker.config.voters.is_joint() {
                    let moved = difference(&before.voters.incoming, &tracker.config.voters.incoming);
                    assert!(moved <= 1, "{before:?} to {state:?}");
                }
                if !before.voters.is_joint() && tracker.config.voters.is_joint() {
                    assert_eq!(tracker.config.voters.outgoing, before.voters.incoming);
                }
            }
        }
    }

    #[test]
    fn progress_is_kept_through_demotion_and_promotion() {
        let mut tracker = tracker(3, &[]);
        tracker.progress.get_mut(ReplicaId(3)).expect("a member").matched = Index(4);
        for (kind, learner) in [
            (ConfChangeKind::AddLearner, true),
            (ConfChangeKind::AddVoter, false),
        ] {
            let changer = Changer {
                tracker: &tracker,
                last_index: Index(9),
            };
            let (config, progress) = changer.simple(&[single(kind, 3)]).expect("one voter");
            (tracker.config, tracker.progress) = (config, progress);
            let kept = tracker.progress.get(ReplicaId(3)).expect("a member");
            assert_eq!((kept.matched, kept.is_learner), (Index(4), learner));
        }
    }

    #[test]
    fn only_the_removal_of_the_last_member_ends_a_group() {
        let change = |changes: &[ConfChangeSingle]| ConfChange {
            changes: changes.to_vec(),
            ..ConfChange::default()
        };
        let remove = single(ConfChangeKind::Remove, 1);
        let ends = |tracker: &Tracker, change: &ConfChange| {
            Changer {
                tracker,
                last_index: Index(9),
            }
            .ends_group(change)
        };
        assert!(ends(&tracker(1, &[]), &change(&[remove])));
        assert!(!ends(&tracker(1, &[2]), &change(&[remove])), "a learner is left");
        assert!(!ends(&tracker(2, &[]), &change(&[remove])));
        assert!(!ends(
            &tracker(1, &[]),
            &change(&[single(ConfChangeKind::AddLearner, 1)])
        ));
    }
}
