//! Which group is to hold which shard: `ctl config`, `join`, `leave`, `move`, `group`, `rebalance` and `moves`.

use std::time::Instant;

use clap::{Args, Subcommand};
use quorate_server::config::HostPort;
use quorate_server::explain::{Listed, explain};
use quorate_server::json;
use serde_json::{Map, Value, json};

use super::table::{self, print};
use super::{LOOK, MAP_PATIENCE};
use crate::cli::{FAILED, Failure};
use crate::client::Reply;
use crate::kv::{Effect, Target, ask, unexpected};

/// Characters of a bar.
const BAR: u64 = 20;

#[derive(Subcommand, Debug)]
pub(super) enum Place {
    /// Print a config: its groups, and which of them is to hold which shard
    Config {
        /// The config's number, from 0; without it, the newest
        num: Option<u64>,
    },
    /// Let new groups of stores take their share of the shards
    Join {
        /// A group's id and its stores' ids or client addresses, GROUP=STORE,STORE
        #[arg(required = true, value_name = "GROUP=STORES", value_parser = group_and_stores)]
        groups: Vec<String>,
        #[command(flatten)]
        how: How,
    },
    /// Let groups go; the others share what they held
    Leave {
        /// The groups' ids
        #[arg(required = true)]
        groups: Vec<u64>,
        #[command(flatten)]
        how: How,
    },
    /// Let a group hold a shard, until the next join, leave or rebalance
    Move {
        /// The shard's id
        shard: u64,
        /// The group's id
        group: u64,
        #[command(flatten)]
        how: How,
    },
    /// Let all groups share the shards evenly again
    Rebalance {
        #[command(flatten)]
        how: How,
    },
    /// Change which stores are in a group
    #[command(subcommand)]
    Group(Group),
    /// List the shards that are not where the config wants them, or are changing: where they go, and how far they are
    Moves,
}

#[derive(Subcommand, Debug)]
pub(super) enum Group {
    /// Put stores that are in no group into one
    Add {
        /// The group's id
        group: u64,
        /// The stores' ids or client addresses
        #[arg(required = true, value_name = "STORES", value_parser = store)]
        stores: Vec<String>,
    },
    /// Take stores out of a group; they are in none afterwards, and hold nothing in the end
    Remove {
        /// The group's id
        group: u64,
        /// The stores' ids or client addresses
        #[arg(required = true, value_name = "STORES", value_parser = store)]
        stores: Vec<String>,
    },
}

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct How {
    /// List the shards that would change their group, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(target: &Target, place: Place, json: bool) -> Result<(), Failure> {
    let ids = |ids: Vec<u64>| ids.into_iter().map(|id| id.to_string());
    let (words, how): (Vec<String>, How) = match place {
        Place::Config { num } => return config(target, num, json),
        Place::Moves => return moves(target, json),
        Place::Join { groups, how } => {
            let groups = groups.iter().map(|group| with_ids(target, group));
            let groups = groups.collect::<Result<Vec<_>, _>>()?;
            (words("JOIN", groups.into_iter()), how)
        }
        Place::Leave { groups, how } => (words("LEAVE", ids(groups)), how),
        Place::Move { shard, group, how } => (words("MOVE", ids(vec![shard, group])), how),
        Place::Rebalance { how } => (words("REBALANCE", ids(Vec::new())), how),
        Place::Group(group) => {
            let (group, verb, stores) = match group {
                Group::Add { group, stores } => (group, "ADD", stores),
                Group::Remove { group, stores } => (group, "REMOVE", stores),
            };
            let mut words: Vec<String> = vec!["GROUP".into(), group.to_string(), verb.into()];
            for store in stores {
                words.push(id_of(target, &store)?);
            }
            (words, How { dry_run: false })
        }
    };
    let (verb, effect) = if how.dry_run {
        ("PLAN", Effect::Read)
    } else {
        ("PLACE", Effect::Write)
    };
    let mut all: Vec<&[u8]> = vec![b"QUORATE", verb.as_bytes()];
    all.extend(words.iter().map(String::as_bytes));
    let reply = patiently(|| ask(target, effect, &all)).map_err(|failure| named(target, failure, &words))?;
    match reply {
        reply if how.dry_run => return planned(&reply, json),
        Reply::Int(num) if json => println!("{}", json!({ "config": num })),
        Reply::Int(num) => println!("config {num}"),
        other => return Err(unexpected(&other)),
    }
    Ok(())
}

fn words(verb: &str, behind: impl Iterator<Item = String>) -> Vec<String> {
    std::iter::once(verb.to_owned()).chain(behind).collect()
}

/// Asks again while the controller's leader has not heard enough to judge.
pub(super) fn patiently<T>(mut ask: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    let deadline = Instant::now() + MAP_PATIENCE;
    loop {
        match ask() {
            Err(failure) if failure.message.contains("has not heard of all") && Instant::now() < deadline => {
                std::thread::sleep(LOOK);
            }
            said => return said,
        }
    }
}

/// A refusal with the names of what does not fit, if they can be had.
fn named(target: &Target, mut failure: Failure, words: &[String]) -> Failure {
    if failure.code == FAILED
        && let Ok(config) = config_of(target, None)
        && let Ok(stores) = super::rows(target, b"REGISTRY")
    {
        let listed = Listed {
            config: &config,
            stores: &stores,
        };
        for name in explain(words, listed) {
            failure.message += &format!("; {name}");
        }
    }
    failure
}

fn planned(reply: &Reply, json: bool) -> Result<(), Failure> {
    let rows = json::rows(reply).ok_or_else(|| unexpected(reply))?;
    if !json {
        let bytes: u64 = rows.iter().filter_map(|row| row["bytes"].as_u64()).sum();
        let is_known = rows.iter().all(|row| !row["bytes"].is_null());
        print!("{}", table::text(&rows));
        println!(
            "{} shards would move, {}{bytes} bytes; nothing was changed",
            rows.len(),
            if is_known { "" } else { "at least " }
        );
        return Ok(());
    }
    print(rows, json)
}

fn config_of(target: &Target, num: Option<u64>) -> Result<Map<String, Value>, Failure> {
    let num = num.map(|num| num.to_string());
    let mut words: Vec<&[u8]> = vec![b"QUORATE", b"CONFIG"];
    words.extend(num.as_ref().map(|num| num.as_bytes()));
    let reply = ask(target, Effect::Read, &words)?;
    json::row(&reply).ok_or_else(|| unexpected(&reply))
}

fn config(target: &Target, num: Option<u64>, json: bool) -> Result<(), Failure> {
    let config = config_of(target, num)?;
    if json {
        println!("{:#}", Value::Object(config));
        return Ok(());
    }
    println!("config {}", config["config"]);
    for part in ["groups", "shards"] {
        let rows: Vec<Map<String, Value>> = config[part]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|row| row.as_object().cloned())
            .collect();
        let text = table::text(&rows);
        print!(
            "\n{}",
            if text.is_empty() {
                format!("no {part}\n")
            } else {
                text
            }
        );
    }
    Ok(())
}

fn moves(target: &Target, json: bool) -> Result<(), Failure> {
    let mut rows = super::rows(target, b"MOVES")?;
    if json {
        return print(rows, json);
    }
    if rows.is_empty() {
        println!("every shard is where it is to be");
        return Ok(());
    }
    for row in &mut rows {
        let bar = bar(&row["to"], &row["ready"]);
        row.insert("progress".into(), json!(bar));
    }
    print(rows, json)
}

/// How many of the stores that are coming have all of it.
fn bar(to: &Value, ready: &Value) -> String {
    let count = |stores: &Value| stores.as_array().map_or(0, Vec::len) as u64;
    let (ready, to) = (count(ready), count(to));
    let done = (BAR * ready).checked_div(to).unwrap_or_default();
    let bar: String = (0..BAR).map(|at| if at < done { '#' } else { '.' }).collect();
    format!("[{bar}] {ready}/{to}")
}

/// A store's id; one that is named by its client address is looked up.
fn id_of(target: &Target, store: &str) -> Result<String, Failure> {
    if is_id(store) {
        return Ok(store.to_owned());
    }
    let rows = super::rows(target, b"REGISTRY")?;
    let mut found = rows.iter().filter(|row| row["client"] == store);
    match (found.next(), found.next()) {
        (Some(row), None) => Ok(row["store"].to_string()),
        (None, _) => Err(Failure::new(format!(
            "no store has registered with the client address {store}; `quorate ctl stores` lists those that did"
        ))),
        (Some(_), Some(_)) => Err(Failure::new(format!(
            "several stores have registered with the client address {store}: give the id"
        ))),
    }
}

/// The same for all the stores of a group.
fn with_ids(target: &Target, group: &str) -> Result<String, Failure> {
    let (group, stores) = group.split_once('=').unwrap_or((group, ""));
    let stores = stores.split(',').map(|store| id_of(target, store));
    Ok(format!(
        "{group}={}",
        stores.collect::<Result<Vec<_>, _>>()?.join(",")
    ))
}

fn is_id(text: &str) -> bool {
    text.parse::<u64>().is_ok_and(|id| id > 0)
}

fn store(text: &str) -> Result<String, String> {
    let is_address = |text: &str| text.parse::<HostPort>().is_ok();
    (is_id(text) || is_address(text))
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` is not a store: an id, such as 4, or its client address, HOST:PORT"))
}

fn group_and_stores(text: &str) -> Result<String, String> {
    let shape = || format!("`{text}` is not GROUP=STORE,STORE, such as 2=4,5,6");
    let (group, stores) = text.split_once('=').ok_or_else(shape)?;
    if is_id(group) && stores.split(',').all(|text| store(text).is_ok()) {
        Ok(text.to_owned())
    } else {
        Err(shape())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_stores_have_come() {
        assert_eq!(bar(&json!([]), &json!([])), format!("[{}] 0/0", ".".repeat(20)));
        let half = format!("[{}{}] 1/2", "#".repeat(10), ".".repeat(10));
        assert_eq!(bar(&json!([4, 5]), &json!([4])), half);
        assert_eq!(bar(&json!([4]), &json!([4])), format!("[{}] 1/1", "#".repeat(20)));
    }

    #[test]
    fn a_group_is_an_id_and_ids() {
        for right in ["2=4,5,6", "2=4", "2=a:7001,5"] {
            assert_eq!(group_and_stores(right), Ok(right.to_owned()));
        }
        for wrong in ["", "2", "2=", "=4", "0=4", "2=4,", "2=a", "2=4=5", "-1=4"] {
            assert!(group_and_stores(wrong).is_err(), "{wrong}");
        }
    }
}
