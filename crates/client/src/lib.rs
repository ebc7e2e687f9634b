//! A client for [Quorate](https://github.com/quorate/quorate), a replicated key-value store, that hides what can be
//! hidden and says plainly what cannot.
//!
//! - **Every write runs once.** It is sent under a session that the client opens by itself, so after a broken
//!   connection or a change of leader it is sent again without harm. `increment` and `append` are as safe as `set`.
//! - **Every read is linearizable**, wherever it is answered.
//! - **Failures say which of three it was**: applied, not applied, or unknown. An unknown one is settled by
//!   [`Client::status`].
//! - **Commands go straight to leaders.** The client keeps the map of shards, follows hints, and asks any other node,
//!   which forwards, while a leader is away.
//! - **One connection for each node**, with many commands under way on it.
//!
//! [`Client`] has the commands. It needs a [tokio](https://docs.rs/tokio) runtime with its I/O and time drivers;
//! [`blocking::Client`] brings one.
//!
//! ```no_run
//! use quorate_client::{Client, Error, Outcome};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let client = Client::connect(["127.0.0.1:7001"]).await?;
//! match client.append("log", "line\n").await.into() {
//!     Outcome::Applied(bytes) => println!("{bytes} bytes by now"),
//!     Outcome::NotApplied(error) => println!("certainly not: {error}"),
//!     Outcome::Unknown(Error::Unknown { write: Some(write), .. }) => {
//!         println!("it {:?}", client.status(&write).await?);
//!     }
//!     Outcome::Unknown(error) => println!("{error}"),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # How long things take
//!
//! A command has a deadline, 10 s unless [`Options::deadline`] or [`Client::within`] say otherwise, and ends within it
//! whatever the cluster does. When a leader dies, its shards' commands wait for the next one, which takes about a
//! second; commands for other shards do not notice.
//!
//! # What it costs
//!
//! A write is about 60 bytes longer than without a session, and each shard that is written to keeps a row of about 100
//! bytes for it until the session is forgotten. A client that sends its writes one after the other uses one session;
//! one with many under way uses more, up to 64, each for at most 16 writes at a time.

pub mod blocking;
mod client;
mod command;
mod commands;
mod core;
mod counters;
mod error;
mod lookups;
mod net;
mod options;
pub mod plain;
pub mod resp;
mod scan;
pub mod slots;

pub use client::Client;
pub use command::Command;
pub use commands::{Expiry, MultiError, SetOptions, Status, Swapped, When};
pub use counters::Counters;
pub use error::{BadSessionId, Error, Outcome, Reason, ServerError, SessionId, WriteId};
pub use lookups::{Shard, Store};
pub use options::Options;
pub use scan::Scan;
