//! A look at a store that does not run: what its log and its engine hold of each shard.
//!
//! For operators and bug reports (`quorate debug`). Nothing is changed, and nothing is believed: what contradicts
//! itself is shown as it is.

use std::collections::BTreeSet;

use quorate_proto::{Command, Op};
use quorate_raft::{Entry, Index, Payload, Term};
use quorate_storage::ShardId;
use quorate_storage::engine::{EngineError, View};
use quorate_storage::log::{Recovered, RecoveredShard};

use crate::descriptor::{Applied, Descriptor};
use crate::kv::{self, Stored};
use crate::rebuild;

/// What a store holds of one shard.
#[derive(Clone, Debug)]
pub struct ShardReport {
    /// The shard.
    pub shard: ShardId,
    /// What the engine holds; none if only the log knows the shard (P4).
    pub state: Option<StateReport>,
    /// What the log holds; none if only the engine knows the shard: the log has lost it (P3).
    pub log: Option<RecoveredShard>,
}

/// A shard's part of the engine.
#[derive(Clone, Debug)]
pub struct StateReport {
    /// Its members, slots and epoch.
    pub descriptor: Descriptor,
    /// How far it is applied.
    pub applied: Applied,
    /// The highest term in which the replica may have lost a vote, while it is rebuilt from its peers (P3).
    pub rebuilt_from: Option<Term>,
}

/// All shards that the log or the engine knows, in order.
///
/// # Errors
///
/// The engine's, and damage found in it.
pub fn shards(view: &impl View, recovered: &Recovered) -> Result<Vec<ShardReport>, EngineError> {
    let descriptors = Descriptor::load_all(view)?;
    let known: BTreeSet<ShardId> = descriptors
        .iter()
        .map(|descriptor| descriptor.shard)
        .chain(recovered.shards.keys().copied())
        .collect();
    known
        .into_iter()
        .map(|shard| {
            let descriptor = descriptors.iter().find(|descriptor| descriptor.shard == shard);
            let state = descriptor
                .map(|descriptor| {
                    Ok::<_, EngineError>(StateReport {
                        descriptor: descriptor.clone(),
                        applied: Applied::load(view, shard)?,
                        rebuilt_from: rebuild::load_mark(view, shard)?,
                    })
                })
                .transpose()?;
            Ok(ShardReport {
                shard,
                state,
                log: recovered.shards.get(&shard).cloned(),
            })
        })
        .collect()
}

/// One entry of a log, decoded.
#[derive(Clone, Debug)]
pub struct LoggedEntry {
    /// Where it stands.
    pub index: Index,
    /// Its term.
    pub term: Term,
    /// What it carries.
    pub content: Content,
}

/// What an entry carries.
#[derive(Clone, Debug)]
pub enum Content {
    /// A write.
    Command(Command),
    /// Nothing: a leader's first entry.
    Empty,
    /// A membership change.
    ConfChange(quorate_raft::ConfChange),
    /// Bytes that are no command of this version: why.
    Unreadable(String),
}

impl LoggedEntry {
    /// Decodes an entry.
    #[must_use]
    pub fn new(entry: &Entry) -> Self {
        let content = match &entry.payload {
            Payload::Normal(data) if data.is_empty() => Content::Empty,
            Payload::Normal(data) => match Command::decode(data) {
                Ok(command) => Content::Command(command),
                Err(error) => Content::Unreadable(error.to_string()),
            },
            Payload::ConfChange(change) => Content::ConfChange((**change).clone()),
        };
        Self {
            index: entry.index,
            term: entry.term,
            content,
        }
    }

    /// Whether it may change what a key holds.
    #[must_use]
    pub fn concerns(&self, key: &[u8]) -> bool {
        match &self.content {
            Content::Command(command) => command.op == Op::Flush || command.op.keys().any(|own| own == key),
            Content::Unreadable(_) => true,
            Content::Empty | Content::ConfChange(_) => false,
        }
    }
}

/// What the engine holds under a key, whether or not its deadline has passed.
///
/// # Errors
///
/// The engine's, and damage found in it.
pub fn value(view: &impl View, of: &Descriptor, key: &[u8]) -> Result<Option<Stored>, EngineError> {
    view.get(&kv::data_key(of.space, key))?
        .map(|bytes| Stored::decode(&bytes))
        .transpose()
}

/// A digest of a shard's content: equal on replicas that have applied the same. Reads the whole shard.
///
/// # Errors
///
/// The engine's.
pub fn digest(view: &impl View, of: &Descriptor) -> Result<u64, EngineError> {
    kv::digest(view, of.spaces())
}
