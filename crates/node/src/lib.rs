//! A replicated log to embed.

mod config;
mod durable;
mod error;
mod machine;
mod member_log;
mod members;
pub mod sim;
mod types;

pub use config::{Config, LogFiles, Start};
pub use error::{
    ChangeError, FatalError, OpenError, ReadError, SnapshotError, SpawnError, StartError, TransferError,
};
pub use quorate_raft::{Index, Role, Term};
pub use quorate_storage::ClusterId;
pub use types::{Applied, Change, CommandIndex, Membership, NodeId, Started, Status};
