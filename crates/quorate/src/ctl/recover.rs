//! `ctl recover`: shards that lost their majority for ever go on with what is left.

use clap::Args;
use quorate_server::json;
use serde_json::{Map, Value, json};

use super::place::patiently;
use crate::cli::Failure;
use crate::client::Reply;
use crate::kv::{Effect, Target, ask, unexpected};

/// `ctl recover`
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Without --yes it only says what would be done and what is lost by it. The stores must be silent, and every \
                  other store must be heard. Shards that still have a majority are left alone. What it does cannot be taken \
                  back: the stores' ids are gone, and their disks hold nothing that the cluster would take any more."
)]
pub(super) struct Recover {
    /// The stores that are gone for ever, their ids separated by commas
    #[arg(long, required = true, value_delimiter = ',', value_name = "IDS")]
    lost: Vec<u64>,
    /// Only these shards, their ids separated by commas; the stores are removed in any case
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    shard: Vec<u64>,
    /// Shards of which nothing is left begin anew, empty
    #[arg(long)]
    create_empty: bool,
    /// Only say what would be done
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(target: &Target, args: &Recover, json: bool) -> Result<(), Failure> {
    let lost: Vec<String> = args.lost.iter().map(u64::to_string).collect();
    let lost = lost.join(",");
    let words: [&[u8]; 4] = [b"QUORATE", b"RECOVER", b"PLAN", lost.as_bytes()];
    let reply = patiently(|| ask(target, Effect::Read, &words));
    let reply = reply.map_err(|failure| named(target, failure, &args.lost))?;
    let mut rows = json::rows(&reply).ok_or_else(|| unexpected(&reply))?;
    rows.retain(|row| {
        args.shard.is_empty() || row["shard"].as_u64().is_some_and(|of| args.shard.contains(&of))
    });
    let is_wanted = |row: &&Map<String, Value>| {
        row["token"].as_str().is_some_and(|token| !token.is_empty())
            && (args.create_empty || row["empty"] == 0)
    };
    let tokens: Vec<String> = rows
        .iter()
        .filter(is_wanted)
        .filter_map(|row| row["token"].as_str().map(str::to_owned))
        .collect();
    if !json {
        rows.iter()
            .for_each(|row| print!("{}", text(row, args.create_empty)));
        if rows.is_empty() {
            println!("no shard has lost its majority with them");
        }
    }
    if args.yes {
        let mut words: Vec<&[u8]> = vec![b"QUORATE", b"RECOVER", b"RUN", lost.as_bytes()];
        words.extend(tokens.iter().map(String::as_bytes));
        match ask(target, Effect::Write, &words).map_err(|failure| named(target, failure, &args.lost))? {
            Reply::Simple(_) => {}
            other => return Err(unexpected(&other)),
        }
    }
    if json {
        let rows: Value = rows.into_iter().map(Value::Object).collect();
        println!("{:#}", json!({ "shards": rows, "done": args.yes }));
    } else if args.yes {
        println!("stores {lost} are removed; {} shards go on", tokens.len());
    } else {
        println!("nothing was changed; --yes does it");
    }
    Ok(())
}

/// What becomes of a shard.
fn text(row: &Map<String, Value>, create_empty: bool) -> String {
    let number = |name: &str| row[name].as_u64().unwrap_or_default();
    let mut text = format!(
        "shard {}, slots {}-{}: ",
        row["shard"], row["first-slot"], row["last-slot"]
    );
    let stores = |name: &str| -> String {
        let stores = row[name].as_array().into_iter().flatten();
        stores.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    if row["store"].is_null() {
        text += "cannot go on\n";
        if stores("survivors").is_empty() {
            text += "  nothing is left of it, and its group has no store that could hold it\n";
        } else {
            text += &format!(
                "  stores {} hold something of it, none of which has all that is known to be committed and is sound\n",
                stores("survivors")
            );
        }
        return text;
    }
    if number("empty") == 1 {
        text += &format!("nothing is left of it\n  lost: everything in it{}\n", {
            if create_empty {
                format!(
                    "; it begins anew on store {}, empty, and forgets all sessions",
                    row["store"]
                )
            } else {
                "; with --create-empty it begins anew".to_owned()
            }
        });
        return text;
    }
    let (commit, last) = (number("committed"), number("last-index"));
    text += &format!("goes on with store {} alone\n", row["store"]);
    text += &format!("  certain: everything up to index {commit}\n");
    if last > commit {
        text += &format!(
            "  kept: the {} entries behind it, up to index {last} of term {}; whether they were acknowledged is not known\n",
            last - commit,
            row["last-term"]
        );
    }
    text += &format!("  lost: what was acknowledged behind index {commit} and is not among those; ");
    text += &match (row["silent-ms"].as_u64(), row["heard-index"].as_u64()) {
        (Some(ms), Some(index)) => format!(
            "a leader last spoke to a survivor {}.{} s ago, and of nothing behind index {index}\n",
            ms / 1000,
            ms % 1000 / 100
        ),
        _ => "no leader has spoken to a survivor since it started\n".to_owned(),
    };
    if number("known-conf-ver") > number("conf-ver") {
        text += &format!(
            "  lost: what was acknowledged by members that came later; the survivors know version {} of the membership, and \
             version {} was decided\n",
            number("conf-ver"),
            number("known-conf-ver")
        );
    }
    text += &format!("  sessions kept: {}\n", number("sessions"));
    text
}

/// A refusal with the stores that it is about.
fn named(target: &Target, mut failure: Failure, lost: &[u64]) -> Failure {
    let Ok(stores) = super::rows(target, b"REGISTRY") else {
        return failure;
    };
    let is_named = |row: &Map<String, Value>| row["store"].as_u64().is_some_and(|id| lost.contains(&id));
    let ids = |which: &dyn Fn(&Map<String, Value>) -> bool| -> String {
        let rows = stores.iter().filter(|row| which(row));
        rows.map(|row| row["store"].to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    if failure.message.contains("is silent") {
        let silent = ids(&|row| !is_named(row) && row["state"] != "up" && row["service"] != "removed");
        failure.message += &format!("; silent: {silent}");
    } else if failure.message.contains("is alive") {
        failure.message += &format!("; alive: {}", ids(&|row| is_named(row) && row["state"] == "up"));
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: Value) -> Map<String, Value> {
        fields.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn what_is_certain_kept_and_lost_is_said() {
        let mut fields = json!({
            "shard": 3, "first-slot": 0, "last-slot": 99, "store": 2, "empty": 0, "committed": 117,
            "last-index": 120, "last-term": 4, "heard-index": 121, "silent-ms": 12_340, "sessions": 5,
            "survivors": [2], "conf-ver": 4, "known-conf-ver": 4,
        });
        let said = text(&row(fields.clone()), false);
        for part in [
            "shard 3, slots 0-99: goes on with store 2 alone\n",
            "certain: everything up to index 117\n",
            "the 3 entries behind it, up to index 120 of term 4;",
            "12.3 s ago, and of nothing behind index 121\n",
            "sessions kept: 5\n",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains("membership"), "{said}");
        fields["known-conf-ver"] = json!(9);
        let said = text(&row(fields.clone()), false);
        assert!(
            said.contains("the survivors know version 4 of the membership, and version 9 was decided\n"),
            "{said}"
        );
        fields["empty"] = json!(1);
        assert!(text(&row(fields.clone()), false).contains("with --create-empty"));
        assert!(text(&row(fields.clone()), true).contains("begins anew on store 2, empty"));
        fields["store"] = Value::Null;
        assert!(text(&row(fields), true).contains("cannot go on\n  stores 2 hold something"));
    }
}
