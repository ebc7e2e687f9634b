//! Rows of the scenario list on real processes, disks and sockets, with a proxy on every link (`support/proxy.rs`).
//!
//! Each row has two forms. The short one, a round of a second and a half with as many faults, runs with all tests. The
//! full one has the list's numbers:
//!
//! ```text
//! cargo test --release -p quorate --test sockets -- --ignored --nocapture
//! QUORATE_SEED=7 cargo test --release -p quorate --test sockets k_11 -- --ignored --nocapture
//! ```
//!
//! Where the list's numbers cannot be had: a node keeps at least 64 KiB of log a shard, and has no limit by count. So m
//! is 64 KiB (the bound stays 8 m), and what is limited to 10 or 100 entries has entries so large that as many fit.
//! NET-01's losses break connections, see the proxy: one in ten of what clients send or are sent, and one in two hundred
//! between nodes, where a piece carries many messages and a connection takes a moment to come back.

#![allow(clippy::unwrap_used, reason = "tests; helpers included")]

#[path = "../support/mod.rs"]
mod support;

mod generic;
mod groups;
mod keys;
mod kv;
mod net;
mod stores;
