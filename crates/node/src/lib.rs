//! A replicated log to embed.

mod config;
mod driver;
mod durable;
mod error;
mod machine;
mod member_log;
mod members;
mod rsm;
pub mod sim;
mod types;

pub use config::{Config, LogFiles, Start};
pub use driver::{AppliedStream, Directory, Handle, Node, Replicated, SubmitError, Transport};
pub use error::{
    ChangeError, FatalError, OpenError, ReadError, SnapshotError, SpawnError, StartError, TransferError,
};
pub use quorate_raft::{Index, Role, Term};
pub use quorate_storage::ClusterId;
pub use rsm::{NotDone, Replica, StateMachine};
pub use types::{Applied, Change, CommandIndex, Membership, NodeId, Started, Status};
