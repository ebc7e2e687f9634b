use quorate_raft::ConfChangeTransition;

use super::*;

fn places(ids: &[(u64, u64)]) -> Vec<Place> {
    ids.iter()
        .map(|(id, on)| (ReplicaId(*id), StoreId(*on)))
        .collect()
}

fn ids(list: &[u64]) -> Vec<ReplicaId> {
    list.iter().map(|id| ReplicaId(*id)).collect()
}

fn three() -> (ConfState, Membership) {
    let members = places(&[(1, 1), (2, 2), (3, 3)]);
    let conf = ConfState {
        voters: ids(&[1, 2, 3]),
        ..ConfState::default()
    };
    (conf, crate::descriptor::members_only(members))
}

fn wish(add: &[u64], remove: &[u64]) -> Manage {
    let stores = |list: &[u64]| list.iter().map(|store| StoreId(*store)).collect();
    Manage::Change {
        add: stores(add),
        remove: stores(remove),
    }
}

/// What a core makes of a change, for these tests: joint as the steps use it.
fn apply(conf: &mut ConfState, membership: &mut Membership, change: &ConfChange) {
    assert!(fits(membership, change));
    if change.leaves_joint() {
        conf.voters_outgoing.clear();
        conf.learners.append(&mut conf.learners_next);
    } else if change.transition == ConfChangeTransition::Explicit {
        conf.voters_outgoing = conf.voters.clone();
    }
    for single in &change.changes {
        let id = single.replica;
        let was_voter = conf.voters.contains(&id);
        conf.voters.retain(|other| *other != id);
        conf.learners.retain(|other| *other != id);
        match single.kind {
            ConfChangeKind::AddVoter => conf.voters.push(id),
            ConfChangeKind::AddLearner if was_voter => conf.learners_next.push(id),
            ConfChangeKind::AddLearner => conf.learners.push(id),
            ConfChangeKind::Remove | ConfChangeKind::Update => {}
        }
    }
    for list in [&mut conf.voters, &mut conf.learners] {
        list.sort_unstable();
    }
    follow(membership, conf);
}

/// Walks to where the wish leads; returns the configurations on the way.
fn walk(conf: &mut ConfState, membership: &mut Membership) -> Vec<ConfState> {
    let (mut leader, mut way) = (conf.voters[0], Vec::new());
    for _ in 0..30 {
        match next_step(conf, membership, leader, |_| true) {
            Step::Nothing => return way,
            Step::Wait(late) => panic!("waits for {late:?}"),
            Step::HandOver(voters) => leader = voters[0],
            Step::Propose(change) => {
                apply(conf, membership, &change);
                way.push(conf.clone());
            }
        }
    }
    panic!("no end: {way:?}")
}

#[test]
fn m1_all_members_are_replaced_in_order() {
    let (mut conf, mut membership) = three();
    let wanted = wanted_by(&conf, &membership, &wish(&[4, 5, 6], &[1, 2, 3])).unwrap();
    want(&conf, &mut membership, wanted).unwrap();
    let way = walk(&mut conf, &mut membership);
    assert_eq!(conf.voters, ids(&[4, 5, 6]));
    assert_eq!(membership.members, places(&[(4, 4), (5, 5), (6, 6)]));
    assert!(is_settled(&conf, &membership));
    let joint: Vec<bool> = way.iter().map(is_joint).collect();
    assert_eq!(
        joint,
        [false, false, false, true, false, false, false, false],
        "three learners, one joint step and its leaving, three removals"
    );
    assert_eq!(
        way[3].learners_next,
        ids(&[1, 2, 3]),
        "nobody is gone before the end"
    );
    assert!([1, 2, 3].iter().all(|id| membership.has_removed(ReplicaId(*id))));
}

#[test]
fn m1_a_leader_that_goes_hands_over_before_it_leaves() {
    let (mut conf, mut membership) = three();
    want(&conf, &mut membership, places(&[(2, 2), (3, 3)])).unwrap();
    let own = ReplicaId(1);
    let Step::Propose(change) = next_step(&conf, &membership, own, |_| true) else {
        panic!("enters joint")
    };
    apply(&mut conf, &mut membership, &change);
    assert_eq!(
        next_step(&conf, &membership, own, |_| true),
        Step::HandOver(ids(&[2, 3]))
    );
    let by_another = next_step(&conf, &membership, ReplicaId(2), |_| true);
    assert!(matches!(by_another, Step::Propose(change) if change.leaves_joint()));
}

#[test]
fn m1_nobody_votes_before_it_has_caught_up_nor_without_a_quorum_of_the_wanted() {
    let (mut conf, mut membership) = three();
    want(&conf, &mut membership, places(&[(1, 1), (2, 2), (4, 4)])).unwrap();
    let own = ReplicaId(1);
    let late = |id: ReplicaId| id != ReplicaId(4);
    let Step::Propose(change) = next_step(&conf, &membership, own, late) else {
        panic!("adds a learner")
    };
    apply(&mut conf, &mut membership, &change);
    assert_eq!(next_step(&conf, &membership, own, late), Step::Wait(ids(&[4])));
    let (conf, mut membership) = three();
    want(&conf, &mut membership, places(&[(1, 1), (2, 2)])).unwrap();
    let alone = |id: ReplicaId| id == own;
    assert_eq!(next_step(&conf, &membership, own, alone), Step::Wait(ids(&[2])));
}

#[test]
fn m2_a_change_is_turned_round_by_the_same_steps() {
    let (mut conf, mut membership) = three();
    want(&conf, &mut membership, places(&[(1, 1), (2, 2), (4, 4)])).unwrap();
    let own = ReplicaId(1);
    for _ in 0..3 {
        match next_step(&conf, &membership, own, |_| true) {
            Step::Propose(change) => apply(&mut conf, &mut membership, &change),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((&conf.voters, &conf.learners), (&ids(&[1, 2, 4]), &ids(&[3])));
    let dead = |id: ReplicaId| id != ReplicaId(4);
    assert_eq!(
        next_step(&conf, &membership, own, dead),
        Step::Wait(ids(&[4])),
        "the old one stays as long as the new one may not serve"
    );
    let back = wanted_by(&conf, &membership, &Manage::Abort).unwrap();
    assert_eq!(back, places(&[(1, 1), (2, 2), (3, 3)]));
    want(&conf, &mut membership, back).unwrap();
    walk(&mut conf, &mut membership);
    assert_eq!(membership.members, places(&[(1, 1), (2, 2), (3, 3)]));
    assert!(membership.has_removed(ReplicaId(4)));
}

#[test]
fn x_05_a_replica_id_is_not_used_again() {
    let (mut conf, mut membership) = three();
    want(&conf, &mut membership, places(&[(1, 1), (2, 2)])).unwrap();
    walk(&mut conf, &mut membership);
    let again = want(&conf, &mut membership, places(&[(1, 1), (2, 2), (3, 3)]));
    assert_eq!(again, Err(CommandError::ReplicaIdUsed));
    let wanted = wanted_by(&conf, &membership, &wish(&[3], &[])).unwrap();
    assert_eq!(
        wanted,
        places(&[(1, 1), (2, 2), (4, 3)]),
        "the store gets another one"
    );
}

#[test]
fn wishes_that_make_no_sense_are_refused_by_name() {
    let (conf, mut membership) = three();
    let asked = |add: &[u64], remove: &[u64]| wanted_by(&conf, &membership, &wish(add, remove));
    assert_eq!(asked(&[], &[]), Err(CommandError::NoChange));
    assert_eq!(asked(&[3], &[]), Err(CommandError::AlreadyMember));
    assert_eq!(asked(&[3], &[3]), Err(CommandError::AlreadyMember));
    assert_eq!(asked(&[4, 4], &[]), Err(CommandError::AlreadyMember));
    assert_eq!(asked(&[], &[4]), Err(CommandError::NotAMember));
    assert_eq!(asked(&[], &[1, 2, 3]), Err(CommandError::LastReplica));
    let many: Vec<u64> = (4..=10).collect();
    assert_eq!(asked(&many, &[]), Err(CommandError::TooManyReplicas));
    assert_eq!(
        wanted_by(&conf, &membership, &Manage::Abort),
        Err(CommandError::NoChange)
    );
    want(&conf, &mut membership, places(&[(1, 1), (2, 2)])).unwrap();
    assert_eq!(
        wanted_by(&conf, &membership, &wish(&[4], &[])),
        Err(CommandError::ChangeUnderWay)
    );
    let twice = want(&conf, &mut membership, places(&[(4, 4), (5, 4)]));
    assert_eq!(
        twice,
        Err(CommandError::AlreadyMember),
        "two replicas on one store"
    );
}
