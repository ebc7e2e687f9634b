//! Rows S about who leads the controller: changes outlive it, several race, and one that was deposed changes nothing.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use quorate_proto::{Answer, PlacementCommand};
use quorate_sim::script::{MILLISECOND, MessageKind, Next, Verdict};
use quorate_sim::{Ended, Retry, SECOND, Setup, Violation};
use quorate_storage::ShardId;

use crate::groups::{Book, CONTROLLERS, Groups, Stop, appenders, command, group, joined, left, sharers};
use crate::support::{CLUSTER_SEEDS, Chance, row};

/// Five times the controller's leader is cut off in the middle of a change, and whoever follows completes it.
#[test]
fn s_35_a_change_outlives_the_controllers_leader() {
    row("s_35_a_change_outlives", CLUSTER_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut groups = Groups::start(2, seed, |setup| setup)?;
        let stop = Stop::default();
        let clients = appenders(&mut groups.world, 2, &stop);
        for round in 0..5 {
            if round % 2 == 0 {
                groups.join(&[1])?;
            } else {
                groups.leave(&[1])?;
            }
            groups.world.run_for(chance.below(SECOND))?;
            let leader = groups.world.await_leader(0)?;
            groups.world.isolate(leader);
            groups.await_successor(leader)?;
            groups.await_carried()?;
            groups.world.rejoin(leader);
        }
        groups.end(&stop, &clients)
    });
}

/// A change that somebody was told of: its config, its group, and whether that joined.
type Told = Rc<RefCell<Vec<(u64, u64, bool)>>>;

/// Somebody who lets a group join and leave, again and again.
fn racer(groups: &mut Groups, nth: u64, mut chance: Chance, told: &Told, stop: &Stop) {
    let mut session = groups.world.open_session();
    let (told, stop) = (told.clone(), stop.clone());
    let (join, leave) = (
        command(&mut groups.world, joined(&[nth])),
        command(&mut groups.world, left(&[nth])),
    );
    let (mut is_joined, mut is_resting) = (false, false);
    groups
        .world
        .spawn(format!("racer {nth}"), move |_, ended: Option<&Ended>| {
            match ended {
                Some(Ended::Done(Answer::Int(num))) => {
                    is_joined = !is_joined;
                    told.borrow_mut().push((*num as u64, nth, is_joined));
                    is_resting = true;
                }
                None => {}
                other => panic!("{other:?}"),
            }
            if std::mem::take(&mut is_resting) {
                return Next::Sleep(chance.range(50, 500) * MILLISECOND);
            }
            if stop.get() {
                return Next::End;
            }
            let call = if is_joined { leave.clone() } else { join.clone() };
            call.session(session.next_write()).attempt_ms(500).into()
        });
}

/// Seven race, each with a group of its own. One line of configs results: each is one change of one of them, everybody was
/// told the number of each of theirs, and they are all.
fn race(seed: u64, is_unreliable: bool) -> Result<(), Violation> {
    let mut chance = Chance::new(seed);
    let mut groups = Groups::start(
        8,
        seed,
        |setup| {
            if is_unreliable { setup.unreliable() } else { setup }
        },
    )?;
    let book = Book::open(&mut groups, 1, "value ")?;
    let first = groups.config(-1)?.num;
    let (told, stop) = (Told::default(), Stop::default());
    for nth in 1..8 {
        racer(&mut groups, nth, Chance::new(seed << 8 | nth), &told, &stop);
    }
    for _ in 0..3 {
        groups.world.run_for(2 * SECOND)?;
        let lost = groups.lose_controller(&mut chance)?;
        groups.world.run_for(SECOND)?;
        groups.bring_back(lost);
    }
    stop.set(true);
    groups.world.finish_programs(120 * SECOND)?;
    let newest = groups.config(-1)?.num;
    let mut line = told.take();
    line.sort_unstable();
    assert!(line.len() > 20, "{line:?}");
    let nums: Vec<u64> = line.iter().map(|(num, ..)| *num).collect();
    assert_eq!(nums, (first + 1..=newest).collect::<Vec<_>>());
    let mut before = groups.config(first as i64)?;
    for (num, nth, is_joined) in line {
        let config = groups.config(num as i64)?;
        assert_eq!(config.num, num);
        let ids = |config: &quorate_proto::Config| config.groups.keys().copied().collect::<BTreeSet<_>>();
        let mut wanted = ids(&before);
        if is_joined {
            assert!(wanted.insert(group(nth)), "config {num}");
        } else {
            assert!(wanted.remove(&group(nth)), "config {num}");
        }
        assert_eq!(ids(&config), wanted, "config {num}");
        before = config;
    }
    groups.await_carried()?;
    book.check(&mut groups, &crate::groups::all_shards(), 60_000)?;
    groups.end(&stop, &[])
}

#[test]
fn s_36_one_line_of_configs_results_from_a_race() {
    row("s_36_one_line_of_configs", CLUSTER_SEEDS, |seed| {
        race(seed, false)
    });
}

#[test]
fn s_37_one_line_of_configs_results_over_a_network_that_loses() {
    row("s_37_one_line_of_configs", CLUSTER_SEEDS, |seed| race(seed, true));
}

/// The controller's leader is parted from its followers and hears all other stores: it takes itself for the leader, is
/// told of a change, and what it ordered before comes late. Its successor's config is the one that counts, and what comes
/// of the old leader's orders is nothing.
#[test]
fn s_38_a_deposed_controller_is_fenced_off() {
    row("s_38_a_deposed_controller_is_fenced_off", CLUSTER_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut groups = Groups::start(3, seed, |setup| setup)?;
        let stop = Stop::default();
        let clients = appenders(&mut groups.world, 2, &stop);
        let alone = groups.world.client("of the old leader");
        let changes = [
            (joined(&[1, 2]), left(&[1])),
            (left(&[2]), joined(&[1])),
            (joined(&[2]), left(&[1])),
            (joined(&[1]), left(&[2])),
        ];
        for (change, next) in changes {
            let old = groups.world.await_leader(0)?;
            let late_us = chance.range(SECOND / 10, 2 * SECOND);
            let delay = groups.world.filter(move |passing| {
                let is_answer = passing.kind() == MessageKind::StoreHeartbeatAnswer;
                if is_answer && passing.from == old {
                    Verdict::Delay(late_us)
                } else {
                    Verdict::Pass
                }
            });
            groups.place(change)?;
            groups.world.run_for(chance.below(SECOND))?;
            let others: Vec<usize> = CONTROLLERS.into_iter().filter(|node| *node != old).collect();
            others.iter().for_each(|other| groups.world.cut(old, *other));
            let shard = ShardId(chance.range(1, 11));
            let mut wish = command(
                &mut groups.world,
                PlacementCommand::Move {
                    shard,
                    group: group(0),
                },
            );
            // Under a session its node would go on trying for it.
            wish.session = None;
            let wish = wish.via(old).retry(Retry::Never).attempt_ms(1_000);
            let wish = groups.world.begin(alone, wish);
            groups.await_successor(old)?;
            groups.world.limit_client(groups.operator, &others);
            let num = groups.place(next)?;
            let ended = groups.world.finish(wish)?;
            assert!(!ended.is_done(), "{ended:?}");
            groups.world.run_for(chance.below(2 * SECOND))?;
            groups.bring_back(old);
            groups.world.run_for(3 * SECOND)?;
            groups.world.unfilter(delay);
            assert_eq!(groups.config(-1)?.num, num, "nobody else has changed it");
            groups.await_carried()?;
        }
        groups.end(&stop, &clients)
    });
}

/// Sixty seconds in which three to five leaders of the controller are lost while groups come and go.
fn lost_controllers(seed: u64, is_unreliable: bool, clients: u64) -> Result<(), Violation> {
    let mut chance = Chance::new(seed);
    let mut groups = Groups::start(
        3,
        seed,
        |setup: Setup| {
            if is_unreliable { setup.unreliable() } else { setup }
        },
    )?;
    let mut book = Book::open(&mut groups, 5, "value ")?;
    let stop = Stop::default();
    sharers(&mut groups.world, seed, clients, 50 * MILLISECOND, &stop);
    let lost = chance.range(3, 6);
    let changes = [
        joined(&[1]),
        joined(&[2]),
        left(&[0]),
        left(&[1]),
        joined(&[0, 1]),
    ];
    for (round, change) in changes.into_iter().take(lost as usize).enumerate() {
        let end_us = groups.world.now_us() + 60 * SECOND / lost;
        groups.place(change)?;
        groups.world.run_for(chance.below(2 * SECOND))?;
        let gone = groups.lose_controller(&mut chance)?;
        groups.world.run_for(chance.below(5 * SECOND))?;
        // Before or after the change is complete.
        if round % 2 == 0 {
            groups.await_carried()?;
        }
        groups.bring_back(gone);
        let end_us = end_us.max(groups.world.now_us());
        groups.world.run_until(end_us)?;
        book.check(&mut groups, &crate::groups::all_shards(), 60_000)?;
    }
    groups.await_carried()?;
    book.turn(&mut groups)?;
    groups.end(&stop, &[])
}

rows! { lost_controllers:
    s_39_controllers_are_lost(false, 0);
    s_40_controllers_are_lost_over_a_network_that_loses(true, 0);
    s_41_controllers_are_lost_while_clients_work(false, 5);
    s_42_controllers_are_lost_while_clients_work_over_a_network_that_loses(true, 5);
}
