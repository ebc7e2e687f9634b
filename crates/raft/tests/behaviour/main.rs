//! What a member and a small cluster do, one claim a test. Names that begin with `tr_`, `tp_` and `rn_` are
//! rows of the scenario list; `scenario_ids` checks that none is missing.

mod elections;
mod fuzz;
mod membership;
mod net;
mod paper;
mod raw_node;
mod replication;
mod rng;
mod scenario_ids;
mod snapshots;
mod storage_faults;
mod transfer;
