//! A cluster in one thread: nodes, one ordered list of messages in flight, and the steps that move them.

use std::fmt::Display;

use quorate_raft::{ConfState, Message, MessageBody, ReplicaId, Snapshot};

use crate::describe;
use crate::in_flight::InFlight;
use crate::node::{Node, QueuedAppend, QueuedApply};

#[derive(Default)]
pub(crate) struct Env {
    /// Node `i + 1` is at `i`.
    pub(crate) nodes: Vec<Node>,
    pub(crate) in_flight: Vec<InFlight>,
    pub(crate) out: Output,
}

/// Text that a command shows, unless silenced.
#[derive(Default)]
pub(crate) struct Output {
    text: String,
    /// Set by `log-level none`.
    pub(crate) quiet: bool,
}

impl Output {
    pub(crate) fn line(&mut self, line: impl Display) {
        if !self.quiet {
            self.text.push_str(&format!("{line}\n"));
        }
    }

    /// Shows text of any number of lines.
    pub(crate) fn lines(&mut self, text: &str) {
        text.lines().for_each(|line| self.line(line));
    }

    pub(crate) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}

/// Whose messages `deliver-msgs` moves, and whether they arrive.
#[derive(Clone, Copy)]
pub(crate) struct Recipient {
    pub(crate) id: ReplicaId,
    pub(crate) drop: bool,
}

impl Env {
    pub(crate) fn node(&mut self, id: ReplicaId) -> Result<&mut Node, String> {
        let at = usize::try_from(id.0).ok().and_then(|id| id.checked_sub(1));
        at.and_then(|at| self.nodes.get_mut(at))
            .ok_or_else(|| format!("no node {id}"))
    }

    pub(crate) fn all_ids(&self) -> Vec<ReplicaId> {
        self.nodes.iter().map(Node::id).collect()
    }

    /// Runs `step`, indenting by two what it shows.
    fn indented(&mut self, step: impl FnOnce(&mut Env) -> Result<(), String>) -> Result<(), String> {
        let outer = self.out.take();
        let result = step(self);
        let inner = self.out.take();
        self.out.text = outer;
        inner
            .lines()
            .for_each(|line| self.out.text.push_str(&format!("  {line}\n")));
        result
    }

    /// Runs `step` for each of `ids`, under a heading when there is more than one.
    pub(crate) fn for_each(
        &mut self,
        ids: &[ReplicaId],
        doing: &str,
        step: impl Fn(&mut Env, ReplicaId) -> Result<(), String>,
    ) -> Result<(), String> {
        for &id in ids {
            if ids.len() > 1 {
                self.out.line(format_args!("> {id} {doing}"));
                self.indented(|env| step(env, id))?;
            } else {
                step(self, id)?;
            }
        }
        Ok(())
    }

    /// Takes one Ready and does, or queues, what it asks for.
    pub(crate) fn process_ready(&mut self, id: ReplicaId) -> Result<(), String> {
        let node = self.node(id)?;
        let ready = node.raw.ready().map_err(|e| e.to_string())?;
        let mut messages: Vec<String> = ready.send_now.iter().map(describe::message).collect();
        let asynchronous = node.config.async_storage_writes;
        let append = ready.append.clone();
        let apply = ready.apply.clone().filter(|apply| !apply.entries.is_empty());
        let must_sync = append.as_ref().is_some_and(|work| node.must_sync(work));
        let mut released = Vec::new();

        if asynchronous {
            if let Some(work) = append {
                let releases = append_releases(id, &work);
                messages.push(describe::append_work(id, &work, &releases));
                node.append_work.push_back(QueuedAppend { work, releases });
            }
            if let Some(work) = apply {
                let releases = vec![InFlight::Applied {
                    node: id,
                    entries: work.entries.clone(),
                }];
                messages.push(describe::apply_work(id, &work.entries, &releases));
                node.apply_work.push_back(QueuedApply {
                    entries: work.entries,
                    releases,
                });
            }
        } else if let Some(work) = &append {
            let local = work.responses.iter().find(|response| response.to == id);
            assert!(
                local.is_none(),
                "a synchronous Ready holds a message to its own member: {local:?}"
            );
            messages.extend(work.responses.iter().map(describe::message));
            released.clone_from(&work.responses);
        }
        let shown = describe::ready(&ready, must_sync, &messages);
        self.out.lines(&shown);

        let node = self.node(id)?;
        if !asynchronous {
            if let Some(work) = &ready.append {
                node.append(work)?;
            }
            if let Some(work) = &ready.apply {
                node.apply(&work.entries)?;
            }
        }
        self.in_flight
            .extend(ready.send_now.into_iter().chain(released).map(InFlight::Peer));
        if !asynchronous {
            self.node(id)?.raw.advance().map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Does the oldest queued append.
    pub(crate) fn process_append(&mut self, id: ReplicaId) -> Result<(), String> {
        let node = self.node(id)?;
        let Some(QueuedAppend { work, releases }) = node.append_work.pop_front() else {
            self.out.line("no append work to perform");
            return Ok(());
        };
        node.append(&work)?;
        self.show_work(&describe::append_work(id, &work, &[]), &releases);
        self.in_flight.extend(releases);
        Ok(())
    }

    /// Does the oldest queued apply.
    pub(crate) fn process_apply(&mut self, id: ReplicaId) -> Result<(), String> {
        let node = self.node(id)?;
        let Some(QueuedApply { entries, releases }) = node.apply_work.pop_front() else {
            self.out.line("no apply work to perform");
            return Ok(());
        };
        node.apply(&entries)?;
        self.show_work(&describe::apply_work(id, &entries, &[]), &releases);
        self.in_flight.extend(releases);
        Ok(())
    }

    fn show_work(&mut self, work: &str, releases: &[InFlight]) {
        self.out.line("Processing:");
        self.out.lines(work);
        self.out.line("Responses:");
        for release in releases {
            self.out.lines(&release.describe());
        }
    }

    /// Delivers or drops what is in flight to each recipient; returns how many messages that were.
    pub(crate) fn deliver(&mut self, kind: Option<&str>, recipients: &[Recipient]) -> Result<usize, String> {
        let mut handled = 0;
        for recipient in recipients {
            let moves = |item: &InFlight| {
                item.to() == recipient.id
                    && !(recipient.drop && item.is_local())
                    && kind.is_none_or(|kind| kind == item.kind())
            };
            let (moved, rest) = std::mem::take(&mut self.in_flight).into_iter().partition(moves);
            self.in_flight = rest;
            let moved: Vec<InFlight> = moved;
            handled += moved.len();
            for item in moved {
                let prefix = if recipient.drop { "dropped: " } else { "" };
                self.out.lines(&format!("{prefix}{}", item.describe()));
                if !recipient.drop
                    && let Err(error) = self.deliver_one(item)
                {
                    self.out.line(error);
                }
            }
        }
        Ok(handled)
    }

    fn deliver_one(&mut self, item: InFlight) -> Result<(), String> {
        let node = self.node(item.to())?;
        match item {
            InFlight::Peer(message) => {
                let stray = message.body.is_response() && !is_member(&node.raw.conf_state(), message.from);
                node.raw.step(message).map_err(|e| e.to_string())?;
                // The reference reports this; our core has nothing to report and ignores the message.
                if stray {
                    Err("raft: cannot step as peer not found".to_owned())
                } else {
                    Ok(())
                }
            }
            InFlight::Appended { done, .. } => node.raw.append_done(done).map_err(|e| e.to_string()),
            InFlight::Applied { entries, .. } => {
                let last = entries.last().expect("apply work is never empty");
                node.raw.apply_done(last.index).map_err(|e| e.to_string())
            }
        }
    }

    /// Rounds of Readys, deliveries, append work and apply work over `ids`, until nothing is left.
    pub(crate) fn stabilize(&mut self, ids: &[ReplicaId]) -> Result<(), String> {
        // Far above what any transcript needs: a cluster that never settles is a failure, not a hang.
        const ROUNDS_MAX: usize = 1000;
        for _ in 0..ROUNDS_MAX {
            let mut idle = true;
            for &id in ids {
                if self.node(id)?.raw.has_ready() {
                    self.out.line(format_args!("> {id} handling Ready"));
                    self.indented(|env| env.process_ready(id))?;
                    idle = false;
                }
            }
            for &id in ids {
                if self.in_flight.iter().any(|item| item.to() == id) {
                    self.out.line(format_args!("> {id} receiving messages"));
                    self.indented(|env| env.deliver(None, &[Recipient { id, drop: false }]).map(|_| ()))?;
                    idle = false;
                }
            }
            for &id in ids {
                if !self.node(id)?.append_work.is_empty() {
                    self.out.line(format_args!("> {id} processing append thread"));
                    while !self.node(id)?.append_work.is_empty() {
                        self.indented(|env| env.process_append(id))?;
                    }
                    idle = false;
                }
            }
            for &id in ids {
                if !self.node(id)?.apply_work.is_empty() {
                    self.out.line(format_args!("> {id} processing apply thread"));
                    while !self.node(id)?.apply_work.is_empty() {
                        self.indented(|env| env.process_apply(id))?;
                    }
                    idle = false;
                }
            }
            if idle {
                return Ok(());
            }
        }
        Err(format!("not stable after {ROUNDS_MAX} rounds"))
    }

    /// Puts the newest snapshot of `from` in flight, as if the core had sent it.
    pub(crate) fn send_snapshot(&mut self, from: ReplicaId, to: ReplicaId) -> Result<(), String> {
        let node = self.node(from)?;
        let snapshot: Snapshot = node.raw.storage().newest().clone();
        let term = node.raw.term();
        let message = Message {
            from,
            to,
            term,
            body: MessageBody::Snapshot(Box::new(snapshot)),
        };
        self.out.lines(&describe::message(&message));
        self.in_flight.push(InFlight::Peer(message));
        Ok(())
    }
}

fn append_releases(node: ReplicaId, work: &quorate_raft::AppendWork) -> Vec<InFlight> {
    let done = work.done.clone().map(|done| {
        let snapshot = done.snapshot.and(work.snapshot.clone());
        InFlight::Appended { node, done, snapshot }
    });
    work.responses
        .iter()
        .cloned()
        .map(InFlight::Peer)
        .chain(done)
        .collect()
}

fn is_member(state: &ConfState, id: ReplicaId) -> bool {
    [
        &state.voters,
        &state.learners,
        &state.voters_outgoing,
        &state.learners_next,
    ]
    .iter()
    .any(|ids| ids.contains(&id))
}
