//! The Raft consensus core: a deterministic machine without I/O, threads, clock or global randomness.
//!
//! Inputs are messages, ticks, proposals and completions of storage work; outputs are data, taken as a
//! [`Ready`]. Randomness comes from the seed in [`Config`].
//!
//! Begin with the [`guide`]: the loop, what must be durable before what, sizing, common mistakes. [`RawNode`] is the
//! surface, [`Storage`] what you implement, [`storage_suite`] how you test it.
//!
//! What is here: elections with pre-vote, check-quorum, priorities and transfer; pipelined replication with limits;
//! snapshots; learners and joint consensus; linearizable reads from leaders and followers; synchronous and
//! asynchronous writing. The words are those of the [Raft paper](https://raft.github.io/raft.pdf) and of etcd's
//! library, whose transcripts judge this one.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[macro_use]
#[doc(hidden)]
pub mod mutants;

mod buffers;
pub mod confchange;
mod config;
mod election;
mod error;
mod follower;
#[doc = include_str!("guide.md")]
pub mod guide {}
mod ids;
mod inflights;
mod leader;
mod mem_storage;
mod message;
mod progress;
mod proposals;
pub mod quorum;
mod raft;
mod raft_log;
mod raw_node;
mod read_only;
mod ready;
mod rng;
mod status;
mod step;
mod storage;
pub mod storage_suite;
mod tracker;
mod unstable;

pub use buffers::Buffers;
pub use confchange::ConfChangeError;
pub use config::{Config, ReadOnlyOption};
pub use error::{ConfStateError, ConfigError, ProposeError, StartError, StepError, StorageError};
pub use ids::{Index, ReplicaId, Term};
pub use inflights::Inflights;
pub use mem_storage::MemStorage;
pub use message::{
    ConfChange, ConfChangeForm, ConfChangeKind, ConfChangeSingle, ConfChangeTransition, ConfState, Entry,
    HardState, Message, MessageBody, Payload, ReadContext, RejectHint, Snapshot, SnapshotMeta,
};
pub use progress::Progress;
pub use raw_node::RawNode;
pub use ready::{AppendDone, AppendWork, ApplyWork, ReadState, Ready, Role, SoftState};
pub use status::{ProgressState, ProgressView, Status};
pub use storage::Storage;
pub use tracker::{ProgressMap, Tracker, TrackerConfig};
