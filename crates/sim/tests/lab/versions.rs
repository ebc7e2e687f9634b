//! Rows of the labs' key-value server that is one machine: exactly once (K-23), puts that name the version they replace
//! (K-25), and locks built on those (K-26). A version is the value that was read, so a put that names a version is a
//! CAS. The rows with more than one server have their leader killed as well.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use quorate_proto::{Answer, ForwardBody, Op, SetExpiry};
use quorate_sim::script::{MILLISECOND, Next};
use quorate_sim::{Call, Ended, Retry, SECOND, Setup, Violation, World};

use crate::support::{CLUSTER_SEEDS, Chance, close, row};

const KEY: &str = "k";
/// How long the clients of K-25 and K-26 work.
const WORK_US: u64 = 2 * SECOND;

fn compare_and_set(key: &str, expected: &str, value: &str) -> Call {
    let [key, expected, value] = [key, expected, value].map(|text| Bytes::copy_from_slice(text.as_bytes()));
    let op = Op::CompareAndSet {
        key: key.clone(),
        expected,
        value,
        expiry: SetExpiry::Clear,
    };
    Call::new(&key, ForwardBody::Write(op))
        .within_ms(60_000)
        .attempt_ms(300)
}

fn int(ended: &Ended) -> Option<i64> {
    match ended.answer() {
        Some(Answer::Int(number)) => Some(*number),
        _ => None,
    }
}

fn text(ended: &Ended) -> String {
    String::from_utf8(ended.bytes().expect("the key is there").to_vec()).expect("it is text")
}

/// One server or three, with a reliable network or NET-01.
fn worlds(id: &str, run: impl Fn(&mut World, &mut Chance) -> Result<(), Violation>) {
    row(id, CLUSTER_SEEDS, |seed| {
        for (servers, unreliable) in [(1, false), (1, true), (3, true)] {
            let setup = Setup::new(servers).seed(seed);
            let mut world = if unreliable { setup.unreliable() } else { setup }.start();
            world.await_leader(1)?;
            run(&mut world, &mut Chance::new(seed))?;
            close(world)?;
        }
        Ok(())
    });
}

/// Lets the clients work; of three servers one that leads dies meanwhile and comes back.
fn work(world: &mut World, chance: &mut Chance) -> Result<(), Violation> {
    if world.node_count() > 1 {
        world.run_for(chance.range(200, 1_000) * MILLISECOND)?;
        let leader = world.await_leader(1)?;
        world.crash_power(leader);
        world.run_for(SECOND)?;
        world.start_all();
    }
    world.finish_programs(60 * SECOND)
}

#[test]
fn k_23_one_server_runs_each_append_once() {
    worlds("k_23_one_server_runs_each_append_once", |world, chance| {
        let values: Rc<RefCell<Vec<String>>> = Rc::default();
        for id in 0..5 {
            let (mut session, values) = (world.open_session(), values.clone());
            let (mut own, mut sent) = (String::new(), 0);
            values.borrow_mut().push(String::new());
            world.spawn(format!("client {id}"), move |_: u64, ended: Option<&Ended>| {
                // Its own key and the shared one in turn; the length of its own tells that nothing ran twice.
                if let Some(ended) = ended {
                    let length = int(ended).unwrap_or_else(|| panic!("{ended:?}"));
                    assert!(sent % 2 == 0 || length == own.len() as i64, "{length} for {own}");
                }
                if sent == 40 {
                    values.borrow_mut()[id] = own.clone();
                    return Next::End;
                }
                let token = format!("x {id} {} y", sent / 2);
                let key = if sent % 2 == 0 {
                    format!("own {id}")
                } else {
                    KEY.into()
                };
                if sent % 2 == 0 {
                    own += &token;
                }
                sent += 1;
                let append = Call::append(key, token).session(session.next_write());
                append
                    .retry(Retry::Always)
                    .attempt_ms(300)
                    .within_ms(60_000)
                    .into()
            });
        }
        work(world, chance)?;
        let reader = world.client("reader");
        let shared = world.ask(reader, Call::get(KEY).within_ms(60_000))?;
        let (shared, mut explained) = (text(&shared), 0);
        for (id, own) in values.borrow().iter().enumerate() {
            let found = world.ask(reader, Call::get(format!("own {id}")).within_ms(60_000))?;
            assert_eq!(text(&found), *own, "client {id}");
            let mut last = 0;
            for n in 0..20 {
                let token = format!("x {id} {n} y");
                let places: Vec<usize> = shared.match_indices(&token).map(|(at, _)| at).collect();
                assert!(places.len() == 1 && places[0] >= last, "{token} in {shared}");
                (last, explained) = (places[0], explained + token.len());
            }
        }
        assert_eq!(explained, shared.len(), "something else is there: {shared}");
        Ok(())
    });
}

/// A stale version is rejected, and a missing key told apart from it.
#[test]
fn k_25_stale_versions_and_missing_keys_are_told_apart() {
    worlds(
        "k_25_stale_versions_and_missing_keys_are_told_apart",
        |world, _| {
            let client = world.client("a");
            let mut session = world.open_session();
            let mut put = |world: &mut World, expected: &str, value: &str| {
                let call = compare_and_set(KEY, expected, value).session(session.next_write());
                let ended = world.ask(client, call.retry(Retry::Always))?;
                Ok::<_, Violation>(int(&ended).unwrap_or_else(|| panic!("{ended:?}")))
            };
            assert_eq!(put(world, "0", "1")?, -1, "there is no such key");
            assert!(
                world
                    .ask(client, Call::put(KEY, "0").within_ms(60_000))?
                    .is_done()
            );
            assert_eq!(put(world, "0", "1")?, 1);
            assert_eq!(put(world, "0", "2")?, 0, "the version is stale");
            assert_eq!(put(world, "1", "2")?, 1);
            let delete = Call::delete(KEY).within_ms(60_000);
            assert!(world.ask(client, delete)?.is_done());
            assert_eq!(put(world, "2", "3")?, -1);
            Ok(())
        },
    );
}

/// What the clients of K-25 count.
#[derive(Default)]
struct Count {
    swapped: u64,
    /// Refused after an attempt whose outcome its client does not know: it may have been that attempt's own value.
    maybe: u64,
    stale: u64,
}

/// Clients read the version and put the next one. Under a session every put is known to have swapped or not, whatever
/// is lost; without one only a put that was sent again may be in doubt.
#[test]
fn k_25_concurrent_puts_each_replace_one_version() {
    for once in [true, false] {
        worlds(
            "k_25_concurrent_puts_each_replace_one_version",
            |world, chance| {
                let client = world.client("first");
                assert!(
                    world
                        .ask(client, Call::put(KEY, "0").within_ms(60_000))?
                        .is_done()
                );
                let end_us = world.now_us() + WORK_US;
                let mut clients = Vec::new();
                for id in 0..10 {
                    let mut session = world.open_session();
                    let mut step = 0;
                    clients.push(world.spawn(
                        format!("client {id}"),
                        move |now_us: u64, ended: Option<&Ended>| {
                            step += 1;
                            match step % 3 {
                                1 => return Next::Sleep(5 * MILLISECOND),
                                2 if now_us >= end_us => return Next::End,
                                2 => return Call::get(KEY).within_ms(60_000).attempt_ms(300).into(),
                                _ => {}
                            }
                            let version: u64 = text(ended.expect("it has read")).parse().expect("a number");
                            let put = compare_and_set(KEY, &version.to_string(), &(version + 1).to_string());
                            let put = put.retry(Retry::Always);
                            let put = if once {
                                put.session(session.next_write())
                            } else {
                                put
                            };
                            put.into()
                        },
                    ));
                }
                work(world, chance)?;
                let mut count = Count::default();
                for operation in world.history() {
                    let is_put = matches!(&operation.body, ForwardBody::Write(Op::CompareAndSet { .. }));
                    let Some((_, ended)) = operation.ended.as_ref().filter(|_| is_put) else {
                        continue;
                    };
                    match int(ended) {
                        Some(1) => count.swapped += 1,
                        Some(0) if operation.open_attempts > 0 => count.maybe += 1,
                        Some(0) => count.stale += 1,
                        _ => panic!("{ended:?}"),
                    }
                }
                let version = world.ask(client, Call::get(KEY).within_ms(60_000))?;
                let version: u64 = text(&version).parse().expect("a number");
                println!(
                    "K-25, sessions {once}: version {version}: {} swapped, {} maybe, {} stale",
                    count.swapped, count.maybe, count.stale
                );
                assert!(count.swapped > 0 && count.stale > 0, "they did not meet");
                assert!(!once || count.maybe == 0, "a session leaves no doubt");
                assert!(
                    (count.swapped..=count.swapped + count.maybe).contains(&version),
                    "version {version}"
                );
                Ok(())
            },
        );
    }
}

/// What the clients of K-26 share: who holds the lock, and how often it was taken.
#[derive(Default)]
struct Lock {
    holder: Option<usize>,
    taken: u64,
}

#[test]
fn k_26_a_lock_never_has_two_holders() {
    for clients in [1, 10] {
        worlds("k_26_a_lock_never_has_two_holders", |world, chance| {
            let client = world.client("first");
            assert!(
                world
                    .ask(client, Call::put(KEY, "free").within_ms(60_000))?
                    .is_done()
            );
            let lock: Rc<RefCell<Lock>> = Rc::default();
            let end_us = world.now_us() + WORK_US;
            for id in 0..clients {
                let (mut session, lock) = (world.open_session(), lock.clone());
                let me = format!("client {id}");
                let mut chance = Chance::new(chance.below(u64::MAX));
                let mut state = State::Wants;
                world.spawn(me.clone(), move |now_us: u64, ended: Option<&Ended>| {
                    match state {
                        State::Asks => {
                            let swapped = ended.and_then(int).unwrap_or_else(|| panic!("{ended:?}"));
                            state = State::Wants;
                            if swapped == 1 {
                                let mut lock = lock.borrow_mut();
                                assert_eq!(lock.holder, None, "{me} has the lock as well");
                                lock.holder = Some(id);
                                lock.taken += 1;
                                state = State::Holds;
                            }
                            return Next::Sleep(chance.range(1, 20) * MILLISECOND);
                        }
                        State::Releases => {
                            assert_eq!(ended.and_then(int), Some(1), "{me} had the lock: {ended:?}");
                            state = State::Wants;
                            return Next::Sleep(chance.range(1, 20) * MILLISECOND);
                        }
                        State::Holds | State::Wants => {}
                    }
                    let (expected, value) = if matches!(state, State::Holds) {
                        assert_eq!(lock.borrow_mut().holder.take(), Some(id), "{me}");
                        state = State::Releases;
                        (me.as_str(), "free")
                    } else if now_us < end_us {
                        state = State::Asks;
                        ("free", me.as_str())
                    } else {
                        return Next::End;
                    };
                    let put = compare_and_set(KEY, expected, value).session(session.next_write());
                    put.retry(Retry::Always).into()
                });
            }
            work(world, chance)?;
            let value = world.ask(client, Call::get(KEY).within_ms(60_000))?;
            assert_eq!(text(&value), "free");
            let taken = lock.borrow().taken;
            println!("K-26, {clients} clients: taken {taken} times");
            // A lost answer costs its client half a second, of two.
            assert!(taken >= 1, "nobody got it");
            Ok(())
        });
    }
}

/// What a client of K-26 is at.
#[derive(Clone, Copy)]
enum State {
    Wants,
    Asks,
    Holds,
    Releases,
}
