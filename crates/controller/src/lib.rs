//! The controller: the replicated state machine of shard 0, which knows what the cluster consists of.
//!
//! [`Controller`] implements [`StateMachine`](quorate_store::rsm::StateMachine): `quorate-store` drives it with the
//! commands of shard 0's log and keeps its rows. Nothing here does I/O or reads a clock.
//!
//! What is replicated is what must not be forgotten or given twice: what the cluster began with, the next id, which
//! incarnation of each store is the one that its id belongs to, with its addresses (P7), and the configs: which stores
//! form which group, and which group is to hold which shard.

mod balance;
mod history;
mod placement;
mod rows;
mod state;

pub use balance::balance;
pub use history::History;
pub use placement::{DEFAULT_GROUP, GROUP_STORES_MAX, GROUPS_MAX};
pub use state::Controller;
