//! `debug`: a look at the data directory of a node that does not run.

mod recover;
mod text;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use quorate_server::offline::{Offline, OfflineError};
use quorate_store::inspect::{self, LoggedEntry, ShardReport};
use serde_json::{Value, json};

use crate::cli::Failure;

/// `debug`
#[derive(Args, Debug)]
#[command(
    after_help = "The node must not run; the directory is locked meanwhile. The Raft log is only read. What the \
                  engine holds ends at `applied`; entries behind it are in the log alone, and not all of them need \
                  be committed: only a leader knows."
)]
pub struct DebugArgs {
    #[command(subcommand)]
    command: DebugCommand,
}

#[derive(Subcommand, Debug)]
enum DebugCommand {
    /// List the shards: members, positions, what is wrong with them
    Shards(Look),
    /// Print the entries that the log holds of a shard
    Log(LogArgs),
    /// Print what the engine holds under a key, and what the log still holds of its history
    Key(KeyArgs),
    /// Print a digest of each shard's content; replicas with the same applied index have the same
    Digest(DigestArgs),
    /// Go on with what stopped stores hold of shards whose other replicas are lost for ever
    Recover(recover::Recover),
}

#[derive(Args, Debug)]
struct Look {
    /// The data directory of a node that does not run
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// One JSON document instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct LogArgs {
    #[command(flatten)]
    look: Look,
    /// The shard's number
    #[arg(long, value_name = "N")]
    shard: u64,
    /// Begin with this index
    #[arg(long, default_value_t = 0, value_name = "INDEX")]
    from: u64,
    /// Print so many entries at most
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: usize,
}

#[derive(Args, Debug)]
struct KeyArgs {
    #[command(flatten)]
    look: Look,
    /// The key
    key: String,
}

#[derive(Args, Debug)]
struct DigestArgs {
    #[command(flatten)]
    look: Look,
    /// Only this shard
    #[arg(long, value_name = "N")]
    shard: Option<u64>,
}

/// Looks and prints.
pub fn run(args: DebugArgs) -> Result<(), Failure> {
    match args.command {
        DebugCommand::Shards(look) => shards(&look),
        DebugCommand::Log(args) => log(&args),
        DebugCommand::Key(args) => key(&args),
        DebugCommand::Digest(args) => digest(&args),
        DebugCommand::Recover(args) => recover::run(&args),
    }
}

/// The store and its shards; what is wrong with the log goes to standard error.
fn open(look: &Look) -> Result<(Offline, Vec<ShardReport>), Failure> {
    let offline = Offline::open(&look.data).map_err(failure)?;
    for note in offline.notes() {
        eprintln!("quorate: {note}");
    }
    let shards = offline.shards().map_err(failure)?;
    Ok((offline, shards))
}

fn failure(error: OfflineError) -> Failure {
    Failure::new(error.to_string())
}

fn print(look: &Look, document: &Value, lines: impl FnOnce() -> Vec<String>) {
    if look.json {
        println!("{document:#}");
        return;
    }
    for line in lines() {
        println!("{line}");
    }
}

fn shards(look: &Look) -> Result<(), Failure> {
    let (offline, shards) = open(look)?;
    let identity = offline.identity();
    let document = json!({
        "cluster": identity.cluster.to_string(),
        "store": identity.store.0,
        "shards": shards.iter().map(text::shard_json).collect::<Vec<_>>(),
    });
    print(look, &document, || {
        let mut lines = vec![format!(
            "store {} of cluster {}",
            identity.store, identity.cluster
        )];
        lines.extend(text::table(&shards));
        lines
    });
    Ok(())
}

fn find(shards: &[ShardReport], shard: u64) -> Result<&ShardReport, Failure> {
    shards
        .iter()
        .find(|report| report.shard.0 == shard)
        .ok_or_else(|| {
            let known: Vec<String> = shards.iter().map(|report| report.shard.to_string()).collect();
            Failure::new(format!(
                "no shard {shard} here; this store has {}",
                known.join(", ")
            ))
        })
}

fn log(args: &LogArgs) -> Result<(), Failure> {
    let (_, shards) = open(&args.look)?;
    let report = find(&shards, args.shard)?;
    let applied = text::applied(report);
    let entries: Vec<LoggedEntry> = report
        .log
        .iter()
        .flat_map(|log| &log.entries)
        .filter(|entry| entry.index.0 >= args.from)
        .take(args.limit)
        .map(LoggedEntry::new)
        .collect();
    let document = json!({
        "shard": args.shard,
        "applied": applied,
        "entries": entries.iter().map(|entry| text::entry_json(entry, applied)).collect::<Vec<_>>(),
    });
    print(&args.look, &document, || {
        entries
            .iter()
            .map(|entry| text::entry_line(entry, applied))
            .collect()
    });
    Ok(())
}

fn key(args: &KeyArgs) -> Result<(), Failure> {
    let (offline, shards) = open(&args.look)?;
    let key = args.key.as_bytes();
    let slot = quorate_store::kv::slot_of(key);
    let holds = |report: &&ShardReport| {
        report
            .state
            .as_ref()
            .is_some_and(|state| (state.descriptor.start_slot..state.descriptor.end_slot).contains(&slot))
    };
    let report = shards.iter().find(holds).ok_or_else(|| {
        Failure::new(format!(
            "no shard of this store holds slot {slot}, where this key lies"
        ))
    })?;
    let state = report
        .state
        .as_ref()
        .ok_or_else(|| Failure::new("the shard has no state"))?;
    let value = inspect::value(offline.engine(), &state.descriptor, key)
        .map_err(|error| failure(offline.engine_failed(error)))?;
    let applied = state.applied.index.0;
    let entries: Vec<LoggedEntry> = report
        .log
        .iter()
        .flat_map(|log| &log.entries)
        .map(LoggedEntry::new)
        .filter(|entry| entry.concerns(key))
        .collect();
    let document = json!({
        "key": args.key,
        "slot": slot,
        "shard": report.shard.0,
        "applied": applied,
        "value": value.as_ref().map(text::value_json),
        "history": entries.iter().map(|entry| text::entry_json(entry, applied)).collect::<Vec<_>>(),
    });
    print(&args.look, &document, || {
        let mut lines = vec![
            format!("slot {slot}, shard {}, applied {applied}", report.shard),
            value
                .as_ref()
                .map_or_else(|| "absent".to_owned(), text::value_line),
        ];
        lines.extend(entries.iter().map(|entry| text::entry_line(entry, applied)));
        lines
    });
    Ok(())
}

fn digest(args: &DigestArgs) -> Result<(), Failure> {
    let (offline, shards) = open(&args.look)?;
    if let Some(shard) = args.shard {
        find(&shards, shard)?;
    }
    let mut rows = Vec::new();
    for report in shards
        .iter()
        .filter(|report| args.shard.is_none_or(|shard| report.shard.0 == shard))
    {
        let Some(state) = &report.state else { continue };
        let digest = inspect::digest(offline.engine(), &state.descriptor)
            .map_err(|error| failure(offline.engine_failed(error)))?;
        rows.push((report.shard.0, state.applied.index.0, format!("{digest:016x}")));
    }
    let document = rows
        .iter()
        .map(|(shard, applied, digest)| json!({"shard": shard, "applied": applied, "digest": digest}))
        .collect();
    print(&args.look, &document, || {
        rows.iter()
            .map(|(shard, applied, digest)| format!("shard {shard}  applied {applied}  digest {digest}"))
            .collect()
    });
    Ok(())
}
