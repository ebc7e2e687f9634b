//! One node's shards: a deterministic machine, inputs in, effects out.
//!
//! [`Store`] hosts a replica of each of its shards. A driver (a reactor thread, or the simulator) feeds it
//! [`Input`]s together with the time, performs the [`Effects`] and reports their completion. Nothing here reads
//! a clock, opens a socket or starts a thread.
//!
//! | module | duty |
//! | --- | --- |
//! | `open` | replicas as the engine and the log left them |
//! | `bootstrap`, `first_placement` | what a cluster begins with, and where |
//! | `turn` | what the consensus cores want sent and stored, what waits for the log |
//! | `inbound` | what other nodes say |
//! | `router` | which shard holds a slot, which replica or store serves it |
//! | `shard_map` | telling stores about shards that they do not hold |
//! | `membership` | who holds a shard, and the next step to who is to hold it (rules M) |
//! | `manage` | what a leader does for that |
//! | `lifecycle` | replicas come and go (P4, M4) |
//! | `tombstone` | what is left of a replica that was removed |
//! | `gateway` | the way of a client's request: local, forwarded, parked, refused (rules O) |
//! | `attempts` | what follows when an attempt at a request ended (rules O) |
//! | `own_sessions` | the sessions under which a gateway forwards (S6) |
//! | `lanes` | the order of a connection's requests |
//! | `leader` | proposing writes, confirming reads (rules R) |
//! | `lease` | when a leader may answer alone, when a vote must be refused (rules L) |
//! | `apply` | committed entries into one engine batch, then the answers |
//! | `ticker` | time: elections, deadlines, expiry (rules T), spreading leaders |
//! | `log_gc` | forgetting entries that the engine has made durable |
//! | [`rsm`] | the state machine that shard 0 hosts for the controller |
//! | `scheduler_worker` | asking the controller |
//! | `heartbeats` | telling its leader how the store and its shards are |
//! | `survey` | how large the shards are |
//! | `snapshot_source` | who feeds a follower that is too far behind |
//! | `snapshot_send` | feeding it |
//! | `snapshot` | staging and installing what it is fed (P5) |
//! | `health` | a disk that is full or slow (rules H) |
//! | `rebuild` | a replica whose log was damaged comes back from its peers (P3) |
//! | [`inspect`] | what a stopped store's log and engine hold |
//! | `space` | removing data that nothing refers to |
//! | `kv` | the key-value state machine |

mod api;
mod apply;
mod attempts;
mod bootstrap;
mod counters;
mod descriptor;
mod error;
mod first_placement;
mod gateway;
mod health;
mod heartbeats;
mod inbound;
pub mod inspect;
mod io;
pub mod kv;
mod lanes;
mod leader;
mod lease;
mod lifecycle;
mod load;
mod log_gc;
mod log_hold;
mod manage;
mod membership;
mod open;
mod orders;
mod own_sessions;
mod rebuild;
mod recovery;
pub mod recovery_offline;
mod replica;
mod router;
pub mod rsm;
mod scheduler_worker;
mod shard_log;
mod shard_map;
mod snapshot;
mod snapshot_send;
mod snapshot_source;
mod space;
mod split;
mod split_checker;
mod split_look;
mod status;
mod store;
mod survey;
mod sweeps;
mod ticker;
mod tombstone;
mod turn;

pub use api::{ClientOutcome, ClientRequest, Refusal, RequestId, RouteMode, ShardRoute, Target};
pub use bootstrap::{Bootstrap, FIRST, SLOTS, first_slots};
pub use counters::Counters;
pub use descriptor::{Applied, Descriptor};
pub use error::StoreError;
pub use health::HealthStatus;
pub use heartbeats::HEARTBEAT_EVERY_TICKS;
pub use io::{Effects, Input, LogToken, Registration, StoreOptions, Times};
pub use log_hold::log_held_max;
pub use rebuild::RebuildStatus;
pub use status::ReplicaStatus;
pub use store::Store;
