//! Rows S: groups of stores join and leave, and the shards follow them while they serve.
//!
//! Stores 1 to 3 hold the controller and are in no group once a row has begun; stores 4 to 6 are group 1, 7 to 9 group 2,
//! and so on. Nobody moves a shard by hand: the config says where it is to be, the schedulers do the rest.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use quorate_controller::DEFAULT_GROUP;
use quorate_proto::{Answer, CommandError, ControlCommand, ForwardBody, GroupId, Op, PlacementCommand};
use quorate_sim::script::{ClientId, MILLISECOND, Next};
use quorate_sim::{Call, Ended, Retry, SECOND, Setup, Violation, World};
use quorate_storage::{ShardId, StoreId};
use quorate_store::kv;

use crate::support::{CLUSTER_SEEDS, Chance, close, row};

const SHARDS: u16 = 10;
/// How long the schedulers may take to carry every shard to its group.
const CARRY_US: u64 = 60 * SECOND;

/// A cluster of so many groups, of which the first has all shards.
struct Groups {
    world: World,
    operator: ClientId,
}

fn group(nth: u64) -> GroupId {
    GroupId(DEFAULT_GROUP.0 + nth)
}

fn nodes_of(nth: u64) -> [usize; 3] {
    [0, 1, 2].map(|at| 3 + 3 * nth as usize + at)
}

impl Groups {
    fn start(count: u64, seed: u64, setup: impl FnOnce(Setup) -> Setup) -> Result<Self, Violation> {
        let base = Setup::new(3 + 3 * count).seed(seed).shards(SHARDS).replicas(3);
        let mut world = setup(base.scheduled()).start();
        world.await_leader(0)?;
        let operator = world.client("operator");
        let mut groups = Self { world, operator };
        // All stores are in one group at first.
        let own = nodes_of(0);
        let all = 0..3 + 3 * count as usize;
        groups.place(PlacementCommand::Regroup {
            group: group(0),
            add: BTreeSet::new(),
            remove: all
                .filter(|node| !own.contains(node))
                .map(|node| StoreId(node as u64 + 1))
                .collect(),
        })?;
        groups.await_carried()?;
        Ok(groups)
    }

    /// The number of the config that the command makes, or that holds already.
    fn place(&mut self, command: PlacementCommand) -> Result<i64, Violation> {
        let command = Op::Control(Box::new(ControlCommand::Place(command)));
        let call = Call::new(b"", ForwardBody::Write(command)).to_shard(0);
        let session = self.world.open_session().write(1, 1);
        let call = call.session(session).retry(Retry::Always).within_ms(60_000);
        match self.world.ask(self.operator, call)? {
            Ended::Done(Answer::Int(num)) => Ok(num),
            other => panic!("{other:?}"),
        }
    }

    fn join(&mut self, nth: u64) -> Result<i64, Violation> {
        let stores = nodes_of(nth).map(|node| StoreId(node as u64 + 1));
        let joins = BTreeMap::from([(group(nth), BTreeSet::from(stores))]);
        self.place(PlacementCommand::Join(joins))
    }

    fn leave(&mut self, nth: u64) -> Result<i64, Violation> {
        self.place(PlacementCommand::Leave(BTreeSet::from([group(nth)])))
    }

    /// Which group is to have each shard.
    fn intended(&self) -> BTreeMap<u64, GroupId> {
        let config = self.world.config().unwrap_or_default();
        let shards = config.shards.iter();
        let owned = shards.filter_map(|(shard, place)| Some((shard.0, place.group?)));
        owned.collect()
    }

    /// Lets time pass until every shard is held by its group alone.
    fn await_carried(&mut self) -> Result<u64, Violation> {
        let intended = self.intended();
        assert_eq!(intended.len(), usize::from(SHARDS), "every shard has a group");
        self.world
            .wait_until("the shards get to their groups", CARRY_US, |world| {
                let mut shards = intended.iter();
                shards.all(|(shard, group)| world.is_held_by(*shard, &nodes_of(group.0 - DEFAULT_GROUP.0)))
            })
    }

    fn stop(&mut self, nth: u64) {
        nodes_of(nth).into_iter().for_each(|node| self.world.crash(node));
    }

    fn restart(&mut self, nth: u64) {
        nodes_of(nth)
            .into_iter()
            .for_each(|node| self.world.start_node(node));
    }

    fn check(&mut self, appenders: &[Appender]) -> Result<(), Violation> {
        let reader = self.world.client("reader");
        for appender in appenders {
            for shard in 1..=SHARDS {
                let key = key_of(shard, appender.id);
                let ended = self.world.ask(reader, Call::get(&key).within_ms(60_000))?;
                let found = String::from_utf8_lossy(ended.bytes().unwrap_or_default()).into_owned();
                let numbers = (1..=appender.done.get()).filter(|n| shard_of(*n) == shard);
                let wanted: String = numbers.map(|n| token(appender.id, n)).collect();
                assert_eq!(found, wanted, "{key}");
            }
        }
        Ok(())
    }

    fn end(mut self, stop: &Rc<Cell<bool>>, appenders: &[Appender]) -> Result<(), Violation> {
        stop.set(true);
        self.world.finish_programs(120 * SECOND)?;
        self.check(appenders)?;
        close(self.world)
    }
}

/// A key of a client on a shard: the part in braces decides.
fn key_of(shard: u16, client: u64) -> String {
    let bound = |shard: u16| u32::from(shard) * u32::from(quorate_store::SLOTS) / u32::from(SHARDS);
    let slots = bound(shard - 1)..bound(shard);
    let mut tags = (0..).map(|n: u32| format!("{{t{n}}}"));
    let tag = tags.find(|tag| slots.contains(&u32::from(kv::slot_of(tag.as_bytes()))));
    format!("{} of client {client}", tag.expect("every slot has a tag"))
}

fn shard_of(number: u64) -> u16 {
    1 + (number % u64::from(SHARDS)) as u16
}

fn token(client: u64, number: u64) -> String {
    format!("x {client} {number} y;")
}

/// A client that appends to keys of its own, on each shard in turn, each append until it is answered.
struct Appender {
    id: u64,
    done: Rc<Cell<u64>>,
}

fn appender(world: &mut World, id: u64, think_us: u64, stop: &Rc<Cell<bool>>) -> Appender {
    let session = world.open_session();
    let done = Rc::new(Cell::new(0));
    let (count, stop) = (done.clone(), stop.clone());
    let mut is_resting = false;
    world.spawn(format!("appender {id}"), move |_, ended: Option<&Ended>| {
        if let Some(ended) = ended {
            assert!(ended.is_done(), "{ended:?}");
            count.set(count.get() + 1);
            is_resting = true;
        }
        if std::mem::take(&mut is_resting) {
            return Next::Sleep(think_us);
        }
        if stop.get() {
            return Next::End;
        }
        let number = count.get() + 1;
        let call = Call::append(key_of(shard_of(number), id), token(id, number));
        let call = call.session(session.write(number, number)).retry(Retry::Always);
        call.attempt_ms(500).within_ms(120_000).into()
    });
    Appender { id, done }
}

fn appenders(world: &mut World, count: u64, stop: &Rc<Cell<bool>>) -> Vec<Appender> {
    (0..count)
        .map(|id| appender(world, id, 20 * MILLISECOND, stop))
        .collect()
}

#[test]
fn s_03_join_and_leave() {
    row("s_03_join_and_leave", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(2, seed, |setup| setup)?;
        let stop = Rc::new(Cell::new(false));
        let clients = appenders(&mut groups.world, 2, &stop);
        groups.world.run_for(2 * SECOND)?;
        groups.join(1)?;
        groups.await_carried()?;
        assert_eq!(
            groups
                .intended()
                .values()
                .filter(|owner| **owner == group(1))
                .count(),
            5
        );
        groups.world.run_for(SECOND)?;
        groups.leave(0)?;
        groups.world.run_for(SECOND)?;
        groups.await_carried()?;
        groups.stop(0);
        stop.set(true);
        groups.world.finish_programs(60 * SECOND)?;
        groups.world.run_for(SECOND)?;
        groups.check(&clients)?;
        close(groups.world)
    });
}

#[test]
fn s_04_snapshots_and_three_groups() {
    row("s_04_snapshots_and_three_groups", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(3, seed, |setup| setup.log_bytes(1_000))?;
        let stop = Rc::new(Cell::new(false));
        let clients = appenders(&mut groups.world, 3, &stop);
        for (joins, leaves) in [(1, 0), (2, 1), (0, 2)] {
            groups.world.run_for(SECOND)?;
            groups.join(joins)?;
            groups.await_carried()?;
            groups.world.run_for(SECOND)?;
            groups.leave(leaves)?;
            groups.await_carried()?;
        }
        stop.set(true);
        groups.world.finish_programs(60 * SECOND)?;
        groups.check(&clients)?;
        groups.world.run_for(SECOND)?;
        for shard in 1..=u64::from(SHARDS) {
            for node in nodes_of(0) {
                let (bytes, _) = groups.world.log_kept(node, shard).expect("it holds the shard");
                assert!(bytes <= 8_000, "node {node}, shard {shard}: {bytes} bytes of log");
            }
        }
        groups.world.crash_all();
        groups.world.run_for(SECOND)?;
        groups.world.start_all();
        groups.check(&clients)?;
        close(groups.world)
    });
}

#[test]
fn s_06_whole_groups_stop_and_start_while_shards_move() {
    row("s_06_whole_groups_stop_and_start", CLUSTER_SEEDS, |seed| {
        let mut chance = Chance::new(seed);
        let mut groups = Groups::start(3, seed, |setup| setup.log_bytes(1_000))?;
        let stop = Rc::new(Cell::new(false));
        let clients = appenders(&mut groups.world, 10, &stop);
        groups.world.run_for(SECOND)?;
        groups.join(1)?;
        groups.world.run_for(chance.below(SECOND))?;
        groups.join(2)?;
        groups.world.run_for(chance.below(2 * SECOND))?;
        groups.leave(0)?;
        // In the middle of it.
        groups.world.run_for(chance.below(SECOND))?;
        for nth in 0..3 {
            groups.stop(nth);
            groups.world.run_for(chance.below(2 * SECOND))?;
            groups.restart(nth);
            groups.world.run_for(chance.below(SECOND))?;
        }
        groups.join(0)?;
        groups.world.run_for(chance.below(2 * SECOND))?;
        groups.leave(1)?;
        groups.await_carried()?;
        groups.world.run_for(SECOND)?;
        groups.end(&stop, &clients)
    });
}

#[test]
fn s_22_a_group_that_joins_gets_its_share_and_the_old_one_gives_it_up() {
    row("s_22_a_group_that_joins", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(2, seed, |setup| setup)?;
        let before = groups.world.config().expect("there is one").num;
        let num = groups.join(1)?;
        assert_eq!(num, before as i64 + 1);
        groups.await_carried()?;
        let client = groups.world.client("a");
        for (shard, owner) in groups.intended() {
            let key = key_of(shard as u16, 0);
            assert!(groups.world.ask(client, Call::put(&key, "v"))?.is_done());
            // Whoever is of the other group has nothing of it, and says so.
            let other = nodes_of(if owner == group(0) { 1 } else { 0 });
            for node in other {
                assert!(groups.world.replica(node, shard).is_none());
                assert_eq!(groups.world.local_value(node, shard, key.as_bytes())?, None);
                let ended = groups.world.ask(client, Call::get(&key).via(node))?;
                assert_eq!(ended.bytes(), Some(&b"v"[..]), "and forwards");
            }
        }
        // Told again, it changes nothing but is an error.
        let again = BTreeMap::from([(group(1), BTreeSet::from([StoreId(7)]))]);
        let again = ControlCommand::Place(PlacementCommand::Join(again));
        let call = Call::new(b"", ForwardBody::Write(Op::Control(Box::new(again)))).to_shard(0);
        let ended = groups.world.ask(client, call)?;
        assert_eq!(ended.answer(), Some(&Answer::Error(CommandError::GroupExists)));
        assert_eq!(groups.world.config().expect("there is one").num, num as u64);
        close(groups.world)
    });
}

#[test]
fn s_24_a_group_leaves_stops_restarts_and_joins_again() {
    row("s_24_a_group_leaves_and_joins_again", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(2, seed, |setup| setup)?;
        let stop = Rc::new(Cell::new(false));
        let clients = appenders(&mut groups.world, 2, &stop);
        groups.join(1)?;
        groups.await_carried()?;
        groups.leave(0)?;
        groups.await_carried()?;
        groups.stop(0);
        let before = clients[0].done.get();
        groups.world.run_for(3 * SECOND)?;
        assert!(clients[0].done.get() > before, "nobody needs what has left");
        groups.restart(0);
        groups.world.run_for(SECOND)?;
        groups.join(0)?;
        groups.await_carried()?;
        groups.leave(1)?;
        groups.await_carried()?;
        groups.stop(1);
        groups.world.run_for(2 * SECOND)?;
        groups.end(&stop, &clients)
    });
}

#[test]
fn s_29_shards_that_stay_are_not_disturbed() {
    row("s_29_shards_that_stay", CLUSTER_SEEDS, |seed| {
        let mut groups = Groups::start(3, seed, |setup| setup)?;
        groups.join(1)?;
        groups.await_carried()?;
        let before = groups.intended();
        // Those that stay where they are while the third group joins and leaves.
        groups.join(2)?;
        groups.await_carried()?;
        let during = groups.intended();
        let stays: Vec<u64> = before
            .iter()
            .filter(|(shard, owner)| during.get(*shard) == Some(owner))
            .map(|(shard, _)| *shard)
            .collect();
        assert!(stays.len() >= 6, "{stays:?}");
        let (stop, gets) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0u64)));
        let (stopped, counted) = (stop.clone(), gets.clone());
        let keys: Vec<String> = stays.iter().map(|shard| key_of(*shard as u16, 0)).collect();
        let mut is_resting = false;
        groups.world.spawn("reader", move |_, ended: Option<&Ended>| {
            if let Some(ended) = ended {
                assert!(ended.is_done(), "{ended:?}");
                counted.set(counted.get() + 1);
                is_resting = true;
            }
            if std::mem::take(&mut is_resting) {
                return Next::Sleep(20 * MILLISECOND);
            }
            if stopped.get() {
                return Next::End;
            }
            let key = &keys[counted.get() as usize % keys.len()];
            Call::get(key).attempt_ms(200).within_ms(10_000).into()
        });
        for _ in 0..3 {
            let (began, begun_us) = (gets.get(), groups.world.now_us());
            groups.leave(2)?;
            groups.world.run_for(2 * SECOND)?;
            groups.join(2)?;
            groups.world.run_until(begun_us + 4 * SECOND)?;
            let count = gets.get() - began;
            assert!(count >= 100, "{count} gets in 4 s");
        }
        groups.await_carried()?;
        groups.end(&stop, &[])
    });
}

/// Five times the controller's leader is cut off in the middle of a change, and whoever follows completes it.
#[test]
fn s_35_a_change_outlives_the_controllers_leader() {
    row(
        "s_35_a_change_outlives_the_controllers_leader",
        CLUSTER_SEEDS,
        |seed| {
            let mut chance = Chance::new(seed);
            let mut groups = Groups::start(2, seed, |setup| setup)?;
            let stop = Rc::new(Cell::new(false));
            let clients = appenders(&mut groups.world, 2, &stop);
            for round in 0..5 {
                if round % 2 == 0 {
                    groups.join(1)?;
                } else {
                    groups.leave(1)?;
                }
                groups.world.run_for(chance.below(SECOND))?;
                let leader = groups.world.await_leader(0)?;
                groups.world.isolate(leader);
                groups
                    .world
                    .wait_until("another one leads", 20 * SECOND, |world| {
                        world.followed_leader(0).is_some_and(|found| found != leader)
                    })?;
                groups.await_carried()?;
                groups.world.rejoin(leader);
            }
            assert_eq!(
                groups
                    .world
                    .config()
                    .map(|config| config.shards.contains_key(&ShardId(1))),
                Some(true)
            );
            groups.end(&stop, &clients)
        },
    );
}
