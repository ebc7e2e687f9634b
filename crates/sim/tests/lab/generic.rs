//! The labs' generic run on a replicated key-value store: clients that append and read, in three rounds of five
//! seconds, while the network and the servers fail.

use std::cell::RefCell;
use std::rc::Rc;

use quorate_sim::script::{MILLISECOND, Next, Opened};
use quorate_sim::{Call, Ended, Retry, SECOND, Setup, Violation, World};

use crate::support::{Chance, close, partitions};

/// An election timeout and more, by the settings of [`Setup`].
const TIMEOUT_US: u64 = SECOND;
/// What a client thinks between two operations.
const THINK_US: u64 = 20 * MILLISECOND;
/// What a node may take for one attempt. A client whose request or answer is lost waits that long, and a little more.
const ATTEMPT_MS: u32 = 300;
/// Shared keys, so few operations each that the checker comes to a verdict although many outcomes are unknown.
const KEYS_PER_CLIENT: u64 = 4;
/// How long the clients may take to end after the faults: a call gives up after ten seconds.
const END_US: u64 = 60 * SECOND;

/// What is left to a row.
#[derive(Clone, Copy, Default)]
pub(crate) struct Generic {
    pub(crate) clients: u64,
    pub(crate) servers: u64,
    /// NET-01.
    pub(crate) unreliable: bool,
    pub(crate) crash: bool,
    pub(crate) partition: bool,
    /// Keys are shared; judged by the checker alone.
    pub(crate) random: bool,
    /// The labs' m: log GC beyond so many bytes. None is m = -1.
    pub(crate) log_bytes: Option<u64>,
}

/// How an append ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Acknowledged,
    Unknown,
}

/// What a client did to its key.
#[derive(Default)]
struct Own {
    key: String,
    tokens: Vec<(String, Fate)>,
    refused: u64,
}

impl Own {
    /// H-05: each acknowledged token is there exactly once, in order; each unknown one at most once; nothing else.
    fn judge(&self, value: &[u8]) {
        let text = String::from_utf8(value.to_vec()).expect("tokens are text");
        let (mut explained, mut last) = (0, 0);
        for (token, fate) in &self.tokens {
            let places: Vec<usize> = text.match_indices(token.as_str()).map(|(at, _)| at).collect();
            let least = usize::from(*fate == Fate::Acknowledged);
            assert!(
                (least..=1).contains(&places.len()),
                "{token} ({fate:?}) is there {} times in {text}",
                places.len()
            );
            explained += places.len() * token.len();
            if *fate == Fate::Acknowledged {
                assert!(places[0] >= last, "{token} stands before an older one in {text}");
                last = places[0];
            }
        }
        assert_eq!(explained, text.len(), "something else is there: {text}");
    }
}

enum Doing {
    Nothing,
    Creating,
    Appending(String),
    Reading,
}

/// Asked again until it is answered, and run once.
fn once(call: Call, session: &mut Opened) -> Call {
    let call = call.session(session.next_write()).retry(Retry::Always);
    call.attempt_ms(ATTEMPT_MS).within_ms(END_US / 1000 / 2)
}

/// A client with a key of its own: 50 % appends, 50 % reads that must see its own last value.
fn own_key(
    own: Rc<RefCell<Own>>,
    round: u64,
    id: u64,
    mut chance: Chance,
    mut session: Opened,
    stop: Rc<RefCell<bool>>,
) -> impl FnMut(u64, Option<&Ended>) -> Next {
    let (mut doing, mut next_token, mut keys, mut is_thinking) = (Doing::Nothing, 0, 0, false);
    move |_, ended| {
        let mut own = own.borrow_mut();
        if let Some(ended) = ended {
            match std::mem::replace(&mut doing, Doing::Nothing) {
                // A creation of unknown outcome could wipe the key later: another key then.
                Doing::Creating if !ended.is_done() => own.key.clear(),
                Doing::Appending(token) => match ended {
                    Ended::Done(_) => own.tokens.push((token, Fate::Acknowledged)),
                    Ended::Unknown(_) => own.tokens.push((token, Fate::Unknown)),
                    Ended::NotApplied(_) => own.refused += 1,
                },
                Doing::Reading => {
                    if let Some(value) = ended.bytes() {
                        own.judge(value);
                    } else {
                        assert!(!ended.is_done(), "the key of client {id} is gone");
                    }
                }
                Doing::Creating | Doing::Nothing => {}
            }
            is_thinking = true;
        }
        if std::mem::take(&mut is_thinking) {
            return Next::Sleep(THINK_US);
        }
        if *stop.borrow() {
            return Next::End;
        }
        if own.key.is_empty() {
            keys += 1;
            own.key = format!("{round}.{id}.{keys}");
            own.tokens.clear();
            doing = Doing::Creating;
            return Call::put(&own.key, "").retry(Retry::IfRefused).into();
        }
        if chance.percent(50) {
            let token = format!("x {id} {next_token} y");
            next_token += 1;
            doing = Doing::Appending(token.clone());
            once(Call::append(&own.key, token), &mut session).into()
        } else {
            doing = Doing::Reading;
            Call::get(&own.key).attempt_ms(ATTEMPT_MS).into()
        }
    }
}

/// A client of shared keys: 50 % appends, 5 % puts, the rest reads.
fn shared_keys(
    id: u64,
    keys: u64,
    mut chance: Chance,
    mut session: Opened,
    stop: Rc<RefCell<bool>>,
) -> impl FnMut(u64, Option<&Ended>) -> Next {
    let (mut next_token, mut is_thinking) = (0, false);
    move |_, ended| {
        is_thinking |= ended.is_some();
        if std::mem::take(&mut is_thinking) {
            return Next::Sleep(THINK_US);
        }
        if *stop.borrow() {
            return Next::End;
        }
        let key = format!("shared {}", chance.below(keys));
        next_token += 1;
        match chance.below(100) {
            0..50 => once(Call::append(key, format!("x {id} {next_token} y")), &mut session).into(),
            50..55 => Call::put(key, format!("w {id} {next_token}"))
                .retry(Retry::IfRefused)
                .into(),
            _ => Call::get(key).attempt_ms(ATTEMPT_MS).into(),
        }
    }
}

impl Generic {
    /// Runs it.
    pub(crate) fn run(self, seed: u64) -> Result<(), Violation> {
        let mut chance = Chance::new(seed);
        let mut setup = Setup::new(self.servers).seed(seed);
        if self.unreliable {
            setup = setup.unreliable();
        }
        if let Some(bytes) = self.log_bytes {
            setup = setup.log_bytes(bytes);
        }
        let mut world = setup.start();
        world.await_leader(1)?;
        let owns: Vec<Rc<RefCell<Own>>> = (0..self.clients).map(|_| Rc::default()).collect();
        for round in 0..3 {
            let stop = Rc::new(RefCell::new(false));
            for (id, own) in owns.iter().enumerate() {
                let (name, id) = (format!("client {round}.{id}"), id as u64);
                let session = world.open_session();
                let own_chance = Chance::new(seed ^ (round << 32) ^ (id << 16));
                own.borrow_mut().key.clear();
                if self.random {
                    let id = round * self.clients + id;
                    let keys = KEYS_PER_CLIENT * self.clients;
                    world.spawn(name, shared_keys(id, keys, own_chance, session, stop.clone()));
                } else {
                    world.spawn(
                        name,
                        own_key(own.clone(), round, id, own_chance, session, stop.clone()),
                    );
                }
            }
            self.faults(&mut world, &mut chance)?;
            *stop.borrow_mut() = true;
            world.finish_programs(END_US)?;
            self.check_round(&mut world, &owns)?;
        }
        let done = world
            .history()
            .iter()
            .filter(|operation| matches!(&operation.ended, Some((_, Ended::Done(_)))));
        let done = done.count() as u64;
        assert!(done >= 15 * self.clients, "only {done} operations were answered");
        close(world)
    }

    fn faults(self, world: &mut World, chance: &mut Chance) -> Result<(), Violation> {
        if self.partition {
            partitions(world, chance, SECOND, (SECOND, 6 * SECOND / 5))?;
            world.run_for(TIMEOUT_US)?;
        } else {
            world.run_for(5 * SECOND)?;
        }
        if self.crash {
            world.crash_all();
            world.run_for(TIMEOUT_US)?;
            world.start_all();
        }
        Ok(())
    }

    fn check_round(self, world: &mut World, owns: &[Rc<RefCell<Own>>]) -> Result<(), Violation> {
        let reader = world.client("reader");
        for own in owns.iter().filter(|own| !own.borrow().key.is_empty()) {
            let own = own.borrow();
            let ended = world.ask(reader, Call::get(&own.key).within_ms(60_000))?;
            let value = ended.bytes().unwrap_or_else(|| panic!("{}: {ended:?}", own.key));
            own.judge(value);
        }
        check_log(world, self.log_bytes);
        Ok(())
    }
}

/// With m, no replica's persisted Raft state is larger than 8 m; without, no snapshot exists.
pub(crate) fn check_log(world: &World, log_bytes: Option<u64>) {
    for node in 0..world.node_count() {
        let Some((bytes, entries)) = world.log_kept(node, 1) else {
            continue;
        };
        if let Some(m) = log_bytes {
            assert!(
                bytes <= 8 * m,
                "node {} keeps {bytes} bytes in {entries} entries, more than 8 x {m}",
                node + 1
            );
        }
    }
    if log_bytes.is_none() {
        assert_eq!(world.counts().snapshots, 0, "snapshots although no log was cut");
    }
}
