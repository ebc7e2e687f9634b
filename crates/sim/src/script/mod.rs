//! Scripted worlds: a test decides what happens when, on virtual time, and looks at what came of it.
//!
//! ```
//! use quorate_sim::{Call, Setup};
//!
//! let mut world = Setup::new(3).start();
//! world.await_leader(1)?;
//! let client = world.client("a");
//! world.ask(client, Call::put("k", "1"))?;
//! let leader = world.leader_of(1).expect("it was awaited");
//! world.crash(leader);
//! assert_eq!(world.ask(client, Call::get("k"))?.bytes(), Some(&b"1"[..]));
//! world.start_node(leader);
//! world.heal_and_check()?;
//! # Ok::<(), quorate_sim::Violation>(())
//! ```
//!
//! | file | subject |
//! | --- | --- |
//! | `setup` | the cluster and its surroundings, before the start |
//! | `call`, `clients` | named clients, one call at a time or as programs, over links that lose and delay |
//! | `steer` | nodes, disks, clocks, network |
//! | `recovery` | stores that are gone for good, and shards without their majority |
//! | `session` | sessions of named clients, and the tables that remember them |
//! | `filter` | what becomes of single messages |
//! | `judge` | whether what the clients saw is linearizable |
//! | `look` | the state of the cluster, and waiting for one |
//!
//! Nodes are counted from 0. All that the oracles check is checked here as well; every method that lets time
//! pass fails with the first property that does not hold.

mod call;
mod clients;
mod filter;
mod judge;
mod look;
mod recovery;
mod session;
mod setup;
mod steer;

pub use call::{Call, CallId, ClientId, Ended, Next, Operation, Program, Retry};
pub(crate) use clients::{Callers, Stage};
pub(crate) use filter::Filters;
pub use filter::{FilterId, MessageKind, Passing, Verdict};
pub use session::Opened;
pub use setup::Setup;

/// A virtual second, in microseconds.
pub const SECOND: u64 = 1_000_000;
/// A virtual millisecond, in microseconds.
pub const MILLISECOND: u64 = 1_000;
