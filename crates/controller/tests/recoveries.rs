//! Which shards have lost their majority (row X-15): what the controller's leader makes of what survivors tell, where they
//! lag behind their shard's membership.

mod support;

use std::collections::BTreeSet;

use quorate_proto::{
    Answer, CommandError, ControlCommand, ControlQuery, Epoch, FirstState, LossRow, MemberRole,
    ShardHeartbeat, ShardMember, Survivor, decode_losses,
};
use quorate_raft::{Index, ReplicaId, Term};
use quorate_storage::{ShardId, StoreId};
use quorate_store::rsm::{Reign, StateMachine};
use support::heard::{beat, shard};
use support::{Hosted, first};

const STORES: std::ops::RangeInclusive<u64> = 1..=7;
const SECOND: u64 = 1_000_000;

/// A controller whose leader hears stores, second by second.
struct Leader {
    hosted: Hosted,
    second: u64,
    /// How long stores say that they take to tell of a silence.
    tells_after_ms: u64,
}

impl Leader {
    fn new() -> Self {
        let mut hosted = Hosted::default();
        let begin = ControlCommand::Bootstrap(FirstState {
            stores: STORES.map(StoreId).collect(),
            ..first(1)
        });
        assert_eq!(hosted.apply(&begin), Answer::Ok);
        for store in STORES {
            hosted.register(store);
        }
        Self {
            hosted,
            second: 0,
            tells_after_ms: 3_500,
        }
    }

    fn reign(&self) -> Reign {
        Reign {
            term: Term(7),
            now_us: self.second * SECOND,
        }
    }

    fn hear(&mut self, store: u64, shards: &[ShardHeartbeat]) {
        let mut beat = beat(
            (store, store.into()),
            2 * self.second + shards.len() as u64,
            1,
            shards,
        );
        beat.store.tells_after_ms = self.tells_after_ms;
        assert_eq!(self.hosted.machine.hear(self.reign(), &beat), Some(0));
    }

    /// All but the lost ones are heard for so many seconds, and survivors tell of themselves.
    fn pass(&mut self, seconds: u64, lost: &[u64], survivors: &[(u64, Survivor)]) {
        for _ in 0..seconds {
            self.second += 1;
            for store in STORES.filter(|store| !lost.contains(store)) {
                self.hear(store, &[]);
            }
            for (store, survivor) in survivors {
                let (reign, told) = (self.reign(), vec![survivor.clone()]);
                self.hosted.machine.hear_survivors(reign, StoreId(*store), told);
            }
        }
    }

    fn losses(&self, lost: &[u64]) -> Result<Vec<LossRow>, CommandError> {
        let lost: BTreeSet<StoreId> = lost.iter().copied().map(StoreId).collect();
        match self
            .hosted
            .machine
            .query(self.reign(), &ControlQuery::Losses { lost })
        {
            Answer::Bulk(bytes) => Ok(decode_losses(&bytes).unwrap()),
            Answer::Error(error) => Err(error),
            answer => panic!("{answer:?}"),
        }
    }
}

/// The word of a shard's leader, on the first of these stores, as of this version of the membership.
fn word(stores: &[u64], conf_ver: u64) -> ShardHeartbeat {
    let mut told = shard(1, (0, 16384), stores, 1);
    told.epoch.conf_ver = conf_ver;
    told
}

/// A replica that has applied the membership of this version, and everything up to `commit`.
fn survivor(own: u64, stores: &[u64], conf_ver: u64, commit: u64) -> Survivor {
    let told = word(stores, conf_ver);
    Survivor {
        shard: ShardId(1),
        replica: ReplicaId(10 + own),
        start_slot: 0,
        end_slot: 16384,
        epoch: told.epoch,
        known: told.epoch,
        members: told.members,
        removed: Vec::new(),
        last_replica: ReplicaId(15),
        term: Term(3),
        commit: Index(commit),
        last: Index(commit + 2),
        runs: vec![(Index(1), Term(3))],
        heard: Some(Index(commit)),
        silent_ms: Some(4_000),
        sessions: 0,
        is_unfit: false,
    }
}

/// The same, whose store was told at this version that these are no members any more.
fn told(survivor: Survivor, conf_ver: u64, removed: &[u64]) -> Survivor {
    let known = Epoch {
        conf_ver,
        ..survivor.known
    };
    Survivor {
        known,
        removed: removed.iter().map(|store| ReplicaId(10 + store)).collect(),
        ..survivor
    }
}

/// Who goes on, and the versions of the membership that survivors have applied and that are known.
fn goes_on(losses: &[LossRow]) -> (u64, Option<u64>, Option<u64>) {
    let [loss] = losses else {
        panic!("one shard has lost its majority: {losses:?}");
    };
    let recovery = loss.recovery.as_ref().expect("one survives");
    (recovery.store.0, loss.conf_ver, loss.known_conf_ver)
}

/// Stores 1, 2 and 3 had the shard, then 1, 4 and 5, which store 1 has missed. Of its own accord it thinks that 2 and 3
/// are members, and they live; they have erased their replicas, so nobody could elect a leader.
#[test]
fn x_15_a_survivor_that_lags_behind_the_membership_goes_on() {
    let (lost, lags) = ([4, 5], survivor(1, &[1, 2, 3], 1, 20));
    let mut leader = Leader::new();
    leader.hear(4, &[word(&[4, 1, 5], 9)]);
    leader.pass(12, &lost, &[(1, lags.clone())]);
    assert_eq!(goes_on(&leader.losses(&lost).unwrap()), (1, Some(1), Some(9)));

    // The controller's leader has heard nobody who knew, but stores 2 and 3 remember that they were removed.
    let mut leader = Leader::new();
    let lags = told(lags, 9, &[2, 3]);
    leader.pass(12, &lost, &[(1, lags)]);
    assert_eq!(goes_on(&leader.losses(&lost).unwrap()), (1, Some(1), Some(9)));
}

/// A majority of what is known to be the membership may live: nothing is offered, whoever lags behind.
#[test]
fn x_15_a_shard_with_a_majority_that_lives_is_never_offered() {
    // Nobody knows that 2 and 3 are members no more.
    let mut leader = Leader::new();
    leader.pass(12, &[4, 5], &[(1, survivor(1, &[1, 2, 3], 1, 20))]);
    assert_eq!(leader.losses(&[4, 5]).unwrap(), []);

    // Store 1 lags, and has no majority by what it knows; 3 knows that the two are one, though not what is committed.
    let behind = survivor(1, &[1, 5, 6], 1, 20);
    let ahead = told(survivor(3, &[1, 3, 5], 9, 10), 9, &[]);
    let mut leader = Leader::new();
    leader.pass(12, &[5, 6], &[(1, behind), (3, ahead.clone())]);
    assert_eq!(leader.losses(&[5, 6]).unwrap(), []);

    // It was told of a change and not of its own members' removal.
    let mut leader = Leader::new();
    leader.hear(4, &[word(&[4, 1, 2, 3], 3)]);
    leader.pass(12, &[4], &[(1, told(survivor(1, &[1, 2, 3], 1, 20), 3, &[]))]);
    assert_eq!(leader.losses(&[4]).unwrap(), []);
}

/// A leader that the controller does not hear, and its followers do: they tell nothing of themselves.
#[test]
fn x_15_a_shard_whose_followers_hear_a_leader_does_not_begin_anew() {
    let mut leader = Leader::new();
    leader.hear(4, &[word(&[4, 1, 2], 3)]);
    leader.pass(12, &[4], &[]);
    assert_eq!(leader.losses(&[4]).unwrap(), []);
    // With one of them gone as well there is no majority.
    leader.pass(12, &[1, 4], &[]);
    let losses = leader.losses(&[1, 4]).unwrap();
    assert_eq!(
        (losses.len(), losses[0].known_conf_ver),
        (1, Some(3)),
        "{losses:?}"
    );
}

/// The leader had left the joint configuration and said so; those who live had not heard of that, and cannot elect
/// anybody, since they ask the outgoing half too.
#[test]
fn x_15_survivors_of_a_joint_configuration_are_judged_by_both_halves() {
    let joint = |own| {
        let role = |store| match store {
            1 => MemberRole::Voter,
            4 | 5 => MemberRole::Incoming,
            _ => MemberRole::Outgoing,
        };
        let mut survivor = survivor(own, &[1, 2, 3, 4, 5], 8, 20);
        let members = survivor.members.iter_mut();
        members.for_each(|member: &mut ShardMember| member.role = role(member.store.0));
        survivor
    };
    let lost = [2, 3, 4];
    let mut leader = Leader::new();
    leader.hear(4, &[word(&[4, 1, 5], 9)]);
    leader.pass(12, &lost, &[(1, joint(1)), (5, joint(5))]);
    assert_eq!(goes_on(&leader.losses(&lost).unwrap()), (1, Some(8), Some(9)));
    // With one more of the outgoing half both halves could decide.
    let lost = [3, 4];
    let mut leader = Leader::new();
    leader.hear(6, &[]);
    leader.pass(12, &lost, &[(1, joint(1)), (2, joint(2)), (5, joint(5))]);
    assert_eq!(leader.losses(&lost).unwrap(), []);
}

/// Whoever is known to be removed erases itself at any moment, so it is not the one that goes on; nor does it matter that
/// it led once.
#[test]
fn x_15_a_replica_that_was_removed_does_not_go_on() {
    let lost = [4, 5];
    let member = told(survivor(1, &[1, 2, 3], 1, 20), 9, &[2, 3]);
    let removed = survivor(2, &[1, 2, 3], 1, 30);
    let mut leader = Leader::new();
    leader.hear(2, &[word(&[2, 1, 3], 1)]);
    leader.pass(12, &lost, &[(1, member), (2, removed)]);
    let losses = leader.losses(&lost).unwrap();
    assert_eq!(goes_on(&losses), (1, Some(1), Some(9)));
    assert_eq!(losses[0].survivors, [StoreId(1)]);
}

/// A replica tells of itself after three election timeouts. Stores say how long that is.
#[test]
fn x_15_nothing_is_judged_before_every_store_can_have_told() {
    for (tells_after_ms, seconds) in [(3_500, 10), (25_000, 25)] {
        let mut leader = Leader::new();
        leader.tells_after_ms = tells_after_ms;
        leader.hear(4, &[word(&[4, 1, 5], 9)]);
        leader.hear(5, &[]);
        let told = [(1, survivor(1, &[1, 4, 5], 9, 20))];
        leader.pass(seconds - 1, &[4, 5], &told);
        assert!(leader.losses(&[4, 5]).is_err(), "after {} s", leader.second);
        leader.pass(2, &[4, 5], &told);
        assert_eq!(goes_on(&leader.losses(&[4, 5]).unwrap()).0, 1);
    }
}
