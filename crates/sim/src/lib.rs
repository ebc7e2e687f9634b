//! The deterministic simulator: a whole cluster in one thread on virtual time, all of it decided by one seed.
//!
//! The code that is simulated is the code that runs in production: [`quorate_store::Store`], the consensus core
//! under it, and the real Raft log on a simulated disk. Clocks, network, disks, the state engine and the clients
//! are the simulator's, and hostile. After every step the properties of `oracle` are checked, every answer is
//! judged by `judge`, and after a phase with faults the cluster must recover.
//!
//! ```
//! use quorate_sim::{Options, Profile, run};
//!
//! let report = run(7, Profile::Calm, &Options { fault_ms: Some(500), ..Options::short() }).unwrap();
//! assert!(report.outcomes.writes_done > 0);
//! ```
//!
//! | module | subject |
//! | --- | --- |
//! | `plan` | what a seed stands for |
//! | `world`, `queue` | virtual time and what happens in it |
//! | `node`, `process`, `clock` | machines, the processes on them, their clocks |
//! | `network`, `message` | connections and messages |
//! | `faults`, `heal` | the two phases |
//! | `placement` | an operator who has groups and stores come and go |
//! | `workload`, `judge`, `record` | clients, and what they may see |
//! | `oracle` | what must hold after every step |
//! | [`linearizability`] | judging what clients saw, in a simulation or anywhere else |
//! | [`script`] | worlds in which a test decides what happens |
//! | `run`, `trace`, `panics` | one seed from start to end, its record, and what stopped it |
//! | `batch`, `shrink` | many seeds; a failing one made smaller |

mod batch;
mod clock;
mod faults;
mod heal;
mod id_takers;
mod judge;
pub mod linearizability;
mod message;
mod network;
mod node;
mod operator;
mod oracle;
mod overviews;
mod panics;
mod placement;
mod plan;
mod plot;
mod process;
mod queue;
mod record;
mod rng;
mod run;
pub mod script;
mod shrink;
mod trace;
mod witness;
mod workload;
mod world;

pub use batch::{Batch, Summary};
pub use heal::Recovery;
pub use network::Traffic;
pub use oracle::Violation;
pub use placement::PlacementCounts;
pub use plan::{ClientNetPlan, Delays, DiskPlan, Fault, LoadPlan, NetPlan, Options, Plan, Profile, Size};
pub use run::{Failure, Report, run, run_recorded};
pub use script::{Call, Ended, Retry, SECOND, Setup};
pub use shrink::shrink;
pub use trace::Sink;
pub use workload::Outcomes;
pub use world::{Counts, World};
