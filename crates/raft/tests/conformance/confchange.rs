//! The commands of `confchange/`: membership arithmetic alone.

use std::fmt::Write as _;

use quorate_raft::confchange::Changer;
use quorate_raft::{Index, ProgressMap, ReplicaId, Tracker, TrackerConfig};

use crate::describe;
use crate::interaction::conf_changes;
use crate::script::Stanza;

/// A configuration that persists through a file.
pub(crate) struct State {
    tracker: Tracker,
    /// Grows by one a command, so that the `next` of a new member tells when it came.
    last_index: Index,
}

impl State {
    pub(crate) fn new() -> State {
        State {
            tracker: Tracker::new(10, u64::MAX),
            last_index: Index(0),
        }
    }

    /// Runs one stanza; the result is its output.
    pub(crate) fn run(&mut self, stanza: &Stanza) -> String {
        let shown = self.change(stanza).unwrap_or_else(|error| error);
        self.last_index = self.last_index.next();
        shown
    }

    fn change(&mut self, stanza: &Stanza) -> Result<String, String> {
        let command = &stanza.command;
        command.check_keys(&["autoleave"])?;
        let changes = conf_changes(&stanza.input)?;
        let changer = Changer {
            tracker: &self.tracker,
            last_index: self.last_index,
        };
        let changed = match command.name.as_str() {
            "simple" => changer.simple(&changes),
            "enter-joint" => changer.enter_joint(command.value("autoleave") == Some("true"), &changes),
            "leave-joint" if changes.is_empty() => changer.leave_joint(),
            "leave-joint" => return Err("this command takes no input".to_owned()),
            _ => return Err("unknown command".to_owned()),
        };
        let (config, progress) = changed.map_err(|e| e.to_string())?;
        self.tracker.config = config;
        self.tracker.progress = progress;
        Ok(format!(
            "{}\n{}",
            shown_config(&self.tracker.config),
            shown_progress(&self.tracker.progress)
        ))
    }
}

fn shown_config(config: &TrackerConfig) -> String {
    let voters = &config.voters;
    let mut out = format!("voters={}", set(voters.incoming.ids()));
    if voters.is_joint() {
        let _ = write!(out, "&&{}", set(voters.outgoing.ids()));
    }
    for (name, ids) in [
        ("learners", &config.learners),
        ("learners_next", &config.learners_next),
    ] {
        if !ids.is_empty() {
            let _ = write!(out, " {name}={}", set(ids));
        }
    }
    if config.auto_leave {
        out.push_str(" autoleave");
    }
    out
}

fn set(ids: &[ReplicaId]) -> String {
    let ids: Vec<String> = ids.iter().map(ReplicaId::to_string).collect();
    format!("({})", ids.join(" "))
}

fn shown_progress(members: &ProgressMap) -> String {
    members
        .iter()
        .map(|(id, progress)| format!("{id}: {}\n", describe::progress(progress)))
        .collect()
}
