//! `get`, `put`, `append`, `delete`: one command against the first endpoint that answers.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::time::Duration;

use clap::Args;

use crate::cli::{Failure, UNKNOWN};
use crate::client::slots::parse_moved;
use crate::client::{Client, Reply};

/// A cluster that sends a client on more often than this is confused.
const REDIRECTS_MAX: usize = 5;

/// Whom to ask.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Nodes to ask, HOST:PORT, separated by commas; the next is tried if one cannot be reached
    #[arg(
        long,
        env = "QUORATE_ENDPOINTS",
        value_delimiter = ',',
        default_value = "127.0.0.1:7001",
        value_name = "ADDRS"
    )]
    pub endpoints: Vec<String>,
    /// How long to wait for an answer; longer than the server's own request timeout, so that it can explain
    #[arg(long, default_value_t = 6000, value_name = "MS")]
    pub timeout_ms: u64,
}

/// `get KEY`
#[derive(Args, Debug)]
#[command(after_help = "Prints exactly the value's bytes, and a line end only if the output is a terminal.")]
pub struct GetArgs {
    #[command(flatten)]
    target: Target,
    /// The key
    key: String,
}

/// `put KEY VALUE`
#[derive(Args, Debug)]
pub struct PutArgs {
    #[command(flatten)]
    target: Target,
    /// The key
    key: String,
    /// The value; - reads it from standard input, any bytes
    #[arg(allow_hyphen_values = true)]
    value: String,
}

/// `append KEY VALUE`
#[derive(Args, Debug)]
#[command(after_help = "Prints the length of the new value in bytes.")]
pub struct AppendArgs {
    #[command(flatten)]
    target: Target,
    /// The key
    key: String,
    /// What to append; - reads it from standard input, any bytes
    #[arg(allow_hyphen_values = true)]
    value: String,
}

/// `delete KEY…`
#[derive(Args, Debug)]
#[command(after_help = "Prints how many of the keys existed. Deleting an absent key is not an error.")]
pub struct DeleteArgs {
    #[command(flatten)]
    target: Target,
    /// The keys
    #[arg(required = true)]
    keys: Vec<String>,
}

/// Prints the value; exit code 1 if the key is absent.
pub fn get(args: GetArgs) -> Result<(), Failure> {
    match ask(&args.target, Effect::Read, &[b"GET", args.key.as_bytes()])? {
        Reply::Bulk(value) => print_value(&value)
            .map_err(|error| Failure::new(format!("cannot write the value to standard output: {error}"))),
        Reply::Nil => Err(Failure::new(format!("no such key: {}", args.key))),
        other => Err(unexpected(&other)),
    }
}

/// Sets the key.
pub fn put(args: PutArgs) -> Result<(), Failure> {
    let value = value(args.value)?;
    match ask(
        &args.target,
        Effect::Write,
        &[b"SET", args.key.as_bytes(), &value],
    )? {
        Reply::Simple(ok) => {
            println!("{ok}");
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

/// Appends to the key.
pub fn append(args: AppendArgs) -> Result<(), Failure> {
    let value = value(args.value)?;
    print_count(ask(
        &args.target,
        Effect::Write,
        &[b"APPEND", args.key.as_bytes(), &value],
    )?)
}

/// Deletes the keys, one by one: in a cluster they may be anywhere.
pub fn delete(args: DeleteArgs) -> Result<(), Failure> {
    let mut deleted = 0;
    for key in &args.keys {
        match ask(&args.target, Effect::Write, &[b"DEL", key.as_bytes()])? {
            Reply::Int(n) => deleted += n,
            other => return Err(unexpected(&other)),
        }
    }
    print_count(Reply::Int(deleted))
}

/// Whether a command may be sent again when it is not known whether it ran.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Read,
    Write,
}

pub(crate) fn ask(target: &Target, effect: Effect, command: &[&[u8]]) -> Result<Reply, Failure> {
    let timeout = Duration::from_millis(target.timeout_ms.max(1));
    let mut failure = Failure::usage("--endpoints is empty");
    for endpoint in &target.endpoints {
        let mut addr = endpoint.clone();
        for _ in 0..=REDIRECTS_MAX {
            let reply = Client::connect(&addr, timeout).and_then(|mut client| client.command(command));
            match reply {
                Ok(Reply::Error(error)) => match parse_moved(&error) {
                    Some((_, to)) => {
                        failure = Failure::new(format!("sent from node to node: {error}"));
                        addr = to.to_owned();
                        continue;
                    }
                    None if error.starts_with("UNKNOWN") => {
                        return Err(Failure {
                            message: error,
                            code: UNKNOWN,
                        });
                    }
                    None => return Err(Failure::new(error)),
                },
                Ok(reply) => return Ok(reply),
                Err(error) if error.may_have_run() && effect == Effect::Write => {
                    let message = format!("{error}; it is unknown whether the write was applied");
                    return Err(Failure {
                        message,
                        code: UNKNOWN,
                    });
                }
                Err(error) => failure = Failure::new(error.to_string()),
            }
            break;
        }
    }
    Err(failure)
}

fn value(text: String) -> Result<Vec<u8>, Failure> {
    if text != "-" {
        return Ok(text.into_bytes());
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(format!("cannot read the value from standard input: {error}")))?;
    Ok(bytes)
}

fn print_value(value: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(value)?;
    if out.is_terminal() {
        out.write_all(b"\n")?;
    }
    out.flush()
}

fn print_count(reply: Reply) -> Result<(), Failure> {
    match reply {
        Reply::Int(n) => {
            println!("{n}");
            Ok(())
        }
        other => Err(unexpected(&other)),
    }
}

pub(crate) fn unexpected(reply: &Reply) -> Failure {
    Failure::new(format!(
        "the server gave an answer that does not fit the command: {reply:?}"
    ))
}
