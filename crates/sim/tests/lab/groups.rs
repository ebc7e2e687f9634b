//! What the rows S share: a cluster of groups that join and leave, and clients that know what each key is to hold.
//!
//! Stores 1 to 3 hold the controller and are in no group once a row has begun; stores 4 to 6 are group 0 of the rows, 7
//! to 9 group 1, and so on. Nobody moves a shard by hand: the config says where it is to be, the schedulers do the rest.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use quorate_controller::DEFAULT_GROUP;
use quorate_proto::{
    Answer, Config, ControlCommand, ControlQuery, ForwardBody, GroupId, Op, PlacementCommand, Query,
    decode_config,
};
use quorate_sim::script::{ClientId, MILLISECOND, Next, Opened};
use quorate_sim::{Call, Ended, Retry, SECOND, Setup, Violation, World};
use quorate_storage::StoreId;
use quorate_store::kv;

use crate::support::{Chance, close};

pub(crate) const SHARDS: u16 = 10;
/// The nodes that hold the controller.
pub(crate) const CONTROLLERS: [usize; 3] = [0, 1, 2];
/// How long the schedulers may take to carry every shard to its group.
const CARRY_US: u64 = 60 * SECOND;

pub(crate) fn group(nth: u64) -> GroupId {
    GroupId(DEFAULT_GROUP.0 + nth)
}

pub(crate) fn nodes_of(nth: u64) -> [usize; 3] {
    [0, 1, 2].map(|at| 3 + 3 * nth as usize + at)
}

pub(crate) fn joined(nth: &[u64]) -> PlacementCommand {
    let stores = |nth| nodes_of(nth).map(|node| StoreId(node as u64 + 1));
    let groups = nth.iter().map(|nth| (group(*nth), BTreeSet::from(stores(*nth))));
    PlacementCommand::Join(groups.collect())
}

pub(crate) fn left(nth: &[u64]) -> PlacementCommand {
    PlacementCommand::Leave(nth.iter().map(|nth| group(*nth)).collect())
}

/// A command for the controller, under a session of its own.
pub(crate) fn command(world: &mut World, command: PlacementCommand) -> Call {
    let command = Op::Control(Box::new(ControlCommand::Place(command)));
    let session = world.open_session().write(1, 1);
    let call = Call::new(b"", ForwardBody::Write(command)).to_shard(0);
    call.session(session).retry(Retry::Always).within_ms(60_000)
}

/// A cluster of so many groups, of which group 0 has all shards at first.
pub(crate) struct Groups {
    pub(crate) world: World,
    pub(crate) operator: ClientId,
}

impl Groups {
    pub(crate) fn start(
        count: u64,
        seed: u64,
        setup: impl FnOnce(Setup) -> Setup,
    ) -> Result<Self, Violation> {
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
    pub(crate) fn place(&mut self, placement: PlacementCommand) -> Result<u64, Violation> {
        let call = command(&mut self.world, placement);
        match self.world.ask(self.operator, call)? {
            Ended::Done(Answer::Int(num)) => Ok(num as u64),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn join(&mut self, nth: &[u64]) -> Result<u64, Violation> {
        self.place(joined(nth))
    }

    pub(crate) fn leave(&mut self, nth: &[u64]) -> Result<u64, Violation> {
        self.place(left(nth))
    }

    /// A config, as a client gets it; -1 for the newest.
    pub(crate) fn config(&mut self, num: i64) -> Result<Config, Violation> {
        let query = Query::Control(ControlQuery::Config { num });
        let call = Call::new(b"", ForwardBody::Read(query)).to_shard(0);
        match self.world.ask(self.operator, call.within_ms(60_000))? {
            Ended::Done(Answer::Bulk(bytes)) => Ok(decode_config(&bytes).expect("a config")),
            other => panic!("{other:?}"),
        }
    }

    /// Which group is to have each shard.
    pub(crate) fn intended(&mut self) -> Result<BTreeMap<u64, GroupId>, Violation> {
        let config = self.config(-1)?;
        let shards = config.shards.iter();
        let owned = shards.filter_map(|(shard, place)| Some((shard.0, place.group?)));
        let owned: BTreeMap<u64, GroupId> = owned.collect();
        assert_eq!(owned.len(), usize::from(SHARDS), "every shard has a group");
        Ok(owned)
    }

    /// The shards that are to be in a group.
    pub(crate) fn shards_of(&mut self, nth: u64) -> Result<Vec<u16>, Violation> {
        let intended = self.intended()?.into_iter();
        let own = intended.filter(|(_, owner)| *owner == group(nth));
        Ok(own.map(|(shard, _)| shard as u16).collect())
    }

    /// Lets time pass until every shard is held by its group alone. Returns how long it took.
    pub(crate) fn await_carried(&mut self) -> Result<u64, Violation> {
        let all: Vec<u16> = (1..=SHARDS).collect();
        self.await_carried_of(&all)
    }

    /// The same of some of the shards.
    pub(crate) fn await_carried_of(&mut self, shards: &[u16]) -> Result<u64, Violation> {
        let mut intended = self.intended()?;
        intended.retain(|shard, _| shards.contains(&(*shard as u16)));
        let lacks = |world: &World| -> Vec<u64> {
            let stays =
                |(shard, owner): &(&u64, &GroupId)| !is_held_by(world, **shard, owner.0 - DEFAULT_GROUP.0);
            let lacks = intended.iter().filter(stays);
            lacks.map(|(shard, _)| *shard).collect()
        };
        let took_us = self
            .world
            .wait_until("the shards get to their groups", CARRY_US, |world| {
                lacks(world).is_empty()
            });
        if took_us.is_err() {
            let lacks = lacks(&self.world);
            let nodes = 0..self.world.node_count();
            let counters = nodes.filter_map(|node| self.world.counters(node));
            let tallies: Vec<_> = counters
                .map(|counters| (counters.operators, counters.orders_taken, counters.orders_void))
                .filter(|counters| counters.0 != quorate_store::rsm::Tally::default())
                .collect();
            println!("shards {lacks:?} of {intended:?} are elsewhere; {tallies:?}");
        }
        took_us
    }

    pub(crate) fn stop(&mut self, nth: u64) {
        nodes_of(nth).into_iter().for_each(|node| self.world.crash(node));
    }

    pub(crate) fn restart(&mut self, nth: u64) {
        nodes_of(nth)
            .into_iter()
            .for_each(|node| self.world.start_node(node));
    }

    /// The controller's leader is cut off, or its process or machine dies; then another one leads.
    pub(crate) fn lose_controller(&mut self, chance: &mut Chance) -> Result<usize, Violation> {
        let leader = self.world.await_leader(0)?;
        match chance.below(3) {
            0 => self.world.isolate(leader),
            1 => self.world.crash(leader),
            _ => self.world.crash_power(leader),
        }
        self.await_successor(leader)?;
        Ok(leader)
    }

    pub(crate) fn await_successor(&mut self, of: usize) -> Result<(), Violation> {
        self.world
            .wait_until("another one leads the controller", 20 * SECOND, |world| {
                world.followed_leader(0).is_some_and(|leader| leader != of)
            })?;
        Ok(())
    }

    pub(crate) fn bring_back(&mut self, node: usize) {
        self.world.rejoin(node);
        self.world.start_node(node);
    }

    /// Ends the row: the clients stop, what they appended is there, and the cluster is whole.
    pub(crate) fn end(mut self, stop: &Stop, appenders: &[Appender]) -> Result<(), Violation> {
        stop.set(true);
        self.world.finish_programs(120 * SECOND)?;
        for appender in appenders {
            appender.check(&mut self)?;
        }
        close(self.world)
    }
}

/// Whether a shard is held by all stores of a group and no other, and nothing is under way.
fn is_held_by(world: &World, shard: u64, nth: u64) -> bool {
    let nodes = nodes_of(nth);
    let leader = world.leader_of(shard);
    let is_at_rest = leader
        .and_then(|leader| world.replica(leader, shard))
        .is_some_and(|status| !status.changing);
    let holders: BTreeSet<StoreId> = world.holders(shard).into_iter().collect();
    let wanted: BTreeSet<StoreId> = nodes.iter().map(|node| StoreId(*node as u64 + 1)).collect();
    let stands = |node: usize| world.replica(node, shard).map(|status| status.changing);
    let mut all = 0..world.node_count();
    is_at_rest
        && holders == wanted
        && all.all(|node| match stands(node) {
            Some(is_changing) => nodes.contains(&node) && !is_changing,
            None => !nodes.contains(&node),
        })
}

/// A key on a shard: the part in braces decides.
pub(crate) fn key_of(shard: u16, name: impl std::fmt::Display) -> String {
    let bound = |shard: u16| u32::from(shard) * u32::from(quorate_store::SLOTS) / u32::from(SHARDS);
    let slots = bound(shard - 1)..bound(shard);
    let mut tags = (0..).map(|n: u32| format!("{{t{n}}}"));
    let tag = tags.find(|tag| slots.contains(&u32::from(kv::slot_of(tag.as_bytes()))));
    format!("{} {name}", tag.expect("every slot has a tag"))
}

pub(crate) fn all_shards() -> Vec<u16> {
    (1..=SHARDS).collect()
}

/// A client with keys on every shard, which knows what each is to hold.
pub(crate) struct Book {
    client: ClientId,
    session: Opened,
    appended: u64,
    values: BTreeMap<(u16, u64), String>,
}

impl Book {
    /// Gives each shard so many keys.
    pub(crate) fn open(groups: &mut Groups, keys: u64, value: &str) -> Result<Self, Violation> {
        let mut book = Self {
            client: groups.world.client("book"),
            session: groups.world.open_session(),
            appended: 0,
            values: BTreeMap::new(),
        };
        for shard in 1..=SHARDS {
            for nth in 0..keys {
                let value = format!("{value}{shard}.{nth};");
                book.values.insert((shard, nth), value.clone());
                let call = Call::put(key_of(shard, nth), value);
                book.write(groups, call)?;
            }
        }
        Ok(book)
    }

    pub(crate) fn client(&self) -> ClientId {
        self.client
    }

    fn write(&mut self, groups: &mut Groups, call: Call) -> Result<(), Violation> {
        let call = call.session(self.session.next_write()).retry(Retry::Always);
        let ended = groups
            .world
            .ask(self.client, call.attempt_ms(500).within_ms(60_000))?;
        assert!(ended.is_done(), "{ended:?}");
        Ok(())
    }

    /// Appends to every key on these shards.
    pub(crate) fn append(&mut self, groups: &mut Groups, shards: &[u16]) -> Result<(), Violation> {
        let keys: Vec<(u16, u64)> = self.values.keys().copied().collect();
        for (shard, nth) in keys.into_iter().filter(|(shard, _)| shards.contains(shard)) {
            self.appended += 1;
            let token = format!("+{}", self.appended);
            if let Some(value) = self.values.get_mut(&(shard, nth)) {
                value.push_str(&token);
            }
            self.write(groups, Call::append(key_of(shard, nth), token))?;
        }
        Ok(())
    }

    /// Every key on these shards holds what it is to hold, each said within the time given.
    pub(crate) fn check(&self, groups: &mut Groups, shards: &[u16], within_ms: u64) -> Result<(), Violation> {
        let asked = self
            .values
            .iter()
            .filter(|((shard, _), _)| shards.contains(shard));
        let calls: Vec<_> = asked
            .map(|((shard, nth), value)| {
                let call = Call::get(key_of(*shard, nth))
                    .attempt_ms(500)
                    .within_ms(within_ms);
                (shard, nth, value, groups.world.begin(self.client, call))
            })
            .collect();
        for (shard, nth, value, call) in calls {
            let ended = groups.world.finish(call)?;
            assert_eq!(
                ended.bytes(),
                Some(value.as_bytes()),
                "shard {shard}, key {nth}: {ended:?}"
            );
        }
        Ok(())
    }

    /// Checks every key, appends to it, and checks it again.
    pub(crate) fn turn(&mut self, groups: &mut Groups) -> Result<(), Violation> {
        self.check(groups, &all_shards(), 60_000)?;
        self.append(groups, &all_shards())?;
        self.check(groups, &all_shards(), 60_000)
    }
}

/// Tells programs to end.
pub(crate) type Stop = Rc<Cell<bool>>;

fn shard_of(number: u64) -> u16 {
    1 + (number % u64::from(SHARDS)) as u16
}

fn token(client: u64, number: u64) -> String {
    format!("x {client} {number} y;")
}

/// A client that appends to keys of its own, on each shard in turn, each append until it is answered.
pub(crate) struct Appender {
    id: u64,
    pub(crate) done: Rc<Cell<u64>>,
}

impl Appender {
    /// Each of its tokens is there once, in order (H-05).
    pub(crate) fn check(&self, groups: &mut Groups) -> Result<(), Violation> {
        let reader = groups.world.client("reader");
        for shard in 1..=SHARDS {
            let key = key_of(shard, self.id);
            let ended = groups.world.ask(reader, Call::get(&key).within_ms(60_000))?;
            let found = String::from_utf8_lossy(ended.bytes().unwrap_or_default()).into_owned();
            let numbers = (1..=self.done.get()).filter(|n| shard_of(*n) == shard);
            let wanted: String = numbers.map(|n| token(self.id, n)).collect();
            assert_eq!(found, wanted, "{key}");
        }
        Ok(())
    }
}

fn appender(world: &mut World, id: u64, stop: &Stop) -> Appender {
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
            return Next::Sleep(20 * MILLISECOND);
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

pub(crate) fn appenders(world: &mut World, count: u64, stop: &Stop) -> Vec<Appender> {
    (0..count).map(|id| appender(world, id, stop)).collect()
}

/// Clients that read, set and append to keys that they share, five on each shard; judged by the checker alone (H-06).
pub(crate) fn sharers(world: &mut World, seed: u64, count: u64, think_us: u64, stop: &Stop) {
    let keys: Rc<Vec<String>> = Rc::new(
        (1..=SHARDS)
            .flat_map(|shard| (0..5).map(move |nth| key_of(shard, format!("shared {nth}"))))
            .collect(),
    );
    for id in 0..count {
        let (keys, stop) = (keys.clone(), stop.clone());
        let mut session = world.open_session();
        let mut chance = Chance::new(seed << 8 | id);
        let (mut number, mut is_resting) = (0, false);
        world.spawn(format!("sharer {id}"), move |_, ended: Option<&Ended>| {
            if let Some(ended) = ended {
                assert!(ended.is_done(), "{ended:?}");
                is_resting = true;
            }
            if std::mem::take(&mut is_resting) {
                return Next::Sleep(think_us);
            }
            if stop.get() {
                return Next::End;
            }
            number += 1;
            let key = &keys[chance.below(keys.len() as u64) as usize];
            let value = format!("{id}.{number};");
            let call = match chance.below(4) {
                0 => Call::put(key, value).session(session.next_write()),
                1 => Call::append(key, value).session(session.next_write()),
                _ => Call::get(key),
            };
            call.retry(Retry::Always)
                .attempt_ms(500)
                .within_ms(120_000)
                .into()
        });
    }
}
