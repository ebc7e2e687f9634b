//! The command line: what there is, and how it ends.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{bench, check, ctl, debug, dev, kv, serve, sim};

/// It worked.
pub const OK: u8 = 0;
/// It did not, or the key is absent; nothing was changed.
pub const FAILED: u8 = 1;
/// The command line, the environment or the configuration file is wrong.
pub const USAGE: u8 = 2;
/// A write may or may not have been applied, now or later.
pub const UNKNOWN: u8 = 3;

/// A command's end when it is not success: one line for standard error and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// One line, without the program's name.
    pub message: String,
    /// See [`FAILED`] and the others.
    pub code: u8,
}

impl Failure {
    /// Exit code 1.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: FAILED,
        }
    }

    /// Exit code 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: USAGE,
        }
    }
}

/// A key-value store with Redis's commands, replicated by Raft: every acknowledged write is on the disks of a
/// majority, every read is linearizable.
#[derive(Parser, Debug)]
#[command(
    name = "quorate",
    version,
    propagate_version = true,
    after_help = "Exit codes: 0 done; 1 failed, or the key is absent; 2 bad usage or configuration; 3 unknown \
                  whether a write was applied.\n\nThe quickest start: `quorate dev`, then `redis-cli -p 7001`."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run one node
    Serve(Box<serve::ServeArgs>),
    /// Run a cluster on this machine, to try things out: three nodes if nothing else is said
    Dev(dev::DevArgs),
    /// Print the value of a key
    Get(kv::GetArgs),
    /// Set a key to a value
    Put(kv::PutArgs),
    /// Append to the value of a key
    Append(kv::AppendArgs),
    /// Delete keys
    Delete(kv::DeleteArgs),
    /// See and change which stores hold which shard
    Ctl(ctl::CtlArgs),
    /// Measure throughput and latency of Quorate, or of any server that speaks Redis's protocol
    Bench(bench::BenchArgs),
    /// Judge whether recorded histories are linearizable
    Check(check::CheckArgs),
    /// Look at the data directory of a node that does not run
    Debug(debug::DebugArgs),
    /// Simulate whole clusters from seeds, with faults, and check every promise
    Sim(Box<sim::SimArgs>),
}

/// Parses the process's arguments and runs the command.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(*args),
        Command::Dev(args) => dev::run(args),
        Command::Get(args) => kv::get(args),
        Command::Put(args) => kv::put(args),
        Command::Append(args) => kv::append(args),
        Command::Delete(args) => kv::delete(args),
        Command::Ctl(args) => ctl::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Check(args) => return check::run(&args),
        Command::Debug(args) => debug::run(args),
        Command::Sim(args) => sim::run(*args),
    };
    match result {
        Ok(()) => ExitCode::from(OK),
        Err(failure) => {
            eprintln!("quorate: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// docs/configuration.md is written by hand: this keeps it complete.
    #[test]
    fn every_setting_is_documented() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let doc = std::fs::read_to_string(path).unwrap();
        let mut cli = Cli::command();
        let serve = cli.find_subcommand_mut("serve").unwrap();
        for arg in serve.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let Some(env) = arg.get_env() else { continue };
            let key = env
                .to_str()
                .unwrap()
                .strip_prefix("QUORATE_")
                .unwrap()
                .to_lowercase();
            assert_eq!(
                arg.get_long().unwrap().replace('-', "_"),
                key,
                "flag and variable differ"
            );
            let wanted = if key == "config" {
                "`--config`".to_owned()
            } else {
                format!("| `{key}` |")
            };
            assert!(doc.contains(&wanted), "{key} is missing in docs/configuration.md");
        }
    }
}
