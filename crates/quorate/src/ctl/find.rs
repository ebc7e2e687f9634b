//! Looking one shard or store up, rather than listing all of them.

use clap::Args;
use quorate_client::slots::slot_of;
use quorate_server::json;
use serde_json::{Map, Value};

use crate::cli::Failure;
use crate::kv::{Effect, Target, ask, unexpected};

/// Which shards.
#[derive(Args, Clone, Debug)]
#[group(multiple = false)]
pub(super) struct Shards {
    /// Only the shard of this id
    #[arg(long, value_name = "ID")]
    shard: Option<u64>,
    /// Only the shard that holds this key
    #[arg(long)]
    key: Option<String>,
    /// Only the shard that has this slot
    #[arg(long)]
    slot: Option<u16>,
    /// Only the shard that ends where the one begins that has this slot
    #[arg(long, value_name = "SLOT")]
    before: Option<u16>,
    /// Only the shard that has this slot, and those behind it: SLOT or SLOT,COUNT
    #[arg(long, value_name = "SLOT,COUNT")]
    from: Option<String>,
}

impl Shards {
    pub(super) fn is_all(&self) -> bool {
        self.words().is_empty()
    }

    /// Behind `QUORATE MAP`.
    fn words(&self) -> Vec<String> {
        let number = |what: &str, number: Option<u64>| Some(vec![what.to_owned(), number?.to_string()]);
        let from = |from: &String| {
            let (slot, limit) = from.split_once(',').unwrap_or((from, "16384"));
            ["FROM", slot, limit].map(str::to_owned).to_vec()
        };
        number("SHARD", self.shard)
            .or_else(|| {
                number(
                    "SLOT",
                    self.key.as_ref().map(|key| slot_of(key.as_bytes()).into()),
                )
            })
            .or_else(|| number("SLOT", self.slot.map(u64::from)))
            .or_else(|| number("BEFORE", self.before.map(u64::from)))
            .or_else(|| self.from.as_ref().map(from))
            .unwrap_or_default()
    }
}

pub(super) fn shards(target: &Target, which: &Shards) -> Result<Vec<Map<String, Value>>, Failure> {
    let words = which.words();
    let found = found(target, "MAP", &words)?;
    if found.is_empty() {
        return Err(Failure::new(
            "the controller's leader knows of no such shard; it may not have heard of it since it was elected",
        ));
    }
    Ok(found)
}

pub(super) fn store(target: &Target, store: u64) -> Result<Vec<Map<String, Value>>, Failure> {
    let found = found(target, "REGISTRY", &[store.to_string()])?;
    if found.is_empty() {
        return Err(Failure::new(format!("no store {store} has registered")));
    }
    Ok(found)
}

fn found(target: &Target, what: &str, words: &[String]) -> Result<Vec<Map<String, Value>>, Failure> {
    let mut all: Vec<&[u8]> = vec![b"QUORATE", what.as_bytes()];
    all.extend(words.iter().map(String::as_bytes));
    let reply = ask(target, Effect::Read, &all)?;
    json::rows(&reply).ok_or_else(|| unexpected(&reply))
}
