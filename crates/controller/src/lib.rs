//! The controller: the replicated state machine of shard 0, which knows what the cluster consists of.
//!
//! [`Controller`] implements [`StateMachine`](quorate_store::rsm::StateMachine): `quorate-store` drives it with the
//! commands of shard 0's log and keeps its rows. Nothing here does I/O or reads a clock.
//!
//! What is replicated is what must not be forgotten or given twice: what the cluster began with, the next id, which
//! incarnation of each store is the one that its id belongs to, with its addresses and labels (P7), what stores are used for,
//! the window of timestamps, and the configs: which stores form which group, and which group is to hold which shard.
//!
//! What is not replicated is what can be asked anew: where the shards are ([`ShardMap`]) and which stores live
//! ([`Liveness`]). The leader knows it from heartbeats ([`Overview`]), and whoever leads next begins again. By it the
//! schedulers ([`operators`]) decide who is to hold and to lead what, and the answers to heartbeats say so ([`Operators`]).

mod balance;
mod history;
mod liveness;
mod overview;
mod placement;
mod plan;
mod recovery;
mod rows;
mod schedule;
mod shard_map;
mod state;
mod stores;
mod timestamps;

pub use balance::balance;
pub use history::History;
pub use liveness::{DOWN_AFTER_US, Liveness};
pub use overview::{Overview, SETTLE_US};
pub use placement::{DEFAULT_GROUP, GROUP_STORES_MAX, GROUPS_MAX};
pub use recovery::Survivors;
pub use schedule::{
    BEGIN_US, Cluster, ClusterView, Condition, END_US, Kept, MemberView, Operator, Operators, REST_US,
    RETURN_US, Reason, Running, ShardView, StoreView, Task, operators, seen,
};
pub use shard_map::{Known, Refused, ShardMap};
pub use state::Controller;
