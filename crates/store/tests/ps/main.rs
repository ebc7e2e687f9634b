//! Rows PS of the scenario table that take whole stores: what is left of a replica that is gone, snapshots with their
//! sizes and checksums, which messages may make a replica, and which requests an epoch stops.

#![allow(clippy::unwrap_used, reason = "an error is a failed test, in helpers too")]

mod cluster;
mod epochs;
mod snapshots;
mod strangers;
mod sweeps;
