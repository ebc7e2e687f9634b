//! The Quorate executable's parts. `main` only hands its arguments to [`cli::run`]; the rest is a library so that
//! the integration tests use the same client as the commands.

// First, because its macros take the place of the standard library's in all the others.
#[macro_use]
mod output;

pub mod bench;
pub mod check;
pub mod cli;
pub mod client;
pub mod ctl;
pub mod debug;
pub mod dev;
pub mod kv;
pub mod rng;
pub mod serve;
pub mod sim;
