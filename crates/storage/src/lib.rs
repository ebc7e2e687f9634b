//! What survives a crash: the shared Raft log (one implementation, above a small [`disk::Disk`] trait) and the
//! state engine (a trait, [`engine::Engine`]).

pub mod disk;
pub mod engine;
pub mod log;

mod ids;

pub use ids::{ClusterId, Identity, Incarnation, ShardId, StoreId};
