//! What a change of the placement would come to, and what is under way.

mod support;

use std::collections::BTreeSet;

use quorate_controller::DEFAULT_GROUP;
use quorate_proto::{
    Answer, CommandError, ControlCommand, ControlQuery, GroupId, Groups, Labels, MemberRole, MoveRow,
    PlacementCommand, PlannedMove, Service, ShardMember, StoreRecord, decode_config, decode_moves,
    decode_plan,
};
use quorate_raft::{ReplicaId, Term};
use quorate_storage::{Incarnation, ShardId, StoreId};
use quorate_store::rsm::{Reign, StateMachine};
use support::Hosted;
use support::heard::{beat, shard};

const REIGN: Reign = Reign {
    term: Term(3),
    now_us: 7_000_000,
};

fn ids(stores: &[u64]) -> BTreeSet<StoreId> {
    stores.iter().copied().map(StoreId).collect()
}

fn join(of: &[(u64, &[u64])]) -> PlacementCommand {
    let groups = of.iter().map(|(group, stores)| (GroupId(*group), ids(stores)));
    PlacementCommand::Join(groups.collect::<Groups>())
}

fn leave(groups: &[u64]) -> PlacementCommand {
    PlacementCommand::Leave(groups.iter().copied().map(GroupId).collect())
}

fn regroup(group: u64, add: &[u64], remove: &[u64]) -> PlacementCommand {
    PlacementCommand::Regroup {
        group: GroupId(group),
        add: ids(add),
        remove: ids(remove),
    }
}

/// Stores 1, 2 and 5 begin; 6, 7 and 8 came later.
fn six(shards: u16) -> Hosted {
    let mut hosted = Hosted::begun(shards);
    for incarnation in 0..3 {
        let record = StoreRecord {
            store: StoreId(0),
            incarnation: Incarnation(incarnation),
            client: "c".into(),
            peer: "p".into(),
            http: "h".into(),
            labels: Labels::new(),
            roles: Default::default(),
        };
        let answer = hosted.apply(&ControlCommand::Admit(record));
        assert!(matches!(answer, Answer::Bulk(_)), "{answer:?}");
    }
    hosted
}

fn considered(hosted: &Hosted, command: &PlacementCommand) -> Result<(), CommandError> {
    let command = ControlCommand::Place(command.clone());
    hosted.machine.consider(Some(REIGN), &command)
}

fn plan(hosted: &Hosted, command: &PlacementCommand) -> Result<Vec<PlannedMove>, CommandError> {
    match hosted.machine.query(REIGN, &ControlQuery::Plan(command.clone())) {
        Answer::Bulk(bytes) => Ok(decode_plan(&bytes).unwrap()),
        Answer::Error(reason) => Err(reason),
        answer => panic!("{answer:?}"),
    }
}

/// What is planned is what is done, and planning changes nothing.
fn place(hosted: &mut Hosted, command: PlacementCommand) -> i64 {
    let before = hosted.newest().clone();
    let planned = plan(hosted, &command).unwrap();
    assert_eq!(*hosted.newest(), before, "planning {command:?}");
    let num = hosted.place(command.clone()).unwrap();
    for (shard, place) in &before.shards {
        let now = hosted.newest().shards[shard].group;
        let is_planned = planned.iter().find(|planned| planned.shard == *shard);
        let told = is_planned.map(|planned| (planned.from, planned.to));
        let moved = (place.group != now).then_some((place.group, now));
        assert_eq!(told, moved, "{command:?}: shard {shard}");
    }
    num
}

/// Issue 6, "Must show" 3: six stores in one group become two groups of three, and the first one leaves.
#[test]
fn one_group_becomes_two_and_the_first_one_leaves() {
    let mut hosted = six(8);
    let all = [1, 2, 5, 6, 7, 8];
    assert_eq!(hosted.newest().groups[&DEFAULT_GROUP], ids(&all));
    let second = join(&[(2, &[6, 7, 8])]);
    assert_eq!(plan(&hosted, &second), Err(CommandError::StoreElsewhere));
    let num = place(&mut hosted, regroup(1, &[], &[6, 7, 8]));
    assert_eq!(place(&mut hosted, regroup(1, &[], &[6, 7, 8])), num, "again");
    assert_eq!(hosted.newest().groups[&DEFAULT_GROUP], ids(&[1, 2, 5]));
    assert_eq!(plan(&hosted, &second).unwrap().len(), 4);
    assert_eq!(place(&mut hosted, second.clone()), num + 1);
    assert_eq!(place(&mut hosted, second.clone()), num + 1, "again");
    assert_eq!(place(&mut hosted, leave(&[1])), num + 2);
    assert_eq!(place(&mut hosted, leave(&[1])), num + 2, "again");
    let held = hosted.newest().shards.values();
    assert!(held.clone().all(|place| place.group == Some(GroupId(2))));
    // Its stores are free to come elsewhere.
    place(&mut hosted, regroup(2, &[1, 2], &[8]));
    assert_eq!(hosted.newest().groups[&GroupId(2)], ids(&[1, 2, 6, 7]));
    assert_eq!(
        hosted.place(join(&[(2, &[6, 7, 8])])),
        Err(CommandError::GroupExists)
    );
}

#[test]
fn what_cannot_be_in_a_cluster_that_serves_is_refused() {
    let mut hosted = six(8);
    place(&mut hosted, regroup(1, &[], &[6, 7, 8]));
    let num = place(&mut hosted, join(&[(2, &[6, 7])]));
    for (command, why) in [
        (join(&[(3, &[99])]), CommandError::UnknownStore),
        (join(&[(3, &[8, 99])]), CommandError::UnknownStore),
        (regroup(1, &[99], &[]), CommandError::UnknownStore),
        (leave(&[1, 2]), CommandError::LastGroup),
        (leave(&[1, 2, 3]), CommandError::LastGroup),
    ] {
        assert_eq!(considered(&hosted, &command), Err(why), "{command:?}");
        assert_eq!(plan(&hosted, &command), Err(why), "{command:?}");
    }
    for (command, why) in [
        (join(&[(2, &[8])]), CommandError::GroupExists),
        (join(&[(3, &[6])]), CommandError::StoreElsewhere),
        (join(&[]), CommandError::JoinsNothing),
        (leave(&[3]), CommandError::UnknownGroup),
        (leave(&[]), CommandError::UnknownGroup),
        (regroup(3, &[8], &[]), CommandError::UnknownGroup),
        (regroup(1, &[6], &[]), CommandError::StoreElsewhere),
        (regroup(1, &[8], &[8]), CommandError::OutOfRange),
        (regroup(2, &[], &[6, 7]), CommandError::GroupEmptied),
        (
            PlacementCommand::Move {
                shard: ShardId(1),
                group: GroupId(9),
            },
            CommandError::UnknownGroup,
        ),
        (
            PlacementCommand::Move {
                shard: ShardId(99),
                group: GroupId(1),
            },
            CommandError::UnknownShard,
        ),
    ] {
        assert_eq!(considered(&hosted, &command), Ok(()), "{command:?}");
        assert_eq!(plan(&hosted, &command), Err(why), "{command:?}");
        assert_eq!(hosted.place(command.clone()), Err(why), "{command:?}");
        assert_eq!(hosted.newest().num, num as u64, "{command:?}");
    }
    let not_yet = Err(CommandError::NotHeardYet);
    let rebalance = ControlCommand::Place(PlacementCommand::Rebalance);
    assert_eq!(hosted.machine.consider(None, &rebalance), not_yet);

    // P7: a store that is gone comes into no group any more.
    for service in [Service::Draining, Service::Removed] {
        let store = StoreId(8);
        assert_eq!(
            hosted.apply(&ControlCommand::SetStore { store, service }),
            Answer::Ok
        );
    }
    for command in [join(&[(3, &[8])]), regroup(1, &[8], &[])] {
        assert_eq!(plan(&hosted, &command), Err(CommandError::StoreRemoved));
        assert_eq!(hosted.place(command), Err(CommandError::StoreRemoved));
    }
}

#[test]
fn old_configs_are_told_by_number() {
    let mut hosted = six(4);
    place(&mut hosted, regroup(1, &[], &[8]));
    let newest = hosted.newest().clone();
    let told = |num: i64| match hosted.machine.query(REIGN, &ControlQuery::Config { num }) {
        Answer::Bulk(bytes) => decode_config(&bytes).unwrap(),
        answer => panic!("{answer:?}"),
    };
    assert_eq!(told(-1), newest);
    assert_eq!(told(1_000), newest);
    for num in 0..=newest.num {
        let config = told(num as i64);
        assert_eq!(
            (config.num, &config),
            (num, &hosted.machine.history().query(num as i64))
        );
    }
    assert_eq!(told(0).groups, Groups::new());
}

fn member(store: u64, role: MemberRole, is_pending: bool) -> ShardMember {
    ShardMember {
        replica: ReplicaId(100 + store),
        store: StoreId(store),
        role,
        is_pending,
    }
}

fn hear(hosted: &mut Hosted, seq: u64, members: &[ShardMember]) {
    let mut told = shard(1, (0, 16384), &[6], 1);
    told.epoch.conf_ver = seq;
    told.leader = members[0].replica;
    told.members = members.to_vec();
    told.bytes = Some(1000);
    let beat = beat((6, 0), seq, 1, &[told]);
    assert_eq!(hosted.machine.hear(REIGN, &beat), Some(0));
}

#[test]
fn moves_are_what_is_elsewhere_or_on_its_way() {
    let mut hosted = six(1);
    place(&mut hosted, regroup(1, &[], &[6, 7, 8]));
    let moves = |hosted: &Hosted| match hosted.machine.query(REIGN, &ControlQuery::Moves) {
        Answer::Bulk(bytes) => decode_moves(&bytes).unwrap(),
        answer => panic!("{answer:?}"),
    };
    let row = |from: &[u64], to: &[u64], ready: &[u64]| MoveRow {
        shard: ShardId(1),
        group: Some(DEFAULT_GROUP),
        from: ids(from).into_iter().collect(),
        to: ids(to).into_iter().collect(),
        ready: ids(ready).into_iter().collect(),
        bytes: Some(1000),
    };
    use MemberRole::{Incoming, Learner, Outgoing, Voter};
    assert_eq!(moves(&hosted), [], "nothing was heard");
    hear(&mut hosted, 1, &[member(1, Voter, false), member(2, Voter, true)]);
    assert_eq!(moves(&hosted), [], "one that lags is where it is to be");
    hear(
        &mut hosted,
        2,
        &[member(6, Voter, false), member(2, Voter, false)],
    );
    assert_eq!(moves(&hosted), [row(&[6], &[], &[])], "it has to go");
    // M3: under an id that was not there before.
    let back = |role, is_pending| ShardMember {
        replica: ReplicaId(110),
        ..member(1, role, is_pending)
    };
    let members = [
        member(6, Outgoing, false),
        member(2, Incoming, false),
        back(Learner, true),
    ];
    hear(&mut hosted, 3, &members);
    assert_eq!(moves(&hosted), [row(&[6], &[1, 2], &[2])]);
    hear(&mut hosted, 4, &[back(Voter, false), member(2, Voter, false)]);
    assert_eq!(moves(&hosted), []);
    let draining = ControlCommand::SetStore {
        store: StoreId(2),
        service: Service::Draining,
    };
    hosted.machine.apply(7, &draining, &mut Vec::new());
    assert_eq!(moves(&hosted), [row(&[2], &[], &[])], "it is to be empty");
    let bytes: Vec<_> = plan(&hosted, &PlacementCommand::Rebalance).unwrap();
    assert_eq!(bytes, []);
    hosted
        .machine
        .apply(7, &ControlCommand::Place(join(&[(2, &[6])])), &mut Vec::new());
    let back = PlacementCommand::Move {
        shard: ShardId(1),
        group: GroupId(2),
    };
    let planned = PlannedMove {
        shard: ShardId(1),
        from: Some(DEFAULT_GROUP),
        to: Some(GroupId(2)),
        bytes: Some(1000),
    };
    assert_eq!(plan(&hosted, &back), Ok(vec![planned]));
}
