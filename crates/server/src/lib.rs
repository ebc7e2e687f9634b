//! The real world around [`quorate_store`]: sockets, threads, files and clocks.
//!
//! [`run`] is a node. One reactor thread owns all client and peer sockets and the store and drives them turn by
//! turn; the Raft log is written by it or, when the disk is slow, by a thread beside it; engine durability and
//! HTTP have threads of their own. Nothing in here decides anything about consensus or data: it moves bytes,
//! reads clocks and performs the store's effects.
//!
//! | module | duty |
//! | --- | --- |
//! | [`config`] | what a node is told at its start |
//! | `run` | opens or formats a data directory, puts the parts together |
//! | [`offline`] | a look at the data directory of a node that does not run |
//! | `birth` | how an empty directory becomes a store: with others, by joining, or alone |
//! | `address_book` | where the other stores can be reached |
//! | `data_dir` | whose a data directory is, and how it comes to be (P4, P7, P8) |
//! | `reactor` | the turn: read all, hand it to the store, perform its effects |
//! | `connections` | client sockets under edge-triggered readiness |
//! | [`client`] | a client's session: commands in, requests to the store, replies in order |
//! | [`resp`] | Redis's wire protocol |
//! | `log_writer` | where the Raft log is written, and how long that takes |
//! | `engine_worker` | makes the state engine durable, away from the reactor |
//! | `node_command` | `QUORATE` commands about the node itself |
//! | `view` | the node as sessions see it: routes, stores, gauges |
//! | `publish`, [`status`], [`metrics`], [`http`] | the node's account of itself, its forms, and who asks for it |
//! | [`explain`] | what of a refused change does not fit the cluster |
//! | [`json`] | what a node lists, for tools |
//! | `clock` | the only place that reads a clock |

pub mod client;
pub mod config;
pub mod explain;
pub mod http;
pub mod json;
pub mod metrics;
pub mod offline;
pub mod resp;
pub mod status;

mod address_book;
mod birth;
mod clock;
mod connections;
mod data_dir;
mod engine_worker;
mod log_writer;
mod node_command;
mod publish;
mod reactor;
mod run;
mod view;

pub use data_dir::DataDirError;
pub use run::{RunError, run};
