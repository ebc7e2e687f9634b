//! `ctl`: who holds which shard, and who is to hold it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use quorate_server::json;
use serde_json::{Map, Value, json};

use crate::cli::Failure;
use crate::client::Reply;
use crate::kv::{Effect, Target, ask, unexpected};

mod find;
mod place;
mod recover;
mod table;

use table::print;

/// How long to wait for the controller's map to show what is done.
const MAP_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at a change under way.
const LOOK: Duration = Duration::from_millis(200);

/// `ctl …`
#[derive(Args, Debug)]
pub struct CtlArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// List the shards as the controller knows them: slots, leader, stores, what is under way, size
    Shards(find::Shards),
    /// List the stores as the controller knows them: whether they are up, addresses, how much they hold and lead
    Stores {
        /// Only this one
        store: Option<u64>,
    },
    #[command(flatten)]
    Place(place::Place),
    /// Move all that a store holds to others, and give it nothing more; it goes on serving meanwhile
    Drain {
        /// The store's id
        store: u64,
    },
    /// Let a store that was to be drained hold shards again
    Undrain {
        /// The store's id
        store: u64,
    },
    /// Take a store that is draining out of the cluster, as soon as it holds nothing; its id is gone for good
    Remove {
        /// The store's id
        store: u64,
        #[command(flatten)]
        wait: Wait,
    },
    /// Go on without stores that are gone for ever, also with shards that have lost their majority with them
    Recover(recover::Recover),
    /// Take timestamps: numbers that are unique and rise, whoever asks. Prints the first
    Tso {
        /// How many, one after the other: 1 to 262144
        #[arg(default_value_t = 1)]
        count: u32,
    },
    /// Let a shard be led by another of its stores
    Transfer {
        /// The shard's id
        shard: u64,
        /// The store's id
        store: u64,
    },
    /// Split a shard in two, while it serves
    Split {
        /// The shard's id
        shard: u64,
        /// The first slot of the new shard; without it, about half of the data goes there
        #[arg(long)]
        slot: Option<u16>,
    },
    /// Change which stores hold a shard, while it serves
    #[command(subcommand)]
    Replica(Replica),
}

#[derive(Subcommand, Debug)]
enum Replica {
    /// Let stores hold a shard that do not
    Add {
        /// The shard's id
        shard: u64,
        /// The stores' ids
        #[arg(required = true)]
        stores: Vec<u64>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Remove a shard from stores that hold it
    Remove {
        /// The shard's id
        shard: u64,
        /// The stores' ids
        #[arg(required = true)]
        stores: Vec<u64>,
        #[command(flatten)]
        wait: Wait,
    },
    /// Move a shard from one store to another
    Move {
        /// The shard's id
        shard: u64,
        /// The store that holds it
        from: u64,
        /// The store that is to hold it
        to: u64,
        #[command(flatten)]
        wait: Wait,
    },
    /// Turn the change under way round
    Abort {
        /// The shard's id
        shard: u64,
    },
}

#[derive(Args, Clone, Copy, Debug)]
struct Wait {
    /// Seconds to wait until the change has come about; 0: do not wait
    #[arg(long = "wait", default_value_t = 60, value_name = "S")]
    seconds: u64,
}

/// Runs it.
pub fn run(args: CtlArgs) -> Result<(), Failure> {
    let CtlArgs {
        target,
        json,
        command,
    } = args;
    match command {
        Command::Shards(which) if which.is_all() => print(shards(&target)?, json),
        Command::Shards(which) => print(find::shards(&target, &which)?, json),
        Command::Stores { store: None } => print(stores(&target)?, json),
        Command::Stores { store: Some(store) } => print(find::store(&target, store)?, json),
        Command::Place(place) => place::run(&target, place, json),
        Command::Drain { store } => service(&target, "DRAIN", store, json, "draining"),
        Command::Undrain { store } => service(&target, "UNDRAIN", store, json, "active"),
        Command::Remove { store, wait } => {
            let is_emptied = || service(&target, "REMOVE", store, json, "removed");
            until_not_busy(wait, is_emptied)
        }
        Command::Recover(args) => recover::run(&target, &args, json),
        Command::Tso { count } => timestamps(&target, count, json),
        Command::Transfer { shard, store } => {
            wish(&target, &["TRANSFER", &shard.to_string(), &store.to_string()])?;
            said(json, shard, "the leader hands over");
            Ok(())
        }
        Command::Split { shard, slot } => {
            let (shard_text, slot) = (shard.to_string(), slot.map(|slot| slot.to_string()));
            let words = ["SPLIT", &shard_text].into_iter().chain(slot.as_deref());
            let before = version(&mapped(&target), shard);
            wish(&target, &words.collect::<Vec<_>>())?;
            // What is listed next is to show it.
            let deadline = Instant::now() + MAP_PATIENCE;
            while Instant::now() < deadline {
                let rows = mapped(&target);
                if version(&rows, shard) > before && unheard(&rows) == 0 {
                    break;
                }
                std::thread::sleep(LOOK);
            }
            said(json, shard, "split");
            Ok(())
        }
        Command::Replica(Replica::Abort { shard }) => {
            wish(&target, &["REPLICA", "ABORT", &shard.to_string()])?;
            said(json, shard, "the change is turned round");
            Ok(())
        }
        Command::Replica(Replica::Add { shard, stores, wait }) => {
            change(&target, "ADD", shard, &stores, (&stores, &[]), wait, json)
        }
        Command::Replica(Replica::Remove { shard, stores, wait }) => {
            change(&target, "REMOVE", shard, &stores, (&[], &stores), wait, json)
        }
        Command::Replica(Replica::Move {
            shard,
            from,
            to,
            wait,
        }) => change(&target, "MOVE", shard, &[from, to], (&[to], &[from]), wait, json),
    }
}

/// Asks again while the answer is that it cannot be done yet.
fn until_not_busy(wait: Wait, mut ask: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let deadline = Instant::now() + Duration::from_secs(wait.seconds);
    loop {
        match ask() {
            Err(failure) if failure.message.contains("BUSY") && Instant::now() < deadline => {
                std::thread::sleep(LOOK);
            }
            said => return said,
        }
    }
}

fn timestamps(target: &Target, count: u32, json: bool) -> Result<(), Failure> {
    // Asked again, it takes others.
    match ask(
        target,
        Effect::Read,
        &[b"QUORATE", b"TSO", count.to_string().as_bytes()],
    )? {
        Reply::Int(first) if json => println!("{}", json!({ "first": first, "count": count })),
        Reply::Int(first) => println!("{first}"),
        other => return Err(unexpected(&other)),
    }
    Ok(())
}

fn service(target: &Target, verb: &str, store: u64, json: bool, becomes: &str) -> Result<(), Failure> {
    place::patiently(|| wish(target, &["STORE", verb, &store.to_string()]))?;
    if json {
        println!("{}", json!({ "store": store, "service": becomes }));
    } else {
        println!("store {store}: {becomes}");
    }
    Ok(())
}

/// The shards by the controller's word; by the node's own if the controller does not answer.
fn shards(target: &Target) -> Result<Vec<Map<String, Value>>, Failure> {
    match rows(target, b"MAP") {
        Ok(rows) => {
            let unheard = unheard(&rows);
            if unheard > 0 {
                eprintln!(
                    "quorate: the controller has not heard of {unheard} slots since its leader was elected, or their \
                     shards were split"
                );
            }
            Ok(rows)
        }
        Err(failure) => nodes_own(target, b"SHARDS", &failure),
    }
}

/// Slots that are in none of these shards.
fn unheard(rows: &[Map<String, Value>]) -> u64 {
    let slots = rows.iter().filter_map(|row| {
        let (first, last) = (row["first-slot"].as_u64()?, row["last-slot"].as_u64()?);
        Some(last + 1 - first)
    });
    16384_u64.saturating_sub(slots.sum())
}

/// The stores by the controller's word; by the node's own if the controller does not answer.
fn stores(target: &Target) -> Result<Vec<Map<String, Value>>, Failure> {
    rows(target, b"REGISTRY").or_else(|failure| nodes_own(target, b"STORES", &failure))
}

/// What the node knows itself, and that it is only that.
fn nodes_own(target: &Target, what: &[u8], failure: &Failure) -> Result<Vec<Map<String, Value>>, Failure> {
    eprintln!(
        "quorate: the controller does not answer, this is what the node knows: {}",
        failure.message
    );
    rows(target, what)
}

/// The controller's map; empty if it does not answer.
fn mapped(target: &Target) -> Vec<Map<String, Value>> {
    rows(target, b"MAP").unwrap_or_default()
}

fn version(rows: &[Map<String, Value>], shard: u64) -> Option<u64> {
    row_of(rows, shard)?["version"].as_u64()
}

fn row_of(rows: &[Map<String, Value>], shard: u64) -> Option<&Map<String, Value>> {
    rows.iter().find(|row| row["shard"] == json!(shard))
}

/// Asks for a change and waits until the stores that hold the shard are those that are wanted, and all of them vote.
fn change(
    target: &Target,
    verb: &str,
    shard: u64,
    stores: &[u64],
    (add, remove): (&[u64], &[u64]),
    wait: Wait,
    json: bool,
) -> Result<(), Failure> {
    let mut wanted = held(target, shard)?;
    let shard_text = shard.to_string();
    let texts: Vec<String> = stores.iter().map(u64::to_string).collect();
    let mut words = vec!["REPLICA", verb, &shard_text];
    words.extend(texts.iter().map(String::as_str));
    wish(target, &words)?;
    let (Some(wanted), true) = (wanted.as_mut(), wait.seconds > 0) else {
        said(json, shard, "the shard has taken it down");
        return Ok(());
    };
    wanted.extend(add);
    wanted.retain(|store| !remove.contains(store));
    let deadline = Instant::now() + Duration::from_secs(wait.seconds);
    let mut unlisted_since = None;
    loop {
        let map = mapped(target);
        let is_done = match row_of(&map, shard) {
            Some(row) => {
                unlisted_since = None;
                stores_of(&map, shard).as_ref() == Some(wanted) && is_settled(row)
            }
            // Nobody leads the controller, and the node knows who holds the shard and not who votes: better than nothing.
            None => {
                let since = *unlisted_since.get_or_insert_with(Instant::now);
                since.elapsed() >= MAP_PATIENCE && held(target, shard)?.as_ref() == Some(wanted)
            }
        };
        if is_done {
            said(json, shard, "done");
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(format!(
                "shard {shard} is not where it is wanted after {} s; it goes on, unless new stores were away for too long \
                 and the change was turned round: see `quorate ctl shards`",
                wait.seconds
            )));
        }
        std::thread::sleep(LOOK);
    }
}

/// Whether all that hold a shard vote, and in one configuration: no change is under way.
fn is_settled(row: &Map<String, Value>) -> bool {
    let is_empty = |field: &str| row[field].as_array().is_some_and(Vec::is_empty);
    is_empty("learners") && is_empty("joint")
}

/// The stores that hold a shard, by the node's own word; none if it does not list it, as shard 0.
fn held(target: &Target, shard: u64) -> Result<Option<BTreeSet<u64>>, Failure> {
    Ok(stores_of(&rows(target, b"SHARDS")?, shard))
}

fn stores_of(rows: &[Map<String, Value>], shard: u64) -> Option<BTreeSet<u64>> {
    let stores = row_of(rows, shard)?["stores"].as_array().into_iter().flatten();
    Some(stores.filter_map(Value::as_u64).collect())
}

fn wish(target: &Target, words: &[&str]) -> Result<(), Failure> {
    let mut command: Vec<&[u8]> = vec![b"QUORATE"];
    command.extend(words.iter().map(|word| word.as_bytes()));
    match ask(target, Effect::Write, &command)? {
        Reply::Simple(_) => Ok(()),
        other => Err(unexpected(&other)),
    }
}

fn said(json: bool, shard: u64, what: &str) {
    if json {
        println!("{}", json!({ "shard": shard, "result": what }));
    } else {
        println!("shard {shard}: {what}");
    }
}

/// The maps that a node lists.
fn rows(target: &Target, what: &[u8]) -> Result<Vec<Map<String, Value>>, Failure> {
    let reply = ask(target, Effect::Read, &[b"QUORATE", what])?;
    json::rows(&reply).ok_or_else(|| unexpected(&reply))
}
