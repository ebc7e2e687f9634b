//! A shard gets other members while one of the old ones, which stays, hears nothing of it. Then those who know are lost, and
//! the one that was left behind thinks of a majority that has erased itself. Or a majority lives after all: then nothing may
//! be offered.

use std::cell::Cell;

use quorate_proto::{Answer, CommandError, LossRow, Manage, Recovery};
use quorate_raft::Term;
use quorate_sim::script::MILLISECOND;
use quorate_sim::{Call, SECOND, Setup, Violation, World};
use quorate_storage::StoreId;
use quorate_store::ClientOutcome;

use crate::lost_majority::{
    PATIENCE_US, Promised, Seen, Writes, check_kept, crash, has_majority, node_of, present, report,
};
use crate::support::Chance;

const NODES: usize = 8;
const REPLICAS: u8 = 3;
/// The engine takes up to so long to make something durable: many ticks, so that power may fail before.
const DURABLE_US_MAX: u64 = 300 * MILLISECOND;

/// Over all seeds. Without any of these the row would show nothing.
#[derive(Default)]
pub(crate) struct Judged {
    /// The survivor had missed the last members, and the controller's leader had heard of them.
    pub(crate) by_the_map: Cell<u64>,
    /// It may not have; stores whose replicas were removed remember.
    pub(crate) by_the_removed: Cell<u64>,
    /// The change was under way, and the majority lost.
    pub(crate) amid_a_change: Cell<u64>,
    /// Power failed before the new membership of the one that went on was durable.
    pub(crate) undone: Cell<u64>,
    /// A majority lived.
    pub(crate) spared: Cell<u64>,
}

fn count(of: &Cell<u64>) {
    of.set(of.get() + 1);
}

fn start(seed: u64) -> Result<World, Violation> {
    // Without schedulers: only what is asked for changes members.
    let mut setup = Setup::new(NODES as u64).seed(seed).shards(1).replicas(REPLICAS);
    setup.plan.disk.durable_us_max = DURABLE_US_MAX;
    let mut world = setup.start();
    for shard in [0, 1] {
        world.await_leader(shard)?;
    }
    Ok(world)
}

fn holders(world: &World, shard: u64) -> Vec<usize> {
    world.holders(shard).into_iter().map(node_of).collect()
}

/// One of them, which is taken out.
fn take(chance: &mut Chance, nodes: &mut Vec<usize>) -> usize {
    nodes.swap_remove(chance.below(nodes.len() as u64) as usize)
}

/// Asks for other members until the shard has taken it down.
fn change(world: &mut World, via: usize, add: &[usize], remove: &[usize]) -> Result<(), Violation> {
    let stores = |nodes: &[usize]| nodes.iter().map(|node| StoreId(*node as u64 + 1)).collect();
    let (add, remove) = (stores(add), stores(remove));
    for _ in 0..100 {
        let wish = Manage::Change {
            add: Vec::clone(&add),
            remove: Vec::clone(&remove),
        };
        let id = world.wish(via, 1, wish);
        world.wait_until("a wish is answered", 5 * SECOND, |world| world.told(id).is_some())?;
        match world.told(id) {
            // An earlier attempt may have been taken down without an answer.
            Some(ClientOutcome::Done(
                Answer::Ok | Answer::Error(CommandError::AlreadyMember | CommandError::NotAMember),
            )) => return Ok(()),
            _ => world.run_for(100 * MILLISECOND)?,
        }
    }
    panic!("the wish was never taken down")
}

/// The controller's leader and its term: what it hears is not known in another one.
fn reign(world: &World) -> Option<(usize, Term)> {
    world.leaders(0).into_iter().max_by_key(|(_, term)| *term)
}

/// What the controller's leader offers for the shard, if it can say.
fn offered(world: &World, lost: &[usize]) -> Option<LossRow> {
    let losses = world.losses(lost)?.ok()?;
    losses.into_iter().find(|loss| loss.shard.0 == 1)
}

/// Has the shard go on as it was offered, while power may fail.
fn recover(
    world: &mut World,
    chance: &mut Chance,
    (lost, recovery): (&[usize], &Recovery),
    judged: &Judged,
) -> Result<(), Violation> {
    let operator = world.client("operator");
    let ended = world.recover(operator, lost, vec![recovery.clone()])?;
    assert_eq!(ended.answer(), Some(&Answer::Ok));
    let keeper = node_of(recovery.store);
    let is_alone = |world: &World| {
        let status = world.replica(keeper, 1);
        status.is_some_and(|status| status.conf_ver >= recovery.epoch.conf_ver)
    };
    if chance.percent(70) {
        // P4: nothing may have been done by a membership that is not durable.
        world.wait_until("it goes on alone", PATIENCE_US, is_alone)?;
        world.run_for(chance.below(DURABLE_US_MAX))?;
        world.crash_power(keeper);
        world.start_node(keeper);
        world.run_for(MILLISECOND)?;
        if !is_alone(world) {
            count(&judged.undone);
        }
    }
    world.wait_until("shard 1 is led again", PATIENCE_US, |world| {
        world.followed_leader(1).is_some()
    })?;
    Ok(())
}

/// One seed.
pub(crate) fn run(seed: u64, judged: &Judged) -> Result<(), Violation> {
    let mut chance = Chance::new(seed);
    let chance = &mut chance;
    let mut world = start(seed)?;
    let mut writes = Writes::default();
    let mut old = holders(&world, 1);
    let mut free: Vec<usize> = (0..NODES).filter(|node| !old.contains(node)).collect();
    let behind = take(chance, &mut old);
    let new = [take(chance, &mut free), take(chance, &mut free)];
    let some_writes = |world: &mut World, chance: &mut Chance, writes: &mut Writes, most: u64| {
        for _ in 0..chance.below(most) {
            writes.write(world, chance);
            world.run_for(chance.below(20 * MILLISECOND))?;
        }
        Ok::<(), Violation>(())
    };
    some_writes(&mut world, chance, &mut writes, 20)?;

    let is_down = chance.percent(50);
    if is_down {
        crash(&mut world, chance, behind);
    } else {
        world.isolate(behind);
    }
    world.wait_until("the others go on", PATIENCE_US, |world| {
        [0, 1]
            .iter()
            .all(|shard| world.followed_leader(*shard).is_some_and(|node| node != behind))
    })?;
    some_writes(&mut world, chance, &mut writes, 10)?;
    change(&mut world, old[0], &new, &old)?;
    let is_complete = chance.percent(60);
    let is_heard = chance.percent(70);
    if is_complete {
        world.wait_until("the old members are gone", PATIENCE_US, |world| {
            let leader = world.leader_of(1).and_then(|node| world.replica(node, 1));
            leader.is_some_and(|status| !status.changing)
                && old.iter().all(|node| world.replica(*node, 1).is_none())
        })?;
        some_writes(&mut world, chance, &mut writes, 20)?;
        if is_heard {
            // The controller's leader hears of it.
            world.run_for(4 * SECOND)?;
        }
    } else {
        world.run_for(chance.below(400 * MILLISECOND))?;
    }

    let mut lost = new.to_vec();
    if chance.percent(40) {
        let mut any = [&old[..], &new[..]].concat();
        lost = vec![take(chance, &mut any), take(chance, &mut any)];
        if chance.percent(30) {
            lost.push(take(chance, &mut any));
        }
    }
    // The controller's shard keeps its majority.
    while !has_majority(&holders(&world, 0), &lost) {
        lost.pop();
    }
    let newest = (0..NODES)
        .filter_map(|node| world.replica(node, 1))
        .map(|status| status.conf_ver);
    let newest = newest.max().unwrap_or_default();
    let heard_by = reign(&world);
    for node in &lost {
        crash(&mut world, chance, *node);
        world.run_for(chance.below(5 * MILLISECOND))?;
    }
    lost.iter().for_each(|node| world.lose(*node));
    world.heal_network();
    if is_down {
        world.start_node(behind);
    }
    world.wait_until("the controller is led", PATIENCE_US, |world| {
        world.followed_leader(0).is_some()
    })?;
    if chance.percent(50)
        && let Some(leader) = world.leader_of(0)
    {
        // What it has heard is gone with its process.
        crash(&mut world, chance, leader);
        world.run_for(SECOND)?;
        world.start_node(leader);
    }

    let mut was_offered = false;
    report(&mut world, &lost)?;
    for _ in 0..24 {
        was_offered |= offered(&world, &lost).is_some();
        world.run_for(500 * MILLISECOND)?;
    }
    let losses = report(&mut world, &lost)?;
    let loss = losses.iter().find(|loss| loss.shard.0 == 1);
    let prober = world.client("prober");
    let serves = world
        .ask(prober, Call::put("probe", "1").within_ms(5_000))?
        .is_done();
    let acknowledged = writes.acknowledged(&world);
    let Some(loss) = loss else {
        assert!(serves, "shard 1 has lost its majority, and is not offered");
        assert!(!was_offered, "shard 1 was offered, and has its majority");
        assert!(
            present(&mut world, &acknowledged)?
                .iter()
                .all(|is_there| *is_there)
        );
        count(&judged.spared);
        return Ok(());
    };
    assert!(!serves, "shard 1 is offered, and has its majority: {loss:?}");
    let recovery = loss.recovery.as_ref().expect("one survives");
    let left = recovery.left.as_ref().expect("it has something");
    let survivors: Vec<usize> = loss.survivors.iter().map(|store| node_of(*store)).collect();
    let standing = || survivors.iter().filter_map(|node| world.replica(*node, 1));
    let certain = standing().map(|status| status.commit).max();
    assert_eq!(Some(left.commit), certain, "what is certain of shard 1");
    let conf_ver = standing().map(|status| status.conf_ver).max();
    assert_eq!(loss.conf_ver, conf_ver, "what the survivors know of the members");
    if is_complete {
        // It is said that the survivor has missed something.
        let is_known = is_heard && reign(&world) == heard_by;
        assert_eq!(survivors, [behind], "the others were erased or are lost");
        assert!(
            loss.known_conf_ver > conf_ver && (!is_known || loss.known_conf_ver == Some(newest)),
            "the members' version is {newest}: {loss:?}"
        );
        count(if is_known {
            &judged.by_the_map
        } else {
            &judged.by_the_removed
        });
    } else {
        count(&judged.amid_a_change);
    }

    let mut promised = Promised::default();
    promised.promise(&mut world, 1, node_of(recovery.store), left.commit);
    recover(&mut world, chance, (&lost, recovery), judged)?;
    check_kept(&mut world, &losses, &promised, &acknowledged, &Seen::default())?;
    assert!(world.ask(prober, Call::put("probe", "2"))?.is_done());
    world.await_equal(1, PATIENCE_US).map(|_| ())
}
