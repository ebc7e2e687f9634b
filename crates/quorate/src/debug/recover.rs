//! `debug recover`: shards go on with the replicas of a store that does not run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use quorate_server::offline::{Offline, ShardId};
use quorate_store::inspect::ShardReport;
use quorate_store::recovery_offline::{Standing, best, without_majority};
use serde_json::{Value, json};

use super::failure;
use crate::cli::Failure;

#[derive(Args, Debug)]
#[command(
    after_help = "Without --yes it only says what would be done. Each shard goes on with one replica: of several directories, \
                  with the most advanced one. Then start the nodes as always, and tell the controller which stores are gone \
                  with `quorate ctl recover --lost`. The other replicas of these shards must never run again before that; \
                  their data is erased when they meet the ones that went on."
)]
pub(super) struct Recover {
    /// Data directories of the stores that are left, none of which runs; may be given several times
    #[arg(long, required = true, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// These shards, their ids separated by commas; 0 is the controller's. Without it, all that have members elsewhere
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    shard: Vec<u64>,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

/// A shard and the stores that hold something of it: position in the list of stores, report.
type Held<'a> = BTreeMap<ShardId, Vec<(usize, &'a ShardReport)>>;

pub(super) fn run(args: &Recover) -> Result<(), Failure> {
    let mut stores = Vec::new();
    for data in &args.data {
        let offline = Offline::open(data).map_err(failure)?;
        let reports = offline.shards().map_err(failure)?;
        stores.push((offline, reports));
    }
    let cluster = stores.first().map(|(offline, _)| offline.identity().cluster);
    if stores
        .iter()
        .any(|(offline, _)| Some(offline.identity().cluster) != cluster)
    {
        return Err(Failure::new("the directories are of different clusters"));
    }
    let mut held = Held::new();
    for (at, (offline, reports)) in stores.iter().enumerate() {
        for shard in without_majority(reports, offline.identity().store) {
            if args.shard.is_empty() || args.shard.contains(&shard.0) {
                let of = reports.iter().filter(|report| report.shard == shard);
                held.entry(shard)
                    .or_default()
                    .extend(of.map(|report| (at, report)));
            }
        }
    }
    if let Some(unknown) = args
        .shard
        .iter()
        .find(|shard| !held.contains_key(&ShardId(**shard)))
    {
        return Err(Failure::new(format!(
            "shard {unknown} has no replica here, or no members elsewhere"
        )));
    }
    let mut rows = Vec::new();
    let mut others: BTreeMap<ShardId, Vec<Standing>> = BTreeMap::new();
    let mut chosen: Vec<Vec<ShardId>> = vec![Vec::new(); stores.len()];
    for (shard, replicas) in &held {
        let sound: Vec<(usize, Standing)> = replicas
            .iter()
            .filter_map(|(at, report)| Standing::of(report).ok().map(|standing| (*at, standing)))
            .collect();
        let standings: Vec<Standing> = sound.iter().map(|(_, standing)| standing.clone()).collect();
        let goes_on = best(&standings).map(|nth| sound[nth].clone());
        let commit = standings.iter().map(|of| of.commit).max();
        let row = match (&goes_on, commit) {
            (Some((at, standing)), Some(commit)) => {
                chosen[*at].push(*shard);
                json!({
                    "shard": shard.0,
                    "store": stores[*at].0.identity().store.0,
                    "committed": commit.0,
                    "applied": standing.applied.0,
                    "last-index": standing.last.0.0,
                    "last-term": standing.last.1.0,
                    "voters": standing.voters.iter().map(|(_, store)| store.0).collect::<Vec<_>>(),
                })
            }
            _ => {
                let why = replicas
                    .iter()
                    .filter_map(|(_, report)| Standing::of(report).err());
                json!({"shard": shard.0, "store": null, "why": why.collect::<Vec<_>>()})
            }
        };
        rows.push(row);
        others.insert(*shard, standings);
    }
    if args.yes {
        for (at, (offline, reports)) in stores.iter_mut().enumerate() {
            let is_chosen = |report: &&ShardReport| chosen[at].contains(&report.shard);
            let of: Vec<&ShardReport> = reports.iter().filter(is_chosen).collect();
            offline.force(&of, &others).map_err(failure)?;
        }
    }
    if args.json {
        println!("{:#}", json!({ "shards": rows, "done": args.yes }));
        return Ok(());
    }
    rows.iter().for_each(|row| println!("{}", text(row)));
    if rows.is_empty() {
        println!("every shard has all its members here");
    } else if args.yes {
        println!(
            "done; start the nodes, then tell the controller which stores are gone: quorate ctl recover --lost"
        );
    } else {
        println!("nothing was changed; --yes does it");
    }
    Ok(())
}

fn text(row: &Value) -> String {
    if row["store"].is_null() {
        return format!("shard {}: cannot go on: {}", row["shard"], row["why"]);
    }
    let number = |name: &str| row[name].as_u64().unwrap_or_default();
    let (commit, last) = (number("committed"), number("last-index"));
    format!(
        "shard {}: goes on with store {} alone, of {}; index {commit} and before is certain, {} entries behind it up to {last} \
         of term {} are kept, acknowledged or not; what others acknowledged besides is lost",
        row["shard"],
        row["store"],
        row["voters"],
        last - commit,
        row["last-term"],
    )
}
