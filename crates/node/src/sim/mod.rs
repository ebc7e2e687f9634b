//! Whole groups on virtual time, from one seed: for this crate's tests and for those of whoever embeds it.
//!
//! [`Cluster`] runs members as they are: the same machine and the same log and snapshot files as over real
//! sockets, on simulated disks that lose what was not synced. [`Network`] delays, loses, repeats, reorders,
//! divides and counts. Nothing reads a clock or draws randomness of its own, so the same seed and the same
//! calls give the same run, which [`Cluster::digest`] tells; and a second of virtual time takes milliseconds.
//!
//! ```
//! use quorate_node::sim::{Cluster, Options};
//! use quorate_node::{Applied, NodeId};
//!
//! let mut cluster = Cluster::new(Options::default(), 42);
//! cluster.run_for(3_000_000);
//! let leader = cluster.running().find(|id| cluster.is_leader(*id)).expect("somebody leads after three seconds");
//!
//! let started = cluster.start(leader, b"hello")?;
//! cluster.crash_power_loss(leader);
//! cluster.run_for(5_000_000);
//! cluster.restart(leader);
//! cluster.run_for(5_000_000);
//!
//! // Whether the command survived is not known; but all members agree on it.
//! let commands = |things: Vec<Applied>| -> Vec<_> {
//!     things.into_iter().filter(|thing| matches!(thing, Applied::Command { .. })).collect()
//! };
//! let seen: Vec<_> = (1..=3).map(|id| commands(cluster.take_applied(NodeId(id)))).collect();
//! assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
//! assert_eq!(started.index.0, 1);
//! # Ok::<(), quorate_node::StartError>(())
//! ```

mod cluster;
mod network;

pub use cluster::{Cluster, Options, Ticket};
pub use network::{Counters, Delivery, Faults, Network, What};
pub use quorate_storage::disk::SplitMix64;
