//! The commands of `quorum/`: vote and commit arithmetic alone.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use quorate_raft::quorum::{JointConfig, MajorityConfig, VoteResult};
use quorate_raft::{Index, ReplicaId};

use crate::script::{Command, Stanza, parse_number};

/// Runs one stanza; the result is its output.
pub(crate) fn run(stanza: &Stanza) -> String {
    handle(&stanza.command).unwrap_or_else(|error| error)
}

fn handle(command: &Command) -> Result<String, String> {
    command.check_keys(&["cfg", "cfgj", "idx", "votes"])?;
    let ids = replicas(command.values("cfg"))?;
    // `cfgj=zero` is a joint configuration with an empty half, which must decide as a plain one does.
    let joint = !command.values("cfgj").is_empty();
    let ids_joint = if command.value("cfgj") == Some("zero") {
        Vec::new()
    } else {
        replicas(command.values("cfgj"))?
    };
    let config = JointConfig {
        incoming: MajorityConfig::new(ids.iter().copied()),
        outgoing: MajorityConfig::new(ids_joint.iter().copied()),
    };
    let inputs = |key| assign(&ids, &ids_joint, command.values(key));
    match command.name.as_str() {
        "committed" => {
            let mut acked = BTreeMap::new();
            for (id, text) in inputs("idx")? {
                acked.insert(id, Index(parse_number(&text)?));
            }
            Ok(committed(&config, joint, &acked))
        }
        "vote" => {
            let mut votes = BTreeMap::new();
            for (id, text) in inputs("votes")? {
                let yes = match text.as_str() {
                    "y" => true,
                    "n" => false,
                    other => return Err(format!("unknown vote: {other}")),
                };
                votes.insert(id, yes);
            }
            Ok(vote(&config, joint, &votes))
        }
        _ => Err("unknown command".to_owned()),
    }
}

fn replicas(values: &[String]) -> Result<Vec<ReplicaId>, String> {
    values
        .iter()
        .map(|value| parse_number(value).map(ReplicaId))
        .collect()
}

/// Gives the values to the members of both halves, each member once, in the order in which they are listed.
/// A member with `_` has nothing.
fn assign(
    ids: &[ReplicaId],
    joint: &[ReplicaId],
    values: &[String],
) -> Result<Vec<(ReplicaId, String)>, String> {
    let mut members: Vec<ReplicaId> = Vec::new();
    for id in ids.iter().chain(joint) {
        if !members.contains(id) {
            members.push(*id);
        }
    }
    if members.len() != values.len() {
        return Err(format!(
            "error: mismatched input (explicit or _) for voters {members:?}: {values:?}"
        ));
    }
    let given = members.into_iter().zip(values.iter().cloned());
    Ok(given.filter(|(_, value)| value != "_").collect())
}

fn committed(config: &JointConfig, joint: bool, acked: &BTreeMap<ReplicaId, Index>) -> String {
    let lookup = |id: ReplicaId| acked.get(&id).copied();
    let mut out = table(&config.ids(), acked);
    let index = if joint {
        let swapped = JointConfig {
            incoming: config.outgoing.clone(),
            outgoing: config.incoming.clone(),
        };
        let index = config.committed_index(lookup);
        note(&mut out, "symmetry", index, swapped.committed_index(lookup));
        index
    } else {
        let index = config.incoming.committed_index(lookup);
        note(
            &mut out,
            "zero-joint quorum",
            index,
            config.committed_index(lookup),
        );
        let itself = JointConfig {
            incoming: config.incoming.clone(),
            outgoing: config.incoming.clone(),
        };
        note(
            &mut out,
            "self-joint quorum",
            index,
            itself.committed_index(lookup),
        );
        note(
            &mut out,
            "alternative computation",
            index,
            counted(&config.incoming, acked),
        );
        index
    };
    let _ = writeln!(out, "{}", shown(index));
    out
}

/// Adds a line when a computation that must agree does not.
fn note(out: &mut String, how: &str, expected: Index, got: Index) {
    if expected != got {
        let _ = writeln!(out, "{} <-- via {how}", shown(got));
    }
}

/// The committed index by its definition: the highest position that more than half have reached.
fn counted(config: &MajorityConfig, acked: &BTreeMap<ReplicaId, Index>) -> Index {
    let ids = config.ids();
    if ids.is_empty() {
        return Index(u64::MAX);
    }
    let reached = |index: Index| {
        ids.iter()
            .filter(|id| acked.get(id).is_some_and(|acked| *acked >= index))
            .count()
    };
    acked
        .values()
        .copied()
        .filter(|index| 2 * reached(*index) > ids.len())
        .max()
        .unwrap_or_default()
}

fn shown(index: Index) -> String {
    if index == Index(u64::MAX) {
        "∞".to_owned()
    } else {
        index.to_string()
    }
}

/// One line for each voter with a bar as long as the number of voters behind it.
fn table(ids: &[ReplicaId], acked: &BTreeMap<ReplicaId, Index>) -> String {
    if ids.is_empty() {
        return "<empty majority quorum>".to_owned();
    }
    let width = ids.len();
    let index_of = |id: &ReplicaId| acked.get(id).copied().unwrap_or_default();
    let mut out = format!("{}    idx\n", " ".repeat(width));
    for id in ids {
        let index = index_of(id);
        let behind = ids.iter().filter(|other| index_of(other) < index).count();
        let bar = if acked.contains_key(id) {
            format!("{}>", "x".repeat(behind))
        } else {
            "?".to_owned()
        };
        let _ = writeln!(
            out,
            "{bar:<0$} {index:>5}    (id={id})",
            width + 1,
            index = index.0
        );
    }
    out
}

fn vote(config: &JointConfig, joint: bool, votes: &BTreeMap<ReplicaId, bool>) -> String {
    let lookup = |id: ReplicaId| votes.get(&id).copied();
    let mut out = String::new();
    let result = if joint {
        let swapped = JointConfig {
            incoming: config.outgoing.clone(),
            outgoing: config.incoming.clone(),
        };
        let result = config.vote_result(lookup);
        let other = swapped.vote_result(lookup);
        if other != result {
            let _ = writeln!(out, "{} <-- via symmetry", vote_name(other));
        }
        result
    } else {
        config.incoming.vote_result(lookup)
    };
    let _ = writeln!(out, "{}", vote_name(result));
    out
}

fn vote_name(result: VoteResult) -> &'static str {
    match result {
        VoteResult::Pending => "VotePending",
        VoteResult::Lost => "VoteLost",
        VoteResult::Won => "VoteWon",
    }
}
