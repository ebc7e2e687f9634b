//! The commands of `interaction/`: a whole cluster, driven step by step.

use bytes::Bytes;
use quorate_raft::{
    ConfChange, ConfChangeForm, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, ConfState, Config,
    Index, Payload, ReadOnlyOption, ReplicaId, Role, Snapshot, SnapshotMeta, Storage as _, Term,
};

use crate::describe;
use crate::env::{Env, Recipient};
use crate::node::Node;
use crate::script::{Command, Stanza, parse_number};

/// Runs one stanza; the result is its output.
pub(crate) fn run(env: &mut Env, stanza: &Stanza) -> String {
    let error = handle(env, &stanza.command, &stanza.input).err();
    // Errors are shown even when everything else is silenced.
    let mut shown = env.out.take();
    if let Some(error) = error {
        shown.push_str(&error);
    }
    if shown.is_empty() { "ok".to_owned() } else { shown }
}

fn handle(env: &mut Env, command: &Command, input: &str) -> Result<(), String> {
    let id = || command.number(0).map(ReplicaId);
    match command.name.as_str() {
        "add-nodes" => add_nodes(env, command),
        "campaign" => env.node(id()?)?.raw.campaign().map_err(|e| e.to_string()),
        "compact" => {
            let node = env.node(id()?)?;
            let index = Index(command.number(1)?);
            node.raw
                .storage_mut()
                .log
                .compact(index)
                .map_err(|e| e.to_string())?;
            raft_log(env, id()?)
        }
        "deliver-msgs" => deliver(env, command),
        "forget-leader" => env.node(id()?)?.raw.forget_leader().map_err(|e| e.to_string()),
        "log-level" => {
            env.out.quiet = is_quiet(command.bare(0)?);
            Ok(())
        }
        "process-append-thread" => {
            env.for_each(&ids(command)?, "processing append thread", Env::process_append)
        }
        "process-apply-thread" => env.for_each(&ids(command)?, "processing apply thread", Env::process_apply),
        "process-ready" => env.for_each(&ids(command)?, "handling Ready", Env::process_ready),
        "propose" => {
            let data = Bytes::copy_from_slice(command.bare(1)?.as_bytes());
            // The reference has one text for every reason.
            let dropped = |_| "raft proposal dropped".to_owned();
            env.node(id()?)?.raw.propose(data).map(|_| ()).map_err(dropped)
        }
        "propose-conf-change" => {
            let change = conf_change(command, input)?;
            let dropped = |_| "raft proposal dropped".to_owned();
            env.node(id()?)?
                .raw
                // Unchecked: the reference turns a change that does not fit into an empty entry.
                .propose_payloads(vec![Payload::ConfChange(Box::new(change))])
                .map(|_| ())
                .map_err(dropped)
        }
        "raft-log" => raft_log(env, id()?),
        "raft-state" => raft_state(env),
        "read-index" => {
            let context = describe::context_from_text(command.bare(1)?)?;
            env.node(id()?)?
                .raw
                .read_index(context)
                .map_err(|e| e.to_string())
        }
        "report-unreachable" => {
            env.node(id()?)?
                .raw
                .report_unreachable(ReplicaId(command.number(1)?));
            Ok(())
        }
        "send-snapshot" => env.send_snapshot(id()?, ReplicaId(command.number(1)?)),
        "set-randomized-election-timeout" => set_timeout(env, command),
        "stabilize" => stabilize(env, command),
        "status" => status(env, id()?),
        "tick-election" => {
            let ticks = env.node(id()?)?.config.election_ticks;
            tick(env, id()?, ticks)
        }
        "tick-heartbeat" => {
            let ticks = env.node(id()?)?.config.heartbeat_ticks;
            tick(env, id()?, ticks)
        }
        "transfer-leadership" => {
            command.check_keys(&["from", "to"])?;
            let side =
                |key| parse_number(command.value(key).ok_or("from= and to= are needed")?).map(ReplicaId);
            env.node(side("from")?)?
                .raw
                .transfer_leader(side("to")?)
                .map_err(|e| e.to_string())
        }
        _ => Err("unknown command".to_owned()),
    }
}

fn ids(command: &Command) -> Result<Vec<ReplicaId>, String> {
    command
        .all_bare()
        .map(|text| parse_number(text).map(ReplicaId))
        .collect()
}

fn is_quiet(level: &str) -> bool {
    level.eq_ignore_ascii_case("none")
}

fn add_nodes(env: &mut Env, command: &Command) -> Result<(), String> {
    command.check_keys(&[
        "voters",
        "learners",
        "index",
        "content",
        "inflight",
        "prevote",
        "checkquorum",
        "read-only",
        "async-storage-writes",
        "max-committed-size-per-ready",
        "disable-conf-change-validation",
        "step-down-on-removal",
    ])?;
    let replicas = |key| {
        command
            .numbers(key)
            .map(|ids| ids.into_iter().map(ReplicaId).collect::<Vec<_>>())
    };
    let conf_state = ConfState {
        voters: replicas("voters")?,
        learners: replicas("learners")?,
        ..ConfState::default()
    };
    let index = Index(number_or(command, "index", 0)?);
    let fresh = conf_state == ConfState::default();
    if !fresh && index <= Index(1) {
        return Err("index must be specified as > 1 due to bootstrap".to_owned());
    }
    let content = command.value("content").unwrap_or_default();
    let snapshot = Snapshot {
        meta: SnapshotMeta {
            index,
            term: if fresh { Term(0) } else { Term(1) },
            conf_state,
        },
        data: Bytes::copy_from_slice(content.as_bytes()),
    };
    for _ in 0..command.number(0)? {
        let id = ReplicaId(env.nodes.len() as u64 + 1);
        env.nodes
            .push(Node::new(config(command, id, index)?, snapshot.clone())?);
    }
    Ok(())
}

fn config(command: &Command, id: ReplicaId, applied: Index) -> Result<Config, String> {
    Ok(Config {
        id,
        election_ticks: 3,
        heartbeat_ticks: 1,
        priority: 0,
        applied,
        max_bytes_per_message: u64::MAX,
        max_committed_bytes_per_ready: number_or(command, "max-committed-size-per-ready", u64::MAX)?,
        max_uncommitted_bytes: u64::MAX,
        max_inflight_messages: usize::try_from(number_or(command, "inflight", i32::MAX as u64)?)
            .map_err(|e| e.to_string())?,
        max_inflight_bytes: u64::MAX,
        pre_vote: flag(command, "prevote")?,
        check_quorum: flag(command, "checkquorum")?,
        read_only: match command.value("read-only") {
            None | Some("safe") => ReadOnlyOption::Safe,
            Some("lease-based") => ReadOnlyOption::LeaseBased,
            Some(other) => return Err(format!("invalid read-only option {other:?}")),
        },
        async_storage_writes: flag(command, "async-storage-writes")?,
        // The reference sends an append for each proposal at once.
        gather_appends: false,
        disable_proposal_forwarding: false,
        disable_conf_change_validation: flag(command, "disable-conf-change-validation")?,
        step_down_on_removal: flag(command, "step-down-on-removal")?,
        seed: id.0,
    })
}

fn number_or(command: &Command, key: &str, default: u64) -> Result<u64, String> {
    command.value(key).map_or(Ok(default), parse_number)
}

fn flag(command: &Command, key: &str) -> Result<bool, String> {
    command.value(key).map_or(Ok(false), |value| {
        value.parse().map_err(|_| format!("not a bool: {value:?}"))
    })
}

fn conf_change(command: &Command, input: &str) -> Result<ConfChange, String> {
    command.check_keys(&["v1", "transition"])?;
    let form = if flag(command, "v1")? {
        ConfChangeForm::V1
    } else {
        ConfChangeForm::V2
    };
    let transition = match command.value("transition") {
        None | Some("auto") => ConfChangeTransition::Auto,
        Some("implicit") => ConfChangeTransition::Implicit,
        Some("explicit") => ConfChangeTransition::Explicit,
        Some(other) => return Err(format!("unknown transition {other}")),
    };
    let changes = conf_changes(input)?;
    if form == ConfChangeForm::V1 && changes.len() != 1 {
        return Err("a V1 change holds exactly one change".to_owned());
    }
    Ok(ConfChange {
        form,
        transition,
        changes,
        context: Bytes::new(),
    })
}

/// Parses `v1 l2 r3 u4`.
pub(crate) fn conf_changes(input: &str) -> Result<Vec<ConfChangeSingle>, String> {
    let single = |token: &str| {
        let mut chars = token.chars();
        let kind = match chars.next() {
            Some('v') => ConfChangeKind::AddVoter,
            Some('l') => ConfChangeKind::AddLearner,
            Some('r') => ConfChangeKind::Remove,
            Some('u') => ConfChangeKind::Update,
            _ => return Err(format!("unknown input: {token}")),
        };
        Ok(ConfChangeSingle {
            kind,
            replica: ReplicaId(parse_number(chars.as_str())?),
        })
    };
    input.split_whitespace().map(single).collect()
}

fn deliver(env: &mut Env, command: &Command) -> Result<(), String> {
    command.check_keys(&["drop", "type"])?;
    let mut recipients = Vec::new();
    for arg in command.args.iter().filter(|arg| arg.key != "type") {
        let drop = arg.key == "drop";
        let ids = if drop {
            arg.values.as_slice()
        } else {
            std::slice::from_ref(&arg.key)
        };
        for id in ids {
            recipients.push(Recipient {
                id: ReplicaId(parse_number(id)?),
                drop,
            });
        }
    }
    if env.deliver(command.value("type"), &recipients)? == 0 {
        env.out.line("no messages");
    }
    Ok(())
}

fn stabilize(env: &mut Env, command: &Command) -> Result<(), String> {
    command.check_keys(&["log-level"])?;
    let mut ids = ids(command)?;
    if ids.is_empty() {
        ids = env.all_ids();
    }
    let outer = env.out.quiet;
    if let Some(level) = command.value("log-level") {
        env.out.quiet = is_quiet(level);
    }
    let result = env.stabilize(&ids);
    env.out.quiet = outer;
    result
}

fn tick(env: &mut Env, id: ReplicaId, ticks: u32) -> Result<(), String> {
    for _ in 0..ticks {
        env.node(id)?.raw.tick().map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn raft_log(env: &mut Env, id: ReplicaId) -> Result<(), String> {
    let log = &env.node(id)?.raw.storage().log;
    let shown = if log.log().is_empty() {
        let first = log.first_index().map_err(|e| e.to_string())?;
        format!("log is empty: first index={first}, last index={}", first.prev())
    } else {
        describe::entries(log.log())
    };
    env.out.lines(&shown);
    Ok(())
}

fn raft_state(env: &mut Env) -> Result<(), String> {
    for node in &env.nodes {
        let raw = &node.raw;
        let state = raw.conf_state();
        let votes = [&state.voters, &state.voters_outgoing]
            .iter()
            .any(|ids| ids.contains(&node.id()));
        env.out.line(format_args!(
            "{}: {} ({}) Term:{} Lead:{}",
            node.id(),
            describe::role(raw.role()),
            if votes { "Voter" } else { "Non-Voter" },
            raw.term(),
            describe::optional(raw.leader())
        ));
    }
    Ok(())
}

fn set_timeout(env: &mut Env, command: &Command) -> Result<(), String> {
    command.check_keys(&["timeout"])?;
    let ticks = parse_number(command.value("timeout").ok_or("timeout= is needed")?)?;
    let ticks = u32::try_from(ticks).map_err(|e| e.to_string())?;
    env.node(ReplicaId(command.number(0)?))?
        .raw
        .set_randomized_election_ticks(ticks);
    Ok(())
}

/// Shows the progress of every member; only a leader has any to show.
fn status(env: &mut Env, id: ReplicaId) -> Result<(), String> {
    let raw = &env.node(id)?.raw;
    if raw.role() != Role::Leader {
        return Ok(());
    }
    let members = raw.tracker().progress.iter();
    let shown: String = members
        .map(|(id, member)| format!("{id}: {}\n", describe::progress(member)))
        .collect();
    env.out.lines(&shown);
    Ok(())
}
