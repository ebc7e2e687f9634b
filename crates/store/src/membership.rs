//! Who holds a shard and who is to hold it: the state that the shard's log changes, and the next step from the one
//! to the other (M1). Pure: the same on every replica.
//!
//! A wish is written down first: one entry sets the voters that are *wanted*. Every leader from then on works towards
//! them, one step at a time, so a change survives its leader:
//!
//! 1. add the new ones as learners, and wait until they have caught up;
//! 2. enter a joint configuration, in which voters that are to go become learners;
//! 3. a leader that is to go hands over to an incoming voter;
//! 4. leave the joint configuration;
//! 5. remove the learners that nobody wants; they erase themselves (M4).
//!
//! Nothing that could serve is removed before the new voters serve, so up to step 5 the change can be turned round:
//! the voters of *before* become the wanted ones, by the same steps (M2).

use quorate_proto::{CommandError, Manage, Membership};
use quorate_raft::{
    ConfChange, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, ConfState, ReplicaId, mutant,
};
use quorate_storage::StoreId;

/// The most replicas that a shard may have.
pub(crate) const REPLICAS_MAX: usize = 9;

/// A replica and where it is.
pub(crate) type Place = (ReplicaId, StoreId);

/// What a leader does next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The configuration is the wanted one.
    Nothing,
    /// Nothing now: these have not caught up.
    Wait(Vec<ReplicaId>),
    /// Proposes a change of the configuration.
    Propose(ConfChange),
    /// Hands leadership to one of these.
    HandOver(Vec<ReplicaId>),
}

fn single(kind: ConfChangeKind, replica: ReplicaId) -> ConfChangeSingle {
    ConfChangeSingle { kind, replica }
}

fn change(transition: ConfChangeTransition, changes: Vec<ConfChangeSingle>) -> Step {
    Step::Propose(ConfChange {
        transition,
        changes,
        ..ConfChange::default()
    })
}

fn has(places: &[Place], replica: ReplicaId) -> bool {
    places.iter().any(|(id, _)| *id == replica)
}

/// Whether the configuration is joint.
pub(crate) fn is_joint(conf: &ConfState) -> bool {
    !conf.voters_outgoing.is_empty()
}

/// Whether nothing is under way.
pub(crate) fn is_settled(conf: &ConfState, membership: &Membership) -> bool {
    !is_joint(conf)
        && conf.learners.is_empty()
        && membership
            .wanted
            .iter()
            .map(|(id, _)| *id)
            .eq(conf.voters.iter().copied())
}

/// Whether the voters of before could be the wanted ones again (M2): none of them has been removed.
pub(crate) fn can_turn_round(conf: &ConfState, membership: &Membership) -> bool {
    !is_joint(conf)
        && membership.before != membership.wanted
        && !membership.before.is_empty()
        && membership
            .before
            .iter()
            .all(|place| membership.members.contains(place))
}

/// The next step from the present configuration to the wanted one, for the leader `own`.
pub(crate) fn next_step(
    conf: &ConfState,
    membership: &Membership,
    own: ReplicaId,
    has_caught_up: impl Fn(ReplicaId) -> bool,
) -> Step {
    let (wanted, members) = (&membership.wanted, &membership.members);
    if is_joint(conf) {
        // M1: whoever leaves the joint configuration is a voter of the incoming half.
        if !conf.voters.contains(&own) && !mutant!("leader-leaves-before-handing-over") {
            return Step::HandOver(conf.voters.clone());
        }
        return change(ConfChangeTransition::Auto, Vec::new());
    }
    if let Some((new, _)) = wanted.iter().find(|(id, _)| !has(members, *id)) {
        return change(
            ConfChangeTransition::Auto,
            vec![single(ConfChangeKind::AddLearner, *new)],
        );
    }
    let behind = |ids: &mut dyn Iterator<Item = ReplicaId>| -> Vec<ReplicaId> {
        ids.filter(|id| !has_caught_up(*id)).collect()
    };
    let new_voters = || {
        wanted
            .iter()
            .map(|(id, _)| *id)
            .filter(|id| !conf.voters.contains(id))
    };
    let leaving: Vec<ReplicaId> = conf
        .voters
        .iter()
        .copied()
        .filter(|id| !has(wanted, *id))
        .collect();
    if new_voters().next().is_some() || !leaving.is_empty() {
        let mut late = behind(&mut new_voters());
        if late.is_empty() {
            // The new configuration must be able to decide, or the joint one could not either.
            late = behind(&mut wanted.iter().map(|(id, _)| *id));
            if wanted.len() - late.len() > wanted.len() / 2 {
                late.clear();
            }
        }
        if !late.is_empty() && !mutant!("promoted-before-caught-up") {
            return Step::Wait(late);
        }
        let promoted = new_voters().map(|id| single(ConfChangeKind::AddVoter, id));
        let demoted = leaving.iter().map(|id| single(ConfChangeKind::AddLearner, *id));
        return change(ConfChangeTransition::Explicit, promoted.chain(demoted).collect());
    }
    let Some(old) = conf.learners.iter().find(|id| !has(wanted, **id)) else {
        return Step::Nothing;
    };
    // M2: as long as the new voters may turn out not to serve, the old ones stay.
    let late = behind(
        &mut wanted
            .iter()
            .map(|(id, _)| *id)
            .filter(|id| !has(&membership.before, *id)),
    );
    if !late.is_empty() && can_turn_round(conf, membership) {
        return Step::Wait(late);
    }
    change(
        ConfChangeTransition::Auto,
        vec![single(ConfChangeKind::Remove, *old)],
    )
}

/// The voters that a wish asks for.
///
/// # Errors
///
/// What is wrong with the wish; nothing was changed.
pub(crate) fn wanted_by(
    conf: &ConfState,
    membership: &Membership,
    wish: &Manage,
) -> Result<Vec<Place>, CommandError> {
    let (add, remove) = match wish {
        Manage::Change { add, remove } => (add, remove),
        Manage::Abort if is_settled(conf, membership) => return Err(CommandError::NoChange),
        Manage::Abort if can_turn_round(conf, membership) => return Ok(membership.before.clone()),
        Manage::Abort | Manage::Transfer { .. } | Manage::Split { .. } => {
            return Err(CommandError::ChangeUnderWay);
        }
    };
    if !is_settled(conf, membership) {
        return Err(CommandError::ChangeUnderWay);
    }
    if add.is_empty() && remove.is_empty() {
        return Err(CommandError::NoChange);
    }
    let mut wanted = membership.wanted.clone();
    for store in remove {
        let at = wanted
            .iter()
            .position(|(_, on)| on == store)
            .ok_or(CommandError::NotAMember)?;
        wanted.remove(at);
    }
    let mut last = last_replica(membership);
    for store in add {
        // A store that is removed by the same wish has to be gone before it comes again.
        let is_taken = membership
            .members
            .iter()
            .chain(&wanted)
            .any(|(_, on)| on == store);
        if is_taken {
            return Err(CommandError::AlreadyMember);
        }
        last = ReplicaId(last.0 + 1);
        wanted.push((last, *store));
    }
    check(&wanted)?;
    Ok(wanted)
}

/// M3: ids rise, so that none is ever used again.
fn last_replica(membership: &Membership) -> ReplicaId {
    if mutant!("replica-id-used-again") {
        return membership
            .members
            .iter()
            .map(|(id, _)| *id)
            .max()
            .unwrap_or_default();
    }
    membership.last_replica
}

fn check(wanted: &[Place]) -> Result<(), CommandError> {
    match wanted.len() {
        0 => Err(CommandError::LastReplica),
        count if count > REPLICAS_MAX => Err(CommandError::TooManyReplicas),
        _ => Ok(()),
    }
}

/// Applies the entry that sets the wanted voters. What it asks for was checked when it was proposed; here it is
/// checked against the state that it meets.
///
/// # Errors
///
/// Why it changes nothing, on every replica alike.
pub(crate) fn want(
    conf: &ConfState,
    membership: &mut Membership,
    mut wanted: Vec<Place>,
) -> Result<(), CommandError> {
    wanted.sort_unstable();
    check(&wanted)?;
    for (at, (id, store)) in wanted.iter().enumerate() {
        let is_member = membership.members.contains(&(*id, *store));
        if !is_member && *id <= last_replica(membership) {
            return Err(CommandError::ReplicaIdUsed);
        }
        let elsewhere = |(other, on): &Place| on == store && other != id;
        let is_taken = wanted[..at]
            .iter()
            .any(|other| other.1 == *store || other.0 == *id);
        if is_taken || membership.members.iter().any(elsewhere) {
            return Err(CommandError::AlreadyMember);
        }
    }
    membership.before = membership
        .members
        .iter()
        .copied()
        .filter(|(id, _)| conf.voters.contains(id))
        .collect();
    membership.last_replica = wanted
        .iter()
        .map(|(id, _)| *id)
        .chain([membership.last_replica])
        .max()
        .unwrap_or_default();
    membership.wanted = wanted;
    Ok(())
}

/// Whether a change adds only what is wanted, where nobody is. One that does not is void: nothing else proposes it,
/// but a log may hold what an earlier leader took for right.
pub(crate) fn fits(membership: &Membership, change: &ConfChange) -> bool {
    change.changes.iter().all(|single| {
        let id = single.replica;
        let comes = match single.kind {
            ConfChangeKind::AddVoter | ConfChangeKind::AddLearner => !has(&membership.members, id),
            ConfChangeKind::Remove | ConfChangeKind::Update => false,
        };
        let place = membership.wanted.iter().find(|(wanted, _)| *wanted == id);
        !comes || place.is_some_and(|(_, store)| membership.members.iter().all(|(_, on)| on != store))
    })
}

/// Takes over who is in a new configuration.
pub(crate) fn follow(membership: &mut Membership, conf: &ConfState) {
    let Membership { members, wanted, .. } = membership;
    let is_in = |id: ReplicaId| {
        [&conf.voters, &conf.voters_outgoing, &conf.learners]
            .iter()
            .any(|list| list.contains(&id))
    };
    let come: Vec<Place> = wanted
        .iter()
        .copied()
        .filter(|(id, _)| is_in(*id) && !has(members, *id))
        .collect();
    members.retain(|(id, _)| is_in(*id));
    members.extend(come);
    members.sort_unstable();
}

#[cfg(test)]
mod tests;
