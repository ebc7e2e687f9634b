//! Pairs the invocations of processes with their ends, in formats that have a line for each. Every line is a
//! later moment than the one before.

use std::collections::BTreeMap;

use crate::linearizability::history::{Answer, Command, History, OperationId, Unit};

/// How an operation ended.
pub(super) enum End {
    /// `:ok`
    Done(Answer),
    /// `:fail`
    NotApplied,
    /// `:info`
    Unknown,
}

/// Histories being put together.
pub(super) struct Events {
    pub(super) history: History,
    /// By process: what is under way, and what it is called in the file.
    under_way: BTreeMap<u64, (OperationId, String)>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            history: History::new(Unit::Events),
            under_way: BTreeMap::new(),
        }
    }
}

impl Events {
    pub(super) fn invoke(
        &mut self,
        line: u64,
        process: u64,
        name: &str,
        key: String,
        command: Command,
    ) -> Result<(), String> {
        if let Some((_, name)) = self.under_way.get(&process) {
            return Err(format!(
                "process {process} invokes an operation while its {name} is under way"
            ));
        }
        let id = self.history.invoke(process, key, command, line);
        self.under_way.insert(process, (id, name.into()));
        Ok(())
    }

    pub(super) fn end(&mut self, line: u64, process: u64, name: &str, end: End) -> Result<(), String> {
        let Some((id, invoked)) = self.under_way.remove(&process) else {
            return Err(format!("process {process} ends a {name} that it has not invoked"));
        };
        if invoked != name {
            return Err(format!(
                "process {process} ends a {name}; it has invoked a {invoked}"
            ));
        }
        match end {
            End::Done(answer) => self.history.done(id, line, answer),
            End::NotApplied => self.history.not_applied(id, line),
            End::Unknown => {}
        }
        Ok(())
    }
}
