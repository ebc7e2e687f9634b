//! How `debug` shows what it found.

use quorate_proto::{Command, Expiry, Op, SessionWrite, SetCondition, SetExpiry};
use quorate_raft::ReplicaId;
use quorate_store::inspect::{Content, LoggedEntry, ShardReport};
use quorate_store::kv::Stored;
use serde_json::{Value, json};

/// Bytes of a key or value that are shown.
const SHOWN_BYTES: usize = 64;

/// The applied index, 0 if the engine does not know the shard.
pub(super) fn applied(report: &ShardReport) -> u64 {
    report.state.as_ref().map_or(0, |state| state.applied.index.0)
}

/// What an operator should know of a shard, in words; empty if it is well.
fn remarks(report: &ShardReport) -> Vec<String> {
    let mut remarks = Vec::new();
    if report.state.is_none() {
        remarks.push("not in the engine".to_owned());
    }
    if let Some(term) = report.state.as_ref().and_then(|state| state.rebuilt_from) {
        remarks.push(format!("being rebuilt, may have lost votes up to term {term}"));
    }
    match &report.log {
        None => remarks.push("not in the log".to_owned()),
        Some(log) => {
            if log.quarantined {
                remarks.push("quarantined: its log was damaged".to_owned());
            }
            if let Some(replica) = log.tombstone {
                remarks.push(format!("replica {replica} was destroyed"));
            }
        }
    }
    remarks
}

fn list(ids: &[ReplicaId]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    ids.join(",")
}

/// A line for each shard, under a heading, in columns.
pub(super) fn table(shards: &[ShardReport]) -> Vec<String> {
    let heading = [
        "shard", "replica", "slots", "epoch", "voters", "applied", "log", "term", "remarks",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    for report in shards {
        let mut row = [const { String::new() }; 9];
        row[0] = report.shard.to_string();
        if let Some(state) = &report.state {
            let descriptor = &state.descriptor;
            row[1] = descriptor.replica.to_string();
            row[2] = format!("[{}, {})", descriptor.start_slot, descriptor.end_slot);
            row[3] = format!("{}.{}", descriptor.epoch.conf_ver, descriptor.epoch.version);
            row[4] = list(&descriptor.conf_state.voters);
            row[5] = state.applied.index.to_string();
        }
        if let Some(log) = &report.log {
            let last = log.entries.last().map_or(log.base.0, |entry| entry.index);
            row[6] = format!("({}, {last}]", log.base.0);
            row[7] = log.hard_state.term.to_string();
        }
        row[8] = remarks(report).join("; ");
        rows.push(row);
    }
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

pub(super) fn shard_json(report: &ShardReport) -> Value {
    let ids = |ids: &[ReplicaId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    json!({
        "shard": report.shard.0,
        "state": report.state.as_ref().map(|state| {
            let descriptor = &state.descriptor;
            let conf = &descriptor.conf_state;
            json!({
                "replica": descriptor.replica.0,
                "start_slot": descriptor.start_slot,
                "end_slot": descriptor.end_slot,
                "conf_ver": descriptor.epoch.conf_ver,
                "version": descriptor.epoch.version,
                "voters": ids(&conf.voters),
                "learners": ids(&conf.learners),
                "outgoing_voters": ids(&conf.voters_outgoing),
                "stores": descriptor.membership.members.iter()
                    .map(|(replica, store)| (replica.to_string(), json!(store.0)))
                    .collect::<serde_json::Map<_, _>>(),
                "applied": state.applied.index.0,
                "applied_term": state.applied.term.0,
                "time_ms": state.applied.stamp_ms,
            })
        }),
        "log": report.log.as_ref().map(|log| json!({
            "base": log.base.0.0,
            "base_term": log.base.1.0,
            "entries": log.entries.len(),
            "last": log.entries.last().map_or(log.base.0, |entry| entry.index).0,
            "term": log.hard_state.term.0,
            "vote": log.hard_state.vote.map(|replica| replica.0),
        })),
        "remarks": remarks(report),
    })
}

/// What an entry does, in the words of a Redis client.
fn content(entry: &LoggedEntry) -> String {
    match &entry.content {
        Content::Empty => "(a leader's first entry)".to_owned(),
        Content::Unreadable(why) => format!("(unreadable: {why})"),
        Content::ConfChange(change) => format!("(membership change: {change:?})"),
        Content::Command(command) => op(&command.op),
    }
}

fn stamp(entry: &LoggedEntry) -> Option<&Command> {
    match &entry.content {
        Content::Command(command) => Some(command),
        _ => None,
    }
}

pub(super) fn entry_line(entry: &LoggedEntry, applied: u64) -> String {
    let mut line = format!("{} term {}", entry.index, entry.term);
    if let Some(command) = stamp(entry) {
        line += &format!(" at {} ms", command.stamp_ms);
        if let Some(SessionWrite { session, .. }) = &command.session {
            line += &format!(
                " session {:032x} seq {}.{}",
                session.client, session.seq, session.position
            );
        }
    }
    line += ": ";
    line += &content(entry);
    if entry.index.0 > applied {
        line += "  (not applied)";
    }
    line
}

pub(super) fn entry_json(entry: &LoggedEntry, applied: u64) -> Value {
    let command = stamp(entry);
    json!({
        "index": entry.index.0,
        "term": entry.term.0,
        "applied": entry.index.0 <= applied,
        "time_ms": command.map(|command| command.stamp_ms),
        "session": command.and_then(|command| command.session.as_ref())
            .map(|SessionWrite { session, .. }| json!({
                "client": format!("{:032x}", session.client),
                "seq": session.seq,
                "position": session.position,
            })),
        "content": content(entry),
    })
}

pub(super) fn value_line(stored: &Stored) -> String {
    let deadline = stored
        .deadline_ms
        .map_or_else(String::new, |at| format!(", expires at {at} ms"));
    format!("{}{deadline}", shown(&stored.payload))
}

pub(super) fn value_json(stored: &Stored) -> Value {
    json!({
        "bytes": stored.payload.len(),
        "shown": shown(&stored.payload),
        "deadline_ms": stored.deadline_ms,
    })
}

/// Quoted, escaped, and cut if it is long.
fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let text = cut.escape_ascii();
    if cut.len() < bytes.len() {
        format!("\"{text}\"... ({} bytes)", bytes.len())
    } else {
        format!("\"{text}\"")
    }
}

fn expiry(of: &Expiry) -> String {
    match of {
        Expiry::In(ms) => format!("PX {ms}"),
        Expiry::At(ms) => format!("PXAT {ms}"),
    }
}

fn op(of: &Op) -> String {
    match of {
        Op::Set {
            key,
            value,
            expiry: deadline,
            condition,
            get,
        } => {
            let mut text = format!("SET {} {}", shown(key), shown(value));
            match condition {
                SetCondition::Always => {}
                SetCondition::IfAbsent => text += " NX",
                SetCondition::IfPresent => text += " XX",
            }
            match deadline {
                SetExpiry::Clear => {}
                SetExpiry::Keep => text += " KEEPTTL",
                SetExpiry::Set(at) => text += &format!(" {}", expiry(at)),
            }
            if *get {
                text += " GET";
            }
            text
        }
        Op::Append { key, value } => format!("APPEND {} {}", shown(key), shown(value)),
        Op::SetRange { key, offset, value } => format!("SETRANGE {} {offset} {}", shown(key), shown(value)),
        Op::Increment { key, delta } => format!("INCRBY {} {delta}", shown(key)),
        Op::IncrementFloat { key, delta } => format!("INCRBYFLOAT {} {delta}", shown(key)),
        Op::GetDelete { key } => format!("GETDEL {}", shown(key)),
        Op::GetExpire { key, expiry: None } => format!("GETEX {} PERSIST", shown(key)),
        Op::GetExpire {
            key,
            expiry: Some(at),
        } => format!("GETEX {} {}", shown(key), expiry(at)),
        Op::Delete { key } => format!("DEL {}", shown(key)),
        Op::Expire {
            key,
            expiry: at,
            condition,
        } => format!("EXPIRE {} {} {condition:?}", shown(key), expiry(at)),
        Op::Persist { key } => format!("PERSIST {}", shown(key)),
        Op::SetAllIfAbsent { pairs } => {
            let pairs: Vec<String> = pairs
                .iter()
                .map(|(key, value)| format!("{} {}", shown(key), shown(value)))
                .collect();
            format!("MSETNX {}", pairs.join(" "))
        }
        Op::CompareAndSet {
            key,
            expected,
            value,
            expiry: deadline,
        } => {
            let deadline = match deadline {
                SetExpiry::Clear => String::new(),
                SetExpiry::Keep => " KEEPTTL".to_owned(),
                SetExpiry::Set(at) => format!(" {}", expiry(at)),
            };
            format!(
                "CAS {} {} {}{deadline}",
                shown(key),
                shown(expected),
                shown(value)
            )
        }
        Op::Settle { key } => format!("STATUS {}", shown(key)),
        Op::Flush => "FLUSHALL".to_owned(),
        Op::ExpireSessions { clients } => {
            let clients: Vec<String> = clients.iter().map(|client| format!("{client:032x}")).collect();
            format!("(sessions are forgotten: {})", clients.join(" "))
        }
        Op::Sweep { due } => {
            let keys: Vec<String> = due.iter().map(|(_, key)| shown(key)).collect();
            format!("(expired keys are removed: {})", keys.join(" "))
        }
        Op::Split(split) => {
            let replicas = split.replicas.iter();
            let replicas: Vec<String> = replicas.map(|(id, store)| format!("{id} on {store}")).collect();
            format!(
                "(slots from {} on become shard {}, replicas {})",
                split.slot,
                split.child,
                replicas.join(", ")
            )
        }
        Op::Noop => "(time goes on)".to_owned(),
        Op::Control(command) => format!("(controller: {command:?})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_strange_bytes_are_cut_and_escaped() {
        assert_eq!(shown(b"plain"), r#""plain""#);
        assert_eq!(shown(b"a\"\x00\xff\n"), r#""a\"\x00\xff\n""#);
        let long = shown(&[b'x'; 65]);
        assert_eq!(long, format!("\"{}\"... (65 bytes)", "x".repeat(64)));
    }

    #[test]
    fn writes_read_like_commands() {
        let key = || "k".into();
        let table = [
            (
                Op::Set {
                    key: key(),
                    value: "v".into(),
                    expiry: SetExpiry::Set(Expiry::At(5)),
                    condition: SetCondition::IfAbsent,
                    get: true,
                },
                r#"SET "k" "v" NX PXAT 5 GET"#,
            ),
            (
                Op::Increment {
                    key: key(),
                    delta: -2,
                },
                r#"INCRBY "k" -2"#,
            ),
            (
                Op::GetExpire {
                    key: key(),
                    expiry: None,
                },
                r#"GETEX "k" PERSIST"#,
            ),
            (
                Op::SetAllIfAbsent {
                    pairs: vec![(key(), "1".into()), ("l".into(), "2".into())],
                },
                r#"MSETNX "k" "1" "l" "2""#,
            ),
            (Op::Flush, "FLUSHALL"),
        ];
        for (write, text) in table {
            assert_eq!(op(&write), text);
        }
    }
}
