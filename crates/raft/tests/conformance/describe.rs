//! The reference's text for our typed values.

use std::fmt::Write as _;

use quorate_raft::{
    AppendWork, ConfChange, ConfChangeForm, ConfChangeKind, ConfChangeSingle, ConfState, Entry, HardState,
    Index, Message, MessageBody, Payload, Progress, ProgressState, ReadContext, Ready, ReplicaId, Role,
    Snapshot, Term,
};

use crate::in_flight::InFlight;

/// A Ready, with the messages already rendered in the order in which they are shown.
pub(crate) fn ready(ready: &Ready, must_sync: bool, messages: &[String]) -> String {
    let mut out = String::new();
    let append = ready.append.clone().unwrap_or_default();
    if let Some(soft) = ready.soft_state {
        let _ = writeln!(out, "Lead:{} State:{}", optional(soft.leader), role(soft.role));
    }
    if let Some(hard) = append.hard_state {
        let _ = writeln!(out, "HardState {}", hard_state(hard));
    }
    if !ready.read_states.is_empty() {
        let states: Vec<String> = ready
            .read_states
            .iter()
            .map(|state| format!("{{{} {}}}", state.index, byte_list(&context_text(state.context))))
            .collect();
        let _ = writeln!(out, "ReadStates [{}]", states.join(" "));
    }
    if !append.entries.is_empty() {
        let _ = write!(out, "Entries:\n{}", entries(&append.entries));
    }
    if let Some(snapshot) = &append.snapshot {
        let _ = writeln!(out, "Snapshot {}", self::snapshot(snapshot));
    }
    if let Some(apply) = ready.apply.as_ref().filter(|apply| !apply.entries.is_empty()) {
        let _ = write!(out, "CommittedEntries:\n{}", entries(&apply.entries));
    }
    if !messages.is_empty() {
        out.push_str("Messages:\n");
        for message in messages {
            let _ = writeln!(out, "{message}");
        }
    }
    if out.is_empty() {
        return "<empty Ready>".to_owned();
    }
    format!("Ready MustSync={must_sync}:\n{out}")
}

pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "StateFollower",
        Role::PreCandidate => "StatePreCandidate",
        Role::Candidate => "StateCandidate",
        Role::Leader => "StateLeader",
    }
}

pub(crate) fn optional(id: Option<ReplicaId>) -> u64 {
    id.map_or(0, |id| id.0)
}

fn hard_state(state: HardState) -> String {
    let vote = state.vote.map_or(String::new(), |vote| format!(" Vote:{vote}"));
    format!("Term:{}{vote} Commit:{}", state.term, state.commit)
}

pub(crate) fn entries(entries: &[Entry]) -> String {
    entries
        .iter()
        .map(|entry| format!("{}\n", self::entry(entry)))
        .collect()
}

pub(crate) fn entry(entry: &Entry) -> String {
    format!("{}/{} {}", entry.term, entry.index, payload(&entry.payload))
}

fn payload(payload: &Payload) -> String {
    match payload {
        Payload::Normal(data) => format!("EntryNormal {}", quoted(data)),
        Payload::ConfChange(change) => {
            let kind = match change.form {
                ConfChangeForm::V1 => "EntryConfChange",
                ConfChangeForm::V2 => "EntryConfChangeV2",
            };
            let changes = conf_change(change);
            if changes.is_empty() {
                kind.to_owned()
            } else {
                format!("{kind} {changes}")
            }
        }
    }
}

fn conf_change(change: &ConfChange) -> String {
    let changes: Vec<String> = change
        .changes
        .iter()
        .map(|single: &ConfChangeSingle| {
            let letter = match single.kind {
                ConfChangeKind::AddVoter => 'v',
                ConfChangeKind::AddLearner => 'l',
                ConfChangeKind::Remove => 'r',
                ConfChangeKind::Update => 'u',
            };
            format!("{letter}{}", single.replica)
        })
        .collect();
    changes.join(" ")
}

/// Bytes in double quotes, with what is not printable escaped.
fn quoted(data: &[u8]) -> String {
    format!("\"{}\"", data.escape_ascii())
}

pub(crate) fn snapshot(snapshot: &Snapshot) -> String {
    let meta = &snapshot.meta;
    format!(
        "Index:{} Term:{} ConfState:{}",
        meta.index,
        meta.term,
        conf_state(&meta.conf_state)
    )
}

fn conf_state(state: &ConfState) -> String {
    format!(
        "Voters:{} VotersOutgoing:{} Learners:{} LearnersNext:{} AutoLeave:{}",
        ids(&state.voters),
        ids(&state.voters_outgoing),
        ids(&state.learners),
        ids(&state.learners_next),
        state.auto_leave
    )
}

fn ids(ids: &[ReplicaId]) -> String {
    let ids: Vec<String> = ids.iter().map(ReplicaId::to_string).collect();
    format!("[{}]", ids.join(" "))
}

/// The parts that the reference shows of any message. What a body does not have is zero or absent.
#[derive(Default)]
struct Wide<'a> {
    kind: &'static str,
    log_term: Term,
    index: Index,
    hint: Option<Index>,
    commit: Index,
    vote: Option<ReplicaId>,
    entries: Vec<String>,
    snapshot: Option<&'a Snapshot>,
    /// Each one rendered for an indent of two.
    responses: Vec<String>,
}

impl Wide<'_> {
    fn render(&self, indent: &str, from: &str, to: &str, term: Term) -> String {
        let kind = self.kind;
        let mut out = format!(
            "{indent}{from}->{to} {kind} Term:{term} Log:{}/{}",
            self.log_term, self.index
        );
        if let Some(hint) = self.hint {
            let _ = write!(out, " Rejected (Hint: {hint})");
        }
        if self.commit > Index(0) {
            let _ = write!(out, " Commit:{}", self.commit);
        }
        if let Some(vote) = self.vote {
            let _ = write!(out, " Vote:{vote}");
        }
        match self.entries.as_slice() {
            [] => {}
            [one] => {
                let _ = write!(out, " Entries:[{one}]");
            }
            many => {
                out.push_str(" Entries:[");
                for entry in many {
                    let _ = write!(out, "\n{indent}  {entry}");
                }
                let _ = write!(out, "\n{indent}]");
            }
        }
        if let Some(snapshot) = self.snapshot {
            let _ = write!(out, "\n{indent}  Snapshot: {}", self::snapshot(snapshot));
        }
        if !self.responses.is_empty() {
            out.push_str(" Responses:[");
            for response in &self.responses {
                let _ = write!(out, "\n{response}");
            }
            let _ = write!(out, "\n{indent}]");
        }
        out
    }
}

fn wide(body: &MessageBody) -> Wide<'_> {
    let rejected = |reject: &bool| reject.then_some(Index(0));
    match body {
        MessageBody::Append {
            prev_index,
            prev_term,
            commit,
            entries,
        } => Wide {
            kind: "MsgApp",
            log_term: *prev_term,
            index: *prev_index,
            commit: *commit,
            entries: entries.iter().map(entry).collect(),
            ..Wide::default()
        },
        MessageBody::AppendResponse { index, reject } => Wide {
            kind: "MsgAppResp",
            log_term: reject.map_or(Term(0), |hint| hint.term),
            index: *index,
            hint: reject.map(|hint| hint.index),
            ..Wide::default()
        },
        MessageBody::Heartbeat { commit, context: _ } => Wide {
            kind: "MsgHeartbeat",
            commit: *commit,
            ..Wide::default()
        },
        MessageBody::HeartbeatResponse { context: _ } => Wide {
            kind: "MsgHeartbeatResp",
            ..Wide::default()
        },
        MessageBody::Vote {
            last_index,
            last_term,
            transfer: _,
        } => Wide {
            kind: "MsgVote",
            log_term: *last_term,
            index: *last_index,
            ..Wide::default()
        },
        MessageBody::VoteResponse { reject } => Wide {
            kind: "MsgVoteResp",
            hint: rejected(reject),
            ..Wide::default()
        },
        MessageBody::PreVote {
            last_index,
            last_term,
            transfer: _,
        } => Wide {
            kind: "MsgPreVote",
            log_term: *last_term,
            index: *last_index,
            ..Wide::default()
        },
        MessageBody::PreVoteResponse { reject } => Wide {
            kind: "MsgPreVoteResp",
            hint: rejected(reject),
            ..Wide::default()
        },
        MessageBody::Snapshot(snapshot) => Wide {
            kind: "MsgSnap",
            snapshot: Some(snapshot),
            ..Wide::default()
        },
        MessageBody::TimeoutNow => Wide {
            kind: "MsgTimeoutNow",
            ..Wide::default()
        },
        MessageBody::TransferLeader { target: _ } => Wide {
            kind: "MsgTransferLeader",
            ..Wide::default()
        },
        MessageBody::ReadIndex { context } => Wide {
            kind: "MsgReadIndex",
            entries: context_entry(*context),
            ..Wide::default()
        },
        MessageBody::ReadIndexResponse { index, context } => Wide {
            kind: "MsgReadIndexResp",
            index: *index,
            entries: context_entry(*context),
            ..Wide::default()
        },
        MessageBody::Propose { payloads } => Wide {
            kind: "MsgProp",
            entries: payloads.iter().map(|p| format!("0/0 {}", payload(p))).collect(),
            ..Wide::default()
        },
    }
}

pub(crate) fn message_kind(message: &Message) -> &'static str {
    wide(&message.body).kind
}

pub(crate) fn message(message: &Message) -> String {
    indented_message("", message)
}

fn indented_message(indent: &str, message: &Message) -> String {
    // The reference names the transferee in the sender's field.
    let from = match message.body {
        MessageBody::TransferLeader { target } => target,
        _ => message.from,
    };
    wide(&message.body).render(indent, &node(from), &node(message.to), message.term)
}

/// Ids are shown in hexadecimal in messages, as the reference does.
fn node(id: ReplicaId) -> String {
    format!("{:x}", id.0)
}

pub(crate) fn in_flight(item: &InFlight, indent: &str) -> String {
    match item {
        InFlight::Peer(message) => indented_message(indent, message),
        InFlight::Appended { node, done, snapshot } => {
            let (index, log_term) = done.last.unwrap_or_default();
            let wide = Wide {
                kind: "MsgStorageAppendResp",
                log_term,
                index,
                snapshot: snapshot.as_deref(),
                ..Wide::default()
            };
            wide.render(indent, "AppendThread", &self::node(*node), done.term)
        }
        InFlight::Applied { node, entries } => apply_wide("MsgStorageApplyResp", entries).render(
            indent,
            "ApplyThread",
            &self::node(*node),
            Term(0),
        ),
    }
}

fn apply_wide(kind: &'static str, entries: &[Entry]) -> Wide<'static> {
    Wide {
        kind,
        entries: entries.iter().map(entry).collect(),
        ..Wide::default()
    }
}

/// Work for the append thread, and what it releases.
pub(crate) fn append_work(id: ReplicaId, work: &AppendWork, responses: &[InFlight]) -> String {
    let hard = work.hard_state.unwrap_or_default();
    let wide = Wide {
        kind: "MsgStorageAppend",
        commit: hard.commit,
        vote: hard.vote,
        entries: work.entries.iter().map(entry).collect(),
        snapshot: work.snapshot.as_deref(),
        responses: responses
            .iter()
            .map(|response| in_flight(response, "  "))
            .collect(),
        ..Wide::default()
    };
    wide.render("", &node(id), "AppendThread", hard.term)
}

/// Work for the apply thread, and what it releases.
pub(crate) fn apply_work(id: ReplicaId, entries: &[Entry], responses: &[InFlight]) -> String {
    let mut wide = apply_wide("MsgStorageApply", entries);
    wide.responses = responses
        .iter()
        .map(|response| in_flight(response, "  "))
        .collect();
    wide.render("", &node(id), "ApplyThread", Term(0))
}

/// A read context made of up to 16 characters, so that transcripts can name their reads.
pub(crate) fn context_from_text(text: &str) -> Result<ReadContext, String> {
    let bytes = text.as_bytes();
    if bytes.len() > 16 {
        return Err(format!("read context longer than 16 bytes: {text}"));
    }
    Ok(ReadContext(
        bytes.iter().fold(0, |sum, byte| sum << 8 | u128::from(*byte)),
    ))
}

fn context_text(context: ReadContext) -> Vec<u8> {
    context
        .0
        .to_be_bytes()
        .into_iter()
        .skip_while(|byte| *byte == 0)
        .collect()
}

fn context_entry(context: ReadContext) -> Vec<String> {
    vec![format!("0/0 EntryNormal {}", quoted(&context_text(context)))]
}

fn byte_list(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("[{}]", bytes.join(" "))
}

/// A follower as its leader sees it.
pub(crate) fn progress(progress: &Progress) -> String {
    let state = match progress.state {
        ProgressState::Probe => "StateProbe",
        ProgressState::Replicate => "StateReplicate",
        ProgressState::Snapshot => "StateSnapshot",
    };
    let mut out = format!("{state} match={} next={}", progress.matched, progress.next);
    if progress.is_learner {
        out.push_str(" learner");
    }
    if progress.flow_paused || progress.state == ProgressState::Snapshot {
        out.push_str(" paused");
    }
    if progress.pending_snapshot > Index(0) {
        let _ = write!(out, " pendingSnap={}", progress.pending_snapshot);
    }
    if !progress.recent_active {
        out.push_str(" inactive");
    }
    if !progress.inflights.is_empty() {
        let full = if progress.inflights.is_full() {
            "[full]"
        } else {
            ""
        };
        let _ = write!(out, " inflight={}{full}", progress.inflights.len());
    }
    out
}
